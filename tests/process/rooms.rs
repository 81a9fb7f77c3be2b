//! Rooms, chat, files and names as people without a token, or with that of another zone, would take them from others.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use protocol::signaling::{FromParticipant, FromRelay};
use tests::{Api, Festival, Offer, Page, Publisher, Relay, Setup, pause, until};

const SOON: Duration = Duration::from_secs(20);
const JSON: (&str, &str) = ("content-type", "application/json");
const TOKEN: (&str, &str) = ("authorization", "Bearer correct-horse");

async fn post(api: &Api, path: &str, author: &str, text: &str) -> u16 {
    let body = serde_json::json!({ "author": author, "text": text }).to_string();
    api.send("POST", path, &[JSON, TOKEN], body).await.unwrap().status.as_u16()
}

/// What has to work whatever was done before.
async fn everything_works(api: &Api, round: &str) {
    assert_eq!(post(api, "/api/v1/announcements", "Safety", round).await, 201, "{round}");
    assert_eq!(post(api, &format!("/api/v1/rooms/new-{round}/messages"), "Ada", "hi").await, 201, "{round}");
    let path = format!("/api/v1/rooms/lobby/files?name={round}.txt");
    let given = api.send("POST", &path, &[TOKEN], round.to_owned()).await.unwrap();
    assert_eq!(given.status.as_u16(), 201, "{round}: {given:?}");
    let texts: Vec<_> = api.history("lobby").await.unwrap().into_iter().map(|m| m.text).collect();
    assert_eq!(texts.len(), 20, "{round}");
}

#[tokio::test]
async fn a_line_in_each_of_many_rooms_locks_nobody_out_and_takes_nothing_also_after_restarts() {
    let setup = Setup::zone("stage").closed().argument("--publish-token").argument("correct-horse");
    let setup = setup.argument("--chat-address-rate").argument("0");
    let mut relay = setup.start().await.unwrap();
    let api = relay.api();
    for at in 0..20 {
        api.say("lobby", "Ada", &format!("line {at}")).await.unwrap();
    }
    for at in 0..1100 {
        assert_eq!(post(&api, &format!("/api/v1/rooms/junk-{at}/messages"), "x", "x").await, 201, "{at}");
    }
    everything_works(&api, "at-once").await;
    relay.terminate().await.unwrap();
    relay.restart().await.unwrap();
    everything_works(&relay.api(), "restarted").await;
    relay.kill().unwrap();
    relay.restart().await.unwrap();
    everything_works(&relay.api(), "killed").await;
    let announced = relay.api().announcements().await.unwrap();
    assert_eq!(announced.len(), 3);
}

#[tokio::test]
async fn people_in_many_rooms_keep_nobody_out_and_wash_no_history_away() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let api = relay.api();
    for at in 0..5 {
        api.say("lobby", "Ada", &format!("line {at}")).await.unwrap();
    }
    api.give("lobby", "a.txt", "abc").await.unwrap();
    let mut held = Vec::new();
    for at in 0..1010 {
        let page = Page::open(relay.http(), &format!("room-{at}")).await.unwrap();
        if at % 2 == 0 {
            held.push(page);
        }
    }
    assert_eq!(api.history("lobby").await.unwrap().len(), 5);
    assert_eq!(api.files("lobby").await.unwrap().len(), 1);
    let mut late = Page::open(relay.http(), "lobby").await.unwrap();
    let welcome = |event| match event {
        FromRelay::Welcome { history, .. } => Some(history.len()),
        _ => None,
    };
    assert_eq!(late.next(welcome).await.unwrap(), 5);
}

