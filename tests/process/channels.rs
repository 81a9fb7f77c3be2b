//! Data channels of real relays: rooms on sessions of every kind, beside WebSockets.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use protocol::signaling::{FromParticipant, FromRelay};
use signaling_client::{
    channel::{Channel, Channels, Message},
    endpoint::Endpoint,
};
use tests::{OFFER_AUDIO, Page, Publisher, Relay, Setup, until};

const SOON: Duration = Duration::from_secs(30);

async fn bare(relay: &Relay, label: &str) -> (Channels, Channel) {
    Channels::open(&format!("http://{}", relay.http()), label, None).await.unwrap()
}

/// The next event; `None` once the channel is closed.
async fn event(channel: &Channel) -> Option<FromRelay> {
    let next =
        tokio::time::timeout(SOON, channel.next()).await.expect("something comes, or the channel ends");
    match next? {
        Message::Text(text) => Some(serde_json::from_str(&text).unwrap()),
        Message::Binary(_) => panic!("an event is text"),
    }
}

/// The next event of which `wanted` makes something.
async fn next<T>(channel: &Channel, wanted: impl Fn(FromRelay) -> Option<T>) -> T {
    loop {
        let event = event(channel).await.expect("the channel stays open");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

fn say(text: &str, nonce: &str) -> String {
    let say = FromParticipant::Say { author: "Ada".into(), text: text.into(), nonce: nonce.into() };
    serde_json::to_string(&say).unwrap()
}

fn said(event: FromRelay, own: &str) -> Option<String> {
    match event {
        FromRelay::Said { nonce, id, .. } if nonce == own => Some(id),
        _ => None,
    }
}

fn message(event: FromRelay) -> Option<(String, String)> {
    match event {
        FromRelay::Message { message } => Some((message.id, message.text)),
        _ => None,
    }
}

async fn present(page: &mut Page, wanted: u32) {
    let is = |event| matches!(event, FromRelay::Presence { present } if present == wanted).then_some(());
    page.next(is).await.unwrap();
}

async fn dropped(relay: &Relay, reason: &str, times: f64) {
    let counted = || async {
        let metrics = relay.api().metrics().await?;
        Ok((metrics.sum("relay_drop_total", &[("reason", reason)]) == times).then_some(()))
    };
    until(&format!("{times} dropped as {reason}"), SOON, counted).await.unwrap();
}

#[tokio::test]
async fn who_is_on_a_channel_is_in_the_room_with_who_is_on_a_websocket() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let mut page = Page::open(relay.http(), "lobby").await.unwrap();
    page.send(&say("before", "n0")).await.unwrap();
    let before = page.next(|event| said(event, "n0")).await.unwrap();
    let (channels, channel) = bare(&relay, "room/1/lobby").await;
    let Some(FromRelay::Welcome { zone, history, present: here, .. }) = event(&channel).await else {
        panic!("the welcome is first");
    };
    assert_eq!((&*zone, here), ("stage", 2));
    assert_eq!(history.iter().map(|message| &*message.id).collect::<Vec<_>>(), [&*before]);
    assert!(matches!(event(&channel).await, Some(FromRelay::Streams { .. })), "then what is live");
    present(&mut page, 2).await;

    channel.send_text(&say("from the channel", "n1")).await.unwrap();
    let (id, text) = page.next(message).await.unwrap();
    assert_eq!(text, "from the channel");
    assert_eq!(next(&channel, |event| said(event, "n1")).await, id);
    page.send(&say("from the page", "n2")).await.unwrap();
    let on_page = page.next(|event| said(event, "n2")).await.unwrap();
    let from_page = next(&channel, |event| message(event).filter(|(_, text)| text == "from the page")).await;
    assert_eq!(from_page.0, on_page);
    // The other way with the same nonce: nothing is lost by changing it, and nothing is there twice.
    page.send(&say("from the channel", "n1")).await.unwrap();
    assert_eq!(page.next(|event| said(event, "n1")).await.unwrap(), id);
    assert_eq!(relay.api().history("lobby").await.unwrap().len(), 3);

    channels.close().await;
    present(&mut page, 1).await;
}

#[tokio::test]
async fn a_listener_chats_over_the_session_that_plays() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let publisher = Publisher::tone(&relay, "main-stage", 440).unwrap();
    until("the stream is live", SOON, || async { relay.api().stream("main-stage").await }).await.unwrap();
    let endpoint = Endpoint::new(&relay.api().url("/whep/main-stage"), None).unwrap();
    let (channels, channel) = Channels::beside(&endpoint, true, "room/1/lobby").await.unwrap();
    channel.send_text(&say("louder!", "n1")).await.unwrap();
    let id = next(&channel, |event| said(event, "n1")).await;
    let history = relay.api().history("lobby").await.unwrap();
    assert_eq!(history.iter().map(|message| &*message.id).collect::<Vec<_>>(), [&*id]);
    // A second room on the same session is another participant.
    let crew = channels.channel("room/1/crew").await.unwrap();
    assert!(matches!(event(&crew).await, Some(FromRelay::Welcome { present: 1, .. })));
    channels.close().await;
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_ends_its_channel_and_no_other() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let (channels, first) = bare(&relay, "room/1/lobby").await;
    let stays = channels.channel("room/1/crew").await.unwrap();
    // Five in a row that are not understood.
    for _ in 0..5 {
        first.send(b"\0\x01").await.unwrap();
    }
    let refusals = ends_after(&first).await;
    assert_eq!(refusals.len(), 6, "{refusals:?}");
    assert!(refusals[0].contains("as text") && refusals[5].contains("not understood"), "{refusals:?}");
    // Too long for the room, and too long for any label.
    for (length, told) in [(16 * 1024 + 1, 1), (60 * 1024, 0)] {
        let long = channels.channel("room/1/lobby").await.unwrap();
        long.send_text(&"x".repeat(length)).await.unwrap();
        assert_eq!(ends_after(&long).await.len(), told, "{length}");
    }
    dropped(&relay, "channel_too_long", 2.0).await;
    // Not UTF-8 cannot be sent as text by this library. What has limits of its own goes on.
    stays.send_text(&say("still here", "n1")).await.unwrap();
    next(&stays, |event| said(event, "n1")).await;
    channels.close().await;
}

