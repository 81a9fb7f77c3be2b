//! One track at this relay: its parent, its children, and the steps by which they change.
//! The promise that keeps trees free of loops is explained in `tree.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::{
    NodeId,
    mesh::{Alias, TrackKey},
};

use crate::{
    detector::State,
    forward::Source,
    link::LinkId,
    message::{ANY_DEPTH, Message, Refusal},
    route::{Candidate, Pair, pair},
    tree::{Event, Surroundings},
};

/// How long a track that nobody wants any more is kept, so that reloading a page costs nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// A child repeats its join after this time.
const REFRESH: Duration = Duration::from_secs(10);
/// A child that does not repeat its join, or a parent that does not answer, is forgotten after this time.
const EXPIRY: Duration = Duration::from_secs(35);
/// A join that is not answered is tried elsewhere.
const JOIN_PATIENCE: Duration = Duration::from_secs(1);
/// The first and the longest wait before a neighbor that refused, or any, is tried again.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A better parent has to be better for so long.
const GAIN_HELD: Duration = Duration::from_secs(10);
/// A better parent has to be better by this, in quarters of a millisecond, and by 15 %.
const GAIN: u32 = 20;
/// Keyframe requests for one track go upstream at most this often.
const KEYFRAME_EVERY: Duration = Duration::from_millis(500);
#[derive(Debug)]
pub(crate) struct Parent {
    pub link: LinkId,
    pub neighbor: NodeId,
    pub alias: Alias,
    pub depth: u8,
    pub path: Vec<NodeId>,
    pub confirmed: Instant,
    pub refreshed: Instant,
}

/// A join that is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub link: LinkId,
    pub neighbor: NodeId,
    pub alias: Alias,
    pub since: Instant,
    /// The present parent works: this one would only be better.
    pub gain: bool,
}

#[derive(Debug)]
pub(crate) struct Child {
    pub neighbor: NodeId,
    pub alias: Alias,
    /// Its depth: the parent's has to be below.
    pub limit: u8,
    /// Packets are sent; else it waits for a parent of this relay.
    pub active: bool,
    pub heard: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Track {
    pub local: bool,
    pub children: BTreeMap<LinkId, Child>,
    pub parent: Option<Parent>,
    pub pending: Option<Pending>,
    /// None while no promise to any child stands.
    pub depth: Option<u8>,
    pub linger: Option<Instant>,
    pub shunned: BTreeMap<NodeId, Instant>,
    pub retry: Option<Instant>,
    pub failures: u32,
    pub better_since: Option<Instant>,
    /// A parent was lost and none has taken its place yet.
    pub orphaned: bool,
    /// The edge to blame, for those below.
    pub broken: Option<Pair>,
    pub keyframe_asked: Option<Instant>,
    pub keyframe_due: bool,
}

impl Track {
    pub fn source(&self) -> Source {
        let parent = self.parent.as_ref().map(|p| (p.link, p.alias));
        // A parent that has just been asked may send before its answer is here: datagrams overtake streams.
        let source = parent.or(self.pending.as_ref().map(|p| (p.link, p.alias)));
        source.map_or(Source::None, |(link, alias)| Source::Link { link, alias })
    }

    pub fn refusal(&self, child: NodeId, limit: u8, origin_here: bool) -> Option<Refusal> {
        if origin_here {
            return None;
        }
        let waits_there = self.pending.as_ref().is_some_and(|pending| pending.neighbor == child);
        let comes_from_there = self.parent.as_ref().is_some_and(|parent| parent.path.contains(&child));
        if waits_there || comes_from_there {
            return Some(Refusal::Loop);
        }
        self.depth.is_some_and(|depth| depth >= limit).then_some(Refusal::TooDeep)
    }

    pub fn idle(&self) -> bool {
        let upward = self.parent.is_some() || self.pending.is_some();
        !self.local && self.children.is_empty() && !upward && self.linger.is_none()
    }

