//! Data channels of real relays: rooms on sessions of every kind, beside WebSockets, and files, beside HTTP.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use protocol::{
    FileId, RoomName,
    signaling::{FromParticipant, FromRelay},
    transfer::{Frame, Offer, TransferId},
};
use rand::RngExt;
use signaling_client::{
    channel::{Channel, Channels, Message},
    endpoint::Endpoint,
    transfer::{self, Given},
};
use tests::{Festival, OFFER_AUDIO, Page, Publisher, Relay, Setup, until};

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

fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

fn given<'a>(id: TransferId, bytes: &'a [u8]) -> Given<'a> {
    let room = RoomName::new("lobby").unwrap();
    Given { id, room, name: "film.bin", media_type: "video/mp4", from: "Ada", bytes, hashes: Vec::new() }
}

#[tokio::test]
async fn a_file_goes_in_and_out_over_channels_and_over_http_alike() {
    let festival = Festival::chain(2).await.unwrap();
    let [a, b] = &festival.relays[..] else { unreachable!("two were asked for") };
    let body = random((2 << 20) + 77);
    let (channels, channel) = bare(a, "files/1").await;
    let mut sent = 0;
    let file =
        transfer::give(&channel, given(TransferId([1; 16]), &body), |at| sent = sent.max(at)).await.unwrap();
    assert_eq!(sent, body.len() as u64);
    let shared = a.api().files("lobby").await.unwrap();
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert_eq!((&*shared[0].name, &*shared[0].from, shared[0].bytes), ("film.bin", "Ada", body.len() as u64));
    assert_eq!(a.api().file(&file.to_string()).await.unwrap(), body);
    // Offered again it is done at once: not a byte is asked for.
    let again = transfer::give(&channel, given(TransferId([1; 16]), &body), |_| panic!("nothing is sent"));
    assert_eq!(again.await.unwrap(), file);
    channels.close().await;
    // From the other relay, whole and by range.
    let announced = || async { Ok((b.api().files("lobby").await?.len() == 1).then_some(())) };
    until("the file is announced", SOON, announced).await.unwrap();
    let (channels, channel) = bare(b, "files/1").await;
    let take = |id: u8, from, to| transfer::take(&channel, TransferId([id; 16]), file, (from, to), |_, _| ());
    assert!(take(2, 0, u64::MAX).await.unwrap() == body, "byte for byte");
    assert!(take(3, 1_000_000, 1_100_001).await.unwrap() == body[1_000_000..1_100_001]);
    assert!(take(4, body.len() as u64, u64::MAX).await.unwrap().is_empty());
    let outside = take(5, body.len() as u64 + 1, u64::MAX).await.unwrap_err();
    assert!(outside.to_string().contains("416"), "{outside}");
    let nobody = transfer::take(&channel, TransferId([6; 16]), FileId([7; 32]), (0, 1), |_, _| ()).await;
    assert!(nobody.unwrap_err().to_string().contains("404"));
    channels.close().await;
}

#[tokio::test]
async fn an_upload_that_broke_goes_on_on_another_way_and_another_session() {
    let mut relay = Setup::zone("stage").start().await.unwrap();
    let body = random((3 << 20) + 5);
    let (id, http) = (TransferId([0x5a; 16]), "5a".repeat(16));
    let (channels, channel) = bare(&relay, "files/1").await;
    // It stops when something of the second chunk has been asked for.
    let mut first = given(id, &body);
    first.hashes = hashes(&body);
    let broken = tokio::time::timeout(
        SOON,
        transfer::give(&channel, first, |at| {
            assert!(at <= (2 << 20) + 400_000, "cut");
        }),
    );
    let broken = std::panic::AssertUnwindSafe(broken);
    assert!(futures_util::FutureExt::catch_unwind(broken).await.is_err(), "it was cut in the middle");
    channels.close().await;
    relay.kill().unwrap();
    relay.restart().await.unwrap();
    let path = format!("/api/v1/uploads/{http}");
    let so_far = relay.api().send("HEAD", &path, &[], "").await.unwrap();
    assert_eq!(so_far.header("upload-offset"), (2 << 20).to_string());
    let (channels, channel) = bare(&relay, "files/1").await;
    let mut lowest = u64::MAX;
    let file = transfer::give(&channel, given(id, &body), |at| lowest = lowest.min(at)).await.unwrap();
    assert!(lowest > 2 << 20, "what was whole is not sent again: {lowest}");
    assert!(relay.api().file(&file.to_string()).await.unwrap() == body);
    channels.close().await;
}

