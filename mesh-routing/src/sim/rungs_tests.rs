//! Sounds in rungs through whole meshes: what is taken of them, over links that are thin, past relays that know of none, and
//! that nothing is missing where a listener goes on in another rung.

use std::{collections::BTreeSet, time::Duration};

use protocol::{BridgeVersion, BridgeVersions, mesh::TrackKey};

use super::{Condition, PACKET_EVERY, Sim, check, random::Random, shape, wire::Quality};

const LOW: usize = 0;
const MIDDLE: usize = 1;
const TOP: usize = 2;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Which qualities of a sound come to a relay, as its links carry them in the next half second.
fn carried(sim: &mut Sim, relay: usize, sound: &[TrackKey]) -> Vec<usize> {
    let count = |sim: &Sim, key: &TrackKey| sim.relays[relay].heard.get(key).map_or(0, |heard| heard.packets);
    let before: Vec<_> = sound.iter().map(|key| count(sim, key)).collect();
    sim.run(Duration::from_millis(500));
    (0..sound.len()).filter(|at| count(sim, &sound[*at]) > before[*at] + 10).collect()
}

/// The longest time in which no quality of a sound comes to a relay from now on, by steps of 10 ms.
fn longest_gap(sim: &mut Sim, relay: usize, sound: &[TrackKey], time: Duration) -> Duration {
    let (mut longest, began) = (Duration::ZERO, sim.now);
    for _ in 0..time.as_millis() / 10 {
        sim.run(Duration::from_millis(10));
        let last = sound.iter().filter_map(|key| sim.relays[relay].heard.get(key)?.last).max();
        longest = longest.max(sim.now - last.unwrap_or(began));
    }
    longest
}

#[test]
fn a_link_carries_each_quality_that_somebody_behind_it_wants_once_and_no_other() {
    let mut sim = Sim::new(4, &[(0, 1), (1, 2), (1, 3)], 1);
    let sound = sim.publish_rungs(0, "main-stage");
    sim.run(seconds(1));
    sim.want(2, &sound[LOW], true);
    sim.run(seconds(2));
    assert_eq!(carried(&mut sim, 2, &sound), [LOW]);
    assert_eq!(sim.sent(0, 0), BTreeSet::from([sound[LOW].clone()]), "and not what the publisher sends");
    sim.want(3, &sound[LOW], true);
    sim.want(1, &sound[TOP], true);
    sim.run(seconds(2));
    assert_eq!(sim.sent(0, 0), BTreeSet::from([sound[LOW].clone(), sound[TOP].clone()]));
    // What a relay passes on is there for its own listeners too.
    let all = [1, 2, 3].map(|relay| carried(&mut sim, relay, &sound));
    assert_eq!(all, [vec![LOW, TOP], vec![LOW], vec![LOW]]);
    // A wish that changes: the other comes first.
    sim.want(2, &sound[MIDDLE], true);
    sim.want(2, &sound[LOW], false);
    let gap = longest_gap(&mut sim, 2, &sound, seconds(5));
    assert!(gap < PACKET_EVERY * 2, "{gap:?}");
    assert_eq!(carried(&mut sim, 2, &sound), [MIDDLE]);
    check::at_rest(&mut sim);
    for (relay, quality) in [(1, TOP), (2, MIDDLE), (3, LOW)] {
        sim.want(relay, &sound[quality], false);
    }
    sim.run(seconds(6));
    assert!((0..3).all(|wire| sim.sent(wire.min(1), wire).is_empty()), "nobody is left");
}

