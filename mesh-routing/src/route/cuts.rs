//! The mesh as a plain graph: how many links lie between two relays, and which relays and links hold it
//! together. Costs belong to `graph.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::NodeId;

use crate::{
    linkstate::lsdb::Lsdb,
    route::graph::{Pair, pair},
};

/// Relays and the links between them that both ends list.
#[derive(Debug, Default, Clone)]
pub struct Skeleton {
    nodes: Vec<NodeId>,
    edges: Vec<Vec<usize>>,
}

/// What falls apart where.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cuts {
    /// Relays without which others are cut off, and these: all but the largest part that remains.
    pub points: BTreeMap<NodeId, Vec<NodeId>>,
    /// Links without which relays are cut off, lower end first, and these: the smaller part.
    pub bridges: BTreeMap<Pair, Vec<NodeId>>,
}

impl Skeleton {
    /// A graph by its edges.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>, pairs: impl IntoIterator<Item = Pair>) -> Skeleton {
        let nodes: BTreeSet<NodeId> = nodes.into_iter().collect();
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let mut edges = vec![Vec::new(); nodes.len()];
        for (a, b) in pairs {
            if let (Ok(a), Ok(b)) = (nodes.binary_search(&a), nodes.binary_search(&b)) {
                edges[a].push(b);
                edges[b].push(a);
            }
        }
        for neighbors in &mut edges {
            neighbors.sort_unstable();
            neighbors.dedup();
        }
        Skeleton { nodes, edges }
    }

    /// What a database says.
    pub fn of(database: &Lsdb) -> Skeleton {
        let both = |id: &NodeId, other: &NodeId| {
            id < other && database.links(other).is_some_and(|said| said.edge(id).is_some())
        };
        let pairs = database.relays().flat_map(|(said, _)| {
            let links = said.links.iter().map(|edge| edge.neighbor);
            links.filter(move |other| both(&said.origin, other)).map(move |other| (said.origin, other))
        });
        Skeleton::new(database.relays().map(|(said, _)| said.origin), pairs)
    }

    /// How many neighbors a relay has.
    pub fn degree(&self, node: &NodeId) -> usize {
        self.nodes.binary_search(node).map_or(0, |at| self.edges[at].len())
    }

    /// Links between `from` and every relay it reaches.
    pub fn hops(&self, from: &NodeId) -> BTreeMap<NodeId, u32> {
        let Ok(from) = self.nodes.binary_search(from) else { return BTreeMap::new() };
        let hops = self.walk(from, None);
        self.nodes.iter().zip(hops).filter_map(|(id, hops)| Some((*id, hops?))).collect()
    }

    /// Links between two relays if there were none between them directly.
    pub fn around(&self, from: &NodeId, to: &NodeId) -> Option<u32> {
        let (from, to) = (self.nodes.binary_search(from).ok()?, self.nodes.binary_search(to).ok()?);
        self.walk(from, Some(to))[to]
    }

    /// Goes around the link to `around`, and not on when it is found.
    fn walk(&self, from: usize, around: Option<usize>) -> Vec<Option<u32>> {
        let mut hops = vec![None; self.nodes.len()];
        hops[from] = Some(0);
        let mut queue = VecDeque::from([(from, 0)]);
        while let Some((at, far)) = queue.pop_front() {
            for &to in &self.edges[at] {
                if hops[to].is_none() && !(at == from && Some(to) == around) {
                    hops[to] = Some(far + 1);
                    queue.push_back((to, far + 1));
                    if Some(to) == around {
                        return hops;
                    }
                }
            }
        }
        hops
    }

    /// Articulation points and bridges of the part that `root` is in (Tarjan, linear, without recursion).
    pub fn cuts(&self, root: &NodeId) -> Cuts {
        let mut cuts = Cuts::default();
        let Ok(root) = self.nodes.binary_search(root) else { return cuts };
        let walk = Walk::new(&self.edges, root);
        let all = walk.order.len();
        // Below each relay the subtrees that hang on it alone.
        let mut hanging: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &at in &walk.order[1..] {
            let above = walk.parent[at];
            if walk.low[at] > walk.found[above] {
                let below = walk.subtree(at);
                let cut = if below.len() * 2 <= all { below.to_vec() } else { walk.rest(&[at], None) };
                cuts.bridges.insert(pair(self.nodes[above], self.nodes[at]), self.names(&cut));
            }
            if walk.low[at] >= walk.found[above] {
                hanging.entry(above).or_default().push(at);
            }
        }
        for (at, subtrees) in hanging {
            let rest = all - 1 - subtrees.iter().map(|top| walk.size[*top]).sum::<usize>();
            if subtrees.len() + usize::from(rest > 0) < 2 {
                continue;
            }
            let largest = subtrees.iter().copied().max_by_key(|top| walk.size[*top]);
            let stays = largest.filter(|top| walk.size[*top] > rest);
            let mut cut: Vec<usize> = Vec::new();
            for top in subtrees.iter().filter(|top| Some(**top) != stays) {
                cut.extend(walk.subtree(*top));
            }
            if stays.is_some() {
                cut.extend(walk.rest(&subtrees, Some(at)));
            }
            cuts.points.insert(self.nodes[at], self.names(&cut));
        }
        cuts
    }

    fn names(&self, which: &[usize]) -> Vec<NodeId> {
        let mut names: Vec<NodeId> = which.iter().map(|at| self.nodes[*at]).collect();
        names.sort();
        names
    }
}

/// A walk into the depth: what was found when, and how far up each subtree reaches.
struct Walk {
    /// In the order they were found: a subtree is contiguous.
    order: Vec<usize>,
    found: Vec<usize>,
    low: Vec<usize>,
    size: Vec<usize>,
    parent: Vec<usize>,
}

