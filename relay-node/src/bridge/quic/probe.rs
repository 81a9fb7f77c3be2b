//! Whether a link carries clearly more than it is thought to: a link that was thin is sent no more than it carried then, so
//! nothing else shows that it is wide again. A short datagram asks for the round trip, then a burst asks how much longer
//! that gets by it. What the answers leave open is no news. Says what to send; pure.
//!
//! The answers are datagrams, not QUIC's acknowledgements: those wait for 10 ms, about as long as what is to be seen.

use std::time::{Duration, Instant};

use super::shortest::Shortest;

/// A burst is what the link is thought to carry in this time. On a link that is no wider it leaves a queue as long.
const BURST: Duration = Duration::from_millis(20);
/// Before it, what was sent last has left but for this time.
const QUIET: Duration = Duration::from_millis(2);
/// Nor longer than this, or quinn would pace it. Links that are thought to carry more than it needs in [`BURST_LEAST`]
/// are not probed.
const OCTETS_MAX: u64 = 12 * 1024;
const OCTETS_LEAST: u64 = 160;
const BURST_LEAST: Duration = Duration::from_millis(12);
/// What QUIC adds to a datagram. What a link is thought to carry is counted with it, and without IP and UDP.
const OVERHEAD: u64 = 32;
/// From one to the next: a link that got wide is known after two that say so. Together with [`BURST`] less than 1 % of what
/// the link is thought to carry.
const PAUSE: Duration = Duration::from_millis(2500);
/// The longest pause after what turned out to be wrong: a shaper that lets bursts pass makes a thin link look wide.
const PAUSE_MAX: Duration = Duration::from_secs(160);
/// Between two of which one found more: the next step up.
const NEXT_STEP: Duration = Duration::from_millis(500);
/// Of what is found, the share in per cent that is believed.
const MARGIN: u64 = 90;
/// What is found counts if it is more than so many tenths of what was thought,
const CLEARLY: u64 = 13;
/// and at most so many times that is believed at once.
const STEP_MAX: u64 = 4;
/// What takes so many times as long as the burst on the link as it was thought to be is the work of chance or of others.
const DISTURBED: u64 = 2;
/// A link that is full so soon after more was found, and carries less than so many tenths of what it did before, was not wider.
const NO_MORE: u64 = 11;
const PROVEN: Duration = Duration::from_secs(30);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// A burst that finds no room for so long is not sent. And who sends about what the link is thought to carry may never seem
/// to have sent it all: after so long the link is asked for its round trip all the same, and that says whether a queue stands.
const STALE: Duration = Duration::from_millis(500);
/// Until it is looked again whether quinn has sent what it holds.
const AGAIN: Duration = Duration::from_millis(1);
/// A round trip longer than the shortest by this has met a queue.
const QUEUE: Duration = Duration::from_millis(5);
/// After that it is asked again.
const QUEUED: Duration = Duration::from_secs(1);
/// A round trip that was not seen for so long is not believed any more.
const BASE_AGE: Duration = Duration::from_secs(20);
/// Times that nobody answered after which the pause grows no more: 16 times the first.
const SILENCES: u32 = 4;

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A datagram as short as can be, that is answered.
    Ask(u16),
    /// So many octets behind headers, in datagrams one behind the other. The last one is answered.
    Burst(u16, u64),
    /// Room is waited for.
    Wait,
    /// What was sent has left then: ask again.
    Later(Instant),
    Nothing,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The link carries at least so many bits per second, clearly more than was thought.
    More(u64),
    /// It carries about what was thought.
    Same,
}

/// What a link has room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// Octets that may be sent now.
    pub room: u64,
    /// Of the longest datagram.
    pub longest: u64,
    /// Nothing waits, here or in quinn.
    pub idle: bool,
}

/// Probes of one link.
#[derive(Debug)]
pub(crate) struct Prober {
    believed: Option<u64>,
    step: Step,
    due: Option<Instant>,
    pause: Duration,
    number: u16,
    backlog: Backlog,
    /// Round trip of the answers.
    shortest: Shortest,
    /// What the last burst found, if it was clearly more.
    found: Option<u64>,
    /// What was believed before more was found, and when.
    raised: Option<(u64, Instant)>,
    /// Asked without an answer, in a row.
    silences: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Idle,
    Asked {
        number: u16,
        at: Instant,
    },
    /// The round trip is known, and the path is empty.
    Ready {
        since: Instant,
    },
    Sent {
        number: u16,
        octets: u64,
        at: Instant,
    },
}

/// What was sent and has not left yet, on a link that carries what it is thought to.
#[derive(Debug, Default)]
struct Backlog {
    bits: f64,
    at: Option<Instant>,
}

impl Default for Prober {
    fn default() -> Prober {
        Prober {
            believed: None,
            step: Step::Idle,
            due: None,
            pause: PAUSE,
            number: 0,
            backlog: Backlog::default(),
            shortest: Shortest::new(BASE_AGE),
            found: None,
            raised: None,
            silences: 0,
        }
    }
}

impl Prober {
    /// What the link is thought to carry now, in bits per second: without a thought there is nothing to find out.
    pub fn handle_believed(&mut self, bits: Option<u64>, now: Instant) {
        if let (Some((before, at)), Some(bits)) = (self.raised, bits) {
            if now >= at + PROVEN {
                (self.raised, self.pause) = (None, PAUSE);
            } else if bits * 10 < before * NO_MORE {
                self.raised = None;
                self.pause = (2 * self.pause).min(PAUSE_MAX);
                self.due = Some(now + self.pause);
            }
        }
        if self.believed.is_some() != bits.is_some() {
            (self.step, self.found) = (Step::Idle, None);
            self.due = bits.map(|_| now + self.pause);
        }
        self.believed = bits;
    }

