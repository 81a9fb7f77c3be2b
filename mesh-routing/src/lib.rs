//! The mesh as a core without I/O: link-state, routes, media trees, logs, files.
//!
//! [`Mesh`] is the whole of it; `docs/mesh.md` is the manual of what relays say to each other. The crate
//! reads no clock and no socket: the driver in `relay-node` hands over messages with the time at which they
//! came and carries out what [`Mesh::poll_output`] says.

mod answer;
pub mod area;
mod audience;
pub mod blob;
pub mod border;
mod child;
pub mod choose;
mod claim;
pub mod config;
pub mod counters;
mod damping;
pub mod database;
pub mod detector;
mod detour;
pub mod error;
mod feed;
pub mod flood;
mod flood_tree;
pub mod forward;
pub mod link;
pub mod link_state;
pub mod log;
pub mod mesh;
pub mod message;
pub mod neighbor;
mod news;
pub mod output;
mod receive;
pub mod record;
pub mod route;
mod settle;
pub mod signature;
pub mod skeleton;
mod spf;
mod spread;
pub mod topology;
mod track;
mod tree;

#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use area::{AreaId, Fragment};
pub use border::AreaView;
pub use config::Config;
pub use counters::Counters;
pub use error::MeshError;
pub use forward::ForwardEntry;
pub use link::{Capacity, LinkCounters, LinkFigures, LinkId, Underlay, UnderlayKind};
pub use log::{Entry, LogCounters, LogKey, Record};
pub use mesh::Mesh;
pub use output::Output;
pub use signature::{Keys, Signature};
pub use topology::{LinkView, NodeView, StreamView, Topology};
pub use tree::Refusals;
