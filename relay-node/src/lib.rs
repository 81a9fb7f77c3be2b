//! The relay: one per festival zone. The only place that knows media, mesh-routing and rooms, and the
//! only one that does I/O for them.

pub mod ask;
pub mod clock;
pub mod config;
