//! One track at this relay: its two feeds and the steps by which they change. What parents answer is taken in
//! `answer.rs`, children are served in `child.rs`; why there is no loop is explained in `tree.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use protocol::{
    Kind, NodeId,
    mesh::{Alias, TrackKey},
};

use crate::{
    link::detector::State,
    route::{
        detour::{Around, DEAR},
        graph::{Candidate, Pair, pair},
    },
    tree::{
        children::{Child, WAIT},
        feed::{EXPIRY, Feed, JOIN_PATIENCE, OVERLAP, REFRESH, Slot, common, edges},
        view::{Event, Surroundings},
    },
    wire::{
        message::{Ask, Message, PATH_MAX, Refusal, Role},
        metric::LinkId,
    },
};

/// How long a track that nobody wants any more is kept, so that reloading a page costs nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// A better way has to be better for so long; less if it is free of what is to be avoided.
const GAIN_HELD: Duration = Duration::from_secs(10);
const APART_HELD: Duration = Duration::from_millis(500);
/// A better way has to be better by this, in quarters of a millisecond, and by 15 %.
const GAIN: u32 = 20;
/// Better on paper, but refused: left alone for this time.
pub(crate) const GAIN_REFUSED: Duration = Duration::from_secs(50);
/// Keyframe requests for one track go upstream at most this often.
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);

/// Places in [`Track::slots`].
pub(crate) const PRIMARY: usize = 0;
pub(crate) const SECONDARY: usize = 1;
pub(crate) const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];

#[derive(Debug, Default)]
pub(crate) struct Track {
    pub local: bool,
    pub children: BTreeMap<LinkId, Child>,
    pub slots: [Slot; 2],
    /// Feeds that were replaced, and when they are left.
    pub old: Vec<(Feed, Instant)>,
    linger: Option<Instant>,
    pub better_since: Option<Instant>,
    apart_since: Option<Instant>,
    /// The primary was lost, or is in doubt, and none has taken its place yet.
    pub orphaned: bool,
    /// The edge to blame, for those below.
    pub broken: Option<Pair>,
    keyframe_asked: Option<Instant>,
    /// A keyframe is needed, by this child if it is one.
    keyframe_due: Option<Option<NodeId>>,
    /// When it was brought to rest last.
    looked: Option<Instant>,
}

/// Tracks that are sent over a link, of the links to neighbors that have several.
pub(crate) type Loads = BTreeMap<LinkId, usize>;

/// What the steps need.
pub(crate) struct Step<'a, 'b> {
    pub key: &'a TrackKey,
    pub around: &'a mut Surroundings<'b>,
    pub events: &'a mut Vec<Event>,
    pub now: Instant,
    pub alias: &'a mut dyn FnMut() -> Alias,
    /// What other tracks load links with.
    pub loads: &'a Loads,
}

/// Whether both feeds of such a track carry packets, so that a cut is not heard at all.
fn hot(kind: Kind) -> bool {
    kind == Kind::Audio
}

impl Track {
    /// The feeds that packets may come by.
    pub fn sources(&self) -> Vec<(LinkId, Alias)> {
        // A parent that has just been asked may send before its answer is here: datagrams overtake streams.
        self.feeds().filter(|feed| feed.asked.active).map(Feed::key).collect()
    }

    /// The links that packets come by.
    pub fn carrying(&self) -> impl Iterator<Item = LinkId> {
        self.feeds().filter(|feed| feed.asked.active).map(|feed| feed.link)
    }

    /// All feeds, asked for or joined or to be left.
    pub fn feeds(&self) -> impl Iterator<Item = &Feed> {
        self.slots.iter().flat_map(Slot::both).chain(self.old.iter().map(|(feed, _)| feed))
    }

    pub fn path(&self) -> Option<&[NodeId]> {
        self.slots.iter().find_map(|slot| slot.feed.as_ref()).map(Feed::path)
    }

    pub fn idle(&self) -> bool {
        !self.local && self.children.is_empty() && self.feeds().next().is_none() && self.linger.is_none()
    }

    pub fn forgive(&mut self) {
        self.slots.iter_mut().for_each(Slot::forgive);
    }

    pub fn need_keyframe(&mut self, child: Option<NodeId>) {
        self.keyframe_due = Some(child);
    }

