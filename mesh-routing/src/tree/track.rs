//! One track at this relay: somebody here who listens, children, feeds, keyframe requests, and the order in which they
//! come to rest. Why there is no loop is explained in `tree/mod.rs`.
//!
//! ```text
//!              join or listener                    answer                      second answer
//!     idle ───────────────────────▶ asking ────────────────────▶ one feed ──────────────────▶ two feeds
//!      ▲                             │  ▲                          │  ▲                        │    │
//!      │                             │  │ all are gone             │  │ one is gone, or not    │    │
//!      │                             │  └──────────────────────────┘  │ wanted any more        │    │
//!      │                             │                                └────────────────────────┘    │
//!      │ nobody wants it: 2 s        ▼  nobody wants it                                             │
//!      └──────────────────────── lingering ◀────────────────────────────────────────────────────────┘
//!                                    │ somebody wants it again
//!                                    └─────────────────────────▶ as before
//! ```
//!
//! With two feeds the primary gives way to the secondary when it is dead or in doubt (at once), or when another
//! neighbor is clearly better (`feeds::GAIN_HELD`, or `feeds::APART_HELD` if that one is free of what is to be avoided).
//! What was replaced goes on for `feeds::OVERLAP`.

use std::time::{Duration, Instant};

use protocol::{
    Kind, NodeId,
    mesh::{Alias, StreamTrack, TrackKey},
};

use crate::{
    route::graph::Pair,
    tree::{
        children::{Child, Children, Covered, Demand},
        feeds::{Feed, Feeds},
        keyframe_requests::KeyframeRequests,
        view::{Event, Step, TreeView},
    },
    wire::{
        message::{Message, Offer, Refusal},
        metric::LinkId,
    },
};

/// How long a track that nobody wants any more is kept, so that reloading a page costs nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// How long a rung goes on that its origin makes no more: until relays further away know, and what the publisher sends has
/// come there. Ten hops of 40 ms take less.
const ENDS: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Track {
    /// Somebody here listens.
    pub local: bool,
    /// An encoding or a rung that is not taken from elsewhere, whoever wants it: others of its picture or sound are.
    pub left_out: bool,
    /// Of an encoding or a sound: how many listeners here and below gain by it.
    pub behind: u16,
    /// Of a sound: a child knows of no rungs, or one behind it.
    pub needed: bool,
    pub children: Children,
    feeds: Feeds,
    keyframes: KeyframeRequests,
    linger: Option<Instant>,
    /// It has ended, and its sound goes on: until when it stays as it is.
    ends: Option<Instant>,
    /// When it was brought to rest last.
    looked: Option<Instant>,
}

impl Track {
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    pub fn idle(&self) -> bool {
        let waits = self.linger.is_some() || self.ends.is_some();
        !self.local && self.children.is_idle() && self.feeds.is_empty() && !waits
    }

    /// Whether a child knows of no rungs, or one behind it.
    pub fn look_at_need(&mut self, key: &TrackKey, around: &TreeView<'_>) {
        let needs = |(link, child): (LinkId, &Child)| child.ask.needed || around.needs_all(link);
        self.needed = key.track == StreamTrack::Audio && self.children.by_link().any(needs);
    }

    /// Neighbors that refused may be asked again.
    pub fn forgive(&mut self) {
        self.feeds.forgive();
    }

    /// Somebody here or this child needs a keyframe.
    pub fn need_keyframe(&mut self, child: Option<NodeId>) {
        self.keyframes.handle_need(child);
    }

    /// The parent's offer. Says which edge is in doubt, if that is news.
    pub fn handle_joined(
        &mut self,
        from: (LinkId, Alias),
        offer: Offer,
        step: &mut Step<'_, '_>,
    ) -> Option<Pair> {
        let Track { local, behind, needed, ref children, .. } = *self;
        let demand = Demand { local, behind, needed, children };
        let suspect_edge = self.feeds.handle_joined(from, offer, demand, step);
        self.follow(step.key);
        suspect_edge
    }

    /// The parent refuses, or has lost what it had. Returns the edge to stay away from.
    pub fn handle_end(
        &mut self,
        from: (LinkId, Alias),
        (broken, goes_on): (Option<Pair>, bool),
        now: Instant,
    ) -> Option<Pair> {
        self.feeds.handle_end(from, (broken, goes_on), now)
    }

    pub fn deadline(&self) -> Option<Instant> {
        let looked = self.looked;
        let keyframe = self.keyframes.deadline().filter(|at| looked.is_none_or(|looked| *at > looked));
        let parts = self.feeds.deadline(looked).into_iter().chain(self.children.deadline());
        parts.chain(keyframe).chain(self.linger).chain(self.ends).min()
    }

