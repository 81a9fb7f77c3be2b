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
    sim.relays[7].disk.written.boot = 0;
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
    assert!(sim.relays.iter().all(|relay| relay.records.len() == 1));
}

/// What crosses a link, in bytes per second, both directions together.
#[derive(Debug)]
struct Traffic {
    probes: f64,
    control: f64,
}

/// The numbers of probes and their answers in `Message`.
const PROBES: [u8; 2] = [0, 1];

fn measured(sim: &mut Sim, time: Duration) -> Traffic {
    sim.said.clear();
    sim.run(time);
    let per = time.as_secs_f64() * sim.wires.len() as f64;
    let bytes = |probes: bool| {
        let of = sim.said.iter().filter(|(kind, _)| PROBES.contains(kind) == probes);
        of.map(|(_, (_, bytes))| bytes).sum::<u64>() as f64 / per
    };
    Traffic { probes: bytes(true), control: bytes(false) }
}

/// A field with near wires and some far ones: about six at each relay.
fn field(relays: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let mut wires = shape::geometric(relays, 3, random);
    let mut any = || random.below(relays as u64) as usize;
    wires.extend(
        (0..relays / 2).map(|_| (any(), any())).filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))),
    );
    wires.sort_unstable();
    wires.dedup();
    wires
}

/// Fields, each an area; those that are near each other are tied twice.
fn fields(areas: usize, of_each: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let mut wires = Vec::new();
    for area in 0..areas {
        let inside = field(of_each, random);
        wires.extend(inside.into_iter().map(|(a, b)| (area * of_each + a, area * of_each + b)));
    }
    let near = shape::geometric(areas, 3, random);
    for (a, b) in near.into_iter().flat_map(|pair| [pair, pair]) {
        let mut end = |area: usize| area * of_each + random.below(of_each as u64) as usize;
        wires.push((end(a), end(b)));
    }
    wires.sort_unstable();
    wires.dedup();
    wires
}

/// Everybody in an area knows the same of it, and everybody anywhere lists all streams.
fn at_rest(sim: &Sim, of_each: usize, streams: usize) {
    for (relay, of) in sim.relays.iter().enumerate() {
        let (mesh, first) = (of.mesh.as_ref().unwrap(), mesh(sim, relay / of_each * of_each));
        assert_eq!(mesh.lsdb().hash(false), first.lsdb().hash(false), "relay {relay} knows its area");
        assert_eq!(mesh.lsdb().hash(true), self::mesh(sim, 0).lsdb().hash(true));
        assert_eq!(mesh.streams().len(), streams, "relay {relay} lists all streams");
    }
}

/// Prints what crosses a link: when nothing happens, and because one link in the middle of it is cut.
fn figures(what: &str, sim: &mut Sim, of_each: usize) {
    let cut = sim.wires.iter().position(|wire| wire.ends[0] / of_each == wire.ends[1] / of_each).unwrap();
    let steady = measured(sim, seconds(20));
    sim.set_wire(cut, Condition::Cut);
    let changed = measured(sim, seconds(3));
    let more = (changed.control - steady.control).max(0.0) * 3.0;
    println!(
        "{what}: {:.0} B/s of probes, {:.0} B/s of control, {more:.0} B more for one link cut, per link",
        steady.probes, steady.control
    );
    assert!(steady.control < 2000.0 && more < 10_000.0);
}

#[test]
fn what_500_relays_in_one_area_say() {
    let began = super::epoch();
    let mut random = Random::new(500);
    let wires = field(500, &mut random);
    let mut sim = in_areas(500, 500, wires, 500);
    for stage in 0..25 {
        sim.publish_encodings(stage * 20, &format!("stage-{stage}"));
    }
    sim.run(seconds(12));
    at_rest(&sim, 500, 25);
    figures(&format!("500 relays, {} links", sim.wires.len()), &mut sim, 500);
    println!("{:?} to simulate", began.elapsed());
}

#[test]
fn what_5000_relays_in_50_areas_say() {
    let began = super::epoch();
    let mut random = Random::new(5000);
    let wires = fields(50, 100, &mut random);
    let mut sim = in_areas(100, 5000, wires, 5000);
    let publish = |area: usize| sim.publish_encodings(area * 100 + 17, &format!("stage-{area}"))[0].clone();
    let keys: Vec<_> = (0..50).map(publish).collect();
    sim.run(seconds(15));
    let records = sim.said.get(&2).copied().unwrap_or_default();
    println!("{:?} until all is known, {} records", began.elapsed(), records.0);
    at_rest(&sim, 100, 50);
    // The stream that is furthest away from relay 0, and what is heard of it there.
    let far = mesh(&sim, 0).areas().into_iter().max_by_key(|area| area.path.len()).unwrap();
    assert!(far.path.len() >= 3, "{far:?}");
    let key = keys[usize::from(far.fragment.area.0)].clone();
    sim.want(0, &key, true);
    sim.run(seconds(2));
    assert!(hears(&sim, 0, &key), "{far:?}");
    figures(&format!("5000 relays in 50 areas, {} links", sim.wires.len()), &mut sim, 100);
    println!("{} fragments on the way, {:?} to simulate", far.path.len(), began.elapsed());
}
