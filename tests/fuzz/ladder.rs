//! The ladder of a stage, fed what a publisher may send as Opus.

use std::time::Duration;

use media::{
    Packet,
    ladder::{RUNGS, Stage, framing::Layout},
    packet::{self, Canonical},
};
use protocol::Codec;

use crate::sessions::{piece, pieces};

/// Packets of an input that count: each may be decoded, concealed and encoded twice.
const PACKETS_MAX: usize = 40;

/// Packets one behind the other: what is wanted, how the number, the timestamp (in frames of 2.5 ms) and the time (ms) go
/// on, the epoch, the payload.
pub fn packets() -> Vec<Vec<u8>> {
    let both = |bytes: &[u8]| piece(3, bytes);
    let celt = |len: usize| both(&[vec![1, 8, 20, 0, 0xfc], vec![0xa5; len]].concat());
    let odd: [&[u8]; 10] = [
        &[1, 8, 20, 0],
        // A frame without octets, two, a code 3 with lengths, one with padding, 49 frames, one that lies.
        &[1, 8, 20, 0, 0xfc],
        &[1, 16, 40, 0, 0xfd, 1, 2],
        &[1, 16, 40, 0, 0xff, 0x82, 1, 9, 8, 8],
        &[1, 16, 40, 0, 0xff, 0x42, 2, 7, 7, 0, 0],
        &[1, 8, 20, 0, 0xff, 49, 1, 1],
        &[1, 8, 20, 0, 0xfe, 200, 1],
        // Lost packets, a pause, another epoch.
        &[4, 32, 80, 0, 0xfc, 1, 2, 3],
        &[1, 255, 200, 0, 0xfc, 1, 2, 3],
        &[7, 3, 20, 1, 0xfc, 1, 2, 3],
    ];
    let mixed: Vec<u8> = odd.iter().flat_map(|packet| [celt(60), both(packet)].concat()).collect();
    let speech = both(&[1, 8, 20, 0, 0x48, 9, 9, 9, 9, 9, 9, 9]).repeat(6);
    let loss = [celt(60), both(&[&[9, 72, 180, 0, 0xfc][..], &[9; 40]].concat())].concat().repeat(3);
    vec![celt(160).repeat(8), mixed, speech, loss, celt(1275), celt(1276)]
}

/// Fed at its times, with the timers between.
pub fn ladder(bytes: &[u8]) {
    let mut stage = Stage::new();
    let (mut sequence, mut timestamp, mut now) = (0u16, 0u32, tests::now());
    for (wanted, fed) in pieces(bytes).take(PACKETS_MAX) {
        let [number, stamp, passed, epoch, payload @ ..] = fed else { continue };
        stage.set_wanted([wanted & 1 != 0, wanted & 2 != 0]);
        // From 128 on: back.
        sequence = sequence.wrapping_add_signed(i16::from(*number as i8));
        timestamp = timestamp.wrapping_add(u32::from(*stamp) * 120);
        let at = now + Duration::from_millis(u64::from(*passed));
        while let Some(due) = stage.poll_timeout().filter(|due| *due <= at) {
            stage.handle_timeout(due);
            assert_ne!(stage.poll_timeout(), Some(due), "a timer that does nothing");
            drain(&mut stage);
        }
        now = at;
        if let Some(packet) = opus(sequence, timestamp, *epoch & 0x0f, payload, now) {
            stage.handle_packet(&packet, now);
        }
        drain(&mut stage);
    }
}

fn opus(sequence: u16, timestamp: u32, epoch: u8, payload: &[u8], now: std::time::Instant) -> Option<Packet> {
    let canonical = Canonical {
        codec: Codec::Opus,
        marker: false,
        sequence,
        timestamp,
        audio_level: None,
        orientation: None,
        dependency: None,
    };
    let mut buffer = bytes::BytesMut::new();
    canonical.write(&mut buffer);
    buffer.extend_from_slice(payload);
    // As it comes off a link: what is too long is no packet.
    Packet::from_canonical(buffer.freeze(), epoch, now)
}

/// Each rung packet is CELT, and no longer than a packet may be; there are not many at once.
fn drain(stage: &mut Stage) {
    let mut packets = 0;
    while let Some((rung, packet)) = stage.poll_packet() {
        packets += 1;
        assert!(rung < RUNGS && packet.bytes.len() <= packet::MAX_LEN);
        let payload = packet.payload();
        assert!(payload.is_empty() || Layout::read(payload).is_some_and(|layout| layout.is_celt()));
    }
    // 48 that waited and 2 s of the shortest that are made up.
    assert!(packets <= RUNGS * 900, "{packets}");
    while stage.poll_dropped().is_some() {}
}
