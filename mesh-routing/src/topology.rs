//! What the mesh looks like from here, for people: relays, links, streams. Nothing decides by these views.

use std::time::{Duration, Instant};

use protocol::{NodeId, StreamName, TrackDescription, ZoneName};

/// A live stream somewhere in the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// Its name.
    pub name: StreamName,
    /// Its tracks.
    pub tracks: Vec<TrackDescription>,
    /// Where it is published.
    pub origin: NodeId,
    /// The zone of that relay.
    pub origin_zone: ZoneName,
    /// Links between the origin and here.
    pub hops: u32,
    /// Relays from the origin to here, both included: the way its packets take, or would take.
    pub path: Vec<NodeId>,
    /// Since when it is known here.
    pub since: Instant,
}

/// Relays that can be reached and the links between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// By id; this relay is one of them.
    pub nodes: Vec<NodeView>,
    /// Each once, by its ends.
    pub links: Vec<LinkView>,
}

/// A relay in a [`Topology`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Since when it is known here.
    pub since: Instant,
}

/// A link in a [`Topology`].
#[derive(Debug, Clone, PartialEq)]
pub struct LinkView {
    /// The lower end.
    pub a: NodeId,
    /// The higher end.
    pub b: NodeId,
    /// Round trip, the longer of what the ends say.
    pub rtt: Duration,
    /// Share of packets lost, 0 to 1, the higher of what the ends say.
    pub loss: f32,
    /// What routing adds up.
    pub cost: u32,
    /// Both ends say that it works; only then it counts.
    pub up: bool,
}
