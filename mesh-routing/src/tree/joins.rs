//! The joins of a track: what is asked of which parents, and what they answer. The best way for the primary, a way apart
//! from it for the secondary; the place an offer finds, what follows from a refusal or a loss. What is there and how long
//! it is held is in `feeds.rs`; the ways themselves are `route/`'s.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use protocol::{
    NodeId,
    mesh::{Alias, StreamTrack, TrackKey},
};

use crate::{
    link::detector::State,
    route::graph::{Avoid, Candidate, PENALTY, Pair, pair},
    tree::{
        children::{Child, Demand},
        feeds::{
            APART_HELD, Feed, Feeds, GAIN_HELD, OVERLAP, PRIMARY, ROLES, SECONDARY, Slot, edges, shared,
        },
        view::{Event, Step, TreeView},
    },
    wire::{
        message::{JoinParams, Message, Offer, PATH_MAX, Role},
        metric::LinkId,
    },
};

/// A better way has to be better by this, in quarters of a millisecond, and by 15 %: less is not heard, and a move costs
/// a keyframe and may cost a packet.
const GAIN: u32 = 20;
/// Better on paper, but refused: left alone for this time and [`super::feeds::GAIN_HELD`], a minute together. What was
/// refused once is mostly refused again, and nothing is urgent while the primary works.
const GAIN_REFUSED: Duration = Duration::from_secs(50);

impl Feeds {
    pub(super) fn look_for_primary(&mut self, demand: Demand<'_>, step: &mut Step<'_, '_>) {
        if self.slots[PRIMARY].next.is_some() {
            return;
        }
        let mut way = Avoid::default();
        if !demand.leads() {
            for child in demand.children.iter() {
                way.penalized.insert(child.neighbor);
                way.penalized.extend(&child.ask.avoid);
            }
            way.penalized.remove(&step.key.origin);
        }
        let good = self.slots[PRIMARY].feed.as_ref().is_some_and(|feed| feed.good(step.around));
        if !good {
            self.better_since = None;
            if let Some((link, at)) = self.best(PRIMARY, &way, step) {
                self.join(PRIMARY, (link, at.neighbor), false, demand, step);
            }
        } else if let Some(better) = self.better(&way, step) {
            self.better_since = None;
            if self.slots[SECONDARY]
                .feed
                .as_ref()
                .is_some_and(|f| f.neighbor == better && f.good(step.around))
            {
                self.swap(step);
            } else if let Some((link, _)) =
                self.best(PRIMARY, &way, step).filter(|(_, at)| at.neighbor == better)
            {
                self.join(PRIMARY, (link, better), true, demand, step);
            }
        }
    }

    /// A neighbor that has been clearly better than the primary's for long enough.
    fn better(&mut self, way: &Avoid, step: &mut Step<'_, '_>) -> Option<NodeId> {
        let present = self.slots[PRIMARY].feed.as_ref()?.neighbor;
        let candidates = step.candidates(way);
        let cost = candidates.iter().find(|c| c.neighbor == present).map_or(0, |c| c.cost);
        let fit = |c: &&Candidate| {
            let up = step.around.neighbors.get(&c.neighbor).is_some_and(|n| n.state == State::Up);
            up && !self.slots[PRIMARY].backs_off(&c.neighbor, step.now)
        };
        let gains = |c: &&Candidate| {
            c.cost.saturating_add(GAIN) <= cost && u64::from(c.cost) * 100 < u64::from(cost) * 85
        };
        let Some(best) = candidates.iter().find(fit).filter(gains) else {
            self.better_since = None;
            return None;
        };
        let apart = best.cost.saturating_add(PENALTY) <= cost;
        let held = if apart { APART_HELD } else { GAIN_HELD };
        let since = *self.better_since.get_or_insert(step.now);
        (step.now >= since + held).then_some(best.neighbor)
    }

    /// What the second way has to avoid, given the first; None if none is wanted.
    fn second(&self, demand: Demand<'_>, step: &mut Step<'_, '_>) -> Option<Avoid> {
        let own = step.around.own;
        let first: Vec<NodeId> = match &self.slots[PRIMARY] {
            Slot { feed: Some(feed), .. } => feed.path().to_vec(),
            // Not answered yet: most likely this one.
            Slot { next: Some(next), .. } => step.around.routes.way_from(&step.key.origin).map_or_else(
                || vec![step.key.origin, next.neighbor],
                |(_, path)| path.into_iter().filter(|id| *id != own).collect(),
            ),
            _ => return demand.leads().then(Avoid::default),
        };
        let barred = demand.children.unserved(&first);
        if !demand.leads() && barred.is_empty() {
            return None;
        }
        let penalized = first.iter().skip(1).copied().collect();
        Some(Avoid { barred, penalized, edges: edges(own, &first) })
    }

