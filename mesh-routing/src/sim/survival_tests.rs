//! What becomes of records when many relays die at once, and when every hop loses packets.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Quality, Sim, check, random::Random, shape};

const MS: Duration = Duration::from_millis(1);

/// What was written: where, when.
type Written = BTreeMap<String, (usize, Instant)>;

/// Somebody writes something nobody else writes.
fn write(sim: &mut Sim, relay: usize, written: &mut Written) {
    if sim.relays[relay].mesh.is_some() {
        let text = format!("record {}", written.len());
        sim.append(relay, &text);
        written.insert(text, (relay, sim.now));
    }
}

/// How long each record took to each relay of `group` that did not write it; those that did not come last.
fn delays(sim: &Sim, group: impl Iterator<Item = usize>, written: &Written) -> Vec<Duration> {
    let mut delays = Vec::new();
    for relay in group {
        let came: BTreeMap<_, _> =
            sim.relays[relay].arrivals.iter().map(|(payload, at)| (&payload[..], *at)).collect();
        assert_eq!(came.len(), sim.relays[relay].arrivals.len(), "each comes once");
        for (text, (_, at)) in written.iter().filter(|(_, (writer, _))| *writer != relay) {
            delays.push(came.get(text.as_bytes()).map_or(Duration::MAX, |came| *came - *at));
        }
    }
    delays.sort_unstable();
    delays
}

fn share(delays: &[Duration], within: Duration) -> f64 {
    delays.iter().filter(|delay| **delay <= within).count() as f64 / delays.len().max(1) as f64
}

fn at(delays: &[Duration], share: f64) -> Duration {
    let index = (delays.len() as f64 * share) as usize;
    delays.get(index.min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Kills 30 % of the relays at random while everybody writes. Returns the mean degree, the share of survivors
/// in the largest component, and the delays of what its relays wrote.
fn survivors(relays: usize, near: usize, far: usize, seed: u64) -> (f64, f64, Vec<Duration>) {
    let mut random = Random::new(seed);
    let wires = shape::field(relays, near, far, &mut random);
    let degree = wires.len() as f64 * 2.0 / relays as f64;
    let mut sim = Sim::new(relays, &wires, seed);
    let mut written = Written::new();
    sim.run(MS * 3000);
    for _ in 0..relays / 2 {
        write(&mut sim, random.below(relays as u64) as usize, &mut written);
        sim.run(MS * 20);
    }
    let mut victims: Vec<usize> = (0..relays).collect();
    for i in (1..relays).rev() {
        victims.swap(i, random.below(i as u64 + 1) as usize);
    }
    victims.truncate(relays * 3 / 10);
    for victim in victims {
        write(&mut sim, random.below(relays as u64) as usize, &mut written);
        sim.kill(victim);
        sim.run(MS * 10);
    }
    for _ in 0..relays / 2 {
        write(&mut sim, random.below(relays as u64) as usize, &mut written);
        sim.run(MS * 20);
    }
    // All records that any survivor of a component has are at every one of it.
    check::settle(&mut sim, MS * 25_000);
    let groups = sim.components();
    let largest = groups.iter().max_by_key(|group| group.len()).expect("70 % are alive");
    let alive: usize = groups.iter().map(|group| group.len()).sum();
    written.retain(|_, (writer, _)| largest.contains(writer));
    let delays = delays(&sim, largest.iter().copied(), &written);
    (degree, largest.len() as f64 / alive as f64, delays)
}

/// Fields by how many near and how many far relays each is tied to: mean degrees of about 4, 7 and 7.5.
const FIELDS: [(usize, usize); 3] = [(3, 0), (4, 1), (3, 2)];

fn survival(relays: usize, seeds: u64, fields: &[(usize, usize)]) {
    for &(near, far) in fields {
        let (mut degrees, mut connected, mut all) = (0.0, 0.0, Vec::new());
        for seed in 0..seeds {
            let (degree, share, delays) = survivors(relays, near, far, seed);
            degrees += degree / seeds as f64;
            connected += share / seeds as f64;
            all.extend(delays);
        }
        all.sort_unstable();
        let soon = share(&all, MS * 5000);
        println!(
            "{relays} relays, {near} near and {far} far, mean degree {degrees:.1}, 30 % killed, {seeds} seeds: \
             {:.2} % of the survivors connected; of {} deliveries {:.3} % within 5 s, p50 {:?}, p99 {:?}, worst {:?}",
            connected * 100.0,
            all.len(),
            soon * 100.0,
            at(&all, 0.5),
            at(&all, 0.99),
            at(&all, 1.0),
        );
        assert!(at(&all, 1.0) < Duration::MAX, "every record is everywhere in the end");
        assert!(degrees < 6.5 || soon >= 0.999, "{soon}");
    }
}

#[test]
fn records_survive_the_death_of_30_per_cent_of_50_relays() {
    survival(50, 20, &FIELDS);
}

#[test]
fn records_survive_the_death_of_30_per_cent_of_200_relays() {
    survival(200, 2, &[(3, 2)]);
}

/// `SIM_RUNS=20 cargo test --release -p mesh-routing --lib -- --ignored --nocapture many_fields_of_200`
#[test]
#[ignore = "takes minutes"]
fn records_survive_in_many_fields_of_200_relays() {
    let runs = std::env::var("SIM_RUNS").ok().and_then(|runs| runs.parse().ok());
    survival(200, runs.unwrap_or(5), &FIELDS);
}

/// Four hops that lose 5 % each; 2000 messages.
fn chat(burst_ms: u32) {
    let quality = Quality { delay_us: 5000, jitter_us: 2000, loss: 0.05, burst_ms, ..Quality::default() };
    let wires: Vec<_> = shape::chain(5).into_iter().map(|(a, b)| (a, b, quality)).collect();
    let mut sim = Sim::with_wires(5, &wires, Random::new(4));
    (0..5).for_each(|relay| sim.start(relay));
    sim.run(MS * 5000);
    let mut random = Random::new(5);
    let mut written = Written::new();
    for _ in 0..2000 {
        write(&mut sim, random.below(5) as usize, &mut written);
        sim.run(MS * (20 + random.below(60) as u32));
    }
    sim.run(MS * 20_000);
    let all = delays(&sim, 0..5, &written);
    let soon = share(&all, MS * 2000);
    println!(
        "chat over 4 hops of 5 % loss, bursts of {burst_ms} ms: of {} deliveries {:.3} % within 2 s; \
         p50 {:?}, p95 {:?}, p99 {:?}, p99.9 {:?}, worst {:?}",
        all.len(),
        soon * 100.0,
        at(&all, 0.5),
        at(&all, 0.95),
        at(&all, 0.99),
        at(&all, 0.999),
        at(&all, 1.0),
    );
    assert!(soon >= 0.999 && at(&all, 1.0) < Duration::MAX);
}

#[test]
fn chat_comes_through_four_hops_that_lose_one_in_twenty() {
    chat(0);
    chat(40);
}
