//! The media path of the bridges' thread: the port of each link, out of which its datagrams leave, and the window of each
//! track, whichever links its feeds come over. What a link receives comes through `inbound.rs`. Nothing here is locked, because nothing here is
//! shared, and nothing waits for the node loop.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use metrics::gauge;
use protocol::{
    ZoneName,
    mesh::{DatagramHeader, DatagramKind, SenderClock, Withheld},
};
use quinn::{Connection, SendDatagramError};

use super::{
    dedup::{Pace, TrackWindow},
    packet::{Packet, sequence},
    parity::protector,
    probing::{Probing, Sent},
    repair::Nack,
    scheduler::{Dropped, Next, Scheduler},
    shedding::Shed,
    table::Table,
};
use crate::{
    bridge::{
        LinkId,
        link::handle::LinkShared,
        quic::{probe, transport::DATAGRAM_SEND_BUFFER},
    },
    clock,
    drop_reason::DropReason,
};

/// What quinn's queue counts for each datagram besides its bytes, and for the next one when it is empty.
const QUEUED: u64 = 32;

/// Feeds quinn from the link's queues, only while there is room on the way.
pub(crate) async fn send(connection: Connection, link: Arc<LinkShared>) -> SendDatagramError {
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            match ready!(poll_send(&connection, &link, cx)) {
                Ok(probe_at) => timer.as_mut().reset(probe_at.into()),
                Err(error) => return Poll::Ready(error),
            }
            ready!(timer.as_mut().poll(cx));
        }
    })
    .await
}

