//! A picture in three encodings through real relays: each listener gets what its wire carries, and each link carries what
//! is wanted behind it.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tests::{Crowd, Festival, Publisher, Relay, film, pause, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SOON: Duration = Duration::from_secs(20);
const SIZES: [((u16, u16), u32); 3] =
    [((320, 180), 120_000), ((640, 360), 600_000), ((1280, 720), 2_000_000)];

fn films(directory: &tempfile::TempDir) -> Vec<PathBuf> {
    let path = |at: usize| directory.path().join(format!("{at}.ivf"));
    for (at, (size, rate)) in SIZES.into_iter().enumerate() {
        film::write(&path(at), size, rate).unwrap();
    }
    (0..SIZES.len()).map(path).collect()
}

#[tokio::test]
async fn each_listener_gets_the_encoding_that_its_wire_carries() {
    let directory = tempfile::tempdir().unwrap();
    let festival = Festival::chain(2).await.unwrap();
    let [near, far] = &festival.relays[..] else { unreachable!("two were asked for") };
    let _publisher = Publisher::encodings(near, "main-stage", &films(&directory)).unwrap();
    festival.lists("main-stage").await.unwrap();
    let api = near.api();
    let shown = until("all encodings are seen", SOON, || async {
        let stream = api.stream("main-stage").await?;
        Ok(stream.filter(|stream| stream.encodings.iter().filter(|encoding| encoding.kbps > 0).count() == 3))
    })
    .await
    .unwrap();
    let widths: Vec<u16> = shown.encodings.iter().filter_map(|encoding| encoding.width).collect();
    assert_eq!(widths, [320, 640, 1280], "{shown:?}");
    let names: Vec<_> = shown.encodings.iter().map(|encoding| encoding.rid.clone()).collect();
    let elsewhere =
        until("the next relay knows what they are called and how large they are", SOON, || async {
            let stream = far.api().stream("main-stage").await?;
            let whole = |encoding: &protocol::api::Encoding| encoding.width.is_some() && encoding.kbps > 0;
            Ok(stream
                .filter(|stream| stream.encodings.iter().filter(|encoding| whole(encoding)).count() == 3))
        })
        .await
        .unwrap();
    let named: Vec<_> = elsewhere.encodings.iter().map(|encoding| encoding.rid.clone()).collect();
    let widths: Vec<u16> = elsewhere.encodings.iter().filter_map(|encoding| encoding.width).collect();
    assert_eq!((named, widths), (names, vec![320, 640, 1280]), "{elsewhere:?}");

    let wires = ["400kbit", "1mbit", "5mbit"];
    let crowds = wires.map(|wire| Crowd::behind(near, "main-stage", 2, wire, 20).unwrap());
    let beyond = Crowd::behind(far, "main-stage", 1, "5mbit", 20).unwrap();
    let mut rates = Vec::new();
    for (wire, crowd) in wires.into_iter().zip(crowds) {
        let counted = crowd.counted().await.unwrap();
        println!("{wire}: {counted:?}");
        assert_eq!(counted.joined, 2, "{counted:?}");
        assert!(counted.feedbacks > 20, "their feedback is asked for: {counted:?}");
        rates.push(counted.kbit_per_second);
    }
    // Sound of 128 kbit/s and one of the encodings, from the smallest on: over 20 s less than the last of them.
    assert!(rates[0] > 150.0 && rates[0] < 400.0, "{rates:?}");
    assert!(rates[1] > 1.3 * rates[0] && rates[1] < 1000.0, "{rates:?}");
    assert!(rates[2] > 1.3 * rates[1], "{rates:?}");
    let metrics = near.api().metrics().await.unwrap();
    assert!(metrics.sum("relay_video_switch_total", &[("direction", "up")]) >= 4.0);
    assert_eq!(metrics.sum("relay_video_pause_total", &[]), 0.0);
    // A link carries what is wanted behind it.
    let counted = beyond.counted().await.unwrap();
    println!("behind a link: {counted:?}");
    assert!(counted.kbit_per_second > 1000.0, "{counted:?}");
}

