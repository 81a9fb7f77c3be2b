//! Our reading of packets against that of libopus.

use proptest::prelude::*;

use super::{MUSIC, encode, signal};
use crate::ladder::framing::{Frames, Layout};

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

#[test]
fn what_is_joined_is_what_libopus_joins() {
    let payloads = encode(&signal::noise(600, 0.3, 0.5), MUSIC);
    for count in 1..=6 {
        for part in payloads.chunks_exact(count) {
            let mut frames = Frames::default();
            part.iter().for_each(|packet| frames.push(packet));
            let mut ours = Vec::new();
            frames.write(&mut ours).unwrap();
            let parts: Vec<&[u8]> = part.iter().map(Vec::as_slice).collect();
            let joined = opus::packet::parse(&ours).unwrap();
            let apart: Vec<&[u8]> = parts.iter().map(|packet| &packet[1..]).collect();
            assert_eq!(joined.frames, apart);
        }
    }
}

#[test]
fn what_does_not_go_together_is_not_joined() {
    let write = |packets: &[&[u8]]| {
        let mut frames = Frames::default();
        packets.iter().for_each(|packet| frames.push(packet));
        let mut out = Vec::new();
        (frames.write(&mut out), out.is_empty())
    };
    let long = [vec![0xfc], vec![0; 1276]].concat();
    for packets in
        [&[][..], &[&[][..]], &[&[0xfc, 1], &[0xf8, 1]], &[&[0xfd, 1, 1]], &[&long], &[&[0xfc, 1][..]; 7]]
    {
        assert_eq!(write(packets), (None, true), "{packets:?}");
    }
    assert_eq!(write(&[&[0xfc, 1], &[0xfc]]), (Some(()), false));
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
    }
}
