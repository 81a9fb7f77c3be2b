//! A relay of the simulation, and what its driver keeps: the disk, the forwarding table it read last.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use protocol::{BridgeVersions, NodeId, mesh::TrackKey};

use super::{
    disk::{Acknowledged, Disk, Job},
    event::Toward,
    media::{Heard, Packet, Passed},
    random::Random,
};
use crate::{AreaId, ForwardEntry, LogEntry, LogKey, Mesh};

/// A relay and what its driver keeps.
#[derive(Debug)]
pub struct Relay {
    /// Its id.
    pub id: NodeId,
    /// None while it is dead.
    pub mesh: Option<Box<Mesh>>,
    /// The records that it shows, in the order in which they came, or were read at its start.
    pub records: Vec<LogEntry>,
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
    /// The bridge versions it speaks from its next start on.
    pub versions: BridgeVersions,
    pub(super) disk: Disk,
    pub(super) acknowledged: Acknowledged,
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
    /// The last number of each log that it shows.
    last: BTreeMap<LogKey, u64>,
}

impl Relay {
    pub(super) fn new(id: NodeId, random: Random) -> Relay {
        Relay {
            id,
            mesh: None,
            records: Vec::new(),
            table: Vec::new(),
            heard: BTreeMap::new(),
            arrivals: Vec::new(),
            keyframes: 0,
            saved: BTreeMap::new(),
            skew: 0,
            area: AreaId::default(),
            versions: BridgeVersions::SPOKEN,
            disk: Disk::new(random),
            acknowledged: Acknowledged::default(),
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

    /// Whether it knows of a link what that carries.
    pub(super) fn is_narrow(&self) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| mesh.capacities().next().is_some())
    }

    /// Whether it knows of a link that it is too narrow for any picture.
    pub(super) fn is_narrow_for_sound(&self) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| mesh.capacities().any(|(_, rate)| rate < 1_000_000))
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

    /// A record is on its disk, or cannot be.
    pub(super) fn keep(&mut self, record: LogEntry, stored: bool, gaps: bool, now: Instant) {
        let last = self.last.entry(record.key.clone()).or_default();
        let is = |known: &LogEntry| (&known.key, known.number) == (&record.key, record.number);
        let jumps = gaps && (record.number > *last || !self.records.iter().any(is));
        assert!(record.number == *last + 1 || jumps, "records of a log come in order, each once");
        *last = record.number.max(*last);
        self.arrivals.push((record.entry.payload.clone(), now));
        self.acknowledged.note(&record, stored);
        self.records.push(record);
    }

    /// Records of a log are not needed any more.
    pub(super) fn forget(&mut self, key: LogKey, below: u64) {
        self.records.retain(|record| record.key != key || record.number >= below);
        self.acknowledged.forget(&key, below);
        self.disk.handle_job(Job::Forget(key, below));
    }

    /// It starts: its boot, the records that its disk has, and those that are damaged there.
    pub(super) fn load(&mut self) -> (u64, Vec<(LogKey, u64)>) {
        let (boot, records) = self.disk.load();
        self.acknowledged.check(&records);
        self.last = records.iter().map(|record| (record.key.clone(), record.number)).collect();
        self.records = records;
        (boot, self.disk.written.damaged())
    }

    /// It loses its power, and what it had in memory.
    pub(super) fn die(&mut self) {
        (self.mesh, self.due, self.sleeps_until) = (None, None, None);
        self.disk.handle_crash();
        self.table.clear();
        self.heard.clear();
        self.passed.clear();
        self.inbox.clear();
    }

    /// A bit flips in one of the records on its disk.
    pub(super) fn damage(&mut self) {
        if let Some((key, number)) = self.disk.handle_damage() {
            self.acknowledged.lose(&key, number);
        }
    }

    /// Its disk is what it was when it was copied.
    pub(super) fn put_back(&mut self) {
        self.disk.handle_put_back();
        self.acknowledged.clear();
    }

    /// It loses its disk.
    pub(super) fn wipe(&mut self) {
        self.disk.handle_wipe();
        self.acknowledged.clear();
        self.arrivals.clear();
    }
}
