//! The thread of the ladder: decodes the sound of stages that are published here, and encodes it at lower rates.
//!
//! Receives, hands over, passes on; what should happen is decided in `media::ladder`. It runs below the media
//! threads: a listener of the publisher's own packets never waits for it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver as Inbox, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use media::{
    Packet, StreamTracks, TrackId,
    ladder::{Event, RUNGS, Stages, Trial},
};
use metrics::{counter, gauge};

use crate::{
    clock,
    drop_reason::DropReason,
    vitals::{BEAT, Pulse},
};

/// What another thread has for the ladder.
#[derive(Debug)]
enum Input {
    /// A packet of the sound of a stage.
    Packet(TrackId, Packet),
    /// Which rungs of a stage somebody wants.
    Wanted(StreamTracks, [bool; RUNGS]),
    /// The relay stops.
    Stop,
}

/// Packets that may wait: 30 stages of 50 packets a second fill it in 0.7 s.
const PACKETS_MAX: usize = 1024;
/// Room for the node beside them: it does not wait for packets to be encoded.
const WISHES_MAX: usize = 512;
/// Inputs taken in one turn, so that timers get theirs.
const INPUTS_PER_TURN: usize = 64;
/// Below the other threads by so much (`nice`).
const NICENESS: i32 = 5;
/// A machine that does fewer stages has no ladder by default: its core is for packets.
const STAGES_PER_CORE_MIN: u32 = 30;
/// Packets of a piece of the trial: 0.2 s of sound.
const TRIAL_PACKETS: u32 = 10;

/// The door to the ladder's thread.
#[derive(Debug, Clone)]
pub struct Ladder {
    inputs: SyncSender<Input>,
    /// Packets that wait.
    waiting: Arc<AtomicUsize>,
}

impl Ladder {
    /// Hands over a packet of the sound of a stage, by its track; dropped and counted if the ladder is that far
    /// behind. Packets of stages of which nobody wants a rung are welcome: the rung that is wanted first begins warm.
    pub fn offer(&self, audio: TrackId, packet: &Packet) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < PACKETS_MAX {
            match self.inputs.try_send(Input::Packet(audio, packet.clone())) {
                Ok(()) => return,
                Err(TrySendError::Full(_)) => DropReason::LadderQueueFull.count(),
                // The ladder has stopped, and with it the relay.
                Err(TrySendError::Disconnected(_)) => {}
            }
        } else {
            DropReason::LadderQueueFull.count();
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Says which rungs of a stage somebody wants. There is room beside the packets, so this does not wait for them.
    pub fn tell(&self, tracks: StreamTracks, rungs: [bool; RUNGS]) {
        // The error says that the ladder has stopped, and then there is nobody to tell.
        let _ = self.inputs.send(Input::Wanted(tracks, rungs));
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.inputs.send(Input::Stop);
    }
}

/// What it means that the rungs of so many stages are closed; `None` for none.
pub fn sentence(closed: usize) -> Option<String> {
    let stages = match closed {
        0 => return None,
        1 => "1 stage".to_owned(),
        closed => format!("{closed} stages"),
    };
    Some(closed_for(&stages))
}

/// What it means that the rungs of these stages are closed.
pub fn closed_for(stages: &str) -> String {
    format!("the ladder is closed for {stages}: the machine is short of CPU")
}

/// Whether there is to be a ladder: as the operator wants it, else where the machine is fast enough. That is tried for
/// so long.
pub fn is_wanted(asked: Option<bool>, budget: Duration) -> bool {
    asked.unwrap_or_else(|| {
        let stages = stages_per_core(budget);
        let wanted = stages >= STAGES_PER_CORE_MIN;
        if !wanted {
            tracing::info!(
                stages,
                "no ladder of sound: a core does fewer than {STAGES_PER_CORE_MIN} stages; --ladder true has one all the same"
            );
        }
        wanted
    })
}

/// How many stages a core does with both rungs, tried for so long. The fastest piece counts: in the others
/// the machine may have done something else.
pub fn stages_per_core(budget: Duration) -> u32 {
    let Ok(mut trial) = Trial::new() else { return 0 };
    let began = clock::now();
    let mut fastest = Duration::MAX;
    loop {
        let start = clock::now();
        (0..TRIAL_PACKETS).for_each(|_| trial.run());
        let now = clock::now();
        fastest = fastest.min(now - start);
        if now - began >= budget {
            return Trial::stages_per_core(TRIAL_PACKETS, fastest);
        }
    }
}

/// Starts the thread. `deliver` gets each rung packet and its track, `happened` what others have to know; both
/// are called on the thread, and must not wait.
///
/// # Errors
///
/// When the system gives no thread.
pub fn start(
    deliver: impl FnMut(TrackId, Packet) + Send + 'static,
    happened: impl FnMut(Event) + Send + 'static,
    mut pulse: Pulse,
) -> io::Result<(Ladder, thread::JoinHandle<()>)> {
    let (inputs, inbox) = sync_channel(PACKETS_MAX + WISHES_MAX);
    let waiting = Arc::new(AtomicUsize::new(0));
    let mut ladder = LadderThread {
        stages: Stages::default(),
        inbox,
        waiting: waiting.clone(),
        deliver,
        happened,
        busy: Duration::ZERO,
        stopping: false,
    };
    let run = move || {
        pulse.begin(clock::now());
        // Of this thread alone: on Linux each has a priority of its own.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::warn!(%error, "the ladder runs at the priority of the other threads");
        }
        ladder.run(&pulse);
        pulse.finish();
    };
    let thread = thread::Builder::new().name("ladder".to_owned()).spawn(run)?;
    Ok((Ladder { inputs, waiting }, thread))
}

