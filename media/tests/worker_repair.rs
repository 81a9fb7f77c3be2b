//! NACKs of listeners, and the invariant that stands above all: no number is ever sealed into different
//! octets. `Sim` checks it at every datagram; the schedules here try to break it.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use media::{Command, Packet};
use proptest::prelude::*;
use protocol::{Codec, Kind, mesh::Withheld};
use worker_sim::*;

fn listener(sim: &mut Sim, rtx: bool) -> usize {
    sim.listener_with(offer!("chromium_recvonly"), &[Codec::Vp8], |plan| {
        let codecs = plan.tracks.iter_mut().flat_map(|track| &mut track.codecs);
        codecs.filter(|_| !rtx).for_each(|codec| codec.rtx = None);
    })
}

/// A publisher and a listener that has got ten frames of eight packets.
fn playing(rtx: bool) -> (Sim, usize, usize) {
    let mut sim = Sim::new(1, 1);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listener = listener(&mut sim, rtx);
    sim.connect();
    for frame in 0..10 {
        sim.frame(publisher, frame == 0, 8, 600);
        sim.run(ms(33));
    }
    (sim, publisher, listener)
}

#[test]
fn a_nack_is_answered_by_a_retransmission_where_that_was_agreed() {
    let (mut sim, _, listener) = playing(true);
    let sent: Vec<_> = sim.peers[listener].got_media(Kind::Video).into_iter().cloned().collect();
    assert_eq!(sent.len(), 80);
    let ssrc = sim.peers[listener].egress(Kind::Video).ssrc;
    sim.peers[listener].nack(ssrc, [sent[3].sequence, sent[60].sequence]);
    sim.run(ms(50));
    let track = sim.peers[listener].egress(Kind::Video);
    let (rtx_ssrc, rtx) = (track.rtx_ssrc, track.codecs[0].rtx.unwrap());
    let again = &sim.peers[listener].got[80..];
    assert_eq!(again.len(), 2);
    for (again, original) in again.iter().zip([&sent[3], &sent[60]]) {
        assert_eq!((again.ssrc, again.payload_type), (rtx_ssrc, rtx));
        assert_eq!(again.payload[..2], original.sequence.to_be_bytes());
        assert_eq!(again.payload[2..], original.payload);
        assert_eq!((again.timestamp, again.marker), (original.timestamp, original.marker));
    }
    assert_eq!(again[1].sequence, again[0].sequence + 1);
    assert_eq!(sim.workers[0].stats().repairs, 2);
}

/// At a relay further on, to which a link brings the packets.
#[test]
fn what_a_link_withheld_is_no_gap_for_who_listens() {
    let (mut above, publisher, _) = playing(true);
    for _ in 10..20 {
        above.frame(publisher, false, 8, 600);
        above.run(ms(33));
    }
    let packets = above.to_links(TRACKS.video);
    let mut sim = Sim::new(1, 2);
    let listener = listener(&mut sim, true);
    sim.connect();
    for (at, picture) in packets.chunks(8).enumerate() {
        let (_, first) = &picture[0];
        if at % 5 == 3 {
            let withheld = Withheld { first: first.sequence, count: 8 };
            sim.workers[0].handle_withheld(TRACKS.video, first.epoch, withheld);
        } else {
            for (_, packet) in picture {
                let packet = Packet { received: sim.now, ..packet.clone() };
                sim.workers[0].handle_packet(TRACKS.video, packet, sim.now);
            }
        }
        sim.run(ms(33));
    }
    assert_eq!((packets.len(), sim.peers[listener].got_media(Kind::Video).len()), (160, 128));
    assert!(is_continuous(&sim, listener, Kind::Video));
}

#[test]
fn a_nack_is_answered_by_the_same_octets_where_it_was_not() {
    let (mut sim, _, listener) = playing(false);
    let sent: Vec<_> = sim.peers[listener].got_media(Kind::Video).into_iter().cloned().collect();
    let padded = sent.iter().position(|got| got.padding > 0).expect("a padded packet");
    let plain = sent.iter().position(|got| got.padding == 0).expect("a packet without padding");
    let ssrc = sim.peers[listener].egress(Kind::Video).ssrc;
    let asked = [padded, plain].map(|place| sent[place].sequence);
    sim.peers[listener].nack(ssrc, asked);
    sim.run(ms(50));
    for sequence in asked {
        // that they are the same octets is checked where they leave
        assert_eq!(sim.sealed[&(listener, ssrc, sequence.into())].times, 2, "{sequence}");
    }
    assert_eq!(sim.peers[listener].got.len(), 82);
}

