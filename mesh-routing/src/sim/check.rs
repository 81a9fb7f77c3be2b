//! The invariants: at every step, and after things have been quiet for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

use protocol::{
    Kind,
    mesh::{StreamTrack, TrackKey},
};

use super::{ENCODINGS, Relay, SOUND, Sim, node};
use crate::NominalRate;

/// Between two looks at a mesh that settles.
const STEP: Duration = Duration::from_millis(500);
/// Drivers notice the last things by then.
const QUIET: Duration = Duration::from_secs(12);
/// A relay that nobody wants a track from any more leaves after this time.
const LEAVING: Duration = Duration::from_millis(2500);

/// Of a sound.
const QUALITIES: [StreamTrack; 3] = [StreamTrack::Rung(0), StreamTrack::Rung(1), StreamTrack::Audio];

type Crossed = BTreeMap<(usize, usize), u64>;

/// After quiescence: who wants a stream that can be had hears it, nothing else flows, everybody knows the
/// same relays, streams and records.
pub fn at_rest(sim: &mut Sim) {
    let before = sim.crossed.clone();
    sim.run(Duration::from_secs(1));
    if let Err(reason) = agree(sim).and_then(|()| nothing_else_flows(sim, &before, 51)) {
        panic!("{reason}");
    }
}

/// Lets time pass until everything is as it should be and stays so, `bound` at most, and until nothing flows
/// that nobody wants, which takes longer by [`LEAVING`] for each relay on the way. Says how long the first
/// took.
pub fn settle(sim: &mut Sim, bound: Duration) -> Duration {
    let began = sim.elapsed();
    let mut right = Some(Duration::ZERO);
    let hops = u32::try_from(sim.relays.len()).unwrap_or(u32::MAX);
    loop {
        let before = sim.crossed.clone();
        sim.run(STEP);
        let took = sim.elapsed() - began;
        if let Err(reason) = agree(sim) {
            right = None;
            assert!(took < bound, "{reason}");
            continue;
        }
        let right = *right.get_or_insert(took);
        if took < QUIET {
            continue;
        }
        match nothing_else_flows(sim, &before, 27) {
            Ok(()) => return right,
            Err(reason) => assert!(took < bound + LEAVING * hops, "{reason}"),
        }
    }
}

/// Whoever says something now is heard by all that it is connected to, within `bound`.
pub fn nobody_is_mute(sim: &mut Sim, bound: Duration) {
    let alive: Vec<_> = (0..sim.relays.len()).filter(|relay| sim.relays[*relay].mesh.is_some()).collect();
    let text = |relay: usize| format!("last words of {relay}");
    alive.iter().for_each(|relay| sim.append(*relay, &text(*relay)));
    let began = sim.elapsed();
    loop {
        sim.run(STEP);
        let groups = sim.components();
        let hear = groups.iter().try_for_each(|group| {
            same_everywhere(sim, group)?;
            let first = group.first().map(|relay| &sim.relays[*relay].records);
            let records = first.into_iter().flatten();
            let heard: BTreeSet<_> = records.clone().map(|record| &record.entry.payload[..]).collect();
            same(&heard.len(), &records.count(), || {
                "what was said, each once, and the records of it".into()
            })?;
            let mute = group.iter().find(|relay| !heard.contains(text(**relay).as_bytes()));
            mute.map_or(Ok(()), |relay| Err(format!("relay {relay} is mute")))
        });
        match hear {
            Ok(()) => return,
            Err(reason) => assert!(sim.elapsed() - began < bound, "after the last words: {reason}"),
        }
    }
}

/// Every packet that crossed a wire since was asked for, at most so many of each track.
fn nothing_else_flows(sim: &Sim, before: &Crossed, most: u64) -> Result<(), String> {
    for (at @ (wire, end), count) in &sim.crossed {
        let crossed = count - before.get(at).copied().unwrap_or(0);
        let relay = &sim.relays[sim.wires[*wire].ends[*end]];
        let link = sim.wires[*wire].links[*end];
        let wanted =
            relay.table.iter().filter(|e| e.sources.iter().any(|(from, _)| Some(*from) == link)).count()
                as u64;
        if crossed > wanted * most {
            let ends = sim.wires[*wire].ends;
            let there = &sim.relays[ends[1 - *end]].table;
            return Err(format!(
                "{crossed} packets for {wanted} tracks to {}; tables there {:?}, at {} {there:?}",
                ends[*end],
                relay.table,
                ends[1 - *end],
            ));
        }
    }
    Ok(())
}