struct LadderThread<D, H> {
    stages: Stages,
    inbox: Inbox<Input>,
    waiting: Arc<AtomicUsize>,
    deliver: D,
    happened: H,
    /// Time spent and not published yet.
    busy: Duration,
    stopping: bool,
}

impl<D: FnMut(TrackId, Packet), H: FnMut(Event)> LadderThread<D, H> {
    /// Runs until it is told to stop.
    fn run(&mut self, pulse: &Pulse) {
        let mut report_at = clock::now() + BEAT;
        while !self.stopping {
            let now = clock::now();
            pulse.beat(now);
            if now >= report_at {
                report_at = now + BEAT;
                self.report();
            }
            let until = self.stages.poll_timeout().map_or(report_at, |at| at.min(report_at));
            match self.inbox.recv_timeout(until.saturating_duration_since(now)) {
                Ok(input) => self.work(Some(input)),
                Err(RecvTimeoutError::Timeout) => self.work(None),
                // Nobody is left who could tell us to stop.
                Err(RecvTimeoutError::Disconnected) => self.stopping = true,
            }
        }
        self.report();
    }

    /// One turn: this input and some behind it, then timers.
    fn work(&mut self, first: Option<Input>) {
        let began = clock::now();
        let more = std::iter::from_fn(|| self.inbox.try_recv().ok()).take(INPUTS_PER_TURN);
        let inputs: Vec<Input> = first.into_iter().chain(more).collect();
        for input in inputs {
            self.take(input, clock::now());
            self.pass_on();
        }
        let now = clock::now();
        if self.stages.poll_timeout().is_some_and(|at| at <= now) {
            self.stages.handle_timeout(now);
            self.pass_on();
        }
        self.busy += clock::now() - began;
    }

    fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Packet(audio, packet) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.stages.handle_packet(audio, &packet, now);
            }
            Input::Wanted(tracks, rungs) => self.stages.handle_wanted(tracks, rungs, now),
            Input::Stop => self.stopping = true,
        }
    }

    fn pass_on(&mut self) {
        while let Some((track, packet)) = self.stages.poll_packet() {
            (self.deliver)(track, packet);
        }
        while let Some(event) = self.stages.poll_event() {
            if let Event::Closed { audio } = event {
                tracing::warn!(track = audio.0, "the rungs of a stage close: the machine is short of CPU");
            }
            (self.happened)(event);
        }
        while let Some(reason) = self.stages.poll_dropped() {
            counter!("relay_drop_total", "reason" => reason.label()).increment(1);
        }
    }

    fn report(&mut self) {
        // A counter of this recorder counts in whole numbers.
        gauge!("relay_ladder_seconds").increment(std::mem::take(&mut self.busy).as_secs_f64());
        gauge!("relay_ladder_stages", "state" => "open").set(self.stages.open() as f64);
        gauge!("relay_ladder_stages", "state" => "closed").set(self.stages.closed() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use bytes::BytesMut;
    use media::packet::Canonical;
    use protocol::Codec;

    use super::*;

    /// The sound of the stage with this number.
    fn tracks(nth: u32) -> StreamTracks {
        StreamTracks::from_first(nth * StreamTracks::COUNT)
    }

    /// 20 ms of CELT in stereo: noise, as any octets are.
    fn packet(sequence: u16, received: Instant) -> Packet {
        let canonical = Canonical {
            codec: Codec::Opus,
            marker: false,
            sequence,
            timestamp: u32::from(sequence) * 960,
            audio_level: Some(30),
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.extend_from_slice(&[0xfc]);
        buffer.extend_from_slice(&[sequence as u8 | 0x51; 200]);
        Packet::from_parts(canonical, buffer, 0, received)
    }

    /// A ladder, what it delivers, and what happens.
    struct Running {
        ladder: Ladder,
        thread: thread::JoinHandle<()>,
        delivery: mpsc::Receiver<(TrackId, Packet)>,
        events: mpsc::Receiver<Event>,
    }

    fn running() -> Running {
        let (delivered, delivery) = mpsc::channel();
        let (told, events) = mpsc::channel();
        let deliver = move |track, packet| {
            let _ = delivered.send((track, packet));
        };
        let happened = move |event| {
            let _ = told.send(event);
        };
        let (ladder, thread) = start(deliver, happened, Pulse::unwatched()).unwrap();
        Running { ladder, thread, delivery, events }
    }

    #[test]
    fn packets_of_a_stage_come_out_as_packets_of_its_rungs() {
        let Running { ladder, thread, delivery, events } = running();
        // On a machine that is busy nothing counts as late.
        let now = clock::now() + Duration::from_secs(3600);
        // What nobody wants is heard, and nothing comes of it.
        (0..5).for_each(|sequence| ladder.offer(tracks(2).audio, &packet(sequence, now)));
        ladder.tell(tracks(2), [true, true]);
        for sequence in 5..20 {
            ladder.offer(tracks(2).audio, &packet(sequence, now));
            ladder.offer(tracks(3).audio, &packet(sequence, now));
        }
        let mut out = [Vec::new(), Vec::new()];
        while out.iter().any(|out: &Vec<u16>| out.len() < 14) {
            let (track, packet) = delivery.recv_timeout(Duration::from_secs(60)).unwrap();
            let rung = tracks(2).rungs.iter().position(|rung| *rung == track).unwrap();
            out[rung].push(packet.sequence);
            assert_eq!(packet.timestamp, u32::from(packet.sequence) * 960);
        }
        for out in out {
            assert_eq!(out[..14], (5..19).collect::<Vec<_>>());
        }
        ladder.stop();
        thread.join().unwrap();
        assert!(events.try_recv().is_err());
        assert_eq!(sentence(0), None);
        // Whoever still has the door finds nobody, and does not mind.
        ladder.offer(tracks(2).audio, &packet(20, now));
        ladder.tell(tracks(2), [false, false]);
    }

    #[test]
    fn a_thread_that_is_behind_says_which_stages_it_closes() {
        let Running { ladder, thread, delivery: _delivery, events } = running();
        (1..3).for_each(|nth| ladder.tell(tracks(nth), [true, false]));
        let late = |sequence| packet(sequence, clock::now() - Duration::from_secs(1));
        let mut closed = Vec::new();
        let mut sequence = 0;
        while closed.len() < 2 {
            (1..3).for_each(|nth| ladder.offer(tracks(nth).audio, &late(sequence)));
            sequence += 1;
            match events.recv_timeout(Duration::from_millis(20)) {
                Ok(Event::Closed { audio }) => closed.push(audio),
                Ok(event) => panic!("{event:?}"),
                Err(_) => {}
            }
        }
        assert_eq!(closed, [tracks(2).audio, tracks(1).audio]);
        let line = sentence(closed.len()).unwrap();
        assert_eq!(line, "the ladder is closed for 2 stages: the machine is short of CPU");
        ladder.stop();
        thread.join().unwrap();
    }

    #[test]
    fn packets_that_do_not_fit_are_dropped_and_a_wish_has_room() {
        let (inputs, inbox) = sync_channel(PACKETS_MAX + WISHES_MAX);
        let ladder = Ladder { inputs, waiting: Arc::default() };
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let packet = packet(0, clock::now());
        metrics::with_local_recorder(&recorder, || {
            (0..PACKETS_MAX + 3).for_each(|_| ladder.offer(tracks(1).audio, &packet));
        });
        ladder.tell(tracks(1), [true, true]);
        ladder.stop();
        assert!(recorder.handle().render().contains("relay_drop_total{reason=\"ladder_queue_full\"} 3\n"));
        assert_eq!(inbox.try_iter().count(), PACKETS_MAX + 2);
    }

    #[test]
    fn a_fast_machine_has_a_ladder_unless_the_operator_says_no() {
        assert!(!is_wanted(Some(false), Duration::ZERO));
        assert!(is_wanted(Some(true), Duration::ZERO));
        assert!(stages_per_core(Duration::from_millis(1)) > 0);
    }
}