#[test]
fn on_a_thin_link_each_stage_comes_in_what_fits_and_back_where_there_is_room() {
    let mut sim = Sim::new(3, &shape::chain(3), 2);
    let stages = ["one", "two"].map(|name| sim.publish_rungs(0, name));
    for stage in &stages {
        sim.want(1, &stage[TOP], true);
        sim.want(2, &stage[TOP], true);
    }
    sim.run(seconds(3));
    let all = |sim: &mut Sim| {
        [1, 2].map(|relay| stages.each_ref().map(|stage| carried(sim, relay, stage))).concat()
    };
    assert_eq!(all(&mut sim), vec![vec![TOP]; 4]);
    // 85 % are 136 kbit/s: room for two low rungs of 40, and for no middle one of 100 beside one. Of 153 and 212 the first
    // that is asked for gets as much as fits beside the base of the other.
    for (rate, one, two) in [(160_000, LOW, LOW), (180_000, MIDDLE, LOW), (250_000, TOP, LOW)] {
        sim.set_capacity((0, 0), rate);
        sim.run(seconds(24));
        let carried = all(&mut sim);
        assert_eq!(carried[..2], carried[2..], "the next relay hears the same, {rate}");
        let mut qualities = carried[..2].concat();
        qualities.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(qualities, [one, two], "{rate}");
        check::at_rest(&mut sim);
    }
    sim.set_capacity((0, 0), 10_000_000);
    sim.run(seconds(8));
    assert_eq!(all(&mut sim), vec![vec![TOP]; 4]);
    check::at_rest(&mut sim);
}

#[test]
fn a_link_that_becomes_thin_and_wide_again_leaves_no_gap() {
    for relays in [2, 3] {
        let mut sim = Sim::new(relays, &shape::chain(relays), 3);
        let sound = sim.publish_rungs(0, "main-stage");
        let last = relays - 1;
        sim.want(last, &sound[TOP], true);
        sim.run(seconds(4));
        for (rate, quality) in [(160_000, MIDDLE), (60_000, LOW), (500_000, TOP)] {
            sim.set_capacity((0, 0), rate);
            let gap = longest_gap(&mut sim, last, &sound, seconds(9));
            assert!(gap < PACKET_EVERY * 2, "{gap:?} at {rate}, {relays} relays");
            assert_eq!(carried(&mut sim, last, &sound), [quality], "{rate}");
        }
    }
}

#[test]
fn rungs_that_end_are_heard_until_what_the_publisher_sends_has_come() {
    for (relays, quality) in [(2, LOW), (2, MIDDLE), (3, LOW), (5, LOW)] {
        let mut sim = Sim::new(relays, &shape::chain(relays), 3);
        sim.wires.iter_mut().for_each(|wire| wire.quality.delay_us = 40_000);
        let sound = sim.publish_rungs(0, "main-stage");
        let last = relays - 1;
        sim.want(last, &sound[quality], true);
        sim.run(seconds(6));
        for makes in [false, true, false] {
            sim.make_rungs(0, &sound[TOP], makes);
            let gap = longest_gap(&mut sim, last, &sound, seconds(5));
            let of = format!("{makes}, quality {quality}, {relays} relays");
            assert!(gap < PACKET_EVERY * 2, "{gap:?}: {of}");
            let comes = if makes { quality } else { TOP };
            assert_eq!(carried(&mut sim, last, &sound), [comes], "{of}");
            assert_eq!(sim.sent(0, 0), BTreeSet::from([sound[comes].clone()]), "and nothing else: {of}");
        }
    }
}

#[test]
fn a_base_goes_before_the_better_qualities_of_others_and_any_sound_before_a_picture() {
    let mut sim = Sim::new(2, &shape::chain(2), 4);
    let picture = sim.publish_encodings(0, "picture");
    let stages = ["one", "two"].map(|name| sim.publish_rungs(0, name));
    sim.set_capacity((0, 0), 300_000);
    sim.run(seconds(1));
    // 255 kbit/s: the base of the picture takes 160 of them, the top of a sound as much.
    sim.want(1, &picture[0], true);
    sim.want(1, &stages[0][LOW], true);
    sim.run(seconds(3));
    assert_eq!(carried(&mut sim, 1, &picture), [0]);
    sim.want(1, &stages[0][TOP], true);
    sim.run(seconds(3));
    assert_eq!(carried(&mut sim, 1, &picture), [] as [usize; 0], "sound is no less for a picture");
    assert_eq!(carried(&mut sim, 1, &stages[0]), [LOW, TOP]);
    sim.want(1, &stages[1][LOW], true);
    sim.run(seconds(3));
    assert_eq!(carried(&mut sim, 1, &stages[0]), [LOW, TOP], "all of it fits");
    sim.set_capacity((0, 0), 200_000);
    sim.run(seconds(3));
    // 170: who wanted the top gets the low one, which the other has, or the middle one beside it.
    assert_eq!(carried(&mut sim, 1, &stages[1]), [LOW], "no base goes for a top");
    assert!(!carried(&mut sim, 1, &stages[0]).contains(&TOP));
    check::at_rest(&mut sim);
}

