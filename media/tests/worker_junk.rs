//! Bad input to a worker: dropped and counted, and the next good packet passes. Nothing is ever sent to an
//! address without an authentic check (`Sim` looks at every datagram).

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use media::rtcp::Compound;
use media::sdp::Offer;
use proptest::prelude::*;
use protocol::Kind;
use worker_sim::transport_sim::check;
use worker_sim::*;

fn playing() -> (Sim, usize, usize) {
    let mut sim = Sim::new(2, 1);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.sound(publisher, 3);
    (sim, publisher, listener)
}

/// A plain packet of sound with these first octets, and this payload.
fn plain(sim: &mut Sim, publisher: usize, first: u8, middle: &[u8], payload: &[u8]) -> Vec<u8> {
    let feed = sim.peers[publisher].feed(Kind::Audio);
    let mut out = vec![first, feed.payload_type];
    out.extend(feed.sequence.to_be_bytes());
    out.extend(feed.timestamp.to_be_bytes());
    out.extend(feed.ssrc.to_be_bytes());
    feed.sequence = feed.sequence.wrapping_add(1);
    out.extend(middle);
    out.extend(payload);
    out
}

/// Sealed by `media::srtp`: the independent end refuses to seal some of it.
fn seal(sim: &mut Sim, publisher: usize, plain: &[u8], header_len: usize) {
    let sequence = u16::from_be_bytes([plain[2], plain[3]]);
    let ssrc = u32::from_be_bytes([plain[8], plain[9], plain[10], plain[11]]);
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + 16, 0);
    let sealer = sim.peers[publisher].sealer();
    sealer.seal_rtp(&mut buffer, header_len, plain.len(), ssrc, u64::from(sequence));
    sim.peers[publisher].send_raw(buffer);
}

#[test]
fn broken_rtp_is_dropped_and_counted_and_the_next_packet_passes() {
    let (mut sim, publisher, listener) = playing();
    let csrcs = [7; 60];
    let cases = [
        ("padding longer than the payload", 0xa0, vec![], vec![1, 2, 255], "rtp_malformed_padding"),
        ("padding of nothing", 0xa0, vec![], vec![1, 2, 0], "rtp_malformed_padding"),
        ("an empty payload", 0x80, vec![], vec![], "rtp_empty_payload"),
        ("nothing but padding", 0xa0, vec![], vec![0, 0, 3], "rtp_empty_payload"),
        (
            "an extension longer than the packet",
            0x90,
            vec![0xbe, 0xde, 0xff, 0xff],
            vec![0; 8],
            "rtp_malformed",
        ),
        ("fifteen CSRCs, cut off", 0x8f, vec![1, 2, 3, 4], vec![], "rtp_malformed"),
    ];
    for (count, (what, first, middle, payload, reason)) in cases.into_iter().enumerate() {
        let before = sim.drops(reason);
        let packet = plain(&mut sim, publisher, first, &middle, &payload);
        seal(&mut sim, publisher, &packet, 12 + middle.len());
        sim.run(ms(20));
        assert_eq!(sim.drops(reason), before + 1, "{what}: {:?}", sim.workers[0].stats().drops);
        sim.sound(publisher, 1);
        sim.run(ms(20));
        assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 4 + count, "after {what}");
    }
    // legal, if odd: the sources that were mixed are left out
    let packet = plain(&mut sim, publisher, 0x8f, &csrcs, b"mixed");
    seal(&mut sim, publisher, &packet, 72);
    sim.run(ms(20));
    let got = sim.peers[listener].got_media(Kind::Audio);
    assert_eq!((got.len(), &got.last().unwrap().payload[..]), (10, &b"mixed"[..]));
}

