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
pub(crate) mod picture;
mod room;
pub(crate) mod sound;
mod track;
pub(crate) mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use protocol::{
    Kind, NodeId, StreamName,
    mesh::{Alias, MAX_ENCODINGS, StreamTrack, TrackKey},
};

use crate::{
    link::detector::State,
    route::graph::{Pair, pair},
    tree::{
        children::Child,
        forward::ForwardEntry,
        picture::{Picture, PictureDemand, Seen},
        sound::{QUALITIES, Sound, SoundDemand},
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

/// The trees of all tracks.
#[derive(Debug)]
pub(crate) struct Trees {
    tracks: BTreeMap<TrackKey, Track>,
    /// What is taken of pictures that are published elsewhere.
    pictures: BTreeMap<PictureKey, Picture>,
    /// What is taken of sounds that are published elsewhere.
    sounds: BTreeMap<SoundKey, Sound>,
    dirty: BTreeSet<TrackKey>,
    dirty_pictures: BTreeSet<PictureKey>,
    dirty_sounds: BTreeSet<SoundKey>,
    next_alias: u16,
    events: Vec<Event>,
    /// Of links where it is known, in bits per second.
    capacities: BTreeMap<LinkId, u64>,
    /// Links of which the capacity is another.
    tight: BTreeSet<LinkId>,
    refusals: Refusals,
}

/// The relay that a picture is published at, and its stream.
type PictureKey = (NodeId, StreamName);
/// The relay that a sound is published at, and its stream.
type SoundKey = (NodeId, StreamName);

impl Trees {
    pub fn new(seed: u64) -> Trees {
        let next_alias = seed as u16;
        Trees {
            tracks: BTreeMap::new(),
            pictures: BTreeMap::new(),
            sounds: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_pictures: BTreeSet::new(),
            dirty_sounds: BTreeSet::new(),
            next_alias,
            events: Vec::new(),
            capacities: BTreeMap::new(),
            tight: BTreeSet::new(),
            refusals: Refusals::default(),
        }
    }

    /// What is wanted here of the sound of a stream.
    pub fn handle_sound(&mut self, key: SoundKey, demand: SoundDemand) {
        if demand.listeners > 0 || self.sounds.contains_key(&key) {
            self.sounds.entry(key.clone()).or_default().handle_demand(demand);
            self.dirty_sounds.insert(key);
        }
    }

    /// What is wanted here of the picture of a stream.
    pub fn handle_picture(&mut self, key: PictureKey, demand: PictureDemand) {
        if demand.listeners > 0 || self.pictures.contains_key(&key) {
            self.pictures.entry(key.clone()).or_default().handle_demand(demand);
            self.dirty_pictures.insert(key);
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
        self.dirty_pictures.extend(self.pictures.keys().cloned());
        self.dirty_sounds.extend(self.sounds.keys().cloned());
    }

    /// An edge somewhere has more room: neighbors that refused are asked again, also for encodings and rungs that did
    /// not come.
    pub fn handle_room(&mut self) {
        self.pictures.values_mut().for_each(Picture::forgive);
        self.sounds.values_mut().for_each(Sound::forgive);
        self.handle_change(true);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for (key, picture) in &self.pictures {
            if picture.deadline().is_some_and(|at| at <= now) {
                self.dirty_pictures.insert(key.clone());
            }
        }
        for (key, sound) in &self.sounds {
            if sound.deadline().is_some_and(|at| at <= now) {
                self.dirty_sounds.insert(key.clone());
            }
        }
        for (key, track) in &self.tracks {
            if track.deadline().is_some_and(|at| at <= now) {
                self.dirty.insert(key.clone());
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let pictures = self.pictures.values().filter_map(Picture::deadline);
        let sounds = self.sounds.values().filter_map(Sound::deadline);
        self.tracks.values().filter_map(Track::deadline).chain(pictures).chain(sounds).min()
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
        let stood = known.is_some_and(|child| child.ask.behind == 0);
        let starts = ask.active && !known.is_some_and(|child| child.ask.active);
        let refusal = if around.state(link) == State::Down {
            Some(Refusal::LinkDown)
        } else if !(around.available(&key) || same && around.has_ended(&key)) {
            Some(Refusal::Unknown)
        } else if known.is_none() && self.full(&key, link)
            || starts && !self.fits((&key, &ask), link, around, now)
        {
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
        // It is not in place of a better one any more: both have to fit.
        if stood && ask.behind > 0 && matches!(key.track, StreamTrack::Rung(_)) {
            self.tight.insert(link);
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
        if track.children.leave(link, alias) {
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
        around: &TreeView<'_>,
        now: Instant,
    ) -> Option<Pair> {
        let track = self.tracks.get_mut(key)?;
        self.dirty.insert(key.clone());
        // Who sends a sound that is covered goes on for a moment.
        let goes_on = broken.is_none() && around.is_covered(key);
        track.handle_end((link, alias), (broken.map(|(a, b)| pair(a, b)), goes_on), now)
    }

    /// Whether there is nothing to settle.
    pub fn rest(&self) -> bool {
        let tracks = self.dirty.is_empty() && self.events.is_empty();
        tracks && self.dirty_pictures.is_empty() && self.dirty_sounds.is_empty() && self.tight.is_empty()
    }

    /// Brings every track that changed to rest, and hands over what has to be done for that.
    pub fn settle(&mut self, around: &mut TreeView<'_>, now: Instant) -> Vec<Event> {
        self.settle_capacities(around, now);
        self.settle_pictures(around, now);
        self.settle_sounds(around, now);
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
        std::mem::take(&mut self.events)
    }

    /// Decides what is taken of each picture that changed, before its tracks come to rest.
    fn settle_pictures(&mut self, around: &TreeView<'_>, now: Instant) {
        self.dirty_pictures.extend(changed(&self.dirty, Kind::Video, around));
        while let Some(picture) = self.dirty_pictures.pop_first() {
            self.settle_picture(picture, around, now);
        }
    }

    fn settle_picture(&mut self, of: PictureKey, around: &TreeView<'_>, now: Instant) {
        let (origin, stream) = &of;
        let key = |track| TrackKey { origin: *origin, stream: stream.clone(), track };
        let rates = around.advertised(origin, stream).map(|advertised| advertised.rates.clone());
        let rates = rates.unwrap_or_default();
        let mut below: BTreeMap<LinkId, (u8, u32)> = BTreeMap::new();
        let mut joined = [false; MAX_ENCODINGS];
        let encodings = key(StreamTrack::Encoding(0))..=key(StreamTrack::Encoding(MAX_ENCODINGS as u8 - 1));
        for (key, track) in self.tracks.range(encodings.clone()) {
            let Some(place) = key.track.encoding() else { continue };
            if let Some(joined) = joined.get_mut(usize::from(place)) {
                *joined = track.feeds().joined().next().is_some();
            }
            let rank = rates.rank(place).unwrap_or_default();
            for (link, child) in track.children.by_link() {
                // Who says nothing stands for one.
                let asks = (rank, u32::from(child.ask.behind.max(1)));
                below.entry(link).and_modify(|best| *best = asks.max(*best)).or_insert(asks);
            }
        }
        let picture = self.pictures.entry(of.clone()).or_default();
        let taken = picture.settle(&Seen { rates: &rates, below: &below, joined }, now);
        let seen = picture.is_seen();
        let places =
            (0..MAX_ENCODINGS as u8).map(|place| (StreamTrack::Encoding(place), taken.contains(place)));
        for (track, takes) in places.chain([(StreamTrack::Video, taken.whole)]) {
            let is_upper = taken.upper.is_some() && track.encoding() == taken.upper;
            let behind = if is_upper { u16::try_from(taken.behind).unwrap_or(u16::MAX) } else { 0 };
            let (key, local) = (key(track), seen && takes);
            // The whole is sent to whoever asks for it.
            let left_out = !takes && track != StreamTrack::Video;
            if !local && !self.tracks.contains_key(&key) {
                continue;
            }
            let track = self.tracks.entry(key.clone()).or_default();
            track.behind = behind;
            if (track.local, track.left_out) != (local, left_out) {
                (track.local, track.left_out) = (local, left_out);
                self.dirty.insert(key);
            }
        }
        if !seen && self.tracks.range(encodings).next().is_none() {
            self.pictures.remove(&of);
        }
    }

    /// Decides what is taken of each sound that changed, before its tracks come to rest.
    fn settle_sounds(&mut self, around: &TreeView<'_>, now: Instant) {
        self.dirty_sounds.extend(changed(&self.dirty, Kind::Audio, around));
        while let Some(sound) = self.dirty_sounds.pop_first() {
            self.settle_sound(sound, around, now);
        }
    }

    fn settle_sound(&mut self, of: SoundKey, around: &TreeView<'_>, now: Instant) {
        let keys: [TrackKey; QUALITIES] = std::array::from_fn(|quality| TrackKey {
            origin: of.0,
            stream: of.1.clone(),
            track: sound::track(quality),
        });
        let seen = sound::Seen {
            offered: keys.each_ref().map(|key| around.available(key)),
            // What is published here is here.
            joined: keys.each_ref().map(|key| {
                let joined = |track: &Track| track.feeds().joined().next().is_some();
                key.origin == around.own || self.tracks.get(key).is_some_and(joined)
            }),
            asked: keys.each_ref().map(|key| self.tracks.get(key).is_some_and(|track| track.feeds().asks())),
        };
        let sound = self.sounds.entry(of.clone()).or_default();
        let taken = sound.settle(&seen, now);
        let (heard, wanted) = (sound.is_heard(), sound.demand().by_quality());
        if let Some(comes) = sound.poll_comes(seen.joined) {
            self.events.push(Event::Sound(of.clone(), comes));
        }
        for (quality, key) in keys.iter().enumerate() {
            // An answer is no packet yet: a rung that has ended is heard as long as it comes.
            let last = around.has_ended(key) && seen.joined[quality];
            let local = heard && (taken.takes[quality] || last);
            if !local && !self.tracks.contains_key(key) {
                continue;
            }
            let track = self.tracks.entry(key.clone()).or_default();
            track.look_at_need(key, around);
            // Of a rung that stands for a better one nobody gains.
            let least = u32::from(key.track == StreamTrack::Audio);
            let below = track.children.iter().map(|child| u32::from(child.ask.behind).max(least));
            let behind = below.fold(wanted[quality], u32::saturating_add);
            track.behind = u16::try_from(behind).unwrap_or(u16::MAX);
            let left_out = taken.barred[quality] && !track.needed;
            if (track.local, track.left_out) != (local, left_out) {
                (track.local, track.left_out) = (local, left_out);
                self.dirty.insert(key.clone());
            }
        }
        if !heard && keys.iter().all(|key| !self.tracks.contains_key(key)) {
            self.sounds.remove(&of);
        }
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
    pub fn forwarding(&self, around: &TreeView<'_>) -> Vec<ForwardEntry> {
        let entry = |(key, track): (&TrackKey, &Track)| {
            let own = key.origin == around.own;
            let published = own && (around.available(key) || around.has_ended(key));
            let sources = if own { Vec::new() } else { track.feeds().sources() };
            let children = track.children.fed();
            // What still comes of a picture or a sound is of use until what is to take its place has come.
            let local = track.local || !sources.is_empty() && self.is_of_use(key);
            let rank = around.rank(key);
            let entry = ForwardEntry { track: key.clone(), published, sources, children, local, rank };
            (entry.local || !entry.children.is_empty()).then_some(entry)
        };
        self.tracks.iter().filter_map(entry).collect()
    }

    /// Whether it is a track of a picture that somebody here sees, or of a sound that somebody here hears.
    fn is_of_use(&self, key: &TrackKey) -> bool {
        let of = (key.origin, key.stream.clone());
        match key.track.kind() {
            Kind::Audio => self.sounds.get(&of).is_some_and(Sound::is_heard),
            Kind::Video => self.pictures.get(&of).is_some_and(Picture::is_seen),
        }
    }

    /// Which qualities of a sound come.
    pub fn sound_comes(&self, origin: &NodeId, stream: &StreamName) -> [bool; QUALITIES] {
        self.sounds.get(&(*origin, stream.clone())).map(Sound::comes).unwrap_or_default()
    }

    /// The relays that the packets of a stream come through, this one included: those of the first of its tracks that
    /// comes.
    pub fn path(&self, (origin, stream): (&NodeId, &StreamName), own: NodeId) -> Option<Vec<NodeId>> {
        if self.tracks.is_empty() {
            return None;
        }
        let first = TrackKey { origin: *origin, stream: stream.clone(), track: StreamTrack::Audio };
        let of_stream = |key: &&TrackKey| (&key.origin, &key.stream) == (origin, stream);
        let tracks = self.tracks.range(first..).take_while(|(key, _)| of_stream(key));
        let path = tracks.filter_map(|(_, track)| track.feeds().path()).next()?;
        Some(path.iter().copied().chain([own]).collect())
    }

    /// Pictures that are taken as a whole though they can be had in encodings: by which link.
    pub fn as_whole<'a>(&'a self, around: &'a TreeView<'_>) -> impl Iterator<Item = (&'a TrackKey, LinkId)> {
        self.tracks.iter().filter_map(|(key, track)| {
            let advertised = around.advertised(&key.origin, &key.stream)?;
            let whole = key.track == StreamTrack::Video && track.local && key.origin != around.own;
            let link = track.feeds().joined().next()?.link;
            (whole && !advertised.rates.encodings.is_empty()).then_some((key, link))
        })
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

/// The pictures or the sounds from elsewhere of which a track changed.
fn changed<'a>(
    dirty: &'a BTreeSet<TrackKey>,
    kind: Kind,
    around: &'a TreeView<'_>,
) -> impl Iterator<Item = (NodeId, StreamName)> + use<'a> {
    let elsewhere = move |key: &&TrackKey| key.track.kind() == kind && key.origin != around.own;
    dirty.iter().filter(elsewhere).map(|key| (key.origin, key.stream.clone()))
}

fn count(loads: &mut Loads, link: LinkId, more: isize) {
    if let Some(load) = loads.get_mut(&link) {
        *load = load.saturating_add_signed(more);
    }
}
