//! The driver of one media worker: a plain thread with its own socket on the media port.
//!
//! Receives, hands over, sends; what should happen is decided in `media`. Packets of publishers go on to
//! the other workers and to the links from here, past the node loop.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver as Inbox, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use media::{Audience, Batch, ChannelId, ChannelWish, Command, Event, Packet, Relayed, TrackId, Worker};
use mio::{Events, Interest, Poll, Token, Waker, unix::SourceFd};
use protocol::mesh::{Class, DatagramHeader, DatagramKind, SenderClock, Withheld};
use tokio::sync::mpsc;

use super::{
    channels::{ChannelsOut, Happened},
    metrics::WorkerMetrics,
    packet_rate::PacketRate,
    udp::{self, Receiver},
};
use crate::{
    bridge::{Child, Forwarding},
    clock,
    drop_reason::DropReason,
    ladder::Ladder,
    vitals::{Pulse, Vitals, Work},
};

/// What another thread has for a worker.
#[derive(Debug)]
pub enum Input {
    /// The node wants something.
    Command(Command),
    /// A packet of a track from another worker or a link.
    Relayed(TrackId, Relayed),
    /// A datagram that landed at the wrong worker.
    Datagram(SocketAddr, Vec<u8>),
    /// Something is wanted of a data channel.
    Channel(ChannelId, ChannelWish),
    /// The relay stops.
    Stop,
}

/// Inputs that may wait for a worker: at 300,000 packets a second about 15 ms.
const INPUTS_MAX: usize = 4096;
/// Inputs taken in one turn, so that the socket gets its turn too.
const INPUTS_PER_TURN: usize = 512;
/// Batches received in one turn, for the same reason.
const BATCHES_PER_TURN: usize = 4;
const SOCKET: Token = Token(0);
const WAKE: Token = Token(1);
/// How often counters become metrics.
const METRICS_INTERVAL: Duration = Duration::from_millis(500);

/// The door to a worker's thread.
#[derive(Clone)]
pub struct Door {
    inputs: SyncSender<Input>,
    sleep: Arc<Sleep>,
}

struct Sleep {
    asleep: AtomicBool,
    waker: Waker,
}

