//! The doors of [`Mesh`] for which neighbors to have. The choice is in `link/peer_selection.rs`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use protocol::NodeId;

use crate::{
    link::{
        neighbor::Neighbor,
        peer_selection::{Choice, Chooser, NEAR, Present, View, Wish},
    },
    mesh::Mesh,
    route::cuts::Skeleton,
    wire::lsa::ADDRESSES_MAX,
};

/// The choice as part of a relay: off until the driver says where this relay can be reached.
#[derive(Debug, Default)]
pub(super) struct Choosing {
    chooser: Option<Chooser>,
    configured: BTreeSet<NodeId>,
    choices: VecDeque<Choice>,
}

impl Choosing {
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.chooser.as_ref().map(Chooser::poll_timeout)
    }
}

impl Mesh {
    /// This relay can be reached here, says so, and chooses its neighbors itself from now on: what it wants
    /// comes out of [`Mesh::poll_choice`]. At most [`crate::wire::lsa::ADDRESSES_MAX`] count.
    pub fn handle_addresses(&mut self, mut addresses: Vec<SocketAddr>, now: Instant) {
        self.touch(now);
        addresses.truncate(ADDRESSES_MAX);
        let (own, seed) = (self.config.id, self.config.seed);
        self.choosing.chooser.get_or_insert_with(|| Chooser::new(own, seed, now));
        if self.addresses != addresses {
            self.addresses = addresses;
            self.flooding.handle_links(false);
        }
    }

    /// A relay was seen on the local network, by its own word: who it is the link will prove.
    pub fn handle_discovered(&mut self, node: NodeId, addresses: Vec<SocketAddr>, now: Instant) {
        self.touch(now);
        if let Some(chooser) = &mut self.choosing.chooser {
            chooser.handle_discovered(node, addresses, now);
        }
    }

    /// The operator wants this relay as a neighbor: it is never given up.
    pub fn handle_configured(&mut self, neighbor: NodeId) {
        self.choosing.configured.insert(neighbor);
    }

    /// What to dial or close next; `None` when there is nothing left.
    pub fn poll_choice(&mut self) -> Option<Choice> {
        self.choosing.choices.pop_front()
    }

    /// Whether this relay is among the nearest neighbors of another.
    fn needs_us(&self, node: &NodeId) -> bool {
        let Some(said) = self.flooding.lsdb().links(node) else { return false };
        let Some(ours) = said.edge(&self.config.id) else { return false };
        said.links.iter().filter(|edge| edge.cost < ours.cost).count() < NEAR
    }

    pub(super) fn choose(&mut self, now: Instant) {
        let Some(mut chooser) = self.choosing.chooser.take_if(|chooser| chooser.poll_timeout() <= now) else {
            return;
        };
        let since = |node: &NodeId| {
            self.links.values().filter(|link| link.neighbor == *node).map(|link| link.since).min()
        };
        let present = |(node, neighbor): (&NodeId, &Neighbor)| {
            let kind = self.links.get(&neighbor.link).map(|link| link.underlay.kind);
            let present = Present {
                cost: neighbor.edge.cost,
                kind: kind.unwrap_or_default(),
                since: since(node).unwrap_or(now),
                configured: self.choosing.configured.contains(node),
                needs_us: self.needs_us(node),
            };
            (*node, present)
        };
        let neighbors: BTreeMap<NodeId, Present> = self.neighbors.iter().map(present).collect();
        let reached = |id: &NodeId| *id == self.config.id || self.routes.reaches(id);
        let said = || self.flooding.lsdb().relays().map(|(said, _)| said);
        let relays = || said().filter(|said| reached(&said.origin)).map(|said| (said.origin, said));
        let view = View {
            skeleton: &Skeleton::of(self.flooding.lsdb()),
            neighbors: &neighbors,
            zones: &relays().map(|(id, said)| (id, said.zone.clone())).collect(),
            advertised: &relays()
                .filter(|(_, said)| !said.addresses.is_empty())
                .map(|(id, said)| (id, said.addresses.clone()))
                .collect(),
            distances: &relays().filter_map(|(id, _)| Some((id, self.routes.distance(&id)?))).collect(),
        };
        match chooser.handle_timeout(&view, now) {
            Some(Wish::Dial(node, addresses)) => {
                self.choosing.choices.push_back(Choice::Dial { node, addresses });
            }
            Some(Wish::Drop(node)) => {
                let links = self.links.iter().filter(|(_, link)| link.neighbor == node);
                self.choosing.choices.extend(links.map(|(link, _)| Choice::Drop { link: *link }));
            }
            None => {}
        }
        self.choosing.chooser = Some(chooser);
    }
}
