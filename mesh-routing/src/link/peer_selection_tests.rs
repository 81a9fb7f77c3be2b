//! Tests: whom a relay keeps as neighbors, alone and in whole fields of relays that choose.

use super::*;
use crate::{
    route::graph::pair,
    sim::{epoch, node, random::Random},
};

const S: Duration = Duration::from_secs(1);

/// A field of relays that choose; links exist at once, and cost what they are long.
struct Field {
    now: Instant,
    places: Vec<(i64, i64)>,
    choosers: Vec<Chooser>,
    links: BTreeMap<(usize, usize), Instant>,
    zones: BTreeMap<NodeId, ZoneName>,
    advertised: BTreeMap<NodeId, Vec<SocketAddr>>,
    index: BTreeMap<NodeId, usize>,
    dropped: usize,
}

impl Field {
    /// Each relay sees the 12 nearest, and learns of the others from its neighbors.
    fn new(relays: usize, random: &mut Random) -> Field {
        let now = epoch();
        let side = 2000 * (relays as f64).sqrt() as u64;
        let places: Vec<_> =
            (0..relays).map(|_| (random.below(side) as i64, random.below(side) as i64)).collect();
        let address = |at: usize| SocketAddr::from(([10, 0, (at / 250) as u8, (at % 250) as u8], 8081));
        let mut field = Field {
            now,
            choosers: (0..relays).map(|at| Chooser::new(node(at), at as u64, now)).collect(),
            links: BTreeMap::new(),
            zones: (0..relays).map(|at| (node(at), ZoneName::new(format!("zone-{at}")).unwrap())).collect(),
            advertised: (0..relays).map(|at| (node(at), vec![address(at)])).collect(),
            index: (0..relays).map(|at| (node(at), at)).collect(),
            places,
            dropped: 0,
        };
        for at in 0..relays {
            for other in field.nearest(at).into_iter().take(12) {
                field.choosers[at].handle_discovered(node(other), vec![address(other)], now);
            }
        }
        field
    }

    fn cost(&self, a: usize, b: usize) -> u16 {
        let ((ax, ay), (bx, by)) = (self.places[a], self.places[b]);
        (4.0 + (((ax - bx).pow(2) + (ay - by).pow(2)) as f64).sqrt() / 200.0) as u16
    }

    fn nearest(&self, at: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..self.places.len()).filter(|other| *other != at).collect();
        others.sort_by_key(|other| self.cost(at, *other));
        others
    }

    fn edges(&self) -> Vec<(usize, usize)> {
        self.links.keys().copied().collect()
    }

    fn skeleton(&self) -> Skeleton {
        let pairs = self.links.keys().map(|(a, b)| pair(node(*a), node(*b)));
        Skeleton::new((0..self.places.len()).map(node), pairs)
    }

    /// Sums of costs from a relay.
    fn distances(&self, from: usize) -> BTreeMap<NodeId, u32> {
        let mut graph = petgraph::graph::UnGraph::<(), u32>::new_undirected();
        let at: Vec<_> = self.places.iter().map(|_| graph.add_node(())).collect();
        for (a, b) in self.links.keys() {
            graph.add_edge(at[*a], at[*b], self.cost(*a, *b).into());
        }
        let found = petgraph::algo::dijkstra(&graph, at[from], None, |edge| *edge.weight());
        found.into_iter().map(|(place, cost)| (node(place.index()), cost)).collect()
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += S;
            for at in 0..self.choosers.len() {
                if self.choosers[at].poll_timeout() <= self.now {
                    self.choose(at);
                }
            }
        }
    }

    fn choose(&mut self, at: usize) {
        let neighbors = self
            .links
            .iter()
            .filter(|((a, b), _)| *a == at || *b == at)
            .map(|((a, b), since)| {
                let other = if *a == at { *b } else { *a };
                let (cost, kind) = (self.cost(at, other), UnderlayKind::Unknown);
                let nearer = self
                    .links
                    .keys()
                    .filter(|(a, b)| (*a == other || *b == other) && self.cost(*a, *b) < cost);
                let needs_us = nearer.count() < NEAR;
                (node(other), Present { cost, kind, since: *since, configured: false, needs_us })
            })
            .collect();
        let distances = self.distances(at);
        let reached = |id: &NodeId| distances.contains_key(id);
        let view = View {
            skeleton: &self.skeleton(),
            neighbors: &neighbors,
            zones: &self.zones,
            advertised: &self
                .advertised
                .iter()
                .filter(|(id, _)| reached(id))
                .map(|(id, a)| (*id, a.clone()))
                .collect(),
            distances: &distances,
        };
        match self.choosers[at].handle_timeout(&view, self.now) {
            Some(Wish::Dial(other, _)) => {
                let other = self.index[&other];
                self.links.insert((at.min(other), at.max(other)), self.now);
            }
            Some(Wish::Drop(other)) => {
                let other = self.index[&other];
                self.links.remove(&(at.min(other), at.max(other)));
                self.dropped += 1;
            }
            None => {}
        }
    }
}

