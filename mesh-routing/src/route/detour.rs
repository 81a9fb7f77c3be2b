//! Ways around: the neighbors toward an origin where some relays and edges are barred or better avoided.
//! What is to be avoided is decided in `tree/feed_search.rs`; plain shortest ways are `mod.rs`'.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use protocol::NodeId;

use crate::{
    route::{
        Routes,
        graph::{Candidate, Graph, Pair, pair},
        inter_area::Exit,
    },
    wire::message::PATH_MAX,
};

/// What a relay or an edge to be avoided costs: more than 16 links, whatever they cost, so that a way around is taken
/// first. The longest way, all of it at the highest cost (16 s a link), costs nearly four times as much: it is taken
/// before one with four to be avoided, and after one with three.
pub(crate) const PENALTY: u32 = 1 << 20;
/// Ways over edges that somebody reported broken come after all others of this area: the longest way, with every relay
/// and every edge of it to be avoided and at the highest cost, has about half of this.
const LATE: u32 = 1 << 28;
const _: () = {
    let (hops, highest) = (PATH_MAX as u32, u16::MAX as u32);
    assert!(16 * highest < PENALTY && hops * highest < 4 * PENALTY && hops * (highest + 2 * PENALTY) < LATE);
};
/// Answers kept; they are of one state of the database only. Children ask for many ways around, and few of them twice.
const KEPT: usize = 1024;

/// Where a way should not lead.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Avoid {
    /// Never.
    pub barred: BTreeSet<NodeId>,
    /// Through these only if there is no other.
    pub penalized: BTreeSet<NodeId>,
    /// Over these likewise.
    pub edges: BTreeSet<Pair>,
}

/// Answers given before.
#[derive(Debug, Default)]
pub(crate) struct Detours(BTreeMap<(NodeId, Avoid), Vec<Candidate>>);

impl Routes {
    /// The neighbors (of those given, with the cost of their link) whose way to `origin` leads neither through
    /// here nor through what is barred, best first. Each relay and edge to be avoided adds [`PENALTY`].
    pub fn detours(
        &mut self,
        own: &NodeId,
        origin: &NodeId,
        around: &Avoid,
        neighbors: &BTreeMap<NodeId, u32>,
    ) -> Vec<Candidate> {
        if *around == Avoid::default() {
            return self.candidates(own, origin, neighbors).to_vec();
        }
        if let Some(known) = self.detours.0.get(&(*origin, around.clone())) {
            return known.clone();
        }
        let mut found: Vec<Candidate> = Vec::new();
        let roots = self.roots(origin);
        let abroad = !self.reaches(origin);
        for (late, graph) in self.cautious.iter().map(|g| (0, g)).chain([(LATE, &self.graph)]) {
            let late = if self.cautious.is_some() { late } else { 0 };
            let steps = graph.steps_around(own, &roots, around);
            for (neighbor, link) in neighbors {
                let step = graph.nodes.binary_search(neighbor).ok().and_then(|at| *steps.get(at)?);
                let Some((distance, depth)) = step else { continue };
                if found.iter().any(|c| c.neighbor == *neighbor) {
                    continue;
                }
                let edge = if around.edges.contains(&pair(*own, *neighbor)) { PENALTY } else { 0 };
                let cost = distance.saturating_add(*link).saturating_add(edge).saturating_add(late);
                found.push(Candidate { neighbor: *neighbor, cost, depth });
            }
        }
        // A neighbor in another area is in no graph.
        for (neighbor, link) in neighbors.iter().filter(|(id, _)| abroad && !around.barred.contains(id)) {
            let Some((cost, depth)) = self.foreign.offer(origin, neighbor) else { continue };
            let edge = if around.edges.contains(&pair(*own, *neighbor)) { PENALTY } else { 0 };
            let node = if around.penalized.contains(neighbor) { PENALTY } else { 0 };
            let cost = cost.saturating_add(*link).saturating_add(edge).saturating_add(node);
            found.push(Candidate { neighbor: *neighbor, cost, depth });
        }
        found.sort_by_key(|c| (c.cost, c.depth, c.neighbor));
        if self.detours.0.len() >= KEPT {
            self.detours.0.clear();
        }
        self.detours.0.insert((*origin, around.clone()), found.clone());
        found
    }
}

impl Graph {
    /// Cost and edges from the nearest of the roots to each node, by its place in `nodes`.
    fn steps_around(&self, own: &NodeId, roots: &[Exit], around: &Avoid) -> Vec<Option<(u32, u32)>> {
        let mut steps = vec![None; self.nodes.len()];
        let mut heap = BinaryHeap::new();
        for &(root, distance, hops) in roots {
            let id = self.nodes[root];
            // An origin is where the way begins, whatever is said of it.
            let border = roots.len() > 1 || distance > 0;
            if border && (id == *own || around.barred.contains(&id)) {
                continue;
            }
            let node = if border && around.penalized.contains(&id) { PENALTY } else { 0 };
            heap.push(Reverse((distance.saturating_add(node), hops, root)));
        }
        while let Some(Reverse((distance, hops, at))) = heap.pop() {
            if steps[at].is_some() {
                continue;
            }
            steps[at] = Some((distance, hops));
            let from = self.nodes[at];
            for &(to, cost) in &self.edges[at] {
                let id = self.nodes[to];
                if steps[to].is_some() || id == *own || around.barred.contains(&id) {
                    continue;
                }
                let node = if around.penalized.contains(&id) { PENALTY } else { 0 };
                let edge = if around.edges.contains(&pair(from, id)) { PENALTY } else { 0 };
                let distance = distance.saturating_add(cost).saturating_add(node).saturating_add(edge);
                heap.push(Reverse((distance, hops + 1, to)));
            }
        }
        steps
    }
}
