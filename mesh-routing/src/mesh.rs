//! The doors of the crate: everything that happens to a relay's part of the mesh comes in here, and
//! everything it wants done comes out. The parts know nothing of each other; this file introduces them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    NodeId, StreamName, ZoneName,
    mesh::{Class, StreamAdvertisement, TrackKey},
};

use crate::{
    area::AreaId,
    audience::{Audience, Shown},
    blob::{Blobs, FileOutput},
    border::Border,
    choose::Choosing,
    damping::Remembered,
    database::Database,
    detector::State,
    error::MeshError,
    flood::{Flood, Pace},
    forward::ForwardEntry,
    link::{Link, LinkCounters, LinkFigures, LinkId, Underlay},
    link_state::{Advertised, SINCE_MAX, STREAMS_MAX, check_stream},
    log::{Arrival, LogCounters, LogKey, Logs, Record},
    message::Message,
    neighbor::{Neighbor, neighbors},
    route::{Pair, Routes},
    signature::Keys,
    spf::Spf,
    spread::Spread,
    topology::StreamView,
    tree::{Event, Refusals, Surroundings, Trees},
};

/// What trees may look at, borrowed field by field so that the trees themselves stay free.
macro_rules! surroundings {
    ($mesh:ident) => {
        Surroundings {
            own: $mesh.config.id,
            links: &$mesh.links,
            neighbors: &$mesh.neighbors,
            costs: &$mesh.costs,
            database: &$mesh.database,
            published: &$mesh.published,
            routes: &mut $mesh.routes,
        }
    };
}

/// Hashes of what should be equal everywhere are compared this often.
const SUMMARY_EVERY: Duration = Duration::from_secs(5);
/// Records that nobody refreshes are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How long an edge is avoided that somebody lost a parent over: until the flood says so, or not.
const AVOID: Duration = Duration::from_secs(2);
const AVOIDED_MAX: usize = 256;
/// Messages a link may get wrong before it is dropped.
const PATIENCE: u32 = 64;

/// What a relay has to know to take part.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its identity.
    pub id: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Counts the starts of this relay, kept on disk: the high bits of its link-state sequence.
    pub boot: u64,
    /// Randomness.
    pub seed: u64,
    /// Signs what it says, checks what others say.
    pub keys: Arc<dyn Keys>,
    /// The area it is in.
    pub area: AreaId,
}

impl Config {
    /// A relay with the id of its keys, in area 0.
    pub fn new(keys: Arc<dyn Keys>, zone: ZoneName, boot: u64, seed: u64) -> Config {
        Config { id: keys.node_id(), zone, boot, seed, keys, area: AreaId::default() }
    }
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send on the link's reliable ordered stream of this class.
    Send {
        /// Where.
        link: LinkId,
        /// In which order among others.
        class: Class,
        /// At most [`crate::message::MESSAGE_MAX`] bytes.
        message: Bytes,
    },
    /// [`Mesh::forwarding`] differs from what it was.
    ForwardingChanged,
    /// [`Mesh::streams`] or [`Mesh::heard_by`] differs from what it was.
    StreamsChanged,
    /// Somebody in the mesh needs a keyframe of a track published here.
    KeyframeWanted {
        /// Which track.
        track: TrackKey,
    },
    /// A record that was never here before, own or not; of each log in order, each once. To be on disk
    /// before the outputs after it are carried out, or a crash may give its number to another record.
    Record(Record),
    /// Records of the own log up to a number are on the disk of another relay.
    Saved {
        /// Which log.
        key: LogKey,
        /// The last of them.
        upto: u64,
    },
    /// The own logs go on in another life, because this disk is behind what was written here: to be given
    /// to [`Mesh::handle_life`] from the next start on.
    Life(u64),
    /// Records of a log are forgotten here; on disk they are not needed any more either. Comes after a
    /// number of them, not for each.
    Forget {
        /// Which log.
        key: LogKey,
        /// Those with lower numbers.
        below: u64,
    },
    /// A track that lost its parent has another one.
    Rerouted {
        /// Which track.
        track: TrackKey,
    },
    /// The neighbor does not keep to the protocol: close the link.
    DropLink {
        /// Which link.
        link: LinkId,
        /// Why, as a clause.
        reason: &'static str,
    },
    /// Something about files.
    File(FileOutput),
}

/// What was counted, links aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Own records flooded.
    pub originated: u64,
    /// Times the routes were computed.
    pub routed: u64,
    /// Tracks that got another parent.
    pub rerouted: u64,
    /// Publications refused: absurd, or more than 256.
    pub publications_refused: u64,
    /// About logs.
    pub logs: LogCounters,
    /// Joins refused to neighbors.
    pub refusals: Refusals,
}

