//! What is fed: each parser or core that takes bytes from outside, with messages to start from.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::{Bytes, BytesMut};
use media::sdp::{EgressPolicy, Fragment, IngestPolicy, Local, Offer, answer_egress, answer_ingest};
use mesh_routing::{
    Config, Hearing, LinkId, LogKey, Mesh, Output,
    message::{Head, JoinParams, Message},
    signature::Keys,
    wire::envelope::{Opaque, Received, Said, Scope},
};
use protocol::{
    BridgeVersion, BridgeVersions, Carriage, Codec, FileId, Hlc, Kind, NodeId, RoomName, StreamName, Topic,
    TrackDescription, UnknownTopic, ZoneName, fields,
    mesh::{Alias, DatagramHeader, SenderClock, StreamAdvertisement, StreamTrack, TrackKey},
    signaling::FromParticipant,
    token::{FestivalId, Membership, Revocations, Revoked, Role, Rotation, Signed, ZoneToken},
    transfer::{Frame, TransferId},
};
use relay_node::{
    bridge::{SPOKEN, outside},
    membership::{festival, pairing},
};
use rooms::{Rooms, Source, WallTime, Written};

use crate::{bridge, descriptor, disk, http, ladder, sessions};

/// A parser, or a core behind one.
pub struct Target {
    pub name: &'static str,
    /// No input is longer.
    pub longest: usize,
    /// Inputs of a bounded run: about two seconds on one core.
    pub runs: u32,
    /// Good messages, made by the code itself: they change with it.
    pub samples: fn() -> Vec<Vec<u8>>,
    pub feed: fn(&[u8]),
}

pub fn all() -> Vec<Target> {
    let none = Vec::new;
    vec![
        Target { name: "sdp", longest: 128 * 1024, runs: 8_000, samples: offers, feed: sdp },
        Target {
            name: "sdp_fragment",
            longest: 16 * 1024,
            runs: 100_000,
            samples: fragments,
            feed: sdp_fragment,
        },
        Target { name: "transfer", longest: 20_000, runs: 100_000, samples: transfers, feed: transfer },
        Target { name: "rtp", longest: 2000, runs: 100_000, samples: packets, feed: rtp },
        Target {
            name: "descriptor",
            longest: 4000,
            runs: 100_000,
            samples: descriptor::payloads,
            feed: descriptor::descriptor,
        },
        Target {
            name: "dependency",
            longest: 4000,
            runs: 100_000,
            samples: descriptor::dependencies,
            feed: descriptor::dependency,
        },
        Target {
            name: "layers_allocation",
            longest: 256,
            runs: 100_000,
            samples: descriptor::allocations,
            feed: descriptor::allocation,
        },
        Target {
            name: "opus",
            longest: 8000,
            runs: 100_000,
            samples: ladder::packets,
            feed: ladder::framing,
        },
        Target { name: "ladder", longest: 8000, runs: 400, samples: ladder::packets, feed: ladder::ladder },
        Target { name: "rtcp", longest: 2000, runs: 100_000, samples: reports, feed: rtcp },
        Target { name: "transport_cc", longest: 2000, runs: 100_000, samples: feedbacks, feed: transport_cc },
        Target { name: "red", longest: 2000, runs: 100_000, samples: reds, feed: red },
        Target { name: "stun", longest: 2000, runs: 100_000, samples: none, feed: stun },
        Target { name: "datagram", longest: 2000, runs: 100_000, samples: packets, feed: datagram },
        Target {
            name: "mesh_message",
            longest: 300 * 1024,
            runs: 40_000,
            samples: messages,
            feed: mesh_message,
        },
        Target {
            name: "mesh_neighbor",
            longest: 64 * 1024,
            runs: 20_000,
            samples: conversations,
            feed: mesh_neighbor,
        },
        Target { name: "hello", longest: 64 * 1024, runs: 100_000, samples: hellos, feed: hello },
        Target { name: "token", longest: 33 * 1024, runs: 100_000, samples: signed, feed: token },
        Target {
            name: "membership_updates",
            longest: 64 * 1024,
            runs: 10_000,
            samples: updates,
            feed: update,
        },
        Target { name: "pairing", longest: 2000, runs: 100_000, samples: words, feed: pair },
        Target { name: "room_record", longest: 20_000, runs: 100_000, samples: records, feed: room_record },
        Target {
            name: "sctp",
            longest: 8000,
            runs: 20_000,
            samples: sessions::associations,
            feed: sessions::association,
        },
        Target {
            name: "dtls_flight",
            longest: 16_000,
            runs: 300,
            samples: sessions::handshakes,
            feed: sessions::handshake,
        },
        Target {
            name: "session",
            longest: 8000,
            runs: 200,
            samples: sessions::conversations,
            feed: sessions::session,
        },
        Target { name: "websocket", longest: 64 * 1024, runs: 100_000, samples: said, feed: websocket },
        Target {
            name: "bridge_datagram",
            longest: 16 * 1024,
            runs: 50_000,
            samples: bridge::datagrams,
            feed: bridge::datagram,
        },
        Target {
            name: "bridge_stream",
            longest: 300 * 1024,
            runs: 100_000,
            samples: bridge::streams,
            feed: bridge::stream,
        },
        Target {
            name: "http_body",
            longest: 80 * 1024,
            runs: 50_000,
            samples: http::requests,
            feed: http::body,
        },
        Target {
            name: "http_headers",
            longest: 16 * 1024,
            runs: 50_000,
            samples: http::requests,
            feed: http::headers,
        },
        Target {
            name: "old_store",
            longest: 64 * 1024,
            runs: 5_000,
            samples: disk::stores,
            feed: disk::store,
        },
        Target {
            name: "damaged_store",
            longest: 128 * 1024,
            runs: 2_000,
            samples: disk::files,
            feed: disk::file,
        },
    ]
}