    pub fn deadline(&self) -> Option<Instant> {
        let upward = self.pending.as_ref().map(|pending| pending.since + JOIN_PATIENCE);
        let parent = self.parent.iter().flat_map(|p| [p.refreshed + REFRESH, p.confirmed + EXPIRY]);
        let children = self.children.values().map(|child| child.heard + EXPIRY);
        let keyframe = self
            .keyframe_asked
            .filter(|_| self.keyframe_due && (self.parent.is_some() || self.depth == Some(0)))
            .map(|asked| asked + KEYFRAME_EVERY);
        let retry = self.retry.filter(|_| self.pending.is_none());
        let better = self.better_since.filter(|_| self.pending.is_none()).map(|since| since + GAIN_HELD);
        children
            .chain(parent)
            .chain(upward)
            .chain(keyframe)
            .chain(retry)
            .chain(better)
            .chain(self.linger)
            .min()
    }

    /// Forgets children on dead links and those that stopped repeating their join.
    pub fn purge(
        &mut self,
        key: &TrackKey,
        around: &Surroundings<'_>,
        events: &mut Vec<Event>,
        now: Instant,
    ) {
        let broken = self.broken;
        self.children.retain(|link, child| {
            let stays = around.state(*link) != State::Down && now < child.heard + EXPIRY;
            if !stays && around.links.contains_key(link) {
                let message = Message::Lost { track: key.clone(), alias: child.alias, broken };
                events.push(Event::Send(*link, message));
            }
            stays
        });
    }

    pub fn settle_origin(&mut self, key: &TrackKey, around: &Surroundings<'_>, events: &mut Vec<Event>) {
        if around.available(key) {
            self.depth = Some(0);
            self.promote(key, &[around.own], events);
        } else {
            self.release(key, events);
            self.refuse_waiting(key, Refusal::Unknown, events);
        }
    }

    pub fn settle_relay(
        &mut self,
        key: &TrackKey,
        around: &mut Surroundings<'_>,
        now: Instant,
        alias: &mut dyn FnMut() -> Alias,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let available = around.available(key);
        if self.local || !self.children.is_empty() {
            self.linger = None;
        } else if self.linger.is_none() && (self.parent.is_some() || self.pending.is_some()) {
            self.linger = Some(now + LINGER);
        }
        let demand = self.local || !self.children.is_empty() || self.linger.is_some_and(|until| until > now);
        if !available || !demand {
            self.leave(key, &mut events);
            self.release(key, &mut events);
            self.refuse_waiting(key, Refusal::Unknown, &mut events);
            (self.linger, self.retry, self.better_since, self.orphaned) = (None, None, None, false);
            return events;
        }
        self.check_parent(key, around, &mut events, now);
        self.check_pending(key, around, &mut events, now);
        if self.pending.is_none() {
            self.look_for_parent(key, around, &mut events, now, alias);
        }
        if self.pending.is_none() {
            self.lower();
        }
        if let Some(parent) = &self.parent {
            let path: Vec<_> = parent.path.iter().copied().chain([around.own]).collect();
            self.promote(key, &path, &mut events);
        }
        // Those who waited may have been refused: then all this was for nobody.
        let upward = self.parent.is_some() || self.pending.is_some();
        if upward && !self.local && self.children.is_empty() && self.linger.is_none() {
            self.linger = Some(now + LINGER);
        }
        events
    }

    pub fn check_parent(
        &mut self,
        key: &TrackKey,
        around: &Surroundings<'_>,
        events: &mut Vec<Event>,
        now: Instant,
    ) {
        let Some(parent) = &mut self.parent else { return };
        let (link, neighbor, alias) = (parent.link, parent.neighbor, parent.alias);
        let dead = around.state(link) == State::Down;
        if dead || now >= parent.confirmed + EXPIRY {
            if around.links.contains_key(&link) {
                events.push(Event::Send(link, Message::Leave { track: key.clone(), alias }));
            }
            self.lose_parent(neighbor, dead.then(|| pair(around.own, neighbor)), now);
        } else if now >= parent.refreshed + REFRESH {
            parent.refreshed = now;
            let limit = self.depth.unwrap_or(ANY_DEPTH);
            events.push(Event::Send(link, Message::Join { track: key.clone(), alias, limit }));
        }
    }

