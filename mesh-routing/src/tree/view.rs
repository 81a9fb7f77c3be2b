//! What trees may look at, what they want done, what they refuse: their side toward the rest of the relay. What a step
//! of one track gets of it.

use std::{collections::BTreeMap, time::Instant};

use protocol::{
    BridgeVersion, Kind, NodeId, StreamName,
    mesh::{Alias, StreamTrack, TrackKey},
};

use crate::{
    link::{Link, detector::State, neighbor::Neighbor},
    linkstate::lsdb::Lsdb,
    route::{
        Routes,
        graph::{Avoid, Candidate},
    },
    tree::sound::QUALITIES,
    wire::{
        lsa::Advertised,
        message::{JoinParams, Message, since},
        metric::LinkId,
    },
};

/// What is planned for a track of which no rate is said, in bits per second: Opus for music with its overhead, and what
/// the browser client publishes at most. What is said is a step and not what flows: the answer may not depend on the
/// moment.
const AUDIO_RATE: u64 = 160_000;
const VIDEO_RATE: u64 = 2_500_000;

/// What trees may look at.
pub(crate) struct TreeView<'a> {
    pub own: NodeId,
    pub links: &'a BTreeMap<LinkId, Link>,
    pub neighbors: &'a BTreeMap<NodeId, Neighbor>,
    pub costs: &'a BTreeMap<NodeId, u32>,
    pub database: &'a Lsdb,
    pub published: &'a BTreeMap<StreamName, Advertised>,
    pub routes: &'a mut Routes,
}

impl TreeView<'_> {
    pub fn state(&self, link: LinkId) -> State {
        self.links.get(&link).map_or(State::Down, Link::state)
    }

    /// What is said of a stream by the relay that it is published at.
    pub fn advertised(&self, origin: &NodeId, stream: &StreamName) -> Option<&Advertised> {
        if *origin == self.own {
            return self.published.get(stream);
        }
        self.database.advertised(origin, stream)
    }

    pub fn available(&self, key: &TrackKey) -> bool {
        self.advertised(&key.origin, &key.stream).is_some_and(|advertised| advertised.has(key.track))
    }

    /// Whether a rung has ended whose sound goes on: its origin makes it no more. What still comes of it is sent on until
    /// another quality has taken its place.
    pub fn has_ended(&self, key: &TrackKey) -> bool {
        let sound = || TrackKey { track: StreamTrack::Audio, ..key.clone() };
        matches!(key.track, StreamTrack::Rung(_)) && !self.available(key) && self.available(&sound())
    }

    /// What is planned for a track, in bits per second. Nothing for a rung that has ended: what takes its place is planned.
    pub fn rate(&self, key: &TrackKey) -> u64 {
        if self.has_ended(key) {
            return 0;
        }
        let advertised = self.advertised(&key.origin, &key.stream);
        let said = advertised.and_then(|advertised| advertised.rates.rate(key.track).bits_per_second());
        said.unwrap_or(match key.track.kind() {
            Kind::Audio => AUDIO_RATE,
            Kind::Video => VIDEO_RATE,
        })
    }

    /// How many worse encodings of its picture there are: 0 for what is all there is of its kind. The whole of a picture
    /// that can be had in encodings is above all of them: it is as much as the best, and all could do with less.
    pub fn rank(&self, key: &TrackKey) -> u8 {
        let advertised = self.advertised(&key.origin, &key.stream);
        let Some(rates) = advertised.map(|advertised| &advertised.rates) else { return 0 };
        match key.track {
            StreamTrack::Audio | StreamTrack::Rung(_) => 0,
            StreamTrack::Video => rates.encodings.len() as u8,
            StreamTrack::Encoding(place) => rates.rank(place).unwrap_or(0),
        }
    }

    /// How good a sound is for the child on a link: how many worse rungs the child could have instead.
    pub fn sound_rank(&self, key: &TrackKey, link: LinkId, ask: &JoinParams) -> u8 {
        if ask.needed || self.needs_all(link) {
            return 0;
        }
        let advertised = self.advertised(&key.origin, &key.stream);
        advertised.map_or(0, |advertised| advertised.rates.sound_rank(key.track))
    }

    /// Whether the neighbor at the other end of a link knows of no rungs: what a publisher sends is all there is for it.
    pub fn needs_all(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.version < BridgeVersion::RUNGS)
    }

    /// Whether a sound can be had in a lower rung.
    pub fn is_covered(&self, key: &TrackKey) -> bool {
        let advertised = self.advertised(&key.origin, &key.stream);
        let below = |advertised: &Advertised| advertised.rates.sound_rank(key.track) > 0;
        key.track.kind() == Kind::Audio && advertised.is_some_and(below)
    }

    /// Whether both feeds of a track carry packets: of sound, so that a cut is not heard at all, and of the base of a
    /// picture, so that a cut only softens it.
    pub fn hot(&self, key: &TrackKey) -> bool {
        match key.track {
            StreamTrack::Audio | StreamTrack::Rung(_) => true,
            StreamTrack::Video => false,
            StreamTrack::Encoding(_) => self.rank(key) == 0,
        }
    }
}

/// What trees want done.
#[derive(Debug)]
pub(crate) enum Event {
    Send(LinkId, Message),
    KeyframeWanted(TrackKey),
    Rerouted(TrackKey),
    /// Which qualities come of the sound of a stream that is published at this relay.
    Sound((NodeId, StreamName), [bool; QUALITIES]),
}

/// Tracks that are sent over a link, of the links to neighbors that have several.
pub(crate) type Loads = BTreeMap<LinkId, usize>;

/// What the steps of a track need.
pub(crate) struct Step<'a, 'b> {
    pub key: &'a TrackKey,
    pub around: &'a mut TreeView<'b>,
    pub events: &'a mut Vec<Event>,
    pub now: Instant,
    pub alias: &'a mut dyn FnMut() -> Alias,
    /// What other tracks load links with.
    pub loads: &'a Loads,
}

impl Step<'_, '_> {
    /// Whether the neighbor at the other end of a link knows of such tracks.
    pub fn understood(&self, link: LinkId) -> bool {
        self.around.links.get(&link).is_some_and(|link| link.version >= since(self.key.track))
    }

    pub fn candidates(&mut self, way: &Avoid) -> Vec<Candidate> {
        self.around.routes.detours(&self.around.own, &self.key.origin, way, self.around.costs)
    }
}

/// Joins that were refused here, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Every way from here leads through the child.
    pub looped: u64,
    /// The stream is not known here.
    pub unknown: u64,
    /// No way to the origin was found.
    pub no_route: u64,
    /// The tables or the link are full.
    pub full: u64,
    /// The link is taken for dead.
    pub link_down: u64,
    /// Children let go to make room for others; not refused, but lost.
    pub made_room: u64,
}