fn hashes(body: &[u8]) -> Vec<[u8; 32]> {
    body.chunks(1 << 20).map(|chunk| *blake3::hash(chunk).as_bytes()).collect()
}

#[tokio::test]
async fn what_does_not_fit_ends_its_transfer_and_no_other() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let (channels, channel) = bare(&relay, "files/1").await;
    let refused = async |frames: &[Frame<'_>], code: u16| {
        for frame in frames {
            channel.send(&frame.write()).await.unwrap();
        }
        loop {
            let next = tokio::time::timeout(SOON, channel.next()).await.unwrap();
            let Some(Message::Binary(data)) = next else { panic!("the channel ends: {next:?}") };
            if let Some(Frame::Refuse { code: found, .. }) = Frame::read(&data) {
                assert_eq!(found, code);
                return;
            }
        }
    };
    let offer = |id: u8, length, hashes: Vec<[u8; 32]>| {
        let (room, name) = (RoomName::new("lobby").ok(), "a".to_owned());
        let (media_type, from) = (String::new(), String::new());
        Frame::Offer(Offer { id: TransferId([id; 16]), length, room, name, media_type, from, hashes })
    };
    let chunk = |id: u8, offset, bytes| Frame::Chunk { id: TransferId([id; 16]), offset, bytes };
    // Too large, as many hashes as it has no chunks, another offset, more than was asked for or said, less than was said.
    refused(&[offer(1, Some(1 << 40), vec![])], 413).await;
    refused(&[offer(2, Some(5), vec![[0; 32]; 2])], 400).await;
    refused(&[offer(3, Some(50), vec![]), chunk(3, 7, b"x")], 409).await;
    refused(&[offer(4, Some(5), vec![]), chunk(4, 0, b"longer")], 409).await;
    refused(
        &[offer(5, Some(5), vec![]), chunk(5, 0, b"x"), Frame::Done { id: TransferId([5; 16]), file: None }],
        400,
    )
    .await;
    // A hash that never fits is asked for again three times.
    let wrong: Vec<Frame<'_>> = (0..4).map(|_| chunk(6, 0, b"12345")).collect();
    refused(&[&[offer(6, Some(5), vec![[0; 32]])][..], &wrong].concat(), 422).await;
    dropped(&relay, "file_chunk_wrong", 3.0).await;
    // Nobody asked for it: no answer.
    channel.send(&chunk(99, 0, b"x").write()).await.unwrap();
    dropped(&relay, "file_chunk_unasked", 3.0).await;
    // The others of this channel go on.
    let body = random(100_000);
    transfer::give(&channel, given(TransferId([8; 16]), &body), |_| ()).await.unwrap();
    // What is no frame ends the channel, and no other.
    let other = channels.channel("files/1").await.unwrap();
    other.send(b"no frame").await.unwrap();
    while tokio::time::timeout(SOON, other.next()).await.unwrap().is_some() {}
    dropped(&relay, "file_frame_malformed", 1.0).await;
    transfer::give(&channel, given(TransferId([8; 16]), &body), |_| ()).await.unwrap();
    channels.close().await;
}

#[tokio::test]
async fn who_showed_no_token_gives_no_file_and_gets_all() {
    let relay = Setup::zone("stage").closed().argument("--publish-token").argument("correct-horse-battery");
    let relay = relay.start().await.unwrap();
    let base = format!("http://{}", relay.http());
    let body = random(1000);
    let token = Some("correct-horse-battery".to_owned());
    let (with, channel) = Channels::open(&base, "files/1", token).await.unwrap();
    let file = transfer::give(&channel, given(TransferId([1; 16]), &body), |_| ()).await.unwrap();
    let (without, channel) = bare(&relay, "files/1").await;
    let refused = transfer::give(&channel, given(TransferId([2; 16]), &body), |_| ()).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    let taken = transfer::take(&channel, TransferId([3; 16]), file, (0, u64::MAX), |_, _| ()).await.unwrap();
    assert!(taken == body);
    with.close().await;
    without.close().await;
}
