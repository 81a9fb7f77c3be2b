//! Databases of any size, to measure what the computation of routes costs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use protocol::{NodeId, ZoneName};

use super::{epoch, node, random::Random, shape};
use crate::{
    linkstate::lsdb::Lsdb,
    route::{Routes, rpf::ReversePaths},
    wire::{
        area::AreaId,
        lsa::{Edge, LinkState},
        metric::Capacity,
        signature::SimulatedKeys,
        signed_lsa::{Lsa, SignedLsa},
    },
};

/// What a relay in the middle of a field has to compute with.
#[derive(Debug)]
pub struct RouteLoad {
    database: Lsdb,
    own: NodeId,
    neighbors: BTreeMap<NodeId, u32>,
    origins: Vec<NodeId>,
}

impl RouteLoad {
    /// A field of relays with six links each on average, and origins of streams among them.
    pub fn new(relays: usize, origins: usize, seed: u64) -> RouteLoad {
        let mut random = Random::new(seed);
        let mut wires = shape::geometric(relays, 3, &mut random);
        for _ in 0..relays {
            let (a, b) = (random.below(relays as u64) as usize, random.below(relays as u64) as usize);
            if a != b {
                wires.push((a.min(b), a.max(b)));
            }
        }
        let mut edges = vec![BTreeMap::new(); relays];
        for (a, b) in wires {
            let cost = 6 + random.below(60) as u16;
            edges[a].insert(node(b), cost);
            edges[b].insert(node(a), cost);
        }
        let mut database = Lsdb::default();
        let zone = ZoneName::new("field").expect("a good name");
        for (index, edges) in edges.iter().enumerate() {
            let edge = |(neighbor, cost): (&NodeId, &u16)| Edge {
                neighbor: *neighbor,
                cost: *cost,
                rtt_us: 0,
                loss: 0,
                capacity: Capacity(0),
            };
            let said = LinkState::new(node(index), zone.clone(), 1, edges.iter().map(edge).collect());
            let signed = SignedLsa::new(Lsa::Links(said), &SimulatedKeys(node(index)));
            database.take(signed, Duration::ZERO, epoch()).expect("a fresh LSA");
        }
        let neighbors = edges[0].iter().map(|(id, cost)| (*id, u32::from(*cost))).collect();
        let origins = (0..origins).map(|at| node(1 + at * (relays - 1) / origins)).collect();
        RouteLoad { database, own: node(0), neighbors, origins }
    }

    /// Everything that follows a change: graph, own paths, and the ways to each origin. Returns how many.
    pub fn compute(&self) -> usize {
        let mut routes = Routes::new(&self.own, &self.database, &BTreeSet::new());
        routes.look_abroad(&self.own, AreaId::default(), &self.database);
        self.origins.iter().map(|origin| routes.candidates(&self.own, origin, &self.neighbors).len()).sum()
    }

    /// The graph and the own paths alone.
    pub fn compute_paths(&self) -> bool {
        let routes = Routes::new(&self.own, &self.database, &BTreeSet::new());
        routes.reaches(&node(1))
    }

    /// The trees that LSAs are flooded down, of all origins, besides [`RouteLoad::compute_paths`].
    pub fn compute_flood_trees(&self) -> usize {
        let routes = Routes::new(&self.own, &self.database, &BTreeSet::new());
        let mut trees = ReversePaths::default();
        trees.handle_routes();
        let origin = self.origins.first().unwrap_or(&self.own);
        let now = epoch();
        for neighbor in self.neighbors.keys() {
            trees.turn(&routes, &self.own, (neighbor, origin), now);
        }
        self.neighbors.len()
    }
}
