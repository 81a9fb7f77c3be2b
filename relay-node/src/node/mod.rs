//! The switchboard between the three cores: who publishes and listens here, which of it the mesh has to
//! bring or take. Without I/O: effects come out of [`Node::poll_effect`].
//!
//! Sessions are in `sessions/` and `whip_whep.rs`, what is said is in `records.rs`; this file is about streams and how
//! media, mesh and rooms meet.

pub mod allowance;
pub mod complaints;
pub mod posts;
mod records;
pub mod sessions;
mod whip_whep;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use media::{Command, Epochs, Health, TrackId, TrackPair};
use mesh_routing::{
    AreaView, ForwardEntry, LinkId, LogKey, Mesh, Output, Record, StreamView, Topology, blob::FileOutput,
    choose::Choice,
};
use protocol::{
    Kind, NodeId, SessionId, StreamName, TrackDescription, ZoneName, api,
    mesh::{Alias, Class, StreamAdvertisement, TrackKey},
};
use rooms::{Rooms, WallTime};

use crate::membership::festival::Festival;
use sessions::{Direction, Sessions};

/// Everything the relay decides.
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Links, routes, trees and logs.
    pub mesh: Mesh,
    /// Chat.
    pub rooms: Rooms,
    sessions: Sessions,
    pub(crate) streams: BTreeMap<StreamName, Stream>,
    by_track: BTreeMap<TrackId, (StreamName, Kind)>,
    next_track: u32,
    epoch_seed: u8,
    pub(crate) started: Instant,
    pub(crate) started_wall: WallTime,
    /// Logs of which the disk lacks a record: what follows it is fetched again after a restart, so nobody is
    /// told that it is stored.
    pub(crate) torn: BTreeSet<LogKey>,
    /// Who judges what relays prove of themselves.
    pub(crate) festival: Option<Arc<Festival>>,
    /// The token that this relay shows among its records.
    pub(crate) paper: Option<String>,
    pub(crate) effects: VecDeque<Effect>,
}

/// A stream that is or was published or wanted here.
pub(crate) struct Stream {
    pub(crate) tracks: TrackPair,
    /// The session of its publisher at this relay.
    pub(crate) publisher: Option<SessionId>,
    /// What is wrong with it, and whose it is.
    health: Option<(SessionId, Health)>,
    /// What is advertised, until the publisher is gone for good.
    published: Option<Vec<TrackDescription>>,
    /// The publisher dropped: until then it may come back.
    until: Option<Instant>,
    pub(crate) epochs: Epochs,
    pub(crate) listeners: BTreeSet<SessionId>,
    /// What the mesh was asked for.
    interests: BTreeSet<TrackKey>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect {
    /// Tell every media worker.
    Workers(Command),
    /// Send over a link.
    Send {
        /// The link.
        link: LinkId,
        /// Its class.
        class: Class,
        /// The message.
        message: Bytes,
    },
    /// Look for this relay at one of these addresses.
    Dial(NodeId, Vec<std::net::SocketAddr>),
    /// Close a link that is not needed, unless the operator wants it.
    Spare(LinkId),
    /// Close a link.
    DropLink {
        /// The link.
        link: LinkId,
        /// Why.
        reason: &'static str,
    },
    /// Put [`Node::forwarding`] in force.
    Forwarding,
    /// Tell participants that [`Node::streams`] is another.
    Streams,
    /// Store a record, then hand it to [`Node::handle_stored`].
    Store(Record),
    /// Records of a log below a number may be deleted.
    Forget(LogKey, u64),
    /// Records of an own log up to a number are on another relay's disk.
    Saved(LogKey, u64),
    /// From the next start on, own logs are written in this life.
    Life(u64),
    /// For the metric.
    Rerouted,
    /// For the metric: a session was answered and did not connect.
    Unreached(Direction),
    /// For the log.
    Warn(String),
    /// For the metric: a session ended so that somebody else's could open.
    GaveWay,
    /// Something about files, for `files`.
    File(FileOutput),
}

/// A row of the forwarding table, in the numbers of this relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The track, the same number for all its feeds while it is in the table, and no other's ever.
    pub track: u64,
    /// Where the packets come from.
    pub source: ForwardSource,
    /// The track's local number, if somebody here listens.
    pub local: Option<TrackId>,
    /// The class on the next links.
    pub class: Class,
    /// Where they go.
    pub children: Vec<(LinkId, Alias)>,
}

