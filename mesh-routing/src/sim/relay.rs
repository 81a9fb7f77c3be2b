//! A relay of the simulation, and what its driver keeps: the disk, the forwarding table it read last.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use protocol::{NodeId, mesh::TrackKey};

use super::{
    event::Toward,
    media::{Heard, Packet, Passed},
};
use crate::{AreaId, ForwardEntry, LogEntry, LogKey, Mesh};

/// A relay and what its driver keeps.
#[derive(Debug)]
pub struct Relay {
    /// Its id.
    pub id: NodeId,
    /// None while it is dead.
    pub mesh: Option<Box<Mesh>>,
    /// What it wrote to disk, in order.
    pub disk: Vec<LogEntry>,
    /// The forwarding table its driver read last.
    pub table: Vec<ForwardEntry>,
    /// What it hears, by track.
    pub heard: BTreeMap<TrackKey, Heard>,
    /// Payloads of the records that came, its own too, and when.
    pub arrivals: Vec<(Bytes, Instant)>,
    /// Keyframes its publisher was asked for.
    pub keyframes: u64,
    /// Its own logs, and how far they are on another disk.
    pub saved: BTreeMap<LogKey, u64>,
    /// How far its wall clock is ahead, in milliseconds, from its next start.
    pub skew: i64,
    /// The area it is in when it starts.
    pub area: AreaId,
    pub(super) boot: u64,
    /// Another one each time the disk was lost.
    pub(super) life: u64,
    pub(super) published: BTreeSet<TrackKey>,
    pub(super) wanted: BTreeSet<TrackKey>,
    /// When its mesh wants to be called, and the earliest entry among the events that does it.
    pub(super) due: Option<Instant>,
    pub(super) scheduled: Option<Instant>,
    /// Deadlines that were met and still stood, in a row.
    pub(super) stuck: u32,
    pub(super) sleeps_until: Option<Instant>,
    /// Packets that came while it slept.
    pub(super) inbox: Vec<(Toward, Packet)>,
    passed: BTreeMap<Arc<TrackKey>, Passed>,
    /// The last number of each log on disk.
    last: BTreeMap<LogKey, u64>,
}

impl Relay {
    pub(super) fn new(id: NodeId) -> Relay {
        Relay {
            id,
            mesh: None,
            disk: Vec::new(),
            table: Vec::new(),
            heard: BTreeMap::new(),
            arrivals: Vec::new(),
            keyframes: 0,
            saved: BTreeMap::new(),
            skew: 0,
            area: AreaId::default(),
            boot: 0,
            life: 0,
            published: BTreeSet::new(),
            wanted: BTreeSet::new(),
            due: None,
            scheduled: None,
            stuck: 0,
            sleeps_until: None,
            inbox: Vec::new(),
            passed: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    pub(super) fn sleeps(&self, now: Instant) -> bool {
        self.sleeps_until.is_some_and(|until| until > now)
    }

    /// Says whether a packet is fresh here: no relay forwards it twice.
    pub(super) fn pass(&mut self, packet: &Packet) -> bool {
        match self.passed.get_mut(&packet.track) {
            Some(passed) => passed.note(packet.number),
            None => self.passed.entry(packet.track.clone()).or_default().note(packet.number),
        }
    }

    pub(super) fn keep(&mut self, record: LogEntry, lied_to: bool, now: Instant) {
        let last = self.last.entry(record.key.clone()).or_default();
        let jumps = lied_to && record.number > *last + 1;
        assert!(record.number == *last + 1 || jumps, "records of a log come in order, each once");
        *last = record.number;
        self.arrivals.push((record.entry.payload.clone(), now));
        self.disk.push(record);
    }

    /// It loses its power, and what it had in memory.
    pub(super) fn die(&mut self) {
        (self.mesh, self.due, self.sleeps_until) = (None, None, None);
        self.table.clear();
        self.heard.clear();
        self.passed.clear();
        self.inbox.clear();
    }

    /// Its disk is what it was.
    pub(super) fn put_back(&mut self, disk: Vec<LogEntry>) {
        self.last = disk.iter().map(|record| (record.key.clone(), record.number)).collect();
        self.disk = disk;
    }

    /// It loses its disk.
    pub(super) fn wipe(&mut self) {
        self.disk.clear();
        self.arrivals.clear();
        self.last.clear();
        self.boot = 0;
    }
}