/// Bits per second that cross from one relay of a chain to the next one.
async fn crossing(festival: &Festival, from: usize) -> f64 {
    let pair = (from, from + 1);
    let before = festival.crossed();
    pause(Duration::from_secs(3)).await;
    let after = festival.crossed();
    // The higher end dialed, so what goes to it goes back along the wire.
    (after[&pair].1.bytes - before[&pair].1.bytes) as f64 * 8.0 / 3.0
}

#[tokio::test]
async fn each_link_carries_what_is_wanted_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let festival = Festival::chain(3).await.unwrap();
    let [a, b, c] = &festival.relays[..] else { unreachable!("three were asked for") };
    let _publisher = Publisher::encodings(a, "main-stage", &films(&directory)).unwrap();
    festival.lists("main-stage").await.unwrap();
    let thin = Crowd::behind(c, "main-stage", 2, "400kbit", 45).unwrap();
    // Sound of 128 kbit/s and the base, with what QUIC adds to them.
    until("the far link carries the base alone", SOON, || async {
        let rate = crossing(&festival, 1).await;
        println!("to c, for the base: {rate:.0} bit/s");
        Ok((rate > 200_000.0 && rate < 450_000.0).then_some(()))
    })
    .await
    .unwrap();
    let wide = Crowd::behind(b, "main-stage", 1, "6mbit", 20).unwrap();
    until("the near link carries the top", SOON, || async {
        let rate = crossing(&festival, 0).await;
        println!("to b, with the top: {rate:.0} bit/s");
        Ok((rate > 1_800_000.0).then_some(()))
    })
    .await
    .unwrap();
    let rate = crossing(&festival, 1).await;
    assert!(rate < 450_000.0, "nobody behind the far link wants more than the base: {rate:.0} bit/s");
    let counted = wide.counted().await.unwrap();
    assert!(counted.kbit_per_second > 900.0, "{counted:?}");
    until("the near link carries the top no more", SOON, || async {
        Ok((crossing(&festival, 0).await < 450_000.0).then_some(()))
    })
    .await
    .unwrap();
    let counted = thin.counted().await.unwrap();
    println!("behind the far link: {counted:?}");
    assert!(counted.kbit_per_second > 180.0, "{counted:?}");
}

#[tokio::test]
async fn past_a_relay_of_an_earlier_version_a_picture_comes_in_one_encoding_and_it_is_said_why() {
    let directory = tempfile::tempdir().unwrap();
    let festival = Festival::chain_with(4, 1, 4).await.unwrap();
    let [a, b, c, d] = &festival.relays[..] else { unreachable!("four were asked for") };
    let _publisher = Publisher::encodings(a, "main-stage", &films(&directory)).unwrap();
    festival.lists("main-stage").await.unwrap();
    let crowd = Crowd::behind(d, "main-stage", 1, "6mbit", 20).unwrap();
    let near = Crowd::behind(c, "main-stage", 1, "6mbit", 20).unwrap();
    for (relay, node, words) in [
        (c, Some(b.node()), "speaks bridge version 4, update it"),
        (d, None, "a relay on its way speaks an older bridge version"),
    ] {
        let api = relay.api();
        let shown = until("it is said", SOON, || async { Ok(api.mesh().await?.held_up.pop()) });
        let shown = shown.await.unwrap();
        assert_eq!((shown.stream.as_str(), shown.node.as_deref()), ("main-stage", node), "{shown:?}");
        assert!(shown.warning.contains(words), "{shown:?}");
    }
    for crowd in [crowd, near] {
        let counted = crowd.counted().await.unwrap();
        assert!(counted.kbit_per_second > 1000.0, "{counted:?}");
    }
}

/// What one listener is told of what it sees.
struct Told(Arc<Mutex<String>>);

