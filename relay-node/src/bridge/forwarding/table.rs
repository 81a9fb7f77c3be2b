//! What other threads do with the ways of media: the node loop decides where each track goes and replaces the table
//! whole; the packet path reads it, and media threads put packets into the intakes of links. Nobody waits for anybody.

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use protocol::mesh::{Alias, Class, DatagramHeader, DatagramKind};

use super::packet::{LANES, Packet, lane};
use crate::bridge::{LinkId, link::handle::LinkSender};

/// Packets each lane holds until the bridges' thread takes them, which is at once while it lives.
/// Beside a busy core that is 50 ms and more now and then: of video it is what comes in 100 ms at 200 Mbit/s.
const BOUNDS: [usize; LANES] = [64, 256, 2048, 256];

/// Tracks of a link that wait for a keyframe at a time, at most.
const KEYFRAMES_MAX: usize = 64;

/// Takes the packets of tracks that are wanted on this relay: the track's local number, the header as
/// it came, the payload. Called from the bridges' thread, so it may neither block nor take long.
pub type LocalDelivery = Arc<dyn Fn(u32, DatagramHeader, Bytes) + Send + Sync>;

/// Rows that left the table and are remembered.
const LEFT_MAX: usize = 1024;

/// The table in force, and what left it.
#[derive(Debug, Default)]
pub struct Forwarding {
    table: ArcSwap<Table>,
    left: ArcSwap<Left>,
}

/// Tracks that neighbors still send for a moment: they have not heard yet that nobody wants them here. An alias does not
/// come back before 65,535 others, so it is remembered for as long as there is room.
#[derive(Debug, Clone, Default)]
struct Left {
    /// With how many had left before it.
    rows: HashMap<(LinkId, Alias), u64>,
    count: u64,
}

impl Forwarding {
    /// Starts with an empty table.
    pub fn new() -> Forwarding {
        Forwarding::default()
    }

    /// Puts another table in force; packets on their way finish under the old one.
    pub fn replace(&self, table: Table) {
        let before = self.table.load();
        let gone: Vec<_> =
            before.incoming.keys().filter(|row| !table.incoming.contains_key(row)).copied().collect();
        if !gone.is_empty() {
            // Before the table: a packet that is not in it any more is found here.
            let mut left = Left::clone(&self.left.load());
            left.handle_gone(gone);
            self.left.store(Arc::new(left));
        }
        self.table.store(Arc::new(table));
    }

    /// The table in force.
    pub fn load(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Whether a track was in the table not long ago.
    pub fn has_left(&self, link: LinkId, alias: Alias) -> bool {
        self.left.load().rows.contains_key(&(link, alias))
    }
}

impl Left {
    fn handle_gone(&mut self, gone: Vec<(LinkId, Alias)>) {
        for row in gone {
            self.rows.insert(row, self.count);
            self.count += 1;
        }
        if self.rows.len() > LEFT_MAX {
            let oldest = self.count - LEFT_MAX as u64;
            self.rows.retain(|_, count| *count >= oldest);
        }
    }
}

/// Every track that crosses this relay.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Tracks that come from neighbors.
    pub incoming: HashMap<(LinkId, Alias), Route>,
    /// Tracks published here, by local number: the neighbors that want them.
    pub local: HashMap<u32, Vec<Child>>,
}

/// What happens to the packets of one track from one neighbor.
#[derive(Debug, Clone)]
pub struct Route {
    /// The track: the same number for all its feeds, whatever link and alias they come with, for as long as it
    /// is in the table. Each packet of it is taken once.
    pub track: u64,
    /// The track's local number if this relay has listeners for it.
    pub local: Option<u32>,
    /// The priority on the next links.
    pub class: Class,
    /// The neighbors that want it.
    pub children: Vec<Child>,
}

/// A neighbor that asked for a track.
#[derive(Debug, Clone)]
pub struct Child {
    /// The way to it.
    pub link: LinkSender,
    /// The number it chose for the track.
    pub alias: Alias,
    /// Which of the pictures go first where the link is too thin: those of the highest. 0 is the base of a picture, or
    /// all there is of it.
    pub precedence: u8,
}

