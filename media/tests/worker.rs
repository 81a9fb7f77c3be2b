//! A worker and its peers: what is published arrives, in order, once, and goes on through reloads.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use media::transport::CloseReason;
use protocol::{Codec, Kind};
use worker_sim::transport_sim::addr;
use worker_sim::*;

#[test]
fn a_packet_arrives_once_at_every_listener_under_its_own_numbers() {
    let mut sim = Sim::new(2, 1);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listeners: Vec<usize> = [
        offer!("chromium_recvonly"),
        offer!("firefox_recvonly"),
        offer!("aiortc_recvonly"),
        offer!("chromium_recvonly"),
    ]
    .map(|offer| sim.listener(offer))
    .to_vec();
    let last = sim.peers[listeners[3]].browser.address;
    sim.lands.insert(last, 1);
    sim.connect();
    sim.peers[publisher].feed(Kind::Audio).audio_level = Some(0x85);
    sim.peers[publisher].publish(Kind::Audio, b"sound", false);
    sim.peers[publisher].publish(Kind::Video, &[0x10, 0, 1, 2, 3], true);
    sim.run(ms(100));
    for listener in listeners {
        let peer = &sim.peers[listener];
        for (kind, payload) in [(Kind::Audio, &b"sound"[..]), (Kind::Video, &[0x10, 0, 1, 2, 3][..])] {
            let got = peer.got_media(kind);
            let [got] = got[..] else { panic!("{kind:?} {got:?}") };
            assert_eq!(got.payload_type, peer.egress(kind).codecs[0].payload_type);
            assert_eq!(got.payload, payload);
            assert_eq!(got.marker, kind == Kind::Video);
            let level = peer.egress(Kind::Audio).extensions.audio_level.unwrap();
            assert_eq!(got.extensions.contains(&(level, vec![0x85])), kind == Kind::Audio);
        }
        assert_eq!(peer.got.len(), 2);
    }
}

#[test]
fn a_listener_who_waits_for_a_picture_that_has_not_begun_stops_nobody() {
    let mut sim = Sim::new(1, 1);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.sound(publisher, 5);
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 5);
    sim.frame(publisher, true, 3, 500);
    sim.run(ms(100));
    assert_eq!(sim.peers[listener].got_media(Kind::Video).len(), 3);
}

#[test]
fn a_late_listener_gets_the_picture_from_its_keyframe_in_one_burst_then_live_packets() {
    let mut sim = Sim::new(1, 2);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    sim.frame(publisher, false, 2, 900);
    sim.run(ms(33));
    sim.frame(publisher, true, 6, 1100);
    for _ in 0..5 {
        sim.run(ms(33));
        sim.frame(publisher, false, 3, 700);
    }
    sim.run(SECOND);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.run(ms(50));
    let burst = sim.peers[listener].got_media(Kind::Video);
    assert_eq!(burst.len(), 6 + 5 * 3);
    assert!(burst.iter().all(|got| got.at == burst[0].at), "one burst");
    assert_eq!(burst[0].payload[..2], [0x10, 0], "from the keyframe on");
    sim.frame(publisher, false, 4, 600);
    sim.run(ms(50));
    let got = sim.peers[listener].got_media(Kind::Video);
    assert_eq!(got.len(), 25);
    assert!(got.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
    assert!(sim.sealed.values().all(|sealed| sealed.times == 1), "no number twice");
}

#[test]
fn two_hundred_late_listeners_without_a_keyframe_wait_for_one_and_ask_twice_a_second() {
    let mut sim = Sim::new(2, 3);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    sim.frame(publisher, false, 3, 500);
    sim.run(ms(50));
    let listeners: Vec<usize> = (0..200).map(|_| sim.listener(offer!("chromium_recvonly"))).collect();
    for listener in &listeners {
        let address = sim.peers[*listener].browser.address;
        sim.lands.insert(address, listener % 2);
    }
    sim.connect();
    for _ in 0..60 {
        for listener in &listeners {
            if (listener + sim.peers[publisher].reports.len()).is_multiple_of(7) {
                sim.peers[*listener].picture_loss();
            }
        }
        sim.frame(publisher, false, 2, 500);
        sim.run(ms(33));
    }
    assert!(listeners.iter().all(|listener| sim.peers[*listener].got_media(Kind::Video).is_empty()));
    let asked = keyframe_requests(&sim, publisher);
    assert!(asked.len() >= 3, "{}", asked.len());
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= ms(500)), "at most one per 500 ms");
    sim.frame(publisher, true, 5, 500);
    sim.run(ms(50));
    for listener in listeners {
        assert_eq!(sim.peers[listener].got_media(Kind::Video).len(), 5);
    }
}

