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

const ID: &str = "00112233445566778899aabbccddeeff";

async fn go_on(relay: &Router, offset: usize, complete: &str, body: Body) -> Answer {
    let request = Request::patch(format!("/api/v1/uploads/{ID}"))
        .header("upload-offset", offset)
        .header("upload-complete", complete)
        .header(header::CONTENT_TYPE, "application/partial-upload");
    send(relay, request.body(body).expect("a request")).await
}

async fn begin(relay: &Router, name: &str, body: Vec<u8>) -> Answer {
    let path = format!("/api/v1/rooms/lobby/files?name={name}&from=Ada&upload={ID}");
    let request = Request::post(path).header("upload-complete", "?0").header("upload-length", (2 << 20) + 5);
    send(relay, request.body(body.into()).expect("a request")).await
}

async fn look(relay: &Router) -> Answer {
    let request = Request::head(format!("/api/v1/uploads/{ID}"));
    send(relay, request.body(Body::empty()).expect("a request")).await
}

fn header_of<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers[name].to_str().expect("text")
}

#[tokio::test]
async fn an_upload_goes_on_where_it_broke_and_is_the_same_file() {
    let relay = relay();
    let body: Vec<u8> = (0..(2 << 20) + 5).map(|at| (at % 251) as u8).collect();
    assert_eq!(look(&relay).await.status, 404);
    let begun = begin(&relay, "a.txt", body[..(1 << 20) + 100].to_vec()).await;
    assert_eq!(begun.status, 201, "{}", String::from_utf8_lossy(&begun.body));
    assert_eq!(header_of(&begun, "location"), format!("/api/v1/uploads/{ID}"));
    assert_eq!((header_of(&begun, "upload-complete"), header_of(&begun, "upload-offset")), ("?0", "1048576"));
    // It breaks off in the middle of the second chunk.
    let parts =
        [Ok(Bytes::from(body[1 << 20..(1 << 20) + 500].to_vec())), Err(std::io::Error::other("gone"))];
    let broken = Body::from_stream(futures_util::stream::iter(parts));
    go_on(&relay, 1 << 20, "?1", broken).await.problem(400);
    let so_far = look(&relay).await;
    assert_eq!((so_far.status, header_of(&so_far, "upload-offset")), (204, "1048576"));
    assert_eq!(
        (header_of(&so_far, "upload-length"), header_of(&so_far, "cache-control")),
        ("2097157", "no-store")
    );
    assert_eq!(header_of(&so_far, "upload-limit"), format!("max-size={}, max-age=86400", 3 << 20));
    // Another offset, and less than was said.
    let elsewhere = go_on(&relay, (1 << 20) + 500, "?1", body[(1 << 20) + 500..].to_vec().into()).await;
    assert_eq!(elsewhere.status, 409);
    assert_eq!(header_of(&elsewhere, "upload-offset"), "1048576");
    go_on(&relay, 1 << 20, "?1", vec![7; 9].into()).await.problem(400);
    let whole = go_on(&relay, 1 << 20, "?1", body[1 << 20..].to_vec().into()).await;
    assert_eq!(whole.status, 201, "{}", String::from_utf8_lossy(&whole.body));
    assert_eq!(header_of(&whole, "upload-complete"), "?1");
    let once = give(&relay, "?name=a.txt", body.clone()).await;
    assert_eq!(whole.json()["id"], once.json()["id"], "it is the file that it is in one piece");
    // The answer may have been lost.
    let done = look(&relay).await;
    assert_eq!((header_of(&done, "upload-complete"), header_of(&done, "upload-offset")), ("?1", "2097157"));
    assert_eq!(header_of(&done, "content-location"), header_of(&whole, "location"));
    go_on(&relay, (2 << 20) + 5, "?1", Body::empty()).await.problem(400);
    assert_eq!(begin(&relay, "a.txt", body).await.status, 409);
}

#[tokio::test]
async fn a_size_that_lies_ends_that_request_and_the_upload_stays_as_far_as_it_was() {
    let relay = relay();
    begin(&relay, "a.txt", vec![7; 1 << 20]).await;
    // More than was said, more than the relay takes, another file under the same id.
    go_on(&relay, 1 << 20, "?0", vec![7; (1 << 20) + 6].into()).await.problem(400);
    assert_eq!(begin(&relay, "b.txt", Vec::new()).await.status, 409);
    assert_eq!(header_of(&look(&relay).await, "upload-offset"), "1048576");
    let unsaid = format!("/api/v1/rooms/lobby/files?name=c&upload={}", "ab".repeat(16));
    let request = Request::post(unsaid).header("upload-complete", "?0");
    send(&relay, request.body(vec![7; (3 << 20) + 1].into()).expect("a request")).await.problem(413);
    let senseless = Request::patch(format!("/api/v1/uploads/{ID}")).header("upload-complete", "yes");
    let senseless = senseless.header(header::CONTENT_TYPE, "application/partial-upload");
    send(&relay, senseless.body(Body::empty()).expect("a request")).await.problem(400);
    let request = Request::delete(format!("/api/v1/uploads/{ID}"));
    assert_eq!(send(&relay, request.body(Body::empty()).expect("a request")).await.status, 204);
    assert_eq!(look(&relay).await.status, 404);
}
