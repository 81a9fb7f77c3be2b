//! For benchmarks: the packet path of one bridges' thread, driven without its sockets. The caller's thread stands
//! for the bridges' thread.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    Forwarding, LinkSender, LocalDelivery,
    forwarding::{
        inbound::Inbound,
        scheduler::Next,
        switch::{self, Open},
    },
};
use crate::clock;

/// Datagrams come in from one link and leave on others.
pub struct PacketPath {
    inbound: Inbound,
    children: Vec<LinkSender>,
    _ports: Vec<Open>,
}

impl PacketPath {
    /// From a link that is up to others, by a table that names both.
    pub fn new(
        from: &LinkSender,
        children: Vec<LinkSender>,
        forwarding: Arc<Forwarding>,
        local: LocalDelivery,
    ) -> PacketPath {
        let ports = children.iter().chain([from]).map(|link| switch::open(&link.0)).collect();
        PacketPath { inbound: Inbound::new(&from.0, forwarding, local), children, _ports: ports }
    }

    /// What the receiving task does with a datagram.
    pub fn handle(&mut self, datagram: Bytes, now: Instant) {
        switch::with(self.inbound.link(), |switch| self.inbound.handle(switch, datagram, now));
    }

    /// What the sending task of each child does then, but for quinn; how many datagrams left.
    pub fn pop_all(&mut self, mut sent: impl FnMut(Bytes)) -> usize {
        let (mut count, now) = (0, clock::now());
        for child in &self.children {
            let link = child.link();
            switch::with(link, |switch| switch.take_in(link, now));
            while let Next::Datagram(datagram) =
                switch::with(link, |switch| switch.pop(link, u64::MAX, u64::MAX, usize::MAX, now))
            {
                sent(datagram);
                count += 1;
            }
        }
        count
    }
}

/// What a link has sent and received, as QUIC counts it: UDP datagrams, their octets, system calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Datagrams, octets and system calls out.
    pub sent: [u64; 3],
    /// Datagrams and octets in.
    pub received: [u64; 2],
}

/// What a link has carried so far.
pub fn traffic(link: &LinkSender) -> Traffic {
    let stats = link.0.connection().stats();
    Traffic {
        sent: [stats.udp_tx.datagrams, stats.udp_tx.bytes, stats.udp_tx.ios],
        received: [stats.udp_rx.datagrams, stats.udp_rx.bytes],
    }
}
