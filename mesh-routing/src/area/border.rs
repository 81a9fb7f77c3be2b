//! A border relay: what it hears of other areas from its neighbors there, what it tells its own area of them,
//! and what it offers to those neighbors. A path vector between fragments, as BGP's between autonomous systems
//! (RFC 4271, section 9): no way is offered to who is on it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::{
    changed::Changed,
    error::MeshError,
    linkstate::{
        lsdb::Lsdb,
        pace::{Pace, first_counter},
    },
    route::{Routes, inter_area::Offered},
    wire::{
        area::{AreaId, AreaPath, Fragment, InterAreaLsa, NodePrefix, PUBLISHERS_MAX, WAY_MAX},
        message::Message,
        metric::LinkId,
        signed_lsa::Lsa,
    },
};

/// Fragments that one neighbor may offer: a neighbor in another area is the word of strangers.
pub const FRAGMENTS_MAX: usize = 512;
/// A cost is news if it differs by a fifth and by this: 2 ms.
const COST_NEWS: u32 = 8;
/// The name of the own fragment is told when it has been the same for so long: while relays of an area find each
/// other it is another with each, and every name goes round all areas.
const NAME_HELD: Duration = Duration::from_secs(1);
/// The longest wait while ways change. Withdrawing a fragment causes path hunting, as in BGP: each relay goes through
/// several worse ways before it has none, and each of them is told.
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

/// What a border relay may look at.
pub(crate) struct View<'a> {
    pub own: NodeId,
    pub lsdb: &'a Lsdb,
    pub routes: &'a Routes,
    /// The neighbors that can be talked to, and what the best link to each costs.
    pub costs: &'a BTreeMap<NodeId, u32>,
    /// Who is at the other end of a link.
    pub neighbor: &'a dyn Fn(LinkId) -> Option<NodeId>,
}

/// What a border relay wants done, in this order.
#[derive(Debug)]
pub(crate) enum Event {
    Send(LinkId, Message),
    /// This relay says something to its area.
    Say(Lsa),
}

/// What a relay keeps of other areas.
#[derive(Debug, Default)]
pub(crate) struct Border {
    /// The area this relay is in.
    area: AreaId,
    /// The areas of neighbors, where they are others than the own one.
    areas: BTreeMap<LinkId, AreaId>,
    /// What came on each link.
    offers: BTreeMap<LinkId, BTreeMap<Fragment, AreaPath>>,
    /// What was sent on each link.
    sent: BTreeMap<LinkId, BTreeMap<Fragment, AreaPath>>,
    /// Paces both what is told to the own area and what is offered.
    pace: Option<Pace>,
    /// What the own fragment is called elsewhere.
    name: Option<Fragment>,
    /// What it will be called, and since when that is so.
    next_name: Option<(Fragment, Instant)>,
    seed: u64,
    /// Numbers the ways that are told.
    counter: u64,
    /// Own ways of an earlier incarnation that are still in the area.
    leftover: BTreeSet<Fragment>,
    changed: Changed,
    events: VecDeque<Event>,
}

impl Border {
    /// A relay inside its area, as far as is known.
    pub fn new(area: AreaId, boot: u64, seed: u64) -> Border {
        Border { area, counter: first_counter(boot, seed), seed, ..Border::default() }
    }

    /// Whether the link leads to another area.
    pub fn crosses(&self, link: LinkId) -> bool {
        self.areas.contains_key(&link)
    }

