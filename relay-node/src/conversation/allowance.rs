//! How many messages a participant may send now, whatever they say: chat has limits of its own.

use std::time::Instant;

/// Messages in a row, and then each second.
const BURST: f64 = 30.0;
pub(super) const PER_SECOND: f64 = 10.0;

/// It grows with time, up to [`BURST`].
pub(super) struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Allowance {
        Allowance { left: BURST, at: now }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        self.left = (self.left + grown).min(BURST);
        self.at = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[test]
    fn a_participant_may_burst_and_then_speak_steadily() {
        let start = clock::now();
        let mut allowance = Allowance::new(start);
        assert_eq!((0..100).filter(|_| allowance.take(start)).count(), 30);
        let later = start + Duration::from_millis(501);
        assert_eq!((0..100).filter(|_| allowance.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| allowance.take(much_later)).count(), 30);
    }
}
