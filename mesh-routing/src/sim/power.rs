//! What happens to wires and relays: cuts, silence, power lost and back, disks lost, drivers that sleep.

use std::{collections::BTreeSet, time::Duration};

use protocol::{WallTime, ZoneName, mesh::StreamTrack};

use super::{
    Sim, WALL, config,
    event::Event,
    wire::{Condition, Quality},
};
use crate::{Config, LinkId, Mesh, Underlay};

/// After so long without a sign of life a driver gives a link up by itself.
const DRIVER_IDLE: Duration = Duration::from_secs(10);

impl Sim {
    /// Something happens to a wire.
    pub fn set_wire(&mut self, wire: usize, condition: Condition) {
        let before = std::mem::replace(&mut self.wires[wire].condition, condition);
        if before == condition {
            return;
        }
        match condition {
            Condition::Cut => {
                self.wires[wire].silent_since = None;
                self.unplug(wire);
            }
            Condition::Silent | Condition::Deaf(_) => {
                if self.wires[wire].silent_since.is_none() {
                    self.fall_silent(wire);
                }
                self.mend(wire);
            }
            Condition::Good => {
                self.wires[wire].silent_since = None;
                self.mend(wire);
                self.plug(wire);
            }
        }
    }

    /// A wire becomes another one: slower, lossier, or better again. What is on it is not touched.
    pub fn set_quality(&mut self, wire: usize, quality: Quality) {
        self.wires[wire].quality = quality;
        self.watch(wire);
    }

    /// A relay loses its power.
    pub fn kill(&mut self, relay: usize) {
        self.relays[relay].die();
        for wire in self.wires_of[relay].clone() {
            let end = usize::from(self.wires[wire].ends[1] == relay);
            if let Some(link) = self.wires[wire].links[end].take() {
                self.forget_link(link);
            }
            if self.wires[wire].links[1 - end].is_some() && self.wires[wire].silent_since.is_none() {
                self.fall_silent(wire);
            }
            // What it has sent arrives.
            self.wires[wire].ways[end].clear();
        }
    }

    /// A relay starts, with what is on its disk; its publishers and listeners come back.
    pub fn start(&mut self, relay: usize) {
        let (now, seed) = (self.now, self.random.word());
        let zone = self.zones[relay].clone();
        let wall = WALL.0 + self.elapsed().as_millis() as u64;
        let started = &mut self.relays[relay];
        let (boot, damaged) = started.load();
        let (area, versions) = (started.area, started.versions);
        let config = Config { area, versions, ..config(started.id, zone, boot, seed) };
        let mut mesh = Mesh::new(config, now);
        if started.disk.quality.room > 0 {
            mesh.handle_disk_room(started.disk.quality.room);
        }
        mesh.handle_wall(WallTime(wall.saturating_add_signed(started.skew)), now);
        damaged.into_iter().for_each(|(key, number)| mesh.handle_damaged(key, number));
        for record in &started.records {
            self.ledger.note(record);
            mesh.handle_restore(record.clone());
        }
        started.mesh = Some(Box::new(mesh));
        let published: Vec<_> = started.published.iter().cloned().collect();
        for key in published {
            let name = key.stream.as_str();
            match key.track {
                StreamTrack::Encoding(_) => drop(self.publish_encodings(relay, name)),
                StreamTrack::Rung(_) => drop(self.publish_rungs(relay, name)),
                whole => drop(self.publish_kind(relay, name, whole.kind())),
            }
        }
        for key in self.relays[relay].wanted.clone() {
            self.want(relay, &key, true);
        }
        for wire in self.wires_of[relay].clone() {
            if self.wires[wire].condition == Condition::Good {
                self.unplug(wire);
                self.wires[wire].silent_since = None;
                self.plug(wire);
            }
        }
        self.with(relay, |_| {});
    }

    /// A relay without power loses its disk too: records, and how often it started.
    pub fn wipe(&mut self, relay: usize) {
        self.relays[relay].wipe();
    }

    /// The driver of a relay does nothing for a while; what comes meanwhile it finds afterwards.
    pub fn stall(&mut self, relay: usize, time: Duration) {
        let until = self.now + time;
        if self.relays[relay].mesh.is_some() && !self.relays[relay].sleeps(until) {
            self.relays[relay].sleeps_until = Some(until);
            self.events.push(until, Event::Wake { relay: relay as u32 });
        }
    }

