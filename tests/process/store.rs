//! Files of records that are damaged or cannot be had: sound and chat go on, people are told what to do, and what could not
//! be read comes from the other relays.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{
    fs::{self, File},
    time::Duration,
};

use tests::{Listener, Publisher, Relay, Setup, until};

/// Busy machines are slow: it is waited for what comes, not for when.
const SOON: Duration = Duration::from_secs(60);
const STORE: &str = "relay.redb";

async fn say(relay: &Relay, texts: &[String]) {
    for text in texts {
        relay.api().say("lobby", "Ada", text).await.unwrap();
    }
}

async fn shows(relay: &Relay, expected: &[String]) {
    let api = relay.api();
    until(&format!("{} shows {} lines", relay.zone(), expected.len()), SOON, || async {
        let mut shown: Vec<_> = api.history("lobby").await?.into_iter().map(|message| message.text).collect();
        shown.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        Ok((shown == expected).then_some(()))
    })
    .await
    .unwrap();
}

async fn readyz(relay: &Relay) -> String {
    relay.api().get("/readyz").await.unwrap().body
}

/// Somebody at `to` hears what is published at `from`.
async fn sounds(from: &Relay, to: &Relay) {
    let publisher = Publisher::tone(from, "main-stage", 440).unwrap();
    let api = to.api();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let listener = Listener::start(to, "main-stage", 3).unwrap();
    listener.report().await.unwrap().heard(440).unwrap();
    publisher.vanish().unwrap();
}

fn lines(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{what} {number:02}")).collect()
}

#[tokio::test]
async fn a_relay_with_a_damaged_store_serves_and_gets_back_what_was_lost() {
    let hub = Setup::zone("hub").start().await.unwrap();
    let mut gate = Setup::zone("gate").peer(hub.bridge()).start().await.unwrap();
    let mut said = lines("line", 30);
    say(&gate, &said).await;
    shows(&hub, &said).await;
    // What leads to all pages, and every second page.
    for (time, hurts) in [|page: usize| page == 0, |page| page % 2 == 1].into_iter().enumerate() {
        assert!(gate.terminate().await.unwrap().success());
        let path = gate.data().join(STORE);
        let mut file = fs::read(&path).unwrap();
        for (_, page) in file.chunks_mut(4096).enumerate().filter(|(page, _)| hurts(*page)) {
            page.fill(0xa5);
        }
        fs::write(&path, &file).unwrap();
        gate.restart().await.unwrap();
        let ready = readyz(&gate).await;
        assert!(ready.starts_with("ok\n") && ready.contains("set aside"), "{ready}\n{}", gate.log());
        let store = gate.api().mesh().await.unwrap().store.expect("the page is told");
        assert!(store.history && store.warning.contains("relay.redb.damaged-"), "{store:?}");
        assert!(gate.log().contains("set_aside"), "{}", gate.log());
        let aside = gate.data().join(format!("{STORE}.damaged-{}", time + 1));
        assert_eq!(fs::read(aside).unwrap(), file, "it is as it was");
        sounds(&gate, &hub).await;
        shows(&gate, &said).await;
        let new = lines(&format!("new {time}"), 3);
        say(&gate, &new).await;
        said.extend(new);
        shows(&hub, &said).await;
    }
    assert!(gate.terminate().await.unwrap().success());
    gate.restart().await.unwrap();
    assert_eq!(gate.api().mesh().await.unwrap().store, None);
    shows(&gate, &said).await;
}

#[tokio::test]
async fn a_relay_whose_store_is_locked_serves_what_reads_and_writes_once_it_can() {
    let hub = Setup::zone("hub").start().await.unwrap();
    let mut gate = Setup::zone("gate").peer(hub.bridge()).start().await.unwrap();
    let before = lines("before", 5);
    say(&gate, &before).await;
    assert!(gate.terminate().await.unwrap().success());
    // A backup program, for example.
    let held = File::open(gate.data().join(STORE)).unwrap();
    held.lock().unwrap();
    gate.restart().await.unwrap();
    let ready = readyz(&gate).await;
    assert!(ready.starts_with("ok\nwithout history on disk: ") && ready.contains("in use by"), "{ready}");
    assert!(!gate.api().mesh().await.unwrap().store.expect("the page is told").history);
    sounds(&gate, &hub).await;
    shows(&gate, &before).await;
    // What is said there is at the other relay, and it is said that it is not on this disk.
    let body = serde_json::json!({ "author": "Ada", "text": "meanwhile" }).to_string();
    let json = [("content-type", "application/json")];
    let answer = gate.api().send("POST", "/api/v1/rooms/lobby/messages", &json, body).await.unwrap();
    assert!(answer.problem().unwrap().title.contains("could not be stored"), "{answer:?}");
    let mut said = before.clone();
    said.push("meanwhile".to_owned());
    shows(&hub, &said).await;
    drop(held);
    until("the store is used", SOON, || async { Ok((readyz(&gate).await == "ok\n").then_some(())) })
        .await
        .unwrap();
    said.push("afterwards".to_owned());
    say(&gate, &said[said.len() - 1..]).await;
    // All of it is on this disk.
    drop(hub);
    assert!(gate.terminate().await.unwrap().success());
    gate.restart().await.unwrap();
    shows(&gate, &said).await;
}
