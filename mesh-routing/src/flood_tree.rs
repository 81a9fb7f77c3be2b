//! Down which links a record goes: to the neighbors whose own way to its origin begins with this relay, so that
//! each relay gets it from one neighbor. Everybody computes it from a database of its own; where two do not
//! agree, `news.rs` makes up for it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::route::Graph;

/// An old tree is good enough for so long: while links change there is not one more computation per change.
const STALE: Duration = Duration::from_millis(500);

/// The trees of all origins, as seen from here.
#[derive(Debug, Default)]
pub(crate) struct FloodTrees {
    nodes: Vec<NodeId>,
    /// By neighbor, for each of `nodes`.
    by: BTreeMap<NodeId, Vec<Turn>>,
    made: Option<Instant>,
    /// Routes are others since.
    outdated: bool,
}

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

impl FloodTrees {
    /// The routes are others now.
    pub fn handle_routes(&mut self) {
        self.outdated = true;
    }

    /// How the way of a neighbor to an origin begins.
    pub fn turn(
        &mut self,
        graph: &Graph,
        own: &NodeId,
        (neighbor, origin): (&NodeId, &NodeId),
        now: Instant,
    ) -> Turn {
        let stale = self.made.is_none_or(|made| now.saturating_duration_since(made) >= STALE);
        if self.outdated && stale {
            self.outdated = false;
            self.made = Some(now);
            self.nodes.clone_from(&graph.nodes);
            self.by.clear();
        }
        let Ok(at) = self.nodes.binary_search(origin) else { return Turn::Unknown };
        if !self.by.contains_key(neighbor) && self.nodes == graph.nodes {
            self.by.insert(*neighbor, graph.first_turns(neighbor, own));
        }
        self.by.get(neighbor).map_or(Turn::Unknown, |turns| turns[at])
    }
}
