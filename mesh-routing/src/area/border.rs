//! A border relay: what it hears of other areas from its neighbors there, what it tells its own area of them,
//! and what it offers to those neighbors. A path vector between fragments: no way is offered to who is on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::{
    error::MeshError,
    linkstate::pace::Pace,
    mesh::Mesh,
    route::inter_area::Offered,
    wire::{
        area::{AreaId, Fragment, PUBLISHERS_MAX, Reach, Short, WAY_MAX, Way},
        message::Message,
        metric::LinkId,
        signed_lsa::Record,
    },
};

/// Fragments that one neighbor may offer.
pub const FRAGMENTS_MAX: usize = 512;
/// A cost is news if it differs by a fifth and by this: 2 ms.
const COST_NEWS: u32 = 8;
/// The name of the own fragment is told when it has been the same for so long: while relays of an area find each
/// other it is another with each, and every name goes round all areas.
const NAME_HELD: Duration = Duration::from_secs(1);
/// The longest wait while ways change: each goes through several worse ones before it is gone.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A way that is this old is told again: half of [`crate::linkstate::pace::REFRESH`].
const REFRESH_MS: u32 = 150_000;

/// A fragment, as reached from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AreaView {
    /// Which one; the own one is listed too.
    pub fragment: Fragment,
    /// Sum of costs to its edge.
    pub cost: u32,
    /// Links to its edge.
    pub hops: u32,
    /// Relays in it; not told anew for every single one.
    pub relays: u32,
    /// Relays in it that publish something.
    pub publishers: u32,
    /// Fragments on the way, from the next one to it; empty for the own one.
    pub path: Vec<Fragment>,
}

/// What a relay keeps of other areas.
#[derive(Debug, Default)]
pub(crate) struct Border {
    /// The areas of neighbors, where they are others than the own one.
    areas: BTreeMap<LinkId, AreaId>,
    /// What came on each link.
    offers: BTreeMap<LinkId, BTreeMap<Fragment, Reach>>,
    /// What was sent on each link.
    sent: BTreeMap<LinkId, BTreeMap<Fragment, Reach>>,
    /// Paces both what is told to the own area and what is offered.
    pace: Option<Pace>,
    /// What the own fragment is called elsewhere.
    name: Option<Fragment>,
    /// What it will be called, and since when that is so.
    next_name: Option<(Fragment, Instant)>,
    /// The own links are told otherwise: one of them leads to another area now, or not any more.
    pub moved: bool,
    seed: u64,
    /// Numbers the ways that are told.
    counter: u64,
    /// Own ways of an earlier life that are still in the area.
    leftover: BTreeSet<Fragment>,
}

impl Border {
    pub fn new(boot: u64, seed: u64) -> Border {
        Border { counter: boot << 32, seed, ..Border::default() }
    }

    /// Whether the link leads to another area.
    pub fn crosses(&self, link: LinkId) -> bool {
        self.areas.contains_key(&link)
    }

    /// The link is gone.
    pub fn forget(&mut self, link: LinkId) {
        self.areas.remove(&link);
        self.sent.remove(&link);
        if self.offers.remove(&link).is_some() {
            self.handle_news();
        }
    }

    /// Something differs that neighbors or the area may have to know.
    pub fn handle_news(&mut self) {
        match &mut self.pace {
            Some(pace) => pace.handle_news(true),
            // A relay inside its area has nothing to say.
            None if self.areas.is_empty() => {}
            pace => *pace = Some(Pace::new(0).spread(self.seed).patient(WAIT_MAX)),
        }
    }

    /// An own way of an earlier life is still in the area.
    pub fn handle_own(&mut self, fragment: Fragment, sequence: u64) {
        self.counter = self.counter.max(sequence);
        if self.leftover.len() < FRAGMENTS_MAX {
            self.leftover.insert(fragment);
        }
        self.pace.get_or_insert_with(|| Pace::new(0).patient(WAIT_MAX)).handle_news(true);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let pace = self.pace.as_ref().filter(|_| self.name.is_some()).and_then(Pace::poll_timeout);
        let name = self.next_name.map(|(_, since)| since + NAME_HELD);
        pace.into_iter().chain(name).min()
    }