/// A relay's part of the mesh.
///
/// *In*: links ([`handle_link_up`](Mesh::handle_link_up), [`handle_link_down`](Mesh::handle_link_down),
/// [`handle_measurement`](Mesh::handle_measurement), [`handle_message`](Mesh::handle_message),
/// [`handle_media`](Mesh::handle_media)), what happens here ([`handle_publish`](Mesh::handle_publish),
/// [`handle_unpublish`](Mesh::handle_unpublish), [`handle_interest`](Mesh::handle_interest),
/// [`handle_listeners`](Mesh::handle_listeners),
/// [`handle_keyframe_request`](Mesh::handle_keyframe_request), [`handle_append`](Mesh::handle_append)), time
/// ([`handle_timeout`](Mesh::handle_timeout)).
///
/// *Out*, after any of them or after a batch: [`poll_output`](Mesh::poll_output) until there is nothing
/// left, then the views that it called changed, then [`poll_timeout`](Mesh::poll_timeout). Routes and trees
/// are brought up to date in `poll_output`, so a batch costs one computation.
#[derive(Debug)]
pub struct Mesh {
    pub(crate) config: Config,
    pub(crate) now: Instant,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) flapped: Remembered,
    pub(crate) choosing: Choosing,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) neighbors: BTreeMap<NodeId, Neighbor>,
    pub(crate) costs: BTreeMap<NodeId, u32>,
    pub(crate) database: Database,
    pub(crate) pace: Pace,
    pub(crate) flood: Flood,
    pub(crate) spf: Spf,
    pub(crate) border: Border,
    pub(crate) published: BTreeMap<StreamName, Advertised>,
    pub(crate) audience: Audience,
    pub(crate) shown: Shown,
    pub(crate) avoided: BTreeMap<Pair, Instant>,
    pub(crate) routes: Routes,
    pub(crate) trees: Trees,
    pub(crate) logs: Logs,
    pub(crate) spread: Spread,
    pub(crate) blobs: Blobs,
    pub(crate) next_summary: Instant,
    pub(crate) room_made: Option<Instant>,
    pub(crate) next_sweep: Instant,
    pub(crate) links_changed: bool,
    pub(crate) routes_changed: bool,
    pub(crate) graph_changed: bool,
    pub(crate) streams_changed: bool,
    pub(crate) paths_changed: bool,
    pub(crate) settled: bool,
    pub(crate) forwarding: Vec<ForwardEntry>,
    pub(crate) streams: Vec<StreamView>,
    pub(crate) counters: Counters,
    pub(crate) outputs: VecDeque<Output>,
}