/// Where the packets of a track come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardSource {
    /// A publisher here.
    Here(TrackId),
    /// Neighbors; a packet may come from each of them.
    Links(Vec<(LinkId, Alias)>),
}

/// A publisher that drops may come back under its name for so long without its listeners doing anything.
const GRACE: Duration = Duration::from_secs(30);
/// Streams known here beyond which unused ones are forgotten.
const STREAMS_MAX: usize = 4096;

impl Node {
    /// A relay without links, streams and participants. `epoch_seed` differs from start to start, so that
    /// other relays notice that numbers start anew.
    pub fn new(
        id: NodeId,
        zone: ZoneName,
        mesh: Mesh,
        sessions: Sessions,
        epoch_seed: u8,
        now: Instant,
        wall: WallTime,
    ) -> Node {
        Node {
            id,
            rooms: Rooms::new(zone.clone()),
            zone,
            mesh,
            sessions,
            streams: BTreeMap::new(),
            by_track: BTreeMap::new(),
            next_track: 0,
            epoch_seed,
            started: now,
            started_wall: wall,
            torn: BTreeSet::new(),
            festival: None,
            paper: None,
            effects: VecDeque::new(),
        }
    }

    /// The zone from which a name is live that may not be published here: another one than this, and the organizer
    /// did not allow this relay to take names over. Who publishes it here already goes on.
    pub(crate) fn taken_by(&self, stream: &StreamName) -> Option<ZoneName> {
        let live = self.live(stream)?;
        let here = live.origin == self.id || self.mesh.zone_of(&live.origin) == Some(&self.zone);
        let own = self.streams.get(stream).is_some_and(|known| known.published.is_some());
        let may = || self.festival.as_ref().is_some_and(|festival| festival.may_take_over());
        (!here && !own && !may()).then_some(live.origin_zone)
    }

