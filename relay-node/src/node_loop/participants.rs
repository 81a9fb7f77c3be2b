//! The participants on WebSockets of this relay: who is in which room, and what they are told.

use std::collections::BTreeMap;

use protocol::{RoomName, signaling::FromRelay};
use rooms::ParticipantId;

use super::outbox::{self, Inbox, Missed, Outbox, Told};
use crate::drop_reason::DropReason;

/// Where somebody is, and as whom.
pub(super) type Place = (RoomName, ParticipantId);

/// Those who are there.
#[derive(Debug, Default)]
pub(super) struct Participants(BTreeMap<Place, Outbox>);

impl Participants {
    /// One more, whose first event this is. Gives the end that sends.
    pub fn enter(&mut self, place: Place, first: &FromRelay) -> Inbox {
        let (outbox, inbox) = outbox::pair();
        // It is empty: there is room.
        let _ = outbox.tell(&Told::new(first));
        self.0.insert(place, outbox);
        inbox
    }

    /// Whether it was there.
    pub fn leave(&mut self, place: &Place) -> bool {
        self.0.remove(place).is_some()
    }

    /// Tells those in some rooms. Gives those who left or fell too far behind, and who have to leave now.
    pub fn tell(&self, whom: impl Fn(&RoomName) -> bool, event: &FromRelay) -> Vec<Place> {
        let told = Told::new(event);
        let there = self.0.iter().filter(|((room, _), _)| whom(room));
        let missed = there.filter_map(|(place, outbox)| Some((place.clone(), outbox.tell(&told).err()?)));
        let leave = missed.map(|(place, missed)| {
            if missed == Missed::Behind {
                DropReason::ParticipantTooSlow.count();
            }
            place
        });
        leave.collect()
    }

    /// The relay stops: each is told by the end of its events.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
