//! Media trees: for each track that is wanted here or below, up to two feeds toward its origin and the children
//! it is sent to. Joins go hop by hop; a relay without listeners and children leaves.
//!
//! No loop, whatever the databases say: an offer carries the path from the origin, and a parent offers a child
//! only paths without the child; and every relay forwards a packet once, so that a packet cannot circle even
//! where an offer is out of date.

mod children;
mod feeds;
pub mod forward;
mod joins;
mod keyframe_requests;
mod track;
pub(crate) mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use protocol::{
    Kind, NodeId, StreamName,
    mesh::{Alias, TrackKey},
};

use crate::{
    link::detector::State,
    route::graph::{Pair, pair},
    tree::{
        children::Child,
        forward::ForwardEntry,
        track::Track,
        view::{Event, Loads, Refusals, Step, TreeView},
    },
    wire::{
        message::{JoinParams, Message, Offer, Refusal},
        metric::LinkId,
    },
};

/// Tracks at one relay. More is refused: what a neighbor may make a relay remember is bounded everywhere.
const TRACKS_MAX: usize = 4096;
/// Tracks that one link may take, so that no neighbor takes all the room.
const TRACKS_OF_LINK_MAX: usize = 1024;
/// Joins of one link that wait for a feed: each makes this relay ask others.
const WAITING_OF_LINK_MAX: usize = 256;
/// What is planned for a track, in bits per second: Opus for music with its overhead, and what the browser client
/// publishes at most. A description has no rate, and a measured one would make the answer depend on the moment.
const AUDIO_RATE: u64 = 160_000;
const VIDEO_RATE: u64 = 2_500_000;
/// Share of a link's capacity for media, in per cent. The rest is for control, for repairs, and for being wrong about the
/// capacity and the rates.
const FILL: u64 = 85;

/// The trees of all tracks.
#[derive(Debug)]
pub(crate) struct Trees {
    tracks: BTreeMap<TrackKey, Track>,
    dirty: BTreeSet<TrackKey>,
    next_alias: u16,
    events: Vec<Event>,
    /// Of links where it is known, in bits per second.
    capacities: BTreeMap<LinkId, u64>,
    refusals: Refusals,
}

impl Trees {
    pub fn new(seed: u64) -> Trees {
        let next_alias = seed as u16;
        Trees {
            tracks: BTreeMap::new(),
            dirty: BTreeSet::new(),
            next_alias,
            events: Vec::new(),
            capacities: BTreeMap::new(),
            refusals: Refusals::default(),
        }
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
        let child = link.map(|link| track.children.get(link).map(|child| child.neighbor));
        if child != Some(None) {
            track.need_keyframe(child.flatten());
            self.dirty.insert(key.clone());
        }
    }

