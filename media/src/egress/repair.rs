//! What is sent once more: because a listener asked for it, or to try its path.

use super::{
    Egress, LastSent, PayloadTypes, Sent, Way,
    placed::{Placed, is_forgotten},
    seal::{Body, Header, seal},
};
use crate::{
    bandwidth::Purpose,
    rtp,
    track::{id::TrackId, ring::Ring},
};

/// Padding that probes: as much as an octet can say.
const PROBE_PADDING: u8 = 255;

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
        if index >= self.next {
            return None;
        }
        let run = self.run_of(index)?;
        Some(Missed { track: run.track, number: run.number(index)?, index })
    }

    /// Where the packet is that was sent so many before the newest.
    pub fn missed_at(&self, back: u64) -> Option<Missed> {
        let index = self.next.checked_sub(1 + back)?;
        let run = self.run_of(index)?;
        Some(Missed { track: run.track, number: run.number(index)?, index })
    }

    /// Answers a NACK for one packet: as a retransmission (RFC 4588) where negotiated, else by the same ciphertext
    /// once more.
    pub fn repair(&mut self, missed: Missed, ring: &Ring, way: &mut Way<'_>) -> Sent {
        let Missed { number, index, .. } = missed;
        let Some((packet, padding)) = ring.get_sent(number) else { return Sent::NotThere };
        let Some(types) = self.payload_types[packet.codec as usize] else { return Sent::Codec };
        let Some(run) = self.run_of(index) else { return Sent::NotThere };
        if types.rtx.is_none() && is_forgotten(&self.kept, index, self.next) {
            return Sent::NotThere;
        }
        let (name, offset, blank) = (run.name, run.timestamp, run.is_blank(number));
        let numbered = run.numbered_from.is_some_and(|from| index >= from) && !blank;
        let mut given = None;
        if numbered && let Some(numbers) = &mut self.numbers {
            given = numbers.1.forward(name, &packet.description);
            if given.is_none() {
                return Sent::NotThere;
            }
        }
        if !self.repairs.take(way.now) {
            return Sent::Budget;
        }
        let timestamp = packet.timestamp.wrapping_add(offset);
        let len = match types.rtx {
            Some(payload_type) => {
                let place = Placed { index, timestamp, payload_type, blank, given };
                self.seal_again(place, packet, Purpose::Repair, way)
            }
            None => {
                let place = Placed { index, timestamp, payload_type: types.media, blank, given };
                self.seal(place, packet, padding, way)
            }
        };
        Sent::Octets(len)
    }

    /// Sends something that tries the path: one of the newest packets once more, else padding, as a retransmission.
    /// Nothing if the listener has none.
    pub fn probe(&mut self, back: u64, probe: u8, ring: Option<&Ring>, way: &mut Way<'_>) -> Sent {
        let Some(payload_type) = self.payload_types.iter().flatten().find_map(|types| types.rtx) else {
            return Sent::NotThere;
        };
        let purpose = Purpose::Probe(probe);
        let there = self
            .missed_at(back)
            .zip(ring)
            .and_then(|(missed, ring)| Some((missed, ring.get_sent(missed.number)?.0)));
        if let Some((Missed { number, index, .. }, packet)) = there
            && let Some(PayloadTypes { rtx: Some(payload_type), .. }) =
                self.payload_types[packet.codec as usize]
            && let Some(run) = self.run_of(index)
            && !run.is_blank(number)
        {
            let (name, timestamp) = (run.name, packet.timestamp.wrapping_add(run.timestamp));
            let numbered = run.numbered_from.is_some_and(|from| index >= from);
            let given = match &mut self.numbers {
                Some(numbers) if numbered => numbers.1.forward(name, &packet.description),
                _ => None,
            };
            if given.is_some() || !numbered {
                let place = Placed { index, timestamp, payload_type, blank: false, given };
                return Sent::Octets(self.seal_again(place, packet, purpose, way));
            }
        }
        let Some(LastSent { timestamp, .. }) = self.last else { return Sent::NotThere };
        let body = Body { payload: &[], numbers: None, padding: PROBE_PADDING };
        let elements = self.elements(None, self.transport_number(&body, purpose, way));
        let (ssrc, index) = (self.rtx_ssrc, self.rtx_index);
        self.rtx_index += 1;
        let header = Header { payload_type, marker: false, ssrc, index, timestamp, original: None, elements };
        Sent::Octets(seal(&header, &body, way.sealer, way.to, way.batch))
    }
}