#[test]
fn a_latecomer_without_retransmissions_is_repaired_too() {
    let (mut sim, publisher, _) = playing(true);
    let late = listener(&mut sim, false);
    sim.connect();
    sim.frame(publisher, false, 3, 600);
    sim.run(ms(50));
    let got: Vec<u16> = sim.peers[late].got_media(Kind::Video).iter().map(|got| got.sequence).collect();
    assert_eq!(got.len(), 83);
    let ssrc = sim.peers[late].egress(Kind::Video).ssrc;
    sim.peers[late].nack(ssrc, got.clone());
    sim.run(ms(50));
    assert_eq!(sim.peers[late].got_media(Kind::Video).len(), 166);
}

#[test]
fn what_was_never_sent_is_not_repaired() {
    let (mut sim, _, listener) = playing(true);
    let ssrc = sim.peers[listener].egress(Kind::Video).ssrc;
    let first = sim.peers[listener].got_media(Kind::Video)[0].sequence;
    let before: Vec<u16> = (1..20).map(|back| first.wrapping_sub(back)).collect();
    let after: Vec<u16> = (0..20).map(|ahead| first + 80 + ahead).collect();
    sim.peers[listener].nack(ssrc, before);
    sim.peers[listener].nack(ssrc, after);
    sim.peers[listener].nack(ssrc ^ 1, [first]);
    sim.run(ms(50));
    assert_eq!(sim.peers[listener].got.len(), 80);
    assert_eq!(sim.drops("repair_not_there"), 39);
}

#[test]
fn a_listener_that_asks_for_everything_again_is_cut_and_hurts_nobody() {
    let (mut sim, publisher, greedy) = playing(true);
    let modest = listener(&mut sim, true);
    sim.connect();
    let before = sim.workers[0].stats().repairs;
    let ssrc = sim.peers[greedy].egress(Kind::Video).ssrc;
    let start = sim.now;
    for _ in 0..60 {
        sim.frame(publisher, false, 8, 600);
        let newest = sim.peers[greedy].got_media(Kind::Video).last().unwrap().sequence;
        for _ in 0..4 {
            sim.peers[greedy].nack(ssrc, (0..60).map(|back| newest.wrapping_sub(back)));
        }
        sim.run(ms(33));
    }
    let seconds = (sim.now - start).as_secs() + 1;
    let repairs = sim.workers[0].stats().repairs - before;
    assert!((100..=500 * (seconds + 1)).contains(&repairs), "{repairs} in {seconds} s");
    let refused = [sim.drops("repair_budget"), sim.drops("repair_on_its_way")];
    assert!(refused.iter().sum::<u64>() > 10_000, "{refused:?}");
    assert_eq!(sim.peers[modest].got_media(Kind::Video).len(), 80 + 480);
}

#[test]
fn a_packet_that_is_asked_for_while_it_waits_for_its_frame_keeps_its_octets() {
    let (mut sim, publisher, _) = playing(true);
    let late = listener(&mut sim, false);
    sim.connect();
    let ssrc = sim.peers[late].egress(Kind::Video).ssrc;
    let held = sim.peers[publisher].hold(Kind::Video, &[0, 0, 1, 2, 3]);
    sim.peers[publisher].publish(Kind::Video, &[0, 0, 4, 5, 6], true);
    sim.run(ms(33));
    let missing = sim.peers[late].got_media(Kind::Video).last().unwrap().sequence - 1;
    // in one batch: the packet, too late, a longer one behind it, and the listener's request
    sim.peers[publisher].send_rtp(&held);
    sim.peers[publisher].publish(Kind::Video, &[0; 40], false);
    sim.peers[late].nack(ssrc, [missing]);
    sim.run(ms(50));
    let times = sim.peers[late].got_media(Kind::Video).iter().filter(|got| got.sequence == missing).count();
    assert_eq!(times, 1, "it was on its way already");
}

