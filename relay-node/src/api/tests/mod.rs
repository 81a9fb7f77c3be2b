//! The API without a socket: routes, answers and who is told no, before a node loop that is a stand-in.

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

use super::*;
use crate::{
    client::Client,
    clock,
    node::{
        allowance::{Allowances, ChatLimits},
        files::NoChunk,
        posts::PostError,
    },
    node_loop::{
        outbox::{self, Outbox, Told},
        request::{self, Entered, FileRequest, NodeRequest},
    },
    storage::files::{FileLimits, Files},
    vitals::{Pulse, Work},
};

/// A node loop of one relay without neighbors: what the real one does for rooms, on a log in memory.
async fn node_loop(mut requests: request::RequestQueue) {
    let mut rooms = Rooms::new(zone());
    let mut participants: Vec<(RoomName, ::rooms::ParticipantId, Outbox)> = Vec::new();
    let mut allowances = Allowances::new(ChatLimits::default(), 1);
    let mut number = 0;
    let wall = WallTime(1_700_000_000_000);
    while let Some(ask) = requests.recv().await {
        match ask {
            NodeRequest::Streams { reply } => drop(reply.send(Vec::new())),
            NodeRequest::ClosedRungs { reply } => drop(reply.send(Vec::new())),
            NodeRequest::Mesh { reply } => {
                let own = node().to_string();
                drop(reply.send(api::Mesh {
                    own,
                    nodes: Vec::new(),
                    links: Vec::new(),
                    articulation_points: Vec::new(),
                    cut_links: Vec::new(),
                    bridges: Vec::new(),
                    areas: Vec::new(),
                    versions: api::VersionRange { lowest: 4, highest: 4 },
                    misfits: Vec::new(),
                    older_disk: None,
                    key_twice: None,
                    store: None,
                    held_up: Vec::new(),
                }));
            }
            NodeRequest::Post { topic, new, speaker, reply } => {
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
                    let written =
                        Written { topic: &topic, writer, incarnation: 1, number, hlc, payload: &payload };
                    rooms.handle_record(written, true, wall).expect("is readable");
                }
                let posted = accepted.map(|accepted| Posted { id: accepted.id, saved: Saved::Here });
                drop(reply.send(posted));
            }
            NodeRequest::History { topic, after, limit, reply } => {
                let after = after.as_deref();
                drop(reply.send(match topic {
                    Topic::Room(room) => rooms.history(&room, after, limit),
                    Topic::Announcements => rooms.announcements(after, limit),
                    Topic::Unknown(_) => Ok(Vec::new()),
                }));
            }
            NodeRequest::Enter { room, reply } => {
                let (sender, events) = outbox::pair();
                let participant = rooms.handle_enter(&room).expect("there is room");
                let welcome = rooms.welcome(&room);
                participants.push((room, participant, sender));
                drop(reply.send(Ok(Entered { participant, welcome, events })));
            }
            NodeRequest::Leave { room, participant } => {
                participants.retain(|(_, other, _)| *other != participant);
                rooms.handle_leave(&room, participant);
            }
            NodeRequest::File(FileRequest::Want { reply, .. }) => {
                let _ = reply.send(Err(NoChunk::Unknown));
            }
            NodeRequest::File(FileRequest::List { reply, .. }) => drop(reply.send(Vec::new())),
            NodeRequest::File(FileRequest::Manifest { reply, .. }) => drop(reply.send(None)),
            NodeRequest::File(FileRequest::Share { room, reply, .. }) if room.as_str() == "refused" => {
                drop(reply.send(Err(PostError::NotStored)));
            }
            NodeRequest::File(FileRequest::Share { new, reply, .. }) => {
                drop(reply.send(Ok(api::Posted { id: new.file.to_string(), saved: api::Saved::Mesh })));
            }
            // Sessions are tested with real peers: unanswered here.
            NodeRequest::Session { reply, .. } => drop(reply.send(None)),
            NodeRequest::Whose { reply, .. } => drop(reply.send(None)),
            NodeRequest::Open { .. }
            | NodeRequest::Patch { .. }
            | NodeRequest::End { .. }
            | NodeRequest::Wish { .. }
            | NodeRequest::Watch { .. } => {}
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

fn state() -> (ApiState, request::RequestQueue, tempfile::TempDir) {
    let (requests, queue) = request::queue();
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
        requests,
        auth,
        node: node(),
        zone: zone(),
        prefix: "".into(),
        ready,
        files,
        participants: crate::conversation::places(),
        festival: None,
        vitals: Vitals::new(clock::now(), |_| {}),
        store: Default::default(),
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
    for (path, scripts) in [
        ("/", "script-src 'self'"),
        ("/api/v1/mesh", "default-src 'none'"),
        ("/nothing", "default-src 'none'"),
    ] {
        let answer = get(&relay, path).await;
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains(scripts) && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
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
mod over_a_socket;
mod uploads;
mod wishes;

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
