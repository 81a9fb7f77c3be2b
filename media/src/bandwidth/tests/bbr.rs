//! A flow that sends as fast as it was seen to arrive, and a little more now and then, as BBR does: it keeps a queue of
//! about a round trip, loses nothing, and stops for a moment each ten seconds to see how short the way is.

use std::collections::{BTreeMap, VecDeque};

use super::{
    tcp::{Flow, SEGMENT},
    wire::ONE_WAY_US,
};

#[derive(Debug)]
pub struct Bbr {
    from: u64,
    next: u64,
    /// When each left, and how much had been delivered by then.
    flying: BTreeMap<u64, (u64, u64)>,
    /// Octets.
    delivered: u64,
    /// Rates of the last rounds, octets a second.
    rates: VecDeque<(u64, f64)>,
    /// The shortest round trip and when it was seen, microseconds.
    least: (u64, u64),
    paced_at: u64,
    resting_until: u64,
    /// Doubles until the rate does not grow any more.
    begins: bool,
    best: (f64, u32),
    round_at: u64,
    cycle: usize,
}

const GAINS: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const REST_EVERY_US: u64 = 10_000_000;
const REST_US: u64 = 200_000;

impl Bbr {
    pub fn new(from: u64) -> Bbr {
        Bbr {
            from,
            next: 0,
            flying: BTreeMap::new(),
            delivered: 0,
            rates: VecDeque::new(),
            least: (2 * ONE_WAY_US, from),
            paced_at: from,
            resting_until: 0,
            begins: true,
            best: (0.0, 0),
            round_at: from,
            cycle: 0,
        }
    }

    fn rate(&self) -> f64 {
        self.rates.iter().map(|(_, rate)| *rate).fold(100_000.0, f64::max)
    }

    fn window(&self, now: u64) -> usize {
        if now < self.resting_until {
            return 4;
        }
        let gain = if self.begins { 2.9 } else { 2.0 };
        (gain * self.rate() * self.least.0 as f64 / 1e6 / SEGMENT as f64).max(4.0) as usize
    }
}

impl Flow for Bbr {
    fn poll(&mut self, now: u64) -> Option<u64> {
        if now < self.from || now < self.paced_at || self.flying.len() >= self.window(now) {
            return None;
        }
        let gain = if self.begins { 2.9 } else { GAINS[self.cycle] };
        let takes = SEGMENT as f64 * 1e6 / (gain * self.rate());
        self.paced_at = self.paced_at.max(now.saturating_sub(2_000)) + takes as u64;
        self.next += 1;
        self.flying.insert(self.next, (now, self.delivered));
        Some(self.next)
    }

    fn handle_ack(&mut self, number: u64, now: u64) {
        let Some((left, before)) = self.flying.remove(&number) else { return };
        // What was overtaken by so many is lost, and changes nothing.
        self.flying.retain(|other, _| *other + 3 > number);
        self.delivered += SEGMENT as u64;
        let took = now.saturating_sub(left).max(1);
        self.rates.push_back((now, (self.delivered - before) as f64 * 1e6 / took as f64));
        while self.rates.front().is_some_and(|(at, _)| at + 10 * self.least.0.max(took) < now) {
            self.rates.pop_front();
        }
        if took <= self.least.0 {
            self.least = (took, now);
        } else if now > self.least.1 + REST_EVERY_US {
            self.least = (took, now);
            self.resting_until = now + REST_US;
        }
        if now >= self.round_at + took {
            self.round_at = now;
            self.cycle = (self.cycle + 1) % GAINS.len();
            if self.rate() > 1.25 * self.best.0 {
                self.best = (self.rate(), 0);
            } else {
                self.best.1 += 1;
                self.begins &= self.best.1 < 3;
            }
        }
    }
}