impl Walk {
    fn new(edges: &[Vec<usize>], root: usize) -> Walk {
        const NEVER: usize = usize::MAX;
        let count = edges.len();
        let mut walk = Walk {
            order: vec![root],
            found: vec![NEVER; count],
            low: vec![NEVER; count],
            size: vec![1; count],
            parent: vec![NEVER; count],
        };
        (walk.found[root], walk.low[root]) = (0, 0);
        let mut stack = vec![(root, 0)];
        while let Some((at, next)) = stack.last_mut() {
            let at = *at;
            if let Some(&to) = edges[at].get(*next) {
                *next += 1;
                if walk.found[to] == NEVER {
                    (walk.found[to], walk.low[to]) = (walk.order.len(), walk.order.len());
                    walk.parent[to] = at;
                    walk.order.push(to);
                    stack.push((to, 0));
                } else if to != walk.parent[at] {
                    walk.low[at] = walk.low[at].min(walk.found[to]);
                }
            } else {
                stack.pop();
                if let Some((above, _)) = stack.last() {
                    walk.low[*above] = walk.low[*above].min(walk.low[at]);
                    walk.size[*above] += walk.size[at];
                }
            }
        }
        walk
    }

    fn subtree(&self, top: usize) -> &[usize] {
        &self.order[self.found[top]..self.found[top] + self.size[top]]
    }

    /// Everything but some subtrees and one more.
    fn rest(&self, tops: &[usize], without: Option<usize>) -> Vec<usize> {
        let below = |at: usize| {
            tops.iter()
                .any(|top| (self.found[*top]..self.found[*top] + self.size[*top]).contains(&self.found[at]))
        };
        self.order.iter().copied().filter(|at| Some(*at) != without && !below(*at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{node, random::Random, shape};

    fn skeleton(relays: usize, edges: &[(usize, usize)]) -> Skeleton {
        Skeleton::new((0..relays).map(node), edges.iter().map(|(a, b)| (node(*a), node(*b))))
    }

    /// The parts of a graph without one relay or one edge, by trying.
    fn parts(relays: usize, edges: &[(usize, usize)], without: Option<usize>) -> Vec<BTreeSet<NodeId>> {
        let mut left: BTreeSet<usize> = (0..relays).filter(|at| Some(*at) != without).collect();
        let mut parts = Vec::new();
        while let Some(first) = left.pop_first() {
            let (mut part, mut edge) = (BTreeSet::from([node(first)]), vec![first]);
            while let Some(at) = edge.pop() {
                for (a, b) in edges.iter().filter(|(a, b)| *a == at || *b == at) {
                    let to = if *a == at { *b } else { *a };
                    if left.remove(&to) {
                        part.insert(node(to));
                        edge.push(to);
                    }
                }
            }
            parts.push(part);
        }
        parts
    }

    #[test]
    fn cuts_are_those_found_by_trying() {
        let mut found = (0, 0);
        for seed in 0..150 {
            let mut random = Random::new(seed);
            let relays = 2 + random.below(25) as usize;
            // Sparse enough to fall apart; what the root does not reach is not looked at.
            let edges: Vec<_> = shape::geometric(relays, 1 + seed as usize % 2, &mut random)
                .into_iter()
                .filter(|_| !random.once_in(5))
                .collect();
            let own = parts(relays, &edges, None).into_iter().find(|part| part.contains(&node(0))).unwrap();
            let cuts = skeleton(relays, &edges).cuts(&node(0));
            for relay in (0..relays).filter(|at| own.contains(&node(*at))) {
                let mut parts = parts(relays, &edges, Some(relay));
                parts.retain(|part| part.is_subset(&own));
                let point = cuts.points.get(&node(relay));
                assert_eq!(point.is_some(), parts.len() > 1, "seed {seed}");
                if let Some(cut) = point {
                    let largest = parts.iter().map(BTreeSet::len).max().unwrap();
                    assert_eq!(cut.len(), own.len() - 1 - largest, "seed {seed}");
                    let cut: BTreeSet<_> = cut.iter().copied().collect();
                    assert!(parts.iter().all(|part| part.is_subset(&cut) || part.is_disjoint(&cut)));
                    found.0 += 1;
                }
            }
            for (a, b) in edges.iter().filter(|(a, _)| own.contains(&node(*a))) {
                let others: Vec<_> = edges.iter().copied().filter(|edge| edge != &(*a, *b)).collect();
                let mut parts = parts(relays, &others, None);
                parts.retain(|part| part.is_subset(&own));
                let bridge = cuts.bridges.get(&pair(node(*a), node(*b)));
                assert_eq!(bridge.is_some(), parts.len() > 1, "seed {seed}");
                if let Some(cut) = bridge {
                    assert_eq!(Some(cut.len()), parts.iter().map(BTreeSet::len).min(), "seed {seed}");
                    found.1 += 1;
                }
            }
        }
        println!("{} articulation points and {} bridges, each as found by trying", found.0, found.1);
        assert!(found.0 > 100 && found.1 > 100);
    }

    #[test]
    fn a_chain_of_5000_does_not_exhaust_the_stack() {
        let edges: Vec<_> = (1..5000).map(|at| (at - 1, at)).collect();
        let cuts = skeleton(5000, &edges).cuts(&node(0));
        assert_eq!((cuts.points.len(), cuts.bridges.len()), (4998, 4999));
    }

    #[test]
    fn hops_go_around_the_link_that_is_not_there() {
        let ring = skeleton(5, &shape::ring(5));
        assert_eq!(ring.hops(&node(0))[&node(1)], 1);
        assert_eq!(ring.around(&node(0), &node(1)), Some(4));
        let chain = skeleton(3, &[(0, 1), (1, 2)]);
        assert_eq!(chain.around(&node(0), &node(1)), None);
    }
}
