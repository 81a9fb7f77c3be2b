//! What neighbors say: whom each message is for, and what becomes of one who says what cannot be.

use std::time::{Duration, Instant};

use protocol::NodeId;

use crate::{
    error::MeshError,
    log::Arrival,
    mesh::{Mesh, output::Output},
    route::graph::Pair,
    tree::view::{Surroundings, surroundings},
    wire::{message::Message, metric::LinkId},
};

/// How long an edge is avoided that somebody lost a parent over: until the flood says so, or not.
const AVOID: Duration = Duration::from_secs(2);
const AVOIDED_MAX: usize = 256;
/// Messages a link may get wrong before it is dropped.
const PATIENCE: u32 = 64;

impl Mesh {
    /// A message came on the link. Whatever the bytes are, an error at worst: then the message was dropped,
    /// and the driver counts it by [`MeshError::reason`].
    pub fn handle_message(&mut self, link: LinkId, bytes: &[u8], now: Instant) -> Result<(), MeshError> {
        self.touch(now);
        let state = self.links.get_mut(&link).ok_or(MeshError::UnknownLink)?;
        self.links_changed |= state.detector.handle_heard(now);
        let neighbor = state.neighbor;
        let result = Message::decode(bytes).and_then(|message| {
            if message.of_use()
                && let Some(link) = self.links.get_mut(&link)
            {
                link.detector.handle_used(now);
            }
            self.take(link, neighbor, message, now)
        });
        let Some(state) = self.links.get_mut(&link) else { return result };
        match &result {
            Ok(()) => state.counters.received += 1,
            Err(error) => {
                state.counters.refused += 1;
                match error {
                    MeshError::Version { .. } => {
                        self.outputs.push_back(Output::DropLink { link, reason: "another protocol version" });
                    }
                    // That there is no room here is not the neighbor's fault.
                    MeshError::Full { .. } => {}
                    _ => state.wrong += 1,
                }
                if state.wrong == PATIENCE {
                    state.wrong = 0;
                    self.outputs.push_back(Output::DropLink { link, reason: "too many bad messages" });
                }
            }
        }
        result
    }

    fn take(
        &mut self,
        link: LinkId,
        neighbor: NodeId,
        message: Message,
        now: Instant,
    ) -> Result<(), MeshError> {
        match message {
            Message::Probe { nonce, rate } => {
                let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
                state.detector.handle_rate(rate, now);
                let rate = state.detector.rate();
                self.send(link, &Message::ProbeAck { nonce, rate });
            }
            Message::ProbeAck { nonce, rate } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.detector.handle_rate(rate, now);
                    link.detector.handle_probe_ack(nonce, now);
                    self.links_changed |= link.retell(now);
                }
            }
            Message::LinkState { age_ms, record } => self.take_record(link, age_ms, record, now)?,
            Message::Digest { entries } => self.take_digest(link, &entries),
            Message::Request { keys } => self.send_records(link, &keys),
            Message::Area { area } => self.take_area(link, area),
            Message::Reach { fragment, reach } => self.take_reach(link, fragment, reach)?,
            Message::News { entries } => self.take_news(link, &entries, now),
            Message::Buckets { hashes } => self.take_buckets(link, &hashes),
            Message::Summary { database, logs } => {
                self.take_summary(link, database, now);
                if logs != self.logs.hash() {
                    self.compare_logs(link);
                }
            }
            Message::Keyframe { track } => self.trees.handle_keyframe(&track, Some(link)),
            Message::Append { key, first, entries, path, pulled } => {
                let arrival = Arrival { link, neighbor, key, first, entries, pulled };
                self.take_append(arrival, path, now)?;
            }
            Message::Heads { entries, fresh } => self.take_heads(link, &entries, fresh, now),
            Message::Topics { after, until, entries } => self.take_topics(link, (after, until), &entries),
            Message::Pull { key, after } => self.take_pull(link, key, after),
            Message::Stored { entries } => self.take_stored(&entries),
            Message::Join { track, alias, ask } => {
                let around = surroundings!(self);
                self.trees.handle_join((link, neighbor), track, (alias, ask), &around, now);
            }
            Message::Joined { track, alias, offer } => {
                self.paths_changed = true;
                let mut around = surroundings!(self);
                let doubt = self.trees.handle_joined(link, &track, (alias, offer), &mut around, now);
                self.avoid(doubt, now);
            }
            Message::Refused { track, alias, .. } => {
                self.trees.handle_end(link, &track, (alias, None), now);
            }
            Message::Leave { track, alias } => self.trees.handle_leave(link, &track, alias),
            Message::Lost { track, alias, broken } => {
                let broken = self.trees.handle_end(link, &track, (alias, broken), now);
                self.avoid(broken, now);
            }
            Message::File(message) => self.take_file(link, neighbor, message, now)?,
        }
        Ok(())
    }

    /// Stays away from an edge for a moment: the flood comes later.
    fn avoid(&mut self, broken: Option<Pair>, now: Instant) {
        if let Some(broken) = broken
            && self.avoided.len() < AVOIDED_MAX
        {
            self.routes_changed |= self.avoided.insert(broken, now + AVOID).is_none();
        }
    }
}
