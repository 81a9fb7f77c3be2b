//! What becomes of chat: a flood longer than the log, and what is on disk afterwards.

use std::collections::BTreeMap;

use media::{sdp::IngestPolicy, transport::Identity as DtlsIdentity};
use mesh_routing::{Config, Keys, Mesh};
use protocol::api::NewMessage;
use rooms::{Source, WallTime};

use super::*;
use crate::node::{Effect, sessions::Sessions};

/// Signs nothing that anybody checks here.
#[derive(Debug)]
struct NoKeys;

impl Keys for NoKeys {
    fn node_id(&self) -> NodeId {
        NodeId([7; 32])
    }
    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [0; 64]
    }
    fn verify(&self, _: &NodeId, _: &[u8], _: &[u8; 64]) -> bool {
        true
    }
}

const WALL: WallTime = WallTime(1_800_000_000_000);

fn node(now: Instant) -> Node {
    started(5, WALL, now)
}

/// A start, with a seed of its own.
fn started(seed: u64, wall: WallTime, now: Instant) -> Node {
    let zone = ZoneName::new("stage").expect("a name");
    let mesh = Mesh::new(Config::new(Arc::new(NoKeys), zone.clone(), 1, seed), now);
    let identity = Arc::new(DtlsIdentity::generate().expect("is made"));
    let sessions = Sessions::new(identity, Vec::new(), IngestPolicy::default());
    let mut node = Node::new(NodeId([7; 32]), zone, mesh, sessions, 0, now, wall);
    node.mesh.handle_wall(wall, now);
    node
}

/// What is on disk, as the store keeps it.
type Disk = BTreeMap<(LogKey, u64), LogEntry>;

fn settle(node: &mut Node, disk: &mut Disk, now: Instant) {
    while let Some(effect) = node.poll_effect(now) {
        match effect {
            Effect::Store(record) => {
                node.handle_stored(Ok(()), now);
                disk.insert((record.key.clone(), record.number), record);
            }
            Effect::Forget(key, below) => disk.retain(|(log, number), _| *log != key || *number >= below),
            _ => {}
        }
    }
    while node.rooms.poll_output().is_some() {}
}

fn say(node: &mut Node, disk: &mut Disk, (address, author): (u32, &str), text: &str, now: Instant) {
    let topic = Topic::Room(RoomName::new("lobby").expect("a name"));
    let new = NewMessage { author: author.into(), text: text.into(), nonce: Some(text.into()) };
    let source = Source { address, participant: 0 };
    let accepted = node.rooms.handle_post(&topic, new, source, WALL).expect("is good");
    node.handle_append(topic, accepted.payload.expect("is new"), now).expect("is appended");
    settle(node, disk, now);
}

fn texts(node: &mut Node, author: &str) -> Vec<String> {
    let topic = Topic::Room(RoomName::new("lobby").expect("a name"));
    let history = node.history(&topic, None, 2000).expect("is there");
    history.into_iter().filter(|message| message.author == author).map(|message| message.text).collect()
}

#[test]
fn a_flood_longer_than_the_log_leaves_what_others_said_on_disk_in_order() {
    let now = crate::clock::now();
    let (mut node, mut disk) = (self::node(now), Disk::new());
    let said: Vec<String> = (0..300).map(|number| format!("line {number:03}")).collect();
    for (number, text) in said.iter().enumerate() {
        // Some of it is said in the flood.
        say(&mut node, &mut disk, (1, "Ada"), text, now);
        for flood in 0..if number < 100 { 0 } else { 80 } {
            say(&mut node, &mut disk, (2, &format!("name {flood}")), &format!("{number} {flood}"), now);
        }
    }
    assert_eq!(texts(&mut node, "Ada"), said);
    // Three turns of a log of 5000, and the disk has one and a piece.
    assert!((5000..5100).contains(&disk.len()), "{}", disk.len());
    let mut after = started(6 << 40, WALL, now);
    for record in disk.into_values() {
        after.restore(record);
    }
    assert_eq!(texts(&mut after, "Ada"), said);
}

#[test]
fn announcements_of_many_starts_and_the_zone_token_stay() {
    let now = crate::clock::now();
    let (mut disk, mut said) = (Disk::new(), Vec::new());
    for start in 0..40_u64 {
        let wall = WallTime(WALL.0 + start * 3_600_000);
        let mut node = started((start + 1) << 40, wall, now);
        for record in std::mem::take(&mut disk).into_values() {
            disk.insert((record.key.clone(), record.number), record.clone());
            node.restore(record);
        }
        // As `show_zone_token` does at the first start, and not at the others.
        node.zone_token = Some("token".to_owned());
        if start == 0 {
            let token = rooms::zone_token::encode("token".to_owned());
            node.handle_append(Topic::Announcements, token, now).expect("is appended");
        }
        let new = NewMessage { author: "Safety".into(), text: format!("{start:02}"), nonce: None };
        said.push(new.text.clone());
        let accepted = node.rooms.handle_post(&Topic::Announcements, new, Source::default(), wall);
        let payload = accepted.expect("is good").payload.expect("is new");
        node.handle_append(Topic::Announcements, payload, now).expect("is appended");
        settle(&mut node, &mut disk, now);
        let shown = node.history(&Topic::Announcements, None, 1000).expect("is there");
        assert_eq!(shown.into_iter().map(|message| message.text).collect::<Vec<_>>(), said);
        let tokens =
            disk.values().filter(|record| rooms::zone_token::decode(&record.entry.payload).is_some());
        assert!(tokens.count() > 0, "the token is gone at start {start}");
    }
    let logs: std::collections::BTreeSet<_> = disk.keys().map(|(key, _)| key).collect();
    assert_eq!(logs.len(), 16, "and older logs have given way");
}

#[test]
fn a_message_shows_the_zone_of_its_relay_as_soon_as_that_is_known() {
    let now = crate::clock::now();
    let (mut node, mut disk) = (self::node(now), Disk::new());
    say(&mut node, &mut disk, (1, "Safety (camping)"), "hello", now);
    let topic = Topic::Room(RoomName::new("lobby").expect("a name"));
    let shown = node.history(&topic, None, 1).expect("is there").remove(0);
    assert_eq!(
        (shown.zone.as_str(), shown.zone_unproven, shown.relay.as_str()),
        ("stage", false, "07070707")
    );
}

#[test]
fn a_room_writes_no_record_that_a_log_does_not_take() {
    assert_eq!(rooms::limits::PAYLOAD_MAX, mesh_routing::log::PAYLOAD_MAX);
}
