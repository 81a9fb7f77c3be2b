//! One feed of a track: the way over one neighbor by which it comes, or could come. Two of them make a track
//! survive a cut; which two is decided in `feed_search.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use protocol::{
    NodeId,
    mesh::{Alias, TrackKey},
};

use crate::{
    link::detector::State,
    route::graph::{Pair, pair},
    tree::view::{Event, TreeView},
    wire::{
        message::{JoinParams, Message, Offer, Role},
        metric::LinkId,
    },
};

/// A child repeats its join after this time. Trees are soft state: what nobody repeats goes away by itself.
pub(crate) const REFRESH: Duration = Duration::from_secs(10);
/// A child that does not repeat its join, or a parent that does not answer, is forgotten after this time: three
/// repetitions and a half, so that neither one late message nor two end a track.
pub(crate) const EXPIRY: Duration = Duration::from_secs(35);
/// A join that is not answered is tried elsewhere. Longer than [`crate::tree::children::WAIT`].
pub(crate) const JOIN_PATIENCE: Duration = Duration::from_secs(1);
/// A feed that is not needed any more goes on for this time: its follower may take a moment to begin.
pub(crate) const OVERLAP: Duration = Duration::from_secs(1);
/// The first and the longest wait before a neighbor that refused is asked again, for the primary and for the secondary. A
/// refusal mostly means that the neighbor does not know yet: soon at first. Without a secondary everything is heard all
/// the same: it is asked for less often.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];

/// A feed, joined or asked for.
#[derive(Debug)]
pub(crate) struct Feed {
    pub link: LinkId,
    pub neighbor: NodeId,
    pub alias: Alias,
    /// What the parent was told last.
    pub asked: JoinParams,
    pub since: Instant,
    pub refreshed: Instant,
    pub confirmed: Instant,
    /// None while the parent has not answered.
    pub offer: Option<Offer>,
    /// When a feed that is not needed is paused or left.
    pub pause: Option<Instant>,
}

impl Feed {
    pub fn path(&self) -> &[NodeId] {
        self.offer.as_ref().map_or(&[], |offer| &offer.path)
    }

    /// Whether it can be relied on now.
    pub fn good(&self, around: &TreeView<'_>) -> bool {
        around.state(self.link) == State::Up
            && self.offer.as_ref().is_some_and(|offer| offer.suspect_edge.is_none())
    }

    /// The edge from which nothing is heard, if there is one.
    pub fn suspect_edge(&self, around: &TreeView<'_>) -> Option<Pair> {
        let near = (around.state(self.link) != State::Up).then(|| pair(around.own, self.neighbor));
        near.or(self.offer.as_ref().and_then(|offer| offer.suspect_edge))
    }

    pub fn key(&self) -> (LinkId, Alias) {
        (self.link, self.alias)
    }

    pub fn join(&self, track: &TrackKey) -> Event {
        let (track, alias, ask) = (track.clone(), self.alias, self.asked.clone());
        Event::Send(self.link, Message::Join { track, alias, ask })
    }

    pub fn leave(&self, track: &TrackKey) -> Event {
        Event::Send(self.link, Message::Leave { track: track.clone(), alias: self.alias })
    }
}

/// The place of the primary or of the secondary.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub feed: Option<Feed>,
    /// Asked for, to take the place.
    pub next: Option<Feed>,
    /// What is there works: the next would only be better.
    pub gain: bool,
    /// Neighbors that refused: until when they are left alone, how often they refused.
    backed_off: BTreeMap<NodeId, (Instant, u32)>,
}

impl Slot {
    pub fn back_off(&mut self, role: Role, neighbor: NodeId, now: Instant) {
        let times = self.backed_off.get(&neighbor).map_or(0, |(_, times)| *times);
        let wait = (RETRY_MIN * (1 << times.min(8))).min(RETRY_MAX[role as usize]);
        self.backed_off.insert(neighbor, (now + wait, times.saturating_add(1)));
    }

    pub fn backs_off(&self, neighbor: &NodeId, now: Instant) -> bool {
        self.backed_off.get(neighbor).is_some_and(|(until, _)| *until > now)
    }

    pub fn forgive(&mut self) {
        self.backed_off.clear();
    }

    /// When the first of those left alone may be asked again, if that is after `looked`.
    pub fn retry(&self, looked: Instant) -> Option<Instant> {
        self.backed_off.values().map(|(until, _)| *until).filter(|until| *until > looked).min()
    }

    pub fn both(&self) -> impl Iterator<Item = &Feed> {
        self.feed.iter().chain(&self.next)
    }
}

/// What two ways from an origin to `own` have in common: relays between, and edges.
pub(crate) fn common(own: NodeId, a: &[NodeId], b: &[NodeId]) -> u32 {
    let inner = |path: &[NodeId]| path.iter().skip(1).copied().collect::<BTreeSet<_>>();
    let edges = edges(own, a);
    let shared = edges.intersection(&self::edges(own, b)).count();
    (inner(a).intersection(&inner(b)).count() + shared) as u32
}

/// The edges of a way to `own`.
pub(crate) fn edges(own: NodeId, path: &[NodeId]) -> BTreeSet<Pair> {
    let last = path.last().map(|last| pair(*last, own));
    path.windows(2).map(|step| pair(step[0], step[1])).chain(last).collect()
}
