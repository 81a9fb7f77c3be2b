//! The doors of [`Mesh`] for logs, and what replication sees of the rest of a relay. What a log holds is in `log/mod.rs`,
//! how records get around in `log/replication.rs`.

use std::time::Instant;

use bytes::Bytes;
use protocol::{NodeId, Topic, WallTime};

use crate::{
    error::MeshError,
    linkstate::flood::FirstHop,
    log::{
        NotStored,
        durable_order::{Parcel, Released},
        replication::{self, Replication},
    },
    mesh::{Mesh, output::Output},
    wire::{
        log_entry::{LogEntry, LogKey},
        metric::LinkId,
    },
};

impl Mesh {
    /// What the wall clock says: as often as it is convenient, at boot before any record, and before
    /// [`Mesh::handle_append`]. Routing never looks at it.
    pub fn handle_wall(&mut self, wall: WallTime, now: Instant) {
        self.replication.logs_mut().handle_wall(wall, now);
    }

    /// Appends to this relay's own log about a topic and sends it to every relay. Returns the log and the
    /// record's number.
    ///
    /// # Errors
    ///
    /// [`MeshError::TooLong`] for a payload of more than [`crate::log::PAYLOAD_MAX`] bytes, [`MeshError::Full`] if there
    /// are too many logs, [`MeshError::DiskTooSlow`] if too much waits for the disk.
    pub fn handle_append(
        &mut self,
        topic: Topic,
        payload: Bytes,
        now: Instant,
    ) -> Result<(LogKey, u64), MeshError> {
        self.touch(now);
        self.replicate(|replication, view, now| replication.handle_append(topic, payload, view, now))
    }

    /// Appends again what [`Mesh::poll_lapsing`] gave, however far the disk is behind.
    ///
    /// # Errors
    ///
    /// [`MeshError::TooLong`] and [`MeshError::Full`], as for [`Mesh::handle_append`].
    pub fn handle_renewal(
        &mut self,
        topic: Topic,
        payload: Bytes,
        now: Instant,
    ) -> Result<(LogKey, u64), MeshError> {
        self.touch(now);
        self.replicate(|replication, view, now| replication.handle_renewal(topic, payload, view, now))
    }

    /// The oldest record of this relay's own log about a topic that will be dropped soon, each once: log, number and
    /// payload. Whoever wants it to stay gives it to [`Mesh::handle_renewal`], so that every relay keeps it.
    pub fn poll_lapsing(&mut self, topic: &Topic) -> Option<(LogKey, u64, Bytes)> {
        self.replication.logs_mut().poll_lapsing(topic)
    }

    /// A record from disk, per log in order: at boot, before any link. It does not come out again.
    pub fn handle_restore(&mut self, record: LogEntry) {
        self.replication.logs_mut().restore(record, self.now);
        self.settled = false;
    }

    /// A record on the disk is not what was written there: at boot, before the records of its log. What is behind it is
    /// kept, and neighbors are asked for it.
    pub fn handle_damaged(&mut self, key: LogKey, number: u64) {
        self.replication.logs_mut().handle_damaged(key, number);
    }

    /// The disk has answered for the [`Output::Store`](crate::Output::Store) that came out first of those it has not
    /// answered for yet.
    pub fn handle_stored(&mut self, result: Result<(), NotStored>, now: Instant) {
        self.touch(now);
        self.replicate(|replication, _, _| replication.handle_stored(result));
    }

    /// Whether a record of a log of this relay's is on another relay's disk, as far as told.
    pub fn is_saved(&self, key: &LogKey, number: u64) -> bool {
        self.replication.logs().is_elsewhere(key, number)
    }

    /// Whether a record that is appended now can be expected on another disk soon.
    pub fn has_neighbors(&self) -> bool {
        !self.neighbors.is_empty()
    }

    /// The next output in the order of the disk: what has waited for it comes first, what has to wait stays here.
    pub(super) fn poll_in_order(&mut self) -> Option<Output> {
        loop {
            if let Some(released) = self.replication.poll_released() {
                return Some(released.into());
            }
            let passed = match self.outputs.pop_front()? {
                Output::Send { link, class, message } => {
                    self.replication.pass_send(Parcel { link, class, message }).map(Output::from)
                }
                Output::Store(record) => {
                    let passed = self.replication.pass_record(record).map(Output::Store);
                    if passed.is_none() {
                        self.replicate(|replication, _, _| replication.release());
                    }
                    passed
                }
                other => Some(other),
            };
            if passed.is_some() {
                return passed;
            }
        }
    }

    /// No more records than these may be on their way to the disk: thousands at a time are rare in simulations.
    #[cfg(any(test, feature = "sim"))]
    pub fn handle_disk_room(&mut self, room: usize) {
        self.replication.handle_room(room);
    }

    pub(super) fn settle_logs(&mut self) {
        self.replicate(|replication, view, now| replication.settle(view, now));
    }

    /// Lets replication do something, and carries out what comes of it.
    pub(super) fn replicate<T>(
        &mut self,
        what: impl FnOnce(&mut Replication, &mut replication::View<'_>, Instant) -> T,
    ) -> T {
        let now = self.now;
        let (own, border, routes, rpf) = (&self.config.id, &self.border, &self.routes, &mut self.rpf);
        let mut first_hop = |(id, link): (&NodeId, LinkId), writer: &NodeId| match border.crosses(link) {
            true => FirstHop::Unknown,
            false => rpf.turn(routes, own, (id, writer), now),
        };
        let mut view = replication::View {
            keys: &*self.config.keys,
            links: &self.links,
            lsdb: self.flooding.lsdb(),
            first_hop: &mut first_hop,
        };
        let result = what(&mut self.replication, &mut view, now);
        while let Some(event) = self.replication.poll_event() {
            match event {
                replication::Event::Send(link, message) => self.send(link, message),
                replication::Event::Store(record) => {
                    if let Topic::Unknown(topic) = &record.key.topic {
                        self.take_topic(&record.key.writer, topic);
                    }
                    self.outputs.push_back(Output::Store(record));
                }
                replication::Event::Returned(from, key, number) => {
                    self.outputs.push_back(Output::Returned { from, key, number });
                }
                replication::Event::Bad(from, key, number) => {
                    self.outputs.push_back(Output::BadRecord { from, key, number });
                }
                replication::Event::Saved(key, upto) => self.outputs.push_back(Output::Saved { key, upto }),
                replication::Event::Forget(key, below) => {
                    self.outputs.push_back(Output::Forget { key, below });
                }
                replication::Event::Duplicates(link, count) => self.handle_duplicates(link, count),
            }
        }
        result
    }
}

impl From<Released> for Output {
    fn from(released: Released) -> Output {
        match released {
            Released::Record(record, stored) => Output::Record { record, stored },
            Released::Send(parcel) => parcel.into(),
        }
    }
}

impl From<Parcel> for Output {
    fn from(Parcel { link, class, message }: Parcel) -> Output {
        Output::Send { link, class, message }
    }
}
