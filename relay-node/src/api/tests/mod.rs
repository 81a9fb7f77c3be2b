use ::rooms::{Output, Rooms, WallTime, Written};
use axum::{
    body::{Body, Bytes},
    http::{Request, header},
    routing::post,
};
use http_body_util::BodyExt;
use protocol::{
    Hlc, RoomName, Topic,
    api::{self, Posted, Saved},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::websocket;
use super::*;
use crate::{
    client::Client,
    clock,
    node::{
        allowance::{Allowances, ChatLimits},
        posts::PostError,
    },
    node_loop::{
        file_requests::{FileAsk, NoPart},
        outbox::{self, Outbox, Told},
        request::{self, Ask, Entered},
    },
    storage::files::{FileLimits, Files},
    vitals::{Pulse, Work},
};

/// A node loop of one relay without neighbors: what the real one does for rooms, on a log in memory.
async fn node_loop(mut asks: request::Questions) {
    let mut rooms = Rooms::new(zone());
    let mut participants: Vec<(RoomName, ::rooms::ParticipantId, Outbox)> = Vec::new();
    let mut allowances = Allowances::new(ChatLimits::default(), 1);
    let mut number = 0;
    let wall = WallTime(1_700_000_000_000);
    while let Some(ask) = asks.recv().await {
        match ask {
            Ask::Streams { reply } => drop(reply.send(Vec::new())),
            Ask::Mesh { reply } => {
                let own = node().to_string();
                drop(reply.send(api::Mesh {
                    own,
                    nodes: Vec::new(),
                    links: Vec::new(),
                    articulation_points: Vec::new(),
                    bridges: Vec::new(),
                    areas: Vec::new(),
                }));
            }
            Ask::Post { topic, new, speaker, reply } => {
                let source = allowances.source(speaker);
                if topic != Topic::Announcements
                    && let Err(error) = allowances.take(speaker, false, clock::now())
                {
                    drop(reply.send(Err(error.into())));
                    continue;
                }
                let accepted = rooms.handle_post(&topic, new, source, wall).map_err(PostError::from);
                if let Ok(Some(payload)) = accepted.as_ref().map(|accepted| accepted.payload.clone()) {
                    number += 1;
                    let (writer, hlc) = (node(), Hlc(number));
                    let written = Written { topic: &topic, writer, life: 1, number, hlc, payload: &payload };
                    rooms.handle_record(written, true, wall).expect("is readable");
                }
                let posted = accepted.map(|accepted| Posted { id: accepted.id, saved: Saved::Here });
                drop(reply.send(posted));
            }
            Ask::History { topic, after, limit, reply } => {
                let after = after.as_deref();
                drop(reply.send(match topic {
                    Topic::Room(room) => rooms.history(&room, after, limit),
                    Topic::Announcements => rooms.announcements(after, limit),
                }));
            }
            Ask::Enter { room, reply } => {
                let (sender, events) = outbox::pair();
                let participant = rooms.handle_enter(&room).expect("there is room");
                let welcome = rooms.welcome(&room);
                participants.push((room, participant, sender));
                drop(reply.send(Ok(Entered { participant, welcome, events })));
            }
            Ask::Leave { room, participant } => {
                participants.retain(|(_, other, _)| *other != participant);
                rooms.handle_leave(&room, participant);
            }
            Ask::File(FileAsk::Want { reply, .. }) => drop(reply.send(Err(NoPart::Unknown)).is_ok()),
            Ask::File(FileAsk::List { reply, .. }) => drop(reply.send(Vec::new())),
            Ask::File(FileAsk::Manifest { reply, .. }) => drop(reply.send(None)),
            Ask::File(FileAsk::Share { room, reply, .. }) if room.as_str() == "refused" => {
                drop(reply.send(Err(PostError::NotStored)));
            }
            Ask::File(FileAsk::Share { new, reply, .. }) => {
                drop(reply.send(Ok(api::Posted { id: new.file.to_string(), saved: api::Saved::Mesh })));
            }
            // Sessions are tested with real peers: unanswered here.
            Ask::Session { reply, .. } => drop(reply.send(None)),
            Ask::Open { .. } | Ask::Patch { .. } | Ask::End { .. } => {}
        }
        while let Some(output) = rooms.poll_output() {
            let (to, event) = match output {
                Output::Tell { room, event } => (Some(room), event),
                Output::TellAll { event } => (None, event),
            };
            let told = |other: &RoomName| to.as_ref().is_none_or(|room| room == other);
            for (_, _, sender) in participants.iter().filter(|(other, ..)| told(other)) {
                let _ = sender.tell(&Told::new(&event));
            }
        }
    }
}

fn node() -> NodeId {
    NodeId([7; 32])
}

fn zone() -> ZoneName {
    ZoneName::new("stage").expect("a name")
}

fn state() -> (ApiState, request::Questions, tempfile::TempDir) {
    let (asks, queue) = request::queue();
    let arguments = ["relay-node", "--dev"].map(Into::into);
    let (_, config) = crate::config::read(arguments, []).expect("a good configuration");
    let auth = Arc::new(config.auth());
    let ready = Ready::default();
    ready.set(true);
    let limits = FileLimits { size: 3 << 20, cache: 0, reserve: 0 };
    let (events, _) = mpsc::channel(1);
    let data = tempfile::tempdir().expect("a directory");
    let (files, _) = Files::open(data.path(), limits, events, Pulse::unwatched()).expect("opens");
    let files = files::FilesState::new(files);
    let state = ApiState {
        asks,
        auth,
        node: node(),
        zone: zone(),
        prefix: "".into(),
        ready,
        files,
        participants: websocket::places(),
        festival: None,
        vitals: Vitals::new(clock::now(), |_| {}),
        metrics: None,
    };
    (state, queue, data)
}

fn relay() -> Router {
    let (state, queue, data) = state();
    tokio::spawn(async move {
        node_loop(queue).await;
        drop(data);
    });
    let sessions = Router::new()
        .route("/whip/{stream}", post(|| async { "a session" }))
        .route("/whip/panic", post(|| async { defect() }));
    router(state, sessions, Welcome::default())
}

fn defect() -> &'static str {
    panic!("a defect, on purpose")
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Checks that it is a problem with a title and gives that.
    fn problem(&self, status: u16) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{text}");
        let problem: api::Problem = serde_json::from_slice(&self.body).expect("a problem");
        assert_eq!(problem.status, status);
        assert!(problem.kind.starts_with("/problems/"), "{text}");
        problem.title
    }
}

