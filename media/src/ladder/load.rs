//! What a thread does that cannot keep up with all its stages: the rungs of some close, until it can.

use std::time::{Duration, Instant};

/// Behind by this much is too late: a listener's buffer holds little more.
const BEHIND: Duration = Duration::from_millis(40);
/// So long without being behind, and a stage opens again.
const CALM: Duration = Duration::from_secs(10);

/// How many stages are closed. Who asks closes those with the highest numbers.
#[derive(Debug, Default)]
pub struct Load {
    closed: usize,
    /// Since when nothing was late, or since the last one opened.
    calm: Option<Instant>,
}

impl Load {
    /// How far the thread is behind, at one look of many, and how many stages it has. One more of them closes if that
    /// is too much; all of them may. One opens again after 10 s in which it was not.
    pub fn handle_look(&mut self, behind: Duration, stages: usize, now: Instant) {
        // Of stages that are gone none is closed.
        self.closed = self.closed.min(stages);
        if behind >= BEHIND {
            self.closed = (self.closed + 1).min(stages);
            self.calm = None;
            return;
        }
        let since = *self.calm.get_or_insert(now);
        if self.closed > 0 && now.saturating_duration_since(since) >= CALM {
            self.closed -= 1;
            self.calm = Some(now);
        }
    }

    /// So many stages are closed.
    pub fn closed(&self) -> usize {
        self.closed
    }
}
