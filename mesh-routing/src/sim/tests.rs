//! What whole meshes do.

use std::time::Duration;

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