fn offers() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../media/tests/offers");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read(file.path()).ok()).collect()
}

fn sdp(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let local = Local {
        ufrag: "relayufrag",
        pwd: "relaypasswordrelaypassword",
        fingerprint: "sha-256 00",
        candidates: &[],
        session_id: 1,
    };
    let Ok(offer) = Offer::parse(text) else { return };
    let _ = answer_ingest(&offer, &local, &IngestPolicy::default());
    let _ = answer_egress(&offer, &local, &EgressPolicy::new("main-stage", &[], 7));
}

fn fragments() -> Vec<Vec<u8>> {
    let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\na=end-of-candidates\r\n";
    vec![text.into()]
}

fn sdp_fragment(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Fragment::parse(text);
        let _ = media::sdp::Candidate::parse(text);
        let _ = media::sdp::Fingerprint::parse(text);
    }
}

fn packets() -> Vec<Vec<u8>> {
    let plain = [0x80, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4];
    let extended = [
        0xb1, 96, 0, 9, 0, 0, 0, 2, 0, 0, 0, 0, 7, 7, 7, 7, 0xbe, 0xde, 0, 1, 0x10, 0x80, 0x20, 0, 5, 0, 0, 2,
    ];
    vec![plain.to_vec(), extended.to_vec()]
}

fn rtp(bytes: &[u8]) {
    let _ = media::rtp::Header::parse(bytes);
    if let Some(packet) = media::Packet::from_canonical(Bytes::copy_from_slice(bytes), 0, tests::now()) {
        let _ = packet.payload().len();
    }
    for codec in [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        let _ = media::keyframe::starts(codec, bytes);
    }
}

fn reports() -> Vec<Vec<u8>> {
    let mut compound = media::rtcp::Compound::default();
    compound.nack(7, 9, &[(100, 3), (200, 0)]);
    vec![
        compound.bytes().to_vec(),
        vec![
            0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
            0,
        ],
        vec![0x80, 200, 0, 6, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5],
        vec![0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2],
    ]
}

