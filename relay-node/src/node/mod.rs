//! The switchboard between the three cores: media, mesh and rooms meet here. Without I/O: effects come out of
//! [`Node::poll_effect`].
//!
//! In this file are the doors: time and links in, effects out. Streams, WHIP and WHEP are in `streams.rs`, what is
//! known of each session in `sessions/`, what is said in `chat.rs` and, once it is a record, in `records.rs`.

pub mod allowance;
mod bad_records;
mod chat;
pub mod complaints;
pub mod files;
mod forwarding;
mod misfits;
mod older_disk;
mod picture;
pub mod posts;
mod records;
mod rungs;
pub mod sessions;
mod streams;
mod twin;
pub mod viewers;
mod views;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use media::{Command, MAX_RUNGS, StreamTracks, TrackId};
use mesh_routing::{
    Heard, LinkId, LogEntry, LogKey, Mesh, MeshError, NotStored, Output, Underlay,
    blob::{Block, Chunk},
    peer_selection::Choice,
};
use protocol::{
    BridgeVersion, FileId, NodeId, SessionId, StreamName, ZoneName,
    mesh::{Class, StreamTrack},
    parity::Protection,
};
use rooms::{Rooms, WallTime};

use crate::{bridge::Misfit, membership::festival::Festival};
use bad_records::BadRecords;
use files::Wants;
use forwarding::TrackNumbers;
use misfits::Misfits;
use older_disk::OlderDisk;
use sessions::{Direction, Sessions};
use streams::Stream;
use twin::Twin;

