//! What is said of a publisher: that it sends what nobody can use, and how the encodings of its picture are.

use media::{EncodingView, Event, Health, rtp::descriptor::Resolution};
use mesh_routing::{Config as MeshConfig, Mesh};
use protocol::ZoneName;
use rooms::WallTime;

use super::*;
use crate::node::Node;

fn fresh(n: u8) -> Fresh {
    let local = Credentials { ufrag: format!("ufrag{n}"), pwd: format!("password-of-{n:012}") };
    Fresh { id: SessionId([n; 16]), local, first_ssrc: 100 }
}

/// A relay, and what publishes `main-stage` there as the session of this number.
fn relay(now: Instant) -> (Node, impl Fn(&mut Node, u8)) {
    let data = tempfile::tempdir().expect("a directory");
    let identity = crate::bridge::Identity::load_or_create(data.path()).expect("an identity");
    let zone = ZoneName::new("stage").expect("a name");
    let mesh = Mesh::new(MeshConfig::new(identity.keys(), zone.clone(), 1, 1), now);
    let dtls = Arc::new(Identity::generate().expect("an identity"));
    let sessions = Sessions::new(dtls, Vec::new(), IngestPolicy::default());
    let node = Node::new(identity.node_id(), zone, mesh, sessions, 0, now, WallTime(0));
    let stream = StreamName::new("main-stage").expect("a name");
    let offer = Offer::parse(include_str!("../../../../media/tests/offers/obs.sdp")).expect("an offer");
    let publish = move |node: &mut Node, n| {
        let holder = crate::places::shares::Holder::from(std::net::IpAddr::from([192, 0, 2, 7]));
        node.handle_publish((stream.clone(), holder), &offer, fresh(n), now).expect("an answer");
        node.handle_media(Event::Connected { session: SessionId([n; 16]) }, now);
        while node.poll_effect(now).is_some() {}
    };
    (node, publish)
}

#[test]
fn what_is_wrong_with_a_publisher_is_said_until_another_one_publishes() {
    let now = crate::clock::now();
    let (mut node, publish) = relay(now);
    let publisher = |node: &Node| node.streams(now).pop().and_then(|stream| stream.publisher);
    publish(&mut node, 1);
    let said = publisher(&node).expect("it is published here");
    assert_eq!((said.dropped_too_large, said.answers_keyframe_requests), (0, None));
    let health = Health { too_large: 7, answers_keyframe_requests: Some(false) };
    node.handle_media(Event::Health { session: SessionId([1; 16]), health }, now);
    let said = publisher(&node).expect("it is published here");
    assert_eq!((said.dropped_too_large, said.answers_keyframe_requests), (7, Some(false)));
    publish(&mut node, 2);
    // What was still on its way from the one before says nothing of the new one.
    node.handle_media(Event::Health { session: SessionId([1; 16]), health }, now);
    let said = publisher(&node).expect("it is published here");
    assert_eq!((said.dropped_too_large, said.answers_keyframe_requests), (0, None));
}

#[test]
fn encodings_are_those_of_who_publishes_now() {
    let now = crate::clock::now();
    let (mut node, publish) = relay(now);
    publish(&mut node, 1);
    let listed = |node: &Node| node.streams(now).pop().expect("it is live").encodings;
    assert_eq!(listed(&node), []);
    let said = |n, width| {
        let view = |rid: &str, dormant| EncodingView {
            rid: Some(rid.to_owned()),
            resolution: width,
            frames_per_second: 25,
            kilobits_per_second: 700,
            dormant,
        };
        Event::Encodings { session: SessionId([n; 16]), encodings: vec![view("q", false), view("f", true)] }
    };
    node.handle_media(said(1, Some(Resolution { width: 640, height: 360 })), now);
    let rids: Vec<_> = listed(&node).into_iter().map(|one| (one.rid, one.width, one.dormant)).collect();
    let expected =
        [("q", false), ("f", true)].map(|(rid, dormant)| (Some(rid.to_owned()), Some(640), dormant));
    assert_eq!(rids, expected);
    publish(&mut node, 2);
    node.handle_media(said(1, None), now);
    assert_eq!(listed(&node), [], "of the one before");
    node.handle_media(said(2, None), now);
    let json = serde_json::to_value(listed(&node)).expect("is JSON");
    let first = serde_json::json!({ "rid": "q", "frames_per_second": 25, "kbps": 700, "dormant": false });
    assert_eq!(json[0], first);
}
