//! What becomes of an own record that the disk refused. Its number would be given again after a restart, so nobody may
//! see it under that one: what it says goes into a log whose name is lost with this run of the relay.

use protocol::NodeId;

use super::{LogEntry, LogKey, Logs, place::LIVES};
use crate::wire::{
    log_entry::Entry,
    message::Message,
    signature::first_word,
};

/// A record and all after it in its log: they were never seen outside of this relay, and will not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    pub key: LogKey,
    pub from: u64,
}

impl Withdrawn {
    /// Whether it is one of these.
    pub fn is(&self, record: &LogEntry) -> bool {
        record.key == self.key && record.number >= self.from
    }

    /// Whether a message shows one of them.
    pub fn is_in(&self, message: &[u8]) -> bool {
        let Ok(Message::Append { key, first, entries, .. }) = Message::decode(message) else { return false };
        key == self.key && first.saturating_add(entries.len() as u64) > self.from
    }
}

impl Logs {
    /// The disk lacks a record: what follows it in its log is not told to be there. If the record is an own one, what
    /// this relay writes from now on is in other logs. Gives what has to be withdrawn, with what it says.
    pub fn handle_refused(&mut self, record: &LogEntry) -> Option<(Withdrawn, Vec<Entry>)> {
        if let Some(log) = self.logs.get_mut(&record.key) {
            log.torn = true;
        }
        if record.key.writer != self.own {
            return None;
        }
        if self.volatile && self.is_own(&record.key) {
            // After a restart nobody writes in this log: its numbers are safe.
            self.life += 1;
            return None;
        }
        if !self.volatile {
            self.volatile = true;
            self.life = self.volatile_life();
        }
        let Withdrawn { key, from } = Withdrawn { key: record.key.clone(), from: record.number };
        let mut entries = vec![record.entry.clone()];
        if self.logs.contains_key(&key) {
            let behind = self.change(&key, |log| log.cut(from));
            entries.extend(behind.into_iter().filter(|(number, _)| *number > from).map(|(_, entry)| entry));
        }
        Some((Withdrawn { key, from }, entries))
    }

    /// The first of a row of lives that no other run of this relay has.
    fn volatile_life(&self) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("peddlenet relay 2026 lives of a run");
        for part in [self.seed, self.life, self.clock.0] {
            hasher.update(&part.to_be_bytes());
        }
        first_word(&hasher) & !(LIVES - 1)
    }

    /// Whether this relay wrote a record in a log that the disk lacks a part of.
    pub fn is_torn(&self, key: &LogKey, writer: &NodeId) -> bool {
        key.writer == *writer && self.logs.get(key).is_some_and(|log| log.torn)
    }
}
