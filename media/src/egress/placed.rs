//! A packet at its place among those that a listener gets: its header and body, and its transport-wide number. Where it
//! goes more than once under its own number, these are the same octets.

use protocol::Codec;

use super::{
    Egress, Way,
    seal::{Body, Header, Wrapped, seal},
};
use crate::{
    bandwidth::Purpose,
    rtp::{
        descriptor::{av1::Seam, numbered::Given},
        elements::Elements,
        packet::{Packet, UDP_OVERHEAD},
    },
};

/// A packet of nothing but padding says how long that is.
const BLANK: u8 = 1;
/// Header, extensions and tag of a packet, about, and what its datagram takes.
pub const OVERHEAD: usize = 36 + UDP_OVERHEAD;
/// As many packets can be asked for again: 5 s of sound, a second of a large picture.
pub const KEPT: [usize; 2] = [256, 1024];

/// A packet at its place among those that the listener gets.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    pub index: u64,
    pub timestamp: u32,
    pub payload_type: u8,
    /// A picture ends here, of the layers that the listener gets.
    pub marker: bool,
    /// Padding goes in its place.
    pub blank: bool,
    pub given: Option<Given>,
}

impl Placed {
    fn body<'a>(&self, packet: &'a Packet, padding: u8, red: Option<Wrapped<'a>>) -> Body<'a> {
        if self.blank {
            return Body { payload: &[], numbers: None, seam: Seam::default(), padding: BLANK, red: None };
        }
        let (said, payload) = (&packet.description, packet.payload());
        let seam = match packet.codec {
            Codec::Av1 => Seam::of(said, payload, self.marker),
            _ => Seam::default(),
        };
        Body { payload, numbers: self.given.map(|given| (&said.numbered, given)), seam, padding, red }
    }

    fn header(&self, ssrc: u32, index: u64, original: Option<u16>, elements: Elements) -> Header {
        Header {
            payload_type: self.payload_type,
            marker: self.marker && !self.blank,
            ssrc,
            index,
            timestamp: self.timestamp,
            original,
            elements,
        }
    }
}

impl Egress {
    /// Seals a packet under its own number. Where it was sent under it before these are the same octets.
    pub(super) fn seal(
        &mut self,
        place: Placed,
        packet: &Packet,
        padding: u8,
        red: Option<Wrapped<'_>>,
        way: &mut Way<'_>,
    ) -> usize {
        let body = place.body(packet, padding, red);
        let number = self.number_once(place.index, &body, way);
        let elements = self.elements(Some(packet), number);
        let header = place.header(self.ssrc, place.index, None, elements);
        seal(&header, &body, way.sealer, way.to, way.batch)
    }

    /// The transport-wide number of a packet that may go under its own number more than once.
    fn number_once(&mut self, index: u64, body: &Body<'_>, way: &mut Way<'_>) -> Option<u16> {
        let len = self.kept.len() as u64;
        let Some(place) = index.checked_rem(len) else {
            return self.transport_number(body, Purpose::Media, way);
        };
        let lap = (index / len) as u16;
        if let Some((known, number)) = self.kept.get(place as usize)
            && *known == lap
        {
            if let Some(path) = way.path.as_deref_mut() {
                path.handle_repeated(*number);
            }
            return Some(*number);
        }
        let number = self.transport_number(body, Purpose::Media, way)?;
        self.kept[place as usize] = (lap, number);
        Some(number)
    }

    /// Seals a packet once more, as a retransmission.
    pub(super) fn seal_again(
        &mut self,
        place: Placed,
        packet: &Packet,
        purpose: Purpose,
        way: &mut Way<'_>,
    ) -> usize {
        // it needs no padding but where that is all there is
        let body = place.body(packet, u8::from(packet.payload().is_empty()), None);
        let number = self.transport_number(&body, purpose, way);
        let elements = self.elements(Some(packet), number);
        let index = self.rtx_index;
        self.rtx_index += 1;
        let header = place.header(self.rtx_ssrc, index, Some(place.index as u16), elements);
        seal(&header, &body, way.sealer, way.to, way.batch)
    }

    /// The transport-wide number of a packet, where the listener tells what came.
    pub(super) fn transport_number(
        &self,
        body: &Body<'_>,
        purpose: Purpose,
        way: &mut Way<'_>,
    ) -> Option<u16> {
        let path = way.path.as_deref_mut()?;
        let octets = body.carried() + body.payload.len() + usize::from(body.padding) + OVERHEAD;
        if self.transport_cc > 0 {
            return Some(path.handle_sent(octets, purpose, way.now));
        }
        path.handle_untold(octets, way.now);
        None
    }

    pub(super) fn elements(&self, packet: Option<&Packet>, number: Option<u16>) -> Elements {
        let mut elements = Elements::default();
        if let Some(level) = packet.and_then(|packet| packet.audio_level) {
            elements.push(self.audio_level, &[level]);
        }
        if let Some(turn) = packet.and_then(|packet| packet.orientation) {
            elements.push(self.orientation, &[turn]);
        }
        if let Some(number) = number {
            elements.push(self.transport_cc, &number.to_be_bytes());
        }
        elements
    }
}

/// Whether nobody knows any more under which transport-wide number a packet with this index went: then it may not go
/// again.
pub fn is_forgotten(kept: &[(u16, u16)], index: u64, next: u64) -> bool {
    !kept.is_empty() && index + kept.len() as u64 <= next
}