    pub(super) fn look_for_secondary(&mut self, demand: Demand<'_>, step: &mut Step<'_, '_>) {
        let Some(mut way) = self.second(demand, step) else {
            for feed in [self.slots[SECONDARY].feed.take(), self.slots[SECONDARY].next.take()] {
                feed.iter().for_each(|feed| step.leave(feed));
            }
            self.apart_since = None;
            return;
        };
        if self.slots[SECONDARY].next.is_some() {
            return;
        }
        let good = self.slots[SECONDARY].feed.as_ref().is_some_and(|feed| feed.good(step.around));
        if good && self.shared(step.around.own) == Some(0) && self.serves(&way.barred) {
            self.apart_since = None;
            return;
        }
        if good {
            // Ways change one after the other: not at once.
            let since = *self.apart_since.get_or_insert(step.now);
            if step.now < since + APART_HELD {
                return;
            }
        }
        self.apart_since = None;
        let mut best = self.best(SECONDARY, &way, step);
        if best.is_none() && demand.leads() && !way.barred.is_empty() {
            way.barred.clear();
            best = self.best(SECONDARY, &way, step);
        }
        let Some((link, at)) = best else { return };
        if good
            && (at.cost / PENALTY >= self.shared(step.around.own).unwrap_or(u32::MAX)
                && self.serves(&way.barred))
        {
            return;
        }
        self.join(SECONDARY, (link, at.neighbor), good, demand, step);
    }

    /// The best neighbor to join at for a place, those aside that are in use for this track.
    fn best(&self, place: usize, way: &Avoid, step: &mut Step<'_, '_>) -> Option<(LinkId, Candidate)> {
        let used: BTreeSet<_> = self.slots.iter().flat_map(Slot::both).map(|feed| feed.neighbor).collect();
        let candidates = step.candidates(way);
        let load = |link| step.loads.get(&link).copied().unwrap_or_default();
        let fit = |c: &Candidate| {
            let neighbor = step.around.neighbors.get(&c.neighbor).filter(|n| n.state == State::Up)?;
            let free = !used.contains(&c.neighbor) && !self.slots[place].backs_off(&c.neighbor, step.now);
            let link = free.then(|| neighbor.pick(hash(step.key), load))?;
            step.understood(link).then_some((link, *c))
        };
        candidates.iter().find_map(fit).or_else(|| self.weak(place, step))
    }

    /// Another link to the same neighbor: better than none, if no other neighbor is there.
    fn weak(&self, place: usize, step: &Step<'_, '_>) -> Option<(LinkId, Candidate)> {
        if place == PRIMARY || self.slots[SECONDARY].feed.is_some() {
            return None;
        }
        let primary = self.slots[PRIMARY].feed.as_ref()?;
        if self.slots[SECONDARY].backs_off(&primary.neighbor, step.now) {
            return None;
        }
        let link = step.around.neighbors.get(&primary.neighbor)?.other(primary.link)?;
        if !step.understood(link) {
            return None;
        }
        let depth = primary.path().len() as u32;
        Some((link, Candidate { neighbor: primary.neighbor, cost: u32::MAX, depth }))
    }

    fn join(
        &mut self,
        place: usize,
        (link, neighbor): (LinkId, NodeId),
        gain: bool,
        demand: Demand<'_>,
        step: &mut Step<'_, '_>,
    ) {
        let (alias, now) = ((step.alias)(), step.now);
        // The parent keeps one child of a link: this join takes the place of the old one.
        self.old.retain(|(feed, _)| feed.link != link);
        let feed = Feed {
            link,
            neighbor,
            alias,
            asked: JoinParams::default(),
            since: now,
            refreshed: now,
            confirmed: now,
            offer: None,
            pause: None,
        };
        let mut asked = self.ask(place, &feed, demand, step);
        asked.active &= !self.tries(place, gain, step.around);
        let feed = Feed { asked, ..feed };
        step.events.push(feed.join(step.key));
        self.slots[place].next = Some(feed);
        self.slots[place].gain = gain;
    }