    /// Takes the name that the own fragment has now; returns what it is called elsewhere.
    fn rename(&mut self, here: Fragment, now: Instant) -> Option<Fragment> {
        if self.pace.is_none() || self.name == Some(here) {
            self.next_name = None;
            return self.name;
        }
        match self.next_name {
            Some((next, since)) if next == here => {
                if now >= since + NAME_HELD {
                    (self.name, self.next_name) = (Some(here), None);
                    self.handle_news();
                }
            }
            _ => self.next_name = Some((here, now)),
        }
        self.name
    }

    fn due(&mut self, now: Instant) -> bool {
        self.pace.as_mut().is_some_and(|pace| pace.handle_timeout(now).is_some())
    }
}

impl Mesh {
    /// A neighbor says which area it is in.
    pub(crate) fn take_area(&mut self, link: LinkId, area: AreaId) {
        let before = if area == self.config.area {
            self.border.areas.remove(&link)
        } else {
            self.border.areas.insert(link, area)
        };
        if before != Some(area) && (before.is_some() || area != self.config.area) {
            self.border.offers.remove(&link);
            self.border.sent.remove(&link);
            self.links_changed = true;
            self.border.moved = true;
            self.border.handle_news();
        }
    }

    /// A neighbor in another area offers a way, or does not any more.
    pub(crate) fn take_reach(
        &mut self,
        link: LinkId,
        fragment: Fragment,
        reach: Option<Reach>,
    ) -> Result<(), MeshError> {
        if !self.border.crosses(link) {
            return Err(MeshError::Absurd { what: "a way to elsewhere from inside the area" });
        }
        let offers = self.border.offers.entry(link).or_default();
        match reach {
            Some(_) if offers.len() >= FRAGMENTS_MAX && !offers.contains_key(&fragment) => {
                return Err(MeshError::Full { what: "fragment" });
            }
            Some(reach) => offers.insert(fragment, reach),
            None => offers.remove(&fragment),
        };
        self.border.handle_news();
        Ok(())
    }

    /// Tells the area and the neighbors elsewhere what is due. Says whether anything was.
    pub(crate) fn settle_border(&mut self, now: Instant) -> bool {
        let Some(here) = self.routes.foreign.own else { return false };
        let Some(here) = self.border.rename(here, now) else { return false };
        if !self.border.due(now) {
            return false;
        }
        let ways = self.own_ways(&here);
        self.tell_ways(&ways, now);
        let crossing: Vec<_> = self.border.areas.keys().copied().collect();
        for link in crossing {
            self.offer_ways(link, &here, &ways);
        }
        self.spf.handle_urgent();
        true
    }

    /// The fragments that can be reached, the own one included, by number.
    pub fn areas(&self) -> Vec<AreaView> {
        let Some(here) = self.routes.foreign.own else { return Vec::new() };
        let view = |fragment: &Fragment, reach: &Reach, (cost, hops): (u32, u32)| AreaView {
            fragment: *fragment,
            cost: reach.cost.saturating_add(cost),
            hops: u32::from(reach.hops).saturating_add(hops),
            relays: reach.relays.into(),
            publishers: reach.publishers.len() as u32,
            path: reach.path.clone(),
        };
        let home = AreaView { path: Vec::new(), ..view(&here, &self.home(&here), (0, 0)) };
        let mut found = BTreeMap::from([(here, home)]);
        for (way, _) in self.database.ways() {
            let (Some(reach), Some(from)) = (&way.reach, self.routes.distance_and_hops(&way.origin)) else {
                continue;
            };
            let view = view(&way.fragment, reach, from);
            if reach.path.contains(&here) {
                continue;
            }
            found
                .entry(way.fragment)
                .and_modify(|best: &mut AreaView| {
                    if (view.cost, view.hops) < (best.cost, best.hops) {
                        *best = view.clone();
                    }
                })
                .or_insert(view);
        }
        found.into_values().collect()
    }

