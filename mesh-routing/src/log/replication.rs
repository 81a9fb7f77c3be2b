//! Log records on their way: appended here, pushed along the writer's tree, announced, pulled, acknowledged.
//! What a log holds, and what is asked for, belongs to `log/mod.rs`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{NodeId, Topic, mesh::Class};

use crate::{
    error::MeshError,
    link::{Link, neighbor::neighbors},
    linkstate::{flood::FirstHop, lsdb::Lsdb},
    log::{
        Arrival, Logs, NotStored,
        durable_order::{DurableOrder, Parcel, Released},
    },
    wire::{
        log_entry::{LogEntry, LogKey, PAYLOAD_MAX},
        message::{Encoded, Head, Message},
        metric::LinkId,
        signature::Keys,
    },
};

/// News of logs is collected for so long, and what a neighbor has news of may come by itself for so long: a tree that is
/// out of date costs both, and a lively room one message for many records.
pub const GATHER: Duration = Duration::from_millis(40);

/// What replication may look at, and whom it asks.
pub(crate) struct View<'a> {
    pub keys: &'a dyn Keys,
    pub links: &'a BTreeMap<LinkId, Link>,
    pub lsdb: &'a Lsdb,
    /// How the way of a neighbor, over its best link, to a writer begins.
    pub first_hop: &'a mut dyn FnMut((&NodeId, LinkId), &NodeId) -> FirstHop,
}

/// What replication wants done, in this order.
#[derive(Debug)]
pub(crate) enum Event {
    Send(LinkId, Encoded),
    /// A record that was never here before: to the disk.
    Store(LogEntry),
    /// A neighbor gave back what this relay wrote and its disk does not have.
    Returned(NodeId, LogKey, u64),
    /// A neighbor brought a record that its writer did not sign, with others that are good.
    Bad(NodeId, LogKey, u64),
    /// Records of the own log up to a number are on another disk.
    Saved(LogKey, u64),
    /// Records below a number are forgotten.
    Forget(LogKey, u64),
    /// So many records that came on the link were here already.
    Duplicates(LinkId, u64),
}

/// The logs, and what is to be told of them.
#[derive(Debug)]
pub(crate) struct Replication {
    own: NodeId,
    logs: Logs,
    /// For each neighbor the logs that go further; whether their records are being pushed by somebody.
    news: BTreeMap<NodeId, BTreeMap<LogKey, bool>>,
    due: Option<Instant>,
    /// Logs of others that are on a disk here or beyond, further than was told.
    stored: BTreeSet<LogKey>,
    order: DurableOrder,
    /// What waited for the disk and does not any more.
    released: VecDeque<Released>,
    events: VecDeque<Event>,
}

