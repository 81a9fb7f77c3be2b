//! What whole meshes do.

use std::time::Duration;

use protocol::mesh::TrackKey;

use super::{Condition, Sim, check, random::Random, shape};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_stream_is_heard_at_the_other_end_of_a_chain_of_four() {
    let mut sim = Sim::new(4, &shape::chain(4), 1);
    let key = sim.publish(0, "main-stage");
    sim.run(seconds(2));
    sim.want(3, &key, true);
    sim.run(Duration::from_millis(100));
    assert!(sim.relays[3].heard[&key].packets > 0);
    let view = &sim.relays[3].mesh.as_ref().unwrap().streams()[0];
    assert_eq!((view.hops, view.path.clone()), (3, (0..4).map(super::node).collect()));
    sim.run(seconds(5));
    check::at_rest(&mut sim);
}

/// Who hears a stream, by index, as known at a relay.
fn heard_at(sim: &Sim, relay: usize, key: &TrackKey) -> Vec<usize> {
    let by = sim.relays[relay].mesh.as_ref().unwrap().heard_by(&key.stream);
    let mut by: Vec<_> = by.iter().map(|id| sim.relays.iter().position(|r| r.id == *id).unwrap()).collect();
    by.sort_unstable();
    by
}

#[test]
fn every_relay_knows_where_a_stream_is_heard() {
    let mut sim = Sim::new(4, &shape::chain(4), 1);
    let key = sim.publish(0, "main-stage");
    sim.run(seconds(2));
    sim.want(1, &key, true);
    sim.run(Duration::from_millis(100));
    sim.want(3, &key, true);
    sim.run(Duration::from_millis(900));
    assert_eq!(heard_at(&sim, 0, &key), [1, 3], "after a second at most");
    assert_eq!(heard_at(&sim, 2, &key), [1, 3], "where nobody listens too");
    sim.want(3, &key, false);
    sim.run(seconds(5));
    assert_eq!(heard_at(&sim, 0, &key), [1], "gone after five seconds at most");
    let now = sim.now;
    sim.with(0, |mesh| mesh.handle_listeners(&key.stream, true, now));
    sim.run(seconds(1));
    assert_eq!((heard_at(&sim, 0, &key), heard_at(&sim, 3, &key)), (vec![0, 1], vec![0, 1]));
    sim.set_wire(0, Condition::Cut);
    sim.run(seconds(2));
    assert_eq!(heard_at(&sim, 0, &key), [0], "whoever cannot be reached does not hear it");
    sim.set_wire(0, Condition::Good);
    sim.run(seconds(8));
    assert_eq!(heard_at(&sim, 0, &key), [0, 1]);
}

#[test]
fn listeners_that_come_and_go_cost_little_and_no_routes() {
    let mut sim = Sim::new(6, &shape::ring(6), 9);
    sim.run(seconds(10));
    let routed = |sim: &Sim| -> Vec<u64> {
        sim.relays.iter().map(|relay| relay.mesh.as_ref().unwrap().counters().routed).collect()
    };
    let originated = |sim: &Sim| sim.relays[0].mesh.as_ref().unwrap().counters().originated;
    let before = (routed(&sim), originated(&sim));
    let names: Vec<_> = (0..200).map(|i| protocol::StreamName::new(format!("stage-{i}")).unwrap()).collect();
    for name in &names {
        let now = sim.now;
        sim.with(0, |mesh| mesh.handle_listeners(name, true, now));
        sim.run(Duration::from_millis(100));
    }
    assert_eq!(routed(&sim), before.0);
    assert!(originated(&sim) - before.1 <= 16, "{} in twenty seconds", originated(&sim) - before.1);
    // News of routes does not wait behind it.
    let before = originated(&sim);
    sim.set_wire(0, Condition::Cut);
    assert_eq!(originated(&sim), before + 1);
}

#[test]
fn nobody_wants_it_and_nothing_flows() {
    let mut sim = Sim::new(6, &shape::ring(6), 2);
    let key = sim.publish(0, "main-stage");
    sim.run(seconds(10));
    assert!(sim.crossed.is_empty());
    sim.want(3, &key, true);
    sim.run(seconds(2));
    sim.want(3, &key, false);
    sim.run(seconds(10));
    let crossed = sim.crossed.clone();
    assert!(!crossed.is_empty());
    sim.run(seconds(10));
    assert_eq!(sim.crossed, crossed);
}

