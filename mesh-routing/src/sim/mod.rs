//! A seeded simulation of whole meshes in virtual time: real [`Mesh`]es, wires with delay and jitter that
//! are cut and mended, relays that crash and come back, media along the forwarding tables, and the
//! invariants that hold at every step ([`check`]).

pub mod check;
#[cfg(test)]
mod lies;
pub mod random;
pub mod shape;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    Codec, Kind, NodeId, StreamName, TrackDescription, ZoneName,
    mesh::{Alias, StreamAdvertisement, TrackKey},
};

use crate::{Config, ForwardEntry, LinkId, Mesh, Output, Record, Source};
use random::Random;

/// Between packets of a track.
pub const PACKET_EVERY: Duration = Duration::from_millis(20);
/// After so long without a sign of life a driver gives a link up by itself.
const DRIVER_IDLE: Duration = Duration::from_secs(10);

/// Where virtual time begins: the one reading of the clock, and nothing depends on its value.
#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made in any other way")]
pub fn epoch() -> Instant {
    Instant::now()
}

/// A relay and what its driver keeps.
#[derive(Debug)]
pub struct Relay {
    /// Its id.
    pub id: NodeId,
    /// None while it is dead.
    pub mesh: Option<Mesh>,
    /// What it wrote to disk, in order.
    pub disk: Vec<Record>,
    /// The forwarding table its driver read last.
    pub table: Vec<ForwardEntry>,
    /// What it hears, by track.
    pub heard: BTreeMap<TrackKey, Heard>,
    /// Keyframes its publisher was asked for.
    pub keyframes: u64,
    boot: u64,
    published: BTreeSet<TrackKey>,
    wanted: BTreeSet<TrackKey>,
    due: Option<Instant>,
}

/// What the listeners at one relay hear of one track.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// Packets.
    pub packets: u64,
    /// Packets that came once more, by another path.
    pub again: u64,
    /// The highest number heard.
    pub highest: u64,
    /// When the last new packet came.
    pub last: Option<Instant>,
    /// The longest time between two new packets since [`Sim::forget_gaps`].
    pub gap: Duration,
}

/// What is the matter with a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Good,
    /// Nothing gets through, and nobody says so.
    Silent,
    /// Nothing gets through, and both drivers know.
    Cut,
}

/// A wire between two relays; a link at each end while both are alive.
#[derive(Debug)]
pub struct Wire {
    /// The relays at its ends, by index.
    pub ends: [usize; 2],
    /// What is the matter with it.
    pub condition: Condition,
    /// The links of its ends, while the drivers have them.
    pub links: [Option<LinkId>; 2],
    delay: Duration,
    jitter: u64,
    /// What is sent reliably arrives in order: not before this.
    arrives: [Instant; 2],
    /// What waits for a silent wire to be mended.
    held: [Vec<(LinkId, Bytes)>; 2],
    silent_since: Option<Instant>,
}

#[derive(Debug)]
enum Event {
    /// To the link at one end of a wire.
    Message {
        wire: usize,
        end: usize,
        link: LinkId,
        bytes: Bytes,
    },
    Media {
        wire: usize,
        end: usize,
        link: LinkId,
        packet: Packet,
    },
    Tick,
}

#[derive(Debug, Clone)]
struct Packet {
    track: TrackKey,
    alias: Alias,
    number: u64,
    visited: Vec<usize>,
}

/// A mesh in virtual time.
#[derive(Debug)]
pub struct Sim {
    /// Now.
    pub now: Instant,
    /// Its relays.
    pub relays: Vec<Relay>,
    /// Its wires.
    pub wires: Vec<Wire>,
    /// Packets that crossed each wire toward its ends.
    pub crossed: BTreeMap<(usize, usize), u64>,
    /// Messages that crossed any wire, and their bytes.
    pub messages: (u64, u64),
    /// Times a track got another parent.
    pub rerouted: u64,
    /// Logs of writers that do not exist may begin and go on anywhere.
    pub lied_to: bool,
    /// What was to be sent on links that are not of the simulation's wires.
    pub unsent: Vec<(LinkId, Bytes)>,
    start: Instant,
    random: Random,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    next_link: u32,
    by_link: BTreeMap<LinkId, (usize, usize)>,
    copies: BTreeSet<(usize, usize, TrackKey, u64, Vec<usize>)>,
}

