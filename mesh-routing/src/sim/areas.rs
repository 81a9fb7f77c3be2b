//! Areas: what hangs together is found by all, and only what is worth knowing elsewhere travels.

use std::time::Duration;

use protocol::mesh::TrackKey;

use super::{Condition, Quality, Sim, random::Random, shape};
use crate::{AreaId, Fragment, Mesh};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Areas of `of_each` relays, each a ring, one wire from the last relay of an area to the first of the next.
fn rings_in_a_row(areas: usize, of_each: usize, seed: u64) -> Sim {
    let ring = |area: usize| {
        let first = area * of_each;
        shape::ring(of_each).into_iter().map(move |(a, b)| (first + a, first + b))
    };
    let across = (1..areas).map(|area| (area * of_each - 1, area * of_each));
    in_areas(of_each, areas * of_each, (0..areas).flat_map(ring).chain(across).collect(), seed)
}

fn in_areas(of_each: usize, relays: usize, wires: Vec<(usize, usize)>, seed: u64) -> Sim {
    let mut random = Random::new(seed);
    let wires: Vec<_> = wires.iter().map(|(a, b)| (*a, *b, Quality::usual(&mut random))).collect();
    let mut sim = Sim::with_wires(relays, &wires, random);
    for relay in 0..relays {
        sim.relays[relay].area = AreaId((relay / of_each) as u16);
        sim.start(relay);
    }
    sim
}

fn mesh(sim: &Sim, relay: usize) -> &Mesh {
    sim.relays[relay].mesh.as_ref().unwrap()
}

fn lists(sim: &Sim, relay: usize) -> Vec<String> {
    mesh(sim, relay).streams().iter().map(|stream| stream.name.to_string()).collect()
}

fn hears(sim: &Sim, relay: usize, key: &TrackKey) -> bool {
    let last = sim.relays[relay].heard.get(key).and_then(|heard| heard.last);
    last.is_some_and(|last| sim.now - last < Duration::from_millis(100))
}

#[test]
fn a_stream_three_areas_away_is_listed_and_heard() {
    let mut sim = rings_in_a_row(4, 4, 1);
    sim.run(seconds(5));
    let key = sim.publish(1, "main-stage");
    sim.run(seconds(2));
    for relay in 0..16 {
        assert_eq!(lists(&sim, relay), ["main-stage"], "relay {relay}");
        assert_eq!(mesh(&sim, relay).topology().nodes.len(), 4, "links stay in their area");
    }
    sim.want(14, &key, true);
    sim.run(seconds(1));
    assert!(hears(&sim, 14, &key));
    let view = &mesh(&sim, 14).streams()[0];
    assert_eq!((view.origin, view.path[0]), (key.origin, key.origin));
    assert!(view.hops >= 6 && view.path.len() == view.hops as usize + 1, "{view:?}");
    sim.unpublish(1, &key);
    sim.run(seconds(2));
    assert!((0..16).all(|relay| lists(&sim, relay).is_empty()));
}

#[test]
fn a_publisher_that_dies_is_not_listed_elsewhere() {
    let mut sim = rings_in_a_row(3, 4, 2);
    sim.publish(1, "main-stage");
    sim.publish(2, "other-stage");
    sim.run(seconds(5));
    assert_eq!(lists(&sim, 10), ["main-stage", "other-stage"]);
    sim.kill(1);
    sim.run(seconds(4));
    assert_eq!(lists(&sim, 10), ["other-stage"]);
    sim.start(1);
    sim.run(seconds(4));
    assert_eq!(lists(&sim, 10), ["main-stage", "other-stage"]);
}

#[test]
fn an_area_that_is_cut_off_is_gone_and_comes_back() {
    let mut sim = rings_in_a_row(4, 4, 3);
    let key = sim.publish(0, "main-stage");
    sim.want(15, &key, true);
    sim.run(seconds(5));
    assert!(hears(&sim, 15, &key));
    let across = sim.wires.iter().position(|wire| wire.ends == [7, 8]).unwrap();
    sim.set_wire(across, Condition::Silent);
    sim.run(seconds(5));
    assert_eq!((lists(&sim, 7).len(), lists(&sim, 8).len(), lists(&sim, 15).len()), (1, 0, 0));
    assert!(mesh(&sim, 15).areas().iter().all(|area| area.fragment.area.0 >= 2));
    sim.set_wire(across, Condition::Good);
    sim.run(seconds(6));
    assert_eq!(lists(&sim, 15), ["main-stage"]);
    assert!(hears(&sim, 15, &key));
}

#[test]
fn the_halves_of_a_split_area_reach_each_other_through_another() {
    // Two rings of areas 0 and 1, tied at both sides; then area 0 breaks in two.
    let mut wires = shape::chain(6);
    wires.extend(shape::chain(6).into_iter().map(|(a, b)| (6 + a, 6 + b)));
    wires.extend([(0, 6), (5, 11)]);
    let mut sim = in_areas(6, 12, wires, 4);
    let key = sim.publish(0, "main-stage");
    sim.want(5, &key, true);
    sim.run(seconds(5));
    assert!(hears(&sim, 5, &key));
    let middle = sim.wires.iter().position(|wire| wire.ends == [2, 3]).unwrap();
    sim.set_wire(middle, Condition::Silent);
    sim.run(seconds(8));
    assert_eq!(lists(&sim, 5), ["main-stage"]);
    assert!(hears(&sim, 5, &key), "around through area 1");
    let halves: Vec<Fragment> =
        mesh(&sim, 8).areas().iter().map(|area| area.fragment).filter(|f| f.area == AreaId(0)).collect();
    assert_eq!(halves.len(), 2, "both halves have a name: {halves:?}");
    sim.set_wire(middle, Condition::Good);
    sim.run(seconds(12));
    assert!(hears(&sim, 5, &key));
    let whole = mesh(&sim, 8).areas().iter().filter(|area| area.fragment.area == AreaId(0)).count();
    assert_eq!(whole, 1);
}

#[test]
fn a_border_relay_that_lost_its_disk_is_believed_again() {
    let mut sim = rings_in_a_row(3, 4, 5);
    let key = sim.publish(0, "main-stage");
    sim.want(11, &key, true);
    sim.run(seconds(5));
    for _ in 0..4 {
        sim.publish(1, "other-stage");
        sim.run(seconds(2));
    }
    // Relay 7 is the only way out of area 1.
    sim.kill(7);
    sim.run(seconds(4));
    assert!(lists(&sim, 11).is_empty());
    sim.relays[7].boot = 0;
    sim.start(7);
    sim.run(seconds(6));
    assert_eq!(lists(&sim, 11), ["main-stage", "other-stage"]);
    assert!(hears(&sim, 11, &key));
}

#[test]
fn a_log_goes_through_all_areas() {
    let mut sim = rings_in_a_row(4, 4, 6);
    sim.run(seconds(2));
    sim.append(0, "hello");
    sim.run(seconds(2));
    assert!(sim.relays.iter().all(|relay| relay.disk.len() == 1));
}
