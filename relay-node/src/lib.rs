//! The relay: one per festival zone. The only place that knows media, mesh-routing and rooms, and the
//! only one that does I/O for them.

pub mod addresses;
pub mod api;
pub mod ask;
pub mod auth;
pub mod bridge;
pub mod clock;
pub mod config;
pub mod discover;
pub mod doctor;
pub mod festival;
pub mod files;
pub mod fresh;
pub mod media_thread;
pub mod metrics;
pub mod migrate;
pub mod node;
pub mod pair;
pub mod pairing;
pub mod posts;
pub mod rate;
pub mod relay;
pub mod run;
pub mod sessions;
pub mod shares;
pub mod signaling;
pub mod store;
pub mod trusted;
pub mod udp;
pub mod whip;
pub mod whole;
mod worker_metrics;
