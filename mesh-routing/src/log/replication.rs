//! Log records on their way: appended here, pushed along the writer's tree, announced, pulled, acknowledged.
//! What a log holds, and what is asked for, belongs to `log`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{NodeId, Topic, WallTime, mesh::Class};

use crate::{
    error::MeshError,
    link::neighbor::neighbors,
    linkstate::flood::Turn,
    log::Arrival,
    mesh::{Mesh, output::Output},
    wire::{
        log_entry::{LogKey, PAYLOAD_MAX, Record},
        message::{Head, Message},
        metric::LinkId,
    },
};

/// News of logs is collected for so long, and what a neighbor has news of may come by itself for so long.
pub const GATHER: Duration = Duration::from_millis(40);

/// What is to be told of logs.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// For each neighbor the logs that go further; whether their records are being pushed by somebody.
    news: BTreeMap<NodeId, BTreeMap<LogKey, bool>>,
    due: Option<Instant>,
    /// Logs of others that are on a disk here or beyond, further than was told.
    stored: BTreeSet<LogKey>,
}

impl Mesh {
    /// Which life of its disk this relay is in: a number made at random when the disk was new, and kept on
    /// it. To be called at boot before any record; without it this run has a life of its own.
    pub fn handle_life(&mut self, life: u64) {
        self.logs.handle_life(life);
    }

    /// What the wall clock says: as often as it is convenient, at boot before any record, and before
    /// [`Mesh::handle_append`]. Routing never looks at it.
    pub fn handle_wall(&mut self, wall: WallTime, now: Instant) {
        self.logs.handle_wall(wall, now);
    }

    /// Appends to this relay's own log about a topic and sends it to every relay. Returns the log and the
    /// record's number; refused if it is longer than [`PAYLOAD_MAX`] or there are too many logs.
    pub fn handle_append(
        &mut self,
        topic: Topic,
        payload: Bytes,
        now: Instant,
    ) -> Result<(LogKey, u64), MeshError> {
        self.touch(now);
        if payload.len() > PAYLOAD_MAX {
            return Err(MeshError::TooLong { length: payload.len() });
        }
        let record = self.logs.append(topic, payload, &*self.config.keys, now)?;
        // Before the record: a log that gave way is not begun again in the life it was in.
        self.outputs.extend(self.logs.poll_life().map(Output::Life));
        let place = (record.key.clone(), record.number);
        self.push(vec![record], Vec::new());
        Ok(place)
    }

    /// The oldest record of this relay's own log about a topic that will be dropped soon, each once: log, number and
    /// payload. Whoever wants it to stay appends it again, so that every relay keeps it.
    pub fn poll_lapsing(&mut self, topic: &Topic) -> Option<(LogKey, u64, Bytes)> {
        self.logs.poll_lapsing(topic)
    }

    /// A record from disk, per log in order: at boot, before any link. It does not come out again.
    pub fn handle_restore(&mut self, record: Record) {
        self.logs.restore(record, self.now);
        self.settled = false;
    }

    /// The record of that number came out of [`Mesh::poll_output`] and is on disk now, with all before it.
    pub fn handle_stored(&mut self, key: &LogKey, number: u64, now: Instant) {
        self.touch(now);
        if self.logs.handle_stored(key, number) {
            self.spread.stored.insert(key.clone());
        }
    }

    /// Whether a record of this relay's own log about a topic is on another relay's disk, as far as told.
    pub fn is_saved(&self, topic: &Topic, number: u64) -> bool {
        self.logs.is_elsewhere(topic, number)
    }

    /// Whether a record that is appended now can be expected on another disk soon.
    pub fn has_neighbors(&self) -> bool {
        !self.neighbors.is_empty()
    }

    pub(crate) fn take_append(
        &mut self,
        arrival: Arrival,
        path: Vec<NodeId>,
        now: Instant,
    ) -> Result<(), MeshError> {
        let (link, neighbor, pulled) = (arrival.link, arrival.neighbor, arrival.pulled.is_some());
        if !pulled && path.last() != Some(&neighbor) {
            return Err(MeshError::Absurd { what: "a record pushed by somebody else" });
        }
        if path.contains(&self.config.id) {
            self.logs.counters.looped += 1;
            return Ok(());
        }
        let (key, database) = (arrival.key.clone(), &self.database);
        let known =
            |writer: &NodeId| database.links(writer).is_some() || database.publication(writer).is_some();
        let taken = self.logs.take(arrival, &*self.config.keys, &known, now)?;
        if let Some(link) = self.links.get_mut(&link) {
            link.counters.duplicates += taken.duplicates;
        }
        self.outputs.extend(self.logs.poll_life().or(taken.life).map(Output::Life));
        if pulled && !taken.new.is_empty() {
            self.outputs.extend(taken.new.into_iter().map(Output::Record));
            self.gather(&key, false, &[neighbor]);
        } else if !taken.new.is_empty() {
            self.push(taken.new, path);
        }
        Ok(())
    }

    pub(crate) fn take_heads(&mut self, link: LinkId, heads: &[Head], fresh: bool, now: Instant) {
        self.logs.handle_heads(link, heads, if fresh { now + GATHER } else { now });
    }

    pub(crate) fn take_topics(
        &mut self,
        link: LinkId,
        (after, until): (Option<Topic>, Option<Topic>),
        entries: &[(Topic, u64)],
    ) {
        for message in self.logs.differing((after.as_ref(), until.as_ref()), entries) {
            self.send(link, &message);
        }
    }

