//! A wire between two relays: what it does to what crosses it, in each direction, and what is on it.
//! How messages and packets cross it is in `carry.rs`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{media::Packet, random::Random};
use crate::LinkId;

/// Streams of a link: one for each class.
pub(super) const LANES: usize = 8;
/// What fits into one datagram, in bytes.
pub(super) const SEGMENT: usize = 1200;
/// A receiver holds its acknowledgement back for up to this.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// What is the matter with a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nothing.
    Good,
    /// Nothing gets through, and nobody says so.
    Silent,
    /// Nothing gets through to this end (0 or 1), and nobody says so.
    Deaf(usize),
    /// Nothing gets through, and both drivers know.
    Cut,
}

/// What a wire does to what crosses it, either way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// On the way, in microseconds.
    pub delay_us: u64,
    /// At most so much more, in microseconds, each packet another.
    #[serde(default)]
    pub jitter_us: u64,
    /// Share of packets lost, 0 to 1.
    #[serde(default)]
    pub loss: f64,
    /// How long it loses everything when it loses something (Gilbert and Elliott's model), on average, in
    /// milliseconds; 0 if each packet is lost for itself.
    #[serde(default)]
    pub burst_ms: u32,
    /// In bit/s; 0 if there is no limit.
    #[serde(default)]
    pub rate: u64,
    /// Media may wait so long for a wire with a rate, in milliseconds.
    #[serde(default = "queue")]
    pub queue_ms: u32,
}

fn queue() -> u32 {
    100
}

impl Default for Quality {
    fn default() -> Quality {
        Quality { delay_us: 1000, jitter_us: 0, loss: 0.0, burst_ms: 0, rate: 0, queue_ms: queue() }
    }
}

impl Quality {
    /// A wire of a field: 0.5 to 8.5 ms, up to 2 ms of jitter, nothing lost, no limit.
    pub fn usual(random: &mut Random) -> Quality {
        let (delay_us, jitter_us) = (500 + random.below(8_000), 1 + random.below(2_000));
        Quality { delay_us, jitter_us, ..Quality::default() }
    }

    /// A round trip without jitter.
    pub fn rtt(&self) -> Duration {
        Duration::from_micros(self.delay_us * 2)
    }

    pub(super) fn transit(&self, random: &mut Random) -> Duration {
        let jitter = if self.jitter_us == 0 { 0 } else { random.below(self.jitter_us) };
        Duration::from_micros(self.delay_us + jitter)
    }

    /// When a sender notices a loss (RFC 9002 section 6.2: the probe timeout, doubling).
    pub(super) fn notice(&self, attempt: u8) -> Duration {
        let timeout = self.rtt() + Duration::from_micros(self.jitter_us * 2) + ACK_DELAY;
        timeout * (1 << attempt.min(4))
    }

    pub(super) fn crossing(&self, bytes: usize) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((bytes as u64 * 8).saturating_mul(1_000_000_000) / self.rate)
    }

    /// Bytes of media that may wait.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.rate.saturating_mul(self.queue_ms.into()) / 8000).unwrap_or(usize::MAX).max(3000)
    }
}

/// What was counted in one direction of a wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Messages that arrived.
    pub messages: u64,
    /// Their bytes.
    pub message_bytes: u64,
    /// Media packets that arrived.
    pub packets: u64,
    /// Datagrams sent: media, and parts of messages.
    pub sent: u64,
    /// How many of them were lost on the way.
    pub lost: u64,
    /// Media packets that found no room before the wire.
    pub dropped: u64,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub bytes: Bytes,
    pub progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Waits for the wire, or is on it, or will be sent again: an event tells what comes of it.
    Under,
    /// So many parts were sent into silence.
    Stalled(u16),
    /// It is there, and waits for those before it.
    There,
}

/// A reliable stream: in order.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub first: u64,
    pub flights: VecDeque<Flight>,
}

/// What waits for a wire with a rate.
#[derive(Debug)]
pub(super) enum Waiting {
    Message { index: u64, parts: u16, left: usize },
    Packet { packet: Packet, bytes: usize },
}

/// One direction of a wire.
#[derive(Debug)]
pub(super) struct Way {
    pub life: u32,
    pub lanes: [Lane; LANES],
    pub waiting: [VecDeque<Waiting>; LANES],
    /// Bytes of media among what waits.
    pub media: usize,
    pub departing: bool,
    pub bad: bool,
    pub turns: Instant,
    pub carried: Carried,
    /// What was sent and lost when it was measured last.
    pub measured: (u64, u64),
}

impl Way {
    fn new(now: Instant) -> Way {
        Way {
            life: 0,
            lanes: Default::default(),
            waiting: Default::default(),
            media: 0,
            departing: false,
            bad: false,
            turns: now,
            carried: Carried::default(),
            measured: (0, 0),
        }
    }

    /// Nothing that is on the way, or waits for it, arrives any more.
    pub fn clear(&mut self) {
        self.life += 1;
        self.lanes = Default::default();
        self.waiting = Default::default();
        (self.media, self.departing) = (0, false);
    }

    /// Whether a datagram sent now is lost.
    pub fn loses(&mut self, quality: &Quality, random: &mut Random, now: Instant) -> bool {
        self.carried.sent += 1;
        let lost = quality.loss > 0.0 && self.bad_now(quality, random, now);
        self.carried.lost += u64::from(lost);
        lost
    }

    fn bad_now(&mut self, quality: &Quality, random: &mut Random, now: Instant) -> bool {
        if quality.burst_ms == 0 {
            return random.share() < quality.loss;
        }
        let bad = f64::from(quality.burst_ms) / 1000.0;
        let good = bad * (1.0 - quality.loss) / quality.loss;
        // After a long rest the state is anyone's guess.
        if now > self.turns + Duration::from_secs_f64((bad + good) * 4.0) {
            self.bad = random.share() < quality.loss;
            self.turns = now + random.around(if self.bad { bad } else { good });
        }
        while self.turns <= now {
            self.bad = !self.bad;
            self.turns += random.around(if self.bad { bad } else { good });
        }
        self.bad
    }
}

/// A wire between two relays; a link at each end while both are alive.
#[derive(Debug)]
pub struct Wire {
    /// The relays at its ends, by index.
    pub ends: [usize; 2],
    /// What is the matter with it.
    pub condition: Condition,
    /// What it does to what crosses it.
    pub quality: Quality,
    /// The links of its ends, while the drivers have them.
    pub links: [Option<LinkId>; 2],
    /// Toward its ends.
    pub(super) ways: [Way; 2],
    pub(super) silent_since: Option<Instant>,
    pub(super) watched: bool,
}

impl Wire {
    pub(super) fn new(ends: [usize; 2], quality: Quality, now: Instant) -> Wire {
        Wire {
            ends,
            condition: Condition::Good,
            quality,
            links: [None; 2],
            ways: [Way::new(now), Way::new(now)],
            silent_since: None,
            watched: false,
        }
    }

    /// Whether nothing gets through to this end.
    pub fn silent(&self, end: usize) -> bool {
        match self.condition {
            Condition::Good => false,
            Condition::Silent | Condition::Cut => true,
            Condition::Deaf(deaf) => deaf == end,
        }
    }

    /// What was counted toward this end.
    pub fn carried(&self, end: usize) -> Carried {
        self.ways[end].carried
    }
}
