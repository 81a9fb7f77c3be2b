//! The children of a track at this relay: who is offered which of its feeds, who waits for one.

use std::{
    collections::BTreeSet,
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
        feed::{EXPIRY, common},
        track::Track,
        view::{Event, Surroundings},
    },
    wire::message::{Ask, Message, Offer, PATH_MAX, Refusal, Role},
};

/// A child waits so long for a feed of this relay that does not lead through the child.
pub(crate) const WAIT: Duration = Duration::from_millis(800);

#[derive(Debug)]
pub(crate) struct Child {
    pub neighbor: NodeId,
    pub alias: Alias,
    pub ask: Ask,
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

impl Track {
    /// Forgets children on dead links and those that stopped repeating their join.
    pub fn purge(
        &mut self,
        key: &TrackKey,
        around: &Surroundings<'_>,
        events: &mut Vec<Event>,
        now: Instant,
    ) {
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

    /// Tells each child which way it is served by, if that is news; `ways` in order of preference, each from the
    /// origin to here.
    pub fn serve(
        &mut self,
        key: &TrackKey,
        ways: &[(Vec<NodeId>, Option<Pair>)],
        events: &mut Vec<Event>,
        now: Instant,
    ) {
        let broken = self.broken;
        let apart = match ways {
            [(a, None), (b, None)] => a.last().is_some_and(|own| common(*own, inner(a), inner(b)) == 0),
            _ => false,
        };
        self.children.retain(|link, child| {
            let fit = |(_, (path, _)): &(usize, &(Vec<NodeId>, _))| {
                path.len() < PATH_MAX && !path.contains(&child.neighbor)
            };
            let rank = |(place, (path, doubt)): &(usize, &(Vec<NodeId>, Option<Pair>))| {
                let avoid = |id: &&NodeId| child.ask.avoid.contains(id);
                let shared = path.iter().skip(1).filter(avoid).count();
                (doubt.is_some(), if child.ask.role == Role::Primary { 0 } else { shared }, *place)
            };
            let fitting = ways.iter().enumerate().filter(fit);
            let guarded = apart && fitting.clone().count() == 2;
            let (track, alias) = (key.clone(), child.alias);
            let Some((_, (path, doubt))) = fitting.min_by_key(rank) else {
                let message = if child.told.is_some() {
                    Message::Lost { track, alias, broken }
                } else if now >= child.since + WAIT {
                    let reason = if ways.is_empty() { Refusal::NoRoute } else { Refusal::Loop };
                    Message::Refused { track, alias, reason }
                } else {
                    return true;
                };
                events.push(Event::Send(*link, message));
                return false;
            };
            let offer = Offer { path: path.clone(), guarded, doubt: *doubt };
            if child.told.as_ref() != Some(&offer) || child.answer {
                child.told = Some(offer.clone());
                child.answer = false;
                events.push(Event::Send(*link, Message::Joined { track, alias, offer }));
            }
            true
        });
    }

    /// Lets all children go.
    pub fn release(&mut self, key: &TrackKey, reason: Refusal, events: &mut Vec<Event>) {
        let broken = self.broken;
        for (link, child) in std::mem::take(&mut self.children) {
            let (track, alias) = (key.clone(), child.alias);
            let message = match child.told {
                Some(_) => Message::Lost { track, alias, broken },
                None => Message::Refused { track, alias, reason },
            };
            events.push(Event::Send(link, message));
        }
    }

    /// Whether anybody here or below relies on this relay for the shortest way.
    pub fn leads(&self) -> bool {
        self.local || self.children.values().any(|child| child.ask.role == Role::Primary)
    }

    /// Children that a way leads through.
    pub fn unserved(&self, path: &[NodeId]) -> BTreeSet<NodeId> {
        self.children.values().map(|child| child.neighbor).filter(|id| path.contains(id)).collect()
    }
}

/// A way without its end.
fn inner(path: &[NodeId]) -> &[NodeId] {
    path.split_last().map_or(&[], |(_, rest)| rest)
}
