//! The forwarding table: what the mesh says of each track, and who listens to it here, in the numbers of this relay and
//! with the ends of its links. The driver hands it to the packet path.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use mesh_routing::{ForwardEntry, LinkId};
use protocol::mesh::{Alias, Class, TrackKey};

use super::Node;
use crate::bridge::{Child, LinkSender, Route, Table};

/// The numbers of the tracks that come from neighbors. Each is given once, the same for all feeds of a track while it
/// is in the table: no packet is ever taken for one of another track.
#[derive(Debug, Default)]
pub(super) struct TrackNumbers {
    given: BTreeMap<TrackKey, u64>,
    next: u64,
}

impl TrackNumbers {
    fn of(&mut self, track: &TrackKey) -> u64 {
        if let Some(number) = self.given.get(track) {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        self.given.insert(track.clone(), number);
        number
    }

    /// Forgets the tracks that left the table; one that comes again is another one.
    fn retain(&mut self, tracks: &BTreeSet<&TrackKey>) {
        self.given.retain(|track, _| tracks.contains(track));
    }
}

impl Node {
    /// The forwarding table over these links.
    pub fn forwarding(&mut self, links: &BTreeMap<LinkId, LinkSender>) -> Table {
        let entries = self.mesh.forwarding();
        self.track_numbers.retain(&entries.iter().map(|entry| &entry.track).collect());
        let mut table = Table::default();
        for ForwardEntry { track, published, sources, children, local, rank } in entries {
            let here = self.streams.get(&track.stream).map(|known| known.tracks.get(track.track).0);
            let child =
                |(link, alias)| Some(Child { link: links.get(&link)?.clone(), alias, precedence: rank });
            let children = children.into_iter().filter_map(child).collect();
            if !published {
                let (track, class) = (self.track_numbers.of(&track), Class::of(track.track.kind()));
                let route = Route { track, local: here.filter(|_| local), class, children };
                table.incoming.extend(sources.into_iter().map(|source| (source, route.clone())));
            } else if let Some(here) = here {
                table.local.insert(here, children);
            }
        }
        table
    }

