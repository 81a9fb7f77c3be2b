//! What the node wants done, each effect by whoever does it: workers, bridges, disks, participants.

use protocol::signaling::FromRelay;
use rooms::Output as RoomsOutput;

use super::NodeLoop;
use crate::{
    clock,
    drop_reason::DropReason,
    node::{Effect, sessions::Direction},
};

impl NodeLoop {
    /// Does what the node wants done, until it wants nothing more.
    pub(super) fn carry_out(&mut self) {
        let mut forwarding = false;
        let mut streams = false;
        while let Some(effect) = self.node.poll_effect(clock::now()) {
            match effect {
                Effect::Workers(command) => self.workers.tell(&command),
                Effect::Send { link, class, message } => self.send(link, class, message),
                Effect::Dial(node, addresses) => self.bridges.dial(node, addresses),
                Effect::Spare(link) => self.spare(link),
                Effect::DropLink { link, reason } => {
                    tracing::warn!(link = link.0, reason, "closing a bridge");
                    self.bridges.close_link(link, reason);
                }
                Effect::Forwarding => forwarding = true,
                Effect::Streams => streams = true,
                Effect::Store(record) => self.disk.expect(self.store.append(record)),
                Effect::Stored(place, stored) => self.stored(&place, stored),
                Effect::Forget(key, below) => self.store.forget(key, below),
                Effect::Saved(key, upto) => {
                    for (topic, id) in self.posts.handle_saved(&key, upto) {
                        self.node.handle_saved(&topic, id);
                    }
                }
                Effect::Life(life) => self.store.set_life(life),
                Effect::File(output) => self.files.carry_out(output, &mut self.node),
                Effect::Unreached(direction) => {
                    let kind = if direction == Direction::Ingest { "ingest" } else { "egress" };
                    metrics::counter!("relay_unreached_total", "kind" => kind).increment(1);
                }
                Effect::Warn(text) => tracing::warn!("{text}"),
                Effect::GaveWay => DropReason::SessionGaveWay.count(),
                Effect::Rerouted => metrics::counter!("relay_reroute_total").increment(1),
            }
        }
        if forwarding {
            let table = self.table();
            self.forwarding.replace(table);
        }
        if streams {
            let event = FromRelay::Streams { streams: self.node.streams(clock::now()) };
            self.tell(|_| true, &event);
        }
        while let Some(output) = self.node.poll_room_output() {
            match output {
                RoomsOutput::Tell { room, event } => self.tell(|place| *place == room, &event),
                RoomsOutput::TellAll { event } => self.tell(|_| true, &event),
            }
        }
    }
}
