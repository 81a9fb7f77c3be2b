//! Bad input over HTTP: each gives a clear error, as a problem in due form, and hurts nobody else.
//! The numbers are those of the list of bad input that every release is tried with.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use tests::{Answer, Listener, Offer, Publisher, Relay, Setup, now, until};

const SDP: (&str, &str) = ("content-type", "application/sdp");
const JSON: (&str, &str) = ("content-type", "application/json");
const SOON: Duration = Duration::from_secs(10);

async fn relay() -> Relay {
    Setup::zone("stage").start().await.unwrap()
}

/// A relay with a stream that is published, for WHEP.
async fn playing() -> (Relay, Publisher) {
    let relay = relay().await;
    let publisher = Publisher::tone(&relay, "main-stage", 440).unwrap();
    let api = relay.api();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    (relay, publisher)
}

fn refused(what: &str, answer: &Answer, allowed: &[u16]) {
    let title = answer.problem().unwrap_or_else(|error| panic!("{what}: {error:#}")).title;
    println!("{what}: {} {title}", answer.status.as_u16());
    assert!(allowed.contains(&answer.status.as_u16()), "{what}: {answer:?}");
}

#[tokio::test]
async fn bad_3_a_body_too_large_is_413_at_once() {
    let relay = relay().await;
    let api = relay.api();
    let body = vec![b'v'; (1 << 20) + 1];
    for (path, kind) in
        [("/whip/main-stage", SDP), ("/whep/main-stage", SDP), ("/api/v1/rooms/lobby/messages", JSON)]
    {
        // The fastest of ten: other work on the machine only adds to it.
        let mut fastest = Duration::MAX;
        for _ in 0..10 {
            // A first request, so that the connection is there and only the answer is timed.
            api.get("/livez").await.unwrap();
            let began = now();
            let answer = api.send("POST", path, &[kind], body.clone()).await.unwrap();
            fastest = fastest.min(began.elapsed());
            refused(path, &answer, &[413]);
        }
        println!("{path}: answered after {fastest:?}");
        assert!(fastest < Duration::from_millis(50), "{path} took {fastest:?}");
    }
}

#[tokio::test]
async fn bad_4_a_wrong_content_type_is_415_and_parameters_are_fine() {
    let relay = relay().await;
    let api = relay.api();
    let offer = Offer::default().text();
    for kind in ["application/json", "text/plain", "application/sdpfrag", ""] {
        let answer =
            api.send("POST", "/whip/main-stage", &[("content-type", kind)], offer.clone()).await.unwrap();
        refused(&format!("content type {kind:?}"), &answer, &[415]);
    }
    let answer = api.send("POST", "/whip/main-stage", &[], offer.clone()).await.unwrap();
    refused("no content type", &answer, &[415]);
    for kind in ["application/sdp; charset=utf-8", "Application/SDP;charset=UTF-8"] {
        let answer =
            api.send("POST", "/whip/main-stage", &[("content-type", kind)], offer.clone()).await.unwrap();
        assert_eq!(answer.status.as_u16(), 201, "{kind}: {answer:?}");
        let location = answer.header("location").to_owned();
        assert!(location.starts_with("/whip/"), "Location is {location:?}");
        assert_eq!(api.send("DELETE", &location, &[], "").await.unwrap().status.as_u16(), 200);
    }
    let answer = api
        .send("POST", "/api/v1/rooms/lobby/messages", &[("content-type", "text/plain")], "{}")
        .await
        .unwrap();
    refused("chat as text/plain", &answer, &[415]);
    let kind = ("content-type", "application/json; charset=utf-8");
    let body = r#"{"author":"Ada","text":"hello"}"#;
    assert_eq!(
        api.send("POST", "/api/v1/rooms/lobby/messages", &[kind], body).await.unwrap().status.as_u16(),
        201
    );
}

