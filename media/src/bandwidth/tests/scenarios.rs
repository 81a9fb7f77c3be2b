//! One listener on a wire of its own: steps, the start, a source that sends little, pauses.

use super::{
    Extremes, SEEDS,
    network::{Listener, Network},
    range,
    source::{Plan, need},
    wire::Radio,
};

const STEPS: [(f64, f64); 7] =
    [(0.0, 3e6), (20.0, 1e6), (40.0, 0.4e6), (60.0, 0.2e6), (80.0, 0.4e6), (100.0, 1e6), (120.0, 3e6)];
/// Our own writer tells every 50 ms, other receivers every 100 ms.
const INTERVALS: [u64; 2] = [50_000, 100_000];

/// One listener on such a wire, with each seed and interval of feedback.
fn runs(steps: &[(f64, f64)], plan: Plan, seconds: f64) -> Vec<Listener> {
    let each = INTERVALS.iter().flat_map(|interval| SEEDS.map(move |seed| (*interval, seed)));
    each.map(|(interval, seed)| {
        let mut network = Network::new(steps, Radio::default(), seed);
        network.join(plan, 0.0, seed).interval = interval;
        network.run(seconds);
        network.listeners.remove(0)
    })
    .collect()
}

/// After how many seconds no more was sent than the wire carries, over half a second.
fn fits_after(one: &Listener, from: f64, rate: f64) -> f64 {
    let mut ticks = (0..100).map(|tick| f64::from(tick) * 0.1);
    ticks.find(|after| one.notes.sent(from + after, from + after + 0.5) <= rate).unwrap_or(f64::MAX)
}

/// What all runs of a step have in common, however it is filled.
fn assert_step(all: &[Listener], from: f64, before: f64, rate: f64) -> String {
    let queue = Extremes::of(all.iter().map(|one| one.notes.queue_p95(from + 10.0, from + 20.0)));
    assert!(queue.most < 0.06, "{from}: queue {queue:?}");
    if rate > before {
        return format!("queue p95 {} ms", range(queue, 1e3, 0));
    }
    let fits = Extremes::of(all.iter().map(|one| fits_after(one, from, rate)));
    assert!(fits.most <= 1.2, "{from}: sent less after {fits:?}");
    format!("queue p95 {} ms, below the wire after {} s", range(queue, 1e3, 0), range(fits, 1.0, 1))
}

#[test]
fn a_picture_follows_a_wire_that_changes_in_steps() {
    let all = runs(&STEPS, Plan::Picture, 140.0);
    // how many encodings fit: sound alone at 0.2 Mbit/s
    let right = [3, 2, 1, 0, 1, 2, 3];
    for (at, (from, rate)) in STEPS.into_iter().enumerate() {
        let before = if at == 0 { 0.0 } else { STEPS[at - 1].1 };
        let row = assert_step(&all, from, before, rate);
        let settled = all.iter().map(|one| {
            let (last, level) = one.source.level_at(from + 20.0);
            assert_eq!(level, right[at], "{from}: {:?}", one.source.changes);
            last - from
        });
        let settled = Extremes::of(settled);
        assert!(settled.most < 10.0, "{from}: the last change after {settled:?}");
        let changes = all.iter().map(|one| one.source.changes_in(from, from + 20.0) as f64);
        let changes = Extremes::of(changes);
        assert!(changes.most <= if at == 0 { 3.0 } else { 1.0 }, "{from}: {changes:?}");
        println!("steps, picture, {rate}: {row}, right after {} s", range(settled, 1.0, 1));
    }
    let probes =
        Extremes::of(all.iter().map(|one| one.notes.probed(0.0, 140.0) / one.notes.sent(0.0, 140.0)));
    println!("steps, picture: probes {} % of what is sent", range(probes, 100.0, 2));
    assert!(probes.most < 0.02);
}

#[test]
fn a_greedy_source_follows_a_wire_that_changes_in_steps() {
    let all = runs(&STEPS, Plan::Greedy, 140.0);
    let mut before = 0.0;
    for (from, rate) in STEPS {
        let row = assert_step(&all, from, before, rate);
        before = rate;
        let used = Extremes::of(all.iter().map(|one| one.notes.arrived(from + 10.0, from + 20.0) / rate));
        println!("steps, greedy, {rate}: {row}, used {} %", range(used, 100.0, 0));
        assert!(used.least > 0.85, "{from}: used {used:?}");
    }
}

/// RFC 8867, section 5.1.
#[test]
fn a_wire_of_changing_width_is_used() {
    let steps = [(0.0, 1e6), (40.0, 2.5e6), (60.0, 0.6e6), (80.0, 1e6)];
    let all = runs(&steps, Plan::Greedy, 100.0);
    for (at, (from, rate)) in steps.into_iter().enumerate() {
        let to = steps.get(at + 1).map_or(100.0, |(to, _)| *to);
        let reached = |one: &Listener| {
            let mut ticks = (5..200).map(|tick| f64::from(tick) * 0.1);
            ticks.find(|after| one.notes.arrived(from + after - 0.5, from + after + 0.5) > 0.85 * rate)
        };
        let reached = Extremes::of(all.iter().map(|one| reached(one).unwrap_or(f64::MAX)));
        let used = Extremes::of(all.iter().map(|one| one.notes.arrived(from + 10.0, to) / rate));
        let queue = Extremes::of(all.iter().map(|one| one.notes.queue_p95(from + 10.0, to)));
        println!(
            "RFC 8867 5.1, {rate}: 85 % after {} s, then used {} %, queue p95 {} ms",
            range(reached, 1.0, 1),
            range(used, 100.0, 0),
            range(queue, 1e3, 0)
        );
        assert!(reached.most <= 10.0 && used.least >= 0.85 && queue.most < 0.06);
    }
}

