//! Link-state on its way: when this relay says something new of itself, what it passes on, what it asks for.
//! What is held is `database.rs`'; which neighbor gets a record and which is told of it, `flood_tree.rs`'.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    error::MeshError,
    linkstate::{
        announce::{Due, News},
        lsdb::Changed,
        pace::Pace,
    },
    mesh::Mesh,
    route::{Routes, rpf::FloodTrees},
    wire::{
        lsa::{LinkState, Publication},
        message::{ENTRIES_MAX, Message},
        metric::LinkId,
        signed_lsa::{Key, Record, Signed},
    },
};

/// Bytes of link-state sent in answer to one message; what is left is asked for again.
const ANSWER_MAX: usize = 4 << 20;
/// A full database is searched for relays that cannot be reached at most this often.
const ROOM_EVERY: Duration = Duration::from_secs(1);
/// A database in which nothing changed for so long should be that of the neighbors.
const QUIET: Duration = Duration::from_secs(1);
/// Summaries in a row that may differ while records come and go.
const PATIENCE: u32 = 3;

/// How a neighbor's way to an origin begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// With this relay.
    Here,
    /// With another.
    Elsewhere,
    /// Nobody here knows a way.
    Unknown,
}

/// What a relay keeps to flood records.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    /// Paces what is said of the streams here; none were published so far.
    pub publication: Option<Pace>,
    pub news: News,
    pub trees: FloodTrees,
    /// How often in a row the hash of a neighbor's database was another.
    differs: BTreeMap<LinkId, u32>,
}

impl Flood {
    /// There is news of streams.
    pub fn handle_publication(&mut self, boot: u64, seed: u64) {
        self.publication.get_or_insert_with(|| Pace::new(boot).spread(seed >> 10)).handle_news(true);
    }

    /// The link is gone.
    pub fn forget(&mut self, link: LinkId) {
        self.news.forget(link);
        self.differs.remove(&link);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let publication = self.publication.as_ref().and_then(Pace::poll_timeout);
        self.news.poll_timeout().into_iter().chain(publication).min()
    }
}

impl Mesh {
    /// A record came on a link. Its signature is looked at only if it is newer than what is here.
    pub(crate) fn take_record(
        &mut self,
        link: LinkId,
        age_ms: u32,
        signed: Signed,
        now: Instant,
    ) -> Result<(), MeshError> {
        let (key, sequence) = (signed.record().key(), signed.record().sequence());
        if key.local() && self.border.crosses(link) {
            return Ok(());
        }
        self.flood.news.handle_known(link, &key, sequence);
        let held = self.database.held(&key);
        match held.map(|held| sequence.cmp(&held.sequence())) {
            Some(Ordering::Less) => {
                self.send_records(link, &[key]);
                return Ok(());
            }
            Some(Ordering::Equal)
                if key.origin() != self.config.id || held.is_some_and(|h| h.signed == signed) =>
            {
                if let Some(link) = self.links.get_mut(&link) {
                    link.counters.duplicates += 1;
                }
                return Ok(());
            }
            _ => {}
        }
        // Nobody passes on what it did not verify: whoever does is to blame.
        if !signed.verify(&*self.config.keys) {
            return Err(MeshError::Forged);
        }
        if key.origin() == self.config.id {
            self.jump_over(&key, sequence);
            return Ok(());
        }
        if self.database.room_for(&signed).is_err() {
            self.make_room(now);
            self.database.room_for(&signed)?;
        }
        let changed = self.database.take(signed, Duration::from_millis(age_ms.into()), now)?;
        self.handle_changed(changed, now);
        self.flood.news.handle_taken(&key, sequence);
        self.spread_record(Some(link), &key, now);
        Ok(())
    }

    /// An own record of an earlier life is still in the mesh: the next one has a higher sequence.
    fn jump_over(&mut self, key: &Key, sequence: u64) {
        let boot = self.config.boot;
        let pace = match key {
            Key::Links(_) => &mut self.pace,
            Key::Streams(_) => self.flood.publication.get_or_insert_with(|| Pace::new(boot)),
            Key::Way(_, fragment) => {
                self.border.handle_own(*fragment, sequence);
                return;
            }
        };
        pace.handle_own(sequence);
    }

    fn handle_changed(&mut self, changed: Changed, now: Instant) {
        if changed.edges || changed.ways {
            self.graph_changed |= changed.edges;
            self.spf.handle_news(now);
        }
        self.streams_changed |= changed.streams;
        self.shown.stale |= changed.heard;
        if changed.shape {
            self.trees.handle_change(true);
        }
    }

