//! How a picture starts: parameter sets, long pictures for latecomers, requests for keyframes; and packets as
//! long as publishers send them.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use protocol::{Codec, Kind};
use worker_sim::*;

const SPS: [u8; 8] = [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x68, 0x0a, 0x03];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

fn listener(sim: &mut Sim) -> usize {
    sim.listener_with(offer!("chromium_recvonly"), &[Codec::H264, Codec::Vp8], |_| {})
}

/// A frame of H264 from these units, each in a packet of its own.
fn frame(sim: &mut Sim, publisher: usize, units: &[&[u8]]) {
    let peer = &mut sim.peers[publisher];
    for (place, unit) in units.iter().enumerate() {
        peer.publish(Kind::Video, unit, place + 1 == units.len());
    }
    peer.feed(Kind::Video).timestamp += 3000;
    sim.run(ms(33));
}

fn stap(units: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0x78];
    for unit in units {
        out.extend((unit.len() as u16).to_be_bytes());
        out.extend_from_slice(unit);
    }
    out
}

#[test]
fn parameter_sets_that_came_once_go_before_every_keyframe_that_lacks_them() {
    let mut sim = Sim::new(2, 1);
    let publisher = sim.publisher(offer!("obs"), 0);
    let early = listener(&mut sim);
    let address = sim.peers[early].browser.address;
    sim.lands.insert(address, 1);
    sim.connect();
    frame(&mut sim, publisher, &[&SPS, &PPS, &[0x65, 0x88, 1]]);
    for n in 0..10 {
        frame(&mut sim, publisher, &[&[0x41, 0x9a, n]]);
    }
    // One slice alone, then one in pieces.
    frame(&mut sim, publisher, &[&[0x65, 0x88, 2]]);
    frame(&mut sim, publisher, &[&[0x41, 0x9a, 9]]);
    frame(&mut sim, publisher, &[&[0x7c, 0x85, 3], &[0x7c, 0x45, 4]]);
    frame(&mut sim, publisher, &[&[0x41, 0x9a, 9]]);
    let late = listener(&mut sim);
    sim.connect();
    frame(&mut sim, publisher, &[&[0x41, 0x9a, 9]]);
    sim.run(ms(50));
    let sets = stap(&[&SPS, &PPS]);
    let got: Vec<Vec<u8>> =
        sim.peers[late].got_media(Kind::Video).iter().map(|got| got.payload.clone()).collect();
    assert_eq!(got[..3], [sets.clone(), vec![0x7c, 0x85, 3], vec![0x7c, 0x45, 4]]);
    let got = sim.peers[early].got_media(Kind::Video);
    assert_eq!(got.iter().filter(|got| got.payload == sets).count(), 2, "not before the first one");
    assert_eq!(got.len(), 3 + 10 + 2 + 1 + 3 + 2);
    for place in got.iter().enumerate().filter(|(_, got)| got.payload == sets).map(|(place, _)| place) {
        assert_eq!(got[place].timestamp, got[place + 1].timestamp);
        assert!(!got[place].marker);
    }
    assert!(is_continuous(&sim, early, Kind::Video) && is_continuous(&sim, late, Kind::Video));
}

#[test]
fn parameter_sets_of_the_offer_count_too() {
    // base64 of SPS and PPS
    let sets = "sprop-parameter-sets=Z0LAH4xoCgM=,aM48gA==";
    let offer = offer!("obs").replace("packetization-mode=1", &format!("packetization-mode=1;{sets}"));
    assert_ne!(offer, offer!("obs"));
    let mut sim = Sim::new(1, 2);
    let publisher = sim.publisher(&offer, 0);
    let listener = listener(&mut sim);
    sim.connect();
    // The offer's count after a change of the source as well.
    for ssrc in [1, 2] {
        sim.peers[publisher].feed(Kind::Video).reload(ssrc, 9, 9);
        frame(&mut sim, publisher, &[&[0x65, 0x88, 1]]);
        frame(&mut sim, publisher, &[&[0x41, 0x9a, 1]]);
    }
    let got: Vec<&[u8]> =
        sim.peers[listener].got_media(Kind::Video).iter().map(|got| &got.payload[..]).collect();
    let sets = stap(&[&SPS, &PPS]);
    let once = [&sets[..], &[0x65, 0x88, 1], &[0x41, 0x9a, 1]];
    assert_eq!(got, [once, once].concat());
}

