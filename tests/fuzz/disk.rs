//! What a relay reads at its start: what an earlier one wrote, of this release or of one before, and what has become
//! of it since. Files are bytes here; the database they lie in has checks of its own.

use std::collections::BTreeMap;

use media::sdp::IngestPolicy;
use mesh_routing::{LogEntry, LogKey, blob::Manifest, log::PAYLOAD_MAX};
use protocol::{Hlc, NodeId, RoomName, Topic, WallTime, ZoneName};
use relay_node::{
    addresses::Addresses,
    membership::trusted_peers,
    node::{Node, sessions::Sessions},
    storage::{
        backup::Backup,
        migrate,
        pages::{self, RawRows},
        records::{self, OldRecord, Store},
        rows::{self, Row},
    },
};

use crate::{
    sessions::{identity, piece, pieces},
    targets::{Believer, relay},
};

const OWN: NodeId = NodeId([0; 32]);
const WALL: WallTime = WallTime(1_800_000_000_000);
const INCARNATION: u64 = 300;
/// No relay takes a higher number from another.
const NUMBER_MAX: u64 = u64::MAX >> 1;

fn topics() -> [Topic; 2] {
    [Topic::Announcements, Topic::Room(RoomName::new("lobby").expect("a good name"))]
}

/// A row of format 2 as a piece: its number, the length of its key, the key, the entry.
fn row(record: &LogEntry) -> Vec<u8> {
    let key = rows::key(&record.key);
    // Without the sum, as an earlier release wrote it: what is behind the sum shall be fuzzed too.
    let entry = postcard::to_stdvec(&record.entry).expect("always serializes");
    let bytes = [&record.number.to_be_bytes(), &[key.len() as u8][..], &key, &entry].concat();
    piece(0, &bytes)
}

/// Rows of format 2, a row of format 1 behind its writer, manifests, the file of those who are trusted and the one of
/// addresses.
pub fn stores() -> Vec<Vec<u8>> {
    let mut node = start();
    let mut store = Vec::new();
    for topic in topics() {
        for text in ["one", "two", "three"] {
            let new = protocol::api::NewMessage {
                author: "Ann".into(),
                text: text.into(),
                nonce: Some(text.into()),
            };
            let accepted = node.handle_post(&topic, new, Default::default(), WALL).expect("is good");
            let payload = accepted.payload.expect("is new");
            let (key, number) =
                node.handle_append(topic.clone(), payload.clone(), tests::now()).expect("there is room");
            for writer in [OWN, NodeId([1; 32])] {
                let key = LogKey { writer, ..key.clone() };
                store.push(row(&LogEntry::sign(&Believer(writer), key, number, Hlc(7), payload.clone())));
            }
        }
    }
    let old = |writer: NodeId, room: &str, text: &str| {
        let chat = (0_u8, room, "Ada", text, "n", "stage", 5_u64, 7_u64);
        piece(1, &[&writer.0[..], &postcard::to_stdvec(&chat).expect("always serializes")].concat())
    };
    let format_1 =
        [old(OWN, "lobby", "one"), old(OWN, "crew", "two"), old(NodeId([9; 32]), "lobby", "three")];
    let manifest = Manifest {
        name: "a.txt".into(),
        media_type: "text/plain".into(),
        length: 2500,
        chunk_bits: 10,
        chunks: vec![[1; 32], [2; 32], [3; 32]],
    };
    let trusted = format!("# by hand\n{OWN}  # stage\n\n{}\n", NodeId([5; 32]));
    let address = "127.0.0.1:7".parse().expect("an address");
    let zone = ZoneName::new("stage").expect("a good name");
    let addresses = Addresses { http: address, media: address, bridge: address, node: OWN, zone, pid: 42 };
    let addresses = serde_json::to_vec_pretty(&addresses).expect("always serializes");
    vec![
        store.concat(),
        format_1.concat(),
        [store.concat(), format_1.concat()].concat(),
        piece(2, &manifest.encode()),
        piece(3, trusted.as_bytes()),
        piece(4, &addresses),
    ]
}

/// A file of records as a relay leaves it, and a backup of it.
pub fn files() -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().expect("a directory");
    let row = |record: &LogEntry| ((rows::key(&record.key), record.number), rows::entry(record));
    let record = |number| {
        let key = LogKey { topic: Topic::Announcements, writer: OWN, incarnation: INCARNATION };
        LogEntry::sign(&Believer(OWN), key, number, Hlc(7), vec![7; 300].into())
    };
    let rows: RawRows = (1..40).map(|number| row(&record(number))).collect();
    Store::restore(directory.path(), &rows).expect("writes");
    let file = std::fs::read(directory.path().join(records::FILE)).expect("reads");
    let kept = [("trusted".to_owned(), OWN.to_string().into_bytes())].into();
    vec![file, Backup { kept, rows }.encode()]
}

pub fn file(bytes: &[u8]) {
    for ((key, number), row) in pages::read(bytes).rows {
        assert!(rows::sound(&key, number, &row).is_some(), "what is no record was found");
    }
    if let Ok(backup) = Backup::decode(bytes) {
        assert_eq!(Backup::decode(&backup.encode()), Ok(backup));
    }
}

