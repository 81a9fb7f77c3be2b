//! The mesh as a graph with dense indices, and Dijkstra over it (RFC 2328, section 16.1, without networks): shortest paths,
//! and paths around what is to be avoided. What they are used for belongs to `route/mod.rs` and its other files.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use protocol::NodeId;

use crate::{
    linkstate::{flood::FirstHop, lsdb::Lsdb},
    wire::lsa::LinkState,
};

/// What a relay or an edge to be avoided costs: more than 16 links, whatever they cost, so that a way around is taken
/// first. The longest way, all of it at the highest cost (16 s a link), costs nearly four times as much: it is taken
/// before one with four to be avoided, and after one with three.
pub(crate) const PENALTY: u32 = 1 << 20;

/// An edge, its lower end first.
pub(crate) type Pair = (NodeId, NodeId);

pub(crate) fn pair(a: NodeId, b: NodeId) -> Pair {
    if a < b { (a, b) } else { (b, a) }
}

/// The edges that count: listed by both ends, each at the higher of the two costs.
#[derive(Debug, Default)]
pub struct Graph {
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) edges: Vec<Vec<(usize, u32)>>,
}

/// The way from a root to every node it reaches.
#[derive(Debug)]
pub struct Paths {
    root: usize,
    steps: Vec<Option<Step>>,
    /// The nodes in the order in which they were reached.
    order: Vec<u32>,
}

impl Paths {
    /// Whether there is a way to a place.
    pub(crate) fn reaches(&self, place: usize) -> bool {
        self.steps.get(place).is_some_and(Option::is_some)
    }

    /// The end of the way to a place.
    pub(crate) fn at(&self, place: usize) -> Option<Step> {
        self.steps.get(place).copied().flatten()
    }
}

/// The end of the way to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Sum of costs from the root.
    pub distance: u32,
    /// Edges from the root.
    pub hops: u32,
    previous: usize,
}

/// Distance, hops and previous node in one number, so that comparing it compares all three: 32, 16 and 16 bits.
type Label = u64;

const UNREACHED: Label = u64::MAX;

fn label(distance: u32, hops: u32, previous: usize) -> Label {
    u64::from(distance) << 32 | u64::from(hops & 0xffff) << 16 | (previous as u64 & 0xffff)
}

fn step(label: Label) -> Option<Step> {
    (label != UNREACHED).then_some(Step {
        distance: (label >> 32) as u32,
        hops: (label >> 16) as u32 & 0xffff,
        previous: label as usize & 0xffff,
    })
}

fn begin(id: &NodeId) -> u64 {
    let (first, _) = id.0.split_first_chunk().expect("an id has 32 bytes");
    u64::from_be_bytes(*first)
}

impl Graph {
    /// The graph without the edges in `avoided`.
    pub fn new(database: &Lsdb, avoided: &BTreeSet<(NodeId, NodeId)>) -> Graph {
        let said: Vec<&LinkState> = database.relays().map(|(said, _)| said).collect();
        let nodes: Vec<NodeId> = said.iter().map(|said| said.origin).collect();
        // The beginning of an id is mostly enough to find it, and many of them fit into the cache. Both lists
        // ascend, so places are searched for in what is left.
        let begins: Vec<u64> = nodes.iter().map(begin).collect();
        let listed: Vec<Vec<(usize, u32)>> = said
            .iter()
            .map(|said| {
                let mut from = 0;
                let mut place = |edge: &crate::wire::lsa::Edge| {
                    let first = begin(&edge.neighbor);
                    from += begins[from..].partition_point(|begin| *begin < first);
                    while begins.get(from) == Some(&first) && nodes[from] < edge.neighbor {
                        from += 1;
                    }
                    (nodes.get(from) == Some(&edge.neighbor)).then_some((from, u32::from(edge.cost)))
                };
                said.links.iter().filter_map(&mut place).collect()
            })
            .collect();
        let back = |from: usize, to: usize| {
            let at = listed[to].binary_search_by_key(&from, |(node, _)| *node).ok()?;
            Some(listed[to][at].1)
        };
        let edges = listed
            .iter()
            .enumerate()
            .map(|(from, row)| {
                let both = |(to, cost): &(usize, u32)| Some((*to, *back(from, *to).as_ref()?.max(cost)));
                let counts = |(to, _): &(usize, u32)| {
                    avoided.is_empty() || !avoided.contains(&pair(nodes[from], nodes[*to]))
                };
                row.iter().filter_map(both).filter(counts).collect()
            })
            .collect();
        Graph { nodes, edges }
    }

