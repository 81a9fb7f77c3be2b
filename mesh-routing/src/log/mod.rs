//! Replicated append logs, one per topic and writer, payloads opaque: what is here, and what is taken from a neighbor.
//! How two relays find out what one lacks is in `heads.rs`; how records get around belongs to `replication.rs`.

pub mod durable_order;
mod heads;
mod holes;
#[cfg(test)]
mod log_tests;
mod place;
mod pulls;
mod quota;
pub(crate) mod refusal;
pub(crate) mod replication;
pub mod retention;
#[cfg(test)]
mod sim_tests;
mod single;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{Hlc, NodeId, Topic, WallTime};

pub use crate::wire::log_entry::{Entry, LogEntry, LogKey, PAYLOAD_MAX};
use crate::{
    error::MeshError,
    wire::{
        message::{Message, Pulled},
        metric::LinkId,
        signature::{Keys, first_word},
    },
};
pub use durable_order::NotStored;
use holes::HOLES_MAX;
use place::{Counts, Gone};
pub use place::{LOGS_MAX, LOGS_OF_WRITER_MAX};
use pulls::Pulls;
use quota::Quota;
pub use retention::{OVERHEAD, Retention, TOTAL_MAX};
use single::Log;
pub use single::TURN;

/// A latecomer does not start further ahead than this: no log is so long, and no single lie uses up its numbers.
const JUMP_MAX: u64 = 1 << 40;
/// No number is higher.
const NUMBER_MAX: u64 = u64::MAX >> 1;
/// Bytes that give way at once when there are too many: looking for the largest log costs a walk over all.
const GIVE_WAY: usize = 1 << 20;

/// What was counted about logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Records dropped because their neighbor brings too many; they are asked for later.
    pub log_quota: u64,
    /// Messages of records none of which its writer signed.
    pub forged: u64,
    /// Records that their writer did not sign, among others that it did sign.
    pub bad: u64,
    /// Records written by a clock more than a minute ahead: kept, but no clock here follows them.
    pub ahead: u64,
    /// Pushes that came back to a relay they had passed.
    pub looped: u64,
    /// Logs refused because the table is full of logs that were written later.
    pub full: u64,
    /// Logs that gave way to others.
    pub gave_way: u64,
    /// Pulls sent.
    pub pulled: u64,
    /// Records that this relay wrote, that its disk does not have, and that a neighbor gave back.
    pub returned: u64,
}

/// What came with a [`Message::Append`].
#[derive(Debug)]
pub(crate) struct Arrival {
    pub link: LinkId,
    pub neighbor: NodeId,
    pub key: LogKey,
    pub first: u64,
    pub entries: Vec<Entry>,
    pub pulled: Option<Pulled>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Records that were not here.
    pub new: Vec<LogEntry>,
    /// Records that had been lacking in the middle of the log.
    pub filled: Vec<LogEntry>,
    /// Numbers of records that their writer did not sign.
    pub bad: Vec<u64>,
    /// How many were.
    pub duplicates: u64,
}

impl Taken {
    /// The records that this relay wrote itself and did not have: its disk is older than they are.
    pub fn returned(&self, own: &NodeId) -> impl Iterator<Item = &LogEntry> {
        self.filled.iter().chain(&self.new).filter(|record| record.key.writer == *own)
    }
}

/// The logs of every topic and writer.
#[derive(Debug)]
pub(crate) struct Logs {
    own: NodeId,
    /// The one that own logs begin in. It is of this run alone, whatever is on the disk.
    incarnation: u64,
    logs: BTreeMap<LogKey, Log>,
    counts: Counts,
    /// Logs that were here and gave way, or found no place.
    gone: Gone,
    /// Of all logs.
    bytes: usize,
    /// Logs whose floor has risen enough to be reported.
    risen: BTreeSet<LogKey>,
    clock: Hlc,
    /// The wall clock when it was read last.
    wall: Option<(WallTime, Instant)>,
    pulls: Pulls,
    quotas: BTreeMap<NodeId, Quota>,
    /// Who brought the newest record of a log.
    from: BTreeMap<LogKey, LinkId>,
    /// The first record of a log that the disk had damaged, until the start is over.
    damaged: BTreeMap<LogKey, u64>,
    /// Links that were asked for what is lacking in the middle of a log; whether the next pull there asks for that.
    asked: BTreeMap<(LogKey, LinkId), bool>,
    /// How far a log went on a link that answered with what its writer did not sign: it is not asked for that again.
    refused: BTreeMap<(LogKey, LinkId), u64>,
    pub counters: LogCounters,
}

