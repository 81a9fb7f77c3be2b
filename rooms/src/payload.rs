//! What the payload of a log record says, in octets: a chat message, a file or a zone token, and what stands beside it.

use bytes::Bytes;
use protocol::Hlc;
use serde::{Deserialize, Serialize};

use crate::{chat::Chat, error::RoomsError, file::File, limits::PAYLOAD_MAX, place::Source};

/// What the payload of a log record says. New kinds are added at the end; a relay that does not know
/// one keeps and forwards the record all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Payload {
    Chat(Chat),
    File(File),
    ZoneToken(String),
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

    /// A message, held to the same rules as a new one.
    pub(crate) fn decode_chat(payload: &[u8]) -> Result<(Chat, Beside), RoomsError> {
        let Some((Payload::Chat(chat), beside)) = Payload::decode(payload) else {
            return Err(RoomsError::Unreadable);
        };
        chat.check().map(|()| (chat, beside))
    }

    /// A file, held to the same rules as a new one; `None` if it is about something else.
    pub(crate) fn decode_file(payload: &[u8]) -> Option<Result<(File, Beside), RoomsError>> {
        let Some((Payload::File(file), beside)) = Payload::decode(payload) else { return None };
        Some(file.check().map(|()| (file, beside)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::tests::chat,
        limits::{NONCE_MAX, TEXT_MAX},
    };

    #[test]
    fn a_payload_reads_back_as_written() {
        let source = Source { address: 7, participant: 300 };
        for beside in [Beside::default(), Beside { source, first: Some(Hlc(9)) }] {
            assert_eq!(Payload::decode_chat(&Payload::Chat(chat()).encode(beside)), Ok((chat(), beside)));
        }
    }

    #[test]
    fn older_releases_and_this_one_read_each_other() {
        let old: Bytes = postcard::to_stdvec(&Payload::Chat(chat())).expect("serializes").into();
        assert_eq!(Payload::decode_chat(&old), Ok((chat(), Beside::default())));
        let source = Source { address: 7, participant: 300 };
        let new = Payload::Chat(chat()).encode(Beside { source, first: Some(Hlc(9)) });
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
            assert!(
                Payload::decode_chat(&Payload::Chat(bad.clone()).encode(Beside::default())).is_err(),
                "{bad:?}"
            );
        }
    }
}
