//! A neighbor that says well-formed things that are not true: what the others suffer, and that it passes.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{
    Codec, Hlc, Kind, NodeId, RoomName, StreamName, Topic, TrackDescription, ZoneName,
    mesh::{Alias, StreamAdvertisement, StreamTrack, TrackKey},
};

use super::{Sim, check, config, epoch, node, random::Random};
use crate::{
    LinkId, Mesh, Output,
    link::detector::State,
    linkstate::{lsdb::DATABASE_MAX, pace::FIRST},
    log::{self, OVERHEAD, TOTAL_MAX},
    wire::{
        log_entry::{Entry, LogKey, PAYLOAD_MAX},
        lsa::{Advertised, Edge, LinkState, NODES_MAX, Publication},
        message::{Head, JoinParams, Message, Offer, Pulled, Refusal, Role},
        metric::Capacity,
        signature::SimulatedKeys,
        signed_lsa::{Key, Lsa, SignedLsa},
    },
};

/// The liar's link at the relay it lies to: the simulation knows nothing of it.
const LINK: LinkId = LinkId(1 << 30);
/// Relays that exist, and the first that does not.
const REAL: usize = 5;
const FAKE: usize = 1000;

struct Liar(Random);

impl Liar {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn fake(&mut self) -> NodeId {
        node(FAKE + self.below(40) as usize)
    }

    fn any(&mut self) -> NodeId {
        let real = node(self.below(REAL as u64) as usize);
        let fake = self.fake();
        self.one(&[real, fake, node(FAKE)])
    }

    fn number(&mut self) -> u64 {
        let shift = self.below(64);
        let any = self.0.word() >> shift;
        self.one(&[any, 0, 1, 2, u64::MAX, u64::MAX >> 1, (u64::MAX >> 1) - 1, 1 << 52, 1 << 40])
    }

    fn stream(&mut self) -> StreamName {
        let name = format!("stage-{}", self.below(6));
        StreamName::new(name).unwrap()
    }

    fn track(&mut self) -> TrackKey {
        let track = self.one(&[0, 1, 2, 3]);
        let track = StreamTrack::try_from(track).unwrap();
        TrackKey { origin: self.any(), stream: self.stream(), track }
    }

    /// Of relays that do not exist the liar has the keys; those of others it can only forge, or repeat.
    fn lsa(&mut self) -> SignedLsa {
        let lsa = self.said();
        let signer = self.fake();
        let own = (FAKE..FAKE + 40).any(|fake| node(fake) == lsa.key().origin());
        SignedLsa::new(lsa.clone(), &SimulatedKeys(if own { lsa.key().origin() } else { signer }))
    }

    fn said(&mut self) -> Lsa {
        let origin = self.any();
        let mut neighbors: Vec<_> = (0..self.below(8)).map(|_| self.any()).collect();
        neighbors.retain(|neighbor| *neighbor != origin);
        neighbors.sort();
        neighbors.dedup();
        let links = neighbors.into_iter().map(|neighbor| Edge {
            neighbor,
            cost: self.one(&[1, 9, u16::MAX]),
            rtt_us: self.number() as u32,
            loss: self.number() as u16,
            capacity: Capacity(self.below(16) as u8),
        });
        let links = links.collect();
        let mut names: Vec<_> = (0..self.below(5)).map(|_| self.stream()).collect();
        names.sort();
        names.dedup();
        let heard = names.clone();
        let streams = names.into_iter().map(|name| {
            let codec = Codec::Opus;
            let tracks = vec![TrackDescription { kind: Kind::Audio, codec, layers: 1 }];
            Advertised {
                stream: StreamAdvertisement { name, tracks },
                since: self.number() >> 20,
                rates: Default::default(),
            }
        });
        let streams = streams.collect();
        let zone = ZoneName::new("nowhere").unwrap();
        let sequence = self.number() >> 1;
        if self.below(2) == 0 {
            return Lsa::Streams(Publication { origin, zone, sequence, streams });
        }
        let said = LinkState::new(origin, zone, sequence, links);
        Lsa::Links(LinkState { heard, ..said })
    }

    fn path(&mut self) -> Vec<NodeId> {
        (0..1 + self.below(5)).map(|_| self.any()).collect()
    }