impl Logs {
    /// None yet. `seed` is a number that no other run of this relay has.
    pub fn new(own: NodeId, seed: u64) -> Logs {
        Logs {
            own,
            incarnation: seed,
            logs: BTreeMap::new(),
            counts: Counts::default(),
            gone: Gone::default(),
            bytes: 0,
            risen: BTreeSet::new(),
            clock: Hlc::default(),
            wall: None,
            pulls: Pulls::default(),
            quotas: BTreeMap::new(),
            from: BTreeMap::new(),
            damaged: BTreeMap::new(),
            asked: BTreeMap::new(),
            refused: BTreeMap::new(),
            counters: LogCounters::default(),
        }
    }

    /// What the wall clock says.
    pub fn handle_wall(&mut self, wall: WallTime, now: Instant) {
        self.wall = Some((wall, now));
    }

    /// Appends to the own log of a topic.
    ///
    /// # Errors
    ///
    /// [`MeshError::Full`] if it would begin a log and there is no place for one.
    pub fn append(
        &mut self,
        topic: Topic,
        payload: Bytes,
        keys: &dyn Keys,
        now: Instant,
    ) -> Result<LogEntry, MeshError> {
        let hlc = self.clock.tick(self.wall_at(now).unwrap_or_default());
        let key = match self.own_log(&topic) {
            Some(key) => key,
            None => self.begin(topic, hlc)?,
        };
        let record = LogEntry::sign(keys, key.clone(), self.highest(&key) + 1, hlc, payload);
        let (entry, keep) = (record.entry.clone(), self.keep(&record.entry, &key.topic, now));
        self.change(&key, |log| log.push(entry, keep, now));
        Ok(record)
    }

    /// Takes a record from disk; the first of a log says where it starts.
    pub fn restore(&mut self, record: LogEntry, now: Instant) {
        let LogEntry { key, number, entry } = record;
        let highest = self.highest(&key);
        let known = number <= highest || number > NUMBER_MAX || entry.payload.len() > PAYLOAD_MAX;
        if known || highest > 0 && !self.may_lack(&key, number) {
            // What is behind too much that is lacking is fetched again.
            return;
        }
        self.observe(entry.hlc, now);
        if self.is_of_this_run(&key) {
            // Another run had the same seed.
            self.begin_another_run();
        }
        let keep = self.keep(&entry, &key.topic, now);
        if highest == 0 {
            let damaged =
                self.damaged.remove(&key).filter(|first| number.saturating_sub(*first) <= HOLES_MAX);
            let floor = damaged.unwrap_or(number).min(number).saturating_sub(1);
            self.change(&key, |log| {
                log.jump(floor);
                // The disk has nothing older, or it was to be forgotten anyway.
                log.report();
            });
        }
        self.leave_open(&key, number, now);
        self.change(&key, |log| {
            log.push(entry, keep, now);
            log.stored = number;
        });
    }

