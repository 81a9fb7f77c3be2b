//! A wire whose rate changes, with a queue that drops what does not fit, and a radio behind it.

use std::collections::{BinaryHeap, VecDeque};

/// Numbers that look random and are the same for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to 1.
    pub fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub flow: usize,
    pub number: u64,
    pub octets: usize,
}

/// What arrives, by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    pub at: u64,
    pub packet: Packet,
    /// In the queue, microseconds.
    pub waited: u64,
}

/// How packets are lost besides the queue, and how they are delayed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Radio {
    /// The share of packets at which a loss begins.
    pub loss: f64,
    /// How many are lost then, one after the other.
    pub burst: u32,
    /// At most, microseconds.
    pub jitter: u64,
    /// Packets may overtake each other.
    pub reorders: bool,
}

#[derive(Debug)]
pub struct Wire {
    /// From which microsecond on it carries how many bits per second.
    pub steps: Vec<(u64, f64)>,
    pub radio: Radio,
    /// What the queue holds at most, in microseconds.
    pub longest_queue: f64,
    /// From which microsecond on the way is so much longer.
    pub detour: Option<(u64, u64)>,
    dice: Dice,
    queue: VecDeque<(u64, Packet)>,
    queued_octets: usize,
    free: u64,
    arriving: BinaryHeap<std::cmp::Reverse<Arrival>>,
    newest: u64,
    losing: u32,
}

pub const ONE_WAY_US: u64 = 20_000;
const LONGEST_QUEUE_US: f64 = 200_000.0;

impl Wire {
    pub fn new(steps: &[(f64, f64)], radio: Radio, seed: u64) -> Wire {
        Wire {
            steps: steps.iter().map(|(seconds, rate)| ((seconds * 1e6) as u64, *rate)).collect(),
            radio,
            longest_queue: LONGEST_QUEUE_US,
            detour: None,
            dice: Dice::new(seed),
            queue: VecDeque::new(),
            queued_octets: 0,
            free: 0,
            arriving: BinaryHeap::new(),
            newest: 0,
            losing: 0,
        }
    }

    pub fn rate(&self, now: u64) -> f64 {
        self.steps.iter().rev().find(|(from, _)| *from <= now).map_or(1e6, |(_, rate)| *rate)
    }

    /// Takes a packet, if there is room for it.
    pub fn send(&mut self, packet: Packet, now: u64) {
        self.advance(now);
        let octets = self.queued_octets + packet.octets;
        let room = octets as f64 * 8e6 / self.rate(now) <= self.longest_queue || self.queue.is_empty();
        if room {
            self.queue.push_back((now, packet));
            self.queued_octets = octets;
        }
    }

    /// What has arrived by now.
    pub fn poll(&mut self, now: u64) -> Option<Arrival> {
        self.advance(now);
        let due = self.arriving.peek().is_some_and(|arrival| arrival.0.at <= now);
        due.then(|| self.arriving.pop().map(|arrival| arrival.0)).flatten()
    }

    fn advance(&mut self, now: u64) {
        while let Some((queued, packet)) = self.queue.front().copied() {
            let start = self.free.max(queued);
            let end = start + (packet.octets as f64 * 8e6 / self.rate(start)) as u64;
            if end > now {
                return;
            }
            self.queue.pop_front();
            self.queued_octets -= packet.octets;
            self.free = end;
            if self.losing == 0 && self.dice.roll() < self.radio.loss {
                self.losing = self.radio.burst.max(1);
            }
            if self.losing > 0 {
                self.losing -= 1;
                continue;
            }
            let mut at = end + ONE_WAY_US + (self.dice.roll() * self.radio.jitter as f64) as u64;
            at += self.detour.filter(|(from, _)| *from <= end).map_or(0, |(_, longer)| longer);
            if !self.radio.reorders {
                at = at.max(self.newest);
            }
            self.newest = self.newest.max(at);
            self.arriving.push(std::cmp::Reverse(Arrival { at, packet, waited: start - queued }));
        }
    }
}
