//! What needs a real connection: WebSockets, bodies that end early, and who gives way where all places are taken.

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
        tokio::spawn(server::serve(listener, relay(), Proxies::default(), bounds.places(), bounds, stopped)),
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
    if client.write_all(request.as_bytes()).await.is_err() || client.read_to_end(&mut answer).await.is_err() {
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
    for (origin, welcome) in [("http://evil.example".to_owned(), false), (format!("http://{address}"), true)]
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
