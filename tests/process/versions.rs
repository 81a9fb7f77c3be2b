//! Relays of two bridge versions in one chain: everything passes, and what only the later version knows goes through the
//! ordinary relay as its framing says. `relay-node-next` is the ordinary relay with the cargo feature `next`.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{process::Command, time::Duration};

use protocol::api::Mesh;
use tests::{Api, Festival, Listener, Metrics, Publisher, Relay, Setup, until};

const SOON: Duration = Duration::from_secs(20);
/// Reasons of `relay_drop_total` for what a relay does not know, but for fields of a hello.
const UNKNOWN: [&str; 5] = [
    "bridge_unknown_message",
    "bridge_unknown_passed_on",
    "lsa_unknown_field",
    "log_unknown_topic",
    "bridge_unknown_datagram",
];
/// What a neighbor would be blamed for.
const BLAME: [&str; 5] = ["malformed", "absurd", "forged", "too_long", "bridge_malformed"];

fn unknown(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum("relay_drop_total", &[("reason", reason)])
}

fn notes(metrics: &Metrics, from: &Relay, way: &str) -> f64 {
    metrics.sum("relay_next_notes_total", &[("from", from.node()), ("way", way)])
}

/// A stream, a message, a file and an announcement from one relay to another.
async fn carries(from: &Relay, to: &Relay) {
    let (here, there) = (from.api(), to.api());
    let stream = format!("stage-of-{}", from.zone());
    let _publisher = Publisher::tone(from, &stream, 440).unwrap();
    until("the stream is listed", SOON, || there.stream(&stream)).await.unwrap();
    let listener = Listener::start(to, &stream, 3).unwrap();

    let said = here.say("lobby", "Ada", "is this on?").await.unwrap();
    let announced = here.post("/api/v1/announcements", "Ada", "gates open").await.unwrap().id;
    let body: Vec<u8> = (0..(1 << 20) + 5).map(|at: u32| (at % 251) as u8).collect();
    let file = here.give("lobby", "lineup.pdf", body.clone()).await.unwrap().id;
    until("the message is read", SOON, || async {
        Ok(there.history("lobby").await?.iter().any(|message| message.id == said).then_some(()))
    })
    .await
    .unwrap();
    until("the announcement is read", SOON, || async {
        Ok(there.announcements().await?.iter().any(|message| message.id == announced).then_some(()))
    })
    .await
    .unwrap();
    until("the file is listed", SOON, || async {
        Ok(there.files("lobby").await?.iter().any(|shared| shared.id == file).then_some(()))
    })
    .await
    .unwrap();
    assert!(there.file(&file).await.unwrap() == body, "other bytes");
    let report = listener.report().await.unwrap();
    report.heard(440).unwrap();
}

/// The versions of the links between each two of a chain, as one end shows them.
async fn versions(relays: &[Relay]) -> Vec<Option<u16>> {
    let mut all = Vec::new();
    for pair in relays.windows(2) {
        let mesh = pair[0].api().mesh().await.unwrap();
        let ends = [pair[0].node(), pair[1].node()];
        let link = mesh.links.iter().find(|link| ends.contains(&&*link.a) && ends.contains(&&*link.b));
        all.push(link.unwrap().version);
    }
    all
}

async fn metrics_of(festival: &Festival) -> Vec<Metrics> {
    let mut all = Vec::new();
    for relay in &festival.relays {
        all.push(relay.api().metrics().await.unwrap());
    }
    all
}

fn no_blame(festival: &Festival, metrics: &[Metrics]) {
    for (relay, metrics) in festival.relays.iter().zip(metrics) {
        for reason in BLAME {
            assert_eq!(unknown(metrics, reason), 0.0, "{}: {reason}", relay.zone());
        }
        assert!(!relay.log().contains("closing a bridge"), "{}", relay.log());
    }
}

async fn one_relay_of_the_next_version(place: usize) {
    let next: Vec<bool> = (0..3).map(|at| at == place).collect();
    let festival = Festival::chain_of_versions(&next).await.unwrap();
    let [a, _, c] = &festival.relays[..] else { unreachable!("three were asked for") };
    carries(a, c).await;
    carries(c, a).await;
    for (at, relay) in festival.relays.iter().enumerate() {
        let api = relay.api();
        let mesh: Mesh = api.mesh().await.unwrap();
        assert_eq!((mesh.versions.lowest, mesh.versions.highest), (4, if at == place { 7 } else { 6 }));
        if at == place {
            continue;
        }
        let neighbor = at.abs_diff(place) == 1;
        until("what is not known is counted", SOON, || async {
            let metrics = api.metrics().await?;
            let counted = |reason: &&str| unknown(&metrics, reason) > 0.0;
            // For its neighbors alone are datagrams and messages that are passed over.
            let all = UNKNOWN.iter().filter(|reason| {
                neighbor || !["bridge_unknown_message", "bridge_unknown_datagram"].contains(*reason)
            });
            Ok(all.clone().all(counted).then_some(()))
        })
        .await
        .unwrap();
    }
    assert_eq!(versions(&festival.relays).await, [Some(6), Some(6)]);
    no_blame(&festival, &metrics_of(&festival).await);
}