    /// A log: one of a relay whose key the liar has, or one of anybody.
    fn log(&mut self) -> LogKey {
        let room = RoomName::new(format!("room-{}", self.below(3))).unwrap();
        let topic = if self.below(3) == 0 { Topic::Announcements } else { Topic::Room(room) };
        let writer = if self.below(4) == 0 { self.any() } else { self.fake() };
        LogKey { topic, writer, incarnation: self.below(2) }
    }

    /// Entries that a relay of its own signed, or that it says another signed.
    fn entries(&mut self, key: &LogKey, first: u64, number: u64) -> Vec<Entry> {
        let signer = if self.below(8) == 0 { node(FAKE) } else { key.writer };
        let real = (0..REAL).any(|relay| node(relay) == signer);
        let keys = SimulatedKeys(if real { node(FAKE) } else { signer });
        (0..number)
            .map(|i| {
                let (number, hlc) = (first.wrapping_add(i), Hlc(self.number()));
                log::LogEntry::sign(&keys, key.clone(), number, hlc, Bytes::from_static(b"lies")).entry
            })
            .collect()
    }

    fn offer(&mut self) -> Offer {
        let suspect_edge = (self.below(4) == 0).then(|| (self.any(), self.any()));
        Offer { path: self.path(), has_disjoint_backup: self.below(2) == 0, suspect_edge }
    }

    fn about_logs(&mut self) -> Message {
        let key = self.log();
        match self.below(5) {
            0 => {
                let highest = self.number();
                let head = Head { key, floor: self.below(highest.max(1)), highest };
                Message::Heads { entries: vec![head], fresh: self.below(2) == 0 }
            }
            1 => Message::Pull { key, after: self.number() },
            2 => Message::Stored { entries: vec![(key, self.number())] },
            3 => Message::Topics { after: None, until: None, entries: vec![(key.topic, self.number())] },
            _ => {
                let first = self.number();
                let floor = self.one(&[first.wrapping_sub(1), 0, first]);
                let pulled = Pulled { floor, more: self.below(2) == 0 };
                let number = self.below(4);
                let entries = self.entries(&key, first, number);
                let pulled = (self.below(3) > 0).then_some(pulled);
                let mut path = if pulled.is_none() { self.path() } else { Vec::new() };
                if self.below(4) > 0 && pulled.is_none() {
                    path.push(node(FAKE));
                }
                Message::Append { key, first, entries, path, pulled }
            }
        }
    }

    fn lie(&mut self) -> Message {
        let (track, alias) = (self.track(), Alias(self.below(4) as u16));
        match self.below(14) {
            0..=3 => Message::LinkState { age_ms: self.below(800_000) as u32, lsa: self.lsa() },
            4 => {
                let entries =
                    vec![(Key::Links(self.any()), self.number()), (Key::Streams(self.any()), self.number())];
                if self.below(2) == 0 { Message::Digest { entries } } else { Message::Announce { entries } }
            }
            5 => Message::Request { keys: vec![Key::Links(self.any()), Key::Streams(self.any())] },
            6 => Message::Summary { database: self.number(), logs: self.number() },
            7..=8 => {
                let (role, active) = (self.one(&[Role::Primary, Role::Secondary]), self.below(2) == 0);
                Message::Join {
                    track,
                    alias,
                    ask: JoinParams { role, active, avoid: self.path(), behind: u16::MAX, needed: true },
                }
            }
            9 => Message::Joined { track, alias, offer: self.offer() },
            10 => Message::Lost { track, alias, broken: Some((self.any(), self.any())) },
            11 => match self.below(3) {
                0 => Message::Refused { track, alias, reason: Refusal::Full },
                1 => Message::Leave { track, alias },
                _ => Message::Keyframe { track },
            },
            _ => self.about_logs(),
        }
    }

    /// An answer to what the relay asked the liar: it agrees, from a place of its choice.
    fn agree(&mut self, asked: &[u8]) -> Option<Message> {
        match Message::decode(asked).ok()? {
            Message::Probe { nonce, rate } => Some(Message::ProbeAck { nonce, rate }),
            Message::Join { track, alias, .. } => {
                let mut offer = self.offer();
                offer.path[0] = track.origin;
                Some(Message::Joined { track, alias, offer })
            }
            Message::Pull { key, after } => {
                let first = self.number().max(after).saturating_add(1);
                let pulled = Some(Pulled { floor: first - 1, more: true });
                let entries = self.entries(&key, first, 1);
                Some(Message::Append { key, first, entries, path: Vec::new(), pulled })
            }
            _ => None,
        }
    }
}

