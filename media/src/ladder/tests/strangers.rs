//! Payloads that are no Opus, and publishers that send too much.

use std::time::Duration;

use proptest::prelude::*;

use super::{Ladder, MUSIC, decode, encode, lag, number, packet, signal, start};
use crate::{drop_reason::DropReason, rtp::packet::MAX_RTP_LEN};

#[test]
fn what_cannot_be_decoded_is_concealed_and_counted() {
    let good = encode(&signal::noise(1000, 0.3, 0.5), MUSIC);
    let bad: [Vec<u8>; 6] = [
        vec![0xff, 49],
        [vec![0xfc], vec![1; 1276]].concat(),
        vec![0xff, 0x83, 200, 200, 1],
        vec![0xff, 7, 1, 2, 3, 4, 5, 6, 7],
        vec![0xfd, 1],
        vec![0xff],
    ];
    for bad in &bad {
        let mut payloads = good.clone();
        payloads[20] = bad.clone();
        payloads[30] = bad.clone();
        let packets = number(&payloads, 0, 0, 0, start());
        let mut ladder = Ladder::new([true, true]);
        ladder.feed(&packets);
        ladder.finish();
        assert_eq!(ladder.dropped, [DropReason::LadderUndecodable; 2], "{bad:?}");
        for out in &ladder.out {
            assert_eq!(out.len(), 50, "a packet for each");
            let heard = super::middle(&decode(out));
            let whole = super::middle(&decode(&number(&good, 0, 0, 0, start())));
            assert_eq!(lag(&whole[30_000..], &heard[30_000..]), 0);
        }
    }
}

/// Octets that are a packet by their framing, but noise inside.
#[test]
fn packets_of_one_octet_and_of_1275_are_sound() {
    let mut payloads = encode(&signal::noise(400, 0.3, 0.5), MUSIC);
    payloads[5] = vec![0xfc];
    payloads[8] = [vec![0xfc], vec![0x5a; 1275]].concat();
    payloads[11] = vec![0xff, 1];
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&number(&payloads, 0, 0, 0, start()));
    ladder.finish();
    assert!(ladder.dropped.is_empty());
    assert_eq!(ladder.out[0].len(), 20);
    assert!(decode(&ladder.out[1]).iter().all(|sample| sample.is_finite()));
}

#[test]
fn more_sound_than_plays_is_dropped() {
    // 120 ms each, every millisecond.
    let payload = [vec![0xff, 6], vec![0; 600]].concat();
    let mut ladder = Ladder::new([true, false]);
    for nth in 0..100 {
        let now = start() + Duration::from_millis(u64::from(nth));
        ladder.feed([&packet(nth, u32::from(nth) * 5760, 0, &payload, now)]);
    }
    // 2 s and what plays of it in 0.1 s.
    let dropped = ladder.dropped.iter().filter(|reason| **reason == DropReason::LadderTooFast).count();
    assert_eq!(dropped, 83);
}

#[test]
fn a_publisher_who_sends_everything_twice_is_not_too_fast() {
    let packets = number(&encode(&signal::noise(5000, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    let mut ladder = Ladder::new([true, false]);
    ladder.feed(packets.iter().flat_map(|packet| [packet, packet]));
    assert_eq!(ladder.dropped, [DropReason::LadderLate; 250]);
    // What is no Opus is concealed, and counts as what came before it.
    let mut ladder = Ladder::new([true, false]);
    ladder.feed(&packets[..1]);
    let bad = |nth: u16| packet(nth, u32::from(nth) * 960, 0, &[0xff, 0], packets[0].received);
    ladder.feed(&(1..200).map(bad).collect::<Vec<_>>());
    assert_eq!(ladder.dropped.iter().filter(|reason| **reason == DropReason::LadderTooFast).count(), 100);
}

/// Each packet: how the number goes on, how the timestamp does, milliseconds that pass, and the payload.
type Step = (u16, u32, u64, Vec<u8>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = prop_oneof![8 => Just(1), 2 => 0..20u16, 1 => any::<u16>()];
    let timestamp = prop_oneof![8 => Just(960u32), 2 => 0..20_000u32, 1 => any::<u32>()];
    let head = prop_oneof![Just(0xfcu8), Just(0x7c), any::<u8>()];
    let payload = (head, proptest::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(head, rest)| [vec![head], rest].concat());
    let payload = prop_oneof![20 => payload, 1 => Just(vec![])];
    proptest::collection::vec((number, timestamp, 0..100u64, payload), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_packets_give_bounded_celt_packets(steps in steps(), wanted in any::<[bool; 2]>()) {
        let (mut sequence, mut timestamp, mut now) = (0u16, 0u32, start());
        let mut ladder = Ladder::new(wanted);
        for (number, stamp, passed, payload) in steps {
            sequence = sequence.wrapping_add(number);
            timestamp = timestamp.wrapping_add(stamp);
            now += Duration::from_millis(passed);
            ladder.feed([&packet(sequence, timestamp, 0, &payload, now)]);
        }
        ladder.finish();
        for (out, wanted) in ladder.out.iter().zip(wanted) {
            prop_assert!(wanted || out.is_empty());
            prop_assert!(out.iter().all(|packet| packet.bytes.len() <= MAX_RTP_LEN));
        }
    }
}
