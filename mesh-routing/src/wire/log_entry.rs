//! One record of a log: which log, its place in it, what it says, and its writer's signature under all of
//! that. What a payload means is nobody's business here.

use bytes::Bytes;
use protocol::{Hlc, NodeId, Topic};
use serde::{Deserialize, Serialize};

use crate::wire::signature::{self, Keys, Signature};

/// No payload is longer, in bytes.
pub const PAYLOAD_MAX: usize = 16 * 1024;

/// Which log: a relay writes one for each topic. Ordered by topic first, announcements before chat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogKey {
    /// What it is about.
    pub topic: Topic,
    /// The relay that writes it.
    pub writer: NodeId,
    /// Which incarnation of the writer's disk: a relay that lost its disk numbers anew in a log of its own, so no
    /// number ever means two records.
    pub incarnation: u64,
}

/// A record in its log, as it crosses a link and lies in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written, by the writer's clock and all that the writer had seen.
    pub hlc: Hlc,
    /// At most [`PAYLOAD_MAX`] bytes, opaque.
    pub payload: Bytes,
    /// The writer's.
    pub signature: Signature,
}

/// A record by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its log.
    pub key: LogKey,
    /// Counts from 1 without gaps.
    pub number: u64,
    /// What is there.
    pub entry: Entry,
}

impl LogEntry {
    /// A record with the writer's signature.
    pub fn sign(keys: &dyn Keys, key: LogKey, number: u64, hlc: Hlc, payload: Bytes) -> LogEntry {
        let signature = Signature::sign(keys, signature::LOG, &signed(&key, number, hlc, &payload));
        LogEntry { key, number, entry: Entry { hlc, payload, signature } }
    }

    /// Whether the writer signed it.
    pub fn verify(&self, keys: &dyn Keys) -> bool {
        self.entry.verify(keys, &self.key, self.number)
    }
}

impl Entry {
    pub(crate) fn verify(&self, keys: &dyn Keys, key: &LogKey, number: u64) -> bool {
        let body = signed(key, number, self.hlc, &self.payload);
        self.signature.verify(keys, &key.writer, signature::LOG, &body)
    }
}

/// The bytes under a signature: all of the record, but not the way it travelled.
fn signed(key: &LogKey, number: u64, hlc: Hlc, payload: &[u8]) -> Vec<u8> {
    postcard::to_stdvec(&(key, number, hlc, payload)).expect("names and numbers always serialize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sim::node, wire::signature::SimulatedKeys};

    #[test]
    fn a_signature_holds_for_one_place_and_one_payload() {
        let keys = SimulatedKeys(node(1));
        let key = LogKey { topic: Topic::Announcements, writer: node(1), incarnation: 7 };
        let good = LogEntry::sign(&keys, key, 3, Hlc(5), Bytes::from_static(b"hello"));
        assert!(good.verify(&keys));
        let change = |what: &dyn Fn(&mut LogEntry)| {
            let mut record = good.clone();
            what(&mut record);
            record.verify(&keys)
        };
        assert!(!change(&|r| r.number = 4));
        assert!(!change(&|r| r.key.incarnation = 8));
        assert!(!change(&|r| r.key.writer = node(2)));
        assert!(!change(&|r| r.entry.hlc = Hlc(6)));
        assert!(!change(&|r| r.entry.payload = Bytes::from_static(b"hullo")));
    }
}