impl Door {
    /// Hands a packet over; dropped and counted if the worker is that far behind.
    pub fn offer(&self, input: Input) {
        match self.inputs.try_send(input) {
            Ok(()) => self.wake(),
            Err(TrySendError::Full(_)) => {
                DropReason::WorkerQueueFull.count();
            }
            // The worker has stopped, and with it the relay.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Hands something over if there is room; false if there is none yet. Who asks tries again.
    pub fn try_tell(&self, input: Input) -> bool {
        let told = self.inputs.try_send(input);
        self.wake();
        // A worker that has stopped has nobody to tell.
        !matches!(told, Err(TrySendError::Full(_)))
    }

    /// Hands a command over, waiting for room: a worker always takes its inputs within milliseconds.
    pub fn tell(&self, input: Input) {
        // The error says that the worker has stopped, and then there is nobody to tell.
        let _ = self.inputs.send(input);
        self.wake();
    }

    /// A system call only if the worker sleeps.
    fn wake(&self) {
        if self.sleep.asleep.swap(false, Ordering::AcqRel) {
            // The only failure is a full counter, and then it is awake.
            let _ = self.sleep.waker.wake();
        }
    }
}

/// All workers of a relay.
#[derive(Clone)]
pub struct Workers(Arc<[Door]>);

impl Workers {
    /// Tells every worker.
    pub fn tell(&self, command: &Command) {
        self.0.iter().for_each(|door| door.tell(Input::Command(command.clone())));
    }

    /// Tells the worker of a data channel what is wanted of it; false if the worker has no room for that yet.
    pub fn ask(&self, worker: usize, channel: ChannelId, wish: ChannelWish) -> bool {
        self.0.get(worker).is_none_or(|door| door.try_tell(Input::Channel(channel, wish)))
    }

    /// Hands what came over a link to every worker.
    pub fn offer(&self, track: TrackId, relayed: &Relayed) {
        self.0.iter().for_each(|door| door.offer(Input::Relayed(track, relayed.clone())));
    }

    /// Ends all threads.
    pub fn stop(&self) {
        self.0.iter().for_each(|door| door.tell(Input::Stop));
    }
}

/// Starts a worker on each socket. No listener gets more than `most` bits per second. What the ladder is to have goes to it
/// once it is there.. What leaves is told in `rate`.
///
/// # Errors
///
/// When the system gives no poll, or no thread.
pub fn start(
    sockets: Vec<UdpSocket>,
    forwarding: &Arc<Forwarding>,
    (events, channels): (&mpsc::Sender<Event>, &mpsc::Sender<Happened>),
    most: u64,
    ladder: &Arc<OnceLock<Ladder>>,
    rate: &PacketRate,
    vitals: &Vitals,
) -> io::Result<(Workers, Vec<thread::JoinHandle<()>>)> {
    let mut doors = Vec::new();
    let mut ends = Vec::new();
    for socket in sockets {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (inputs, inbox) = sync_channel(INPUTS_MAX);
        let sleep = Arc::new(Sleep { asleep: AtomicBool::new(false), waker });
        doors.push(Door { inputs, sleep: sleep.clone() });
        ends.push((socket, poll, inbox, sleep));
    }
    let workers = Workers(doors.into());
    let mut threads = Vec::new();
    for (index, (socket, poll, inbox, sleep)) in ends.into_iter().enumerate() {
        let raw = std::os::fd::AsRawFd::as_raw_fd(&socket);
        poll.registry().register(&mut SourceFd(&raw), SOCKET, Interest::READABLE)?;
        let (workers, forwarding, events) = (workers.clone(), forwarding.clone(), events.clone());
        let ladder = ladder.clone();
        let channels = ChannelsOut::new(index, channels.clone());
        let rate = rate.clone();
        let mut pulse = vitals.pulse(&format!("media-{index}"), Work::Serve, clock::now());
        // Made on its thread, which a worker never leaves: its data channels count references without atomics.
        let run = move || {
            pulse.begin(clock::now());
            let mut worker = Worker::new(index as u8);
            worker.set_max_bitrate(most);
            let media_thread = MediaThread {
                index,
                worker,
                socket,
                poll,
                inbox,
                sleep,
                workers,
                ladder,
                forwarding,
                events,
                channels,
                undelivered: VecDeque::new(),
                metrics: WorkerMetrics::default(),
                rate,
                told: (0, clock::now()),
                stopping: false,
                broken: false,
            };
            if media_thread.run(&pulse) {
                pulse.finish();
            }
        };
        threads.push(thread::Builder::new().name(format!("media-{index}")).spawn(run)?);
    }
    Ok((workers, threads))
}

struct MediaThread {
    index: usize,
    worker: Worker,
    socket: UdpSocket,
    poll: Poll,
    inbox: Inbox<Input>,
    sleep: Arc<Sleep>,
    workers: Workers,
    /// Who makes rungs of sounds, once it is there.
    ladder: Arc<OnceLock<Ladder>>,
    forwarding: Arc<Forwarding>,
    events: mpsc::Sender<Event>,
    channels: ChannelsOut,
    /// Events for which the node loop has no room yet: a few for each session at most.
    undelivered: VecDeque<Event>,
    metrics: WorkerMetrics,
    rate: PacketRate,
    /// How many packets had left when the rate was told last, and when.
    told: (u64, Instant),
    stopping: bool,
    /// It stops without having been told to.
    broken: bool,
}

impl MediaThread {
    /// Runs until it is told to stop; false if it had to stop by itself.
    fn run(mut self, pulse: &Pulse) -> bool {
        let mut receiver = Receiver::default();
        let mut sender = udp::Sender::default();
        let mut batch = Batch::default();
        let mut occurred = Events::with_capacity(8);
        let mut report_at = clock::now() + METRICS_INTERVAL;
        loop {
            let more_inputs = self.take_inputs();
            let more_datagrams = self.receive(&mut receiver);
            let now = clock::now();
            pulse.beat(now);
            if self.worker.poll_timeout().is_some_and(|at| at <= now) {
                self.worker.handle_timeout(now);
            }
            self.pass_on();
            loop {
                let more = self.worker.poll_transmit(&mut batch, clock::now());
                if !more {
                    break;
                }
                let outcome = sender.send(&self.socket, &batch);
                self.metrics.dropped_by_kernel(outcome.dropped);
                batch.clear();
            }
            self.pass_on();
            if now >= report_at {
                report_at = now + METRICS_INTERVAL;
                self.metrics.publish(self.worker.stats());
                self.tell_rate(now);
            }
            if self.stopping || self.broken {
                break; // goodbyes to all peers have just been sent
            }
            if !more_inputs && !more_datagrams {
                self.wait(&mut occurred, report_at);
            }
        }
        self.metrics.publish(self.worker.stats());
        !self.broken
    }

    /// How many packets a second have left since it was told last.
    fn tell_rate(&mut self, now: Instant) {
        let sent: u64 = self.worker.stats().sent.iter().map(|traffic| traffic.packets).sum();
        let (before, at) = std::mem::replace(&mut self.told, (sent, now));
        self.rate.set(self.index, sent - before, now.saturating_duration_since(at));
    }

    /// What other threads have for us; true if there may be more.
    fn take_inputs(&mut self) -> bool {
        for _ in 0..INPUTS_PER_TURN {
            let Ok(input) = self.inbox.try_recv() else { return false };
            self.take(input);
        }
        true
    }

    fn take(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Command(command) => self.worker.handle_command(command, now),
            Input::Relayed(track, Relayed::Packet(packet)) => self.worker.handle_packet(track, packet, now),
            Input::Relayed(track, Relayed::Clock { epoch, clock }) => {
                self.worker.handle_clock(track, epoch, clock, now);
            }
            Input::Relayed(track, Relayed::Withheld { epoch, withheld }) => {
                self.worker.handle_withheld(track, epoch, withheld);
            }
            Input::Datagram(from, data) => self.worker.handle_datagram(from, &data, now),
            Input::Channel(channel, wish) => self.worker.handle_channel(channel, &wish, now),
            Input::Stop => self.stopping = true,
        }
    }

    /// What came to the socket; true if there may be more.
    fn receive(&mut self, receiver: &mut Receiver) -> bool {
        for _ in 0..BATCHES_PER_TURN {
            let more = match receiver.receive(&self.socket) {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(%error, "the media socket fails to receive");
                    return false;
                }
            };
            let now = clock::now();
            for (from, data) in receiver.datagrams() {
                self.worker.handle_datagram(from, data, now);
            }
            if !more {
                return false;
            }
        }
        true
    }

