//! What a link is thought to carry. Only a full link tells: what it delivered while its queue stood is what it can. It need
//! not be full all the time: a burst fills it too.
//! That is believed for a while and then forgotten, so that a link that got better is tried again. Probes find out sooner,
//! see `probe.rs`: while they show no more, it stays.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::probe::Seen;

/// For so long the link has to have been full within [`RECENT`], and in two looks at least: a radio that stalls once has a
/// queue as well.
const FULL: Duration = Duration::from_millis(250);
const RECENT: Duration = Duration::from_secs(3);
const FULL_LOOKS: usize = 2;
/// How long it is believed at first, and at most: who tries again and finds it full waits twice as long.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(160));
/// For so long a probe says that it is true. It may take many to get one that chance does not disturb.
const PROBED: Duration = Duration::from_secs(60);
/// A look moves the estimate by one part of so many, or as far as what was delivered if that is less than so many per cent
/// of it: the path is another.
const SLOWNESS: u64 = 4;
const ANOTHER: u64 = 75;

/// Running totals of a connection's congestion control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Bytes acknowledged.
    pub bytes: u64,
    /// Those of them that were while there was more to send and a queue on the path.
    pub full_bytes: u64,
    /// How long that was.
    pub full_time: Duration,
}

/// What was delivered while the link was full, between two looks.
#[derive(Debug, Clone, Copy)]
struct Full {
    at: Instant,
    bytes: u64,
    time: Duration,
}

/// The estimate of one link.
#[derive(Debug)]
pub struct Estimate {
    last: Option<(Delivered, Instant)>,
    /// By age.
    full: VecDeque<Full>,
    bits: Option<u64>,
    /// When it was last full, and for how long that is believed.
    full_at: Option<Instant>,
    believed: Duration,
    /// When a probe last said what the link carries.
    probed_at: Option<Instant>,
}

impl Default for Estimate {
    fn default() -> Estimate {
        Estimate {
            last: None,
            full: VecDeque::new(),
            bits: None,
            full_at: None,
            believed: BELIEVED.0,
            probed_at: None,
        }
    }
}

impl Estimate {
    /// Looks at the totals; says how many bits per second the link is thought to carry, if there is a thought.
    pub fn handle_look(&mut self, total: Delivered, now: Instant) -> Option<u64> {
        let (last, at) = self.last.replace((total, now))?;
        let past = now.saturating_duration_since(at);
        // On a new path quinn counts anew.
        let Some(bytes) = total.bytes.checked_sub(last.bytes).filter(|_| !past.is_zero()) else {
            self.full.clear();
            return self.bits;
        };
        let rate = rate_of(bytes, past);
        let full = Full {
            at: now,
            bytes: total.full_bytes.saturating_sub(last.full_bytes),
            time: total.full_time.saturating_sub(last.full_time),
        };
        if let Some(carried) = self.carried(full, now) {
            self.handle_full(carried, now);
        } else if self.bits.is_some_and(|bits| rate > bits) {
            self.bits = Some(rate);
        } else if self.is_over(now) {
            self.bits = None;
        }
        self.bits
    }

    /// What the link carried while it was full, if it is now, and was for long enough lately.
    fn carried(&mut self, full: Full, now: Instant) -> Option<u64> {
        self.full.retain(|before| now < before.at + RECENT);
        if full.time.is_zero() {
            return None;
        }
        self.full.push_back(full);
        // No more of it than is needed: what was before may have been another path.
        let (mut bytes, mut time) = (0, Duration::ZERO);
        for (looks, full) in (1..).zip(self.full.iter().rev()) {
            (bytes, time) = (bytes + full.bytes, time + full.time);
            if time >= FULL && looks >= FULL_LOOKS {
                return Some(rate_of(bytes, time));
            }
        }
        None
    }

    /// A probe found that the link carries no more, or at least so much.
    pub fn handle_seen(&mut self, seen: Seen, now: Instant) -> Option<u64> {
        self.probed_at = Some(now);
        if let (Some(known), Seen::More(bits)) = (&mut self.bits, seen) {
            *known = bits.max(*known);
        }
        self.bits
    }

    fn is_over(&self, now: Instant) -> bool {
        let is_probed = self.probed_at.is_some_and(|at| now < at + PROBED);
        !is_probed && self.full_at.is_some_and(|full_at| now >= full_at + self.believed)
    }

    fn handle_full(&mut self, rate: u64, now: Instant) {
        if self.bits.is_none() {
            let soon = self.full_at.is_some_and(|full_at| now < full_at + 2 * self.believed);
            self.believed = if soon { (2 * self.believed).min(BELIEVED.1) } else { BELIEVED.0 };
        }
        self.full_at = Some(now);
        self.bits = Some(match self.bits {
            Some(old) if rate >= old / 100 * ANOTHER => old - old / SLOWNESS + rate / SLOWNESS,
            _ => rate,
        });
    }
}

