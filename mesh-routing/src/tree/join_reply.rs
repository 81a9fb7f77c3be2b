//! What parents answer to the joins of a track: the place an offer finds, what follows from a refusal or a loss.
//! Which parents are asked is decided in `feed_search.rs`.

use std::time::{Duration, Instant};

use protocol::mesh::Alias;

use crate::{
    route::graph::{Pair, pair},
    tree::{
        children::Demand,
        feed::{Feed, OVERLAP},
        feeds::{Feeds, PRIMARY, ROLES, SECONDARY, shared},
        track::Step,
        view::Event,
    },
    wire::{
        message::{Message, Offer, PATH_MAX},
        metric::LinkId,
    },
};

/// Better on paper, but refused: left alone for this time and [`super::feeds::GAIN_HELD`], a minute together. What was
/// refused once is mostly refused again, and nothing is urgent while the primary works.
const GAIN_REFUSED: Duration = Duration::from_secs(50);

impl Feeds {
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

    /// The parent refuses, or has lost what it had. Returns the edge to stay away from.
    pub fn handle_end(&mut self, from: (LinkId, Alias), broken: Option<Pair>, now: Instant) -> Option<Pair> {
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
        broken
    }
}