/// The reasons of the refusals until the channel ends.
async fn ends_after(channel: &Channel) -> Vec<String> {
    let mut refusals = Vec::new();
    while let Some(event) = event(channel).await {
        if let FromRelay::Refused { reason, .. } = event {
            refusals.push(reason);
        }
    }
    refusals
}

#[tokio::test]
async fn far_too_many_messages_are_refused_as_on_a_websocket() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let (channels, channel) = bare(&relay, "room/1/lobby").await;
    // The senseless ones among them would end it sooner: these are understood.
    for number in 0..160 {
        if channel.send_text(&say("flood", &format!("n{number}"))).await.is_err() {
            break;
        }
    }
    let refusals = ends_after(&channel).await;
    assert!(refusals.iter().any(|reason| reason.contains("at most 10 messages per second")), "{refusals:?}");
    assert_eq!(refusals.last().map(String::as_str), Some("far too many messages"));
    assert!(refusals.len() >= 100, "{}", refusals.len());
    channels.close().await;
}

#[tokio::test]
async fn an_unknown_label_stays_open_and_silent() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let (channels, unknown) = bare(&relay, "room/2/lobby").await;
    let known = channels.channel("room/1/lobby").await.unwrap();
    for _ in 0..3 {
        unknown.send_text(&say("is anybody there?", "n")).await.unwrap();
    }
    unknown.send(&[7; 64 * 1024]).await.unwrap();
    dropped(&relay, "channel_unknown", 3.0).await;
    dropped(&relay, "channel_too_long", 1.0).await;
    // Nothing came on it, and it is still open: what is sent is still counted.
    known.send_text(&say("here", "n1")).await.unwrap();
    next(&known, |event| said(event, "n1")).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), unknown.next()).await.is_err());
    unknown.send_text("again").await.unwrap();
    dropped(&relay, "channel_unknown", 4.0).await;
    channels.close().await;
}

#[tokio::test]
async fn a_bare_session_needs_a_channel_and_its_name_is_nobodys_stream() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let answer = relay.api().offer("/whep/-", OFFER_AUDIO).await.unwrap();
    assert_eq!(answer.status.as_u16(), 422);
    assert!(answer.problem().unwrap().title.contains("no data channel"));
    let answer = relay.api().offer("/whip/-", OFFER_AUDIO).await.unwrap();
    assert_eq!(answer.status.as_u16(), 400);
    let (channels, _channel) = bare(&relay, "room/1/lobby").await;
    assert!(relay.api().streams().await.unwrap().is_empty());
    channels.close().await;
}
