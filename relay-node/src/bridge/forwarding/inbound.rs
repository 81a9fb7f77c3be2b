//! The receiving side of a link: each datagram once, to where the table says. What is missing is asked for, or rebuilt
//! where parity comes. What the links of this thread share is in `switch.rs`.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::mesh::{Alias, Class, DatagramHeader, DatagramKind};
use quinn::{Connection, ConnectionError};

use super::{
    dedup::{Pace, Seen, Window},
    fragments::Fragments,
    packet::{Packet, kind},
    parity::recoverer::{Recoverer, Refused},
    repair::{Gap, Gaps, Nack},
    switch::{self, Switch, Taken},
    table::{Forwarding, LocalDelivery},
};
#[cfg(feature = "next")]
use crate::bridge::next;
use crate::{
    bridge::{LinkId, link::handle::LinkShared, quic::measure::Counters},
    clock,
};

/// Above this many windows those of aliases that left the table go.
const WINDOWS: usize = 256;
/// Aliases of a link whose datagrams are kept for parity.
const RECOVERERS_MAX: usize = 128;

/// Reads datagrams and sends each where the table says: all that are there in one turn, so that they leave together.
pub(crate) async fn receive(connection: Connection, mut inbound: Inbound) -> ConnectionError {
    let mut datagram = pin!(connection.read_datagram());
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let link = inbound.link();
    poll_fn(|cx| {
        let now = clock::now();
        // quinn holds a bounded number of them, and none comes while this thread is here.
        while let Poll::Ready(read) = datagram.as_mut().poll(cx) {
            match read {
                Ok(read) => switch::with(link, |switch| inbound.handle(switch, read, now)),
                Err(error) => return Poll::Ready(error),
            }
            datagram.set(connection.read_datagram());
        }
        while let Some(due) = inbound.poll_timeout() {
            if due > now {
                if timer.deadline() != due.into() {
                    timer.as_mut().reset(due.into());
                }
                ready!(timer.as_mut().poll(cx));
            }
            switch::with(link, |switch| inbound.handle_timeout(switch, now.max(due)));
        }
        Poll::Pending
    })
    .await
}

/// What the receiving side of a link knows.
pub(crate) struct Inbound {
    link: Arc<LinkShared>,
    forwarding: Arc<Forwarding>,
    local: LocalDelivery,
    counters: Arc<Counters>,
    feeds: HashMap<Alias, Feed>,
    gaps: Gaps,
    fragments: Fragments,
}

/// What came with one alias.
struct Feed {
    window: Window,
    pace: Option<Pace>,
    kind: usize,
    /// While parity of it comes.
    recoverer: Option<Box<Recoverer>>,
}

impl Feed {
    fn new(first: u16, class: Class) -> Feed {
        Feed { window: Window::new(first), pace: None, kind: kind(class), recoverer: None }
    }
}

