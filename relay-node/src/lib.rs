//! The relay: one per festival zone.

pub mod bridge;
