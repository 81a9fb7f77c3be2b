//! What the mesh looks like from here, for people: relays, links, streams. Nothing decides by these views.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::{
    BridgeVersion, BridgeVersions, NodeId, StreamName, TrackDescription, ZoneName, mesh::TrackKey,
};

use crate::{
    area::border::AreaView,
    linkstate::{claim::Claim, lsdb::Held},
    mesh::Mesh,
    route::{
        cuts::{Cuts, Skeleton},
        graph::{Pair, pair},
    },
    wire::{
        hearing::Hearing,
        lsa::{Advertised, LinkState, Publication},
        metric::{Capacity, LinkId},
        rates::StreamRates,
    },
};

/// A live stream somewhere in the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// Its name.
    pub name: StreamName,
    /// Its tracks.
    pub tracks: Vec<TrackDescription>,
    /// What they take, and which encodings its picture can be had in.
    pub rates: StreamRates,
    /// Where it is published.
    pub origin: NodeId,
    /// The zone of that relay.
    pub origin_zone: ZoneName,
    /// Links between the origin and here.
    pub hops: u32,
    /// Relays from the origin to here, both included: the way its packets take, or would take.
    pub path: Vec<NodeId>,
    /// Since when it is known here.
    pub since: Instant,
}

/// Relays that can be reached and the links between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// By id; this relay is one of them.
    pub nodes: Vec<NodeView>,
    /// Each once, by its ends.
    pub links: Vec<LinkView>,
    /// What holds it together.
    pub cuts: Cuts,
}

/// A relay in a [`Topology`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Since when it is known here.
    pub since: Instant,
    /// How its listeners fare, as it said last, if it says so.
    pub hearing: Option<Hearing>,
}

/// A link in a [`Topology`].
#[derive(Debug, Clone, PartialEq)]
pub struct LinkView {
    /// The lower end.
    pub a: NodeId,
    /// The higher end.
    pub b: NodeId,
    /// Round trip, the longer of what the ends say.
    pub rtt: Duration,
    /// Share of packets lost, 0 to 1, the higher of what the ends say.
    pub loss: f32,
    /// What routing adds up.
    pub cost: u32,
    /// What it is thought to carry, the lower of what the ends say.
    pub capacity: Capacity,
    /// Both ends say that it works; only then it counts.
    pub up: bool,
}

/// A picture that comes here as a whole, though it can be had in encodings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsWhole {
    /// Its stream.
    pub stream: StreamName,
    /// The neighbor that it comes from.
    pub neighbor: NodeId,
    /// The bridge version of the link to it: if encodings can cross that, a relay behind it holds them up.
    pub version: BridgeVersion,
}

impl Mesh {
    /// Pictures that come here as a whole, though they can be had in encodings.
    pub fn as_whole(&mut self) -> Vec<AsWhole> {
        let (trees, around) = self.trees();
        let of = |(key, link): (&TrackKey, LinkId)| {
            let link = around.links.get(&link)?;
            Some(AsWhole { stream: key.stream.clone(), neighbor: link.neighbor, version: link.version })
        };
        trees.as_whole(&around).filter_map(of).collect()
    }

    /// What is said by the relays that can be reached, this one included, by id.
    pub(crate) fn reached(&self) -> impl Iterator<Item = (&LinkState, &Held)> {
        let own = self.config.id;
        self.flooding
            .lsdb()
            .relays()
            .filter(move |(said, _)| said.origin == own || self.routes.reaches(&said.origin))
    }

    /// The fragments that can be reached, the own one included, by number.
    pub fn areas(&self) -> Vec<AreaView> {
        self.see_border(|border, view| border.areas(view))
    }

    /// The relays, ascending, that have listeners of a live stream, this one included. A change here is a
    /// [`crate::Output::StreamsChanged`], at most twice a second.
    pub fn heard_by(&self, stream: &StreamName) -> Vec<NodeId> {
        self.heard_by.heard_by(stream).to_vec()
    }

    /// The bridge versions that this relay speaks.
    pub fn versions(&self) -> BridgeVersions {
        self.config.versions
    }

    /// Relays that can be reached and the links between them.
    pub fn topology(&self) -> Topology {
        let reached = |id: &NodeId| *id == self.config.id || self.routes.reaches(id);
        let nodes: Vec<_> = self
            .reached()
            .map(|(said, held)| NodeView {
                id: said.origin,
                zone: said.zone.clone(),
                since: held.since,
                hearing: said.hearing.as_deref().copied(),
            })
            .collect();
        let mut links: BTreeMap<Pair, LinkView> = BTreeMap::new();
        for (said, _) in self.reached() {
            for edge in said.links.iter().filter(|edge| reached(&edge.neighbor)) {
                let (a, b) = pair(said.origin, edge.neighbor);
                let rtt = Duration::from_micros(edge.rtt_us.into());
                let loss = f32::from(edge.loss) / f32::from(u16::MAX);
                let (cost, capacity) = (edge.cost.into(), edge.capacity);
                links
                    .entry((a, b))
                    .and_modify(|link| {
                        link.up = true;
                        link.rtt = link.rtt.max(rtt);
                        link.loss = link.loss.max(loss);
                        link.cost = link.cost.max(cost);
                        if link.capacity.unknown() || (!capacity.unknown() && capacity < link.capacity) {
                            link.capacity = capacity;
                        }
                    })
                    .or_insert(LinkView { a, b, rtt, loss, cost, capacity, up: false });
            }
        }
        let cuts = Skeleton::of(self.flooding.lsdb()).cuts(&self.config.id);
        Topology { nodes, links: links.into_values().collect(), cuts }
    }

    /// Lists the streams anew; says whether the list differs.
    pub(super) fn settle_views(&mut self) -> bool {
        let mut claims: BTreeMap<&StreamName, Vec<Claim<'_>>> = BTreeMap::new();
        for (said, held) in self.flooding.lsdb().publications().filter(|(said, _)| !said.streams.is_empty()) {
            if said.origin != self.config.id && !self.routes.finds(&said.origin) {
                continue;
            }
            for advertised in &said.streams {
                let claim = Claim { advertised, said, held };
                claims.entry(&advertised.stream.name).or_default().push(claim);
            }
        }
        let listed = claims.into_values().filter_map(|claims| self.members.listed(&claims));
        let streams: Vec<_> = listed
            .filter_map(|Claim { advertised, said, held }| self.stream(advertised, said, held))
            .collect();
        let differs = streams != self.streams;
        self.streams = streams;
        differs
    }

    fn stream(&self, advertised: &Advertised, said: &Publication, held: &Held) -> Option<StreamView> {
        let (name, origin, tracks) = (&advertised.stream.name, said.origin, &advertised.stream.tracks);
        let joined = self.trees.path((&origin, name), self.config.id);
        let (hops, path) = match joined {
            Some(path) => (None, path),
            None if origin == self.config.id => (None, vec![origin]),
            None => self.routes.way_from(&origin).map(|(hops, path)| (Some(hops), path))?,
        };
        let links = u32::try_from(path.len() - 1).unwrap_or(u32::MAX);
        Some(StreamView {
            name: name.clone(),
            tracks: tracks.clone(),
            rates: advertised.rates.clone(),
            origin,
            origin_zone: self.zone_of(&origin).unwrap_or(&said.zone).clone(),
            hops: hops.unwrap_or(links),
            path,
            since: *held.streams_since.get(name)?,
        })
    }
}
