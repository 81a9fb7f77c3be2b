//! Places that many want and few have: who gets one, and who gives way where all are taken. Without I/O; what
//! a place is worth, and what ends with it, is for others (`mod.rs`, `node/sessions/`).
//!
//! A share grows while there is room: one address, behind which a whole festival may sit, gets every place that
//! nobody else wants. Where all are taken, what is idle gives way first, then the greediest: the holder with the
//! most places that prove nothing. What has proven itself does not count as greed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use thiserror::Error;

/// Who holds places: an IPv4 address, or the /64 of an IPv6 address, as one machine can have all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(IpAddr);

impl From<IpAddr> for Holder {
    fn from(address: IpAddr) -> Holder {
        Holder(match address.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        })
    }
}

/// One place; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(u64);

/// What is known of whoever sits in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing goes on there: the first to give way, whoever holds it.
    Idle,
    /// Nothing is proven yet: it counts as greed.
    Unproven,
    /// It has authenticated or takes part: it is no greed.
    Proven,
}

/// Which places give way, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Which place of the greediest gives way to somebody else.
    pub gives_way: GivesWay,
    /// A place without progress for so long gives way to the next wish of its own holder; younger ones do not, or
    /// a crowd that comes at once would push itself out.
    pub patience: Duration,
}

/// Which of the places of the greediest gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivesWay {
    /// The one that came last.
    Youngest,
    /// The one that has been without progress for longest.
    Stalest,
}

/// All places are taken, and nobody has more than a fair share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("all places are taken")]
pub struct Full;

/// A place that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// It.
    pub place: PlaceId,
    /// The place that is no more, because this one is.
    pub gave_way: Option<PlaceId>,
}

/// A bounded number of places.
#[derive(Debug)]
pub struct Shares {
    total: usize,
    policy: Policy,
    next: u64,
    places: BTreeMap<PlaceId, Place>,
    holders: BTreeMap<Holder, Held>,
    /// By number of unproven places, and of all.
    greed: BTreeSet<(usize, Holder)>,
    extent: BTreeSet<(usize, Holder)>,
    idle: BTreeSet<(Instant, PlaceId)>,
}

#[derive(Debug)]
struct Place {
    holder: Holder,
    standing: Standing,
    /// When there was progress last.
    at: Instant,
}

#[derive(Debug, Default)]
struct Held {
    all: BTreeSet<PlaceId>,
    /// By progress, and by age.
    unproven: BTreeSet<(Instant, PlaceId)>,
    young: BTreeSet<PlaceId>,
}

impl Shares {
    /// `total` places, all free.
    pub fn new(total: usize, policy: Policy) -> Shares {
        Shares {
            total,
            policy,
            next: 0,
            places: BTreeMap::new(),
            holders: BTreeMap::new(),
            greed: BTreeSet::new(),
            extent: BTreeSet::new(),
            idle: BTreeSet::new(),
        }
    }

    /// A place for `holder`, unproven. Where all are taken another one may have to give way: that is gone then.
    ///
    /// # Errors
    ///
    /// [`Full`] if all places are taken and nobody gives way.
    pub fn take(&mut self, holder: Holder, now: Instant) -> Result<Taken, Full> {
        let gave_way = match self.places.len() < self.total {
            true => None,
            false => Some(self.gives_way(holder, now).ok_or(Full)?),
        };
        if let Some(place) = gave_way {
            self.release(place);
        }
        let place = PlaceId(self.next);
        self.next += 1;
        self.insert(place, Place { holder, standing: Standing::Unproven, at: now });
        Ok(Taken { place, gave_way })
    }

    /// A place is free again. Nothing happens if it has given way already.
    pub fn release(&mut self, place: PlaceId) {
        self.remove(place);
    }

    /// There was progress at a place.
    pub fn progress(&mut self, place: PlaceId, now: Instant) {
        self.change(place, |place| place.at = now);
    }

    /// More is known of a place than before; it counts as progress.
    pub fn stand(&mut self, place: PlaceId, standing: Standing, now: Instant) {
        self.change(place, |place| (place.standing, place.at) = (standing, now));
    }

