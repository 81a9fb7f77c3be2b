//! Which neighbors a relay should have: six to eight, the nearest four among them, at least two that lead
//! far away, and none given up that the mesh would fall apart without. Dialing and closing is the driver's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use protocol::{NodeId, ZoneName};

use crate::{
    route::cuts::Skeleton,
    wire::metric::{LinkId, UnderlayKind},
};

/// With fewer neighbors a relay looks for more every second: two links may fail together, and a relay with none hears
/// nothing.
pub const NEIGHBORS_MIN: usize = 3;
/// With fewer it looks for more every 5 s.
pub const NEIGHBORS_AIM: usize = 6;
/// With more it gives one up.
pub const NEIGHBORS_MAX: usize = 8;
/// With more it also gives up one that has nobody nearer.
const CROWD: usize = 12;
/// The best ones, which it never gives up. Near links alone fall apart when relays die (docs/mesh.md has the figures):
/// these are for short ways, [`FAR`] for holding together.
pub const NEAR: usize = 4;
/// Those that lead far away.
pub const FAR: usize = 2;
/// A relay is far if so many links lie between it and here, without the direct one.
pub const FAR_HOPS: u32 = 3;

/// How often it looks, with too few neighbors, with some, and with enough: each look may cost a dial.
const PACE_URGENT: Duration = Duration::from_secs(1);
const PACE_SOON: Duration = Duration::from_secs(5);
const PACE_CALM: Duration = Duration::from_secs(30);
/// A neighbor is kept so long before it may be given up, and one given up is left alone for as long.
const SETTLED: Duration = Duration::from_secs(60);
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// The first wait after a dial that made no link; it doubles to [`LEFT_ALONE`].
const BACK_OFF: Duration = Duration::from_secs(10);
/// A discovery that is not repeated is forgotten.
const DISCOVERED_FOR: Duration = Duration::from_secs(300);
const DISCOVERED_MAX: usize = 256;
const TRIED_MAX: usize = 1024;
/// What a link cost is believed for so long after it was given up.
const MEASURED_FOR: Duration = Duration::from_secs(3600);
/// Addresses in one dial.
const ADDRESSES_MAX: usize = 8;

/// What the driver should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Make a link to this relay and no other, at one of these addresses.
    Dial {
        /// Which relay.
        node: NodeId,
        /// Where it may be, the likeliest first.
        addresses: Vec<SocketAddr>,
    },
    /// Close this link: others are better.
    Drop {
        /// Which link.
        link: LinkId,
    },
}

/// A neighbor, as the choice sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What its best link costs.
    pub cost: u16,
    /// What that runs over.
    pub kind: UnderlayKind,
    /// Since when it is a neighbor.
    pub since: Instant,
    /// The operator wants it.
    pub configured: bool,
    /// This relay is among the nearest it has.
    pub needs_us: bool,
}

/// What a choice is made from.
#[derive(Debug)]
pub struct View<'a> {
    /// The mesh as far as it is known.
    pub skeleton: &'a Skeleton,
    /// The neighbors.
    pub neighbors: &'a BTreeMap<NodeId, Present>,
    /// The zone of each relay known.
    pub zones: &'a BTreeMap<NodeId, ZoneName>,
    /// Where relays say that they can be reached.
    pub advertised: &'a BTreeMap<NodeId, Vec<SocketAddr>>,
    /// What the way to each relay costs.
    pub distances: &'a BTreeMap<NodeId, u32>,
}

/// Decides which neighbors to look for and which to give up.
#[derive(Debug)]
pub struct Chooser {
    own: NodeId,
    seed: u64,
    next: Instant,
    rounds: u64,
    discovered: BTreeMap<NodeId, (Vec<SocketAddr>, Instant)>,
    tried: BTreeMap<NodeId, Tried>,
    /// What links cost while they were there, and when that is forgotten.
    costs: BTreeMap<NodeId, (u16, Instant)>,
    /// The neighbors of the last round.
    before: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, Copy)]
struct Tried {
    times: u32,
    not_before: Instant,
}

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Make a link.
    Dial(NodeId, Vec<SocketAddr>),
    /// Give all links to this neighbor up.
    Drop(NodeId),
}

impl Chooser {
    /// A relay that chooses from now on.
    pub fn new(own: NodeId, seed: u64, now: Instant) -> Chooser {
        Chooser {
            own,
            seed,
            next: now,
            rounds: 0,
            discovered: BTreeMap::new(),
            tried: BTreeMap::new(),
            costs: BTreeMap::new(),
            before: BTreeSet::new(),
        }
    }

