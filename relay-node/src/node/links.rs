//! Links to neighbors on their way to the mesh: what the bridges say of them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh_routing::{LinkId, MeshError, Underlay};
use protocol::{BridgeVersion, NodeId, ZoneName};

use super::Node;
use crate::bridge::Misfit;

/// Relays that do not fit and are shown.
const MISFITS_MAX: usize = 64;
/// One that did not come again for so long is not shown any more: the mesh looks for a neighbor at least this often.
pub(super) const MISFIT_FOR: Duration = Duration::from_secs(15 * 60);

impl Node {
    /// A link is up to a neighbor that was let in. `configured` says that the operator wants it.
    pub fn handle_link_up(
        &mut self,
        link: LinkId,
        (neighbor, zone): (NodeId, ZoneName),
        over: (Underlay, BridgeVersion),
        configured: bool,
        now: Instant,
    ) {
        self.misfits.remove(&neighbor);
        self.handle_neighbor(neighbor, zone, now);
        if configured {
            self.mesh.handle_configured(neighbor);
        }
        self.mesh.handle_link_up_over(link, neighbor, over, now);
    }

    /// A relay would be a neighbor, and speaks no bridge version that this one speaks.
    pub fn handle_misfit(&mut self, misfit: Misfit, now: Instant) {
        self.misfits.retain(|_, (_, at)| now.saturating_duration_since(*at) < MISFIT_FOR);
        if self.misfits.len() < MISFITS_MAX || self.misfits.contains_key(&misfit.neighbor) {
            self.misfits.insert(misfit.neighbor, (misfit, now));
        }
    }

    /// It is gone.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        self.mesh.handle_link_down(link, now);
    }

    /// Something came over it, media for example.
    pub fn handle_heard(&mut self, link: LinkId, now: Instant) {
        self.mesh.handle_media(link, now);
    }

    /// A message came over it.
    ///
    /// # Errors
    ///
    /// As [`Mesh::handle_message`](mesh_routing::Mesh::handle_message): it was dropped.
    pub fn handle_message(&mut self, link: LinkId, message: &[u8], now: Instant) -> Result<(), MeshError> {
        self.mesh.handle_message(link, message, now)
    }

    /// What it is like.
    pub fn handle_measured(
        &mut self,
        link: LinkId,
        (rtt, loss): (Duration, f32),
        capacity: Option<u64>,
        now: Instant,
    ) {
        self.mesh.handle_measurement(link, rtt, loss, now);
        self.mesh.handle_capacity(link, capacity, now);
    }

    /// The operator wants a link to this neighbor.
    pub fn handle_configured(&mut self, neighbor: NodeId) {
        self.mesh.handle_configured(neighbor);
    }

    /// A relay was seen on the local network.
    pub fn handle_discovered(&mut self, node: NodeId, addresses: Vec<SocketAddr>, now: Instant) {
        self.mesh.handle_discovered(node, addresses, now);
    }

    /// Where other relays reach this one.
    pub fn handle_addresses(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        self.mesh.handle_addresses(addresses, now);
    }

    /// Whether anybody is linked to this relay.
    pub fn has_neighbors(&self) -> bool {
        self.mesh.has_neighbors()
    }
}
