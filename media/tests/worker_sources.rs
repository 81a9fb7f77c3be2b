//! Where a publisher's packets come from: SSRCs that change or go side by side, repeats, padding, and numbers
//! that jump. What a listener sees of it is one track that goes on.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use media::transport::CloseReason;
use protocol::Kind;
use worker_sim::*;

/// A publisher and a listener at another worker.
fn playing(offer: &str, before: u8) -> (Sim, usize, usize) {
    let mut sim = Sim::new(2, 1);
    let publisher = sim.publisher(offer, before);
    let listener = sim.listener(offer!("chromium_recvonly"));
    let address = sim.peers[listener].browser.address;
    sim.lands.insert(address, 1);
    sim.connect();
    (sim, publisher, listener)
}

/// A plain packet of an SSRC of its own choice, as the publisher's audio.
fn sound(sim: &mut Sim, publisher: usize, ssrc: u32, sequence: u16, octets: usize) -> Vec<u8> {
    let payload_type = sim.peers[publisher].feed(Kind::Audio).payload_type;
    let mut plain = vec![0x80, payload_type];
    plain.extend(sequence.to_be_bytes());
    plain.extend((u32::from(sequence).wrapping_mul(960)).to_be_bytes());
    plain.extend(ssrc.to_be_bytes());
    plain.extend(ssrc.to_be_bytes());
    plain.resize(12 + octets.max(4), 0);
    plain
}

#[test]
fn a_change_of_ssrc_loses_nothing_however_often_it_comes() {
    for before in [0, 7, 15] {
        let (mut sim, publisher, listener) = playing(offer!("chromium_publish"), before);
        let mut sent = [0, 0];
        for round in 0..150_u32 {
            let sequence = (round * 7919) as u16;
            sim.peers[publisher].feed(Kind::Video).reload(1000 + round * 3, sequence, round * 77_777);
            sim.peers[publisher].feed(Kind::Audio).reload(90_000 + round * 3, sequence / 3, 5);
            sim.frame(publisher, true, 3, 200);
            sim.sound(publisher, 2);
            sim.frame(publisher, false, 1 + round as usize % 3, 200);
            sim.run(ms(20));
            sent[0] += 2;
            sent[1] += 4 + round as usize % 3;
        }
        sim.run(ms(50));
        for kind in [Kind::Audio, Kind::Video] {
            assert_eq!(sim.peers[listener].got_media(kind).len(), sent[kind as usize], "{kind:?}");
            assert!(is_continuous(&sim, listener, kind));
        }
        assert_eq!((sim.drops("stale"), sim.closed.len()), (0, 0));
    }
}

#[test]
fn two_cameras_that_take_turns_lose_nothing() {
    let (mut sim, publisher, listener) = playing(offer!("chromium_publish"), 0);
    let mut numbers = [40_000_u16, 100];
    for turn in 0..30 {
        let camera = turn % 2;
        let feed = sim.peers[publisher].feed(Kind::Video);
        (feed.ssrc, feed.sequence) = (50 + camera as u32, numbers[camera]);
        for frame in 0..25 {
            sim.frame(publisher, frame == 0, 2, 300);
            sim.run(ms(40));
        }
        numbers[camera] = sim.peers[publisher].feed(Kind::Video).sequence;
    }
    assert_eq!(sim.peers[listener].got_media(Kind::Video).len(), 30 * 25 * 2);
    assert!(is_continuous(&sim, listener, Kind::Video));
}

#[test]
fn of_two_ssrcs_at_once_one_is_heard_and_the_other_counted() {
    let (mut sim, publisher, listener) = playing(offer!("aiortc_publish"), 0);
    for packet in 0..400 {
        for (ssrc, octets) in [(1, 300), (2, 60)] {
            let plain = sound(&mut sim, publisher, ssrc, packet, octets);
            sim.peers[publisher].send_rtp(&plain);
        }
        sim.run(ms(20));
    }
    let heard: Vec<u32> = sim.peers[listener]
        .got_media(Kind::Audio)
        .iter()
        .map(|got| u32::from_be_bytes([got.payload[0], got.payload[1], got.payload[2], got.payload[3]]))
        .collect();
    let changes = heard.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= 2, "{changes} changes");
    assert!(heard[heard.len() - 370..].iter().all(|ssrc| *ssrc == 1), "the better one, and it stays");
    assert!(is_continuous(&sim, listener, Kind::Audio));
    assert!(sim.drops("rtp_other_source") >= 370);
}

