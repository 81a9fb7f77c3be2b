//! How many packets a listener may have sent again.

use std::time::{Duration, Instant};

/// A listener may have so many packets repaired per second; one that asks for everything again would only make its
/// own link worse.
#[derive(Debug, Default)]
pub struct RepairBudget {
    since: Option<Instant>,
    used: u32,
}

const REPAIRS_PER_SECOND: u32 = 500;

impl RepairBudget {
    /// Takes one; false if there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.used) = (Some(now), 0);
        }
        self.used += 1;
        self.used <= REPAIRS_PER_SECOND
    }
}
