//! One log: its records from the floor up, and holes where one is lacking. What is beyond its retention goes from the
//! front. What becomes of holes is in `holes.rs`.

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
    /// How many of them are holes.
    holes: usize,
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
    /// `None` for a hole.
    entry: Option<Entry>,
    until: Instant,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.entry.as_ref().map_or(0, |entry| entry.payload.len() + OVERHEAD)
    }
}

impl Log {
    pub fn new(retention: Retention) -> Log {
        Log {
            floor: 0,
            records: VecDeque::new(),
            holes: 0,
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
        self.records
            .iter()
            .rev()
            .find_map(|kept| kept.entry.as_ref())
            .map_or(Hlc::default(), |entry| entry.hlc)
    }

    pub fn push(&mut self, entry: Entry, keep: Duration, now: Instant) {
        self.bytes += entry.payload.len() + OVERHEAD;
        self.records.push_back(Kept { entry: Some(entry), until: now + keep });
        while self.records.len() > 1 && (self.records.len() > self.retention.records || self.fat()) {
            self.drop_oldest();
        }
    }

    pub fn drop_oldest(&mut self) {
        if let Some(gone) = self.records.pop_front() {
            let bytes = gone.bytes();
            self.bytes -= bytes;
            self.floor += 1;
            self.holes -= usize::from(gone.entry.is_none());
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
        self.next_lapsing()
    }

    /// The next record from the front, however much is behind it.
    pub fn next_lapsing(&mut self) -> Option<(u64, bytes::Bytes)> {
        loop {
            let kept = self.records.get(self.lapsing)?;
            self.lapsing += 1;
            self.lapsing_bytes += kept.bytes();
            if let Some(entry) = &kept.entry {
                return Some((self.floor + self.lapsing as u64, entry.payload.clone()));
            }
        }
    }

    /// The next record is lacking.
    pub fn push_hole(&mut self, until: Instant) {
        self.records.push_back(Kept { entry: None, until });
        self.holes += 1;
    }

    /// How many records are lacking.
    pub fn holes(&self) -> usize {
        self.holes
    }

    /// The first record that is lacking.
    pub fn first_hole(&self) -> Option<u64> {
        let hole = (self.holes > 0).then(|| self.records.iter().position(|kept| kept.entry.is_none()))??;
        Some(self.floor + 1 + hole as u64)
    }

    /// Whether this record is lacking.
    pub fn is_hole(&self, number: u64) -> bool {
        self.holes > 0
            && self.at(number).and_then(|at| self.records.get(at)).is_some_and(|kept| kept.entry.is_none())
    }

    /// A record that was lacking.
    pub fn fill(&mut self, number: u64, entry: Entry, until: Instant) {
        let Some(kept) = self.at(number).and_then(|at| self.records.get_mut(at)) else { return };
        if kept.entry.is_none() {
            self.holes -= 1;
            *kept = Kept { entry: Some(entry), until };
            self.bytes += kept.bytes();
            if (number - self.floor) as usize <= self.lapsing {
                self.lapsing_bytes += kept.bytes();
            }
        }
    }

    fn at(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.floor + 1)?).ok()
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
        (self.floor, self.bytes, self.holes) = (floor, 0, 0);
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

    /// Entries after a number, up to the next hole, at most [`TURN`] bytes of them or one, with the number of the first:
    /// a higher one than the next where that is below the floor, or lacking.
    pub fn after(&self, after: u64) -> (u64, Vec<Entry>) {
        let mut first = after.max(self.floor).saturating_add(1).min(self.highest() + 1);
        while self.is_hole(first) {
            first += 1;
        }
        let skip = usize::try_from(first - self.floor - 1).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let fits = bytes == 0 || bytes + entry.payload.len() + OVERHEAD <= TURN;
            bytes += entry.payload.len() + OVERHEAD;
            fits
        };
        let entries = self.records.iter().skip(skip).map_while(|kept| kept.entry.as_ref()).take_while(fits);
        (first, entries.cloned().collect())
    }

    /// A payload that is here, for tests of what was dropped.
    #[cfg(test)]
    pub fn payloads(&self) -> impl Iterator<Item = &bytes::Bytes> {
        self.records.iter().filter_map(|kept| kept.entry.as_ref()).map(|entry| &entry.payload)
    }

    fn fat(&self) -> bool {
        self.bytes > self.retention.bytes
    }
}
