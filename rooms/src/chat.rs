//! One chat message: what a record of the log carries, its checks and its id. How a room keeps it: `message.rs`.

use bytes::Bytes;
use protocol::{Hlc, Topic, WallTime, ZoneName};
use serde::{Deserialize, Serialize};

use crate::{error::RoomsError, file::File, message::MessageId, shares::Source};

/// Characters of an author.
pub const AUTHOR_MAX: usize = 64;
/// Characters of a text.
pub const TEXT_MAX: usize = 4000;
/// Characters of a nonce.
pub const NONCE_MAX: usize = 64;
/// The largest payload of a record, in bytes: no log takes a longer one.
pub const PAYLOAD_MAX: usize = 16 * 1024;
/// So much longer a payload may become when it is written again: the clock of the first record is in it then.
pub(crate) const RENEWED: usize = 10;
/// What the payload of a log record says. New kinds are added at the end; a relay that does not know
/// one keeps and forwards the record all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    Chat(Chat),
    File(File),
    Paper(String),
}

impl Payload {
    pub(crate) fn encode(self, beside: Beside) -> Bytes {
        let mut bytes = postcard::to_stdvec(&self).expect("strings and numbers always serialize");
        bytes.extend(postcard::to_stdvec(&beside).expect("numbers always serialize"));
        // It is kept for days: without what the growing of it left over.
        bytes.into_boxed_slice().into()
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<(Payload, Beside)> {
        if payload.len() > PAYLOAD_MAX {
            return None;
        }
        let (payload, rest) = postcard::take_from_bytes(payload).ok()?;
        // What releases before this one wrote ends here.
        let beside = postcard::take_from_bytes(rest).map_or_else(|_| Beside::default(), |(beside, _)| beside);
        Some((payload, beside))
    }
}

/// What stands behind a payload: releases that do not know it pass over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// Where it was said.
    pub source: Source,
    /// When it was written first, if this is not the first record of it.
    pub first: Option<Hlc>,
}

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

    pub(crate) fn encode(self, beside: Beside) -> Bytes {
        Payload::Chat(self).encode(beside)
    }

    /// Reads a payload from the log and holds it to the same rules as a new message.
    pub(crate) fn decode(payload: &[u8]) -> Result<(Chat, Beside), RoomsError> {
        let Some((Payload::Chat(chat), beside)) = Payload::decode(payload) else {
            return Err(RoomsError::Unreadable);
        };
        if check_author(&chat.author)? != chat.author {
            return Err(RoomsError::Unreadable);
        }
        check_text(&chat.text)?;
        check_nonce(&chat.nonce)?;
        Ok((chat, beside))
    }
}

/// The author as it is shown: without the invisible characters that let one name pass for another.
pub(crate) fn check_author(author: &str) -> Result<String, RoomsError> {
    let shown: String = author.chars().filter(|c| !is_invisible(*c)).collect();
    let shown = shown.trim();
    if let Some(found) = shown.chars().find(|c| c.is_control()) {
        return Err(RoomsError::Control { field: "author", found });
    }
    match shown.chars().count() {
        0 => Err(RoomsError::author_empty()),
        length if length > AUTHOR_MAX => Err(RoomsError::author_too_long(length)),
        _ => Ok(shown.to_owned()),
    }
}

pub(crate) fn check_text(text: &str) -> Result<(), RoomsError> {
    if let Some(found) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(RoomsError::Control { field: "text", found });
    }
    if text.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
        return Err(RoomsError::text_empty());
    }
    match text.chars().count() {
        length if length > TEXT_MAX => Err(RoomsError::text_too_long(length)),
        _ => Ok(()),
    }
}

pub(crate) fn check_nonce(nonce: &str) -> Result<(), RoomsError> {
    match nonce.chars().count() {
        length if length > NONCE_MAX => Err(RoomsError::nonce_too_long(length)),
        _ => Ok(()),
    }
}

/// Soft hyphen, zero-width characters, and the marks, embeddings, overrides and isolates of
/// bidirectional text (Unicode TR 36 section 2.3).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use protocol::RoomName;

    use super::*;

    fn chat() -> Chat {
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

    #[test]
    fn a_payload_reads_back_as_written() {
        let source = Source { address: 7, participant: 300 };
        for beside in [Beside::default(), Beside { source, first: Some(Hlc(9)) }] {
            assert_eq!(Chat::decode(&chat().encode(beside)), Ok((chat(), beside)));
        }
    }

    #[test]
    fn older_releases_and_this_one_read_each_other() {
        let old: Bytes = postcard::to_stdvec(&Payload::Chat(chat())).expect("serializes").into();
        assert_eq!(Chat::decode(&old), Ok((chat(), Beside::default())));
        let source = Source { address: 7, participant: 300 };
        let new = chat().encode(Beside { source, first: Some(Hlc(9)) });
        assert_eq!(postcard::from_bytes::<Payload>(&new), Ok(Payload::Chat(chat())));
    }

    #[test]
    fn a_record_is_held_to_the_rules_of_a_new_message() {
        for bad in [
            Chat { author: String::new(), ..chat() },
            Chat { author: "A\u{202e}da".into(), ..chat() },
            Chat { text: "x".repeat(TEXT_MAX + 1), ..chat() },
            Chat { text: "bell \u{7}".into(), ..chat() },
            Chat { nonce: "x".repeat(NONCE_MAX + 1), ..chat() },
        ] {
            assert!(Chat::decode(&bad.clone().encode(Beside::default())).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn invisible_characters_leave_the_author_and_stay_in_the_text() {
        assert_eq!(check_author(" \u{200b}A\u{202e}da\u{feff} "), Ok("Ada".to_owned()));
        assert_eq!(check_author("\u{200b}"), Err(RoomsError::author_empty()));
        assert_eq!(check_text("a\u{202e}b\n\tc"), Ok(()));
        assert_eq!(check_text(" \u{200b}\n"), Err(RoomsError::text_empty()));
    }
}
