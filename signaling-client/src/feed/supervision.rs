//! When a pipeline is opened, taken down and opened again, and when a source is given up. A core: time is an argument,
//! what is to be done comes out of [`Supervision::poll_step`].

use std::time::{Duration, Instant};

/// How long a pipeline may take until its first sound.
const OPENING: Duration = Duration::from_secs(10);
/// A source that sounded and has been still for so long is stuck. Silence is sound.
const STALL: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A pipeline that sounded for so long was a good one: the next wait is the first one again.
const GOOD_RUN: Duration = Duration::from_secs(5);

/// What a source is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nature {
    /// What its end means.
    pub end: End,
    /// Nothing coming before the first sound is no fault: it waits for somebody to call.
    pub waits_for_a_caller: bool,
    /// Whether a source that does not answer at first is tried again, for ever.
    pub patient: bool,
}

/// What the end of a source means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is no more.
    Done,
    /// It begins anew.
    Rewind,
    /// It should not have ended: it is opened again.
    Fault,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The operator has to change something.
    Usage(String),
    /// What is outside does not answer, or broke off.
    Away(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Open the pipeline.
    Open,
    /// Take it down. It is opened again after the wait, because of the fault.
    TakeDown(Fault, Duration),
    /// Let it begin anew.
    Rewind,
    /// There is nothing more to be done: it ended well, or it never sounded because of a fault.
    Close(Result<(), Fault>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not there, until then.
    Down(Instant),
    /// Opened then, silent so far.
    Opening(Instant),
    /// It sounds, since then, and did so last then.
    Sounding(Instant, Instant),
    Closed,
}

/// One source under supervision.
#[derive(Debug)]
pub struct Supervision {
    nature: Nature,
    state: State,
    wait: Duration,
    step: Option<Step>,
    /// Whether it ever sounded, and whether it did since it last began anew.
    sounded: bool,
    sounded_since_rewind: bool,
    faults: u64,
}

impl Fault {
    /// What to tell the operator.
    pub fn reason(&self) -> &str {
        match self {
            Fault::Usage(reason) | Fault::Away(reason) => reason,
        }
    }
}

impl Supervision {
    /// A source that is to be opened at once.
    pub fn new(nature: Nature, now: Instant) -> Self {
        Supervision {
            nature,
            state: State::Down(now),
            wait: FIRST_WAIT,
            step: None,
            sounded: false,
            sounded_since_rewind: false,
            faults: 0,
        }
    }

    /// Sound came, or would come if there were room for it.
    pub fn handle_sound(&mut self, now: Instant) {
        let since = match self.state {
            State::Sounding(since, _) => since,
            State::Opening(_) => now,
            State::Down(_) | State::Closed => return,
        };
        self.state = State::Sounding(since, now);
        (self.sounded, self.sounded_since_rewind) = (true, true);
        if now.saturating_duration_since(since) >= GOOD_RUN {
            self.wait = FIRST_WAIT;
        }
    }

    /// The pipeline failed, or could not be opened.
    pub fn handle_fault(&mut self, fault: Fault, now: Instant) {
        if matches!(self.state, State::Down(_) | State::Closed) {
            return;
        }
        self.faults += 1;
        let usage = matches!(fault, Fault::Usage(_));
        if !self.sounded && (usage || !self.nature.patient) {
            self.state = State::Closed;
            self.step = Some(Step::Close(Err(fault)));
            return;
        }
        self.state = State::Down(now + self.wait);
        self.step = Some(Step::TakeDown(fault, self.wait));
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// The pipeline came to its end.
    pub fn handle_end(&mut self, now: Instant) {
        match self.nature.end {
            _ if matches!(self.state, State::Down(_) | State::Closed) => {}
            _ if !self.sounded => self.handle_fault(Fault::Usage("there is no sound in it".to_owned()), now),
            End::Done => {
                self.state = State::Closed;
                self.step = Some(Step::Close(Ok(())));
            }
            // A file that gives nothing any more would begin anew without pause.
            End::Rewind if std::mem::take(&mut self.sounded_since_rewind) => self.step = Some(Step::Rewind),
            End::Rewind | End::Fault => self.handle_fault(Fault::Away("it ended".to_owned()), now),
        }
    }

    /// What is to be done now; the caller asks until there is nothing.
    pub fn poll_step(&mut self, now: Instant) -> Option<Step> {
        if self.step.is_none() {
            self.handle_time(now);
        }
        self.step.take()
    }

    /// When it has something to say even if nothing happens; `None` for never.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Down(until) => Some(until),
            State::Opening(since) => self.opening().map(|longest| since + longest),
            State::Sounding(_, last) => Some(last + STALL),
            State::Closed => None,
        }
    }

    /// Whether it ever sounded.
    pub fn sounded(&self) -> bool {
        self.sounded
    }

    /// Whether it sounds.
    pub fn sounds(&self) -> bool {
        matches!(self.state, State::Sounding(..))
    }

    /// How often it failed.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    fn opening(&self) -> Option<Duration> {
        (!self.nature.waits_for_a_caller).then_some(OPENING)
    }

    fn handle_time(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Down(_) => {
                self.state = State::Opening(now);
                self.step = Some(Step::Open);
            }
            State::Opening(_) => {
                let reason = format!("no sound within {} s", OPENING.as_secs());
                self.handle_fault(Fault::Away(reason), now);
            }
            State::Sounding(..) => {
                let reason = format!("nothing came for {} s", STALL.as_secs());
                self.handle_fault(Fault::Away(reason), now);
            }
            State::Closed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const LIVE: Nature = Nature { end: End::Fault, waits_for_a_caller: false, patient: false };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn away() -> Fault {
        Fault::Away("away".to_owned())
    }

    /// A source that sounds, and the time.
    fn sounding(nature: Nature) -> (Supervision, Instant) {
        let now = clock::now();
        let mut source = Supervision::new(nature, now);
        assert_eq!(source.poll_step(now), Some(Step::Open));
        source.handle_sound(now);
        assert_eq!(source.poll_step(now), None);
        (source, now)
    }

    #[test]
    fn one_that_fails_is_opened_again_after_waits_that_double() {
        let (mut source, mut now) = sounding(LIVE);
        for wait in [200, 400, 800, 1600, 3200, 5000, 5000] {
            source.handle_fault(away(), now);
            assert_eq!(source.poll_step(now), Some(Step::TakeDown(away(), ms(wait))));
            assert_eq!(source.poll_step(now + ms(wait - 1)), None);
            now += ms(wait);
            assert_eq!(source.deadline(), Some(now));
            assert_eq!(source.poll_step(now), Some(Step::Open));
        }
        assert_eq!(source.faults(), 7);
        source.handle_sound(now);
        source.handle_sound(now + GOOD_RUN);
        source.handle_fault(away(), now + GOOD_RUN);
        assert_eq!(source.poll_step(now + GOOD_RUN), Some(Step::TakeDown(away(), FIRST_WAIT)));
    }

    #[test]
    fn one_that_is_still_for_two_seconds_is_opened_again() {
        let (mut source, now) = sounding(LIVE);
        assert_eq!(source.poll_step(now + ms(1999)), None);
        source.handle_sound(now + ms(1999));
        assert_eq!(source.poll_step(now + ms(3998)), None);
        let step = source.poll_step(now + ms(3999));
        assert_eq!(step, Some(Step::TakeDown(Fault::Away("nothing came for 2 s".to_owned()), FIRST_WAIT)));
    }

    #[test]
    fn a_live_source_that_ends_is_opened_again_and_a_file_is_over() {
        let (mut live, now) = sounding(LIVE);
        live.handle_end(now);
        assert!(matches!(live.poll_step(now), Some(Step::TakeDown(..))));
        let (mut file, now) = sounding(Nature { end: End::Done, ..LIVE });
        file.handle_end(now);
        assert_eq!(file.poll_step(now), Some(Step::Close(Ok(()))));
        file.handle_fault(away(), now);
        assert_eq!((file.poll_step(now + ms(60_000)), file.deadline()), (None, None));
    }

    #[test]
    fn a_loop_begins_anew_but_not_where_nothing_comes() {
        let (mut file, now) = sounding(Nature { end: End::Rewind, ..LIVE });
        file.handle_end(now);
        assert_eq!(file.poll_step(now), Some(Step::Rewind));
        file.handle_end(now);
        assert!(matches!(file.poll_step(now), Some(Step::TakeDown(..))));
    }

    #[test]
    fn one_that_never_sounded_is_given_up_unless_there_is_patience() {
        let now = clock::now();
        let mut source = Supervision::new(LIVE, now);
        source.poll_step(now);
        assert_eq!(source.poll_step(now + ms(9999)), None);
        let closed = Some(Step::Close(Err(Fault::Away("no sound within 10 s".to_owned()))));
        assert_eq!(source.poll_step(now + OPENING), closed);

        let mut patient = Supervision::new(Nature { patient: true, ..LIVE }, now);
        patient.poll_step(now);
        patient.handle_fault(away(), now);
        assert_eq!(patient.poll_step(now), Some(Step::TakeDown(away(), FIRST_WAIT)));
        patient.poll_step(now + FIRST_WAIT);
        let usage = Fault::Usage("no such device".to_owned());
        patient.handle_fault(usage.clone(), now + FIRST_WAIT);
        assert_eq!(patient.poll_step(now + FIRST_WAIT), Some(Step::Close(Err(usage))));
    }

    #[test]
    fn who_waits_for_a_caller_waits() {
        let now = clock::now();
        let mut source = Supervision::new(Nature { waits_for_a_caller: true, ..LIVE }, now);
        source.poll_step(now);
        assert_eq!((source.deadline(), source.poll_step(now + ms(3_600_000))), (None, None));
    }

    #[test]
    fn what_comes_late_from_a_pipeline_that_was_taken_down_means_nothing() {
        let (mut source, now) = sounding(LIVE);
        source.handle_fault(away(), now);
        source.poll_step(now);
        source.handle_sound(now);
        source.handle_fault(away(), now);
        source.handle_end(now);
        assert_eq!((source.poll_step(now), source.faults(), source.sounds()), (None, 1, false));
    }
}
