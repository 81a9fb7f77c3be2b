//! Random schedules by the thousand. `SIM_RUNS=n` plays more, from `SIM_SEED=n` on; a failing one is made
//! smaller and printed as JSON for `mesh-sim --replay`.

use super::{generate, schedule::Schedule, series::Series};

#[test]
fn anything_may_happen_and_it_is_right_afterwards() {
    play(1000, generate::schedule);
}

/// Plays so many schedules, or as many as the environment says.
pub(super) fn play(runs: u64, schedule: impl Fn(u64) -> Schedule + Sync) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let series = Series::play(number("SIM_SEED").unwrap_or(0), number("SIM_RUNS").unwrap_or(runs), schedule);
    println!("{series}");
    assert!(series.failed.is_empty(), "{}", series.failed.join("\n"));
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
