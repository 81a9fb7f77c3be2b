//! Every message reads back as written, and no bytes do harm: neither to the parser nor to a relay that takes them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use protocol::{FileId, Hlc, RoomName, StreamName, ZoneName, mesh::StreamTrack, parity::Cover};

use super::*;
use crate::{
    LinkId, Mesh, Output,
    sim::{config, epoch, node},
    wire::{
        area::InterAreaLsa,
        lsa::{Edge, LinkState},
        metric::Capacity,
        signature::SimulatedKeys,
        signed_lsa::Lsa,
    },
};

fn track() -> TrackKey {
    TrackKey { origin: node(2), stream: StreamName::new("main-stage").unwrap(), track: StreamTrack::Audio }
}

/// One of each.
fn samples() -> Vec<Message> {
    let (track, alias) = (track(), Alias(7));
    let key = LogKey { topic: Topic::Room(RoomName::new("lobby").unwrap()), writer: node(1), incarnation: 3 };
    let hello = Bytes::from_static(b"hello");
    let written =
        crate::wire::log_entry::LogEntry::sign(&SimulatedKeys(node(1)), key.clone(), 1, Hlc(7), hello);
    let links = vec![Edge { neighbor: node(0), cost: 9, rtt_us: 1000, loss: 0, capacity: Capacity(7) }];
    let zone = ZoneName::new("camping").unwrap();
    let said = LinkState::new(node(1), zone, 5, links);
    let lsa = SignedLsa::new(Lsa::Links(said), &SimulatedKeys(node(1)));
    let fragment = Fragment { area: AreaId(3), lowest: (&node(4)).into() };
    let (path, publishers) = (vec![fragment], vec![(&node(5)).into()]);
    let area_path = AreaPath { cost: 7, hops: 2, relays: 30, path, publishers };
    let way = InterAreaLsa { origin: node(1), fragment, sequence: 4, area_path: Some(area_path.clone()) };
    let ask =
        JoinParams { role: Role::Secondary, active: true, avoid: vec![node(3)], behind: 300, needed: true };
    let suspect_edge = Some((node(2), node(1)));
    let offer = Offer { path: vec![node(2), node(1)], has_disjoint_backup: true, suspect_edge };
    vec![
        Message::Probe { nonce: 1, rate: Rate::Busy },
        Message::ProbeAck { nonce: 1, rate: Rate::Quiet },
        Message::LinkState { age_ms: 10, lsa },
        Message::Digest { entries: vec![(Key::Links(node(1)), 9), (Key::Streams(node(3)), 1)] },
        Message::Request { keys: vec![Key::Links(node(0)), Key::Streams(node(1))] },
        Message::Summary { database: 1, logs: 2 },
        Message::Join { track: track.clone(), alias, ask },
        Message::Joined { track: track.clone(), alias, offer },
        Message::Refused { track: track.clone(), alias, reason: Refusal::Loop },
        Message::Leave { track: TrackKey { track: StreamTrack::Rung(1), ..track.clone() }, alias },
        Message::Lost { track: track.clone(), alias, broken: Some((node(2), node(1))) },
        Message::Keyframe { track },
        Message::Protect { protection: Protection { audio: Cover::Twice, video: Cover::Once } },
        Message::Append {
            key: key.clone(),
            first: 1,
            entries: vec![written.entry],
            path: vec![node(1)],
            pulled: None,
        },
        Message::Append {
            key: key.clone(),
            first: 9,
            entries: Vec::new(),
            path: Vec::new(),
            pulled: Some(Pulled { floor: 0, more: false }),
        },
        Message::Heads { entries: vec![Head { key: key.clone(), floor: 0, highest: 4 }], fresh: true },
        Message::Topics {
            after: None,
            until: Some(key.topic.clone()),
            entries: vec![(Topic::Announcements, 5), (key.topic.clone(), 6)],
        },
        Message::Pull { key: LogKey { writer: node(0), ..key.clone() }, after: 0 },
        Message::Stored { entries: vec![(key, 3)] },
        Message::Announce { entries: vec![(Key::Links(node(1)), 9)] },
        Message::Buckets { hashes: vec![7; BUCKETS] },
        Message::Area { area: AreaId(3) },
        Message::AreaPath { fragment, area_path: Some(area_path.clone()) },
        Message::LinkState { age_ms: 10, lsa: SignedLsa::new(Lsa::InterArea(way), &SimulatedKeys(node(1))) },
        Message::File(FileMessage::Seek { file: FileId([7; 32]), asker: node(1), nonce: 1, hops: 2 }),
    ]
}