    /// The zone of a relay, from its next start.
    pub fn set_zone(&mut self, relay: usize, zone: ZoneName) {
        self.zones[relay] = zone;
    }

    /// The relays with power, in groups that good wires connect.
    pub fn components(&self) -> Vec<BTreeSet<usize>> {
        let alive = |relay: &usize| self.relays[*relay].mesh.is_some();
        self.connected(&(0..self.relays.len()).filter(alive).collect())
    }

    /// These relays, in groups that good wires between them connect.
    pub(super) fn connected(&self, of: &BTreeSet<usize>) -> Vec<BTreeSet<usize>> {
        let (mut left, mut groups) = (of.clone(), Vec::new());
        while let Some(first) = left.pop_first() {
            let (mut group, mut edge) = (BTreeSet::from([first]), vec![first]);
            while let Some(at) = edge.pop() {
                let wires = self.wires_of[at].iter().map(|wire| &self.wires[*wire]);
                for wire in wires.filter(|wire| wire.condition == Condition::Good) {
                    let to = wire.ends[usize::from(wire.ends[0] == at)];
                    if left.remove(&to) {
                        group.insert(to);
                        edge.push(to);
                    }
                }
            }
            groups.push(group);
        }
        groups
    }

    pub(super) fn wake(&mut self, relay: usize) {
        if self.relays[relay].mesh.is_none() || self.relays[relay].sleeps(self.now) {
            return;
        }
        for wire in self.wires_of[relay].clone() {
            let end = usize::from(self.wires[wire].ends[1] == relay);
            self.deliver_all(wire, end);
        }
        for (toward, packet) in std::mem::take(&mut self.relays[relay].inbox) {
            self.arrive_packet(toward, packet);
        }
        self.answer(relay);
        self.with(relay, |_| {});
    }

    fn plug(&mut self, wire: usize) {
        let [a, b] = self.wires[wire].ends;
        let alive = self.relays[a].mesh.is_some() && self.relays[b].mesh.is_some();
        if !alive || self.wires[wire].links.iter().all(Option::is_some) {
            return;
        }
        // A link left over at one end is of an incarnation of the other end that is past.
        self.unplug(wire);
        for end in [0, 1] {
            self.by_link.push(Some((wire, end)));
            self.wires[wire].links[end] = Some(LinkId(self.by_link.len() as u32 - 1));
        }
        let (now, rtt) = (self.now, self.wires[wire].quality.rtt());
        let Some(version) = self.relays[a].versions.common(self.relays[b].versions) else { return };
        let over = (Underlay::default(), version);
        for (end, relay, neighbor) in [(0, a, b), (1, b, a)] {
            let run = self.relays[neighbor].mesh.as_ref().map(|mesh| mesh.run());
            let (link, neighbor) = (self.wires[wire].links[end], self.relays[neighbor].id);
            if let Some(link) = link {
                self.with(relay, |mesh| {
                    mesh.handle_link_up_of(link, (neighbor, run), over, now);
                    mesh.handle_measurement(link, rtt, 0.0, now);
                });
            }
        }
        if self.wires[wire].quality.loss > 0.0 || self.wires[wire].quality.rate > 0 {
            self.watch(wire);
        }
    }

    pub(super) fn unplug(&mut self, wire: usize) {
        let now = self.now;
        for end in [0, 1] {
            self.wires[wire].ways[end].clear();
            if let Some(link) = self.wires[wire].links[end].take() {
                self.forget_link(link);
                self.with(self.wires[wire].ends[end], |mesh| mesh.handle_link_down(link, now));
            }
        }
    }

    fn forget_link(&mut self, link: LinkId) {
        self.by_link[link.0 as usize] = None;
    }

    fn fall_silent(&mut self, wire: usize) {
        let since = self.now;
        self.wires[wire].silent_since = Some(since);
        self.events.push(since + DRIVER_IDLE, Event::GiveUp { wire: wire as u32, since });
    }

    /// Drivers give up a link that was silent for too long.
    pub(super) fn give_up(&mut self, wire: usize) {
        self.wires[wire].silent_since = None;
        self.unplug(wire);
    }
}
