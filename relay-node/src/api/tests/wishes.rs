//! What listeners wish and read over HTTP, before a real node with a publisher of three encodings; of the workers only what
//! they would say of a listener is there.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use ::media::{
    Event, Mended, Reason, Shown, Sight, SoundSight,
    sdp::{IngestPolicy, Offer},
    transport::Identity,
};
use mesh_routing::{Config as MeshConfig, Mesh};
use protocol::{SessionId, StreamName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::*;
use crate::{
    api::{
        server::{self, Bounds},
        whip::{self, WhipState},
    },
    client::Proxies,
    node::{
        Node,
        sessions::{Direction, Sessions},
        viewers::Seen,
    },
    node_loop::{random, request::Watching},
    places::shares::Holder,
};

const PUBLISHED: &str = include_str!("../../../../media/tests/offers/chromium_publish_simulcast.sdp");
const PLAYED: &str = include_str!("../../../../media/tests/offers/chromium_recvonly.sdp");

/// A relay at which `main-stage` is published by this offer, and what its workers say now and then.
struct Relay {
    router: Router,
    says: mpsc::Sender<Event>,
    publisher: SessionId,
}

fn real_node(publish: &str) -> (Node, SessionId) {
    let now = clock::now();
    let data = tempfile::tempdir().expect("a directory");
    let identity = crate::bridge::Identity::load_or_create(data.path()).expect("an identity");
    let mesh = Mesh::new(MeshConfig::new(identity.keys(), zone(), 1, 1), now);
    let dtls = Arc::new(Identity::generate().expect("an identity"));
    let sessions = Sessions::new(dtls, Vec::new(), IngestPolicy::default());
    let mut node = Node::new(identity.node_id(), zone(), mesh, sessions, 0, now, WallTime(0));
    let stream = StreamName::new("main-stage").expect("a name");
    let holder = Holder::from(std::net::IpAddr::from([192, 0, 2, 7]));
    let offer = Offer::parse(publish).expect("an offer");
    let opened = node.handle_publish((stream, holder), &offer, random::session(), now).expect("an answer");
    node.handle_media(Event::Connected { session: opened.id }, now);
    while node.poll_effect(now).is_some() {}
    (node, opened.id)
}

impl Relay {
    fn new(publish: &str) -> Relay {
        let (mut node, publisher) = real_node(publish);
        let (requests, mut queue) = request::queue();
        let (says, mut said) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut readers: BTreeMap<SessionId, Vec<watch::Sender<Seen>>> = BTreeMap::new();
            loop {
                let now = clock::now();
                tokio::select! {
                    Some(event) = said.recv() => node.handle_media(event, now),
                    ask = queue.recv() => match ask {
                        None => break,
                        Some(NodeRequest::Open { direction, stream, whose, offer, frames, reply }) => {
                            let holder = whose.client.holder();
                            assert_eq!(direction, Direction::Egress);
                            let opened = node.handle_listen((stream, holder), (&offer, frames), random::session(), now);
                            drop(reply.send(opened));
                        }
                        Some(NodeRequest::Wish { stream, session, wish, reply }) => {
                            drop(reply.send(node.handle_wish(&stream, session, &wish, now).map(drop)));
                        }
                        Some(NodeRequest::Watch { stream, session, reply }) => {
                            let watched = node.handle_watch(&stream, session).map(|watched| {
                                let (sender, events) = watch::channel(watched.seen);
                                readers.entry(session).or_default().push(sender);
                                Watching { fresh: watched.fresh, events }
                            });
                            drop(reply.send(watched));
                        }
                        Some(NodeRequest::Session { session, reply }) => {
                            drop(reply.send(node.session(session, now)));
                        }
                        Some(NodeRequest::End { direction, stream, session, reply }) => {
                            drop(reply.send(node.handle_end(direction, &stream, session, now)));
                        }
                        Some(_) => {}
                    }
                }
                while let Some(effect) = node.poll_effect(now) {
                    match effect {
                        crate::node::Effect::Seen(session) => {
                            let seen = node.seen(session).expect("it listens");
                            for reader in readers.get(&session).into_iter().flatten() {
                                reader.send_replace(seen.clone());
                            }
                        }
                        crate::node::Effect::Over(session) => drop(readers.remove(&session)),
                        _ => {}
                    }
                }
            }
        });
        let (state, _, _) = state();
        let state = ApiState { requests: requests.clone(), ..state };
        let sessions = whip::router(WhipState::new(requests, state.auth.clone(), "".into()));
        Relay { router: router(state, sessions, Welcome::default()), says, publisher }
    }

    /// A listener: the path of its session, and its id.
    async fn listen(&self, offer: &str) -> (Answer, String, SessionId) {
        let request = Request::post("/whep/main-stage").header(header::CONTENT_TYPE, "application/sdp");
        let answer = send(&self.router, request.body(Body::from(offer.to_owned())).expect("a request")).await;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let path = answer.headers[header::LOCATION].to_str().expect("text").to_owned();
        let id = path.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
        (answer, path, id)
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, content_type);
        send(&self.router, request.body(body.into()).expect("a request")).await
    }

    async fn wish(&self, path: &str, body: &str) -> Answer {
        self.post(&format!("{path}/layer"), "application/json", body.to_owned()).await
    }

    async fn hear(&self, session: SessionId, sight: SoundSight) {
        self.says.send(Event::SoundSight { session, sight }).await.expect("it runs");
    }

    async fn see(&self, session: SessionId, place: u8, reason: Reason) {
        let shown = Shown { place: Some(place), resolution: None, rate: 600_000, layers: Vec::new() };
        let best = Shown { place: Some(0), ..shown.clone() };
        let active = vec![best.clone(), shown.clone()];
        let sight = Sight { sent: Some(shown), best: Some(best), active, inactive: Vec::new(), reason };
        let event = Event::Sight { session, sight: Box::new(sight) };
        self.says.send(event).await.expect("it runs");
    }
}