fn all_links_are_well(sim: &Sim) {
    for relay in &sim.relays {
        for (link, _, state, counters) in relay.mesh.as_ref().unwrap().links() {
            if link != LINK {
                assert_eq!((state, counters.suspected, counters.refused), (State::Up, 0, 0), "{link:?}");
            }
        }
    }
}

/// A chain that ends in a ring; the liar is the neighbor of a relay of the ring.
fn lied_to(seed: u64, lies: usize) {
    let mut sim = Sim::new(REAL, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 1)], seed);
    sim.lied_to = true;
    let keys = [sim.publish(0, "stage-0"), sim.publish(3, "stage-1")];
    for key in &keys {
        (0..REAL).for_each(|relay| sim.want(relay, key, true));
    }
    sim.run(Duration::from_secs(3));
    let mut liar = Liar(Random::new(seed));
    let now = sim.now;
    sim.with(2, |mesh| mesh.handle_link_up(LINK, node(FAKE), now));
    let mut asked: Vec<Bytes> = Vec::new();
    for lie in 0..lies {
        let now = sim.now;
        if lie % 10 == 0 {
            sim.append(lie / 10 % REAL, "the truth");
        }
        let answers: Vec<_> = asked.iter().filter_map(|bytes| liar.agree(bytes)).collect();
        asked.clear();
        for message in answers.into_iter().chain([liar.lie()]) {
            sim.with(2, |mesh| drop(mesh.handle_message(LINK, &message.encode(), now)));
        }
        asked.extend(sim.unsent.drain(..).filter(|(link, _)| *link == LINK).map(|(_, bytes)| bytes));
        let pause = liar.below(40);
        sim.run(Duration::from_millis(pause));
        asked.extend(sim.unsent.drain(..).filter(|(link, _)| *link == LINK).map(|(_, bytes)| bytes));
    }
    all_links_are_well(&sim);
    let now = sim.now;
    sim.with(2, |mesh| mesh.handle_link_down(LINK, now));
    sim.run(Duration::from_secs(25));
    all_links_are_well(&sim);
    check::at_rest(&mut sim);
    let heard = sim.relays[0].mesh.as_ref().unwrap().heard_by(&keys[1].stream);
    assert_eq!(heard.len(), REAL, "who hears it is known again");
}

/// `SIM_RUNS=n` tries more.
fn cases() -> u32 {
    std::env::var("SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_lying_neighbor_hurts_no_other_link_and_is_forgotten(seed in any::<u64>(), lies in 1usize..300) {
        lied_to(seed, lies);
    }
}

/// A relay with an honest neighbor on one link and a liar on another.
fn between() -> (Mesh, LinkId) {
    let (now, honest) = (epoch(), LinkId(1));
    let zone = ZoneName::new("stage").unwrap();
    let mut mesh = Mesh::new(config(node(0), zone, 1, 1), now);
    mesh.handle_link_up(honest, node(1), now);
    mesh.handle_link_up(LINK, node(FAKE), now);
    calm(&mut mesh);
    mesh.handle_timeout(now + FIRST);
    calm(&mut mesh);
    (mesh, honest)
}

fn streams(number: usize) -> Vec<Advertised> {
    let mut names: Vec<_> = (0..number).map(|i| format!("stage-{i}/{}", "x".repeat(60))).collect();
    names.sort();
    let tracks = vec![TrackDescription { kind: Kind::Audio, codec: Codec::Opus, layers: 1 }];
    let stream = |name| StreamAdvertisement { name: StreamName::new(name).unwrap(), tracks: tracks.clone() };
    names
        .into_iter()
        .map(|name| Advertised { stream: stream(name), since: 1, rates: Default::default() })
        .collect()
}

fn say(mesh: &mut Mesh, link: LinkId, message: &Message) -> bool {
    let now = mesh.now();
    let taken = mesh.handle_message(link, &message.encode(), now).is_ok();
    calm(mesh);
    taken
}

