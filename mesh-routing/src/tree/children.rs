//! The children of a track at this relay: who is offered which of its feeds, who waits for one.
//! Whether there is room for one more is decided in `tree/mod.rs`.

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
    route::graph::Pair,
    tree::{
        feeds::{EXPIRY, common},
        view::{Event, TreeView},
    },
    wire::{
        message::{JoinParams, Message, Offer, PATH_MAX, Refusal, Role},
        metric::LinkId,
    },
};

/// A child waits so long for a feed of this relay that does not lead through the child. Long enough for this relay to
/// join somewhere over a few hops, and shorter than [`crate::tree::feeds::JOIN_PATIENCE`]: the child hears why.
pub(crate) const WAIT: Duration = Duration::from_millis(800);

#[derive(Debug)]
pub(crate) struct Child {
    pub neighbor: NodeId,
    pub alias: Alias,
    pub ask: JoinParams,
    /// When it joined.
    pub since: Instant,
    pub heard: Instant,
    /// What it was told; None while it waits.
    pub told: Option<Offer>,
    /// It asked and has no answer yet.
    pub answer: bool,
}

impl Child {
    /// Whether packets are sent to it.
    pub fn fed(&self) -> bool {
        self.ask.active && self.told.is_some()
    }
}

/// What is sent to a child that has lost a sound goes on for so long: it takes a rung meanwhile, so that nothing is missing
/// between the two.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// By the link they are at: one child a link.
#[derive(Debug, Default)]
pub(crate) struct Children {
    known: BTreeMap<LinkId, Child>,
    /// Those that were let go and are sent packets for a moment more: until when.
    leaving: BTreeMap<LinkId, (Alias, Instant)>,
}

/// Whether a child that cannot have a track could have a lower quality instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Covered {
    /// It is all there is.
    No,
    /// It could.
    Yes,
    /// It could, and this relay asks nobody for the track: to wait is in vain.
    InVain,
}

/// What a track is wanted for here and below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand<'a> {
    /// Somebody here listens.
    pub local: bool,
    /// How many here and below gain by it.
    pub behind: u16,
    /// Nothing less will do.
    pub needed: bool,
    pub children: &'a Children,
}

impl Demand<'_> {
    /// Whether anybody here or below relies on this relay for the shortest way.
    pub fn leads(&self) -> bool {
        self.local || self.children.iter().any(|child| child.ask.role == Role::Primary)
    }
}

impl Children {
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn get(&self, link: LinkId) -> Option<&Child> {
        self.known.get(&link)
    }

    pub fn insert(&mut self, link: LinkId, child: Child) {
        // No packet crosses a link twice.
        self.leaving.remove(&link);
        self.known.insert(link, child);
    }

    /// Whether there is nobody, and nobody is sent anything any more.
    pub fn is_idle(&self) -> bool {
        self.known.is_empty() && self.leaving.is_empty()
    }

    /// The child on a link wants the track under this alias no more. Says whether there was one.
    pub fn leave(&mut self, link: LinkId, alias: Alias) -> bool {
        let gone = self.leaving.get(&link).is_some_and(|(leaving, _)| *leaving == alias);
        if gone {
            self.leaving.remove(&link);
        }
        let known = self.known.get(&link).is_some_and(|child| child.alias == alias);
        if known {
            self.known.remove(&link);
        }
        gone || known
    }

    /// Lets the child on a link go, and sends to it for a moment more.
    pub fn let_go(&mut self, link: LinkId, now: Instant) -> Option<Child> {
        let child = self.known.remove(&link)?;
        if child.fed() {
            self.leaving.insert(link, (child.alias, now + GRACE));
        }
        Some(child)
    }

    pub fn remove(&mut self, link: LinkId) -> Option<Child> {
        self.known.remove(&link)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Child> {
        self.known.values()
    }

    pub fn by_link(&self) -> impl Iterator<Item = (LinkId, &Child)> {
        self.known.iter().map(|(link, child)| (*link, child))
    }

    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        self.known.keys().copied()
    }