    /// What the worker has for the others: packets first, they are in a hurry.
    fn pass_on(&mut self) {
        let mut table = None;
        while let Some((track, relayed, audience)) = self.worker.poll_relayed() {
            if let (Audience::Ladder, Relayed::Packet(packet)) = (audience, &relayed) {
                self.ladder.get().into_iter().for_each(|ladder| ladder.offer(track, packet));
                continue;
            }
            for (index, door) in self.workers.0.iter().enumerate() {
                if index != self.index && audience == Audience::Everybody {
                    door.offer(Input::Relayed(track, relayed.clone()));
                }
            }
            let table = table.get_or_insert_with(|| self.forwarding.load());
            for child in table.local.get(&track.0).into_iter().flatten() {
                send_to_child(child, &relayed);
            }
        }
        while let Some(event) = self.worker.poll_event() {
            match event {
                Event::Foreign { worker, from, data } => {
                    if let Some(door) = self.workers.0.get(usize::from(worker)) {
                        door.offer(Input::Datagram(from, data));
                    }
                }
                Event::Channel(channel, event) => {
                    if !self.channels.tell(channel, event) {
                        self.worker.handle_channel(channel, &ChannelWish::CloseAll, clock::now());
                    }
                }
                Event::ChannelsOver { session } => self.channels.handle_over(session),
                // One request for a track is enough: the others wait for the same keyframe.
                Event::KeyframeWanted { track } if self.asks_for_keyframe(track) => {
                    DropReason::NodeQueueFull.count();
                }
                event => self.undelivered.push_back(event),
            }
        }
        self.channels.tell_over();
        // Never lost, and never waited for: the node loop may be waiting for room at this worker.
        while let Some(event) = self.undelivered.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                self.undelivered.push_front(event);
                break;
            }
        }
    }

    /// True if the node loop has yet to hear that this track needs a keyframe.
    fn asks_for_keyframe(&self, wanted: TrackId) -> bool {
        self.undelivered
            .iter()
            .any(|event| matches!(event, Event::KeyframeWanted { track } if *track == wanted))
    }

    /// Sleeps until something happens.
    fn wait(&mut self, occurred: &mut Events, report_at: std::time::Instant) {
        self.sleep.asleep.store(true, Ordering::SeqCst);
        // An input that came before the flag was up would not have woken us.
        match self.inbox.try_recv() {
            Ok(input) => {
                self.sleep.asleep.store(false, Ordering::Release);
                return self.take(input);
            }
            // Nobody is left who could tell us to stop.
            Err(TryRecvError::Disconnected) => self.stopping = true,
            Err(TryRecvError::Empty) => {}
        }
        let now = clock::now();
        let until = self.worker.poll_timeout().map_or(report_at, |at| at.min(report_at));
        let result = self.poll.poll(occurred, Some(until.saturating_duration_since(now)));
        self.sleep.asleep.store(false, Ordering::Release);
        if let Err(error) = result
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "a media worker cannot wait for its socket and stops");
            self.broken = true;
        }
    }
}