/// Whether everything is as it should be, now.
///
/// # Errors
///
/// The first thing that is not, with the relays it concerns.
pub fn agree(sim: &Sim) -> Result<(), String> {
    tables_have_reasons(sim)?;
    links_have_room(sim)?;
    let groups = sim.components();
    for (relay, key) in sim.wanted() {
        let Some(origin) = sim.published(key) else { continue };
        let together = groups.iter().any(|group| group.contains(&relay) && group.contains(&origin));
        // What is all there is of a picture may not fit, and leave no room for others. Of those in encodings alone all can
        // have the base.
        let large = || sim.wanted().any(|(_, key)| key.track == StreamTrack::Video);
        let narrow = || sim.relays.iter().any(Relay::is_narrow) && large();
        let too_narrow = || sim.relays.iter().any(Relay::is_narrow_for_sound);
        if key.track.kind() == Kind::Video && (narrow() || too_narrow()) {
            continue;
        }
        let tracks = match key.track {
            // Of a sound any of its qualities: which one is a matter of what links carry.
            StreamTrack::Audio | StreamTrack::Rung(_) => QUALITIES.to_vec(),
            StreamTrack::Encoding(_) => vec![StreamTrack::Encoding(ENCODINGS.len() as u8 - 1)],
            StreamTrack::Video => vec![StreamTrack::Video],
        };
        let heard = &sim.relays[relay].heard;
        let of = |track| heard.get(&TrackKey { track, ..key.clone() }).and_then(|heard| heard.last);
        let last = tracks.into_iter().filter_map(of).max();
        let hears = last.is_some_and(|last| sim.now - last < Duration::from_millis(200));
        if sim.relays[relay].mesh.is_some() && hears != together {
            return Err(format!(
                "relay {relay} hears {key:?}: {hears}, is connected to {origin}: {together}, table {:?}",
                sim.relays[relay].table,
            ));
        }
    }
    groups.iter().try_for_each(|group| same_everywhere(sim, group))
}

/// A link that is known to be narrow is planned with most of what it carries at most.
fn links_have_room(sim: &Sim) -> Result<(), String> {
    for (index, relay) in sim.relays.iter().enumerate() {
        for (link, capacity) in relay.mesh.iter().flat_map(|mesh| mesh.capacities()) {
            let sent = relay.table.iter().filter(|entry| entry.children.iter().any(|(to, _)| *to == link));
            let planned: u64 = sent.clone().map(|entry| planned(sim, &entry.track)).sum();
            if planned > capacity * 85 / 100 && sent.clone().any(|entry| !is_base(sim, &entry.track)) {
                return Err(format!(
                    "relay {index} sends {planned} over {link:?} of {capacity}: {:?}",
                    relay.table
                ));
            }
        }
    }
    Ok(())
}

/// Whether its origin makes rungs of it.
fn in_rungs(sim: &Sim, track: &TrackKey) -> bool {
    sim.published(&TrackKey { track: StreamTrack::Rung(0), ..track.clone() }).is_some()
}

/// Whether it is the least of a sound that there is.
fn is_base(sim: &Sim, track: &TrackKey) -> bool {
    match track.track {
        StreamTrack::Audio => !in_rungs(sim, track),
        StreamTrack::Rung(rung) => rung == 0,
        StreamTrack::Video | StreamTrack::Encoding(_) => false,
    }
}

fn planned(sim: &Sim, track: &TrackKey) -> u64 {
    let step = |rate| NominalRate::of(rate).bits_per_second().unwrap_or_default();
    match track.track {
        StreamTrack::Audio if in_rungs(sim, track) => step(SOUND[2]),
        StreamTrack::Audio => 160_000,
        StreamTrack::Rung(rung) => step(SOUND[usize::from(rung)]),
        StreamTrack::Video => 2_500_000,
        StreamTrack::Encoding(place) => step(ENCODINGS[usize::from(place)]),
    }
}

