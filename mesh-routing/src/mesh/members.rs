//! The doors of [`Mesh`] for what the organizer signed. What follows from it is in `linkstate/claim.rs`.

use std::time::Instant;

use protocol::{NodeId, ZoneName};

use crate::mesh::Mesh;

impl Mesh {
    /// Relays here are of a festival: of which zone one is has to be said with [`Mesh::handle_member`]. What a relay
    /// says of itself is not believed any more.
    pub fn handle_festival(&mut self, now: Instant) {
        self.touch(now);
        self.members.handle_festival(self.config.id, self.config.zone.clone());
        self.changed.streams = true;
    }

    /// The organizer signed that this relay is of this zone, and may or may not take over names that are live from
    /// another one; with `None` that is as it was.
    pub fn handle_member(&mut self, node: NodeId, zone: ZoneName, takes_over: Option<bool>, now: Instant) {
        self.touch(now);
        self.changed.streams |= self.members.handle_member(node, zone, takes_over);
    }

    /// The zone of a relay, as far as that is known: what the organizer signed if there is one, else what the relay
    /// itself signed.
    pub fn zone_of(&self, node: &NodeId) -> Option<&ZoneName> {
        if *node == self.config.id {
            return Some(&self.config.zone);
        }
        let links = self.flooding.lsdb().links(node).map(|said| &said.zone);
        self.members
            .zone(node, links.or_else(|| self.flooding.lsdb().publication(node).map(|said| &said.zone)))
    }
}
