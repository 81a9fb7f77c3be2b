//! What neighbors say: whom each message is for, and what becomes of one who says what cannot be.

use std::time::{Duration, Instant};

use protocol::{BridgeVersion, NodeId, UnknownTopic};

use crate::{
    error::MeshError,
    log::Arrival,
    mesh::{Mesh, output::Output},
    route::graph::Pair,
    wire::{
        envelope::{Opaque, Received, Scope},
        message::{Encoded, Message},
        metric::LinkId,
        signed_lsa::Key,
    },
};

/// How long an edge is avoided that somebody lost a parent over: until the flood says so, or not. The two ends take a
/// second to call it down.
const AVOID: Duration = Duration::from_secs(2);
/// A neighbor may name any edge: more are not believed.
const AVOIDED_MAX: usize = 256;
/// Messages a link may get wrong before it is dropped. What a later version says is none of them.
const PATIENCE: u32 = 64;

impl Mesh {
    /// A message came on the link.
    ///
    /// # Errors
    ///
    /// Whatever the bytes are, an error at worst: then the message was dropped, and the driver counts it by
    /// [`MeshError::reason`].
    pub fn handle_message(&mut self, link: LinkId, bytes: &[u8], now: Instant) -> Result<(), MeshError> {
        self.touch(now);
        if let Some(taken) = self.take_doubted(link, bytes) {
            return taken;
        }
        let state = self.links.get_mut(&link).ok_or(MeshError::UnknownLink)?;
        self.changed.links |= state.detector.handle_heard(now);
        let neighbor = state.neighbor;
        let result = Received::decode(bytes).and_then(|received| match received {
            Received::Known { message, unknown_fields } => {
                self.counters.unknown.message_fields += unknown_fields as u64;
                if message.of_use()
                    && let Some(link) = self.links.get_mut(&link)
                {
                    link.detector.handle_used(now);
                }
                self.take(link, neighbor, message, now)
            }
            Received::PassedOver { kind } => {
                self.pass_over(&neighbor, kind);
                Ok(())
            }
            Received::PassedOn(message) => self.pass_on(link, neighbor, message, now),
        });
        let Some(state) = self.links.get_mut(&link) else { return result };
        match &result {
            Ok(()) => state.counters.received += 1,
            Err(error) => {
                state.counters.refused += 1;
                // That there is no room here is not the neighbor's fault.
                if !matches!(error, MeshError::Full { .. }) {
                    state.wrong += 1;
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
                    self.changed.links |= link.retell(now);
                }
            }
            Message::LinkState { age_ms, lsa } => {
                self.flood(|flooding, view| flooding.handle_lsa((link, age_ms), lsa, view, now))?;
            }
            Message::Digest { entries } => {
                self.flood(|flooding, view| flooding.handle_digest(link, &entries, view, now));
            }
            Message::Request { keys } => {
                self.flood(|flooding, view| flooding.handle_request(link, &keys, view, now));
            }
            Message::Announce { entries } => {
                self.flood(|flooding, view| flooding.handle_news(link, &entries, view, now));
            }
            Message::Buckets { hashes } => {
                self.flood(|flooding, view| flooding.handle_buckets(link, &hashes, view));
            }
            Message::Area { area } => self.at_border(|border, _| border.handle_area(link, area), now),
            Message::AreaPath { fragment, area_path } => {
                self.at_border(|border, _| border.handle_area_path(link, fragment, area_path), now)?;
            }
            Message::Summary { database, logs } => {
                self.flood(|flooding, view| flooding.handle_summary(link, database, view, now));
                if logs != self.replication.logs().hash() {
                    self.replicate(|replication, _, _| replication.compare(link));
                }
            }
            Message::Protect { protection } => {
                let is_known =
                    self.links.get(&link).is_some_and(|link| link.version >= BridgeVersion::PARITY);
                if is_known {
                    self.outputs.push_back(Output::Protect { link, protection });
                }
            }
            Message::Keyframe { track } => self.trees.handle_keyframe(&track, Some(link)),
            Message::Append { key, first, entries, path, pulled } => {
                let arrival = Arrival { link, neighbor, key, first, entries, pulled };
                self.replicate(|replication, view, now| {
                    replication.handle_arrival(arrival, path, view, now)
                })?;
            }
            Message::Heads { entries, fresh } => self.replication.handle_heads(link, &entries, fresh, now),
            Message::Topics { after, until, entries } => {
                self.replicate(|replication, _, _| {
                    replication.handle_topics(link, (after, until), &entries);
                });
            }
            Message::Pull { key, after } => {
                self.replicate(|replication, _, _| replication.handle_pull(link, key, after));
            }
            Message::Stored { entries } => {
                self.replicate(|replication, _, _| replication.handle_elsewhere(&entries));
            }
            Message::Join { track, alias, ask } => {
                let (trees, around) = self.trees();
                trees.handle_join((link, neighbor), track, (alias, ask), &around, now);
            }
            Message::Joined { track, alias, offer } => {
                self.changed.paths = true;
                let (trees, mut around) = self.trees();
                let suspect_edge = trees.handle_joined(link, &track, (alias, offer), &mut around, now);
                self.avoid(suspect_edge, now);
            }
            Message::Refused { track, alias, .. } => {
                let (trees, around) = self.trees();
                trees.handle_end(link, &track, (alias, None), &around, now);
            }
            Message::Leave { track, alias } => self.trees.handle_leave(link, &track, alias),
            Message::Lost { track, alias, broken } => {
                let (trees, around) = self.trees();
                let broken = trees.handle_end(link, &track, (alias, broken), &around, now);
                self.avoid(broken, now);
            }
            Message::File(message) => self.handle_file(link, neighbor, message, now)?,
        }
        Ok(())
    }

