//! Starting and stopping: exit codes and what they say, ports and data that are not to be had, identity,
//! and who may publish and bridge when a relay is not open to all.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{collections::BTreeMap, fs, net::UdpSocket, time::Duration};

use tempfile::TempDir;
use tests::{Child, Listener, OFFER_AUDIO, Publisher, Relay, Setup, now, pause, program, until};

const SOON: Duration = Duration::from_secs(10);
const ANY: &str = "127.0.0.1:0";

/// Runs relay-node to its end: exit code and all it said.
async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut child =
        Child::start("relay-node", &program("relay-node").unwrap(), arguments, environment).unwrap();
    let status = child.wait(SOON).await.unwrap();
    (status.code().unwrap_or(-1), format!("{}{}", child.output(), child.log()))
}

/// Runs it on free ports with a data directory of its own, but for the one flag that is to make it end.
async fn run_serving(flag: &str, value: &str) -> (i32, String) {
    let data = TempDir::new().unwrap();
    let data = data.path().display().to_string();
    let mut flags =
        BTreeMap::from([("--http", ANY), ("--media", ANY), ("--bridge", ANY), ("--data", &*data)]);
    flags.insert(flag, value);
    let arguments: Vec<&str> = flags.into_iter().flat_map(|(flag, value)| [flag, value]).collect();
    run(&arguments, &[]).await
}

#[tokio::test]
async fn sigterm_ends_a_relay_cleanly_while_it_serves() {
    let mut relay = Setup::zone("stage").start().await.unwrap();
    let publisher = Publisher::tone(&relay, "main-stage", 440).unwrap();
    let api = relay.api();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let _listener = Listener::start(&relay, "main-stage", 20).unwrap();
    until("the listener is there", SOON, || async {
        Ok(api.stream("main-stage").await?.filter(|s| s.listeners == 1))
    })
    .await
    .unwrap();
    let began = now();
    let status = relay.terminate().await.unwrap();
    println!("stopped after {:?}", began.elapsed());
    assert_eq!(status.code(), Some(0), "{}", relay.log());
    assert!(began.elapsed() < Duration::from_secs(8));
    publisher.vanish().unwrap();
}

#[tokio::test]
async fn a_taken_port_is_exit_69_and_named() {
    let relay = Setup::zone("stage").start().await.unwrap();
    for (flag, taken) in [("--http", relay.http()), ("--media", relay.media()), ("--bridge", relay.bridge())]
    {
        let (code, said) = run_serving(flag, &taken.to_string()).await;
        println!("{flag}: {}", said.trim());
        assert_eq!(code, 69, "{flag}: {said}");
        assert!(said.contains(&taken.port().to_string()), "{flag}: which port is not said: {said}");
    }
}

#[tokio::test]
async fn a_media_port_held_by_another_program_is_exit_69() {
    let holder = UdpSocket::bind(ANY).unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let (code, said) = run_serving("--media", &taken).await;
    assert_eq!(code, 69, "{said}");
}

#[tokio::test]
async fn data_that_cannot_be_had_is_exit_69() {
    let (code, said) = run_serving("--data", "/proc/relay-data").await;
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("/proc/relay-data"), "{said}");

    let relay = Setup::zone("stage").start().await.unwrap();
    let (code, said) = run_serving("--data", &relay.data().display().to_string()).await;
    println!("same data twice: {}", said.trim());
    assert_eq!(code, 69, "two relays on one data directory: {said}");
    assert!(relay.api().ready().await.unwrap());
}

