//! What tells messages apart: their ids, where they stand in their room, where they were said, and their newest record.

use std::fmt;

use protocol::{Hlc, NodeId};
use serde::{Deserialize, Serialize};

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
    /// Each start of a writer counts from 1, and clocks that are not believed all count as one time.
    pub incarnation: u64,
}

/// Where a message came from, as the relay that took it tells it: two numbers that say only whether two messages came
/// from one place. 0 is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Stands for the address.
    pub address: u32,
    /// Stands for the participant at that address.
    pub participant: u32,
}

/// Where a record is that says what is known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Who wrote it.
    pub writer: NodeId,
    /// Which incarnation of its writer its log is of.
    pub incarnation: u64,
    /// Its number there.
    pub number: u64,
}

/// The newest record that says a message: the incarnation of its log, and its number.
pub(crate) type Newest = (u64, u64);

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