    /// A relay was seen on the local network.
    pub fn handle_discovered(&mut self, node: NodeId, mut addresses: Vec<SocketAddr>, now: Instant) {
        if node == self.own
            || (self.discovered.len() >= DISCOVERED_MAX && !self.discovered.contains_key(&node))
        {
            return;
        }
        addresses.truncate(ADDRESSES_MAX);
        if self.discovered.insert(node, (addresses, now + DISCOVERED_FOR)).is_none() {
            self.next = self.next.min(now + PACE_URGENT);
        }
    }

    /// When [`Chooser::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// One more look, if it is time to.
    pub fn handle_timeout(&mut self, view: &View<'_>, now: Instant) -> Option<Wish> {
        if now < self.next {
            return None;
        }
        self.rounds += 1;
        self.discovered.retain(|_, (_, until)| *until > now);
        self.tried.retain(|_, tried| tried.not_before + LEFT_ALONE > now);
        self.costs.retain(|_, (_, until)| *until > now);
        for (node, present) in view.neighbors {
            if self.costs.len() < TRIED_MAX || self.costs.contains_key(node) {
                self.costs.insert(*node, (present.cost, now + MEASURED_FOR));
            }
            if now >= present.since + SETTLED {
                self.tried.remove(node);
            }
        }
        // Whoever gave this relay up has better ones, or is gone: either way it is left alone.
        for gone in self.before.iter().filter(|node| !view.neighbors.contains_key(*node)) {
            self.tried.insert(*gone, Tried { times: 0, not_before: now + LEFT_ALONE });
        }
        self.before = view.neighbors.keys().copied().collect();
        let count = view.neighbors.len();
        let pace = match count {
            _ if count < NEIGHBORS_MIN => PACE_URGENT,
            _ if count < NEIGHBORS_AIM => PACE_SOON,
            _ => PACE_CALM,
        };
        // Relays that were switched on together do not all choose at once.
        let part = 75 + (self.order(&self.own) % 50) as u32;
        self.next = now + pace * part / 100;
        let far = self.far(view);
        match self.wanted(view, &far, now) {
            Some(node) => {
                let times = self.tried.get(&node).map_or(0, |tried| tried.times);
                let wait = (BACK_OFF * (1 << times.min(6))).min(LEFT_ALONE);
                if self.tried.len() < TRIED_MAX || self.tried.contains_key(&node) {
                    self.tried.insert(node, Tried { times: times + 1, not_before: now + wait });
                }
                Some(Wish::Dial(node, self.addresses(&node, view)))
            }
            None => {
                let node = self.spare(view, &far, now)?;
                self.tried.insert(node, Tried { times: 0, not_before: now + LEFT_ALONE });
                Some(Wish::Drop(node))
            }
        }
    }

    /// Neighbors that lead far away, and whether the mesh would fall apart without each.
    fn far(&self, view: &View<'_>) -> BTreeMap<NodeId, bool> {
        let far = |node: &NodeId| {
            let around = view.skeleton.around(&self.own, node);
            let other_zone = self.zone_is_shared(view) && view.zones.get(node) != view.zones.get(&self.own);
            let other_kind = view.neighbors.get(node).is_some_and(|present| {
                let same = view.neighbors.values().filter(|other| other.kind == present.kind).count();
                present.kind != UnderlayKind::Unknown && same == 1 && view.neighbors.len() > 1
            });
            let far = around.is_none_or(|hops| hops >= FAR_HOPS) || other_zone || other_kind;
            far.then_some((*node, around.is_none()))
        };
        view.neighbors.keys().filter_map(far).collect()
    }

    /// Whether the zone has other relays, so that another zone means another place.
    fn zone_is_shared(&self, view: &View<'_>) -> bool {
        let own = view.zones.get(&self.own);
        view.zones.iter().any(|(node, zone)| *node != self.own && Some(zone) == own)
    }

