//! Down which links an LSA goes: to the neighbors whose own way to its origin begins with this relay, so that
//! each relay gets it from one neighbor. Everybody computes it from a database of its own; where two do not
//! agree, `linkstate/announce.rs` makes up for it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::{linkstate::flood::FirstHop, route::Routes};

/// An old tree is good enough for so long: while links change there is not one more computation per change.
const STALE: Duration = Duration::from_millis(500);

/// The trees of all origins, as seen from here.
#[derive(Debug, Default)]
pub(crate) struct ReversePaths {
    nodes: Vec<NodeId>,
    /// By neighbor, for each of `nodes`: how its way there begins, and what it costs.
    by: BTreeMap<NodeId, Vec<(FirstHop, u32)>>,
    made: Option<Instant>,
    /// Routes are others since.
    outdated: bool,
}

impl ReversePaths {
    /// The routes are others now.
    pub fn handle_routes(&mut self) {
        self.outdated = true;
    }

    /// How the way of a neighbor to an origin begins.
    pub fn turn(
        &mut self,
        routes: &Routes,
        own: &NodeId,
        (neighbor, origin): (&NodeId, &NodeId),
        now: Instant,
    ) -> FirstHop {
        let graph = &routes.graph;
        let stale = self.made.is_none_or(|made| now.saturating_duration_since(made) >= STALE);
        if self.outdated && stale {
            self.outdated = false;
            self.made = Some(now);
            self.nodes.clone_from(&graph.nodes);
            self.by.clear();
        }
        if !self.by.contains_key(neighbor) && self.nodes == graph.nodes {
            self.by.insert(*neighbor, graph.first_turns(neighbor, own));
        }
        let Some(turns) = self.by.get(neighbor) else { return FirstHop::Unknown };
        if let Ok(at) = self.nodes.binary_search(origin) {
            return turns[at].0;
        }
        if self.nodes != graph.nodes {
            return FirstHop::Unknown;
        }
        // From another area: it comes in by the border relay on the neighbor's best way there.
        let exits = routes.foreign.exits(origin);
        let reached = exits.filter(|(at, _, _)| turns[*at].0 != FirstHop::Unknown);
        let best = reached.min_by_key(|(at, cost, hops)| (turns[*at].1.saturating_add(*cost), *hops, *at));
        best.map_or(FirstHop::Unknown, |(at, _, _)| turns[at].0)
    }
}
