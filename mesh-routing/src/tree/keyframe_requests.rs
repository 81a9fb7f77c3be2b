//! The keyframe requests of one track: whether one is needed, and when it may go. Which way it goes is decided in
//! `track.rs`.

use std::time::{Duration, Instant};

use protocol::NodeId;

/// Keyframe requests for one track go upstream at most this often. A keyframe is many times as long as what comes
/// between two of them; one serves all who wait, and a second one before the first is here would only fill the link.
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);

/// What is needed, and what was asked.
#[derive(Debug, Default)]
pub(crate) struct KeyframeRequests {
    asked: Option<Instant>,
    /// One is needed, by this child if it is one.
    due: Option<Option<NodeId>>,
}

impl KeyframeRequests {
    /// Somebody here or this child needs one.
    pub fn handle_need(&mut self, child: Option<NodeId>) {
        self.due = Some(child);
    }

    /// One was asked for.
    pub fn handle_asked(&mut self, now: Instant) {
        (self.asked, self.due) = (Some(now), None);
    }

    /// For whom one is to be asked for now, if it is.
    pub fn due(&self, now: Instant) -> Option<Option<NodeId>> {
        self.due.filter(|_| self.asked.is_none_or(|asked| now >= asked + KEYFRAME_EVERY))
    }

    /// When one that waits may be asked for.
    pub fn deadline(&self) -> Option<Instant> {
        self.asked.filter(|_| self.due.is_some()).map(|asked| asked + KEYFRAME_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{epoch, node};

    #[test]
    fn the_first_request_goes_at_once_and_the_next_ones_together() {
        let (mut requests, start) = (KeyframeRequests::default(), epoch());
        assert_eq!((requests.due(start), requests.deadline()), (None, None));
        requests.handle_need(Some(node(1)));
        assert_eq!(requests.due(start), Some(Some(node(1))));
        requests.handle_asked(start);
        assert_eq!((requests.due(start), requests.deadline()), (None, None));
        requests.handle_need(Some(node(1)));
        requests.handle_need(None);
        assert_eq!((requests.due(start), requests.deadline()), (None, Some(start + KEYFRAME_EVERY)));
        assert_eq!(requests.due(start + KEYFRAME_EVERY), Some(None), "for whoever asked last");
    }

    #[test]
    fn a_request_that_found_no_way_is_still_due() {
        let (mut requests, start) = (KeyframeRequests::default(), epoch());
        requests.handle_need(None);
        assert_eq!(requests.due(start), Some(None));
        assert_eq!(requests.due(start), Some(None));
    }
}