fn rtcp(bytes: &[u8]) {
    let _ = media::rtcp::parse(bytes);
}

/// Bodies of feedback as our own writer makes them: all arrived, holes, late ones, a pause.
fn feedbacks() -> Vec<Vec<u8>> {
    let start = tests::now();
    let tell = |arrives: fn(u16) -> Option<u64>| {
        let mut log = media::ArrivalLog::new(start);
        let mut arrivals: Vec<_> = (0..100).filter_map(|number| Some((arrives(number)?, number))).collect();
        arrivals.sort_unstable();
        for (at, number) in arrivals {
            log.handle_arrival(number, start + Duration::from_micros(at));
        }
        let mut out = media::rtcp::Compound::default();
        log.poll_feedback(1, 2, &mut out, start + Duration::from_secs(2));
        out.bytes()[4..].to_vec()
    };
    vec![
        tell(|number| Some(u64::from(number) * 2500)),
        tell(|number| (number % 7 > 0).then_some(u64::from(number) * 2500)),
        tell(|number| Some(u64::from(number ^ 3) * 2500)),
        tell(|number| Some(u64::from(number) * 1000 + if number < 50 { 0 } else { 700_000 })),
        tell(|number| (number > 95).then_some(0)),
    ]
}

/// Told twice to an estimator that has sent something, a little and much later.
fn reds() -> Vec<Vec<u8>> {
    let sound = [0xfc; 120];
    let red = |offsets: &[u16]| {
        let copies = offsets.iter().map(|offset| media::red::Block {
            payload_type: 111,
            offset: *offset,
            payload: &sound,
        });
        let mut out = vec![0; media::red::octets(copies.clone())];
        media::red::write(copies, 111, &mut out);
        out.extend(sound);
        out
    };
    vec![red(&[]), red(&[960]), red(&[2880, 960]), red(&[16_383; 9])]
}

/// What is taken apart is all of it, and what is written of that is taken apart again.
fn red(bytes: &[u8]) {
    let Some(red) = media::red::Red::parse(bytes) else { return };
    assert!(!red.primary.is_empty());
    let copies = red.copies();
    let octets = media::red::octets(red.copies());
    assert_eq!(octets + red.primary.len(), bytes.len(), "nothing is left over");
    let copies: Vec<_> = copies.filter(media::red::Block::fits).collect();
    let mut out = vec![0; media::red::octets(copies.iter().copied())];
    media::red::write(copies.iter().copied(), red.payload_type, &mut out);
    out.extend_from_slice(red.primary);
    let again = media::red::Red::parse(&out).expect("it was written");
    assert!(again.copies().eq(copies.iter().copied()) && again.primary == red.primary);
}

fn transport_cc(bytes: &[u8]) {
    let Ok(feedback) = media::transport_cc::Feedback::parse(bytes) else { return };
    let told = feedback.packets().inspect(|told| assert!(told.number.wrapping_sub(feedback.base) < 4096));
    let arrived = told.filter(|told| told.arrival.is_some()).count();
    assert!(arrived <= bytes.len(), "each arrival takes an octet");
    let start = tests::now();
    let mut estimator = media::bandwidth::Estimator::new(true, start);
    estimator.set_wanted(Some(3_000_000));
    let mut sent = 0;
    for late in [120, 200, 3000] {
        for packet in 0..40 {
            let now = start + Duration::from_millis(late - 100) + Duration::from_micros(2500 * packet);
            let purpose = match packet {
                39 => media::bandwidth::Purpose::Repair,
                _ => media::bandwidth::Purpose::Media,
            };
            assert_eq!(estimator.handle_sent(1200, purpose, now), sent);
            sent += 1;
        }
        let now = start + Duration::from_millis(late);
        if let Some(probe) = estimator.poll_probe(now) {
            for _ in 0..probe.packets {
                let purpose = media::bandwidth::Purpose::Probe(probe.number);
                estimator.handle_sent(probe.octets.div_ceil(probe.packets), purpose, now);
                sent += 1;
            }
        }
        estimator.handle_feedback(&feedback, now);
        estimator.handle_timeout(now + Duration::from_millis(50));
        assert!((50_000..=20_000_000).contains(&estimator.bitrate(now)));
    }
    assert!(estimator.memory() <= 24 * 1024);
}