/// Ready with an error, or with when to be called again.
fn poll_send(
    connection: &Connection,
    link: &LinkShared,
    cx: &mut Context<'_>,
) -> Poll<Result<Instant, SendDatagramError>> {
    let budget = link.budget();
    // Before looking: what comes from now on wakes us.
    budget.waker.register(cx.waker());
    let now = clock::now();
    with(link.id, |switch| switch.take_in(link.id, now));
    let space = connection.datagram_send_buffer_space();
    let mut buffered = DATAGRAM_SEND_BUFFER.saturating_sub(space) as u64;
    loop {
        let queue = budget.buffer().min(DATAGRAM_SEND_BUFFER as u64).saturating_sub(buffered + 2 * QUEUED);
        let (urgent, media) = (budget.for_urgent(buffered).min(queue), budget.for_media(buffered).min(queue));
        let sound = urgent.max(budget.past_window(buffered));
        let next = with(link.id, |switch| switch.pop(link.id, sound, media, link.longest(), now));
        budget.want(next == Next::Wait);
        let datagram = match next {
            Next::Datagram(datagram) => datagram,
            Next::Wait => {
                // Sound does not wait behind pictures that quinn holds.
                if buffered > QUEUED {
                    budget.handle_past(buffered);
                }
                return Poll::Pending;
            }
            Next::Nothing => {
                let parity_at = with(link.id, |switch| switch.poll_parity(link.id, now));
                return match (send_probe(connection, link, buffered, now), parity_at) {
                    (Poll::Ready(Ok(at)), Some(parity_at)) => Poll::Ready(Ok(at.min(parity_at))),
                    (Poll::Pending, Some(parity_at)) => Poll::Ready(Ok(parity_at)),
                    (sent, _) => sent,
                };
            }
        };
        let length = datagram.len() as u64;
        buffered += length + QUEUED;
        if length > urgent {
            budget.handle_past(buffered);
        }
        match connection.send_datagram(datagram) {
            Ok(()) => {}
            // The path has become narrower since it was looked at: from now on in fragments.
            Err(SendDatagramError::TooLarge) => {
                link.counters.too_large.increment(1);
                link.look_at_path();
            }
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Sends a probe that is due: nothing else waits.
fn send_probe(
    connection: &Connection,
    link: &LinkShared,
    buffered: u64,
    now: Instant,
) -> Poll<Result<Instant, SendDatagramError>> {
    let budget = link.budget();
    let path = probe::Path {
        room: budget.for_urgent(buffered),
        longest: link.longest().saturating_sub(DatagramHeader::LEN) as u64,
        idle: buffered <= QUEUED,
    };
    match with(link.id, |switch| switch.poll_probe(link.id, &path, now)) {
        Sent::Datagrams(datagrams) => {
            for datagram in datagrams {
                match connection.send_datagram(datagram) {
                    // The next probe is shorter.
                    Ok(()) | Err(SendDatagramError::TooLarge) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        Sent::Wait => budget.want(true),
        Sent::Later(at) => return Poll::Ready(Ok(at)),
        Sent::Nothing => {}
    }
    Poll::Pending
}

#[cfg(not(test))]
thread_local! {
    static SWITCH: RefCell<Switch> = RefCell::default();
}
// A test may have the bridges of several relays on one thread: of each relay the links in
// [`LINKS_OF_A_RELAY`] numbers.
#[cfg(test)]
thread_local! {
    static SWITCHES: RefCell<BTreeMap<u32, Switch>> = RefCell::default();
}
#[cfg(test)]
pub(crate) const LINKS_OF_A_RELAY: u32 = 1000;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It goes on.
    Fresh,
    /// Another feed of the track brought it.
    Known,
    /// It is no canonical packet, and no clock either.
    Malformed,
}

/// The state of this thread's links and tracks.
#[derive(Default)]
pub(crate) struct Switch {
    /// By link; links are few and their numbers grow.
    ports: Vec<(LinkId, Port)>,
    /// The table for which `tracks` was last cleaned.
    table: Option<Arc<Table>>,
    tracks: HashMap<u64, TrackWindow>,
    /// Tracks with more than one feed.
    twofold: BTreeSet<u64>,
    round_trips: BTreeMap<(ZoneName, LinkId), Duration>,
}

/// The sending side of one link.
struct Port {
    link: Arc<LinkShared>,
    scheduler: Box<Scheduler>,
    probing: Box<Probing>,
}

/// Calls `f` with the switch of the relay whose link this is: this thread's. Packets cross it one at a time, so calls
/// do not nest.
#[cfg(not(test))]
pub(crate) fn with<T>(_: LinkId, f: impl FnOnce(&mut Switch) -> T) -> T {
    SWITCH.with_borrow_mut(f)
}

#[cfg(test)]
pub(crate) fn with<T>(link: LinkId, f: impl FnOnce(&mut Switch) -> T) -> T {
    SWITCHES.with_borrow_mut(|switches| f(switches.entry(link.0 / LINKS_OF_A_RELAY).or_default()))
}

/// Packets for this link may be sent by this thread from now on.
pub(crate) fn open(link: &Arc<LinkShared>) -> Open {
    with(link.id, |switch| {
        let port = Port { link: link.clone(), scheduler: Box::default(), probing: Box::default() };
        match switch.place(link.id) {
            Ok(place) => switch.ports[place].1 = port,
            Err(place) => switch.ports.insert(place, (link.id, port)),
        }
    });
    Open(link.id)
}

/// Closes the port of a link when it is dropped.
pub(crate) struct Open(LinkId);

impl Drop for Open {
    fn drop(&mut self) {
        with(self.0, |switch| {
            if let Ok(place) = switch.place(self.0) {
                switch.ports.remove(place);
            }
            let zones: BTreeSet<ZoneName> = switch
                .round_trips
                .keys()
                .filter(|(_, link)| *link == self.0)
                .map(|(zone, _)| zone.clone())
                .collect();
            switch.round_trips.retain(|(_, link), _| *link != self.0);
            zones.iter().for_each(|zone| switch.publish_round_trip(zone));
        });
    }
}

impl Switch {
    fn place(&self, link: LinkId) -> Result<usize, usize> {
        self.ports.binary_search_by_key(&link, |(id, _)| *id)
    }

    /// Sends a packet that came over another link.
    pub fn pass_on(&mut self, link: &LinkShared, packet: Packet, now: Instant) {
        // A port that is not open belongs to a link that has just ended.
        match self.place(link.id) {
            Ok(place) => self.ports[place].1.push(packet, now),
            Err(_) => link.counters.link_down.increment(1),
        }
    }

    /// Asks the neighbor at the other end for what did not arrive.
    pub fn send_nack(&mut self, link: LinkId, nack: Nack) {
        if let Ok(place) = self.place(link) {
            let port = &mut self.ports[place].1;
            port.scheduler.push_nack(nack);
            port.link.wake();
        }
    }

    /// The neighbor at the other end asks.
    pub fn answer(&mut self, link: LinkId, nack: Nack) {
        if let Ok(place) = self.place(link) {
            let port = &mut self.ports[place].1;
            if port.scheduler.handle_nack(nack) > 0 {
                port.link.wake();
            }
        }
    }

    /// Takes what other threads have for a link into its queues.
    pub fn take_in(&mut self, link: LinkId, now: Instant) {
        if let Ok(place) = self.place(link) {
            let port = &mut self.ports[place].1;
            port.link.intake.drain(|packet| port.scheduler.push(packet, now));
            port.scheduler.handle_protection(port.link.protection());
        }
    }

    /// The next datagram of a link, see [`Scheduler::pop`].
    pub fn pop(&mut self, link: LinkId, urgent: u64, room: u64, longest: usize, now: Instant) -> Next {
        let Ok(place) = self.place(link) else { return Next::Nothing };
        let port = &mut self.ports[place].1;
        let answer = port.probing.pop_answer(urgent);
        let next = answer.map_or_else(|| port.scheduler.pop(urgent, room, longest, now), Next::Datagram);
        if let Next::Datagram(datagram) = &next {
            port.probing.handle_sent(datagram.len(), now);
        }
        if !matches!(next, Next::Datagram(_)) && port.scheduler.has_news() {
            port.settle();
        }
        next
    }

    /// A probe of the neighbor's, or its answer, see [`Probing::handle`].
    pub fn handle_probe(
        &mut self,
        link: LinkId,
        header: &DatagramHeader,
        octets: usize,
        shortest: Option<Duration>,
        now: Instant,
    ) -> bool {
        let Ok(place) = self.place(link) else { return true };
        let port = &mut self.ports[place].1;
        let taken = port.probing.handle(header, octets, shortest, now);
        port.link.wake();
        taken
    }

    /// What a link's probe sends next.
    pub fn poll_probe(&mut self, link: LinkId, path: &probe::Path, now: Instant) -> Sent {
        match self.place(link) {
            Ok(place) => self.ports[place].1.probing.poll(path, now),
            Err(_) => Sent::Nothing,
        }
    }

    /// When parity of a link may leave that is too early now.
    pub fn poll_parity(&self, link: LinkId, now: Instant) -> Option<Instant> {
        self.ports[self.place(link).ok()?].1.scheduler.poll_parity(now)
    }

    /// What a probe of a link found since the last call.
    pub fn take_seen(&mut self, link: LinkId) -> Option<probe::Seen> {
        let place = self.place(link).ok()?;
        self.ports[place].1.probing.take_seen()
    }

    /// What a link is thought to carry.
    pub fn handle_believed(&mut self, link: LinkId, bits: Option<u64>, now: Instant) {
        if let Ok(place) = self.place(link) {
            let port = &mut self.ports[place].1;
            port.probing.handle_believed(bits, now);
            port.scheduler.handle_believed(bits);
        }
    }

    /// Housekeeping of a link's queues.
    pub fn handle_tick(&mut self, link: LinkId) {
        if let Ok(place) = self.place(link) {
            self.ports[place].1.scheduler.handle_tick();
        }
    }

    /// A link's round trip. The gauge of a zone is the shortest of the links to it: what a packet takes if it
    /// is to be quick.
    pub fn handle_round_trip(&mut self, zone: &ZoneName, link: LinkId, round_trip: Duration) {
        self.round_trips.insert((zone.clone(), link), round_trip);
        self.publish_round_trip(zone);
    }

    fn publish_round_trip(&self, zone: &ZoneName) {
        let of_zone = (zone.clone(), LinkId(0))..=(zone.clone(), LinkId(u32::MAX));
        let shortest = self.round_trips.range(of_zone).map(|(_, round_trip)| *round_trip).min();
        gauge!("relay_bridge_rtt_seconds", "zone" => zone.to_string())
            .set(shortest.unwrap_or_default().as_secs_f64());
    }

    /// Forgets the tracks that are no longer in the table.
    fn adopt(&mut self, table: &Arc<Table>) {
        if self.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, table)) {
            return;
        }
        let mut tracks = BTreeSet::new();
        self.twofold.clear();
        for route in table.incoming.values() {
            if !tracks.insert(route.track) {
                self.twofold.insert(route.track);
            }
        }
        self.tracks.retain(|track, _| tracks.contains(track));
        self.table = Some(Arc::clone(table));
    }

    /// Whether a packet of `track` is the first copy of it. `pace` belongs to the feed that brought it.
    pub fn take(
        &mut self,
        table: &Arc<Table>,
        track: u64,
        header: &DatagramHeader,
        payload: &[u8],
        pace: &mut Option<Pace>,
    ) -> Taken {
        self.adopt(table);
        let taken = match header.kind {
            DatagramKind::Rtp => {
                let Some(sequence) = sequence(payload) else { return Taken::Malformed };
                let jumped = match pace {
                    Some(pace) => pace.jumped(header.epoch, sequence),
                    None => {
                        *pace = Some(Pace::new(header.epoch, sequence));
                        false
                    }
                };
                self.tracks
                    .entry(track)
                    .or_insert_with(|| TrackWindow::new(header.epoch, sequence))
                    .takes_packet(header.epoch, sequence, jumped)
            }
            DatagramKind::SenderClock => {
                let Some(clock) = SenderClock::read(payload) else { return Taken::Malformed };
                // A clock before the first packet of its track says nothing that the next one does not.
                self.tracks.get_mut(&track).is_some_and(|window| window.takes_clock(header.epoch, clock.ntp))
            }
            DatagramKind::Withheld => {
                let Some(withheld) = Withheld::read(payload) else { return Taken::Malformed };
                // What one feed does not bring the other one may.
                let has_one_feed = !self.twofold.contains(&track);
                let window = self.tracks.get_mut(&track).filter(|_| has_one_feed);
                window.is_some_and(|window| window.takes_withheld(header.epoch, withheld.last()))
            }
            DatagramKind::Nack
            | DatagramKind::Fragment
            | DatagramKind::Probe
            | DatagramKind::Parity
            | DatagramKind::Unknown(_) => return Taken::Malformed,
        };
        if taken { Taken::Fresh } else { Taken::Known }
    }
}

impl Port {
    fn push(&mut self, packet: Packet, now: Instant) {
        self.scheduler.push(packet, now);
        self.link.wake();
    }

    /// Once nothing leaves any more: what did not leave is counted, and parity that did. Keyframes are asked for.
    #[cold]
    fn settle(&mut self) {
        let Dropped { full, late, shed: Shed { layers, pictures } } = self.scheduler.take_dropped();
        let protector::Counts { sent, octets, shed: parity } = self.scheduler.take_parity();
        for (fec, (sent, octets)) in self.link.counters.fec.iter().zip(sent.into_iter().zip(octets)) {
            fec.sent.increment(sent);
            fec.bytes.increment(octets);
        }
        let counted = [
            (DropReason::BridgeParityShed, parity),
            (DropReason::BridgeQueueFull, full),
            (DropReason::BridgeTooLate, late),
            (DropReason::BridgeShedLayers, layers),
            (DropReason::BridgeShedPictures, pictures),
        ];
        for (reason, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
            reason.count_all(count);
        }
        while let Some(alias) = self.scheduler.poll_keyframe() {
            self.link.intake.want_keyframe(alias);
        }
    }
}