/// Cuts each wire of a ring of four in turn while each relay listens; returns the worst gap in milliseconds.
fn gap_after_a_cut(condition: Condition) -> u128 {
    let mut worst = Duration::ZERO;
    for seed in 0..8 {
        for wire in 0..4 {
            let mut sim = Sim::new(4, &shape::ring(4), seed);
            let key = sim.publish(0, "main-stage");
            (1..4).for_each(|relay| sim.want(relay, &key, true));
            sim.run(seconds(5));
            sim.forget_gaps();
            sim.run(Duration::from_millis(seed * 7));
            sim.set_wire(wire, condition);
            sim.run(seconds(15));
            let gaps = (1..4).map(|relay| sim.relays[relay].heard[&key].gap);
            worst = worst.max(gaps.max().unwrap_or_default());
            check::at_rest(&mut sim);
        }
    }
    worst.as_millis()
}

#[test]
fn a_ring_of_four_plays_on_after_a_silent_cut() {
    let gap = gap_after_a_cut(Condition::Silent);
    println!("silent cut, ring of four: worst gap {gap} ms");
    assert!(gap < 300);
}

#[test]
fn a_ring_of_four_plays_on_after_an_announced_cut() {
    let gap = gap_after_a_cut(Condition::Cut);
    println!("announced cut, ring of four: worst gap {gap} ms");
    assert!(gap < 100);
}

#[test]
fn a_ring_of_four_plays_on_without_any_one_relay() {
    let mut worst = Duration::ZERO;
    for seed in 0..8 {
        for victim in 1..4 {
            let mut sim = Sim::new(4, &shape::ring(4), seed);
            let key = sim.publish(0, "main-stage");
            (1..4).for_each(|relay| sim.want(relay, &key, true));
            sim.run(seconds(5));
            sim.forget_gaps();
            sim.kill(victim);
            sim.run(seconds(15));
            let survivors = (1..4).filter(|relay| *relay != victim);
            worst =
                worst.max(survivors.map(|relay| sim.relays[relay].heard[&key].gap).max().unwrap_or_default());
            check::at_rest(&mut sim);
            sim.start(victim);
            sim.run(seconds(15));
            check::at_rest(&mut sim);
        }
    }
    println!("relay killed, ring of four: worst gap {} ms", worst.as_millis());
    assert!(worst < Duration::from_millis(300));
}

#[test]
fn a_mended_ring_goes_back_to_the_short_way() {
    let mut sim = Sim::new(6, &shape::ring(6), 4);
    let key = sim.publish(0, "main-stage");
    sim.want(1, &key, true);
    sim.run(seconds(5));
    sim.set_wire(0, Condition::Cut);
    sim.run(seconds(5));
    let hops = |sim: &Sim| sim.relays[1].mesh.as_ref().unwrap().streams()[0].hops;
    assert_eq!(hops(&sim), 5);
    sim.set_wire(0, Condition::Good);
    sim.forget_gaps();
    sim.run(seconds(20));
    assert_eq!(hops(&sim), 1);
    assert!(sim.relays[1].heard[&key].gap < Duration::from_millis(60), "the move is not heard");
    check::at_rest(&mut sim);
}

#[test]
fn every_shape_serves_every_listener_and_survives_a_relay() {
    let shapes = [
        ("chain", 4, shape::chain(4)),
        ("ring", 4, shape::ring(4)),
        ("ring", 6, shape::ring(6)),
        ("two rings", 7, shape::two_rings(4)),
        ("ladder", 8, shape::ladder(4)),
        ("full", 5, shape::full(5)),
        ("star of stars", 13, shape::star_of_stars(3, 3)),
        ("geometric", 32, shape::geometric(32, 3, &mut Random::new(7))),
    ];
    for (name, relays, wires) in shapes {
        let mut sim = Sim::new(relays, &wires, 11);
        let key = sim.publish(relays - 1, "main-stage");
        (0..relays).for_each(|relay| sim.want(relay, &key, true));
        (0..relays).for_each(|relay| sim.append(relay, "hello"));
        sim.run(seconds(15));
        check::at_rest(&mut sim);
        // The relay that feeds most links.
        let feeds =
            |relay: &usize| sim.relays[*relay].table.iter().map(|entry| entry.children.len()).sum::<usize>();
        let victim = (0..relays - 1).max_by_key(feeds).unwrap_or(0);
        sim.forget_gaps();
        sim.kill(victim);
        sim.run(seconds(20));
        check::at_rest(&mut sim);
        println!(
            "{name} of {relays}, without {victim}: {} messages, {} kB, {} reroutes",
            sim.messages.0,
            sim.messages.1 / 1000,
            sim.rerouted
        );
    }
}