    /// What is asked for may turn out to be of no use, and nothing is urgent: it sends nothing before its answer.
    fn tries(&self, place: usize, gain: bool, around: &TreeView<'_>) -> bool {
        let first = self.slots[PRIMARY].feed.as_ref();
        place == SECONDARY && (gain || first.is_some_and(|feed| feed.good(around)))
    }

    /// What a feed is wanted for now.
    fn ask(&self, place: usize, feed: &Feed, demand: Demand<'_>, step: &Step<'_, '_>) -> JoinParams {
        let own = step.around.own;
        let leads = demand.leads();
        let first = self.slots[PRIMARY].feed.as_ref();
        let first_good = first.is_some_and(|feed| feed.good(step.around));
        let led_through = |path: &[NodeId], child: &Child| path.contains(&child.neighbor);
        let active = step.around.hot(step.key) || place == PRIMARY || !first_good;
        let below = demand.children.iter().any(|child| {
            child.ask.active
                && !led_through(feed.path(), child)
                && (active || first.is_none_or(|first| led_through(first.path(), child)))
        });
        let mut avoid = BTreeSet::new();
        if leads && place == SECONDARY {
            avoid.extend(first.map_or(&[][..], Feed::path).iter().skip(1));
        } else if !leads {
            avoid.extend(demand.children.iter().flat_map(|child| &child.ask.avoid));
        }
        if place == SECONDARY {
            avoid.extend(demand.children.unserved(first.map_or(&[][..], Feed::path)));
        } else if !leads {
            avoid.extend(demand.children.iter().map(|child| child.neighbor));
        }
        let avoid = avoid.into_iter().filter(|id| ![own, feed.neighbor, step.key.origin].contains(id));
        JoinParams {
            role: if place == PRIMARY && leads { Role::Primary } else { Role::Secondary },
            active: (demand.local && active) || below,
            avoid: avoid.take(PATH_MAX).collect(),
            behind: demand.behind,
            needed: demand.needed,
        }
    }

    /// Tells the parents what is wanted of them, where that differs from what they were told.
    pub(super) fn tune(&mut self, demand: Demand<'_>, step: &mut Step<'_, '_>) {
        for place in [PRIMARY, SECONDARY] {
            for next in [false, true] {
                let slot = &self.slots[place];
                let Some(feed) = (if next { &slot.next } else { &slot.feed }) else { continue };
                let mut ask = self.ask(place, feed, demand, step);
                ask.active &= !(next && self.tries(place, slot.gain, step.around));
                let slot = &mut self.slots[place];
                let Some(feed) = (if next { &mut slot.next } else { &mut slot.feed }) else { continue };
                if ask.active || !feed.asked.active {
                    feed.pause = None;
                } else if step.now < *feed.pause.get_or_insert(step.now + OVERLAP) {
                    ask.active = true;
                } else {
                    feed.pause = None;
                }
                // Another number of listeners alone can wait until the join is repeated; not so whether a rung only stands
                // for a better one.
                let stands = |behind| behind == 0 && matches!(step.key.track, StreamTrack::Rung(_));
                let told = JoinParams { behind: ask.behind, ..feed.asked.clone() };
                if ask != told || stands(ask.behind) != stands(feed.asked.behind) {
                    feed.asked = ask;
                    feed.refreshed = step.now;
                    step.events.push(feed.join(step.key));
                }
            }
        }
    }

    fn place_of(&self, key: (LinkId, Alias)) -> Option<(usize, bool)> {
        [PRIMARY, SECONDARY].into_iter().find_map(|place| {
            let slot = &self.slots[place];
            let is = |feed: &Option<Feed>| feed.as_ref().is_some_and(|feed| feed.key() == key);
            if is(&slot.next) { Some((place, true)) } else { is(&slot.feed).then_some((place, false)) }
        })
    }

