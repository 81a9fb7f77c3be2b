//! The media path of one link: datagrams in, table lookup, datagrams out. Nothing here waits for the
//! node loop.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use protocol::mesh::{Alias, DatagramHeader, DatagramKind};
use quinn::{Connection, ConnectionError, SendDatagramError};

use super::{
    dedup::{Pace, Seen, Window},
    packet::Packet,
    pieces::Pieces,
    repair::{Gaps, Nack},
    scheduler::Next,
    switch::{self, Switch, Taken},
    table::{Forwarding, LocalDelivery},
};
#[cfg(feature = "next")]
use crate::bridge::next;
use crate::{
    bridge::{
        link::handle::LinkShared,
        quic::{measure::Counters, transport::DATAGRAM_SEND_BUFFER},
    },
    clock,
};

/// Above this many windows those of aliases that left the table go.
const WINDOWS: usize = 256;
/// What quinn's queue counts for each datagram besides its bytes.
const QUEUED: u64 = 32;

/// Feeds quinn from the link's queues, only while there is room on the way.
pub(crate) async fn send(connection: Connection, link: Arc<LinkShared>) -> SendDatagramError {
    poll_fn(|cx| poll_send(&connection, &link, cx)).await
}

fn poll_send(connection: &Connection, link: &LinkShared, cx: &mut Context<'_>) -> Poll<SendDatagramError> {
    let budget = link.budget();
    // Before looking: what comes from now on wakes us.
    budget.waker.register(cx.waker());
    switch::with(|switch| switch.take_in(link.id));
    let space = connection.datagram_send_buffer_space();
    let mut buffered = DATAGRAM_SEND_BUFFER.saturating_sub(space) as u64;
    loop {
        let queue = budget.buffer().min(DATAGRAM_SEND_BUFFER as u64).saturating_sub(buffered + 2 * QUEUED);
        let (urgent, media) = (budget.for_urgent(buffered).min(queue), budget.for_media(buffered).min(queue));
        let next = switch::with(|switch| switch.pop(link.id, urgent, media, link.longest()));
        budget.want(next == Next::Wait);
        let Next::Datagram(datagram) = next else { return Poll::Pending };
        buffered += datagram.len() as u64 + QUEUED;
        match connection.send_datagram(datagram) {
            Ok(()) => {}
            // The path has become narrower since it was looked at: from now on in pieces.
            Err(SendDatagramError::TooLarge) => {
                link.counters.too_large.increment(1);
                link.look_at_path();
            }
            Err(error) => return Poll::Ready(error),
        }
    }
}

/// Reads datagrams and sends each where the table says.
pub(crate) async fn receive(connection: Connection, mut inbound: Inbound) -> ConnectionError {
    loop {
        let due = inbound.poll_timeout();
        let sleep = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            datagram = connection.read_datagram() => match datagram {
                Ok(datagram) => {
                    let now = clock::now();
                    switch::with(|switch| inbound.handle(switch, datagram, now));
                    if due.is_some_and(|due| due <= now) {
                        switch::with(|switch| inbound.handle_timeout(switch, now));
                    }
                }
                Err(error) => return error,
            },
            () = sleep => switch::with(|switch| inbound.handle_timeout(switch, clock::now())),
        }
    }
}

/// What the receiving side of a link knows.
pub(crate) struct Inbound {
    link: Arc<LinkShared>,
    forwarding: Arc<Forwarding>,
    local: LocalDelivery,
    counters: Arc<Counters>,
    feeds: HashMap<Alias, Feed>,
    gaps: Gaps,
    pieces: Pieces,
}

/// What came with one alias.
struct Feed {
    window: Window,
    pace: Option<Pace>,
}

impl Inbound {
    pub fn new(link: &Arc<LinkShared>, forwarding: Arc<Forwarding>, local: LocalDelivery) -> Inbound {
        Inbound {
            link: link.clone(),
            forwarding,
            local,
            counters: link.counters.clone(),
            feeds: HashMap::new(),
            gaps: Gaps::default(),
            pieces: Pieces::default(),
        }
    }

