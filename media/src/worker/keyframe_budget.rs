//! How often one listener's word is enough for a keyframe. Each costs all who see the picture.

use std::time::{Duration, Instant};

/// The requests of one listener that were heeded last.
#[derive(Debug, Default)]
pub struct KeyframeBudget {
    heeded: [Option<Instant>; MOST],
    next: usize,
}

/// So many within [`WITHIN`]. A decoder that lost something asks once and is helped; one that asks on and on hurts others.
const MOST: usize = 6;
const WITHIN: Duration = Duration::from_secs(12);
/// Between two that count. A browser asks again each round trip until a keyframe comes.
const APART: Duration = Duration::from_millis(500);

impl KeyframeBudget {
    /// Whether a request is heeded, for a track whose last keyframe came at `keyframe`.
    pub fn take(&mut self, keyframe: Option<Instant>, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let last = self.heeded[(self.next + MOST - 1) % MOST];
        if since(last) < APART || last.is_some() && keyframe < last {
            // It is about the same loss: nothing has come of the last one yet.
            return true;
        }
        if since(self.heeded[self.next]) < WITHIN {
            return false;
        }
        self.heeded[self.next] = Some(now);
        self.next = (self.next + 1) % MOST;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the requests, one each 100 ms for so many seconds, are heeded in spans of half a second.
    fn spans(budget: &mut KeyframeBudget, from: Instant, seconds: u64) -> u64 {
        let heeded = |span: &u64| {
            let at = |tenth: u64| from + Duration::from_millis(500 * span + 100 * tenth);
            (0..5).any(|tenth| budget.take(Some(at(tenth)), at(tenth)))
        };
        (0..2 * seconds).filter(heeded).count() as u64
    }

    #[test]
    fn who_asks_now_and_then_is_heeded_and_who_never_stops_once_in_two_seconds() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let began = Instant::now();
        let mut budget = KeyframeBudget::default();
        for second in 0..20 {
            let at = began + Duration::from_secs(3 * second);
            assert!(budget.take(Some(at), at), "{second}");
        }
        let mut budget = KeyframeBudget::default();
        let ignored = |tenth: u64| budget.take(Some(began), began + Duration::from_millis(100 * tenth + 1));
        assert!((0..300).all(ignored), "a publisher that does not answer is asked on");
        let mut budget = KeyframeBudget::default();
        let heeded = spans(&mut budget, began, 120);
        assert!((55..=66).contains(&heeded), "{heeded} in two minutes");
    }
}
