//! One room: what it keeps of what was said, in display order, and who is in it at this relay.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::RoomsError,
    files::Files,
    limits::PARTICIPANTS_MAX,
    message::{Kept, Zones},
    place::{Known, MessageId, Newest, Place},
    shares::Shares,
};
use protocol::api;

/// Messages of a room kept in memory; whoever said most gives way.
pub const MESSAGES_MAX: usize = 1000;
/// Bytes they take, about.
pub const BYTES_MAX: usize = 4 << 20;

/// One presence in one room at this relay; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(pub u64);

#[derive(Debug, Default)]
pub(crate) struct Room {
    messages: BTreeMap<Place, Kept>,
    places: BTreeMap<MessageId, Place>,
    bytes: usize,
    pub files: Files,
    participants: BTreeSet<ParticipantId>,
    shares: Shares,
    /// Something was said in it.
    pub spoken: bool,
    /// Grows with everything that comes to any room: what came to the room with the lowest value came longest ago.
    pub last_word: u64,
}

impl Room {
    /// Where a message stands.
    pub(crate) fn place(&self, id: MessageId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// The newest record of a message by whoever wrote it first.
    pub(crate) fn known(&self, id: MessageId) -> Option<Known> {
        let place = self.place(id)?;
        let (incarnation, number) = self.messages.get(&place)?.newest;
        Some(Known { writer: place.writer, incarnation, number })
    }

    /// What its messages take in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that are kept.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Adds a message. `None` if it is there already or the first to give way in a full room.
    pub(crate) fn insert(&mut self, place: Place, kept: Kept) -> Option<&Kept> {
        if let Some(known) = self.places.get(&kept.id) {
            if let Some(known) = self.messages.get_mut(known).filter(|_| known.writer == place.writer) {
                known.newest = kept.newest;
            }
            return None;
        }
        if self.messages.contains_key(&place) {
            return None;
        }
        self.bytes += kept.bytes();
        self.shares.insert(kept.party(place.writer), place, kept.bytes());
        self.places.insert(kept.id, place);
        self.messages.insert(place, kept);
        while self.messages.len() > MESSAGES_MAX || self.bytes > BYTES_MAX {
            self.give_way();
        }
        self.messages.get(&place)
    }

    /// Drops the oldest message of whoever has most.
    pub(crate) fn give_way(&mut self) {
        let Some(place) = self.shares.least() else { return };
        let Some(gone) = self.messages.remove(&place) else { return };
        self.bytes -= gone.bytes();
        let party = gone.party(place.writer);
        let same = |(at, kept): &(&Place, &Kept)| kept.party(at.writer) == party;
        let next = || self.messages.range(place..).find(same).map(|(place, _)| *place);
        self.shares.remove(&party, &place, gone.bytes(), next);
        self.places.remove(&gone.id);
    }

    /// Forgets all that was said; people stay.
    pub(crate) fn forget_words(&mut self) {
        let participants = std::mem::take(&mut self.participants);
        *self = Room { participants, ..Room::default() };
    }

    /// The relays that wrote what is kept.
    pub(crate) fn writers(&self) -> BTreeSet<protocol::NodeId> {
        self.messages.keys().map(|place| place.writer).collect()
    }

    /// A message of which this is the newest record of its writer.
    pub(crate) fn newest(
        &self,
        id: MessageId,
        writer: &protocol::NodeId,
        newest: Newest,
    ) -> Option<(Place, &Kept)> {
        let place = self.places.get(&id).filter(|place| place.writer == *writer)?;
        self.messages.get(place).filter(|kept| kept.newest == newest).map(|kept| (*place, kept))
    }

    /// The newest `limit` messages, or the first `limit` after the message `after`; in display order.
    pub(crate) fn history(
        &self,
        after: Option<&str>,
        limit: usize,
        zones: &Zones,
    ) -> Result<Vec<api::Message>, RoomsError> {
        let shown = |(place, kept): (&Place, &Kept)| kept.to_api(&place.writer, zones.get(&place.writer));
        let Some(after) = after else {
            let skip = self.messages.len().saturating_sub(limit);
            return Ok(self.messages.iter().skip(skip).map(shown).collect());
        };
        let place = MessageId::parse(after).and_then(|id| self.place(id));
        let place = place.ok_or_else(|| RoomsError::UnknownMessage { id: shortened(after) })?;
        let later = (std::ops::Bound::Excluded(place), std::ops::Bound::Unbounded);
        Ok(self.messages.range(later).take(limit).map(shown).collect())
    }

    /// The newest messages for somebody who comes: where others said something, too, nobody has more than half of
    /// them. In display order.
    pub(crate) fn newest_of_all(&self, limit: usize, zones: &Zones) -> Vec<api::Message> {
        let (mut counts, mut chosen, mut others) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (place, kept) in self.messages.iter().rev() {
            let count = counts.entry(kept.place_of_origin(place.writer)).or_insert(0usize);
            *count += 1;
            if *count <= limit.div_ceil(2) {
                chosen.insert(place, kept);
            } else {
                others.push((place, kept));
            }
            if chosen.len() == limit {
                break;
            }
        }
        // Nobody else said more.
        let left = limit - chosen.len();
        chosen.extend(others.into_iter().take(left));
        chosen.into_iter().map(|(place, kept)| kept.to_api(&place.writer, zones.get(&place.writer))).collect()
    }

    pub(crate) fn enter(&mut self, participant: ParticipantId) -> Result<(), RoomsError> {
        if self.participants.len() >= PARTICIPANTS_MAX {
            return Err(RoomsError::Full);
        }
        self.participants.insert(participant);
        Ok(())
    }

    pub(crate) fn leave(&mut self, participant: ParticipantId) -> bool {
        self.participants.remove(&participant)
    }

    pub(crate) fn present(&self) -> u32 {
        u32::try_from(self.participants.len()).unwrap_or(u32::MAX)
    }
}

/// An id as it may be repeated in an error: ids of ours have 32 characters.
fn shortened(id: &str) -> String {
    id.chars().take(64).collect()
}