    /// The place of a node.
    pub(crate) fn place(&self, node: &NodeId) -> Option<usize> {
        self.nodes.binary_search(node).ok()
    }

    /// Shortest paths from `root`, none of them through `without`. Of equal ones the one with fewer hops,
    /// then the one by the lower node id. `None` if the root is not in the graph.
    pub fn paths(&self, root: &NodeId, without: Option<&NodeId>) -> Option<Paths> {
        let root = self.place(root)?;
        let without = without.and_then(|id| self.place(id));
        Some(self.paths_from(&[(root, 0, 0)], without))
    }

    /// Shortest paths from the nearest of several places, each with a distance and hops to begin with.
    pub(crate) fn paths_from(&self, roots: &[(usize, u32, u32)], without: Option<usize>) -> Paths {
        let mut labels = vec![UNREACHED; self.nodes.len()];
        let mut settled = vec![false; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut heap = BinaryHeap::with_capacity(self.nodes.len());
        for &(root, distance, hops) in roots {
            let first = label(distance, hops, root);
            if Some(root) != without && first < labels[root] {
                labels[root] = first;
                heap.push(Reverse((first, root as u32)));
            }
        }
        while let Some(Reverse((reached, at))) = heap.pop() {
            let at = at as usize;
            if std::mem::replace(&mut settled[at], true) {
                continue;
            }
            order.push(at as u32);
            let (distance, hops) = ((reached >> 32) as u32, (reached >> 16) as u32 & 0xffff);
            for &(to, cost) in &self.edges[at] {
                let there = label(distance.saturating_add(cost), hops + 1, at);
                if there < labels[to] && !settled[to] && Some(to) != without {
                    labels[to] = there;
                    heap.push(Reverse((there, to as u32)));
                }
            }
        }
        let root = roots.first().map_or(0, |(root, _, _)| *root);
        Paths { root, steps: labels.into_iter().map(step).collect(), order }
    }

    /// How the way of `root` to each node begins, with `own` or not, and what it costs.
    pub(crate) fn first_turns(&self, root: &NodeId, own: &NodeId) -> Vec<(FirstHop, u32)> {
        let mut turns = vec![(FirstHop::Unknown, u32::MAX); self.nodes.len()];
        let (Some(paths), Some(own)) = (self.paths(root, None), self.place(own)) else { return turns };
        for at in paths.order.iter().map(|at| *at as usize) {
            let Some(step) = paths.steps[at] else { continue };
            let turn = match step.previous {
                _ if at == paths.root => FirstHop::ViaOther,
                previous if previous == paths.root && at == own => FirstHop::ViaUs,
                previous if previous == paths.root => FirstHop::ViaOther,
                previous => turns[previous].0,
            };
            turns[at] = (turn, step.distance);
        }
        turns
    }

    /// Cost and edges from the nearest of the roots to each node, by its place in `nodes`.
    pub(super) fn steps_around(
        &self,
        own: &NodeId,
        roots: &[(usize, u32, u32)],
        around: &Avoid,
    ) -> Vec<Option<(u32, u32)>> {
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

    /// How far `node` is.
    pub fn step(&self, paths: &Paths, node: &NodeId) -> Option<Step> {
        paths.steps[self.place(node)?]
    }

    /// The nodes from the root to `node`, both included.
    pub fn path(&self, paths: &Paths, node: &NodeId) -> Option<Vec<NodeId>> {
        let mut at = self.place(node)?;
        let mut path = vec![self.nodes[at]];
        while at != paths.root {
            at = paths.steps[at]?.previous;
            path.push(self.nodes[at]);
        }
        path.reverse();
        Some(path)
    }
}

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

/// A neighbor on the way to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub neighbor: NodeId,
    /// Of the whole way from here.
    pub cost: u32,
    /// Edges from the origin to the neighbor.
    pub depth: u32,
}
