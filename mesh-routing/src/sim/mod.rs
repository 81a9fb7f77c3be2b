//! A seeded simulation of whole meshes in virtual time: real [`Mesh`]es, wires that delay, lose, queue and
//! are cut, disks that are slow, refuse and forget, relays that crash and come back, media along the forwarding tables, and the invariants that hold
//! at every step ([`check`]). The same seed gives the same run.

#[cfg(test)]
mod areas_tests;
mod carry;
pub mod check;
pub mod disk;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod encodings_tests;
mod event;
#[cfg(test)]
mod feeds_tests;
#[cfg(test)]
mod flapping_tests;
#[cfg(test)]
mod flooding_tests;
pub mod generate;
mod ledger;
#[cfg(test)]
mod lies_tests;
pub mod media;
#[cfg(test)]
mod mesh_tests;
pub mod plan;
mod power;
pub mod random;
mod relay;
pub mod report;
pub mod route_load;
#[cfg(test)]
mod rungs_tests;
pub mod schedule;
#[cfg(test)]
mod schedule_tests;
pub mod series;
pub mod shape;
pub mod shrink;
#[cfg(test)]
mod survival_tests;
pub mod trial;
pub mod wire;
#[cfg(test)]
mod wire_tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    Codec, Kind, NodeId, RoomName, StreamName, Topic, TrackDescription, WallTime, ZoneName,
    mesh::{MAX_RUNGS, StreamAdvertisement, StreamTrack, TrackKey},
};

use crate::{
    AdvertisedEncoding, Config, Label, LinkId, Mesh, NominalRate, Output, PictureDemand, Rid, SoundDemand,
    StreamRates, wire::signature::SimulatedKeys,
};
pub use disk::DiskQuality;
use disk::Job;
use event::{Event, Events};
use ledger::Ledger;
pub use media::{ENCODINGS, Heard, PACKET_EVERY, SOUND};
use random::Random;
pub use relay::Relay;
pub use wire::{Carried, Condition, Quality, Wire};

/// What right clocks say when virtual time begins.
const WALL: WallTime = WallTime(1_800_000_000_000);

/// Where virtual time begins: the one reading of the clock, and nothing depends on its value.
#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made in any other way")]
pub fn epoch() -> Instant {
    Instant::now()
}

/// What a simulated relay knows of itself.
pub fn config(id: NodeId, zone: ZoneName, boot: u64, seed: u64) -> Config {
    Config::new(Arc::new(SimulatedKeys(id)), zone, boot, seed)
}

/// The id of a relay by index: not in the order of the indices.
pub fn node(index: usize) -> NodeId {
    let hash = blake3::hash(&index.to_be_bytes());
    NodeId(*hash.as_bytes())
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
    /// Messages that were sent, and their bytes, by the first byte after the scope: the kind of message.
    pub said: BTreeMap<u8, (u64, u64)>,
    /// Times a track got another parent.
    pub rerouted: u64,
    /// Times that a relay was given records of its own that its disk did not have.
    pub returned: u64,
    /// Texts that were written, so that no two are alike.
    pub written: u64,
    /// Disks were damaged: what a relay lacks may come later than what is behind it.
    pub damaged: bool,
    /// Logs of writers that do not exist may begin and go on anywhere.
    pub lied_to: bool,
    /// What was to be sent on links that are not of the simulation's wires.
    pub unsent: Vec<(LinkId, Bytes)>,
    start: Instant,
    random: Random,
    events: Events,
    /// Relays that publish.
    publishers: BTreeSet<usize>,
    zones: Vec<ZoneName>,
    ledger: Ledger,
    wires_of: Vec<Vec<usize>>,
    /// By id, of those that are up: the wire and the end. Ids are not used again.
    by_link: Vec<Option<(usize, usize)>>,
    by_id: BTreeMap<NodeId, usize>,
}

impl Sim {
    /// Relays with wires between them, all switched on at once.
    pub fn new(relays: usize, wires: &[(usize, usize)], seed: u64) -> Sim {
        let mut random = Random::new(seed);
        let wires: Vec<_> = wires.iter().map(|(a, b)| (*a, *b, Quality::usual(&mut random))).collect();
        let mut sim = Sim::with_wires(relays, &wires, random);
        (0..relays).for_each(|relay| sim.start(relay));
        sim
    }

