//! Whether the neighbor at the other end of one link is there: probes, three states, round trip.
//! What follows from a change of state belongs to `mesh.rs`.

use std::time::{Duration, Instant};

/// Between probes while the link carries live media.
pub const PROBE_BUSY: Duration = Duration::from_millis(50);
/// Between probes otherwise.
pub const PROBE_IDLE: Duration = Duration::from_millis(200);
/// Silence after which a link is down.
pub const DOWN_AFTER: Duration = Duration::from_secs(1);
/// How long a link has to be heard before it is up again.
pub const CLEAN: Duration = Duration::from_secs(2);

/// A silence longer than this starts the [`CLEAN`] time anew.
const CLEAN_GAP: Duration = Duration::from_millis(600);
/// Probes whose answers are still recognized.
const OUTSTANDING: usize = 32;
/// A driver that comes later than this has itself to blame for what it did not hear meanwhile.
const LATE: Duration = Duration::from_millis(100);

/// What is thought of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It works.
    Up,
    /// Not heard for a moment: trees move away where they can, nothing is flooded.
    Suspect,
    /// Not heard for a second: no edge of the mesh any more.
    Down,
}

/// The detector of one link.
#[derive(Debug)]
pub struct Detector {
    state: State,
    /// The last sign of life, or an excuse for its absence.
    heard: Instant,
    clean_since: Option<Instant>,
    busy: bool,
    next_probe: Instant,
    nonce: u32,
    outstanding: [Option<(u32, Instant)>; OUTSTANDING],
    rtt: Option<Duration>,
    jitter: Duration,
}

impl Detector {
    /// A link that has just come up.
    pub fn new(now: Instant) -> Detector {
        Detector {
            state: State::Up,
            heard: now,
            clean_since: None,
            busy: false,
            next_probe: now,
            nonce: 0,
            outstanding: [None; OUTSTANDING],
            rtt: None,
            jitter: Duration::ZERO,
        }
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state
    }

    /// The smoothed round trip of the probes.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Something authenticated was received. True if the link is no longer suspect.
    pub fn handle_heard(&mut self, now: Instant) -> bool {
        if self.state == State::Down {
            if self.clean_since.is_none() || now.saturating_duration_since(self.heard) > CLEAN_GAP {
                self.clean_since = Some(now);
            }
            self.heard = now;
            return false;
        }
        self.heard = self.heard.max(now);
        std::mem::replace(&mut self.state, State::Up) == State::Suspect
    }

    /// An answer to a probe.
    pub fn handle_probe_ack(&mut self, nonce: u32, now: Instant) {
        let slot = &mut self.outstanding[nonce as usize % OUTSTANDING];
        let Some((_, sent)) = slot.take_if(|(sent, _)| *sent == nonce) else { return };
        let sample = now.saturating_duration_since(sent);
        match &mut self.rtt {
            None => self.rtt = Some(sample),
            Some(rtt) => {
                self.jitter = (self.jitter * 3 + rtt.abs_diff(sample)) / 4;
                *rtt = (*rtt * 7 + sample) / 8;
            }
        }
    }

    /// Whether the link carries live media.
    pub fn handle_busy(&mut self, busy: bool, now: Instant) {
        if busy && !self.busy {
            // The idle pace gave no reason to expect anything since: the short deadline starts here.
            self.next_probe = now;
            if self.state == State::Up {
                self.heard = self.heard.max(now.checked_sub(PROBE_BUSY).unwrap_or(now));
            }
        }
        self.busy = busy;
    }

    /// The driver takes the link for dead, but keeps it.
    pub fn handle_down(&mut self) {
        self.state = State::Down;
        self.clean_since = None;
    }

