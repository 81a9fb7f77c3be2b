//! The JSON text messages of the WebSocket at `/api/v1/rooms/{room}/ws`; `docs/signaling.md` is the manual.

use serde::{Deserialize, Serialize};

use crate::api::{Message, Saved, SharedFile, Stream};

/// From a participant to the relay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum FromParticipant {
    /// Says something in the room.
    Say {
        /// Who: 1 to 64 characters.
        author: String,
        /// What: 1 to 4000 characters.
        text: String,
        /// See [`crate::api::NewMessage::nonce`]; comes back in [`FromRelay::Said`].
        nonce: String,
    },
}

/// From the relay to a participant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromRelay {
    /// The first message on a connection.
    Welcome {
        /// The zone of this relay.
        zone: String,
        /// The newest messages of the room, in display order.
        history: Vec<Message>,
        /// Participants in the room at this relay.
        present: u32,
        /// The newest announcements, in display order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        announcements: Vec<Message>,
    },
    /// The organizer says something to everybody, in whichever room.
    Announcement {
        /// What is said.
        message: Message,
    },
    /// Somebody said something, in whichever zone.
    Message {
        /// What was said.
        message: Message,
    },
    /// Somebody gave the room a file, in whichever zone.
    File {
        /// Which.
        file: SharedFile,
    },
    /// The participant's own message was accepted.
    Said {
        /// The nonce it was sent with.
        nonce: String,
        /// The id it has now.
        id: String,
        /// Where it is on disk.
        #[serde(default)]
        saved: Saved,
    },
    /// A message that was on this relay's disk only is on another one too.
    Saved {
        /// The message.
        id: String,
    },
    /// Participants in the room at this relay changed.
    Presence {
        /// How many there are.
        present: u32,
    },
    /// The live streams of the mesh changed.
    Streams {
        /// All of them, as `GET /api/v1/streams` gives them.
        streams: Vec<Stream>,
    },
    /// A message of the participant was not accepted.
    Refused {
        /// The nonce of what was refused, where it could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nonce: Option<String>,
        /// Why, in a sentence.
        reason: String,
        /// If it was said too fast: in how many milliseconds to say it again, with the same nonce.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}
