//! The mesh as a core without I/O: link-state, routes, media trees, logs, files.
//!
//! [`Mesh`] is the whole of it; `docs/mesh.md` is the manual of what relays say to each other. The crate
//! reads no clock and no socket: the driver in `relay-node` hands over messages with the time at which they
//! came and carries out what [`Mesh::poll_output`] says.

pub mod area;
pub mod blob;
mod changed;
pub mod error;
mod interest;
pub mod link;
pub mod linkstate;
pub mod log;
pub mod mesh;
pub mod route;
mod tree;
pub mod wire;

#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use area::border::AreaView;
pub use error::MeshError;
pub use link::{LinkCounters, LinkFigures};
pub use log::LogCounters;
pub use mesh::{
    Mesh,
    config::Config,
    counters::Counters,
    output::Output,
    views::{LinkView, NodeView, StreamView, Topology},
};
pub use tree::{forward::ForwardEntry, view::Refusals};
pub use wire::{
    area::{AreaId, Fragment},
    log_entry::{Entry, LogKey, Record},
    message,
    metric::{Capacity, LinkId, Underlay, UnderlayKind},
    signature::{self, Keys, Signature},
};
