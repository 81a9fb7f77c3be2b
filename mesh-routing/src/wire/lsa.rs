//! What each relay says of itself: who its neighbors are, and what is published there.
//! What all of them said is kept in `linkstate/lsdb.rs`; when an LSA is made and where it is sent is `linkstate/flood.rs`'.

use std::{net::SocketAddr, time::Duration};

use protocol::{
    NodeId, StreamName, ZoneName,
    mesh::{StreamAdvertisement, StreamTrack},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::MeshError,
    wire::{hearing::Hearing, metric::Capacity, rates::StreamRates},
};

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
/// An LSA older than this is forgotten (MaxAge, RFC 2328, section 14): each relay adds the time it held it.
pub const EXPIRY: Duration = Duration::from_secs(15 * 60);

/// Sequences above this cannot be reached honestly: a relay could never jump over its own.
pub(crate) const SEQUENCE_MAX: u64 = u64::MAX >> 1;
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
    /// Boot counter in the high 32 bits, LSAs since in the low 32.
    pub sequence: u64,
    /// Neighbors it can talk to, ascending by id.
    pub links: Vec<Edge>,
    /// Live streams somebody listens to there, ascending. Nothing is decided by it.
    pub heard: Vec<StreamName>,
    /// Where other relays reach it, if it wants to be reached: at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// How its listeners fare, if it says so: stands in a [field](crate::wire::hearing) behind the LSA. Nothing is decided by
    /// it.
    #[serde(skip)]
    pub hearing: Option<Box<Hearing>>,
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

/// What is published at a relay. It travels through all areas, while a [`LinkState`] stays in its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Who says it.
    pub origin: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// As in a [`LinkState`], but counted apart.
    pub sequence: u64,
    /// Ascending by name.
    pub streams: Vec<Advertised>,
}

/// A stream in a [`Publication`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertised {
    /// Name and tracks.
    pub stream: StreamAdvertisement,
    /// One more than any `since` of this name the origin knew when it was published: of two origins of one
    /// name the later publication has the higher one, without a clock.
    pub since: u64,
    /// What its tracks take: stands in a [field](crate::wire::rates) behind the LSA.
    #[serde(skip)]
    pub rates: StreamRates,
}

impl LinkState {
    /// A relay with these links, of which nothing else is said.
    pub fn new(origin: NodeId, zone: ZoneName, sequence: u64, links: Vec<Edge>) -> LinkState {
        let (heard, addresses) = (Vec::new(), Vec::new());
        LinkState { origin, zone, sequence, links, heard, addresses, hearing: None }
    }

    /// Refuses what no relay says.
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        let absurd = |what| Err(MeshError::Absurd { what });
        if self.sequence > SEQUENCE_MAX {
            return absurd("a sequence this high");
        }
        if self.links.len() > LINKS_MAX || self.heard.len() > HEARD_MAX {
            return absurd("an LSA with this many links or heard streams");
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
        Ok(())
    }

    /// About the bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        let heard = self.heard.iter().map(|name| 40 + name.as_str().len());
        320 + self.addresses.len() * 32 + self.links.len() * 48 + heard.sum::<usize>()
    }

    /// The edge to `neighbor`.
    pub fn edge(&self, neighbor: &NodeId) -> Option<&Edge> {
        let at = self.links.binary_search_by(|edge| edge.neighbor.cmp(neighbor)).ok()?;
        self.links.get(at)
    }
}

impl Publication {
    /// Refuses what no relay says.
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        let absurd = |what| Err(MeshError::Absurd { what });
        if self.sequence > SEQUENCE_MAX {
            return absurd("a sequence this high");
        }
        if self.streams.len() > STREAMS_MAX {
            return absurd("an LSA with this many streams");
        }
        if !self.streams.is_sorted_by(|a, b| a.stream.name < b.stream.name) {
            return absurd("streams out of order");
        }
        if self.streams.iter().any(|advertised| advertised.since > SINCE_MAX) {
            return absurd("a name published this often");
        }
        self.streams.iter().try_for_each(|advertised| check_stream(&advertised.stream))
    }

    /// About the bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        let streams = self.streams.iter().map(|ad| 160 + 2 * ad.stream.name.as_str().len());
        320 + streams.sum::<usize>()
    }

    /// The stream of this name.
    pub fn stream(&self, name: &StreamName) -> Option<&Advertised> {
        let at = self.streams.binary_search_by(|advertised| advertised.stream.name.cmp(name)).ok()?;
        self.streams.get(at)
    }
}

impl Advertised {
    /// Whether it has this track.
    pub fn has(&self, track: StreamTrack) -> bool {
        match track {
            StreamTrack::Encoding(place) => self.rates.rank(place).is_some(),
            StreamTrack::Rung(rung) => self.rates.has_rung(rung),
            StreamTrack::Audio | StreamTrack::Video => {
                self.stream.tracks.iter().any(|described| described.kind == track.kind())
            }
        }
    }
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