    /// Time has passed. Says whether the state changed, and the nonce of a probe to send.
    pub fn handle_timeout(&mut self, now: Instant) -> (bool, Option<u32>) {
        let before = self.state;
        if now.saturating_duration_since(self.next_probe) > LATE {
            self.heard = self.heard.max(now.checked_sub(LATE).unwrap_or(now));
        }
        match self.state {
            State::Up | State::Suspect => {
                if now >= self.heard + self.down_after() {
                    self.handle_down();
                } else if now >= self.heard + self.suspect_after() {
                    self.state = State::Suspect;
                }
            }
            State::Down => {
                let silent = now.saturating_duration_since(self.heard) > CLEAN_GAP;
                if silent {
                    self.clean_since = None;
                }
                if self.clean_since.is_some_and(|since| now >= since + CLEAN) {
                    self.state = State::Up;
                    self.clean_since = None;
                }
            }
        }
        let probe = (now >= self.next_probe).then(|| {
            self.nonce = self.nonce.wrapping_add(1);
            self.outstanding[self.nonce as usize % OUTSTANDING] = Some((self.nonce, now));
            self.next_probe = now + self.interval();
            self.nonce
        });
        (self.state != before, probe)
    }

    /// When [`Detector::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Instant {
        let state = match self.state {
            State::Up => Some(self.heard + self.suspect_after()),
            State::Suspect => Some(self.heard + self.down_after()),
            State::Down => self.clean_since.map(|since| since + CLEAN),
        };
        state.map_or(self.next_probe, |state| state.min(self.next_probe))
    }

    fn interval(&self) -> Duration {
        if self.busy && self.state != State::Down { PROBE_BUSY } else { PROBE_IDLE }
    }

    /// Four probes, or what the link's own round trip and jitter make likely.
    fn suspect_after(&self) -> Duration {
        let spread = self.rtt.unwrap_or_default() * 2 + self.jitter * 4;
        (if self.busy { PROBE_BUSY * 4 } else { PROBE_IDLE * 4 }).max(spread)
    }

    fn down_after(&self) -> Duration {
        DOWN_AFTER.max(self.suspect_after() * 5 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Lets time pass, asked exactly when due; the neighbor is silent. Says when the state changed.
    fn silence(detector: &mut Detector, from: Instant, time: Duration) -> Vec<(u128, State)> {
        let mut changes = Vec::new();
        while detector.poll_timeout() <= from + time {
            let at = detector.poll_timeout();
            if detector.handle_timeout(at).0 {
                changes.push(((at - from).as_millis(), detector.state()));
            }
        }
        changes
    }

    #[test]
    fn a_busy_link_is_suspect_after_200_ms_and_down_after_a_second() {
        let start = crate::sim::epoch();
        let mut detector = Detector::new(start);
        detector.handle_busy(true, start);
        detector.handle_heard(start);
        let changes = silence(&mut detector, start, MS * 3000);
        assert_eq!(changes, [(200, State::Suspect), (1000, State::Down)]);
    }

    #[test]
    fn an_idle_link_has_four_slow_probes() {
        let start = crate::sim::epoch();
        let mut detector = Detector::new(start);
        let changes = silence(&mut detector, start, MS * 3000);
        assert_eq!(changes, [(800, State::Suspect), (1000, State::Down)]);
    }

    #[test]
    fn a_link_that_was_down_is_up_after_two_clean_seconds() {
        let start = crate::sim::epoch();
        let mut detector = Detector::new(start);
        silence(&mut detector, start, MS * 1500);
        let mut up = None;
        for step in 0..40 {
            let now = start + MS * 1500 + MS * 100 * step;
            detector.handle_heard(now);
            if detector.handle_timeout(now).0 {
                up = Some((now - start).as_millis());
            }
        }
        assert_eq!((up, detector.state()), (Some(3500), State::Up));
    }

    #[test]
    fn a_driver_that_slept_does_not_blame_the_link() {
        let start = crate::sim::epoch();
        let mut detector = Detector::new(start);
        detector.handle_busy(true, start);
        let _ = detector.handle_timeout(start);
        assert!(!detector.handle_timeout(start + MS * 5000).0);
        assert_eq!(detector.state(), State::Up);
    }

    #[test]
    fn a_long_way_is_not_suspect_for_being_long() {
        let start = crate::sim::epoch();
        let mut detector = Detector::new(start);
        detector.handle_busy(true, start);
        let (_, nonce) = detector.handle_timeout(start);
        detector.handle_probe_ack(nonce.unwrap(), start + MS * 400);
        detector.handle_heard(start + MS * 400);
        assert_eq!(detector.rtt(), Some(MS * 400));
        let changes = silence(&mut detector, start + MS * 400, MS * 900);
        assert_eq!(changes, [(800, State::Suspect)]);
    }
}
