//! When a relay says something new of itself: at once after a quiet time, then ever less often.
//! What it says, and to whom, belongs to `flood.rs` and to the border of an area.

use std::time::{Duration, Instant};

/// A relay says the same again after this time: a third of [`crate::wire::lsa::EXPIRY`], so that two may get lost (RFC
/// 2328 has 30 and 60 minutes; here a relay that died without a word should be forgotten sooner).
pub const REFRESH: Duration = Duration::from_secs(5 * 60);
/// The first wait after something was said; it doubles while changes go on, as in RFC 8405.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(200);
/// The first neighbor is not said before others had so long to come up: whoever is switched on meets them together.
pub const FIRST: Duration = Duration::from_millis(50);
/// The longest wait for news of costs: a way that is not the best any more still works.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// The longest wait for a lost or new edge or stream: without it tracks go where nothing comes through.
pub const BACK_OFF_URGENT: Duration = Duration::from_millis(400);

/// Paces the own LSA.
#[derive(Debug)]
pub struct Pace {
    counter: u64,
    last: Option<Instant>,
    wait: Duration,
    dirty: Option<bool>,
    /// Nothing is said before.
    not_before: Option<Instant>,
    /// Until the same is said again: less at first, so that relays that were switched on together do not all
    /// say it again at once.
    refresh: Duration,
    /// The longest wait for urgent news.
    urgent: Duration,
}

/// Where the sequences of a start begin. The high half is the boot counter. If the disk is an older one, another start had
/// that too, and what it said may still be around. So the low half begins anywhere in its lower half: neither start says
/// two things under one sequence, and the one of now goes above the other when it hears of it.
pub(crate) fn first_counter(boot: u64, seed: u64) -> u64 {
    boot << 32 | seed >> 33
}

impl Pace {
    /// The next sequence is the one above `counter`.
    pub fn new(counter: u64) -> Pace {
        Pace {
            counter,
            last: None,
            wait: Duration::ZERO,
            dirty: Some(true),
            not_before: None,
            refresh: REFRESH,
            urgent: BACK_OFF_URGENT,
        }
    }

    /// Says the same again for the first time somewhere within [`REFRESH`], where `seed` says.
    pub fn spread(self, seed: u64) -> Pace {
        let parts = 1 + (seed >> 20) % 1000;
        Pace { refresh: REFRESH * parts as u32 / 1000, ..self }
    }

    /// Urgent news may wait so long.
    pub fn patient(self, urgent: Duration) -> Pace {
        Pace { urgent, ..self }
    }

    /// There is news; `urgent` if routes are wrong without it.
    pub fn handle_news(&mut self, urgent: bool) {
        self.dirty = Some(urgent || self.dirty == Some(true));
    }

    /// There is a neighbor where there was none: others are about to follow.
    pub fn handle_first(&mut self, now: Instant) {
        self.not_before = Some(now + FIRST);
    }

    /// A neighbor has an LSA of this relay from an earlier incarnation: the next one jumps over it.
    pub fn handle_own(&mut self, sequence: u64) {
        self.counter = self.counter.max(sequence);
        self.handle_news(true);
    }

    /// The sequence to say something with, if it is time to.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<u64> {
        if self.poll_timeout().is_some_and(|at| at > now) {
            return None;
        }
        let quiet = self.last.is_none_or(|last| now.saturating_duration_since(last) > self.wait * 2);
        self.wait = if quiet { BACK_OFF_MIN } else { (self.wait * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX) };
        if self.dirty.is_none() {
            self.refresh = REFRESH;
        }
        self.last = Some(now);
        (self.dirty, self.not_before) = (None, None);
        Some(self.advance())
    }

    /// The sequence to say something with that has a pace of its own: what is due here is not delayed by it.
    pub fn advance(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// When it is time to say something: `None` if at once.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wait = match self.dirty {
            None => self.refresh,
            Some(false) => self.wait,
            Some(true) => self.wait.min(self.urgent),
        };
        self.last.map(|last| last + wait).max(self.not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_said_at_once_and_the_next_ones_wait() {
        let start = crate::sim::epoch();
        let mut pace = Pace::new(first_counter(3, 0));
        assert_eq!(pace.handle_timeout(start), Some((3 << 32) + 1));
        pace.handle_news(false);
        assert_eq!(pace.handle_timeout(start), None);
        assert_eq!(pace.poll_timeout(), Some(start + BACK_OFF_MIN));
        assert!(pace.handle_timeout(start + BACK_OFF_MIN).is_some());
        pace.handle_news(false);
        assert_eq!(pace.poll_timeout(), Some(start + BACK_OFF_MIN * 3));
    }

    #[test]
    fn the_first_neighbor_waits_for_others_that_come_with_it() {
        let start = crate::sim::epoch();
        let mut pace = Pace::new(0);
        pace.handle_first(start);
        assert_eq!((pace.handle_timeout(start), pace.poll_timeout()), (None, Some(start + FIRST)));
        assert!(pace.handle_timeout(start + FIRST).is_some());
        pace.handle_news(true);
        assert_eq!(pace.poll_timeout(), Some(start + FIRST + BACK_OFF_MIN));
    }

    #[test]
    fn a_lost_edge_does_not_wait_behind_round_trips() {
        let start = crate::sim::epoch();
        let (mut pace, mut now) = (Pace::new(0), start);
        for _ in 0..8 {
            pace.handle_news(false);
            now = pace.poll_timeout().unwrap_or(now);
            assert!(pace.handle_timeout(now).is_some());
        }
        pace.handle_news(true);
        assert_eq!(pace.poll_timeout(), Some(now + BACK_OFF_URGENT));
    }

    #[test]
    fn an_own_lsa_of_an_earlier_incarnation_is_jumped_over() {
        let mut pace = Pace::new(0);
        pace.handle_own(77);
        assert_eq!(pace.handle_timeout(crate::sim::epoch()), Some(78));
    }
}
