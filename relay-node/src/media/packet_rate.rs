//! How many packets a second leave for listeners: each media thread says its part, whoever opens a session reads the sum.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Packets a second, of all media threads.
#[derive(Debug, Clone)]
pub struct PacketRate(Arc<[AtomicU64]>);

impl PacketRate {
    /// Of so many threads, none of which has sent anything.
    pub fn new(threads: usize) -> PacketRate {
        PacketRate((0..threads).map(|_| AtomicU64::new(0)).collect())
    }

    /// So many packets left a thread in this time.
    pub fn set(&self, thread: usize, packets: u64, time: Duration) {
        if let Some(rate) = self.0.get(thread) {
            let micros = (time.as_micros() as u64).max(1);
            rate.store(packets.saturating_mul(1_000_000) / micros, Ordering::Relaxed);
        }
    }

    /// Of all threads.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|rate| rate.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_sum_of_what_threads_said_last() {
        let rate = PacketRate::new(2);
        let half = Duration::from_millis(500);
        rate.set(0, 9000, half);
        rate.set(1, 1000, half);
        rate.set(2, 1000, half);
        assert_eq!(rate.total(), 20_000);
        rate.clone().set(0, 0, half);
        assert_eq!(rate.total(), 2000);
        rate.set(0, 5, Duration::ZERO);
    }
}
