//! Everything at rest after a batch: neighbors, what is said of this relay, routes, trees, views, each once and in
//! the order in which one decides about the next.

use std::{collections::BTreeSet, time::Instant};

use protocol::mesh::TrackKey;

use crate::{
    link::neighbor::neighbors,
    mesh::{Mesh, output::Output},
    route::{Routes, graph::Pair},
    tree::view::{Event, Surroundings, surroundings},
};

impl Mesh {
    /// Brings everything to rest: neighbors, own record, routes, trees, views.
    pub(crate) fn settle(&mut self) {
        let now = self.now;
        if std::mem::take(&mut self.links_changed) {
            self.settle_links();
        }
        self.shown.stale |= self.audience.handle_timeout(now);
        self.settle_own(now);
        self.settle_news(now);
        let mut rerouted = self.settle_routes();
        if rerouted || self.streams_changed {
            self.border.handle_news();
        }
        if self.settle_border(now) {
            rerouted |= self.settle_routes();
        }
        self.settle_logs(now);
        let changed = self.settle_trees(now);
        let restreamed = std::mem::take(&mut self.streams_changed) | std::mem::take(&mut self.paths_changed);
        let listed = (rerouted || changed || restreamed) && self.settle_views();
        self.shown.stale |= rerouted || listed;
        if self.settle_heard(now) || listed {
            self.outputs.push_back(Output::StreamsChanged);
        }
        self.settle_files(now);
    }

    fn settle_links(&mut self) {
        let now = neighbors(&self.links);
        let shape = !now.keys().eq(self.neighbors.keys());
        let states =
            now.values().map(|n| (n.link, n.state)).ne(self.neighbors.values().map(|n| (n.link, n.state)));
        let told = now.values().map(|n| &n.edge).ne(self.neighbors.values().map(|n| &n.edge));
        let moved = std::mem::take(&mut self.border.moved);
        if self.neighbors.is_empty() && !now.is_empty() {
            self.pace.handle_first(self.now);
        }
        if shape || told || moved {
            self.pace.handle_news(shape || moved);
        }
        self.costs = now.iter().map(|(id, neighbor)| (*id, neighbor.edge.cost.into())).collect();
        self.neighbors = now;
        self.blobs.handle_change();
        self.routes_changed |= told || shape || moved;
        self.trees.handle_change(shape || states);
    }

    fn settle_routes(&mut self) -> bool {
        if std::mem::take(&mut self.routes_changed) {
            self.graph_changed = true;
            self.spf.handle_urgent();
        }
        if !self.spf.handle_timeout(self.now) {
            return false;
        }
        if std::mem::take(&mut self.graph_changed) {
            let avoided: BTreeSet<Pair> = self.avoided.keys().copied().collect();
            self.routes = Routes::new(&self.config.id, &self.database, &avoided);
            self.flood.trees.handle_routes();
        }
        self.routes.look_abroad(&self.config.id, self.config.area, &self.database);
        let offered = self.offered();
        self.routes.foreign.handle_offered(offered);
        self.counters.routed += 1;
        self.blobs.handle_change();
        self.trees.handle_change(false);
        true
    }

    fn settle_trees(&mut self, now: Instant) -> bool {
        if self.trees.rest() {
            return false;
        }
        let mut around = surroundings!(self);
        let events = self.trees.settle(&mut around, now);
        for event in events {
            match event {
                Event::Send(link, message) => self.send(link, &message),
                Event::KeyframeWanted(track) => self.outputs.push_back(Output::KeyframeWanted { track }),
                Event::Rerouted(track) => {
                    self.counters.rerouted += 1;
                    self.outputs.push_back(Output::Rerouted { track });
                }
            }
        }
        let busy = self.trees.busy();
        for (id, link) in &mut self.links {
            link.detector.handle_busy(busy.contains(id), now);
        }
        let published = |key: &TrackKey| {
            let advertised = self.published.get(&key.stream);
            advertised.is_some_and(|ad| ad.stream.tracks.iter().any(|track| track.kind == key.kind))
        };
        let forwarding = self.trees.forwarding(&self.config.id, published);
        if forwarding == self.forwarding {
            return false;
        }
        self.forwarding = forwarding;
        self.outputs.push_back(Output::ForwardingChanged);
        true
    }
}
