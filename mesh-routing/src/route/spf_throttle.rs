//! When routes are computed: at once after a quiet time and for what happens to the own links, then ever less
//! often while changes go on, so that a neighbor that floods changes does not cost one computation each.

use std::time::{Duration, Instant};

/// The first wait after a computation (SPF back-off, RFC 8405): LSAs of one event come close together.
pub const WAIT_MIN: Duration = Duration::from_millis(10);
/// The longest wait while changes go on: five computations a second at most.
pub const WAIT_MAX: Duration = Duration::from_millis(200);

/// Paces the computation of routes.
#[derive(Debug, Default)]
pub(crate) struct SpfThrottle {
    last: Option<Instant>,
    wait: Duration,
    due: Option<Due>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    At(Instant),
}

impl SpfThrottle {
    /// Edges somewhere differ.
    pub fn handle_news(&mut self, now: Instant) {
        let after = self.last.map_or(now, |last| (last + self.wait).max(now));
        self.due.get_or_insert(if after <= now { Due::Now } else { Due::At(after) });
    }

    /// What is right here differs.
    pub fn handle_urgent(&mut self) {
        self.due = Some(Due::Now);
    }

    /// Whether routes are to be computed now; then they are.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        match self.due {
            None => return false,
            Some(Due::At(at)) if at > now => return false,
            _ => {}
        }
        let quiet =
            self.last.is_none_or(|last| now.saturating_duration_since(last) > self.wait * 2 + WAIT_MIN);
        self.wait = if quiet { WAIT_MIN } else { (self.wait * 2).clamp(WAIT_MIN, WAIT_MAX) };
        (self.last, self.due) = (Some(now), None);
        true
    }

    /// When they are to be.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.due? {
            Due::Now => self.last,
            Due::At(at) => Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::epoch;

    #[test]
    fn the_first_change_is_computed_at_once_and_the_next_ones_together() {
        let (mut spf, start) = (SpfThrottle::default(), epoch());
        spf.handle_news(start);
        assert!(spf.handle_timeout(start));
        let mut computed = 0;
        for ms in 1..=1000 {
            let now = start + Duration::from_millis(ms);
            spf.handle_news(now);
            computed += u32::from(spf.handle_timeout(now));
        }
        assert!((6..=12).contains(&computed), "{computed} for a thousand changes in a second");
        let later = start + Duration::from_secs(3);
        assert!(spf.handle_timeout(later), "what waited");
        spf.handle_news(later + Duration::from_secs(1));
        assert!(spf.handle_timeout(later + Duration::from_secs(1)));
    }

    #[test]
    fn what_happens_to_the_own_links_does_not_wait() {
        let (mut spf, start) = (SpfThrottle::default(), epoch());
        spf.handle_news(start);
        assert!(spf.handle_timeout(start));
        spf.handle_news(start);
        assert!(!spf.handle_timeout(start));
        assert_eq!(spf.poll_timeout(), Some(start + WAIT_MIN));
        spf.handle_urgent();
        assert!(spf.handle_timeout(start));
    }
}
