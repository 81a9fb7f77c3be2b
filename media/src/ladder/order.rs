//! Packets of a stage in the order of their numbers. A number that is missing is waited for, a short while.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::rtp::{self, packet::Packet};

/// A missing packet is waited for so long after the first packet behind it: a publisher's repair takes a round trip.
pub const PATIENCE: Duration = Duration::from_millis(60);
/// Packets that wait behind a missing one. More come of the shortest frames only: 48 are 120 ms of those.
const WAITING_MAX: usize = 48;
/// So many packets in a row that are too late: the numbers have jumped back.
const LATE_MAX: u32 = 50;

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// This packet.
    Packet(Packet),
    /// Packets that are given up: their numbers, wrapped around, from this one on.
    Missing {
        /// The first.
        first: u16,
        /// How many.
        count: u64,
    },
}

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is there, or its turn has come and gone.
    Late,
    /// As before, and so were many before it: whoever asks has to begin anew.
    Jumped,
}

/// Packets in order.
#[derive(Debug, Default)]
pub struct Order {
    /// The number that comes next.
    next: Option<u64>,
    waiting: BTreeMap<u64, (Packet, Instant)>,
    /// Packets in a row that were too late.
    late: u32,
}

/// Numbers start here, so that an early one never goes below zero.
const FIRST: u64 = 1 << 16;

impl Order {
    /// Begins with this number, if nothing has begun yet.
    pub fn begin(&mut self, sequence: u16) {
        self.next.get_or_insert(FIRST | u64::from(sequence));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Order::default();
    }

    /// Takes a packet, if its turn is still to come.
    ///
    /// # Errors
    ///
    /// It is too late, or it was here.
    pub fn handle_packet(&mut self, packet: Packet, now: Instant) -> Result<(), Refused> {
        self.begin(packet.sequence);
        let next = self.next.unwrap_or(FIRST);
        let number = rtp::extend(next, packet.sequence);
        if number < next || self.waiting.contains_key(&number) {
            self.late += 1;
            return Err(if self.late < LATE_MAX { Refused::Late } else { Refused::Jumped });
        }
        self.late = 0;
        self.waiting.insert(number, (packet, now));
        Ok(())
    }

    /// What comes next, once it is there or given up.
    pub fn poll(&mut self, now: Instant) -> Option<Step> {
        let (next, (&number, _)) = (self.next?, self.waiting.first_key_value()?);
        if number == next {
            self.next = Some(next + 1);
            return self.waiting.pop_first().map(|(_, (packet, _))| Step::Packet(packet));
        }
        if self.waiting.len() < WAITING_MAX && self.poll_timeout().is_some_and(|at| now < at) {
            return None;
        }
        self.next = Some(number);
        Some(Step::Missing { first: next as u16, count: number - next })
    }

    /// The first packet that waits.
    pub fn first_waiting(&self) -> Option<&Packet> {
        self.waiting.first_key_value().map(|(_, (packet, _))| packet)
    }

    /// When the missing packet is given up that others wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.values().map(|(_, came)| *came + PATIENCE).min()
    }
}
