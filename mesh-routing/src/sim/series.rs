//! Many random schedules, on all cores: how long each took to be right again, and those that broke something, made smaller.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{schedule::Schedule, shrink::shrink};

/// A series ends early when so many schedules have failed: to make one smaller takes as long as hundreds.
const FAILED_MAX: usize = 3;

/// What came of a series.
#[derive(Debug, Default)]
pub struct Series {
    first: u64,
    /// From the last action until everything was right, and the seed; the shortest first.
    settled: Vec<(Duration, u64)>,
    /// For people: the seed, what broke, and the smallest schedule that breaks it, as JSON for `mesh-sim --replay`.
    pub failed: Vec<String>,
}

impl Series {
    /// Plays so many schedules, from a seed on.
    pub fn play(first: u64, runs: u64, schedule: impl Fn(u64) -> Schedule + Sync) -> Series {
        let next = AtomicU64::new(first);
        let (settled, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let lock = "nobody panics while it is held";
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(2, |threads| threads.get()) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + runs || failed.lock().expect(lock).len() >= FAILED_MAX {
                            return;
                        }
                        let schedule = schedule(seed);
                        match schedule.play() {
                            Ok(outcome) => settled.lock().expect(lock).push((outcome.settled, seed)),
                            Err(broken) => {
                                let told = tell(seed, schedule, &broken);
                                failed.lock().expect(lock).push(told);
                            }
                        }
                    }
                });
            }
        });
        let mut settled = settled.into_inner().expect(lock);
        settled.sort_unstable();
        Series { first, settled, failed: failed.into_inner().expect(lock) }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at =
            |share: usize| self.settled.get(self.settled.len() * share / 100).copied().unwrap_or_default();
        let worst = self.settled.last().copied().unwrap_or_default();
        write!(
            f,
            "{} schedules from seed {}: right again after {:?} (p50), {:?} (p99), {:?} at worst (seed {})",
            self.settled.len(),
            self.first,
            at(50).0,
            at(99).0,
            worst.0,
            worst.1
        )
    }
}

/// Smaller as long as it breaks the same way, told by the first words.
fn tell(seed: u64, schedule: Schedule, broken: &str) -> String {
    let words = |text: &str| text.chars().filter(|c| c.is_alphabetic()).take(24).collect::<String>();
    let small =
        shrink(schedule, |candidate| candidate.play().is_err_and(|reason| words(&reason) == words(broken)));
    let reason = small.play().err().unwrap_or_default();
    let json = serde_json::to_string(&small).expect("a schedule is plain data");
    format!("SIM_SEED={seed} SIM_RUNS=1 breaks: {broken}\nthe smallest that does: {reason}\n{json}\n")
}