impl Mesh {
    /// A relay without links.
    pub fn new(config: Config, now: Instant) -> Mesh {
        // The seed keeps relays that were switched on together from comparing notes all at once.
        let spread = Duration::from_millis(config.seed % 1000);
        Mesh {
            pace: Pace::new(config.boot).spread(config.seed),
            flood: Flood::default(),
            spf: Spf::default(),
            border: Border::new(config.boot, config.seed),
            trees: Trees::new(config.seed),
            logs: Logs::new(config.id, config.seed),
            config,
            now,
            links: BTreeMap::new(),
            flapped: Remembered::default(),
            choosing: Choosing::default(),
            addresses: Vec::new(),
            neighbors: BTreeMap::new(),
            costs: BTreeMap::new(),
            database: Database::default(),
            published: BTreeMap::new(),
            audience: Audience::default(),
            shown: Shown::default(),
            avoided: BTreeMap::new(),
            routes: Routes::default(),
            spread: Spread::default(),
            blobs: Blobs::default(),
            next_summary: now + SUMMARY_EVERY + spread,
            room_made: None,
            next_sweep: now + SWEEP_EVERY,
            links_changed: true,
            routes_changed: true,
            graph_changed: true,
            streams_changed: false,
            paths_changed: false,
            settled: false,
            forwarding: Vec::new(),
            streams: Vec::new(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The driver has a link to an authenticated neighbor. Several links to one neighbor may exist.
    pub fn handle_link_up(&mut self, link: LinkId, neighbor: NodeId, now: Instant) {
        self.handle_link_up_over(link, neighbor, Underlay::default(), now);
    }

    /// The driver has a link to an authenticated neighbor, and knows what it runs over.
    pub fn handle_link_up_over(&mut self, link: LinkId, neighbor: NodeId, underlay: Underlay, now: Instant) {
        self.touch(now);
        if neighbor == self.config.id {
            self.outputs.push_back(Output::DropLink { link, reason: "a link to oneself" });
            return;
        }
        let flaps = self.flapped.take(neighbor, underlay.kind);
        self.links.insert(link, Link::new(neighbor, underlay, flaps, now));
        self.links_changed = true;
        self.blobs.handle_link_up(link, now);
        self.send(link, &Message::Area { area: self.config.area });
        self.compare_notes(link);
    }

    /// The link is gone for good.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        self.touch(now);
        if let Some(mut gone) = self.links.remove(&link) {
            if gone.state() == State::Up {
                gone.flaps.handle_bad(now);
            }
            self.flapped.keep(gone.neighbor, gone.underlay.kind, gone.flaps, now);
            self.logs.forget(link, now);
            self.blobs.handle_link_down(link, now);
            self.flood.forget(link);
            self.border.forget(link);
            self.links_changed = true;
        }
    }

    /// The driver's own measurement of a link: a round trip, smoothed or not, and the share of packets lost of
    /// late, 0 to 1.
    pub fn handle_measurement(&mut self, link: LinkId, rtt: Duration, loss: f32, now: Instant) {
        self.touch(now);
        if let Some(link) = self.links.get_mut(&link) {
            link.measure(rtt, loss, now);
            self.links_changed |= link.retell(now);
        }
    }

    /// What a link carries, in bits per second, or `None` if that is not known any more. Joins that would fill it
    /// are refused.
    pub fn handle_capacity(&mut self, link: LinkId, capacity: Option<u64>, now: Instant) {
        self.touch(now);
        if let Some(known) = self.links.get_mut(&link) {
            known.think(capacity);
            self.links_changed |= known.retell(now);
            self.trees.handle_capacity(link, capacity);
        }
    }

    /// A media packet came on the link: a sign of life. `now` may be a moment ago: the driver may ask its
    /// packet path just before [`Mesh::handle_timeout`] instead of saying so for each packet.
    pub fn handle_media(&mut self, link: LinkId, now: Instant) {
        self.now = self.now.max(now);
        if self.links.get_mut(&link).is_some_and(|link| link.detector.handle_heard(now)) {
            self.links_changed = true;
            self.settled = false;
        }
    }

    /// A message came on the link. Whatever the bytes are, an error at worst: then the message was dropped,
    /// and the driver counts it by [`MeshError::reason`].
    pub fn handle_message(&mut self, link: LinkId, bytes: &[u8], now: Instant) -> Result<(), MeshError> {
        self.touch(now);
        let state = self.links.get_mut(&link).ok_or(MeshError::UnknownLink)?;
        self.links_changed |= state.detector.handle_heard(now);
        let neighbor = state.neighbor;
        let result = Message::decode(bytes).and_then(|message| {
            if message.of_use()
                && let Some(link) = self.links.get_mut(&link)
            {
                link.detector.handle_used(now);
            }
            self.take(link, neighbor, message, now)
        });
        let Some(state) = self.links.get_mut(&link) else { return result };
        match &result {
            Ok(()) => state.counters.received += 1,
            Err(error) => {
                state.counters.refused += 1;
                match error {
                    MeshError::Version { .. } => {
                        self.outputs.push_back(Output::DropLink { link, reason: "another protocol version" });
                    }
                    // That there is no room here is not the neighbor's fault.
                    MeshError::Full { .. } => {}
                    _ => state.wrong += 1,
                }
                if state.wrong == PATIENCE {
                    state.wrong = 0;
                    self.outputs.push_back(Output::DropLink { link, reason: "too many bad messages" });
                }
            }
        }
        result
    }

    /// A stream is published here, or its tracks changed. What is absurd is counted and not advertised.
    pub fn handle_publish(&mut self, stream: StreamAdvertisement, now: Instant) {
        self.touch(now);
        let known = self.published.get(&stream.name).map(|advertised| advertised.since);
        let full = known.is_none() && self.published.len() >= STREAMS_MAX;
        if full || check_stream(&stream).is_err() {
            self.counters.publications_refused += 1;
            return;
        }
        let since = known.unwrap_or_else(|| (self.newest(&stream.name) + 1).min(SINCE_MAX));
        self.published.insert(stream.name.clone(), Advertised { stream, since });
        self.flood.handle_publication(self.config.boot, self.config.seed);
        self.trees.handle_change(false);
    }

    /// A stream is not published here any more.
    pub fn handle_unpublish(&mut self, stream: &StreamName, now: Instant) {
        self.touch(now);
        if self.published.remove(stream).is_some() {
            self.flood.handle_publication(self.config.boot, self.config.seed);
            self.trees.handle_change(false);
        }
    }

    /// Somebody here wants a track, wherever it is published, or nobody does any more.
    pub fn handle_interest(&mut self, track: TrackKey, wanted: bool, now: Instant) {
        self.touch(now);
        self.audience.handle_interest(&track, wanted, now);
        self.shown.stale = true;
        self.trees.handle_interest(track, wanted);
    }

    /// Somebody here listens to a stream that is published here, or nobody does any more. It flows without
    /// the mesh: this is for [`Mesh::heard_by`] alone.
    pub fn handle_listeners(&mut self, stream: &StreamName, listen: bool, now: Instant) {
        self.touch(now);
        self.audience.handle_listeners(stream, listen, now);
        self.shown.stale = true;
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
        let avoided = self.avoided.len();
        self.avoided.retain(|_, until| *until > now);
        self.routes_changed |= self.avoided.len() != avoided;
        if now >= self.next_summary {
            self.next_summary = now + SUMMARY_EVERY;
            self.send_summaries();
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            if self.database.expire(&self.config.id, now) {
                self.graph_changed = true;
                self.spf.handle_news(now);
                self.streams_changed = true;
            }
            self.logs.expire(now);
        }
    }

    /// When [`Mesh::handle_timeout`] has something to do. Exact once `poll_output` has nothing left.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let links = self.links.values().map(Link::poll_timeout);
        let pace = [self.pace.poll_timeout(), self.flood.poll_timeout(), self.spf.poll_timeout()];
        let pace = pace.into_iter().chain([self.border.poll_timeout()]);
        let pace = pace.into_iter().flatten().chain(self.choosing.poll_timeout());
        let avoided = self.avoided.values().copied();
        let other = [self.next_summary, self.next_sweep];
        let heard = self.audience.poll_timeout().into_iter().chain(self.shown.poll_timeout());
        let heard = heard.chain(self.poll_spread());
        let parts = self.trees.poll_timeout().into_iter().chain(self.blobs.poll_timeout());
        links.chain(pace).chain(avoided).chain(other).chain(heard).chain(parts).min()
    }

    /// What to do next; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output> {
        if !self.settled {
            self.settled = true;
            self.settle();
        }
        self.outputs.pop_front()
    }