#[test]
fn what_waits_to_be_sent_when_a_publisher_is_replaced_is_not_taken_for_the_new_one() {
    let (mut sim, old, listener) = playing(true);
    let new = sim.publisher(offer!("chromium_publish"), 2);
    sim.connect();
    let sequence = sim.peers[old].feed(Kind::Video).sequence;
    sim.peers[new].feed(Kind::Video).reload(5, sequence, 5);
    sim.frame(old, false, 5, 300);
    sim.frame(new, true, 20, 300);
    sim.run(ms(50));
    assert!(sim.sealed.values().all(|sealed| sealed.times == 1));
    let got = sim.peers[listener].got_media(Kind::Video);
    let newest: Vec<u16> = got[got.len() - 20..]
        .iter()
        .map(|got| u16::from_be_bytes([got.payload[6], got.payload[7]]))
        .collect();
    assert_eq!(newest, (0..20).collect::<Vec<_>>());
    assert!(got.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
}

#[test]
fn a_packet_asked_for_before_it_was_sent_does_not_use_up_its_number() {
    let mut sim = Sim::new(1, 1);
    let first = sim.publisher(offer!("chromium_publish"), 0);
    let listener = listener(&mut sim, false);
    sim.connect();
    // the keyframe's first packet is overtaken, and the listener starts with it
    let held = sim.peers[first].hold(Kind::Video, &[0x10, 0, 1]);
    sim.peers[first].publish(Kind::Video, &[0, 0, 2], true);
    sim.run(ms(33));
    sim.peers[first].send_rtp(&held);
    sim.run(ms(33));
    let track = sim.peers[listener].egress(Kind::Video);
    let (ssrc, sequence) = (track.ssrc, sim.peers[listener].got_media(Kind::Video)[0].sequence);
    sim.peers[listener].nack(ssrc, [sequence + 1]);
    sim.run(ms(33));
    sim.close(first);
    let second = sim.publisher(offer!("chromium_publish"), 2);
    sim.connect();
    sim.frame(second, true, 1, 50);
    sim.run(ms(33));
    assert_eq!(sim.sealed[&(listener, ssrc, (sequence + 1).into())].times, 1);
}

/// What may happen to a stream.
#[derive(Debug, Clone)]
enum Step {
    Sound,
    Frame {
        keyframe: bool,
        packets: usize,
        size: usize,
    },
    Run(u64),
    Join {
        rtx: bool,
        worker: usize,
    },
    Nack {
        who: usize,
        back: i16,
        count: u16,
        video: bool,
    },
    Leave(usize),
    /// A new session, two epochs on, with these first numbers.
    Reload {
        sequence: u16,
        at_once: bool,
    },
    /// Another SSRC in the same session.
    Source {
        sequence: u16,
    },
    Reset,
    Loss(u64),
    /// A packet is held back, and comes later together with requests for it.
    Hold(usize),
    Fill {
        longer: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Sound),
        14 => (proptest::bool::weighted(0.3), 1_usize..24, 20_usize..800)
            .prop_map(|(keyframe, packets, size)| Step::Frame { keyframe, packets, size }),
        // Many pieces for a latecomer.
        1 => (310_usize..700, 20_usize..60)
            .prop_map(|(packets, size)| Step::Frame { keyframe: true, packets, size }),
        14 => prop_oneof![0_u64..4, 5_u64..60].prop_map(Step::Run),
        4 => (any::<bool>(), 0_usize..2).prop_map(|(rtx, worker)| Step::Join { rtx, worker }),
        10 => (0_usize..8, -4_i16..80, 1_u16..40, proptest::bool::weighted(0.8))
            .prop_map(|(who, back, count, video)| Step::Nack { who, back, count, video }),
        1 => (0_usize..8).prop_map(Step::Leave),
        2 => (prop_oneof![Just(100_u16), Just(65_530), any::<u16>()], any::<bool>())
            .prop_map(|(sequence, at_once)| Step::Reload { sequence, at_once }),
        1 => prop_oneof![Just(100_u16), any::<u16>()].prop_map(|sequence| Step::Source { sequence }),
        1 => Just(Step::Reset),
        2 => prop_oneof![Just(0_u64), 1_u64..30].prop_map(Step::Loss),
        4 => (3_usize..200).prop_map(Step::Hold),
        4 => (0_usize..60).prop_map(|longer| Step::Fill { longer }),
    ]
}

struct Stage {
    sim: Sim,
    publisher: usize,
    epoch: u8,
    listeners: Vec<(usize, bool)>,
    ssrc: u32,
    held: Vec<(usize, Vec<u8>)>,
}

impl Stage {
    fn new(seed: u64) -> Stage {
        let mut sim = Sim::new(2, seed);
        sim.handover = ms(3);
        let publisher = sim.publisher(offer!("chromium_publish"), 10);
        let listeners = [true, false].map(|rtx| (listener(&mut sim, rtx), rtx)).to_vec();
        let address = sim.peers[listeners[1].0].browser.address;
        sim.lands.insert(address, 1);
        sim.connect();
        sim.up.jitter = ms(4);
        sim.peers[publisher].repairs = true;
        Stage { sim, publisher, epoch: 10, listeners, ssrc: 1_000_000, held: Vec::new() }
    }

