//! Media in the simulation: publishers send every 20 ms, relays forward by their tables alone, listeners
//! note what they hear.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::mesh::{Alias, Class, StreamTrack, TrackKey};

use super::{Sim, event::Event};
use crate::LinkId;

/// Between packets of a track.
pub const PACKET_EVERY: Duration = Duration::from_millis(20);
/// What the encodings of a picture take, by place, in bits per second: the best comes first, as from Firefox.
pub const ENCODINGS: [u64; 3] = [2_000_000, 600_000, 120_000];
/// What the rungs of a sound take, and what its publisher sends, in bits per second.
pub const SOUND: [u64; 3] = [38_400, 78_400, 142_400];
/// Packets of a track a relay remembers having forwarded.
const REMEMBERED: usize = 128;

/// The relays a packet came through, the last one first.
#[derive(Debug)]
pub(super) struct Trail {
    relay: usize,
    /// In which of its lives.
    boot: u64,
    before: Option<Arc<Trail>>,
}

#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub track: Arc<TrackKey>,
    pub alias: Alias,
    pub number: u64,
    pub trail: Option<Arc<Trail>>,
}

impl Packet {
    /// On the wire: 64 kbit/s of sound and less of its rungs, 480 kbit/s of a picture that comes in one encoding.
    pub fn bytes(&self) -> usize {
        match self.track.track {
            StreamTrack::Audio => 180,
            StreamTrack::Rung(rung) => [96, 160][usize::from(rung)],
            StreamTrack::Video => 1200,
            StreamTrack::Encoding(place) => {
                let rate = ENCODINGS.get(usize::from(place)).copied().unwrap_or_default();
                (rate / 8 * PACKET_EVERY.as_millis() as u64 / 1000) as usize
            }
        }
    }

    pub fn class(&self) -> Class {
        Class::of(self.track.track.kind())
    }

    fn visited(&self, relay: usize, boot: u64) -> bool {
        let mut at = self.trail.as_ref();
        while let Some(trail) = at {
            if (trail.relay, trail.boot) == (relay, boot) {
                return true;
            }
            at = trail.before.as_ref();
        }
        false
    }

    fn way(&self) -> Vec<usize> {
        let trail = std::iter::successors(self.trail.as_ref(), |trail| trail.before.as_ref());
        let mut way: Vec<_> = trail.map(|trail| trail.relay).collect();
        way.reverse();
        way
    }
}

/// What the listeners at one relay hear of one track.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// Packets.
    pub packets: u64,
    /// The first number heard.
    pub first: u64,
    /// The highest number heard.
    pub highest: u64,
    /// When the last new packet came.
    pub last: Option<Instant>,
    /// The longest time between two new packets since [`Sim::forget_gaps`].
    pub gap: Duration,
}

impl Heard {
    fn hear(&mut self, number: u64, now: Instant) {
        if self.packets == 0 {
            self.first = number;
        }
        self.highest = self.highest.max(number);
        self.packets += 1;
        if let Some(last) = self.last.replace(now) {
            self.gap = self.gap.max(now - last);
        }
    }
}

impl Sim {
    /// Every publisher sends its next packet.
    pub(super) fn tick(&mut self) {
        self.events.push(self.now + PACKET_EVERY, Event::Tick);
        let number = 1 + (self.elapsed().as_millis() / PACKET_EVERY.as_millis()) as u64;
        for relay in self.publishers.iter().copied().collect::<Vec<_>>() {
            if self.relays[relay].mesh.is_none() || self.relays[relay].sleeps(self.now) {
                continue;
            }
            for track in self.relays[relay].published.iter().cloned().map(Arc::new).collect::<Vec<_>>() {
                let packet = Packet { track, alias: Alias(0), number, trail: None };
                self.forward(relay, None, packet);
            }
        }
    }

    pub(super) fn receive(&mut self, relay: usize, link: LinkId, packet: Packet) {
        let source = Some((link, packet.alias));
        self.forward(relay, source, packet);
    }

    /// What the packet path of a relay does with a packet, by its table alone: each packet once, and not back.
    fn forward(&mut self, relay: usize, source: Option<(LinkId, Alias)>, mut packet: Packet) {
        let table = &self.relays[relay].table;
        let Ok(at) = table.binary_search_by(|entry| entry.track.cmp(&packet.track)) else { return };
        if !source.map_or(table[at].published, |source| table[at].sources.contains(&source)) {
            return;
        }
        let (children, local) = (table[at].children.clone(), table[at].local);
        if !self.relays[relay].pass(&packet) {
            return;
        }
        let boot = self.relays[relay].disk.written.boot;
        assert!(!packet.visited(relay, boot), "a packet came back to {relay}: {:?}", packet.way());
        packet.trail = Some(Arc::new(Trail { relay, boot, before: packet.trail.take() }));
        if local {
            let heard = self.relays[relay].heard.entry(TrackKey::clone(&packet.track)).or_default();
            heard.hear(packet.number, self.now);
        }
        let mut taken: Vec<LinkId> = Vec::with_capacity(children.len());
        for (link, alias) in children {
            assert!(!taken.contains(&link), "two copies of one packet on {link:?}");
            taken.push(link);
            if source.is_some_and(|(from, _)| from == link) {
                continue;
            }
            let Some((wire, end)) = self.at(link) else { continue };
            if self.wires[wire].links[1 - end].is_some() {
                self.carry_packet(wire, 1 - end, Packet { alias, ..packet.clone() });
            }
        }
    }
}

/// What a relay forwarded lately of one track, by number.
#[derive(Debug, Default)]
pub(super) struct Passed(VecDeque<u64>);

impl Passed {
    /// Says whether it is the first time.
    pub fn note(&mut self, number: u64) -> bool {
        if self.0.contains(&number) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(number);
        true
    }
}