    pub fn deadline(&self) -> Option<Instant> {
        let slots = self.slots.iter().flat_map(|slot| {
            let feed = slot
                .feed
                .iter()
                .flat_map(|f| [Some(f.refreshed + REFRESH), Some(f.confirmed + EXPIRY), f.pause]);
            let next = slot.next.iter().map(|f| Some(f.since + JOIN_PATIENCE));
            let retry = self.looked.and_then(|looked| slot.retry(looked));
            feed.chain(next).flatten().chain(retry.filter(|_| slot.next.is_none()))
        });
        let children = self.children.values().map(|child| {
            let wait = child.since + WAIT;
            if child.told.is_none() { wait.min(child.heard + EXPIRY) } else { child.heard + EXPIRY }
        });
        let keyframe = self.keyframe_asked.filter(|_| self.keyframe_due.is_some());
        let better = self.better_since.iter().flat_map(|at| [*at + APART_HELD, *at + GAIN_HELD]);
        let apart = self.apart_since.map(|at| at + APART_HELD);
        let looked = self.looked;
        let ahead = move |at: &Instant| looked.is_none_or(|looked| *at > looked);
        let held = better.chain(apart).chain(keyframe.map(|asked| asked + KEYFRAME_EVERY)).filter(ahead);
        let old = self.old.iter().map(|(_, until)| *until);
        slots.chain(children).chain(held).chain(old).chain(self.linger).min()
    }

    pub fn settle_origin(&mut self, step: &mut Step<'_, '_>) {
        self.looked = Some(step.now);
        if step.around.available(step.key) {
            self.serve(step.key, &[(vec![step.around.own], None)], step.events, step.now);
        } else {
            self.release(step.key, Refusal::Unknown, step.events);
        }
    }

    pub fn settle_relay(&mut self, step: &mut Step<'_, '_>) {
        let now = step.now;
        self.looked = Some(now);
        if self.local || !self.children.is_empty() {
            self.linger = None;
        } else if self.linger.is_none() && self.feeds().next().is_some() {
            self.linger = Some(now + LINGER);
        }
        let demand = self.local || !self.children.is_empty() || self.linger.is_some_and(|until| until > now);
        if !demand || !step.around.available(step.key) {
            for feed in self.feeds() {
                step.events.push(feed.leave(step.key));
            }
            self.release(step.key, Refusal::Unknown, step.events);
            *self = Track { local: self.local, looked: self.looked, ..Track::default() };
            return;
        }
        self.check(step);
        self.promote(step);
        self.look_for_primary(step);
        self.look_for_secondary(step);
        self.tune(step);
        let own = step.around.own;
        let way = |feed: &Feed| {
            let offer = feed.offer.as_ref()?;
            let path: Vec<_> = offer.path.iter().copied().chain([own]).collect();
            Some((path, feed.doubt(step.around)))
        };
        let ways: Vec<_> = self.slots.iter().filter_map(|slot| way(slot.feed.as_ref()?)).collect();
        self.serve(step.key, &ways, step.events, now);
        // Those who waited may have been refused: then all this was for nobody.
        if !self.local && self.children.is_empty() && self.linger.is_none() && self.feeds().next().is_some() {
            self.linger = Some(now + LINGER);
        }
    }

    /// Lets go of what is dead, and repeats joins.
    fn check(&mut self, step: &mut Step<'_, '_>) {
        let now = step.now;
        for place in [PRIMARY, SECONDARY] {
            let slot = &mut self.slots[place];
            let over =
                |f: &mut Feed| step.around.state(f.link) != State::Up || now >= f.since + JOIN_PATIENCE;
            if let Some(next) = slot.next.take_if(over) {
                step.leave(&next);
                slot.shun(ROLES[place], next.neighbor, now);
            }
            let Some(feed) = &mut slot.feed else { continue };
            let dead = step.around.state(feed.link) == State::Down;
            if dead || now >= feed.confirmed + EXPIRY {
                let broken = dead.then(|| pair(step.around.own, feed.neighbor));
                if let Some(feed) = slot.feed.take() {
                    step.leave(&feed);
                    self.lose(place, &feed, broken, now);
                }
            } else if now >= feed.refreshed + REFRESH {
                feed.refreshed = now;
                step.events.push(feed.join(step.key));
            }
        }
        for (feed, _) in self.old.extract_if(.., |(_, until)| *until <= now) {
            step.leave(&feed);
        }
    }

    /// The feed of a slot is gone.
    pub fn lose(&mut self, place: usize, feed: &Feed, broken: Option<Pair>, now: Instant) {
        self.slots[place].shun(ROLES[place], feed.neighbor, now);
        if place == PRIMARY {
            self.orphaned = true;
            self.broken = broken;
            self.better_since = None;
        }
    }

