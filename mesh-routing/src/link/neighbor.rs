//! The relays at the other ends of the links. Several links to one of them are parallel: messages and the
//! edge of the mesh go by the best, tracks are spread over all that are good.

use std::collections::BTreeMap;

use protocol::NodeId;

use crate::{
    link::{Link, detector::State},
    wire::{
        lsa::{Edge, LINKS_MAX},
        metric::{Capacity, LinkId},
    },
};

/// A neighbor and the links to reach it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// Its best link: up before suspect, unmetered before metered, then the cheapest, then the oldest.
    pub link: LinkId,
    /// Up or suspect; a neighbor whose links are all down is none.
    pub state: State,
    /// The best link as an edge of the mesh, with what all of them carry together.
    pub edge: Edge,
    /// All its links that are not down, best first.
    pub links: Vec<Parallel>,
}

/// One of several links to a neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parallel {
    /// Its number.
    pub link: LinkId,
    /// Up or suspect.
    pub state: State,
    /// Its bytes are paid for.
    pub metered: bool,
    /// What it costs, as told.
    pub cost: u16,
    /// What it carries, as told.
    pub capacity: Capacity,
}

/// A link that costs so much more than the best is not worth spreading tracks over: 10 ms.
const SPREAD: u16 = 40;
/// What a link of unknown capacity is taken for among others: 8 Mbit/s.
const UNKNOWN: Capacity = Capacity(8);

impl Neighbor {
    /// The link for one more track, where `tracks` says how many each link carries already: of those up and
    /// not much dearer than the best the one with the fewest tracks for what it carries; of equal ones
    /// `track` decides, a hash of its name, so that the tracks of several relays spread too. Metered links
    /// only if there is no other. A track that has a link stays there as long as it is up.
    pub fn pick(&self, track: u64, tracks: impl Fn(LinkId) -> usize) -> LinkId {
        let best = &self.links[0];
        let near = |link: &&Parallel| {
            link.state == best.state
                && link.metered == best.metered
                && link.cost <= best.cost.saturating_mul(2).max(best.cost.saturating_add(SPREAD))
        };
        let load = |link: &Parallel| {
            let capacity = if link.capacity.unknown() { UNKNOWN } else { link.capacity };
            // In parts of the largest: integers, so that no rounding decides.
            let taken = (tracks(link.link) as u64 + 1) << (Capacity::MAX.0 - capacity.0.min(Capacity::MAX.0));
            (taken, mix(track, link.link))
        };
        self.links.iter().filter(near).min_by_key(|link| load(link)).map_or(self.link, |link| link.link)
    }

    /// Another link than `link` for a second copy, the best one; also a metered one.
    pub fn other(&self, link: LinkId) -> Option<LinkId> {
        self.links.iter().find(|other| other.link != link && other.state == State::Up).map(|other| other.link)
    }
}

/// An order of links that differs from track to track (splitmix64).
fn mix(track: u64, link: LinkId) -> u64 {
    let mut word = track ^ u64::from(link.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The neighbors that can be talked to.
pub(crate) fn neighbors(links: &BTreeMap<LinkId, Link>) -> BTreeMap<NodeId, Neighbor> {
    let mut found: BTreeMap<NodeId, Vec<(Parallel, Edge)>> = BTreeMap::new();
    for (id, link) in links.iter().filter(|(_, link)| link.state() != State::Down) {
        if found.len() >= LINKS_MAX && !found.contains_key(&link.neighbor) {
            continue;
        }
        let edge = link.edge();
        let parallel = Parallel {
            link: *id,
            state: link.state(),
            metered: link.underlay.metered,
            cost: edge.cost,
            capacity: edge.capacity,
        };
        found.entry(link.neighbor).or_default().push((parallel, edge));
    }
    let neighbor = |mut links: Vec<(Parallel, Edge)>| {
        links.sort_by_key(|(link, _)| (link.state, link.metered, link.cost, link.link));
        let (best, mut edge) = links[0].clone();
        if links.len() > 1 && links.iter().all(|(link, _)| !link.capacity.unknown()) {
            let sum = links.iter().map(|(link, _)| link.capacity.bits_per_second()).sum();
            edge.capacity = Capacity::of(sum);
        }
        let links = links.into_iter().map(|(link, _)| link).collect();
        Neighbor { link: best.link, state: best.state, edge, links }
    };
    found.into_iter().map(|(id, links)| (id, neighbor(links))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::node;

    fn parallel(link: u32, cost: u16, capacity: u8, metered: bool) -> Parallel {
        Parallel { link: LinkId(link), state: State::Up, metered, cost, capacity: Capacity(capacity) }
    }

    fn of(links: Vec<Parallel>) -> Neighbor {
        let best = links[0];
        let edge = Edge { neighbor: node(1), cost: best.cost, rtt_us: 0, loss: 0, capacity: best.capacity };
        Neighbor { link: best.link, state: best.state, edge, links }
    }

    /// Where 30 tracks go.
    fn spread(neighbor: &Neighbor) -> BTreeMap<u32, usize> {
        let mut taken = BTreeMap::new();
        for track in 0..30 {
            let picked = neighbor.pick(track, |link| taken.get(&link.0).copied().unwrap_or(0));
            *taken.entry(picked.0).or_default() += 1;
        }
        taken
    }

    #[test]
    fn tracks_are_spread_by_capacity() {
        let neighbor = of(vec![parallel(1, 10, 9, false), parallel(2, 20, 8, false)]);
        assert_eq!(spread(&neighbor), BTreeMap::from([(1, 20), (2, 10)]));
    }

    #[test]
    fn a_dear_or_metered_link_gets_nothing_while_there_is_another() {
        let neighbor =
            of(vec![parallel(1, 10, 8, false), parallel(2, 60, 8, false), parallel(3, 5, 15, true)]);
        assert_eq!(spread(&neighbor), BTreeMap::from([(1, 30)]));
        assert_eq!(neighbor.other(LinkId(1)), Some(LinkId(2)));
        assert_eq!(spread(&of(vec![parallel(3, 5, 15, true)])), BTreeMap::from([(3, 30)]));
    }

    #[test]
    fn a_suspect_link_gets_nothing_while_another_is_up() {
        let mut slow = parallel(2, 10, 8, false);
        slow.state = State::Suspect;
        assert_eq!(spread(&of(vec![parallel(1, 40, 2, false), slow])), BTreeMap::from([(1, 30)]));
    }
}
