//! The relay: one per festival zone. The only place that knows media, mesh-routing and rooms, and the
//! only one that does I/O for them.

pub mod addresses;
pub mod api;
pub mod ask;
pub mod auth;
pub mod bridge;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod metrics;
pub mod relay;
pub mod signaling;
pub mod store;