    /// A datagram came.
    pub fn handle(&mut self, switch: &mut Switch, datagram: Bytes, now: Instant) {
        let Some((mut header, mut payload)) = DatagramHeader::split(datagram) else {
            self.counters.malformed.increment(1);
            return;
        };
        match header.kind {
            DatagramKind::Nack => {
                match Nack::read(header.alias, header.sequence, &payload) {
                    Some(nack) => switch.answer(self.link.id, nack),
                    None => self.counters.malformed.increment(1),
                }
                return;
            }
            #[cfg(feature = "next")]
            next::KIND => return next::count(&self.link.neighbor, "datagram"),
            DatagramKind::Unknown(_) => {
                self.counters.unknown_kind.increment(1);
                if !header.kind.in_sequence() {
                    return;
                }
            }
            DatagramKind::Rtp | DatagramKind::SenderClock | DatagramKind::Fragment => {}
        }
        let table = self.forwarding.load();
        let Some(route) = table.incoming.get(&(self.link.id, header.alias)) else {
            self.counters.unknown_alias.increment(1);
            return;
        };
        if self.feeds.len() > WINDOWS && !self.feeds.contains_key(&header.alias) {
            let link = self.link.id;
            self.feeds.retain(|alias, _| table.incoming.contains_key(&(link, *alias)));
        }
        let feed = self
            .feeds
            .entry(header.alias)
            .or_insert_with(|| Feed { window: Window::new(header.sequence), pace: None });
        match feed.window.insert(header.sequence) {
            Seen::Fresh { missed: 0 } => {}
            Seen::Fresh { missed } => {
                self.counters.lost.increment(u64::from(missed));
                let rtt = self.link.budget().rtt();
                self.gaps.handle_gap(header.alias, header.sequence, missed, route.class, rtt, now);
            }
            Seen::Late => self.gaps.handle_late(header.alias, header.sequence),
            Seen::Duplicate => {
                self.counters.duplicate.increment(1);
                return;
            }
            Seen::TooOld => {
                self.counters.too_old.increment(1);
                return;
            }
        }
        // It has its place in the sequence, so that nobody asks for it; there is nothing else to do with it here.
        if matches!(header.kind, DatagramKind::Unknown(_)) {
            return;
        }
        if header.kind == DatagramKind::Fragment {
            match self.pieces.handle(&header, payload, now) {
                Ok(Some(whole)) => (header.kind, payload) = (DatagramKind::Rtp, whole),
                Ok(None) => return,
                Err(_) => {
                    self.counters.malformed.increment(1);
                    return;
                }
            }
        }
        match switch.take(&table, route.track, &header, &payload, &mut feed.pace) {
            Taken::Fresh => {}
            Taken::Known => {
                self.counters.second_feed.increment(1);
                return;
            }
            Taken::Malformed => {
                self.counters.malformed.increment(1);
                return;
            }
        }
        // Not back to where it came from: with two feeds two relays can be each other's.
        for child in route.children.iter().filter(|child| child.link.link() != self.link.id) {
            let packet = Packet {
                kind: header.kind,
                class: route.class,
                epoch: header.epoch,
                alias: child.alias,
                payload: payload.clone(),
            };
            switch.pass_on(&child.link.0, packet);
        }
        if let Some(track) = route.local {
            (self.local)(track, header, payload);
        }
    }

    /// Bytes of packets that are not whole yet.
    pub fn held(&self) -> usize {
        self.pieces.held()
    }

    /// When to call [`Inbound::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.gaps.poll_timeout()
    }

    /// Asks for what is missing, gives up what is too late.
    pub fn handle_timeout(&mut self, switch: &mut Switch, now: Instant) {
        while let Some(nack) = self.gaps.poll_nack(self.link.budget().rtt(), now) {
            self.counters.nacks.increment(1);
            switch.send_nack(self.link.id, nack);
        }
        self.counters.repair_late.increment(self.gaps.take_late());
    }
}
