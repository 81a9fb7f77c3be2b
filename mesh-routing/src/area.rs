//! Areas: links are told only inside one, and between them only what can be reached. A *fragment* is what hangs
//! together of an area; if an area breaks apart, its parts have names of their own and stay reachable.
//! What a border relay offers to other areas is in `border.rs`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use protocol::NodeId;
use serde::{Deserialize, Serialize};

use crate::{
    database::Database,
    error::MeshError,
    link_state::SEQUENCE_MAX,
    route::{Graph, Paths},
};

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
pub struct Short(pub [u8; 8]);

impl From<&NodeId> for Short {
    fn from(id: &NodeId) -> Short {
        let (first, _) = id.0.split_first_chunk().expect("an id has 32 bytes");
        Short(*first)
    }
}

/// What hangs together of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fragment {
    /// Of which area.
    pub area: AreaId,
    /// Its relay with the lowest id.
    pub lowest: Short,
}

impl fmt::Display for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.area)?;
        self.lowest.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a fragment is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Sum of costs to its edge.
    pub cost: u32,
    /// Links to its edge.
    pub hops: u16,
    /// Relays in it.
    pub relays: u16,
    /// Fragments from the next one to this one, both included.
    pub path: Vec<Fragment>,
    /// Its relays that publish something, ascending.
    pub publishers: Vec<Short>,
}

impl Reach {
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
pub struct Way {
    /// The border relay.
    pub origin: NodeId,
    /// Where to.
    pub fragment: Fragment,
    /// Counted over all ways of this relay.
    pub sequence: u64,
    /// From the border relay on; none any more if it cannot reach it.
    pub reach: Option<Reach>,
}

impl Way {
    /// Refuses what no relay says.
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        if self.sequence > SEQUENCE_MAX {
            return Err(MeshError::Absurd { what: "a sequence this high" });
        }
        self.reach.iter().try_for_each(|reach| reach.check(&self.fragment))
    }

    /// About the bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        256 + self.reach.as_ref().map_or(0, |reach| reach.path.len() * 10 + reach.publishers.len() * 8)
    }
}

/// A place in the graph where ways to a fragment begin: the border relay's, with cost and hops from there.
pub(crate) type Exit = (usize, u32, u32);

/// What neighbors in other areas offer: the fragment, cost and hops from there.
pub(crate) type Offered = BTreeMap<NodeId, BTreeMap<Fragment, (u32, u32)>>;

/// The fragments elsewhere and who publishes there, from one state of the database.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    /// The fragment this relay is in.
    pub own: Option<Fragment>,
    /// Where this relay is in the graph.
    place: Option<usize>,
    /// Ascending by fragment, then by the relay whose exit it is.
    exits: Vec<(Fragment, Exit)>,
    offered: Offered,
    /// Who publishes in which fragment; ascending.
    publishers: Vec<(Short, Fragment)>,
}

impl Foreign {
    /// Of the ways of relays that can be reached. Offers are those of this relay's own neighbors.
    pub fn new(
        area: AreaId,
        own: &NodeId,
        database: &Database,
        graph: &Graph,
        paths: Option<&Paths>,
    ) -> Foreign {
        let place = graph.place(own);
        let reached = |at: usize| Some(at) == place || paths.is_some_and(|paths| paths.reaches(at));
        let lowest = (0..graph.nodes.len()).find(|at| reached(*at)).map(|at| &graph.nodes[at]);
        let lowest = lowest.map_or(own, |lowest| lowest.min(own));
        let here = Fragment { area, lowest: lowest.into() };
        let (mut exits, mut publishers) = (Vec::new(), Vec::new());
        // The ways of one relay stand together: it is looked for once.
        let mut border: Option<(&NodeId, Option<usize>)> = None;
        for (way, _) in database.ways() {
            let at = match border {
                Some((origin, at)) if *origin == way.origin => at,
                _ => graph.place(&way.origin).filter(|at| reached(*at)),
            };
            border = Some((&way.origin, at));
            let (Some(reach), Some(at)) = (&way.reach, at) else { continue };
            if !reach.path.contains(&here) {
                exits.push((way.fragment, (at, reach.cost, reach.hops.into())));
                publishers.extend(reach.publishers.iter().map(|publisher| (*publisher, way.fragment)));
            }
        }
        exits.sort_by_key(|(fragment, _)| *fragment);
        publishers.sort_unstable();
        publishers.dedup();
        Foreign { own: Some(here), place, exits, offered: Offered::new(), publishers }
    }

    /// What the neighbors in other areas offer.
    pub fn handle_offered(&mut self, offered: Offered) {
        self.offered = offered;
    }

    /// Where the ways to a relay elsewhere begin.
    pub fn exits(&self, origin: &NodeId) -> impl Iterator<Item = Exit> {
        self.fragments(origin).flat_map(|fragment| self.exits_of(fragment)).map(|(_, exit)| *exit)
    }

    /// Where the ways to a fragment begin, the own one aside.
    pub fn exits_to(&self, fragment: &Fragment) -> impl Iterator<Item = &Exit> {
        let own = self.place;
        self.exits_of(fragment).iter().map(|(_, exit)| exit).filter(move |(at, _, _)| Some(*at) != own)
    }

    /// What the way from a neighbor in another area to a relay elsewhere costs, and its links.
    pub fn offer(&self, origin: &NodeId, neighbor: &NodeId) -> Option<(u32, u32)> {
        let offered = self.offered.get(neighbor)?;
        self.fragments(origin).filter_map(|fragment| offered.get(fragment)).min().copied()
    }

    /// The fragments that say that a relay publishes there.
    fn fragments(&self, origin: &NodeId) -> impl Iterator<Item = &Fragment> {
        let origin = Short::from(origin);
        let first = self.publishers.partition_point(|(publisher, _)| *publisher < origin);
        let of = self.publishers[first..].iter().take_while(move |(publisher, _)| *publisher == origin);
        of.map(|(_, fragment)| fragment)
    }

    fn exits_of(&self, fragment: &Fragment) -> &[(Fragment, Exit)] {
        let first = self.exits.partition_point(|(of, _)| of < fragment);
        let count = self.exits[first..].partition_point(|(of, _)| of == fragment);
        &self.exits[first..first + count]
    }
}