#[test]
fn a_publisher_that_reloads_goes_on_in_its_listeners_numbers_and_time() {
    let mut sim = Sim::new(2, 4);
    let first = sim.publisher(offer!("chromium_publish"), 14);
    let listener = sim.listener(offer!("chromium_recvonly"));
    let address = sim.peers[listener].browser.address;
    sim.lands.insert(address, 1);
    sim.connect();
    sim.frame(first, true, 4, 800);
    sim.sound(first, 20);
    sim.frame(first, false, 4, 800);
    sim.run(ms(50));
    let left = sim.now;
    sim.close(first);
    sim.run(ms(1500));
    let second = sim.publisher(offer!("firefox_publish"), 0);
    sim.connect();
    // the same numbers again, to make it hard
    sim.peers[second].feed(Kind::Audio).reload(4321, 100, 77);
    sim.peers[second].feed(Kind::Video).reload(8765, 100, 99);
    let back = sim.now;
    sim.frame(second, false, 2, 800);
    sim.sound(second, 20);
    sim.frame(second, true, 4, 800);
    sim.run(ms(50));
    for (kind, count, rate) in [(Kind::Audio, 40, 48_000.0), (Kind::Video, 12, 90_000.0)] {
        let got = sim.peers[listener].got_media(kind);
        assert_eq!(got.len(), count, "{kind:?}");
        let numbers: Vec<u16> = got.iter().map(|got| got.sequence).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{kind:?} {numbers:?}");
        let cut = if kind == Kind::Audio { 20 } else { 8 };
        let (before, after) = (got[cut - 1], got[cut]);
        let ticks = f64::from(after.timestamp.wrapping_sub(before.timestamp)) / rate;
        let waited = (after.at - before.at).as_secs_f64();
        assert!((ticks - waited).abs() < 0.002, "{kind:?}: {ticks} s of timestamps in {waited} s");
        assert!(after.at - before.at >= back - left);
    }
}

#[test]
fn packets_of_a_replaced_publisher_are_dropped() {
    let mut sim = Sim::new(1, 5);
    let old = sim.publisher(offer!("chromium_publish"), 2);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.sound(old, 5);
    let new = sim.publisher(offer!("chromium_publish"), 4);
    sim.connect();
    sim.sound(new, 5);
    for _ in 0..20 {
        sim.peers[old].publish(Kind::Audio, b"from the past", false);
        sim.sound(new, 1);
    }
    sim.run(ms(50));
    let got = sim.peers[listener].got_media(Kind::Audio);
    assert_eq!(got.len(), 30);
    assert!(got.iter().all(|got| got.payload != b"from the past"));
    assert_eq!(sim.drops("stale"), 20);
}

#[test]
fn a_session_checked_at_one_worker_is_served_from_there_when_its_media_lands_at_another() {
    let mut sim = Sim::new(2, 6);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    let elsewhere = |sim: &mut Sim, peer: usize, address: &str| {
        let address = address.parse().unwrap();
        sim.lands.insert(address, 1);
        sim.move_to(peer, address);
        sim.run(SECOND * 3); // until the next check
    };
    elsewhere(&mut sim, publisher, "10.9.9.1:1000");
    elsewhere(&mut sim, listener, "10.9.9.2:1000");
    let foreign = sim.foreign;
    assert!(foreign >= 2, "the checks");
    sim.sound(publisher, 50);
    sim.run(ms(50));
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 50);
    assert!(sim.foreign >= foreign + 50);
    assert_eq!(sim.drops("unknown_source"), 0);
    assert_eq!(sim.workers[1].stats().received[0].packets, 0);
}

