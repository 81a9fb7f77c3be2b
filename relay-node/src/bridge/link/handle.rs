//! What is shared of a link, and the handle to send messages over it from any thread: queues in, and whether it is
//! up. Media goes the way of `forwarding/table.rs`; the tasks that empty the queues are in `mod.rs` and in
//! `forwarding/switch.rs`.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use protocol::{
    BridgeVersion, NodeId,
    mesh::Class,
    parity::{Cover, Protection},
};
use quinn::Connection;
use tokio::sync::watch;

use super::{
    admission::Shown,
    close::Close,
    stream::{self, Group, MESSAGE_MAX, Outbox, OutboxReader},
};
use crate::bridge::{
    LinkId,
    forwarding::{parity::tally::Tally, table::Intake},
    quic::{congestion::Delay, measure::Counters, send_budget::SendBudget},
};

/// What every handle of a link shares.
pub(crate) struct LinkShared {
    pub id: LinkId,
    pub neighbor: NodeId,
    /// Which run of it, if it says so.
    pub incarnation: Option<u64>,
    /// What both ends use: what a later version brought does not leave here.
    pub version: BridgeVersion,
    /// The zone token it showed.
    pub shown: Shown,
    pub counters: Arc<Counters>,
    /// What is on its way to the neighbor, and the waker of who sends more. Another one when the neighbor's
    /// address changes.
    budget: ArcSwap<SendBudget>,
    /// The longest datagram that the path takes, as it was when it was looked at last.
    longest: AtomicUsize,
    /// Packets of other threads.
    pub intake: Intake,
    /// What came from the neighbor, and what was lost.
    pub tally: Tally,
    /// The parity that the neighbor asks for: two bits for sound, then two for pictures.
    protection: AtomicU8,
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
        (neighbor, incarnation, version): (NodeId, Option<u64>, BridgeVersion),
        shown: Shown,
        connection: Connection,
        counters: Arc<Counters>,
    ) -> (Arc<LinkShared>, [OutboxReader; 3]) {
        let [(control, a), (chat, b), (bulk, c)] = Group::ALL.map(|_| stream::outbox());
        let budget = ArcSwap::from(budget_of(&connection));
        let link = LinkShared {
            id,
            neighbor,
            incarnation,
            version,
            shown,
            counters,
            budget,
            longest: AtomicUsize::new(connection.max_datagram_size().unwrap_or(usize::MAX)),
            intake: Intake::default(),
            tally: Tally::default(),
            protection: AtomicU8::new(0),
            connection,
            outboxes: [control, chat, bulk],
            open: AtomicBool::new(true),
            closed_for: OnceLock::new(),
            ended: watch::Sender::new(false),
        };
        (Arc::new(link), [a, b, c])
    }

    /// Whether both are links to one run of a relay, as far as it says.
    pub fn same_run(&self, other: &LinkShared) -> bool {
        self.incarnation.is_none() || other.incarnation.is_none() || self.incarnation == other.incarnation
    }

    /// What is on its way to the neighbor.
    pub fn budget(&self) -> Guard<Arc<SendBudget>> {
        self.budget.load()
    }

    /// There is something to send, or there may be room again.
    pub fn wake(&self) {
        self.budget.load().waker.wake();
    }

    /// The longest datagram that leaves in one piece.
    pub fn longest(&self) -> usize {
        self.longest.load(Ordering::Relaxed)
    }

    /// The parity that the neighbor asks for.
    pub fn protection(&self) -> Protection {
        let bits = self.protection.load(Ordering::Relaxed);
        let cover = |bits| match bits & 3 {
            0 => Cover::None,
            1 => Cover::Once,
            _ => Cover::Twice,
        };
        Protection { audio: cover(bits), video: cover(bits >> 2) }
    }

    /// Asks quinn how long a datagram may be: the path may have become wider or narrower.
    pub fn look_at_path(&self) {
        self.longest.store(self.connection.max_datagram_size().unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// On a new path quinn begins with a new controller; and whatever went wrong with waking, media never waits
    /// longer than from one look to the next.
    pub fn look_for_budget(&self) {
        self.look_at_path();
        let budget = budget_of(&self.connection);
        if !Arc::ptr_eq(&budget, &self.budget.load()) {
            self.budget.swap(budget).waker.wake();
        }
        self.wake();
    }

    /// Ends the link; its `Down` follows.
    pub fn close(&self, why: Close, reason: &str) {
        let _ = self.closed_for.set(reason.to_owned());
        self.connection.close(why.code(), reason.as_bytes());
    }

    /// The QUIC connection, for the tasks of the link.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Why this side closed it, if it did.
    pub fn closed_for(&self) -> Option<&String> {
        self.closed_for.get()
    }

    /// Whether what is sent is still taken.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// From now on what is sent is dropped and counted.
    pub fn go_down(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// The link is down and has said so.
    pub fn end(&self) {
        self.ended.send_replace(true);
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

    /// The bridge version that both ends use.
    pub fn version(&self) -> BridgeVersion {
        self.0.version
    }

    /// The neighbor asks for this much parity from now on.
    pub fn protect(&self, Protection { audio, video }: Protection) {
        self.0.protection.store(audio as u8 | (video as u8) << 2, Ordering::Relaxed);
        self.0.wake();
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
        if !link.is_open() {
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
}

/// The controller is ours, see `transport.rs`; any other would leave the budget closed.
pub(crate) fn budget_of(connection: &Connection) -> Arc<SendBudget> {
    let delay = connection.congestion_state().into_any().downcast::<Delay>();
    delay.map_or_else(|_| Arc::default(), |delay| delay.budget())
}
