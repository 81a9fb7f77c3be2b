//! Ways over the link-state database, and the neighbors that ways to an origin begin with: the shortest, and those around
//! what is to be avoided. How often they are computed is decided in `spf_throttle.rs`; which neighbor a track is joined
//! at, and what that way has to avoid, belongs to `tree/`.

pub mod cuts;
pub mod graph;
pub(crate) mod inter_area;
pub(crate) mod rpf;
mod spf_throttle;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use protocol::NodeId;

use crate::{
    linkstate::lsdb::Lsdb,
    route::{
        graph::{Avoid, Candidate, Graph, PENALTY, Pair, Paths, pair},
        inter_area::{Exit, InterAreaRoutes},
        spf_throttle::SpfThrottle,
    },
    wire::{area::AreaId, message::PATH_MAX},
};

/// Ways over edges that somebody reported broken come after all others of this area: the longest way, with every relay
/// and every edge of it to be avoided and at the highest cost, has about half of this.
const LATE: u32 = 1 << 28;
const _: () = {
    let (hops, highest) = (PATH_MAX as u32, u16::MAX as u32);
    assert!(16 * highest < PENALTY && hops * highest < 4 * PENALTY && hops * (highest + 2 * PENALTY) < LATE);
};
/// Answers kept; they are of one state of the database only. Children ask for many ways around, and few of them twice.
const KEPT: usize = 1024;

/// What is known of ways, from one state of the database, and when it is computed anew.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub graph: Graph,
    /// Without the edges that somebody reported broken a moment ago.
    pub cautious: Option<Graph>,
    /// What is elsewhere.
    pub foreign: InterAreaRoutes,
    /// From here to everywhere.
    own: Option<Paths>,
    candidates: BTreeMap<NodeId, Vec<Candidate>>,
    /// From neighbors to everywhere, but not through here.
    around: BTreeMap<NodeId, Paths>,
    /// Ways around that were asked for.
    detours: BTreeMap<(NodeId, Avoid), Vec<Candidate>>,
    spf: SpfThrottle,
    /// The graph differs since it was computed.
    stale: bool,
}

/// What was computed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anew {
    /// The graph and what follows from it.
    Everything,
    /// What is known of other areas.
    Abroad,
}

impl Routes {
    pub fn new(own: &NodeId, database: &Lsdb, avoided: &BTreeSet<Pair>) -> Routes {
        let graph = Graph::new(database, &BTreeSet::new());
        let cautious = (!avoided.is_empty()).then(|| Graph::new(database, avoided));
        let paths = graph.paths(own, None);
        Routes { graph, cautious, own: paths, ..Routes::default() }
    }

    /// Something differs: the graph or not, at this relay or not.
    pub fn handle_news(&mut self, graph: bool, urgent: bool, now: Instant) {
        // Remembered apart: the throttle may let the routes wait.
        self.stale |= graph;
        if urgent {
            self.spf.handle_urgent();
        } else {
            self.spf.handle_news(now);
        }
    }

    /// Computes anew what differs, if it is time.
    pub fn settle(
        &mut self,
        (own, area): (&NodeId, AreaId),
        database: &Lsdb,
        avoided: impl Iterator<Item = Pair>,
        now: Instant,
    ) -> Option<Anew> {
        if !self.spf.handle_timeout(now) {
            return None;
        }
        let anew = if std::mem::take(&mut self.stale) { Anew::Everything } else { Anew::Abroad };
        if anew == Anew::Everything {
            let spf = std::mem::take(&mut self.spf);
            *self = Routes { spf, ..Routes::new(own, database, &avoided.collect()) };
        }
        self.look_abroad(own, area, database);
        Some(anew)
    }

