//! One log: its records from the floor up. What is beyond its retention goes from the front.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use protocol::Hlc;

use super::retention::{OVERHEAD, Retention};
use crate::wire::log_entry::Entry;

/// A floor is reported when it has risen by so many records: the disk need not follow each of them.
const REPORT_EVERY: u64 = 64;
/// Bytes in the answer to one pull.
pub const TURN: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Log {
    /// Numbers up to this one are gone.
    pub floor: u64,
    records: VecDeque<Kept>,
    pub bytes: usize,
    retention: Retention,
    /// The floor that was reported last.
    reported: u64,
    /// Records from the front that [`Log::lapsing`] gave, and their bytes.
    lapsing: usize,
    lapsing_bytes: usize,
    /// Numbers up to this one are on this relay's disk.
    pub stored: u64,
    /// Numbers up to this one are on the disk of another relay than the writer's, as far as told.
    pub elsewhere: u64,
    /// This relay's disk lacks a record: what follows it is not told to be there.
    pub torn: bool,
    /// It will never have it: what follows does not go there either.
    pub gap: bool,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    until: Instant,
}

impl Log {
    pub fn new(retention: Retention) -> Log {
        Log {
            floor: 0,
            records: VecDeque::new(),
            bytes: 0,
            retention,
            reported: 0,
            lapsing: 0,
            lapsing_bytes: 0,
            stored: 0,
            elsewhere: 0,
            torn: false,
            gap: false,
        }
    }

    pub fn highest(&self) -> u64 {
        self.floor + self.records.len() as u64
    }

    /// Records that are kept.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// When the last record was written.
    pub fn newest(&self) -> Hlc {
        self.records.back().map_or(Hlc::default(), |kept| kept.entry.hlc)
    }

    pub fn push(&mut self, entry: Entry, keep: Duration, now: Instant) {
        self.bytes += entry.payload.len() + OVERHEAD;
        self.records.push_back(Kept { entry, until: now + keep });
        while self.records.len() > 1 && (self.records.len() > self.retention.records || self.fat()) {
            self.drop_oldest();
        }
    }

    pub fn drop_oldest(&mut self) {
        if let Some(gone) = self.records.pop_front() {
            let bytes = gone.entry.payload.len() + OVERHEAD;
            self.bytes -= bytes;
            self.floor += 1;
            if self.lapsing > 0 {
                self.lapsing -= 1;
                self.lapsing_bytes -= bytes;
            }
        }
    }

    /// The next record from the front, if what is behind it fills nine tenths of what may be kept.
    pub fn lapsing(&mut self) -> Option<(u64, bytes::Bytes)> {
        let (records, bytes) = (self.records.len() - self.lapsing, self.bytes - self.lapsing_bytes);
        let most = &self.retention;
        if records <= most.records - most.records / 10 && bytes <= most.bytes - most.bytes / 10 {
            return None;
        }
        let kept = self.records.get(self.lapsing)?;
        self.lapsing += 1;
        self.lapsing_bytes += kept.entry.payload.len() + OVERHEAD;
        Some((self.floor + self.lapsing as u64, kept.entry.payload.clone()))
    }

    /// Drops what is too old, but never the last record.
    pub fn expire(&mut self, now: Instant) {
        while self.records.len() > 1 && self.records.front().is_some_and(|kept| kept.until <= now) {
            self.drop_oldest();
        }
    }

    /// Starts over above `floor`.
    pub fn jump(&mut self, floor: u64) {
        self.records.clear();
        (self.floor, self.bytes) = (floor, 0);
        (self.lapsing, self.lapsing_bytes) = (0, 0);
    }

    /// The floor, if it rose enough since it was reported.
    pub fn risen(&self) -> bool {
        self.floor >= self.reported + REPORT_EVERY
    }

    pub fn report(&mut self) -> u64 {
        self.reported = self.floor;
        self.floor
    }

    /// Entries after a number, at most [`TURN`] bytes of them or one, with the number of the first.
    pub fn after(&self, after: u64) -> (u64, Vec<Entry>) {
        let first = after.max(self.floor).saturating_add(1).min(self.highest() + 1);
        let skip = usize::try_from(first - self.floor - 1).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let fits = bytes == 0 || bytes + entry.payload.len() + OVERHEAD <= TURN;
            bytes += entry.payload.len() + OVERHEAD;
            fits
        };
        let entries = self.records.iter().skip(skip).map(|kept| &kept.entry).take_while(fits);
        (first, entries.cloned().collect())
    }

    /// A payload that is here, for tests of what was dropped.
    #[cfg(test)]
    pub fn payloads(&self) -> impl Iterator<Item = &bytes::Bytes> {
        self.records.iter().map(|kept| &kept.entry.payload)
    }

    fn fat(&self) -> bool {
        self.bytes > self.retention.bytes
    }
}
