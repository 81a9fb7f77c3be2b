//! Disks that come back older, and disks on which a bit flips: nothing is lost that any relay has, and no line comes twice.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{fs, time::Duration};

use anyhow::Result;
use tests::{Api, Relay, Setup, Wire, until};

/// A link that was cut silently is dialed again within seconds.
const SOON: Duration = Duration::from_secs(40);
const STORE: &str = "relay.redb";

async fn texts(api: &Api) -> Result<Vec<String>> {
    Ok(api.history("lobby").await?.into_iter().map(|message| message.text).collect())
}

async fn say(relay: &Relay, texts: &[String]) {
    for text in texts {
        relay.api().say("lobby", "Ada", text).await.unwrap();
    }
}

/// Waits until a relay shows all of these and nothing else, each once.
async fn shows(relay: &Relay, expected: &[String]) -> Vec<String> {
    let mut expected = expected.to_vec();
    expected.sort();
    let zone = relay.zone().to_owned();
    until(&format!("{zone} shows {} lines, each once", expected.len()), SOON, || async {
        let shown = texts(&relay.api()).await?;
        let mut sorted = shown.clone();
        sorted.sort();
        Ok((sorted == expected).then_some(shown))
    })
    .await
    .unwrap()
}

fn lines(what: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{what} {number:02}")).collect()
}

/// A relay is put back by so many records, and writes before it has a neighbor, or as soon as it has one. The same copy is put
/// back several times.
async fn put_back(behind: usize, alone: bool) {
    let hub = Setup::zone("hub").start().await.unwrap();
    let wire = Wire::to(hub.bridge()).await.unwrap();
    let mut gate = Setup::zone("gate").peer(wire.front()).start().await.unwrap();
    // All records but none means: a copy from before the first one.
    let before = lines("before", if behind == 8 { 0 } else { 8 - behind });
    say(&gate, &before).await;
    assert!(gate.terminate().await.unwrap().success());
    let copy = gate.data().join("copy");
    fs::copy(gate.data().join(STORE), &copy).unwrap();
    gate.restart().await.unwrap();
    let mut said = [before, lines("after", behind)].concat();
    say(&gate, &said[said.len() - behind..]).await;
    shows(&hub, &said).await;
    for time in 0..3 {
        assert!(gate.terminate().await.unwrap().success());
        fs::copy(&copy, gate.data().join(STORE)).unwrap();
        if alone {
            wire.cut();
        }
        gate.restart().await.unwrap();
        let new = lines(&format!("new {time}"), behind);
        say(&gate, &new).await;
        said.extend(new);
        wire.mend();
        let at_gate = shows(&gate, &said).await;
        assert_eq!(shows(&hub, &said).await, at_gate, "one order everywhere");
        let older = gate.api().mesh().await.unwrap().older_disk.expect("it is shown that the disk was older");
        assert!(older.records as usize >= behind, "{older:?}");
        assert_eq!(older.node, hub.node());
        assert_eq!(
            gate.log().matches("gave back records that this relay wrote").count(),
            1,
            "{}",
            gate.log()
        );
    }
    // Neither is mute afterwards.
    say(&hub, &["from the hub".to_owned()]).await;
    say(&gate, &["from the gate".to_owned()]).await;
    said.extend(["from the hub".to_owned(), "from the gate".to_owned()]);
    shows(&gate, &said).await;
    shows(&hub, &said).await;
    assert!(hub.api().mesh().await.unwrap().older_disk.is_none());
}

#[tokio::test]
async fn a_relay_that_is_put_back_by_one_record_loses_nothing() {
    put_back(1, false).await;
    put_back(1, true).await;
}

#[tokio::test]
async fn a_relay_that_is_put_back_by_five_records_loses_nothing() {
    put_back(5, false).await;
    put_back(5, true).await;
}

#[tokio::test]
async fn a_relay_that_is_put_back_to_before_its_first_record_loses_nothing() {
    put_back(8, false).await;
    put_back(8, true).await;
}

/// Flips a bit wherever the text stands in the file; old pages may have it too.
fn flip(relay: &Relay, text: &str) {
    let path = relay.data().join(STORE);
    let mut file = fs::read(&path).unwrap();
    let places: Vec<_> = file
        .windows(text.len())
        .enumerate()
        .filter(|(_, at)| *at == text.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{text:?} is in no row");
    places.into_iter().for_each(|at| file[at] ^= 4);
    fs::write(&path, file).unwrap();
}

async fn unreadable(relay: &Relay) -> f64 {
    relay.api().metrics().await.unwrap().sum("relay_drop_total", &[("reason", "store_unreadable")])
}

#[tokio::test]
async fn a_flipped_bit_costs_its_record_and_a_newcomer_gets_all_others() {
    let mut gate = Setup::zone("gate").start().await.unwrap();
    let said = lines("line", 40);
    say(&gate, &said).await;
    assert!(gate.terminate().await.unwrap().success());
    flip(&gate, "line 13");
    gate.restart().await.unwrap();
    let mut left: Vec<_> = said.into_iter().filter(|text| text != "line 13").collect();
    assert_eq!((texts(&gate.api()).await.unwrap(), unreadable(&gate).await), (left.clone(), 1.0));
    assert!(gate.log().contains("damaged=1"), "{}", gate.log());
    let hub = Setup::zone("hub").peer(gate.bridge()).start().await.unwrap();
    assert_eq!(shows(&hub, &left).await, left);
    left.push("something new".to_owned());
    say(&gate, &left[39..]).await;
    shows(&hub, &left).await;
    let bad = hub.api().metrics().await.unwrap();
    for reason in ["forged", "log_bad_record"] {
        assert_eq!(bad.sum("relay_drop_total", &[("reason", reason)]), 0.0, "{reason}");
    }
    assert!(!hub.log().contains("bridge down"), "{}", hub.log());
}

#[tokio::test]
async fn a_record_that_a_flipped_bit_took_comes_back_from_who_has_it() {
    let hub = Setup::zone("hub").start().await.unwrap();
    let mut gate = Setup::zone("gate").peer(hub.bridge()).start().await.unwrap();
    let said = lines("line", 40);
    say(&gate, &said).await;
    shows(&hub, &said).await;
    assert!(gate.terminate().await.unwrap().success());
    for text in ["line 00", "line 13", "line 14", "line 39"] {
        flip(&gate, text);
    }
    gate.restart().await.unwrap();
    assert_eq!(unreadable(&gate).await, 4.0);
    assert_eq!(shows(&gate, &said).await, said, "in their old places");
    // And it is on the disk again.
    assert!(gate.terminate().await.unwrap().success());
    gate.restart().await.unwrap();
    assert_eq!((texts(&gate.api()).await.unwrap(), unreadable(&gate).await), (said, 0.0));
}
