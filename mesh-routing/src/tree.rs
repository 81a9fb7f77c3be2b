//! Media trees: for each track that is wanted here or below, one parent toward its origin and the children
//! it is sent to. Joins go hop by hop; a relay without listeners and children leaves.
//!
//! No loop, at any instant and whatever the databases say: a relay's *depth* only shrinks while it has
//! children, and a parent takes a child only if its own depth is below the child's. So depth grows along
//! every edge that carries packets. A relay that has to go deeper first lets its children go.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use protocol::{
    Kind, NodeId,
    mesh::{Alias, TrackKey},
};

use crate::{
    detector::State,
    forward::{ForwardEntry, Source},
    link::{Link, LinkId},
    link_state::{Advertised, Database},
    message::{ANY_DEPTH, Message, PATH_MAX, Refusal},
    neighbor::Neighbor,
    route::{Candidate, Pair, Routes, pair},
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
/// Tracks at one relay.
const TRACKS_MAX: usize = 4096;

/// What trees may look at.
pub(crate) struct Surroundings<'a> {
    pub own: NodeId,
    pub links: &'a BTreeMap<LinkId, Link>,
    pub neighbors: &'a BTreeMap<NodeId, Neighbor>,
    pub costs: &'a BTreeMap<NodeId, u32>,
    pub database: &'a Database,
    pub published: &'a BTreeMap<protocol::StreamName, Advertised>,
    pub routes: &'a mut Routes,
}

impl Surroundings<'_> {
    fn state(&self, link: LinkId) -> State {
        self.links.get(&link).map_or(State::Down, Link::state)
    }

    fn available(&self, key: &TrackKey) -> bool {
        if key.origin == self.own {
            let advertised = self.published.get(&key.stream);
            return advertised.is_some_and(|ad| ad.stream.tracks.iter().any(|track| track.kind == key.kind));
        }
        self.database.get(&key.origin).is_some_and(|held| held.record.publishes(&key.stream, key.kind))
    }
}

/// What trees want done.
#[derive(Debug)]
pub(crate) enum Event {
    Send(LinkId, Message),
    KeyframeWanted(TrackKey),
    Rerouted(TrackKey),
}

#[derive(Debug)]
struct Parent {
    link: LinkId,
    neighbor: NodeId,
    alias: Alias,
    depth: u8,
    path: Vec<NodeId>,
    confirmed: Instant,
    refreshed: Instant,
}

/// A join that is not answered yet.
#[derive(Debug)]
struct Pending {
    link: LinkId,
    neighbor: NodeId,
    alias: Alias,
    since: Instant,
    /// The present parent works: this one would only be better.
    gain: bool,
}

#[derive(Debug)]
struct Child {
    neighbor: NodeId,
    alias: Alias,
    /// Its depth: the parent's has to be below.
    limit: u8,
    /// Packets are sent; else it waits for a parent of this relay.
    active: bool,
    heard: Instant,
}

#[derive(Debug, Default)]
struct Track {
    local: bool,
    children: BTreeMap<LinkId, Child>,
    parent: Option<Parent>,
    pending: Option<Pending>,
    /// None while no promise to any child stands.
    depth: Option<u8>,
    linger: Option<Instant>,
    shunned: BTreeMap<NodeId, Instant>,
    retry: Option<Instant>,
    failures: u32,
    better_since: Option<Instant>,
    /// A parent was lost and none has taken its place yet.
    orphaned: bool,
    /// The edge to blame, for those below.
    broken: Option<Pair>,
    keyframe_asked: Option<Instant>,
    keyframe_due: bool,
}

/// The trees of all tracks.
#[derive(Debug)]
pub(crate) struct Trees {
    tracks: BTreeMap<TrackKey, Track>,
    dirty: BTreeSet<TrackKey>,
    next_alias: u16,
    events: Vec<Event>,
}

impl Trees {
    pub fn new(seed: u64) -> Trees {
        let next_alias = seed as u16;
        Trees { tracks: BTreeMap::new(), dirty: BTreeSet::new(), next_alias, events: Vec::new() }
    }

    pub fn handle_interest(&mut self, key: TrackKey, wanted: bool) {
        if wanted || self.tracks.contains_key(&key) {
            self.tracks.entry(key.clone()).or_default().local = wanted;
            self.dirty.insert(key);
        }
    }

