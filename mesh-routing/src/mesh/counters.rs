//! What is counted of a relay's part of the mesh. What is counted on each link is in `link/mod.rs`.

use crate::{log::LogCounters, mesh::Mesh, tree::view::Refusals};

/// What was not known here, and was passed over or passed on as its framing says. Nobody's fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnknownCounters {
    /// Messages passed over.
    pub messages: u64,
    /// Messages passed on.
    pub passed_on: u64,
    /// Fields behind messages.
    pub message_fields: u64,
    /// Fields of LSAs that were new here. They are kept and passed on.
    pub lsa_fields: u64,
    /// Records of logs about unknown topics that were new here. They are kept and passed on, and not shown.
    pub topics: u64,
}

/// What was counted, links aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Own LSAs flooded.
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
    /// What was not known here.
    pub unknown: UnknownCounters,
}

impl Mesh {
    /// What was counted, links aside.
    pub fn counters(&self) -> Counters {
        Counters { logs: self.replication.logs().counters, refusals: self.trees.refusals(), ..self.counters }
    }
}
