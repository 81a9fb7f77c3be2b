//! The node loop's side of the bridges: the ends of links it sends over, what their events come to, and the table that
//! the packet path reads.

use bytes::Bytes;
use mesh_routing::LinkId;
use protocol::mesh::Class;

use super::NodeLoop;
use crate::{
    bridge::{BridgeEvent, Child, LinkSender, Route, Table},
    clock, drop_reason,
    node::ForwardSource,
};

impl NodeLoop {
    pub(super) fn bridge(&mut self, event: BridgeEvent) {
        let now = clock::now();
        match event {
            BridgeEvent::Up { link, neighbor, zone, remote, underlay, version, sender } => {
                let over = underlay.kind.word();
                tracing::info!(%zone, %remote, over, %version, neighbor = %neighbor.short(), "bridge up");
                self.heard.insert(link, sender.heard());
                self.links.insert(link, sender);
                let configured = self.bridges.configured(&neighbor);
                self.node.handle_link_up(link, (neighbor, zone), (underlay, version), configured, now);
            }
            BridgeEvent::Misfit(misfit) => self.node.handle_misfit(misfit, now),
            BridgeEvent::Down { link, reason } => {
                tracing::info!(link = link.0, %reason, "bridge down");
                self.links.remove(&link);
                self.heard.remove(&link);
                self.node.handle_link_down(link, now);
            }
            BridgeEvent::Message { link, message } => {
                if let Err(error) = self.node.handle_message(link, &message, now) {
                    drop_reason::count_message(&error);
                }
            }
            BridgeEvent::Measured { link, rtt, loss, capacity } => {
                self.node.handle_measured(link, (rtt, loss), capacity, now);
            }
        }
    }

    /// Before a detector decides: did anything come over the links, media for example?
    pub(super) fn listen(&mut self) {
        let now = clock::now();
        for (link, sender) in &self.links {
            let heard = sender.heard();
            if self.heard.insert(*link, heard) != Some(heard) {
                self.node.handle_heard(*link, now);
            }
        }
    }

    /// A relay that was dialed by its configured address after it was linked is known as configured only
    /// by the bridges.
    pub(super) fn spare(&mut self, link: LinkId) {
        let Some(neighbor) = self.links.get(&link).map(LinkSender::neighbor) else { return };
        if self.bridges.configured(&neighbor) {
            self.node.handle_configured(neighbor);
        } else {
            self.bridges.close_link(link, "other neighbors are nearer");
        }
    }

    pub(super) fn send(&self, link: LinkId, class: Class, message: Bytes) {
        if let Some(sender) = self.links.get(&link) {
            // A full queue closes the link, and its Down follows.
            sender.send_message(class, message);
        }
    }

    pub(super) fn table(&mut self) -> Table {
        let mut table = Table::default();
        for forward in self.node.forwarding() {
            let children: Vec<Child> = forward
                .children
                .iter()
                .filter_map(|(link, alias)| {
                    Some(Child { link: self.links.get(link)?.clone(), alias: *alias })
                })
                .collect();
            match forward.source {
                ForwardSource::Here(track) => drop(table.local.insert(track.0, children)),
                ForwardSource::Links(sources) => {
                    let local = forward.local.map(|track| track.0);
                    let route = Route { track: forward.track, local, class: forward.class, children };
                    table.incoming.extend(sources.into_iter().map(|source| (source, route.clone())));
                }
            }
        }
        table
    }
}
