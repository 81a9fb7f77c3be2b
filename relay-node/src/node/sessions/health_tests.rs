//! What is said of a publisher that sends what nobody can use.

use media::{Event, Health};
use mesh_routing::{Config as MeshConfig, Mesh};
use protocol::ZoneName;
use rooms::WallTime;

use super::*;
use crate::node::Node;

fn fresh(n: u8) -> Fresh {
    let local = Credentials { ufrag: format!("ufrag{n}"), pwd: format!("password-of-{n:012}") };
    Fresh { id: SessionId([n; 16]), local, first_ssrc: 100 }
}

#[test]
fn what_is_wrong_with_a_publisher_is_said_until_another_one_publishes() {
    let now = crate::clock::now();
    let data = tempfile::tempdir().expect("a directory");
    let identity = crate::bridge::Identity::load_or_create(data.path()).expect("an identity");
    let zone = ZoneName::new("stage").expect("a name");
    let mesh = Mesh::new(MeshConfig::new(identity.keys(), zone.clone(), 1, 1), now);
    let sessions = Sessions::new(
        Arc::new(Identity::generate().expect("an identity")),
        Vec::new(),
        IngestPolicy::default(),
    );
    let mut node = Node::new(identity.node_id(), zone, mesh, sessions, 0, now, WallTime(0));
    let stream = StreamName::new("main-stage").expect("a name");
    let offer = Offer::parse(include_str!("../../../../media/tests/offers/obs.sdp")).expect("an offer");
    let publish = |node: &mut Node, n| {
        node.handle_publish(
            (stream.clone(), crate::places::shares::Holder::from(std::net::IpAddr::from([192, 0, 2, 7]))),
            &offer,
            fresh(n),
            now,
        )
        .expect("an answer");
        node.handle_media(Event::Connected { session: SessionId([n; 16]) }, now);
        while node.poll_effect(now).is_some() {}
    };
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
