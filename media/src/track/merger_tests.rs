//! What becomes of packets: how many go as one, and when.

use proptest::prelude::*;

use super::*;
use crate::rtp::opus;

#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
fn start() -> Instant {
    Instant::now()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// 20 ms of CELT.
const TOC: u8 = 0xf8;

/// A packet with this payload; its number says how many frames of 20 ms are before it.
fn packet(sequence: u16, payload: &[u8], level: Option<u8>, now: Instant) -> Packet {
    let canonical = Canonical {
        codec: Codec::Opus,
        marker: false,
        sequence,
        timestamp: u32::from(sequence) * 960,
        audio_level: level,
        orientation: None,
        dependency: None,
    };
    let mut buffer = BytesMut::new();
    canonical.write(&mut buffer);
    buffer.extend_from_slice(payload);
    Packet::from_parts(canonical, buffer, 3, now)
}

/// A frame of so many octets that says its number.
fn frame(sequence: u16, len: usize) -> Vec<u8> {
    let mut payload = vec![TOC, (sequence >> 8) as u8, sequence as u8];
    payload.resize(len, 0x55);
    payload
}

/// The numbers of the frames in a packet.
fn frames(packet: &Packet) -> Vec<u16> {
    let frames = opus::frames(packet.payload()).unwrap();
    frames.iter().map(|frame| u16::from_be_bytes([frame[0], frame[1]])).collect()
}

fn drain(merger: &mut Merger) -> Vec<Packet> {
    std::iter::from_fn(|| merger.poll()).collect()
}

/// What comes of these numbers, one each 15 ms.
fn merge(numbers: &[u16]) -> Vec<Vec<u16>> {
    let (mut merger, mut now) = (Merger::new(0), start());
    let mut merged = Vec::new();
    for number in numbers {
        merger.handle_timeout(now);
        merger.handle_packet(packet(*number, &frame(*number, 60), None, now), now);
        merged.extend(drain(&mut merger).iter().map(frames));
        now += ms(15);
    }
    merged
}

#[test]
fn three_that_follow_each_other_go_as_one() {
    let (mut merger, began) = (Merger::new(65_535), start());
    let mut merged = Vec::new();
    for sequence in 0..9 {
        let level = Some([0x85, 0x20, 0x7f][usize::from(sequence) % 3]);
        let now = began + ms(20) * u32::from(sequence);
        merger.handle_packet(packet(sequence, &frame(sequence, 60), level, now), now);
        merged.extend(drain(&mut merger));
    }
    let numbers: Vec<_> = merged.iter().map(|packet| (packet.sequence, packet.timestamp)).collect();
    assert_eq!(numbers, [(65_535, 0), (0, 2880), (1, 5760)]);
    assert_eq!(merged.iter().flat_map(frames).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert!(merged.iter().all(|packet| packet.audio_level == Some(0x85) && packet.epoch == 3));
    assert_eq!(merged[1].received, began + ms(60));
    assert_eq!(merger.poll_timeout(), None);
}

#[test]
fn a_hole_stays_a_hole_and_what_is_late_or_double_goes_no_further() {
    assert_eq!(merge(&[0, 1, 2, 3, 5, 4, 6, 7, 7, 8, 9]), [vec![0, 1, 2], vec![3], vec![5], vec![6, 7, 8]]);
    // Groups begin where they would have.
    assert_eq!(merge(&[1, 2, 3, 4, 6, 7, 8]), [vec![1, 2], vec![3, 4], vec![6, 7, 8]]);
    assert_eq!(merge(&[0, 1, 2, 300, 301, 302]), [vec![0, 1, 2], vec![300, 301, 302]]);
}

#[test]
fn what_waits_goes_out_after_60_milliseconds() {
    let (mut merger, now) = (Merger::new(0), start());
    merger.handle_packet(packet(0, &frame(0, 60), None, now), now);
    merger.handle_packet(packet(1, &frame(1, 60), None, now + ms(20)), now + ms(20));
    assert_eq!(merger.poll_timeout(), Some(now + ms(60)));
    merger.handle_timeout(now + ms(59));
    assert!(merger.poll().is_none());
    merger.handle_timeout(now + ms(60));
    assert_eq!(drain(&mut merger).iter().map(frames).collect::<Vec<_>>(), [[0, 1]]);
    assert_eq!(merger.poll_timeout(), None);
    // The last of its group waits for nothing.
    merger.handle_packet(packet(2, &frame(2, 60), None, now + ms(70)), now + ms(70));
    assert_eq!(drain(&mut merger).iter().map(frames).collect::<Vec<_>>(), [[2]]);
}

#[test]
fn a_pause_begins_a_group() {
    let (mut merger, now) = (Merger::new(0), start());
    merger.handle_packet(packet(0, &frame(0, 60), None, now), now);
    let mut later = packet(1, &frame(1, 60), None, now + ms(40));
    later.timestamp = 19_200;
    merger.handle_packet(later, now + ms(40));
    assert_eq!(drain(&mut merger).iter().map(frames).collect::<Vec<_>>(), [[0]]);
    assert_eq!(merger.poll_timeout(), Some(now + ms(100)));
}

#[test]
fn another_configuration_or_epoch_begins_a_group() {
    let now = start();
    let mut other = frame(1, 60);
    other[0] = TOC | 4;
    let of_kind = packet(1, &other, None, now);
    let of_epoch = Packet { epoch: 4, ..packet(1, &frame(1, 60), None, now) };
    for other in [of_kind, of_epoch] {
        let mut merger = Merger::new(7);
        merger.handle_packet(packet(0, &frame(0, 60), None, now), now);
        let epoch = other.epoch;
        merger.handle_packet(other, now);
        let mut third = packet(2, &frame(2, 60), None, now);
        third.epoch = epoch;
        merger.handle_packet(third, now);
        let merged = drain(&mut merger);
        assert_eq!((merged[0].sequence, frames(&merged[0]), merged[0].epoch), (7, vec![0], 3));
        assert_eq!((merged[1].sequence, merged[1].epoch), (8, epoch));
    }
    let mut merger = Merger::new(7);
    merger.handle_packet(packet(0, &frame(0, 60), None, now), now);
    merger.handle_anew();
    merger.handle_packet(packet(900, &frame(900, 60), None, now), now);
    merger.handle_packet(packet(901, &frame(901, 60), None, now), now);
    merger.handle_packet(packet(902, &frame(902, 60), None, now), now);
    assert_eq!(drain(&mut merger).iter().map(frames).collect::<Vec<_>>(), [[900, 901, 902]]);
}

#[test]
fn long_packets_and_large_ones_go_alone_and_junk_waits_for_nothing() {
    let now = start();
    let merged = |payloads: [Vec<u8>; 3]| {
        let (mut merger, mut timestamp) = (Merger::new(0), 0);
        for (sequence, payload) in payloads.iter().enumerate() {
            let mut packet = packet(sequence as u16, payload, None, now);
            packet.timestamp = timestamp;
            timestamp += Layout::read(payload).map_or(960, |layout| layout.samples);
            merger.handle_packet(packet, now);
        }
        drain(&mut merger).iter().map(|packet| packet.payload().to_vec()).collect::<Vec<_>>()
    };
    // Two frames of 20 ms in each, and three.
    for payload in [vec![TOC | 1, 1, 1], vec![TOC | 3, 3, 1, 1, 1], vec![TOC | 3, 0]] {
        assert_eq!(merged([payload.clone(), payload.clone(), payload.clone()]), vec![payload; 3]);
    }
    let [small, large] = [10, 570].map(|len| frame(0, len));
    let lens = |payloads| merged(payloads).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lens([large.clone(), large.clone(), large.clone()]), [1139, 570]);
    assert_eq!(lens([small.clone(), frame(0, 1148), small.clone()]), [10, 1148, 10]);
    // Three of 10 ms are no longer than that.
    let short = vec![0xf0, 1, 2];
    assert_eq!(merged([short.clone(), short.clone(), short]), [vec![0xf3, 3, 1, 2, 1, 2, 1, 2]]);
}

proptest! {
    #[test]
    fn every_frame_once_in_order_and_never_more_than_there_may_be(
        packets in proptest::collection::vec((0..4u16, 0..60u64, 3..700usize, any::<bool>()), 0..200),
    ) {
        let (mut merger, mut now, mut sequence) = (Merger::new(9), start(), 0u16);
        let (mut fed, mut got, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (step, wait, len, back) in packets {
            sequence = if back { sequence.saturating_sub(step) } else { sequence + step };
            let until = now + ms(wait);
            while let Some(due) = merger.poll_timeout().filter(|due| *due <= until) {
                merger.handle_timeout(due);
            }
            now = until;
            merger.handle_packet(packet(sequence, &frame(sequence, len), None, now), now);
            if fed.last().is_none_or(|last| *last < sequence) {
                fed.push(sequence);
            }
            for merged in drain(&mut merger) {
                let inside = frames(&merged);
                prop_assert!(inside.len() <= 3 && (inside.len() == 1 || merged.payload().len() <= 1160));
                prop_assert!(inside.windows(2).all(|pair| pair[1] == pair[0] + 1));
                prop_assert_eq!(merged.timestamp, u32::from(inside[0]) * 960);
                numbers.push(merged.sequence);
                got.extend(inside);
            }
            prop_assert!(merger.poll_timeout().is_none_or(|due| due <= now + ms(60)));
        }
        merger.handle_timeout(now + ms(60));
        got.extend(drain(&mut merger).iter().flat_map(frames));
        prop_assert_eq!(got, fed);
        prop_assert!(numbers.iter().zip(9..).all(|(number, at)| *number == at));
    }

    #[test]
    fn whatever_comes_is_passed_on_or_joined(
        packets in proptest::collection::vec((any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..40),
    ) {
        let (mut merger, now) = (Merger::new(0), start());
        for (sequence, timestamp, payload) in packets {
            let mut packet = packet(0, &payload, None, now);
            (packet.sequence, packet.timestamp) = (sequence, timestamp);
            merger.handle_packet(packet, now);
        }
        merger.handle_timeout(now + ms(60));
        prop_assert!(merger.poll_timeout().is_none());
    }
}