    /// Sends a record to the neighbors whose way to its origin begins here, or whose way nobody knows unless there
    /// are many of those, and tells the others that it is here.
    fn spread_record(&mut self, from: Option<LinkId>, key: &Key, now: Instant) {
        let Some(message) = self.record(key) else { return };
        let Some(sequence) = self.database.held(key).map(|held| held.sequence()) else { return };
        let (own, origin) = (self.config.id, key.origin());
        let from = from.and_then(|link| self.links.get(&link)).map(|link| link.neighbor);
        let bytes = message.encode();
        let to: Vec<_> = self.neighbors.iter().map(|(id, neighbor)| (*id, neighbor.link)).collect();
        for (id, link) in to.into_iter().filter(|(id, _)| Some(*id) != from && *id != origin) {
            let turn = match self.border.crosses(link) {
                true if key.local() => continue,
                true => Turn::Unknown,
                false => self.flood.trees.turn(&self.routes, &own, (&id, &origin), now),
            };
            let push = match turn {
                _ if origin == own => true,
                Turn::Here => true,
                Turn::Unknown => self.flood.news.sends_blindly(link, now),
                Turn::Elsewhere => false,
            };
            if push {
                self.flood.news.handle_known(link, key, sequence);
                self.send_bytes(link, &message, bytes.clone());
            } else {
                self.flood.news.tell(link, *key, sequence, now);
            }
        }
    }

    /// A neighbor tells what has come to it: what is newer than here is pulled, unless it comes by itself.
    pub(crate) fn take_news(&mut self, link: LinkId, entries: &[(Key, u64)], now: Instant) {
        let mut newer_here = Vec::new();
        let across = self.border.crosses(link);
        for (key, there) in entries.iter().filter(|(key, _)| !(across && key.local())) {
            let here = self.database.held(key).map(|held| held.sequence());
            match here.map(|here| here.cmp(there)) {
                Some(Ordering::Equal) => self.flood.news.handle_known(link, key, *there),
                Some(Ordering::Greater) => newer_here.push(*key),
                _ => {
                    self.flood.news.handle_known(link, key, *there);
                    self.flood.news.handle_told(link, *key, *there, now);
                }
            }
        }
        self.send_records(link, &newer_here);
    }

    /// Tells and asks what is due.
    pub(crate) fn settle_news(&mut self, now: Instant) {
        for due in self.flood.news.handle_timeout(now) {
            match due {
                Due::Tell(link, entries) => {
                    for part in entries.chunks(ENTRIES_MAX) {
                        self.send(link, &Message::News { entries: part.to_vec() });
                    }
                }
                Due::Ask(link, keys) => {
                    for part in keys.chunks(ENTRIES_MAX) {
                        self.send(link, &Message::Request { keys: part.to_vec() });
                    }
                }
            }
        }
    }

    /// Asks for what is newer there; sends what is newer here.
    pub(crate) fn take_digest(&mut self, link: LinkId, entries: &[(Key, u64)]) {
        let across = self.border.crosses(link);
        let sequence = |key| self.database.held(key).map(|held| held.sequence());
        let newer_there: Vec<_> = entries
            .iter()
            .filter(|(key, _)| !(across && key.local()))
            .filter(|(key, there)| sequence(key).is_none_or(|here| here < *there))
            .map(|(key, _)| *key)
            .collect();
        let newer_here: Vec<_> = entries
            .iter()
            .filter(|(key, there)| sequence(key).is_some_and(|here| here > *there))
            .map(|(key, _)| *key)
            .collect();
        if !newer_there.is_empty() {
            self.send(link, &Message::Request { keys: newer_there });
        }
        self.send_records(link, &newer_here);
    }

    /// A neighbor's hash of its database. Records on their way make it another for a moment, so it is answered
    /// only if nothing came here for a while or it goes on.
    pub(crate) fn take_summary(&mut self, link: LinkId, hash: u64, now: Instant) {
        let across = self.border.crosses(link);
        if hash == self.database.hash(across) {
            self.flood.differs.remove(&link);
            return;
        }
        let quiet = self.database.changed().is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        let times = self.flood.differs.entry(link).or_default();
        *times += 1;
        if quiet || *times >= PATIENCE {
            *times = 0;
            self.send(link, &Message::Buckets { hashes: self.database.buckets(across) });
        }
    }

