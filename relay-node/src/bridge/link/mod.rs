//! One link: the hello, then the tasks that carry its streams and datagrams until one of them ends.
//! Whether the link may be is decided in `neighbors.rs`.

pub(crate) mod admission;
pub(crate) mod dial;
pub(crate) mod link_table;
pub(crate) mod peer_address;
pub(crate) mod stream;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use mesh_routing::Underlay;
use metrics::gauge;
use protocol::{
    NodeId, ZoneName,
    mesh::{Alias, Class, DatagramKind},
};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    BridgeEvent, Forwarding, LinkId, LocalDelivery,
    forwarding::{datagram, intake::Intake, scheduler::Packet, switch},
    quic::{
        capacity::Estimate,
        congestion::{Delay, Room},
        measure::{self, Counters, Meter},
    },
};
use admission::{News, Shown};
use stream::{Frames, Group, Hello, MESSAGE_MAX, Outbox, OutboxReader, StreamError};

/// Why a relay closes a connection: the code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    Stopping,
    Duplicate,
    Version,
    Protocol,
    Itself,
    Overflow,
    Asked,
    Full,
    Outsider,
}

impl Close {
    pub fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// Whether `error` is the neighbor closing for this reason.
    pub fn is(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == self.code())
    }
}

/// The streams of a link in the order of [`Group::ALL`].
pub(crate) type Streams = [(SendStream, RecvStream); 3];

/// What every handle of a link shares.
pub(crate) struct LinkShared {
    pub id: LinkId,
    pub neighbor: NodeId,
    /// The zone token it showed.
    pub shown: Shown,
    pub counters: Arc<Counters>,
    /// What is on its way to the neighbor, and the waker of who sends more. Another one when the neighbor's
    /// address changes.
    room: ArcSwap<Room>,
    /// The longest datagram that the path takes, as it was when it was looked at last.
    longest: AtomicUsize,
    /// Packets of other threads.
    pub intake: Intake,
    connection: Connection,
    outboxes: [Outbox; 3],
    open: AtomicBool,
    /// Why this side closed it, for the log: quinn only knows that it did.
    closed_for: OnceLock<String>,
    ended: watch::Sender<bool>,
}

impl LinkShared {
    pub fn new(
        id: LinkId,
        neighbor: NodeId,
        shown: Shown,
        connection: Connection,
        counters: Arc<Counters>,
    ) -> (Arc<LinkShared>, [OutboxReader; 3]) {
        let [(control, a), (chat, b), (bulk, c)] = Group::ALL.map(|_| stream::outbox());
        let room = ArcSwap::from(room_of(&connection));
        let link = LinkShared {
            id,
            neighbor,
            shown,
            counters,
            room,
            longest: AtomicUsize::new(connection.max_datagram_size().unwrap_or(usize::MAX)),
            intake: Intake::default(),
            connection,
            outboxes: [control, chat, bulk],
            open: AtomicBool::new(true),
            closed_for: OnceLock::new(),
            ended: watch::Sender::new(false),
        };
        (Arc::new(link), [a, b, c])
    }

    /// What is on its way to the neighbor.
    pub fn room(&self) -> Guard<Arc<Room>> {
        self.room.load()
    }

    /// There is something to send, or there may be room again.
    pub fn wake(&self) {
        self.room.load().waker.wake();
    }

    /// The longest datagram that leaves in one piece.
    pub fn longest(&self) -> usize {
        self.longest.load(Ordering::Relaxed)
    }

