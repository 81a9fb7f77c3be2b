//! The only reader of time in this crate: the monotonic and the wall clock, waiting, and a pace
//! without drift. Whoever needs to know the time gets it from here or as an argument.

use std::time::{Duration, Instant};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this file is the crate's clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970 by the wall clock: what two processes on one machine can compare.
#[expect(clippy::disallowed_methods, reason = "this file is the crate's clock")]
pub fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Waits.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits until an instant; returns at once when it has passed.
pub async fn sleep_until(instant: Instant) {
    tokio::time::sleep_until(instant.into()).await;
}

/// Beats at a fixed interval from a start: every beat is computed from the start, so that a late
/// wake-up never delays the ones after it.
#[derive(Debug, Clone)]
pub struct Pace {
    start: Instant,
    interval: Duration,
    beat: u32,
}

impl Pace {
    /// A pace whose first beat is at `start`.
    pub fn new(interval: Duration, start: Instant) -> Self {
        Pace { start, interval, beat: 0 }
    }

    /// When the next beat is due.
    pub fn due(&self) -> Instant {
        self.start + self.interval * self.beat
    }

    /// Counts a beat as done.
    pub fn advance(&mut self) {
        self.beat += 1;
        // `interval * beat` must not overflow however long it runs: start anew on an exact beat.
        if self.beat == u32::MAX / 2 {
            self.start = self.due();
            self.beat = 0;
        }
    }

    /// Beats that are over by `now` beyond `slack`, which are then skipped: 0 when in time.
    pub fn skip_missed(&mut self, slack: Duration, now: Instant) -> u32 {
        let late = now.saturating_duration_since(self.due());
        if late <= slack {
            return 0;
        }
        let missed = u32::try_from(late.as_nanos() / self.interval.as_nanos()).unwrap_or(u32::MAX / 4);
        (0..missed).for_each(|_| self.advance());
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    #[test]
    fn beats_keep_to_the_start_whatever_the_wake_ups() {
        let start = now();
        let mut pace = Pace::new(FRAME, start);
        (0..5000).for_each(|_| pace.advance());
        assert_eq!(pace.due(), start + Duration::from_secs(100));
    }

    #[test]
    fn a_stall_skips_whole_beats_and_stays_on_the_grid() {
        let start = now();
        let mut pace = Pace::new(FRAME, start);
        assert_eq!(pace.skip_missed(FRAME * 5, start + FRAME * 5), 0);
        assert_eq!(pace.skip_missed(FRAME * 5, start + Duration::from_millis(210)), 10);
        assert_eq!(pace.due(), start + FRAME * 10);
    }
}
