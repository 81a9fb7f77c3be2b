//! What a connection has room for, as its scheduler sees it: the congestion control writes it, the task that sends reads it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures_util::task::AtomicWaker;

use super::capacity::Delivered;

/// Twelve packets. More of them at a time are fewer system calls, but behind those nothing urgent passes.
const BUFFER: u64 = 16 * 1024;

/// What a connection has room for, as its scheduler sees it.
#[derive(Debug, Default)]
pub struct SendBudget {
    pub(super) window: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) mtu: AtomicU64,
    pub(super) rtt_micros: AtomicU64,
    pub(super) shortest_micros: AtomicU64,
    /// What may be sent past a full window.
    pub(super) credit: AtomicU64,
    /// What quinn holds and may send past it.
    pub(super) past: AtomicU64,
    /// Something was sent past it since the last acknowledgement.
    pub(super) passed: AtomicBool,
    pub(super) delivered: AtomicU64,
    /// Of what was delivered, what was while the path was full, and how long that was.
    pub(super) full_bytes: AtomicU64,
    pub(super) full_micros: AtomicU64,
    /// Media waits for room.
    pub(super) wanted: AtomicBool,
    /// Woken when there may be more room, or more to send.
    pub waker: AtomicWaker,
}

impl SendBudget {
    /// Bytes that may be handed to quinn now. What waits behind the reserve is for the streams: control never
    /// finds the window full of media.
    pub fn for_media(&self, buffered: u64) -> u64 {
        let room = self.window.load(Relaxed).saturating_sub(self.reserve());
        self.for_urgent(buffered).min(room.saturating_sub(self.used(buffered)))
    }

    /// Of the window, what media leaves free.
    pub(super) fn reserve(&self) -> u64 {
        let window = self.window.load(Relaxed);
        (window / 8).clamp(2 * self.mtu.load(Relaxed), 16 * 1024)
    }

    /// Bytes of sound, and of what goes before it, that may be handed to quinn although the window is full.
    pub fn past_window(&self, buffered: u64) -> u64 {
        self.credit.load(Relaxed).saturating_sub(buffered)
    }

    /// Of what quinn holds now, as much as may is sent although the window is full.
    pub fn handle_past(&self, buffered: u64) {
        let past = buffered.min(self.credit.load(Relaxed));
        self.past.store(past, Relaxed);
        self.passed.fetch_or(past > 0, Relaxed);
    }

    /// As [`SendBudget::for_media`] for sound and what goes before it: with the reserve.
    pub fn for_urgent(&self, buffered: u64) -> u64 {
        // quinn sends nothing once less than a packet of the window is left.
        self.window.load(Relaxed).saturating_sub(self.mtu.load(Relaxed)).saturating_sub(self.used(buffered))
    }

    /// Bytes that quinn's own queue should hold at most: what leaves within 4 ms up to [`BUFFER`], more only if it leaves
    /// within 1 ms, and three packets.
    pub fn buffer(&self) -> u64 {
        let rtt = self.rtt_micros.load(Relaxed).max(1000);
        let leaves_within = |micros| self.window.load(Relaxed).saturating_mul(micros) / rtt;
        leaves_within(4000).min(BUFFER.max(leaves_within(1000))).max(3 * self.mtu.load(Relaxed))
    }

    /// Whether media waits for room.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Relaxed);
    }

    /// What was delivered so far, and what of it while the link was full.
    pub fn delivered(&self) -> Delivered {
        Delivered {
            bytes: self.delivered.load(Relaxed),
            full_bytes: self.full_bytes.load(Relaxed),
            full_time: Duration::from_micros(self.full_micros.load(Relaxed)),
        }
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_micros.load(Relaxed))
    }

    /// The shortest round trip lately, if there was one.
    pub fn shortest(&self) -> Option<Duration> {
        Some(self.shortest_micros.load(Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }

    pub(super) fn wake(&self) {
        if self.wanted.load(Relaxed) {
            self.waker.wake();
        }
    }

    fn used(&self, buffered: u64) -> u64 {
        self.in_flight.load(Relaxed).saturating_add(buffered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1350;

    #[test]
    fn quinn_holds_more_only_where_it_leaves_at_once() {
        let budget = SendBudget::default();
        let buffer = |window: u64, rtt: u64| {
            budget.window.store(window, Relaxed);
            budget.rtt_micros.store(rtt, Relaxed);
            budget.mtu.store(MTU, Relaxed);
            budget.buffer()
        };
        assert_eq!(buffer(256 * 1024, 300), 256 * 1024, "a neighbor nearby");
        assert_eq!(buffer(256 * 1024, 8_000), 32 * 1024);
        assert_eq!(buffer(256 * 1024, 40_000), BUFFER, "100 Mbit/s over 20 ms and less");
        assert_eq!(buffer(40 * 1024, 40_000), 4 * 1024, "8 Mbit/s");
        assert_eq!(buffer(10 * 1024, 40_000), 3 * MTU);
    }
}