fn stun(bytes: &[u8]) {
    let _ = media::transport::stun_username(bytes);
    let _ = media::transport::classify(bytes);
}

fn datagram(bytes: &[u8]) {
    let _ = DatagramHeader::read(bytes);
    let _ = SenderClock::read(bytes);
    let _ = DatagramHeader::split(Bytes::copy_from_slice(bytes));
}

pub fn messages() -> Vec<Vec<u8>> {
    let mut messages = conversation(3);
    messages.extend(of_a_later_version());
    for rung in 0..2 {
        let track = TrackKey { track: StreamTrack::Rung(rung), ..track(1) };
        let ask = JoinParams { behind: 3, ..JoinParams::default() };
        messages.push(Message::Join { track, alias: Alias(7), ask }.encode().to_vec());
    }
    messages
}

/// What is passed over, what is passed on, and fields behind what is known.
fn of_a_later_version() -> Vec<Vec<u8>> {
    let said = Said {
        kind: 77,
        origin: NodeId([9; 32]),
        number: 1 << 32 | 5,
        payload: Bytes::from_static(b"a note"),
    };
    let opaque = |scope| Opaque::sign(scope, said.clone(), &Believer(NodeId([9; 32]))).encode().to_vec();
    let mut more = Message::Summary { database: 1, logs: 2 }.encode().to_vec();
    fields::write(&mut more, 3, b"three");
    fields::write(&mut more, 300, &[7; 200]);
    let head = Head { key: log_of_a_later_version(), floor: 0, highest: 1 };
    let heads = Message::Heads { entries: vec![head], fresh: true }.encode().to_vec();
    vec![vec![0, 99, 1, 2, 3], opaque(Scope::Area), opaque(Scope::Mesh), more, heads]
}

fn log_of_a_later_version() -> LogKey {
    let topic = UnknownTopic::new(9, Carriage::ANNOUNCEMENT, b"notes").expect("is short enough");
    LogKey { topic: Topic::Unknown(topic), writer: NodeId([9; 32]), incarnation: 3 }
}

pub fn mesh_message(bytes: &[u8]) {
    match Received::decode(bytes) {
        Ok(Received::Known { message, .. }) => {
            let again = Message::decode(&message.encode());
            assert_eq!(again.as_ref(), Ok(&message), "what decodes reads back as written");
            if let Message::LinkState { lsa, .. } = &message {
                assert!(lsa.fields().iter().count() <= bytes.len());
            }
        }
        Ok(Received::PassedOn(message)) => assert_eq!(message.encode(), bytes, "it goes on as it came"),
        // 21 are those about files, which have kinds of their own.
        Ok(Received::PassedOver { kind }) => assert!(kind >= Message::KINDS || kind == 21),
        Err(_) => {}
    }
}