    /// What neighbors in other areas offer, for the routes: without the cost of the link to them.
    pub(crate) fn offered(&self) -> Offered {
        let here = self.routes.foreign.own;
        let mut offered = Offered::new();
        for (link, offers) in &self.border.offers {
            let Some(neighbor) = self.neighbor_across(*link) else { continue };
            let of_neighbor = offered.entry(neighbor).or_default();
            for (fragment, reach) in offers {
                if here.is_none_or(|here| !reach.path.contains(&here)) {
                    let cost = (reach.cost, u32::from(reach.hops));
                    let best = of_neighbor.entry(*fragment).or_insert(cost);
                    *best = cost.min(*best);
                }
            }
        }
        offered
    }

    /// The neighbor at the other end of a link to another area, while it can be talked to.
    fn neighbor_across(&self, link: LinkId) -> Option<NodeId> {
        let neighbor = self.links.get(&link)?.neighbor;
        (self.border.crosses(link) && self.neighbors.contains_key(&neighbor)).then_some(neighbor)
    }

    /// The best ways over own links, with the link.
    fn own_ways(&self, here: &Fragment) -> BTreeMap<Fragment, Reach> {
        let mut best: BTreeMap<Fragment, Reach> = BTreeMap::new();
        for (link, offers) in &self.border.offers {
            let Some(neighbor) = self.neighbor_across(*link) else { continue };
            let Some(edge) = self.costs.get(&neighbor) else { continue };
            for (fragment, reach) in offers {
                if reach.path.contains(here) || reach.path.len() >= WAY_MAX {
                    continue;
                }
                let cost = reach.cost.saturating_add(*edge);
                let hops = reach.hops.saturating_add(1);
                if best.get(fragment).is_none_or(|best| (cost, hops) < (best.cost, best.hops)) {
                    best.insert(*fragment, Reach { cost, hops, ..reach.clone() });
                }
            }
        }
        best
    }

    /// Says the ways that differ from what was said.
    fn tell_ways(&mut self, ways: &BTreeMap<Fragment, Reach>, now: Instant) {
        let own = self.config.id;
        let said: BTreeMap<_, _> =
            self.database.ways_of(&own).map(|(way, held)| (way.fragment, (way, held))).collect();
        let mut tell = std::mem::take(&mut self.border.leftover);
        // Whoever would come here is better off at another border relay: it is the one to tell of it.
        let told = |fragment: &Fragment| said.get(fragment).is_some_and(|(way, _)| way.reach.is_some());
        let ways: BTreeMap<_, _> = ways
            .iter()
            .filter(|(fragment, reach)| {
                let other = self.way_by_another(fragment).unwrap_or(u32::MAX);
                let margin = if told(fragment) { other / 3 + COST_NEWS } else { other / 10 };
                reach.cost <= other.saturating_add(margin)
            })
            .collect();
        for (fragment, reach) in &ways {
            let same = said.get(fragment).is_some_and(|(way, held)| {
                let fresh = held.age_ms(now) < REFRESH_MS;
                fresh && way.reach.as_ref().is_some_and(|before| !news(before, reach))
            });
            if !same {
                tell.insert(**fragment);
            }
        }
        let gone = said.values().filter(|(way, _)| way.reach.is_some() && !ways.contains_key(&way.fragment));
        tell.extend(gone.map(|(way, _)| way.fragment));
        for fragment in tell {
            let reach = ways.get(&fragment).map(|reach| Reach::clone(reach));
            self.border.counter += 1;
            let sequence = self.border.counter;
            self.say(Record::Way(Way { origin: own, fragment, sequence, reach }), now);
        }
    }

