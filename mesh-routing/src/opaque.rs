//! Messages that every relay passes on, whether or not it knows them: each once, so many a second, so far (RFC 5250 does
//! it with link-state; a database for what nobody here can read would be one more thing to fill). What such a message
//! looks like is in `wire/envelope.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::{
    error::MeshError,
    wire::{envelope::Opaque, signature::Keys},
};

/// Links that a message may pass: as many as a path has relays.
const HOPS_MAX: u8 = 64;
/// New messages of one neighbor in a second.
const RATE_MAX: u32 = 32;
/// Messages that are remembered, so that each is passed on once. What is forgotten too early ends after so many hops.
const SEEN_MAX: usize = 4096;
/// They cross the largest mesh in less.
const SEEN_FOR: Duration = Duration::from_secs(10);

/// The messages of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Opaques {
    seen: BTreeMap<(NodeId, u64), Instant>,
    /// What came from each neighbor in the second that began then.
    heard: BTreeMap<NodeId, (Instant, u32)>,
}

impl Opaques {
    /// A message came from a neighbor. Gives it as it is to be passed on, if it is new here.
    ///
    /// # Errors
    ///
    /// [`MeshError::Forged`] if its origin did not sign it: whoever passes one on has checked it. [`MeshError::Full`] if
    /// the neighbor brings too many.
    pub fn handle(
        &mut self,
        neighbor: NodeId,
        message: Opaque,
        (own, keys): (NodeId, &dyn Keys),
        now: Instant,
    ) -> Result<Option<Opaque>, MeshError> {
        let name = (message.said.origin, message.said.number);
        if message.said.origin == own || message.hops >= HOPS_MAX || self.seen.contains_key(&name) {
            return Ok(None);
        }
        let (since, count) = self.heard.entry(neighbor).or_insert((now, 0));
        if *since + Duration::from_secs(1) <= now {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > RATE_MAX {
            return Err(MeshError::Full { what: "message for everybody in this second" });
        }
        if !message.verify(keys) {
            return Err(MeshError::Forged);
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.retain(|_, until| *until > now);
        }
        if self.seen.len() >= SEEN_MAX {
            return Err(MeshError::Full { what: "message for everybody to remember" });
        }
        self.seen.insert(name, now + SEEN_FOR);
        Ok(Some(message.passed()))
    }

    /// A neighbor is gone.
    pub fn handle_gone(&mut self, neighbor: &NodeId) {
        self.heard.remove(neighbor);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        sim::{epoch, node},
        wire::{
            envelope::{Said, Scope},
            signature::SimulatedKeys,
        },
    };

    fn message(origin: usize, number: u64) -> Opaque {
        let said = Said { kind: 99, origin: node(origin), number, payload: Bytes::from_static(b"x") };
        Opaque::sign(Scope::Mesh, said, &SimulatedKeys(node(origin)))
    }

    fn take(opaques: &mut Opaques, from: usize, message: Opaque, now: Instant) -> Result<bool, MeshError> {
        let own = (node(0), &SimulatedKeys(node(0)) as &dyn Keys);
        opaques.handle(node(from), message, own, now).map(|passed| passed.is_some())
    }

    #[test]
    fn a_message_is_passed_on_once_and_its_own_never() {
        let (mut opaques, now) = (Opaques::default(), epoch());
        assert_eq!(take(&mut opaques, 1, message(2, 7), now), Ok(true));
        assert_eq!(take(&mut opaques, 3, message(2, 7), now), Ok(false));
        assert_eq!(take(&mut opaques, 1, message(0, 7), now), Ok(false));
        let far = (0..HOPS_MAX).fold(message(2, 8), |message, _| message.passed());
        assert_eq!(take(&mut opaques, 1, far, now), Ok(false));
    }

    #[test]
    fn a_forgery_is_refused_and_takes_no_place() {
        let (mut opaques, now) = (Opaques::default(), epoch());
        let mut forged = message(4, 7);
        forged.said.origin = node(2);
        assert_eq!(take(&mut opaques, 1, forged, now), Err(MeshError::Forged));
        assert_eq!(take(&mut opaques, 1, message(2, 7), now), Ok(true));
    }

    #[test]
    fn a_neighbor_brings_so_many_a_second_and_takes_nothing_from_others() {
        let (mut opaques, now) = (Opaques::default(), epoch());
        let taken = (0..100).filter(|n| take(&mut opaques, 1, message(2, *n), now).is_ok()).count();
        assert_eq!(taken, RATE_MAX as usize);
        assert_eq!(take(&mut opaques, 3, message(2, 200), now), Ok(true));
        let later = now + Duration::from_secs(1);
        assert_eq!(take(&mut opaques, 1, message(2, 99), later), Ok(true));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_in_time() {
        let (mut opaques, mut now) = (Opaques::default(), epoch());
        for number in 0..3 * SEEN_MAX as u64 {
            let from = (number / u64::from(RATE_MAX)) as usize;
            let _ = take(&mut opaques, 1 + from, message(2, number), now);
            assert!(opaques.seen.len() <= SEEN_MAX);
        }
        now += SEEN_FOR;
        assert_eq!(take(&mut opaques, 1, message(2, 1 << 40), now), Ok(true));
        assert_eq!(opaques.seen.len(), 1);
    }
}