/// The mean share of survivors that is in the largest part, when 30 % are removed at random.
fn survival(relays: usize, edges: &[(usize, usize)], random: &mut Random) -> f64 {
    let mut sum = 0.0;
    let trials = 300;
    for _ in 0..trials {
        let mut alive: Vec<usize> = (0..relays).collect();
        for _ in 0..relays * 3 / 10 {
            alive.swap_remove(random.below(alive.len() as u64) as usize);
        }
        let mut parts = petgraph::unionfind::UnionFind::<usize>::new(relays);
        let lives = |at: &usize| alive.contains(at);
        for (a, b) in edges.iter().filter(|(a, b)| lives(a) && lives(b)) {
            parts.union(*a, *b);
        }
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for at in &alive {
            *sizes.entry(parts.find(*at)).or_default() += 1;
        }
        sum += *sizes.values().max().unwrap() as f64 / alive.len() as f64;
    }
    sum / f64::from(trials)
}

#[test]
fn what_survives_of_a_chosen_mesh() {
    for relays in [50, 200] {
        let mut chosen = (0.0, 0.0, 0.0);
        let mut nearest = 0.0;
        let mut degrees = (usize::MAX, 0, 0.0);
        let fields = if relays == 50 { 2 } else { 1 };
        for seed in 0..fields {
            let mut random = Random::new(seed);
            let mut field = Field::new(relays, &mut random);
            field.run(S * 300);
            let early = field.edges();
            field.run(S * 1200);
            let (late, dropped) = (field.edges(), field.dropped);
            field.run(S * 300);
            let restless = field.dropped - dropped;
            println!("{dropped} links given up, {restless} in the last five minutes");
            assert!(restless <= relays / 10);
            let skeleton = field.skeleton();
            for at in 0..relays {
                let degree = skeleton.degree(&node(at));
                degrees = (degrees.0.min(degree), degrees.1.max(degree), degrees.2 + degree as f64);
            }
            let mut four: BTreeSet<(usize, usize)> = BTreeSet::new();
            for at in 0..relays {
                four.extend(field.nearest(at).iter().take(4).map(|other| (at.min(*other), at.max(*other))));
            }
            let four: Vec<_> = four.into_iter().collect();
            nearest += survival(relays, &four, &mut random) / fields as f64;
            chosen.0 += survival(relays, &early, &mut random) / fields as f64;
            chosen.1 += survival(relays, &late, &mut random) / fields as f64;
            // How many of the four nearest a relay is linked to.
            let near = (0..relays).map(|at| {
                let near = field.nearest(at);
                near[..4].iter().filter(|o| field.links.contains_key(&(at.min(**o), at.max(**o)))).count()
            });
            chosen.2 += near.sum::<usize>() as f64 / relays as f64 / fields as f64;
        }
        println!(
            "{relays} relays, 30 % removed: survivors in the largest part {:.2} % with the four nearest; \
             chosen {:.2} % after 5 minutes, {:.2} % after 25 (neighbors {} to {}, mean {:.1}, {:.1} of the 4 \
             nearest)",
            nearest * 100.0,
            chosen.0 * 100.0,
            chosen.1 * 100.0,
            degrees.0,
            degrees.1,
            degrees.2 / (relays * fields as usize) as f64,
            chosen.2,
        );
        assert!(chosen.0 > 0.998 && chosen.1 > 0.998, "{chosen:?}");
        assert!(degrees.0 >= 3, "{degrees:?}");
    }
}

/// A neighbor that has been there from the beginning, the dearer the higher its index.
fn present(at: usize, configured: bool) -> (NodeId, Present) {
    let (cost, kind) = (at as u16 * 10, UnderlayKind::Unknown);
    (node(at), Present { cost, kind, since: epoch(), configured, needs_us: false })
}

/// What relay 0 wants after a while, with these neighbors in this mesh.
fn wish(skeleton: &Skeleton, neighbors: impl Iterator<Item = (NodeId, Present)>) -> Option<Wish> {
    let now = epoch() + S * 1000;
    let neighbors = neighbors.collect();
    let empty = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let view =
        View { skeleton, neighbors: &neighbors, zones: &empty.0, advertised: &empty.1, distances: &empty.2 };
    Chooser::new(node(0), 0, now).handle_timeout(&view, now)
}

/// A relay with neighbors at these costs in a full mesh, and what it wants after a while.
fn crowded(configured: usize) -> Option<Wish> {
    let relays = 12;
    let edges = (0..relays).flat_map(|a| (a + 1..relays).map(move |b| pair(node(a), node(b))));
    let skeleton = Skeleton::new((0..relays).map(node), edges);
    let neighbors = (1..relays).map(|at| present(at, at == configured));
    wish(&skeleton, neighbors)
}

#[test]
fn the_dearest_goes_first_but_never_a_configured_one() {
    assert_eq!(crowded(0), Some(Wish::Drop(node(11))));
    assert_eq!(crowded(11), Some(Wish::Drop(node(10))));
}

#[test]
fn a_bridge_is_not_given_up() {
    // Nine neighbors that know each other, and a dear one that nobody else knows, with a tail.
    let full = (0..10).flat_map(|a| (a + 1..10).map(move |b| pair(node(a), node(b))));
    let tail = [(0, 10), (10, 11), (10, 12), (10, 13), (10, 14)].map(|(a, b)| pair(node(a), node(b)));
    let skeleton = Skeleton::new((0..15).map(node), full.chain(tail));
    let neighbors = (1..11).map(|at| present(at, false));
    assert_eq!(wish(&skeleton, neighbors), Some(Wish::Drop(node(9))));
}
