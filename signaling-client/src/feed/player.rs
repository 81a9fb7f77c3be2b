//! A feed source that plays: a thread that does what [`Supervision`] says with a [`Pipeline`], and the queue between it
//! and the publication.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::input::Input;
use super::mix::Mix;
use super::monitor::Status;
use super::pipeline::{Event, Pipeline, Taker, start_gstreamer};
use super::queue::Queue;
use super::supervision::{End, Fault, Nature, Step, Supervision};
use crate::clock;
use crate::error::Error;
use crate::source::{FRAME_SAMPLES, Frame, SAMPLE_RATE, Source};

/// How often the thread looks around while nothing happens.
const LOOK: Duration = Duration::from_millis(50);
const FRAME_MS: u64 = 1000 * FRAME_SAMPLES as u64 / SAMPLE_RATE as u64;
/// How long a pipeline may take to be taken down at the end. One that hangs does not keep the program.
const FAREWELL: Duration = Duration::from_secs(2);

/// A source that plays. Dropped, it ends.
pub struct Feed {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    /// Closed when the thread has taken everything down.
    ended: Receiver<()>,
}

/// What the thread, GStreamer's threads and the publication have in common.
struct Shared {
    state: Mutex<State>,
    /// There is room in the queue, or something else changed.
    changed: Condvar,
}

struct State {
    queue: Queue,
    mixed: Vec<f32>,
    /// Which pipeline is heard: what an older one still brings is not.
    generation: u64,
    /// When sound came, if it did since the thread last looked.
    heard: Option<Instant>,
    fault: Option<Fault>,
    closed: Option<Result<(), Error>>,
    dropped: bool,
    status: Status,
}

/// What the thread works with.
struct Player {
    input: Input,
    mix: Mix,
    shared: Arc<Shared>,
    supervision: Supervision,
    pipeline: Option<Pipeline>,
    picture_told: bool,
    skipped_told: u64,
}

/// Opens a source and waits until it sounds. With `patient` one that does not answer is tried again, for ever.
///
/// # Errors
/// [`Error::Usage`] where the operator has to change something, [`Error::Unreachable`] where nothing answers.
pub async fn open(input: Input, mix: Mix, patient: bool) -> Result<Feed, Error> {
    start_gstreamer()?;
    let shared = Arc::new(Shared::new(!can_wait(&input)));
    let nature = Nature { end: end(&input), waits_for_a_caller: input.waits_for_a_caller(), patient };
    let (sounds, mut sounded) = watch::channel(false);
    let player = Player {
        supervision: Supervision::new(nature, clock::now()),
        input,
        mix,
        shared: Arc::clone(&shared),
        pipeline: None,
        picture_told: false,
        skipped_told: 0,
    };
    let (ends, ended) = mpsc::channel();
    let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let _ends = ends;
        player.run(&sounds);
    });
    let thread = thread.map_err(|error| Error::SourceFailed(format!("no thread for the source: {error}")))?;
    let feed = Feed { shared, thread, ended };
    // An error here is the thread's end, which has left its reason.
    let _ = sounded.wait_for(|sounded| *sounded).await;
    let failed = {
        let mut state = feed.shared.lock();
        // A file that is shorter than the time until here has ended well, which is for `fill`.
        if matches!(state.closed, Some(Err(_))) { state.closed.take() } else { None }
    };
    // A thread that is gone without a reason is noticed by `fill`.
    failed.unwrap_or(Ok(())).map(|()| feed)
}

fn end(input: &Input) -> End {
    match input {
        Input::File { again: false, .. } => End::Done,
        Input::File { again: true, .. } => End::Rewind,
        _ => End::Fault,
    }
}

/// A file waits until its sound is sent; what is live does not.
fn can_wait(input: &Input) -> bool {
    matches!(input, Input::File { .. })
}

impl Feed {
    /// How it is, for whoever shows it.
    pub fn status(&self) -> Box<dyn Fn() -> Status + Send> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || {
            let state = shared.lock();
            Status {
                waiting_ms: state.queue.waiting() as u64 * FRAME_MS,
                skipped_ms: state.queue.skipped() * FRAME_MS,
                missing_ms: state.queue.missing() * FRAME_MS,
                ..state.status
            }
        })
    }
}

