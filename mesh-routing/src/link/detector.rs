//! Whether the neighbor at the other end of one link is there: probes, three states, round trip.
//! What follows from a change of state belongs to `mesh/mod.rs`.

use std::time::{Duration, Instant};

use crate::wire::metric::Rate;

/// Between probes while the link carries live media. Four of them are the 200 ms after which trees look for another way.
pub const PROBE_BUSY: Duration = Duration::from_millis(50);
/// Between probes otherwise: nothing is heard of a link that carries nothing, and it may be needed at any moment.
pub const PROBE_IDLE: Duration = Duration::from_millis(200);
/// Between probes that are answered, on a link that both ends have no use for.
pub const PROBE_QUIET: Duration = Duration::from_secs(1);
/// A link that was not used for so long is quiet.
pub const QUIET_AFTER: Duration = Duration::from_secs(30);
/// Silence after which a link is down. Down is told to the whole mesh, suspect to nobody: it may be wrong less often.
pub const DOWN_AFTER: Duration = Duration::from_secs(1);
/// How long a link has to be heard before it is up again: one answer that got through proves nothing.
pub const CLEAN: Duration = Duration::from_secs(2);
/// And how long if it flapped.
pub const CLEAN_FLAPPED: Duration = Duration::from_secs(8);

/// A silence longer than this starts the [`CLEAN`] time anew: three probes at the pace of a link that is down.
const CLEAN_GAP: Duration = Duration::from_millis(600);
/// Probes whose answers are still recognized: 1.6 s of them at the fastest pace.
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
    clean: Duration,
    busy: bool,
    /// When the link was last of use to this end.
    used: Instant,
    /// What this end wants, and the other.
    rates: (Rate, Rate),
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
            clean: CLEAN,
            busy: false,
            used: now,
            rates: (Rate::Idle, Rate::Idle),
            next_probe: now,
            nonce: 0,
            outstanding: [None; OUTSTANDING],
            rtt: None,
            jitter: Duration::ZERO,
        }
    }

    /// A link that has just come up once too often: it has to prove itself first.
    pub fn doubtful(now: Instant) -> Detector {
        Detector { state: State::Down, clean: CLEAN_FLAPPED, ..Detector::new(now) }
    }

    /// How long the link has to be heard, should it be down.
    pub fn handle_flapping(&mut self, flapping: bool) {
        self.clean = if flapping { CLEAN_FLAPPED } else { CLEAN };
    }

    /// The rate this end wants, for the neighbor to know.
    pub fn rate(&self) -> Rate {
        if self.state == State::Down { self.rates.0.min(Rate::Idle) } else { self.rates.0 }
    }

    /// The neighbor said which rate it wants.
    pub fn handle_rate(&mut self, theirs: Rate, now: Instant) {
        self.change(|rates| rates.1 = theirs, now);
    }

    /// Something that matters crossed the link.
    pub fn handle_used(&mut self, now: Instant) {
        self.used = self.used.max(now);
        if self.rates.0 == Rate::Quiet {
            self.change(|rates| rates.0 = Rate::Idle, now);
        }
    }

    fn change(&mut self, what: impl FnOnce(&mut (Rate, Rate)), now: Instant) {
        let before = self.agreed();
        what(&mut self.rates);
        if self.agreed() < before {
            // The slower pace gave no reason to expect anything since: the short deadline starts here.
            self.next_probe = now;
            if self.state == State::Up {
                self.heard = self.heard.max(now.checked_sub(self.interval()).unwrap_or(now));
            }
        }
    }

    fn agreed(&self) -> Rate {
        self.rates.0.min(self.rates.1)
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
        // What was heard before the silence says nothing of now.
        if now < self.heard {
            return false;
        }
        if self.state == State::Down {
            if self.clean_since.is_none() || now.saturating_duration_since(self.heard) > CLEAN_GAP {
                self.clean_since = Some(now);
            }
            self.heard = now;
            return false;
        }
        if self.state == State::Suspect && now == self.heard {
            return false;
        }
        self.heard = now;
        if self.agreed() == Rate::Quiet {
            self.next_probe = self.next_probe.max(now + PROBE_QUIET);
        }
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
        if busy == self.busy {
            return;
        }
        self.busy = busy;
        self.used = now;
        self.change(|rates| rates.0 = if busy { Rate::Busy } else { Rate::Idle }, now);
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
                if self.clean_since.is_some_and(|since| now >= since + self.clean) {
                    self.state = State::Up;
                    self.clean_since = None;
                }
            }
        }
        if self.rates.0 == Rate::Idle && now >= self.used + QUIET_AFTER && self.state == State::Up {
            self.rates.0 = Rate::Quiet;
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
            State::Down => self.clean_since.map(|since| since + self.clean),
        };
        state.map_or(self.next_probe, |state| state.min(self.next_probe))
    }

    fn interval(&self) -> Duration {
        // A quiet probe that is not answered is followed by faster ones; an answer puts the next one off.
        if self.agreed() == Rate::Busy && self.state != State::Down { PROBE_BUSY } else { PROBE_IDLE }
    }

    /// Four probes, or what the link's own round trip and jitter make likely.
    fn suspect_after(&self) -> Duration {
        let spread = self.rtt.unwrap_or_default() * 2 + self.jitter * 4;
        let probes = match self.agreed() {
            Rate::Busy => PROBE_BUSY * 4,
            Rate::Idle => PROBE_IDLE * 4,
            Rate::Quiet => PROBE_QUIET + PROBE_IDLE * 4,
        };
        probes.max(spread)
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

    /// Two ends of a wire of 5 ms, until `time`; what each says arrives unless `cut`. Returns the probes sent.
    fn ends(ends: &mut [Detector; 2], from: Instant, time: Duration, cut: bool) -> u32 {
        let mut probes = 0;
        // At, to, nonce, rate, answer.
        let mut wire: Vec<(Instant, usize, u32, Rate, bool)> = Vec::new();
        let mut now = from;
        while now < from + time {
            now += MS;
            for (_, to, nonce, rate, answer) in wire.extract_if(.., |m| m.0 <= now).collect::<Vec<_>>() {
                let _ = ends[to].handle_heard(now);
                ends[to].handle_rate(rate, now);
                if answer {
                    ends[to].handle_probe_ack(nonce, now);
                } else {
                    wire.push((now + MS * 5, 1 - to, nonce, ends[to].rate(), true));
                }
            }
            for index in [0, 1] {
                if ends[index].poll_timeout() <= now
                    && let (_, Some(nonce)) = ends[index].handle_timeout(now)
                {
                    probes += 1;
                    wire.push((now + MS * 5, 1 - index, nonce, ends[index].rate(), false));
                }
            }
            if cut {
                wire.clear();
            }
        }
        probes
    }

    #[test]
    fn a_link_nobody_needs_is_probed_once_a_second() {
        let start = crate::sim::epoch();
        let mut both = [Detector::new(start), Detector::new(start)];
        let first = ends(&mut both, start, MS * 10_000, false);
        assert!((98..=102).contains(&first), "{first}");
        ends(&mut both, start + MS * 10_000, MS * 25_000, false);
        let quiet = ends(&mut both, start + MS * 35_000, MS * 10_000, false);
        // Two probes a second if the ends happen to say them at one time.
        assert!((9..=22).contains(&quiet), "{quiet}");
        assert_eq!((both[0].state(), both[1].state()), (State::Up, State::Up));
    }

    #[test]
    fn a_quiet_link_is_suspect_after_four_probes_too() {
        let start = crate::sim::epoch();
        let mut both = [Detector::new(start), Detector::new(start)];
        ends(&mut both, start, MS * 40_000, false);
        let cut = start + MS * 40_000;
        let mut changes = Vec::new();
        for step in 0..60 {
            let before = both[0].state();
            ends(&mut both, cut + MS * 50 * step, MS * 50, true);
            if both[0].state() != before {
                changes.push((50 * (step + 1), both[0].state()));
            }
        }
        // Up to a second of it had passed when the wire was cut.
        let [(suspect, State::Suspect), (down, State::Down)] = changes[..] else { panic!("{changes:?}") };
        assert!((800..=1850).contains(&suspect) && (400..=500).contains(&(down - suspect)), "{changes:?}");
        assert_eq!(both[1].state(), State::Down);
    }

    #[test]
    fn one_end_that_becomes_busy_speeds_up_both() {
        let start = crate::sim::epoch();
        let mut both = [Detector::new(start), Detector::new(start)];
        ends(&mut both, start, MS * 40_000, false);
        let busy = start + MS * 40_000;
        both[0].handle_busy(true, busy);
        ends(&mut both, busy, MS * 30, false);
        assert_eq!((both[0].agreed(), both[1].agreed()), (Rate::Busy, Rate::Busy));
        let probes = ends(&mut both, busy + MS * 30, MS * 1000, false);
        assert!((38..=42).contains(&probes), "{probes}");
        // The end that has no use for it notices as fast.
        ends(&mut both, busy + MS * 1030, MS * 210, true);
        assert_eq!((both[0].state(), both[1].state()), (State::Suspect, State::Suspect));
    }

    #[test]
    fn a_link_that_flapped_is_up_after_eight_clean_seconds() {
        let start = crate::sim::epoch();
        let mut both = [Detector::doubtful(start), Detector::doubtful(start)];
        ends(&mut both, start, MS * 7_900, false);
        assert_eq!(both[0].state(), State::Down);
        ends(&mut both, start + MS * 7_900, MS * 300, false);
        assert_eq!((both[0].state(), both[1].state()), (State::Up, State::Up));
    }

    #[test]
    fn what_was_heard_before_the_silence_excuses_nothing() {
        let start = crate::sim::epoch();
        let mut detector = Detector::new(start);
        detector.handle_busy(true, start);
        detector.handle_heard(start);
        silence(&mut detector, start, MS * 300);
        assert!(!detector.handle_heard(start));
        assert_eq!(detector.state(), State::Suspect);
        assert!(detector.handle_heard(start + MS * 250));
    }
}