    /// The link is gone.
    pub fn handle_link_down(&mut self, link: LinkId) {
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

    /// An own way of an earlier incarnation is still in the area.
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

    /// A neighbor says which area it is in.
    pub fn handle_area(&mut self, link: LinkId, area: AreaId) {
        let before = if area == self.area { self.areas.remove(&link) } else { self.areas.insert(link, area) };
        if before != Some(area) && (before.is_some() || area != self.area) {
            self.offers.remove(&link);
            self.sent.remove(&link);
            self.changed |= Changed { links: true, crossing: true, ..Changed::default() };
            self.handle_news();
        }
    }

    /// A neighbor in another area offers a way, or does not any more.
    ///
    /// # Errors
    ///
    /// [`MeshError::Absurd`] if the neighbor is in this area, [`MeshError::Full`] if it offers too many.
    pub fn handle_area_path(
        &mut self,
        link: LinkId,
        fragment: Fragment,
        area_path: Option<AreaPath>,
    ) -> Result<(), MeshError> {
        if !self.crosses(link) {
            return Err(MeshError::Absurd { what: "a way to elsewhere from inside the area" });
        }
        let offers = self.offers.entry(link).or_default();
        match area_path {
            Some(_) if offers.len() >= FRAGMENTS_MAX && !offers.contains_key(&fragment) => {
                return Err(MeshError::Full { what: "fragment" });
            }
            Some(area_path) => offers.insert(fragment, area_path),
            None => offers.remove(&fragment),
        };
        self.handle_news();
        Ok(())
    }

    /// Tells the area and the neighbors elsewhere what is due. Says whether anything was.
    pub fn settle(&mut self, view: &View<'_>, now: Instant) -> bool {
        let Some(here) = view.routes.foreign.own else { return false };
        let Some(here) = self.rename(here, now) else { return false };
        if !self.due(now) {
            return false;
        }
        let ways = self.own_ways(&here, view);
        self.tell_ways(&ways, view, now);
        let crossing: Vec<_> = self.areas.keys().copied().collect();
        for link in crossing {
            self.offer_ways(link, &here, &ways, view);
        }
        self.changed.urgent = true;
        true
    }

    /// What to do next; `None` when there is nothing left.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What changed since this was asked last.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// The fragments that can be reached, the own one included, by number.
    pub fn areas(&self, view: &View<'_>) -> Vec<AreaView> {
        let Some(here) = view.routes.foreign.own else { return Vec::new() };
        let shown = |fragment: &Fragment, area_path: &AreaPath, (cost, hops): (u32, u32)| AreaView {
            fragment: *fragment,
            cost: area_path.cost.saturating_add(cost),
            hops: u32::from(area_path.hops).saturating_add(hops),
            relays: area_path.relays.into(),
            publishers: area_path.publishers.len() as u32,
            path: area_path.path.clone(),
        };
        let home = AreaView { path: Vec::new(), ..shown(&here, &home(&here, view), (0, 0)) };
        let mut found = BTreeMap::from([(here, home)]);
        for (way, _) in view.lsdb.ways() {
            let (Some(area_path), Some(from)) = (&way.area_path, view.routes.distance_and_hops(&way.origin))
            else {
                continue;
            };
            let shown = shown(&way.fragment, area_path, from);
            if area_path.path.contains(&here) {
                continue;
            }
            found
                .entry(way.fragment)
                .and_modify(|best: &mut AreaView| {
                    if (shown.cost, shown.hops) < (best.cost, best.hops) {
                        *best = shown.clone();
                    }
                })
                .or_insert(shown);
        }
        found.into_values().collect()
    }

    /// What neighbors in other areas offer, for the routes: without the cost of the link to them.
    pub fn offered(&self, view: &View<'_>) -> Offered {
        let here = view.routes.foreign.own;
        let mut offered = Offered::new();
        for (link, offers) in &self.offers {
            let Some(neighbor) = self.neighbor_across(*link, view) else { continue };
            let of_neighbor = offered.entry(neighbor).or_default();
            for (fragment, area_path) in offers {
                if here.is_none_or(|here| !area_path.path.contains(&here)) {
                    let cost = (area_path.cost, u32::from(area_path.hops));
                    let best = of_neighbor.entry(*fragment).or_insert(cost);
                    *best = cost.min(*best);
                }
            }
        }
        offered
    }

    /// The neighbor at the other end of a link to another area, while it can be talked to.
    fn neighbor_across(&self, link: LinkId, view: &View<'_>) -> Option<NodeId> {
        let neighbor = (view.neighbor)(link)?;
        (self.crosses(link) && view.costs.contains_key(&neighbor)).then_some(neighbor)
    }

    /// The best ways over own links, with the link.
    fn own_ways(&self, here: &Fragment, view: &View<'_>) -> BTreeMap<Fragment, AreaPath> {
        let mut best: BTreeMap<Fragment, AreaPath> = BTreeMap::new();
        for (link, offers) in &self.offers {
            let Some(neighbor) = self.neighbor_across(*link, view) else { continue };
            let Some(edge) = view.costs.get(&neighbor) else { continue };
            for (fragment, area_path) in offers {
                if area_path.path.contains(here) || area_path.path.len() >= WAY_MAX {
                    continue;
                }
                let cost = area_path.cost.saturating_add(*edge);
                let hops = area_path.hops.saturating_add(1);
                if best.get(fragment).is_none_or(|best| (cost, hops) < (best.cost, best.hops)) {
                    best.insert(*fragment, AreaPath { cost, hops, ..area_path.clone() });
                }
            }
        }
        best
    }

    /// Says the ways that differ from what was said.
    fn tell_ways(&mut self, ways: &BTreeMap<Fragment, AreaPath>, view: &View<'_>, now: Instant) {
        let own = view.own;
        let said: BTreeMap<_, _> =
            view.lsdb.ways_of(&own).map(|(way, held)| (way.fragment, (way, held))).collect();
        let mut tell = std::mem::take(&mut self.leftover);
        // Whoever would come here is better off at another border relay: it is the one to tell of it.
        let told = |fragment: &Fragment| said.get(fragment).is_some_and(|(way, _)| way.area_path.is_some());
        let ways: BTreeMap<_, _> = ways
            .iter()
            .filter(|(fragment, area_path)| {
                let other = way_by_another(fragment, view).unwrap_or(u32::MAX);
                let margin = if told(fragment) { other / 3 + COST_NEWS } else { other / 10 };
                area_path.cost <= other.saturating_add(margin)
            })
            .collect();
        for (fragment, area_path) in &ways {
            let same = said.get(fragment).is_some_and(|(way, held)| {
                let fresh = held.age_ms(now) < REFRESH_MS;
                fresh && way.area_path.as_ref().is_some_and(|before| !news(before, area_path))
            });
            if !same {
                tell.insert(**fragment);
            }
        }
        let gone =
            said.values().filter(|(way, _)| way.area_path.is_some() && !ways.contains_key(&way.fragment));
        tell.extend(gone.map(|(way, _)| way.fragment));
        for fragment in tell {
            let area_path = ways.get(&fragment).map(|area_path| AreaPath::clone(area_path));
            self.counter += 1;
            let sequence = self.counter;
            self.events.push_back(Event::Say(Lsa::InterArea(InterAreaLsa {
                origin: own,
                fragment,
                sequence,
                area_path,
            })));
        }
    }

    /// Offers to a neighbor in another area what differs from what was offered to it.
    fn offer_ways(
        &mut self,
        link: LinkId,
        here: &Fragment,
        own_ways: &BTreeMap<Fragment, AreaPath>,
        view: &View<'_>,
    ) {
        if self.neighbor_across(link, view).is_none() {
            return;
        }
        // What the neighbor calls its own fragment.
        let offers = self.offers.get(&link);
        let there = offers.and_then(|offers| offers.iter().find(|(_, area_path)| area_path.path.len() == 1));
        let there = there.map(|(fragment, _)| *fragment);
        let mut offer: BTreeMap<Fragment, AreaPath> = BTreeMap::new();
        let mut add = |fragment: Fragment, area_path: &AreaPath, cost: u32, hops: u16| {
            let passes = |on: &Fragment| Some(*on) == there || on == here;
            let (cost, hops) = (area_path.cost.saturating_add(cost), area_path.hops.saturating_add(hops));
            let better = |best: &AreaPath| (cost, hops) < (best.cost, best.hops);
            if area_path.path.iter().any(passes) || area_path.path.len() >= WAY_MAX {
                return;
            }
            if offer.get(&fragment).is_none_or(better) {
                let path = [*here].into_iter().chain(area_path.path.iter().copied()).collect();
                offer.insert(fragment, AreaPath { cost, hops, path, ..area_path.clone() });
            }
        };
        for (fragment, area_path) in own_ways {
            add(*fragment, area_path, 0, 0);
        }
        for (way, _) in view.lsdb.ways().filter(|(way, _)| way.origin != view.own) {
            let (Some(area_path), Some((cost, hops))) =
                (&way.area_path, view.routes.distance_and_hops(&way.origin))
            else {
                continue;
            };
            add(way.fragment, area_path, cost, u16::try_from(hops).unwrap_or(u16::MAX));
        }
        offer.insert(*here, home(here, view));
        let sent = self.sent.entry(link).or_default();
        for (fragment, area_path) in offer.iter().take(FRAGMENTS_MAX) {
            if sent.get(fragment).is_none_or(|before| news(before, area_path)) {
                sent.insert(*fragment, area_path.clone());
                let message = Message::AreaPath { fragment: *fragment, area_path: Some(area_path.clone()) };
                self.events.push_back(Event::Send(link, message));
            }
        }
        for (fragment, _) in sent.extract_if(.., |fragment, _| !offer.contains_key(fragment)) {
            self.events.push_back(Event::Send(link, Message::AreaPath { fragment, area_path: None }));
        }
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

/// What the best way to a fragment costs that another border relay of this area tells of.
fn way_by_another(fragment: &Fragment, view: &View<'_>) -> Option<u32> {
    let others = view.routes.foreign.exits_to(fragment);
    others.filter_map(|(at, cost, _)| Some(view.routes.distance_to(*at)?.saturating_add(*cost))).min()
}

/// The own fragment, as others reach it here.
fn home(here: &Fragment, view: &View<'_>) -> AreaPath {
    let reached = |id: &NodeId| *id == view.own || view.routes.reaches(id);
    let relays = view.lsdb.relays().filter(|(said, _)| reached(&said.origin)).count();
    let publishes = |said: &&crate::wire::lsa::Publication| !said.streams.is_empty() && reached(&said.origin);
    let publishers = view.lsdb.publications().map(|(said, _)| said).filter(publishes);
    let mut publishers: Vec<NodePrefix> = publishers.map(|said| (&said.origin).into()).collect();
    publishers.sort();
    publishers.dedup();
    publishers.truncate(PUBLISHERS_MAX);
    let relays = u16::try_from(relays).unwrap_or(u16::MAX);
    AreaPath { cost: 0, hops: 0, relays, path: vec![*here], publishers }
}

/// Whether the difference is worth telling.
fn news(before: &AreaPath, now: &AreaPath) -> bool {
    let apart = before.cost.abs_diff(now.cost);
    let relays = before.relays.abs_diff(now.relays);
    before.path != now.path
        || before.publishers != now.publishers
        || (apart >= COST_NEWS && apart > before.cost.max(now.cost) / 5)
        || (relays > before.relays.max(now.relays) / 10)
}