    /// The secondary takes the place of a primary that is dead or in doubt.
    fn promote(&mut self, step: &mut Step<'_, '_>) {
        let [primary, secondary] = &self.slots;
        let good = |slot: &Slot| slot.feed.as_ref().is_some_and(|feed| feed.good(step.around));
        if good(primary) {
            self.broken = None;
            if std::mem::take(&mut self.orphaned) {
                self.moved(step);
            }
            return;
        }
        if let Some(feed) = &primary.feed {
            self.broken = feed.doubt(step.around);
        }
        if secondary.feed.is_some() && (primary.feed.is_none() || good(secondary)) {
            self.swap(step);
        }
    }

    fn swap(&mut self, step: &mut Step<'_, '_>) {
        let [primary, secondary] = &mut self.slots;
        std::mem::swap(&mut primary.feed, &mut secondary.feed);
        self.better_since = None;
        self.apart_since = None;
        self.orphaned = false;
        self.moved(step);
    }

    /// Packets come another way.
    pub fn moved(&mut self, step: &mut Step<'_, '_>) {
        step.events.push(Event::Rerouted(step.key.clone()));
        if step.key.kind == Kind::Video {
            self.keyframe_due = Some(None);
        }
    }

    fn look_for_primary(&mut self, step: &mut Step<'_, '_>) {
        if self.slots[PRIMARY].next.is_some() {
            return;
        }
        let mut way = Around::default();
        if !self.leads() {
            for child in self.children.values() {
                way.dear.insert(child.neighbor);
                way.dear.extend(&child.ask.avoid);
            }
            way.dear.remove(&step.key.origin);
        }
        let good = self.slots[PRIMARY].feed.as_ref().is_some_and(|feed| feed.good(step.around));
        if !good {
            self.better_since = None;
            if let Some((link, at)) = self.best(PRIMARY, &way, step) {
                self.join(PRIMARY, link, at.neighbor, false, step);
            }
        } else if let Some(better) = self.better(&way, step) {
            self.better_since = None;
            if self.slots[SECONDARY]
                .feed
                .as_ref()
                .is_some_and(|f| f.neighbor == better && f.good(step.around))
            {
                self.swap(step);
            } else if let Some((link, _)) =
                self.best(PRIMARY, &way, step).filter(|(_, at)| at.neighbor == better)
            {
                self.join(PRIMARY, link, better, true, step);
            }
        }
    }

    /// A neighbor that has been clearly better than the primary's for long enough.
    fn better(&mut self, way: &Around, step: &mut Step<'_, '_>) -> Option<NodeId> {
        let present = self.slots[PRIMARY].feed.as_ref()?.neighbor;
        let candidates = step.candidates(way);
        let cost = candidates.iter().find(|c| c.neighbor == present).map_or(0, |c| c.cost);
        let fit = |c: &&Candidate| {
            let up = step.around.neighbors.get(&c.neighbor).is_some_and(|n| n.state == State::Up);
            up && !self.slots[PRIMARY].shuns(&c.neighbor, step.now)
        };
        let gains = |c: &&Candidate| {
            c.cost.saturating_add(GAIN) <= cost && u64::from(c.cost) * 100 < u64::from(cost) * 85
        };
        let Some(best) = candidates.iter().find(fit).filter(gains) else {
            self.better_since = None;
            return None;
        };
        let apart = best.cost.saturating_add(DEAR) <= cost;
        let held = if apart { APART_HELD } else { GAIN_HELD };
        let since = *self.better_since.get_or_insert(step.now);
        (step.now >= since + held).then_some(best.neighbor)
    }

    /// What the second way has to avoid, given the first; None if none is wanted.
    fn second(&self, step: &mut Step<'_, '_>) -> Option<Around> {
        let own = step.around.own;
        let first: Vec<NodeId> = match &self.slots[PRIMARY] {
            Slot { feed: Some(feed), .. } => feed.path().to_vec(),
            // Not answered yet: most likely this one.
            Slot { next: Some(next), .. } => step.around.routes.way_from(&step.key.origin).map_or_else(
                || vec![step.key.origin, next.neighbor],
                |(_, path)| path.into_iter().filter(|id| *id != own).collect(),
            ),
            _ => return self.leads().then(Around::default),
        };
        let barred = self.unserved(&first);
        if !self.leads() && barred.is_empty() {
            return None;
        }
        let dear = first.iter().skip(1).copied().collect();
        Some(Around { barred, dear, edges: edges(own, &first) })
    }

