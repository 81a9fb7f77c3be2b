//! What is sent once more: because a listener asked for it, or to try its path.

use std::time::Duration;

use protocol::Kind;

use super::{
    Egress, PayloadTypes, Sent, Way,
    placed::{OVERHEAD, Placed, is_forgotten},
    repair_budget::Refusal,
    seal::{Body, Header, seal},
};
use crate::{
    bandwidth::Purpose,
    rtp::{self, descriptor::av1::Seam, packet::Packet},
    track::{id::TrackId, ring::Ring},
};

/// Packets that are so many times as large as a probe wants them make it too long: on a narrow wire they would be its
/// queue. Small ones take a larger part of the wire than they show.
const PROBE_LARGEST: usize = 3;
/// Padding that probes: as much as an octet can say.
const PROBE_PADDING: u8 = 255;
/// And so little that headers are all that it is.
const LEAST_PADDING: usize = 16;

/// A receiver has no more sound in store than this: what comes later is not heard.
const HEARD_WITHIN: Duration = Duration::from_millis(200);

/// What a listener asked for again: where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// In the ring of this track.
    pub track: TrackId,
    /// Its number there.
    pub number: u64,
    pub(super) index: u64,
}

impl Egress {
    /// Where the packet is that the listener got, or should have got, under this sequence number.
    pub fn missed(&self, sequence: u16) -> Option<Missed> {
        let index = rtp::extend(self.last?.index, sequence);
        // What was not sent may still get its number from the next source.
        self.missed_under(Some(index).filter(|index| *index < self.next)?)
    }

    /// Where the packet is that was sent so many before the newest.
    pub fn missed_at(&self, back: u64) -> Option<Missed> {
        self.missed_under(self.next.checked_sub(1 + back)?)
    }

    pub(super) fn missed_under(&self, index: u64) -> Option<Missed> {
        let run = self.run_of(index)?;
        let missed = Missed { track: run.track, number: run.number(index)?, index };
        // What came late may wait for its first time, under an index below the newest.
        let waits = Some(run.track) == self.source && self.waits(missed.number);
        Some(missed).filter(|_| !waits)
    }

    /// Answers a NACK for one packet: as a retransmission (RFC 4588) where negotiated, else by the same ciphertext
    /// once more.
    pub fn repair(&mut self, missed: Missed, ring: &Ring, way: &mut Way<'_>) -> Sent {
        let Some((packet, padding)) = ring.get_sent(missed.number) else { return Sent::NotThere };
        if self.kind == Kind::Audio && way.now.saturating_duration_since(packet.received) > HEARD_WITHIN {
            return Sent::NotThere;
        }
        let asked = (self.kind, missed.index, packet.payload().len());
        match self.repairs.take(asked, way.path.as_deref(), way.now) {
            Ok(()) => {}
            Err(Refusal::OnItsWay) => return Sent::OnItsWay,
            Err(Refusal::Budget) => return Sent::Budget,
        }
        self.once_more(missed, (packet, padding), way)
    }

    /// Sends a packet once more: as a retransmission where negotiated, else the same octets.
    pub(super) fn once_more(
        &mut self,
        missed: Missed,
        (packet, padding): (&Packet, u8),
        way: &mut Way<'_>,
    ) -> Sent {
        let Some(types) = self.payload_types[packet.codec as usize] else { return Sent::Codec };
        if types.rtx.is_none() && is_forgotten(&self.kept, missed.index, self.next) {
            return Sent::NotThere;
        }
        let Some(copies) = self.redundancy.left_with(missed.index) else { return Sent::NotThere };
        let Some(place) = self.placed_again(missed, packet, types) else { return Sent::NotThere };
        Sent::Octets(match types.rtx {
            Some(_) => self.seal_again(place, packet, Purpose::Repair, way),
            None => self.seal(place, packet, padding, types.wrap(&copies), way),
        })
    }

    /// Sends something that tries the path: one of the newest packets once more, else padding, as a retransmission.
    /// Nothing if the listener has none.
    pub fn probe(
        &mut self,
        back: u64,
        (probe, octets): (u8, usize),
        ring: Option<&Ring>,
        way: &mut Way<'_>,
    ) -> Sent {
        let purpose = Purpose::Probe(probe);
        let fits = |packet: &&Packet| packet.bytes.len() <= PROBE_LARGEST * octets;
        if let (Some(missed), Some(ring)) = (self.missed_at(back), ring)
            && let Some(packet) = ring.get_sent(missed.number).map(|(packet, _)| packet).filter(fits)
            && let Some(types) = self.payload_types[packet.codec as usize].filter(|types| types.rtx.is_some())
            && let Some(place) = self.placed_again(missed, packet, types).filter(|place| !place.blank)
        {
            return Sent::Octets(self.seal_again(place, packet, purpose, way));
        }
        let rtx = self.payload_types.iter().flatten().find_map(|types| types.rtx);
        let Some(payload_type) = rtx else { return Sent::NotThere };
        let timestamp = self.last.map_or(0, |last| last.timestamp);
        let body = Body {
            payload: &[],
            numbers: None,
            seam: Seam::default(),
            red: None,
            padding: octets.saturating_sub(OVERHEAD).clamp(LEAST_PADDING, PROBE_PADDING.into()) as u8,
        };
        let elements = self.elements(None, self.transport_number(&body, purpose, way));
        let (ssrc, index) = (self.rtx_ssrc, self.rtx_index);
        self.rtx_index += 1;
        let header = Header { payload_type, marker: false, ssrc, index, timestamp, original: None, elements };
        Sent::Octets(seal(&header, &body, way.sealer, way.to, way.batch))
    }

    /// A packet as it was sent before; `None` if nobody remembers the numbers that its picture was given.
    fn placed_again(&mut self, missed: Missed, packet: &Packet, types: PayloadTypes) -> Option<Placed> {
        let Missed { number, index, .. } = missed;
        let run = self.run_of(index)?;
        let (name, blank) = (run.name, run.is_blank(number));
        let timestamp = run.timeline.at(packet.timestamp);
        let marker = packet.marker || run.ends(number, &packet.description);
        let numbered = run.numbered_from.is_some_and(|from| index >= from);
        let given = match numbered && !blank {
            true => Some(self.numbers.as_mut()?.1.forward(name, &packet.description)?),
            false => None,
        };
        let payload_type = types.rtx.unwrap_or(types.media);
        Some(Placed { index, timestamp, payload_type, marker, blank, given })
    }
}
