//! What an operator's festival does: it runs as planned, and once more for each thing that may fail alone.
//! Figures only; how they look is in `report.rs`.

use std::{collections::BTreeMap, time::Duration};

use protocol::mesh::TrackKey;
use serde::Serialize;

use super::{Condition, Heard, PACKET_EVERY, Sim, node, plan::Festival};
use crate::route::cuts::Skeleton;

/// A mesh has come up by then.
const WARM_UP: Duration = Duration::from_secs(8);
/// What a failure does shows by then.
const AFTER: Duration = Duration::from_secs(12);
/// Whoever hears nothing for so long in the end hears nothing at all.
const DEAF: Duration = Duration::from_secs(1);

/// Everything that is told.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// As planned: who heard what.
    pub delivery: Vec<Delivery>,
    /// As planned: what crossed each wire.
    pub wires: Vec<Traffic>,
    /// As planned: one message of each relay in the chat.
    pub chat: Chat,
    /// Tracks that were led another way.
    pub rerouted: u64,
    /// Relays whose loss parts the mesh.
    pub articulations: Vec<String>,
    /// Wires whose loss parts the mesh.
    pub bridges: Vec<(String, String)>,
    /// Each thing that may fail, alone.
    pub failures: Vec<Failure>,
}

/// What listeners at a relay heard of a stream.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// The stream.
    pub stream: String,
    /// The relay.
    pub at: String,
    /// Links from the publisher's relay, in the end.
    pub hops: Option<u32>,
    /// Share of the packets that came, from the first one heard.
    pub share: f64,
    /// The longest time without a packet, above what is usual, in milliseconds.
    pub gap_ms: u64,
    /// Nothing comes any more.
    pub lost: bool,
}

/// What crossed a wire, both ways together.
#[derive(Debug, Serialize)]
pub struct Traffic {
    /// A relay.
    pub from: String,
    /// The other.
    pub to: String,
    /// Bytes of messages each second.
    pub control_bytes: u64,
    /// Media packets each second.
    pub packets: u64,
    /// Share of datagrams lost on it.
    pub lost: f64,
    /// Media packets that found no room.
    pub dropped: u64,
}

/// How the chat did.
#[derive(Debug, Default, Serialize)]
pub struct Chat {
    /// Deliveries that were due.
    pub due: usize,
    /// Share of them that came.
    pub share: f64,
    /// Half of them took no longer, in milliseconds.
    pub p50_ms: u64,
    /// The slowest, in milliseconds.
    pub worst_ms: u64,
}

/// What a failure does.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// What fails.
    pub what: String,
    /// Those that hear nothing any more though they and the publisher have power, or a gap above 20 ms.
    pub hurt: Vec<Delivery>,
    /// Relays that are cut off from most others.
    pub cut_off: Vec<String>,
}

/// Runs the festival, and each failure if asked to.
pub fn figures(festival: &Festival, failures: bool) -> Figures {
    let skeleton = Skeleton::new(
        (0..festival.plan.relays.len()).map(node),
        festival.wires.iter().map(|(a, b, _)| crate::route::graph::pair(node(*a), node(*b))),
    );
    let name = |id: &protocol::NodeId| {
        let index = (0..festival.plan.relays.len()).find(|index| node(*index) == *id);
        index.map_or_else(String::new, |index| festival.name(index).to_owned())
    };
    let mut sim = festival.sim();
    let chat = planned(festival, &mut sim);
    let cuts = skeleton.cuts(&node(0));
    let mut figures = Figures {
        delivery: deliveries(festival, &sim),
        wires: traffic(festival, &sim),
        chat,
        rerouted: sim.rerouted,
        articulations: cuts.points.keys().map(&name).collect(),
        bridges: cuts.bridges.keys().map(|(a, b)| (name(a), name(b))).collect(),
        failures: Vec::new(),
    };
    if failures {
        let relays = (0..festival.plan.relays.len()).map(|relay| {
            fail(festival, format!("relay {} dies", festival.name(relay)), |sim| sim.kill(relay))
        });
        let wires = festival.wires.iter().enumerate().map(|(wire, (a, b, _))| {
            let what = format!("{} - {} falls silent", festival.name(*a), festival.name(*b));
            fail(festival, what, |sim| sim.set_wire(wire, Condition::Silent))
        });
        figures.failures = relays.chain(wires).collect();
    }
    figures
}