    fn look_for_secondary(&mut self, step: &mut Step<'_, '_>) {
        let Some(mut way) = self.second(step) else {
            for feed in [self.slots[SECONDARY].feed.take(), self.slots[SECONDARY].next.take()] {
                feed.iter().for_each(|feed| step.leave(feed));
            }
            self.apart_since = None;
            return;
        };
        if self.slots[SECONDARY].next.is_some() {
            return;
        }
        let good = self.slots[SECONDARY].feed.as_ref().is_some_and(|feed| feed.good(step.around));
        if good && self.shared(step.around.own) == Some(0) && self.serves(&way.barred) {
            self.apart_since = None;
            return;
        }
        if good {
            // Ways change one after the other: not at once.
            let since = *self.apart_since.get_or_insert(step.now);
            if step.now < since + APART_HELD {
                return;
            }
        }
        self.apart_since = None;
        let mut best = self.best(SECONDARY, &way, step);
        if best.is_none() && self.leads() && !way.barred.is_empty() {
            way.barred.clear();
            best = self.best(SECONDARY, &way, step);
        }
        let Some((link, at)) = best else { return };
        if good
            && (at.cost / DEAR >= self.shared(step.around.own).unwrap_or(u32::MAX)
                && self.serves(&way.barred))
        {
            return;
        }
        self.join(SECONDARY, link, at.neighbor, good, step);
    }

    fn serves(&self, children: &BTreeSet<NodeId>) -> bool {
        self.slots[SECONDARY]
            .feed
            .as_ref()
            .is_some_and(|feed| !feed.path().iter().any(|id| children.contains(id)))
    }

    /// How much the two feeds have in common. Nothing, too, if one parent has ways of its own to spare.
    fn shared(&self, own: NodeId) -> Option<u32> {
        let [a, b] = self.slots.each_ref().map(|slot| slot.feed.as_ref());
        let (a, b) = (a?, b?);
        Some(shared(own, a, b))
    }

    /// The best neighbor to join at for a place, those aside that are in use for this track.
    fn best(&self, place: usize, way: &Around, step: &mut Step<'_, '_>) -> Option<(LinkId, Candidate)> {
        let used: BTreeSet<_> = self.slots.iter().flat_map(Slot::both).map(|feed| feed.neighbor).collect();
        let candidates = step.candidates(way);
        let load = |link| step.loads.get(&link).copied().unwrap_or_default();
        let fit = |c: &Candidate| {
            let neighbor = step.around.neighbors.get(&c.neighbor).filter(|n| n.state == State::Up)?;
            let free = !used.contains(&c.neighbor) && !self.slots[place].shuns(&c.neighbor, step.now);
            free.then(|| (neighbor.pick(hash(step.key), load), *c))
        };
        candidates.iter().find_map(fit).or_else(|| self.weak(place, step))
    }

    /// Another link to the same neighbor: better than none, if no other neighbor is there.
    fn weak(&self, place: usize, step: &Step<'_, '_>) -> Option<(LinkId, Candidate)> {
        if place == PRIMARY || self.slots[SECONDARY].feed.is_some() {
            return None;
        }
        let primary = self.slots[PRIMARY].feed.as_ref()?;
        if self.slots[SECONDARY].shuns(&primary.neighbor, step.now) {
            return None;
        }
        let link = step.around.neighbors.get(&primary.neighbor)?.other(primary.link)?;
        let depth = primary.path().len() as u32;
        Some((link, Candidate { neighbor: primary.neighbor, cost: u32::MAX, depth }))
    }

    fn join(&mut self, place: usize, link: LinkId, neighbor: NodeId, gain: bool, step: &mut Step<'_, '_>) {
        let (alias, now) = ((step.alias)(), step.now);
        // The parent keeps one child of a link: this join takes the place of the old one.
        self.old.retain(|(feed, _)| feed.link != link);
        let feed = Feed {
            link,
            neighbor,
            alias,
            asked: Ask::default(),
            since: now,
            refreshed: now,
            confirmed: now,
            offer: None,
            pause: None,
        };
        let mut asked = self.ask(place, &feed, step);
        asked.active &= !self.tries(place, gain, step.around);
        let feed = Feed { asked, ..feed };
        step.events.push(feed.join(step.key));
        self.slots[place].next = Some(feed);
        self.slots[place].gain = gain;
    }

    /// What is asked for may turn out to be of no use, and nothing is urgent: it sends nothing before its answer.
    fn tries(&self, place: usize, gain: bool, around: &Surroundings<'_>) -> bool {
        let first = self.slots[PRIMARY].feed.as_ref();
        place == SECONDARY && (gain || first.is_some_and(|feed| feed.good(around)))
    }

