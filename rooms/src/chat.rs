//! One chat message: what a record of the log carries, its checks and its id. How a room keeps it: `message.rs`.

use protocol::{Topic, WallTime, ZoneName};
use serde::{Deserialize, Serialize};

use crate::{
    error::RoomsError,
    place::MessageId,
    text::{check_author, check_nonce, check_text},
};

/// A chat message or an announcement as it is written once, by the relay it was posted to. Where and when it
/// was said is in the record around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chat {
    pub author: String,
    pub text: String,
    pub nonce: String,
    pub zone: ZoneName,
    pub sent_at: WallTime,
}

impl Chat {
    /// The same for everybody who computes it: who sends a message again to another relay sends the same
    /// message.
    pub(crate) fn id(&self, topic: &Topic) -> MessageId {
        let (context, room) = match topic {
            Topic::Room(room) => ("peddlenet relay 2026 chat message id", room.as_str()),
            Topic::Announcements => ("peddlenet relay 2026 announcement id", ""),
            // Nobody says anything about it here.
            Topic::Unknown(_) => ("peddlenet relay 2026 unknown topic id", ""),
        };
        let mut hash = blake3::Hasher::new_derive_key(context);
        for field in [room, &self.author, &self.nonce, &self.text] {
            hash.update(&(field.len() as u64).to_le_bytes());
            hash.update(field.as_bytes());
        }
        let hash = hash.finalize();
        let (id, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 octets");
        MessageId(*id)
    }

    /// Holds a record to the rules of a new message.
    pub(crate) fn check(&self) -> Result<(), RoomsError> {
        if check_author(&self.author)? != self.author {
            return Err(RoomsError::Unreadable);
        }
        check_text(&self.text)?;
        check_nonce(&self.nonce)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use protocol::RoomName;

    use super::*;

    /// Ada says hello.
    pub(crate) fn chat() -> Chat {
        Chat {
            author: "Ada".into(),
            text: "hello".into(),
            nonce: "n".into(),
            zone: ZoneName::new("stage").expect("a name"),
            sent_at: WallTime(5),
        }
    }

    #[test]
    fn the_id_depends_on_room_author_nonce_and_text_only() {
        let lobby = Topic::Room(RoomName::new("lobby").expect("a name"));
        let id = chat().id(&lobby);
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(Chat { sent_at: WallTime(6), ..chat() }.id(&lobby), id);
        assert_ne!(Chat { text: "hello!".into(), ..chat() }.id(&lobby), id);
        assert_ne!(chat().id(&Topic::Announcements), id);
        // lengths are part of the hash: moving a character between fields makes another message
        assert_ne!(Chat { author: "Adan".into(), nonce: "".into(), ..chat() }.id(&lobby), id);
    }
}
