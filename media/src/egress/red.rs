//! Packets of a sound that carry some of those before them as well (RED, RFC 2198). How many is decided in `mending`. What a
//! packet left with is remembered, because it may go once more only as the same octets.

use bytes::Bytes;

use super::{Egress, run::Place};
use crate::{
    rtp::{packet::Packet, red::Block},
    track::{Track, Tracks, id::TrackId},
};

/// What a packet carries along: the oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Copies([Option<Copied>; BACK.len()]);

#[derive(Debug, Clone)]
struct Copied {
    /// As it stands in a ring.
    payload: Bytes,
    /// By so much its timestamp is less.
    offset: u16,
}

/// The RED of one listener.
#[derive(Debug, Default)]
pub(super) struct Redundancy {
    /// So many copies, from now on.
    most: usize,
    /// The sound in its cheapest rung.
    low: Option<TrackId>,
    /// What left as RED, by index; nothing until something did.
    left: Vec<Option<(u64, Copies)>>,
    /// Below, it is forgotten what did.
    known_from: u64,
}

/// The first copy is of the packet before; the second of the third before, so that three that are lost in a row are all
/// carried by what follows.
const BACK: [u64; 2] = [1, 3];
/// As many packets as can be repaired: 200 ms of frames of 5 ms.
const LEFT: u64 = 40;
/// No packet becomes longer by copies than what every path carries in one piece, with 20 octets of header and tag.
const LONGEST: usize = 1180;

impl Copies {
    /// Whether there are none: the packet leaves as it is.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// As blocks of this payload type.
    pub(super) fn blocks(&self, payload_type: u8) -> impl Iterator<Item = Block<'_>> + Clone {
        self.0.iter().flatten().map(move |Copied { payload, offset }| Block {
            payload_type,
            offset: *offset,
            payload,
        })
    }
}

impl Egress {
    /// From now on each packet of the sound carries so many copies, if the listener takes them apart: those of `low`, where
    /// that is here.
    pub fn set_copies(&mut self, most: usize, low: Option<TrackId>) {
        (self.redundancy.most, self.redundancy.low) = (most.min(BACK.len()), low);
    }

    /// What the packet with this number takes along, if it leaves now.
    pub(super) fn copies(&self, (track, number): (TrackId, u64), packet: &Packet, tracks: &Tracks) -> Copies {
        let mut copies = Copies::default();
        let Redundancy { most, low, .. } = &self.redundancy;
        let takes = |types: super::PayloadTypes| types.red.is_some();
        if *most == 0
            || packet.payload().is_empty()
            || !self.payload_types[packet.codec as usize].is_some_and(takes)
        {
            return copies;
        }
        let Some(run) = self.run.as_ref().filter(|run| run.track == track) else { return copies };
        let Some(ring) = tracks.get(&track).map(Track::ring) else { return copies };
        let Place::At(index) = run.place(number) else { return copies };
        if index < self.next {
            // It comes late. What has left behind it has carried what it could.
            return copies;
        }
        let low = low.filter(|low| *low != track).and_then(|low| tracks.get(&low)).map(Track::ring);
        let mut room = LONGEST.saturating_sub(packet.payload().len());
        for (back, place) in BACK.into_iter().zip(copies.0.iter_mut().rev()).take(*most) {
            let earlier = index.checked_sub(back).filter(|earlier| *earlier >= run.begins_at());
            let Some((before, _)) = earlier.and_then(|index| ring.get_sent(run.number(index)?)) else {
                continue;
            };
            let cheap = low.and_then(|low| low.get_alike(before));
            let of = cheap.filter(|cheap| cheap.payload().len() < before.payload().len()).unwrap_or(before);
            let ticks = packet.timestamp.wrapping_sub(before.timestamp);
            let offset = u16::try_from(ticks).unwrap_or_default();
            let fits = Block { payload_type: 0, offset, payload: of.payload() }.fits();
            if fits && let Some(rest) = room.checked_sub(of.payload().len()) {
                room = rest;
                *place = Some(Copied { payload: of.payload_bytes(), offset });
            }
        }
        copies
    }
}

impl Redundancy {
    /// A packet left with these.
    pub(super) fn handle_left(&mut self, index: u64, copies: Copies) {
        if self.left.is_empty() {
            self.left.resize(LEFT as usize, None);
        }
        let place = &mut self.left[(index % LEFT) as usize];
        if let Some((before, _)) = place.replace((index, copies)) {
            self.known_from = self.known_from.max(before + 1);
        }
    }

    /// What a packet left with; `None` if nobody knows any more whether it left with anything.
    pub(super) fn left_with(&self, index: u64) -> Option<Copies> {
        if index < self.known_from {
            return None;
        }
        let known = self.left.get((index % LEFT) as usize).and_then(Option::as_ref);
        Some(known.filter(|(left, _)| *left == index).map(|(_, copies)| copies.clone()).unwrap_or_default())
    }
}
