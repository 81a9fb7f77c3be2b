//! What is known of other areas, from one state of the database: which fragments there are, by which border relays
//! they are reached, who publishes there. What a border relay says of them is in `area/border.rs`.

use std::collections::BTreeMap;

use protocol::NodeId;

use crate::{
    linkstate::lsdb::Lsdb,
    route::graph::{Graph, Paths},
    wire::area::{AreaId, Fragment, NodePrefix},
};

/// A place in the graph where ways to a fragment begin: the border relay's, with cost and hops from there.
pub(crate) type Exit = (usize, u32, u32);

/// What neighbors in other areas offer: the fragment, cost and hops from there.
pub(crate) type Offered = BTreeMap<NodeId, BTreeMap<Fragment, (u32, u32)>>;

/// The fragments elsewhere and who publishes there, from one state of the database.
#[derive(Debug, Default)]
pub(crate) struct InterAreaRoutes {
    /// The fragment this relay is in.
    pub own: Option<Fragment>,
    /// Where this relay is in the graph.
    place: Option<usize>,
    /// Ascending by fragment, then by the relay whose exit it is.
    exits: Vec<(Fragment, Exit)>,
    offered: Offered,
    /// Who publishes in which fragment; ascending.
    publishers: Vec<(NodePrefix, Fragment)>,
}

impl InterAreaRoutes {
    /// Of the ways of relays that can be reached. Offers are those of this relay's own neighbors.
    pub fn new(
        area: AreaId,
        own: &NodeId,
        database: &Lsdb,
        graph: &Graph,
        paths: Option<&Paths>,
    ) -> InterAreaRoutes {
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
            let (Some(area_path), Some(at)) = (&way.area_path, at) else { continue };
            if !area_path.path.contains(&here) {
                exits.push((way.fragment, (at, area_path.cost, area_path.hops.into())));
                publishers.extend(area_path.publishers.iter().map(|publisher| (*publisher, way.fragment)));
            }
        }
        exits.sort_by_key(|(fragment, _)| *fragment);
        publishers.sort_unstable();
        publishers.dedup();
        InterAreaRoutes { own: Some(here), place, exits, offered: Offered::new(), publishers }
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
        let origin = NodePrefix::from(origin);
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