#[test]
fn a_publisher_that_follows_many_changes_is_heard_at_once() {
    for changes in 1..40_u32 {
        let (mut sim, old, listener) = playing(offer!("chromium_publish"), 3);
        for round in 0..changes {
            sim.peers[old].feed(Kind::Audio).reload(1000 + round, 5, 5);
            sim.sound(old, 1);
        }
        let new = sim.publisher(offer!("firefox_publish"), 0);
        sim.connect();
        let before = sim.peers[listener].got_media(Kind::Audio).len();
        sim.sound(new, 1);
        // The one it replaces still sends, and begins anew with it.
        sim.peers[old].feed(Kind::Audio).reload(5, 5, 5);
        for _ in 0..20 {
            sim.peers[old].publish(Kind::Audio, b"from the past", false);
            sim.sound(new, 1);
        }
        sim.run(ms(50));
        let got = sim.peers[listener].got_media(Kind::Audio);
        assert_eq!(got.len() - before, 21, "after {changes}");
        assert!(got.iter().all(|got| got.payload != b"from the past"));
    }
}

#[test]
fn repeats_without_end_are_no_jump_of_the_numbers() {
    let (mut sim, publisher, listener) = playing(offer!("chromium_publish"), 0);
    sim.frame(publisher, true, 20, 400);
    sim.run(ms(40));
    let first = sim.peers[publisher].feed(Kind::Video).sequence - 20;
    for round in 0..200_u16 {
        let transport = sim.peers[publisher].transport_sequence;
        sim.peers[publisher].transport_sequence = transport.wrapping_add(1);
        let again = sim.peers[publisher].feed(Kind::Video).again(first + round % 20, transport).unwrap();
        sim.peers[publisher].send_rtp(&again);
        sim.run(ms(5));
    }
    sim.frame(publisher, false, 5, 400);
    sim.run(ms(40));
    let got = sim.peers[listener].got_media(Kind::Video);
    assert_eq!(got.len(), 25);
    assert!(is_continuous(&sim, listener, Kind::Video));
    let step = got[20].timestamp.wrapping_sub(got[19].timestamp);
    assert_eq!(step, 3000, "no new start");
}

#[test]
fn repeats_of_a_source_that_is_over_reach_nobody() {
    let (mut sim, publisher, listener) = playing(offer!("chromium_publish"), 0);
    sim.frame(publisher, true, 20, 400);
    sim.run(ms(40));
    let first = sim.peers[publisher].feed(Kind::Video).sequence - 20;
    let old: Vec<Vec<u8>> =
        (0..20).map(|n| sim.peers[publisher].feed(Kind::Video).again(first + n, 1).unwrap()).collect();
    // Its numbers go on where the others ended, so that those look recent.
    sim.peers[publisher].feed(Kind::Video).reload(77, first + 20, 5);
    sim.frame(publisher, true, 3, 400);
    sim.run(ms(40));
    for again in old {
        sim.peers[publisher].send_rtp(&again);
    }
    sim.frame(publisher, false, 3, 400);
    sim.run(ms(40));
    assert_eq!(sim.peers[listener].got_media(Kind::Video).len(), 26);
    assert!(is_continuous(&sim, listener, Kind::Video));
    assert_eq!(sim.drops("rtp_repeat"), 20);
}