#[test]
fn a_closed_session_leaves_nothing_behind() {
    let mut sim = Sim::new(2, 7);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let stays = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.frame(publisher, true, 3, 500);
    sim.run(ms(50));
    let before = [sim.workers[0].holdings(), sim.workers[1].holdings()];
    for round in 0..3 {
        let goes: Vec<usize> = (0..10).map(|_| sim.listener(offer!("chromium_recvonly"))).collect();
        let never = sim.listener(offer!("chromium_recvonly"));
        sim.peers[never].gone = true;
        for listener in &goes {
            let address = sim.peers[*listener].browser.address;
            sim.lands.insert(address, listener % 2);
        }
        sim.connect();
        assert_eq!(sim.workers[0].holdings().places + sim.workers[1].holdings().places, 22, "round {round}");
        for listener in goes {
            sim.close(listener);
        }
        sim.close(never);
        sim.run(ms(50));
    }
    assert_eq!([sim.workers[0].holdings(), sim.workers[1].holdings()], before);
    assert_eq!(sim.workers[0].stats().listeners, 1);
    sim.sound(publisher, 5);
    assert_eq!(sim.peers[stays].got_media(Kind::Audio).len(), 5);
}

#[test]
fn a_listener_that_falls_silent_is_let_go_after_thirty_seconds() {
    let mut sim = Sim::new(2, 8);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let before = sim.workers[0].holdings();
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.peers[listener].gone = true;
    sim.run(SECOND * 29);
    assert_eq!(sim.closed, []);
    sim.run(SECOND * 5);
    assert_eq!(sim.closed, [(sim.peers[listener].session, CloseReason::ConsentExpired)]);
    assert_eq!(sim.workers[0].stats().listeners, 0);
    assert_eq!(sim.workers[0].holdings().places, 0);
    assert_eq!(before.sessions, 0);
    assert_eq!((sim.workers[0].holdings().sessions, sim.workers[1].holdings().ufrags), (1, 1));
    sim.sound(publisher, 2);
}

