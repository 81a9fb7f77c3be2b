//! A publisher that sends its picture in several encodings: which packet is of which, what is asked of each, and which
//! of them stands for the whole picture.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use std::time::Duration;

use media::rtcp::{self, Report};
use media::{Command, Relayed, TrackId};
use protocol::{Codec, Kind, mesh::SenderClock};
use worker_sim::*;

const ALL: [usize; 3] = [0, 1, 2];

/// A publisher of three encodings, the smallest first, and a listener at another worker.
fn playing(seed: u64) -> (Sim, usize, usize) {
    let offer = offer!("chromium_publish_simulcast").replace("send h;m;l", "send l;m;h");
    playing_with(&offer, seed)
}

fn playing_with(offer: &str, seed: u64) -> (Sim, usize, usize) {
    let mut sim = Sim::new(2, seed);
    let publisher = sim.publisher(offer, 0);
    let listener = sim.listener(offer!("chromium_recvonly"));
    let address = sim.peers[listener].browser.address;
    sim.lands.insert(address, 1);
    sim.connect();
    (sim, publisher, listener)
}

/// The encoding that a packet of `Sim::pictures` is of.
fn encoding_of(payload: &[u8]) -> u8 {
    payload[11]
}

/// Runs of packets of one encoding and epoch among those that links could take as the whole: encoding, epoch, length.
fn runs(sim: &Sim) -> Vec<(u8, u8, usize)> {
    let mut runs: Vec<(u8, u8, usize)> = Vec::new();
    for (_, packet) in sim.to_links(TRACKS.video) {
        let is_of = (encoding_of(packet.payload()), packet.epoch);
        match runs.last_mut() {
            Some((encoding, epoch, length)) if (*encoding, *epoch) == is_of => *length += 1,
            _ => runs.push((is_of.0, is_of.1, 1)),
        }
    }
    runs
}

/// How often a keyframe of each encoding was asked for.
fn asked(sim: &Sim, publisher: usize) -> [usize; 3] {
    let peer = &sim.peers[publisher];
    let all: Vec<u32> = peer.reports.iter().flat_map(|(_, compound)| media_of_losses(compound)).collect();
    ALL.map(|encoding| all.iter().filter(|ssrc| **ssrc == peer.encodings[encoding].ssrc).count())
}

#[test]
fn each_encoding_is_a_track_whatever_the_order_and_the_form_of_the_extensions() {
    let chromium = offer!("chromium_publish_simulcast");
    for (offer, order) in [
        (chromium.to_owned(), "h;m;l"),
        (chromium.replace("send h;m;l", "send m;h;l"), "m;h;l"),
        (offer!("firefox_publish_simulcast").to_owned(), "h;m;l"),
    ] {
        for two_byte in [false, true] {
            let (mut sim, publisher, _) = playing_with(&offer, 1);
            let rids: Vec<&str> = order.split(';').collect();
            assert_eq!(sim.peers[publisher].ingest(Kind::Video).rids, rids);
            sim.peers[publisher].encodings.iter_mut().for_each(|feed| feed.two_byte = two_byte);
            sim.pictures(publisher, &ALL, true);
            sim.show(publisher, &ALL, 25);
            for encoding in ALL {
                let packets = sim.to_links(TRACKS.encodings[encoding]);
                assert_eq!(packets.len(), 52, "{order}, {encoding}");
                assert!(
                    packets.iter().all(|(_, p)| encoding_of(p.payload()) == encoding as u8 && p.epoch == 1)
                );
                let numbers = packets.windows(2);
                assert!(numbers.into_iter().all(|p| p[1].1.sequence == p[0].1.sequence.wrapping_add(1)));
            }
            assert!(sim.to_links(TRACKS.encodings[3]).is_empty());
            assert_eq!((sim.drops("rtp_unknown_source"), sim.drops("stale")), (0, 0));
        }
    }
}

