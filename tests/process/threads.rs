//! A thread that dies takes the relay with it, and one that hangs is told by the health paths: a box that
//! looks alive and serves nobody helps nobody.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{fs, time::Duration};

use tempfile::TempDir;
use tests::{Relay, Setup, until};

const SOON: Duration = Duration::from_secs(20);

/// A relay with one media thread, and what makes a thread of it fail.
async fn relay() -> (Relay, impl Fn(&str, &str)) {
    let faults = TempDir::new().unwrap();
    let file = faults.path().join("fault");
    let setup = Setup::zone("stage").argument("--workers").argument("1");
    let relay = setup.variable("PEDDLENET_FAULT", &file.display().to_string()).start().await.unwrap();
    let fail = move |thread: &str, how: &str| {
        let _kept = &faults;
        // Whole or not at all: the relay reads it at any moment.
        let draft = file.with_extension("draft");
        fs::write(&draft, format!("{thread} {how}")).unwrap();
        fs::rename(draft, &file).unwrap();
    };
    (relay, fail)
}

#[tokio::test]
async fn a_thread_that_dies_takes_the_relay_with_it() {
    for thread in ["media-0", "bridge", "node", "store", "files"] {
        let (mut relay, fail) = relay().await;
        fail(thread, "panic");
        let status = relay.ended(SOON).await.unwrap();
        let log = relay.log();
        assert_eq!(status.code(), Some(1), "{thread}: {log}");
        let told = log.lines().filter(|line| line.contains(&format!("the thread {thread} has died"))).count();
        assert_eq!(told, 1, "{thread}: {log}");
        assert!(!relay.data().join("addresses.json").exists(), "{thread}");
        // Nothing is left behind that keeps a new one from starting.
        fail("nobody", "");
        relay.restart().await.unwrap();
    }
}

#[tokio::test]
async fn a_thread_that_hangs_is_named_by_the_health_paths() {
    for (thread, live) in [("media-0", 503), ("bridge", 503), ("node", 503), ("store", 200), ("files", 200)] {
        let (relay, fail) = relay().await;
        let api = relay.api();
        let health = async |path: &str| api.send("GET", path, &[], "").await;
        assert_eq!(health("/livez").await.unwrap().status.as_u16(), 200);
        fail(thread, "hang");
        until(&format!("/readyz names {thread}"), SOON, || async {
            let ready = health("/readyz").await?;
            let named = ready.body.contains(&format!("the thread {thread} has been stuck"));
            Ok((ready.status.as_u16() == 503 && named).then_some(()))
        })
        .await
        .unwrap();
        assert_eq!(health("/livez").await.unwrap().status.as_u16(), live, "{thread}");
        // Whoever watches over it still gets figures.
        let metrics = health("/metrics").await.unwrap();
        assert!(metrics.body.contains(&format!("relay_thread_beat_age_seconds{{thread=\"{thread}\"}}")));
        fail("nobody", "");
        until(&format!("{thread} goes on"), SOON, || async {
            Ok((health("/readyz").await?.status.as_u16() == 200).then_some(()))
        })
        .await
        .unwrap();
    }
}