fn tables_have_reasons(sim: &Sim) -> Result<(), String> {
    for (index, relay) in sim.relays.iter().enumerate() {
        for entry in &relay.table {
            let reason = entry.local || !entry.children.is_empty();
            let gone = entry.children.iter().any(|(link, _)| sim.at(*link).is_none());
            if !reason || gone {
                return Err(format!("relay {index} sends nowhere, or on a link that is gone: {entry:?}"));
            }
        }
    }
    Ok(())
}

fn same<T: PartialEq + Debug>(here: &T, right: &T, what: impl Fn() -> String) -> Result<(), String> {
    if here == right { Ok(()) } else { Err(format!("{}: {here:?} is not {right:?}", what())) }
}

/// What hangs together of each area. Streams, packets and records cross from one area to another, so all of a group
/// have to have the same ones. Who has a link to whom and who listens where does not: LSAs of links stay in the
/// area of their origin, by design (`docs/mesh.md`, "Areas"). Of those each relay has to know its own fragment, all
/// of it, and nothing else: a half of its area that broke away is as far from it as any other area.
fn fragments(sim: &Sim, group: &BTreeSet<usize>) -> Vec<BTreeSet<usize>> {
    let area = |relay: usize| sim.relays[relay].mesh.as_ref().map(|mesh| mesh.area());
    let mut areas: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
    for relay in group {
        areas.entry(area(*relay)).or_default().insert(*relay);
    }
    areas.values().flat_map(|area| sim.connected(area)).collect()
}

fn same_everywhere(sim: &Sim, group: &BTreeSet<usize>) -> Result<(), String> {
    let fragments = fragments(sim, group);
    let mut records: Option<Vec<_>> = None;
    let mut streams: Vec<_> =
        group.iter().flat_map(|i| &sim.relays[*i].published).map(|key| key.stream.clone()).collect();
    streams.sort();
    streams.dedup();
    for index in group {
        let relay = &sim.relays[*index];
        let mesh = relay.mesh.as_ref().expect("a group is of relays with power");
        let fragment = fragments.iter().find(|fragment| fragment.contains(index)).unwrap_or(group);
        let mut ids: Vec<_> = fragment.iter().map(|i| node(*i)).collect();
        ids.sort();
        let known: Vec<_> = mesh.reached().map(|(said, _)| said.origin).collect();
        same(&known, &ids, || format!("the relays that {index} knows to reach"))?;
        let known: Vec<_> = mesh.streams().into_iter().map(|s| s.name).collect();
        same(&known, &streams, || format!("the streams that {index} knows"))?;
        for stream in &streams {
            let wants = |i: &&usize| sim.relays[**i].wanted.iter().any(|key| key.stream == *stream);
            let mut hears: Vec<_> = fragment.iter().filter(wants).map(|i| node(*i)).collect();
            hears.sort();
            same(&mesh.heard_by(stream), &hears, || format!("where {stream} is heard, as {index} knows"))?;
        }
        // Of a writer that does not exist everybody may have another part.
        let exists = |r: &&crate::LogEntry| sim.by_id.contains_key(&r.key.writer);
        let shown = relay.records.iter().filter(exists);
        let mut shown: Vec<_> = shown.map(|r| (&r.key, r.number, &r.entry.payload)).collect();
        shown.sort_unstable();
        let count = shown.len();
        let first = records.get_or_insert_with(|| shown.clone());
        same(&count, &first.len(), || format!("records at relay {index}, and at the others"))?;
        if *first != shown {
            return Err(format!("the records of relay {index} are not those of the others"));
        }
    }
    // What a disk of any of them has, all have: nothing that survived is lost.
    let shown: BTreeSet<_> = records.iter().flatten().map(|(key, number, _)| (*key, *number)).collect();
    for index in group {
        let there = sim.relays[*index].disk.written.places();
        let lost =
            there.filter(|(key, _)| sim.by_id.contains_key(&key.writer)).find(|at| !shown.contains(at));
        if let Some((key, number)) = lost {
            return Err(format!(
                "the disk of relay {index} has record {number} of {key:?}, and nobody shows it"
            ));
        }
    }
    Ok(())
}
