//! Records of format 1, one log per relay for all rooms, as records of today. A relay signs what it wrote
//! itself; what others wrote comes again from them.

use std::collections::BTreeMap;

use mesh_routing::{Keys, LogEntry, LogKey};
use protocol::{NodeId, Topic};

use super::records::OldRecord;

/// This relay's own old records, numbered for each room and signed.
pub fn records(old: &[OldRecord], incarnation: u64, keys: &dyn Keys) -> Vec<LogEntry> {
    let own: NodeId = keys.node_id();
    let mut highest: BTreeMap<LogKey, u64> = BTreeMap::new();
    let of_today = |old: &OldRecord| {
        let (room, hlc, payload) = rooms::format1::read(&old.payload)?;
        let key = LogKey { topic: Topic::Room(room), writer: own, incarnation };
        let number = highest.entry(key.clone()).or_default();
        *number += 1;
        Some(LogEntry::sign(keys, key, *number, hlc, payload))
    };
    old.iter().filter(|old| old.writer == own).filter_map(of_today).collect()
}

#[cfg(test)]
mod tests {
    use protocol::{Hlc, RoomName};

    use super::*;
    use crate::bridge::Identity;

    #[test]
    fn what_this_relay_wrote_is_numbered_by_room_and_signed() {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = Identity::load_or_create(directory.path()).expect("is made").keys();
        let old = |writer: NodeId, room: &str, text: &str, clock: u64| {
            let chat = (0u8, room, "Ada", text, "n", "stage", 5u64, clock);
            OldRecord { writer, payload: postcard::to_stdvec(&chat).expect("serializes").into() }
        };
        let other = NodeId([9; 32]);
        let junk = OldRecord { writer: keys.node_id(), payload: vec![7; 20].into() };
        let own = keys.node_id();
        let old = [
            old(own, "lobby", "one", 7),
            old(own, "crew", "two", 8),
            junk,
            old(own, "lobby", "three", 9),
            old(other, "lobby", "of another", 9),
        ];
        let records = records(&old, 5, &*keys);
        let place = |record: &LogEntry| (record.key.topic.clone(), record.number, record.entry.hlc);
        let room = |name: &str| Topic::Room(RoomName::new(name).expect("a name"));
        let expected = [(room("lobby"), 1, Hlc(7)), (room("crew"), 1, Hlc(8)), (room("lobby"), 2, Hlc(9))];
        assert_eq!(records.iter().map(place).collect::<Vec<_>>(), expected);
        assert!(records.iter().all(|record| record.key.incarnation == 5 && record.verify(&*keys)));
    }
}
