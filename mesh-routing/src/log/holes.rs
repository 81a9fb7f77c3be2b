//! Records that are lacking in the middle of a log: the disk had damaged them, or a neighbor brought something else in
//! their place. What is behind one is kept and passed on. Each neighbor that has the log is asked for it once.

use std::time::Instant;

use super::{LogKey, Logs, retention::STAYS, single::Log};
use crate::wire::{
    log_entry::{Entry, LogEntry},
    message::Head,
    metric::LinkId,
    signature::Keys,
};

/// Holes of one log, at most. Where more is lacking, what is behind it is fetched again.
pub(super) const HOLES_MAX: u64 = 64;

impl Logs {
    /// A record on the disk is not what was written there.
    pub fn handle_damaged(&mut self, key: LogKey, number: u64) {
        let lowest = self.damaged.entry(key).or_insert(number);
        *lowest = number.min(*lowest);
    }

    /// Whether what lacks between the end of a log and a number can be left open.
    pub(super) fn may_lack(&self, key: &LogKey, number: u64) -> bool {
        let log = self.logs.get(key);
        let (highest, holes) = log.map_or((0, 0), |log| (log.highest(), log.holes() as u64));
        number.saturating_sub(highest + 1) + holes <= HOLES_MAX
    }

    /// Leaves open what lacks between the end of a log and a number.
    pub(super) fn leave_open(&mut self, key: &LogKey, number: u64, now: Instant) {
        self.change(key, |log| {
            while log.highest() + 1 < number {
                log.push_hole(now + STAYS);
            }
        });
    }

    /// A neighbor has the log: it is asked for what is lacking, once on each link.
    pub(super) fn ask_for_holes(&mut self, link: LinkId, head: &Head, due: Instant) {
        let hole = self.logs.get(&head.key).and_then(Log::first_hole);
        let has = hole.is_some_and(|hole| head.floor < hole && hole <= head.highest);
        if has && !self.asked.contains_key(&(head.key.clone(), link)) {
            self.asked.insert((head.key.clone(), link), true);
            // As if it had more: what comes from others does not end this.
            self.pulls.offer(&head.key, link, head.highest + 1, due);
        }
    }

    /// Others than who brought something else in its place are asked for what is lacking.
    pub fn ask_others(&mut self, key: &LogKey, links: impl Iterator<Item = LinkId>, now: Instant) {
        let highest = self.highest(key);
        for link in links {
            self.ask_for_holes(link, &Head { key: key.clone(), floor: 0, highest }, now);
        }
    }

    /// After which record a log is asked for on that link.
    pub(super) fn lacks_after(&self, key: &LogKey, link: LinkId) -> u64 {
        let asks = self.asked.get(&(key.clone(), link)) == Some(&true);
        let hole = self.logs.get(key).filter(|_| asks).and_then(Log::first_hole);
        hole.map_or_else(|| self.highest(key), |hole| hole - 1)
    }

    /// Fills what is lacking with what came; says what was filled, and what of it its writer did not sign.
    pub(super) fn fill(
        &mut self,
        (key, link): (&LogKey, LinkId),
        (first, entries): (u64, &[Entry]),
        (answers, keys): (bool, &dyn Keys),
        now: Instant,
    ) -> (Vec<LogEntry>, Vec<u64>) {
        let (mut filled, mut bad) = (Vec::new(), Vec::new());
        for (number, entry) in (first..).zip(entries) {
            if !self.logs.get(key).is_some_and(|log| log.is_hole(number)) {
                continue;
            }
            if !entry.verify(keys, key, number) {
                bad.push(number);
                continue;
            }
            self.observe(entry.hlc, now);
            let until = now + self.keep(entry, &key.topic, now);
            self.change(key, |log| log.fill(number, entry.clone(), until));
            filled.push(LogEntry { key: key.clone(), number, entry: entry.clone() });
        }
        let hole = self.logs.get(key).and_then(Log::first_hole);
        if hole.is_none() {
            self.asked.retain(|(log, _), _| log != key);
        } else if answers && let Some(asks) = self.asked.get_mut(&(key.clone(), link)) {
            // As long as it helps.
            *asks = *asks && !filled.is_empty();
            if *asks {
                let highest = self.highest(key);
                self.pulls.offer(key, link, highest + 1, now);
            }
        }
        (filled, bad)
    }
}

#[cfg(test)]
#[path = "holes_tests.rs"]
mod tests;