    pub(crate) fn take_pull(&mut self, link: LinkId, key: LogKey, after: u64) {
        let answer = self.logs.answer(key, after);
        self.send(link, &answer);
    }

    pub(crate) fn take_stored(&mut self, entries: &[(LogKey, u64)]) {
        for (key, upto) in entries {
            if !self.logs.handle_elsewhere(key, *upto) {
                continue;
            }
            if key.writer == self.config.id {
                self.outputs.push_back(Output::Saved { key: key.clone(), upto: *upto });
            } else {
                self.spread.stored.insert(key.clone());
            }
        }
    }

    /// Finds out, with the neighbor, what either lacks.
    pub(crate) fn compare_logs(&mut self, link: LinkId) {
        for message in self.logs.compare() {
            self.send(link, &message);
        }
    }

    /// A writer that is a neighbor again is told what of its own is on disk here.
    pub(crate) fn tell_writer(&mut self, link: LinkId) {
        if let Some(neighbor) = self.links.get(&link).map(|link| link.neighbor) {
            self.spread.stored.extend(self.logs.written_by(&neighbor));
        }
    }

    /// What has waited for the end of a batch, or for its time.
    pub(crate) fn settle_logs(&mut self, now: Instant) {
        for (key, floor) in self.logs.poll_floors() {
            self.outputs.push_back(Output::Forget { key, below: floor + 1 });
        }
        self.tell_stored();
        if self.spread.due.is_some_and(|due| due <= now) {
            self.tell_news();
        }
        let links = &self.links;
        let neighbor = |link| links.get(&link).map(|link| link.neighbor);
        for (link, ask) in self.logs.poll_pulls(neighbor, now) {
            self.send(link, &ask);
        }
    }

    pub(crate) fn poll_spread(&self) -> Option<Instant> {
        self.spread.due.into_iter().chain(self.logs.poll_timeout()).min()
    }

    /// New records of one log go out, and on along their writer's tree; to the other neighbors goes word of
    /// them. Announcements go everywhere at once.
    fn push(&mut self, records: Vec<Record>, mut path: Vec<NodeId>) {
        let Some(Record { key, number: first, .. }) = records.first().cloned() else { return };
        let entries = records.iter().map(|record| record.entry.clone()).collect();
        self.outputs.extend(records.into_iter().map(Output::Record));
        let from = path.clone();
        path.push(self.config.id);
        if path.len() > Message::HOPS_MAX {
            self.gather(&key, false, &from);
            return;
        }
        let to = self.pushed_to(&key, &from);
        let mut told = from;
        told.extend(to.iter().filter_map(|link| self.links.get(link)).map(|link| link.neighbor));
        let message = Message::Append { key: key.clone(), first, entries, path, pulled: None };
        let bytes = message.encode();
        for link in to {
            self.send_bytes(link, &message, bytes.clone());
        }
        self.gather(&key, true, &told);
    }

    fn pushed_to(&mut self, key: &LogKey, from: &[NodeId]) -> Vec<LinkId> {
        if key.topic.class() == Class::Announcement {
            let others = self.links.iter().filter(|(_, link)| !from.contains(&link.neighbor));
            return others.map(|(id, _)| *id).collect();
        }
        let (own, now) = (self.config.id, self.now);
        let neighbors = neighbors(&self.links).into_iter().filter(|(id, _)| !from.contains(id));
        let mut to = Vec::new();
        for (id, neighbor) in neighbors {
            let turn = match self.border.crosses(neighbor.link) {
                true => Turn::Unknown,
                false => self.flood.trees.turn(&self.routes, &own, (&id, &key.writer), now),
            };
            if turn != Turn::Elsewhere && id != key.writer {
                to.push(neighbor.link);
            }
        }
        to
    }

    /// Neighbors other than these will hear that a log goes further.
    fn gather(&mut self, key: &LogKey, pushed: bool, except: &[NodeId]) {
        for id in neighbors(&self.links).into_keys().filter(|id| !except.contains(id)) {
            let pushed_so_far = self.spread.news.entry(id).or_default().entry(key.clone()).or_insert(true);
            *pushed_so_far &= pushed;
            self.spread.due.get_or_insert(self.now + GATHER);
        }
    }

    fn tell_news(&mut self) {
        self.spread.due = None;
        let neighbors = neighbors(&self.links);
        for (id, logs) in std::mem::take(&mut self.spread.news) {
            let Some(link) = neighbors.get(&id).map(|neighbor| neighbor.link) else { continue };
            for fresh in [false, true] {
                let keys = logs.iter().filter(|(_, pushed)| **pushed == fresh).map(|(key, _)| key);
                for message in self.logs.heads(keys, fresh) {
                    self.send(link, &message);
                }
            }
        }
    }

    /// Toward the writer: to itself if it is a neighbor, else to whoever brought the records.
    fn tell_stored(&mut self) {
        if self.spread.stored.is_empty() {
            return;
        }
        let neighbors = neighbors(&self.links);
        let mut told: BTreeMap<LinkId, Vec<(LogKey, u64)>> = BTreeMap::new();
        for key in std::mem::take(&mut self.spread.stored) {
            let writer = neighbors.get(&key.writer).map(|neighbor| neighbor.link);
            let from = || self.logs.from(&key).filter(|link| self.links.contains_key(link));
            let upto = self.logs.saved(&key);
            if let Some(link) = writer.or_else(from).filter(|_| upto > 0) {
                told.entry(link).or_default().push((key, upto));
            }
        }
        for (link, entries) in told {
            for part in entries.chunks(Message::HEADS_MAX) {
                self.send(link, &Message::Stored { entries: part.to_vec() });
            }
        }
    }
}