fn rate_of(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 * 8.0 / time.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    /// A link in virtual time that delivers at a rate.
    struct Line {
        estimate: Estimate,
        total: Delivered,
        now: Instant,
    }

    impl Line {
        fn new() -> Line {
            #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
            let now = Instant::now();
            let mut line = Line { estimate: Estimate::default(), total: Delivered::default(), now };
            line.run(0, false, LOOK);
            line
        }

        fn run(&mut self, bits: u64, full: bool, time: Duration) -> Option<u64> {
            let mut told = None;
            for _ in 0..time.as_millis() / LOOK.as_millis() {
                self.now += LOOK;
                self.total.bytes += bits / 8 / 4;
                if full {
                    self.total.full_bytes += bits / 8 / 4 / 5 * 4;
                    self.total.full_time += LOOK / 5 * 4;
                }
                told = self.estimate.handle_look(self.total, self.now);
            }
            told
        }
    }

    fn near(told: Option<u64>, bits: u64) -> bool {
        told.is_some_and(|told| told.abs_diff(bits) <= bits / 50)
    }

    #[test]
    fn a_link_that_was_never_full_is_unknown() {
        assert_eq!(Line::new().run(50_000_000, false, Duration::from_secs(60)), None);
    }

    #[test]
    fn one_burst_says_nothing() {
        let mut line = Line::new();
        for _ in 0..20 {
            assert_eq!(line.run(2_000_000, true, LOOK), None);
            assert_eq!(line.run(2_000_000, false, RECENT), None);
        }
    }

    #[test]
    fn bursts_that_fill_a_link_say_what_it_carries() {
        let mut line = Line::new();
        assert!(near(line.run(5_000_000, true, Duration::from_secs(5)), 5_000_000));
        // It got thin. Pictures fill it for a moment, are shed until the next keyframe, and again.
        for _ in 0..2 {
            line.run(300_000, false, LOOK * 5);
            line.run(1_000_000, true, LOOK);
        }
        assert!(near(line.run(300_000, false, LOOK), 1_000_000), "{:?}", line.estimate.bits);
    }

    #[test]
    fn a_full_link_carries_what_it_delivers() {
        let mut line = Line::new();
        assert!(near(line.run(3_000_000, true, Duration::from_secs(5)), 3_000_000));
        assert!(near(line.run(1_000_000, true, Duration::from_secs(5)), 1_000_000), "it got worse");
    }

    #[test]
    fn more_than_was_thought_is_believed_at_once() {
        let mut line = Line::new();
        line.run(3_000_000, true, Duration::from_secs(5));
        assert!(near(line.run(8_000_000, false, LOOK), 8_000_000));
    }

    #[test]
    fn what_was_thought_is_forgotten_later_each_time_it_proves_true() {
        let mut line = Line::new();
        let mut held = Vec::new();
        for _ in 0..6 {
            assert!(line.run(3_000_000, true, LOOK * 2).is_some());
            let mut looks = 0;
            while line.run(1_000_000, false, LOOK).is_some() {
                looks += 1;
            }
            held.push(looks / 4);
        }
        assert_eq!(held, [9, 19, 39, 79, 159, 159]);
        line.run(1_000_000, false, Duration::from_secs(400));
        line.run(3_000_000, true, LOOK * 2);
        assert_eq!(
            line.run(1_000_000, false, Duration::from_secs(10)),
            None,
            "after a long peace it begins anew"
        );
    }

    #[test]
    fn a_link_that_got_thin_is_believed_as_long_as_it_was_wide() {
        let mut line = Line::new();
        for _ in 0..3 {
            assert!(line.run(5_000_000, true, LOOK * 2).is_some());
            while line.run(1_000_000, false, LOOK).is_some() {}
        }
        line.run(5_000_000, true, LOOK * 2);
        line.run(1_000_000, true, Duration::from_secs(4));
        assert!(line.run(500_000, false, Duration::from_secs(79)).is_some());
        assert_eq!(line.run(500_000, false, Duration::from_secs(2)), None);
    }

    #[test]
    fn while_probes_show_no_more_it_is_not_forgotten() {
        let mut line = Line::new();
        line.run(1_000_000, true, LOOK * 2);
        for _ in 0..60 {
            assert!(near(line.estimate.handle_seen(Seen::Same, line.now), 1_000_000));
            assert!(near(line.run(800_000, false, Duration::from_secs(10)), 1_000_000));
        }
        assert!(line.run(800_000, false, PROBED - Duration::from_secs(10) - LOOK).is_some());
        assert_eq!(line.run(800_000, false, LOOK), None, "nothing answers any more");
        assert_eq!(line.estimate.handle_seen(Seen::Same, line.now), None, "an answer from before");
    }

    #[test]
    fn what_a_probe_found_is_believed() {
        let mut line = Line::new();
        line.run(1_000_000, true, LOOK * 2);
        line.run(500_000, false, Duration::from_secs(9));
        assert_eq!(line.estimate.handle_seen(Seen::More(3_000_000), line.now), Some(3_000_000));
        assert_eq!(line.estimate.handle_seen(Seen::More(2_000_000), line.now), Some(3_000_000));
        assert_eq!(line.run(500_000, false, PROBED - LOOK), Some(3_000_000));
        line.run(1_000_000, true, Duration::from_secs(4));
        assert!(near(line.run(1_000_000, true, LOOK), 1_000_000), "it was wrong");
    }

    #[test]
    fn counters_that_begin_anew_are_no_flood() {
        let mut line = Line::new();
        line.run(3_000_000, true, Duration::from_secs(5));
        line.total = Delivered::default();
        assert!(near(line.estimate.handle_look(line.total, line.now + LOOK), 3_000_000));
    }
}