impl Child {
    /// Queues a media packet of the track, see [`LinkSender::send_media`].
    pub fn send_media(&self, class: Class, kind: DatagramKind, epoch: u8, payload: &Bytes) {
        let Child { alias, precedence, .. } = *self;
        self.link.queue(Packet { kind, class, epoch, alias, precedence, payload: payload.clone() });
    }
}

impl LinkSender {
    /// Queues a media packet. Never blocks: when the queue of its class is full the oldest packet of
    /// that class goes.
    pub fn send_media(&self, class: Class, kind: DatagramKind, epoch: u8, alias: Alias, payload: &Bytes) {
        self.queue(Packet { kind, class, epoch, alias, precedence: 0, payload: payload.clone() });
    }

    /// The next track, by the alias that the neighbor chose, of which it needs a keyframe: what was before it was shed
    /// because the link is too thin. What is not polled is asked for again.
    pub fn poll_keyframe_wanted(&self) -> Option<Alias> {
        self.0.intake.keyframes.pop()
    }

    fn queue(&self, packet: Packet) {
        let link = &*self.0;
        if !link.is_open() {
            link.counters.link_down.increment(1);
            return;
        }
        if !link.intake.push(packet) {
            link.counters.queue_full.increment(1);
        }
        link.wake();
    }
}

/// What other threads have for one link: a bounded queue for each lane, without a lock.
#[derive(Debug)]
pub(crate) struct Intake {
    lanes: [ArrayQueue<Packet>; LANES],
    /// The other way: tracks of which the neighbor needs a keyframe.
    keyframes: ArrayQueue<Alias>,
}

impl Default for Intake {
    fn default() -> Intake {
        Intake { lanes: BOUNDS.map(ArrayQueue::new), keyframes: ArrayQueue::new(KEYFRAMES_MAX) }
    }
}

impl Intake {
    /// From any thread; `false` if the oldest of its lane had to go to make room.
    pub fn push(&self, packet: Packet) -> bool {
        self.lanes[lane(packet.class)].force_push(packet).is_none()
    }

    /// Everything that is there, most urgent first.
    pub fn drain(&self, mut take: impl FnMut(Packet)) {
        for queue in &self.lanes {
            // Not for ever: what comes meanwhile has woken the reader again.
            for _ in 0..queue.capacity() {
                let Some(packet) = queue.pop() else { break };
                take(packet);
            }
        }
    }

    /// A track of which the neighbor needs a keyframe.
    pub fn want_keyframe(&self, alias: Alias) {
        self.keyframes.force_push(alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(aliases: impl IntoIterator<Item = u16>) -> Table {
        let row = |alias| {
            let route = Route { track: 1, local: None, class: Class::Audio, children: Vec::new() };
            ((LinkId(7), Alias(alias)), route)
        };
        Table { incoming: aliases.into_iter().map(row).collect(), local: HashMap::new() }
    }

    #[test]
    fn a_track_that_left_the_table_is_remembered_and_one_that_never_was_there_is_not() {
        let forwarding = Forwarding::new();
        forwarding.replace(table([1, 2]));
        forwarding.replace(table([2, 3]));
        let left = |alias| forwarding.has_left(LinkId(7), Alias(alias));
        assert_eq!([1, 2, 3, 4].map(left), [true, false, false, false]);
        assert!(!forwarding.has_left(LinkId(8), Alias(1)));
        forwarding.replace(table([]));
        assert_eq!([1, 2, 3, 4].map(left), [true, true, true, false]);
    }

    #[test]
    fn of_many_that_left_the_newest_are_remembered() {
        let forwarding = Forwarding::new();
        for alias in 0..3000 {
            forwarding.replace(table([alias]));
        }
        let left: Vec<u16> =
            (0..3000).filter(|alias| forwarding.has_left(LinkId(7), Alias(*alias))).collect();
        assert_eq!(left, (2999 - LEFT_MAX as u16..2999).collect::<Vec<_>>());
    }
}
