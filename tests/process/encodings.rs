//! A picture in three encodings through real relays: each listener gets what its wire carries, and what is behind a
//! link gets one of them.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{path::PathBuf, time::Duration};

use tests::{Crowd, Festival, Publisher, film, until};

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
    // A link carries one of them as the whole picture.
    let counted = beyond.counted().await.unwrap();
    println!("behind a link: {counted:?}");
    assert!(counted.kbit_per_second > 1000.0, "{counted:?}");
}