    pub fn check_pending(
        &mut self,
        key: &TrackKey,
        around: &Surroundings<'_>,
        events: &mut Vec<Event>,
        now: Instant,
    ) {
        let over = |p: &mut Pending| around.state(p.link) != State::Up || now >= p.since + JOIN_PATIENCE;
        if let Some(pending) = self.pending.take_if(over) {
            if around.links.contains_key(&pending.link) {
                let message = Message::Leave { track: key.clone(), alias: pending.alias };
                events.push(Event::Send(pending.link, message));
            }
            self.shun(pending.neighbor, now);
        }
    }

    pub fn look_for_parent(
        &mut self,
        key: &TrackKey,
        around: &mut Surroundings<'_>,
        events: &mut Vec<Event>,
        now: Instant,
        alias: &mut dyn FnMut() -> Alias,
    ) {
        let working = self.parent.as_ref().is_some_and(|parent| around.state(parent.link) == State::Up);
        if working {
            (self.retry, self.broken) = (None, None);
            if let Some(better) = self.better(key, around, now) {
                self.join(key, better, true, around, events, now, alias);
            }
            return;
        }
        self.better_since = None;
        if self.retry.is_some_and(|at| at > now) {
            return;
        }
        self.retry = None;
        if let Some(parent) = &self.parent {
            self.broken = Some(pair(around.own, parent.neighbor));
        }
        if let Some(best) = self.best(key, around, now) {
            self.join(key, best, false, around, events, now, alias);
            return;
        }
        let wait = self.back_off();
        self.retry = Some(now + wait);
        if self.parent.is_none() {
            self.failures = self.failures.saturating_add(1);
            self.release(key, events);
            self.refuse_waiting(key, Refusal::NoRoute, events);
        }
    }

    /// The best neighbor to join at, the present parent aside.
    pub fn best(&mut self, key: &TrackKey, around: &mut Surroundings<'_>, now: Instant) -> Option<Candidate> {
        self.shunned.retain(|_, until| *until > now);
        let present = self.parent.as_ref().map(|parent| parent.neighbor);
        let waiting =
            |id: &NodeId| self.children.values().any(|child| !child.active && child.neighbor == *id);
        let fit = |c: &&Candidate| {
            let up = around.neighbors.get(&c.neighbor).is_some_and(|neighbor| neighbor.state == State::Up);
            up && Some(c.neighbor) != present
                && !self.shunned.contains_key(&c.neighbor)
                && !waiting(&c.neighbor)
        };
        around.routes.candidates(&around.own, &key.origin, around.costs).iter().find(fit).copied()
    }