impl Told {
    fn from(relay: &Relay, session: &str) -> Told {
        let text = Arc::new(Mutex::new(String::new()));
        let (address, told) = (relay.http(), text.clone());
        let head = format!("GET {session}/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
        tokio::spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(head.as_bytes()).await.unwrap();
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = client.read(&mut buffer).await {
                told.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        });
        Told(text)
    }

    /// The encoding that is sent, and why it is not the best.
    fn quality(&self) -> Option<(Option<String>, String)> {
        let text = self.0.lock().unwrap();
        let line = text.rsplit("event: quality\ndata: ").next()?.lines().next()?;
        let quality: serde_json::Value = serde_json::from_str(line).ok()?;
        let id = quality["video"]["encodingId"].as_str().map(str::to_owned);
        Some((id, quality["reason"].as_str()?.to_owned()))
    }

    async fn says(&self, id: Option<&str>, reason: &str) {
        let expected = (id.map(str::to_owned), reason.to_owned());
        let said = until("it is told", SOON, || async {
            Ok((self.quality().as_ref() == Some(&expected)).then_some(()))
        });
        said.await.unwrap_or_else(|error| panic!("{error}: {:?} instead of {expected:?}", self.quality()));
    }
}

async fn wish(relay: &Relay, session: &str, wish: &str) {
    let json = [("content-type", "application/json")];
    let answer = relay.api().send("POST", &format!("{session}/layer"), &json, wish).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Bits per second of pictures to the listeners of a relay.
async fn pictures(relay: &Relay) -> f64 {
    let sent = async || {
        let metrics = relay.api().metrics().await.unwrap();
        metrics.sum("relay_rtp_bytes_total", &[("kind", "video"), ("direction", "out")])
    };
    let before = sent().await;
    pause(Duration::from_secs(3)).await;
    (sent().await - before) * 8.0 / 3.0
}

#[tokio::test]
async fn a_listener_gets_no_more_than_it_wishes_and_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let festival = Festival::chain(2).await.unwrap();
    let [near, far] = &festival.relays[..] else { unreachable!("two were asked for") };
    let _publisher = Publisher::encodings(near, "main-stage", &films(&directory)).unwrap();
    festival.lists("main-stage").await.unwrap();
    let crowds = [near, far].map(|relay| Crowd::behind(relay, "main-stage", 1, "6mbit", 90).unwrap());
    for (relay, crowd) in [near, far].into_iter().zip(&crowds) {
        let session = until("it listens", SOON, || async { Ok(crowd.session()) }).await.unwrap();
        let told = Told::from(relay, &session);
        told.says(Some("2"), "best").await;
        wish(relay, &session, r#"{"encodingId":"0"}"#).await;
        told.says(Some("0"), "wish").await;
        pause(Duration::from_secs(1)).await;
        let rate = pictures(relay).await;
        assert!(rate > 60_000.0 && rate < 250_000.0, "the base: {rate:.0} bit/s");
        wish(relay, &session, r#"{"video":false}"#).await;
        told.says(None, "wish").await;
        pause(Duration::from_secs(1)).await;
        let rate = pictures(relay).await;
        assert!(rate < 10_000.0, "no picture: {rate:.0} bit/s");
        if relay.zone() == far.zone() {
            let rate = crossing(&festival, 0).await;
            assert!(rate < 250_000.0, "only the sound crosses the link: {rate:.0} bit/s");
        }
        wish(relay, &session, "{}").await;
        told.says(Some("2"), "best").await;
        let metrics = relay.api().metrics().await.unwrap();
        for kind in ["auto", "encoding", "sound"] {
            assert_eq!(metrics.sum("relay_wish_total", &[("wish", kind)]), 1.0, "{kind}");
        }
        assert!(metrics.sum("relay_video_pause_total", &[("reason", "wish")]) >= 1.0);
        let none = relay.api().send("POST", &format!("{session}/layer"), &[], "{}").await.unwrap();
        assert_eq!(none.status, 415, "{none:?}");
    }
}
