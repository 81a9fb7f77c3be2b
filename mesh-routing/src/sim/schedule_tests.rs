//! Random schedules by the thousand. `SIM_RUNS=n` plays more, from `SIM_SEED=n` on; a failing one is made
//! smaller and printed as JSON for `mesh-sim --replay`.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{generate, schedule::Schedule, shrink::shrink};

/// Smaller as long as it breaks the same way, told by the first words.
fn tell(seed: u64, schedule: Schedule, broken: &str) -> String {
    let words = |text: &str| text.chars().filter(|c| c.is_alphabetic()).take(24).collect::<String>();
    let small =
        shrink(schedule, |candidate| candidate.play().is_err_and(|reason| words(&reason) == words(broken)));
    let reason = small.play().err().unwrap_or_default();
    let json = serde_json::to_string(&small).expect("a schedule is plain data");
    format!("SIM_SEED={seed} SIM_RUNS=1 breaks: {broken}\nthe smallest that does: {reason}\n{json}\n")
}

#[test]
fn anything_may_happen_and_it_is_right_afterwards() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    play(number("SIM_SEED").unwrap_or(0), number("SIM_RUNS").unwrap_or(1000), generate::schedule);
}

/// Plays so many schedules, from a seed on.
pub(super) fn play(first: u64, runs: u64, schedule: impl Fn(u64) -> Schedule + Sync) {
    let next = AtomicU64::new(first);
    let (settled, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |threads| threads.get()) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs || failed.lock().unwrap().len() >= 3 {
                        return;
                    }
                    let schedule = schedule(seed);
                    match schedule.play() {
                        Ok(outcome) => settled.lock().unwrap().push((outcome.settled, seed)),
                        Err(broken) => {
                            let told = tell(seed, schedule, &broken);
                            failed.lock().unwrap().push(told);
                        }
                    }
                }
            });
        }
    });
    let mut settled = settled.into_inner().unwrap();
    settled.sort_unstable();
    let at = |share: usize| settled.get(settled.len() * share / 100).copied().unwrap_or_default();
    let worst = settled.last().copied().unwrap_or((Duration::ZERO, 0));
    println!(
        "{} schedules from seed {first}: right again after {:?} (p50), {:?} (p99), {:?} at worst (seed {})",
        settled.len(),
        at(50).0,
        at(99).0,
        worst.0,
        worst.1
    );
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_schedule_is_the_same_every_time() {
    for seed in [3, 14] {
        let outcome = || generate::schedule(seed).play().map(|o| (o.settled, o.messages));
        assert_eq!(outcome(), outcome());
        let schedule = generate::schedule(seed);
        let json = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
    }
}
