//! Everything at rest after a batch, each once and in the order in which one decides about the next. This is the one
//! place where [`Changed`] is looked at. Also what flooding, the border and the trees may see of the rest of a relay, and
//! what becomes of what they answer; for logs and files that is in `logs.rs` and `files.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use protocol::NodeId;

use crate::{
    area::border::{self, Border},
    changed::Changed,
    link::{
        Link,
        neighbor::{Neighbor, neighbors},
    },
    linkstate::{
        flood::{self, FirstHop, Flooding},
        lsdb::Lsdb,
    },
    mesh::{Mesh, config::Config, output::Output},
    route::{Anew, Routes, rpf::ReversePaths},
    tree::{
        Trees,
        view::{Event, TreeView},
    },
    wire::{
        incarnation,
        lsa::{LinkState, Publication},
        metric::LinkId,
        signature::Keys,
        signed_lsa::{Key, Lsa},
    },
};

impl Mesh {
    /// Brings everything to rest.
    ///
    /// The order is that of cause and effect, so that one pass is enough and a batch costs one computation:
    ///
    /// 1. *links, crossing*: who the neighbors are decides what is said of this relay.
    /// 2. What this relay says comes before its routes: they are computed from what was said, the own word included.
    /// 3. *avoided, edges, ways, urgent*: the routes, from the database as it is now.
    /// 4. The border tells of ways that the routes found. What it says makes routes of its own: once more, and not again,
    ///    for the border has nothing new until its pace lets it.
    /// 5. Logs and trees go by the routes; trees say which links carry media, and what the packet path needs.
    /// 6. *streams, paths*: lists for people, from routes and trees. *heard*: from the list of streams.
    /// 7. Files come last: they may take what everything else has left.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        self.settle_links();
        if self.interest.handle_timeout(now) {
            self.changed.heard = true;
        }
        self.settle_own(now);
        self.flood(|flooding, _| flooding.handle_timeout(now));
        let mut rerouted = self.settle_routes();
        if rerouted || self.changed.streams {
            self.border.handle_news();
        }
        if self.at_border(|border, view| border.settle(view, now), now) {
            rerouted |= self.settle_routes();
        }
        self.settle_logs();
        let changed = self.settle_trees(now);
        let Changed { streams, paths, heard, .. } = self.changed.take(Changed::OF_LISTS);
        let listed = (rerouted || changed || streams || paths) && self.settle_views();
        if rerouted || listed || heard {
            self.heard_by.handle_change();
        }
        if self.settle_heard(now) || listed {
            self.outputs.push_back(Output::StreamsChanged);
        }
        self.settle_files(now);
    }

    fn settle_links(&mut self) {
        let Changed { links, crossing: moved, .. } = self.changed.take(Changed::OF_LINKS);
        if !links {
            return;
        }
        let now = neighbors(&self.links);
        let shape = !now.keys().eq(self.neighbors.keys());
        let states =
            now.values().map(|n| (n.link, n.state)).ne(self.neighbors.values().map(|n| (n.link, n.state)));
        let told = now.values().map(|n| &n.edge).ne(self.neighbors.values().map(|n| &n.edge));
        if self.neighbors.is_empty() && !now.is_empty() {
            self.handle_joined_mesh();
            self.flooding.handle_first_neighbor(self.now);
        }
        if shape || told || moved {
            self.flooding.handle_links(shape || moved);
        }
        self.costs = now.iter().map(|(id, neighbor)| (*id, neighbor.edge.cost.into())).collect();
        self.neighbors = now;
        self.blobs.handle_change();
        self.changed.avoided |= told || shape || moved;
        self.trees.handle_change(shape || states);
    }

    /// Says what is due of this relay.
    fn settle_own(&mut self, now: Instant) {
        if let Some(sequence) = self.flooding.poll_links(self.interest.due(now), now) {
            let inside = self.neighbors.values().filter(|neighbor| !self.border.crosses(neighbor.link));
            let said = LinkState {
                origin: self.config.id,
                zone: self.config.zone.clone(),
                sequence,
                links: inside.map(|neighbor| neighbor.edge.clone()).collect(),
                heard: self.interest.streams().cloned().collect(),
                addresses: self.addresses.clone(),
                hearing: self.interest.hearing().map(Box::new),
            };
            self.interest.handle_told(now);
            self.say(Lsa::Links(said), now);
        }
        if let Some(sequence) = self.flooding.poll_publication(now) {
            let streams = self.published.values().cloned().collect();
            let (origin, zone) = (self.config.id, self.config.zone.clone());
            self.say(Lsa::Streams(Publication { origin, zone, sequence, streams }), now);
        }
    }

    fn settle_routes(&mut self) -> bool {
        let Changed { avoided, edges, ways, urgent, .. } = self.changed.take(Changed::OF_ROUTES);
        if avoided || edges || ways || urgent {
            self.routes.handle_news(avoided || edges, avoided || urgent, self.now);
        }
        let (own, area, database) = (&self.config.id, self.config.area, self.flooding.lsdb());
        let avoided = self.avoided.keys().copied();
        let Some(anew) = self.routes.settle((own, area), database, avoided, self.now) else { return false };
        if anew == Anew::Everything {
            self.rpf.handle_routes();
        }
        let offered = self.see_border(|border, view| border.offered(view));
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
        let (trees, mut around) = self.trees();
        for event in trees.settle(&mut around, now) {
            match event {
                Event::Send(link, message) => self.send(link, &message),
                Event::Sound((origin, stream), comes) => {
                    self.outputs.push_back(Output::SoundComes { origin, stream, comes });
                }
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
        let (trees, around) = self.trees();
        let forwarding = trees.forwarding(&around);
        if forwarding == self.forwarding {
            return false;
        }
        self.forwarding = forwarding;
        self.outputs.push_back(Output::ForwardingChanged);
        true
    }

    /// Looks anew who hears what. Says whether it differs.
    fn settle_heard(&mut self, now: Instant) -> bool {
        let (own, routes, audience) = (self.config.id, &self.routes, &self.interest);
        let said = self.flooding.lsdb().relays().map(|(said, _)| said);
        let said = said.filter(|said| said.origin == own || routes.reaches(&said.origin));
        let heard = said.flat_map(|said| {
            // What this relay said last may be old.
            let here = (said.origin == own).then(|| audience.streams()).into_iter().flatten();
            let there = (said.origin != own).then_some(&said.heard).into_iter().flatten();
            here.chain(there).map(|stream| (said.origin, stream))
        });
        let live = self.streams.iter().map(|stream| &stream.name);
        self.heard_by.handle_timeout(live, heard, now)
    }

    /// Lets flooding do something, and carries out what comes of it.
    pub(super) fn flood<T>(&mut self, what: impl FnOnce(&mut Flooding, &mut FloodView<'_>) -> T) -> T {
        let mut view = FloodView {
            config: &self.config,
            links: &self.links,
            neighbors: &self.neighbors,
            border: &self.border,
            routes: &self.routes,
            rpf: &mut self.rpf,
        };
        let result = what(&mut self.flooding, &mut view);
        self.changed |= self.flooding.take_changed();
        while let Some(event) = self.flooding.poll_event() {
            match event {
                flood::Event::Send(link, message) => self.send(link, message),
                flood::Event::OwnRun(said, sequence, age) => self.handle_own_said(said, sequence, age),
                flood::Event::Duplicate(link) => self.handle_duplicates(link, 1),
                flood::Event::Originated => self.counters.originated += 1,
                flood::Event::OwnWay(fragment, sequence) => self.border.handle_own(fragment, sequence),
                flood::Event::Shape => self.trees.handle_change(true),
                flood::Event::Room => self.trees.handle_room(),
                flood::Event::Fields(key) => self.take_fields(&key),
            }
        }
        result
    }

    /// This relay says something of itself.
    fn say(&mut self, lsa: Lsa, now: Instant) {
        let mut fields = Vec::new();
        if matches!(lsa, Lsa::Links(_)) {
            incarnation::write(&mut fields, self.incarnation());
        }
        fields.extend(self.note_beside(&lsa));
        self.flood(|flooding, view| flooding.originate((lsa, &fields), view, now));
    }

    /// Lets the border do something, and carries out what comes of it.
    pub(super) fn at_border<T>(
        &mut self,
        what: impl FnOnce(&mut Border, &border::View<'_>) -> T,
        now: Instant,
    ) -> T {
        let neighbor = |link| self.links.get(&link).map(|link: &Link| link.neighbor);
        let view = border::View {
            own: self.config.id,
            lsdb: self.flooding.lsdb(),
            routes: &self.routes,
            costs: &self.costs,
            neighbor: &neighbor,
        };
        let result = what(&mut self.border, &view);
        self.changed |= self.border.take_changed();
        while let Some(event) = self.border.poll_event() {
            match event {
                border::Event::Send(link, message) => self.send(link, &message),
                border::Event::Say(lsa) => self.say(lsa, now),
            }
        }
        result
    }

    /// Looks at something at the border.
    pub(super) fn see_border<T>(&self, what: impl FnOnce(&Border, &border::View<'_>) -> T) -> T {
        let neighbor = |link| self.links.get(&link).map(|link: &Link| link.neighbor);
        let view = border::View {
            own: self.config.id,
            lsdb: self.flooding.lsdb(),
            routes: &self.routes,
            costs: &self.costs,
            neighbor: &neighbor,
        };
        what(&self.border, &view)
    }

    /// The trees, and what they may look at. What they want done is carried out when everything comes to rest.
    pub(super) fn trees(&mut self) -> (&mut Trees, TreeView<'_>) {
        let around = TreeView {
            own: self.config.id,
            links: &self.links,
            neighbors: &self.neighbors,
            costs: &self.costs,
            database: self.flooding.lsdb(),
            published: &self.published,
            routes: &mut self.routes,
        };
        (&mut self.trees, around)
    }

    /// What came on a link was here already.
    pub(super) fn handle_duplicates(&mut self, link: LinkId, count: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.counters.duplicates += count;
        }
    }
}

/// What flooding sees.
pub(super) struct FloodView<'a> {
    config: &'a Config,
    links: &'a BTreeMap<LinkId, Link>,
    neighbors: &'a BTreeMap<NodeId, Neighbor>,
    border: &'a Border,
    routes: &'a Routes,
    rpf: &'a mut ReversePaths,
}

impl flood::View for FloodView<'_> {
    fn keys(&self) -> &dyn Keys {
        &*self.config.keys
    }

    fn neighbors(&self) -> Vec<(NodeId, LinkId)> {
        self.neighbors.iter().map(|(id, neighbor)| (*id, neighbor.link)).collect()
    }

    fn neighbor(&self, link: LinkId) -> Option<NodeId> {
        self.links.get(&link).map(|link| link.neighbor)
    }

    fn incarnation(&self, link: LinkId) -> Option<u64> {
        self.links.get(&link)?.incarnation
    }

    fn crosses(&self, link: LinkId) -> bool {
        self.border.crosses(link)
    }

    fn first_hop(&mut self, neighbor: &NodeId, origin: &NodeId, now: Instant) -> FirstHop {
        self.rpf.turn(self.routes, &self.config.id, (neighbor, origin), now)
    }

    fn reached(&self, lsdb: &Lsdb) -> Box<dyn Fn(&Key) -> bool> {
        // Not the routes that are here: those may be from before the LSAs that fill the database.
        let mut routes = Routes::new(&self.config.id, lsdb, &BTreeSet::new());
        routes.look_abroad(&self.config.id, self.config.area, lsdb);
        Box::new(move |key| match key {
            Key::Streams(origin) => routes.finds(origin),
            _ => routes.reaches(&key.origin()),
        })
    }
}