    /// What the best way to a fragment costs that another border relay of this area tells of.
    fn way_by_another(&self, fragment: &Fragment) -> Option<u32> {
        let others = self.routes.foreign.exits_to(fragment);
        others.filter_map(|(at, cost, _)| Some(self.routes.distance_to(*at)?.saturating_add(*cost))).min()
    }

    /// Offers to a neighbor in another area what differs from what was offered to it.
    fn offer_ways(&mut self, link: LinkId, here: &Fragment, own_ways: &BTreeMap<Fragment, Reach>) {
        if self.neighbor_across(link).is_none() {
            return;
        }
        // What the neighbor calls its own fragment.
        let offers = self.border.offers.get(&link);
        let there = offers.and_then(|offers| offers.iter().find(|(_, reach)| reach.path.len() == 1));
        let there = there.map(|(fragment, _)| *fragment);
        let mut offer: BTreeMap<Fragment, Reach> = BTreeMap::new();
        let mut add = |fragment: Fragment, reach: &Reach, cost: u32, hops: u16| {
            let passes = |on: &Fragment| Some(*on) == there || on == here;
            let (cost, hops) = (reach.cost.saturating_add(cost), reach.hops.saturating_add(hops));
            let better = |best: &Reach| (cost, hops) < (best.cost, best.hops);
            if reach.path.iter().any(passes) || reach.path.len() >= WAY_MAX {
                return;
            }
            if offer.get(&fragment).is_none_or(better) {
                let path = [*here].into_iter().chain(reach.path.iter().copied()).collect();
                offer.insert(fragment, Reach { cost, hops, path, ..reach.clone() });
            }
        };
        for (fragment, reach) in own_ways {
            add(*fragment, reach, 0, 0);
        }
        for (way, _) in self.database.ways().filter(|(way, _)| way.origin != self.config.id) {
            let (Some(reach), Some((cost, hops))) = (&way.reach, self.routes.distance_and_hops(&way.origin))
            else {
                continue;
            };
            add(way.fragment, reach, cost, u16::try_from(hops).unwrap_or(u16::MAX));
        }
        offer.insert(*here, self.home(here));
        let sent = self.border.sent.entry(link).or_default();
        let mut messages = Vec::new();
        for (fragment, reach) in offer.iter().take(FRAGMENTS_MAX) {
            if sent.get(fragment).is_none_or(|before| news(before, reach)) {
                sent.insert(*fragment, reach.clone());
                messages.push(Message::Reach { fragment: *fragment, reach: Some(reach.clone()) });
            }
        }
        for (fragment, _) in sent.extract_if(.., |fragment, _| !offer.contains_key(fragment)) {
            messages.push(Message::Reach { fragment, reach: None });
        }
        for message in messages {
            self.send(link, &message);
        }
    }

    /// The own fragment, as others reach it here.
    fn home(&self, here: &Fragment) -> Reach {
        let reached = |id: &NodeId| *id == self.config.id || self.routes.reaches(id);
        let relays = self.database.relays().filter(|(said, _)| reached(&said.origin)).count();
        let publishes =
            |said: &&crate::wire::lsa::Publication| !said.streams.is_empty() && reached(&said.origin);
        let publishers = self.database.publications().map(|(said, _)| said).filter(publishes);
        let mut publishers: Vec<Short> = publishers.map(|said| (&said.origin).into()).collect();
        publishers.sort();
        publishers.dedup();
        publishers.truncate(PUBLISHERS_MAX);
        let relays = u16::try_from(relays).unwrap_or(u16::MAX);
        Reach { cost: 0, hops: 0, relays, path: vec![*here], publishers }
    }
}

/// Whether the difference is worth telling.
fn news(before: &Reach, now: &Reach) -> bool {
    let apart = before.cost.abs_diff(now.cost);
    let relays = before.relays.abs_diff(now.relays);
    before.path != now.path
        || before.publishers != now.publishers
        || (apart >= COST_NEWS && apart > before.cost.max(now.cost) / 5)
        || (relays > before.relays.max(now.relays) / 10)
}