#[tokio::test]
async fn bad_5_an_offer_that_lacks_what_is_needed_is_refused_and_says_what() {
    let (relay, _publisher) = playing().await;
    let api = relay.api();
    let offers = [
        ("no fingerprint", Offer::default().without("a=fingerprint"), "fingerprint"),
        ("no ufrag", Offer::default().without("a=ice-ufrag"), "ice-ufrag"),
        ("no pwd", Offer::default().without("a=ice-pwd"), "ice-pwd"),
        ("no bundle", Offer::default().and_video("1").without("a=group"), "BUNDLE"),
        ("no rtcp-mux", Offer::default().without("a=rtcp-mux"), "rtcp-mux"),
        ("no codec", Offer::default().with("a=rtpmap", "a=rtpmap:111 speex/32000"), "opus"),
        ("plain RTP", Offer::default().with("m=", "m=audio 9 RTP/AVP 111"), ""),
        ("not an offer", Offer::default().without(""), ""),
    ];
    for (what, offer, word) in offers {
        for path in ["/whip/other", "/whep/main-stage"] {
            let answer = api.offer(path, &offer.text()).await.unwrap();
            let plays_nothing = what == "no codec" && path.starts_with("/whep");
            let allowed: &[u16] = if plays_nothing { &[406] } else { &[400, 422] };
            refused(&format!("{what} at {path}"), &answer, allowed);
            assert!(
                answer.body.contains(word),
                "{what}: it is not said that {word} is missing: {}",
                answer.body
            );
        }
    }
    for garbage in [
        "",
        "v=0",
        "hello",
        "v=0\r\nm=",
        "\0\0\0",
        "v=0\r\no=- 1 1 IN IP4 0\r\ns=-\r\nt=0 0\r\nm=audio x y z\r\n",
    ] {
        refused(&format!("{garbage:?}"), &api.offer("/whip/other", garbage).await.unwrap(), &[400, 422]);
    }
    let answer = api.send("POST", "/whip/other", &[SDP], vec![0xff, 0xfe, 0x80]).await.unwrap();
    refused("not UTF-8", &answer, &[400, 422]);
}

#[tokio::test]
async fn bad_6_two_hundred_sections_are_refused_soon() {
    let (relay, _publisher) = playing().await;
    let full = (1..200).fold(Offer::default(), |offer, mid| offer.and_section(&mid.to_string()));
    let short = (1..200).fold(Offer::default(), |offer, mid| {
        offer.and("m=audio 0 UDP/TLS/RTP/SAVPF 111").and("c=IN IP4 0.0.0.0").and(&format!("a=mid:{mid}"))
    });
    // The full one is larger than a body may be; the short one is refused for its sections.
    for (offer, allowed) in [(full, vec![400, 413, 422]), (short, vec![400, 422])] {
        for path in ["/whip/other", "/whep/main-stage"] {
            let mut fastest = Duration::MAX;
            for _ in 0..5 {
                let began = now();
                refused(path, &relay.api().offer(path, &offer.text()).await.unwrap(), &allowed);
                fastest = fastest.min(began.elapsed());
            }
            assert!(fastest < Duration::from_millis(100), "{path} took {fastest:?}");
        }
    }
}

#[tokio::test]
async fn bad_7_two_audio_tracks_are_422_in_whip() {
    let relay = relay().await;
    refused(
        "two audio tracks",
        &relay.api().offer("/whip/other", &Offer::default().and_section("1").text()).await.unwrap(),
        &[422],
    );
    refused(
        "a player's offer",
        &relay
            .api()
            .offer("/whip/other", &Offer::default().with("a=sendrecv", "a=recvonly").text())
            .await
            .unwrap(),
        &[400, 422],
    );
    assert!(relay.api().streams().await.unwrap().is_empty());
}

#[tokio::test]
async fn bad_8_every_setup_role_gets_its_counterpart() {
    let relay = relay().await;
    for (setup, answers) in
        [("actpass", vec!["active", "passive"]), ("active", vec!["passive"]), ("passive", vec!["active"])]
    {
        let offer = Offer::default().with("a=setup", &format!("a=setup:{setup}"));
        let answer = relay.api().offer("/whip/main-stage", &offer.text()).await.unwrap();
        assert_eq!(answer.status.as_u16(), 201, "{setup}: {answer:?}");
        let ours = answer.body.lines().find_map(|line| line.strip_prefix("a=setup:")).unwrap();
        assert!(answers.contains(&ours), "{setup} was answered by {ours}");
        assert_eq!(
            relay.api().send("DELETE", answer.header("location"), &[], "").await.unwrap().status.as_u16(),
            200
        );
    }
    let answer = relay
        .api()
        .offer("/whip/main-stage", &Offer::default().with("a=setup", "a=setup:holdconn").text())
        .await
        .unwrap();
    refused("holdconn", &answer, &[400, 422]);
}

