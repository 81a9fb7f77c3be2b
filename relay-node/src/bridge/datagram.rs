//! The media path of one link: datagrams in, table lookup, datagrams out. Nothing here waits for the
//! node loop.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use protocol::mesh::{Alias, DatagramHeader};
use quinn::{Connection, ConnectionError, SendDatagramError};

use super::{
    Forwarding, LinkId, LocalDelivery,
    link::LinkShared,
    measure::Counters,
    switch::{self, Taken},
    window::{Pace, Seen, Window},
};

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
    feeds: HashMap<Alias, Feed>,
}

/// What came with one alias.
struct Feed {
    window: Window,
    pace: Option<Pace>,
}

impl Inbound {
    pub fn new(
        link: LinkId,
        forwarding: Arc<Forwarding>,
        local: LocalDelivery,
        counters: Arc<Counters>,
    ) -> Inbound {
        Inbound { link, forwarding, local, counters, feeds: HashMap::new() }
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
        if self.feeds.len() > WINDOWS && !self.feeds.contains_key(&header.alias) {
            let link = self.link;
            self.feeds.retain(|alias, _| table.incoming.contains_key(&(link, *alias)));
        }
        let feed = self
            .feeds
            .entry(header.alias)
            .or_insert_with(|| Feed { window: Window::new(header.sequence), pace: None });
        match feed.window.insert(header.sequence) {
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
        match switch::take(&table, route.track, &header, &payload, &mut feed.pace) {
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
        for child in route.children.iter().filter(|child| child.link.link() != self.link) {
            child.link.send_media(route.class, header.kind, header.epoch, child.alias, &payload);
        }
        if let Some(track) = route.local {
            (self.local)(track, header, payload);
        }
    }
}