    /// The neighbor on a link needs keyframes of these tracks that it gets from here: what was before them has been shed,
    /// because the link is too thin.
    pub fn handle_shed(&mut self, link: LinkId, aliases: &[Alias], now: Instant) {
        if aliases.is_empty() {
            return;
        }
        for ForwardEntry { track, children, .. } in self.mesh.forwarding() {
            if children.iter().any(|(to, alias)| *to == link && aliases.contains(alias)) {
                self.mesh.handle_keyframe_request(&track, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use media::{
        Command, Event, SoundView, TrackId, ladder,
        sdp::{IngestPolicy, Offer},
        transport::{Credentials, Identity},
    };
    use mesh_routing::{
        Config, Mesh, Underlay,
        message::{JoinParams, Message},
    };
    use protocol::{BridgeVersion, NodeId, SessionId, StreamName, ZoneName, mesh::StreamTrack};
    use rooms::WallTime;

    use super::*;
    use crate::node::{
        Effect,
        sessions::{Fresh, Sessions},
    };

    #[test]
    fn a_number_of_a_track_is_never_given_twice() {
        let track = |track| {
            let stream = StreamName::new("main-stage").expect("a name");
            TrackKey { origin: NodeId([1; 32]), stream, track }
        };
        let (sound, picture) = (track(StreamTrack::Audio), track(StreamTrack::Video));
        let mut numbers = TrackNumbers::default();
        let first = [&sound, &picture, &sound].map(|track| numbers.of(track));
        assert_eq!(first, [0, 1, 0]);
        numbers.retain(&BTreeSet::from([&picture]));
        assert_eq!([&sound, &picture].map(|track| numbers.of(track)), [2, 1]);
    }

    /// A relay at which `main-stage` is published, and a neighbor that takes it over link 1, the sound as alias 5 and the
    /// picture as alias 6.
    fn parent(now: Instant) -> (Node, TrackId) {
        let data = tempfile::tempdir().expect("a directory");
        let identity = crate::bridge::Identity::load_or_create(data.path()).expect("an identity");
        let zone = ZoneName::new("stage").expect("a name");
        let mesh = Mesh::new(Config::new(identity.keys(), zone.clone(), 1, 1), now);
        let dtls = Arc::new(Identity::generate().expect("an identity"));
        let sessions = Sessions::new(dtls, Vec::new(), IngestPolicy::default());
        let mut node = Node::new(identity.node_id(), zone.clone(), mesh, sessions, 0, now, WallTime(0));
        let stream = StreamName::new("main-stage").expect("a name");
        let offer = Offer::parse(include_str!("../../../media/tests/offers/obs.sdp")).expect("an offer");
        let local = Credentials { ufrag: "ufrag".into(), pwd: "password-of-twenty-two".into() };
        let session = SessionId([1; 16]);
        let holder = crate::places::shares::Holder::from(std::net::IpAddr::from([192, 0, 2, 7]));
        let fresh = Fresh { id: session, local, first_ssrc: 100 };
        node.handle_publish((stream.clone(), holder), &offer, fresh, now).expect("an answer");
        node.handle_media(Event::Connected { session }, now);
        let over = (Underlay::default(), BridgeVersion::RUNGS);
        node.handle_link_up(LinkId(1), (NodeId([9; 32]), None, zone), over, true, now);
        for (track, alias) in [(StreamTrack::Audio, 5), (StreamTrack::Video, 6)] {
            let track = TrackKey { origin: node.id, stream: stream.clone(), track };
            let ask = JoinParams { active: true, ..JoinParams::default() };
            let join = Message::Join { track, alias: Alias(alias), ask };
            node.handle_message(LinkId(1), &join.encode(), now).expect("a join");
        }
        asked(&mut node, now);
        let picture = node.streams[&stream].tracks.video;
        (node, picture)
    }

    /// The tracks that the media workers are asked for a keyframe of.
    fn asked(node: &mut Node, now: Instant) -> Vec<TrackId> {
        let effects = std::iter::from_fn(|| node.poll_effect(now));
        let keyframe = |effect| match effect {
            Effect::Workers(Command::RequestKeyframe { track }) => Some(track),
            _ => None,
        };
        effects.filter_map(keyframe).collect()
    }

    #[test]
    fn what_a_link_shed_is_asked_for_once_in_500_ms() {
        let mut now = crate::clock::now();
        let (mut node, picture) = parent(now);
        node.handle_shed(LinkId(1), &[], now);
        node.handle_shed(LinkId(2), &[Alias(6)], now);
        node.handle_shed(LinkId(1), &[Alias(7)], now);
        assert_eq!(asked(&mut node, now), [], "another link, and an alias that means nothing");
        node.handle_shed(LinkId(1), &[Alias(7), Alias(6)], now);
        assert_eq!(asked(&mut node, now), [picture]);
        for _ in 0..4 {
            now += Duration::from_millis(100);
            node.handle_shed(LinkId(1), &[Alias(6)], now);
            assert_eq!(asked(&mut node, now), []);
        }
        // The last one is not lost.
        now += Duration::from_millis(100);
        node.handle_timeout(now);
        assert_eq!(asked(&mut node, now), [picture]);
    }

    /// What the ladder is told, and whether packets go to it.
    fn told_ladder(node: &mut Node, now: Instant) -> (Option<[bool; 2]>, Option<bool>) {
        let effects: Vec<_> = std::iter::from_fn(|| node.poll_effect(now)).collect();
        let made = effects.iter().filter_map(|effect| match effect {
            Effect::Ladder(_, rungs) => Some(*rungs),
            _ => None,
        });
        let fed = effects.iter().filter_map(|effect| match effect {
            Effect::Workers(Command::Feed { feeds, .. }) => Some(*feeds),
            _ => None,
        });
        (made.last(), fed.last())
    }

    #[test]
    fn a_rung_that_a_link_wants_is_made_and_goes_there() {
        let now = crate::clock::now();
        let (mut node, _) = parent(now);
        let stream = StreamName::new("main-stage").expect("a name");
        node.set_ladder();
        node.open_rungs(&stream, now);
        let sound = SoundView { kilobits_per_second: 142, packets_per_second: 50, speaks: false };
        node.handle_media(Event::Sound { session: SessionId([1; 16]), sound }, now);
        assert_eq!(told_ladder(&mut node, now), (None, None), "nobody wants one");
        let track = TrackKey { origin: node.id, stream: stream.clone(), track: StreamTrack::Rung(0) };
        let ask = JoinParams { active: true, ..JoinParams::default() };
        let join = Message::Join { track: track.clone(), alias: Alias(7), ask };
        node.handle_message(LinkId(1), &join.encode(), now).expect("a join");
        assert_eq!(told_ladder(&mut node, now), (Some([true, false]), Some(true)));
        assert!(node.mesh.forwarding().iter().any(|entry| entry.track == track && entry.published));
        let leave = Message::Leave { track, alias: Alias(7) };
        node.handle_message(LinkId(1), &leave.encode(), now).expect("a leave");
        assert_eq!(told_ladder(&mut node, now), (Some([false, false]), Some(false)));
    }

    #[test]
    fn rungs_are_said_as_long_as_they_are_made() {
        let now = crate::clock::now();
        let (mut node, _) = parent(now);
        let stream = StreamName::new("main-stage").expect("a name");
        let audio = node.streams[&stream].tracks.audio;
        node.set_ladder();
        node.open_rungs(&stream, now);
        let said = |node: &mut Node, now| {
            while node.poll_effect(now).is_some() {}
            node.mesh.streams()[0].rates.rungs.map(|rate| rate.bits_per_second())
        };
        assert_eq!(said(&mut node, now), [None, None], "nothing is known of the sound");
        let later = |seconds| now + Duration::from_secs(seconds);
        let sound = |kilobits_per_second, speaks| {
            let sound = SoundView { kilobits_per_second, packets_per_second: 50, speaks };
            Event::Sound { session: SessionId([1; 16]), sound }
        };
        let both = [Some(63_000), Some(100_000)];
        for (at, event, rungs) in [
            (1, sound(154, false), both),
            (20, sound(154, true), [None, None]),
            (40, sound(154, false), both),
            // Hardly more than the upper rung, then less.
            (60, sound(92, false), both),
            (80, sound(72, false), [both[0], None]),
            (100, sound(154, false), both),
        ] {
            node.handle_timeout(later(at));
            node.handle_media(event, later(at));
            said(&mut node, later(at));
            node.handle_timeout(later(at + 10));
            assert_eq!(said(&mut node, later(at + 10)), rungs, "at {at} s");
        }
        node.handle_ladder(ladder::Event::Closed { audio }, later(120));
        said(&mut node, later(120));
        node.handle_timeout(later(130));
        assert_eq!(said(&mut node, later(130)), [None, None], "the machine is short of CPU");
    }
}
