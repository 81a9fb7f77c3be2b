//! What the bridges' thread alone owns of the packet path: the port of each link and the window of each track,
//! whichever links its feeds come over. Nothing here is locked, because nothing here is shared.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use metrics::gauge;
use protocol::{
    ZoneName,
    mesh::{DatagramHeader, DatagramKind, SenderClock},
};

use super::{
    dedup::{Pace, TrackWindow},
    packet::{Packet, sequence},
    repair::Nack,
    scheduler::{Next, Scheduler},
    table::Table,
};
use crate::bridge::{LinkId, link::handle::LinkShared};

thread_local! {
    static SWITCH: RefCell<Switch> = RefCell::default();
}

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
    round_trips: BTreeMap<(ZoneName, LinkId), Duration>,
}

/// The sending side of one link.
struct Port {
    link: Arc<LinkShared>,
    scheduler: Box<Scheduler>,
}

/// Calls `f` with this thread's switch. Packets cross it one at a time, so calls do not nest.
pub(crate) fn with<T>(f: impl FnOnce(&mut Switch) -> T) -> T {
    SWITCH.with_borrow_mut(f)
}

/// Packets for this link may be sent by this thread from now on.
pub(crate) fn open(link: &Arc<LinkShared>) -> Open {
    with(|switch| {
        let port = Port { link: link.clone(), scheduler: Box::default() };
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
        with(|switch| {
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
    pub fn pass_on(&mut self, link: &LinkShared, packet: Packet) {
        // A port that is not open belongs to a link that has just ended.
        match self.place(link.id) {
            Ok(place) => self.ports[place].1.push(packet),
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
    pub fn take_in(&mut self, link: LinkId) {
        if let Ok(place) = self.place(link) {
            let port = &mut self.ports[place].1;
            port.link.intake.drain(|packet| {
                if !port.scheduler.push(packet) {
                    port.link.counters.queue_full.increment(1);
                }
            });
        }
    }

    /// The next datagram of a link, see [`Scheduler::pop`].
    pub fn pop(&mut self, link: LinkId, urgent: u64, room: u64, longest: usize) -> Next {
        match self.place(link) {
            Ok(place) => self.ports[place].1.scheduler.pop(urgent, room, longest),
            Err(_) => Next::Nothing,
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
        let tracks: BTreeSet<u64> = table.incoming.values().map(|route| route.track).collect();
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
            DatagramKind::Nack | DatagramKind::Fragment | DatagramKind::Unknown(_) => {
                return Taken::Malformed;
            }
        };
        if taken { Taken::Fresh } else { Taken::Known }
    }
}

impl Port {
    fn push(&mut self, packet: Packet) {
        if !self.scheduler.push(packet) {
            self.link.counters.queue_full.increment(1);
        }
        self.link.wake();
    }
}