    /// Takes records of a neighbor: only those that go on where the log ends, or, in the answer to a pull,
    /// where everything before them is gone for good. `known` are writers that may not give way to others.
    ///
    /// # Errors
    ///
    /// [`MeshError::Absurd`] for numbers that cannot be, [`MeshError::Forged`] if a signature is wrong,
    /// [`MeshError::Full`] if there is no place for another log.
    pub fn take(
        &mut self,
        arrival: Arrival,
        keys: &dyn Keys,
        known: &dyn Fn(&NodeId) -> bool,
        now: Instant,
    ) -> Result<Taken, MeshError> {
        let Arrival { link, neighbor, key, first, entries, pulled } = arrival;
        let answers = pulled.is_some() && self.pulls.handle_answer(&key, link, now);
        let Some(end) = first.checked_add(entries.len() as u64).filter(|end| first > 0 && *end <= NUMBER_MAX)
        else {
            return Err(MeshError::Absurd { what: "a record number like this" });
        };
        if self.let_go(&key) {
            self.pulls.handle_lie(&key, link, now);
            return Ok(Taken::default());
        }
        let (filled, bad) = self.fill((&key, link), (first, &entries), (answers, keys), now);
        let helped = !filled.is_empty();
        self.counters.bad += bad.len() as u64;
        let mut taken = Taken { filled, bad, ..Taken::default() };
        let highest = self.highest(&key);
        let jump = answers
            && pulled.is_some_and(|pulled| pulled.floor > highest && pulled.floor == first - 1)
            && first - highest <= JUMP_MAX
            && !entries.is_empty();
        // Where so little is lacking the neighbor lacks it too, or has just forgotten it: what is before it stays.
        let over_a_hole = jump && self.may_lack(&key, first);
        let gap = !jump && first > highest + 1;
        if gap || end <= highest + 1 {
            // An answer that brings nothing is a lie: it is not asked for again at once.
            match (answers, gap && !entries.is_empty()) {
                (true, _) if helped => self.pulls.handle_taken(&key, highest, now),
                (true, _) => self.pulls.handle_lie(&key, link, now),
                (false, true) if self.wants(&key, end - 1) => self.pulls.offer(&key, link, end - 1, now),
                (false, true) => {}
                (false, false) => {}
            }
            taken.duplicates =
                if gap { 0 } else { end - first - (taken.filled.len() + taken.bad.len()) as u64 };
            self.counters.returned += taken.returned(&self.own).count() as u64;
            return Ok(taken);
        }
        let quota = self.quotas.entry(neighbor).or_insert_with(|| Quota::new(now));
        if !answers && !quota.open(now) {
            self.counters.log_quota += entries.len() as u64;
            let opens = quota.opens(now);
            self.pulls.offer(&key, link, end - 1, opens);
            return Ok(taken);
        }
        let here = if jump { 0 } else { highest + 1 - first };
        let new = (first..).zip(entries).skip(usize::try_from(here).unwrap_or(usize::MAX));
        let (new, bad): (Vec<_>, Vec<_>) =
            new.partition(|(number, entry): &(u64, Entry)| entry.verify(keys, &key, *number));
        // What is behind too many that lack is fetched again, from somebody else.
        let start = if jump && !over_a_hole { first } else { highest + 1 };
        let holes = self.logs.get(&key).map_or(0, Log::holes) as u64;
        let fits = |(index, (number, _)): &(u64, (u64, Entry))| number - start - index + holes <= HOLES_MAX;
        let new: Vec<_> = (0..).zip(new).take_while(fits).map(|(_, new)| new).collect();
        if new.is_empty() {
            self.counters.forged += 1;
            self.pulls.handle_lie(&key, link, now);
            if answers {
                self.refused.insert((key, link), end - 1);
            }
            return Err(MeshError::Forged);
        }
        self.counters.bad += bad.len() as u64;
        taken.bad.extend(bad.into_iter().map(|(number, _)| number));
        if !self.logs.contains_key(&key)
            && let Some((_, last)) = new.last()
            && !self.make_room(&key, (last.hlc, new.len()), known)
        {
            self.counters.full += 1;
            self.pulls.handle_lie(&key, link, now);
            // Those who have it offer it again and again: it is asked for when somebody writes in it.
            self.gone.insert(key, end - 1);
            return Err(MeshError::Full { what: "log" });
        }
        self.gone.remove(&key);
        if let Some(quota) = self.quotas.get_mut(&neighbor) {
            quota.take(new.len(), now);
        }
        taken.duplicates = here.saturating_sub(taken.filled.len() as u64);
        if self.is_of_this_run(&key) {
            // Signed with this relay's key, and not by this run: somebody copied a machine that was running.
            self.begin_another_run();
        }
        self.take_new(&key, new, (jump && !over_a_hole).then_some(first - 1), &mut taken, now);
        self.from.insert(key.clone(), link);
        self.counters.returned += taken.returned(&self.own).count() as u64;
        let highest = self.highest(&key);
        self.pulls.handle_taken(&key, highest, now);
        if answers && pulled.is_some_and(|pulled| pulled.more) {
            self.pulls.offer(&key, link, highest + 1, now);
        }
        Ok(taken)
    }