fn carry_out(mesh: &mut Mesh, now: Instant) {
    while let Some(output) = mesh.poll_output() {
        if matches!(output, Output::Store(_)) {
            mesh.handle_stored(Ok(()), now);
        }
    }
}

/// Gives a relay with a neighbor these messages, and everything that follows from them.
fn feed(messages: &[Vec<u8>]) {
    let mut now = epoch();
    let zone = ZoneName::new("stage").unwrap();
    let mut mesh = Mesh::new(config(node(0), zone, 1, 1), now);
    mesh.handle_link_up(LinkId(1), node(1), now);
    mesh.handle_interest(track(), true, now);
    mesh.handle_append(Topic::Announcements, Bytes::from_static(b"own"), now).unwrap();
    for bytes in messages {
        let _ = mesh.handle_message(LinkId(1), bytes, now);
        carry_out(&mut mesh, now);
        now += Duration::from_millis(70);
        mesh.handle_timeout(now);
        carry_out(&mut mesh, now);
        let _ = (mesh.topology(), mesh.poll_timeout());
    }
}

#[test]
fn every_message_reads_back_as_written() {
    for message in samples() {
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn what_names_a_rung_leaves_only_where_rungs_are_known() {
    let since =
        |track| Message::Leave { track: TrackKey { track, ..self::track() }, alias: Alias(7) }.since();
    assert_eq!(since(StreamTrack::Audio), BridgeVersion::FIRST);
    assert_eq!(since(StreamTrack::Encoding(3)), BridgeVersion::ENCODINGS);
    assert_eq!(since(StreamTrack::Rung(0)), BridgeVersion::RUNGS);
}

/// A kind that has no number here would be passed over by its own relay.
#[test]
fn every_kind_has_a_number() {
    let kinds: BTreeSet<u8> = samples().iter().map(|message| message.encode()[1]).collect();
    assert!(kinds.into_iter().eq(0..Message::KINDS as u8));
    let last = |bytes: &[u8]| postcard::from_bytes::<Message>(bytes).is_ok();
    assert!(!last(&[Message::KINDS as u8]), "one more is known than there is said to be");
    assert_eq!(Message::decode(&[0, Message::KINDS as u8]), Err(MeshError::Unknown));
    let file = FileId([7; 32]);
    let (asker, holder) = (node(1), node(2));
    let have = Message::File(FileMessage::Have { file, holder, asker, hops: 0 }).encode();
    assert_eq!(have[1..3], [Message::FILE as u8, Message::FILE_KINDS as u8 - 1]);
    assert_eq!(Message::decode(&[]), Err(MeshError::Malformed));
}

#[test]
fn a_count_without_the_entries_is_refused_at_once() {
    // A digest of 2^32 entries in ten bytes.
    let bytes = [0, 3, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3];
    assert_eq!(Message::decode(&bytes), Err(MeshError::Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        feed(&[bytes.clone(), [&[0], &bytes[..]].concat()]);
    }

    #[test]
    fn mutated_messages_are_survived(
        picks in proptest::collection::vec((0..24usize, any::<u16>(), any::<u8>(), any::<bool>()), 1..12),
    ) {
        let messages: Vec<Vec<u8>> = picks
            .into_iter()
            .map(|(pick, at, value, mutate)| {
                let mut bytes = samples()[pick].encode().to_vec();
                let at = usize::from(at) % bytes.len();
                if mutate {
                    bytes[at] = value;
                }
                bytes
            })
            .collect();
        feed(&messages);
    }
}