    /// Links or routes differ: every track has to look anew. `shape` forgives neighbors that refused.
    pub fn handle_change(&mut self, shape: bool) {
        for (key, track) in &mut self.tracks {
            if shape {
                track.forgive();
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

    /// What a link carries, in bits per second; `None` if that is not known.
    pub fn handle_capacity(&mut self, link: LinkId, capacity: Option<u64>) {
        match capacity {
            Some(capacity) => drop(self.capacities.insert(link, capacity)),
            None => drop(self.capacities.remove(&link)),
        }
        self.make_room(link, 0);
    }

    pub fn handle_join(
        &mut self,
        (link, neighbor): (LinkId, NodeId),
        key: TrackKey,
        (alias, ask): (Alias, JoinParams),
        around: &TreeView<'_>,
        now: Instant,
    ) {
        let known = self.tracks.get(&key).and_then(|track| track.children.get(link));
        let same = known.is_some_and(|child| child.alias == alias);
        let starts = ask.active && !known.is_some_and(|child| child.ask.active);
        let refusal = if around.state(link) == State::Down {
            Some(Refusal::LinkDown)
        } else if !around.available(&key) {
            Some(Refusal::Unknown)
        } else if known.is_none() && self.full(&key, link) || starts && !self.fits(&key, link) {
            Some(Refusal::Full)
        } else {
            None
        };
        if let Some(reason) = refusal {
            if let Some(track) = self.tracks.get_mut(&key) {
                track.children.remove(link);
                self.dirty.insert(key.clone());
            }
            self.events.push(Event::Send(link, Message::Refused { track: key, alias, reason }));
            return;
        }
        let track = self.tracks.entry(key.clone()).or_default();
        let child = Child { neighbor, alias, ask, since: now, heard: now, told: None, answer: true };
        let child = match track.children.remove(link).filter(|_| same) {
            Some(old) => Child { since: old.since, told: old.told, ..child },
            None => child,
        };
        track.children.insert(link, child);
        self.dirty.insert(key);
    }

    pub fn handle_leave(&mut self, link: LinkId, key: &TrackKey, alias: Alias) {
        let Some(track) = self.tracks.get_mut(key) else { return };
        if track.children.get(link).is_some_and(|child| child.alias == alias) {
            track.children.remove(link);
            self.dirty.insert(key.clone());
        }
    }

    /// Returns the edge to stay away from, if the parent knows of one.
    pub fn handle_joined(
        &mut self,
        link: LinkId,
        key: &TrackKey,
        (alias, offer): (Alias, Offer),
        around: &mut TreeView<'_>,
        now: Instant,
    ) -> Option<Pair> {
        let Some(mut track) = self.tracks.remove(key) else {
            self.events.push(Event::Send(link, Message::Leave { track: key.clone(), alias }));
            return None;
        };
        let mut events = std::mem::take(&mut self.events);
        let mut alias_of = || self.next_alias();
        let loads = Loads::new();
        let mut step = Step { key, around, events: &mut events, now, alias: &mut alias_of, loads: &loads };
        let suspect_edge = track.handle_joined((link, alias), offer, &mut step);
        self.events = events;
        self.tracks.insert(key.clone(), track);
        self.dirty.insert(key.clone());
        suspect_edge
    }

    /// The parent refused, or lost what it had and names the edge that broke if it knows. Returns the edge to stay
    /// away from.
    pub fn handle_end(
        &mut self,
        link: LinkId,
        key: &TrackKey,
        (alias, broken): (Alias, Option<Pair>),
        now: Instant,
    ) -> Option<Pair> {
        let track = self.tracks.get_mut(key)?;
        self.dirty.insert(key.clone());
        track.handle_end((link, alias), broken.map(|(a, b)| pair(a, b)), now)
    }

    /// Whether there is nothing to settle.
    pub fn rest(&self) -> bool {
        self.dirty.is_empty() && self.events.is_empty()
    }

    /// Brings every track that changed to rest, and hands over what has to be done for that.
    pub fn settle(&mut self, around: &mut TreeView<'_>, now: Instant) -> Vec<Event> {
        let mut loads = self.loads(around);
        while let Some(key) = self.dirty.pop_first() {
            let Some(mut track) = self.tracks.remove(&key) else { continue };
            let mut events = std::mem::take(&mut self.events);
            track.feeds().carrying().for_each(|link| count(&mut loads, link, -1));
            let own = around.own;
            let mut alias = || self.next_alias();
            let mut step =
                Step { key: &key, around, events: &mut events, now, alias: &mut alias, loads: &loads };
            track.settle(&mut step);
            track.ask_keyframe(&key, own, &mut events, now);
            self.events = events;
            track.feeds().carrying().for_each(|link| count(&mut loads, link, 1));
            if !track.idle() {
                self.tracks.insert(key, track);
            }
        }
        for event in &self.events {
            let Event::Send(_, Message::Refused { reason, .. }) = event else { continue };
            let counter = match reason {
                Refusal::Loop => &mut self.refusals.looped,
                Refusal::Unknown => &mut self.refusals.unknown,
                Refusal::NoRoute => &mut self.refusals.no_route,
                Refusal::Full => &mut self.refusals.full,
                Refusal::LinkDown => &mut self.refusals.link_down,
            };
            *counter += 1;
        }
        self.capacities.retain(|link, _| around.links.contains_key(link));
        std::mem::take(&mut self.events)
    }

    /// Tracks by link, of the links to neighbors that have several.
    fn loads(&self, around: &TreeView<'_>) -> Loads {
        let parallel = around.neighbors.values().filter(|neighbor| neighbor.links.len() > 1);
        let mut loads: Loads =
            parallel.flat_map(|neighbor| &neighbor.links).map(|parallel| (parallel.link, 0)).collect();
        if !loads.is_empty() && !self.dirty.is_empty() {
            let carrying = self.tracks.values().flat_map(|track| track.feeds().carrying());
            carrying.for_each(|link| count(&mut loads, link, 1));
        }
        loads
    }

    /// Joins refused so far.
    pub fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// The table for the packet path.
    pub fn forwarding(&self, own: &NodeId, published: impl Fn(&TrackKey) -> bool) -> Vec<ForwardEntry> {
        let entry = |(key, track): (&TrackKey, &Track)| {
            let published = key.origin == *own && published(key);
            let sources = if key.origin == *own { Vec::new() } else { track.feeds().sources() };
            let children = track.children.fed();
            let entry = ForwardEntry { track: key.clone(), published, sources, children, local: track.local };
            (entry.local || !entry.children.is_empty()).then_some(entry)
        };
        self.tracks.iter().filter_map(entry).collect()
    }

    /// The relays that the packets of a stream come through, this one included: those of the first of these
    /// tracks that comes.
    pub fn path(
        &self,
        mut kinds: impl Iterator<Item = Kind>,
        (origin, stream): (&NodeId, &StreamName),
        own: NodeId,
    ) -> Option<Vec<NodeId>> {
        if self.tracks.is_empty() {
            return None;
        }
        let mut key = TrackKey { origin: *origin, stream: stream.clone(), kind: Kind::Audio };
        let path = kinds.find_map(|kind| {
            key.kind = kind;
            self.tracks.get(&key)?.feeds().path()
        })?;
        Some(path.iter().copied().chain([own]).collect())
    }

    /// The links that carry packets, or soon will.
    pub fn busy(&self) -> BTreeSet<LinkId> {
        let of = |track: &Track| {
            let up = track.feeds().iter().map(|feed| feed.link);
            track.children.links().chain(up).collect::<Vec<_>>()
        };
        self.tracks.values().flat_map(of).collect()
    }

    /// Whether there is no room for one more child on `link`.
    fn full(&self, key: &TrackKey, link: LinkId) -> bool {
        let of_link = || self.tracks.values().filter_map(|track| track.children.get(link));
        let new = !self.tracks.contains_key(key);
        new && self.tracks.len() >= TRACKS_MAX
            || new && self.tracks.len() >= TRACKS_OF_LINK_MAX && of_link().count() >= TRACKS_OF_LINK_MAX
            || of_link().filter(|child| child.told.is_none()).count() >= WAITING_OF_LINK_MAX
    }

    /// What is planned for the children of a link that packets are sent to.
    fn planned(&self, link: LinkId) -> u64 {
        let fed = |(key, track): (&TrackKey, &Track)| {
            track.children.get(link).filter(|child| child.ask.active).map(|_| rate(key.kind))
        };
        self.tracks.iter().filter_map(fed).sum()
    }

    /// Whether a link has room for a track; for audio it is made.
    fn fits(&mut self, key: &TrackKey, link: LinkId) -> bool {
        let Some(capacity) = self.capacities.get(&link) else { return true };
        if key.kind == Kind::Audio {
            self.make_room(link, rate(key.kind));
            return true;
        }
        self.planned(link) + rate(key.kind) <= capacity.saturating_mul(FILL) / 100
    }

    /// Lets video children of a link go, the newest first, until there is room for `more`.
    fn make_room(&mut self, link: LinkId, more: u64) {
        let Some(&capacity) = self.capacities.get(&link) else { return };
        while self.planned(link) + more > capacity.saturating_mul(FILL) / 100 {
            let video = self.tracks.iter_mut().filter(|(key, _)| key.kind == Kind::Video);
            let fed = video.filter_map(|(key, track)| {
                let child = track.children.get(link).filter(|child| child.ask.active)?;
                Some((child.since, key, track))
            });
            let Some((_, key, track)) = fed.max_by_key(|(since, key, _)| (*since, (*key).clone())) else {
                break;
            };
            if let Some(child) = track.children.remove(link) {
                let message = Message::Lost { track: key.clone(), alias: child.alias, broken: None };
                self.events.push(Event::Send(link, message));
                self.refusals.made_room += 1;
                self.dirty.insert(key.clone());
            }
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.tracks.len()
    }

    /// No alias comes back before 65535 others.
    fn next_alias(&mut self) -> Alias {
        loop {
            self.next_alias = self.next_alias.wrapping_add(1);
            let alias = Alias(self.next_alias);
            let used = self.tracks.values().any(|track| track.feeds().iter().any(|feed| feed.alias == alias));
            if !used {
                return alias;
            }
        }
    }
}

fn count(loads: &mut Loads, link: LinkId, more: isize) {
    if let Some(load) = loads.get_mut(&link) {
        *load = load.saturating_add_signed(more);
    }
}

fn rate(kind: Kind) -> u64 {
    match kind {
        Kind::Audio => AUDIO_RATE,
        Kind::Video => VIDEO_RATE,
    }
}