    /// The relay to make a link to, if one more is wanted.
    fn wanted(&self, view: &View<'_>, far: &BTreeMap<NodeId, bool>, now: Instant) -> Option<NodeId> {
        let count = view.neighbors.len();
        let candidates = self.candidates(view, NEIGHBORS_MAX, now);
        if (NEAR..=NEIGHBORS_MAX).contains(&count) && far.len() < FAR {
            let hops = view.skeleton.hops(&self.own);
            let shared = self.zone_is_shared(view);
            let leads_far = |node: &&NodeId| {
                hops.get(*node).is_none_or(|hops| *hops >= FAR_HOPS)
                    || (shared && view.zones.get(*node) != view.zones.get(&self.own))
            };
            // At random: far links that all lead to one place are one.
            if let Some(node) = candidates.iter().filter(leads_far).min_by_key(|node| self.order(node)) {
                return Some(*node);
            }
        }
        // The direct way costs what it cost when there was one, and no more than the way through the mesh.
        let distance = |node: &NodeId| {
            let measured = self.costs.get(node).map(|(cost, _)| u32::from(*cost));
            measured.into_iter().chain(view.distances.get(node).copied()).min()
        };
        if count < NEIGHBORS_AIM {
            // What was seen on the local network is near whatever the way through the mesh costs.
            let nearness = |node: &&NodeId| {
                (!self.discovered.contains_key(*node), distance(node).unwrap_or(0), self.order(node))
            };
            return candidates.iter().min_by_key(nearness).copied();
        }
        let mut costs: Vec<u32> = view.neighbors.values().map(|present| present.cost.into()).collect();
        costs.sort_unstable();
        let worst = *costs.get(NEAR - 1)?;
        if count > NEIGHBORS_MAX {
            return None;
        }
        // One that has no room gives up another for it.
        let candidates = self.candidates(view, NEIGHBORS_MAX + 1, now);
        let nearer = |node: &&NodeId| distance(node).is_some_and(|cost| cost * 5 < worst * 4);
        // Nobody knows how near one is that was seen on the local network, until it was tried once.
        let unknown = |node: &&NodeId| self.discovered.contains_key(*node) && !self.costs.contains_key(*node);
        let nearest = candidates.iter().filter(nearer).min_by_key(|node| distance(node));
        nearest.or_else(|| candidates.iter().filter(unknown).min_by_key(|node| self.order(node))).copied()
    }

    /// Relays that can be dialed and have fewer neighbors than `full`, or any if this relay is in need.
    fn candidates(&self, view: &View<'_>, full: usize, now: Instant) -> Vec<NodeId> {
        let known: BTreeSet<&NodeId> = self.discovered.keys().chain(view.advertised.keys()).collect();
        let need = view.neighbors.len() < NEIGHBORS_MIN;
        let fits = |node: &&NodeId| {
            **node != self.own
                && !view.neighbors.contains_key(*node)
                && self
                    .tried
                    .get(*node)
                    .is_none_or(|tried| tried.not_before <= now || (need && tried.times == 0))
                && (need || view.skeleton.degree(node) < full)
        };
        known.into_iter().filter(fits).copied().collect()
    }

    /// The neighbor to give up, if there are too many: the dearest that is not among the best, not needed to
    /// lead far, not configured, not new, and that has neighbors enough.
    fn spare(&self, view: &View<'_>, far: &BTreeMap<NodeId, bool>, now: Instant) -> Option<NodeId> {
        if view.neighbors.len() <= NEIGHBORS_MAX {
            return None;
        }
        let mut by_cost: Vec<(&NodeId, &Present)> = view.neighbors.iter().collect();
        by_cost.sort_by_key(|(node, present)| (present.cost, **node));
        let mut kept: BTreeSet<&NodeId> = by_cost.iter().take(NEAR).map(|(node, _)| *node).collect();
        kept.extend(by_cost.iter().map(|(node, _)| *node).filter(|node| far.contains_key(*node)).take(FAR));
        // A bridge of the graph.
        kept.extend(far.iter().filter(|(_, bridge)| **bridge).map(|(node, _)| node));
        let crowded = view.neighbors.len() > CROWD;
        let spare = |(node, present): &&(&NodeId, &Present)| {
            !kept.contains(node)
                && !present.configured
                && (crowded || !present.needs_us)
                && now >= present.since + SETTLED
                && view.skeleton.degree(node) > NEAR
        };
        by_cost.iter().rev().find(spare).map(|(node, _)| **node)
    }

    fn addresses(&self, node: &NodeId, view: &View<'_>) -> Vec<SocketAddr> {
        let seen = self.discovered.get(node).map(|(addresses, _)| addresses.as_slice()).unwrap_or_default();
        let said = view.advertised.get(node).map(Vec::as_slice).unwrap_or_default();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in seen.iter().chain(said) {
            if !addresses.contains(address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(*address);
            }
        }
        addresses
    }

    /// An order of relays that differs from relay to relay and from round to round.
    fn order(&self, node: &NodeId) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_be_bytes());
        hasher.update(&self.rounds.to_be_bytes());
        hasher.update(&node.0);
        crate::wire::signature::first_word(&hasher)
    }
}

#[cfg(test)]
#[path = "peer_selection_tests.rs"]
mod tests;