    /// Every stream that is published at a relay that can be reached, by name; of several with one name the
    /// one published last.
    pub fn streams(&self) -> Vec<StreamView> {
        self.streams.clone()
    }

    /// The table for the packet path, by track.
    pub fn forwarding(&self) -> Vec<ForwardEntry> {
        self.forwarding.clone()
    }

    /// What was counted, links aside.
    pub fn counters(&self) -> Counters {
        Counters { logs: self.logs.counters, refusals: self.trees.refusals(), ..self.counters }
    }

    /// What was counted on each link, its neighbor and its state.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, NodeId, State, LinkCounters)> + '_ {
        self.links.iter().map(|(id, link)| (*id, link.neighbor, link.state(), link.counters))
    }

    /// What is known of a link of this relay.
    pub fn figures(&self, link: LinkId) -> Option<LinkFigures> {
        self.links.get(&link).map(|link| link.view(self.now))
    }

    pub(crate) fn touch(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.settled = false;
    }

    fn take(
        &mut self,
        link: LinkId,
        neighbor: NodeId,
        message: Message,
        now: Instant,
    ) -> Result<(), MeshError> {
        match message {
            Message::Probe { nonce, rate } => {
                let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
                state.detector.handle_rate(rate, now);
                let rate = state.detector.rate();
                self.send(link, &Message::ProbeAck { nonce, rate });
            }
            Message::ProbeAck { nonce, rate } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.detector.handle_rate(rate, now);
                    link.detector.handle_probe_ack(nonce, now);
                    self.links_changed |= link.retell(now);
                }
            }
            Message::LinkState { age_ms, record } => self.take_record(link, age_ms, record, now)?,
            Message::Digest { entries } => self.take_digest(link, &entries),
            Message::Request { keys } => self.send_records(link, &keys),
            Message::Area { area } => self.take_area(link, area),
            Message::Reach { fragment, reach } => self.take_reach(link, fragment, reach)?,
            Message::News { entries } => self.take_news(link, &entries, now),
            Message::Buckets { hashes } => self.take_buckets(link, &hashes),
            Message::Summary { database, logs } => {
                self.take_summary(link, database, now);
                if logs != self.logs.hash() {
                    self.compare_logs(link);
                }
            }
            Message::Keyframe { track } => self.trees.handle_keyframe(&track, Some(link)),
            Message::Append { key, first, entries, path, pulled } => {
                let arrival = Arrival { link, neighbor, key, first, entries, pulled };
                self.take_append(arrival, path, now)?;
            }
            Message::Heads { entries, fresh } => self.take_heads(link, &entries, fresh, now),
            Message::Topics { after, until, entries } => self.take_topics(link, (after, until), &entries),
            Message::Pull { key, after } => self.take_pull(link, key, after),
            Message::Stored { entries } => self.take_stored(&entries),
            Message::Join { track, alias, ask } => {
                let around = surroundings!(self);
                self.trees.handle_join((link, neighbor), track, (alias, ask), &around, now);
            }
            Message::Joined { track, alias, offer } => {
                self.paths_changed = true;
                let mut around = surroundings!(self);
                let doubt = self.trees.handle_joined(link, &track, (alias, offer), &mut around, now);
                self.avoid(doubt, now);
            }
            Message::Refused { track, alias, .. } => {
                self.trees.handle_end(link, &track, (alias, None), now);
            }
            Message::Leave { track, alias } => self.trees.handle_leave(link, &track, alias),
            Message::Lost { track, alias, broken } => {
                let broken = self.trees.handle_end(link, &track, (alias, broken), now);
                self.avoid(broken, now);
            }
            Message::File(message) => self.take_file(link, neighbor, message, now)?,
        }
        Ok(())
    }

    /// Stays away from an edge for a moment: the flood comes later.
    fn avoid(&mut self, broken: Option<Pair>, now: Instant) {
        if let Some(broken) = broken
            && self.avoided.len() < AVOIDED_MAX
        {
            self.routes_changed |= self.avoided.insert(broken, now + AVOID).is_none();
        }
    }

    fn send_summaries(&mut self) {
        let logs = self.logs.hash();
        let to: Vec<_> = self.neighbors.values().map(|neighbor| neighbor.link).collect();
        for link in to {
            let database = self.database.hash(self.border.crosses(link));
            self.send(link, &Message::Summary { database, logs });
        }
    }

    fn compare_notes(&mut self, link: LinkId) {
        self.send_digest(link);
        self.compare_logs(link);
        self.tell_writer(link);
    }

    pub(crate) fn send(&mut self, link: LinkId, message: &Message) {
        self.send_bytes(link, message, message.encode());
    }

    pub(crate) fn send_bytes(&mut self, link: LinkId, message: &Message, bytes: Bytes) {
        if let Some(state) = self.links.get_mut(&link) {
            state.counters.sent += 1;
            if message.of_use() {
                state.detector.handle_used(self.now);
            }
            self.outputs.push_back(Output::Send { link, class: message.class(), message: bytes });
        }
    }

    /// To every neighbor that can be talked to, once, but not to the one at the other end of `except`.
    pub(crate) fn send_all(&mut self, except: Option<LinkId>, message: &Message) {
        let except = except.and_then(|link| self.links.get(&link)).map(|link| link.neighbor);
        let bytes = message.encode();
        let to: Vec<_> = neighbors(&self.links)
            .iter()
            .filter(|(id, _)| Some(**id) != except)
            .map(|(_, n)| n.link)
            .collect();
        for link in to {
            self.send_bytes(link, message, bytes.clone());
        }
    }

    fn probe(&mut self, now: Instant) {
        let mut probes = Vec::new();
        let mut back = Vec::new();
        for (id, link) in &mut self.links {
            let before = link.state();
            let (changed, probe) = link.detector.handle_timeout(now);
            self.links_changed |= link.retell(now);
            if changed {
                self.links_changed = true;
                if before == State::Up {
                    link.flaps.handle_bad(now);
                    link.detector.handle_flapping(link.flaps.flapping(now));
                }
                match (before, link.state()) {
                    (State::Down, _) => back.push(*id),
                    (_, State::Suspect) => link.counters.suspected += 1,
                    (_, State::Down) => self.logs.forget(*id, now),
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
        let streams = self.database.publications().flat_map(|(said, _)| &said.streams);
        streams.filter(|advertised| advertised.stream.name == *name).map(|ad| ad.since).max().unwrap_or(0)
    }

    /// Brings everything to rest: neighbors, own record, routes, trees, views.
    fn settle(&mut self) {
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
