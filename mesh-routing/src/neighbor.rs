//! The relays at the other ends of the links: several links to one of them count as its best.

use std::collections::BTreeMap;

use protocol::NodeId;

use crate::{
    detector::State,
    link::{Link, LinkId},
    link_state::{Edge, LINKS_MAX},
};

/// A neighbor and the link to reach it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// Its best link: up before suspect, then the cheapest, then the oldest.
    pub link: LinkId,
    /// Up or suspect; a neighbor whose links are all down is none.
    pub state: State,
    /// The link as an edge of the mesh.
    pub edge: Edge,
}

/// The neighbors that can be talked to.
pub(crate) fn neighbors(links: &BTreeMap<LinkId, Link>) -> BTreeMap<NodeId, Neighbor> {
    let mut found: BTreeMap<NodeId, Neighbor> = BTreeMap::new();
    for (id, link) in links.iter().filter(|(_, link)| link.state() != State::Down) {
        let neighbor = Neighbor { link: *id, state: link.state(), edge: link.edge() };
        let better = found
            .get(&link.neighbor)
            .is_none_or(|best| (neighbor.state, neighbor.edge.cost) < (best.state, best.edge.cost));
        if better && (found.len() < LINKS_MAX || found.contains_key(&link.neighbor)) {
            found.insert(link.neighbor, neighbor);
        }
    }
    found
}
