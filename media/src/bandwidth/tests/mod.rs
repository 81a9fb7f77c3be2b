//! The estimator against simulated wires, in virtual time. Each scenario prints its figures: the table in
//! docs/media.md is made of them (`cargo test -p media bandwidth -- --nocapture`).

mod bbr;
mod cost;
mod lies;
mod network;
mod others;
mod paths;
mod radio;
mod scenarios;
mod source;
mod tcp;
mod wire;

/// Runs of each scenario.
const SEEDS: std::ops::Range<u64> = 1..6;

/// The least and the most of what the runs of a scenario gave.
#[derive(Debug, Clone, Copy)]
struct Extremes {
    least: f64,
    most: f64,
}

impl Extremes {
    fn of(values: impl IntoIterator<Item = f64>) -> Extremes {
        let empty = Extremes { least: f64::MAX, most: f64::MIN };
        values
            .into_iter()
            .fold(empty, |all, value| Extremes { least: all.least.min(value), most: all.most.max(value) })
    }
}

/// From the least to the most, each multiplied.
fn range(extremes: Extremes, factor: f64, digits: usize) -> String {
    format!("{:.digits$} to {:.digits$}", extremes.least * factor, extremes.most * factor)
}
