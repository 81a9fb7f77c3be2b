//! What wires do to what crosses them.

use std::time::Duration;

use super::{Condition, Quality, Sim, check, random::Random, shape};

const MS: Duration = Duration::from_millis(1);

fn sim(relays: usize, wires: &[(usize, usize)], quality: Quality) -> Sim {
    let wires: Vec<_> = wires.iter().map(|(a, b)| (*a, *b, quality)).collect();
    let mut sim = Sim::with_wires(relays, &wires, Random::new(1));
    (0..relays).for_each(|relay| sim.start(relay));
    sim
}

/// A track over one wire for a minute: packets heard of 3000, and the longest gap.
fn heard(quality: Quality) -> (u64, Duration) {
    let mut sim = sim(2, &shape::chain(2), quality);
    let key = sim.publish(0, "main-stage");
    sim.want(1, &key, true);
    sim.run(MS * 2000);
    let before = sim.relays[1].heard[&key].packets;
    sim.forget_gaps();
    sim.run(MS * 60_000);
    let heard = &sim.relays[1].heard[&key];
    (heard.packets - before, heard.gap)
}

#[test]
fn a_wire_loses_what_it_says() {
    let (packets, _) = heard(Quality { loss: 0.05, ..Quality::default() });
    assert!((2800..2900).contains(&packets), "{packets}");
    let (packets, gap) = heard(Quality { loss: 0.05, burst_ms: 80, ..Quality::default() });
    assert!((2700..2950).contains(&packets), "{packets}");
    assert!(gap > MS * 150, "in bursts: {gap:?}");
}

#[test]
fn messages_come_in_order_and_once_over_a_wire_that_loses() {
    let mut sim = sim(2, &shape::chain(2), Quality { delay_us: 20_000, loss: 0.1, ..Quality::default() });
    sim.run(MS * 1000);
    for number in 0..500 {
        sim.append(0, &format!("{number} {}", "x".repeat(3000)));
        sim.run(MS * 10);
    }
    sim.run(MS * 2000);
    // `Relay::keep` has looked at the order.
    assert_eq!(sim.relays[1].records.len(), 500);
    let carried = sim.wires[0].carried(1);
    assert!(carried.lost > 100, "{carried:?}");
    check::at_rest(&mut sim);
}

#[test]
fn a_narrow_wire_keeps_control_and_drops_video_first() {
    // Room for the sound and some of the picture.
    let quality = Quality { delay_us: 2000, rate: 250_000, ..Quality::default() };
    let mut sim = sim(2, &shape::chain(2), quality);
    let sound = sim.publish(0, "sound");
    let picture = sim.publish_kind(0, "picture", protocol::Kind::Video);
    sim.want(1, &sound, true);
    sim.want(1, &picture, true);
    sim.run(MS * 30_000);
    let (sound, picture) = (&sim.relays[1].heard[&sound], &sim.relays[1].heard[&picture]);
    assert!(sound.packets > 1450 && sound.gap < MS * 100, "{sound:?}");
    assert!((100..1000).contains(&picture.packets), "{picture:?}");
    let carried = sim.wires[0].carried(1);
    assert!(carried.dropped > 400, "{carried:?}");
    let states: Vec<_> = sim.relays[1].mesh.as_ref().unwrap().links().map(|(_, _, state, _)| state).collect();
    assert_eq!(states, [crate::link::detector::State::Up]);
}

#[test]
fn one_end_may_be_deaf() {
    let mut sim = sim(3, &shape::ring(3), Quality { delay_us: 2000, ..Quality::default() });
    let key = sim.publish(0, "main-stage");
    sim.want(1, &key, true);
    sim.run(MS * 5000);
    sim.forget_gaps();
    sim.set_wire(0, Condition::Deaf(1));
    sim.run(MS * 15_000);
    let heard = &sim.relays[1].heard[&key];
    assert!(heard.gap < MS * 300, "{heard:?}");
    sim.set_wire(0, Condition::Good);
    sim.run(MS * 10_000);
    check::at_rest(&mut sim);
}

#[test]
fn a_wire_changes_while_things_run() {
    let mut sim = sim(2, &shape::chain(2), Quality::default());
    sim.run(MS * 3000);
    let rtt = |sim: &Sim| sim.relays[0].mesh.as_ref().unwrap().topology().links[0].rtt;
    assert!(rtt(&sim) < MS * 10, "{:?}", rtt(&sim));
    sim.set_quality(0, Quality { delay_us: 50_000, ..Quality::default() });
    sim.run(MS * 60_000);
    assert!(rtt(&sim) > MS * 80, "{:?}", rtt(&sim));
}

#[test]
fn a_driver_that_sleeps_for_a_moment_breaks_nothing() {
    let mut sim = sim(4, &shape::ring(4), Quality::default());
    let key = sim.publish(0, "main-stage");
    (1..4).for_each(|relay| sim.want(relay, &key, true));
    sim.run(MS * 5000);
    for relay in 0..4 {
        sim.stall(relay, MS * 300);
        sim.append(relay, "hello");
        sim.run(MS * 700);
    }
    sim.run(MS * 15_000);
    assert_eq!(sim.relays[2].records.len(), 4);
    check::at_rest(&mut sim);
}

/// `cargo test --release -p mesh-routing --lib -- --ignored --nocapture what_thousands`
#[test]
#[ignore = "a measurement"]
fn what_thousands_of_relays_cost_to_simulate() {
    for relays in [500, 5000] {
        let began = super::epoch();
        // Rings of 50: what wires and probes cost, not the flood.
        let ring = |first: usize| shape::ring(50).into_iter().map(move |(a, b)| (first + a, first + b));
        let wires: Vec<_> = (0..relays / 50).flat_map(|group| ring(group * 50)).collect();
        let mut sim = Sim::new(relays, &wires, 1);
        let ready = began.elapsed();
        sim.run(MS * 30_000);
        println!(
            "{relays} relays, {} wires, 30 s: {} messages, {ready:?} to make, {:?} in all",
            sim.wires.len(),
            sim.messages.0,
            began.elapsed()
        );
    }
}
