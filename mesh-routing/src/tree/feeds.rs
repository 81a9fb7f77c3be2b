//! The up to two feeds of a track: one, the way over one neighbor by which it comes or could come; its slot; which of
//! them are there, how long each is held, which one takes the place of another. Two of them make a track survive a cut.
//! Who is asked for one, and what parents answer, is in `joins.rs`.

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
    tree::{
        children::Demand,
        view::{Event, Step, TreeView},
    },
    wire::{
        message::{JoinParams, Message, Offer, Role},
        metric::LinkId,
    },
};

/// A child repeats its join after this time. Trees are soft state: what nobody repeats goes away by itself.
const REFRESH: Duration = Duration::from_secs(10);
/// A child that does not repeat its join, or a parent that does not answer, is forgotten after this time: three
/// repetitions and a half, so that neither one late message nor two end a track.
pub(super) const EXPIRY: Duration = Duration::from_secs(35);
/// A join that is not answered is tried elsewhere. Longer than [`crate::tree::children::WAIT`].
pub(crate) const JOIN_PATIENCE: Duration = Duration::from_secs(1);
/// A feed that is not needed any more goes on for this time: its follower may take a moment to begin.
pub(super) const OVERLAP: Duration = Duration::from_secs(1);
/// The first and the longest wait before a neighbor that refused is asked again, for the primary and for the secondary. A
/// refusal mostly means that the neighbor does not know yet: soon at first. Without a secondary everything is heard all
/// the same: it is asked for less often.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];
/// A better way has to be better for so long: costs change for moments, and each change may cost a keyframe.
pub(super) const GAIN_HELD: Duration = Duration::from_secs(10);
/// Less if it is free of what is to be avoided: until then one cut takes both ways. Not at once, for ways change one
/// after the other.
pub(super) const APART_HELD: Duration = Duration::from_millis(500);

/// Places in [`Feeds::slots`].
pub(crate) const PRIMARY: usize = 0;
pub(crate) const SECONDARY: usize = 1;
pub(crate) const ROLES: [Role; 2] = [Role::Primary, Role::Secondary];

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