    fn take(&mut self, step: Step) {
        let Stage { sim, publisher, .. } = self;
        match step {
            Step::Sound => {
                sim.peers[*publisher].publish(Kind::Audio, b"opus", false);
                sim.peers[*publisher].feed(Kind::Audio).timestamp += 960;
            }
            Step::Frame { keyframe, packets, size } => sim.frame(*publisher, keyframe, packets, size),
            Step::Run(time) => sim.run(ms(time)),
            Step::Join { .. } if self.listeners.len() >= 8 => {}
            Step::Join { rtx, worker } => {
                let late = listener(sim, rtx);
                let address = sim.peers[late].browser.address;
                sim.lands.insert(address, worker);
                self.listeners.push((late, rtx));
            }
            Step::Nack { who, back, count, video } => {
                let Some((who, _)) = self.listeners.get(who).copied() else { return };
                let peer = &mut sim.peers[who];
                let kind = if video { Kind::Video } else { Kind::Audio };
                let Some(newest) = peer.got_media(kind).last().map(|got| got.sequence) else { return };
                let ssrc = peer.egress(kind).ssrc;
                peer.nack(ssrc, (0..count).map(|n| newest.wrapping_sub(back as u16).wrapping_add(n)));
            }
            Step::Leave(who) => {
                if who < self.listeners.len() && sim.peers[self.listeners[who].0].keys.is_some() {
                    let (who, _) = self.listeners.swap_remove(who);
                    sim.close(who);
                }
            }
            Step::Reload { sequence, at_once } => {
                let old = *publisher;
                self.epoch = self.epoch.wrapping_add(2) & 0x0e;
                if !at_once {
                    sim.close(old);
                }
                let new = sim.publisher(offer!("chromium_publish"), self.epoch);
                let impaired = std::mem::take(&mut sim.up);
                sim.connect();
                sim.up = impaired;
                self.ssrc += 10;
                sim.peers[new].repairs = true;
                sim.peers[new].feed(Kind::Video).reload(self.ssrc, sequence, 5);
                sim.peers[new].feed(Kind::Audio).reload(self.ssrc + 5, sequence, 5);
                *publisher = new;
                if at_once {
                    let same = sim.peers[old].feed(Kind::Video).sequence;
                    sim.peers[new].feed(Kind::Video).reload(self.ssrc, same, 5);
                    // both at once, so that the last of the one and the first of the other come together
                    sim.frame(old, false, 5, 100);
                    sim.frame(new, true, 5, 100);
                    sim.close(old);
                }
            }
            Step::Source { sequence } => {
                self.ssrc += 10;
                sim.peers[*publisher].feed(Kind::Video).reload(self.ssrc, sequence, 5);
            }
            Step::Reset => {
                sim.tell(&Command::Reset { track: TRACKS.video });
                sim.tell(&Command::Reset { track: TRACKS.audio });
            }
            Step::Loss(percent) => sim.up.loss_percent = percent,
            Step::Hold(size) => {
                let held = sim.peers[*publisher].hold(Kind::Video, &vec![0; size]);
                self.held.push((*publisher, held));
            }
            Step::Fill { longer } => {
                for (held_by, held) in std::mem::take(&mut self.held) {
                    if !sim.peers[held_by].gone {
                        sim.peers[held_by].send_rtp(&held);
                        sim.peers[held_by].publish(Kind::Video, &vec![0; held.len() + longer], false);
                    }
                }
                for (who, _) in &self.listeners {
                    let peer = &mut sim.peers[*who];
                    let Some(newest) = peer.got.last().map(|got| got.sequence) else { continue };
                    let ssrc = peer.egress(Kind::Video).ssrc;
                    peer.nack(ssrc, (0..30).map(|back| newest.wrapping_add(3).wrapping_sub(back)));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_number_is_ever_sealed_into_different_octets(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 20..120),
    ) {
        let mut stage = Stage::new(seed);
        steps.into_iter().for_each(|step| stage.take(step));
        stage.sim.run(ms(300));
        let sim = &stage.sim;
        for (listener, rtx) in &stage.listeners {
            if sim.peers[*listener].keys.is_none() {
                continue;
            }
            for kind in [Kind::Audio, Kind::Video] {
                let track = sim.peers[*listener].egress(kind);
                if !rtx || kind == Kind::Audio {
                    continue; // there a repair is the same number again
                }
                let own = sim.sealed.iter().filter(|((peer, ssrc, _), _)| peer == listener && *ssrc == track.ssrc);
                for (key, sealed) in own {
                    prop_assert_eq!(sealed.times, 1, "{:?} sent twice", key);
                }
            }
        }
    }
}