    /// Asks quinn how long a datagram may be: the path may have become wider or narrower.
    pub fn look_at_path(&self) {
        self.longest.store(self.connection.max_datagram_size().unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// On a new path quinn begins with a new controller; and whatever went wrong with waking, media never waits
    /// longer than from one look to the next.
    fn look_for_room(&self) {
        self.look_at_path();
        let room = room_of(&self.connection);
        if !Arc::ptr_eq(&room, &self.room.load()) {
            self.room.swap(room).waker.wake();
        }
        self.wake();
    }

    /// Ends the link; its `Down` follows.
    pub fn close(&self, why: Close, reason: &str) {
        let _ = self.closed_for.set(reason.to_owned());
        self.connection.close(why.code(), reason.as_bytes());
    }

    /// Waits until the link is down and has said so.
    pub async fn ended(&self) {
        // The sender is in `self`, so the wait can only end with the value.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// A cheap handle to send over one link, from any thread. It outlives the link: what is sent after the
/// link went down is dropped and counted.
#[derive(Clone)]
pub struct LinkSender(pub(crate) Arc<LinkShared>);

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkSender({:?} to {:?})", self.0.id, self.0.neighbor)
    }
}

impl LinkSender {
    /// The link this sends over.
    pub fn link(&self) -> LinkId {
        self.0.id
    }

    /// The relay at its other end.
    pub fn neighbor(&self) -> NodeId {
        self.0.neighbor
    }

    /// Pieces of media and messages that came so far, counted only where they were proven to be the
    /// neighbor's: a number that grew is a sign of life. Acknowledgements are none: QUIC gives them also for
    /// a relay that does nothing any more.
    pub fn heard(&self) -> u64 {
        let frames = self.0.connection.stats().frame_rx;
        frames.datagram + frames.stream
    }

    /// Queues a message that arrives whole and, among those of its class, in order. `false` if it was
    /// not taken: longer than 256 KiB, the link is down, or the queue is full. A neighbor that lets the
    /// queue of control messages fill up does not follow the mesh any more, so that closes the link.
    pub fn send_message(&self, class: Class, message: Bytes) -> bool {
        let link = &*self.0;
        if !link.open.load(Ordering::Acquire) {
            link.counters.link_down.increment(1);
            return false;
        }
        let group = Group::of(class);
        if message.len() > MESSAGE_MAX {
            link.counters.too_large.increment(1);
            return false;
        }
        let taken = link.outboxes[group as usize].push(message);
        if !taken {
            link.counters.outbox_full.increment(1);
            if group == Group::Control {
                link.close(Close::Overflow, "control messages are not read fast enough");
            }
        }
        taken
    }

    /// Queues a media packet. Never blocks: when the queue of its class is full the oldest packet of
    /// that class goes.
    pub fn send_media(&self, class: Class, kind: DatagramKind, epoch: u8, alias: Alias, payload: &Bytes) {
        let link = &*self.0;
        if !link.open.load(Ordering::Acquire) {
            link.counters.link_down.increment(1);
            return;
        }
        if !link.intake.push(Packet { kind, class, epoch, alias, payload: payload.clone() }) {
            link.counters.queue_full.increment(1);
        }
        link.wake();
    }
}

/// The controller is ours, see `transport.rs`; any other would leave the room closed.
pub(crate) fn room_of(connection: &Connection) -> Arc<Room> {
    let delay = connection.congestion_state().into_any().downcast::<Delay>();
    delay.map_or_else(|_| Arc::default(), |delay| delay.room())
}

/// Opens the streams and exchanges hellos, as the side that dialed.
pub(crate) async fn dialed(connection: &Connection, own: &Hello) -> Result<(Hello, Streams), StreamError> {
    let mut streams = Vec::with_capacity(Group::ALL.len());
    for group in Group::ALL {
        let (mut send, receive) = connection.open_bi().await.map_err(WriteLost::from)?;
        send.set_priority(group.priority()).map_err(|_| StreamError::Ended)?;
        send.write_all(&[group.tag()]).await?;
        if group == Group::Control {
            stream::send_hello(&mut send, own).await?;
        }
        streams.push((send, receive));
    }
    let mut streams: Streams = streams.try_into().map_err(|_| StreamError::Ended)?;
    let hello = stream::receive_hello(&mut streams[Group::Control as usize].1).await?;
    Ok((hello, streams))
}

/// Accepts the streams and reads the dialer's hello. The answer is the caller's.
pub(crate) async fn accepted(connection: &Connection) -> Result<(Hello, Streams), StreamError> {
    let mut slots = [None, None, None];
    for _ in Group::ALL {
        let (send, mut receive) = connection.accept_bi().await.map_err(WriteLost::from)?;
        let mut tag = [0];
        receive.read_exact(&mut tag).await?;
        let group = Group::from_tag(tag[0]).ok_or(StreamError::NotHello)?;
        send.set_priority(group.priority()).map_err(|_| StreamError::Ended)?;
        if slots[group as usize].replace((send, receive)).is_some() {
            return Err(StreamError::NotHello);
        }
    }
    let [Some(mut control), Some(chat), Some(bulk)] = slots else { return Err(StreamError::NotHello) };
    let hello = stream::receive_hello(&mut control.1).await?;
    Ok((hello, [control, chat, bulk]))
}

struct WriteLost;

impl WriteLost {
    fn from(error: ConnectionError) -> StreamError {
        StreamError::Write(quinn::WriteError::ConnectionLost(error))
    }
}

/// Everything a link needs while it is up.
pub(crate) struct Run {
    pub link: Arc<LinkShared>,
    pub outboxes: [OutboxReader; 3],
    pub streams: Streams,
    pub zone: ZoneName,
    pub underlay: Underlay,
    pub remote: SocketAddr,
    pub news: News,
    pub forwarding: Arc<Forwarding>,
    pub local: LocalDelivery,
    pub events: mpsc::Sender<BridgeEvent>,
}

/// Carries the link until it ends: `Up`, messages and measurements, `Down`.
pub(crate) async fn run(run: Run) {
    let Run { link, outboxes, streams, zone, underlay, remote, news, forwarding, local, events } = run;
    let up = BridgeEvent::Up {
        link: link.id,
        neighbor: link.neighbor,
        zone: zone.clone(),
        remote,
        underlay,
        sender: LinkSender(link.clone()),
    };
    let up_gauge = gauge!("relay_bridge_up", "zone" => zone.to_string());
    up_gauge.increment(1.0);
    if events.send(up).await.is_ok() {
        let connection = link.connection.clone();
        let mut tasks = JoinSet::new();
        for ((send, receive), outbox) in streams.into_iter().zip(outboxes) {
            tasks.spawn(write(send, outbox));
            tasks.spawn(read(receive, link.id, events.clone()));
        }
        let port = switch::open(&link);
        let inbound = datagram::Inbound::new(&link, forwarding, local);
        let (sending, receiving) = (connection.clone(), connection.clone());
        let shared = link.clone();
        tasks.spawn(async move { datagram::send(sending, shared).await.to_string() });
        tasks.spawn(async move { datagram::receive(receiving, inbound).await.to_string() });
        tasks.spawn(news.listen(connection.clone(), link.neighbor));
        tasks.spawn(news.tell(connection.clone()));
        tasks.spawn(report(connection.clone(), link.clone(), zone, events.clone()));

        let reason = match tasks.join_next().await {
            Some(Ok(reason)) => reason,
            _ => "a task of the link failed".to_owned(),
        };
        let reason = match (link.closed_for.get(), connection.close_reason()) {
            (Some(own), _) => own.clone(),
            (None, Some(closed)) => closed.to_string(),
            (None, None) => reason,
        };
        link.open.store(false, Ordering::Release);
        link.close(Close::Protocol, &reason);
        tasks.shutdown().await;
        drop(port);
        let _ = events.send(BridgeEvent::Down { link: link.id, reason }).await;
    }
    link.open.store(false, Ordering::Release);
    up_gauge.decrement(1.0);
    link.ended.send_replace(true);
}

async fn write(mut stream: SendStream, mut outbox: OutboxReader) -> String {
    while let Some(message) = outbox.next().await {
        if let Err(error) = stream::write_frame(&mut stream, message).await {
            return error.to_string();
        }
    }
    "no sender is left".to_owned()
}

async fn read(mut stream: RecvStream, link: LinkId, events: mpsc::Sender<BridgeEvent>) -> String {
    let mut frames = Frames::new(MESSAGE_MAX);
    loop {
        match stream::read_frame(&mut stream, &mut frames).await {
            // While the node loop is busy nothing more is read, and QUIC's windows stop the neighbor.
            Ok(message) => {
                if events.send(BridgeEvent::Message { link, message }).await.is_err() {
                    return "this relay is stopping".to_owned();
                }
            }
            Err(error) => return error.to_string(),
        }
    }
}

async fn report(
    connection: Connection,
    link: Arc<LinkShared>,
    zone: ZoneName,
    events: mpsc::Sender<BridgeEvent>,
) -> String {
    let (mut meter, mut estimate) = (Meter::default(), Estimate::default());
    let mut ticks = tokio::time::interval(measure::INTERVAL);
    let mut ticked = 0_u32;
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = connection.stats();
        let measurement = meter.read(&stats);
        link.counters.bytes_in.increment(measurement.bytes_in);
        link.counters.bytes_out.increment(measurement.bytes_out);
        switch::with(|switch| {
            switch.handle_round_trip(&zone, link.id, stats.path.rtt);
            if ticked.is_multiple_of(SWEEP) {
                switch.handle_tick(link.id);
            }
        });
        ticked += 1;
        link.look_for_room();
        // A report that finds no room is worthless by the time there is some.
        let _ = events.try_send(BridgeEvent::Measured {
            link: link.id,
            rtt: stats.path.rtt,
            loss: measurement.loss,
            capacity: estimate.handle_look(link.room().delivered(), crate::clock::now()),
        });
    }
}

/// Reports between two looks for packets that nobody will ask for any more: 2 s.
const SWEEP: u32 = 8;
/// How long a stranger may take from the first packet to its hello.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