#[tokio::test]
async fn bad_11_strange_candidates_are_taken_and_not_called() {
    let relay = relay().await;
    let offer = Offer::default()
        .and("a=candidate:1 1 udp 2122260223 4f1c4a7e-2f7b-4a3b-9d55-aa.local 50000 typ host generation 0")
        .and("a=candidate:2 1 udp 2122260222 fe80::1ff:fe23:4567:890a 50001 typ host")
        .and("a=candidate:3 1 udp 2122260221 2001:db8::1 50002 typ host")
        .and("a=candidate:4 1 tcp 1518280447 10.0.0.1 9 typ host tcptype active")
        .and("a=candidate:5 1 udp 2122260220 255.255.255.255 50003 typ host")
        .and("a=candidate:6 1 udp 2122260219 127.0.0.1 0 typ host")
        .and("a=candidate:7 1 udp 2122260218 224.0.0.1 50004 typ host");
    let answer = relay.api().offer("/whip/main-stage", &offer.text()).await.unwrap();
    assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
    for line in [
        "a=candidate:",
        "a=candidate:1",
        "a=candidate:1 1 udp x 1.2.3.4 5 typ host",
        "a=candidate:1 1 udp 1 1.2.3.4 99999 typ host",
        "a=candidate:1 1 udp 99999999999999999999 1.2.3.4 5 typ host",
    ] {
        let answer = relay.api().offer("/whip/other", &Offer::default().and(line).text()).await.unwrap();
        assert!([201, 400, 422].contains(&answer.status.as_u16()), "{line}: {answer:?}");
    }
    assert!(relay.api().ready().await.unwrap());
}