/// Everything that two relays say to each other in a short life, in one direction.
fn conversation(seed: u64) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    let mut now = tests::now();
    let mut relays = [relay(0, seed, now), relay(1, seed, now)];
    relays[0].handle_link_up(LinkId(1), NodeId([1; 32]), now);
    relays[1].handle_link_up(LinkId(1), NodeId([0; 32]), now);
    relays.iter_mut().for_each(|relay| live(relay, now));
    for step in 0..200 {
        if step == 20 {
            for (at, other) in [(0, 1), (1, 0)] {
                relays[at].handle_interest(track(other), true, now);
                relays[at].handle_keyframe_request(&track(other), now);
                relays[at].handle_hearing(Hearing { qualities: [1, 200, 70_000], mended: [0, 3, 9] }, now);
            }
        }
        if step == 120 {
            relays[1].handle_interest(track(0), false, now);
            relays[0].handle_unpublish(&track(0).stream, now);
        }
        for at in [0, 1] {
            let mut out = Vec::new();
            while let Some(output) = relays[at].poll_output() {
                match output {
                    Output::Send { message, .. } => out.push(message),
                    Output::Store(_) => relays[at].handle_stored(Ok(()), now),
                    _ => {}
                }
            }
            for message in out {
                if at == 1 {
                    said.push(message.to_vec());
                }
                let _ = relays[1 - at].handle_message(LinkId(1), &message, now);
            }
        }
        now += Duration::from_millis(50);
        relays.iter_mut().for_each(|relay| relay.handle_timeout(now));
    }
    said.dedup_by(|a, b| a.get(1) == b.get(1) && a.len() == b.len());
    said
}

pub fn relay(index: u8, seed: u64, now: Instant) -> Mesh {
    let zone = ZoneName::new("stage").expect("a good name");
    Mesh::new(Config::new(Arc::new(Believer(NodeId([index; 32]))), zone, 1, seed), now)
}

/// Believes every signature: what is behind them shall be fuzzed too.
#[derive(Debug)]
pub struct Believer(pub NodeId);

impl Keys for Believer {
    fn node_id(&self) -> NodeId {
        self.0
    }

    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [7; 64]
    }

    fn verify(&self, _: &NodeId, _: &[u8], _: &[u8; 64]) -> bool {
        true
    }
}

/// A picture of the main stage.
fn track(origin: u8) -> TrackKey {
    let stream = StreamName::new("main-stage").expect("a good name");
    TrackKey { origin: NodeId([origin; 32]), stream, track: StreamTrack::Video }
}

/// Something of everything that a relay says.
fn live(mesh: &mut Mesh, now: Instant) {
    let name = track(0).stream;
    let tracks = vec![TrackDescription { kind: Kind::Video, codec: Codec::Vp8, layers: 1 }];
    let stream = StreamAdvertisement { name, tracks };
    mesh.handle_publish(stream, now);
    for text in ["one", "two"] {
        let _ = mesh.handle_append(Topic::Announcements, Bytes::from_static(text.as_bytes()), now);
    }
}

/// Messages one behind the other, each behind its length in two bytes.
fn conversations() -> Vec<Vec<u8>> {
    (0..4)
        .map(|seed| {
            let mut bytes = Vec::new();
            for message in conversation(seed) {
                bytes.extend(u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
                bytes.extend(&message);
            }
            for message in of_a_later_version() {
                bytes.extend((message.len() as u16).to_be_bytes());
                bytes.extend(&message);
            }
            bytes
        })
        .collect()
}

/// A relay whose neighbor says all this, and everything that follows from it.
fn mesh_neighbor(bytes: &[u8]) {
    let mut now = tests::now();
    let mut mesh = relay(0, 7, now);
    mesh.handle_link_up(LinkId(1), NodeId([1; 32]), now);
    mesh.handle_link_up(LinkId(2), NodeId([2; 32]), now);
    live(&mut mesh, now);
    let mut rest = BytesMut::from(bytes);
    let mut count = 0;
    while rest.len() >= 2 && count < 256 {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]])).min(rest.len() - 2);
        let message = rest.split_to(2 + length).split_off(2);
        let _ = mesh.handle_message(LinkId(1), &message, now);
        let mut outputs = 0;
        while let Some(output) = mesh.poll_output() {
            if matches!(output, Output::Store(_)) {
                mesh.handle_stored(Ok(()), now);
            }
            outputs += 1;
            assert!(outputs < 100_000, "a message that is answered for ever");
        }
        now += Duration::from_millis(30);
        mesh.handle_timeout(now);
        count += 1;
    }
    while mesh.poll_output().is_some() {}
    let _ = (mesh.topology(), mesh.streams(), mesh.forwarding(), mesh.poll_timeout());
}