#[test]
fn names_are_needed_until_the_ssrc_is_known_and_no_longer() {
    let (mut sim, publisher, _) = playing(1);
    sim.peers[publisher].encodings[1].names_itself = false;
    sim.pictures(publisher, &ALL, true);
    sim.run(ms(40));
    assert_eq!(sim.drops("rtp_unknown_source"), 2, "nothing says of which it is");
    sim.peers[publisher].encodings[1].names_itself = true;
    sim.pictures(publisher, &[1], true);
    sim.run(ms(40));
    sim.peers[publisher].encodings.iter_mut().for_each(|feed| feed.names_itself = false);
    sim.pictures(publisher, &ALL, false);
    sim.run(ms(40));
    assert_eq!(sim.drops("rtp_unknown_source"), 2);
    assert_eq!(ALL.map(|encoding| sim.to_links(TRACKS.encodings[encoding]).len()), [4, 4, 4]);
}

#[test]
fn an_unknown_rid_is_dropped_and_counted() {
    let (mut sim, publisher, _) = playing(1);
    sim.peers[publisher].encodings[2].rid = Some("x".into());
    sim.pictures(publisher, &ALL, true);
    sim.run(ms(40));
    assert_eq!(sim.drops("rtp_unknown_source"), 2);
    assert_eq!(ALL.map(|encoding| sim.to_links(TRACKS.encodings[encoding]).len()), [2, 2, 0]);
}

#[test]
fn what_is_lost_of_each_encoding_is_repaired_by_its_own_retransmissions() {
    let (mut sim, publisher, _) = playing(7);
    sim.peers[publisher].repairs = true;
    sim.pictures(publisher, &ALL, true);
    sim.run(ms(40));
    sim.up.loss_percent = 5;
    sim.show(publisher, &ALL, 100);
    sim.up.loss_percent = 0;
    sim.show(publisher, &ALL, 25);
    assert!(sim.lost_up > 10, "{}", sim.lost_up);
    for encoding in ALL {
        let packets = sim.to_links(TRACKS.encodings[encoding]);
        let mut numbers: Vec<u16> = packets.iter().map(|(_, packet)| packet.sequence).collect();
        numbers.sort_by_key(|number| number.wrapping_sub(packets[0].1.sequence));
        numbers.dedup();
        assert_eq!(numbers.len(), 252, "encoding {encoding}");
        assert!(packets.iter().all(|(_, packet)| encoding_of(packet.payload()) == encoding as u8));
    }
    assert_eq!(sim.drops("rtp_unknown_source"), 0);
}

#[test]
fn two_nacks_of_an_encoding_that_nobody_answers_make_one_keyframe_request() {
    let (mut sim, publisher, _) = playing(1);
    sim.pictures(publisher, &ALL, true);
    sim.show(publisher, &ALL, 5);
    let before = asked(&sim, publisher);
    drop(sim.peers[publisher].hold_encoding(0, &[0x10, 1, 0, 0], false));
    sim.show(publisher, &ALL, 25);
    let after = asked(&sim, publisher);
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [1, 0, 0]);
}

#[test]
fn a_new_ssrc_of_a_known_rid_is_one_new_start_of_that_encoding_alone() {
    let (mut sim, publisher, listener) = playing(1);
    sim.pictures(publisher, &ALL, true);
    sim.show(publisher, &ALL, 5);
    for round in 0..5 {
        sim.peers[publisher].encodings[2].reload(8000 + 10 * round, 17, 3);
        sim.pictures(publisher, &ALL, true);
        sim.show(publisher, &ALL, 5);
    }
    let epochs = |track: TrackId| {
        let mut epochs: Vec<u8> = sim.to_links(track).iter().map(|(_, packet)| packet.epoch).collect();
        epochs.dedup();
        epochs
    };
    assert_eq!(epochs(TRACKS.encodings[0]), [1]);
    assert_eq!(epochs(TRACKS.encodings[2]), [1, 2, 3, 4, 5, 6]);
    // The whole picture is the first one, which goes on.
    assert_eq!(runs(&sim), [(0, 1, 2 * 36)]);
    assert!(is_continuous(&sim, listener, Kind::Video));
    sim.peers[publisher].encodings[0].reload(9000, 17, 3);
    sim.pictures(publisher, &ALL, true);
    sim.run(ms(40));
    assert_eq!(runs(&sim), [(0, 1, 2 * 36), (0, 2, 2)], "a new start of the chosen one is one of the whole");
}