impl Source for Feed {
    fn fill(&mut self, frame: &mut Frame) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if let Some(Err(_)) = &state.closed {
            return state.closed.take().unwrap_or(Ok(()));
        }
        if state.closed.is_none() && self.thread.is_finished() {
            return Err(Error::SourceFailed("its thread is gone".to_owned()));
        }
        if state.closed.is_some() && state.queue.is_finished() {
            return Err(Error::SourceEnded("it was played to its end".to_owned()));
        }
        state.queue.poll_frame(frame);
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.lock().dropped = true;
        self.shared.changed.notify_all();
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

impl Shared {
    fn new(live: bool) -> Self {
        let state = State {
            queue: Queue::new(live),
            mixed: Vec::new(),
            generation: 0,
            heard: None,
            fault: None,
            closed: None,
            dropped: false,
            status: Status::default(),
        };
        Shared { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No state is left half changed where a thread could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes samples from a pipeline, and says whether it takes more.
    fn take(&self, samples: &[f32], channels: u16, mix: &Mix, generation: u64, can_wait: bool) -> bool {
        // By frames: a decoder may bring more at once than there is room for.
        let mut frames = samples.chunks(FRAME_SAMPLES * usize::from(channels.max(1)));
        frames.all(|frame| self.take_frame(frame, channels, mix, generation, can_wait))
    }

    /// A pipeline that can wait is held up while enough waits.
    fn take_frame(&self, samples: &[f32], channels: u16, mix: &Mix, generation: u64, can_wait: bool) -> bool {
        let mut state = self.lock();
        while can_wait && state.queue.is_full() && state.generation == generation && !state.dropped {
            state.heard = Some(clock::now());
            let woken = self.changed.wait_timeout(state, LOOK);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.generation != generation || state.dropped {
            return false;
        }
        let mut mixed = std::mem::take(&mut state.mixed);
        mixed.clear();
        match mix.mix(samples, channels, &mut mixed) {
            Ok(()) => {
                state.queue.handle_samples(&mixed);
                state.heard = Some(clock::now());
            }
            Err(reason) => state.fault = Some(Fault::Usage(reason)),
        }
        state.mixed = mixed;
        state.fault.is_none()
    }
}

impl Player {
    fn run(mut self, sounds: &watch::Sender<bool>) {
        loop {
            while let Some(step) = self.supervision.poll_step(clock::now()) {
                self.carry_out(step);
            }
            sounds.send_if_modified(|known| !std::mem::replace(known, self.supervision.sounded()) && *known);
            if !self.look() {
                break;
            }
        }
        self.take_down();
    }

    /// Waits for what comes next, and tells the supervision; `false` at the end.
    fn look(&mut self) -> bool {
        let event = match &self.pipeline {
            Some(pipeline) => pipeline.poll_event(LOOK),
            None => None,
        };
        let position = self.pipeline.as_ref().filter(|_| matches!(self.input, Input::File { .. }));
        let (position, length) = position.map_or((None, None), Pipeline::position);
        let now = clock::now();
        let mut state = self.shared.lock();
        if self.pipeline.is_none() && state.closed.is_none() && !state.dropped {
            let waited = self.shared.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.dropped || state.closed.is_some() {
            return false;
        }
        let (heard, fault) = (state.heard.take(), state.fault.take());
        let skipped = state.queue.skipped();
        state.status.position_seconds = position;
        state.status.left_seconds = position.zip(length).map(|(at, length)| length.saturating_sub(at));
        if let Some(heard) = heard {
            self.supervision.handle_sound(heard);
        }
        (state.status.sounds, state.status.faults) = (self.supervision.sounds(), self.supervision.faults());
        drop(state);
        if let Some(fault) = fault {
            self.supervision.handle_fault(fault, now);
        }
        match event {
            Some(Event::Fault(fault)) => self.supervision.handle_fault(fault, now),
            Some(Event::End) => self.supervision.handle_end(now),
            None => {}
        }
        self.tell(skipped);
        true
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Open => match self.open() {
                Ok(pipeline) => self.pipeline = Some(pipeline),
                Err(fault) => self.supervision.handle_fault(fault, clock::now()),
            },
            Step::TakeDown(fault, wait) => {
                tracing::warn!(
                    "{}: {}; opened again in {:.1} s",
                    self.input.name(),
                    fault.reason(),
                    wait.as_secs_f32()
                );
                self.take_down();
            }
            Step::Rewind => {
                if !self.pipeline.as_ref().is_some_and(Pipeline::rewind) {
                    let fault = Fault::Away("it cannot begin anew".to_owned());
                    self.supervision.handle_fault(fault, clock::now());
                }
            }
            Step::Close(outcome) => {
                let name = self.input.name();
                let mut state = self.shared.lock();
                state.queue.finish();
                state.closed = Some(outcome.map_err(|fault| match fault {
                    Fault::Usage(reason) => Error::Usage(format!("{name}: {reason}")),
                    Fault::Away(reason) => Error::Unreachable { url: name, reason },
                }));
            }
        }
    }

    fn open(&mut self) -> Result<Pipeline, Fault> {
        let generation = {
            let mut state = self.shared.lock();
            state.generation += 1;
            (state.heard, state.fault) = (None, None);
            state.generation
        };
        let plan = self.input.plan(self.mix.picked.map(|picked| picked.highest()));
        let (shared, mix) = (Arc::clone(&self.shared), self.mix);
        let can_wait = can_wait(&self.input);
        let taker: Taker =
            Box::new(move |samples, channels| shared.take(samples, channels, &mix, generation, can_wait));
        Pipeline::open(&self.input, &plan, self.mix.picked.is_some(), !can_wait, taker)
    }

    fn take_down(&mut self) {
        self.shared.lock().generation += 1;
        self.shared.changed.notify_all();
        self.pipeline = None;
    }

    fn tell(&mut self, skipped: u64) {
        if !self.picture_told && self.pipeline.as_ref().is_some_and(Pipeline::has_picture) {
            self.picture_told = true;
            tracing::warn!("the picture of this source is not sent yet");
        }
        if skipped > self.skipped_told {
            let time = (skipped - self.skipped_told) * FRAME_MS;
            tracing::warn!("{}: it was behind, {time} ms were left out to be live", self.input.name());
            self.skipped_told = skipped;
        }
    }
}