    /// A place is somebody else's: behind a proxy that is known only once the request has come.
    pub fn hand_over(&mut self, place: PlaceId, holder: Holder) {
        self.change(place, |place| place.holder = holder);
    }

    /// Takes a place away, from whom it hurts least, although the table is not full: something else has run out.
    pub fn make_room(&mut self) -> Option<PlaceId> {
        let idle = self.idle.first().map(|(_, place)| *place);
        let place = idle.or_else(|| self.greediest().and_then(|(_, holder)| self.stalest(holder)))?;
        self.release(place);
        Some(place)
    }

    /// Places that are taken.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if none is taken.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Who gives way to `asker`. Between holders only for a gain in fairness: who takes has fewer afterwards
    /// than who gives, or as many.
    fn gives_way(&self, asker: Holder, now: Instant) -> Option<PlaceId> {
        if let Some((_, idle)) = self.idle.first() {
            return Some(*idle);
        }
        let own = self.holders.get(&asker);
        let own_unproven = own.map_or(0, |held| held.unproven.len());
        if let Some((count, greediest)) = self.greediest()
            && count >= own_unproven + 2
        {
            return match self.policy.gives_way {
                GivesWay::Youngest => self.youngest_unproven(greediest),
                GivesWay::Stalest => self.stalest(greediest),
            };
        }
        let waited = |at: Instant| now.saturating_duration_since(at) >= self.policy.patience;
        let own_stalest = own.and_then(|held| held.unproven.first()).filter(|(at, _)| waited(*at));
        if let Some((_, place)) = own_stalest {
            return Some(*place);
        }
        // Nobody keeps more than half of all places from others, proven or not.
        let (count, largest) = *self.extent.last()?;
        (largest != asker && count > self.total.div_ceil(2)).then(|| self.youngest(largest)).flatten()
    }

    fn greediest(&self) -> Option<(usize, Holder)> {
        self.greed.last().copied().filter(|(count, _)| *count > 0)
    }

    fn stalest(&self, holder: Holder) -> Option<PlaceId> {
        Some(self.holders.get(&holder)?.unproven.first()?.1)
    }

    fn youngest_unproven(&self, holder: Holder) -> Option<PlaceId> {
        self.holders.get(&holder)?.young.last().copied()
    }

    fn youngest(&self, holder: Holder) -> Option<PlaceId> {
        self.holders.get(&holder)?.all.last().copied()
    }

    fn change(&mut self, place: PlaceId, change: impl FnOnce(&mut Place)) {
        if let Some(mut known) = self.remove(place) {
            change(&mut known);
            self.insert(place, known);
        }
    }

    fn insert(&mut self, id: PlaceId, place: Place) {
        let held = self.holders.entry(place.holder).or_default();
        self.greed.remove(&(held.unproven.len(), place.holder));
        self.extent.remove(&(held.all.len(), place.holder));
        held.all.insert(id);
        match place.standing {
            Standing::Idle => drop(self.idle.insert((place.at, id))),
            Standing::Unproven => {
                held.unproven.insert((place.at, id));
                held.young.insert(id);
            }
            Standing::Proven => {}
        }
        self.greed.insert((held.unproven.len(), place.holder));
        self.extent.insert((held.all.len(), place.holder));
        self.places.insert(id, place);
    }

    fn remove(&mut self, id: PlaceId) -> Option<Place> {
        let place = self.places.remove(&id)?;
        self.idle.remove(&(place.at, id));
        if let Some(held) = self.holders.get_mut(&place.holder) {
            self.greed.remove(&(held.unproven.len(), place.holder));
            self.extent.remove(&(held.all.len(), place.holder));
            held.unproven.remove(&(place.at, id));
            held.young.remove(&id);
            held.all.remove(&id);
            if held.all.is_empty() {
                self.holders.remove(&place.holder);
            } else {
                self.greed.insert((held.unproven.len(), place.holder));
                self.extent.insert((held.all.len(), place.holder));
            }
        }
        Some(place)
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
