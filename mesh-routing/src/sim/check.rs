//! The invariants: at every step, and after things have been quiet for a while.

use std::time::Duration;

use protocol::mesh::TrackKey;

use super::{Sim, node};
use crate::{ForwardEntry, Source};

/// No packet can go in a circle: followed from child to parent, what changed at a relay ends somewhere.
pub fn no_cycle(sim: &Sim, relay: usize) {
    for entry in &sim.relays[relay].table {
        let mut at = parent(sim, relay, &entry.track);
        let mut steps = 0;
        while let Some(found) = at {
            steps += 1;
            let circle = found == relay || steps > sim.relays.len();
            assert!(!circle, "a circle through relay {relay} after {:?}", sim.elapsed());
            at = parent(sim, found, &entry.track);
        }
    }
}

/// The relay that sends a track to this one, where both agree.
fn parent(sim: &Sim, relay: usize, track: &TrackKey) -> Option<usize> {
    let Source::Link { link, alias } = entry(sim, relay, track)?.source else { return None };
    let (wire, end) = sim.at(link)?;
    let parent = sim.wires[wire].ends[1 - end];
    let their = sim.wires[wire].links[1 - end]?;
    entry(sim, parent, track)?.children.contains(&(their, alias)).then_some(parent)
}

fn entry<'a>(sim: &'a Sim, relay: usize, track: &TrackKey) -> Option<&'a ForwardEntry> {
    let table = &sim.relays[relay].table;
    table.binary_search_by(|entry| entry.track.cmp(track)).ok().map(|at| &table[at])
}

/// After quiescence: who wants a stream that can be had hears it, nothing else flows, everybody knows the
/// same relays, streams and records.
pub fn at_rest(sim: &mut Sim) {
    tables_have_reasons(sim);
    let before = sim.crossed.clone();
    sim.run(Duration::from_secs(1));
    for (relay, key) in sim.wanted() {
        let Some(origin) = sim.published(key) else { continue };
        let together = sim.components().iter().any(|group| group.contains(&relay) && group.contains(&origin));
        let last = sim.relays[relay].heard.get(key).and_then(|heard| heard.last);
        let hears = last.is_some_and(|last| sim.now - last < Duration::from_millis(200));
        assert!(
            sim.relays[relay].mesh.is_none() || hears == together,
            "relay {relay} hears {key:?}: {hears}, is connected to {origin}: {together}, table {:?}",
            sim.relays[relay].table,
        );
    }
    for ((wire, end), count) in &sim.crossed {
        let crossed = count - before.get(&(*wire, *end)).copied().unwrap_or(0);
        let relay = &sim.relays[sim.wires[*wire].ends[*end]];
        let link = sim.wires[*wire].links[*end];
        let wanted = relay
            .table
            .iter()
            .filter(|e| matches!(e.source, Source::Link { link: from, .. } if Some(from) == link))
            .count() as u64;
        assert!(
            crossed <= wanted * 51,
            "{crossed} packets for {wanted} tracks on {:?} toward its end {end}; tables there {:?}, at the other end {:?}",
            sim.wires[*wire],
            relay.table,
            sim.relays[sim.wires[*wire].ends[1 - *end]].table,
        );
    }
    same_everywhere(sim);
}

fn tables_have_reasons(sim: &Sim) {
    for (index, relay) in sim.relays.iter().enumerate() {
        for entry in &relay.table {
            assert!(entry.local || !entry.children.is_empty());
            for (link, _) in &entry.children {
                assert!(sim.at(*link).is_some(), "relay {index} sends on a link that is gone");
            }
        }
    }
}

fn same_everywhere(sim: &Sim) {
    for group in sim.components() {
        let mut ids: Vec<_> = group.iter().map(|i| node(*i)).collect();
        ids.sort();
        let mut records: Option<Vec<_>> = None;
        for index in &group {
            let relay = &sim.relays[*index];
            let mesh = relay.mesh.as_ref().expect("a group is of relays with power");
            let known: Vec<_> = mesh.topology().nodes.iter().map(|n| n.id).collect();
            assert_eq!(known, ids, "relay {index} knows the relays it can reach");
            let mut streams: Vec<_> =
                group.iter().flat_map(|i| &sim.relays[*i].published).map(|key| key.stream.clone()).collect();
            streams.sort();
            streams.dedup();
            let known: Vec<_> = mesh.streams().into_iter().map(|s| s.name).collect();
            assert_eq!(known, streams, "relay {index} knows the streams it can reach");
            for stream in &streams {
                let wants = |i: &&usize| sim.relays[**i].wanted.iter().any(|key| key.stream == *stream);
                let mut hears: Vec<_> = group.iter().filter(wants).map(|i| node(*i)).collect();
                hears.sort();
                assert_eq!(mesh.heard_by(stream), hears, "relay {index} knows where {stream} is heard");
            }
            // Of a writer that does not exist everybody may have another part.
            let exists = |r: &&crate::Record| sim.relays.iter().any(|relay| relay.id == r.writer);
            let disk = relay.disk.iter().filter(exists);
            let mut disk: Vec<_> = disk.map(|r| (r.writer, r.number, r.payload.clone())).collect();
            disk.sort();
            let first = records.get_or_insert_with(|| disk.clone());
            assert_eq!(first.len(), disk.len(), "relay {index} has as many records as the others");
            assert!(*first == disk, "relay {index} has the records of the others");
        }
    }
}