    /// Somebody here, or the child on `link`, needs a keyframe.
    pub fn handle_keyframe(&mut self, key: &TrackKey, link: Option<LinkId>) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        if link.is_none_or(|link| track.children.contains_key(&link)) {
            track.keyframe_due = true;
            self.dirty.insert(key.clone());
        }
    }

    /// Links or routes differ: every track has to look anew. `shape` forgives neighbors that refused.
    pub fn handle_change(&mut self, shape: bool) {
        for (key, track) in &mut self.tracks {
            if shape {
                track.shunned.clear();
                track.failures = 0;
                track.retry = None;
            }
            self.dirty.insert(key.clone());
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for (key, track) in &self.tracks {
            if track.deadline().is_some_and(|at| at <= now) {
                self.dirty.insert(key.clone());
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tracks.values().filter_map(Track::deadline).min()
    }

    pub fn handle_join(
        &mut self,
        (link, neighbor): (LinkId, NodeId),
        key: TrackKey,
        (alias, limit): (Alias, u8),
        around: &Surroundings<'_>,
        now: Instant,
    ) {
        let refusal = if around.state(link) == State::Down {
            Some(Refusal::LinkDown)
        } else if !around.available(&key) {
            Some(Refusal::Unknown)
        } else if !self.tracks.contains_key(&key) && self.tracks.len() >= TRACKS_MAX {
            Some(Refusal::Full)
        } else {
            let track = self.tracks.entry(key.clone()).or_default();
            track.refusal(neighbor, limit, key.origin == around.own)
        };
        if let Some(reason) = refusal {
            if let Some(track) = self.tracks.get_mut(&key) {
                track.children.remove(&link);
                self.dirty.insert(key.clone());
            }
            self.events.push(Event::Send(link, Message::Refused { track: key, alias, reason }));
            return;
        }
        let Some(track) = self.tracks.get_mut(&key) else { return };
        track.children.insert(link, Child { neighbor, alias, limit, active: false, heard: now });
        self.dirty.insert(key);
    }

    pub fn handle_leave(&mut self, link: LinkId, key: &TrackKey, alias: Alias) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        if track.children.get(&link).is_some_and(|child| child.alias == alias) {
            track.children.remove(&link);
            self.dirty.insert(key.clone());
        }
    }

    pub fn handle_joined(
        &mut self,
        link: LinkId,
        key: &TrackKey,
        (alias, depth, path): (Alias, u8, Vec<NodeId>),
        around: &Surroundings<'_>,
        now: Instant,
    ) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        let loops = path.contains(&around.own)
            || path.len() >= PATH_MAX
            || usize::from(depth) >= PATH_MAX
            || path.first() != Some(&key.origin);
        let leave = Event::Send(link, Message::Leave { track: key.clone(), alias });
        if let Some(pending) = track.pending.take_if(|pending| pending.link == link && pending.alias == alias)
        {
            if loops || track.depth.is_some_and(|own| depth >= own) {
                self.events.push(leave);
                track.shun(pending.neighbor, now);
            } else {
                if let Some(old) = track.parent.take() {
                    let message = Message::Leave { track: key.clone(), alias: old.alias };
                    self.events.push(Event::Send(old.link, message));
                    track.orphaned = true;
                }
                if std::mem::take(&mut track.orphaned) {
                    self.events.push(Event::Rerouted(key.clone()));
                    track.keyframe_due |= key.kind == Kind::Video;
                }
                let (confirmed, refreshed) = (now, now);
                let Pending { neighbor, .. } = pending;
                track.parent = Some(Parent { link, neighbor, alias, depth, path, confirmed, refreshed });
                track.failures = 0;
                track.retry = None;
                track.better_since = None;
                track.broken = None;
                track.lower();
                track.tell(key, around.own, &mut self.events);
            }
        } else if let Some(parent) = track.parent.as_mut().filter(|p| p.link == link && p.alias == alias) {
            if loops || track.depth.is_some_and(|own| depth >= own) {
                self.events.push(leave);
                let neighbor = parent.neighbor;
                track.lose_parent(neighbor, None, now);
            } else {
                parent.confirmed = now;
                let news = parent.path != path || parent.depth != depth;
                (parent.path, parent.depth) = (path, depth);
                track.lower();
                if news {
                    track.tell(key, around.own, &mut self.events);
                }
            }
        } else {
            // Nobody asked, or not any more.
            self.events.push(leave);
        }
        self.dirty.insert(key.clone());
    }

    pub fn handle_refused(
        &mut self,
        link: LinkId,
        key: &TrackKey,
        (alias, reason): (Alias, Refusal),
        now: Instant,
    ) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        if let Some(pending) = track.pending.take_if(|pending| pending.link == link && pending.alias == alias)
        {
            track.better_since = None;
            if reason == Refusal::TooDeep && track.depth.is_some() && !pending.gain {
                track.release(key, &mut self.events);
            } else if !pending.gain {
                track.shun(pending.neighbor, now);
            }
        } else if let Some(parent) = track.parent.as_ref().filter(|p| p.link == link && p.alias == alias) {
            let neighbor = parent.neighbor;
            track.lose_parent(neighbor, None, now);
        }
        self.dirty.insert(key.clone());
    }

    /// Returns the edge to stay away from, if the parent knows which one broke.
    pub fn handle_lost(
        &mut self,
        link: LinkId,
        key: &TrackKey,
        (alias, broken): (Alias, Option<Pair>),
        now: Instant,
    ) -> Option<Pair> {
        let track = self.tracks.get_mut(key)?;
        let broken = broken.map(|(a, b)| pair(a, b));
        if let Some(pending) = track.pending.take_if(|pending| pending.link == link && pending.alias == alias)
        {
            track.shun(pending.neighbor, now);
        } else if let Some(parent) = track.parent.as_ref().filter(|p| p.link == link && p.alias == alias) {
            let neighbor = parent.neighbor;
            track.lose_parent(neighbor, broken, now);
            self.dirty.insert(key.clone());
            return broken;
        }
        self.dirty.insert(key.clone());
        None
    }

    /// Whether there is nothing to settle.
    pub fn rest(&self) -> bool {
        self.dirty.is_empty() && self.events.is_empty()
    }

    /// Brings every track that changed to rest, and hands over what has to be done for that.
    pub fn settle(&mut self, around: &mut Surroundings<'_>, now: Instant) -> Vec<Event> {
        while let Some(key) = self.dirty.pop_first() {
            let Some(mut track) = self.tracks.remove(&key) else { continue };
            track.purge(&key, around, &mut self.events, now);
            if key.origin == around.own {
                track.settle_origin(&key, around, &mut self.events);
            } else {
                let mut alias = || self.next_alias();
                let pending = track.settle_relay(&key, around, now, &mut alias);
                self.events.extend(pending);
            }
            track.ask_keyframe(&key, around.own, &mut self.events, now);
            if !track.idle() {
                self.tracks.insert(key, track);
            }
        }
        std::mem::take(&mut self.events)
    }

    /// The table for the packet path.
    pub fn forwarding(&self, own: &NodeId, published: impl Fn(&TrackKey) -> bool) -> Vec<ForwardEntry> {
        let entry = |(key, track): (&TrackKey, &Track)| {
            let source = if key.origin == *own {
                if published(key) { Source::Local } else { Source::None }
            } else {
                track.source()
            };
            let children: Vec<_> =
                track.children.iter().filter(|(_, c)| c.active).map(|(link, c)| (*link, c.alias)).collect();
            let entry = ForwardEntry { track: key.clone(), source, children, local: track.local };
            (entry.local || !entry.children.is_empty()).then_some(entry)
        };
        self.tracks.iter().filter_map(entry).collect()
    }

    /// The relays a track's packets come through, this one included.
    pub fn path(&self, key: &TrackKey, own: NodeId) -> Option<Vec<NodeId>> {
        let parent = self.tracks.get(key)?.parent.as_ref()?;
        Some(parent.path.iter().copied().chain([own]).collect())
    }

    /// The links that carry packets, or soon will.
    pub fn busy(&self) -> BTreeSet<LinkId> {
        let of = |track: &Track| {
            let up = track.parent.as_ref().map(|parent| parent.link);
            let soon = track.pending.as_ref().map(|pending| pending.link);
            track.children.keys().copied().chain(up).chain(soon).collect::<Vec<_>>()
        };
        self.tracks.values().flat_map(of).collect()
    }

    /// No alias comes back before 65535 others.
    fn next_alias(&mut self) -> Alias {
        loop {
            self.next_alias = self.next_alias.wrapping_add(1);
            let alias = Alias(self.next_alias);
            let used = self.tracks.values().any(|track| {
                track.parent.as_ref().is_some_and(|parent| parent.alias == alias)
                    || track.pending.as_ref().is_some_and(|pending| pending.alias == alias)
            });
            if !used {
                return alias;
            }
        }
    }
}

