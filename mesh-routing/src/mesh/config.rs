//! What a relay has to know of itself to take part in the mesh.

use std::sync::Arc;

use protocol::{BridgeVersions, NodeId, ZoneName};

use crate::wire::{area::AreaId, signature::Keys};

/// What a relay has to know to take part.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its identity.
    pub id: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Counts the starts of this relay, kept on disk: the high bits of its link-state sequence.
    pub boot: u64,
    /// Randomness, another one at each start: the logs that this run writes are named by it, and its link-state sequences
    /// begin where it says.
    pub seed: u64,
    /// Signs what it says, checks what others say.
    pub keys: Arc<dyn Keys>,
    /// The area it is in.
    pub area: AreaId,
    /// The bridge versions it speaks.
    pub versions: BridgeVersions,
}

impl Config {
    /// A relay with the id of its keys, in area 0.
    pub fn new(keys: Arc<dyn Keys>, zone: ZoneName, boot: u64, seed: u64) -> Config {
        let versions = crate::mesh::next::SPOKEN;
        Config { id: keys.node_id(), zone, boot, seed, keys, area: AreaId::default(), versions }
    }
}
