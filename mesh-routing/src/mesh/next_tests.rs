//! A chain of three relays of which some speak one version more: what only they know comes through, and nothing else
//! differs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    BridgeVersions, Codec, Kind, NodeId, StreamName, Topic, TrackDescription, UnknownTopic, ZoneName,
    mesh::{StreamAdvertisement, StreamTrack, TrackKey},
};

use super::{NEXT, VERSIONS, Way};
use crate::{
    Config, LinkId, Mesh, Output, Underlay,
    sim::{config, epoch, node},
};

/// Relays in a row; the link to the one before is 1, to the one behind 2.
struct Chain {
    meshes: Vec<Mesh>,
    now: Instant,
    records: Vec<Vec<(Topic, Bytes)>>,
    notes: Vec<BTreeMap<(NodeId, Way), u32>>,
}

impl Chain {
    fn new(next: [bool; 3]) -> Chain {
        let now = epoch();
        let versions = |next| if next { VERSIONS } else { BridgeVersions::SPOKEN };
        let mesh = |(index, next): (usize, &bool)| {
            let zone = ZoneName::new(format!("zone-{index}")).unwrap();
            Mesh::new(Config { versions: versions(*next), ..config(node(index), zone, 1, 1) }, now)
        };
        let meshes: Vec<_> = next.iter().enumerate().map(mesh).collect();
        let count = meshes.len();
        let mut chain =
            Chain { meshes, now, records: vec![Vec::new(); count], notes: vec![BTreeMap::new(); count] };
        for left in 0..count - 1 {
            let version = versions(next[left]).common(versions(next[left + 1])).unwrap();
            for (at, link, other) in [(left, 2, left + 1), (left + 1, 1, left)] {
                let over = (Underlay::default(), version);
                chain.meshes[at].handle_link_up_over(LinkId(link), node(other), over, now);
            }
        }
        chain.run(Duration::from_secs(5));
        chain
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let mut messages = VecDeque::new();
            loop {
                for at in 0..self.meshes.len() {
                    self.collect(at, &mut messages);
                }
                let Some((to, link, message)) = messages.pop_front() else { break };
                let taken = self.meshes[to].handle_message(link, &message, self.now);
                assert_eq!(taken, Ok(()), "{message:?}");
            }
            self.now += Duration::from_millis(20);
            let now = self.now;
            self.meshes.iter_mut().for_each(|mesh| mesh.handle_timeout(now));
        }
    }

    fn collect(&mut self, at: usize, messages: &mut VecDeque<(usize, LinkId, Bytes)>) {
        while let Some(output) = self.meshes[at].poll_output() {
            match output {
                Output::Send { link, message, .. } => {
                    let (to, back) =
                        if link == LinkId(1) { (at - 1, LinkId(2)) } else { (at + 1, LinkId(1)) };
                    messages.push_back((to, back, message));
                }
                Output::Store(_) => self.meshes[at].handle_stored(Ok(()), self.now),
                Output::Record { record, .. } => {
                    self.records[at].push((record.key.topic.clone(), record.entry.payload.clone()));
                }
                Output::DropLink { reason, .. } => panic!("relay {at} drops a link: {reason}"),
                _ => {}
            }
        }
        while let Some(note) = self.meshes[at].poll_note() {
            *self.notes[at].entry(note).or_default() += 1;
        }
    }

    /// Something of everything, from one end to the other.
    fn carries(&mut self, from: usize, to: usize) {
        let (now, name) = (self.now, StreamName::new(format!("stage-{from}")).unwrap());
        let tracks = vec![TrackDescription { kind: Kind::Audio, codec: Codec::Opus, layers: 1 }];
        let track = TrackKey { origin: node(from), stream: name.clone(), track: StreamTrack::Audio };
        self.meshes[from].handle_publish(StreamAdvertisement { name: name.clone(), tracks }, now);
        let text = Bytes::from(format!("from {from}"));
        self.meshes[from].handle_append(Topic::Announcements, text.clone(), now).unwrap();
        self.run(Duration::from_secs(2));
        self.meshes[to].handle_interest(track.clone(), true, self.now);
        self.run(Duration::from_secs(2));
        let streams = self.meshes[to].streams();
        let listed = streams.iter().find(|stream| stream.name == name).expect("it is listed");
        assert_eq!(listed.hops, 2);
        let carried = |mesh: &Mesh| mesh.forwarding().iter().any(|entry| entry.track == track);
        assert!(self.meshes.iter().all(carried), "each relay of the chain carries it");
        assert!(self.records[to].contains(&(Topic::Announcements, text)));
    }

    fn refused(&self) -> u64 {
        self.meshes.iter().flat_map(|mesh| mesh.links()).map(|(.., counters)| counters.refused).sum()
    }
}