    /// The same with wires of 1 to 3 ms, as in a field, so that ways differ by less than a packet.
    #[cfg(test)]
    pub fn near(relays: usize, wires: &[(usize, usize)], seed: u64) -> Sim {
        let mut sim = Sim::new(relays, wires, seed);
        for wire in &mut sim.wires {
            wire.quality.delay_us = 500 + wire.quality.delay_us % 1500;
            wire.quality.jitter_us = 500;
        }
        sim
    }

    /// Relays with wires of a given quality between them, all switched off.
    pub fn with_wires(relays: usize, wires: &[(usize, usize, Quality)], random: Random) -> Sim {
        let now = epoch();
        let mut wires_of = vec![Vec::new(); relays];
        for (wire, (a, b, _)) in wires.iter().enumerate() {
            wires_of[*a].push(wire);
            wires_of[*b].push(wire);
        }
        let zone = |relay| ZoneName::new(format!("zone-{relay}")).expect("a good name");
        // Of the same seed, and nothing else is drawn differently for it.
        let seed = random.clone().word();
        let disk = |index: usize| Random::new(seed ^ 0xd15c ^ (index as u64) << 32);
        let mut sim = Sim {
            now,
            relays: (0..relays).map(|index| Relay::new(node(index), disk(index))).collect(),
            wires: wires.iter().map(|(a, b, quality)| Wire::new([*a, *b], *quality, now)).collect(),
            crossed: BTreeMap::new(),
            messages: (0, 0),
            said: BTreeMap::new(),
            rerouted: 0,
            returned: 0,
            written: 0,
            damaged: false,
            lied_to: false,
            unsent: Vec::new(),
            start: now,
            random,
            events: Events::default(),
            publishers: BTreeSet::new(),
            zones: (0..relays).map(zone).collect(),
            ledger: Ledger::default(),
            wires_of,
            by_link: vec![None],
            by_id: (0..relays).map(|index| (node(index), index)).collect(),
        };
        sim.events.push(now, Event::Tick);
        sim
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets virtual time pass; every step is checked.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some((at, event)) = self.events.pop(until) {
            self.now = self.now.max(at);
            self.happen(event);
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
        let key =
            TrackKey { origin: self.relays[relay].id, stream: stream.clone(), track: StreamTrack::of(kind) };
        self.relays[relay].published.insert(key.clone());
        self.publishers.insert(relay);
        let tracks = vec![TrackDescription { kind, codec, layers: 1 }];
        let now = self.now;
        self.with(relay, |mesh| mesh.handle_publish(StreamAdvertisement { name: stream, tracks }, now));
        key
    }

    /// Publishes a stream with a picture in encodings, and gives those by rising quality.
    pub fn publish_encodings(&mut self, relay: usize, name: &str) -> Vec<TrackKey> {
        let whole = self.publish_kind(relay, name, Kind::Video);
        let encoding = |(place, rate): (u8, u64)| AdvertisedEncoding {
            place,
            rate: NominalRate::of(rate),
            label: Label { rid: Rid::new(["q", "h", "f"][usize::from(place)]), width: 1280, height: 720 },
        };
        let encodings: Vec<_> = (0..ENCODINGS.len() as u8).zip(ENCODINGS).rev().map(encoding).collect();
        let keys: Vec<_> = encodings
            .iter()
            .map(|encoding| TrackKey { track: StreamTrack::Encoding(encoding.place), ..whole.clone() })
            .collect();
        self.relays[relay].published.extend(keys.iter().cloned());
        let (now, rates) = (self.now, StreamRates { encodings, ..StreamRates::default() });
        self.with(relay, |mesh| mesh.handle_rates(&whole.stream, rates, now));
        keys
    }

    /// Publishes a stream with a sound in rungs, and gives those by rising quality, then what the publisher sends.
    pub fn publish_rungs(&mut self, relay: usize, name: &str) -> Vec<TrackKey> {
        let top = self.publish(relay, name);
        let rung = |rung| TrackKey { track: StreamTrack::Rung(rung), ..top.clone() };
        let keys: Vec<_> = (0..MAX_RUNGS as u8).map(rung).chain([top.clone()]).collect();
        self.relays[relay].published.extend(keys.iter().cloned());
        self.make_rungs(relay, &top, true);
        keys
    }

    /// Rungs of a sound can be had, or not any more. They are sent on all the same, as long as somebody takes them.
    pub fn make_rungs(&mut self, relay: usize, top: &TrackKey, makes: bool) {
        let [low, middle, audio] = SOUND.map(NominalRate::of);
        let rungs = if makes { [low, middle] } else { Default::default() };
        let (now, rates) = (self.now, StreamRates { audio, rungs, ..StreamRates::default() });
        self.with(relay, |mesh| mesh.handle_rates(&top.stream, rates, now));
    }

    /// Ends a stream.
    pub fn unpublish(&mut self, relay: usize, key: &TrackKey) {
        let now = self.now;
        self.relays[relay].published.retain(|published| published.stream != key.stream);
        if self.relays[relay].published.is_empty() {
            self.publishers.remove(&relay);
        }
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
        let of_stream = |wanted: &&TrackKey| (&wanted.origin, &wanted.stream) == (&key.origin, &key.stream);
        let (mut picture, mut sound) = (PictureDemand::default(), SoundDemand::default());
        for wanted in self.relays[relay].wanted.iter().filter(of_stream) {
            match wanted.track {
                StreamTrack::Audio => sound.listeners += 1,
                StreamTrack::Rung(rung) => {
                    sound.listeners += 1;
                    sound.wanted[usize::from(rung)] += 1;
                }
                StreamTrack::Encoding(place) => {
                    picture.listeners += 1;
                    picture.wanted[usize::from(place)] += 1;
                }
                StreamTrack::Video => {}
            }
        }
        let (origin, stream) = (key.origin, key.stream.clone());
        self.with(relay, |mesh| match key.track {
            StreamTrack::Video => mesh.handle_interest(key.clone(), wanted, now),
            StreamTrack::Encoding(_) => mesh.handle_demand(origin, stream, picture, now),
            StreamTrack::Audio | StreamTrack::Rung(_) => mesh.handle_sound_demand(origin, stream, sound, now),
        });
    }

    /// What a relay is told that the link on its end of a wire carries, in bits per second; 0 if that is not known.
    pub fn set_capacity(&mut self, (wire, end): (usize, usize), rate: u64) {
        let now = self.now;
        let Some(link) = self.wires[wire].links[end] else { return };
        let relay = self.wires[wire].ends[end];
        self.with(relay, |mesh| mesh.handle_capacity(link, (rate > 0).then_some(rate), now));
    }

    /// Appends to the log of a relay that is alive, about the lobby.
    pub fn append(&mut self, relay: usize, text: &str) {
        let lobby = RoomName::new("lobby").expect("a good name");
        self.append_to(relay, Topic::Room(lobby), text);
    }

    /// Appends to the log of a relay that is alive.
    pub fn append_to(&mut self, relay: usize, topic: Topic, text: &str) {
        let (now, payload) = (self.now, Bytes::copy_from_slice(text.as_bytes()));
        self.with(relay, |mesh| {
            mesh.handle_append(topic, payload, now).expect("texts in tests are short");
        });
    }

    /// A listener at a relay needs a keyframe.
    pub fn ask_keyframe(&mut self, relay: usize, key: &TrackKey) {
        let now = self.now;
        self.with(relay, |mesh| mesh.handle_keyframe_request(key, now));
    }

    /// Gaps are counted from now on.
    pub fn forget_gaps(&mut self) {
        for relay in &mut self.relays {
            for heard in relay.heard.values_mut() {
                heard.gap = Duration::ZERO;
            }
        }
    }

    /// The tracks that a relay at one end of a wire sends over it.
    #[cfg(test)]
    pub fn sent(&self, relay: usize, wire: usize) -> BTreeSet<TrackKey> {
        let end = usize::from(self.wires[wire].ends[1] == relay);
        let link = self.wires[wire].links[end];
        let sends = |entry: &&crate::ForwardEntry| entry.children.iter().any(|(to, _)| Some(*to) == link);
        self.relays[relay].table.iter().filter(sends).map(|entry| entry.track.clone()).collect()
    }

    /// What each relay wants.
    pub fn wanted(&self) -> impl Iterator<Item = (usize, &TrackKey)> {
        self.relays.iter().enumerate().flat_map(|(i, relay)| relay.wanted.iter().map(move |key| (i, key)))
    }

    /// Whether a track is published, by a relay with power.
    pub fn published(&self, key: &TrackKey) -> Option<usize> {
        let origin = *self.by_id.get(&key.origin)?;
        let relay = &self.relays[origin];
        (relay.mesh.is_some() && relay.published.contains(key)).then_some(origin)
    }

    /// The wire and the end of a link that is up.
    pub fn at(&self, link: LinkId) -> Option<(usize, usize)> {
        self.by_link.get(link.0 as usize).copied().flatten()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { toward, lane, index } => self.arrive(toward, lane, index),
            Event::Resend { toward, lane, index, missing, attempt } => {
                self.resend(toward, lane, index, missing, attempt);
            }
            Event::Depart { toward } => self.departed(toward),
            Event::Media { toward, packet } => self.arrive_packet(toward, packet),
            Event::Due { relay } => self.due(relay as usize),
            Event::Wake { relay } => self.wake(relay as usize),
            Event::GiveUp { wire, since } => {
                if self.wires[wire as usize].silent_since == Some(since) {
                    self.give_up(wire as usize);
                }
            }
            Event::Measure { wire } => self.measure(wire as usize),
            Event::Written { relay, run } => self.written(relay as usize, run),
            Event::Tick => self.tick(),
        }
    }