/// Everything the relay decides.
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Links, routes, trees and logs.
    mesh: Mesh,
    /// Chat.
    rooms: Rooms,
    sessions: Sessions,
    streams: BTreeMap<StreamName, Stream>,
    by_track: BTreeMap<TrackId, (StreamName, StreamTrack)>,
    next_track: u32,
    track_numbers: TrackNumbers,
    epoch_seed: u8,
    started: Instant,
    started_wall: WallTime,
    /// The time of day, when it was looked at last.
    wall: WallTime,
    /// Who judges what relays prove of themselves.
    festival: Option<Arc<Festival>>,
    /// The token that this relay shows among its records.
    zone_token: Option<String>,
    /// Relays that speak no bridge version of this one.
    misfits: Misfits,
    /// What this relay's disk was found to lack.
    older_disk: OlderDisk,
    /// Neighbors that brought records that are damaged.
    bad_records: BadRecords,
    /// Relays with one key.
    twin: Twin,
    /// It makes rungs of sounds.
    has_ladder: bool,
    /// Who waits for which chunk of a file.
    wants: Wants,
    effects: VecDeque<Effect>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect {
    /// Tell every media worker.
    Workers(Command),
    /// The ladder is to make these rungs of a sound.
    Ladder(StreamTracks, [bool; MAX_RUNGS]),
    /// Send over a link.
    Send {
        /// The link.
        link: LinkId,
        /// Its class.
        class: Class,
        /// The message.
        message: Bytes,
    },
    /// The neighbor asks for this much parity of what goes to it over the link.
    Protect(LinkId, Protection),
    /// Look for this relay at one of these addresses.
    Dial(NodeId, Vec<SocketAddr>),
    /// Close a link that is not needed, unless the operator wants it.
    Spare(LinkId),
    /// Close a link.
    DropLink {
        /// The link.
        link: LinkId,
        /// Why.
        reason: &'static str,
    },
    /// Close the link of a second relay with a key that another one has, which learns of it.
    RefuseSecond(LinkId),
    /// Have no links until the next start.
    StayOut,
    /// Put [`Node::forwarding`] in force.
    Forwarding,
    /// Tell participants that [`Node::streams`] is another.
    Streams,
    /// Store a record, then tell [`Node::handle_stored`], in the same order.
    Store(LogEntry),
    /// The record with that number of that log is on disk, or cannot be.
    Stored((LogKey, u64), Result<(), NotStored>),
    /// Records of a log below a number may be deleted.
    Forget(LogKey, u64),
    /// Records of an own log up to a number are on another relay's disk.
    Saved(LogKey, u64),
    /// What this listener sees is another: [`Node::seen`].
    Seen(SessionId),
    /// This session is over.
    Over(SessionId),
    /// For the metric.
    Rerouted,
    /// For the metric: a session was answered and did not connect.
    Unreached(Direction),
    /// For the log.
    Warn(String),
    /// For the metric: a session ended so that somebody else's could open.
    GaveWay,
    /// Keep a chunk of a file, then tell [`Node::handle_file_event`].
    StoreChunk {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// All of it.
        bytes: Bytes,
    },
    /// Read a block for a neighbor, then tell [`Node::handle_file_event`].
    ReadBlock {
        /// The neighbor's link.
        link: LinkId,
        /// Which block.
        block: Block,
    },
}

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
            track_numbers: TrackNumbers::default(),
            epoch_seed,
            started: now,
            started_wall: wall,
            wall,
            has_ladder: false,
            festival: None,
            zone_token: None,
            misfits: Misfits::default(),
            older_disk: OlderDisk::default(),
            bad_records: BadRecords::default(),
            twin: Twin::default(),
            wants: Wants::default(),
            effects: VecDeque::new(),
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
        self.look_at_rates(now);
        self.look_at_sessions(now);
    }

    /// A link is up to a neighbor that was let in. `configured` says that the operator wants it.
    pub fn handle_link_up(
        &mut self,
        link: LinkId,
        (neighbor, incarnation, zone): (NodeId, Option<u64>, ZoneName),
        over: (Underlay, BridgeVersion),
        configured: bool,
        now: Instant,
    ) {
        self.misfits.forget(&neighbor);
        self.handle_neighbor(neighbor, zone, now);
        if configured {
            self.mesh.handle_configured(neighbor);
        }
        self.mesh.handle_link_up_of(link, (neighbor, incarnation), over, now);
    }

    /// A relay would be a neighbor, and speaks no bridge version that this one speaks.
    pub fn handle_misfit(&mut self, misfit: Misfit, now: Instant) {
        self.misfits.handle_misfit(misfit, now);
    }

    /// A neighbor refuses this relay, because another one with its key was there before.
    pub fn handle_second(&mut self, by: (NodeId, ZoneName), now: Instant) {
        self.twin.handle_refused(by);
        self.mesh.handle_second(now);
    }

    /// A link is gone.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        self.mesh.handle_link_down(link, now);
    }

    /// Something came over a link, media for example.
    pub fn handle_heard(&mut self, link: LinkId, now: Instant) {
        self.mesh.handle_media(link, now);
    }

    /// A message came over a link.
    ///
    /// # Errors
    ///
    /// As [`Mesh::handle_message`](mesh_routing::Mesh::handle_message): it was dropped.
    pub fn handle_message(&mut self, link: LinkId, message: &[u8], now: Instant) -> Result<(), MeshError> {
        self.mesh.handle_message(link, message, now)
    }

    /// What a link is like.
    pub fn handle_measured(
        &mut self,
        link: LinkId,
        (rtt, loss): (Duration, f32),
        capacity: Option<u64>,
        heard: [Heard; 2],
        now: Instant,
    ) {
        self.mesh.handle_measurement(link, rtt, loss, now);
        self.mesh.handle_capacity(link, capacity, now);
        self.mesh.handle_media_heard(link, heard, now);
    }

    /// The operator wants a link to this neighbor.
    pub fn handle_configured(&mut self, neighbor: NodeId) {
        self.mesh.handle_configured(neighbor);
    }

    /// A relay was seen on the local network.
    pub fn handle_discovered(&mut self, node: NodeId, addresses: Vec<SocketAddr>, now: Instant) {
        self.mesh.handle_discovered(node, addresses, now);
    }

    /// Where other relays reach this one.
    pub fn handle_addresses(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        self.mesh.handle_addresses(addresses, now);
    }

    /// Whether anybody is linked to this relay.
    pub fn has_neighbors(&self) -> bool {
        self.mesh.has_neighbors()
    }

    /// When [`Node::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let grace = self.streams.values().filter_map(|known| known.until).min();
        let rates = self.streams.values().filter_map(|known| known.rates.poll_timeout()).min();
        [self.mesh.poll_timeout(), grace, rates, self.sessions.poll_timeout()].into_iter().flatten().min()
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
            Output::Protect { link, protection } => Effect::Protect(link, protection),
            Output::ForwardingChanged => {
                self.look_at_links();
                Effect::Forwarding
            }
            Output::SoundComes { stream, .. } => return self.settle(&stream, now),
            Output::StreamsChanged => {
                self.settle_all(now);
                Effect::Streams
            }
            Output::KeyframeWanted { track } => match self.streams.get(&track.stream) {
                Some(known) => {
                    Effect::Workers(Command::RequestKeyframe { track: known.tracks.get(track.track) })
                }
                None => return,
            },
            Output::Store(record) => Effect::Store(record),
            Output::Record { record, stored } => {
                self.show(&record, now);
                Effect::Stored((record.key, record.number), stored)
            }
            Output::Forget { key, below } => Effect::Forget(key, below),
            Output::Saved { key, upto } => Effect::Saved(key, upto),
            Output::Returned { from, .. } => {
                let zone = self.mesh.zone_of(&from).cloned();
                let Some(text) = self.older_disk.handle_returned((from, zone), now) else { return };
                Effect::Warn(text)
            }
            Output::BadRecord { from, key, number } => {
                let zone = self.mesh.zone_of(&from);
                let Some(text) = self.bad_records.handle_bad((from, zone), (&key, number), now) else {
                    return;
                };
                Effect::Warn(text)
            }
            Output::Twin { id, zone, link } => {
                let warning = match link {
                    Some(_) => self.twin.handle_at_neighbor(id, self.mesh.zone_of(&id), now),
                    None => self.twin.handle_first(id, zone.as_ref(), now),
                };
                self.effects.extend(link.map(Effect::RefuseSecond));
                match warning {
                    Some(text) => Effect::Warn(text),
                    None => return,
                }
            }
            Output::Second => {
                self.effects.push_back(Effect::StayOut);
                Effect::Warn(self.twin.handle_second(self.id))
            }
            Output::Rerouted { .. } => Effect::Rerouted,
            Output::DropLink { link, reason } => Effect::DropLink { link, reason },
            Output::File(output) => match self.take_file(output) {
                Some(effect) => effect,
                None => return,
            },
        };
        self.effects.push_back(effect);
    }
}

/// A relay as people are told of it, with its zone where that is known.
fn relay_of(id: &NodeId, zone: Option<&ZoneName>) -> String {
    match zone {
        Some(zone) => format!("relay {} of {zone}", id.short()),
        None => format!("relay {}", id.short()),
    }
}
