//! What each relay says of itself, and the database of what all of them said.
//! When a record is made and where it is sent belongs to `flood.rs`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use protocol::{Kind, NodeId, StreamName, ZoneName, mesh::StreamAdvertisement};
use serde::{Deserialize, Serialize};

use crate::{error::MeshError, link::Capacity};

/// Relays in one mesh.
pub const NODES_MAX: usize = 8192;
/// Neighbors of one relay.
pub const LINKS_MAX: usize = 64;
/// Streams published at one relay.
pub const STREAMS_MAX: usize = 256;
/// Streams that one relay may say it hears.
pub const HEARD_MAX: usize = 256;
/// Addresses at which other relays reach one relay.
pub const ADDRESSES_MAX: usize = 4;
/// A record older than this is forgotten.
pub const EXPIRY: Duration = Duration::from_secs(15 * 60);

/// Bytes of records kept, as [`LinkState::weight`] counts them: 8192 relays of the usual size are a tenth.
pub const DATABASE_MAX: usize = 32 << 20;
/// Sequences above this cannot be reached honestly: a relay could never jump over its own.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;
/// Sequences up to this one, a million starts, are believed at once.
const SEQUENCE_EASY: u64 = 1 << 52;
/// Higher ones have to follow the last one known within 4096 starts, so that no single lie uses them up.
const SEQUENCE_STEP: u64 = 1 << 44;
/// No name is published so often.
pub(crate) const SINCE_MAX: u64 = 1 << 48;
const LAYERS_MAX: u8 = 8;

/// What a relay says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Who says it.
    pub origin: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Boot counter in the high 32 bits, records since in the low 32.
    pub sequence: u64,
    /// Neighbors it can talk to, ascending by id.
    pub links: Vec<Edge>,
    /// What is published there, ascending by name.
    pub streams: Vec<Advertised>,
    /// Live streams somebody listens to there, ascending. Nothing is decided by it.
    pub heard: Vec<StreamName>,
    /// Where other relays reach it, if it wants to be reached: at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
}

/// One neighbor in a [`LinkState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The other end.
    pub neighbor: NodeId,
    /// What routing adds up.
    pub cost: u16,
    /// Round trip in microseconds.
    pub rtt_us: u32,
    /// Share of packets lost, in 1/65535.
    pub loss: u16,
    /// What it carries: a bound for trees, not a part of the cost.
    pub capacity: Capacity,
}

/// A stream in a [`LinkState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertised {
    /// Name and tracks.
    pub stream: StreamAdvertisement,
    /// One more than any `since` of this name the origin knew when it was published: of two origins of one
    /// name the later publication has the higher one, without a clock.
    pub since: u64,
}

impl LinkState {
    /// Refuses what no relay says.
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        let absurd = |what| Err(MeshError::Absurd { what });
        if self.sequence > SEQUENCE_MAX {
            return absurd("a sequence this high");
        }
        if self.links.len() > LINKS_MAX || self.streams.len() > STREAMS_MAX || self.heard.len() > HEARD_MAX {
            return absurd("a record with this many links or streams");
        }
        if self.addresses.len() > ADDRESSES_MAX {
            return absurd("a relay in this many places");
        }
        if self.links.iter().any(|edge| edge.capacity > Capacity::MAX) {
            return absurd("a capacity this high");
        }
        if !self.heard.is_sorted_by(|a, b| a < b) {
            return absurd("heard streams out of order");
        }
        if !self.links.is_sorted_by(|a, b| a.neighbor < b.neighbor) {
            return absurd("links out of order");
        }
        if self.links.iter().any(|edge| edge.neighbor == self.origin || edge.cost == 0) {
            return absurd("a link to oneself or without cost");
        }
        if !self.streams.is_sorted_by(|a, b| a.stream.name < b.stream.name) {
            return absurd("streams out of order");
        }
        for advertised in &self.streams {
            if advertised.since > SINCE_MAX {
                return absurd("a name published this often");
            }
            check_stream(&advertised.stream)?;
        }
        Ok(())
    }

    /// About the bytes it takes in memory.
    fn weight(&self) -> usize {
        let streams = self.streams.iter().map(|ad| 160 + 2 * ad.stream.name.as_str().len());
        let heard = self.heard.iter().map(|name| 40 + name.as_str().len());
        320 + self.addresses.len() * 32
            + self.links.len() * 48
            + streams.sum::<usize>()
            + heard.sum::<usize>()
    }

    /// The edge to `neighbor`.
    pub fn edge(&self, neighbor: &NodeId) -> Option<&Edge> {
        let at = self.links.binary_search_by(|edge| edge.neighbor.cmp(neighbor)).ok()?;
        self.links.get(at)
    }

    /// Whether a track is published there.
    pub fn publishes(&self, stream: &StreamName, kind: Kind) -> bool {
        self.streams
            .binary_search_by(|advertised| advertised.stream.name.cmp(stream))
            .ok()
            .and_then(|at| self.streams.get(at))
            .is_some_and(|advertised| advertised.stream.tracks.iter().any(|track| track.kind == kind))
    }
}

/// Whether a relay may have said something under this sequence, after what is the last one known.
pub(crate) fn plausible(sequence: u64, last: Option<u64>) -> bool {
    let follows = |last| sequence.saturating_sub(last) <= SEQUENCE_STEP;
    sequence <= SEQUENCE_EASY || last.is_some_and(follows)
}

