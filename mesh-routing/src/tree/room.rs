//! What links have room for. Each track is planned with the rate that its origin says of it, and a link with most of what
//! it is thought to carry. Sound has room before any picture, and the base of any picture before the better encodings of
//! others. What becomes of a child that has none is its own affair.

use std::cmp::Reverse;

use protocol::{Kind, mesh::TrackKey};

use crate::{
    tree::{
        Trees,
        view::{Event, TreeView},
    },
    wire::{message::Message, metric::LinkId},
};

/// Share of a link's capacity for media, in per cent. The rest is for control, for repairs, and for being wrong about the
/// capacity and the rates.
const FILL: u64 = 85;

/// A track that is sent to the child on a link.
struct Sent<'a> {
    key: &'a TrackKey,
    since: std::time::Instant,
    rank: u8,
    rate: u64,
    /// Listeners that gain by it, as the child says; one if it does not.
    behind: u16,
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
    pub(super) fn settle_capacities(&mut self, around: &TreeView<'_>) {
        self.capacities.retain(|link, _| around.links.contains_key(link));
        while let Some(link) = self.tight.pop_first() {
            self.make_room(link, 0, 0, around);
        }
    }

    /// Whether a link has room for a track; for sound it is made, and for what is all there is of a picture as far as better
    /// encodings of others can give way.
    pub(super) fn fits(&mut self, key: &TrackKey, link: LinkId, around: &TreeView<'_>) -> bool {
        let Some(room) = self.room(link) else { return true };
        let rate = around.rate(key);
        if key.track.kind() == Kind::Audio {
            self.make_room(link, rate, 0, around);
            return true;
        }
        let rank = around.rank(key);
        let planned = |which: &dyn Fn(&Sent<'_>) -> bool| {
            self.sent(link, around).filter(which).map(|sent| sent.rate).sum::<u64>()
        };
        if rank == 0 {
            let fits = planned(&|sent| sent.rank == 0) + rate <= room;
            if fits {
                self.make_room(link, rate, 1, around);
            }
            return fits;
        }
        // One above the base is sent of each picture: it takes the place of the one before.
        let stays = |sent: &Sent<'_>| {
            sent.rank == 0 || (&sent.key.origin, &sent.key.stream) != (&key.origin, &key.stream)
        };
        planned(&stays) + rate <= room
    }

    /// What is planned with of a link, if its capacity is known.
    fn room(&self, link: LinkId) -> Option<u64> {
        self.capacities.get(&link).map(|capacity| capacity.saturating_mul(FILL) / 100)
    }

    /// What is sent to the child on a link.
    fn sent<'a>(&'a self, link: LinkId, around: &'a TreeView<'_>) -> impl Iterator<Item = Sent<'a>> {
        self.tracks.iter().filter_map(move |(key, track)| {
            let child = track.children.get(link).filter(|child| child.ask.active)?;
            let (rank, rate) = (around.rank(key), around.rate(key));
            Some(Sent { key, since: child.since, rank, rate, behind: child.ask.behind.max(1) })
        })
    }

    /// Lets pictures of a link go until there is room for `more`: the best encodings first, of these those by which the
    /// fewest listeners gain, then the newest, and none below a rank.
    fn make_room(&mut self, link: LinkId, more: u64, lowest: u8, around: &TreeView<'_>) {
        let Some(room) = self.room(link) else { return };
        while self.sent(link, around).map(|sent| sent.rate).sum::<u64>() + more > room {
            let goes = |sent: &Sent<'_>| sent.key.track.kind() == Kind::Video && sent.rank >= lowest;
            let first = |sent: &Sent<'_>| (sent.rank, Reverse(sent.behind), sent.since, sent.key.clone());
            let Some(key) =
                self.sent(link, around).filter(goes).max_by_key(first).map(|sent| sent.key.clone())
            else {
                break;
            };
            if let Some(child) = self.tracks.get_mut(&key).and_then(|track| track.children.remove(link)) {
                let message = Message::Lost { track: key.clone(), alias: child.alias, broken: None };
                self.events.push(Event::Send(link, message));
                self.refusals.made_room += 1;
            }
            self.dirty.insert(key);
        }
    }
}