    fn take_new(
        &mut self,
        key: &LogKey,
        new: Vec<(u64, Entry)>,
        jump: Option<u64>,
        taken: &mut Taken,
        now: Instant,
    ) {
        for (_, entry) in &new {
            self.observe(entry.hlc, now);
        }
        if let Some(floor) = jump {
            self.change(key, |log| log.jump(floor));
        }
        for (number, entry) in new {
            let keep = self.keep(&entry, &key.topic, now);
            self.leave_open(key, number, now);
            self.change(key, |log| log.push(entry.clone(), keep, now));
            taken.new.push(LogEntry { key: key.clone(), number, entry });
        }
    }

    /// Records of a log are on this relay's disk. Says whether that is news for whoever brought them.
    pub fn handle_stored(&mut self, key: &LogKey, number: u64) -> bool {
        let Some(log) = self.logs.get_mut(key).filter(|log| !log.torn) else { return false };
        let news = number > log.stored.max(log.elsewhere);
        log.stored = log.stored.max(number.min(log.highest()));
        news && key.writer != self.own
    }

    /// Records of a log are on a disk below the neighbor. Says whether that is news.
    pub fn handle_elsewhere(&mut self, key: &LogKey, number: u64) -> bool {
        let Some(log) = self.logs.get_mut(key).filter(|log| number <= log.highest()) else { return false };
        let news = number > log.elsewhere && (key.writer == self.own || number > log.stored);
        log.elsewhere = log.elsewhere.max(number);
        news
    }

    /// Whether a record of an own log is on another disk, as far as told.
    pub fn is_elsewhere(&self, key: &LogKey, number: u64) -> bool {
        self.logs.get(key).is_some_and(|log| number <= log.elsewhere)
    }

    /// How far a log is on a disk other than its writer's, as far as told here, its own disk included.
    pub fn saved(&self, key: &LogKey) -> u64 {
        let saved = |log: &Log| {
            let whole = log.first_hole().map_or(u64::MAX, |hole| hole - 1);
            log.stored.min(whole).max(log.elsewhere)
        };
        self.logs.get(key).map_or(0, saved)
    }

    /// Who brought the newest record of a log.
    pub fn from(&self, key: &LogKey) -> Option<LinkId> {
        self.from.get(key).copied()
    }

    /// The logs a relay wrote.
    pub fn written_by(&self, writer: &NodeId) -> Vec<LogKey> {
        self.logs.keys().filter(|key| key.writer == *writer).cloned().collect()
    }

    /// What to ask for now; `neighbor` says who is at the other end of a link that is alive.
    pub fn poll_pulls(
        &mut self,
        neighbor: impl Fn(LinkId) -> Option<NodeId>,
        now: Instant,
    ) -> Vec<(LinkId, Message)> {
        let quotas = &mut self.quotas;
        let opens = |link| {
            let quota = neighbor(link).and_then(|id| quotas.get_mut(&id))?;
            (!quota.open(now)).then(|| quota.opens(now))
        };
        let asks = self.pulls.next(opens, now);
        self.counters.pulled += asks.len() as u64;
        asks.into_iter()
            .map(|(link, key)| {
                let after = self.lacks_after(&key, link);
                (link, Message::Pull { key, after })
            })
            .collect()
    }