#[test]
fn the_whole_picture_is_the_best_encoding_that_lives() {
    let (mut sim, publisher, listener) = playing(1);
    // who listens here asks for keyframes of its own
    sim.close(listener);
    sim.pictures(publisher, &ALL, true);
    sim.show(publisher, &ALL, 200);
    assert_eq!(runs(&sim).iter().map(|run| run.0).collect::<Vec<_>>(), [0, 2], "the best after four seconds");
    // The best falls silent, as in a browser whose path became narrow.
    sim.show(publisher, &[0, 1], 100);
    assert_eq!(runs(&sim).last().map(|run| run.0), Some(1));
    let gap = sim.to_links(TRACKS.video);
    let gap = gap.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(gap < ms(1400), "{gap:?} without a picture");
    sim.show(publisher, &ALL, 60);
    assert_eq!(runs(&sim).last().map(|run| run.0), Some(1), "it may fall silent again");
    sim.show(publisher, &ALL, 100);
    let all = runs(&sim);
    assert_eq!(all.iter().map(|run| run.0).collect::<Vec<_>>(), [0, 2, 1, 2]);
    assert_eq!(all.iter().map(|run| run.1).collect::<Vec<_>>(), [1, 2, 3, 4], "an epoch for each");
    // Each begins with a keyframe.
    let packets = sim.to_links(TRACKS.video);
    let begins = packets.chunk_by(|a, b| a.1.epoch == b.1.epoch).map(|run| &run[0].1);
    assert!(begins.into_iter().all(|packet| packet.description.keyframe));
    // Nobody was asked without need.
    assert_eq!(asked(&sim, publisher), [0, 1, 2]);
    assert_eq!(sim.drops("stale"), 0);
}

#[test]
fn repeats_with_which_a_browser_probes_its_path_move_nothing() {
    let (mut sim, publisher, listener) = playing(1);
    let first = sim.peers[publisher].encodings[2].sequence;
    sim.pictures(publisher, &ALL, true);
    for _ in 0..50 {
        // The keyframe of the best encoding among what came since, again and again.
        for sequence in first..first + 40 {
            let again = sim.peers[publisher].encodings[2].again(sequence, 9);
            again.into_iter().for_each(|again| sim.peers[publisher].send_rtp(&again));
        }
        sim.show(publisher, &ALL, 1);
    }
    let views = &sim.encodings[&sim.peers[publisher].session];
    assert!(views.iter().all(|view| view.frames_per_second <= 26), "{views:?}");
    assert!(views[2].kilobits_per_second < 280, "{views:?}");
    // While the chosen one is silent a repeated keyframe is none.
    sim.show(publisher, &[1], 35);
    for sequence in first..first + 2 {
        let again = sim.peers[publisher].encodings[2].again(sequence, 9).unwrap();
        sim.peers[publisher].send_rtp(&again);
    }
    sim.show(publisher, &[1], 25);
    assert_eq!(runs(&sim).iter().map(|run| run.0).collect::<Vec<_>>(), [0, 1]);
    assert!(is_continuous(&sim, listener, Kind::Video));
}

#[test]
fn a_keyframe_request_goes_to_the_encoding_that_it_is_for() {
    let (mut sim, publisher, listener) = playing(1);
    sim.close(listener);
    sim.pictures(publisher, &ALL, true);
    sim.show(publisher, &ALL, 10);
    let chosen = runs(&sim)[0].0 as usize;
    assert_eq!(chosen, 0);
    for (track, expected) in
        [(TRACKS.encodings[1], [0, 1, 0]), (TRACKS.video, [1, 1, 0]), (TRACKS.encodings[2], [1, 1, 1])]
    {
        sim.tell(&Command::RequestKeyframe { track });
        sim.show(publisher, &ALL, 15);
        assert_eq!(asked(&sim, publisher), expected);
    }
}

