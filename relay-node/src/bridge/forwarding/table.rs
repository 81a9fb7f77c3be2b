//! What the datagram path reads for each packet: which alias of which link goes where. The node loop
//! decides and replaces the table whole; the packet path never waits for it.

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use protocol::mesh::{Alias, Class, DatagramHeader};

use crate::bridge::{LinkId, link::handle::LinkSender};

/// Takes the packets of tracks that are wanted on this relay: the track's local number, the header as
/// it came, the payload. Called from the bridges' thread, so it may neither block nor take long.
pub type LocalDelivery = Arc<dyn Fn(u32, DatagramHeader, Bytes) + Send + Sync>;

/// The table in force.
#[derive(Debug, Default)]
pub struct Forwarding(ArcSwap<Table>);

impl Forwarding {
    /// Starts with an empty table.
    pub fn new() -> Forwarding {
        Forwarding::default()
    }

    /// Puts another table in force; packets on their way finish under the old one.
    pub fn replace(&self, table: Table) {
        self.0.store(Arc::new(table));
    }

    /// The table in force.
    pub fn load(&self) -> Guard<Arc<Table>> {
        self.0.load()
    }
}

/// Every track that crosses this relay.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Tracks that come from neighbors.
    pub incoming: HashMap<(LinkId, Alias), Route>,
    /// Tracks published here, by local number: the neighbors that want them.
    pub local: HashMap<u32, Vec<Child>>,
}

/// What happens to the packets of one track from one neighbor.
#[derive(Debug, Clone)]
pub struct Route {
    /// The track: the same number for all its feeds, whatever link and alias they come with, for as long as it
    /// is in the table. Each packet of it is taken once.
    pub track: u64,
    /// The track's local number if this relay has listeners for it.
    pub local: Option<u32>,
    /// The priority on the next links.
    pub class: Class,
    /// The neighbors that want it.
    pub children: Vec<Child>,
}

/// A neighbor that asked for a track.
#[derive(Debug, Clone)]
pub struct Child {
    /// The way to it.
    pub link: LinkSender,
    /// The number it chose for the track.
    pub alias: Alias,
}
