//! Files in real relays: given at one end of a chain, had at the other, through kills and full disks.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use protocol::api::{SharedFile, Uploaded};
use rand::RngExt;
use reqwest::{Client, StatusCode};
use tests::{Api, Festival, Listener, Publisher, Setup, now, pause, until};

const SOON: Duration = Duration::from_secs(15);

fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(90)).build().unwrap()
}

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

async fn give(api: &Api, name: &str, body: &[u8]) -> Uploaded {
    api.give("lobby", name, body).await.unwrap()
}

async fn files(api: &Api) -> Vec<SharedFile> {
    api.files("lobby").await.unwrap()
}

async fn listed(api: &Api, id: &str) -> SharedFile {
    let what = "the file is announced";
    until(what, SOON, || async { Ok(files(api).await.into_iter().find(|file| file.id == id)) }).await.unwrap()
}

#[tokio::test]
async fn a_file_given_at_one_end_is_had_at_the_other_by_ranges() {
    let festival = Festival::chain(3).await.unwrap();
    let [a, b, c] = &festival.relays[..] else { unreachable!("three were asked for") };
    let body = bytes((5 << 20) + 3);
    let id = give(&a.api(), "../lineup \u{202e}2026.pdf", &body).await.id;
    let shown = listed(&c.api(), &id).await;
    assert_eq!((&*shown.name, &*shown.from, &*shown.zone), ("lineup 2026.pdf", "Ada", "zone-a"));
    assert_eq!((shown.bytes, shown.here), (body.len() as u64, 0));

    let url = c.api().url(&format!("/api/v1/files/{id}"));
    let get = |range: &str| client().get(&url).header("range", range.to_owned()).send();
    let part = get("bytes=3000000-3000009").await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], format!("bytes 3000000-3000009/{}", body.len()));
    assert_eq!(part.bytes().await.unwrap(), body[3_000_000..3_000_010]);
    assert!(listed(&c.api(), &id).await.here <= 2 << 20, "no more came than was asked for");

    let began = now();
    let whole = client().get(&url).send().await.unwrap();
    assert_eq!(whole.status(), StatusCode::OK);
    let headers = whole.headers().clone();
    assert_eq!(headers["etag"], format!("\"{id}\""));
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["content-type"], "application/pdf");
    let disposition = headers["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment; filename=\"lineup 2026.pdf\""), "{disposition}");
    assert!(whole.bytes().await.unwrap() == body, "other bytes");
    println!("5 MiB over two hops after {:?}", began.elapsed());
    assert_eq!(listed(&c.api(), &id).await.here, body.len() as u64);

    // What is here now, and at the relay on the way, crosses no wire again.
    let before = festival.crossed();
    for relay in [b, c] {
        let url = relay.api().url(&format!("/api/v1/files/{id}"));
        assert!(client().get(&url).send().await.unwrap().bytes().await.unwrap() == body, "other bytes");
    }
    for ((pair, (there, back)), (was_there, was_back)) in
        festival.crossed().into_iter().zip(before.into_values())
    {
        let more = there.bytes + back.bytes - was_there.bytes - was_back.bytes;
        println!("{pair:?}: {more} bytes more");
        assert!(more < 200_000, "{pair:?}: {more} bytes");
    }

    assert_eq!(get("bytes=-5").await.unwrap().bytes().await.unwrap(), body[body.len() - 5..]);
    let outside = get(&format!("bytes={}-", body.len())).await.unwrap();
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(outside.headers()["content-range"], format!("bytes */{}", body.len()));
    let head = client().head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], body.len().to_string());
    let (own, full, not_modified) = (format!("\"{id}\""), StatusCode::OK, StatusCode::NOT_MODIFIED);
    for (name, value, status) in [
        ("if-none-match", own.clone(), not_modified),
        ("if-none-match", format!("\"x, y\", {own}"), not_modified),
        ("if-none-match", format!("W/{own}, \"x\""), not_modified),
        ("if-none-match", "*".to_owned(), not_modified),
        ("if-none-match", "\"x\", W/\"y\"".to_owned(), full),
        ("if-match", format!("\"x\" , {own}"), full),
        ("if-match", "*".to_owned(), full),
        ("if-match", format!("W/{own}"), StatusCode::PRECONDITION_FAILED),
        ("if-match", "\"x\"".to_owned(), StatusCode::PRECONDITION_FAILED),
    ] {
        let answer = client().head(&url).header(name, &value).send().await.unwrap();
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
    let stale = client().get(&url).header("range", "bytes=0-1").header("if-range", "\"other\"");
    assert_eq!(stale.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_download_goes_on_when_the_relay_on_the_way_is_back() {
    let mut festival = Festival::chain(3).await.unwrap();
    let body = bytes(40 << 20);
    let id = give(&festival.relays[0].api(), "set.flac", &body).await.id;
    let c = festival.relays[2].api();
    listed(&c, &id).await;
    let mut download = client().get(c.url(&format!("/api/v1/files/{id}"))).send().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 4 << 20 {
        got.extend_from_slice(&download.chunk().await.unwrap().expect("there is more"));
    }
    festival.relays[1].kill().unwrap();
    let here = files(&c).await[0].here;
    assert!(here < body.len() as u64, "it was all there before the kill");
    let began = now();
    festival.relays[1].restart().await.unwrap();
    while let Some(chunk) = download.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    println!("{here} bytes were there at the kill; all of it {:?} after", began.elapsed());
    assert!(got == body, "other bytes");
}

#[tokio::test]
async fn a_file_is_there_after_a_restart_of_who_took_it() {
    let mut relay = Setup::zone("stage").start().await.unwrap();
    let body = bytes(1 << 20);
    let id = give(&relay.api(), "a", &body).await.id;
    relay.restart().await.unwrap();
    let file = listed(&relay.api(), &id).await;
    assert_eq!(file.here, body.len() as u64);
    let url = relay.api().url(&format!("/api/v1/files/{id}"));
    assert!(client().get(url).send().await.unwrap().bytes().await.unwrap() == body, "other bytes");
}

#[tokio::test]
async fn a_full_disk_refuses_files_and_leaves_media_and_chat_alone() {
    let relay = Setup::zone("stage").argument("--file-reserve").argument("1073741824").start().await.unwrap();
    let api = relay.api();
    let _publisher = Publisher::tone(&relay, "main-stage", 440).unwrap();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let listener = Listener::start(&relay, "main-stage", 5).unwrap();
    pause(Duration::from_secs(1)).await;
    for _ in 0..20 {
        let answer =
            api.send("POST", "/api/v1/rooms/lobby/files?name=a", &[], vec![1; 1 << 20]).await.unwrap();
        assert_eq!(answer.status, StatusCode::INSUFFICIENT_STORAGE);
        assert!(answer.problem().unwrap().title.contains("disk is full"));
    }
    let small = api.send("POST", "/api/v1/rooms/lobby/files?name=a", &[], "x").await.unwrap();
    assert_eq!(small.status, StatusCode::INSUFFICIENT_STORAGE);
    api.say("lobby", "Ada", "still here").await.unwrap();
    assert!(files(&api).await.is_empty());
    let report = listener.report().await.unwrap();
    report.heard(440).unwrap();
    assert_eq!(report.lost, 0, "{report:?}");
    until("no draft of what was refused is left", SOON, || async {
        let drafts = std::fs::read_dir(relay.data().join("files/drafts")).unwrap();
        Ok((drafts.count() == 0).then_some(()))
    })
    .await
    .unwrap();
}

/// A disk of 32 MiB of its own for one relay.
const OWN_DISK: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    // $0 is the relay, $4 what follows --data.
    r#"mount -t tmpfs -o size=32m none "$4" && exec "$0" "$@""#,
];

#[tokio::test]
async fn a_disk_that_somebody_else_fills_loses_no_word() {
    if !std::process::Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|s| s.success()) {
        println!("skipped: no mount namespace can be had here");
        return;
    }
    let festival = Festival::chain(1).await.unwrap();
    let other = &festival.relays[0];
    // One who fills a disk with words is told to wait, otherwise.
    let setup = Setup::zone("tent").peer(other.bridge()).within(&OWN_DISK);
    let setup = setup.argument("--chat-address-rate").argument("0");
    let relay = setup.start().await.unwrap();
    let api = relay.api();
    api.say("lobby", "Ada", "before").await.unwrap();
    let _publisher = Publisher::tone(&relay, "main-stage", 440).unwrap();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let listener = Listener::start(&relay, "main-stage", 8).unwrap();

    // Not by the relay's own doors: those leave room for chat.
    let filler = relay.inside(&relay.data().join("films"));
    let full = std::fs::write(&filler, vec![0; 40 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let answer = api.send("POST", "/api/v1/rooms/lobby/files?name=a", &[], "x").await.unwrap();
    assert_eq!(answer.status, StatusCode::INSUFFICIENT_STORAGE);
    // The file of the log has some room inside; then there is none.
    let say = async |text: &str| {
        let body = serde_json::json!({ "author": "Ada", "text": text }).to_string();
        let json = [("content-type", "application/json")];
        api.send("POST", "/api/v1/rooms/lobby/messages", &json, body).await
    };
    let mut refused = 0;
    for at in 0..2000 {
        let answer = say(&format!("{at} {}", "x".repeat(3000))).await.unwrap();
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.problem().unwrap().title.contains("could not be stored"), "{answer:?}");
            refused += 1;
            if refused == 3 {
                break;
            }
        } else {
            assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        }
    }
    assert_eq!(refused, 3, "the disk was never full");
    let shown = api.history("lobby").await.unwrap();
    let heard = other.api();
    until("the other relay has what this one could not store", SOON, || async {
        Ok((heard.history("lobby").await?.len() == shown.len()).then_some(()))
    })
    .await
    .unwrap();
    let report = listener.report().await.unwrap();
    report.heard(440).unwrap();
    assert_eq!(report.lost, 0, "{report:?}");

    std::fs::remove_file(&filler).unwrap();
    until("the disk takes what is said", SOON, || async {
        Ok((say("after").await?.status == StatusCode::CREATED).then_some(()))
    })
    .await
    .unwrap();
    let log = relay.log();
    assert!(log.contains("the disk takes the log again"), "{log}");
    // Everything, what was refused too, is on the disk: it is there when it is opened again.
    let shown = api.history("lobby").await.unwrap();
    drop(festival);
    let data = tempfile::TempDir::new().unwrap();
    let log = relay.inside(&relay.data().join("relay.redb"));
    std::fs::copy(log, data.path().join("relay.redb")).unwrap();
    let again = Setup::zone("tent").start_in(data).await.unwrap();
    // It is another relay that reads it, so it cannot say of which zone the one was that wrote it.
    let read = |history: Vec<protocol::api::Message>| -> Vec<_> {
        history.into_iter().map(|message| (message.id, message.text, message.zone, message.sent_at)).collect()
    };
    assert_eq!(read(again.api().history("lobby").await.unwrap()), read(shown));
}

