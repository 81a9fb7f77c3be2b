//! Two boxes from one card: the one that the mesh knew goes on, the other one serves its own zone, and both say so.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use tests::{Child, Listener, Publisher, Relay, Setup, pause, program, until};

const SOON: Duration = Duration::from_secs(60);

/// A copy of a box: its key and its records.
fn copy_of(data: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for name in ["node.key", "relay.redb"] {
        fs::copy(data.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

async fn shows(relay: &Relay, text: &str) {
    let api = relay.api();
    until(&format!("{} shows {text:?}", relay.zone()), SOON, || async {
        Ok(api.history("lobby").await?.iter().any(|message| message.text == text).then_some(()))
    })
    .await
    .unwrap();
}

async fn says(relay: &Relay, what: &str) {
    until(&format!("the log of {} says {what:?}", relay.zone()), SOON, || async {
        Ok(relay.log().contains(what).then_some(()))
    })
    .await
    .unwrap();
}

/// Both dial one relay, or the second one another relay that is linked to that one.
async fn two_boxes(elsewhere: bool) {
    let hub = Setup::zone("hub").start().await.unwrap();
    let far = Setup::zone("far").peer(hub.bridge()).start().await.unwrap();
    let mut first = Setup::zone("camping").peer(hub.bridge()).start().await.unwrap();
    first.api().say("lobby", "Ada", "before the copy").await.unwrap();
    shows(&far, "before the copy").await;
    assert!(first.terminate().await.unwrap().success());
    let copy = copy_of(first.data());
    first.restart().await.unwrap();
    first.api().say("lobby", "Ada", "from the first").await.unwrap();
    shows(&far, "from the first").await;
    let publisher = Publisher::tone(&hub, "main-stage", 440).unwrap();
    let api = first.api();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let listener = Listener::start(&first, "main-stage", 22).unwrap();

    // A run younger than that does not answer who asks for it.
    pause(Duration::from_secs(7)).await;
    let at = if elsewhere { &far } else { &hub };
    let mut second = Setup::zone("parking").peer(at.bridge()).start_in(copy).await.unwrap();
    assert_eq!(second.node(), first.node());
    says(&second, "another relay with the key of this one was in the mesh before").await;
    says(&first, "another relay has the key of this one and was refused").await;
    says(at, "a second relay with the key of relay").await;
    for relay in [&first, &second] {
        let twice = relay.api().mesh().await.unwrap().key_twice.expect("the page is told");
        assert_eq!((twice.second, &*twice.node), (relay.zone() == "parking", first.node()));
        assert!(twice.warning.contains("relay-node id --new"), "{twice:?}");
    }
    // Its people talk and hear in their own zone, and the others in theirs.
    second.api().say("lobby", "Bob", "from the second").await.unwrap();
    shows(&second, "from the second").await;
    shows(&second, "before the copy").await;
    let own = Publisher::tone(&second, "parking-stage", 660).unwrap();
    let api = second.api();
    until("its own stream is live", SOON, || api.stream("parking-stage")).await.unwrap();
    Listener::start(&second, "parking-stage", 3).unwrap().report().await.unwrap().heard(660).unwrap();
    own.vanish().unwrap();
    let report = listener.report().await.unwrap();
    report.heard(440).unwrap();
    assert_eq!(report.lost, 0, "{report:?}");
    publisher.vanish().unwrap();
    assert!(!first.log().contains("bridge down"), "it goes on undisturbed: {}", first.log());
    first.api().say("lobby", "Ada", "still there").await.unwrap();
    shows(&far, "still there").await;
    assert!(second.api().history("lobby").await.unwrap().iter().all(|message| message.text != "still there"));

    // The cure: a key of its own. Its rooms are as they were.
    let same = second.node().to_owned();
    assert!(second.terminate().await.unwrap().success());
    let data = second.data().display().to_string();
    let mut id =
        Child::start("relay-node", &program("relay-node").unwrap(), ["id", "--new", "--data", &data], &[])
            .unwrap();
    assert!(id.wait(SOON).await.unwrap().success(), "{}", id.log());
    assert_ne!(id.output().trim(), same);
    let moved = copy_of(second.data());
    let second = Setup::zone("parking").peer(at.bridge()).start_in(moved).await.unwrap();
    assert_eq!(second.node(), id.output().trim());
    shows(&second, "still there").await;
    shows(&first, "from the second").await;
    assert_eq!(second.api().mesh().await.unwrap().key_twice, None);
}

#[tokio::test]
async fn two_boxes_with_one_key_at_one_relay() {
    two_boxes(false).await;
}

#[tokio::test]
async fn two_boxes_with_one_key_at_two_relays() {
    two_boxes(true).await;
}