    /// A neighbor that has been clearly better than the present parent for long enough.
    pub fn better(
        &mut self,
        key: &TrackKey,
        around: &mut Surroundings<'_>,
        now: Instant,
    ) -> Option<Candidate> {
        let best = self.best(key, around, now);
        let present = self.parent.as_ref()?.neighbor;
        let candidates = around.routes.candidates(&around.own, &key.origin, around.costs);
        let cost = candidates.iter().find(|c| c.neighbor == present).map_or(0, |c| c.cost);
        let promised = self.depth.filter(|_| self.children.values().any(|child| child.active));
        let gains = |c: &Candidate| {
            let keeps = promised.is_none_or(|depth| c.depth < u32::from(depth));
            keeps && c.cost.saturating_add(GAIN) <= cost && u64::from(c.cost) * 100 < u64::from(cost) * 85
        };
        let Some(best) = best.filter(gains) else {
            self.better_since = None;
            return None;
        };
        let since = *self.better_since.get_or_insert(now);
        (now >= since + GAIN_HELD).then_some(best)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of look_for_parent, which has them all at hand")]
    pub fn join(
        &mut self,
        key: &TrackKey,
        at: Candidate,
        gain: bool,
        around: &Surroundings<'_>,
        events: &mut Vec<Event>,
        now: Instant,
        alias: &mut dyn FnMut() -> Alias,
    ) {
        let Some(neighbor) = around.neighbors.get(&at.neighbor) else { return };
        let promised = self.depth.filter(|_| self.children.values().any(|child| child.active));
        let limit = match promised {
            Some(depth) if gain || at.depth < u32::from(depth) => depth,
            _ => {
                self.release(key, events);
                ANY_DEPTH
            }
        };
        let (link, alias) = (neighbor.link, alias());
        self.pending = Some(Pending { link, neighbor: at.neighbor, alias, since: now, gain });
        events.push(Event::Send(link, Message::Join { track: key.clone(), alias, limit }));
    }

    /// Takes the depth that follows from the parent's, unless a join is on its way that says otherwise.
    pub fn lower(&mut self) {
        if let (Some(parent), None) = (&self.parent, &self.pending) {
            let depth = parent.depth.saturating_add(1);
            self.depth = Some(self.depth.map_or(depth, |own| own.min(depth)));
        }
    }

    /// Serves the children that wait.
    pub fn promote(&mut self, key: &TrackKey, path: &[NodeId], events: &mut Vec<Event>) {
        let Some(depth) = self.depth else { return };
        self.children.retain(|link, child| {
            if child.active {
                return true;
            }
            let reason = if path.contains(&child.neighbor) {
                Some(Refusal::Loop)
            } else {
                (depth >= child.limit).then_some(Refusal::TooDeep)
            };
            let (track, alias) = (key.clone(), child.alias);
            child.active = reason.is_none();
            let message = match reason {
                Some(reason) => Message::Refused { track, alias, reason },
                None => Message::Joined { track, alias, depth, path: path.to_vec() },
            };
            events.push(Event::Send(*link, message));
            child.active
        });
    }

    /// Tells the children that are served about another path.
    pub fn tell(&self, key: &TrackKey, own: NodeId, events: &mut Vec<Event>) {
        let (Some(parent), Some(depth)) = (&self.parent, self.depth) else { return };
        let path: Vec<_> = parent.path.iter().copied().chain([own]).collect();
        for (link, child) in self.children.iter().filter(|(_, child)| child.active) {
            let message =
                Message::Joined { track: key.clone(), alias: child.alias, depth, path: path.clone() };
            events.push(Event::Send(*link, message));
        }
    }

    /// Lets the children go that are served, and with them the promised depth.
    pub fn release(&mut self, key: &TrackKey, events: &mut Vec<Event>) {
        let broken = self.broken;
        self.children.retain(|link, child| {
            if child.active {
                let message = Message::Lost { track: key.clone(), alias: child.alias, broken };
                events.push(Event::Send(*link, message));
            }
            !child.active
        });
        self.depth = None;
    }

    pub fn refuse_waiting(&mut self, key: &TrackKey, reason: Refusal, events: &mut Vec<Event>) {
        self.children.retain(|link, child| {
            if !child.active {
                let message = Message::Refused { track: key.clone(), alias: child.alias, reason };
                events.push(Event::Send(*link, message));
            }
            child.active
        });
    }

    pub fn leave(&mut self, key: &TrackKey, events: &mut Vec<Event>) {
        let parent = self.parent.take().map(|parent| (parent.link, parent.alias));
        let pending = self.pending.take().map(|pending| (pending.link, pending.alias));
        for (link, alias) in parent.into_iter().chain(pending) {
            events.push(Event::Send(link, Message::Leave { track: key.clone(), alias }));
        }
    }

    pub fn lose_parent(&mut self, neighbor: NodeId, broken: Option<Pair>, now: Instant) {
        self.parent = None;
        self.orphaned = true;
        self.retry = None;
        self.better_since = None;
        self.broken = broken;
        self.shun(neighbor, now);
    }

    pub fn shun(&mut self, neighbor: NodeId, now: Instant) {
        let until = now + self.back_off().max(RETRY_MIN * 2);
        self.failures = self.failures.saturating_add(1);
        self.shunned.insert(neighbor, until);
    }

    pub fn back_off(&self) -> Duration {
        (RETRY_MIN * (1 << self.failures.min(6))).min(RETRY_MAX)
    }

    pub fn ask_keyframe(&mut self, key: &TrackKey, own: NodeId, events: &mut Vec<Event>, now: Instant) {
        if !self.keyframe_due || self.keyframe_asked.is_some_and(|asked| now < asked + KEYFRAME_EVERY) {
            return;
        }
        if key.origin == own {
            events.push(Event::KeyframeWanted(key.clone()));
        } else if let Some(parent) = &self.parent {
            events.push(Event::Send(parent.link, Message::Keyframe { track: key.clone() }));
        } else {
            // Asked when a parent is found.
            return;
        }
        self.keyframe_asked = Some(now);
        self.keyframe_due = false;
    }
}