#[tokio::test]
async fn a_chain_that_begins_with_a_later_version_carries_everything() {
    one_relay_of_the_next_version(0).await;
}

#[tokio::test]
async fn a_chain_with_a_later_version_in_the_middle_carries_everything() {
    one_relay_of_the_next_version(1).await;
}

#[tokio::test]
async fn a_chain_that_ends_with_a_later_version_carries_everything() {
    one_relay_of_the_next_version(2).await;
}

#[tokio::test]
async fn what_only_the_ends_know_passes_the_ordinary_relay_between_them() {
    let festival = Festival::chain_of_versions(&[true, false, true]).await.unwrap();
    let [a, b, c] = &festival.relays[..] else { unreachable!("three were asked for") };
    for (relay, other) in [(a, c), (c, a)] {
        let api = relay.api();
        for way in ["passed_on", "field", "record"] {
            until(&format!("a note comes to {} by {way}", relay.zone()), SOON, || async {
                Ok((notes(&api.metrics().await?, other, way) > 0.0).then_some(()))
            })
            .await
            .unwrap();
        }
    }
    let api: Api = b.api();
    until("the relay between counts what it does not know", SOON, || async {
        let metrics = api.metrics().await?;
        Ok(UNKNOWN.iter().all(|reason| unknown(&metrics, reason) > 0.0).then_some(()))
    })
    .await
    .unwrap();
    carries(a, c).await;
    carries(c, a).await;
    let metrics = metrics_of(&festival).await;
    println!("b: {}", metrics[1].show("relay_drop_total"));
    println!("c: {}", metrics[2].show("relay_next_notes_total"));
    assert!(!metrics[1].has("relay_next_notes_total"), "b knows no notes");
    assert!(unknown(&metrics[1], "bridge_unknown_hello_field") >= 2.0, "one of each neighbor");
    for (at, other) in [(0, c), (2, a)] {
        for way in ["aside", "negotiated", "datagram"] {
            assert_eq!(notes(&metrics[at], other, way), 0.0, "{way} is for neighbors, and b passes it over");
        }
        for reason in UNKNOWN {
            assert_eq!(unknown(&metrics[at], reason), 0.0, "{reason} at {at}");
        }
    }
    assert_eq!(versions(&festival.relays).await, [Some(6), Some(6)]);
    no_blame(&festival, &metrics);
}

#[tokio::test]
async fn neighbors_of_the_later_version_use_all_of_it_and_the_third_relay_hears_of_it() {
    let festival = Festival::chain_of_versions(&[true, true, false]).await.unwrap();
    let [a, b, _] = &festival.relays[..] else { unreachable!("three were asked for") };
    let api = a.api();
    for way in ["aside", "negotiated", "passed_on", "field", "record", "datagram"] {
        until(&format!("a note comes by {way}"), SOON, || async {
            Ok((notes(&api.metrics().await?, b, way) > 0.0).then_some(()))
        })
        .await
        .unwrap();
    }
    assert_eq!(versions(&festival.relays).await, [Some(7), Some(6)]);
    no_blame(&festival, &metrics_of(&festival).await);
}

#[tokio::test]
async fn relays_without_a_common_version_both_say_which_one_to_update() {
    let older = Setup::zone("older").start().await.unwrap();
    let newer = Setup::zone("newer").next().variable("PEDDLENET_NEXT_ALONE", "7").peer(older.bridge());
    let newer = newer.start().await.unwrap();
    let (short_older, short_newer) = (&older.node()[..8], &newer.node()[..8]);
    for (relay, warning) in [
        (
            &older,
            format!(
                "relay {short_newer} of newer speaks bridge versions 7 to 7, this one 4 to 6: update this relay"
            ),
        ),
        (
            &newer,
            format!(
                "relay {short_older} of older speaks bridge versions 4 to 6, this one 7 to 7: update that relay"
            ),
        ),
    ] {
        let api = relay.api();
        let shown = until("the misfit is shown", SOON, || async { Ok(api.mesh().await?.misfits.pop()) });
        assert_eq!(shown.await.unwrap().warning, warning);
        // It is dialed again and again, and said once.
        assert_eq!(relay.log().matches(&*warning).count(), 1, "{}", relay.log());
        let data = relay.data().display().to_string();
        let program = tests::program("relay-node").unwrap();
        let doctor = Command::new(program).args(["doctor", "--zone", "x", "--data", &data, "--dev"]).output();
        let doctor = String::from_utf8(doctor.unwrap().stdout).unwrap();
        assert!(doctor.contains(&format!("fail  {warning}")), "{doctor}");
    }
}