pub fn a_room() -> Rooms {
    Rooms::new(ZoneName::new("stage").expect("a good name"))
}

fn records() -> Vec<Vec<u8>> {
    let room = Topic::Room(protocol::RoomName::new("crew").expect("a good name"));
    let new = |text: &str| protocol::api::NewMessage {
        author: "Ann".into(),
        text: text.into(),
        nonce: Some("n".into()),
    };
    ["hello", "<b>", "\u{202e}\u{200b}"]
        .into_iter()
        .filter_map(|text| {
            a_room().handle_post(&room, new(text), Source::default(), WallTime(1)).ok()?.payload
        })
        .map(|payload| payload.to_vec())
        .collect()
}

fn room_record(bytes: &[u8]) {
    let mut rooms = a_room();
    let (writer, payload) = (NodeId([1; 32]), Bytes::copy_from_slice(bytes));
    let written = Written {
        topic: &Topic::Announcements,
        writer,
        incarnation: 1,
        number: 1,
        hlc: Hlc(7),
        payload: &payload,
    };
    let _ = rooms.handle_record(written, true, WallTime(5));
    while rooms.poll_output().is_some() {}
}

fn said() -> Vec<Vec<u8>> {
    let say = br#"{"type":"say","author":"Ann","text":"hello","nonce":"1"}"#;
    vec![say.to_vec()]
}

fn websocket(bytes: &[u8]) {
    let _ = serde_json::from_slice::<FromParticipant>(bytes);
    let _ = serde_json::from_slice::<protocol::api::NewMessage>(bytes);
}

/// An organizer's key that is the same in every run.
fn organizer(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes are a seed")
}

/// A token, a list and a change of key, as the relays of a festival have them.
pub fn festival() -> (ZoneToken, Revocations, Rotation) {
    let (key, next) = (organizer(1), organizer(2));
    let festival = FestivalId::of(&key);
    let (zone, role) = (ZoneName::new("camping").expect("a good name"), Role::Relay);
    let node = NodeId([7; 32]);
    let token = Membership { festival, serial: 9, node, zone, role, issued_at: 1, not_after: 1 << 32 };
    let nodes = (0..9).map(|node| NodeId([node; 32])).collect();
    let list = Revoked { festival, epoch: 3, nodes, serials: [1, 1 << 40].into() };
    let token = Signed::sign(token, &key).expect("is short enough");
    let list = Signed::sign(list, &key).expect("is short enough");
    (token, list, Rotation::rotate(&key, &next, 1, Some(7)).expect("is short enough"))
}

fn signed() -> Vec<Vec<u8>> {
    let (token, list, rotation) = festival();
    vec![token.to_bytes(), list.to_bytes(), rotation.to_bytes()]
}

/// Only one way to write it is taken, so that nobody makes another one of one that is signed.
fn token(bytes: &[u8]) {
    if let Ok(token) = ZoneToken::from_bytes(bytes) {
        assert_eq!(token.to_bytes(), bytes);
        assert_eq!(token.to_string().parse().as_ref(), Ok(&token));
        let genuine = token.verify(&FestivalId::of(&organizer(1))).is_ok();
        assert!(!genuine || token == festival().0, "nobody else signs");
    }
    if let Ok(list) = Revocations::from_bytes(bytes) {
        assert_eq!(list.to_bytes(), bytes);
    }
    if let Ok(rotation) = Rotation::from_bytes(bytes) {
        assert_eq!(rotation.to_bytes(), bytes);
        let _ = rotation.verify_both();
    }
}

fn updates() -> Vec<Vec<u8>> {
    let (token, list, rotation) = festival();
    let text = format!("# updates\n{rotation}\n{list}\n\n{token}\n");
    vec![text.into_bytes(), token.to_string().into_bytes(), list.to_string().into_bytes()]
}

