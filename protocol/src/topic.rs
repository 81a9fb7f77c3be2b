//! What a log is about. Routing sees no more of a room than its name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{id::RoomName, mesh::Class};

/// A subject that relays write logs about. Announcements come first, in every order and every queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Topic {
    /// What the organizer tells everybody.
    Announcements,
    /// Chat in a room.
    Room(RoomName),
}

impl Topic {
    /// The class its records travel in.
    pub fn class(&self) -> Class {
        match self {
            Topic::Announcements => Class::Announcement,
            Topic::Room(_) => Class::Chat,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Announcements => f.write_str("announcements"),
            Topic::Room(room) => write!(f, "room {room}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_sort_before_every_room() {
        let room = Topic::Room(RoomName::new("0").expect("a name"));
        assert!(Topic::Announcements < room && Topic::Announcements.class() < room.class());
    }
}