#[test]
fn a_keyframe_that_is_repaired_gives_no_number_twice() {
    let mut sim = Sim::new(1, 3);
    let publisher = sim.publisher(offer!("obs"), 0);
    let listener = listener(&mut sim);
    sim.connect();
    frame(&mut sim, publisher, &[&SPS, &PPS, &[0x65, 0x88, 1]]);
    for n in 0..5 {
        let held = sim.peers[publisher].hold(Kind::Video, &[0x7c, 0x85, n]);
        frame(&mut sim, publisher, &[&[0x7c, 0x05, n], &[0x7c, 0x45, n]]);
        sim.peers[publisher].send_rtp(&held);
        sim.run(ms(20));
        frame(&mut sim, publisher, &[&[0x41, 0x9a, n]]);
    }
    let mut numbers: Vec<u16> =
        sim.peers[listener].got_media(Kind::Video).iter().map(|got| got.sequence).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.len(), 3 + 5 * 4);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_long_picture_comes_to_a_latecomer_whole_and_then_live() {
    let mut sim = Sim::new(2, 4);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let there = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    // 250 frames at 30 a second, 16 packets each: 8.3 s and 4.4 million octets
    sim.frame(publisher, true, 40, 1100);
    for _ in 0..249 {
        sim.run(ms(33));
        sim.frame(publisher, false, 16, 1080);
    }
    let late: Vec<usize> = (0..4).map(|_| sim.listener(offer!("chromium_recvonly"))).collect();
    for listener in &late {
        let address = sim.peers[*listener].browser.address;
        sim.lands.insert(address, listener % 2);
    }
    for _ in 0..30 {
        sim.run(ms(33));
        sim.frame(publisher, false, 16, 1080);
    }
    sim.run(ms(50));
    for listener in late {
        assert_eq!(sim.peers[listener].got_media(Kind::Video).len(), 40 + 279 * 16);
        assert!(is_continuous(&sim, listener, Kind::Video));
    }
    assert_eq!(sim.peers[there].got_media(Kind::Video).len(), 40 + 279 * 16);
    assert!(is_continuous(&sim, there, Kind::Video));
    assert!(sim.sealed.values().all(|sealed| sealed.times == 1));
    assert!(keyframe_requests(&sim, publisher).is_empty());
}

#[test]
fn a_long_picture_comes_to_a_latecomer_in_pieces_that_a_socket_holds() {
    let mut sim = Sim::new(1, 4);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    sim.frame(publisher, true, 400, 1100);
    sim.run(ms(33));
    let late = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.run(ms(100));
    let got = sim.peers[late].got_media(Kind::Video);
    assert_eq!(got.len(), 400);
    assert!(is_continuous(&sim, late, Kind::Video));
    // A socket of 208 KiB takes 92 of them while nobody reads.
    let pieces = got.chunk_by(|one, next| next.at.duration_since(one.at) < ms(4));
    let lengths: Vec<usize> = pieces.map(<[_]>::len).collect();
    assert!(lengths.iter().all(|length| *length <= 64), "{lengths:?}");
}

#[test]
fn a_picture_with_a_hole_that_is_mended_meanwhile_has_none_for_a_latecomer() {
    let mut sim = Sim::new(1, 5);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    sim.frame(publisher, true, 500, 1000);
    sim.run(ms(33));
    let late = sim.listener(offer!("chromium_recvonly"));
    // The rest of the burst meets a packet that is missing, and comes a little later.
    for _ in 0..20 {
        sim.run(ms(5));
        let held = sim.peers[publisher].hold(Kind::Video, &[0, 1, 9, 9]);
        sim.frame(publisher, false, 3, 500);
        sim.run(ms(12));
        sim.peers[publisher].send_rtp(&held);
    }
    sim.run(ms(200));
    let mut numbers: Vec<u16> =
        sim.peers[late].got_media(Kind::Video).iter().map(|got| got.sequence).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.len(), 500 + 20 * 4);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_publisher_that_begins_anew_ends_the_burst_of_its_old_picture() {
    let mut sim = Sim::new(1, 6);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    sim.frame(publisher, true, 4000, 1000);
    sim.run(ms(33));
    let late = sim.listener(offer!("chromium_recvonly"));
    while sim.peers[late].got.is_empty() {
        sim.run(ms(1));
    }
    sim.peers[publisher].feed(Kind::Video).reload(5, 9, 9);
    sim.frame(publisher, true, 10, 500);
    sim.run(SECOND);
    let got = sim.peers[late].got_media(Kind::Video);
    assert!(got.len() < 4000, "{}", got.len());
    assert!(got[got.len() - 10..].iter().all(|got| got.payload.len() < 600));
    assert!(is_continuous(&sim, late, Kind::Video));
}