#[test]
fn padding_leaves_no_hole_even_when_it_is_overtaken() {
    let (mut sim, publisher, listener) = playing(offer!("chromium_publish"), 0);
    let mut media = 0;
    for round in 0..60 {
        let feed = sim.peers[publisher].feed(Kind::Video);
        let mut padding = feed.packet(&[0; 200], false, 0);
        // what is not payload is padding
        padding[0] |= 0x20;
        *padding.last_mut().unwrap() = 200;
        if round % 3 == 0 {
            sim.peers[publisher].send_rtp(&padding);
        }
        sim.frame(publisher, round == 0, 2, 300);
        media += 2;
        sim.run(ms(20));
        if round % 3 != 0 {
            sim.peers[publisher].send_rtp(&padding);
        }
        sim.run(ms(20));
    }
    sim.run(ms(50));
    let got = sim.peers[listener].got_media(Kind::Video);
    let mut numbers: Vec<u16> = got.iter().map(|got| got.sequence).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole or a number twice: {numbers:?}");
    assert_eq!(got.iter().filter(|got| !got.payload.is_empty()).count(), media);
    assert!(got.iter().filter(|got| got.payload.is_empty()).all(|got| got.padding > 0));
}

#[test]
fn padding_under_another_ssrc_disturbs_nothing() {
    let (mut sim, publisher, listener) = playing(offer!("aiortc_publish"), 0);
    for round in 0..100_u16 {
        let mut probe = sound(&mut sim, publisher, 1000 + u32::from(round % 3), round, 200);
        probe[0] |= 0x20;
        *probe.last_mut().unwrap() = 200;
        sim.peers[publisher].send_rtp(&probe);
        sim.sound(publisher, 1);
    }
    sim.run(ms(50));
    let got = sim.peers[listener].got_media(Kind::Audio);
    assert_eq!(got.len(), 100);
    assert!(is_continuous(&sim, listener, Kind::Audio));
    assert!(got.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 960));
    assert_eq!(sim.drops("rtp_empty_payload"), 100);
}

/// Seals and sends a packet at this index.
fn send_at(sim: &mut Sim, publisher: usize, ssrc: u32, index: u64, octets: usize) -> Vec<u8> {
    let mut buffer = sound(sim, publisher, ssrc, index as u16, octets);
    let len = buffer.len();
    buffer.resize(len + 16, 0);
    sim.peers[publisher].sealer().seal_rtp(&mut buffer, 12, len, ssrc, index);
    sim.peers[publisher].send_raw(buffer.clone());
    sim.run(ms(20));
    buffer
}

#[test]
fn numbers_that_jump_back_end_the_session_and_those_that_jump_ahead_do_not() {
    for (to, over) in [
        (21_000, true),
        (29_500, true),
        (200, true),
        (30_101 + 500, false),
        (30_101 + 9_000, false),
        (30_101 + 30_000, false),
    ] {
        let (mut sim, publisher, listener) = playing(offer!("aiortc_publish"), 0);
        (30_000..30_101).for_each(|index| drop(send_at(&mut sim, publisher, 9, index, 40)));
        for index in to..to + 100 {
            send_at(&mut sim, publisher, 9, index, 40);
            if !sim.closed.is_empty() {
                break; // the publisher was told
            }
        }
        let session = sim.peers[publisher].session;
        let expected: &[_] = if over { &[(session, CloseReason::NumbersJumpedBack)] } else { &[] };
        assert_eq!(sim.closed, expected, "to {to}");
        let heard = sim.peers[listener].got_media(Kind::Audio).len();
        assert_eq!(heard, if over { 101 } else { 201 }, "to {to}");
    }
}

#[test]
fn replays_end_no_session_that_goes_on() {
    let (mut sim, publisher, listener) = playing(offer!("aiortc_publish"), 0);
    let captured: Vec<Vec<u8>> = (0..500).map(|index| send_at(&mut sim, publisher, 9, index, 40)).collect();
    let from = sim.peers[publisher].browser.address;
    for (round, index) in (500..1500).enumerate() {
        sim.inject(from, captured[round % 300].clone());
        sim.inject(from, captured[(round + 1) % 300].clone());
        send_at(&mut sim, publisher, 9, index, 40);
    }
    assert_eq!(sim.closed, []);
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 1500);
    assert_eq!(sim.drops("srtp_replay"), 2000);
}