#[tokio::test]
async fn bad_configuration_is_exit_64_with_key_value_and_what_is_allowed() {
    for (arguments, key, value) in [
        (["--zone", "Main Stage"], "zone", "Main Stage"),
        (["--http", "8080"], "http", "8080"),
        (["--media", "localhost"], "media", "localhost"),
        (["--bridge", "1.2.3.4:99999"], "bridge", "99999"),
        (["--peer", "nowhere"], "peer", "nowhere"),
        (["--public-ip", "1.2.3"], "public-ip", "1.2.3"),
        (["--workers", "0"], "workers", "0"),
    ] {
        let (code, said) = run(&arguments, &[]).await;
        println!("{arguments:?}: {}", said.trim());
        assert_eq!(code, 64, "{arguments:?}: {said}");
        assert!(said.contains(key) && said.contains(value), "{arguments:?}: {said}");
    }
    let (code, said) = run(&["--no-such-flag"], &[]).await;
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("--no-such-flag"), "{said}");
    let (code, said) = run(&[], &[("RELAY_HTTP", "nonsense")]).await;
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("RELAY_HTTP") && said.contains("nonsense"), "{said}");
}

#[tokio::test]
async fn a_configuration_file_is_checked_before_anything_is_bound() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("relay-node.toml");
    let file = path.display().to_string();
    for (text, words) in [
        ("zone = \"stage\"\ncolour = \"blue\"\n", vec!["colour"]),
        ("zone = [\"stage\"]\n", vec!["zone"]),
        ("workers = \"many\"\n", vec!["workers", "many"]),
        ("zone = \"stage\n", vec!["relay-node.toml"]),
    ] {
        fs::write(&path, text).unwrap();
        let (code, said) = run(&["--config", &file, "check-config"], &[]).await;
        assert_eq!(code, 64, "{text:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{text:?}: {said}");
    }
    let (code, said) = run(&["--config", "/nowhere/relay-node.toml"], &[]).await;
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("/nowhere/relay-node.toml"), "{said}");

    // File < environment < flag.
    fs::write(&path, "zone = \"from-file\"\n").unwrap();
    let shown = |environment: &'static [(&str, &str)], flags: &'static [&str]| {
        let file = file.clone();
        async move { run(&[&["--config", &file][..], flags, &["check-config"]].concat(), environment).await }
    };
    let (code, said) = shown(&[], &[]).await;
    assert!(code == 0 && said.contains("from-file"), "{code}: {said}");
    let (_, said) = shown(&[("RELAY_ZONE", "from-environment")], &[]).await;
    assert!(said.contains("from-environment"), "{said}");
    let (_, said) = shown(&[("RELAY_ZONE", "from-environment")], &["--zone", "from-flag"]).await;
    assert!(said.contains("from-flag"), "{said}");
}

#[tokio::test]
async fn the_identity_outlives_a_kill_and_is_what_id_prints() {
    let mut relay = Setup::zone("stage").start().await.unwrap();
    let node = relay.node().to_owned();
    relay.kill().unwrap();
    let (code, said) = run(&["id", "--data", &relay.data().display().to_string()], &[]).await;
    assert_eq!((code, said.trim()), (0, &*node));
    relay.restart().await.unwrap();
    assert_eq!(relay.node(), node);
    let mesh = relay.api().mesh().await.unwrap();
    assert_eq!(mesh.own, node);
}

#[tokio::test]
async fn doctor_names_what_it_looked_at() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let data = relay.data().display().to_string();
    let http = relay.http().to_string();
    let (code, said) =
        run(&["doctor", "--data", &data, "--http", &http, "--media", ANY, "--bridge", ANY], &[]).await;
    println!("{said}");
    assert!(code == 0 || code == 1, "{code}: {said}");
    assert!(said.lines().count() >= 4, "{said}");
}

async fn publishes(relay: &Relay, token: Option<&str>) -> tests::Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/sdp")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    relay.api().send("POST", "/whip/main-stage", &headers, OFFER_AUDIO).await.unwrap()
}