#[test]
fn each_encoding_has_its_clock_and_its_block_of_the_report() {
    let (mut sim, publisher, _) = playing(1);
    sim.pictures(publisher, &ALL, true);
    sim.show(publisher, &ALL, 10);
    for encoding in ALL {
        let ssrc = sim.peers[publisher].encodings[encoding].ssrc;
        let mut compound = rtcp::Compound::default();
        let clock = SenderClock { ntp: 1 << 40, rtp: 7 + encoding as u32 };
        compound.sender_report(ssrc, clock, 1, 1).cname(ssrc, "publisher");
        sim.peers[publisher].send_rtcp(compound.bytes());
    }
    sim.show(publisher, &ALL, 30);
    let clocks: Vec<(TrackId, u32)> = sim
        .links
        .iter()
        .filter_map(|(_, track, relayed)| match relayed {
            Relayed::Clock { clock, .. } => Some((*track, clock.rtp)),
            Relayed::Packet(_) | Relayed::Withheld { .. } => None,
        })
        .collect();
    let [first, second, third, _] = TRACKS.encodings;
    assert_eq!(clocks, [(first, 7), (TRACKS.video, 7), (second, 8), (third, 9)]);
    let blocks = sim.peers[publisher].reports.iter().map(|(_, compound)| {
        rtcp::parse(compound).iter().filter(|report| matches!(report, Report::Reception(_))).count()
    });
    assert_eq!(blocks.max(), Some(3));
}

#[test]
fn a_publisher_without_encodings_takes_over_from_one_with_them_and_back() {
    let (mut sim, mut publisher, listener) = playing(1);
    sim.pictures(publisher, &ALL, true);
    sim.show(publisher, &ALL, 25);
    for round in 0..3 {
        let plain = sim.publisher(offer!("chromium_publish"), 0);
        sim.connect();
        sim.close(publisher);
        let before = sim.peers[listener].got_media(Kind::Video).len();
        for frame in 0..25 {
            sim.frame(plain, frame == 0, 2, 300);
            sim.run(ms(40));
        }
        assert_eq!(sim.peers[listener].got_media(Kind::Video).len() - before, 50, "round {round}");
        publisher = sim.publisher(offer!("firefox_publish_simulcast"), 0);
        sim.connect();
        sim.close(plain);
        let before = sim.peers[listener].got_media(Kind::Video).len();
        sim.pictures(publisher, &ALL, true);
        sim.show(publisher, &ALL, 25);
        assert_eq!(sim.peers[listener].got_media(Kind::Video).len() - before, 52, "round {round}");
    }
    assert!(is_continuous(&sim, listener, Kind::Video));
}

#[test]
fn encodings_are_seen_with_size_and_rate() {
    let (mut sim, publisher, _) = playing(1);
    sim.pictures(publisher, &ALL, true);
    sim.show(publisher, &ALL, 75);
    let views = &sim.encodings[&sim.peers[publisher].session];
    let rids: Vec<_> = views.iter().map(|view| view.rid.as_deref().unwrap()).collect();
    assert_eq!(rids, ["l", "m", "h"]);
    for (encoding, view) in views.iter().enumerate() {
        assert_eq!(view.resolution.map(|size| size.width), Some(160 << encoding));
        assert!((24..=26).contains(&view.frames_per_second), "{view:?}");
        // Two packets of 200 octets, 400, 600, 25 times a second.
        let expected = 80 * (encoding as u64 + 1);
        assert!((expected..expected + expected / 8 + 8).contains(&view.kilobits_per_second), "{view:?}");
        assert!(!view.dormant);
    }
    sim.show(publisher, &[0, 1], 60);
    let views = &sim.encodings[&sim.peers[publisher].session];
    assert_eq!([views[0].dormant, views[1].dormant, views[2].dormant], [false, false, true]);
    assert_eq!((views[2].frames_per_second, views[2].kilobits_per_second), (0, 0));
}

