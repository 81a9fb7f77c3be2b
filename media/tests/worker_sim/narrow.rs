//! The narrow wire of one listener: so many bits per second, behind a queue that drops what does not fit.

use std::time::{Duration, Instant};

/// A wire with a queue before it.
pub struct Narrow {
    /// Bits per second.
    pub rate: u64,
    /// The longest wait in the queue.
    pub longest: Duration,
    /// When all that was taken has left.
    free_at: Instant,
    pub dropped: usize,
    /// How long each packet waited, and when it came.
    pub waits: Vec<(Instant, Duration)>,
}

impl Narrow {
    pub fn new(rate: u64, longest: Duration, now: Instant) -> Narrow {
        Narrow { rate, longest, free_at: now, dropped: 0, waits: Vec::new() }
    }

    /// When a datagram is through, if it is not dropped. IP and UDP take their part.
    pub fn pass(&mut self, octets: usize, now: Instant) -> Option<Instant> {
        let wait = self.free_at.saturating_duration_since(now);
        if wait > self.longest {
            self.dropped += 1;
            return None;
        }
        self.waits.push((now, wait));
        let takes = Duration::from_nanos((octets as u64 + 28) * 8_000_000_000 / self.rate);
        self.free_at = self.free_at.max(now) + takes;
        Some(self.free_at)
    }

    /// The wait that 95 of 100 packets stay below, of those from `from` to `to`.
    pub fn p95(&self, from: Instant, to: Instant) -> Duration {
        let within = |wait: &&(Instant, Duration)| wait.0 >= from && wait.0 < to;
        let mut waits: Vec<Duration> = self.waits.iter().filter(within).map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        waits.get(waits.len() * 95 / 100).copied().unwrap_or_default()
    }
}
