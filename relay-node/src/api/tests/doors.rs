//! The corners of HTTP in which clients differ: packed bodies, forms, proxies, ways to send a body.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::*;
use crate::api::server;

#[tokio::test]
async fn a_packed_body_is_refused_with_what_to_send() {
    let relay = relay();
    let doors = [
        ("/api/v1/rooms/lobby/messages", "application/json"),
        ("/api/v1/announcements", "application/json"),
        ("/api/v1/rooms/lobby/files?name=a", "text/plain"),
    ];
    for (path, content_type) in doors {
        for coding in ["gzip", "GZIP", "br", "identity, deflate", "zstd", "x-unknown"] {
            let request = Request::post(path)
                .header(header::CONTENT_TYPE, content_type)
                .header(header::CONTENT_ENCODING, coding);
            let answer = send(&relay, request.body("{}".into()).expect("a request")).await;
            let title = answer.problem(415);
            assert!(title.contains("without `Content-Encoding"), "{path} {coding}: {title}");
            assert_eq!(answer.headers[header::ACCEPT_ENCODING], "identity", "{path}");
        }
        let body = json!({ "author": "Ada", "text": path }).to_string();
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONTENT_ENCODING, "identity");
        assert_eq!(send(&relay, request.body(body.into()).expect("a request")).await.status, 201, "{path}");
    }
}

#[tokio::test]
async fn a_form_around_a_file_is_refused_and_leaves_nothing() {
    let (state, queue, data) = state();
    tokio::spawn(node_loop(queue));
    let relay = router(state, Router::new(), Welcome::default());
    for content_type in ["multipart/form-data; boundary=x", "Multipart/Mixed", " multipart/related"] {
        let request =
            Request::post("/api/v1/rooms/lobby/files?name=a").header(header::CONTENT_TYPE, content_type);
        let body = "--x\r\ncontent-disposition: form-data; name=f\r\n\r\nbytes\r\n--x--\r\n";
        let title = send(&relay, request.body(body.into()).expect("a request")).await.problem(415);
        assert!(title.contains("curl -T"), "{title}");
    }
    let mut all = vec![data.path().to_owned()];
    while let Some(directory) = all.pop() {
        for entry in std::fs::read_dir(directory).expect("reads") {
            let entry = entry.expect("an entry");
            match entry.path().is_dir() {
                true => all.push(entry.path()),
                false => assert_eq!(entry.metadata().expect("metadata").len(), 0, "{:?}", entry.path()),
            }
        }
    }
}

#[tokio::test]
async fn below_the_path_of_a_proxy_everything_is_where_it_is_without_it() {
    let (mut state, queue, data) = state();
    state.prefix = "/live/stage".into();
    tokio::spawn(async move {
        node_loop(queue).await;
        drop(data);
    });
    let sessions = Router::new().route("/whip/{*stream}", post(|| async { "a session" }));
    let relay = router(state, sessions, Welcome::default());
    for prefix in ["", "/live/stage"] {
        for path in ["/", "/publish", "/organizer", "/livez", "/version", "/api/v1/streams"] {
            assert_eq!(get(&relay, &format!("{prefix}{path}")).await.status, 200, "{prefix}{path}");
        }
        let say = Request::post(format!("{prefix}/api/v1/rooms/lobby/messages"));
        let say = say.header(header::CONTENT_TYPE, "application/json");
        let body = json!({ "author": "Ada", "text": "hi" }).to_string();
        assert_eq!(send(&relay, say.body(body.into()).expect("a request")).await.status, 201, "{prefix}");
        let publish = Request::post(format!("{prefix}/whip/a/b")).body(Body::empty()).expect("a request");
        assert_eq!(send(&relay, publish).await.body, "a session", "{prefix}");
        get(&relay, &format!("{prefix}/nothing")).await.problem(404);
        for (page, at) in [("/publish/", "../publish"), ("/organizer/", "../organizer")] {
            let answer = get(&relay, &format!("{prefix}{page}")).await;
            assert_eq!((answer.status, answer.headers[header::LOCATION].as_bytes()), (308, at.as_bytes()));
        }
    }
    let answer = get(&relay, "/live/stage").await;
    assert_eq!((answer.status, answer.headers[header::LOCATION].as_bytes()), (308, &b"/live/stage/"[..]));
    get(&relay, "/live/stagehand").await.problem(404);
    get(&relay, "/live").await.problem(404);
}

#[tokio::test]
async fn a_body_may_come_in_every_way_that_http_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (_stop, stopped) = watch::channel(false);
    let bounds = server::Bounds::default();
    let proxies = crate::client::Proxies::default();
    tokio::spawn(server::serve(listener, relay(), proxies, bounds.places(), bounds, stopped));
    let body = json!({ "author": "Ada", "text": "is the bar open?" }).to_string();
    let (half, rest) = body.split_at(9);
    let head = format!(
        "POST /api/v1/rooms/lobby/messages HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
    );
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunked = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n{:x};name=value\r\n{rest}\r\n0\r\n\r\n",
        half.len(),
        rest.len()
    );
    let expects = format!("{length}Expect: 100-continue\r\n\r\n");
    let ways = [
        ("at once", format!("{head}{length}\r\n{body}"), ""),
        ("in chunks", format!("{head}{chunked}"), ""),
        ("after 100 Continue", format!("{head}{expects}"), &*body),
        ("as HTTP/1.0", format!("{head}{length}\r\n{body}").replace("HTTP/1.1", "HTTP/1.0"), ""),
    ];
    for (how, first, then) in ways {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(first.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        if !then.is_empty() {
            read_until(&mut stream, &mut answer, "HTTP/1.1 100 Continue").await;
            stream.write_all(then.as_bytes()).await.expect("writes");
        }
        read_until(&mut stream, &mut answer, " 201 Created").await;
        assert!(answer.starts_with("HTTP/1."), "{how}: {answer}");
    }
}

async fn read_until(stream: &mut TcpStream, answer: &mut String, word: &str) {
    while !answer.contains(word) {
        let mut some = [0; 1024];
        let read = timeout(Duration::from_secs(5), stream.read(&mut some)).await;
        let read = read.expect("in time").expect("reads");
        assert_ne!(read, 0, "no {word} in {answer}");
        answer.push_str(&String::from_utf8_lossy(&some[..read]));
    }
}