impl Step<'_, '_> {
    pub fn leave(&mut self, feed: &Feed) {
        if self.around.links.contains_key(&feed.link) {
            self.events.push(feed.leave(self.key));
        }
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

    /// It is left alone for a time, and asked again as if it had refused once.
    pub fn leave_alone(&mut self, neighbor: NodeId, until: Instant) {
        self.backed_off.insert(neighbor, (until, 1));
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

/// The feeds of one track.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    pub(super) slots: [Slot; 2],
    /// Feeds that were replaced, and when they are left.
    pub(super) old: Vec<(Feed, Instant)>,
    /// Since when another neighbor has been better than the primary's.
    pub(super) better_since: Option<Instant>,
    /// Since when the two have had something in common that they need not.
    pub(super) apart_since: Option<Instant>,
    /// The primary was lost, or is in doubt, and none has taken its place yet.
    pub(super) orphaned: bool,
    /// The edge to blame, for those below.
    pub(super) broken: Option<Pair>,
    /// Packets come another way since [`Feeds::take_moved`].
    moved: bool,
}

impl Feeds {
    /// The feeds that packets may come by.
    pub fn sources(&self) -> Vec<(LinkId, Alias)> {
        // A parent that has just been asked may send before its answer is here: datagrams overtake streams.
        self.iter().filter(|feed| feed.asked.active).map(Feed::key).collect()
    }

    /// The links that packets come by.
    pub fn carrying(&self) -> impl Iterator<Item = LinkId> {
        self.iter().filter(|feed| feed.asked.active).map(|feed| feed.link)
    }

    /// All feeds, asked for or joined or to be left.
    pub fn iter(&self) -> impl Iterator<Item = &Feed> {
        self.slots.iter().flat_map(Slot::both).chain(self.old.iter().map(|(feed, _)| feed))
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The relays from the origin on, by the feed that is there.
    pub fn path(&self) -> Option<&[NodeId]> {
        self.slots.iter().find_map(|slot| slot.feed.as_ref()).map(Feed::path)
    }

    /// The edge to blame, for those below.
    pub fn broken(&self) -> Option<Pair> {
        self.broken
    }

    /// The feeds that are there, the primary first.
    pub fn joined(&self) -> impl Iterator<Item = &Feed> {
        self.slots.iter().filter_map(|slot| slot.feed.as_ref())
    }

    /// Whether a neighbor is asked and has not answered.
    pub fn asks(&self) -> bool {
        self.slots.iter().any(|slot| slot.next.is_some())
    }

    /// Neighbors that refused may be asked again.
    pub fn forgive(&mut self) {
        self.slots.iter_mut().for_each(Slot::forgive);
    }

    /// Whether packets come another way since this was asked last.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// When something is to be looked at that was not `looked` at since.
    pub fn deadline(&self, looked: Option<Instant>) -> Option<Instant> {
        let slots = self.slots.iter().flat_map(|slot| {
            let feed = slot
                .feed
                .iter()
                .flat_map(|f| [Some(f.refreshed + REFRESH), Some(f.confirmed + EXPIRY), f.pause]);
            let next = slot.next.iter().map(|f| Some(f.since + JOIN_PATIENCE));
            let retry = looked.and_then(|looked| slot.retry(looked));
            feed.chain(next).flatten().chain(retry.filter(|_| slot.next.is_none()))
        });
        let better = self.better_since.iter().flat_map(|at| [*at + APART_HELD, *at + GAIN_HELD]);
        let apart = self.apart_since.map(|at| at + APART_HELD);
        let held = better.chain(apart).filter(|at| looked.is_none_or(|looked| *at > looked));
        let old = self.old.iter().map(|(_, until)| *until);
        slots.chain(held).chain(old).min()
    }

    /// Brings them to rest: what is dead goes, what is wanted is looked for, and parents hear what is asked of them.
    pub fn settle(&mut self, demand: Demand<'_>, step: &mut Step<'_, '_>) {
        // In this order: only what is dead makes room, a secondary that works is better than a search, the second way
        // is looked for beside the first, and what is asked of both depends on both.
        self.check(demand, step);
        self.promote(step);
        self.look_for_primary(demand, step);
        self.look_for_secondary(demand, step);
        self.tune(demand, step);
    }

    /// Lets go of what is dead, and repeats joins.
    fn check(&mut self, demand: Demand<'_>, step: &mut Step<'_, '_>) {
        let now = step.now;
        for place in [PRIMARY, SECONDARY] {
            let slot = &mut self.slots[place];
            let over =
                |f: &mut Feed| step.around.state(f.link) != State::Up || now >= f.since + JOIN_PATIENCE;
            if let Some(next) = slot.next.take_if(over) {
                step.leave(&next);
                slot.back_off(ROLES[place], next.neighbor, now);
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
                (feed.refreshed, feed.asked.behind) = (now, demand.behind);
                step.events.push(feed.join(step.key));
            }
        }
        for (feed, _) in self.old.extract_if(.., |(_, until)| *until <= now) {
            step.leave(&feed);
        }
    }

    /// The feed of a slot is gone.
    pub fn lose(&mut self, place: usize, feed: &Feed, broken: Option<Pair>, now: Instant) {
        self.slots[place].back_off(ROLES[place], feed.neighbor, now);
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
            self.broken = feed.suspect_edge(step.around);
        }
        if secondary.feed.is_some() && (primary.feed.is_none() || good(secondary)) {
            self.swap(step);
        }
    }

    pub(super) fn swap(&mut self, step: &mut Step<'_, '_>) {
        let [primary, secondary] = &mut self.slots;
        std::mem::swap(&mut primary.feed, &mut secondary.feed);
        self.better_since = None;
        self.apart_since = None;
        self.orphaned = false;
        self.moved(step);
    }

    /// Packets come another way.
    pub(super) fn moved(&mut self, step: &mut Step<'_, '_>) {
        step.events.push(Event::Rerouted(step.key.clone()));
        self.moved = true;
    }

    /// Whether the secondary leads through none of these children.
    pub(super) fn serves(&self, children: &BTreeSet<NodeId>) -> bool {
        self.slots[SECONDARY]
            .feed
            .as_ref()
            .is_some_and(|feed| !feed.path().iter().any(|id| children.contains(id)))
    }

    /// How much the two feeds have in common. Nothing, too, if one parent has ways of its own to spare.
    pub(super) fn shared(&self, own: NodeId) -> Option<u32> {
        let [a, b] = self.slots.each_ref().map(|slot| slot.feed.as_ref());
        let (a, b) = (a?, b?);
        Some(shared(own, a, b))
    }
}

/// What two feeds have in common: nothing if one of the parents has two ways of its own and the other feed does
/// not lead through it.
pub(crate) fn shared(own: NodeId, a: &Feed, b: &Feed) -> u32 {
    let spare = |this: &Feed, other: &Feed| {
        this.offer.as_ref().is_some_and(|offer| offer.has_disjoint_backup)
            && !other.path().contains(&this.neighbor)
    };
    if spare(a, b) || spare(b, a) { 0 } else { common(own, a.path(), b.path()) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{epoch, node};

    const MS: Duration = Duration::from_millis(1);

    fn feed(neighbor: usize, path: &[usize], has_disjoint_backup: bool, now: Instant) -> Feed {
        let path = path.iter().map(|index| node(*index)).collect();
        Feed {
            link: LinkId(neighbor as u32),
            neighbor: node(neighbor),
            alias: Alias(neighbor as u16),
            asked: JoinParams { active: true, ..JoinParams::default() },
            since: now,
            refreshed: now,
            confirmed: now,
            offer: Some(Offer { path, has_disjoint_backup, suspect_edge: None }),
            pause: None,
        }
    }

    #[test]
    fn feeds_have_in_common_what_both_lead_over_unless_a_parent_has_a_way_to_spare() {
        let now = epoch();
        let (a, b) = (feed(1, &[9, 3, 1], false, now), feed(2, &[9, 3, 2], false, now));
        assert_eq!(shared(node(0), &a, &b), 2, "a relay and the edge before it");
        assert_eq!(shared(node(0), &feed(1, &[9, 3, 1], true, now), &b), 0);
        let through = feed(2, &[9, 1, 2], false, now);
        assert!(
            shared(node(0), &feed(1, &[9, 1], true, now), &through) > 0,
            "that way leads through the parent"
        );
    }

    #[test]
    fn a_lost_primary_leaves_the_blame_and_is_left_alone() {
        let now = epoch();
        let mut feeds = Feeds::default();
        let broken = Some(pair(node(0), node(1)));
        let gone = feed(1, &[9, 1], false, now);
        feeds.lose(PRIMARY, &gone, broken, now);
        assert_eq!((feeds.broken(), feeds.orphaned), (broken, true));
        assert!(feeds.slots[PRIMARY].backs_off(&node(1), now));
        assert!(feeds.deadline(Some(now)).is_some_and(|at| at > now), "until it may be asked again");
        feeds.forgive();
        assert!(!feeds.slots[PRIMARY].backs_off(&node(1), now));
    }

    #[test]
    fn a_feed_is_repeated_and_a_replaced_one_left() {
        let now = epoch();
        let mut feeds = Feeds::default();
        feeds.slots[PRIMARY].feed = Some(feed(1, &[9, 1], false, now));
        assert_eq!(feeds.deadline(Some(now)), Some(now + REFRESH));
        feeds.old.push((feed(2, &[9, 2], false, now), now + MS));
        assert_eq!(feeds.deadline(Some(now)), Some(now + MS));
        assert_eq!(
            feeds.sources(),
            [(LinkId(1), Alias(1)), (LinkId(2), Alias(2))],
            "until then both are taken"
        );
    }
}
