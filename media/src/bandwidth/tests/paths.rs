//! Paths that are odd: one that becomes longer, a queue that holds next to nothing, a wire too narrow for sound,
//! one that never rests, a long run.

use std::time::Duration;

use super::{
    Extremes, SEEDS,
    network::{Listener, Network},
    range,
    source::Plan,
    wire::Radio,
};

fn runs(steps: &[(f64, f64)], plan: Plan, seconds: f64, change: impl Fn(&mut Network)) -> Vec<Listener> {
    SEEDS
        .map(|seed| {
            let mut network = Network::new(steps, Radio::default(), seed);
            network.join(plan, 0.0, seed);
            change(&mut network);
            network.run(seconds);
            network.listeners.remove(0)
        })
        .collect()
}

#[test]
fn a_path_that_becomes_longer_is_no_queue_for_long() {
    for plan in [Plan::Greedy, Plan::Picture] {
        let all = runs(&[(0.0, 3e6)], plan, 40.0, |network| network.wire.detour = Some((20_000_000, 60_000)));
        let least = Extremes::of(all.iter().map(|one| one.notes.least_bitrate(23.0, 40.0)));
        println!("60 ms longer, {plan:?}: never below {:.2} Mbit/s after 3 s", least.least / 1e6);
        assert!(least.least > 2.3e6, "{plan:?}: {least:?}");
    }
}

#[test]
fn where_nothing_queues_losses_tell() {
    let steps = [(0.0, 3e6), (20.0, 1e6)];
    let all = runs(&steps, Plan::Greedy, 60.0, |network| network.wire.longest_queue = 20_000.0);
    let sent = Extremes::of(all.iter().map(|one| one.notes.sent(25.0, 60.0) / 1e6));
    println!("a queue of 20 ms at 1 Mbit/s: {} % of the wire are sent", range(sent, 100.0, 0));
    assert!(sent.least > 0.85 && sent.most < 1.15, "{sent:?}");
}

#[test]
fn a_wire_too_narrow_for_sound_is_left_again() {
    let all = runs(&[(0.0, 3e6), (20.0, 0.08e6), (40.0, 3e6)], Plan::Greedy, 60.0, |_| {});
    let narrow = Extremes::of(all.iter().map(|one| one.notes.sent(30.0, 40.0)));
    let after = Extremes::of(all.iter().map(|one| one.notes.arrived(50.0, 60.0)));
    println!("80 kbit/s: {} kbit/s sent, then {} Mbit/s", range(narrow, 1e-3, 0), range(after, 1e-6, 2));
    assert!(narrow.most < 160e3 && after.least > 2.4e6, "{narrow:?} {after:?}");
}

#[test]
fn a_wire_that_never_rests_is_used_without_filling_its_queue() {
    let steps: Vec<(f64, f64)> =
        (0..600).map(|at| f64::from(at) * 0.1).map(|at| (at, 2e6 + 1e6 * (at * 13.0).sin())).collect();
    let all = runs(&steps, Plan::Greedy, 60.0, |network| network.wire.radio.jitter = 10_000);
    let used = Extremes::of(all.iter().map(|one| one.notes.arrived(10.0, 60.0) / 2e6));
    let queue = Extremes::of(all.iter().map(|one| one.notes.queue_p95(10.0, 60.0)));
    println!(
        "1 to 3 Mbit/s, other each 100 ms: used {} %, queue p95 {} ms",
        range(used, 100.0, 0),
        range(queue, 1e3, 0)
    );
    assert!(used.least > 0.7 && queue.most < 0.15);
}

#[test]
fn a_long_run_wraps_its_numbers_and_stays_small() {
    // 2.8 Mbit/s in packets of 1000 octets: 65,536 of them in three minutes
    let mut network = Network::new(&[(0.0, 3e6)], Radio::default(), 1);
    network.join(Plan::Greedy, 0.0, 1);
    network.run(450.0);
    let one = &network.listeners[0];
    assert!(one.numbers > 2 * 65_536, "{}", one.numbers);
    assert!(one.notes.arrived(440.0, 450.0) > 2.4e6);
    assert_eq!(one.estimator.ignored_reports(), 0);
    assert!(one.estimator.memory() <= 24 * 1024, "{}", one.estimator.memory());
    assert!(one.estimator.queue() < Duration::from_millis(60));
}
