//! What a cut does to those who listen: every wire is cut, every relay killed, and the gaps are counted.

use std::{collections::BTreeMap, time::Duration};

use protocol::{Kind, mesh::TrackKey};

use super::{Condition, PACKET_EVERY, Sim, check, random::Random, shape};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Gaps above the spacing of packets, in milliseconds, and packets that never came, one each per listener.
#[derive(Debug, Default)]
struct Gaps {
    extra: Vec<u128>,
    lost: Vec<u64>,
}

impl Gaps {
    fn add(&mut self, sim: &Sim, relay: usize, key: &TrackKey) {
        let heard = &sim.relays[relay].heard[key];
        self.extra.push(heard.gap.saturating_sub(PACKET_EVERY).as_millis());
        self.lost.push(heard.highest + 1 - heard.first - heard.packets);
    }

    fn percentile(&mut self, of_hundred: usize) -> u128 {
        self.extra.sort_unstable();
        self.extra[(self.extra.len() - 1) * of_hundred / 100]
    }

    fn print(&mut self, what: &str) {
        let above = self.extra.iter().filter(|gap| **gap > 20).count();
        let lossy = self.lost.iter().filter(|lost| **lost > 0).count();
        let worst_loss = self.lost.iter().max().copied().unwrap_or(0);
        let [p50, p95, worst] = [50, 95, 100].map(|of| self.percentile(of));
        println!(
            "{what}: {} listeners, {above} with a gap above 20 ms, {lossy} that miss packets ({worst_loss} at most); \
             p50 {p50} p95 {p95} worst {worst} ms",
            self.extra.len(),
        );
    }
}

/// All relays but the first listen to it; `harm` comes after things have settled.
fn listen(relays: usize, wires: &[(usize, usize)], kind: Kind, seed: u64) -> (Sim, TrackKey) {
    let mut sim = Sim::near(relays, wires, seed);
    let key = sim.publish_kind(0, "main-stage", kind);
    (1..relays).for_each(|relay| sim.want(relay, &key, true));
    sim.run(seconds(8));
    for relay in &mut sim.relays {
        relay
            .heard
            .values_mut()
            .for_each(|heard| *heard = super::Heard { last: heard.last, ..Default::default() });
    }
    sim.run(Duration::from_millis(seed * 7 % 50));
    (sim, key)
}

fn every_cut(relays: usize, wires: &[(usize, usize)], kind: Kind, seed: u64, gaps: &mut Gaps) {
    for wire in 0..wires.len() {
        let (mut sim, key) = listen(relays, wires, kind, seed);
        sim.set_wire(wire, Condition::Silent);
        sim.run(seconds(4));
        (1..relays).for_each(|relay| gaps.add(&sim, relay, &key));
    }
}

fn every_kill(relays: usize, wires: &[(usize, usize)], kind: Kind, seed: u64, gaps: &mut Gaps) {
    for victim in 1..relays {
        let (mut sim, key) = listen(relays, wires, kind, seed);
        sim.kill(victim);
        sim.run(seconds(4));
        let components = sim.components();
        let with_origin = components.iter().find(|group| group.contains(&0)).unwrap();
        with_origin.iter().filter(|relay| **relay != 0).for_each(|relay| gaps.add(&sim, *relay, &key));
    }
}

/// Whether no wire's cut parts the mesh.
fn two_connected(relays: usize, wires: &[(usize, usize)]) -> bool {
    (0..wires.len()).all(|cut| {
        let mut group: Vec<usize> = (0..relays).collect();
        for _ in 0..relays {
            for (_, (a, b)) in wires.iter().enumerate().filter(|(wire, _)| *wire != cut) {
                let low = group[*a].min(group[*b]);
                (group[*a], group[*b]) = (low, low);
            }
        }
        group.iter().all(|group| *group == 0)
    })
}

fn shapes(seed: u64) -> Vec<(&'static str, usize, shape::Wires)> {
    let mut random = Random::new(seed);
    let mut shapes = vec![("two rings", 7, shape::two_rings(4)), ("ladder", 8, shape::ladder(4))];
    let field = (0..).map(|_| shape::geometric(16, 3, &mut random)).find(|wires| two_connected(16, wires));
    shapes.extend(field.map(|wires| ("field", 16, wires)));
    shapes
}