    /// The links and aliases that packets are sent with.
    pub fn fed(&self) -> Vec<(LinkId, Alias)> {
        let fed =
            self.known.iter().filter(|(_, child)| child.fed()).map(|(link, child)| (*link, child.alias));
        let mut all: Vec<_> =
            fed.chain(self.leaving.iter().map(|(link, (alias, _))| (*link, *alias))).collect();
        all.sort_unstable();
        all
    }

    /// When one of them has waited long enough, or is forgotten.
    pub fn deadline(&self) -> Option<Instant> {
        let of = |child: &Child| {
            let wait = child.since + WAIT;
            if child.told.is_none() { wait.min(child.heard + EXPIRY) } else { child.heard + EXPIRY }
        };
        let leaving = self.leaving.values().map(|(_, until)| *until);
        self.known.values().map(of).chain(leaving).min()
    }

    /// Forgets children on dead links and those that stopped repeating their join.
    pub fn purge(
        &mut self,
        key: &TrackKey,
        around: &TreeView<'_>,
        (broken, events): (Option<Pair>, &mut Vec<Event>),
        now: Instant,
    ) {
        self.leaving.retain(|link, (_, until)| now < *until && around.state(*link) != State::Down);
        self.known.retain(|link, child| {
            let stays = around.state(*link) != State::Down && now < child.heard + EXPIRY;
            if !stays && around.links.contains_key(link) {
                let message = Message::Lost { track: key.clone(), alias: child.alias, broken };
                events.push(Event::Send(*link, message));
            }
            stays
        });
    }

    /// Tells each child which way it is served by, if that is news; `ways` in order of preference, each from the
    /// origin to here. `covered` says that there is a lower quality for who gets none.
    pub fn serve(
        &mut self,
        (key, covered): (&TrackKey, Covered),
        ways: &[(Vec<NodeId>, Option<Pair>)],
        (broken, events): (Option<Pair>, &mut Vec<Event>),
        now: Instant,
    ) {
        let mut leaving = Vec::new();
        let apart = match ways {
            [(a, None), (b, None)] => a.last().is_some_and(|own| common(*own, inner(a), inner(b)) == 0),
            _ => false,
        };
        self.known.retain(|link, child| {
            let fit = |(_, (path, _)): &(usize, &(Vec<NodeId>, _))| {
                path.len() < PATH_MAX && !path.contains(&child.neighbor)
            };
            let rank = |(place, (path, suspect_edge)): &(usize, &(Vec<NodeId>, Option<Pair>))| {
                let avoid = |id: &&NodeId| child.ask.avoid.contains(id);
                let shared = path.iter().skip(1).filter(avoid).count();
                (suspect_edge.is_some(), if child.ask.role == Role::Primary { 0 } else { shared }, *place)
            };
            let fitting = ways.iter().enumerate().filter(fit);
            let has_disjoint_backup = apart && fitting.clone().count() == 2;
            let (track, alias) = (key.clone(), child.alias);
            let Some((_, (path, suspect_edge))) = fitting.min_by_key(rank) else {
                let message = if child.told.is_some() {
                    leaving.extend(child.fed().then_some((*link, (alias, now + GRACE))));
                    Message::Lost { track, alias, broken }
                } else if covered == Covered::InVain || now >= child.since + WAIT {
                    let reason = if ways.is_empty() { Refusal::NoRoute } else { Refusal::Loop };
                    Message::Refused { track, alias, reason }
                } else {
                    return true;
                };
                events.push(Event::Send(*link, message));
                return false;
            };
            let offer = Offer { path: path.clone(), has_disjoint_backup, suspect_edge: *suspect_edge };
            if child.told.as_ref() != Some(&offer) || child.answer {
                child.told = Some(offer.clone());
                child.answer = false;
                events.push(Event::Send(*link, Message::Joined { track, alias, offer }));
            }
            true
        });
        if covered != Covered::No {
            self.leaving.extend(leaving);
        }
    }

