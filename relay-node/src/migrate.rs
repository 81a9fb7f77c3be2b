//! Records of format 1, one log per relay for all rooms, as records of today. A relay signs what it wrote
//! itself; what others wrote comes again from them.

use std::collections::BTreeMap;

use mesh_routing::{Keys, LogKey, Record};
use protocol::{NodeId, Topic};

use crate::store::OldRecord;

/// This relay's own old records, numbered for each room and signed.
pub fn records(old: &[OldRecord], life: u64, keys: &dyn Keys) -> Vec<Record> {
    let own: NodeId = keys.node_id();
    let mut highest: BTreeMap<LogKey, u64> = BTreeMap::new();
    let of_today = |old: &OldRecord| {
        let (room, hlc, payload) = rooms::format1::read(&old.payload)?;
        let key = LogKey { topic: Topic::Room(room), writer: own, life };
        let number = highest.entry(key.clone()).or_default();
        *number += 1;
        Some(Record::sign(keys, key, *number, hlc, payload))
    };
    old.iter().filter(|old| old.writer == own).filter_map(of_today).collect()
}