    /// When there is something to ask for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pulls.poll_timeout()
    }

    /// A link is gone or dead: what was asked for there may be asked for elsewhere.
    pub fn forget(&mut self, link: LinkId, now: Instant) {
        self.pulls.forget(link, now);
        self.asked.retain(|(_, asked), _| *asked != link);
        self.refused.retain(|(_, refused), _| *refused != link);
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now: Instant) {
        for (key, log) in &mut self.logs {
            let before = log.bytes;
            log.expire(now);
            self.bytes -= before - log.bytes;
            if log.risen() {
                self.risen.insert(key.clone());
            }
        }
        self.quotas.retain(|_, quota| !quota.full(now));
    }

    /// Logs and their floors, where these rose: what is below may be deleted on disk.
    pub fn poll_floors(&mut self) -> Vec<(LogKey, u64)> {
        let risen = std::mem::take(&mut self.risen);
        let report = |key: LogKey| {
            let floor = self.logs.get_mut(&key).map(Log::report);
            // A log that is gone altogether leaves nothing.
            Some((key, floor.unwrap_or(NUMBER_MAX)))
        };
        risen.into_iter().filter_map(report).collect()
    }

    /// The answer to a pull.
    pub fn answer(&self, key: LogKey, after: u64) -> Message {
        let Some(log) = self.logs.get(&key) else {
            let pulled = Some(Pulled { floor: 0, more: false });
            return Message::Append { key, first: 1, entries: Vec::new(), path: Vec::new(), pulled };
        };
        let (first, entries) = log.after(after);
        let more = first + entries.len() as u64 <= log.highest();
        // What is lacking is passed over as what is gone.
        let floor =
            if first > after.saturating_add(1) && !entries.is_empty() { first - 1 } else { log.floor };
        let pulled = Some(Pulled { floor, more });
        Message::Append { key, first, entries, path: Vec::new(), pulled }
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn highest(&self, key: &LogKey) -> u64 {
        self.logs.get(key).map_or(0, Log::highest)
    }

    fn wall_at(&self, now: Instant) -> Option<WallTime> {
        let (wall, at) = self.wall?;
        let since = u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        Some(WallTime(wall.0.saturating_add(since)))
    }

    /// Follows another's clock, if it can be believed.
    fn observe(&mut self, hlc: Hlc, now: Instant) {
        if let Some(wall) = self.wall_at(now)
            && !self.clock.observe(hlc, wall)
        {
            self.counters.ahead += 1;
        }
    }

    /// For how long a record is kept.
    fn keep(&self, entry: &Entry, topic: &Topic, now: Instant) -> Duration {
        let retention = Retention::of(topic);
        self.wall_at(now).map_or(retention.age, |wall| retention.left(entry.hlc.wall(), wall))
    }

    /// Own logs begin in an incarnation that has nothing to do with the one before.
    fn begin_another_run(&mut self) {
        let mut hasher = blake3::Hasher::new_derive_key("peddlenet relay 2026 next incarnation of a log");
        hasher.update(&self.incarnation.to_be_bytes()).update(&self.clock.0.to_be_bytes());
        self.incarnation = first_word(&hasher);
    }

    /// Does something with one log and keeps the bounds.
    fn change<T>(&mut self, key: &LogKey, what: impl FnOnce(&mut Log) -> T) -> T {
        if !self.logs.contains_key(key) {
            self.counts.add(key);
        }
        let log = self.logs.entry(key.clone()).or_insert_with(|| Log::new(Retention::of(&key.topic)));
        let before = log.bytes;
        let result = what(log);
        self.bytes = self.bytes + log.bytes - before;
        if log.risen() {
            self.risen.insert(key.clone());
        }
        if self.bytes > TOTAL_MAX {
            self.give_way();
        }
        result
    }

    fn give_way(&mut self) {
        while self.bytes > TOTAL_MAX - GIVE_WAY {
            let many = self.logs.iter_mut().filter(|(_, log)| log.len() > 1);
            let chat_first =
                |(key, log): &(&LogKey, &mut Log)| (key.topic != Topic::Announcements, log.bytes);
            let Some((key, log)) = many.max_by_key(chat_first) else { return };
            let before = log.bytes;
            // A small log gives one record, a large one a piece of itself.
            let until = before - before / 8;
            while log.bytes >= until && log.len() > 1 {
                log.drop_oldest();
            }
            self.bytes -= before - log.bytes;
            if log.risen() {
                self.risen.insert(key.clone());
            }
        }
    }
}