#[tokio::test]
async fn bad_15_the_name_of_a_file_is_never_a_path() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let long = format!("{}.txt", "x".repeat(4096));
    for (given, shown) in [
        ("..", "file"),
        ("../../../../etc/cron.d/evil", "evil"),
        ("a\0b.txt", "ab.txt"),
        ("gpj\u{202e}exe.txt", "gpjexe.txt"),
        ("C:\\Windows\\win.ini", "win.ini"),
        (long.as_str(), "…"),
    ] {
        let uploaded = give(&relay.api(), given, given.as_bytes()).await;
        if shown == "…" {
            assert!(uploaded.name.ends_with("x.txt") && uploaded.name.len() == 120, "{}", uploaded.name);
        } else {
            assert_eq!(uploaded.name, shown);
        }
        let path = relay.data().join("files/own").join(&uploaded.id);
        let names = || {
            let files = std::fs::read_dir(&path).unwrap();
            let mut names: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        // The marker of what is not announced goes after the answer.
        until("what is on disk has names of ours alone", SOON, || async {
            let names = names();
            assert!(
                names.iter().all(|name| ["0", "manifest", "unannounced"].contains(&name.as_str())),
                "{names:?}"
            );
            Ok((names == ["0", "manifest"]).then_some(()))
        })
        .await
        .unwrap();
        let url = relay.api().url(&format!("/api/v1/files/{}", uploaded.id));
        let got = client().get(url).send().await.unwrap();
        let disposition = got.headers()["content-disposition"].to_str().unwrap().to_owned();
        assert!(!disposition.contains("..") && !disposition.contains('/'), "{disposition}");
    }
    let kinds = relay.api().send("GET", "/api/v1/files/%2e%2e%2f", &[], "").await.unwrap();
    assert_eq!(kinds.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn giving_files_needs_the_token_that_publishing_needs() {
    let relay = Setup::zone("stage")
        .closed()
        .argument("--publish-token")
        .argument("correct-horse")
        .start()
        .await
        .unwrap();
    let path = "/api/v1/rooms/lobby/files?name=a.txt";
    for (header, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("Bearer wrong-horse"), StatusCode::FORBIDDEN),
        (Some("Bearer correct-horse"), StatusCode::CREATED),
    ] {
        let headers: Vec<_> = header.into_iter().map(|value| ("authorization", value)).collect();
        let answer = relay.api().send("PUT", path, &headers, "x").await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

#[tokio::test]
async fn an_upload_goes_on_after_its_relay_was_killed() {
    let mut relay = Setup::zone("stage").start().await.unwrap();
    let body = bytes((3 << 20) + 77);
    let id = "5a".repeat(16);
    let length = body.len().to_string();
    let begin = format!("/api/v1/rooms/lobby/files?name=film.bin&from=Ada&upload={id}");
    let headers = [("upload-complete", "?0"), ("upload-length", &*length)];
    let begun = relay.api().send("POST", &begin, &headers, &body[..(1 << 20) + 9]).await.unwrap();
    assert_eq!(begun.status, StatusCode::CREATED);
    let upload = format!("/api/v1/uploads/{id}");
    for kill in 0..3 {
        relay.kill().unwrap();
        relay.restart().await.unwrap();
        let so_far = relay.api().send("HEAD", &upload, &[], "").await.unwrap();
        let offset: usize = so_far.header("upload-offset").parse().unwrap();
        // Each round sent a chunk and 9 bytes more: those are sent again.
        assert_eq!(offset, (kill + 1) << 20, "what was whole is kept");
        let end = if kill == 2 { body.len() } else { ((kill + 2) << 20) + 9 };
        let from = offset.to_string();
        let headers = [
            ("upload-offset", &*from),
            ("upload-complete", if kill == 2 { "?1" } else { "?0" }),
            ("content-type", "application/partial-upload"),
        ];
        let sent = relay.api().send("PATCH", &upload, &headers, &body[offset..end]).await.unwrap();
        assert_eq!(sent.status.as_u16(), if kill == 2 { 201 } else { 204 }, "{}", sent.body);
    }
    let shared = files(&relay.api()).await;
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert_eq!(relay.api().file(&shared[0].id).await.unwrap(), body);
    relay.kill().unwrap();
    relay.restart().await.unwrap();
    let done = relay.api().send("HEAD", &upload, &[], "").await.unwrap();
    assert_eq!(done.header("upload-complete"), "?1");
    assert_eq!(done.header("content-location"), format!("/api/v1/files/{}", shared[0].id));
}