    /// Brings the track to rest.
    pub fn settle(&mut self, step: &mut Step<'_, '_>) {
        self.looked = Some(step.now);
        self.children.purge(step.key, step.around, (self.feeds.broken(), step.events), step.now);
        if self.stays_as_it_is(step) {
            return;
        }
        if step.key.origin == step.around.own {
            self.settle_origin(step);
        } else {
            self.settle_relay(step);
        }
    }

    /// Whether it has ended and still comes: for a time in which whoever gets it has another quality.
    fn stays_as_it_is(&mut self, step: &Step<'_, '_>) -> bool {
        let wanted = self.local || !self.children.is_empty();
        if !step.around.has_ended(step.key) {
            self.ends = None;
            return false;
        }
        let until = *self.ends.get_or_insert(step.now + ENDS);
        let stays = wanted && step.now < until;
        if !stays {
            // It ends once.
            self.ends = None;
        }
        stays
    }

    fn settle_origin(&mut self, step: &mut Step<'_, '_>) {
        if step.around.available(step.key) {
            let broken = self.feeds.broken();
            let ways = [(vec![step.around.own], None)];
            self.children.serve((step.key, Covered::No), &ways, (broken, step.events), step.now);
        } else {
            self.children.release(step.key, Refusal::Unknown, (self.feeds.broken(), step.events));
        }
    }

    fn settle_relay(&mut self, step: &mut Step<'_, '_>) {
        let now = step.now;
        self.look_at_need(step.key, step.around);
        let wanted = !self.left_out && (self.local || !self.children.is_empty());
        if wanted {
            self.linger = None;
        } else if self.linger.is_none() && !self.feeds.is_empty() {
            self.linger = Some(now + LINGER);
        }
        if !step.around.available(step.key) {
            return self.release(Refusal::Unknown, step);
        }
        if !wanted && self.linger.is_none_or(|until| until <= now) {
            return self.release(Refusal::Full, step);
        }
        let Track { local, behind, needed, ref children, .. } = *self;
        self.feeds.settle(Demand { local, behind, needed, children }, step);
        self.follow(step.key);
        self.serve(step);
        // Those who waited may have been refused: then all this was for nobody.
        if !self.local && self.children.is_empty() && self.linger.is_none() && !self.feeds.is_empty() {
            self.linger = Some(now + LINGER);
        }
    }

    /// Leaves all parents and lets all children go.
    fn release(&mut self, reason: Refusal, step: &mut Step<'_, '_>) {
        for feed in self.feeds.iter() {
            step.events.push(feed.leave(step.key));
        }
        self.children.release(step.key, reason, (self.feeds.broken(), step.events));
        let Track { local, left_out, behind, needed, looked, .. } = *self;
        *self = Track { local, left_out, behind, needed, looked, ..Track::default() };
    }

    /// Tells the children which of the ways that are here they are served by.
    fn serve(&mut self, step: &mut Step<'_, '_>) {
        let own = step.around.own;
        let way = |feed: &Feed| {
            let offer = feed.offer.as_ref()?;
            let path: Vec<_> = offer.path.iter().copied().chain([own]).collect();
            Some((path, feed.suspect_edge(step.around)))
        };
        let ways: Vec<_> = self.feeds.joined().filter_map(way).collect();
        let covered = match step.around.is_covered(step.key) {
            false => Covered::No,
            true if self.feeds.is_empty() => Covered::InVain,
            true => Covered::Yes,
        };
        self.children.serve((step.key, covered), &ways, (self.feeds.broken(), step.events), step.now);
    }

    pub fn ask_keyframe(&mut self, key: &TrackKey, own: NodeId, events: &mut Vec<Event>, now: Instant) {
        let Some(child) = self.keyframes.due(now) else { return };
        if key.origin == own {
            events.push(Event::KeyframeWanted(key.clone()));
        } else {
            // By the way the packets come, and not back to who asks.
            let feeds = || self.feeds.joined();
            let other = |feed: &&Feed| child.is_none_or(|child| !feed.path().contains(&child));
            let active = feeds().filter(|feed| feed.asked.active).find(other);
            let Some(feed) = active.or_else(|| feeds().find(other)) else { return };
            events.push(Event::Send(feed.link, Message::Keyframe { track: key.clone() }));
        }
        self.keyframes.handle_asked(now);
    }

    /// Packets that come another way begin with what nobody can decode: a picture needs a keyframe.
    fn follow(&mut self, key: &TrackKey) {
        if self.feeds.take_moved() && key.track.kind() == Kind::Video {
            self.keyframes.handle_need(None);
        }
    }
}