#[tokio::test]
async fn a_closed_relay_takes_publishers_with_its_token_only() {
    let relay = Setup::zone("stage")
        .closed()
        .argument("--publish-token")
        .argument("tell-nobody-42")
        .start()
        .await
        .unwrap();
    for token in [None, Some("tell-nobody-43"), Some(""), Some("tell-nobody-4")] {
        let answer = publishes(&relay, token).await;
        assert!([401, 403].contains(&answer.status.as_u16()), "{token:?}: {answer:?}");
        let title = answer.problem().unwrap().title;
        assert!(title.contains("token"), "{title}");
    }
    assert_eq!(publishes(&relay, Some("tell-nobody-42")).await.status.as_u16(), 201);
    assert!(!relay.log().contains("tell-nobody"), "the token is in the log");
}

#[tokio::test]
async fn a_closed_relay_without_a_token_says_how_to_allow_publishing() {
    let relay = Setup::zone("stage").closed().start().await.unwrap();
    let answer = publishes(&relay, None).await;
    assert_eq!(answer.status.as_u16(), 401);
    let title = answer.problem().unwrap().title;
    println!("{title}");
    assert!(title.contains("--publish-token") || title.contains("publish-token"), "{title}");
}

#[tokio::test]
async fn closed_relays_bridge_when_each_trusts_the_other_and_not_before() {
    let stage = Setup::zone("stage").closed().start().await.unwrap();
    let stranger = Setup::zone("stranger").closed().peer(stage.bridge()).start().await.unwrap();
    pause(Duration::from_secs(2)).await;
    for relay in [&stage, &stranger] {
        let mesh = relay.api().mesh().await.unwrap();
        assert!(mesh.links.iter().all(|link| !link.up), "a bridge without trust: {mesh:?}");
    }

    // Trust is given by id, and an id is there before the relay serves.
    let data = TempDir::new().unwrap();
    let (_, id) = run(&["id", "--data", &data.path().display().to_string()], &[]).await;
    let camping =
        Setup::zone("camping").closed().argument("--trust").argument(id.trim()).start().await.unwrap();
    let mut second = Child::start(
        "relay vendors",
        &program("relay-node").unwrap(),
        [
            "--zone",
            "vendors",
            "--http",
            ANY,
            "--media",
            ANY,
            "--bridge",
            ANY,
            "--data",
            &data.path().display().to_string(),
            "--peer",
            &camping.bridge().to_string(),
            "--trust",
            camping.node(),
        ],
        &[],
    )
    .unwrap();
    let api = camping.api();
    until("the two that trust each other are bridged", SOON, || async {
        Ok(api.mesh().await?.links.iter().any(|link| link.up).then_some(()))
    })
    .await
    .unwrap();
    until("the one link is one that relays hang on", SOON, || async {
        let mesh = api.mesh().await?;
        assert_eq!(mesh.bridges, mesh.cut_links, "one is the former name of the other");
        Ok((mesh.cut_links.len() == 1).then_some(()))
    })
    .await
    .unwrap();
    second.terminate().unwrap();
    assert_eq!(second.wait(SOON).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn metrics_name_no_stream_and_no_person() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let _publisher = Publisher::tone(&relay, "secret-stream", 440).unwrap();
    let api = relay.api();
    until("the stream is live", SOON, || api.stream("secret-stream")).await.unwrap();
    api.say("secret-room", "Adelheid", "hello").await.unwrap();
    Listener::start(&relay, "secret-stream", 2).unwrap().report().await.unwrap().heard(440).unwrap();
    let metrics = api.metrics().await.unwrap();
    for name in [
        "relay_sessions",
        "relay_rtp_packets_total",
        "relay_rtp_bytes_total",
        "relay_forward_delay_seconds_count",
        "relay_join_duration_seconds_count",
        "relay_http_requests_total",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
    ] {
        assert!(metrics.has(name), "{name} is missing");
    }
    println!("relay_rtp_packets_total: {}", metrics.show("relay_rtp_packets_total"));
    for value in metrics.label_values() {
        assert!(
            !value.contains("secret") && !value.contains("Adelheid") && !value.contains("127.0.0.1"),
            "{value}"
        );
    }
}