#[test]
fn a_request_that_comes_too_soon_after_another_is_made_when_that_is_over() {
    for workers in [1, 2] {
        for later in [1, 60, 130, 240, 400, 499] {
            let mut sim = Sim::new(workers, 7);
            let publisher = sim.publisher(offer!("chromium_publish"), 0);
            let listeners = [(); 2].map(|()| sim.listener(offer!("chromium_recvonly")));
            let address = sim.peers[listeners[1]].browser.address;
            sim.lands.insert(address, usize::from(workers) - 1);
            sim.connect();
            sim.frame(publisher, true, 2, 500);
            sim.run(SECOND * 2);
            let before = keyframe_requests(&sim, publisher).len();
            sim.peers[listeners[0]].picture_loss();
            sim.run(ms(later));
            // Asked once, and never again.
            sim.peers[listeners[1]].picture_loss();
            let asked = sim.now;
            sim.run(SECOND * 2);
            let requests = keyframe_requests(&sim, publisher);
            assert_eq!(requests.len(), before + 2, "{later} ms later, {workers} workers");
            let last = *requests.last().unwrap();
            assert!(last > asked && last - asked <= ms(800), "{:?}", last - asked);
        }
    }
}

#[test]
fn a_publisher_that_ignores_requests_is_told_from_one_that_answers() {
    for answers in [false, true] {
        let mut sim = Sim::new(1, 8);
        let publisher = sim.publisher(offer!("chromium_publish"), 0);
        let listener = sim.listener(offer!("chromium_recvonly"));
        sim.connect();
        sim.frame(publisher, true, 2, 300);
        let session = sim.peers[publisher].session;
        let mut seen = 0;
        for n in 0..300 {
            if n % 20 == 0 {
                sim.peers[listener].picture_loss();
            }
            let asked = keyframe_requests(&sim, publisher).len();
            sim.frame(publisher, answers && asked > seen, 2, 300);
            seen = asked;
            sim.run(ms(33));
        }
        let health = sim.health.get(&session).copied().unwrap_or_default();
        assert_eq!(health.answers_keyframe_requests, Some(answers));
    }
}

#[test]
fn packets_of_fifteen_hundred_octets_pass_and_longer_ones_are_told_of() {
    let mut sim = Sim::new(2, 9);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listener = sim.listener(offer!("chromium_recvonly"));
    let address = sim.peers[listener].browser.address;
    sim.lands.insert(address, 1);
    sim.connect();
    sim.frame(publisher, true, 1, 100);
    sim.run(ms(33));
    let head = sim.peers[publisher].hold(Kind::Video, &[]).len();
    let mut expected = 0;
    for len in [1200, 1390, 1400, 1412, 1460, 1488, 1499, 1500] {
        sim.peers[publisher].publish(Kind::Video, &vec![0; len - head], true);
        sim.run(ms(33));
        expected += 1;
        let got = sim.peers[listener].got_media(Kind::Video);
        assert_eq!(got.len(), 1 + expected, "{len}");
        assert_eq!(got.last().unwrap().payload.len(), len - head);
    }
    assert_eq!(sim.health.len(), 0);
    for len in [1501, 2000] {
        sim.peers[publisher].publish(Kind::Video, &vec![0; len - head], true);
    }
    sim.run(SECOND * 2);
    assert_eq!(sim.drops("rtp_too_large"), 2);
    assert_eq!(sim.health[&sim.peers[publisher].session].too_large, 2);
}