#[tokio::test]
async fn a_flood_is_told_to_wait_and_what_others_said_stays_in_memory_and_on_disk() {
    let mut relay = Setup::zone("stage").start().await.unwrap();
    let api = relay.api();
    for at in 0..40 {
        api.say("lobby", "Ada", &format!("line {at}")).await.unwrap();
    }
    let mut refused = 0;
    let path = "/api/v1/rooms/lobby/messages";
    for at in 0..400 {
        let body = serde_json::json!({ "author": "Bob", "text": at.to_string() }).to_string();
        let answer = api.send("POST", path, &[JSON], body).await.unwrap();
        if answer.status.as_u16() == 429 {
            refused += 1;
            assert_eq!(answer.header("retry-after"), "1");
        }
    }
    assert!(refused > 100, "{refused}");
    // A participant has an allowance of its own, and is told when it is used up.
    let mut page = Page::open(relay.http(), "lobby").await.unwrap();
    for at in 0..12 {
        let say = FromParticipant::Say { author: "Cy".into(), text: "again".into(), nonce: at.to_string() };
        page.send(&serde_json::to_string(&say).unwrap()).await.unwrap();
    }
    let wait = |event| match event {
        FromRelay::Refused { retry_after_ms, nonce, .. } => Some((nonce, retry_after_ms)),
        _ => None,
    };
    let (nonce, wait) = page.next(wait).await.unwrap();
    assert!(wait.is_some_and(|ms| (1..=1001).contains(&ms)), "{wait:?}");
    // What was refused was not said, and can be said again.
    pause(Duration::from_millis(wait.unwrap())).await;
    let say =
        FromParticipant::Say { author: "Cy".into(), text: "again".into(), nonce: nonce.clone().unwrap() };
    page.send(&serde_json::to_string(&say).unwrap()).await.unwrap();
    let said = |event| match event {
        FromRelay::Said { nonce, .. } => Some(nonce),
        _ => None,
    };
    while page.next(said).await.unwrap() != nonce.clone().unwrap() {}
    let honest = |history: Vec<protocol::api::Message>| history.iter().filter(|m| m.author == "Ada").count();
    assert_eq!(honest(api.history("lobby").await.unwrap()), 40);
    relay.kill().unwrap();
    relay.restart().await.unwrap();
    assert_eq!(honest(relay.api().history("lobby").await.unwrap()), 40);
}

async fn origin(relay: &Relay, name: &str) -> String {
    relay.api().stream(name).await.unwrap().map(|stream| stream.origin_zone).unwrap_or_default()
}

#[tokio::test]
async fn a_name_that_is_live_from_another_zone_is_refused_and_free_again_when_it_ends() {
    let festival = Festival::chain(3).await.unwrap();
    let publisher = Publisher::tone(&festival.relays[0], "main-stage", 440).unwrap();
    festival.lists("main-stage").await.unwrap();
    let api = festival.relays[1].api();
    let refused = api.offer("/whip/main-stage", &Offer::default().text()).await.unwrap();
    assert_eq!(refused.status.as_u16(), 409);
    let title = refused.problem().unwrap().title;
    assert!(title.contains("live from the zone zone-a"), "{title}");
    assert_eq!(origin(&festival.relays[2], "main-stage").await, "zone-a");
    // Other names, and the same one at its own relay, are not touched.
    for (at, name) in [(1, "main-stage/kiosk"), (0, "main-stage")] {
        let api = festival.relays[at].api();
        let answer = api.offer(&format!("/whip/{name}"), &Offer::default().text()).await.unwrap();
        assert_eq!(answer.status.as_u16(), 201, "{name}");
    }
    publisher.stop().await.unwrap();
    until("the name is free", SOON, || async {
        let answer = api.offer("/whip/main-stage", &Offer::default().text()).await?;
        Ok((answer.status.as_u16() == 201).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_announcement_is_from_the_zone_of_its_relay() {
    let festival = Festival::chain(3).await.unwrap();
    let body = serde_json::json!({ "author": "Safety (zone-a)", "text": "leave" }).to_string();
    let api = festival.relays[2].api();
    api.send("POST", "/api/v1/announcements", &[JSON], body).await.unwrap();
    let heard = festival.relays[0].api();
    let shown = until("it is announced", SOON, || async { Ok(heard.announcements().await?.pop()) });
    let shown = shown.await.unwrap();
    assert_eq!((&*shown.zone, shown.zone_unproven), ("zone-c", false));
    assert_eq!(shown.relay, festival.relays[2].node()[..8]);
}