fn calm(mesh: &mut Mesh) {
    while let Some(output) = mesh.poll_output() {
        if matches!(output, Output::Store(_)) {
            mesh.handle_stored(Ok(()), mesh.now());
        }
        assert!(!matches!(output, Output::DropLink { link: other, .. } if other != LINK));
    }
}

fn of(lsa: Lsa) -> Message {
    let lsa = SignedLsa::new(lsa.clone(), &SimulatedKeys(lsa.key().origin()));
    Message::LinkState { age_ms: 0, lsa }
}

fn said_by(id: NodeId, neighbors: &[NodeId]) -> Message {
    let mut neighbors = neighbors.to_vec();
    neighbors.sort();
    let edge = |neighbor| Edge { neighbor, cost: 5, rtt_us: 1000, loss: 0, capacity: Capacity(1) };
    let links = neighbors.into_iter().map(edge).collect();
    let zone = ZoneName::new("camping").unwrap();
    of(Lsa::Links(LinkState::new(id, zone, 1 << 32, links)))
}

fn published_by(id: NodeId, streams: Vec<Advertised>) -> Message {
    let zone = ZoneName::new("camping").unwrap();
    of(Lsa::Streams(Publication { origin: id, zone, sequence: 1 << 32, streams }))
}

#[test]
fn lsas_of_relays_that_are_not_there_give_way() {
    let (mut mesh, honest) = between();
    assert!(say(&mut mesh, honest, &said_by(node(1), &[node(0), node(2)])));
    // Many, then few that are large.
    for (number, of_each) in [(NODES_MAX + 100, 0), (1500, 256)] {
        let streams = streams(of_each);
        for i in 0..number {
            let id = node(FAKE + of_each * 100 + i);
            let now = mesh.now();
            for message in [said_by(id, &[node(0)]), published_by(id, streams.clone())] {
                let _ = mesh.handle_message(LINK, &message.encode(), now);
            }
        }
        calm(&mut mesh);
        assert!(mesh.lsdb().len() <= NODES_MAX && mesh.lsdb().bytes() <= DATABASE_MAX);
        mesh.pass(Duration::from_secs(2));
    }
    assert!(say(&mut mesh, honest, &said_by(node(2), &[node(1)])), "there is room again");
    assert!(say(&mut mesh, honest, &published_by(node(2), streams(200))), "for what is published too");
    assert_eq!(mesh.topology().nodes.len(), 4);
}

#[test]
fn one_link_cannot_take_all_the_tracks() {
    let (mut mesh, honest) = between();
    say(&mut mesh, honest, &said_by(node(1), &[node(0)]));
    say(&mut mesh, LINK, &said_by(node(FAKE), &[node(0)]));
    for origin in 1..30 {
        say(&mut mesh, honest, &said_by(node(FAKE + origin), &[node(1)]));
        say(&mut mesh, honest, &published_by(node(FAKE + origin), streams(256)));
        for advertised in streams(256) {
            let (origin, stream) = (node(FAKE + origin), advertised.stream.name);
            let track = TrackKey { origin, stream, track: StreamTrack::Audio };
            say(&mut mesh, LINK, &Message::Join { track, alias: Alias(7), ask: JoinParams::default() });
        }
    }
    assert!(mesh.fill().0 <= 1024, "{}", mesh.fill().0);
}

#[test]
fn logs_of_writers_that_are_not_there_are_bounded() {
    let (mut mesh, _) = between();
    for writer in 0..6000 {
        let writer = node(writer + FAKE);
        let key = LogKey { topic: Topic::Announcements, writer, incarnation: 1 };
        let payload = Bytes::from(vec![0; PAYLOAD_MAX]);
        let sign = |number| {
            log::LogEntry::sign(&SimulatedKeys(writer), key.clone(), number, Hlc(7), payload.clone()).entry
        };
        let entries = (1..4).map(sign).collect();
        say(
            &mut mesh,
            LINK,
            &Message::Append { key, first: 1, entries, path: vec![node(FAKE)], pulled: None },
        );
        mesh.pass(Duration::from_millis(2));
    }
    // The last one of each stays, whatever it is.
    assert!(mesh.fill().1 <= TOTAL_MAX.max(6000 * (PAYLOAD_MAX + OVERHEAD)), "{}", mesh.fill().1);
}
