//! Rungs of a sound through real relays: who wishes less gets less, and hears no hole, at the publisher's relay and at the
//! next one.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use tests::{Crowd, Festival, Publisher, Relay, Setup, pause, until};

const SOON: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(20);

/// Octets of a packet of sound to listeners, on average over some seconds.
async fn octets(relay: &Relay) -> f64 {
    let sent = async || {
        let metrics = relay.api().metrics().await.unwrap();
        let sum = |name| metrics.sum(name, &[("kind", "audio"), ("direction", "out")]);
        (sum("relay_rtp_packets_total"), sum("relay_rtp_bytes_total"))
    };
    let before = sent().await;
    pause(Duration::from_secs(3)).await;
    let after = sent().await;
    (after.1 - before.1) / (after.0 - before.0)
}

async fn wish(relay: &Relay, session: &str, wish: &str) -> u16 {
    let json = [("content-type", "application/json")];
    relay.api().send("POST", &format!("{session}/layer"), &json, wish).await.unwrap().status.as_u16()
}

#[tokio::test]
async fn who_wishes_less_of_a_sound_gets_less_and_hears_no_hole() {
    let relay = &Setup::zone("stage").argument("--ladder").argument("true").start().await.unwrap();
    let _publisher = Publisher::tone(relay, "main-stage", 440).unwrap();
    let api = relay.api();
    until("it is live", SOON, || async { api.stream("main-stage").await }).await.unwrap();
    let crowd = Crowd::behind(relay, "main-stage", 1, "6mbit", 80).unwrap();
    let session = until("it listens", SOON, || async { Ok(crowd.session()) }).await.unwrap();
    pause(Duration::from_secs(2)).await;
    let whole = octets(relay).await;
    for (name, most) in [("low", 150.0), ("mid", 280.0), ("low", 150.0)] {
        let body = format!(r#"{{"mediaId":"0","encodingId":"{name}"}}"#);
        assert_eq!(wish(relay, &session, &body).await, 200);
        // A machine that is short of CPU for a moment makes no rungs for 5 s.
        let sent = until("less is sent", LATER, || async {
            Ok(Some(octets(relay).await).filter(|sent| *sent < most))
        });
        sent.await.unwrap_or_else(|error| panic!("{name}: {error}, {whole} octets a packet whole"));
    }
    assert_eq!(wish(relay, &session, r#"{"mediaId":"0","encodingId":"least"}"#).await, 404);
    assert_eq!(wish(relay, &session, r#"{"mediaId":"0"}"#).await, 200);
    let again = |sent: f64| Some(sent).filter(|sent| (sent / whole - 1.0).abs() < 0.2);
    until("the publisher's own", LATER, || async { Ok(again(octets(relay).await)) }).await.unwrap();
    let metrics = relay.api().metrics().await.unwrap();
    assert!(metrics.sum("relay_ladder_seconds", &[]) > 0.0);
    for (kind, count) in [("sound_low", 2.0), ("sound_mid", 1.0), ("sound_high", 1.0)] {
        assert_eq!(metrics.sum("relay_wish_total", &[("wish", kind)]), count, "{kind}");
    }
    let counted = crowd.counted().await.unwrap();
    assert_eq!(counted.lost, counted.narrowed, "numbers go on as if there were one encoder: {counted:?}");
}

/// Bits per second that cross from the first relay of a chain to the next one, with what QUIC adds.
async fn crossing(festival: &Festival) -> f64 {
    let crossed = || festival.crossed()[&(0, 1)].1.bytes;
    let before = crossed();
    pause(Duration::from_secs(3)).await;
    (crossed() - before) as f64 * 8.0 / 3.0
}

#[tokio::test]
async fn a_link_carries_the_rung_that_is_wished_behind_it_and_not_what_the_publisher_sends() {
    let festival = Festival::chain_of(2, &["--ladder", "true"]).await.unwrap();
    let [near, far] = &festival.relays[..] else { unreachable!("two were asked for") };
    let _publisher = Publisher::tone(near, "main-stage", 440).unwrap();
    festival.lists("main-stage").await.unwrap();
    let api = far.api();
    let rungs = until("the next relay knows of the rungs", SOON, || async {
        let stream = api.stream("main-stage").await?;
        Ok(stream.map(|stream| stream.rungs).filter(|rungs| !rungs.is_empty()))
    });
    let rungs: Vec<u64> = rungs.await.unwrap().iter().map(|rung| rung.kbps).collect();
    assert_eq!(rungs, [63, 100], "what links are planned with");
    let crowd = Crowd::behind(far, "main-stage", 1, "6mbit", 100).unwrap();
    let session = until("it listens", SOON, || async { Ok(crowd.session()) }).await.unwrap();
    until("the publisher's own packets cross", SOON, || async {
        Ok(Some(crossing(&festival).await).filter(|rate| *rate > 140_000.0))
    })
    .await
    .unwrap();
    let heard = async |rung| {
        let metrics = far.api().metrics().await.unwrap();
        metrics.sum("relay_audio_listeners", &[("rung", rung)])
    };
    assert_eq!(heard("high").await, 1.0);
    for (name, most, octets_most) in [("low", 75_000.0, 150.0), ("mid", 125_000.0, 280.0)] {
        let body = format!(r#"{{"mediaId":"0","encodingId":"{name}"}}"#);
        assert_eq!(wish(far, &session, &body).await, 200);
        // A machine that is short of CPU for a moment makes no rungs for 5 s.
        let rate = until("the rung crosses alone", LATER, || async {
            Ok(Some(crossing(&festival).await).filter(|rate| *rate < most))
        });
        let rate = rate.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (sent, heard) = (octets(far).await, heard(name).await);
        println!("{name}: {rate:.0} bit/s cross, {sent:.0} octets a packet to the listener, {heard} get it");
        assert!(rate > 30_000.0 && sent < octets_most, "{name}: {rate} bit/s, {sent} octets a packet");
        assert_eq!(heard, 1.0, "{name}");
    }
    assert_eq!(wish(far, &session, r#"{"mediaId":"0"}"#).await, 200);
    until("the publisher's own packets cross again", LATER, || async {
        Ok(Some(crossing(&festival).await).filter(|rate| *rate > 140_000.0))
    })
    .await
    .unwrap();
    assert_eq!(heard("high").await, 1.0);
    let counted = crowd.counted().await.unwrap();
    println!("{counted:?}");
    assert_eq!(counted.lost, counted.narrowed, "numbers go on as if there were one encoder: {counted:?}");
}
