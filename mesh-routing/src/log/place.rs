//! Which logs have a place here when there are too many: those that were quiet longest give way, at every relay
//! alike, and what gave way is not fetched again. Announcements have places of their own.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Hlc, NodeId, Topic};

use super::{LogKey, Logs, single::Log};
use crate::error::MeshError;

/// Logs of rooms, of all writers.
pub const LOGS_MAX: usize = 16_384;
/// Logs of rooms of one writer.
pub const LOGS_OF_WRITER_MAX: usize = 1024;
/// Logs of announcements, of all writers: as many as there may be relays.
pub const ANNOUNCEMENTS_MAX: usize = 8192;
/// Logs of announcements of one writer: one for each of its incarnations.
pub const ANNOUNCEMENTS_OF_WRITER_MAX: usize = 16;
/// Logs that gave way and are remembered, so that they are not fetched again.
const GONE_MAX: usize = 4096;
/// The incarnations of one run follow each other; incarnations as far apart as this are of different runs.
const INCARNATIONS: u64 = 1 << 20;
/// A log stays so much longer for each of its first records: one line in each of a thousand rooms takes no place
/// from a room that people spoke in.
const STAYS_FOR_EACH_MS: u64 = 450_000;
/// Records that count for that: two hours in all.
const STAYS_FOR: u64 = 16;

/// How many logs there are.
#[derive(Debug, Default)]
pub(super) struct Counts {
    all: [usize; 2],
    writers: BTreeMap<NodeId, [usize; 2]>,
}

impl Counts {
    pub fn add(&mut self, key: &LogKey) {
        self.all[kind(key)] += 1;
        self.writers.entry(key.writer).or_default()[kind(key)] += 1;
    }

    pub fn remove(&mut self, key: &LogKey) {
        self.all[kind(key)] -= 1;
        if let Some(logs) = self.writers.get_mut(&key.writer) {
            logs[kind(key)] -= 1;
            if *logs == [0, 0] {
                self.writers.remove(&key.writer);
            }
        }
    }

    fn writer_is_full(&self, key: &LogKey) -> bool {
        let most = [ANNOUNCEMENTS_OF_WRITER_MAX, LOGS_OF_WRITER_MAX][kind(key)];
        self.writers.get(&key.writer).is_some_and(|logs| logs[kind(key)] >= most)
    }

    fn is_full(&self, key: &LogKey) -> bool {
        self.all[kind(key)] >= [ANNOUNCEMENTS_MAX, LOGS_MAX][kind(key)]
    }
}

fn kind(key: &LogKey) -> usize {
    usize::from(key.topic != Topic::Announcements)
}

/// Logs that have no place here, and how far they went.
#[derive(Debug, Default)]
pub(super) struct Gone {
    logs: BTreeMap<LogKey, u64>,
    order: VecDeque<LogKey>,
}

impl Gone {
    pub fn insert(&mut self, key: LogKey, highest: u64) {
        if self.logs.insert(key.clone(), highest).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > GONE_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.logs.remove(&oldest));
        }
    }

    pub fn remove(&mut self, key: &LogKey) {
        if self.logs.remove(key).is_some() {
            self.order.retain(|known| known != key);
        }
    }
}

/// What a log is worth: writers that are there come before those that are not, then who wrote last.
type Worth = (bool, bool, u64);

impl Logs {
    /// The log that this run writes about a topic. It is of the incarnation of now or of one before it: the
    /// incarnation is counted up when a log gives way, so that what is said in that room later stands in another log.
    /// A log that the disk lacks a part of is not gone on with. Nor is one of an earlier run: the disk may be an older
    /// one than that run had.
    pub(super) fn own_log(&self, topic: &Topic) -> Option<LogKey> {
        let of = |incarnation| LogKey { topic: topic.clone(), writer: self.own, incarnation };
        let mut own =
            self.logs.range(of(self.incarnation.saturating_sub(INCARNATIONS - 1))..=of(self.incarnation));
        own.rfind(|(_, log)| !log.torn).map(|(key, _)| key.clone())
    }

    /// Whether this run writes, wrote or would come to write this log.
    pub(super) fn is_of_this_run(&self, key: &LogKey) -> bool {
        key.writer == self.own && key.incarnation.abs_diff(self.incarnation) < INCARNATIONS
    }

