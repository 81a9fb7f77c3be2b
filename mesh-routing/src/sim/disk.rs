//! A relay's disk: it takes its time, refuses writes, is full, forgets at a power cut what it had not written, and comes
//! back older when somebody puts a copy back. It writes as the store of `relay-node` does: what waits is committed
//! together, what was refused is owed, and answers come in order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Sim, event::Event, random::Random};
use crate::{LogEntry, LogKey, NotStored};

/// How long after a failed write the next one is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// What a disk does. The default is a disk that writes at once and always.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskQuality {
    /// A write takes so long, in microseconds. 0: all of it is there at once, and nothing ever fails.
    pub delay_us: u64,
    /// At most so much more, in microseconds.
    pub jitter_us: u64,
    /// Share of the writes that fail, 0 to 1.
    pub failing: f64,
    /// Records that its relay gives it at a time; those beyond are never written. 0: as many as a relay of today.
    pub room: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Job {
    Append(LogEntry),
    Forget(LogKey, u64),
}

/// What is on a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    rows: Vec<LogEntry>,
    /// Rows in which a bit flipped.
    damaged: BTreeSet<(LogKey, u64)>,
    /// Counts the starts of the relay.
    pub boot: u64,
}

/// A disk and what is on its way to it.
#[derive(Debug)]
pub(super) struct Disk {
    pub quality: DiskQuality,
    pub full: bool,
    pub written: Written,
    snapshot: Option<Written>,
    waiting: VecDeque<Job>,
    writing: Option<Vec<Job>>,
    /// Refused, and written when the disk takes it.
    owed: Vec<Job>,
    failed: Option<Instant>,
    answers: VecDeque<Result<(), NotStored>>,
    /// Counts power cuts: what was to happen before is void.
    run: u32,
    random: Random,
}

impl Disk {
    pub fn new(random: Random) -> Disk {
        Disk {
            quality: DiskQuality::default(),
            full: false,
            written: Written::default(),
            snapshot: None,
            waiting: VecDeque::new(),
            writing: None,
            owed: Vec::new(),
            failed: None,
            answers: VecDeque::new(),
            run: 0,
            random,
        }
    }

    pub fn is_instant(&self) -> bool {
        self.quality.delay_us == 0
    }

    /// Writes at once, or takes it to be written. Says whether it is written.
    pub fn handle_job(&mut self, job: Job) -> bool {
        if self.is_instant() {
            self.written.take(job);
            return true;
        }
        self.waiting.push_back(job);
        false
    }

    /// Begins to write what waits, if there is something and nothing is being written. Says when that is done.
    fn begin(&mut self, now: Instant) -> Option<Instant> {
        if self.writing.is_some() || self.waiting.is_empty() && self.owed.is_empty() {
            return None;
        }
        let wait = match self.failed {
            Some(failed) if self.waiting.is_empty() => (failed + AGAIN).saturating_duration_since(now),
            _ => Duration::ZERO,
        };
        self.writing = Some(self.waiting.drain(..).collect());
        let takes = self.quality.delay_us + self.random.below(self.quality.jitter_us + 1);
        Some(now + wait + Duration::from_micros(takes))
    }

    fn done(&mut self, now: Instant) {
        let Some(batch) = self.writing.take() else { return };
        let tried_just_now = self.failed.is_some_and(|failed| now < failed + AGAIN);
        let fails = tried_just_now || self.full || self.random.share() < self.quality.failing;
        for job in &batch {
            match job {
                Job::Append(_) if fails => self.answers.push_back(Err(NotStored::Failed)),
                Job::Append(_) => self.answers.push_back(Ok(())),
                Job::Forget(..) => {}
            }
        }
        self.owed.extend(batch);
        if fails {
            self.failed = Some(self.failed.filter(|_| tried_just_now).unwrap_or(now));
        } else {
            self.failed = None;
            self.commit();
        }
    }

    fn commit(&mut self) {
        for job in std::mem::take(&mut self.owed) {
            self.written.take(job);
        }
    }

    /// The power is gone. What was being written is there or not, all of it together; nobody was told either way.
    pub fn handle_crash(&mut self) {
        let batch = self.writing.take().unwrap_or_default();
        let failing = self.full || self.failed.is_some();
        if !batch.is_empty() && !failing && self.random.once_in(2) {
            self.owed.extend(batch);
            self.commit();
        }
        self.waiting.clear();
        self.owed.clear();
        self.answers.clear();
        self.failed = None;
        self.run += 1;
    }

    /// A bit flips in one of the records on it. Says in which.
    pub fn handle_damage(&mut self) -> Option<(LogKey, u64)> {
        let rows = &mut self.written.rows;
        if rows.is_empty() {
            return None;
        }
        let row = rows.remove(self.random.below(rows.len() as u64) as usize);
        let place = (row.key, row.number);
        self.written.damaged.insert(place.clone());
        Some(place)
    }

    /// Somebody makes a copy of it.
    pub fn handle_snapshot(&mut self) {
        self.snapshot = Some(self.written.clone());
    }

    /// Somebody puts the copy back, if there is one.
    pub fn handle_put_back(&mut self) {
        if let Some(snapshot) = self.snapshot.clone() {
            self.written = snapshot;
        }
    }

