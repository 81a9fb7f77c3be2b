//! Whether a path carries a better rung of a sound, where nothing but sound flows. There is nothing to send more of, so now
//! and then a few packets leave once more right before a new one: on a path that is too narrow the new one comes later by
//! as much as they take. What they leave is a short queue, gone before the next.

use std::time::{Duration, Instant};

/// The trials of one listener.
#[derive(Debug)]
pub struct Trial {
    /// When the next packets leave again.
    due: Instant,
    wait: Duration,
    /// The next one is for a better encoding, else for whatever is next.
    bold: bool,
    /// What it is about, bits per second, and how much later each new packet came.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    need: u64,
    /// The transport-wide number of the new packet, and the bits that left before it.
    waits: Option<(u64, u64)>,
    /// How much later than they may have come, in parts of what they may.
    seen: Vec<f64>,
}

/// What came of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The path carries this, in bits per second.
    Carries(u64),
    /// It does not.
    TooMuch,
}

/// Looks of one trial: a radio delays one of them.
const LOOKS: usize = 3;
/// Between two of them: on a path that is nearly full it takes so long until what the one left has gone.
const BETWEEN: Duration = Duration::from_millis(400);
/// What leaves again takes so long on a path that carries just enough.
const TAKES: Duration = Duration::from_millis(20);
/// Packets that leave again at once.
const MOST: usize = 6;
/// After a trial that found no room, doubled each time, and at most.
const AGAIN: Duration = Duration::from_secs(4);
const AGAIN_MOST: Duration = Duration::from_secs(7);

impl Trial {
    /// None before a while has passed.
    pub fn new(now: Instant) -> Trial {
        Trial { due: now + AGAIN / 2, wait: AGAIN, bold: true, running: None }
    }

    /// Whether to try a better encoding, and not only what is next: every other time, so that a path which carries that is
    /// found soon, and one which carries only what is next is found too.
    pub fn is_bold(&self) -> bool {
        self.bold
    }

    /// How many packets are to leave again right before the next one, to see whether the path carries `need`: each takes so
    /// many bits.
    pub fn poll(&mut self, need: u64, each: u64, now: Instant) -> Option<usize> {
        if now < self.due {
            return None;
        }
        let running = match self.running.take() {
            Some(running) if running.need == need => running,
            _ => Running { need, waits: None, seen: Vec::new() },
        };
        let running = self.running.insert(running);
        if running.waits.is_some() {
            return None;
        }
        let bits = need * TAKES.as_millis() as u64 / 1000;
        Some(bits.div_ceil(each.max(1)).clamp(1, MOST as u64) as usize)
    }

    /// They left, so many bits, and then the packet with this transport-wide number.
    pub fn handle_sent(&mut self, number: u64, bits: u64) {
        if let Some(running) = &mut self.running {
            running.waits = Some((number, bits));
        }
    }

    /// The number of the packet that is waited for.
    pub fn waits(&self) -> Option<u64> {
        self.running.as_ref()?.waits.map(|(number, _)| number)
    }

    /// It came so much later than the ones before; `None`: it was lost. Gives what came of the trial once enough is seen.
    pub fn handle_arrival(&mut self, later: Option<Duration>, now: Instant) -> Option<Outcome> {
        let running = self.running.as_mut()?;
        let (_, bits) = running.waits.take()?;
        let may = bits as f64 / running.need as f64;
        running.seen.push(later.map_or(f64::MAX, |later| later.as_secs_f64() / may));
        self.due = now + BETWEEN;
        let late = running.seen.iter().filter(|late| **late > 1.0).count();
        if late * 2 > LOOKS {
            self.handle_congestion(now);
            return Some(Outcome::TooMuch);
        }
        if running.seen.len() < LOOKS {
            return None;
        }
        let need = running.need;
        *self = Trial::new(now);
        Some(Outcome::Carries(need))
    }

    /// A queue stands, for whatever reason: later.
    pub fn handle_congestion(&mut self, now: Instant) {
        if self.running.take().is_some() {
            self.due = now + self.wait;
            self.wait = (2 * self.wait).min(AGAIN_MOST);
            self.bold = !self.bold;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Tries whether a path of this rate carries `need` for so long; gives what came of each trial, and the longest queue.
    fn tries(rate: u64, need: u64, seconds: u32) -> (Vec<(Outcome, u64)>, Duration) {
        let began = start();
        let (mut trial, mut seen, mut longest) = (Trial::new(began), Vec::new(), Duration::ZERO);
        for tick in 0..seconds * 50 {
            let now = began + Duration::from_millis(20) * tick;
            if let Some(count) = trial.poll(need, 800, now) {
                let bits = count as u64 * 800;
                let later = Duration::from_secs_f64(bits as f64 / rate as f64);
                longest = longest.max(later);
                trial.handle_sent(u64::from(tick), bits);
                assert_eq!(trial.waits(), Some(u64::from(tick)));
                let outcome = trial.handle_arrival(Some(later), now + Duration::from_millis(60));
                seen.extend(outcome.map(|outcome| (outcome, now.duration_since(began).as_secs())));
            }
        }
        (seen, longest)
    }

    #[test]
    fn a_path_that_carries_it_is_seen_to_within_four_seconds() {
        for rate in [110_000, 300_000, 100_000_000] {
            let (seen, _) = tries(rate, 100_000, 4);
            assert!(matches!(seen[..], [(Outcome::Carries(100_000), 2..=3)]), "{rate}: {seen:?}");
        }
    }

    #[test]
    fn one_that_does_not_is_tried_seldom_and_never_filled() {
        for (rate, queue) in [(40_000, 65), (60_000, 45), (90_000, 30)] {
            let (seen, longest) = tries(rate, 100_000, 60);
            assert!(seen.iter().all(|(outcome, _)| *outcome == Outcome::TooMuch), "{rate}: {seen:?}");
            assert!((4..=9).contains(&seen.len()), "{rate}: {seen:?}");
            assert!(longest <= Duration::from_millis(queue), "{rate}: {longest:?}");
        }
    }

    #[test]
    fn what_a_radio_delays_is_no_queue_and_what_is_lost_is_none_that_came() {
        let (mut trial, mut now) = (Trial::new(start()), start() + AGAIN);
        let later = [1, 40, 2].map(|ms| Some(Duration::from_millis(ms)));
        let mut look = |trial: &mut Trial, later| {
            now += BETWEEN * 2;
            assert!(trial.poll(100_000, 800, now).is_some());
            trial.handle_sent(1, 2400);
            assert_eq!(trial.poll(100_000, 800, now), None, "one at a time");
            trial.handle_arrival(later, now)
        };
        let seen = later.map(|later| look(&mut trial, later));
        assert_eq!(seen, [None, None, Some(Outcome::Carries(100_000))]);
        let mut trial = Trial::new(start());
        assert_eq!([None; 2].map(|lost| look(&mut trial, lost)), [None, Some(Outcome::TooMuch)]);
    }
}