#[tokio::test]
async fn bad_16_chat_is_text_whatever_is_in_it() {
    let relay = relay().await;
    let api = relay.api();
    let texts = [
        "<script>alert(1)</script><img src=x onerror=alert(1)>",
        "zero\u{200b}width and \u{202e}backwards",
        "emoji 👩‍🚀 and 日本語 and \u{0301}combining",
        "\"quotes\" \\backslashes\\ {json: true}",
    ];
    for text in texts {
        api.say("lobby", "Ada", text).await.unwrap();
    }
    let read: Vec<_> = api.history("lobby").await.unwrap().into_iter().map(|message| message.text).collect();
    assert_eq!(read, texts);

    let path = "/api/v1/rooms/lobby/messages";
    let post = |body: Vec<u8>| async { api.send("POST", path, &[JSON], body).await.unwrap() };
    let said = |author: &str, text: &str| {
        serde_json::json!({ "author": author, "text": text }).to_string().into_bytes()
    };
    refused("64 kB of text", &post(said("Ada", &"x".repeat(65_536))).await, &[400, 413, 422]);
    refused("4001 characters", &post(said("Ada", &"ä".repeat(4001))).await, &[400, 413, 422]);
    refused("no text", &post(said("Ada", "")).await, &[400, 422]);
    refused("no author", &post(said("", "x")).await, &[400, 422]);
    refused("a long author", &post(said(&"x".repeat(65), "x")).await, &[400, 422]);
    refused("control characters", &post(said("Ada", "bell \u{7}")).await, &[400, 422]);
    refused(
        "invalid UTF-8",
        &post(b"{\"author\":\"Ada\",\"text\":\"\xff\xfe\"}".to_vec()).await,
        &[400, 422],
    );
    refused("not JSON", &post(b"hello".to_vec()).await, &[400, 422]);
    refused(
        "an unknown field",
        &post(br#"{"author":"Ada","text":"x","role":"admin"}"#.to_vec()).await,
        &[400, 422],
    );
    refused("deep JSON", &post("[".repeat(50_000).into_bytes()).await, &[400, 422]);
    for room in ["Lobby", "a%20b", "..", &"x".repeat(65), "%00"] {
        let answer = api
            .send("POST", &format!("/api/v1/rooms/{room}/messages"), &[JSON], said("Ada", "x"))
            .await
            .unwrap();
        refused(&format!("room {room:?}"), &answer, &[400, 404, 422]);
    }
    assert_eq!(api.history("lobby").await.unwrap().len(), texts.len(), "something refused was stored");

    let page = api.get("/").await.unwrap();
    let policy = page.header("content-security-policy");
    println!("content-security-policy: {policy}");
    assert!(
        policy.contains("default-src 'self'")
            && !policy.contains("'unsafe-inline'")
            && !policy.contains("'unsafe-eval'")
    );
    assert_eq!(page.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn names_of_streams_are_checked() {
    let relay = relay().await;
    for name in ["Main", "a_b", "a/b/c/d", "a//b", &"x".repeat(65), "a%00b", "ä"] {
        for door in ["whip", "whep"] {
            let answer =
                relay.api().offer(&format!("/{door}/{name}"), &Offer::default().text()).await.unwrap();
            refused(&format!("/{door}/{name}"), &answer, &[400, 404, 422]);
        }
    }
}

#[tokio::test]
async fn whip_and_whep_behave_as_their_documents_say() {
    let (relay, _publisher) = playing().await;
    let api = relay.api();

    // WHEP while nobody publishes.
    let player =
        Offer::default().with("a=sendrecv", "a=recvonly").without("a=msid:").without("a=ssrc").text();
    let answer = api.offer("/whep/nobody", &player).await.unwrap();
    refused("nobody publishes", &answer, &[409]);
    assert!(
        answer.header("retry-after").parse::<u32>().is_ok(),
        "Retry-After is {:?}",
        answer.header("retry-after")
    );

    for (door, offer) in [("/whip/second", Offer::default().text()), ("/whep/main-stage", player.clone())] {
        let preflight = [
            ("origin", "http://elsewhere"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type, authorization"),
        ];
        let answer = api.send("OPTIONS", door, &preflight, "").await.unwrap();
        assert!(answer.status.is_success(), "{answer:?}");
        assert!(answer.header("access-control-allow-methods").contains("POST"), "{answer:?}");
        assert!(answer.header("accept-post").contains("application/sdp"), "{answer:?}");
        assert_eq!(answer.header("link"), "", "credentials for TURN do not belong on a preflight");

        let answer = api.send("POST", door, &[SDP, ("origin", "http://elsewhere")], offer).await.unwrap();
        assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
        assert!(answer.header("content-type").starts_with("application/sdp"));
        assert!(answer.body.contains("a=candidate:"), "the answer has all candidates: {}", answer.body);
        assert!(
            answer.body.contains("a=ice-lite") && answer.body.contains("a=fingerprint:sha-256"),
            "{}",
            answer.body
        );
        let (location, tag) = (answer.header("location").to_owned(), answer.header("etag").to_owned());
        assert!(
            location.starts_with(&door[..5]) && location.len() >= 22 + door.len(),
            "unguessable, absolute path: {location}"
        );
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "a strong ETag: {tag}");
        let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
        assert!(exposed.contains("location") && exposed.contains("etag"), "{exposed}");

        const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");
        let ufrag = "a=ice-ufrag:Zq3x\r\na=ice-pwd:pY9mQ7cS1hT2vB4nK6jL8dFw\r\n";
        let trickle = format!(
            "{ufrag}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 2122260223 127.0.0.1 50000 typ host\r\n"
        );
        let patch = async |tag: Option<&str>, kind: (&str, &str), body: &str| {
            let mut headers = vec![kind];
            headers.extend(tag.map(|tag| ("if-match", tag)));
            api.send("PATCH", &location, &headers, body.to_owned()).await.unwrap()
        };
        refused("PATCH without If-Match", &patch(None, FRAGMENT, &trickle).await, &[428]);
        refused("PATCH of another session", &patch(Some("\"other\""), FRAGMENT, &trickle).await, &[412]);
        refused("PATCH of another type", &patch(Some(&tag), SDP, &trickle).await, &[415]);
        refused("a weak tag", &patch(Some(&format!("W/{tag}")), FRAGMENT, &trickle).await, &[412]);
        for tags in
            [tag.clone(), format!("\"x, y\", {tag}"), format!("{tag},\"x\""), format!("W/{tag} , {tag}")]
        {
            let answer = patch(Some(&tags), FRAGMENT, &trickle).await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (204, ""), "{tags}: {answer:?}");
        }
        let link = answer.header("link").to_owned();
        let status =
            link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"status\"")).expect(&link);
        let session: serde_json::Value = serde_json::from_str(&api.get(status).await.unwrap().body).unwrap();
        assert_eq!(
            (&session["connected"], &session["quality"]),
            (&false.into(), &"nothing".into()),
            "{session}"
        );
        let restart = "a=ice-ufrag:Nw5y\r\na=ice-pwd:aB3dE5gH7jK9mN2pQ4sT6vX8\r\n";
        let answer = patch(Some("*"), FRAGMENT, restart).await;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
        assert!(answer.body.contains("a=ice-ufrag:") && answer.header("etag") != tag, "{answer:?}");
        for junk in ["", "hello", "a=ice-ufrag:x\r\n", "m=\r\n"] {
            let answer = patch(Some("*"), FRAGMENT, junk).await;
            assert!((200..500).contains(&answer.status.as_u16()), "{junk:?}: {answer:?}");
        }

        let packed = [SDP, ("content-encoding", "gzip")];
        let answer = api.send("POST", door, &packed, vec![0x1f, 0x8b, 8, 0]).await.unwrap();
        refused("a packed offer", &answer, &[415]);
        assert_eq!(answer.header("accept-encoding"), "identity");
        let slash = format!("{door}/");
        let other_offer = if door.starts_with("/whip") { Offer::default().text() } else { player.clone() };
        let answer = api.send("POST", &slash, &[SDP], other_offer).await.unwrap();
        assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
        assert!(!answer.header("location").contains("//"), "{answer:?}");
        let slash = format!("{}/", answer.header("location"));
        assert_eq!(api.send("DELETE", &slash, &[], "").await.unwrap().status.as_u16(), 200);

        let other = location.replace(&location[location.len() - 8..], "AAAAAAAA");
        refused("a guessed session", &api.send("DELETE", &other, &[], "").await.unwrap(), &[404, 429]);
        assert_eq!(
            api.send("DELETE", &location, &[("if-match", "\"other\"")], "").await.unwrap().status.as_u16(),
            200
        );
        let answer = patch(Some("*"), FRAGMENT, restart).await;
        refused("a session that ended", &answer, &[404]);
        refused("its status", &api.get(status).await.unwrap(), &[404]);
        let answer = api.send("PUT", door, &[SDP], "").await.unwrap();
        refused("PUT", &answer, &[405]);
    }
    refused("no such path", &api.get("/no/such/path").await.unwrap(), &[404]);
}

#[tokio::test]
async fn bad_requests_do_not_disturb_a_listener() {
    let (relay, _publisher) = playing().await;
    let listener = Listener::start(&relay, "main-stage", 6).unwrap();
    let api = relay.api();
    until("the listener is there", SOON, || async {
        Ok(api.stream("main-stage").await?.filter(|s| s.listeners == 1))
    })
    .await
    .unwrap();
    let began = now();
    let mut sent = 0;
    while began.elapsed() < Duration::from_secs(3) {
        for body in ["v=0", "", "{", "\r\n\r\n"] {
            for path in
                ["/whip/other", "/whep/main-stage", "/whep/main-stage/0000", "/api/v1/rooms/lobby/messages"]
            {
                let answer = api.send("POST", path, &[SDP], body).await.unwrap();
                assert!(
                    answer.status.is_client_error() || answer.status.as_u16() == 503,
                    "{path}: {answer:?}"
                );
                sent += 1;
            }
        }
    }
    let report = listener.report().await.unwrap();
    println!("{sent} bad requests, {report:?}");
    report.undisturbed(440).unwrap();
}
