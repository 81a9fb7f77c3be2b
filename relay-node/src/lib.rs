//! The relay: one per festival zone. The only place that knows media, mesh-routing and rooms, and the
//! only one that does I/O for them.
//!
//! Rooms, each of which imports from those to its left alone; `script/imports` holds it:
//!
//! order: clock drop_reason | vitals | places | client addresses | storage metrics memory | membership | bridge ladder | media | node | node_loop | conversation incoming outgoing | channels | api | config | cli relay | lib main

pub mod addresses;
pub mod api;
pub mod bridge;
pub mod channels;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod conversation;
pub mod drop_reason;
pub mod incoming;
pub mod ladder;
pub mod media;
pub mod membership;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod node_loop;
pub mod outgoing;
pub mod places;
pub mod relay;
pub mod storage;
pub mod vitals;
