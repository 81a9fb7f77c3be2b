//! A flow that fills the queue until something is lost, as TCP with additive increase and halving does.

use std::collections::BTreeSet;

/// Somebody else's flow. Times are in microseconds.
pub trait Flow {
    /// The number of a segment that may leave now.
    fn poll(&mut self, now: u64) -> Option<u64>;

    /// A segment has arrived, and the word of it too.
    fn handle_ack(&mut self, number: u64, now: u64);
}

#[derive(Debug)]
pub struct Tcp {
    window: f64,
    threshold: f64,
    next: u64,
    flying: BTreeSet<u64>,
    /// Losses below belong to what the window was halved for.
    recover: u64,
    acked_at: u64,
    pub from: u64,
    pub to: u64,
}

pub const SEGMENT: usize = 1200;

impl Tcp {
    pub fn new(from: u64) -> Tcp {
        Tcp {
            window: 4.0,
            threshold: 1e9,
            next: 0,
            flying: BTreeSet::new(),
            recover: 0,
            acked_at: 0,
            from,
            to: u64::MAX,
        }
    }
}

impl Flow for Tcp {
    fn poll(&mut self, now: u64) -> Option<u64> {
        if now < self.from || now > self.to {
            return None;
        }
        if now > self.acked_at.max(self.from) + 1_000_000 {
            (self.window, self.acked_at) = (2.0, now);
            self.flying.clear();
        }
        ((self.flying.len() as f64) < self.window).then(|| {
            self.next += 1;
            self.flying.insert(self.next);
            self.next
        })
    }

    fn handle_ack(&mut self, number: u64, now: u64) {
        self.acked_at = now;
        if !self.flying.remove(&number) {
            return;
        }
        let lost: Vec<u64> = self.flying.range(..number.saturating_sub(3)).copied().collect();
        for lost in lost {
            self.flying.remove(&lost);
            if lost > self.recover {
                self.window = (self.window / 2.0).max(2.0);
                self.threshold = self.window;
                self.recover = self.next;
            }
        }
        self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
    }
}
