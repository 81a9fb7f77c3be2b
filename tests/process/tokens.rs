//! Who may bridge by the organizer's word: real relays with zone tokens that the binary signed, a stranger
//! of another festival, and a relay that is taken out while it is linked.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;
use tests::{Child, Relay, Setup, pause, program, until};

const SOON: Duration = Duration::from_secs(20);

/// An organizer and the directory of what it signed.
struct Organizer(TempDir);

impl Organizer {
    fn new() -> Organizer {
        let organizer = Organizer(TempDir::new().unwrap());
        organizer.types("festival create --name Field");
        organizer
    }

    /// What the binary prints.
    fn types(&self, line: &str) -> String {
        let mut command = Command::new(program("relay-node").unwrap());
        let output = command.current_dir(self.0.path()).args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A relay that the organizer has given a token, set up further by `more`.
    async fn relay(&self, zone: &str, more: impl FnOnce(Setup) -> Setup) -> Relay {
        self.relay_with("", zone, more).await
    }

    /// The same with a token that says more.
    async fn relay_with(&self, says: &str, zone: &str, more: impl FnOnce(Setup) -> Setup) -> Relay {
        let data = TempDir::new().unwrap();
        let token = self.path(&format!("{zone}.token")).display().to_string();
        let node = self.types(&format!("id --data {}", data.path().display()));
        self.types(&format!("festival issue --node {node} --zone {zone} --out {token}{says}"));
        let setup = Setup::zone(zone).closed().argument("--festival-token").argument(&token);
        more(setup).start_in(data).await.unwrap()
    }
}

async fn links(relay: &Relay, expected: f64) {
    let api = relay.api();
    until("the links are as expected", SOON, || async {
        let up = api.metrics().await?.sum("relay_bridge_up", &[]);
        Ok(((up - expected).abs() < 0.5).then_some(()))
    })
    .await
    .unwrap();
}

async fn says(relay: &Relay, text: &str) {
    until(&format!("the log of {} says {text:?}", relay.zone()), SOON, || async {
        Ok(relay.log().contains(text).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn relays_with_tokens_of_one_festival_link_and_one_that_is_revoked_is_cut_off() {
    let (field, other) = (Organizer::new(), Organizer::new());
    // A list that names none of these: there is something to be replaced.
    field.types("festival revoke --serial 1");
    let list = field.path("revocations.pnr").display().to_string();
    let stage = field.relay("stage", |setup| setup.argument("--revocations").argument(&list)).await;
    let camping = field.relay("camping", |setup| setup.peer(stage.bridge())).await;
    links(&stage, 1.0).await;
    links(&camping, 1.0).await;
    let ready = stage.api().get("/readyz").await.unwrap();
    assert!(ready.body.contains("zone token good for"), "{}", ready.body);
    let left = stage.api().metrics().await.unwrap().sum("relay_token_seconds_left", &[]);
    assert!((29.0 * 86_400.0..=30.0 * 86_400.0).contains(&left), "{left}");

    // Both sides of a refusal say why.
    let stranger = other.relay("market", |setup| setup.peer(stage.bridge())).await;
    says(&stage, "belongs to another festival").await;
    says(&stranger, "belongs to another festival").await;
    pause(Duration::from_secs(1)).await;
    links(&stranger, 0.0).await;
    links(&stage, 1.0).await;

    // The list takes the place of the one that one relay reads; the other has it from there, and keeps it.
    field.types(&format!("festival revoke --node {}", camping.node()));
    says(&stage, "was revoked by the organizer").await;
    says(&camping, "was revoked by the organizer").await;
    links(&stage, 0.0).await;
    links(&camping, 0.0).await;
    let (kept, read) = (stage.data().join("revocations.pnr"), std::fs::read_to_string(&list).unwrap());
    until("the relay keeps the list", SOON, || async {
        Ok((std::fs::read_to_string(&kept)? == read).then_some(()))
    })
    .await
    .unwrap();
}

/// Two relays pair on a port of their own and then bridge, closed to everybody else.
#[tokio::test]
async fn relays_that_were_paired_link_without_being_named() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let data = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let pair = |at: usize, zone: &str, more: &str| {
        let line =
            format!("pair --data {} --zone {zone} --yes {more} 127.0.0.1:{port}", data[at].path().display());
        let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
        Child::start(&format!("pairing {zone}"), &program("relay-node").unwrap(), arguments, &[]).unwrap()
    };
    let mut waits = pair(0, "stage", "--listen");
    let mut dials = pair(1, "camping", "--peer");
    for paired in [&mut waits, &mut dials] {
        let status = paired.wait(SOON).await.unwrap();
        assert!(status.success(), "{}", paired.log());
    }
    let code = |paired: &Child| paired.output().lines().next().map(str::to_owned);
    assert_eq!(code(&waits), code(&dials));

    let [stage, camping] = data;
    let stage = Setup::zone("stage").closed().start_in(stage).await.unwrap();
    let camping = Setup::zone("camping").closed().peer(stage.bridge()).start_in(camping).await.unwrap();
    links(&stage, 1.0).await;
    links(&camping, 1.0).await;
    // One that was not paired, and would like to.
    let stranger = Setup::zone("market").closed().argument("--trust").argument(stage.node());
    let stranger = stranger.peer(stage.bridge()).start().await.unwrap();
    says(&stage, "not trusted was refused").await;
    links(&stranger, 0.0).await;
}

#[tokio::test]
async fn a_name_is_taken_over_only_where_the_organizer_signed_that() {
    let field = Organizer::new();
    let publishes = |setup: Setup| setup.argument("--publish-token").argument("correct-horse");
    let stage = field.relay("stage", publishes).await;
    let kiosk = field.relay("kiosk", |setup| publishes(setup).peer(stage.bridge())).await;
    let control =
        field.relay_with(" --may-take-over", "control", |setup| publishes(setup).peer(kiosk.bridge()));
    let control = control.await;
    let token = field.path("control.token").display().to_string();
    assert!(field.types(&format!("festival show {token}")).contains("may take over"), "{token}");
    let offer = async |relay: &Relay| {
        let headers = [("content-type", "application/sdp"), ("authorization", "Bearer correct-horse")];
        let text = tests::Offer::default().text();
        relay.api().send("POST", "/whip/main-stage", &headers, text).await.unwrap().status.as_u16()
    };
    let publish = |relay: &Relay| {
        let line =
            format!("publish {}/whip/main-stage --tone 440 --token correct-horse", relay.api().url(""));
        let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
        Child::start("publisher", &program("signaling-client").unwrap(), arguments, &[]).unwrap()
    };
    let lists = async |relay: &Relay, zone: &str| {
        let api = relay.api();
        until(&format!("{} lists it from {zone}", relay.zone()), SOON, || async {
            let from = api.stream("main-stage").await?.map(|stream| stream.origin_zone);
            Ok((from.as_deref() == Some(zone)).then_some(()))
        })
        .await
        .unwrap();
    };
    let _first = publish(&stage);
    for relay in [&stage, &kiosk, &control] {
        lists(relay, "stage").await;
    }
    assert_eq!(offer(&kiosk).await, 409);
    let _second = publish(&control);
    for relay in [&kiosk, &control, &stage] {
        lists(relay, "control").await;
    }
    // A zone is what the organizer signed, two links away as well.
    let body = r#"{"author":"Safety (stage)","text":"leave"}"#;
    let headers = [("content-type", "application/json"), ("authorization", "Bearer correct-horse")];
    control.api().send("POST", "/api/v1/announcements", &headers, body).await.unwrap();
    let api = stage.api();
    let shown = until("it is announced", SOON, || async { Ok(api.announcements().await?.pop()) });
    let shown = shown.await.unwrap();
    assert_eq!((&*shown.zone, shown.zone_unproven), ("control", false));
}
