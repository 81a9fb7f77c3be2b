//! The media path of one link: datagrams in, table lookup, datagrams out. Nothing here waits for the
//! node loop.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use protocol::mesh::{Alias, DatagramHeader};
use quinn::{Connection, ConnectionError, SendDatagramError};

use super::{Forwarding, LinkId, LocalDelivery, link::LinkShared, measure::Counters};

/// Sequences behind the newest that are still told apart from duplicates.
const WINDOW: u16 = 1024;
/// Above this many windows those of aliases that left the table go.
const WINDOWS: usize = 256;

/// Feeds quinn from the link's queues, only while it has room.
pub(super) async fn send(connection: Connection, link: Arc<LinkShared>) -> SendDatagramError {
    loop {
        while let Some(datagram) = link.next_datagram() {
            match connection.send_datagram_wait(datagram).await {
                Ok(()) => {}
                Err(SendDatagramError::TooLarge) => link.counters.too_large.increment(1),
                Err(error) => return error,
            }
        }
        link.wake.notified().await;
    }
}

/// Reads datagrams and sends each where the table says.
pub(super) async fn receive(connection: Connection, mut inbound: Inbound) -> ConnectionError {
    loop {
        match connection.read_datagram().await {
            Ok(datagram) => inbound.handle(datagram),
            Err(error) => return error,
        }
    }
}

/// What the receiving side of a link knows.
pub(super) struct Inbound {
    link: LinkId,
    forwarding: Arc<Forwarding>,
    local: LocalDelivery,
    counters: Arc<Counters>,
    windows: HashMap<Alias, Window>,
}

impl Inbound {
    pub fn new(
        link: LinkId,
        forwarding: Arc<Forwarding>,
        local: LocalDelivery,
        counters: Arc<Counters>,
    ) -> Inbound {
        Inbound { link, forwarding, local, counters, windows: HashMap::new() }
    }

    fn handle(&mut self, datagram: Bytes) {
        let Some((header, payload)) = DatagramHeader::split(datagram) else {
            self.counters.malformed.increment(1);
            return;
        };
        let table = self.forwarding.load();
        let Some(route) = table.incoming.get(&(self.link, header.alias)) else {
            self.counters.unknown_alias.increment(1);
            return;
        };
        if self.windows.len() > WINDOWS && !self.windows.contains_key(&header.alias) {
            let link = self.link;
            self.windows.retain(|alias, _| table.incoming.contains_key(&(link, *alias)));
        }
        let window = self.windows.entry(header.alias).or_insert_with(|| Window::new(header.sequence));
        match window.insert(header.sequence) {
            Seen::Fresh { missed: 0 } => {}
            Seen::Fresh { missed } => self.counters.lost.increment(u64::from(missed)),
            Seen::Late => {}
            Seen::Duplicate => {
                self.counters.duplicate.increment(1);
                return;
            }
            Seen::TooOld => {
                self.counters.too_old.increment(1);
                return;
            }
        }
        for child in &route.children {
            child.link.send_media(route.class, header.kind, header.epoch, child.alias, &payload);
        }
        if let Some(track) = route.local {
            (self.local)(track, header, payload);
        }
    }
}

/// Which of the last sequences of an alias came.
#[derive(Debug)]
struct Window {
    newest: u16,
    bits: [u64; WINDOW as usize / 64],
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Newer than all before; so many between were jumped over.
    Fresh {
        missed: u16,
    },
    /// It had been jumped over.
    Late,
    Duplicate,
    TooOld,
}

impl Window {
    /// A window in which `first` is the next to come.
    fn new(first: u16) -> Window {
        // Everything before counts as seen: a track is joined in the middle.
        Window { newest: first.wrapping_sub(1), bits: [u64::MAX; WINDOW as usize / 64] }
    }

    fn insert(&mut self, sequence: u16) -> Seen {
        let ahead = sequence.wrapping_sub(self.newest);
        if ahead != 0 && ahead < 0x8000 {
            if ahead >= WINDOW {
                self.bits = [0; WINDOW as usize / 64];
            } else {
                (1..=ahead).for_each(|i| self.clear(self.newest.wrapping_add(i)));
            }
            self.newest = sequence;
            self.set(sequence);
            return Seen::Fresh { missed: ahead - 1 };
        }
        if self.newest.wrapping_sub(sequence) >= WINDOW {
            return Seen::TooOld;
        }
        if self.set(sequence) { Seen::Late } else { Seen::Duplicate }
    }

    fn set(&mut self, sequence: u16) -> bool {
        let (word, bit) = Self::place(sequence);
        let fresh = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        fresh
    }

    fn clear(&mut self, sequence: u16) {
        let (word, bit) = Self::place(sequence);
        self.bits[word] &= !bit;
    }

    fn place(sequence: u16) -> (usize, u64) {
        let slot = sequence % WINDOW;
        (usize::from(slot / 64), 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_sequence_passes_once() {
        let mut window = Window::new(65_530);
        for sequence in (65_530..=u16::MAX).chain(0..2000) {
            assert_eq!(window.insert(sequence), Seen::Fresh { missed: 0 });
            assert_eq!(window.insert(sequence), Seen::Duplicate);
        }
    }

    #[test]
    fn what_was_jumped_over_may_come_late_once() {
        let mut window = Window::new(10);
        assert_eq!(window.insert(10), Seen::Fresh { missed: 0 });
        assert_eq!(window.insert(13), Seen::Fresh { missed: 2 });
        assert_eq!(window.insert(11), Seen::Late);
        assert_eq!(window.insert(11), Seen::Duplicate);
        assert_eq!(window.insert(9), Seen::Duplicate, "from before the track was joined");
        assert_eq!(window.insert(5000), Seen::Fresh { missed: 4986 });
        assert_eq!(window.insert(12), Seen::TooOld);
        assert_eq!(window.insert(4999), Seen::Late);
    }

    proptest! {
        #[test]
        fn whatever_the_order_nothing_passes_twice(sequences in prop::collection::vec(0_u16..1000, 1..2000)) {
            let mut window = Window::new(0);
            let mut passed = std::collections::BTreeSet::new();
            for sequence in sequences {
                let fresh = matches!(window.insert(sequence), Seen::Fresh { .. } | Seen::Late);
                prop_assert_eq!(fresh, passed.insert(sequence));
            }
        }
    }
}
