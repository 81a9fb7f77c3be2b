//! How many new records a neighbor may bring: a bucket that fills with time. One neighbor's flood then
//! takes nothing from what the others bring.

use std::time::{Duration, Instant};

/// New records from one neighbor in each second.
pub const PER_SECOND: f64 = 2000.0;
/// New records from one neighbor at once.
pub const BURST: f64 = 10_000.0;

#[derive(Debug)]
pub(crate) struct Quota {
    left: f64,
    at: Instant,
}

impl Quota {
    pub fn new(now: Instant) -> Quota {
        Quota { left: BURST, at: now }
    }

    /// Whether a neighbor may bring anything now.
    pub fn open(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= 1.0
    }

    /// Counts records that were taken. It may go below nothing by what fits in one message.
    pub fn take(&mut self, records: usize, now: Instant) {
        self.fill(now);
        self.left -= records as f64;
    }

    /// When it is open again.
    pub fn opens(&self, now: Instant) -> Instant {
        let short = (1.0 - self.left).max(0.0) / PER_SECOND;
        now + Duration::from_secs_f64(short) + Duration::from_millis(10)
    }

    /// Nothing was taken for so long that it can be forgotten.
    pub fn full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= BURST
    }

    fn fill(&mut self, now: Instant) {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        self.left = (self.left + grown).min(BURST);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_a_steady_stream() {
        let start = crate::sim::epoch();
        let mut quota = Quota::new(start);
        let taken = |quota: &mut Quota, now| {
            let mut taken = 0;
            while quota.open(now) {
                quota.take(1, now);
                taken += 1;
            }
            taken
        };
        assert_eq!(taken(&mut quota, start), 10_000);
        let opens = quota.opens(start);
        assert!(!quota.open(start) && quota.open(opens));
        assert!((1995..=2050).contains(&taken(&mut quota, opens + Duration::from_secs(1))));
        assert!(quota.full(start + Duration::from_secs(60)));
    }
}
