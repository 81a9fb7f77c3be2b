//! A message as a room keeps it: the payload of its record, which its log holds too, and what is asked of it often.
//! What a payload says is in `chat.rs`.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use protocol::{Hlc, NodeId, Topic, WallTime, ZoneName, api};

use crate::{
    chat::{Beside, Chat, Payload},
    shares::{Author, Party, Source},
};

/// What a message takes in memory besides its payload, in bytes.
const OVERHEAD: usize = 256;

/// The newest record that says a message: the life of its log, and its number.
pub(crate) type Newest = (u64, u64);

/// Of which zone relays are.
pub(crate) type Zones = BTreeMap<NodeId, ZoneName>;

/// The same for everybody who computes it; 32 hexadecimal digits for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(pub [u8; 16]);

impl MessageId {
    pub(crate) fn parse(text: &str) -> Option<MessageId> {
        let mut id = [0; 16];
        // Only as it is written here: an id is compared octet by octet elsewhere.
        let lower = !text.bytes().any(|octet| octet.is_ascii_uppercase());
        (lower && hex::decode_to_slice(text, &mut id).is_ok()).then_some(MessageId(id))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Where a message stands in its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub clock: Hlc,
    pub writer: NodeId,
    pub number: u64,
}

/// A message as the room keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub id: MessageId,
    /// [`Chat::decode`] took it.
    payload: Bytes,
    sent_at: WallTime,
    /// It was written by a clock that is not believed here.
    pub clock_ahead: bool,
    /// The newest record of it by the same writer.
    pub newest: Newest,
    /// Where it was said.
    source: Source,
    author: Author,
}

impl Kept {
    /// `chat` and `beside` are what `payload` says; `sent_at` is what is believed of it.
    pub(crate) fn new(
        topic: &Topic,
        (chat, beside): (&Chat, Beside),
        payload: Bytes,
        (sent_at, clock_ahead): (WallTime, bool),
        newest: Newest,
    ) -> Kept {
        let (id, source, author) = (chat.id(topic), beside.source, Author::new(&chat.author));
        Kept { id, payload, sent_at, clock_ahead, newest, source, author }
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        OVERHEAD + self.payload.len()
    }

    /// Whose it is.
    pub(crate) fn party(&self, writer: NodeId) -> Party {
        Party { writer, source: self.source, author: self.author }
    }

    /// Where it was said; by whom, where that is not known.
    pub(crate) fn place_of_origin(&self, writer: NodeId) -> Party {
        let known = self.source != Source::default();
        Party { writer, source: self.source, author: if known { Author::default() } else { self.author } }
    }

    /// `zone` is the one that the writer is known to be of.
    pub(crate) fn to_api(&self, writer: &NodeId, zone: Option<&ZoneName>) -> api::Message {
        let Some((Payload::Chat(chat), _)) = Payload::decode(&self.payload) else {
            unreachable!("it was read when it came");
        };
        api::Message {
            id: self.id.to_string(),
            author: chat.author,
            text: chat.text,
            zone: zone.unwrap_or(&chat.zone).to_string(),
            zone_unproven: zone.is_none(),
            relay: writer.short(),
            sent_at: self.sent_at.to_string(),
            clock_ahead: self.clock_ahead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = MessageId(*b"0123456789abcdef");
        let text = id.to_string();
        assert_eq!(MessageId::parse(&text), Some(id));
        for other in
            ["", "x", &text[1..], &format!("{text}0"), &text.replace('3', "g"), &format!("{}F", &text[1..])]
        {
            assert_eq!(MessageId::parse(other), None, "{other:?}");
        }
    }
}
