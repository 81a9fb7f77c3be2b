//! The names of areas and of what hangs together of them, and how relays say that they reach it.
//! What follows from it for routes is in `route/inter_area.rs`, what a border relay says in `area/border.rs`.

use std::{fmt, str::FromStr};

use protocol::NodeId;
use serde::{Deserialize, Serialize};

use crate::{error::MeshError, wire::lsa::SEQUENCE_MAX};

/// Fragments on a way.
pub const WAY_MAX: usize = 32;
/// Relays with streams that are told of one fragment.
pub const PUBLISHERS_MAX: usize = 1024;

/// The number of an area: the same on all its relays, by configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AreaId(pub u16);

impl fmt::Display for AreaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AreaId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<AreaId, Self::Err> {
        text.parse().map(AreaId)
    }
}

/// The beginning of a relay's id: enough to tell the relays of a festival apart, a quarter of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodePrefix(pub [u8; 8]);

impl From<&NodeId> for NodePrefix {
    fn from(id: &NodeId) -> NodePrefix {
        let (first, _) = id.0.split_first_chunk().expect("an id has 32 bytes");
        NodePrefix(*first)
    }
}

/// What hangs together of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fragment {
    /// Of which area.
    pub area: AreaId,
    /// Its relay with the lowest id.
    pub lowest: NodePrefix,
}

impl fmt::Display for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.area)?;
        self.lowest.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a fragment is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreaPath {
    /// Sum of costs to its edge.
    pub cost: u32,
    /// Links to its edge.
    pub hops: u16,
    /// Relays in it.
    pub relays: u16,
    /// Fragments from the next one to this one, both included.
    pub path: Vec<Fragment>,
    /// Its relays that publish something, ascending.
    pub publishers: Vec<NodePrefix>,
}

impl AreaPath {
    /// Refuses what no relay says of the way to `fragment`.
    pub(crate) fn check(&self, fragment: &Fragment) -> Result<(), MeshError> {
        let absurd = |what| Err(MeshError::Absurd { what });
        if self.path.is_empty() || self.path.len() > WAY_MAX || self.path.last() != Some(fragment) {
            return absurd("a way that leads elsewhere");
        }
        let twice = |at: usize| self.path[..at].contains(&self.path[at]);
        if (0..self.path.len()).any(twice) {
            return absurd("a way in a circle");
        }
        let ascending = self.publishers.is_sorted_by(|a, b| a < b);
        if self.publishers.len() > PUBLISHERS_MAX || !ascending {
            return absurd("publishers out of order, or this many");
        }
        Ok(())
    }
}

/// What a border relay tells its own area of one fragment elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterAreaLsa {
    /// The border relay.
    pub origin: NodeId,
    /// Where to.
    pub fragment: Fragment,
    /// Counted over all ways of this relay.
    pub sequence: u64,
    /// From the border relay on; none any more if it cannot reach it.
    pub area_path: Option<AreaPath>,
}

impl InterAreaLsa {
    /// Refuses what no relay says.
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        if self.sequence > SEQUENCE_MAX {
            return Err(MeshError::Absurd { what: "a sequence this high" });
        }
        self.area_path.iter().try_for_each(|area_path| area_path.check(&self.fragment))
    }

    /// About the bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        256 + self
            .area_path
            .as_ref()
            .map_or(0, |area_path| area_path.path.len() * 10 + area_path.publishers.len() * 8)
    }
}