fn ways(of: &BTreeMap<(NodeId, Way), u32>, from: usize) -> BTreeSet<Way> {
    of.keys().filter(|(id, _)| *id == node(from)).map(|(_, way)| *way).collect()
}

#[test]
fn one_relay_of_a_later_version_in_any_place_changes_nothing_for_the_others() {
    for place in 0..3 {
        let mut chain = Chain::new(std::array::from_fn(|at| at == place));
        chain.carries(0, 2);
        chain.carries(2, 0);
        assert_eq!(chain.refused(), 0, "nobody is blamed");
        assert!(chain.notes.iter().all(BTreeMap::is_empty), "nobody else knows notes");
        for (at, mesh) in chain.meshes.iter().enumerate().filter(|(at, _)| *at != place) {
            let unknown = mesh.counters().unknown;
            let next_to_it = at.abs_diff(place) == 1;
            assert_eq!(unknown.messages > 0, next_to_it, "relay {at}: {unknown:?}");
            assert!(unknown.passed_on > 0 && unknown.lsa_fields > 0, "relay {at}: {unknown:?}");
            assert_eq!((unknown.topics, unknown.message_fields), (1, 0), "relay {at}");
            let links: Vec<_> = mesh.links().map(|(link, ..)| link).collect();
            assert!(
                links.iter().all(|l| mesh.figures(*l).unwrap().version == BridgeVersions::SPOKEN.highest())
            );
        }
    }
}

#[test]
fn what_only_the_ends_know_comes_through_the_middle_as_its_framing_says() {
    let mut chain = Chain::new([true, false, true]);
    chain.carries(0, 2);
    chain.carries(2, 0);
    for (at, other) in [(0, 2), (2, 0)] {
        let came = ways(&chain.notes[at], other);
        assert_eq!(came, BTreeSet::from([Way::PassedOn, Way::Field, Way::Record]), "at {at}");
        let known = chain.meshes[at].counters().unknown;
        assert_eq!(known, Default::default(), "nothing is unknown to relay {at}");
    }
    let middle = chain.meshes[1].counters().unknown;
    assert!(middle.messages > 0 && middle.passed_on > 0 && middle.lsa_fields > 0, "{middle:?}");
    assert_eq!(middle.topics, 2, "kept, each once");
    assert_eq!(chain.refused(), 0);
}

#[test]
fn neighbors_that_both_speak_the_later_version_use_all_of_it() {
    let chain = Chain::new([true, true, false]);
    assert_eq!(chain.meshes[0].figures(LinkId(2)).unwrap().version, NEXT);
    assert_eq!(chain.meshes[1].figures(LinkId(2)).unwrap().version, BridgeVersions::SPOKEN.highest());
    assert_eq!(ways(&chain.notes[0], 1), BTreeSet::from(Way::ALL));
    // One of each for a neighbor, and one each second; those that have to be understood are not among them here.
    let (unknown, known) = (chain.meshes[2].counters().unknown, &chain.notes[0]);
    let asides = u64::from(known[&(node(1), Way::Aside)]);
    assert!(unknown.messages.abs_diff(asides) <= 1, "{unknown:?}, {asides} asides");
}

#[test]
fn records_of_an_unknown_topic_outlive_a_restart_of_the_relay_between() {
    let mut chain = Chain::new([true, false, false]);
    let topic = Topic::Unknown(UnknownTopic::new(2, protocol::Carriage::CHAT, b"notes").unwrap());
    let kept = chain.records[1].iter().find(|(about, _)| *about == topic).expect("it is kept");
    assert_eq!(kept.1, "a note");
    // The first relay is gone for good; who comes later gets it from the middle one.
    let now = chain.now;
    chain.meshes[1].handle_link_down(LinkId(1), now);
    chain.meshes[1].handle_link_down(LinkId(2), now);
    let zone = ZoneName::new("late").unwrap();
    chain.meshes[2] = Mesh::new(config(node(7), zone, 1, 1), now);
    chain.records[2].clear();
    chain.meshes[0].handle_link_down(LinkId(2), now);
    chain.meshes[1].handle_link_up(LinkId(2), node(7), now);
    chain.meshes[2].handle_link_up(LinkId(1), node(1), now);
    chain.run(Duration::from_secs(3));
    assert!(chain.records[2].iter().any(|(about, text)| *about == topic && text == "a note"));
}