    /// An entry for a deadline has come up: the deadline may be elsewhere by now.
    fn due(&mut self, relay: usize) {
        let now = self.now;
        let state = &mut self.relays[relay];
        if state.scheduled.is_none_or(|at| at > now) {
            return;
        }
        state.scheduled = None;
        if state.sleeps(now) {
            return;
        }
        if state.due.is_some_and(|due| due <= now) {
            // A step may ask for one more at once, but not for ever.
            state.stuck += 1;
            assert!(state.stuck < 5, "a deadline that was met is still there");
            self.with(relay, |mesh| mesh.handle_timeout(now));
            let state = &mut self.relays[relay];
            if state.due.is_none_or(|due| due > now) {
                state.stuck = 0;
            }
        } else {
            self.schedule(relay);
        }
    }

    fn schedule(&mut self, relay: usize) {
        let state = &mut self.relays[relay];
        let Some(due) = state.due else { return };
        if state.scheduled.is_none_or(|at| due < at) {
            state.scheduled = Some(due);
            self.events.push(due.max(self.now), Event::Due { relay: relay as u32 });
        }
    }

    /// Does something with a relay that has power, and carries out what it wants done.
    fn with(&mut self, relay: usize, what: impl FnOnce(&mut Mesh)) {
        let Some(mut mesh) = self.relays[relay].mesh.take() else { return };
        what(&mut mesh);
        let mut changed = false;
        while let Some(output) = mesh.poll_output() {
            match output {
                Output::Send { link, message, class } => {
                    let Some((wire, end)) = self.at(link) else {
                        if self.lied_to {
                            self.unsent.push((link, message));
                        }
                        continue;
                    };
                    self.leaves(relay, class, &message);
                    if self.wires[wire].links[1 - end].is_some() {
                        let said = self.said.entry(message.get(1).copied().unwrap_or_default()).or_default();
                        *said = (said.0 + 1, said.1 + message.len() as u64);
                        self.carry(wire, 1 - end, class, message);
                    }
                }
                Output::ForwardingChanged => changed = true,
                Output::Store(record) => {
                    self.arrives(relay, &record);
                    if self.relays[relay].disk.handle_job(Job::Append(record)) {
                        mesh.handle_stored(Ok(()), self.now);
                    }
                }
                Output::Record { record, stored } => {
                    self.shows(&record);
                    let gaps = self.lied_to || self.damaged;
                    self.relays[relay].keep(record, stored.is_ok(), gaps, self.now);
                }
                Output::Saved { key, upto } => drop(self.relays[relay].saved.insert(key, upto)),
                Output::Forget { key, below } => self.relays[relay].forget(key, below),
                Output::Returned { .. } => self.returned += 1,
                Output::BadRecord { .. } if self.lied_to => {}
                Output::BadRecord { from, key, number } => {
                    panic!("{from:?} passed on record {number} of {key:?} not as it was signed")
                }
                Output::KeyframeWanted { .. } => self.relays[relay].keyframes += 1,
                Output::Rerouted { .. } => self.rerouted += 1,
                Output::StreamsChanged
                | Output::SoundComes { .. }
                | Output::File(_)
                | Output::Protect { .. } => {}
                Output::DropLink { link, .. } if self.lied_to && self.at(link).is_none() => {}
                output @ (Output::Twin { .. } | Output::Second) => {
                    panic!("a restart of {relay} is taken for a second relay: {output:?}")
                }
                Output::DropLink { link, reason } => panic!("{link:?} is to be dropped: {reason}"),
            }
        }
        let state = &mut self.relays[relay];
        state.due = mesh.poll_timeout();
        if changed {
            state.table = mesh.forwarding();
        }
        state.mesh = Some(mesh);
        self.write(relay);
        self.schedule(relay);
    }
}
