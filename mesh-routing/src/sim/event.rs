//! What is going to happen, in order of time, then in the order in which it was decided: a heap whose
//! entries say for themselves when they are out of date.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Instant,
};

use super::media::Packet;

/// A direction of a wire in one life of its link: what was meant for another life is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Toward {
    pub wire: u32,
    pub end: u8,
    pub life: u32,
}

#[derive(Debug)]
pub(super) enum Event {
    /// All of a message is there.
    Arrive { toward: Toward, lane: u8, index: u64 },
    /// The sender has noticed that parts of a message were lost, and sends them again.
    Resend { toward: Toward, lane: u8, index: u64, missing: u16, attempt: u8 },
    /// The wire is free for what waits.
    Depart { toward: Toward },
    /// A packet is there.
    Media { toward: Toward, packet: Packet },
    /// A relay's deadline, unless it has moved.
    Due { relay: u32 },
    /// A driver that slept goes on.
    Wake { relay: u32 },
    /// Drivers give a wire up that has been silent since then.
    GiveUp { wire: u32, since: Instant },
    /// Drivers look at what a wire lost.
    Measure { wire: u32 },
    /// A disk has written something, if the relay had power all the time.
    Written { relay: u32, run: u32 },
    /// Publishers send.
    Tick,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Everything that is going to happen.
#[derive(Debug, Default)]
pub(super) struct Events {
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Events {
    pub fn push(&mut self, at: Instant, event: Event) {
        self.number += 1;
        self.heap.push(Reverse(Entry { at, number: self.number, event }));
    }

    /// The next thing that happens until then.
    pub fn pop(&mut self, until: Instant) -> Option<(Instant, Event)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
}
