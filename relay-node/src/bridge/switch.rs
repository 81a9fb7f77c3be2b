//! What the bridges' thread alone owns of the packet path: the window of each track, whichever links its feeds
//! come over. Nothing here is locked, because nothing here is shared.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arc_swap::Guard;
use protocol::mesh::{DatagramHeader, DatagramKind, SenderClock};

use super::{
    Table,
    window::{Pace, TrackWindow},
};

thread_local! {
    static SWITCH: RefCell<Switch> = RefCell::default();
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It goes on.
    Fresh,
    /// Another feed of the track brought it.
    Known,
    /// It is no canonical packet, and no clock either.
    Malformed,
}

#[derive(Default)]
struct Switch {
    /// The table for which `tracks` was last cleaned.
    table: Option<Arc<Table>>,
    tracks: HashMap<u64, TrackWindow>,
}

/// Whether a packet of `track` is the first copy of it. `pace` belongs to the feed that brought it.
pub(super) fn take(
    table: &Guard<Arc<Table>>,
    track: u64,
    header: &DatagramHeader,
    payload: &[u8],
    pace: &mut Option<Pace>,
) -> Taken {
    SWITCH.with_borrow_mut(|switch| {
        switch.adopt(table);
        switch.take(track, header, payload, pace)
    })
}

impl Switch {
    /// Forgets the tracks that are no longer in the table.
    fn adopt(&mut self, table: &Guard<Arc<Table>>) {
        if self.table.as_ref().is_some_and(|known| Arc::ptr_eq(known, table)) {
            return;
        }
        let tracks: BTreeSet<u64> = table.incoming.values().map(|route| route.track).collect();
        self.tracks.retain(|track, _| tracks.contains(track));
        self.table = Some(Arc::clone(table));
    }

    fn take(
        &mut self,
        track: u64,
        header: &DatagramHeader,
        payload: &[u8],
        pace: &mut Option<Pace>,
    ) -> Taken {
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
        };
        if taken { Taken::Fresh } else { Taken::Known }
    }
}

/// The RTP sequence number of a canonical packet.
fn sequence(packet: &[u8]) -> Option<u16> {
    let header = packet.first_chunk::<RTP_HEADER>()?;
    Some(u16::from_be_bytes([header[2], header[3]]))
}

/// RFC 3550 section 5.1, without CSRCs.
const RTP_HEADER: usize = 12;
