//! Our reading of packets against that of libopus.

use opus::{Application, Bitrate, Channels, Encoder, Repacketizer};
use proptest::prelude::*;

use super::opus::{Frames, Layout, frames};

/// What libopus says: samples, frames, channels; `None` where it refuses.
fn by_libopus(packet: &[u8]) -> Option<(u32, usize, bool)> {
    let parsed = opus::packet::parse(packet).ok()?;
    let samples = opus::packet::get_nb_samples(packet, 48_000).ok()? as u32;
    let stereo = opus::packet::get_nb_channels(packet).ok()? == opus::Channels::Stereo;
    Some((samples, parsed.frames.len(), stereo))
}

fn by_us(packet: &[u8]) -> Option<(u32, usize, bool)> {
    Layout::read(packet).map(|layout| (layout.samples, layout.frames, layout.stereo))
}

#[test]
fn packets_at_the_limits_are_read_as_libopus_reads_them() {
    let code = |toc: u8, len: usize| [vec![toc], vec![7; len]].concat();
    let many = |head: u8, rest: &[u8]| [&[0xe3, head], rest].concat();
    let packets = [
        (vec![], false),
        (code(0xfc, 0), true),
        (code(0xfc, 1275), true),
        (code(0xfc, 1276), false),
        (code(0xfd, 3), false),
        (code(0xfd, 2550), true),
        (code(0xfd, 2552), false),
        (code(0xfe, 0), false),
        (vec![0xfe, 3, 1, 2], false),
        (vec![0xfe, 3, 1, 2, 3], true),
        (vec![0xfe, 252], false),
        (code(0xff, 0), false),
        (many(0, &[]), false),
        (many(48, &[]), true),
        (many(49, &[]), false),
        (many(0x80 | 3, &[1, 1, 9, 9]), true),
        (many(0x80 | 3, &[1, 4, 9, 9]), false),
        (many(0x80 | 3, &[255]), false),
        (many(0x40 | 2, &[2, 5, 5, 0, 0]), true),
        (many(0x40 | 2, &[9, 5, 5]), false),
        (many(0x40 | 2, &[255, 255]), false),
        // Seven frames of 20 ms.
        (vec![0xff, 7], false),
    ];
    for (packet, good) in packets {
        let start = &packet[..packet.len().min(6)];
        assert_eq!(by_us(&packet).is_some(), good, "{start:?} and {} octets", packet.len());
        assert_eq!(by_us(&packet), by_libopus(&packet), "{start:?}");
    }
}

/// Packets of an encoder, one behind the other: noise at this rate, in frames of so many samples at 48 kHz.
fn encode(bits: i32, frame: usize, channels: Channels, vbr: bool) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(48_000, channels, Application::Audio).unwrap();
    encoder.set_bitrate(Bitrate::Bits(bits)).unwrap();
    encoder.set_vbr(vbr).unwrap();
    let (mut state, mut low) = (7u32, 0.0f32);
    let mut sample = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        low += 0.2 * (state as f32 / u32::MAX as f32 - 0.5 - low);
        low
    };
    let each = frame * if channels == Channels::Stereo { 2 } else { 1 };
    (0..60)
        .map(|_| {
            let samples: Vec<f32> = (0..each).map(|_| sample()).collect();
            encoder.encode_vec_float(&samples, 1500).unwrap()
        })
        .collect()
}

fn join(packets: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let (mut frames, mut out) = (Frames::default(), Vec::new());
    packets.iter().for_each(|packet| frames.push(packet.as_ref()));
    match frames.write(&mut out) {
        Some(()) => Some(out),
        None => {
            assert!(out.is_empty(), "nothing of what fails");
            None
        }
    }
}

fn join_by_libopus(packets: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let packets: Vec<&[u8]> = packets.iter().map(AsRef::as_ref).collect();
    let mut out = vec![0; 64 * 1024];
    let len = Repacketizer::new().unwrap().combine(&packets, &mut out).ok()?;
    out.truncate(len);
    Some(out)
}

#[test]
fn what_is_joined_is_octet_for_octet_what_libopus_joins() {
    for (bits, frame, channels, vbr) in [
        (24_000, 960, Channels::Mono, true),
        (64_000, 960, Channels::Stereo, true),
        (128_000, 960, Channels::Stereo, false),
        (128_000, 480, Channels::Stereo, true),
        (12_000, 960, Channels::Mono, true),
        (96_000, 120, Channels::Stereo, true),
    ] {
        let packets = encode(bits, frame, channels, vbr);
        for count in 1..=6 {
            for part in packets.chunks_exact(count) {
                let joined = join(part);
                assert_eq!(joined, join_by_libopus(part), "{bits} {frame} {count}");
                // What is joined can be joined again.
                let Some(joined) = joined.filter(|_| frame * count <= 1920) else { continue };
                assert_eq!(join(&[&joined, &joined]), join_by_libopus(&[&joined, &joined]));
            }
        }
    }
}

#[test]
fn what_does_not_go_together_is_not_joined() {
    let long = [vec![0xfc], vec![0; 1276]].concat();
    for packets in
        [&[][..], &[&[][..]], &[&[0xfc, 1], &[0xf8, 1]], &[&[0xfd, 1]], &[&long], &[&[0xfc, 1][..]; 7]]
    {
        assert_eq!(join(packets), None, "{packets:?}");
    }
    assert_eq!(join(&[&[0xfc, 1][..], &[0xfc]]), Some(vec![0xfe, 1, 1]));
    assert_eq!(join(&[&[0xfd, 1, 2][..], &[0xff, 0x42, 1, 3, 4, 0]]), Some(vec![0xff, 4, 1, 2, 3, 4]));
}

proptest! {
    #[test]
    fn any_octets_are_read_as_libopus_reads_them(packet in proptest::collection::vec(any::<u8>(), 1..1500)) {
        prop_assert_eq!(by_us(&packet), by_libopus(&packet));
    }

    #[test]
    fn many_frames_are_read_as_libopus_reads_them(
        toc in (0..64u8).prop_map(|toc| toc << 2 | 3),
        rest in proptest::collection::vec(prop_oneof![0..60u8, any::<u8>()], 0..60),
    ) {
        let packet = [vec![toc], rest].concat();
        prop_assert_eq!(by_us(&packet), by_libopus(&packet));
        let ours = frames(&packet).map(|frames| frames.to_vec());
        prop_assert_eq!(ours, opus::packet::parse(&packet).ok().map(|parsed| parsed.frames));
    }

    #[test]
    fn any_packets_are_joined_as_libopus_joins_them(
        toc in any::<u8>(),
        packets in proptest::collection::vec(
            (0..4u8, proptest::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..400)), 1..6,
        ),
    ) {
        // Without padding: what libopus finds in it goes on with the frames.
        let packet = |(code, mut rest): (u8, Vec<u8>)| {
            rest.iter_mut().take(usize::from(code == 3)).for_each(|head| *head &= !0x40);
            [vec![toc & !3 | code], rest].concat()
        };
        let packets: Vec<Vec<u8>> = packets.into_iter().map(packet).collect();
        if packets.iter().all(|packet| Layout::read(packet).is_some()) {
            prop_assert_eq!(join(&packets), join_by_libopus(&packets));
        } else {
            prop_assert_eq!(join(&packets), None);
        }
    }
}