/// A chain in which one relay speaks an earlier version.
fn chain(relays: usize, older: usize, version: BridgeVersion) -> Sim {
    let wires: Vec<_> = shape::chain(relays).iter().map(|(a, b)| (*a, *b, Quality::default())).collect();
    let mut sim = Sim::with_wires(relays, &wires, Random::new(5));
    sim.relays[older].versions = BridgeVersions::new(BridgeVersion::FIRST, version).expect("a range");
    (0..relays).for_each(|relay| sim.start(relay));
    sim
}

#[test]
fn a_neighbor_that_knows_of_no_rungs_gets_the_sound_as_ever() {
    for version in [BridgeVersion::FIRST, BridgeVersion::ENCODINGS] {
        // Behind it who wants less gets what the publisher sends.
        let mut sim = chain(4, 1, version);
        let sound = sim.publish_rungs(0, "main-stage");
        sim.want(3, &sound[LOW], true);
        sim.run(seconds(4));
        assert_eq!(carried(&mut sim, 3, &sound), [TOP], "{version}");
        sim.set_capacity((0, 0), 60_000);
        sim.set_capacity((1, 0), 60_000);
        let gap = longest_gap(&mut sim, 3, &sound, seconds(6));
        assert!(gap < PACKET_EVERY * 2, "a sound is never refused where it is all there is: {gap:?}");
        // It is updated: the rung crosses, and nothing else.
        sim.kill(1);
        sim.relays[1].versions = BridgeVersions::SPOKEN;
        sim.run(seconds(3));
        sim.start(1);
        sim.run(seconds(30));
        assert_eq!(carried(&mut sim, 3, &sound), [LOW], "{version}");
    }
}

#[test]
fn what_a_relay_behind_needs_is_not_refused_on_the_way() {
    // 3 knows of no rungs, and the thin link is two hops before it.
    let mut sim = chain(4, 3, BridgeVersion::ENCODINGS);
    let sound = sim.publish_rungs(0, "main-stage");
    sim.set_capacity((0, 0), 60_000);
    sim.run(seconds(1));
    sim.want(3, &sound[TOP], true);
    sim.want(1, &sound[TOP], true);
    sim.run(seconds(4));
    assert_eq!(carried(&mut sim, 3, &sound), [TOP]);
    assert_eq!(carried(&mut sim, 1, &sound), [TOP]);
    sim.want(3, &sound[TOP], false);
    sim.run(seconds(30));
    sim.set_capacity((0, 0), 61_000);
    sim.run(seconds(3));
    assert_eq!(carried(&mut sim, 1, &sound), [LOW], "for itself it is content with less");
}

#[test]
fn rungs_come_two_ways_and_a_cut_is_not_heard() {
    let mut worst = Duration::ZERO;
    for seed in 0..10 {
        for wire in 0..4 {
            let mut sim = Sim::near(4, &shape::ring(4), seed);
            let sound = sim.publish_rungs(0, "main-stage");
            sim.run(seconds(1));
            (1..4).for_each(|relay| sim.want(relay, &sound[LOW], true));
            sim.run(seconds(8));
            sim.forget_gaps();
            sim.set_wire(wire, Condition::Silent);
            sim.run(seconds(8));
            for relay in 1..4 {
                worst = worst.max(sim.relays[relay].heard[&sound[LOW]].gap);
                assert!(!sim.relays[relay].heard.contains_key(&sound[TOP]), "nobody wants it");
            }
        }
    }
    println!("a rung in a ring of four, every wire cut: a gap of {worst:?} at worst");
    assert!(worst <= PACKET_EVERY + Duration::from_millis(20), "{worst:?}");
}