    /// Lets all children go.
    pub fn release(
        &mut self,
        key: &TrackKey,
        reason: Refusal,
        (broken, events): (Option<Pair>, &mut Vec<Event>),
    ) {
        for (link, child) in std::mem::take(&mut self.known) {
            let (track, alias) = (key.clone(), child.alias);
            let message = match child.told {
                Some(_) => Message::Lost { track, alias, broken },
                None => Message::Refused { track, alias, reason },
            };
            events.push(Event::Send(link, message));
        }
    }

    /// Children that a way leads through.
    pub fn unserved(&self, path: &[NodeId]) -> BTreeSet<NodeId> {
        self.known.values().map(|child| child.neighbor).filter(|id| path.contains(id)).collect()
    }
}

/// A way without its end.
fn inner(path: &[NodeId]) -> &[NodeId] {
    path.split_last().map_or(&[], |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use protocol::{StreamName, mesh::StreamTrack};

    use super::*;
    use crate::sim::{epoch, node};

    const LINK: LinkId = LinkId(1);

    fn key() -> TrackKey {
        TrackKey { origin: node(0), stream: StreamName::new("stage").unwrap(), track: StreamTrack::Audio }
    }

    fn joined(children: &mut Children, neighbor: usize, now: Instant) {
        let (neighbor, ask) = (node(neighbor), JoinParams { active: true, ..JoinParams::default() });
        let child =
            Child { neighbor, alias: Alias(7), ask, since: now, heard: now, told: None, answer: true };
        children.insert(LINK, child);
    }

    fn serve(children: &mut Children, ways: &[(Vec<NodeId>, Option<Pair>)], now: Instant) -> Vec<Message> {
        let mut events = Vec::new();
        children.serve((&key(), Covered::No), ways, (None, &mut events), now);
        let message = |event| match event {
            Event::Send(_, message) => message,
            other => panic!("{other:?}"),
        };
        events.into_iter().map(message).collect()
    }

    #[test]
    fn a_child_is_offered_a_way_without_itself_once() {
        let (mut children, start) = (Children::default(), epoch());
        joined(&mut children, 5, start);
        let ways = [(vec![node(0), node(5), node(1)], None), (vec![node(0), node(6), node(1)], None)];
        let told = serve(&mut children, &ways, start);
        let Some(Message::Joined { offer, .. }) = told.first() else { panic!("{told:?}") };
        assert_eq!(offer.path, ways[1].0);
        assert_eq!(children.fed(), [(LINK, Alias(7))]);
        assert!(serve(&mut children, &ways, start).is_empty(), "it was told");
    }

    #[test]
    fn who_waits_in_vain_is_told_why() {
        let start = epoch();
        for (ways, why) in
            [(Vec::new(), Refusal::NoRoute), (vec![(vec![node(0), node(5), node(1)], None)], Refusal::Loop)]
        {
            let mut children = Children::default();
            joined(&mut children, 5, start);
            assert!(serve(&mut children, &ways, start).is_empty());
            assert_eq!(children.deadline(), Some(start + WAIT));
            let told = serve(&mut children, &ways, start + WAIT);
            assert!(matches!(told[..], [Message::Refused { reason, .. }] if reason == why), "{told:?}");
            assert!(children.is_empty());
        }
    }

    #[test]
    fn who_had_a_way_loses_it_with_a_word() {
        let (mut children, start) = (Children::default(), epoch());
        joined(&mut children, 5, start);
        serve(&mut children, &[(vec![node(0), node(1)], None)], start);
        let told = serve(&mut children, &[], start);
        assert!(matches!(told[..], [Message::Lost { broken: None, .. }]), "{told:?}");
    }

    #[test]
    fn a_relay_leads_for_listeners_and_for_primaries() {
        let mut children = Children::default();
        assert!(!Demand { local: false, behind: 0, needed: false, children: &children }.leads());
        assert!(Demand { local: true, behind: 0, needed: false, children: &children }.leads());
        joined(&mut children, 5, epoch());
        assert!(Demand { local: false, behind: 0, needed: false, children: &children }.leads());
        assert_eq!(children.unserved(&[node(0), node(5)]), BTreeSet::from([node(5)]));
    }
}
