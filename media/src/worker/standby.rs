//! The base of a picture from elsewhere, kept ready for who sees something better: its last keyframe is never so long ago
//! that a listener could not begin with it at once.

use std::time::{Duration, Instant};

/// When a keyframe of a base was asked for.
#[derive(Debug, Default)]
pub struct Standby {
    asked: Option<Instant>,
    /// Requests in a row that no keyframe answered.
    unanswered: u32,
}

/// A keyframe older than this is too old: a listener would get more than that at once. Each keyframe costs the publisher
/// quality, and a browser sends one of every encoding together.
const OLD: Duration = Duration::from_secs(5);
/// Between two requests, doubled with each that was not answered.
const AGAIN: Duration = Duration::from_secs(2);
/// As often at most.
const DOUBLINGS: u32 = 4;

impl Standby {
    /// Whether to ask for a keyframe now. It is `needed` while the base and a better one come; `keyframe` is when the last
    /// one of the base came.
    pub fn look(&mut self, needed: bool, keyframe: Option<Instant>, now: Instant) -> bool {
        if let (Some(asked), Some(keyframe)) = (self.asked, keyframe)
            && keyframe > asked
        {
            *self = Standby::default();
        }
        let old = keyframe.is_none_or(|at| now.saturating_duration_since(at) >= OLD);
        let wait = AGAIN * (1 << self.unanswered.min(DOUBLINGS));
        let asks = needed && old && self.asked.is_none_or(|asked| now >= asked + wait);
        if asks {
            self.unanswered += u32::from(self.asked.is_some());
            self.asked = Some(now);
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of a minute at which a keyframe is asked for.
    fn asked(needed: bool, answered: bool) -> Vec<u64> {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let start = Instant::now();
        let (mut standby, mut keyframe, mut asked) = (Standby::default(), start, Vec::new());
        for tenth in 0..600 {
            let now = start + Duration::from_millis(100) * tenth;
            if standby.look(needed, Some(keyframe), now) {
                asked.push(u64::from(tenth) / 10);
                keyframe = if answered { now + Duration::from_millis(50) } else { keyframe };
            }
        }
        asked
    }

    #[test]
    fn a_keyframe_is_asked_for_when_the_last_one_is_old() {
        assert_eq!(asked(true, true), [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 56]);
        assert!(asked(false, true).is_empty());
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_less_often() {
        assert_eq!(asked(true, false), [5, 7, 11, 19, 35]);
    }
}
