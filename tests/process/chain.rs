//! Four relays in a row: what is published at one end is heard at the other, and crosses each wire once.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use tests::{Festival, Listener, Publisher, pause, until};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_stream_crosses_three_hops_and_each_wire_once() {
    let festival = Festival::chain(4).await.unwrap();
    let [a, b, _, d] = &festival.relays[..] else { unreachable!("four were asked for") };
    let _publisher = Publisher::tone(a, "main-stage", 440).unwrap();
    festival.lists("main-stage").await.unwrap();

    let stream = d.api().stream("main-stage").await.unwrap().unwrap();
    assert_eq!((stream.hops, &*stream.origin_zone), (3, "zone-a"), "{stream:?}");
    assert_eq!(stream.path, ["zone-a", "zone-b", "zone-c", "zone-d"]);
    let near = b.api().stream("main-stage").await.unwrap().unwrap();
    assert_eq!((near.hops, near.path.len()), (1, 2), "{near:?}");

    let far = Listener::start(d, "main-stage", 6).unwrap();
    let second = Listener::start(d, "main-stage", 6).unwrap();
    let near = Listener::start(b, "main-stage", 6).unwrap();
    for (name, listener) in [("far", far), ("second", second), ("near", near)] {
        let report = listener.report().await.unwrap();
        println!("{name}: {report:?}");
        report.heard(440).unwrap();
        assert_eq!(report.lost, 0, "{name} lost packets on a clean loopback: {report:?}");
        assert!(report.packets >= 280, "{name} got too few packets in 6 s: {report:?}");
    }
}

#[tokio::test]
async fn two_listeners_in_one_zone_cost_one_copy_on_each_wire() {
    let festival = Festival::chain(3).await.unwrap();
    let [a, _, c] = &festival.relays[..] else { unreachable!("three were asked for") };
    let _publisher = Publisher::tone(a, "main-stage", 440).unwrap();
    festival.lists("main-stage").await.unwrap();

    let mut costs = vec![];
    for listeners in [1, 3] {
        let listening: Vec<_> =
            (0..listeners).map(|_| Listener::start(c, "main-stage", 5).unwrap()).collect();
        let api = c.api();
        until("the listeners are counted", SOON, || async {
            Ok(api.stream("main-stage").await?.filter(|stream| stream.listeners == listeners))
        })
        .await
        .unwrap();
        pause(Duration::from_millis(500)).await;
        let before = festival.crossed();
        pause(Duration::from_secs(2)).await;
        let after = festival.crossed();
        for pair in [(0, 1), (1, 2)] {
            // The higher end dialled, so media toward it goes back along the wire.
            let bytes = after[&pair].1.bytes - before[&pair].1.bytes;
            let datagrams = after[&pair].1.large - before[&pair].1.large;
            println!(
                "{listeners} listeners, wire {pair:?}: {datagrams} media datagrams, {bytes} bytes in 2 s"
            );
            assert!((80..=125).contains(&datagrams), "about 100 packets of 20 ms are one copy");
            costs.push(bytes as f64);
        }
        for listener in listening {
            listener.report().await.unwrap().heard(440).unwrap();
        }
    }
    assert!((costs[2] / costs[0] - 1.0).abs() < 0.3 && (costs[3] / costs[1] - 1.0).abs() < 0.3, "{costs:?}");
}

