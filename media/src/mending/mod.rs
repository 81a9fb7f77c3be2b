//! Whether what a listener loses is mended before it asks, and how: decided from what it tells. Sends nothing.
//!
//! Start with [`Mending`]. The thresholds and what they achieve are in docs/media.md.

mod decision;

pub use decision::{How, Mending, Times};
