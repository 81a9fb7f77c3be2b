//! Whether what a listener loses is mended before it asks, and how: decided from what it tells. Sends nothing.
//!
//! Start with [`Repeats`] and [`Red`], of which a listener has one. The thresholds and what they achieve are in
//! docs/media.md.

mod red;
mod repeats;

pub use red::Red;
pub use repeats::{Repeats, Times};
