//! What is counted of a relay's part of the mesh. What is counted on each link is in `link/mod.rs`.

use crate::{log::LogCounters, mesh::Mesh, tree::view::Refusals};

/// What was counted, links aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Own records flooded.
    pub originated: u64,
    /// Times the routes were computed.
    pub routed: u64,
    /// Tracks that got another parent.
    pub rerouted: u64,
    /// Publications refused: absurd, or more than 256.
    pub publications_refused: u64,
    /// About logs.
    pub logs: LogCounters,
    /// Joins refused to neighbors.
    pub refusals: Refusals,
}

impl Mesh {
    /// What was counted, links aside.
    pub fn counters(&self) -> Counters {
        Counters { logs: self.replication.logs().counters, refusals: self.trees.refusals(), ..self.counters }
    }
}
