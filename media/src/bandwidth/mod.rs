//! What the path to one listener is thought to carry, from what the listener tells of what it got. Sends
//! nothing and chooses nothing: the caller asks for the estimate and for probes.
//!
//! Start with [`Estimator`]. The states, the thresholds and what they achieve are in docs/media.md.

mod decision;
mod delay_trend;
mod delivery;
mod estimator;
mod history;
mod lateness;
mod line;
mod loss;
mod probe;
#[cfg(test)]
mod tests;

pub use decision::PathState;
pub use estimator::Estimator;
pub use history::Purpose;
pub use loss::Told;
pub use probe::Probe;
