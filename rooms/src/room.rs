//! One room: its newest messages in display order and who is in it at this relay.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    chat::{Kept, Place},
    error::RoomsError,
    file::Files,
};
use protocol::api;

/// Messages of a room kept in memory; older ones stay in the log.
pub const MESSAGES_MAX: usize = 1000;
/// Bytes they take, about.
pub const BYTES_MAX: usize = 4 << 20;
/// Participants of a room at one relay.
pub const PARTICIPANTS_MAX: usize = 10_000;

/// One presence in one room at this relay; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(pub u64);

#[derive(Debug, Default)]
pub(crate) struct Room {
    messages: BTreeMap<Place, Kept>,
    places: BTreeMap<String, Place>,
    bytes: usize,
    pub files: Files,
    participants: BTreeSet<ParticipantId>,
    /// Grows with every use of any room: the room with the lowest value was used longest ago.
    pub last_use: u64,
}

impl Room {
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// Where a message stands.
    pub(crate) fn place(&self, id: &str) -> Option<Place> {
        self.places.get(id).copied()
    }

    /// What its messages take in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message. `None` if it is there already or older than all that a full room keeps.
    pub(crate) fn insert(&mut self, place: Place, kept: Kept) -> Option<&Kept> {
        if self.contains(&kept.id) || self.messages.contains_key(&place) {
            return None;
        }
        self.bytes += kept.bytes();
        self.places.insert(kept.id.clone(), place);
        self.messages.insert(place, kept);
        while self.messages.len() > MESSAGES_MAX || self.bytes > BYTES_MAX {
            self.drop_oldest();
        }
        self.messages.get(&place)
    }

    /// Drops the oldest message; it stays in the log.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some((_, oldest)) = self.messages.pop_first() {
            self.bytes -= oldest.bytes();
            self.places.remove(&oldest.id);
        }
    }

    /// The newest `limit` messages, or the first `limit` after the message `after`; in display order.
    pub(crate) fn history(&self, after: Option<&str>, limit: usize) -> Result<Vec<api::Message>, RoomsError> {
        let Some(after) = after else {
            let skip = self.messages.len().saturating_sub(limit);
            return Ok(self.messages.values().skip(skip).map(Kept::to_api).collect());
        };
        let place =
            self.places.get(after).ok_or_else(|| RoomsError::UnknownMessage { id: shortened(after) })?;
        let later = (std::ops::Bound::Excluded(place), std::ops::Bound::Unbounded);
        Ok(self.messages.range(later).take(limit).map(|(_, kept)| kept.to_api()).collect())
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