    /// When it will be time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.spf.poll_timeout()
    }

    /// Looks at what is known of other areas.
    pub fn look_abroad(&mut self, own: &NodeId, area: AreaId, database: &Lsdb) {
        self.foreign = InterAreaRoutes::new(area, own, database, &self.graph, self.own.as_ref());
        self.candidates.clear();
        self.detours.clear();
    }

    /// Where ways to an origin begin: at itself, or at the border relays toward it.
    pub fn roots(&self, origin: &NodeId) -> Vec<Exit> {
        match self.graph.place(origin) {
            Some(place) if self.reaches(origin) => vec![(place, 0, 0)],
            place => {
                let exits: Vec<_> = self.foreign.exits(origin).collect();
                if exits.is_empty() { place.map(|place| (place, 0, 0)).into_iter().collect() } else { exits }
            }
        }
    }

    /// Cost and links to a relay of this area.
    pub fn distance_and_hops(&self, node: &NodeId) -> Option<(u32, u32)> {
        self.graph.step(self.own.as_ref()?, node).map(|step| (step.distance, step.hops))
    }

    /// Cost to a place in the graph.
    pub fn distance_to(&self, place: usize) -> Option<u32> {
        self.own.as_ref()?.at(place).map(|step| step.distance)
    }

    /// The best border relay toward an origin elsewhere, and the links from here to the edge of its fragment.
    fn exit(&self, origin: &NodeId) -> Option<(usize, u32)> {
        let paths = self.own.as_ref()?;
        let way = |(at, cost, hops): Exit| {
            let step = paths.at(at)?;
            Some((step.distance.saturating_add(cost), step.hops.saturating_add(hops), at))
        };
        let (_, hops, at) = self.foreign.exits(origin).filter_map(way).min()?;
        Some((at, hops))
    }

    /// Whether a relay that publishes something can be reached, also elsewhere.
    pub fn finds(&self, origin: &NodeId) -> bool {
        self.reaches(origin) || self.exit(origin).is_some()
    }

    pub fn reaches(&self, node: &NodeId) -> bool {
        self.own.as_ref().is_some_and(|paths| self.graph.step(paths, node).is_some())
    }

    /// What the way to `node` costs.
    pub fn distance(&self, node: &NodeId) -> Option<u32> {
        self.graph.step(self.own.as_ref()?, node).map(|step| step.distance)
    }

    /// The links to an origin and the nodes from it to here; if it is elsewhere, the links to the edge of its
    /// fragment and the nodes inside this area.
    pub fn way_from(&self, origin: &NodeId) -> Option<(u32, Vec<NodeId>)> {
        let paths = self.own.as_ref()?;
        let inside = self.graph.step(paths, origin).map(|step| step.hops);
        let (hops, mut path) = match inside {
            Some(hops) => (hops, self.graph.path(paths, origin)?),
            None => {
                let (exit, hops) = self.exit(origin)?;
                let mut path = self.graph.path(paths, &self.graph.nodes[exit])?;
                path.push(*origin);
                (hops, path)
            }
        };
        path.reverse();
        Some((hops, path))
    }

    /// The neighbors (of those given, with the cost of their link) whose way to `origin` does not lead
    /// through here, best first.
    pub fn candidates(
        &mut self,
        own: &NodeId,
        origin: &NodeId,
        neighbors: &BTreeMap<NodeId, u32>,
    ) -> &[Candidate] {
        if !self.candidates.contains_key(origin) {
            let mut found = Vec::new();
            let roots = self.roots(origin);
            let abroad = !self.reaches(origin);
            // Ways are as long in both directions: with many origins it is less to look from each neighbor.
            if self.cautious.is_none() && !abroad && self.candidates.len() >= neighbors.len() / 2 {
                let found = self.candidates_from_neighbors(own, origin, neighbors);
                return self.candidates.entry(*origin).or_insert(found);
            }
            for graph in self.cautious.iter().chain([&self.graph]) {
                let paths = graph.paths_from(&roots, graph.place(own));
                for (neighbor, cost) in neighbors {
                    let known = found.iter().any(|c: &Candidate| c.neighbor == *neighbor);
                    // On the second pass the ways over edges reported broken come after all others.
                    let late =
                        if std::ptr::eq(graph, &self.graph) && self.cautious.is_some() { 1 << 24 } else { 0 };
                    if let (false, Some(step)) = (known, graph.step(&paths, neighbor)) {
                        let cost = step.distance.saturating_add(*cost).saturating_add(late);
                        found.push(Candidate { neighbor: *neighbor, cost, depth: step.hops });
                    }
                }
            }
            // A neighbor in another area is in no graph.
            for (neighbor, link) in neighbors {
                if let Some((cost, depth)) = self.foreign.offer(origin, neighbor).filter(|_| abroad) {
                    found.push(Candidate { neighbor: *neighbor, cost: cost.saturating_add(*link), depth });
                }
            }
            found.sort_by_key(|c| (c.cost, c.depth, c.neighbor));
            self.candidates.insert(*origin, found);
        }
        self.candidates.get(origin).map_or(&[], Vec::as_slice)
    }

    fn candidates_from_neighbors(
        &mut self,
        own: &NodeId,
        origin: &NodeId,
        neighbors: &BTreeMap<NodeId, u32>,
    ) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (neighbor, cost) in neighbors {
            if !self.around.contains_key(neighbor) {
                let Some(paths) = self.graph.paths(neighbor, Some(own)) else { continue };
                self.around.insert(*neighbor, paths);
            }
            let Some(step) = self.around.get(neighbor).and_then(|paths| self.graph.step(paths, origin))
            else {
                continue;
            };
            let cost = step.distance.saturating_add(*cost);
            found.push(Candidate { neighbor: *neighbor, cost, depth: step.hops });
        }
        found.sort_by_key(|c| (c.cost, c.depth, c.neighbor));
        found
    }

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
        if let Some(known) = self.detours.get(&(*origin, around.clone())) {
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
        if self.detours.len() >= KEPT {
            self.detours.clear();
        }
        self.detours.insert((*origin, around.clone()), found.clone());
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use petgraph::{algo::dijkstra, graph::UnGraph};
    use protocol::ZoneName;

    use super::*;
    use crate::{
        sim::{epoch, node, random::Random, shape},
        wire::{
            lsa::{Edge, LinkState},
            signature::SimulatedKeys,
            signed_lsa::{Lsa, SignedLsa},
        },
    };

    fn database(relays: usize, edges: &BTreeMap<(usize, usize), (u16, u16)>) -> Lsdb {
        let mut database = Lsdb::default();
        for index in 0..relays {
            let edge = |neighbor: usize, cost| Edge {
                neighbor: node(neighbor),
                cost,
                rtt_us: 0,
                loss: 0,
                capacity: Default::default(),
            };
            let mut links: Vec<Edge> = edges
                .iter()
                .flat_map(|((a, b), (there, back))| [(*a, *b, *there), (*b, *a, *back)])
                .filter(|(from, _, cost)| *from == index && *cost > 0)
                .map(|(_, to, cost)| edge(to, cost))
                .collect();
            links.sort_by_key(|edge| edge.neighbor);
            let zone = ZoneName::new("zone").unwrap();
            let said = LinkState::new(node(index), zone, 1, links);
            said.check().unwrap();
            let signed = SignedLsa::new(Lsa::Links(said), &SimulatedKeys(node(index)));
            database.take(signed, Duration::ZERO, epoch()).unwrap();
        }
        database
    }

    #[test]
    fn distances_agree_with_petgraph() {
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let relays = 2 + random.below(40) as usize;
            // Some edges are listed by one end only: they do not count.
            let edges: BTreeMap<_, _> = shape::geometric(relays, 3, &mut random)
                .into_iter()
                .map(|wire| {
                    let back = if random.once_in(6) { 0 } else { 1 + random.below(50) as u16 };
                    (wire, (1 + random.below(50) as u16, back))
                })
                .collect();
            let both = edges.iter().filter(|(_, (_, back))| *back > 0);
            let mut oracle = UnGraph::<(), u32>::new_undirected();
            let at: Vec<_> = (0..relays).map(|_| oracle.add_node(())).collect();
            for ((a, b), (there, back)) in both {
                oracle.add_edge(at[*a], at[*b], u32::from(*there.max(back)));
            }
            let graph = Graph::new(&database(relays, &edges), &BTreeSet::new());
            let paths = graph.paths(&node(0), None).unwrap();
            let distances = dijkstra(&oracle, at[0], None, |edge| *edge.weight());
            for (index, place) in at.iter().enumerate() {
                let step = graph.step(&paths, &node(index));
                assert_eq!(step.map(|s| s.distance), distances.get(place).copied(), "seed {seed}");
                let path = graph.path(&paths, &node(index));
                assert_eq!(path.map(|path| path.len() as u32 - 1), step.map(|s| s.hops), "seed {seed}");
            }
        }
    }

    #[test]
    fn the_candidates_of_many_origins_are_those_of_each() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let edges: BTreeMap<_, _> = shape::geometric(30, 3, &mut random)
                .into_iter()
                .map(|wire| (wire, (1 + random.below(9) as u16, 1 + random.below(9) as u16)))
                .collect();
            let database = database(30, &edges);
            let near = edges.keys().filter(|(a, b)| *a == 0 || *b == 0);
            let neighbors: BTreeMap<_, _> = near.map(|(a, b)| (node(a.max(b).to_owned()), 5)).collect();
            let mut all = Routes::new(&node(0), &database, &BTreeSet::new());
            for origin in 1..30 {
                let mut each = Routes::new(&node(0), &database, &BTreeSet::new());
                let each = each.candidates(&node(0), &node(origin), &neighbors).to_vec();
                assert_eq!(all.candidates(&node(0), &node(origin), &neighbors), each, "seed {seed}");
            }
        }
    }

    #[test]
    fn candidates_do_not_lead_back_through_here() {
        let edges = shape::ring(4).into_iter().map(|(a, b)| ((a, b), (5, 5))).collect();
        let database = database(4, &edges);
        let neighbors = BTreeMap::from([(node(0), 5), (node(2), 5)]);
        let mut routes = Routes::new(&node(1), &database, &BTreeSet::new());
        let found: Vec<_> = routes
            .candidates(&node(1), &node(0), &neighbors)
            .iter()
            .map(|c| (c.neighbor, c.cost, c.depth))
            .collect();
        assert_eq!(found, [(node(0), 5, 0), (node(2), 15, 2)]);
        let mut routes = Routes::new(&node(1), &database, &BTreeSet::from([pair(node(3), node(0))]));
        assert_eq!(routes.candidates(&node(1), &node(0), &neighbors)[0].neighbor, node(0));
    }
}