#[test]
fn chat_written_on_both_sides_of_a_split_is_one_afterwards() {
    let mut sim = Sim::new(6, &shape::chain(6), 3);
    sim.run(seconds(2));
    sim.set_wire(2, Condition::Silent);
    for i in 0..400 {
        sim.append(i % 6, &format!("{i} {}", "x".repeat(900)));
    }
    sim.run(seconds(20));
    assert!(sim.relays[0].records.len() < 400);
    sim.set_wire(2, Condition::Good);
    sim.run(seconds(15));
    assert_eq!(sim.relays[0].records.len(), 400);
    check::at_rest(&mut sim);
}

#[test]
fn keyframe_requests_are_aggregated_on_the_way() {
    let mut sim = Sim::new(13, &shape::star_of_stars(3, 3), 5);
    let key = sim.publish_kind(0, "main-stage", protocol::Kind::Video);
    (1..13).for_each(|relay| sim.want(relay, &key, true));
    sim.run(seconds(3));
    let before = sim.relays[0].keyframes;
    for _ in 0..100 {
        (1..13).for_each(|relay| sim.ask_keyframe(relay, &key));
        sim.run(Duration::from_millis(20));
    }
    let asked = sim.relays[0].keyframes - before;
    assert!((3..=6).contains(&asked), "{asked} in two seconds");
}

/// From where each relay that is on lists the stream.
fn listed(sim: &Sim) -> Vec<protocol::NodeId> {
    let meshes = sim.relays.iter().filter_map(|relay| relay.mesh.as_ref());
    meshes.flat_map(|mesh| mesh.streams()).map(|stream| stream.origin).collect()
}

#[test]
fn the_last_publication_of_a_name_is_the_one_listed_within_a_zone() {
    let mut sim = Sim::new(4, &shape::ring(4), 6);
    sim.kill(2);
    sim.zones[2] = sim.zones[0].clone();
    sim.start(2);
    let first = sim.publish(0, "main-stage");
    sim.run(seconds(4));
    let second = sim.publish(2, "main-stage");
    sim.run(seconds(2));
    assert_eq!(listed(&sim), [second.origin; 4]);
    sim.unpublish(2, &second);
    sim.run(seconds(2));
    assert_eq!(listed(&sim), [first.origin; 4]);
}

#[test]
fn between_zones_the_first_publication_of_a_name_stays_everywhere_and_comes_back_after_a_cut() {
    let mut sim = Sim::new(4, &shape::chain(4), 6);
    let first = sim.publish(0, "main-stage");
    sim.run(seconds(4));
    let thief = sim.publish(2, "main-stage");
    sim.run(seconds(2));
    assert_eq!(listed(&sim), [first.origin; 4]);
    // While the stage is out of reach there is only the other one: no reason to keep it afterwards.
    sim.set_wire(0, Condition::Silent);
    sim.run(seconds(10));
    assert_eq!(listed(&sim), [first.origin, thief.origin, thief.origin, thief.origin]);
    sim.set_wire(0, Condition::Good);
    sim.run(seconds(10));
    assert_eq!(listed(&sim), [first.origin; 4]);
    // When the first one ends, the name is free.
    sim.unpublish(0, &first);
    sim.run(seconds(2));
    assert_eq!(listed(&sim), [thief.origin; 4]);
}

#[test]
fn a_relay_whose_right_the_organizer_signed_takes_a_name_over_everywhere() {
    let mut sim = Sim::new(4, &shape::chain(4), 6);
    let first = sim.publish(0, "main-stage");
    sim.run(seconds(4));
    let second = sim.publish(2, "main-stage");
    let (now, zone) = (sim.now, sim.zones[2].clone());
    for relay in &mut sim.relays {
        let mesh = relay.mesh.as_mut().unwrap();
        mesh.handle_festival(now);
        mesh.handle_member(second.origin, zone.clone(), Some(false), now);
    }
    sim.run(seconds(1));
    assert_eq!(listed(&sim), [first.origin; 4]);
    let now = sim.now;
    for relay in &mut sim.relays {
        relay.mesh.as_mut().unwrap().handle_member(second.origin, zone.clone(), Some(true), now);
    }
    sim.run(seconds(1));
    assert_eq!(listed(&sim), [second.origin; 4]);
}

#[test]
fn a_relay_that_lost_its_boot_counter_is_believed_again() {
    let mut sim = Sim::new(4, &shape::ring(4), 8);
    for _ in 0..3 {
        sim.kill(1);
        sim.run(seconds(1));
        sim.start(1);
        sim.run(seconds(3));
    }
    sim.kill(1);
    sim.relays[1].disk.written.boot = 0;
    sim.run(seconds(1));
    sim.start(1);
    sim.publish(1, "back-again");
    sim.run(seconds(10));
    check::at_rest(&mut sim);
}