#[test]
fn the_start_is_fast_where_there_is_room_and_gentle_where_there_is_none() {
    for plan in [Plan::Greedy, Plan::Picture] {
        let all = runs(&[(0.0, 3e6)], plan, 10.0);
        let reached = Extremes::of(all.iter().map(|one| one.notes.least_bitrate(4.9, 5.1)));
        println!("start at 3 Mbit/s, {plan:?}: {} Mbit/s after 5 s", range(reached, 1e-6, 1));
        assert!(reached.least >= 2.2e6, "{plan:?}: {reached:?}");
        let all = runs(&[(0.0, 0.2e6)], plan, 12.0);
        let queue = Extremes::of(all.iter().map(|one| one.notes.queue_p95(2.0, 12.0)));
        println!("start at 0.2 Mbit/s, {plan:?}: queue p95 {} ms after 2 s", range(queue, 1e3, 0));
        assert!(queue.most < 0.06, "{plan:?}: {queue:?}");
    }
}

#[test]
fn a_source_that_sends_little_keeps_its_estimate() {
    for wants in [false, true] {
        let all = runs(&[(0.0, 3e6)], Plan::Fixed { encoding: 1, wants }, 60.0);
        let least = Extremes::of(all.iter().map(|one| one.notes.least_bitrate(5.0, 60.0)));
        let most = Extremes::of(all.iter().map(|one| one.notes.most_bitrate(0.0, 60.0)));
        println!("0.7 of 3 Mbit/s, wants {wants}: {:.2} to {:.2} Mbit/s", least.least / 1e6, most.most / 1e6);
        assert!(least.least > 0.7e6, "{least:?}");
        // twice what was shown: what arrived, or what a probe has tried
        let shown = if wants { need(3) * 1.08 } else { need(2) };
        assert!(most.most <= 2.0 * shown, "{most:?}");
    }
}

#[test]
fn a_pause_of_the_picture_costs_nothing() {
    for seed in SEEDS {
        let mut network = Network::new(&[(0.0, 3e6)], Radio::default(), seed);
        network.join(Plan::Picture, 0.0, seed).source.paused = Some((20.0, 40.0));
        network.run(60.0);
        let one = &network.listeners[0];
        assert_eq!(one.source.level_at(41.0).1, 3, "{:?}", one.source.changes);
        assert_eq!(one.source.changes_in(41.0, 60.0), 0);
        assert!(one.notes.queue_p95(40.0, 60.0) < 0.06);
    }
}

#[test]
fn a_wire_that_became_narrow_in_a_pause_is_noticed() {
    for seed in SEEDS {
        let mut network = Network::new(&[(0.0, 3e6), (30.0, 0.4e6)], Radio::default(), seed);
        network.join(Plan::Picture, 0.0, seed).source.paused = Some((20.0, 40.0));
        network.run(60.0);
        let one = &network.listeners[0];
        assert!(fits_after(one, 40.0, 0.4e6) <= 1.2);
        assert_eq!(one.source.level_at(60.0).1, 1, "{:?}", one.source.changes);
        assert!(one.notes.queue_p95(50.0, 60.0) < 0.06);
    }
}

#[test]
fn feedback_that_stops_halves_the_estimate_and_comes_back() {
    let mut back = Vec::new();
    for seed in SEEDS {
        let mut network = Network::new(&[(0.0, 3e6)], Radio::default(), seed);
        network.join(Plan::Picture, 0.0, seed).deaf = Some((20.0, 22.0));
        network.run(60.0);
        let notes = &network.listeners[0].notes;
        let before = notes.least_bitrate(18.0, 20.0);
        let silent = notes.least_bitrate(20.0, 22.5);
        assert!((0.2 * before..0.6 * before).contains(&silent), "{silent} of {before}");
        back.push(notes.least_bitrate(22.5, 60.0) / before);
    }
    let back = Extremes::of(back);
    println!("2 s without feedback: {} % of the estimate after half a second", range(back, 100.0, 0));
    assert!(back.least > 0.9, "{back:?}");
}

#[test]
fn a_step_that_does_not_quite_fit_is_tried_ever_less_often() {
    // sound and the second encoding need 95 % of it, and pictures are not equally large
    let all = runs(&[(0.0, 0.73e6)], Plan::Picture, 300.0);
    let changes = |from, to| Extremes::of(all.iter().map(|one| one.source.changes_in(from, to) as f64));
    let (early, late) = (changes(0.0, 100.0), changes(200.0, 300.0));
    println!(
        "a step too large: {} changes in 100 s, {} after 200 s",
        range(early, 1.0, 0),
        range(late, 1.0, 0)
    );
    assert!(late.most <= 6.0, "{late:?}");
}
