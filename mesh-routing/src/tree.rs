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
    database::Database,
    detector::State,
    forward::{ForwardEntry, Source},
    link::{Link, LinkId},
    link_state::Advertised,
    message::{Message, PATH_MAX, Refusal},
    neighbor::Neighbor,
    route::{Pair, Routes, pair},
    track::{Child, Parent, Pending, Track},
};

/// A better parent that refused is left alone for this time.
const GAIN_REFUSED: Duration = Duration::from_secs(50);
/// Tracks at one relay.
const TRACKS_MAX: usize = 4096;
/// Tracks that one link may take, so that no neighbor takes all the room.
const TRACKS_OF_LINK_MAX: usize = 1024;

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
    pub fn state(&self, link: LinkId) -> State {
        self.links.get(&link).map_or(State::Down, Link::state)
    }

    pub fn available(&self, key: &TrackKey) -> bool {
        if key.origin == self.own {
            let advertised = self.published.get(&key.stream);
            return advertised.is_some_and(|ad| ad.stream.tracks.iter().any(|track| track.kind == key.kind));
        }
        self.database.publishes(&key.origin, &key.stream, key.kind)
    }
}

/// What trees want done.
#[derive(Debug)]
pub(crate) enum Event {
    Send(LinkId, Message),
    KeyframeWanted(TrackKey),
    Rerouted(TrackKey),
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
        } else if !self.tracks.contains_key(&key) && self.full(link) {
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
        let leave = Event::Send(link, Message::Leave { track: key.clone(), alias });
        let Some(track) = self.tracks.get_mut(key) else {
            self.events.push(leave);
            return;
        };
        let loops = path.contains(&around.own)
            || path.len() >= PATH_MAX
            || usize::from(depth) >= PATH_MAX
            || path.first() != Some(&key.origin);
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
            // What was better on paper is not: it is tried again, but not soon.
            track.better_since = pending.gain.then_some(now + GAIN_REFUSED);
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

    /// Whether there is no room for a track that nobody but a child on `link` wants.
    fn full(&self, link: LinkId) -> bool {
        let taken = || self.tracks.values().filter(|track| track.children.contains_key(&link)).count();
        self.tracks.len() >= TRACKS_MAX
            || (self.tracks.len() >= TRACKS_OF_LINK_MAX && taken() >= TRACKS_OF_LINK_MAX)
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