impl Replication {
    /// No logs yet, and an incarnation of the seed until it is told which one this is.
    pub fn new(own: NodeId, seed: u64) -> Replication {
        Replication {
            own,
            logs: Logs::new(own, seed),
            news: BTreeMap::new(),
            due: None,
            stored: BTreeSet::new(),
            order: DurableOrder::default(),
            released: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// What is here.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// What is here, to be changed by what concerns this relay alone.
    pub fn logs_mut(&mut self) -> &mut Logs {
        &mut self.logs
    }

    /// Appends to the own log of a topic and sends it on its way, unless the disk is too far behind.
    ///
    /// # Errors
    ///
    /// [`MeshError::DiskTooSlow`] if too much waits for the disk, [`MeshError::TooLong`] for a payload of more than
    /// [`PAYLOAD_MAX`] bytes, [`MeshError::Full`] if there is no place for another log.
    pub fn handle_append(
        &mut self,
        topic: Topic,
        payload: Bytes,
        view: &mut View<'_>,
        now: Instant,
    ) -> Result<(LogKey, u64), MeshError> {
        if self.order.is_full(topic.class()) {
            return Err(MeshError::DiskTooSlow);
        }
        self.handle_renewal(topic, payload, view, now)
    }

    /// As [`Replication::handle_append`], however far the disk is behind: what is to stay is given here once.
    ///
    /// # Errors
    ///
    /// [`MeshError::TooLong`] and [`MeshError::Full`], as there.
    pub fn handle_renewal(
        &mut self,
        topic: Topic,
        payload: Bytes,
        view: &mut View<'_>,
        now: Instant,
    ) -> Result<(LogKey, u64), MeshError> {
        if payload.len() > PAYLOAD_MAX {
            return Err(MeshError::TooLong { length: payload.len() });
        }
        let record = self.logs.append(topic, payload, view.keys, now)?;
        let place = (record.key.clone(), record.number);
        self.push(vec![record], Vec::new(), view, now);
        Ok(place)
    }

    /// The disk has answered for the record that it was asked for first.
    pub fn handle_stored(&mut self, result: Result<(), NotStored>) {
        self.order.handle_stored(result);
        self.release();
    }

    /// Lets go what waits for nothing any more.
    pub fn release(&mut self) {
        while let Some(released) = self.order.poll_released() {
            let released = match released {
                Released::Record(record, result) => {
                    let result = self.settle_record(&record, result);
                    Released::Record(record, result)
                }
                other => other,
            };
            self.released.push_back(released);
        }
    }

    /// Notes what the disk said. Gives what may be told of it.
    fn settle_record(&mut self, record: &LogEntry, result: Result<(), NotStored>) -> Result<(), NotStored> {
        if result.is_err() {
            self.logs.handle_refused(&record.key);
        } else if self.logs.is_torn(&record.key) {
            // It is there, and behind a gap: a restart does not find it.
            return Err(NotStored::Failed);
        } else if self.logs.handle_stored(&record.key, record.number) {
            self.stored.insert(record.key.clone());
        }
        result
    }

    /// A record leaves for the disk, unless that is too slow, or lacks one before it: a start cannot tell a log without
    /// its beginning from one whose beginning was forgotten, and would not ask for it. If it does not leave it may wait
    /// for nothing: [`Replication::release`] says.
    pub fn pass_record(&mut self, record: LogEntry) -> Option<LogEntry> {
        if self.logs.has_gap(&record.key) {
            self.order.handle_unasked(record);
        } else {
            let key = record.key.clone();
            let asked = self.order.handle_record(record);
            if asked.is_some() {
                return asked;
            }
            self.logs.handle_gap(&key);
        }
        None
    }

    /// No more records than these may be on their way to the disk.
    #[cfg(any(test, feature = "sim"))]
    pub fn handle_room(&mut self, room: usize) {
        self.order.handle_room(room);
    }

    /// A message leaves, unless it has to wait for a record.
    pub fn pass_send(&mut self, parcel: Parcel) -> Option<Parcel> {
        self.order.handle_send(parcel)
    }

    /// What waited for the disk and does not any more, in order.
    pub fn poll_released(&mut self) -> Option<Released> {
        self.released.pop_front()
    }

    /// Records came from a neighbor.
    ///
    /// # Errors
    ///
    /// [`MeshError::Absurd`] if they were pushed by another relay than their path says, and those of
    /// [`Logs::take`].
    pub fn handle_arrival(
        &mut self,
        arrival: Arrival,
        path: Vec<NodeId>,
        view: &mut View<'_>,
        now: Instant,
    ) -> Result<(), MeshError> {
        let (link, neighbor, pulled) = (arrival.link, arrival.neighbor, arrival.pulled.is_some());
        if !pulled && path.last() != Some(&neighbor) {
            return Err(MeshError::Absurd { what: "a record pushed by somebody else" });
        }
        if path.contains(&self.own) {
            self.logs.counters.looped += 1;
            return Ok(());
        }
        let (key, lsdb) = (arrival.key.clone(), view.lsdb);
        let known = |writer: &NodeId| lsdb.links(writer).is_some() || lsdb.publication(writer).is_some();
        let taken = self.logs.take(arrival, view.keys, &known, now)?;
        self.events.push_back(Event::Duplicates(link, taken.duplicates));
        if let Some(first) = taken.returned(&self.own).next() {
            self.events.push_back(Event::Returned(neighbor, first.key.clone(), first.number));
        }
        if let Some(number) = taken.bad.first() {
            self.events.push_back(Event::Bad(neighbor, key.clone(), *number));
            self.logs.ask_others(&key, view.links.keys().copied().filter(|other| *other != link), now);
        }
        let whole = taken.filled.is_empty() && taken.bad.is_empty();
        self.push_filled(taken.filled, &path, view);
        if (pulled || !whole) && !taken.new.is_empty() {
            self.events.extend(taken.new.into_iter().map(Event::Store));
            self.gather(&key, (false, &[neighbor]), view, now);
        } else if !taken.new.is_empty() {
            self.push(taken.new, path, view, now);
        }
        Ok(())
    }

    /// A neighbor's logs go so far; if that is `fresh` the records may come by themselves.
    pub fn handle_heads(&mut self, link: LinkId, heads: &[Head], fresh: bool, now: Instant) {
        self.logs.handle_heads(link, heads, if fresh { now + GATHER } else { now });
    }

    /// A neighbor's hashes of topics.
    pub fn handle_topics(
        &mut self,
        link: LinkId,
        (after, until): (Option<Topic>, Option<Topic>),
        entries: &[(Topic, u64)],
    ) {
        for message in self.logs.differing((after.as_ref(), until.as_ref()), entries) {
            self.send(link, &message);
        }
    }

    /// A neighbor asks for records.
    pub fn handle_pull(&mut self, link: LinkId, key: LogKey, after: u64) {
        let answer = self.logs.answer(key, after);
        self.send(link, &answer);
    }

    /// Logs are on a disk at a neighbor, or beyond it.
    pub fn handle_elsewhere(&mut self, entries: &[(LogKey, u64)]) {
        for (key, upto) in entries {
            if !self.logs.handle_elsewhere(key, *upto) {
                continue;
            }
            if key.writer == self.own {
                self.events.push_back(Event::Saved(key.clone(), *upto));
            } else {
                self.stored.insert(key.clone());
            }
        }
    }

    /// Finds out, with the neighbor, what either lacks.
    pub fn compare(&mut self, link: LinkId) {
        for message in self.logs.compare() {
            self.send(link, &message);
        }
    }

    /// A writer that is a neighbor again is told what of its own is on disk here.
    pub fn handle_writer(&mut self, neighbor: &NodeId) {
        self.stored.extend(self.logs.written_by(neighbor));
    }

    /// What has waited for the end of a batch, or for its time.
    pub fn settle(&mut self, view: &View<'_>, now: Instant) {
        let floors = self.logs.poll_floors().into_iter();
        self.events.extend(floors.map(|(key, floor)| Event::Forget(key, floor + 1)));
        self.tell_stored(view);
        if self.due.is_some_and(|due| due <= now) {
            self.tell_news(view);
        }
        let neighbor = |link| view.links.get(&link).map(|link| link.neighbor);
        for (link, ask) in self.logs.poll_pulls(neighbor, now) {
            self.send(link, &ask);
        }
    }

    /// When there is something to tell or to ask.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.logs.poll_timeout()).min()
    }

    /// What to do next; `None` when there is nothing left.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// New records of one log go out, and on along their writer's tree; to the other neighbors goes word of
    /// them. Announcements go everywhere at once.
    fn push(&mut self, records: Vec<LogEntry>, mut path: Vec<NodeId>, view: &mut View<'_>, now: Instant) {
        let Some(LogEntry { key, number: first, .. }) = records.first().cloned() else { return };
        let entries = records.iter().map(|record| record.entry.clone()).collect();
        self.events.extend(records.into_iter().map(Event::Store));
        let from = path.clone();
        path.push(self.own);
        if path.len() > Message::HOPS_MAX {
            self.gather(&key, (false, &from), view, now);
            return;
        }
        let to = pushed_to(&key, &from, view);
        let mut told = from;
        told.extend(to.iter().filter_map(|link| view.links.get(link)).map(|link| link.neighbor));
        let message = Message::Append { key: key.clone(), first, entries, path, pulled: None };
        let message = Encoded::from(&message);
        self.events.extend(to.into_iter().map(|link| Event::Send(link, message.clone())));
        self.gather(&key, (true, &told), view, now);
    }

    /// What was lacking in the middle of a log goes to all neighbors: they may lack it too, and heads do not show that.
    fn push_filled(&mut self, records: Vec<LogEntry>, from: &[NodeId], view: &View<'_>) {
        let path: Vec<NodeId> = from.iter().chain([&self.own]).copied().collect();
        let neighbors = neighbors(view.links).into_iter().filter(|(id, _)| !from.contains(id));
        let to: Vec<LinkId> = neighbors.map(|(_, neighbor)| neighbor.link).collect();
        for record in records {
            let LogEntry { key, number: first, entry } = record.clone();
            self.events.push_back(Event::Store(record));
            if path.len() <= Message::HOPS_MAX {
                let message =
                    Message::Append { key, first, entries: vec![entry], path: path.clone(), pulled: None };
                let message = Encoded::from(&message);
                self.events.extend(to.iter().map(|link| Event::Send(*link, message.clone())));
            }
        }
    }

    /// Neighbors other than these will hear that a log goes further.
    fn gather(&mut self, key: &LogKey, (pushed, except): (bool, &[NodeId]), view: &View<'_>, now: Instant) {
        for id in neighbors(view.links).into_keys().filter(|id| !except.contains(id)) {
            let pushed_so_far = self.news.entry(id).or_default().entry(key.clone()).or_insert(true);
            *pushed_so_far &= pushed;
            self.due.get_or_insert(now + GATHER);
        }
    }

    fn tell_news(&mut self, view: &View<'_>) {
        self.due = None;
        let neighbors = neighbors(view.links);
        for (id, logs) in std::mem::take(&mut self.news) {
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
    fn tell_stored(&mut self, view: &View<'_>) {
        if self.stored.is_empty() {
            return;
        }
        let neighbors = neighbors(view.links);
        let mut told: BTreeMap<LinkId, Vec<(LogKey, u64)>> = BTreeMap::new();
        for key in std::mem::take(&mut self.stored) {
            let writer = neighbors.get(&key.writer).map(|neighbor| neighbor.link);
            let from = || self.logs.from(&key).filter(|link| view.links.contains_key(link));
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

    fn send(&mut self, link: LinkId, message: &Message) {
        self.events.push_back(Event::Send(link, message.into()));
    }
}

/// The links that a new record of a log goes out on.
fn pushed_to(key: &LogKey, from: &[NodeId], view: &mut View<'_>) -> Vec<LinkId> {
    // Few and short, and no route is needed: a duplicate costs less than an announcement that is late.
    if key.topic.class() == Class::Announcement {
        let others = view.links.iter().filter(|(_, link)| !from.contains(&link.neighbor));
        return others.map(|(id, _)| *id).collect();
    }
    let mut to = Vec::new();
    for (id, neighbor) in neighbors(view.links).into_iter().filter(|(id, _)| !from.contains(id)) {
        let turn = (view.first_hop)((&id, neighbor.link), &key.writer);
        if turn != FirstHop::ViaOther && id != key.writer {
            to.push(neighbor.link);
        }
    }
    to
}
