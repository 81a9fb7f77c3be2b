//! For the fuzzer: what reads what a relay sends, before it is known who it is and after.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use protocol::{BridgeVersions, ZoneName};

use super::{
    Forwarding, LinkSender, LocalDelivery, MESSAGE_MAX,
    forwarding::{
        inbound::Inbound,
        scheduler::Next,
        switch::{self, Open},
    },
    link::{
        admission,
        hello::{HELLO_MAX, Hello},
        stream::{Frames, Group},
    },
};
use crate::clock;

/// The frame of a hello; whether it is one. What is read is written as it was.
pub fn hello(frame: &[u8]) -> bool {
    match Hello::from_frame(frame) {
        Ok((hello, _)) => {
            let again = Hello::from_frame(&hello.to_frame());
            assert!(matches!(again, Ok((again, _)) if again == hello), "a hello reads back as written");
            true
        }
        Err(_) => false,
    }
}

/// A hello of a relay of these versions that shows this token and these updates.
pub fn sample(
    versions: BridgeVersions,
    zone: ZoneName,
    token: Option<String>,
    updates: Vec<String>,
) -> Vec<u8> {
    Hello { versions, zone, festival: token, updates, underlay: Default::default(), incarnation: Some(7) }
        .to_frame()
        .to_vec()
}

/// The frame of updates on a stream of their own.
pub fn updates(frame: &[u8]) -> Option<Vec<String>> {
    admission::updates_in(frame).ok()
}

/// The frames of a stream whose bytes come at most `most` at a time, as far as the link stays up with them. The first
/// byte says of which group the stream is; one of no group is one of updates.
pub fn stream(bytes: &[u8], most: usize) -> Vec<Bytes> {
    let Some((&tag, mut rest)) = bytes.split_first() else { return Vec::new() };
    let group = Group::from_tag(tag);
    let mut frames = Frames::new(match group {
        Some(Group::Control) => HELLO_MAX,
        Some(Group::Chat | Group::Bulk) => MESSAGE_MAX,
        None => admission::UPDATE_MAX,
    });
    let mut heard = Vec::new();
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(frames.wants().min(most).min(rest.len()));
        rest = behind;
        let Ok(frame) = frames.handle(chunk) else { break };
        assert!(frames.held() <= 2 * bytes.len() + 64, "what is announced and not sent takes memory");
        let Some(frame) = frame else { continue };
        let first = heard.is_empty();
        let good = match group {
            Some(Group::Control) if first => hello(&frame),
            None => updates(&frame).is_some() && first,
            Some(_) => true,
        };
        if !good {
            break;
        }
        if first && group.is_some() {
            frames = Frames::new(MESSAGE_MAX);
        }
        heard.push(frame);
    }
    heard
}

/// A relay between two neighbors, as far as datagrams go: the tasks of both links, driven by hand. The caller's
/// thread stands for the bridges' thread.
pub struct Crossing {
    inbound: [Inbound; 2],
    links: [LinkSender; 2],
    _ports: [Open; 2],
    now: Instant,
}

impl Crossing {
    /// Between links that were up once, by a table that names them.
    pub fn new(links: [LinkSender; 2], forwarding: &Arc<Forwarding>, local: &LocalDelivery) -> Crossing {
        let inbound = |link: &LinkSender| Inbound::new(&link.0, forwarding.clone(), local.clone());
        let ports = links.each_ref().map(|link| switch::open(&link.0));
        Crossing { inbound: links.each_ref().map(inbound), links, _ports: ports, now: clock::now() }
    }

    /// A datagram came over one of the links.
    pub fn handle(&mut self, link: usize, datagram: Bytes, now: Instant) {
        self.now = now;
        switch::with(self.links[link].link(), |switch| self.inbound[link].handle(switch, datagram, now));
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        for inbound in &mut self.inbound {
            switch::with(inbound.link(), |switch| inbound.handle_timeout(switch, now));
        }
    }

    /// The next datagram that leaves over one of the links, on a path that takes none longer than `longest`.
    pub fn pop(&mut self, link: usize, longest: usize) -> Option<Bytes> {
        let link = self.links[link].link();
        match switch::with(link, |switch| switch.pop(link, u64::MAX, u64::MAX, longest, self.now)) {
            Next::Datagram(datagram) => Some(datagram),
            Next::Wait | Next::Nothing => None,
        }
    }

    /// Bytes of packets that are not whole yet.
    pub fn held(&self) -> usize {
        self.inbound.iter().map(Inbound::held).sum()
    }

    /// Bytes that are kept for parity.
    pub fn held_for_parity(&self) -> usize {
        self.inbound.iter().map(Inbound::held_for_parity).sum()
    }
}
