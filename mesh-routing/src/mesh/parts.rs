//! What the parts of a relay may see of each other: for each one the view it gets, and what becomes of what it answers.
//! When a part is asked is decided in `receive.rs` and `settle.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use protocol::NodeId;

use crate::{
    area::border::{self, Border},
    blob::{self, Blobs, Open, Way},
    link::{Link, detector::State, neighbor::Neighbor},
    linkstate::{
        flood::{self, FirstHop, Flooding},
        lsdb::Lsdb,
    },
    log::replication::{self, Replication},
    mesh::{Mesh, config::Config, output::Output},
    route::{Routes, graph::Candidate, rpf::ReversePaths},
    tree::{Trees, view::TreeView},
    wire::{
        metric::LinkId,
        signature::Keys,
        signed_lsa::{Key, Lsa},
    },
};

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

    fn crosses(&self, link: LinkId) -> bool {
        self.border.crosses(link)
    }

    fn first_hop(&mut self, neighbor: &NodeId, origin: &NodeId, now: Instant) -> FirstHop {
        self.rpf.turn(self.routes, &self.config.id, (neighbor, origin), now)
    }

    fn reached(&self, lsdb: &Lsdb) -> Box<dyn Fn(&Key) -> bool> {
        // Not the routes that are here: those may be from before the records that fill the database.
        let mut routes = Routes::new(&self.config.id, lsdb, &BTreeSet::new());
        routes.look_abroad(&self.config.id, self.config.area, lsdb);
        Box::new(move |key| match key {
            Key::Streams(origin) => routes.finds(origin),
            _ => routes.reaches(&key.origin()),
        })
    }
}

impl Mesh {
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
                flood::Event::Duplicate(link) => self.handle_duplicates(link, 1),
                flood::Event::Originated => self.counters.originated += 1,
                flood::Event::OwnWay(fragment, sequence) => self.border.handle_own(fragment, sequence),
                flood::Event::Shape => self.trees.handle_change(true),
            }
        }
        result
    }

    /// This relay says something of itself.
    pub(super) fn say(&mut self, record: Lsa, now: Instant) {
        self.flood(|flooding, view| flooding.originate(record, view, now));
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
                border::Event::Say(record) => self.say(record, now),
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

    /// Lets replication do something, and carries out what comes of it.
    pub(super) fn replicate<T>(
        &mut self,
        what: impl FnOnce(&mut Replication, &mut replication::View<'_>, Instant) -> T,
    ) -> T {
        let now = self.now;
        let (own, border, routes, rpf) = (&self.config.id, &self.border, &self.routes, &mut self.rpf);
        let mut first_hop = |(id, link): (&NodeId, LinkId), writer: &NodeId| match border.crosses(link) {
            true => FirstHop::Unknown,
            false => rpf.turn(routes, own, (id, writer), now),
        };
        let mut view = replication::View {
            keys: &*self.config.keys,
            links: &self.links,
            lsdb: self.flooding.lsdb(),
            first_hop: &mut first_hop,
        };
        let result = what(&mut self.replication, &mut view, now);
        while let Some(event) = self.replication.poll_event() {
            match event {
                replication::Event::Send(link, message) => self.send(link, message),
                replication::Event::Store(record) => self.outputs.push_back(Output::Store(record)),
                replication::Event::Life(life) => self.outputs.push_back(Output::Life(life)),
                replication::Event::Saved(key, upto) => self.outputs.push_back(Output::Saved { key, upto }),
                replication::Event::Forget(key, below) => {
                    self.outputs.push_back(Output::Forget { key, below });
                }
                replication::Event::Withdrawn(withdrawn) => self.withdraw(&withdrawn),
                replication::Event::Duplicates(link, count) => self.handle_duplicates(link, count),
            }
        }
        result
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

    /// Lets files do something, with what they may look at. What they want done is carried out when everything comes to
    /// rest.
    pub(super) fn with_files<T>(
        &mut self,
        what: impl FnOnce(&mut Blobs, &mut blob::RoutingView<'_>) -> T,
    ) -> T {
        let links = self.links.iter().filter(|(_, link)| link.state() == State::Up);
        let open =
            |(id, l): (&LinkId, &Link)| Open { link: *id, neighbor: l.neighbor, metered: l.underlay.metered };
        let links = links.map(open).collect();
        let (own, costs, routes) = (self.config.id, &self.costs, &mut self.routes);
        let mut ways = |holder: &NodeId| {
            let found = routes.candidates(&own, holder, costs).iter();
            let way = |c: &Candidate| {
                let link = costs.get(&c.neighbor).copied().unwrap_or_default();
                Way { neighbor: c.neighbor, cost: c.cost, beyond: c.cost.saturating_sub(link) }
            };
            found.map(way).collect()
        };
        what(&mut self.blobs, &mut blob::RoutingView { own, links, ways: &mut ways })
    }

    fn handle_duplicates(&mut self, link: LinkId, count: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.counters.duplicates += count;
        }
    }
}