/// Sends what a publisher brought to a neighbor that wants it.
fn send_to_child(child: &Child, relayed: &Relayed) {
    match relayed {
        Relayed::Packet(packet) => {
            let class = Class::of(packet.kind());
            child.send_media(class, DatagramKind::Rtp, packet.epoch, &packet.bytes);
        }
        Relayed::Clock { epoch, clock } => {
            let mut payload = BytesMut::with_capacity(SenderClock::LEN);
            clock.write(&mut payload);
            child.send_media(Class::Audio, DatagramKind::SenderClock, *epoch, &payload.freeze());
        }
        // Only a link withholds, and what came over one does not come from here.
        Relayed::Withheld { .. } => {}
    }
}

/// Takes a rung packet to the workers and to the links that want it; the ladder calls it from its thread.
pub fn bring(workers: &Workers, forwarding: &Forwarding, track: TrackId, packet: Packet) {
    let relayed = Relayed::Packet(packet);
    workers.offer(track, &relayed);
    for child in forwarding.load().local.get(&track.0).into_iter().flatten() {
        send_to_child(child, &relayed);
    }
}

/// Takes what came over a link to the workers; the bridges call it from their thread.
pub fn deliver(workers: &Workers, track: u32, header: DatagramHeader, payload: bytes::Bytes) {
    let relayed = match header.kind {
        DatagramKind::Rtp => Packet::from_canonical(payload, header.epoch, clock::now()).map(Relayed::Packet),
        DatagramKind::SenderClock => {
            SenderClock::read(&payload).map(|clock| Relayed::Clock { epoch: header.epoch, clock })
        }
        DatagramKind::Withheld => {
            Withheld::read(&payload).map(|withheld| Relayed::Withheld { epoch: header.epoch, withheld })
        }
        // Ends at the bridges.
        DatagramKind::Nack
        | DatagramKind::Fragment
        | DatagramKind::Probe
        | DatagramKind::Parity
        | DatagramKind::Unknown(_) => None,
    };
    match relayed {
        Some(relayed) => workers.offer(TrackId(track), &relayed),
        None => DropReason::LinkMalformed.count(),
    }
}
