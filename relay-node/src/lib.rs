//! The relay: one per festival zone.