#[test]
fn a_thousand_listeners_each_get_a_burst_whole_and_in_order() {
    let mut sim = Sim::new(1, 9);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listeners: Vec<usize> = (0..1000).map(|_| sim.listener(offer!("aiortc_recvonly"))).collect();
    sim.connect();
    sim.frame(publisher, true, 64, 200);
    sim.run(ms(50));
    let sent: Vec<u16> = (0..64).collect();
    for listener in listeners {
        let got = sim.peers[listener].got_media(Kind::Video);
        let order: Vec<u16> =
            got.iter().map(|got| u16::from_be_bytes([got.payload[6], got.payload[7]])).collect();
        assert_eq!(order, sent);
        assert!(got.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
    }
}

#[test]
fn a_change_of_codec_reaches_those_who_know_it_and_is_counted_for_those_who_do_not() {
    let mut sim = Sim::new(1, 10);
    let first = sim.publisher(offer!("chromium_publish"), 0);
    let knows = sim.listener(offer!("chromium_recvonly"));
    let knows_not = sim.listener_with(offer!("chromium_recvonly"), &[Codec::Vp8], |plan| {
        plan.tracks.iter_mut().for_each(|track| track.codecs.retain(|codec| codec.codec != Codec::H264));
    });
    sim.connect();
    sim.frame(first, true, 2, 500);
    sim.run(ms(50));
    sim.close(first);
    let second = sim.publisher(offer!("obs"), 2);
    sim.connect();
    for payload in [&[0x65, 1, 2][..], &[0x41, 3, 4]] {
        sim.peers[second].publish(Kind::Video, payload, true);
        sim.peers[second].feed(Kind::Video).timestamp += 3000;
        sim.run(ms(33));
    }
    let never_knew = sim.listener_with(offer!("chromium_recvonly"), &[Codec::Vp8], |plan| {
        plan.tracks.iter_mut().for_each(|track| track.codecs.retain(|codec| codec.codec != Codec::H264));
    });
    // long enough for every timer of a listener that gets nothing
    sim.run(SECOND * 5);
    let types = |sim: &Sim, peer: usize| -> Vec<u8> {
        sim.peers[peer].got_media(Kind::Video).iter().map(|got| got.payload_type).collect()
    };
    let of = |codec| {
        let codecs = &sim.peers[knows].egress(Kind::Video).codecs;
        codecs.iter().find(|known| known.codec == codec).unwrap().payload_type
    };
    assert_eq!(types(&sim, knows), [of(Codec::Vp8), of(Codec::Vp8), of(Codec::H264), of(Codec::H264)]);
    assert_eq!(types(&sim, knows_not), [of(Codec::Vp8); 2]);
    assert!(types(&sim, never_knew).is_empty());
    assert_eq!(sim.drops("codec_not_negotiated"), 4);
}

#[test]
fn an_address_that_changed_hands_stays_with_who_was_checked_last() {
    let mut sim = Sim::new(1, 11);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let moves = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    // it says nothing, so that only its checks tell where it is
    sim.peers[moves].arrivals = None;
    let home = sim.peers[moves].browser.address;
    sim.move_to(moves, "10.9.9.1:1000".parse().unwrap());
    sim.run(SECOND * 3);
    sim.move_to(publisher, home);
    sim.run(SECOND * 3);
    for port in 1001..1012 {
        sim.move_to(moves, ([10, 9, 9, 1], port).into());
        sim.sound(publisher, 150); // until the next check and longer
    }
    sim.run(ms(50));
    assert_eq!(sim.drops("unknown_source"), 0);
}

#[test]
fn restarts_without_number_leave_a_bounded_trace_and_the_last_one_works() {
    let mut sim = Sim::new(2, 12);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    for round in 0..100 {
        sim.restart(listener, round, round == 99);
        sim.run(ms(10));
    }
    for worker in &sim.workers {
        assert!(worker.holdings().ufrags <= 4, "{:?}", worker.holdings());
    }
    // to another worker's socket, and long enough for consent to end if checks did not count
    let elsewhere = addr("10.9.9.9:9");
    sim.lands.insert(elsewhere, 1);
    sim.move_to(listener, elsewhere);
    for _ in 0..20 {
        sim.run(SECOND * 2);
        sim.sound(publisher, 1);
    }
    sim.run(ms(50));
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 20);
    assert!(sim.closed.is_empty());
    sim.close(listener);
    sim.run(ms(10));
    assert_eq!([0, 1].map(|worker: usize| sim.workers[worker].holdings().ufrags), [1, 1], "the publisher's");
}

#[test]
fn the_codec_that_flows_is_told_when_it_changes_and_not_at_each_packet() {
    let mut sim = Sim::new(1, 21);
    let publisher = sim.publisher(offer!("chromium_publish"), 2);
    sim.connect();
    let track = sim.peers[publisher].ingest(Kind::Video).clone();
    let mut flow = |codec, frames| {
        sim.peers[publisher].feed(Kind::Video).switch(&track, codec);
        for _ in 0..frames {
            sim.peers[publisher].publish(Kind::Video, &[0x10, 0, 0, 1, 2], true);
            sim.peers[publisher].feed(Kind::Video).timestamp += 3000;
            sim.run(ms(33));
        }
        std::mem::take(&mut sim.codecs).into_iter().map(|(_, codec)| codec).collect::<Vec<_>>()
    };
    assert_eq!(flow(Codec::Vp8, 40), [Codec::Vp8]);
    assert_eq!(flow(Codec::Vp9, 40), [Codec::Vp9]);
    assert_eq!(flow(Codec::Vp9, 40), []);
    // one that cannot decide is told of once a second, and then as it is
    let told: usize = (0..60).map(|turn| flow([Codec::Vp8, Codec::Vp9][turn % 2], 1).len()).sum();
    assert!((1..=3).contains(&told), "{told} times in two seconds");
    assert_eq!(flow(Codec::Av1, 40), [Codec::Av1]);
}
