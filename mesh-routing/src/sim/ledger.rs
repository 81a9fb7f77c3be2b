//! What every log is, whoever has it: a number means one record, at every relay and for the whole run. And what leaves a
//! relay: no record of its own that its disk has not taken or refused.

use std::collections::BTreeMap;

use protocol::mesh::Class;

use super::{Relay, Sim};
use crate::{Entry, LogEntry, LogKey, wire::message::Message};

/// Every record that anybody has seen.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<(LogKey, u64), Entry>);

impl Ledger {
    /// Somebody has this record.
    pub fn note(&mut self, record: &LogEntry) {
        let known = self.0.entry((record.key.clone(), record.number)).or_insert_with(|| record.entry.clone());
        assert!(
            *known == record.entry,
            "a number means two records: {} of {:?} is {:?} and {:?}",
            record.number,
            record.key,
            known.payload,
            record.entry.payload
        );
    }
}

impl Sim {
    /// A record came to a relay, or was made there. What was made there nobody has seen yet.
    pub(super) fn arrives(&mut self, relay: usize, record: &LogEntry) {
        if record.key.writer != self.relays[relay].id {
            self.shows(record);
        }
    }

    /// A relay shows a record. Of a writer that does not exist everybody may have another one.
    pub(super) fn shows(&mut self, record: &LogEntry) {
        if self.by_id.contains_key(&record.key.writer) {
            self.ledger.note(record);
        }
    }

    /// A message leaves a relay. With a disk that writes at once there is nothing that it could lose.
    pub(super) fn leaves(&self, relay: usize, class: Class, message: &[u8]) {
        let Relay { id, disk, acknowledged, .. } = &self.relays[relay];
        if disk.is_instant() || !matches!(class, Class::Announcement | Class::Chat) {
            return;
        }
        let Ok(Message::Append { key, first, entries, .. }) = Message::decode(message) else { return };
        if key.writer == *id {
            let last = first + entries.len() as u64;
            assert!(
                entries.is_empty() || disk.written.has(&key, last - 1) || acknowledged.is_torn(&key),
                "record before {last} of {key:?} leaves and may be lost"
            );
        }
    }
}