async fn send(relay: &Router, mut request: Request<Body>) -> Answer {
    let client = Client { address: [127, 0, 0, 1].into(), local: true };
    if request.extensions().get::<axum::extract::ConnectInfo<Client>>().is_none() {
        request.extensions_mut().insert(axum::extract::ConnectInfo(client));
    }
    let response = relay.clone().oneshot(request).await.expect("a router always answers");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn get(relay: &Router, path: &str) -> Answer {
    send(relay, Request::get(path).body(Body::empty()).expect("a request")).await
}

async fn say(relay: &Router, room: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(format!("/api/v1/rooms/{room}/messages"));
    let request = request.header(header::CONTENT_TYPE, content_type);
    send(relay, request.body(body.into()).expect("a request")).await
}

#[tokio::test]
async fn a_stuck_thread_is_named_and_a_slow_disk_only_keeps_clients_away() {
    let (state, queue, data) = state();
    tokio::spawn(async move {
        node_loop(queue).await;
        drop(data);
    });
    let long_ago = clock::now() - std::time::Duration::from_secs(3);
    // The pulse of another relay's clock: it began when this one was made.
    let vitals = Vitals::new(long_ago, |_| {});
    let _store = vitals.pulse("store", Work::Disk, long_ago);
    let state = ApiState { vitals: vitals.clone(), ..state };
    let health = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer =
            router(state.clone(), Router::new(), Welcome::default()).oneshot(request).await.expect("answers");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let (status, said) = health("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("the thread store has been stuck for 3 s"), "{said}");
    assert_eq!(health("/livez").await.0, StatusCode::OK);
    let _media = vitals.pulse("media-0", Work::Serve, long_ago);
    let (status, said) = health("/livez").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("the thread media-0 has been stuck for 3 s"), "{said}");
}

#[tokio::test]
async fn a_posted_message_is_in_the_history() {
    let relay = relay();
    let mut ids = Vec::new();
    for text in ["one", "two <b>bold</b>", "three"] {
        let body = json!({ "author": "Ada", "text": text }).to_string();
        let posted = say(&relay, "lobby", "Application/JSON; charset=utf-8", body).await;
        assert_eq!(posted.status, 201);
        ids.push(posted.json()["id"].as_str().expect("an id").to_owned());
    }
    let history = get(&relay, "/api/v1/rooms/lobby/messages").await.json();
    let texts: Vec<_> = history.as_array().expect("an array").iter().map(|m| m["text"].clone()).collect();
    assert_eq!(texts, ["one", "two <b>bold</b>", "three"]);
    assert_eq!(history[0]["zone"], "stage");
    assert_eq!(history[0]["sent_at"], "2023-11-14T22:13:20.000Z");
    let rest = get(&relay, &format!("/api/v1/rooms/lobby/messages?after={}", ids[1])).await.json();
    assert_eq!(rest.as_array().map(Vec::len), Some(1));
    assert_eq!(rest[0]["id"], ids[2]);
    assert_eq!(get(&relay, "/api/v1/rooms/quiet/messages").await.json(), json!([]));
    get(&relay, "/api/v1/rooms/lobby/messages?after=0000").await.problem(404);
}

#[tokio::test]
async fn an_announcement_is_in_its_own_list_and_in_no_room() {
    let relay = relay();
    let announce = Request::post("/api/v1/announcements").header(header::CONTENT_TYPE, "application/json");
    let body = json!({ "author": "Safety", "text": "storm" }).to_string();
    let answer = send(&relay, announce.body(body.into()).expect("a request")).await;
    assert_eq!((answer.status, answer.json()["saved"].as_str()), (201, Some("here")));
    let list = get(&relay, "/api/v1/announcements").await.json();
    assert_eq!(
        (list[0]["text"].as_str(), list[0]["id"].as_str()),
        (Some("storm"), answer.json()["id"].as_str())
    );
    assert_eq!(get(&relay, "/api/v1/rooms/lobby/messages").await.json(), json!([]));
    let after = format!("/api/v1/announcements?after={}", list[0]["id"].as_str().expect("an id"));
    assert_eq!(get(&relay, &after).await.json(), json!([]));
    get(&relay, "/api/v1/announcements?after=nothing").await.problem(404);
}

#[tokio::test]
async fn an_announcement_needs_the_publish_token() {
    let (mut state, _queue, _files) = state();
    let arguments = ["relay-node", "--publish-token", "correct-horse"].map(Into::into);
    let (_, config) = crate::config::read(arguments, []).expect("a good configuration");
    state.auth = Arc::new(config.auth());
    let relay = router(state, Router::new(), Welcome::default());
    for (token, status) in [(None, 401), (Some("Bearer wrong"), 403)] {
        let mut request =
            Request::post("/api/v1/announcements").header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        send(&relay, request.body(Body::from("{}")).expect("a request")).await.problem(status);
    }
}

#[tokio::test]
async fn the_same_nonce_is_one_message_and_no_nonce_is_a_new_one() {
    let relay = relay();
    let once = json!({ "author": "Ada", "text": "hi", "nonce": "n1" }).to_string();
    let first = say(&relay, "lobby", "application/json", once.clone()).await.json();
    assert_eq!(say(&relay, "lobby", "application/json", once).await.json(), first);
    for _ in 0..2 {
        say(&relay, "lobby", "application/json", json!({ "author": "Ada", "text": "hi" }).to_string()).await;
    }
    let history = get(&relay, "/api/v1/rooms/lobby/messages").await.json();
    assert_eq!(history.as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_bad_message_gets_a_problem_that_says_what_to_do() {
    let relay = relay();
    let json = "application/json";
    let title = say(&relay, "lobby", "text/plain", "{}").await.problem(415);
    assert!(title.contains("Content-Type: application/json"), "{title}");
    let title = say(&relay, "lobby", json, "x".repeat(64 * 1024 + 1)).await.problem(413);
    assert!(title.contains("65536"), "{title}");
    let endless =
        futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 4096])));
    say(&relay, "lobby", json, Body::from_stream(endless)).await.problem(413);
    let title = say(&relay, "lobby", json, "{\"author\":").await.problem(400);
    assert!(title.contains("\"author\": \"Ada\""), "{title}");
    say(&relay, "lobby", json, b"{\"author\":\"\xff\",\"text\":\"x\"}".to_vec()).await.problem(400);
    say(&relay, "lobby", json, r#"{"author":"A","text":"x","colour":1}"#).await.problem(400);
    let title = say(&relay, "lobby", json, r#"{"author":"","text":"x"}"#).await.problem(422);
    assert!(title.contains("author is empty"), "{title}");
    let long = json!({ "author": "A", "text": "x".repeat(4001) }).to_string();
    assert!(say(&relay, "lobby", json, long).await.problem(422).contains("4001"));
    let title = say(&relay, "Lobby", json, r#"{"author":"A","text":"x"}"#).await.problem(400);
    assert!(title.contains("'L'"), "{title}");
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems_too() {
    let relay = relay();
    get(&relay, "/api/v1/nothing").await.problem(404);
    get(&relay, "/assets/nothing.js").await.problem(404);
    get(&relay, "/..%2f..%2fetc%2fpasswd").await.problem(404);
    let request = Request::delete("/api/v1/streams").body(Body::empty()).expect("a request");
    let answer = send(&relay, request).await;
    answer.problem(405);
    assert_eq!(answer.headers[header::ALLOW], "GET,HEAD");
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_relay_goes_on() {
    let relay = relay();
    let request = Request::post("/whip/panic").body(Body::empty()).expect("a request");
    send(&relay, request).await.problem(500);
    assert_eq!(get(&relay, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_relay_without_a_node_loop_is_alive_and_not_ready() {
    let (state, queue, _data) = state();
    drop(queue);
    let relay = router(state, Router::new(), Welcome::default());
    assert_eq!(get(&relay, "/livez").await.status, 200);
    let answer = get(&relay, "/readyz").await;
    answer.problem(503);
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
    get(&relay, "/api/v1/streams").await.problem(503);
}

#[tokio::test]
async fn every_answer_has_the_security_headers_and_the_api_may_be_read_from_other_origins() {
    let relay = relay();
    for path in ["/", "/api/v1/mesh", "/nothing"] {
        let answer = get(&relay, path).await;
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    let request = Request::get("/api/v1/streams").header(header::ORIGIN, "http://elsewhere.example");
    let answer = send(&relay, request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
}

#[tokio::test]
async fn a_preflight_of_every_api_path_is_answered_whatever_the_method() {
    let relay = relay();
    let file = format!("/api/v1/files/{}", "0".repeat(64));
    for path in [
        "/api/v1/streams",
        "/api/v1/mesh",
        "/api/v1/announcements",
        "/api/v1/rooms/lobby/messages",
        "/api/v1/rooms/lobby/files",
        &file,
        "/api/v1/openapi.json",
        "/version",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let request = Request::options(path)
                .header(header::ORIGIN, "http://other.example")
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
                .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type,authorization");
            let answer = send(&relay, request.body(Body::empty()).expect("a request")).await;
            assert_eq!((answer.status, answer.body.len()), (204, 0), "{method} {path}");
            for (name, words) in [
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, vec!["*"]),
                (header::ACCESS_CONTROL_ALLOW_METHODS, vec!["GET", "POST", "PUT"]),
                (
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    vec!["content-type", "authorization", "range", "if-range"],
                ),
                (header::ACCESS_CONTROL_MAX_AGE, vec!["86400"]),
            ] {
                let value = answer.headers[&name].to_str().expect("text");
                let has = |word: &&str| value.split(", ").any(|part| part == *word);
                assert!(words.iter().all(has), "{path}: {name}: {value}");
            }
        }
    }
    let request = Request::options("/api/v1/nothing").body(Body::empty()).expect("a request");
    send(&relay, request).await.problem(404);
}

#[tokio::test]
async fn a_page_of_another_origin_reads_and_does_not_write_unless_it_is_allowed() {
    let relay = relay();
    let say = |origin: &str, host: &str| {
        Request::post("/api/v1/rooms/lobby/messages")
            .header(header::ORIGIN, origin)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(r#"{"author":"Ada","text":"hi"}"#))
            .expect("a request")
    };
    let answer = send(&relay, say("http://evil.example", "10.0.0.1:8080")).await;
    assert!(answer.problem(403).contains("--allow-origin http://evil.example"));
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "the page may read why");
    let answer = send(&relay, say("http://evil.example:8080", "evil.example:8080")).await;
    assert!(answer.problem(421).contains("--allow-host evil.example"), "rebound");
    assert_eq!(send(&relay, say("http://10.0.0.1:8080", "10.0.0.1:8080")).await.status, 201);
    for (method, path) in [("PUT", "/api/v1/rooms/lobby/files"), ("POST", "/api/v1/announcements")] {
        let request = Request::builder().method(method).uri(path).header(header::ORIGIN, "null");
        send(&relay, request.body(Body::empty()).expect("a request")).await.problem(403);
    }
    for path in ["/", "/livez", "/whep/main-stage", "/api/v1/streams"] {
        let request = Request::get(path).header(header::HOST, "evil.example");
        send(&relay, request.body(Body::empty()).expect("a request")).await.problem(421);
    }
}

#[tokio::test]
async fn the_first_page_is_there_whether_built_or_not() {
    let relay = relay();
    let answer = get(&relay, "/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    if let Some(etag) = answer.headers.get(header::ETAG) {
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-cache");
        let again = Request::get("/").header(header::IF_NONE_MATCH, etag);
        let again = send(&relay, again.body(Body::empty()).expect("a request")).await;
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
}

mod doors;

mod over_a_socket {
    use std::{net::SocketAddr, time::Duration};

    use futures_util::{SinkExt, StreamExt};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::watch,
        task::JoinHandle,
        time::timeout,
    };
    use tokio_tungstenite::{connect_async, tungstenite::Message};

    use super::*;
    use crate::{
        api::server::{self, Bounds},
        client::Proxies,
    };

    type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

    async fn serve() -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
        serve_within(Bounds::default()).await
    }

    async fn serve_within(bounds: Bounds) -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        (
            address,
            stop,
            tokio::spawn(server::serve(
                listener,
                relay(),
                Proxies::default(),
                bounds.places(),
                bounds,
                stopped,
            )),
        )
    }

    async fn enter(address: SocketAddr, room: &str) -> Socket {
        let url = format!("ws://{address}/api/v1/rooms/{room}/ws");
        connect_async(url).await.expect("connects").0
    }

    /// The next message that is not a ping.
    async fn hear(socket: &mut Socket) -> Value {
        loop {
            let next = timeout(Duration::from_secs(5), socket.next()).await.expect("in time");
            match next.expect("is open").expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => {
                    return json!({ "type": "close", "code": frame.map(|f| u16::from(f.code)) });
                }
                _ => {}
            }
        }
    }

    async fn hear_kind(socket: &mut Socket, kind: &str) -> Value {
        loop {
            let event = hear(socket).await;
            if event["type"] == kind {
                return event;
            }
        }
    }

    fn words(text: &str, nonce: &str) -> Message {
        Message::text(json!({ "type": "say", "author": "Ada", "text": text, "nonce": nonce }).to_string())
    }

    #[tokio::test]
    async fn what_one_participant_says_the_other_hears() {
        let (address, _stop, _task) = serve().await;
        let mut ada = enter(address, "lobby").await;
        let welcome = hear(&mut ada).await;
        assert_eq!(
            (&welcome["type"], &welcome["zone"], &welcome["present"]),
            (&json!("welcome"), &json!("stage"), &json!(1))
        );
        let mut bob = enter(address, "lobby").await;
        assert_eq!(hear(&mut bob).await["present"], 2);
        ada.send(words("hello", "n1")).await.expect("sends");
        let said = hear_kind(&mut ada, "said").await;
        assert_eq!(said["nonce"], "n1");
        let message = hear_kind(&mut bob, "message").await;
        assert_eq!((&message["message"]["text"], &message["message"]["id"]), (&json!("hello"), &said["id"]));
        drop(bob);
        loop {
            if hear_kind(&mut ada, "presence").await["present"] == 1 {
                break;
            }
        }
        let mut late = enter(address, "lobby").await;
        assert_eq!(hear(&mut late).await["history"][0]["text"], "hello");
    }

    #[tokio::test]
    async fn what_is_not_understood_is_refused_and_then_ends_the_conversation() {
        let (address, _stop, _task) = serve().await;
        let mut socket = enter(address, "lobby").await;
        hear_kind(&mut socket, "welcome").await;
        socket.send(words("", "empty")).await.expect("sends");
        let refused = hear_kind(&mut socket, "refused").await;
        assert_eq!(refused["nonce"], "empty");
        assert!(refused["reason"].as_str().expect("text").contains("text is empty"));
        for _ in 0..5 {
            socket.send(Message::text("{\"type\":\"sing\"}")).await.expect("sends");
            hear_kind(&mut socket, "refused").await;
        }
        assert_eq!(hear_kind(&mut socket, "close").await["code"], 1008);
    }

    #[tokio::test]
    async fn a_message_too_long_or_too_many_of_them_hurt_only_their_sender() {
        let (address, _stop, _task) = serve().await;
        let mut quiet = enter(address, "lobby").await;
        hear_kind(&mut quiet, "welcome").await;
        let mut long = enter(address, "lobby").await;
        hear_kind(&mut long, "welcome").await;
        long.send(Message::text("x".repeat(17 * 1024))).await.expect("sends");
        assert_eq!(hear_kind(&mut long, "close").await["code"], 1008);
        let mut fast = enter(address, "other").await;
        hear_kind(&mut fast, "welcome").await;
        for number in 0..60 {
            fast.send(words("again", &number.to_string())).await.expect("sends");
        }
        let refused = hear_kind(&mut fast, "refused").await;
        assert!(refused["reason"].as_str().expect("text").contains("too fast"), "{refused}");
        assert!((1..=10_001).contains(&refused["retry_after_ms"].as_u64().expect("a number")), "{refused}");
        quiet.send(words("still here", "n")).await.expect("sends");
        hear_kind(&mut quiet, "said").await;
    }

    #[tokio::test]
    async fn a_path_of_a_websocket_says_so_to_a_browser() {
        let (address, _stop, _task) = serve().await;
        let answer = reqwest::get(format!("http://{address}/api/v1/rooms/lobby/ws")).await.expect("answers");
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.expect("text").contains("as a WebSocket"));
    }

    #[tokio::test]
    async fn a_stopping_relay_ends_its_conversations_and_its_server() {
        let (address, stop, task) = serve().await;
        let mut idle = TcpStream::connect(address).await.expect("connects");
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sends");
        let mut answer = [0; 12];
        idle.read_exact(&mut answer).await.expect("answers");
        assert_eq!(&answer, b"HTTP/1.1 200");
        stop.send(true).expect("is heard");
        timeout(Duration::from_secs(5), task).await.expect("in time").expect("ends well");
    }

    /// More than two socket buffers hold, sent by a client that looks for an answer only when it is done.
    #[tokio::test]
    async fn a_body_too_large_is_heard_out_so_that_its_answer_is_seen() {
        let (address, _stop, _task) = serve().await;
        for _ in 0..5 {
            let mut client = TcpStream::connect(address).await.expect("connects");
            let length = 16 << 20;
            let head = format!(
                "POST /api/v1/rooms/lobby/messages HTTP/1.1\r\nHost: x\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            );
            client.write_all(head.as_bytes()).await.expect("sends");
            client.write_all(&vec![b' '; length]).await.expect("all of it is taken");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.expect("no reset");
            assert!(answer.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer));
        }
    }

    #[tokio::test]
    async fn a_body_too_large_is_refused_before_it_comes() {
        let (address, _stop, _task) = serve().await;
        let mut client = TcpStream::connect(address).await.expect("connects");
        let head = "POST /api/v1/rooms/lobby/messages HTTP/1.1\r\nHost: x\r\n\
                    Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n";
        client.write_all(head.as_bytes()).await.expect("sends");
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.expect("answers");
        assert_eq!(&answer, b"HTTP/1.1 413");
    }

    /// The status of a request over a connection of its own from `local`; 0 if it is cut.
    async fn status(local: [u8; 4], address: SocketAddr, path: &str) -> u16 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((local, 0).into()).expect("an address of this machine");
        let mut client = socket.connect(address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        // A connection that gives way may be reset.
        if client.write_all(request.as_bytes()).await.is_err()
            || client.read_to_end(&mut answer).await.is_err()
        {
            return 0;
        }
        String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    const TRICKLE: &[u8] = b"POST /api/v1/rooms/lobby/messages HTTP/1.1\r\nHost: x\r\n\
        Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{";

    #[tokio::test]
    async fn who_takes_every_connection_keeps_nobody_from_an_answer() {
        for begun in [&b""[..], b"GET /livez HTTP/1.1\r\nHost:", TRICKLE] {
            let (address, _stop, _task) = serve_within(Bounds { connections: 20, reserve: 2 }).await;
            let mut slow = Vec::new();
            for _ in 0..60 {
                let mut client = TcpStream::connect(address).await.expect("connects");
                let _ = client.write_all(begun).await;
                slow.push(client);
            }
            // Another address has fewer connections, and gets one at once.
            assert_eq!(status([127, 0, 0, 2], address, "/api/v1/streams").await, 200);
            // Health is answered to whoever asks, from the same address too.
            assert_eq!(status([127, 0, 0, 1], address, "/livez").await, 200);
            assert_eq!(status([127, 0, 0, 1], address, "/readyz").await, 200);
            // And so is everything else, once the others of the address have waited for a second.
            let answered = async {
                while status([127, 0, 0, 1], address, "/api/v1/streams").await != 200 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            timeout(Duration::from_secs(30), answered).await.expect("a place becomes free");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_gives_way_whoever_asks() {
        let (address, _stop, _task) = serve_within(Bounds { connections: 2, reserve: 1 }).await;
        let mut idle = TcpStream::connect(address).await.expect("connects");
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sends");
        idle.read_exact(&mut [0; 12]).await.expect("answers");
        let mut busy = TcpStream::connect(address).await.expect("connects");
        busy.write_all(TRICKLE).await.expect("sends");
        let answered = async { while status([127, 0, 0, 1], address, "/api/v1/streams").await != 200 {} };
        timeout(Duration::from_secs(30), answered).await.expect("the idle one gives way");
        let mut rest = Vec::new();
        // An error says as well that it is over.
        let _ = timeout(Duration::from_secs(5), idle.read_to_end(&mut rest)).await.expect("it is cut");
        busy.write_all(b" ").await.expect("it is still there");
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_told_so() {
        let (address, _stop, _task) = serve().await;
        let mut client = TcpStream::connect(address).await.expect("connects");
        client.write_all(TRICKLE).await.expect("sends");
        let mut answer = Vec::new();
        let end = timeout(Duration::from_secs(60), client.read_to_end(&mut answer)).await;
        end.expect("it ends").expect("no reset");
        assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    }

    #[tokio::test]
    async fn a_websocket_of_a_foreign_page_is_refused() {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;
        let (address, _stop, _task) = serve().await;
        let url = format!("ws://{address}/api/v1/rooms/lobby/ws");
        for (origin, welcome) in
            [("http://evil.example".to_owned(), false), (format!("http://{address}"), true)]
        {
            let mut request = url.as_str().into_client_request().expect("a request");
            request.headers_mut().insert("origin", origin.parse().expect("a value"));
            assert_eq!(connect_async(request).await.is_ok(), welcome, "{origin}");
        }
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_head_is_cut() {
        let (address, _stop, _task) = serve().await;
        let mut slow = TcpStream::connect(address).await.expect("connects");
        slow.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.expect("sends");
        let mut rest = Vec::new();
        let end = timeout(Duration::from_secs(15), slow.read_to_end(&mut rest)).await;
        end.expect("cut before 15 s").ok();
    }
}

async fn give(relay: &Router, query: &str, body: Vec<u8>) -> Answer {
    let request = Request::post(format!("/api/v1/rooms/lobby/files{query}"));
    send(relay, request.body(body.into()).expect("a request")).await
}

#[tokio::test]
async fn an_upload_is_answered_with_the_place_it_is_had_from() {
    let relay = relay();
    let given = give(&relay, "?name=..%2F..%2Fa%00b.txt&from=Ada", vec![7; (2 << 20) + 5]).await;
    assert_eq!(given.status, 201, "{}", String::from_utf8_lossy(&given.body));
    let json = given.json();
    assert_eq!((&json["name"], &json["bytes"]), (&json!("ab.txt"), &json!((2 << 20) + 5)));
    let location = given.headers[header::LOCATION].to_str().expect("text");
    assert_eq!(Some(location), json["id"].as_str().map(|id| format!("/api/v1/files/{id}")).as_deref());
    let again = give(&relay, "?name=..%2F..%2Fa%00b.txt&from=Ada", vec![7; (2 << 20) + 5]).await;
    assert_eq!(again.json()["id"], json["id"], "the same file is the same file");
    let other = give(&relay, "?name=other.txt", vec![7; (2 << 20) + 5]).await;
    assert_ne!(other.json()["id"], json["id"], "the name is part of it");
}

#[tokio::test]
async fn a_file_over_the_limit_is_413_and_its_connection_ends() {
    let relay = relay();
    let answer = give(&relay, "", vec![7; (3 << 20) + 1]).await;
    assert_eq!(answer.problem(413), "the file is too large: this relay takes 3 MiB");
    assert_eq!(answer.headers[header::CONNECTION], "close");
    assert_eq!(give(&relay, "", Vec::new()).await.status, 201, "an empty file is a file");
}

#[tokio::test]
async fn a_file_that_nobody_announced_is_404_and_junk_is_400() {
    let relay = relay();
    let answer = get(&relay, &format!("/api/v1/files/{}", "ab".repeat(32))).await;
    assert!(answer.problem(404).contains("no room has such a file"));
    get(&relay, "/api/v1/files/..%2f..%2fetc%2fpasswd").await.problem(400);
    get(&relay, "/api/v1/rooms/No%20Room/files").await.problem(400);
}

#[tokio::test]
async fn who_posts_too_fast_is_told_when_to_come_back_and_the_organizer_is_not_held_up() {
    let relay = relay();
    let from = |address: [u8; 4], path: &str| {
        let client = Client { address: address.into(), local: false };
        let request = Request::post(path.to_owned()).header(header::CONTENT_TYPE, "application/json");
        let request = request.extension(axum::extract::ConnectInfo(client));
        request.body(Body::from(r#"{"author":"Ada","text":"hello"}"#)).expect("a request")
    };
    let (chat, mut refused) = ("/api/v1/rooms/lobby/messages", Vec::new());
    for _ in 0..500 {
        let answer = send(&relay, from([10, 0, 0, 1], chat)).await;
        if answer.status != 201 {
            refused.push(answer);
        }
    }
    // 60 at once and 20 in each second that the rest took.
    assert!(refused.len() > 100, "{}", refused.len());
    for answer in &refused {
        assert_eq!(answer.headers[header::RETRY_AFTER], "1");
        assert!(answer.problem(429).contains("wait 1 s"), "{}", answer.problem(429));
    }
    assert_eq!(send(&relay, from([10, 0, 0, 2], chat)).await.status, 201);
    for _ in 0..100 {
        assert_eq!(send(&relay, from([10, 0, 0, 1], "/api/v1/announcements")).await.status, 201);
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_leaves_nothing_on_disk() {
    let (state, queue, data) = state();
    tokio::spawn(node_loop(queue));
    let disk = state.files.clone();
    let relay = router(state, Router::new(), Welcome::default());
    let upload = |path: &str, body: Body| {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        let request = Request::post(path.to_owned()).extension(axum::extract::ConnectInfo(address));
        request.body(body).expect("a request")
    };
    let own = || std::fs::read_dir(data.path().join("files/own")).expect("is there").count();
    // The record is refused, the giver has no name, the body is too long, the body breaks off.
    let answer = send(&relay, upload("/api/v1/rooms/refused/files", vec![7; 2 << 20].into())).await;
    assert_eq!(answer.status, 503);
    let nameless = "/api/v1/rooms/lobby/files?from=%E2%80%8B";
    send(&relay, upload(nameless, vec![7; 2 << 20].into())).await.problem(422);
    send(&relay, upload("/api/v1/rooms/lobby/files", vec![7; 4 << 20].into())).await.problem(413);
    let parts = [Ok(Bytes::from(vec![7; 2 << 20])), Err(std::io::Error::other("gone"))];
    let broken = Body::from_stream(futures_util::stream::iter(parts));
    send(&relay, upload("/api/v1/rooms/lobby/files", broken)).await.problem(400);
    disk.settled().await;
    let drafts = std::fs::read_dir(data.path().join("files/drafts")).expect("is there").count();
    assert_eq!((own(), drafts), (0, 0));
    let answer = send(&relay, upload("/api/v1/rooms/lobby/files", vec![7; 2 << 20].into())).await;
    assert_eq!((answer.status, own()), (201, 1));
}
