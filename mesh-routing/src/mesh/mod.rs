//! The doors of the crate: everything that happens to a relay's part of the mesh comes in here, and
//! everything it wants done comes out. The parts know nothing of each other; this file introduces them.

pub mod config;
pub mod counters;
mod files;
mod logs;
mod members;
#[cfg(any(test, feature = "next"))]
pub mod next;
#[cfg(not(any(test, feature = "next")))]
#[path = "next_absent.rs"]
mod next;
pub mod output;
mod peers;
mod receive;
mod settle;
mod twins;
pub mod views;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use protocol::{
    BridgeVersion, Kind, NodeId, StreamName,
    mesh::{MAX_RUNGS, StreamAdvertisement, StreamTrack, TrackKey},
};

#[cfg(test)]
use crate::linkstate::lsdb::Lsdb;
#[cfg(any(test, feature = "sim"))]
use crate::wire::area::AreaId;
use crate::{
    area::border::Border,
    blob::Blobs,
    changed::Changed,
    interest::{HeardBy, Interest},
    link::{
        Link, LinkCounters, LinkFigures,
        damping::Remembered,
        detector::State,
        neighbor::{Neighbor, neighbors},
        protection::Heard,
    },
    linkstate::{claim::Members, flood::Flooding},
    log::replication::Replication,
    mesh::{config::Config, counters::Counters, output::Output, peers::Choosing, views::StreamView},
    opaque::Opaques,
    route::{Routes, graph::Pair, rpf::ReversePaths},
    tree::{Trees, forward::ForwardEntry, picture::PictureDemand, sound::SoundDemand},
    wire::{
        hearing::Hearing,
        lsa::{Advertised, SINCE_MAX, STREAMS_MAX, check_stream},
        message::{Encoded, Message},
        metric::{LinkId, Underlay},
        rates::StreamRates,
    },
};

/// Hashes of what should be equal everywhere are compared this often: what was lost is missing for so long at most, and a
/// quiet link carries one short message for it.
const SUMMARY_EVERY: Duration = Duration::from_secs(5);
/// Records that nobody refreshes are looked for this often. They are fifteen minutes old: seconds do not matter, and each
/// look walks over all of them.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// A relay's part of the mesh.
///
/// *In*: links ([`handle_link_up`](Mesh::handle_link_up), [`handle_link_down`](Mesh::handle_link_down),
/// [`handle_measurement`](Mesh::handle_measurement), [`handle_message`](Mesh::handle_message),
/// [`handle_media`](Mesh::handle_media)), what happens here ([`handle_publish`](Mesh::handle_publish),
/// [`handle_unpublish`](Mesh::handle_unpublish), [`handle_interest`](Mesh::handle_interest),
/// [`handle_listeners`](Mesh::handle_listeners),
/// [`handle_keyframe_request`](Mesh::handle_keyframe_request), [`handle_append`](Mesh::handle_append)), what the disk
/// answers ([`handle_stored`](Mesh::handle_stored)), time ([`handle_timeout`](Mesh::handle_timeout)).
///
/// *Out*, after any of them or after a batch: [`poll_output`](Mesh::poll_output) until there is nothing
/// left, then the views that it called changed, then [`poll_timeout`](Mesh::poll_timeout). Routes and trees
/// are brought up to date in `poll_output`, so a batch costs one computation.
#[derive(Debug)]
pub struct Mesh {
    config: Config,
    started: Instant,
    now: Instant,
    links: BTreeMap<LinkId, Link>,
    flapped: Remembered,
    choosing: Choosing,
    addresses: Vec<SocketAddr>,
    neighbors: BTreeMap<NodeId, Neighbor>,
    costs: BTreeMap<NodeId, u32>,
    flooding: Flooding,
    routes: Routes,
    rpf: ReversePaths,
    avoided: BTreeMap<Pair, Instant>,
    border: Border,
    published: BTreeMap<StreamName, Advertised>,
    interest: Interest,
    heard_by: HeardBy,
    trees: Trees,
    replication: Replication,
    members: Members,
    blobs: Blobs,
    opaques: Opaques,
    twins: twins::Twins,
    next: next::Next,
    next_summary: Instant,
    next_sweep: Instant,
    /// What differs since everything was at rest.
    changed: Changed,
    settled: bool,
    forwarding: Vec<ForwardEntry>,
    streams: Vec<StreamView>,
    counters: Counters,
    outputs: VecDeque<Output>,
}