fn runs() -> u64 {
    std::env::var("SIM_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn no_cut_of_a_ring_is_heard_with_hot_feeds() {
    for relays in [4, 5] {
        let mut gaps = Gaps::default();
        (0..50).for_each(|seed| every_cut(relays, &shape::ring(relays), Kind::Audio, seed, &mut gaps));
        gaps.print(&format!("hot, silent cut, ring of {relays}"));
        assert!(gaps.percentile(100) <= 20);
        assert!(gaps.lost.iter().all(|lost| *lost == 0));
    }
}

#[test]
fn a_cut_of_a_ring_is_short_with_warm_feeds() {
    for relays in [4, 5] {
        let mut gaps = Gaps::default();
        (0..50).for_each(|seed| every_cut(relays, &shape::ring(relays), Kind::Video, seed, &mut gaps));
        gaps.print(&format!("warm, silent cut, ring of {relays}"));
        assert!(gaps.percentile(95) < 300);
    }
}

#[test]
fn a_killed_relay_of_a_ring_is_not_heard_with_hot_feeds() {
    let mut gaps = Gaps::default();
    (0..10).for_each(|seed| every_kill(5, &shape::ring(5), Kind::Audio, seed, &mut gaps));
    gaps.print("hot, relay killed, ring of 5");
    assert!(gaps.percentile(100) <= 20);
}

#[test]
fn one_cut_anywhere_is_hardly_heard() {
    let mut all: BTreeMap<String, Gaps> = BTreeMap::new();
    for seed in 0..runs() {
        for (name, relays, wires) in shapes(seed) {
            for (kind, word) in [(Kind::Audio, "hot"), (Kind::Video, "warm")] {
                let gaps = all.entry(format!("{word}, silent cut, {name} of {relays}")).or_default();
                every_cut(relays, &wires, kind, seed, gaps);
                let gaps = all.entry(format!("{word}, relay killed, {name} of {relays}")).or_default();
                every_kill(relays, &wires, kind, seed, gaps);
            }
        }
    }
    for (what, gaps) in &mut all {
        gaps.print(what);
    }
    for (what, gaps) in &mut all {
        assert!(gaps.percentile(95) < 300, "{what}");
    }
}

#[test]
fn a_cut_that_is_mended_leaves_everything_as_it_was() {
    let (mut sim, key) = listen(5, &shape::ring(5), Kind::Video, 3);
    let hops = |sim: &Sim| sim.relays[1].mesh.as_ref().unwrap().streams()[0].hops;
    sim.set_wire(0, Condition::Silent);
    sim.run(seconds(5));
    assert_eq!(hops(&sim), 4);
    sim.set_wire(0, Condition::Good);
    sim.run(seconds(25));
    assert_eq!(hops(&sim), 1);
    assert!(sim.relays[1].heard[&key].packets > 0);
    check::at_rest(&mut sim);
}

#[test]
fn a_full_link_refuses_video_and_never_audio() {
    let mut sim = Sim::new(2, &shape::chain(2), 1);
    let tracks: Vec<_> = (0..3).map(|i| sim.publish_kind(0, &format!("v-{i}"), Kind::Video)).collect();
    let audio = sim.publish(0, "sound");
    sim.run(seconds(2));
    let (now, link) = (sim.now, sim.wires[0].links[0].unwrap());
    sim.with(0, |mesh| mesh.handle_capacity(link, Some(6_000_000), now));
    for track in &tracks {
        sim.want(1, track, true);
        sim.run(Duration::from_millis(50));
    }
    sim.run(seconds(1));
    let heard = |sim: &Sim, key: &TrackKey| sim.relays[1].heard.get(key).map_or(0, |heard| heard.packets);
    assert_eq!(tracks.iter().map(|key| heard(&sim, key) > 0).collect::<Vec<_>>(), [true, true, false]);
    sim.want(1, &audio, true);
    sim.run(seconds(1));
    let before: Vec<_> = tracks.iter().map(|key| heard(&sim, key)).collect();
    sim.run(seconds(1));
    let after: Vec<_> = tracks.iter().map(|key| heard(&sim, key)).collect();
    assert!(heard(&sim, &audio) > 40);
    assert!(after[0] > before[0] && after[1] == before[1], "the newest made room: {before:?} {after:?}");
    let refusals = sim.relays[0].mesh.as_ref().unwrap().counters().refusals;
    assert!(refusals.full > 0 && refusals.made_room == 1, "{refusals:?}");
    sim.with(0, |mesh| mesh.handle_capacity(link, None, now));
    sim.run(seconds(8));
    check::at_rest(&mut sim);
}

/// Two wires between two relays, and a capacity told for one of them.
#[test]
fn tracks_are_shared_out_among_the_wires_to_a_neighbor() {
    for (capacities, expected) in [([8_000_000, 8_000_000], [6, 6]), ([16_000_000, 8_000_000], [8, 4])] {
        let mut sim = Sim::new(2, &[(0, 1), (0, 1)], 1);
        sim.run(seconds(2));
        let links = [0, 1].map(|wire: usize| sim.wires[wire].links[1].unwrap());
        for (link, capacity) in links.into_iter().zip(capacities) {
            let now = sim.now;
            sim.with(1, |mesh| mesh.handle_capacity(link, Some(capacity), now));
        }
        // What stays so for 2 s is told.
        sim.run(seconds(3));
        for track in 0..12 {
            let track = sim.publish_kind(0, &format!("v-{track}"), Kind::Video);
            sim.want(1, &track, true);
        }
        sim.run(Duration::from_millis(500));
        let forwarding = sim.relays[1].mesh.as_ref().unwrap().forwarding();
        let carried = links.map(|link| {
            forwarding.iter().flat_map(|entry| &entry.sources).filter(|(by, _)| *by == link).count()
        });
        assert_eq!(carried, expected);
    }
}
