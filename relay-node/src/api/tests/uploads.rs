//! Files over HTTP: given, fetched, refused.

use super::*;

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