/// How a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Itself,
    /// Out of parity.
    Rebuilt,
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
            fragments: Fragments::default(),
        }
    }

    /// The link whose receiving side it is.
    pub fn link(&self) -> LinkId {
        self.link.id
    }

    /// A datagram came.
    pub fn handle(&mut self, switch: &mut Switch, datagram: Bytes, now: Instant) {
        let Some((header, payload)) = DatagramHeader::split(datagram) else {
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
            DatagramKind::Probe => {
                let shortest = self.link.budget().shortest();
                if !switch.handle_probe(self.link.id, &header, payload.len(), shortest, now) {
                    self.counters.queue_full.increment(1);
                }
                return;
            }
            DatagramKind::Parity => return self.handle_parity(switch, &header, &payload, now),
            #[cfg(feature = "next")]
            next::KIND => return next::count(&self.link.neighbor, "datagram"),
            DatagramKind::Unknown(_) => {
                self.counters.unknown_kind.increment(1);
                if !header.kind.in_sequence() {
                    return;
                }
            }
            DatagramKind::Rtp
            | DatagramKind::SenderClock
            | DatagramKind::Fragment
            | DatagramKind::Withheld => {}
        }
        if self.take(switch, header, payload, Way::Itself, now) {
            self.take_rebuilt(switch, header.alias, now);
        }
    }

    /// A parity came.
    #[inline(never)]
    fn handle_parity(&mut self, switch: &mut Switch, header: &DatagramHeader, payload: &[u8], now: Instant) {
        let DatagramHeader { alias, sequence: first, .. } = *header;
        if !self.forwarding.load().incoming.contains_key(&(self.link.id, alias)) {
            return self.count_no_track(alias);
        }
        if self.feeds.get(&alias).is_some_and(|feed| feed.recoverer.is_none()) {
            self.keep_from_now_on(alias, now);
        }
        let feed = self.feeds.get_mut(&alias);
        let Some(recoverer) = feed.and_then(|feed| feed.recoverer.as_mut()) else {
            self.counters.parity_absent.increment(1);
            return;
        };
        match recoverer.handle_parity(first, payload, now) {
            Ok(()) => self.gaps.handle_parity(alias, first, now),
            Err(Refused::Malformed) => self.counters.parity_malformed.increment(1),
            Err(Refused::Absent) => self.counters.parity_absent.increment(1),
        }
        self.take_rebuilt(switch, alias, now);
    }

    /// The first parity of an alias came: what comes of it is kept from now on, if there is a place.
    fn keep_from_now_on(&mut self, alias: Alias, now: Instant) {
        let mut taken = 0;
        for feed in self.feeds.values_mut() {
            feed.recoverer.take_if(|recoverer| recoverer.is_over(now));
            taken += usize::from(feed.recoverer.is_some());
        }
        if let Some(feed) = self.feeds.get_mut(&alias).filter(|_| taken < RECOVERERS_MAX) {
            feed.recoverer = Some(Box::new(Recoverer::new(now)));
        }
    }

    /// What parity brings back of an alias goes the way of what comes.
    #[inline(never)]
    fn take_rebuilt(&mut self, switch: &mut Switch, alias: Alias, now: Instant) {
        while let Some(feed) = self.feeds.get_mut(&alias)
            && let Some(recoverer) = &mut feed.recoverer
        {
            let rebuilt = recoverer.poll_rebuilt(alias, now);
            if recoverer.has_news() {
                let counts = recoverer.take_counts();
                self.counters.parity_malformed.increment(counts.malformed);
                self.counters.fec[feed.kind].useless.increment(counts.useless);
            }
            let Some((header, payload)) = rebuilt else {
                feed.recoverer.take_if(|recoverer| recoverer.is_over(now));
                return;
            };
            self.take(switch, header, payload, Way::Rebuilt, now);
        }
    }

    /// A datagram with a number of its alias goes where the table says, if it is news. Whether parity of its alias comes:
    /// it may bring others back.
    fn take(
        &mut self,
        switch: &mut Switch,
        mut header: DatagramHeader,
        mut payload: Bytes,
        way: Way,
        now: Instant,
    ) -> bool {
        let table = self.forwarding.load();
        let Some(route) = table.incoming.get(&(self.link.id, header.alias)) else {
            self.count_no_track(header.alias);
            return false;
        };
        if self.feeds.len() > WINDOWS && !self.feeds.contains_key(&header.alias) {
            let link = self.link.id;
            self.feeds.retain(|alias, _| table.incoming.contains_key(&(link, *alias)));
        }
        let feed = self.feeds.entry(header.alias).or_insert_with(|| Feed::new(header.sequence, route.class));
        let (kind, tally) = (feed.kind, &self.link.tally);
        match feed.window.insert(header.sequence) {
            Seen::Fresh { missed } => {
                tally.handle_came(kind, way == Way::Rebuilt);
                if missed > 0 {
                    self.counters.lost.increment(u64::from(missed));
                    let has_parity = feed.recoverer.as_ref().is_some_and(|recoverer| recoverer.expects(now));
                    let DatagramHeader { alias, sequence, .. } = header;
                    let gap = Gap { alias, sequence, missed, class: route.class, has_parity };
                    if self.gaps.handle_gap(gap, self.link.budget().rtt(), now) {
                        tally.handle_lost(kind, missed);
                    }
                    give_up(&mut self.gaps, &self.link, &self.counters);
                }
            }
            Seen::Late => {
                let was_asked = self.gaps.handle_late(header.alias, header.sequence);
                if !was_asked && way == Way::Itself {
                    tally.handle_reordered(kind);
                }
            }
            seen if way == Way::Rebuilt => {
                debug_assert!(matches!(seen, Seen::Duplicate | Seen::TooOld));
                self.counters.fec[kind].late.increment(1);
                return false;
            }
            Seen::Duplicate => {
                self.counters.duplicate.increment(1);
                return false;
            }
            Seen::TooOld => {
                self.counters.too_old.increment(1);
                return false;
            }
        }
        let has_parity = feed.recoverer.is_some();
        match way {
            Way::Rebuilt => self.counters.fec[kind].recovered.increment(1),
            Way::Itself => {
                if let Some(recoverer) = &mut feed.recoverer {
                    recoverer.handle_datagram(&header, &payload, now);
                }
            }
        }
        // It has its place in the sequence, so that nobody asks for it; there is nothing else to do with it here.
        if matches!(header.kind, DatagramKind::Unknown(_)) {
            return has_parity;
        }
        if header.kind == DatagramKind::Fragment {
            match self.fragments.handle(&header, payload, now) {
                Ok(Some(whole)) => (header.kind, payload) = (DatagramKind::Rtp, whole),
                Ok(None) => return has_parity,
                Err(_) => {
                    self.counters.malformed.increment(1);
                    return has_parity;
                }
            }
        }
        match switch.take(&table, route.track, &header, &payload, &mut feed.pace) {
            Taken::Fresh => {}
            Taken::Known => {
                self.counters.second_feed.increment(1);
                return has_parity;
            }
            Taken::Malformed => {
                self.counters.malformed.increment(1);
                return has_parity;
            }
        }
        // Not back to where it came from: with two feeds two relays can be each other's.
        for child in route.children.iter().filter(|child| child.link.link() != self.link.id) {
            let packet = Packet {
                kind: header.kind,
                class: route.class,
                epoch: header.epoch,
                alias: child.alias,
                precedence: child.precedence,
                payload: payload.clone(),
            };
            switch.pass_on(&child.link.0, packet, now);
        }
        if let Some(track) = route.local {
            (self.local)(track, header, payload);
        }
        has_parity
    }

    fn count_no_track(&self, alias: Alias) {
        match self.forwarding.has_left(self.link.id, alias) {
            true => self.counters.track_left.increment(1),
            false => self.counters.unknown_alias.increment(1),
        }
    }

    /// Bytes of packets that are not whole yet.
    pub fn held(&self) -> usize {
        self.fragments.held()
    }

    /// Bytes that are kept for parity.
    pub fn held_for_parity(&self) -> usize {
        self.feeds.values().filter_map(|feed| feed.recoverer.as_ref()).map(|recoverer| recoverer.held()).sum()
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
        give_up(&mut self.gaps, &self.link, &self.counters);
    }
}

/// Counts what is too late.
fn give_up(gaps: &mut Gaps, link: &LinkShared, counters: &Counters) {
    let [sound, pictures, jumped] = gaps.take_late();
    counters.repair_late.increment(sound + pictures + jumped);
    link.tally.handle_late([sound, pictures]);
}