#[tokio::test]
async fn nothing_crosses_a_wire_that_nobody_listens_behind() {
    let festival = Festival::chain(3).await.unwrap();
    let [a, b, _] = &festival.relays[..] else { unreachable!("three were asked for") };
    let _publisher = Publisher::tone(a, "main-stage", 440).unwrap();
    festival.lists("main-stage").await.unwrap();

    let media = |pair| festival.crossed()[&pair].1.large;
    let listener = Listener::start(b, "main-stage", 4).unwrap();
    let api = b.api();
    until("b has its listener", SOON, || async {
        Ok(api.stream("main-stage").await?.filter(|s| s.listeners == 1))
    })
    .await
    .unwrap();
    let (near, far) = (media((0, 1)), media((1, 2)));
    pause(Duration::from_secs(2)).await;
    println!("with a listener at b: {} on a–b, {} on b–c", media((0, 1)) - near, media((1, 2)) - far);
    assert!(media((0, 1)) - near > 80);
    assert!(media((1, 2)) - far < 10, "c has no listener, and got media all the same");
    listener.report().await.unwrap().heard(440).unwrap();

    // The listener has gone: the branch is pruned.
    until("the branch to b is pruned", SOON, || async {
        let before = media((0, 1));
        pause(Duration::from_millis(500)).await;
        Ok((media((0, 1)) - before < 5).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_publisher_that_drops_and_returns_keeps_its_listeners() {
    let festival = Festival::chain(2).await.unwrap();
    let [a, b] = &festival.relays[..] else { unreachable!("two were asked for") };
    let publisher = Publisher::tone(a, "main-stage", 440).unwrap();
    festival.lists("main-stage").await.unwrap();
    let near = Listener::start(a, "main-stage", 12).unwrap();
    let far = Listener::start(b, "main-stage", 12).unwrap();
    for relay in [a, b] {
        let api = relay.api();
        until("the listener is there", SOON, || async {
            Ok(api.stream("main-stage").await?.filter(|s| s.listeners == 1))
        })
        .await
        .unwrap();
    }
    pause(Duration::from_secs(2)).await;
    publisher.vanish().unwrap();
    pause(Duration::from_secs(3)).await;
    let _publisher = Publisher::tone(a, "main-stage", 660).unwrap();
    for (name, listener) in [("near", near), ("far", far)] {
        let report = listener.report().await.unwrap();
        println!("{name}: gap {:?}, {report:?}", report.longest_gap());
        assert_eq!(report.duplicates, 0);
        assert!(report.packets > 350, "{name} did not hear the second publisher: {report:?}");
        assert!(report.longest_gap() > Duration::from_secs(2), "there was a silence of 3 s, {name} saw none");
        assert!(
            report.longest_gap() < Duration::from_secs(5),
            "{name} waited too long after the return: {report:?}"
        );
    }
}

#[tokio::test]
async fn a_star_serves_every_arm() {
    let festival = Festival::star(4).await.unwrap();
    let _publisher = Publisher::tone(&festival.relays[1], "second-stage", 880).unwrap();
    festival.lists("second-stage").await.unwrap();
    let listeners: Vec<_> =
        festival.relays.iter().map(|relay| Listener::start(relay, "second-stage", 3).unwrap()).collect();
    for listener in listeners {
        listener.report().await.unwrap().heard(880).unwrap();
    }
}

#[tokio::test]
async fn a_latecomer_two_hops_away_makes_the_publisher_send_a_keyframe() {
    let festival = Festival::chain(3).await.unwrap();
    let [a, b, c] = &festival.relays[..] else { unreachable!("three were asked for") };
    let _publisher = Publisher::picture(a, "main-stage").unwrap();
    festival.lists("main-stage").await.unwrap();
    let answers = || async {
        let publisher = a.api().stream("main-stage").await?.and_then(|stream| stream.publisher);
        let answers = publisher.and_then(|publisher| publisher.answers_keyframe_requests);
        Ok(answers.filter(|answers| *answers))
    };
    // Nobody has listened there: there is no picture to begin with, and the next one by itself is up to 10 s away. A
    // publisher that a busy machine stops for a second has not answered: then another one asks.
    let mut answered = false;
    for (relay, name) in [(c, "c"), (b, "b")] {
        let listener = Listener::start(relay, "main-stage", 3).unwrap();
        answered |= until("a keyframe came that was asked for", SOON, answers).await.is_ok();
        println!("asked by a listener at {name}: {answered}");
        listener.report().await.unwrap().heard(440).unwrap();
    }
    assert!(answered);
}