fn start() -> Node {
    let now = tests::now();
    let zone = ZoneName::new("stage").expect("a good name");
    let sessions = Sessions::new(identity(), Vec::new(), IngestPolicy::default());
    let mut node = Node::new(OWN, zone, relay(0, 7, now), sessions, 0, now, WALL);
    node.handle_wall(WALL, now);
    node
}

pub fn store(bytes: &[u8]) {
    let (mut table, mut old, mut node) = (Rows::new(), Vec::new(), start());
    for (what, bytes) in pieces(bytes).take(1000) {
        match what % 5 {
            0 => drop(read_row(bytes).and_then(|(place, entry)| table.insert(place, entry))),
            1 => old.extend(read_old(bytes)),
            2 => manifest(bytes, &mut node),
            3 => trust(bytes),
            _ => addresses(bytes),
        }
    }
    // What a relay of today does at its first start.
    let taken_over = migrate::records(&old, INCARNATION, &Believer(OWN));
    let alone: Rows = taken_over.iter().map(|record| (place(record), rows::entry(record))).collect();
    assert_eq!(all(&alone).len(), taken_over.len(), "what is taken over has gaps");
    table.extend(alone);
    let mut found = all(&table);
    rows::prove(&mut found, &Believer(OWN));
    // By log, each once.
    let mut last: BTreeMap<LogKey, u64> = BTreeMap::new();
    let mut records = Vec::new();
    for row in found {
        let (key, number) = match &row {
            Row::Record(record) | Row::Unproven(record) => (record.key.clone(), record.number),
            Row::Damaged(key, number) => (key.clone(), *number),
        };
        let last = last.insert(key.clone(), number);
        assert!(last.is_none_or(|last| last < number), "a second beginning");
        match row {
            Row::Damaged(key, number) => node.handle_damaged((key, number)),
            Row::Record(record) | Row::Unproven(record) => {
                let again = Rows::from([(place(&record), rows::entry(&record))]);
                assert_eq!(all(&again), [Row::Record(record.clone())], "a record reads back as written");
                records.push(record);
            }
        }
    }
    let known = |record: &&LogEntry| record.number <= NUMBER_MAX && record.entry.payload.len() <= PAYLOAD_MAX;
    let highest = records.iter().filter(known).map(|record| (record.key.clone(), record.number)).collect();
    records.into_iter().for_each(|record| node.restore(record));
    go_on(&mut node, &highest);
}

/// A log and a number, as bytes.
type Place = (Vec<u8>, u64);
type Rows = BTreeMap<Place, Vec<u8>>;

fn place(record: &LogEntry) -> Place {
    (rows::key(&record.key), record.number)
}

fn read_row(bytes: &[u8]) -> Option<(Place, Vec<u8>)> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    let (&length, rest) = rest.split_first()?;
    let (key, entry) = rest.split_at_checked(length.into())?;
    Some(((key.to_vec(), u64::from_be_bytes(*number)), entry.to_vec()))
}

fn read_old(bytes: &[u8]) -> Option<OldRecord> {
    let (writer, payload) = bytes.split_first_chunk::<32>()?;
    Some(OldRecord { writer: NodeId(*writer), payload: payload.to_vec().into() })
}

/// In the order of the table.
fn all(table: &Rows) -> Vec<Row> {
    let mut found = Vec::new();
    for ((key, number), entry) in table {
        rows::read(key, *number, entry, &mut found);
    }
    found
}

/// Whatever was on disk, the relay goes on, and gives no number again that others may know.
fn go_on(node: &mut Node, highest: &BTreeMap<LogKey, u64>) {
    let now = tests::now();
    for topic in topics() {
        let payload = rooms::zone_token::encode("new".into());
        let Ok((key, number)) = node.handle_append(topic.clone(), payload, now) else { continue };
        assert!(highest.get(&key).is_none_or(|highest| number > *highest), "{key:?} has {number} already");
        if let Topic::Room(room) = &topic {
            let _ = (node.history(&topic, None, 1000), node.files(room));
        }
    }
    node.handle_timeout(now);
    while node.poll_effect(now).is_some() {}
    while node.poll_room_output().is_some() {}
}

fn manifest(bytes: &[u8], node: &mut Node) {
    let Some(manifest) = Manifest::decode(bytes) else { return };
    assert_eq!(manifest.encode(), bytes, "a file has one id");
    let chunks = manifest.chunks.len() as u32;
    let length: u64 = (0..=chunks).map(|chunk| u64::from(manifest.chunk_length(chunk))).sum();
    assert_eq!(length, manifest.length);
    let here = vec![true; manifest.chunks.len()];
    let _ = node.handle_file_here(manifest.id(), manifest, &here);
}

fn trust(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(trusted) = trusted_peers::parse(text) {
        let lines: String = trusted.iter().map(|node| format!("{node}\n")).collect();
        assert_eq!(trusted_peers::parse(&lines).ok(), Some(trusted));
    }
}

fn addresses(bytes: &[u8]) {
    if let Ok(addresses) = serde_json::from_slice::<Addresses>(bytes) {
        let again = serde_json::to_vec(&addresses).expect("always serializes");
        assert_eq!(serde_json::from_slice::<Addresses>(&again).ok(), Some(addresses));
    }
}
