//! The shortest round trip lately: what is longer has met a queue. One that was not seen for a while is not believed any more,
//! so that a way that has become longer is not taken for a queue.

use std::time::{Duration, Instant};

/// It is of the present span of time and of the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shortest {
    span: Duration,
    now: Option<Duration>,
    before: Option<Duration>,
    since: Option<Instant>,
}

impl Shortest {
    /// Of spans of this length; the first one begins with the first sample.
    pub fn new(span: Duration) -> Shortest {
        Shortest { span, now: None, before: None, since: None }
    }

    /// As [`Shortest::new`], but the first one begins now.
    pub fn since(now: Instant, span: Duration) -> Shortest {
        Shortest { since: Some(now), ..Shortest::new(span) }
    }

    pub fn get(&self) -> Option<Duration> {
        self.now.into_iter().chain(self.before).min()
    }

    pub fn sample(&mut self, rtt: Duration, now: Instant) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= self.span) {
            *self = Shortest { now: None, before: self.now, since: Some(now), ..*self };
        }
        self.now = Some(self.now.map_or(rtt, |known| known.min(rtt)));
    }
}