    /// The parent's offer. Says which edge is in doubt, if that is news.
    pub fn handle_joined(
        &mut self,
        from: (LinkId, Alias),
        offer: Offer,
        demand: Demand<'_>,
        step: &mut Step<'_, '_>,
    ) -> Option<Pair> {
        let (own, now) = (step.around.own, step.now);
        let path = &offer.path;
        let bad = path.contains(&own) || path.len() >= PATH_MAX || path.first() != Some(&step.key.origin);
        let Some((place, next)) = self.place_of(from) else {
            // Nobody asked, or not any more; of those that are left soon nothing is wanted.
            if !self.old.iter().any(|(feed, _)| feed.key() == from) {
                let message = Message::Leave { track: step.key.clone(), alias: from.1 };
                step.events.push(Event::Send(from.0, message));
            }
            return None;
        };
        let slot = &mut self.slots[place];
        let kept = if next { &mut slot.next } else { &mut slot.feed };
        let mut feed = kept.take()?;
        if bad {
            step.leave(&feed);
            if next {
                slot.back_off(ROLES[place], feed.neighbor, now);
            } else {
                self.lose(place, &feed, None, now);
            }
            return None;
        }
        let suspect_edge = offer.suspect_edge.map(|(a, b)| pair(a, b));
        let news =
            suspect_edge.filter(|_| suspect_edge != feed.offer.as_ref().and_then(|offer| offer.suspect_edge));
        feed.confirmed = now;
        feed.offer = Some(Offer { suspect_edge, ..offer });
        if next {
            self.put(place, feed, demand, step);
        } else {
            *kept = Some(feed);
        }
        news
    }

    /// Finds the place of a feed that was just answered.
    fn put(&mut self, asked_for: usize, feed: Feed, demand: Demand<'_>, step: &mut Step<'_, '_>) {
        let own = step.around.own;
        let good = |feed: &Option<Feed>| feed.as_ref().is_some_and(|feed| feed.good(step.around));
        let [primary, secondary] = [PRIMARY, SECONDARY].map(|place| good(&self.slots[place].feed));
        let gain = std::mem::take(&mut self.slots[asked_for].gain);
        let improves = || match (&self.slots[PRIMARY].feed, &self.slots[SECONDARY].feed) {
            (Some(first), Some(second)) => {
                let barred = demand.children.unserved(first.path());
                let misses = |feed: &Feed| feed.path().iter().any(|id| barred.contains(id));
                let rank = |feed: &Feed| (misses(feed), shared(own, first, feed));
                rank(&feed) < rank(second)
            }
            _ => true,
        };
        let place = if self.slots[PRIMARY].feed.is_none() || (asked_for == PRIMARY && (gain || !primary)) {
            PRIMARY
        } else if !secondary || improves() {
            SECONDARY
        } else {
            step.leave(&feed);
            self.slots[asked_for].back_off(ROLES[asked_for], feed.neighbor, step.now);
            return;
        };
        let Some(old) = self.slots[place].feed.replace(feed) else { return };
        if place == PRIMARY {
            self.better_since = None;
            self.orphaned = false;
            self.moved(step);
            if self.slots[SECONDARY].feed.is_none() {
                // Still better than none, until there is a better one.
                self.slots[SECONDARY].feed = Some(old);
                return;
            }
        }
        if old.asked.active {
            self.old.push((old, step.now + OVERLAP));
        } else {
            step.leave(&old);
        }
    }

    /// The parent refuses, or has lost what it had. Returns the edge to stay away from. `goes_on` says that packets come for
    /// a moment more.
    pub fn handle_end(
        &mut self,
        from: (LinkId, Alias),
        (broken, goes_on): (Option<Pair>, bool),
        now: Instant,
    ) -> Option<Pair> {
        let Some((place, next)) = self.place_of(from) else {
            self.old.retain(|(feed, _)| feed.key() != from);
            return None;
        };
        let slot = &mut self.slots[place];
        if next {
            let feed = slot.next.take()?;
            if std::mem::take(&mut slot.gain) && place == PRIMARY {
                // What was better on paper is not: it is tried again, but not soon.
                self.better_since = Some(now + GAIN_REFUSED);
            } else {
                slot.back_off(ROLES[place], feed.neighbor, now);
            }
            return None;
        }
        let feed = slot.feed.take()?;
        self.lose(place, &feed, broken, now);
        if goes_on && feed.asked.active {
            // Another join on this link would take its place.
            self.slots.iter_mut().for_each(|slot| slot.leave_alone(feed.neighbor, now + OVERLAP));
            self.old.push((feed, now + OVERLAP));
        }
        broken
    }
}

/// Spreads tracks over parallel links, the same way after every start.
fn hash(key: &TrackKey) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.origin.0).update(key.stream.as_str().as_bytes()).update(&[key.track.into()]);
    u64::from_le_bytes(
        hasher.finalize().as_bytes()[..8].try_into().expect("a hash is longer than eight octets"),
    )
}
