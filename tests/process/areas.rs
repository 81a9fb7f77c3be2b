//! Two areas of two relays each: what is published in one is heard in the other, and a room is one everywhere,
//! although nobody knows the relays of the other area.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use tests::{Listener, Publisher, Relay, Setup, until};

const SOON: Duration = Duration::from_secs(20);

/// A relay of an area that dials the one before.
async fn relay(zone: &str, area: &str, peer: Option<&Relay>) -> Relay {
    let setup = Setup::zone(zone).argument("--area").argument(area);
    match peer {
        Some(peer) => setup.peer(peer.bridge()),
        None => setup,
    }
    .start()
    .await
    .unwrap()
}

#[tokio::test]
async fn a_stream_and_a_room_cross_from_area_to_area() {
    let gate = relay("gate", "1", None).await;
    let stage = relay("stage", "1", Some(&gate)).await;
    let lake = relay("lake", "2", Some(&stage)).await;
    let camping = relay("camping", "2", Some(&lake)).await;
    let _publisher = Publisher::tone(&gate, "main-stage", 440).unwrap();
    let api = camping.api();
    let stream = until("the other area knows the stream", SOON, || api.stream("main-stage")).await.unwrap();
    // How far inside the other area it begins is not told: two links lead to that area's edge.
    assert_eq!((&*stream.origin_zone, stream.hops), ("gate", 2), "{stream:?}");

    let report = Listener::start(&camping, "main-stage", 5).unwrap().report().await.unwrap();
    report.heard(440).unwrap();
    assert_eq!(report.lost, 0, "{report:?}");

    let mesh = api.mesh().await.unwrap();
    let zones: Vec<_> = mesh.nodes.iter().map(|node| &*node.zone).collect();
    assert_eq!(zones.len(), 2, "only the own area's relays are known: {zones:?}");
    let areas: Vec<_> = mesh.areas.iter().map(|area| (area.area, area.relays)).collect();
    assert_eq!(areas, [(2, 2), (1, 2)], "{mesh:?}");
    assert_eq!(mesh.areas[1].publishers, 1, "{mesh:?}");

    let id = gate.api().say("lobby", "Ada", "is anybody in the other area?").await.unwrap();
    until("the message is in the other area", SOON, || async {
        Ok(api.history("lobby").await?.into_iter().find(|message| message.id == id))
    })
    .await
    .unwrap();
}