    /// A message of a later version that is for this relay alone.
    fn pass_over(&mut self, neighbor: &NodeId, kind: u32) {
        if !self.note_message(neighbor, kind) {
            self.counters.unknown.messages += 1;
        }
    }

    /// A message for everybody: it goes on, known or not.
    fn pass_on(
        &mut self,
        link: LinkId,
        neighbor: NodeId,
        message: Opaque,
        now: Instant,
    ) -> Result<(), MeshError> {
        if message.scope != Scope::Mesh && self.border.crosses(link) {
            return Ok(());
        }
        let own = (self.config.id, &*self.config.keys);
        let Some(message) = self.opaques.handle(neighbor, message, own, now)? else { return Ok(()) };
        self.spread(Some(link), &message);
        if !self.take_doubt(&message) && !self.note_opaque(&message) {
            self.counters.unknown.passed_on += 1;
        }
        Ok(())
    }

    /// To every neighbor within its scope, but not to the one that it came from.
    pub(super) fn spread(&mut self, from: Option<LinkId>, message: &Opaque) {
        let from = from.and_then(|link| self.links.get(&link)).map(|link| link.neighbor);
        let everywhere = message.scope == Scope::Mesh;
        let to: Vec<_> = self
            .neighbors
            .iter()
            .filter(|(id, neighbor)| {
                Some(**id) != from
                    && **id != message.said.origin
                    && (everywhere || !self.border.crosses(neighbor.link))
            })
            .map(|(_, neighbor)| neighbor.link)
            .collect();
        let message = Encoded::from(message);
        for link in to {
            self.send(link, message.clone());
        }
    }

    /// An LSA that was not here says more than is known here.
    pub(super) fn take_fields(&mut self, key: &Key) {
        let Some(held) = self.flooding.lsdb().held(key) else { return };
        let fields = held.signed.unknown_fields();
        let unknown = fields.saturating_sub(usize::from(self.note_field(key)));
        self.counters.unknown.lsa_fields += unknown as u64;
    }

    /// A record of a log about something that is not known here.
    pub(super) fn take_topic(&mut self, writer: &NodeId, topic: &UnknownTopic) {
        if !self.note_record(writer, topic) {
            self.counters.unknown.topics += 1;
        }
    }

    /// Stays away from an edge for a moment: the flood comes later.
    fn avoid(&mut self, broken: Option<Pair>, now: Instant) {
        if let Some(broken) = broken
            && self.avoided.len() < AVOIDED_MAX
        {
            self.changed.avoided |= self.avoided.insert(broken, now + AVOID).is_none();
        }
    }
}
