//! How LSAs travel: down the trees of their origins, healed where a tree was wrong, refused where forged.

use std::time::Duration;

use protocol::ZoneName;

use super::{Condition, Sim, config, epoch, node, random::Random, shape};
use crate::{
    LinkId, Mesh, MeshError,
    wire::{
        lsa::LinkState,
        message::Message,
        signature::SimulatedKeys,
        signed_lsa::{Key, Lsa, SignedLsa},
    },
};

fn duplicates(sim: &Sim) -> u64 {
    let of = |mesh: &Mesh| mesh.links().map(|(_, _, _, counters)| counters.duplicates).sum::<u64>();
    sim.relays.iter().filter_map(|relay| relay.mesh.as_deref()).map(of).sum()
}

fn lists(sim: &Sim, name: &str) -> usize {
    let lists = |mesh: &Mesh| mesh.streams().iter().any(|stream| stream.name.as_str() == name);
    sim.relays.iter().filter(|relay| relay.mesh.as_deref().is_some_and(lists)).count()
}

#[test]
fn a_record_crosses_each_relay_once_and_is_everywhere_at_once() {
    let mut random = Random::new(5);
    let wires = shape::geometric(40, 4, &mut random);
    let mut sim = Sim::new(40, &wires, 5);
    sim.run(Duration::from_secs(20));
    let before = duplicates(&sim);
    sim.publish(7, "main-stage");
    // Forty relays on a field are some ten wires wide, of 0.5 to 10.5 ms each.
    sim.run(Duration::from_millis(110));
    assert_eq!(lists(&sim, "main-stage"), 40);
    sim.run(Duration::from_secs(1));
    let again = duplicates(&sim) - before;
    assert!(again <= 8, "{again} LSAs came twice to 40 relays with {} wires", wires.len());
}

#[test]
fn a_wrong_tree_costs_a_moment_and_no_lsa() {
    let mut sim = Sim::new(12, &shape::ring(12), 3);
    sim.run(Duration::from_secs(10));
    // Both ends of this wire think for a second that it carries what they send.
    sim.set_wire(0, Condition::Silent);
    sim.publish(0, "main-stage");
    sim.run(Duration::from_millis(600));
    assert_eq!(lists(&sim, "main-stage"), 12, "the other way round the ring");
}

#[test]
fn a_relay_that_lost_its_disk_is_believed_again_also_about_its_streams() {
    let mut sim = Sim::new(4, &shape::ring(4), 8);
    let first = sim.publish(0, "main-stage");
    for _ in 0..5 {
        sim.publish(0, "other-stage");
        sim.run(Duration::from_secs(1));
    }
    sim.kill(0);
    sim.relays[0].disk.handle_wipe();
    sim.run(Duration::from_secs(3));
    sim.unpublish(0, &first);
    sim.start(0);
    sim.run(Duration::from_secs(3));
    assert_eq!((lists(&sim, "main-stage"), lists(&sim, "other-stage")), (0, 4));
}

#[test]
fn a_forged_lsa_is_refused_and_held_against_its_link() {
    let (mut now, liars, honest) = (epoch(), LinkId(1), LinkId(2));
    let zone = ZoneName::new("stage").unwrap();
    let mut mesh = Mesh::new(config(node(0), zone.clone(), 1, 1), now);
    mesh.handle_link_up(liars, node(1), now);
    mesh.handle_link_up(honest, node(2), now);
    let said = |origin, sequence| Lsa::Links(LinkState::new(origin, zone.clone(), sequence, Vec::new()));
    let message = |lsa| Message::LinkState { age_ms: 0, lsa }.encode();
    let true_one = message(SignedLsa::new(said(node(2), 1 << 32), &SimulatedKeys(node(2))));
    assert_eq!(mesh.handle_message(honest, &true_one, now), Ok(()));
    // Of the neighbor, of a relay nobody knows, of this relay itself: with a key of its own, or repeated.
    for origin in [node(2), node(3), node(0)] {
        let forged = message(SignedLsa::new(said(origin, 9 << 32), &SimulatedKeys(node(1))));
        assert_eq!(mesh.handle_message(liars, &forged, now), Err(MeshError::Forged));
    }
    assert_eq!(mesh.handle_message(liars, &true_one, now), Ok(()), "repeating what is true is no lie");
    assert_eq!(mesh.lsdb().held(&Key::Links(node(2))).unwrap().sequence(), 1 << 32);
    assert!(mesh.lsdb().held(&Key::Links(node(3))).is_none());
    while mesh.poll_output().is_some() {}
    now += Duration::from_secs(1);
    mesh.handle_timeout(now);
    while mesh.poll_output().is_some() {}
    let own = mesh.lsdb().held(&Key::Links(node(0))).unwrap().sequence();
    assert!(own < 2 << 32, "nobody makes this relay jump over what it never said");
    let refused: Vec<_> = mesh.links().map(|(link, _, _, counters)| (link, counters.refused)).collect();
    assert_eq!(refused, [(liars, 3), (honest, 0)]);
}