    /// What a feed is wanted for now.
    fn ask(&self, place: usize, feed: &Feed, step: &Step<'_, '_>) -> Ask {
        let own = step.around.own;
        let leads = self.leads();
        let first = self.slots[PRIMARY].feed.as_ref();
        let first_good = first.is_some_and(|feed| feed.good(step.around));
        let led_through = |path: &[NodeId], child: &Child| path.contains(&child.neighbor);
        let active = hot(step.key.kind) || place == PRIMARY || !first_good;
        let below = self.children.values().any(|child| {
            child.ask.active
                && !led_through(feed.path(), child)
                && (active || first.is_none_or(|first| led_through(first.path(), child)))
        });
        let mut avoid = BTreeSet::new();
        if leads && place == SECONDARY {
            avoid.extend(first.map_or(&[][..], Feed::path).iter().skip(1));
        } else if !leads {
            avoid.extend(self.children.values().flat_map(|child| &child.ask.avoid));
        }
        if place == SECONDARY {
            avoid.extend(self.unserved(first.map_or(&[][..], Feed::path)));
        } else if !leads {
            avoid.extend(self.children.values().map(|child| child.neighbor));
        }
        let avoid = avoid.into_iter().filter(|id| ![own, feed.neighbor, step.key.origin].contains(id));
        Ask {
            role: if place == PRIMARY && leads { Role::Primary } else { Role::Secondary },
            active: (self.local && active) || below,
            avoid: avoid.take(PATH_MAX).collect(),
        }
    }

    /// Tells the parents what is wanted of them, where that differs from what they were told.
    fn tune(&mut self, step: &mut Step<'_, '_>) {
        for place in [PRIMARY, SECONDARY] {
            for next in [false, true] {
                let slot = &self.slots[place];
                let Some(feed) = (if next { &slot.next } else { &slot.feed }) else { continue };
                let mut ask = self.ask(place, feed, step);
                ask.active &= !(next && self.tries(place, slot.gain, step.around));
                let slot = &mut self.slots[place];
                let Some(feed) = (if next { &mut slot.next } else { &mut slot.feed }) else { continue };
                if ask.active || !feed.asked.active {
                    feed.pause = None;
                } else if step.now < *feed.pause.get_or_insert(step.now + OVERLAP) {
                    ask.active = true;
                } else {
                    feed.pause = None;
                }
                if ask != feed.asked {
                    feed.asked = ask;
                    feed.refreshed = step.now;
                    step.events.push(feed.join(step.key));
                }
            }
        }
    }

    pub fn ask_keyframe(&mut self, key: &TrackKey, own: NodeId, events: &mut Vec<Event>, now: Instant) {
        let Some(child) = self.keyframe_due else { return };
        if self.keyframe_asked.is_some_and(|asked| now < asked + KEYFRAME_EVERY) {
            return;
        }
        if key.origin == own {
            events.push(Event::KeyframeWanted(key.clone()));
        } else {
            // By the way the packets come, and not back to who asks.
            let feeds = || self.slots.iter().filter_map(|slot| slot.feed.as_ref());
            let other = |feed: &&Feed| child.is_none_or(|child| !feed.path().contains(&child));
            let active = feeds().filter(|feed| feed.asked.active).find(other);
            let Some(feed) = active.or_else(|| feeds().find(other)) else { return };
            events.push(Event::Send(feed.link, Message::Keyframe { track: key.clone() }));
        }
        self.keyframe_asked = Some(now);
        self.keyframe_due = None;
    }
}

impl Step<'_, '_> {
    fn candidates(&mut self, way: &Around) -> Vec<Candidate> {
        self.around.routes.detours(&self.around.own, &self.key.origin, way, self.around.costs)
    }

    pub fn leave(&mut self, feed: &Feed) {
        if self.around.links.contains_key(&feed.link) {
            self.events.push(feed.leave(self.key));
        }
    }
}

/// What two feeds have in common: nothing if one of the parents has two ways of its own and the other feed does
/// not lead through it.
pub(crate) fn shared(own: NodeId, a: &Feed, b: &Feed) -> u32 {
    let spare = |this: &Feed, other: &Feed| {
        this.offer.as_ref().is_some_and(|offer| offer.guarded) && !other.path().contains(&this.neighbor)
    };
    if spare(a, b) || spare(b, a) { 0 } else { common(own, a.path(), b.path()) }
}

/// Spreads tracks over parallel links, the same way after every start.
fn hash(key: &TrackKey) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.origin.0).update(key.stream.as_str().as_bytes()).update(&[key.kind as u8]);
    u64::from_le_bytes(
        hasher.finalize().as_bytes()[..8].try_into().expect("a hash is longer than eight octets"),
    )
}
