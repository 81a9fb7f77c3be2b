//! What is missing from a publisher's track, and when to ask for it again (generic NACK, RFC 4585).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::rtp;

/// The gaps of one track.
#[derive(Debug, Default)]
pub struct Missing {
    highest: Option<u64>,
    gaps: BTreeMap<u64, Gap>,
    /// NACKs since the last number that was asked for came.
    unanswered: u32,
    /// Numbers up to this one were given up for a new picture.
    given_up: u64,
}

#[derive(Debug)]
struct Gap {
    ask_at: Instant,
    asked: u8,
}

/// A packet overtaken by fewer milliseconds than this is late, not lost.
const REORDERING: Duration = Duration::from_millis(5);
/// The time a repair takes on the links of a festival; asking sooner only doubles the repairs.
const RETRY: Duration = Duration::from_millis(40);
const TRIES: u8 = 8;
/// So many NACKs in vain, and a keyframe is needed.
const UNANSWERED: u32 = 2;
/// A gap longer than this is a restart, not a loss.
const MAX_GAPS: usize = 256;
/// A retransmission of what is older than this is of no use.
const RECENT: u16 = 512;

impl Missing {
    /// A packet came; gives how many numbers it showed to be missing.
    pub fn handle_packet(&mut self, sequence: u16, now: Instant) -> u32 {
        let Some(highest) = self.highest else {
            self.highest = Some((1 << 16) | u64::from(sequence));
            return 0;
        };
        let number = rtp::extend(highest, sequence);
        if number <= highest {
            if self.gaps.remove(&number).is_some_and(|gap| gap.asked > 0) {
                self.unanswered = 0;
            }
            return 0;
        }
        self.highest = Some(number);
        let lost = number - highest - 1;
        if lost as usize > MAX_GAPS {
            self.gaps.clear();
            return lost as u32;
        }
        for gap in highest + 1..number {
            self.gaps.insert(gap, Gap { ask_at: now + REORDERING, asked: 0 });
        }
        while self.gaps.len() > MAX_GAPS {
            self.gaps.pop_first();
        }
        lost as u32
    }

    /// When [`Missing::poll_nack`] has something to ask.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.gaps.values().map(|gap| gap.ask_at).min()
    }

    /// The numbers to ask for now, as the pairs of a generic NACK.
    pub fn poll_nack(&mut self, now: Instant) -> Vec<(u16, u16)> {
        let mut pairs: Vec<(u64, u16)> = Vec::new();
        self.gaps.retain(|_, gap| gap.asked < TRIES || gap.ask_at > now);
        for (&number, gap) in self.gaps.iter_mut().filter(|(_, gap)| gap.ask_at <= now) {
            gap.asked += 1;
            gap.ask_at = now + RETRY;
            match pairs.last_mut() {
                Some((first, following)) if number - *first <= 16 => *following |= 1 << (number - *first - 1),
                _ => pairs.push((number, 0)),
            }
        }
        self.unanswered += u32::from(!pairs.is_empty());
        pairs.into_iter().map(|(first, following)| (first as u16, following)).collect()
    }

    /// True if NACKs are of no use: two of them were not answered, and the answer to the second is overdue. True once
    /// for what is missing now. For before [`Missing::poll_nack`].
    pub fn poll_unanswered(&mut self, now: Instant) -> bool {
        let overdue = |gap: &Gap| gap.ask_at <= now && u32::from(gap.asked) >= UNANSWERED;
        let given_up = self.unanswered >= UNANSWERED
            && self.gaps.range(self.given_up + 1..).any(|(_, gap)| overdue(gap));
        if given_up {
            (self.unanswered, self.given_up) = (0, self.highest.unwrap_or_default());
        }
        given_up
    }

    /// True if this number was jumped over and has not come.
    pub fn misses(&self, sequence: u16) -> bool {
        self.highest.is_some_and(|highest| self.gaps.contains_key(&rtp::extend(highest, sequence)))
    }

    /// True if it is one of the last numbers seen or jumped over.
    pub fn is_recent(&self, sequence: u16) -> bool {
        self.highest.is_some_and(|highest| (highest as u16).wrapping_sub(sequence) < RECENT)
    }

    /// The highest number seen, extended to 32 bits as a receiver report wants it.
    pub fn highest(&self) -> u32 {
        self.highest.unwrap_or_default() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_gap_is_asked_for_after_a_moment_and_again_until_it_comes() {
        let now = start();
        let mut missing = Missing::default();
        missing.handle_packet(65_534, now);
        assert_eq!(missing.handle_packet(2, now), 3);
        assert_eq!(missing.poll_nack(now), [], "perhaps only overtaken");
        let now = now + REORDERING;
        assert_eq!(missing.poll_nack(now), [(65_535, 0b11)]);
        assert_eq!(missing.poll_nack(now), []);
        missing.handle_packet(0, now);
        assert_eq!(missing.poll_nack(now + RETRY), [(65_535, 0b10)]);
        missing.handle_packet(65_535, now);
        missing.handle_packet(1, now);
        assert_eq!(missing.poll_timeout(), None);
    }

    #[test]
    fn a_packet_that_never_comes_is_given_up() {
        let mut now = start();
        let mut missing = Missing::default();
        missing.handle_packet(1, now);
        missing.handle_packet(3, now);
        let mut asked = 0;
        for _ in 0..100 {
            now += RETRY;
            asked += missing.poll_nack(now).len();
        }
        assert_eq!(asked, usize::from(TRIES));
        assert_eq!(missing.poll_timeout(), None);
    }

    #[test]
    fn two_nacks_in_vain_are_told_once_and_one_that_is_answered_is_not() {
        for answers in [false, true] {
            let mut now = start();
            let mut missing = Missing::default();
            missing.handle_packet(1, now);
            missing.handle_packet(4, now);
            let mut told = Vec::new();
            for ask in 0..10 {
                now += RETRY;
                if missing.poll_unanswered(now) {
                    told.push(ask);
                }
                missing.poll_nack(now);
                if answers && ask == 1 {
                    missing.handle_packet(2, now);
                    missing.handle_packet(3, now);
                }
            }
            let expected: &[i32] = if answers { &[] } else { &[2] };
            assert_eq!(told, expected, "a NACK is answered: {answers}");
            missing.handle_packet(6, now);
            let again = (0..4).filter(|_| {
                now += RETRY;
                let told = missing.poll_unanswered(now);
                missing.poll_nack(now);
                told
            });
            assert_eq!(again.count(), 1, "a new gap");
        }
    }

    #[test]
    fn a_restart_is_not_a_loss_to_repair() {
        let now = start();
        let mut missing = Missing::default();
        missing.handle_packet(1, now);
        missing.handle_packet(2000, now);
        assert_eq!(missing.poll_timeout(), None);
    }
}