    /// An own log that gave way. It does not come back: it would be gone on with where others know it to end, and
    /// they may know only a part.
    pub(super) fn let_go(&self, key: &LogKey) -> bool {
        self.is_of_this_run(key) && key.incarnation < self.incarnation && !self.logs.contains_key(key)
    }

    /// Whether a log that goes so far somewhere is to be fetched.
    pub(super) fn wants(&self, key: &LogKey, highest: u64) -> bool {
        !self.let_go(key) && self.gone.logs.get(key).is_none_or(|known| highest > *known)
    }

    /// Begins an own log.
    pub(super) fn begin(&mut self, topic: Topic, hlc: Hlc) -> Result<LogKey, MeshError> {
        let mut key = LogKey { topic, writer: self.own, incarnation: self.incarnation };
        // Others of this relay give way in any case.
        if !self.make_room(&key, (hlc, usize::MAX), &|_| true) {
            return Err(MeshError::Full { what: "log" });
        }
        key.incarnation = self.incarnation;
        Ok(key)
    }

    /// This log is not gone on with: what is written about its topic from now on is in another one.
    pub(super) fn turn_away(&mut self, key: &LogKey) {
        if key.incarnation >= self.incarnation {
            self.incarnation = key.incarnation.wrapping_add(1);
        }
    }

    /// Sees to it that there is room for one more log, whose last record is of `newest`. `false` if all others are
    /// worth more.
    pub(super) fn make_room(
        &mut self,
        key: &LogKey,
        (newest, records): (Hlc, usize),
        known: &dyn Fn(&NodeId) -> bool,
    ) -> bool {
        let own = self.own;
        let worth = |key: &LogKey, newest: Hlc, records: usize| -> Worth {
            let stays = STAYS_FOR_EACH_MS * (records as u64).min(STAYS_FOR);
            (key.writer == own, known(&key.writer), newest.wall().0.saturating_add(stays))
        };
        let mine = worth(key, newest, records);
        for of_writer in [true, false] {
            while if of_writer { self.counts.writer_is_full(key) } else { self.counts.is_full(key) } {
                let others = self.logs.iter().filter(|(other, _)| {
                    kind(other) == kind(key) && (!of_writer || other.writer == key.writer)
                });
                let worths = others.map(|(key, log)| (worth(key, log.newest(), log.len()), key));
                let Some((least, quiet)) = worths.min() else { return false };
                // Of those it wrote itself a relay drops one all the same: what is said now has to be said.
                if least >= mine && !(quiet.writer == own && key.writer == own) {
                    return false;
                }
                let quiet = quiet.clone();
                self.remove(&quiet);
            }
        }
        true
    }

    fn remove(&mut self, key: &LogKey) {
        let Some(log) = self.logs.remove(key) else { return };
        self.bytes -= log.bytes;
        self.from.remove(key);
        self.risen.insert(key.clone());
        self.counts.remove(key);
        self.counters.gave_way += 1;
        if self.is_of_this_run(key) {
            self.turn_away(key);
        } else {
            self.gone.insert(key.clone(), log.highest());
        }
    }

    /// The oldest record of the own log about a topic that is about to be dropped and was not given here before.
    /// Whoever wants to keep what it says appends it again. Of announcements it is also what stands in logs of former
    /// starts, where so many of these came later that the log will give way.
    pub fn poll_lapsing(&mut self, topic: &Topic) -> Option<(LogKey, u64, bytes::Bytes)> {
        let key = self.own_log(topic)?;
        if let Some((number, payload)) = self.logs.get_mut(&key).and_then(Log::lapsing) {
            return Some((key, number, payload));
        }
        if *topic != Topic::Announcements {
            return None;
        }
        let own = self.own;
        // They stand before all others.
        let announcements = self.logs.iter().take_while(|(key, _)| key.topic == Topic::Announcements);
        let of_own = announcements.filter(|(key, _)| key.writer == own);
        let mut by_age: Vec<_> = of_own.map(|(key, log)| (log.newest(), key.clone())).collect();
        by_age.sort();
        let former = by_age.len().saturating_sub(ANNOUNCEMENTS_OF_WRITER_MAX / 2);
        let former = by_age.into_iter().take(former).map(|(_, key)| key);
        former.filter(|other| *other != key).find_map(|other| {
            let (number, payload) = self.logs.get_mut(&other).and_then(Log::next_lapsing)?;
            Some((other, number, payload))
        })
    }
}