#[test]
fn rtcp_with_false_lengths_does_nothing_and_the_next_report_counts() {
    let (mut sim, publisher, listener) = playing();
    sim.frame(publisher, true, 4, 300);
    sim.run(ms(50));
    let ssrc = sim.peers[listener].egress(Kind::Video).ssrc;
    let sequence = sim.peers[listener].got_media(Kind::Video)[1].sequence;
    let mut nack = Compound::default();
    nack.nack(7, ssrc, &[(sequence, 0)]);
    for (words, count) in [(0_u16, 1_u8), (1, 1), (2, 1), (4, 1), (0xffff, 1), (3, 31)] {
        let mut lying = nack.bytes().to_vec();
        lying[0] = 0x80 | count;
        lying[2..4].copy_from_slice(&words.to_be_bytes());
        for peer in [publisher, listener] {
            sim.peers[peer].send_rtcp(&lying);
        }
    }
    // report blocks that are not there, a description without its end, a feedback without a target
    for lying in
        [&[0x9f, 200, 0, 1, 0, 0, 0, 1][..], &[0x9f, 202, 0, 1, 0, 0, 0, 1], &[0x81, 206, 0, 1, 0, 0, 0, 1]]
    {
        for peer in [publisher, listener] {
            sim.peers[peer].send_rtcp(lying);
        }
    }
    sim.run(ms(50));
    assert_eq!(sim.workers[0].stats().repairs, 0);
    sim.peers[listener].nack(ssrc, [sequence]);
    sim.run(ms(50));
    assert_eq!(sim.workers[0].stats().repairs, 1);
}

#[test]
fn forged_and_repeated_packets_are_counted_and_dropped() {
    let (mut sim, publisher, listener) = playing();
    let (from, to) = (sim.peers[publisher].browser.address, sim.peers[listener].browser.address);
    let packet = plain(&mut sim, publisher, 0x80, &[], b"sealed with another key");
    sim.inject(from, [&packet[..], &[0; 16]].concat());
    sim.inject(to, [&packet[..], &[0; 16]].concat());
    sim.inject("203.0.113.9:9".parse().unwrap(), packet);
    sim.run(ms(20));
    assert_eq!(sim.drops("srtp_authentication"), 1);
    assert_eq!(sim.drops("rtp_unexpected"), 1, "a listener does not publish");
    assert_eq!(sim.drops("unknown_source"), 1);
    let packet = plain(&mut sim, publisher, 0x80, &[], b"twice");
    seal(&mut sim, publisher, &packet, 12);
    seal(&mut sim, publisher, &packet, 12);
    sim.run(ms(20));
    assert_eq!(sim.drops("srtp_replay"), 1);
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 4);
}

/// Octets that get past the first look at a datagram.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(vec![]),
        Just(vec![0x80, 111]),
        Just(vec![0x90, 96]),
        Just(vec![0x80, 200]),
        Just(vec![0x81, 205, 0, 3]),
        Just(vec![22, 254, 253, 0, 0]),
        Just(vec![20, 254, 253]),
        Just(vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]),
    ];
    (start, proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(start, rest)| [start, rest].concat())
}

#[derive(Debug, Clone)]
enum Origin {
    Publisher,
    Listener,
    Opening,
    Unknown(u16),
}

fn source() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(Origin::Publisher),
        Just(Origin::Listener),
        Just(Origin::Opening),
        (1_u16..2000).prop_map(Origin::Unknown)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn junk_never_panics_nor_makes_a_worker_send_to_who_was_not_checked(
        datagrams in proptest::collection::vec((source(), junk(), any::<bool>(), any::<u8>()), 1..60),
    ) {
        let (mut sim, publisher, listener) = playing();
        // its check has come, its handshake has not
        let opening = sim.listener(offer!("firefox_recvonly"));
        sim.run(ms(15));
        // negotiated, and known to nobody by address
        let waiting = sim.listener(offer!("firefox_recvonly"));
        sim.peers[waiting].gone = true;
        let ufrag = Offer::parse(offer!("firefox_recvonly")).unwrap().ufrag().to_owned();
        let stun = check(&format!("relay3:{ufrag}"), "a wrong password, of all", 1, &[]);
        for (origin, junk, flip, place) in datagrams {
            let from = match origin {
                Origin::Publisher => sim.peers[publisher].browser.address,
                Origin::Listener => sim.peers[listener].browser.address,
                Origin::Opening => sim.peers[opening].browser.address,
                Origin::Unknown(port) => format!("203.0.113.7:{port}").parse().unwrap(),
            };
            // a check with a wrong password, damaged or not
            let mut forged = stun.clone();
            forged[usize::from(place) % stun.len()] ^= u8::from(flip);
            sim.inject(from, forged);
            sim.inject(from, junk);
        }
        let heard = sim.peers[listener].got_media(Kind::Audio).len();
        sim.run(ms(20));
        sim.sound(publisher, 5);
        sim.run(ms(20));
        prop_assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), heard + 5);
        prop_assert_eq!(sim.workers[0].holdings().sessions, 3);
    }
}