#[test]
fn a_publisher_of_one_encoding_is_seen_without_a_name() {
    let mut sim = Sim::new(1, 1);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    for frame in 0..75 {
        sim.frame(publisher, frame == 0, 2, 300);
        sim.run(ms(40));
    }
    let views = &sim.encodings[&sim.peers[publisher].session];
    assert_eq!((views.len(), views[0].rid.as_deref(), views[0].dormant), (1, None, false));
    assert!((24..=26).contains(&views[0].frames_per_second), "{views:?}");
    let sound = sim.publisher(offer!("obs"), 0);
    sim.connect();
    sim.sound(sound, 100);
    let session = sim.peers[sound].session;
    assert!(sim.encodings.get(&session).is_none_or(|views| views.iter().all(|view| view.dormant)));
}

#[test]
fn encodings_that_come_and_go_at_random_lose_nothing_that_is_whole() {
    for seed in 0..8 {
        let (mut sim, publisher, listener) = playing(seed);
        sim.up = Impairment { loss_percent: 2, jitter: ms(20) };
        sim.peers[publisher].repairs = seed % 2 == 0;
        sim.pictures(publisher, &ALL, true);
        for round in 0..12 {
            let lives = sim.rng.below(8);
            let some: Vec<usize> = ALL.into_iter().filter(|encoding| lives >> encoding & 1 == 1).collect();
            if sim.rng.below(4) == 0 {
                // never one of before: numbers that jump back in a known one end the session
                let (encoding, ssrc) = (sim.rng.below(3) as usize, 10_000 + 10 * round);
                sim.peers[publisher].encodings[encoding].reload(ssrc, sim.rng.below(65_536) as u16, 9);
            }
            let frames = 50 + sim.rng.below(100) as usize;
            sim.show(publisher, &some, frames);
        }
        let packets = sim.to_links(TRACKS.video);
        assert!(packets.len() > 500, "seed {seed}: {}", packets.len());
        for run in packets.chunk_by(|a, b| a.1.epoch == b.1.epoch) {
            let encoding = encoding_of(run[0].1.payload());
            assert!(run.iter().all(|(_, p)| encoding_of(p.payload()) == encoding), "seed {seed}");
        }
        // While any encoding lives its picture goes on, or is asked for.
        sim.up = Impairment::default();
        let before = sim.peers[listener].got_media(Kind::Video).len();
        sim.show(publisher, &[1], 100);
        assert!(sim.peers[listener].got_media(Kind::Video).len() > before + 80, "seed {seed}");
        assert_eq!(sim.closed, []);
    }
}

#[test]
fn h264_gets_its_parameter_sets_in_each_encoding_and_in_the_whole() {
    let (mut sim, publisher, _) = playing(1);
    let track = sim.peers[publisher].ingest(Kind::Video).clone();
    sim.peers[publisher].encodings.iter_mut().for_each(|feed| feed.switch(&track, Codec::H264));
    let (sps, pps, idr) =
        ([0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x68], [0x68, 0xce, 0x3c, 0x80], [0x65, 0x88, 0x80, 0x10]);
    let step = Duration::from_millis(40);
    for frame in 0..150_u32 {
        for encoding in ALL {
            let peer = &mut sim.peers[publisher];
            let slice = [0x41, 0x9a, encoding as u8, frame as u8];
            // Parameter sets come once.
            if frame == 0 {
                peer.publish_encoding(encoding, &sps, false);
                peer.publish_encoding(encoding, &pps, false);
            }
            let payload = if frame % 50 == 0 { &idr } else { &slice };
            peer.publish_encoding(encoding, payload, true);
            peer.encodings[encoding].timestamp += 3600;
        }
        sim.run(step);
    }
    for track in [TRACKS.encodings[0], TRACKS.encodings[1], TRACKS.encodings[2], TRACKS.video] {
        let packets = sim.to_links(track);
        for at in (0..packets.len()).filter(|at| packets[*at].1.payload() == idr) {
            let (before, packet) = (&packets[at - 1].1, &packets[at].1);
            let sets = before.payload() == pps || before.payload()[0] & 0x1f == 24;
            assert!(sets && before.epoch == packet.epoch, "{track:?} at {at}");
        }
        assert_eq!(packets.iter().filter(|(_, packet)| packet.payload() == idr).count(), 3, "{track:?}");
    }
}
