//! What links have room for. Each track is planned with the rate that its origin says of it, and a link with most of what
//! it is thought to carry. Sound has room before any picture, the base of any sound before the better qualities of others,
//! and the base of any picture before the better encodings of others. Of these the one by which more gain has room first.
//! What becomes of a child that has none is its own
//! affair.

use std::{cmp::Reverse, time::Instant};

use protocol::{Kind, mesh::TrackKey};

use crate::{
    tree::{
        Trees,
        view::{Event, TreeView},
    },
    wire::{
        message::{JoinParams, Message},
        metric::LinkId,
    },
};

/// Share of a link's capacity for media, in per cent. The rest is for control, for repairs, and for being wrong about the
/// capacity and the rates.
const FILL: u64 = 85;

/// A track that is sent to the child on a link.
struct Sent<'a> {
    key: &'a TrackKey,
    since: Instant,
    rank: u8,
    rate: u64,
    /// Listeners that gain by it, as the child says; 0 if it does not. By a rung that only stands for a better one nobody
    /// gains.
    listeners: u16,
}

impl Sent<'_> {
    fn is_sound(&self) -> bool {
        self.key.track.kind() == Kind::Audio
    }

    fn is_picture(&self) -> bool {
        !self.is_sound()
    }

    /// Whether it gives way where even bases do not fit: everything but the base of a sound.
    fn may_go(&self) -> bool {
        self.is_picture() || self.rank > 0
    }
}

impl Trees {
    /// What a link carries, in bits per second; `None` if that is not known.
    pub fn handle_capacity(&mut self, link: LinkId, capacity: Option<u64>) {
        let before = match capacity {
            Some(capacity) => self.capacities.insert(link, capacity),
            None => self.capacities.remove(&link),
        };
        if before != capacity {
            self.tight.insert(link);
        }
    }

    #[cfg(any(test, feature = "sim"))]
    pub fn capacities(&self) -> impl Iterator<Item = (LinkId, u64)> + '_ {
        self.capacities.iter().map(|(link, capacity)| (*link, *capacity))
    }

    /// Links of which the capacity is another have room for what is sent over them.
    pub(super) fn settle_capacities(&mut self, around: &TreeView<'_>, now: Instant) {
        self.capacities.retain(|link, _| around.links.contains_key(link));
        while let Some(link) = self.tight.pop_first() {
            self.make_room((link, 0), (|_| true, |sent| sent.may_go()), around, now);
        }
    }

    /// Whether a link has room for a track, as it is asked for. For the base of a sound it is made, for a better quality of
    /// it as far as pictures can give way, and for what is all there is of a picture as far as better encodings of others
    /// can.
    pub(super) fn fits(
        &mut self,
        (key, ask): (&TrackKey, &JoinParams),
        link: LinkId,
        around: &TreeView<'_>,
        now: Instant,
    ) -> bool {
        let Some(room) = self.room(link) else { return true };
        let rate = around.rate(key);
        let planned = |which: &dyn Fn(&Sent<'_>) -> bool| {
            self.sent(link, around).filter(which).map(|sent| sent.rate).sum::<u64>()
        };
        let same = |sent: &Sent<'_>| (&sent.key.origin, &sent.key.stream) == (&key.origin, &key.stream);
        if key.track.kind() == Kind::Audio {
            let rank = around.sound_rank(key, link, ask);
            // It takes the place of a worse one that only stands for it.
            let stays =
                |sent: &Sent<'_>| sent.is_sound() && !(same(sent) && sent.rank < rank && sent.listeners == 0);
            let (is_base, more) = (rank == 0, rate);
            if !is_base && planned(&stays) + more > room {
                return false;
            }
            let may_go = |sent: &Sent<'_>| sent.is_picture() || is_base && sent.may_go();
            self.make_room((link, more), (|_| true, may_go), around, now);
            return true;
        }
        let rank = around.rank(key);
        let is_base = rank == 0;
        let is_upper = |sent: &Sent<'_>| sent.is_picture() && sent.rank > 0;
        // One above the base is sent of each picture: it takes the place of the one before.
        let counts = |sent: &Sent<'_>| is_base || !is_upper(sent) || !same(sent);
        // For a base any of them goes. Beside another one of them those of others go that are no worse and by which clearly
        // fewer gain: clearly, or two stages with equal crowds would take turns.
        let gain = u32::from(ask.behind.max(1));
        let may_go = |sent: &Sent<'_>| {
            let fewer = u32::from(sent.listeners.max(1)) * 3 < gain * 2;
            is_upper(sent) && (is_base || sent.rank >= rank && !same(sent) && fewer)
        };
        let fits = planned(&|sent| counts(sent) && !may_go(sent)) + rate <= room;
        if fits {
            self.make_room((link, rate), (counts, may_go), around, now);
        }
        fits
    }

    /// What is planned with of a link, if its capacity is known.
    fn room(&self, link: LinkId) -> Option<u64> {
        self.capacities.get(&link).map(|capacity| capacity.saturating_mul(FILL) / 100)
    }

    /// What is sent to the child on a link.
    fn sent<'a>(&'a self, link: LinkId, around: &'a TreeView<'_>) -> impl Iterator<Item = Sent<'a>> {
        self.tracks.iter().filter_map(move |(key, track)| {
            let child = track.children.get(link).filter(|child| child.ask.active)?;
            let rank = match key.track.kind() {
                Kind::Audio => around.sound_rank(key, link, &child.ask),
                Kind::Video => around.rank(key),
            };
            let (rate, listeners) = (around.rate(key), child.ask.behind);
            Some(Sent { key, since: child.since, rank, rate, listeners })
        })
    }

    /// Lets tracks of a link go until there is room for `more` beside those that count, of those that may: pictures before
    /// sounds, the best encodings and rungs first, of these those by which the fewest listeners gain, then the newest.
    fn make_room(
        &mut self,
        (link, more): (LinkId, u64),
        (counts, may_go): (impl Fn(&Sent<'_>) -> bool, impl Fn(&Sent<'_>) -> bool),
        around: &TreeView<'_>,
        now: Instant,
    ) {
        let Some(room) = self.room(link) else { return };
        while self.sent(link, around).filter(&counts).map(|sent| sent.rate).sum::<u64>() + more > room {
            let first = |sent: &Sent<'_>| {
                // Who says nothing stands for one.
                let listeners = Reverse(sent.listeners.max(1));
                (sent.is_picture(), sent.rank, listeners, sent.since, sent.key.clone())
            };
            let sent = self.sent(link, around).filter(|sent| may_go(sent));
            let Some(key) = sent.max_by_key(first).map(|sent| sent.key.clone()) else { break };
            let covered = around.is_covered(&key);
            let child = self.tracks.get_mut(&key).and_then(|track| match covered {
                true => track.children.let_go(link, now),
                false => track.children.remove(link),
            });
            if let Some(child) = child {
                let message = Message::Lost { track: key.clone(), alias: child.alias, broken: None };
                self.events.push(Event::Send(link, message));
                self.refusals.made_room += 1;
            }
            self.dirty.insert(key);
        }
    }
}
