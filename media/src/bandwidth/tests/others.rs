//! Others on the same wire: a listener like this one, and a flow that fills the queue.

use super::{
    Extremes, SEEDS,
    bbr::Bbr,
    network::{Listener, Network},
    range,
    source::Plan,
    tcp::{Flow, Tcp},
    wire::Radio,
};

#[test]
fn two_listeners_come_to_equal_shares() {
    for later in [0.0, 10.0] {
        let (mut ratios, mut queues, mut used) = (Vec::new(), Vec::new(), Vec::new());
        for seed in SEEDS {
            let mut network = Network::new(&[(0.0, 3e6)], Radio::default(), seed);
            network.join(Plan::Greedy, 0.0, seed);
            network.join(Plan::Greedy, later + 0.017, seed + 9);
            network.run(60.0);
            let [one, other] = [0, 1].map(|at| &network.listeners[at].notes);
            let windows = [20.0, 30.0, 40.0, 50.0].map(|at| at + later).into_iter().filter(|at| *at < 60.0);
            let shares =
                windows.map(|at| one.mean_bitrate(at, at + 10.0) / other.mean_bitrate(at, at + 10.0));
            ratios.extend(shares.map(|share| share.max(1.0 / share)));
            queues.push(one.queue_p95(20.0 + later, 60.0));
            used.push((one.arrived(20.0, 60.0) + other.arrived(20.0, 60.0)) / 3e6);
        }
        let [ratios, queues, used] = [ratios, queues, used].map(Extremes::of);
        println!(
            "two listeners, the second {later} s later: from 20 s on {} times the other's, used {} %, queue p95 {} ms",
            range(ratios, 1.0, 2),
            range(used, 100.0, 0),
            range(queues, 1e3, 0)
        );
        assert!(ratios.most < 1.5 && used.least > 0.85 && queues.most < 0.06);
    }
}

/// A flow that begins at that time.
type Begin = fn(u64) -> Box<dyn Flow>;

fn reno(from: u64) -> Box<dyn Flow> {
    Box::new(Tcp::new(from))
}

fn bbr(from: u64) -> Box<dyn Flow> {
    Box::new(Bbr::new(from))
}

fn beside(flow: Begin, plan: Plan, from: f64, radio: Radio, seconds: f64) -> Vec<Listener> {
    SEEDS
        .map(|seed| {
            let mut network = Network::new(&[(0.0, 2e6)], radio, seed);
            network.join(plan, 0.0, seed);
            network.tcp = Some(flow((from * 1e6) as u64 + seed * 100_000));
            network.run(seconds);
            network.listeners.remove(0)
        })
        .collect()
}

#[test]
fn a_flow_that_fills_the_queue_neither_starves_a_listener_nor_is_starved() {
    for from in [0.0, 20.0] {
        let all = beside(reno, Plan::Greedy, from, Radio::default(), 140.0);
        // both have come to know each other after ten seconds
        let begin = from + 10.0;
        let windows = |one: &Listener| {
            let spans = (0..11).map(|at| begin + f64::from(at) * 10.0);
            let shares: Vec<f64> = spans.map(|at| one.notes.arrived(at, at + 10.0)).collect();
            shares
        };
        let shares = Extremes::of(all.iter().flat_map(windows));
        let least = Extremes::of(all.iter().map(|one| one.notes.least_bitrate(begin, 140.0)));
        println!(
            "beside TCP from {from} s on, 2 Mbit/s: {} Mbit/s arrive in ten seconds, estimate never below {:.2}",
            range(shares, 1e-6, 2),
            least.least / 1e6
        );
        assert!(least.least > 150e3 && shares.least > 150e3 && shares.most < 1.5e6, "{shares:?} {least:?}");
    }
}

/// A picture beside a flow, of which at least so much arrives from a second on.
fn picture_beside(flow: Begin, name: &str, from: f64, least: f64) {
    let all = beside(flow, Plan::Picture, 20.0, Radio::default(), 100.0);
    let arrived = Extremes::of(all.iter().map(|one| one.notes.arrived(from, 100.0)));
    let without = Extremes::of(all.iter().map(|one| one.source.time_at(0, 25.0, 100.0)));
    println!(
        "a picture beside {name}, 2 Mbit/s: {} Mbit/s arrive, {} s without a picture",
        range(arrived, 1e-6, 2),
        range(without, 1.0, 1)
    );
    assert!(arrived.least > least && without.most <= 1.5, "{arrived:?}, without {without:?}");
}

#[test]
fn a_picture_beside_tcp_keeps_at_least_the_smallest() {
    picture_beside(reno, "TCP", 40.0, 150e3);
}

#[test]
fn nor_is_it_lost_beside_one_that_never_leaves_the_queue() {
    picture_beside(bbr, "BBR", 25.0, 250e3);
}

#[test]
fn when_the_other_flow_ends_its_room_is_used() {
    let mut used = Vec::new();
    for seed in SEEDS {
        let mut network = Network::new(&[(0.0, 2e6)], Radio::default(), seed);
        network.join(Plan::Greedy, 0.0, seed);
        let mut tcp = Tcp::new(20_000_000);
        tcp.to = 60_000_000;
        network.tcp = Some(Box::new(tcp));
        network.run(80.0);
        used.push(network.listeners[0].notes.arrived(65.0, 80.0) / 2e6);
        assert!(network.listeners[0].notes.queue_p95(65.0, 80.0) < 0.06);
    }
    let used = Extremes::of(used);
    println!("5 s after TCP has ended: used {} %", range(used, 100.0, 0));
    assert!(used.least > 0.85);
}

#[test]
fn nor_does_it_over_a_radio() {
    let radio = Radio { loss: 0.005, burst: 3, jitter: 30_000, reorders: false };
    let all = beside(reno, Plan::Greedy, 20.0, radio, 80.0);
    let windows = |one: &Listener| [30.0, 40.0, 50.0, 60.0, 70.0].map(|at| one.notes.arrived(at, at + 10.0));
    let shares = Extremes::of(all.iter().flat_map(windows));
    println!("beside TCP over a radio, 2 Mbit/s: {} Mbit/s arrive in ten seconds", range(shares, 1e-6, 2));
    assert!(shares.least > 140e3, "{shares:?}");
}