/// An offer of somebody who wants no picture.
fn only_sound() -> String {
    let (before, picture) = PLAYED.split_once("m=video").expect("it wants a picture");
    let sound = if before.contains("m=audio") { before } else { picture };
    sound.replace("BUNDLE 0 1", "BUNDLE 0")
}

fn links(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all(header::LINK).iter().map(|link| link.to_str().expect("text")).collect()
}

#[tokio::test]
async fn who_gets_a_picture_is_told_where_to_wish_and_read() {
    let relay = Relay::new(PUBLISHED);
    let (answer, path, id) = relay.listen(PLAYED).await;
    let expected = [
        format!("</api/v1/sessions/{id}>; rel=\"status\""),
        format!("<{path}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""),
        format!(
            "<{path}/events>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"layers,quality\""
        ),
    ];
    assert_eq!(links(&answer), expected);
    let (answer, path, _) = relay.listen(&only_sound()).await;
    assert_eq!(links(&answer).len(), 3, "the sound may be wished and read of too");
    // What it wishes is about the sound.
    for good in ["{}", r#"{"encodingId":"low"}"#] {
        assert_eq!(relay.wish(&path, good).await.status, 200, "{good}");
    }
    let title = relay.wish(&path, r#"{"encodingId":"h"}"#).await.problem(404);
    assert!(title.contains("low, mid, high"), "{title}");
}

#[tokio::test]
async fn each_wish_has_its_status() {
    let relay = Relay::new(PUBLISHED);
    let (_, path, id) = relay.listen(PLAYED).await;
    let rids: Vec<&str> =
        PUBLISHED.lines().filter_map(|line| line.strip_prefix("a=rid:")?.split(' ').next()).collect();
    let first = rids[0];
    for good in [
        "{}",
        r#"{"video":false}"#,
        r#"{"video":true,"mediaId":null}"#,
        &format!(r#"{{"encodingId":"{first}"}}"#),
        r#"{"mediaId":"0","encodingId":"mid"}"#,
    ] {
        let answer = relay.wish(&path, good).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{good}");
        assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    }
    for bad in ["", "[]", "x", r#"{"encodingId":1}"#, r#"{"maxTemporalLayerId":256}"#, r#"{"layer":"m"}"#] {
        let title = relay.wish(&path, bad).await.problem(400);
        assert!(title.contains("encodingId") && title.contains("video"), "{bad}: {title}");
    }
    let title = relay.wish(&path, r#"{"encodingId":"x"}"#).await.problem(404);
    assert!(rids.iter().all(|rid| title.contains(rid)), "{title}");
    let title = relay.wish(&path, r#"{"mediaId":"x"}"#).await.problem(404);
    assert!(title.contains("mediaId 1, its sound 0"), "{title}");
    relay.wish(&path, &" ".repeat(4097)).await.problem(413);
    relay.post(&format!("{path}/layer"), "text/plain", "{}").await.problem(415);
    get(&relay.router, &format!("{path}/layer")).await.problem(405);
    // Of another stream, of nobody, of a publisher, and what cannot be a session.
    let nobody = SessionId([9; 16]);
    for (stream, session) in [
        ("other-stage", id.to_string()),
        ("main-stage", nobody.to_string()),
        ("main-stage", relay.publisher.to_string()),
        ("main-stage", "x".to_owned()),
    ] {
        let path = format!("/whep/{stream}/{session}");
        assert!(relay.wish(&path, "{}").await.problem(404).contains("no such session"), "{path}");
        let events = format!("{path}/events");
        let asked = relay.post(&events, "application/json", r#"["layers"]"#).await;
        assert!(asked.problem(404).contains("no such session"), "{path}");
        get(&relay.router, &events).await.problem(404);
    }
    relay
        .post(&format!("/whip/main-stage/{}/layer", relay.publisher), "application/json", "{}")
        .await
        .problem(415);
    let statuses: Vec<u16> = {
        let mut all = Vec::new();
        for _ in 0..30 {
            all.push(relay.wish(&path, "{}").await);
        }
        assert!(all.iter().any(|answer| answer.status == 429 && answer.headers[header::RETRY_AFTER] == "1"));
        all.iter().map(|answer| answer.status).collect()
    };
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    let options = Request::options(format!("{path}/events")).body(Body::empty()).expect("a request");
    let preflight = send(&relay.router, options).await;
    let methods = preflight.headers[header::ACCESS_CONTROL_ALLOW_METHODS].to_str().expect("text");
    assert!(preflight.status == 204 && methods.contains("GET"), "{methods}");
}

#[tokio::test]
async fn who_guesses_sessions_to_wish_for_is_slowed_down() {
    let relay = Relay::new(PUBLISHED);
    let mut statuses = Vec::new();
    for _ in 0..130 {
        let path = format!("/whep/main-stage/{}", SessionId([9; 16]));
        statuses.push(relay.wish(&path, "{}").await.status);
    }
    assert!(statuses[..100].iter().all(|status| *status == 404) && statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn which_events_are_read_can_be_said_before() {
    let relay = Relay::new(PUBLISHED);
    let (_, path, _) = relay.listen(PLAYED).await;
    let events = format!("{path}/events");
    let answer = relay.post(&events, "application/json", r#"["layers"]"#).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers[header::LOCATION], format!("{events}?only=layers"));
    let title = relay.post(&events, "application/json", r#"["viewercount"]"#).await.problem(422);
    assert!(title.contains("layers, quality"), "{title}");
    relay.post(&events, "application/json", "[]").await.problem(422);
    relay.post(&events, "application/json", "{}").await.problem(400);
    relay.post(&events, "text/plain", r#"["layers"]"#).await.problem(415);
    relay.post(&events, "application/json", format!("[{}]", " ".repeat(4096))).await.problem(413);
    assert!(get(&relay.router, &format!("{events}?only=x")).await.problem(422).contains("quality"));
}

#[tokio::test]
async fn what_a_listener_sees_is_in_its_status_once_it_was_told() {
    let relay = Relay::new(PUBLISHED);
    let (_, path, id) = relay.listen(PLAYED).await;
    let status =
        async || get(&relay.router, &format!("/api/v1/sessions/{id}")).await.json()["picture"].clone();
    assert_eq!(status().await, Value::Null);
    relay.wish(&path, "{}").await;
    relay.see(id, 1, Reason::Link).await;
    let told = async {
        while status().await.is_null() {
            tokio::task::yield_now().await;
        }
        status().await
    };
    assert_eq!(timeout(Duration::from_secs(10), told).await.expect("in time")["reason"], "link");
}

#[tokio::test]
async fn what_a_listener_hears_is_told_with_and_without_a_picture() {
    let relay = Relay::new(PUBLISHED);
    let (address, _stop) = serve(&relay, Bounds::default()).await;
    for (offer, video) in [(PLAYED.to_owned(), "publisher"), (only_sound(), "none")] {
        let (_, path, id) = relay.listen(&offer).await;
        let mut client = read(address, &format!("{path}/events?only=quality")).await;
        let first = until(&mut client, "event: quality").await;
        assert!(!first.contains("audio"), "nothing is known yet: {first}");
        relay.hear(id, SoundSight { rung: 1, reason: Reason::Link, mended: Mended::Copies }).await;
        let told = until(&mut client, "audio").await;
        let expected = format!(
            "{{\"video\":null,\"best\":null,\"reason\":\"{video}\",\
             \"audio\":{{\"encodingId\":\"mid\",\"reason\":\"link\",\"mending\":\"copies\"}}}}"
        );
        assert!(told.contains(&expected), "{told}");
        let status = get(&relay.router, &format!("/api/v1/sessions/{id}")).await.json();
        assert_eq!(status["picture"]["audio"]["mending"], "copies");
    }
}

/// A relay behind a real server.
async fn serve(relay: &Relay, bounds: Bounds) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = watch::channel(false);
    let router = relay.router.clone();
    tokio::spawn(server::serve(listener, router, Proxies::default(), bounds.places(), bounds, stopped));
    (address, stop)
}

/// Reads events from here on, up to what is looked for.
async fn read(address: SocketAddr, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.expect("connects");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("sends");
    client
}

async fn until(client: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while !text.contains(wanted) {
            let len = client.read(&mut buffer).await.expect("reads");
            assert!(len > 0, "it ended: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    };
    timeout(Duration::from_secs(10), reading).await.unwrap_or_else(|_| panic!("no {wanted}"));
    text
}

#[tokio::test]
async fn events_are_read_until_the_session_ends() {
    let relay = Relay::new(PUBLISHED);
    let (address, _stop) = serve(&relay, Bounds::default()).await;
    let (_, path, id) = relay.listen(PLAYED).await;
    let mut client = read(address, &format!("{path}/events")).await;
    let first = until(&mut client, "event: quality").await;
    assert!(first.contains("content-type: text/event-stream") && first.contains("HTTP/1.1 200"), "{first}");
    assert!(
        first.contains("access-control-allow-origin: *") && first.contains("connection: close"),
        "{first}"
    );
    assert!(first.contains("event: layers\ndata: {\"1\":{\"active\":[]"), "{first}");
    relay.see(id, 1, Reason::Link).await;
    let next = until(&mut client, "\"reason\":\"link\"").await;
    assert!(next.contains("\"kbps\":600"), "{next}");
    let request = Request::delete(&path).body(Body::empty()).expect("a request");
    assert_eq!(send(&relay.router, request).await.status, 200);
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await.expect("it ends").expect("well");
}

#[tokio::test]
async fn who_reads_events_takes_no_place_of_those_who_ask() {
    let relay = Relay::new(PUBLISHED);
    let bounds = Bounds { connections: 4, ..Bounds::default() };
    let (address, _stop) = serve(&relay, bounds).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let (_, path, _) = relay.listen(PLAYED).await;
        let mut client = read(address, &format!("{path}/events?only=quality")).await;
        until(&mut client, "event: quality").await;
        clients.push(client);
    }
    let asking = reqwest::get(format!("http://{address}/api/v1/sessions/nobody"));
    let answer = timeout(Duration::from_secs(5), asking).await.expect("in time").expect("answers");
    assert_eq!(answer.status(), 404, "there is room");
    // All are still read: nobody gave way.
    for client in &mut clients {
        let mut octet = [0];
        assert!(timeout(Duration::from_millis(5), client.peek(&mut octet)).await.is_err());
    }
}
