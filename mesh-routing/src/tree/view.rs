//! What trees may look at, what they want done, what they refuse: their side toward the rest of the relay. What a step
//! of one track gets of it.

use std::{collections::BTreeMap, time::Instant};

use protocol::{
    NodeId,
    mesh::{Alias, TrackKey},
};

use crate::{
    link::{Link, detector::State, neighbor::Neighbor},
    linkstate::lsdb::Lsdb,
    route::{
        Routes,
        graph::{Avoid, Candidate},
    },
    wire::{lsa::Advertised, message::Message, metric::LinkId},
};

/// What trees may look at.
pub(crate) struct TreeView<'a> {
    pub own: NodeId,
    pub links: &'a BTreeMap<LinkId, Link>,
    pub neighbors: &'a BTreeMap<NodeId, Neighbor>,
    pub costs: &'a BTreeMap<NodeId, u32>,
    pub database: &'a Lsdb,
    pub published: &'a BTreeMap<protocol::StreamName, Advertised>,
    pub routes: &'a mut Routes,
}

impl TreeView<'_> {
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
    /// Video children let go to make room for audio; not refused, but lost.
    pub made_room: u64,
}
