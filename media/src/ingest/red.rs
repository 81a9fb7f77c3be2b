//! Copies that a publisher's RED packets carry of those before (RFC 2198): which packet each of them is.

use bytes::BytesMut;
use protocol::Codec;

use super::{
    Track,
    place::{Form, codec_of},
};
use crate::{
    rtp::{
        self,
        opus::Layout,
        packet::{self, Canonical, Packet},
        red::{Block, Red},
    },
    sdp::IngestTrack,
};

/// The newest packets of a source: their numbers and timestamps. A copy has its place among them or is none of theirs.
#[derive(Debug, Default)]
pub(super) struct Neighbors([Option<(u16, u32)>; SEEN]);

/// A power of two: numbers are masked.
const SEEN: usize = 32;

impl Neighbors {
    /// A packet of the source has come, or was mended.
    pub(super) fn handle_packet(&mut self, sequence: u16, timestamp: u32) {
        self.0[usize::from(sequence) % SEEN] = Some((sequence, timestamp));
    }

    /// Number and timestamp of a copy that this packet carries. A copy says only its timestamp: its number follows from
    /// how long it plays. `None` if that is no whole number of packets before, or another packet is there.
    pub(super) fn place(&self, (sequence, timestamp): (u16, u32), copy: &Block<'_>) -> Option<(u16, u32)> {
        let (offset, samples) = (u32::from(copy.offset), Layout::read(copy.payload)?.samples);
        let back = u16::try_from(offset / samples).ok()?;
        if offset % samples != 0 || back == 0 || usize::from(back) >= SEEN {
            return None;
        }
        let place = (sequence.wrapping_sub(back), timestamp.wrapping_sub(offset));
        self.0.iter().flatten().all(|known| is_in_order(*known, place)).then_some(place)
    }
}

impl Track {
    /// What is missing of the packets that this one carries along; from then on it is not.
    pub(super) fn mend(&mut self, red: &Red<'_>, header: &rtp::Header, packet: &Packet) -> Vec<Packet> {
        let mut mended = Vec::new();
        for copy in red.copies().filter(|copy| is_plain(&self.plan, copy.payload_type)) {
            let place = self.neighbors.place((header.sequence, header.timestamp), &copy);
            let Some((sequence, timestamp)) = place.filter(|(sequence, _)| self.missing.misses(*sequence))
            else {
                continue;
            };
            self.missing.handle_packet(sequence, packet.received);
            self.neighbors.handle_packet(sequence, timestamp);
            let canonical = Canonical {
                codec: packet.codec,
                marker: false,
                sequence: self.renumber.handle_packet(sequence),
                timestamp,
                audio_level: None,
                orientation: None,
                dependency: None,
            };
            let mut buffer = BytesMut::with_capacity(packet::MAX_HEADER_LEN + copy.payload.len());
            canonical.write(&mut buffer);
            buffer.extend_from_slice(copy.payload);
            mended.push(Packet::from_parts(canonical, buffer, packet.epoch, packet.received));
        }
        mended
    }
}

/// Whether a block of RED is what the track sends by itself.
pub(super) fn is_plain(plan: &IngestTrack, payload_type: u8) -> bool {
    codec_of(plan, payload_type).is_some_and(|(codec, form)| codec == Codec::Opus && form == Form::Plain)
}

/// Whether the one with the higher number has the higher timestamp too. What is a lap away says nothing.
fn is_in_order(known: (u16, u32), place: (u16, u32)) -> bool {
    let (steps, ticks) = (place.0.wrapping_sub(known.0) as i16, place.1.wrapping_sub(known.1) as i32);
    usize::from(steps.unsigned_abs()) >= SEEN || (steps.signum() as i32 == ticks.signum() && steps != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 ms of CELT.
    const SOUND: [u8; 3] = [0xfc, 1, 2];

    fn copy(offset: u16) -> Block<'static> {
        Block { payload_type: 111, offset, payload: &SOUND }
    }

    #[test]
    fn a_copy_is_the_packet_that_its_timestamp_says() {
        let mut neighbors = Neighbors::default();
        neighbors.handle_packet(65_534, 0u32.wrapping_sub(3 * 960));
        neighbors.handle_packet(1, 0);
        let place = |offset| neighbors.place((1, 0), &copy(offset));
        assert_eq!(place(960), Some((0, 0u32.wrapping_sub(960))));
        assert_eq!(place(1920), Some((65_535, 0u32.wrapping_sub(1920))));
        assert_eq!(place(2880), None, "it has come");
    }

    #[test]
    fn a_copy_that_does_not_fit_its_place_is_none() {
        let mut neighbors = Neighbors::default();
        neighbors.handle_packet(100, 96_000);
        for offset in [0, 1, 959, 961, 16_383, 0] {
            assert_eq!(neighbors.place((100, 96_000), &copy(offset)), None, "{offset}");
        }
        let empty = Block { payload: &[], ..copy(960) };
        assert_eq!(neighbors.place((100, 96_000), &empty), None, "no sound");
        // Packets became shorter: 98 is not what lies 40 ms before 100.
        neighbors.handle_packet(97, 96_000 - 1920);
        assert_eq!(neighbors.place((100, 96_000), &copy(1920)), None);
        assert_eq!(neighbors.place((100, 96_000), &copy(960)), Some((99, 95_040)));
    }
}
