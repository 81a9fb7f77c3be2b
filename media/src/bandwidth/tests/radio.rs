//! Losses and jitter that nobody causes by sending too much.

use super::{
    Extremes, SEEDS,
    network::{Listener, Network},
    range,
    source::Plan,
    wire::Radio,
};

fn runs(radio: Radio, plan: Plan) -> Vec<Listener> {
    SEEDS
        .map(|seed| {
            let mut network = Network::new(&[(0.0, 3e6)], radio, seed);
            network.join(plan, 0.0, seed);
            network.run(70.0);
            network.listeners.remove(0)
        })
        .collect()
}

/// The least estimate of all runs once it has started.
fn least(name: &str, radio: Radio, plan: Plan) -> f64 {
    let all = runs(radio, plan);
    let least = Extremes::of(all.iter().map(|one| one.notes.least_bitrate(10.0, 70.0)));
    let arrived = Extremes::of(all.iter().map(|one| one.notes.arrived(10.0, 70.0)));
    println!(
        "{name}, {plan:?}: estimate never below {:.2}, arrived {} Mbit/s",
        least.least / 1e6,
        range(arrived, 1e-6, 2)
    );
    least.least
}

fn random(loss: f64) -> Radio {
    Radio { loss, ..Radio::default() }
}

#[test]
fn random_loss_up_to_five_percent_is_no_congestion() {
    for plan in [Plan::Greedy, Plan::Picture] {
        assert!(least("2 % random loss", random(0.02), plan) > 2.3e6);
        assert!(least("5 % random loss", random(0.05), plan) > 2.3e6);
    }
}

#[test]
fn ten_percent_of_random_loss_is_survived() {
    for plan in [Plan::Greedy, Plan::Picture] {
        assert!(least("10 % random loss", random(0.1), plan) > 0.3e6);
    }
}

/// Three packets at once, two of a hundred in all.
const BURSTS: Radio = Radio { loss: 0.0067, burst: 3, jitter: 0, reorders: false };

#[test]
fn bursts_of_losses_and_jitter_of_a_radio_are_no_congestion() {
    for plan in [Plan::Greedy, Plan::Picture] {
        assert!(least("bursts", BURSTS, plan) > 2.3e6);
        assert!(least("bursts, 30 ms of jitter", Radio { jitter: 30_000, ..BURSTS }, plan) > 2.3e6);
    }
}

#[test]
fn packets_that_overtake_each_other_are_no_congestion() {
    for plan in [Plan::Greedy, Plan::Picture] {
        let radio = Radio { jitter: 30_000, reorders: true, ..BURSTS };
        assert!(least("bursts, 30 ms of jitter, reordered", radio, plan) > 2.3e6);
    }
}