fn update(bytes: &[u8]) {
    let _ = outside::updates(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let zone = ZoneName::new("camping").expect("a good name");
        let _ = festival::token_for(text, NodeId([7; 32]), &zone);
    }
}

pub fn hellos() -> Vec<Vec<u8>> {
    let (token, list, rotation) = festival();
    let zone = ZoneName::new("camping").expect("a good name");
    let updates = vec![rotation.to_string(), list.to_string()];
    let all = BridgeVersions::new(BridgeVersion(1), BridgeVersion(u16::MAX)).expect("a range");
    let mut later = outside::sample(all, zone.clone(), None, vec![]);
    fields::write(&mut later, 90, b"what is it?");
    // Reversed, and without any version.
    let with = |versions: [u8; 4]| [&versions[..], &later[4..]].concat();
    let (reversed, none) = (with([0, 4, 0, 5]), with([0, 0, 0, 0]));
    vec![
        outside::sample(SPOKEN, zone.clone(), None, vec![]),
        outside::sample(SPOKEN, zone, Some(token.to_string()), updates),
        later,
        reversed,
        none,
    ]
}

fn hello(bytes: &[u8]) {
    outside::hello(bytes);
}

/// What a relay that dials says when it pairs, each word behind its length.
fn words() -> Vec<Vec<u8>> {
    let zone = ZoneName::new("camping").expect("a good name");
    let said = [
        pairing::Message::Promise(zone.clone(), [1; 32]),
        pairing::Message::Answer(zone, [2; 32]),
        pairing::Message::Reveal([3; 32]),
        pairing::Message::Verdict(true),
    ];
    let words = said.map(|word| postcard::to_stdvec(&word).expect("always serializes"));
    vec![words.iter().flat_map(|word| [&[word.len() as u8], &word[..]].concat()).collect()]
}

/// Whatever the other side says, without a person's word here nothing is paired.
fn pair(bytes: &[u8]) {
    let zone = ZoneName::new("stage").expect("a good name");
    for side in [pairing::Side::Dialer, pairing::Side::Listener] {
        let mut pairing = pairing::Pairing::new(
            side,
            (NodeId([1; 32]), zone.clone()),
            NodeId([2; 32]),
            [5; 32],
            tests::now(),
        );
        let mut rest = bytes;
        while let Some((&length, behind)) = rest.split_first() {
            let (word, behind) = behind.split_at(usize::from(length).min(behind.len()));
            rest = behind;
            if let Ok(message) = postcard::from_bytes(word) {
                pairing.handle_message(message);
            }
            while let Some(output) = pairing.poll_output() {
                assert!(!matches!(output, pairing::Output::Paired(_)), "nobody was asked");
            }
        }
    }
}

/// A frame of `files/1`.
fn transfer(bytes: &[u8]) {
    if let Some(frame) = Frame::read(bytes) {
        assert_eq!(frame.write(), bytes, "it is written as it was read");
    }
}

fn transfers() -> Vec<Vec<u8>> {
    let (id, file) = (TransferId([7; 16]), FileId([3; 32]));
    let offer = protocol::transfer::Offer {
        id,
        length: Some(5 << 20),
        room: RoomName::new("lobby").ok(),
        name: "film.mp4".into(),
        media_type: "video/mp4".into(),
        from: "Ada".into(),
        hashes: vec![[9; 32]; 5],
    };
    let frames = [
        Frame::Offer(offer),
        Frame::Want { id, offset: 1 << 20, length: 1 << 18 },
        Frame::Chunk { id, offset: 3, bytes: b"abc" },
        Frame::Have { id, offset: 1 << 20 },
        Frame::Get { id, file, from: 0, to: u64::MAX },
        Frame::Done { id, file: Some(file) },
        Frame::Refuse { id, code: 507, reason: "the disk is full".into() },
    ];
    frames.iter().map(Frame::write).collect()
}