impl Sim {
    /// Relays with wires between them, all switched on at once.
    pub fn new(relays: usize, wires: &[(usize, usize)], seed: u64) -> Sim {
        let now = epoch();
        let mut random = Random::new(seed);
        let relays = (0..relays).map(|index| Relay {
            id: node(index),
            mesh: None,
            disk: Vec::new(),
            table: Vec::new(),
            heard: BTreeMap::new(),
            keyframes: 0,
            boot: 0,
            published: BTreeSet::new(),
            wanted: BTreeSet::new(),
            due: None,
        });
        let wires = wires.iter().map(|(a, b)| Wire {
            ends: [*a, *b],
            condition: Condition::Good,
            links: [None; 2],
            delay: Duration::from_micros(500 + random.below(8_000)),
            jitter: 1 + random.below(2_000),
            arrives: [now; 2],
            held: [Vec::new(), Vec::new()],
            silent_since: None,
        });
        let wires = wires.collect();
        let mut sim = Sim {
            now,
            relays: relays.collect(),
            wires,
            crossed: BTreeMap::new(),
            messages: (0, 0),
            rerouted: 0,
            lied_to: false,
            unsent: Vec::new(),
            start: now,
            random,
            queue: BTreeMap::new(),
            sequence: 0,
            next_link: 0,
            by_link: BTreeMap::new(),
            copies: BTreeSet::new(),
        };
        sim.push(now, Event::Tick);
        for relay in 0..sim.relays.len() {
            sim.start(relay);
        }
        sim
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets virtual time pass; every step is checked.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut stalls = 0;
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let relay = self.relays.iter().enumerate().filter_map(|(i, r)| Some((r.due?, i))).min();
            let idle =
                self.wires.iter().filter_map(|wire| wire.silent_since).map(|at| at + DRIVER_IDLE).min();
            let Some(at) = event.into_iter().chain(relay.map(|(at, _)| at)).chain(idle).min() else { break };
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            if idle.is_some_and(|idle| idle <= at) {
                self.give_up();
            } else if event.is_some_and(|event| event <= at) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.happen(event);
                }
            } else if let Some((_, relay)) = relay {
                let now = self.now;
                self.with(relay, |mesh| mesh.handle_timeout(now));
                // A step may ask for one more at once, but not for ever.
                let stuck = self.relays[relay].due.is_some_and(|due| due <= now);
                stalls = if stuck { stalls + 1 } else { 0 };
                assert!(stalls < 4, "a deadline that was met is still there");
            }
        }
        self.now = until;
    }

    /// Publishes a stream with one audio track and asks for it nowhere.
    pub fn publish(&mut self, relay: usize, name: &str) -> TrackKey {
        self.publish_kind(relay, name, Kind::Audio)
    }

    /// Publishes a stream with one track.
    pub fn publish_kind(&mut self, relay: usize, name: &str, kind: Kind) -> TrackKey {
        let codec = if kind == Kind::Audio { Codec::Opus } else { Codec::Vp8 };
        let stream = StreamName::new(name).expect("names in tests are good");
        let key = TrackKey { origin: self.relays[relay].id, stream: stream.clone(), kind };
        self.relays[relay].published.insert(key.clone());
        let tracks = vec![TrackDescription { kind, codec, layers: 1 }];
        let now = self.now;
        self.with(relay, |mesh| mesh.handle_publish(StreamAdvertisement { name: stream, tracks }, now));
        key
    }

    /// Ends a stream.
    pub fn unpublish(&mut self, relay: usize, key: &TrackKey) {
        let now = self.now;
        self.relays[relay].published.remove(key);
        self.with(relay, |mesh| mesh.handle_unpublish(&key.stream, now));
    }

    /// Somebody listens at a relay, or nobody does any more.
    pub fn want(&mut self, relay: usize, key: &TrackKey, wanted: bool) {
        let now = self.now;
        if wanted {
            self.relays[relay].wanted.insert(key.clone());
        } else {
            self.relays[relay].wanted.remove(key);
            self.relays[relay].heard.remove(key);
        }
        self.with(relay, |mesh| mesh.handle_interest(key.clone(), wanted, now));
    }

    /// Appends to the log of a relay that is alive.
    pub fn append(&mut self, relay: usize, text: &str) {
        let (now, payload) = (self.now, Bytes::copy_from_slice(text.as_bytes()));
        self.with(relay, |mesh| {
            mesh.handle_append(payload, now).expect("texts in tests are short");
        });
    }

    /// A listener at a relay needs a keyframe.
    pub fn ask_keyframe(&mut self, relay: usize, key: &TrackKey) {
        let now = self.now;
        self.with(relay, |mesh| mesh.handle_keyframe_request(key, now));
    }

    /// Something happens to a wire.
    pub fn set_wire(&mut self, wire: usize, condition: Condition) {
        let before = std::mem::replace(&mut self.wires[wire].condition, condition);
        if before == condition {
            return;
        }
        match condition {
            Condition::Cut => self.unplug(wire),
            Condition::Silent => self.wires[wire].silent_since = Some(self.now),
            Condition::Good => {
                self.wires[wire].silent_since = None;
                self.hold(wire);
                for end in [0, 1] {
                    for (link, bytes) in std::mem::take(&mut self.wires[wire].held[end]) {
                        self.carry(wire, end, link, bytes);
                    }
                }
                self.plug(wire);
            }
        }
        if before == Condition::Silent {
            self.wires[wire].silent_since = None;
        }
    }

    /// A relay loses its power.
    pub fn kill(&mut self, relay: usize) {
        let killed = &mut self.relays[relay];
        (killed.mesh, killed.due) = (None, None);
        killed.table.clear();
        killed.heard.clear();
        for wire in 0..self.wires.len() {
            if let Some(end) = self.wires[wire].ends.iter().position(|end| *end == relay) {
                if let Some(link) = self.wires[wire].links[end].take() {
                    self.by_link.remove(&link);
                }
                if self.wires[wire].links[1 - end].is_some() && self.wires[wire].silent_since.is_none() {
                    self.wires[wire].silent_since = Some(self.now);
                }
                self.wires[wire].held = [Vec::new(), Vec::new()];
            }
        }
    }

    /// A relay starts, with what is on its disk; its publishers and listeners come back.
    pub fn start(&mut self, relay: usize) {
        let (now, seed) = (self.now, self.random.word());
        let started = &mut self.relays[relay];
        started.boot += 1;
        let zone = ZoneName::new(format!("zone-{relay}")).expect("a good name");
        let mut mesh = Mesh::new(Config { id: started.id, zone, boot: started.boot, seed }, now);
        for record in &started.disk {
            mesh.handle_restore(record.clone());
        }
        started.mesh = Some(mesh);
        let published: Vec<_> = started.published.iter().cloned().collect();
        for key in published {
            self.publish_kind(relay, key.stream.as_str(), key.kind);
        }
        for key in self.relays[relay].wanted.clone() {
            self.want(relay, &key, true);
        }
        for wire in 0..self.wires.len() {
            if self.wires[wire].ends.contains(&relay) && self.wires[wire].condition == Condition::Good {
                self.unplug(wire);
                self.wires[wire].silent_since = None;
                self.plug(wire);
            }
        }
        self.with(relay, |_| {});
    }

    /// Gaps are counted from now on.
    pub fn forget_gaps(&mut self) {
        for relay in &mut self.relays {
            for heard in relay.heard.values_mut() {
                heard.gap = Duration::ZERO;
            }
        }
    }

    /// The relays with power, in groups that good wires connect.
    pub fn components(&self) -> Vec<BTreeSet<usize>> {
        let alive = |i: usize| self.relays[i].mesh.is_some();
        let mut left: BTreeSet<usize> = (0..self.relays.len()).filter(|i| alive(*i)).collect();
        let mut groups = Vec::new();
        while let Some(first) = left.pop_first() {
            let (mut group, mut edge) = (BTreeSet::from([first]), vec![first]);
            while let Some(at) = edge.pop() {
                for wire in
                    self.wires.iter().filter(|w| w.condition == Condition::Good && w.ends.contains(&at))
                {
                    let to = wire.ends[usize::from(wire.ends[0] == at)];
                    if alive(to) && group.insert(to) {
                        left.remove(&to);
                        edge.push(to);
                    }
                }
            }
            groups.push(group);
        }
        groups
    }

    /// What each relay wants.
    pub fn wanted(&self) -> impl Iterator<Item = (usize, &TrackKey)> {
        self.relays.iter().enumerate().flat_map(|(i, relay)| relay.wanted.iter().map(move |key| (i, key)))
    }

    /// Whether a track is published, by a relay with power.
    pub fn published(&self, key: &TrackKey) -> Option<usize> {
        self.relays.iter().position(|relay| relay.mesh.is_some() && relay.published.contains(key))
    }

    fn plug(&mut self, wire: usize) {
        let [a, b] = self.wires[wire].ends;
        let alive = self.relays[a].mesh.is_some() && self.relays[b].mesh.is_some();
        if !alive || self.wires[wire].links.iter().all(Option::is_some) {
            return;
        }
        // A link left over at one end is of a life of the other end that is past.
        self.unplug(wire);
        for end in [0, 1] {
            self.next_link += 1;
            let link = LinkId(self.next_link);
            self.wires[wire].links[end] = Some(link);
            self.by_link.insert(link, (wire, end));
        }
        let (now, rtt) = (self.now, self.wires[wire].delay * 2);
        for (end, relay, neighbor) in [(0, a, b), (1, b, a)] {
            let (link, neighbor) = (self.wires[wire].links[end], self.relays[neighbor].id);
            if let Some(link) = link {
                self.with(relay, |mesh| {
                    mesh.handle_link_up(link, neighbor, now);
                    mesh.handle_measurement(link, rtt, 0.0, now);
                });
            }
        }
    }

    fn unplug(&mut self, wire: usize) {
        let now = self.now;
        self.wires[wire].held = [Vec::new(), Vec::new()];
        for end in [0, 1] {
            if let Some(link) = self.wires[wire].links[end].take() {
                self.by_link.remove(&link);
                self.with(self.wires[wire].ends[end], |mesh| mesh.handle_link_down(link, now));
            }
        }
    }

    /// Drivers give up links that were silent for too long.
    fn give_up(&mut self) {
        for wire in 0..self.wires.len() {
            if self.wires[wire].silent_since.is_some_and(|since| since + DRIVER_IDLE <= self.now) {
                self.wires[wire].silent_since = None;
                self.unplug(wire);
            }
        }
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    /// Puts a message on a wire, toward `end`.
    fn carry(&mut self, wire: usize, end: usize, link: LinkId, bytes: Bytes) {
        let jitter = Duration::from_micros(self.random.below(self.wires[wire].jitter));
        let state = &mut self.wires[wire];
        let at = (self.now + state.delay + jitter).max(state.arrives[end]);
        state.arrives[end] = at;
        self.push(at, Event::Message { wire, end, link, bytes });
    }

    /// Puts what is on a wire behind what waits there: the order of a stream stays.
    fn hold(&mut self, mended: usize) {
        let on_it = |event: &Event| matches!(event, Event::Message { wire, .. } if *wire == mended);
        let late: Vec<_> = self.queue.extract_if(.., |_, event| on_it(event)).collect();
        for (_, event) in late {
            if let Event::Message { end, link, bytes, .. } = event {
                self.wires[mended].held[end].push((link, bytes));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Message { wire, end, link, bytes } => {
                let state = &mut self.wires[wire];
                if state.links[end] != Some(link) {
                    return;
                }
                if state.condition == Condition::Silent {
                    state.held[end].push((link, bytes));
                    return;
                }
                self.messages.0 += 1;
                self.messages.1 += bytes.len() as u64;
                self.with(state_end(&self.wires, wire, end), |mesh| {
                    mesh.handle_message(link, &bytes, now).expect("relays understand each other");
                });
            }
            Event::Media { wire, end, link, packet } => {
                if self.wires[wire].links[end] != Some(link) || self.wires[wire].condition != Condition::Good
                {
                    return;
                }
                *self.crossed.entry((wire, end)).or_default() += 1;
                let relay = self.wires[wire].ends[end];
                self.with(relay, |mesh| mesh.handle_media(link, now));
                let source = Source::Link { link, alias: packet.alias };
                self.forward(relay, source, packet);
            }
            Event::Tick => {
                self.push(now + PACKET_EVERY, Event::Tick);
                let number = 1 + (self.elapsed().as_millis() / PACKET_EVERY.as_millis()) as u64;
                for relay in
                    (0..self.relays.len()).filter(|i| self.relays[*i].mesh.is_some()).collect::<Vec<_>>()
                {
                    let published = self.relays[relay].published.clone();
                    for track in published {
                        let packet = Packet { track, alias: Alias(0), number, visited: Vec::new() };
                        self.forward(relay, Source::Local, packet);
                    }
                }
                if self.elapsed().as_millis() % 1000 < 20 {
                    self.copies.clear();
                }
            }
        }
    }

    /// What the packet path of a relay does with a packet, by its table alone.
    fn forward(&mut self, relay: usize, source: Source, mut packet: Packet) {
        let entry = self.relays[relay].table.iter().find(|e| e.track == packet.track && e.source == source);
        let Some(entry) = entry.cloned() else { return };
        assert!(!packet.visited.contains(&relay), "a packet came back: {:?} at {relay}", packet.visited);
        packet.visited.push(relay);
        if entry.local {
            self.relays[relay].hear(&packet, self.now);
        }
        for (link, alias) in entry.children {
            let Some(&(wire, end)) = self.by_link.get(&link) else { continue };
            let to = 1 - end;
            let copy = (wire, to, packet.track.clone(), packet.number, packet.visited.clone());
            assert!(self.copies.insert(copy), "two copies of one packet on wire {wire}");
            let Some(link) = self.wires[wire].links[to] else { continue };
            let jitter = Duration::from_micros(self.random.below(self.wires[wire].jitter));
            let at = self.now + self.wires[wire].delay + jitter;
            self.push(at, Event::Media { wire, end: to, link, packet: Packet { alias, ..packet.clone() } });
        }
    }

    /// Does something with a relay that has power, and carries out what it wants done.
    fn with(&mut self, relay: usize, what: impl FnOnce(&mut Mesh)) {
        let Some(mut mesh) = self.relays[relay].mesh.take() else { return };
        what(&mut mesh);
        let mut changed = false;
        while let Some(output) = mesh.poll_output() {
            match output {
                Output::Send { link, message, .. } => {
                    let Some(&(wire, end)) = self.by_link.get(&link) else {
                        if self.lied_to {
                            self.unsent.push((link, message));
                        }
                        continue;
                    };
                    let to = 1 - end;
                    if let Some(link) = self.wires[wire].links[to] {
                        self.carry(wire, to, link, message);
                    }
                }
                Output::ForwardingChanged => changed = true,
                Output::Record(record) => self.relays[relay].keep(record, self.lied_to),
                Output::Forget { writer, below } => {
                    self.relays[relay].disk.retain(|r| r.writer != writer || r.number >= below);
                }
                Output::KeyframeWanted { .. } => self.relays[relay].keyframes += 1,
                Output::Rerouted { .. } => self.rerouted += 1,
                Output::StreamsChanged | Output::File(_) => {}
                Output::DropLink { link, .. } if self.lied_to && !self.by_link.contains_key(&link) => {}
                Output::DropLink { link, reason } => panic!("{link:?} is to be dropped: {reason}"),
            }
        }
        let state = &mut self.relays[relay];
        state.due = mesh.poll_timeout();
        if changed {
            state.table = mesh.forwarding();
        }
        state.mesh = Some(mesh);
        if changed {
            check::no_cycle(self);
        }
    }
}

fn state_end(wires: &[Wire], wire: usize, end: usize) -> usize {
    wires[wire].ends[end]
}

impl Relay {
    fn hear(&mut self, packet: &Packet, now: Instant) {
        let heard = self.heard.entry(packet.track.clone()).or_default();
        if packet.number <= heard.highest {
            heard.again += 1;
            return;
        }
        heard.highest = packet.number;
        heard.packets += 1;
        if let Some(last) = heard.last.replace(now) {
            heard.gap = heard.gap.max(now - last);
        }
    }

    fn keep(&mut self, record: Record, lied_to: bool) {
        let of_writer = self.disk.iter().rev().find(|kept| kept.writer == record.writer);
        let next = of_writer.map_or(1, |kept| kept.number + 1);
        let jumps = lied_to && record.number > next;
        assert!(record.number == next || jumps, "records of a writer come in order, each once");
        self.disk.push(record);
    }
}

/// The id of a relay by index: not in the order of the indices.
pub fn node(index: usize) -> NodeId {
    let hash = blake3::hash(&index.to_be_bytes());
    NodeId(*hash.as_bytes())
}
