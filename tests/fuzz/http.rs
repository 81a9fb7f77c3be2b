//! What is read of a request over HTTP before the node loop is asked: who asks and by which name, and what the body,
//! the query and the conditions say.

use std::net::{IpAddr, SocketAddr};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts},
    response::IntoResponse,
};
use mesh_routing::{blob::Manifest, log::PAYLOAD_MAX};
use protocol::{FileId, Hlc, NodeId, RoomName, Topic, WallTime, api::NewMessage};
use relay_node::{
    api::{
        bearer,
        conditions::EntityTags,
        error::ApiError,
        origin::{Welcome, parse_origin},
        outside,
    },
    client::{Network, Proxies},
};
use rooms::{NewFile, Rooms, Written, file};

use crate::targets::a_room;

const NOW: WallTime = WallTime(1_800_000_000_000);

/// Requests as they stand on the wire, but for the version: the first line, headers, an empty line, the body.
pub fn requests() -> Vec<Vec<u8>> {
    let said = NewMessage { author: "Ann".into(), text: "hello 🎪".into(), nonce: Some("1".into()) };
    let said = serde_json::to_string(&said).expect("always serializes");
    let id = FileId([0xab; 32]);
    let say =
        "POST /api/v1/rooms/lobby/messages\nhost: relay.local\ncontent-type: application/json; charset=utf-8";
    let give =
        "PUT /api/v1/rooms/lobby/files?name=../Gr%C3%BC%C3%9Fe%20a.tar&from=Ann\nhost: [fe80::1%25eth0]:8080";
    [
        format!("{say}\ncontent-length: {}\norigin: http://relay.local\n\n{said}", said.len()),
        format!("{say}\nx-forwarded-for: 6.6.6.6, 10.1.2.3\nx-forwarded-host: relay.example\n\n{{\"author\":\"A\"}}"),
        format!("{give}\ncontent-type: Image/PNG; q=1\nauthorization: Bearer secret-1\n\n{}", "x".repeat(3000)),
        format!("GET /api/v1/files/{id}\nhost: 127.0.0.1:80\nrange: bytes=10-200\nif-match: \"{id}\", W/\"x\"\n\n0123456789abcdef"),
        format!("GET http://user@relay.example/api/v1/files/{id}\nif-none-match: *\nif-range: \"{id}\"\nrange: bytes=-3"),
        "GET /api/v1/rooms/lobby/messages?after=5f0c6e3b9a7d41c2838e0a64d1b7f920\nhost: relay.example.\nforwarded: for=\"[2001:db8::1]:4711\";host=\"a, b\";proto=https, for=10.1.2.3".into(),
        "POST /whep/main-stage/0123456789abcdef0123456789abcdef/layer\nhost: relay.local\ncontent-type: application/json\n\n{\"mediaId\":\"1\",\"encodingId\":\"m\",\"maxTemporalLayerId\":0}".into(),
        "POST /\nhost: app.example:443\norigin: https://app.example\nforwarded: for=6.6.6.6;x=\"\\\"\", for=\"192.0.2.1:80\"\nvia: 1.1 a".into(),
        "POST /\nhost: evil.example\norigin: null\ncontent-encoding: gzip, identity\nauthorization: bearer: Bearer x".into(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// What a server makes of such bytes, if it takes them at all.
fn request(bytes: &[u8]) -> Option<(Parts, Vec<u8>)> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((bytes, &b""[..]), |end| (&bytes[..end], &bytes[end + 2..]));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines.take(100) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        request = request.header(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some((request.body(()).ok()?.into_parts().0, body.to_vec()))
}

/// What is wrong is the client's doing, and can be said.
fn clear<T>(outcome: Result<T, ApiError>) -> Option<T> {
    outcome
        .inspect_err(|error| {
            assert!(error.status().is_client_error(), "{error:?}");
            let _ = error.clone().into_response();
        })
        .ok()
}

pub fn body(bytes: &[u8]) {
    let Some((parts, body)) = request(bytes) else { return };
    let headers = &parts.headers;
    if let Some(token) = clear(bearer::token(headers)) {
        assert!(!token.is_empty() && !token.contains([' ', '\t']));
        let again = HeaderMap::from_iter([(header::AUTHORIZATION, value(&format!("Bearer {token}")))]);
        assert_eq!(bearer::token(&again).ok(), Some(token));
    }
    for name in [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_RANGE] {
        condition(headers, name);
    }
    if let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        let length = body.len() as u64;
        if let Some((from, to)) = outside::range(range, length) {
            assert!(to <= length && (from < to || (from, to) == (0, length)), "{from} to {to} of {length}");
        }
    }
    if let Some(wish) = std::str::from_utf8(&body).ok().and_then(|text| clear(outside::wish(text))) {
        let again = serde_json::to_string(&wish).expect("always serializes");
        assert_eq!(clear(outside::wish(&again)), Some(wish));
    }
    if let Some(Some(after)) = clear(outside::after(&parts.uri)) {
        assert!(!after.is_empty());
        let _ = a_room().history(&lobby(), Some(&after), 10);
    }
    if let Some((name, from)) = clear(outside::called(&parts.uri, headers)) {
        give(name, from, headers, &body);
    }
    if let Some(new) = clear(outside::message(Request::from_parts(parts, Body::from(body)))) {
        let again = serde_json::to_vec(&new).expect("always serializes");
        assert_eq!(serde_json::from_slice::<NewMessage>(&again).ok().as_ref(), Some(&new));
        say(new);
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("it was in a header")
}

fn lobby() -> RoomName {
    RoomName::new("lobby").expect("a good name")
}

/// A tag before all others is found, whatever follows.
fn condition(headers: &HeaderMap, name: HeaderName) {
    let Some(tags) = EntityTags::of(headers, name.clone()) else { return };
    if let EntityTags::List(list) = &tags {
        for tag in list {
            assert!(tags.name(&tag.tag) && (tag.weak || tags.name_exactly(&tag.tag)), "{tag:?}");
        }
    }
    let mut more = headers.clone();
    let first = headers.get(&name).map_or(&b""[..], HeaderValue::as_bytes);
    if let Ok(first) = HeaderValue::from_bytes(&[b"\"ours\", ", first].concat()) {
        let readable = first.to_str().is_ok();
        more.insert(name.clone(), first);
        let named = EntityTags::of(&more, name).is_some_and(|tags| tags.name_exactly("ours"));
        assert!(named || !readable, "the first of a list is not found");
    }
}

/// What a relay takes from its clients, every relay takes from it.
fn record(rooms: &mut Rooms, payload: bytes::Bytes) {
    assert!(payload.len() <= PAYLOAD_MAX, "{} bytes are no record", payload.len());
    let topic = Topic::Room(lobby());
    let writer = NodeId([1; 32]);
    let written =
        Written { topic: &topic, writer, incarnation: 1, number: 1, hlc: Hlc::at(NOW), payload: &payload };
    assert_eq!(rooms.handle_record(written, true, NOW), Ok(()), "it is not readable");
    let again = rooms.renewal(written).expect("it is the newest");
    assert!(again.len() <= PAYLOAD_MAX, "{} bytes when it is written again", again.len());
}

fn say(new: NewMessage) {
    let mut rooms = a_room();
    let new = NewMessage { nonce: Some(new.nonce.unwrap_or_default()), ..new };
    let source = rooms::Source { address: u32::MAX, participant: u32::MAX };
    let accepted = rooms.handle_post(&Topic::Room(lobby()), new, source, NOW).map_err(ApiError::from);
    let Some(accepted) = clear(accepted) else { return };
    record(&mut rooms, accepted.payload.expect("nothing was said before"));
    let history = rooms.history(&lobby(), None, 10).expect("all of it");
    assert_eq!(history.iter().map(|message| &message.id).collect::<Vec<_>>(), [&accepted.id]);
}

fn give(name: String, author: String, headers: &HeaderMap, body: &[u8]) {
    assert_eq!(file::shown_name(&name), name, "a name that is shown stays as it is");
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = file::media_type(given);
    assert_eq!(file::media_type(&media_type), media_type);
    let (length, chunks) = (body.len() as u64, body.chunks(1024).map(|_| [7; 32]).collect());
    let manifest = Manifest { name, media_type, length, chunk_bits: 10, chunks };
    assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Some(&manifest), "no relay would take it");
    let described = outside::described(&manifest).expect("a name cannot leave its header");
    assert_eq!(described.len(), 6);
    let mut rooms = a_room();
    let Manifest { name, media_type, .. } = manifest.clone();
    let new = NewFile { file: manifest.id(), name, length, media_type, author };
    let shared = rooms.handle_share(&lobby(), new, NodeId([1; 32]), NOW).map_err(ApiError::from);
    let shared = clear(shared).expect("who gives it was looked at");
    record(&mut rooms, shared.payload.expect("nothing was given before"));
    assert_eq!(rooms.files(&lobby()).len(), 1);
}

pub fn headers(bytes: &[u8]) {
    let Some((parts, body)) = request(bytes) else { return };
    client(&parts.headers);
    for origin in parts.headers.get_all(header::ORIGIN) {
        if let Some(origin) = origin.to_str().ok().and_then(parse_origin) {
            assert_eq!(parse_origin(&origin), Some(origin.clone()), "one form");
        }
    }
    let welcome = Welcome::new(["relay.example".to_owned()], ["https://app.example".to_owned()]);
    let _ = clear(outside::is_welcome(&welcome, &Request::from_parts(parts.clone(), Body::empty())));
    foreign(&welcome, parts, &body);
}

/// Only proxies that are trusted say who asks, and what a client says of itself does not matter behind them.
fn client(headers: &HeaderMap) {
    let network = |text| Network::parse(text).expect("a network");
    let proxies = Proxies::new(["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(network).to_vec());
    let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 4000);
    for stranger in ["192.0.2.9", "::1", "::ffff:192.0.2.9", "2001:db8::9"].map(at) {
        let client = proxies.client(stranger, headers);
        assert_eq!(client.address, stranger.ip().to_canonical());
        assert!(!client.local || stranger.ip().is_loopback());
        assert_eq!(proxies.host(stranger, headers), None);
    }
    let proxy = at("10.0.0.1");
    let client = proxies.client(proxy, headers);
    assert!(!client.local && client.address == client.address.to_canonical());
    let _ = proxies.host(proxy, headers);
    // A proxy appends whom it sees to what came, or writes a line of its own.
    let real: IpAddr = at("192.0.2.7").ip();
    for (name, own) in [
        ("x-forwarded-for", "192.0.2.7"),
        ("forwarded", "for=192.0.2.7"),
        ("forwarded", "for=\"192.0.2.7:80\";proto=https"),
    ] {
        let name = HeaderName::from_static(name);
        let mut apart = headers.clone();
        apart.append(&name, value(own));
        let mut lines: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
        let line = match lines.pop() {
            Some(last) => [last.as_bytes(), b", ", own.as_bytes()].concat(),
            None => own.as_bytes().to_vec(),
        };
        lines.push(HeaderValue::from_bytes(&line).expect("made of headers"));
        let mut behind = headers.clone();
        behind.remove(&name);
        for line in lines {
            behind.append(&name, line);
        }
        for headers in [apart, behind] {
            let found = proxies.client(proxy, &headers).address;
            assert!(found == real || found == proxy.ip(), "{found} by {headers:?}");
        }
    }
}

/// A page of a name that is not the relay's neither is answered nor changes anything.
fn foreign(welcome: &Welcome, parts: Parts, bytes: &[u8]) {
    let label: String = bytes.iter().take(40).map(|byte| char::from(b'a' + byte % 26)).collect();
    let evil = format!("{label}x.evil.example");
    let asks =
        |parts: &Parts| outside::is_welcome(welcome, &Request::from_parts(parts.clone(), Body::empty()));
    let mut parts = parts;
    parts.uri = parts.uri.path().parse().unwrap_or_default();
    let mut rebound = parts.clone();
    rebound.headers.insert(header::HOST, value(&evil));
    assert!(clear(asks(&rebound)).is_none(), "{evil} is answered to");
    parts.method = Method::POST;
    parts.headers.insert(header::ORIGIN, value(&format!("https://{evil}")));
    let path = parts.uri.path();
    if !path.starts_with("/whip/") && !path.starts_with("/whep/") {
        assert!(clear(asks(&parts)).is_none(), "a page of {evil} changes something");
    }
}