impl Mesh {
    /// A relay without links.
    pub fn new(config: Config, now: Instant) -> Mesh {
        // The seed keeps relays that were switched on together from comparing notes all at once.
        let spread = Duration::from_millis(config.seed % 1000);
        Mesh {
            flooding: Flooding::new(config.id, config.boot, config.seed),
            border: Border::new(config.area, config.boot, config.seed),
            trees: Trees::new(config.seed),
            replication: Replication::new(config.id, config.seed),
            config,
            started: now,
            now,
            links: BTreeMap::new(),
            flapped: Remembered::default(),
            choosing: Choosing::default(),
            addresses: Vec::new(),
            neighbors: BTreeMap::new(),
            costs: BTreeMap::new(),
            routes: Routes::default(),
            rpf: ReversePaths::default(),
            avoided: BTreeMap::new(),
            published: BTreeMap::new(),
            interest: Interest::default(),
            heard_by: HeardBy::default(),
            members: Members::default(),
            blobs: Blobs::default(),
            opaques: Opaques::default(),
            twins: twins::Twins::default(),
            next: next::Next::default(),
            next_summary: now + SUMMARY_EVERY + spread,
            next_sweep: now + SWEEP_EVERY,
            changed: Changed { links: true, avoided: true, ..Changed::default() },
            settled: false,
            forwarding: Vec::new(),
            streams: Vec::new(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The driver has a link to an authenticated neighbor of the same release. Several links to one neighbor may exist.
    pub fn handle_link_up(&mut self, link: LinkId, neighbor: NodeId, now: Instant) {
        let version = self.config.versions.highest();
        self.handle_link_up_over(link, neighbor, (Underlay::default(), version), now);
    }

    /// The driver has a link to an authenticated neighbor, and knows what it runs over and which bridge version both use.
    pub fn handle_link_up_over(
        &mut self,
        link: LinkId,
        neighbor: NodeId,
        over: (Underlay, BridgeVersion),
        now: Instant,
    ) {
        self.handle_link_up_of(link, (neighbor, None), over, now);
    }

    fn take_link(
        &mut self,
        link: LinkId,
        (neighbor, incarnation): (NodeId, Option<u64>),
        (underlay, version): (Underlay, BridgeVersion),
        now: Instant,
    ) {
        if neighbor == self.config.id {
            self.outputs.push_back(Output::DropLink { link, reason: "a link to oneself" });
            return;
        }
        let flaps = self.flapped.take(neighbor, underlay.kind);
        let mut new = Link::new(neighbor, (underlay, version), flaps, now);
        new.incarnation = incarnation;
        self.links.insert(link, new);
        self.changed.links = true;
        self.blobs.handle_link_up(link, now);
        self.send(link, &Message::Area { area: self.config.area });
        self.compare_notes(link);
    }

    /// The link is gone for good.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        self.touch(now);
        if self.forget_doubted(link) {
            return;
        }
        if let Some(mut gone) = self.links.remove(&link) {
            if gone.state() == State::Up {
                gone.flaps.handle_bad(now);
            }
            self.flapped.keep(gone.neighbor, gone.underlay.kind, gone.flaps, now);
            self.replication.logs_mut().forget(link, now);
            self.blobs.handle_link_down(link, now);
            self.flooding.handle_link_down(link);
            self.border.handle_link_down(link);
            if self.links.values().all(|link| link.neighbor != gone.neighbor) {
                self.opaques.handle_gone(&gone.neighbor);
            }
            self.changed.links = true;
        }
    }

    /// The driver's own measurement of a link: a round trip, smoothed or not, and the share of packets lost of
    /// late, 0 to 1.
    pub fn handle_measurement(&mut self, link: LinkId, rtt: Duration, loss: f32, now: Instant) {
        self.touch(now);
        if let Some(link) = self.links.get_mut(&link) {
            link.measure(rtt, loss, now);
            self.changed.links |= link.retell(now);
        }
    }

    /// What a link carries, in bits per second, or `None` if that is not known any more. Joins that would fill it
    /// are refused.
    pub fn handle_capacity(&mut self, link: LinkId, capacity: Option<u64>, now: Instant) {
        self.touch(now);
        if let Some(known) = self.links.get_mut(&link) {
            known.think(capacity);
            self.changed.links |= known.retell(now);
            self.trees.handle_capacity(link, capacity);
        }
    }

    /// What media came over a link since it is up, of sound and of pictures, and what was lost. Call it after
    /// [`Mesh::handle_measurement`]. Parity is asked for where the neighbor knows of it.
    pub fn handle_media_heard(&mut self, link: LinkId, heard: [Heard; 2], now: Instant) {
        self.touch(now);
        let known = self.links.get_mut(&link).filter(|link| link.version >= BridgeVersion::PARITY);
        if let Some(protection) = known.and_then(|known| known.handle_media_heard(heard, now)) {
            self.send(link, &Message::Protect { protection });
        }
    }

    /// A media packet came on the link: a sign of life. `now` may be a moment ago: the driver may ask its
    /// packet path just before [`Mesh::handle_timeout`] instead of saying so for each packet.
    pub fn handle_media(&mut self, link: LinkId, now: Instant) {
        self.now = self.now.max(now);
        if self.links.get_mut(&link).is_some_and(|link| link.detector.handle_heard(now)) {
            self.changed.links = true;
            self.settled = false;
        }
    }

    /// A stream is published here, or its tracks changed. What is absurd is counted and not advertised.
    pub fn handle_publish(&mut self, stream: StreamAdvertisement, now: Instant) {
        self.touch(now);
        let known = self.published.get(&stream.name).map(|known| (known.since, known.rates.clone()));
        let full = known.is_none() && self.published.len() >= STREAMS_MAX;
        if full || check_stream(&stream).is_err() {
            self.counters.publications_refused += 1;
            return;
        }
        let first = || ((self.newest(&stream.name) + 1).min(SINCE_MAX), StreamRates::default());
        let (since, rates) = known.unwrap_or_else(first);
        self.published.insert(stream.name.clone(), Advertised { stream, since, rates });
        self.flooding.handle_publication();
        self.trees.handle_change(false);
    }

    /// What the tracks of a stream that is published here take, and which encodings its picture can be had in. To be
    /// said when it is another step for good, not with each moment: it goes through the whole mesh.
    pub fn handle_rates(&mut self, stream: &StreamName, rates: StreamRates, now: Instant) {
        self.touch(now);
        let Some(advertised) = self.published.get_mut(stream) else { return };
        if advertised.rates != rates && rates.is_sane() {
            advertised.rates = rates;
            self.flooding.handle_publication();
            self.trees.handle_change(false);
        }
    }

    /// A stream is not published here any more.
    pub fn handle_unpublish(&mut self, stream: &StreamName, now: Instant) {
        self.touch(now);
        if self.published.remove(stream).is_some() {
            self.flooding.handle_publication();
            self.trees.handle_change(false);
        }
    }

    /// Somebody here wants the sound or the picture of a stream, wherever it is published, or nobody does any more. Of
    /// a picture in encodings it is the base, until [`Mesh::handle_demand`] says more. Of a sound it is what the publisher
    /// sends, until [`Mesh::handle_sound_demand`] does.
    pub fn handle_interest(&mut self, track: TrackKey, wanted: bool, now: Instant) {
        match track.track.kind() {
            Kind::Audio => {
                let demand = SoundDemand { listeners: wanted.into(), ..SoundDemand::default() };
                self.handle_sound_demand(track.origin, track.stream, demand, now);
            }
            Kind::Video => {
                let demand = PictureDemand { listeners: wanted.into(), ..PictureDemand::default() };
                self.handle_demand(track.origin, track.stream, demand, now);
            }
        }
    }

    /// What is wanted here of the picture of a stream that is published elsewhere.
    pub fn handle_demand(&mut self, origin: NodeId, stream: StreamName, demand: PictureDemand, now: Instant) {
        self.touch(now);
        let whole = TrackKey { origin, stream, track: StreamTrack::Video };
        self.interest.handle_interest(&whole, demand.listeners > 0, now);
        self.heard_by.handle_change();
        self.trees.handle_picture((whole.origin, whole.stream), demand);
    }

    /// What is wanted here of the sound of a stream that is published elsewhere.
    pub fn handle_sound_demand(
        &mut self,
        origin: NodeId,
        stream: StreamName,
        demand: SoundDemand,
        now: Instant,
    ) {
        self.touch(now);
        let top = TrackKey { origin, stream, track: StreamTrack::Audio };
        self.interest.handle_interest(&top, demand.listeners > 0, now);
        self.heard_by.handle_change();
        self.trees.handle_sound((top.origin, top.stream), demand);
    }

    /// Which qualities come of the sound of a stream that is published elsewhere: each rung, by rising quality, and what
    /// its publisher sends. [`Output::SoundComes`] says when it is another.
    pub fn sound_comes(&self, origin: &NodeId, stream: &StreamName) -> [bool; MAX_RUNGS + 1] {
        self.trees.sound_comes(origin, stream)
    }

    /// Somebody here listens to a stream that is published here, or nobody does any more. It flows without
    /// the mesh: this is for [`Mesh::heard_by`] alone.
    pub fn handle_listeners(&mut self, stream: &StreamName, listen: bool, now: Instant) {
        self.touch(now);
        self.interest.handle_listeners(stream, listen, now);
        self.heard_by.handle_change();
    }

    /// All who listen here fare so. Who looks at the mesh is told, every 10 s at most.
    pub fn handle_hearing(&mut self, hearing: Hearing, now: Instant) {
        self.touch(now);
        self.interest.handle_hearing(hearing);
    }

    /// A listener here needs a keyframe. Goes upstream at most once per 500 ms and track.
    pub fn handle_keyframe_request(&mut self, track: &TrackKey, now: Instant) {
        self.touch(now);
        self.trees.handle_keyframe(track, None);
    }

    /// Time has passed: to be called when [`Mesh::poll_timeout`] says, or at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.touch(now);
        self.probe(now);
        self.trees.handle_timeout(now);
        self.choose(now);
        self.say_notes(now);
        let avoided = self.avoided.len();
        self.avoided.retain(|_, until| *until > now);
        self.changed.avoided |= self.avoided.len() != avoided;
        if now >= self.next_summary {
            self.next_summary = now + SUMMARY_EVERY;
            self.send_summaries();
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.flood(|flooding, _| flooding.expire(now));
            self.replication.logs_mut().expire(now);
        }
    }

    /// When [`Mesh::handle_timeout`] has something to do. Exact once `poll_output` has nothing left.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let links = self.links.values().map(Link::poll_timeout);
        let routes = self.flooding.poll_timeout().into_iter().chain(self.routes.poll_timeout());
        let border = self.border.poll_timeout().into_iter().chain(self.choosing.poll_timeout());
        let avoided = self.avoided.values().copied();
        let other = [self.next_summary, self.next_sweep];
        let heard = self.interest.poll_timeout().into_iter().chain(self.heard_by.poll_timeout());
        let logs = self.replication.poll_timeout();
        let parts = self.trees.poll_timeout().into_iter().chain(self.blobs.poll_timeout());
        let own = routes.chain(border).chain(avoided).chain(other).chain(heard).chain(logs).chain(parts);
        let own = own.chain(self.notes_due()).chain(self.doubted_until());
        links.chain(own).min()
    }

