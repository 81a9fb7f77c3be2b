//! A message as a room keeps it: the payload of its record, which its log holds too, and what is asked of it often.
//! What a payload says is in `payload.rs`.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{NodeId, Topic, WallTime, ZoneName, api};

use crate::{
    chat::Chat,
    payload::{Beside, Payload},
    place::{MessageId, Newest, Source},
    shares::{Author, Party},
};

/// What a message takes in memory besides its payload, in bytes.
const OVERHEAD: usize = 256;

/// Of which zone relays are.
pub(crate) type Zones = BTreeMap<NodeId, ZoneName>;

/// A message as the room keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub id: MessageId,
    /// [`Payload::decode_chat`] took it.
    payload: Bytes,
    sent_at: WallTime,
    /// It was written by a clock that is not believed here.
    clock_ahead: bool,
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