fn planned(festival: &Festival, sim: &mut Sim) -> Chat {
    sim.run(WARM_UP);
    forget(sim);
    let (began, mut written) = (sim.elapsed(), BTreeMap::new());
    let mut events: Vec<_> = festival.plan.events.iter().collect();
    events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    for relay in 0..festival.plan.relays.len() {
        let text = format!("hello from {relay}");
        sim.append(relay, &text);
        written.insert(text, (relay, sim.now));
    }
    for event in events {
        sim.run((began + Duration::from_secs_f64(event.at_s)).saturating_sub(sim.elapsed()));
        festival.happen(sim, &event.deed);
    }
    sim.run((began + Duration::from_secs(festival.plan.seconds)).saturating_sub(sim.elapsed()));
    let mut took = Vec::new();
    for group in sim.components() {
        for relay in &group {
            let came: BTreeMap<_, _> =
                sim.relays[*relay].arrivals.iter().map(|(payload, at)| (&payload[..], *at)).collect();
            let others = written.iter().filter(|(_, (writer, _))| writer != relay && group.contains(writer));
            took.extend(others.map(|(text, (_, at))| came.get(text.as_bytes()).map(|came| *came - *at)));
        }
    }
    let mut delays: Vec<_> = took.iter().flatten().copied().collect();
    delays.sort_unstable();
    let ms = |delay: Option<&Duration>| delay.map_or(0, |delay| delay.as_millis() as u64);
    Chat {
        due: took.len(),
        share: delays.len() as f64 / took.len().max(1) as f64,
        p50_ms: ms(delays.get(delays.len() / 2)),
        worst_ms: ms(delays.last()),
    }
}

/// What was heard is counted from now on.
fn forget(sim: &mut Sim) {
    for heard in sim.relays.iter_mut().flat_map(|relay| relay.heard.values_mut()) {
        *heard = Heard { last: heard.last, ..Heard::default() };
    }
}

fn deliveries(festival: &Festival, sim: &Sim) -> Vec<Delivery> {
    let both = |(relay, track): &&(usize, TrackKey)| {
        sim.relays[*relay].mesh.is_some() && sim.published(track).is_some()
    };
    festival
        .listeners
        .iter()
        .filter(both)
        .map(|(relay, track)| delivery(festival, sim, *relay, track))
        .collect()
}

fn delivery(festival: &Festival, sim: &Sim, relay: usize, track: &TrackKey) -> Delivery {
    let heard = sim.relays[relay].heard.get(track).cloned().unwrap_or_default();
    let span = if heard.packets == 0 { 1 } else { heard.highest + 1 - heard.first };
    let since = heard.last.map_or(sim.elapsed(), |last| sim.now - last);
    let streams = sim.relays[relay].mesh.as_ref().map(|mesh| mesh.streams()).unwrap_or_default();
    let view = streams.iter().find(|view| view.name == track.stream && view.origin == track.origin);
    Delivery {
        stream: track.stream.to_string(),
        at: festival.name(relay).to_owned(),
        hops: view.map(|view| view.hops),
        share: heard.packets as f64 / span as f64,
        gap_ms: heard.gap.max(since).saturating_sub(PACKET_EVERY).as_millis() as u64,
        lost: since > DEAF,
    }
}

fn traffic(festival: &Festival, sim: &Sim) -> Vec<Traffic> {
    let seconds = sim.elapsed().as_secs().max(1);
    let wire = |(index, (a, b, _)): (usize, &(usize, usize, super::Quality))| {
        let [x, y] = [0, 1].map(|end| sim.wires[index].carried(end));
        Traffic {
            from: festival.name(*a).to_owned(),
            to: festival.name(*b).to_owned(),
            control_bytes: (x.message_bytes + y.message_bytes) / seconds,
            packets: (x.packets + y.packets) / seconds,
            lost: (x.lost + y.lost) as f64 / (x.sent + y.sent).max(1) as f64,
            dropped: x.dropped + y.dropped,
        }
    };
    festival.wires.iter().enumerate().map(wire).collect()
}

fn fail(festival: &Festival, what: String, harm: impl FnOnce(&mut Sim)) -> Failure {
    let mut sim = festival.sim();
    sim.run(WARM_UP);
    forget(&mut sim);
    harm(&mut sim);
    sim.run(AFTER);
    let groups = sim.components();
    let most = groups.iter().max_by_key(|group| group.len());
    let cut_off = groups.iter().filter(|group| Some(*group) != most).flatten();
    let cut_off = cut_off.map(|relay| festival.name(*relay).to_owned()).collect();
    let mut hurt = deliveries(festival, &sim);
    hurt.retain(|delivery| delivery.lost || delivery.gap_ms > 20);
    Failure { what, hurt, cut_off }
}
