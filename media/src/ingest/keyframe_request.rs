//! When a publisher is asked for a keyframe, and whether it listens.

use std::time::{Duration, Instant};

/// At most one request in 500 ms goes to a publisher, however many listeners ask.
#[derive(Debug, Default)]
pub struct KeyframeRequest {
    due: Option<Instant>,
    last: Option<Instant>,
    /// The first request that no keyframe has come for.
    open: Option<Instant>,
    /// Requests that none came for in time.
    ignored: u32,
    answers: Option<bool>,
}

/// A request that comes sooner is made when this is over, for all who asked.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
/// An encoder that listens sends a keyframe within this time.
const ANSWER: Duration = Duration::from_secs(1);
/// So many requests in vain, and it does not listen.
const IGNORED_MAX: u32 = 3;

impl KeyframeRequest {
    /// A keyframe begins, whoever it is for.
    pub fn handle_keyframe(&mut self, now: Instant) {
        if self.open.take().is_some_and(|asked| now.saturating_duration_since(asked) <= ANSWER) {
            (self.answers, self.ignored) = (Some(true), 0);
        }
    }

    /// The request could be made, and is on its way; `false` if the publisher cannot be asked.
    pub fn asked(&mut self, can: bool, now: Instant) {
        if !can {
            self.answers = Some(false);
        } else if self.open.is_none_or(|open| now.saturating_duration_since(open) > ANSWER) {
            self.ignored += u32::from(self.open.is_some());
            self.open = Some(now);
            if self.ignored >= IGNORED_MAX {
                self.answers = Some(false);
            }
        }
    }

    /// Somebody needs a keyframe: asked for now, or when the time since the last one is over.
    pub fn request(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| (last + KEYFRAME_INTERVAL).max(now));
        self.due.get_or_insert(earliest);
    }

    /// True if the publisher is to be asked now.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            (self.due, self.last) = (None, Some(now));
        }
        due
    }

    /// When [`KeyframeRequest::poll`] will be true.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the publisher sends a keyframe when it is asked; `None` as long as that did not show.
    pub fn answers(&self) -> Option<bool> {
        self.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_that_ignores_requests_is_known_and_one_that_answers_too() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let mut now = Instant::now();
        let mut request = KeyframeRequest::default();
        for asked in 0..8 {
            request.asked(true, now);
            assert_eq!(request.answers, (asked >= 6).then_some(false), "{asked} requests");
            now += Duration::from_millis(600);
        }
        request.handle_keyframe(now);
        request.asked(true, now);
        request.handle_keyframe(now + Duration::from_millis(300));
        assert_eq!(request.answers, Some(true));
        request.asked(false, now);
        assert_eq!(request.answers, Some(false));
    }

    #[test]
    fn two_hundred_keyframe_requests_in_half_a_second_are_two() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let start = Instant::now();
        let mut request = KeyframeRequest::default();
        let mut sent = 0;
        for ms in 0..=500 {
            let now = start + Duration::from_millis(ms);
            request.request(now);
            sent += u32::from(request.poll(now));
        }
        assert_eq!(sent, 2);
    }
}
