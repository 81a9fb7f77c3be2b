//! Neighbors that brought records that their writer did not sign, as the log names them. The records are dropped
//! elsewhere.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_routing::LogKey;
use protocol::{NodeId, ZoneName};

use super::relay_of;

/// A neighbor is named once in this time.
const NAMED_EVERY: Duration = Duration::from_secs(10 * 60);
/// Neighbors that are remembered: as many as there may be.
const NEIGHBORS_MAX: usize = 64;

/// When each was named last.
#[derive(Debug, Default)]
pub(super) struct BadRecords(BTreeMap<NodeId, Instant>);

impl BadRecords {
    /// A neighbor brought one. Says what to write into the log.
    pub fn handle_bad(
        &mut self,
        (from, zone): (NodeId, Option<&ZoneName>),
        (key, number): (&LogKey, u64),
        now: Instant,
    ) -> Option<String> {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < NAMED_EVERY);
        if self.0.contains_key(&from) || self.0.len() >= NEIGHBORS_MAX {
            return None;
        }
        self.0.insert(from, now);
        Some(format!(
            "{} sent record {number} of relay {} not as it was signed: it is dropped, what came with it is taken, \
             and other neighbors are asked for it. The disk or the memory of that relay may be damaged",
            relay_of(&from, zone),
            key.writer.short()
        ))
    }
}

#[cfg(test)]
mod tests {
    use protocol::Topic;

    use super::*;

    #[test]
    fn a_neighbor_is_named_now_and_then_and_not_for_each_record() {
        let (mut bad, now) = (BadRecords::default(), crate::clock::now());
        let key = LogKey { topic: Topic::Announcements, writer: NodeId([7; 32]), incarnation: 1 };
        let zone = ZoneName::new("gate").ok();
        let mut named = |id: u8, at| bad.handle_bad((NodeId([id; 32]), zone.as_ref()), (&key, 9), now + at);
        let text = named(1, Duration::ZERO).expect("is named");
        assert!(text.starts_with("relay 01010101 of gate sent record 9 of relay 07070707"), "{text}");
        assert_eq!(named(1, NAMED_EVERY / 2), None);
        assert!(named(2, NAMED_EVERY / 2).is_some());
        assert!(named(1, NAMED_EVERY).is_some());
    }
}