    /// What to do next; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output> {
        while !self.settled {
            self.settled = true;
            self.settle();
            // A link that was held back is taken: what follows from it is settled too.
            self.settled = !self.settle_doubted();
        }
        self.poll_in_order()
    }

    /// Every stream that is published at a relay that can be reached, by name; of several with one name the
    /// last one of the zone that was known first.
    pub fn streams(&self) -> Vec<StreamView> {
        self.streams.clone()
    }

    /// The table for the packet path, by track.
    pub fn forwarding(&self) -> Vec<ForwardEntry> {
        self.forwarding.clone()
    }

    /// What was counted on each link, its neighbor and its state.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, NodeId, State, LinkCounters)> + '_ {
        self.links.iter().map(|(id, link)| (*id, link.neighbor, link.state(), link.counters))
    }

    /// What is known of a link of this relay.
    pub fn figures(&self, link: LinkId) -> Option<LinkFigures> {
        self.links.get(&link).map(|link| link.view(self.now))
    }

    /// The links of which it is known what they carry, and that.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn capacities(&self) -> impl Iterator<Item = (LinkId, u64)> + '_ {
        self.trees.capacities()
    }

    fn touch(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.settled = false;
    }

    /// The area this relay is in.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn area(&self) -> AreaId {
        self.config.area
    }

    /// What all relays said.
    #[cfg(test)]
    pub(crate) fn lsdb(&self) -> &Lsdb {
        self.flooding.lsdb()
    }

    /// The latest time that this relay was told.
    #[cfg(test)]
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Lets time pass without a word.
    #[cfg(test)]
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// What is here of files.
    #[cfg(test)]
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Tracks here, and bytes of logs: what a liar could fill.
    #[cfg(test)]
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.trees.len(), self.replication.logs().bytes())
    }

    /// As if no link had ever failed.
    #[cfg(test)]
    pub(crate) fn forget_flaps(&mut self) {
        self.flapped.clear();
        for link in self.links.values_mut() {
            link.flaps = Default::default();
        }
    }

    fn send_summaries(&mut self) {
        let logs = self.replication.logs().hash();
        let to: Vec<_> = self.neighbors.values().map(|neighbor| neighbor.link).collect();
        for link in to {
            let database = self.flooding.lsdb().hash(self.border.crosses(link));
            self.send(link, &Message::Summary { database, logs });
        }
    }

    fn compare_notes(&mut self, link: LinkId) {
        self.flood(|flooding, view| flooding.handle_link_up(link, view));
        self.replicate(|replication, view, _| {
            replication.compare(link);
            if let Some(link) = view.links.get(&link) {
                replication.handle_writer(&link.neighbor);
            }
        });
    }

    fn send(&mut self, link: LinkId, message: impl Into<Encoded>) {
        let Encoded { class, of_use, since, bytes } = message.into();
        // What the neighbor does not have to understand goes to it whatever it speaks: that is of the first version.
        if let Some(state) = self.links.get_mut(&link).filter(|state| state.version >= since) {
            state.counters.sent += 1;
            if of_use {
                state.detector.handle_used(self.now);
            }
            self.outputs.push_back(Output::Send { link, class, message: bytes });
        }
    }

    /// To every neighbor that can be talked to, once, but not to the one at the other end of `except`.
    fn send_all(&mut self, except: Option<LinkId>, message: impl Into<Encoded>) {
        let except = except.and_then(|link| self.links.get(&link)).map(|link| link.neighbor);
        let message: Encoded = message.into();
        let to: Vec<_> = neighbors(&self.links)
            .iter()
            .filter(|(id, _)| Some(**id) != except)
            .map(|(_, n)| n.link)
            .collect();
        for link in to {
            self.send(link, message.clone());
        }
    }

    fn probe(&mut self, now: Instant) {
        let mut probes = Vec::new();
        let mut back = Vec::new();
        for (id, link) in &mut self.links {
            let before = link.state();
            let (changed, probe) = link.detector.handle_timeout(now);
            self.changed.links |= link.retell(now);
            if changed {
                self.changed.links = true;
                if before == State::Up {
                    link.flaps.handle_bad(now);
                    link.detector.handle_flapping(link.flaps.flapping(now));
                }
                match (before, link.state()) {
                    (State::Down, _) => back.push(*id),
                    (_, State::Suspect) => link.counters.suspected += 1,
                    (_, State::Down) => self.replication.logs_mut().forget(*id, now),
                    _ => {}
                }
            }
            probes.extend(probe.map(|nonce| (*id, nonce, link.detector.rate())));
        }
        for (link, nonce, rate) in probes {
            self.send(link, &Message::Probe { nonce, rate });
        }
        for link in back {
            self.compare_notes(link);
        }
    }

    /// The highest `since` of a name, anywhere and ever known.
    fn newest(&self, name: &StreamName) -> u64 {
        let streams = self.flooding.lsdb().publications().flat_map(|(said, _)| &said.streams);
        streams.filter(|advertised| advertised.stream.name == *name).map(|ad| ad.since).max().unwrap_or(0)
    }
}