/// At most one track of each kind, with a sane number of layers.
pub(crate) fn check_stream(stream: &StreamAdvertisement) -> Result<(), MeshError> {
    let absurd = |what| Err(MeshError::Absurd { what });
    if stream.tracks.is_empty() || stream.tracks.len() > 2 {
        return absurd("a stream without tracks or with more than two");
    }
    if stream.tracks.len() == 2 && stream.tracks[0].kind == stream.tracks[1].kind {
        return absurd("a stream with two tracks of one kind");
    }
    if stream.tracks.iter().any(|track| track.layers == 0 || track.layers > LAYERS_MAX) {
        return absurd("a track without layers or with too many");
    }
    Ok(())
}

/// A record in the database.
#[derive(Debug, Clone)]
pub struct Held {
    /// The newest record of its origin.
    pub record: LinkState,
    /// When it is forgotten unless a newer one comes.
    pub expires: Instant,
    /// Since when the origin is known here.
    pub since: Instant,
    /// Since when each of its streams is known here.
    pub streams_since: BTreeMap<StreamName, Instant>,
}

impl Held {
    /// How old the record is, as counted by all relays it passed.
    pub fn age_ms(&self, now: Instant) -> u32 {
        let age = EXPIRY.saturating_sub(self.expires.saturating_duration_since(now));
        u32::try_from(age.as_millis()).unwrap_or(u32::MAX)
    }
}

/// What came of offering a record to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It is newer; whether routes or streams may differ now.
    Newer {
        /// Zone, edges, costs or streams differ.
        changed: bool,
        /// The set of edges or streams differs, not just costs.
        shape: bool,
        /// It has other listeners.
        heard: bool,
    },
    /// It is known already.
    Same,
    /// A newer one is here.
    Older,
}

/// The newest record of every relay, the own one included.
#[derive(Debug, Default)]
pub struct Database {
    records: BTreeMap<NodeId, Held>,
    bytes: usize,
}

impl Database {
    /// Takes a record that [`LinkState::check`] has passed, if it is newer than the one held.
    pub fn offer(&mut self, record: LinkState, age: Duration, now: Instant) -> Result<Offered, MeshError> {
        let held = self.records.get(&record.origin);
        match held.map(|held| record.sequence.cmp(&held.record.sequence)) {
            Some(std::cmp::Ordering::Less) => return Ok(Offered::Older),
            Some(std::cmp::Ordering::Equal) => return Ok(Offered::Same),
            _ => {}
        }
        let left = EXPIRY.saturating_sub(age);
        if left.is_zero() {
            return Err(MeshError::Absurd { what: "a record that has expired" });
        }
        let changed = held.is_none_or(|held| {
            held.record.links != record.links
                || held.record.streams != record.streams
                || held.record.zone != record.zone
        });
        let shape = held.is_none_or(|held| {
            held.record.streams != record.streams
                || !held.record.links.iter().map(|e| e.neighbor).eq(record.links.iter().map(|e| e.neighbor))
        });
        let heard = held.is_none_or(|held| held.record.heard != record.heard);
        let since = held.map_or(now, |held| held.since);
        let streams_since = record
            .streams
            .iter()
            .map(|advertised| {
                let name = &advertised.stream.name;
                let known = held.and_then(|held| {
                    let before = held.record.streams.iter().find(|old| old.stream.name == *name)?;
                    let at = held.streams_since.get(name)?;
                    (before.since == advertised.since).then_some(*at)
                });
                (name.clone(), known.unwrap_or(now))
            })
            .collect();
        let expires = now + left;
        self.bytes = self.bytes_with(&record);
        self.records.insert(record.origin, Held { record, expires, since, streams_since });
        Ok(Offered::Newer { changed, shape, heard })
    }

    /// Whether a record of another relay may be taken without breaking a bound.
    pub fn room_for(&self, record: &LinkState) -> Result<(), MeshError> {
        if self.records.len() >= NODES_MAX && !self.records.contains_key(&record.origin) {
            return Err(MeshError::Full { what: "relay" });
        }
        let bytes = self.bytes_with(record);
        if bytes > DATABASE_MAX && bytes > self.bytes {
            return Err(MeshError::Full { what: "record" });
        }
        Ok(())
    }

    fn bytes_with(&self, record: &LinkState) -> usize {
        let old = self.records.get(&record.origin).map_or(0, |held| held.record.weight());
        self.bytes - old + record.weight()
    }

    /// Forgets what nobody refreshed; says whether there was any.
    pub fn expire(&mut self, own: &NodeId, now: Instant) -> bool {
        self.keep(|origin, held| origin == own || held.expires > now)
    }

    /// Forgets all others; says whether there were any.
    pub fn keep(&mut self, which: impl Fn(&NodeId, &Held) -> bool) -> bool {
        let before = self.records.len();
        self.records.retain(|origin, held| which(origin, held));
        self.bytes = self.records.values().map(|held| held.record.weight()).sum();
        self.records.len() != before
    }

    /// The record of a relay.
    pub fn get(&self, origin: &NodeId) -> Option<&Held> {
        self.records.get(origin)
    }

    /// All records, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Held)> {
        self.records.iter()
    }

    /// How many relays are known.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// What the records take, as [`DATABASE_MAX`] bounds it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Equal on two relays that have the same records.
    pub fn hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (origin, held) in &self.records {
            hasher.update(&origin.0);
            hasher.update(&held.record.sequence.to_be_bytes());
        }
        crate::flood::first_word(&hasher)
    }
}