impl Track {
    fn source(&self) -> Source {
        let parent = self.parent.as_ref().map(|p| (p.link, p.alias));
        // A parent that has just been asked may send before its answer is here: datagrams overtake streams.
        let source = parent.or(self.pending.as_ref().map(|p| (p.link, p.alias)));
        source.map_or(Source::None, |(link, alias)| Source::Link { link, alias })
    }

    fn refusal(&self, child: NodeId, limit: u8, origin_here: bool) -> Option<Refusal> {
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

    fn idle(&self) -> bool {
        let upward = self.parent.is_some() || self.pending.is_some();
        !self.local && self.children.is_empty() && !upward && self.linger.is_none()
    }

    fn deadline(&self) -> Option<Instant> {
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
    fn purge(&mut self, key: &TrackKey, around: &Surroundings<'_>, events: &mut Vec<Event>, now: Instant) {
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

    fn settle_origin(&mut self, key: &TrackKey, around: &Surroundings<'_>, events: &mut Vec<Event>) {
        if around.available(key) {
            self.depth = Some(0);
            self.promote(key, &[around.own], events);
        } else {
            self.release(key, events);
            self.refuse_waiting(key, Refusal::Unknown, events);
        }
    }

    fn settle_relay(
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
        events
    }

    fn check_parent(
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

    fn check_pending(
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

    fn look_for_parent(
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
    fn best(&mut self, key: &TrackKey, around: &mut Surroundings<'_>, now: Instant) -> Option<Candidate> {
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
    fn better(&mut self, key: &TrackKey, around: &mut Surroundings<'_>, now: Instant) -> Option<Candidate> {
        let best = self.best(key, around, now);
        let present = self.parent.as_ref()?.neighbor;
        let candidates = around.routes.candidates(&around.own, &key.origin, around.costs);
        let cost = candidates.iter().find(|c| c.neighbor == present).map_or(0, |c| c.cost);
        let gains = |c: &Candidate| {
            c.cost.saturating_add(GAIN) <= cost && u64::from(c.cost) * 100 < u64::from(cost) * 85
        };
        let Some(best) = best.filter(gains) else {
            self.better_since = None;
            return None;
        };
        let since = *self.better_since.get_or_insert(now);
        (now >= since + GAIN_HELD).then_some(best)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of look_for_parent, which has them all at hand")]
    fn join(
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
    fn lower(&mut self) {
        if let (Some(parent), None) = (&self.parent, &self.pending) {
            let depth = parent.depth.saturating_add(1);
            self.depth = Some(self.depth.map_or(depth, |own| own.min(depth)));
        }
    }

    /// Serves the children that wait.
    fn promote(&mut self, key: &TrackKey, path: &[NodeId], events: &mut Vec<Event>) {
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
    fn tell(&self, key: &TrackKey, own: NodeId, events: &mut Vec<Event>) {
        let (Some(parent), Some(depth)) = (&self.parent, self.depth) else { return };
        let path: Vec<_> = parent.path.iter().copied().chain([own]).collect();
        for (link, child) in self.children.iter().filter(|(_, child)| child.active) {
            let message =
                Message::Joined { track: key.clone(), alias: child.alias, depth, path: path.clone() };
            events.push(Event::Send(*link, message));
        }
    }

    /// Lets the children go that are served, and with them the promised depth.
    fn release(&mut self, key: &TrackKey, events: &mut Vec<Event>) {
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

    fn refuse_waiting(&mut self, key: &TrackKey, reason: Refusal, events: &mut Vec<Event>) {
        self.children.retain(|link, child| {
            if !child.active {
                let message = Message::Refused { track: key.clone(), alias: child.alias, reason };
                events.push(Event::Send(*link, message));
            }
            child.active
        });
    }

    fn leave(&mut self, key: &TrackKey, events: &mut Vec<Event>) {
        let parent = self.parent.take().map(|parent| (parent.link, parent.alias));
        let pending = self.pending.take().map(|pending| (pending.link, pending.alias));
        for (link, alias) in parent.into_iter().chain(pending) {
            events.push(Event::Send(link, Message::Leave { track: key.clone(), alias }));
        }
    }

    fn lose_parent(&mut self, neighbor: NodeId, broken: Option<Pair>, now: Instant) {
        self.parent = None;
        self.orphaned = true;
        self.retry = None;
        self.better_since = None;
        self.broken = broken;
        self.shun(neighbor, now);
    }

    fn shun(&mut self, neighbor: NodeId, now: Instant) {
        let until = now + self.back_off().max(RETRY_MIN * 2);
        self.failures = self.failures.saturating_add(1);
        self.shunned.insert(neighbor, until);
    }

    fn back_off(&self) -> Duration {
        (RETRY_MIN * (1 << self.failures.min(6))).min(RETRY_MAX)
    }

    fn ask_keyframe(&mut self, key: &TrackKey, own: NodeId, events: &mut Vec<Event>, now: Instant) {
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