    /// Hashes of the parts of a neighbor's database: it is told what is here of those that differ.
    pub(crate) fn take_buckets(&mut self, link: LinkId, hashes: &[u32]) {
        let across = self.border.crosses(link);
        let own = self.database.buckets(across);
        let differs = |bucket: usize| hashes.get(bucket) != own.get(bucket);
        let entries = self.database.digest(across, differs);
        // Also if there are none: the neighbor's turn to tell comes with the next summary.
        for part in entries.chunks(ENTRIES_MAX) {
            self.send(link, &Message::Digest { entries: part.to_vec() });
        }
    }

    pub(crate) fn send_records(&mut self, link: LinkId, keys: &[Key]) {
        let mut room = ANSWER_MAX;
        let across = self.border.crosses(link);
        for key in keys.iter().filter(|key| !(across && key.local())) {
            let Some(message) = self.record(key) else { continue };
            let bytes = message.encode();
            let Some(left) = room.checked_sub(bytes.len()) else { return };
            room = left;
            self.send_bytes(link, &message, bytes);
        }
    }

    /// Forgets the records of relays that cannot be reached, at most once a second.
    fn make_room(&mut self, now: Instant) {
        if self.room_made.is_some_and(|at| now < at + ROOM_EVERY) {
            return;
        }
        self.room_made = Some(now);
        let mut routes = Routes::new(&self.config.id, &self.database, &BTreeSet::new());
        routes.look_abroad(&self.config.id, self.config.area, &self.database);
        let own = self.config.id;
        let reached = |key: &Key| match key {
            Key::Streams(origin) => routes.finds(origin),
            _ => routes.reaches(&key.origin()),
        };
        if self.database.keep(now, |key, _| key.origin() == own || reached(key)) {
            self.graph_changed = true;
            self.spf.handle_news(now);
            self.streams_changed = true;
        }
    }

    fn record(&self, key: &Key) -> Option<Message> {
        // What has expired here has expired there.
        let held = self.database.held(key).filter(|held| held.expires > self.now)?;
        Some(Message::LinkState { age_ms: held.age_ms(self.now), record: held.signed.clone() })
    }

    /// What is here, for a neighbor to compare. That this relay has no neighbors is no news to one: what it says
    /// next names them, and asking for both would flood the mesh twice with each relay that is switched on.
    pub(crate) fn send_digest(&mut self, link: LinkId) {
        let across = self.border.crosses(link);
        let mut entries = self.database.digest(across, |_| true);
        if self.database.links(&self.config.id).is_some_and(|said| said.links.is_empty()) {
            let own = Key::Links(self.config.id);
            entries.retain(|(key, _)| *key != own);
        }
        for part in entries.chunks(ENTRIES_MAX) {
            self.send(link, &Message::Digest { entries: part.to_vec() });
        }
    }

    /// Says what is due of this relay.
    pub(crate) fn settle_own(&mut self, now: Instant) {
        if let Some(sequence) = self.pace.handle_timeout(now) {
            self.say_links(sequence, now);
        } else if self.audience.due(now) {
            let sequence = self.pace.advance();
            self.say_links(sequence, now);
        }
        if let Some(sequence) = self.flood.publication.as_mut().and_then(|pace| pace.handle_timeout(now)) {
            let streams = self.published.values().cloned().collect();
            let (origin, zone) = (self.config.id, self.config.zone.clone());
            self.say(Record::Streams(Publication { origin, zone, sequence, streams }), now);
        }
    }

    fn say_links(&mut self, sequence: u64, now: Instant) {
        let inside = self.neighbors.values().filter(|neighbor| !self.border.crosses(neighbor.link));
        let said = LinkState {
            origin: self.config.id,
            zone: self.config.zone.clone(),
            sequence,
            links: inside.map(|neighbor| neighbor.edge.clone()).collect(),
            heard: self.audience.streams().cloned().collect(),
            addresses: self.addresses.clone(),
        };
        self.audience.handle_told(now);
        self.say(Record::Links(said), now);
    }

    pub(crate) fn say(&mut self, record: Record, now: Instant) {
        let key = record.key();
        let signed = Signed::new(record, &*self.config.keys);
        if let Ok(changed) = self.database.take(signed, Duration::ZERO, now) {
            if changed.edges || changed.ways {
                self.graph_changed |= changed.edges;
                self.spf.handle_urgent();
            }
            self.streams_changed |= changed.streams;
            self.counters.originated += 1;
            self.spread_record(None, &key, now);
        }
    }
}