    /// A publisher is connected: its stream is live. Only now it replaces whoever published the name here,
    /// so an offer that never connects silences nobody.
    pub fn handle_published(
        &mut self,
        session: SessionId,
        stream: &StreamName,
        tracks: Vec<TrackDescription>,
        now: Instant,
    ) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let replaced = known.publisher.replace(session);
        known.until = None;
        known.published = Some(tracks.clone());
        if let Some(replaced) = replaced {
            self.session_over(replaced, false, now);
        }
        self.mesh.handle_publish(StreamAdvertisement { name: stream.clone(), tracks }, now);
        self.settle(stream, now);
    }

    /// A media worker says how a publisher is.
    pub(crate) fn handle_health(&mut self, session: SessionId, stream: &StreamName, health: Health) {
        if let Some(known) = self.streams.get_mut(stream) {
            known.health = Some((session, health));
        }
    }

    /// How the publisher of a stream here is, as far as its session has told.
    pub fn health(&self, stream: &StreamName) -> Option<Health> {
        let known = self.streams.get(stream)?;
        known.health.filter(|(session, _)| known.publisher == Some(*session)).map(|(_, health)| health)
    }

    /// What the publisher of a stream sends is another codec than was thought.
    pub(crate) fn handle_codecs(
        &mut self,
        session: SessionId,
        stream: &StreamName,
        tracks: Vec<TrackDescription>,
        now: Instant,
    ) {
        let Some(known) = self.streams.get_mut(stream).filter(|known| known.publisher == Some(session))
        else {
            return;
        };
        known.published = Some(tracks.clone());
        self.mesh.handle_publish(StreamAdvertisement { name: stream.clone(), tracks }, now);
        self.effects.push_back(Effect::Streams);
    }

    /// A publisher's session ended. `wanted` says that it was ended on purpose: then its stream is over at
    /// once, else it may come back within 30 s.
    pub fn handle_publisher_gone(
        &mut self,
        session: SessionId,
        stream: &StreamName,
        wanted: bool,
        now: Instant,
    ) {
        let Some(known) = self.streams.get_mut(stream).filter(|known| known.publisher == Some(session))
        else {
            return;
        };
        known.publisher = None;
        if wanted {
            self.unpublish(stream, now);
        } else {
            known.until = Some(now + GRACE);
        }
    }

    /// A listener came or went: see to it that the mesh brings what is wanted, and only that.
    pub fn handle_listener(&mut self, stream: &StreamName, session: SessionId, listens: bool, now: Instant) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        if listens {
            known.listeners.insert(session);
        } else {
            known.listeners.remove(&session);
        }
        self.settle(stream, now);
    }

    /// A listener at this relay needs a keyframe.
    pub fn handle_keyframe_wanted(&mut self, track: TrackId, now: Instant) {
        let Some((stream, kind)) = self.by_track.get(&track) else { return };
        let Some(known) = self.streams.get(stream) else { return };
        if known.publisher.is_some() {
            self.effects.push_back(Effect::Workers(Command::RequestKeyframe { track }));
            return;
        }
        let wanted = known.interests.iter().find(|key| key.kind == *kind).cloned();
        if let Some(key) = wanted {
            self.mesh.handle_keyframe_request(&key, now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.mesh.handle_timeout(now);
        let over: Vec<StreamName> = self
            .streams
            .iter()
            .filter(|(_, known)| known.until.is_some_and(|until| until <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for stream in over {
            self.unpublish(&stream, now);
        }
        self.look_at_sessions(now);
    }

    /// When [`Node::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let grace = self.streams.values().filter_map(|known| known.until).min();
        [self.mesh.poll_timeout(), grace, self.sessions.poll_timeout()].into_iter().flatten().min()
    }

    /// The next thing to do; call it until there is none.
    pub fn poll_effect(&mut self, now: Instant) -> Option<Effect> {
        while let Some(output) = self.mesh.poll_output() {
            self.take(output, now);
        }
        while let Some(choice) = self.mesh.poll_choice() {
            self.effects.push_back(match choice {
                Choice::Dial { node, addresses } => Effect::Dial(node, addresses),
                Choice::Drop { link } => Effect::Spare(link),
            });
        }
        self.effects.pop_front()
    }

    fn take(&mut self, output: Output, now: Instant) {
        let effect = match output {
            Output::Send { link, class, message } => Effect::Send { link, class, message },
            Output::ForwardingChanged => Effect::Forwarding,
            Output::StreamsChanged => {
                self.settle_all(now);
                Effect::Streams
            }
            Output::KeyframeWanted { track } => match self.streams.get(&track.stream) {
                Some(known) => {
                    Effect::Workers(Command::RequestKeyframe { track: known.tracks.of(track.kind) })
                }
                None => return,
            },
            Output::Record(record) => Effect::Store(record),
            Output::Forget { key, below } => Effect::Forget(key, below),
            Output::Saved { key, upto } => Effect::Saved(key, upto),
            Output::Life(life) => Effect::Life(life),
            Output::Rerouted { .. } => Effect::Rerouted,
            Output::DropLink { link, reason } => Effect::DropLink { link, reason },
            Output::File(output) => Effect::File(output),
        };
        self.effects.push_back(effect);
    }

    /// The stream's place at this relay, made if there is none.
    pub(crate) fn stream_mut(&mut self, name: &StreamName) -> &mut Stream {
        if self.streams.len() >= STREAMS_MAX {
            self.forget_unused();
        }
        let next_track = &mut self.next_track;
        let by_track = &mut self.by_track;
        let epochs = Epochs::new(self.epoch_seed);
        self.streams.entry(name.clone()).or_insert_with(|| {
            let tracks = TrackPair { audio: TrackId(*next_track), video: TrackId(*next_track + 1) };
            *next_track = next_track.wrapping_add(2);
            by_track.insert(tracks.audio, (name.clone(), Kind::Audio));
            by_track.insert(tracks.video, (name.clone(), Kind::Video));
            Stream {
                tracks,
                publisher: None,
                health: None,
                published: None,
                until: None,
                epochs,
                listeners: BTreeSet::new(),
                interests: BTreeSet::new(),
            }
        })
    }

    /// The view of a stream that is live somewhere in the mesh.
    pub fn live(&self, name: &StreamName) -> Option<StreamView> {
        self.mesh.streams().into_iter().find(|stream| stream.name == *name)
    }

    /// What a stream is now. Of what is published here this relay knows it before the mesh does.
    pub(crate) fn carried(&self, stream: &StreamView) -> Vec<TrackDescription> {
        let here = self.streams.get(&stream.name).and_then(|known| known.published.as_ref());
        here.unwrap_or(&stream.tracks).clone()
    }

    fn unpublish(&mut self, stream: &StreamName, now: Instant) {
        if let Some(known) = self.streams.get_mut(stream) {
            (known.until, known.published) = (None, None);
            self.mesh.handle_unpublish(stream, now);
        }
    }

    fn settle_all(&mut self, now: Instant) {
        let wanted: Vec<StreamName> = self
            .streams
            .iter()
            .filter(|(_, known)| !known.listeners.is_empty() || !known.interests.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for stream in wanted {
            self.settle(&stream, now);
        }
    }

    /// Asks the mesh for the tracks of a stream that somebody here listens to, and for nothing else.
    fn settle(&mut self, name: &StreamName, now: Instant) {
        let live = self.live(name);
        let Some(known) = self.streams.get_mut(name) else { return };
        let heard_here = known.published.is_some() && !known.listeners.is_empty();
        self.mesh.handle_listeners(name, heard_here, now);
        let wanted: BTreeSet<TrackKey> = match live {
            Some(stream)
                if stream.origin != self.id && known.published.is_none() && !known.listeners.is_empty() =>
            {
                stream
                    .tracks
                    .iter()
                    .map(|track| TrackKey { origin: stream.origin, stream: name.clone(), kind: track.kind })
                    .collect()
            }
            _ => BTreeSet::new(),
        };
        for key in wanted.difference(&known.interests) {
            // From another origin numbers start anew.
            let track = known.tracks.of(key.kind);
            self.effects.push_back(Effect::Workers(Command::Reset { track }));
            self.mesh.handle_interest(key.clone(), true, now);
        }
        for key in known.interests.difference(&wanted) {
            self.mesh.handle_interest(key.clone(), false, now);
        }
        if known.interests != wanted {
            known.interests = wanted;
            self.effects.push_back(Effect::Forwarding);
        }
    }

    fn forget_unused(&mut self) {
        self.streams.retain(|name, known| {
            let used = known.published.is_some() || self.sessions.serves(name);
            if !used {
                for track in [known.tracks.audio, known.tracks.video] {
                    self.by_track.remove(&track);
                    self.effects.push_back(Effect::Workers(Command::Forget { track }));
                }
            }
            used
        });
    }

    /// The forwarding table in this relay's numbers.
    pub fn forwarding(&self) -> Vec<Forward> {
        let row = |entry: ForwardEntry| {
            let local = self.streams.get(&entry.track.stream).map(|known| known.tracks.of(entry.track.kind));
            let source = if entry.published {
                ForwardSource::Here(local?)
            } else {
                ForwardSource::Links(entry.sources)
            };
            Some(Forward {
                track: number(&entry.track),
                source,
                local: local.filter(|_| entry.local),
                class: Class::of(entry.track.kind),
                children: entry.children,
            })
        };
        self.mesh.forwarding().into_iter().filter_map(row).collect()
    }

    /// `GET /api/v1/streams`.
    pub fn streams(&self, now: Instant) -> Vec<api::Stream> {
        let topology = self.mesh.topology();
        let zone = |id: &NodeId| {
            let node = topology.nodes.iter().find(|node| node.id == *id);
            node.map_or_else(|| id.short(), |node| node.zone.to_string())
        };
        let streams = self.mesh.streams().into_iter().map(|stream| {
            let tracks = self.carried(&stream);
            let listeners = self.streams.get(&stream.name).map_or(0, |known| known.listeners.len());
            // A zone may have several relays.
            let heard_in: BTreeSet<String> = self.mesh.heard_by(&stream.name).iter().map(zone).collect();
            let publisher = self.streams.get(&stream.name).and_then(|known| known.publisher).map(|_| {
                let health = self.health(&stream.name).unwrap_or_default();
                api::Publisher {
                    dropped_too_large: health.too_large,
                    answers_keyframe_requests: health.answers_keyframe_requests,
                }
            });
            api::Stream {
                cannot_play: self.sessions.cannot_play(&stream.name, &tracks),
                name: stream.name.to_string(),
                tracks,
                origin_zone: stream.origin_zone.to_string(),
                hops: stream.hops,
                path: stream.path.iter().map(zone).collect(),
                age_ms: now.saturating_duration_since(stream.since).as_millis() as u64,
                listeners: listeners as u32,
                heard_in: heard_in.into_iter().collect(),
                publisher,
            }
        });
        streams.collect()
    }

    /// `GET /api/v1/mesh`.
    pub fn topology(&self) -> api::Mesh {
        let topology = self.mesh.topology();
        let since = |at: Instant| {
            let ms = at.saturating_duration_since(self.started).as_millis() as u64;
            WallTime(self.started_wall.0 + ms).to_string()
        };
        let nodes = topology.nodes.iter().map(|node| api::MeshNode {
            id: node.id.to_string(),
            zone: node.zone.to_string(),
            since: since(node.since),
        });
        let links = topology.links.iter().map(|link| api::MeshLink {
            a: link.a.to_string(),
            b: link.b.to_string(),
            rtt_ms: link.rtt.as_secs_f64() * 1000.0,
            loss: f64::from(link.loss),
            cost: link.cost,
            capacity_bps: (!link.capacity.unknown()).then(|| link.capacity.bits_per_second()),
            up: link.up,
        });
        let (articulation_points, bridges) = weak_spots(&topology);
        api::Mesh {
            own: self.id.to_string(),
            nodes: nodes.collect(),
            links: links.collect(),
            articulation_points,
            bridges,
            areas: areas(self.mesh.areas()),
        }
    }
}

fn areas(mut areas: Vec<AreaView>) -> Vec<api::MeshArea> {
    areas.sort_by_key(|view| (view.hops, view.cost, view.fragment));
    let shown = |view: AreaView| api::MeshArea {
        area: view.fragment.area.0,
        fragment: view.fragment.to_string(),
        relays: view.relays,
        publishers: view.publishers,
        hops: view.hops,
        cost: view.cost,
        path: view.path.iter().map(|fragment| fragment.area.0).collect(),
    };
    areas.into_iter().map(shown).collect()
}

/// What the mesh hangs on, in the words of people.
fn weak_spots(topology: &Topology) -> (Vec<api::MeshPoint>, Vec<api::MeshBridge>) {
    let zone = |id: &NodeId| {
        let node = topology.nodes.iter().find(|node| node.id == *id);
        node.map_or_else(|| id.short(), |node| node.zone.to_string())
    };
    // A zone may have several relays.
    let zones =
        |ids: &[NodeId]| ids.iter().map(zone).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    let are = |zones: &[String]| if zones.len() == 1 { "is" } else { "are" };
    let points = topology.cuts.points.iter().map(|(node, cut)| {
        let cuts_off = zones(cut);
        let (dies, cut) = (zone(node), cuts_off.join(", "));
        let warning = format!("if the relay of {dies} dies, {cut} {} cut off", are(&cuts_off));
        api::MeshPoint { node: node.to_string(), cuts_off, warning }
    });
    let bridges = topology.cuts.bridges.iter().map(|((a, b), cut)| {
        let cuts_off = zones(cut);
        let (ends, cut) = (format!("{} and {}", zone(a), zone(b)), cuts_off.join(", "));
        let warning = format!("if the link between {ends} breaks, {cut} {} cut off", are(&cuts_off));
        api::MeshBridge { a: a.to_string(), b: b.to_string(), cuts_off, warning }
    });
    (points.collect(), bridges.collect())
}

/// A number for a track that is the same for as long as this relay runs, whichever of its feeds is meant.
fn number(track: &TrackKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    track.hash(&mut hasher);
    hasher.finish()
}