    /// It is another one, with nothing on it.
    pub fn handle_wipe(&mut self) {
        self.written = Written::default();
        self.full = false;
    }

    /// What a start reads: its number and the records.
    pub fn load(&mut self) -> (u64, Vec<LogEntry>) {
        let written = &mut self.written;
        written.boot += 1;
        (written.boot, written.load(self.quality.delay_us == 0))
    }
}

impl Written {
    /// Whether a record is here, or was before it was damaged.
    pub fn has(&self, key: &LogKey, number: u64) -> bool {
        self.rows.iter().any(|row| row.key == *key && row.number == number)
            || self.damaged.contains(&(key.clone(), number))
    }

    /// The records that are here, by log and number.
    pub fn places(&self) -> impl Iterator<Item = (&LogKey, u64)> {
        self.rows.iter().map(|row| (&row.key, row.number))
    }

    /// The records that are damaged.
    pub fn damaged(&self) -> Vec<(LogKey, u64)> {
        self.damaged.iter().cloned().collect()
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Append(record) => {
                let again = self.damaged.remove(&(record.key.clone(), record.number));
                self.rows.push(record);
                if again {
                    self.rows.sort_by(|a, b| (&a.key, a.number).cmp(&(&b.key, b.number)));
                }
            }
            Job::Forget(key, below) => self.rows.retain(|row| row.key != key || row.number >= below),
        }
    }

    /// The rows as they were written, if nothing can have gone wrong; else by log and number, the last that was written
    /// under one number.
    fn load(&self, as_written: bool) -> Vec<LogEntry> {
        if as_written && self.damaged.is_empty() {
            return self.rows.clone();
        }
        let rows: BTreeMap<_, _> = self.rows.iter().map(|row| ((&row.key, row.number), row)).collect();
        rows.into_values().cloned().collect()
    }
}

/// What the driver of a relay was told is on its disk, and what it may not rely on.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    records: BTreeSet<(LogKey, u64)>,
    /// Logs of which a record was refused since the relay started: what follows is behind a gap.
    torn: BTreeSet<LogKey>,
}

impl Acknowledged {
    pub fn note(&mut self, record: &LogEntry, stored: bool) {
        if !stored {
            self.torn.insert(record.key.clone());
        } else if !self.torn.contains(&record.key) {
            self.records.insert((record.key.clone(), record.number));
        }
    }

    pub fn forget(&mut self, key: &LogKey, below: u64) {
        self.records.retain(|(log, number)| log != key || *number >= below);
    }

    /// A record is not there any more.
    pub fn lose(&mut self, key: &LogKey, number: u64) {
        self.records.remove(&(key.clone(), number));
    }

    /// Whether the disk refused a record of this log since the relay started.
    pub fn is_torn(&self, key: &LogKey) -> bool {
        self.torn.contains(key)
    }

    /// What a start has to find is there.
    pub fn check(&mut self, found: &[LogEntry]) {
        self.torn.clear();
        let found: BTreeSet<_> = found.iter().map(|record| (&record.key, record.number)).collect();
        for (key, number) in &self.records {
            assert!(found.contains(&(key, *number)), "record {number} of {key:?} was on disk, and is not");
        }
    }

    /// The disk is another one.
    pub fn clear(&mut self) {
        self.records.clear();
    }
}

impl Sim {
    /// The disk of a relay is another one from now on: slower, worse, or better again.
    pub fn set_disk(&mut self, relay: usize, quality: DiskQuality) {
        self.relays[relay].disk.quality = quality;
    }

    /// The disk of a relay takes nothing more, or does again.
    pub fn fill_disk(&mut self, relay: usize, full: bool) {
        self.relays[relay].disk.full = full;
    }

    /// A bit flips in one of the records on the disk of a relay. It shows at the next start.
    pub fn damage(&mut self, relay: usize) {
        self.relays[relay].damage();
        self.damaged = true;
    }

    /// Somebody copies what is on the disk of a relay.
    pub fn snapshot(&mut self, relay: usize) {
        self.relays[relay].disk.handle_snapshot();
    }

    /// A relay without power gets back the disk as it was copied, if it was.
    pub fn put_back(&mut self, relay: usize) {
        self.relays[relay].put_back();
    }

    /// Lets the disk of a relay write what waits for it.
    pub(super) fn write(&mut self, relay: usize) {
        let disk = &mut self.relays[relay].disk;
        if let Some(at) = disk.begin(self.now) {
            let run = disk.run;
            self.events.push(at, Event::Written { relay: relay as u32, run });
        }
    }

    /// A write is over.
    pub(super) fn written(&mut self, relay: usize, run: u32) {
        if self.relays[relay].disk.run != run {
            return;
        }
        self.relays[relay].disk.done(self.now);
        self.write(relay);
        self.answer(relay);
    }

    /// Hands over what the disk has answered, unless the driver sleeps.
    pub(super) fn answer(&mut self, relay: usize) {
        while !self.relays[relay].sleeps(self.now)
            && let Some(result) = self.relays[relay].disk.answers.pop_front()
        {
            let now = self.now;
            self.with(relay, |mesh| mesh.handle_stored(result, now));
        }
    }
}