    /// A datagram of this length leaves.
    #[inline]
    pub fn handle_sent(&mut self, octets: usize, now: Instant) {
        if let Some(bits) = self.believed {
            self.backlog.add(octets as u64 + OVERHEAD, bits, now);
        }
    }

    /// The next thing to send.
    pub fn poll(&mut self, path: &Path, now: Instant) -> Probe {
        let Some(bits) = self.believed else { return Probe::Nothing };
        self.give_up(now);
        let most = |time: Duration| (bits as f64 / 8.0 * time.as_secs_f64()) as u64;
        let octets = most(BURST).min(OCTETS_MAX);
        let is_due = match self.step {
            Step::Idle => self.due.is_some_and(|due| now >= due),
            Step::Ready { .. } => true,
            Step::Asked { .. } | Step::Sent { .. } => false,
        };
        if !is_due || octets < OCTETS_LEAST.max(most(BURST_LEAST)) {
            return Probe::Nothing;
        }
        if !path.idle {
            return Probe::Later(now + AGAIN);
        }
        if self.step == Step::Idle && self.due.is_some_and(|due| now >= due + STALE) {
            self.backlog = Backlog::default();
        }
        let leaves = self.backlog.get(bits, now).saturating_sub(QUIET);
        if !leaves.is_zero() {
            return Probe::Later(now + leaves);
        }
        match self.step {
            Step::Idle => {
                let number = self.next_number();
                self.step = Step::Asked { number, at: now };
                Probe::Ask(number)
            }
            _ => {
                let datagrams = octets.div_ceil(path.longest.max(1) + OVERHEAD);
                let octets = octets.saturating_sub(datagrams * OVERHEAD);
                if path.room < octets + datagrams * OVERHEAD {
                    return Probe::Wait;
                }
                let number = self.next_number();
                self.step = Step::Sent { number, octets, at: now };
                Probe::Burst(number, octets)
            }
        }
    }

    /// An answer: so many octets of this probe came. Says what that shows, if it shows anything. `shortest`: the shortest round
    /// trip lately, as the congestion control knows it.
    pub fn handle_answer(
        &mut self,
        number: u16,
        octets: u64,
        shortest: Option<Duration>,
        now: Instant,
    ) -> Option<Seen> {
        let believed = self.believed?;
        match self.step {
            Step::Asked { number: asked, at } if asked == number => {
                let rtt = now.saturating_duration_since(at);
                self.silences = 0;
                self.shortest.sample(rtt, now);
                if rtt > self.shortest(shortest)? + QUEUE {
                    self.end(QUEUED, now);
                } else {
                    self.step = Step::Ready { since: now };
                }
                None
            }
            Step::Sent { number: sent, octets: most, at } if sent == number => {
                let rtt = now.saturating_duration_since(at);
                let longer = rtt.saturating_sub(self.shortest(shortest)?);
                let carried = octets.min(most) as f64 * 8.0 / longer.as_secs_f64().max(0.001);
                self.judge(carried as u64, believed, now)
            }
            _ => None,
        }
    }

    /// The shortest round trip, of the answers and as the congestion control knows it.
    fn shortest(&self, known: Option<Duration>) -> Option<Duration> {
        self.shortest.get().into_iter().chain(known).min()
    }

    /// It is more only if two in a row say so: chance that shortens a round trip is rare, not unheard of.
    fn judge(&mut self, carried: u64, believed: u64, now: Instant) -> Option<Seen> {
        let more = (carried * 10 >= believed * CLEARLY).then_some(carried);
        let (Some(carried), Some(found)) = (more, self.found) else {
            self.found = more;
            self.end(if more.is_some() { Duration::ZERO } else { self.pause }, now);
            let is_same = more.is_none() && carried * DISTURBED >= believed;
            return is_same.then_some(Seen::Same);
        };
        let bits = (carried.min(found) / 100 * MARGIN).min(STEP_MAX * believed);
        let before = self.raised.map_or(believed, |(before, _)| before);
        (self.raised, self.believed, self.found) = (Some((before, now)), Some(bits), None);
        self.end(NEXT_STEP, now);
        Some(Seen::More(bits))
    }

    /// Lets go of what is not answered or finds no room.
    fn give_up(&mut self, now: Instant) {
        match self.step {
            Step::Asked { at, .. } if now >= at + PATIENCE => {
                self.silences = (self.silences + 1).min(SILENCES);
                self.found = None;
                self.end(self.pause * (1 << self.silences), now);
            }
            Step::Sent { at, .. } if now >= at + PATIENCE => self.end(self.pause, now),
            Step::Ready { since } if now >= since + STALE => self.end(NEXT_STEP, now),
            _ => {}
        }
    }

    fn end(&mut self, pause: Duration, now: Instant) {
        self.step = Step::Idle;
        self.due = Some(now + pause);
    }

    fn next_number(&mut self) -> u16 {
        self.number = self.number.wrapping_add(1);
        self.number
    }
}

impl Backlog {
    fn add(&mut self, octets: u64, rate: u64, now: Instant) {
        self.drain(rate, now);
        self.bits += octets as f64 * 8.0;
    }

    fn get(&mut self, rate: u64, now: Instant) -> Duration {
        self.drain(rate, now);
        Duration::from_secs_f64((self.bits / rate.max(1) as f64).min(3600.0))
    }

    fn drain(&mut self, rate: u64, now: Instant) {
        let past = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.bits = (self.bits - rate as f64 * past.as_secs_f64()).max(0.0);
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
