//! The node loop: everything that happens to the relay's state happens here, one thing after another.
//!
//! Takes asks, bridge events and media events, gives them to `node`, carries out the effects. What should
//! happen is decided there.

pub mod file_requests;
pub mod outbox;
pub mod random;
pub mod request;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use media::{Event, transport::CloseReason};
use mesh_routing::{LinkId, Record, blob::Manifest};
use protocol::{
    RoomName, Topic,
    api::{NewMessage, Posted, Saved},
    mesh::Class,
    signaling::FromRelay,
};
use rooms::{Accepted, NewFile, Output as RoomsOutput, ParticipantId, RoomsError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    bridge::{BridgeEvent, Bridges, Child, Forwarding, LinkSender, Route, Table, mdns::Seen},
    clock,
    media::thread::Workers,
    node::{
        Effect, ForwardSource, Node,
        allowance::{Allowances, Speaker},
        complaints::Complaints,
        posts::{self, PostError, Posts},
        sessions::{Direction, SessionError},
    },
    storage::{
        files::{FileEvent, Files},
        records::{NotStored, Store},
    },
    vitals::{BEAT, Pulse},
};
use file_requests::{FileAsk, Waiting};
use outbox::{Missed, Outbox, Told};
use request::{Ask, Entered, Questions};

/// The loop's own state: handles, and what waits for the disk.
pub struct NodeLoop {
    node: Node,
    workers: Workers,
    bridges: Bridges,
    forwarding: Arc<Forwarding>,
    store: Store,
    files: Waiting,
    links: BTreeMap<LinkId, LinkSender>,
    /// What had been heard on each link when it was looked at last.
    heard: BTreeMap<LinkId, u64>,
    participants: BTreeMap<(RoomName, ParticipantId), Outbox>,
    held: VecDeque<Held>,
    posts: Posts,
    complaints: Complaints,
    allowances: Allowances,
    /// When it is looked whether the zone token was renewed.
    next_paper: Option<Instant>,
}

/// What may happen only once the records before it are on disk: otherwise a crash could give the number
/// of a record that others have seen to another one.
enum Held {
    Record(Record, oneshot::Receiver<Result<(), NotStored>>),
    Send(LinkId, Class, Bytes),
}

/// Records and messages that may wait for the disk; beyond it posts are refused.
const HELD_MAX: usize = 8192;
/// A zone token that was renewed is shown to all after this time at the latest.
const PAPER_EVERY: Duration = Duration::from_secs(60);
/// And so many more before announcements are.
const HELD_RESERVED: usize = 1024;

/// What the loop listens to.
pub struct Inputs {
    /// From HTTP and WebSocket.
    pub asks: Questions,
    /// From the bridges.
    pub bridge: mpsc::Receiver<BridgeEvent>,
    /// From the disk of files.
    pub files: mpsc::Receiver<FileEvent>,
    /// Relays on the local network.
    pub discovered: mpsc::Receiver<Seen>,
    /// From the media workers.
    pub media: mpsc::Receiver<Event>,
    /// Turns true when the relay stops.
    pub stop: watch::Receiver<bool>,
}

impl NodeLoop {
    /// The loop around a node.
    pub fn new(
        node: Node,
        workers: Workers,
        bridges: Bridges,
        forwarding: Arc<Forwarding>,
        store: Store,
        files: Files,
        allowances: Allowances,
    ) -> NodeLoop {
        NodeLoop {
            node,
            workers,
            bridges,
            forwarding,
            store,
            files: Waiting::new(files),
            links: BTreeMap::new(),
            heard: BTreeMap::new(),
            participants: BTreeMap::new(),
            held: VecDeque::new(),
            posts: Posts::default(),
            complaints: Complaints::default(),
            allowances,
            next_paper: None,
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, mut inputs: Inputs, mut pulse: Pulse) {
        pulse.begin(clock::now());
        let mut beats = tokio::time::interval(BEAT);
        loop {
            let wake = self.node.poll_timeout().into_iter().chain(self.posts.poll_timeout()).min();
            let wake = wake.map(tokio::time::Instant::from_std);
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = inputs.stop.wait_for(|stop| *stop) => break,
                // Before what may never end: a flood does not make the loop look dead.
                _ = beats.tick() => {
                    pulse.beat(clock::now());
                    continue;
                }
                Some(event) = inputs.media.recv() => self.media(event),
                Some(event) = inputs.bridge.recv() => self.bridge(event),
                stored = stored(&mut self.held) => self.stored(stored),
                Some(event) = inputs.files.recv() => self.files.handle_event(event, &mut self.node),
                Some(ask) = inputs.asks.recv() => self.answer(ask),
                Some(seen) = inputs.discovered.recv() => {
                    self.node.mesh.handle_discovered(seen.node, seen.addresses, clock::now());
                }
                () = sleep => self.timeout(),
            }
            self.carry_out();
        }
        self.node.handle_stop(clock::now());
        self.carry_out();
        self.participants.clear();
        self.workers.stop();
        self.bridges.shutdown().await;
        pulse.finish();
    }

    fn timeout(&mut self) {
        self.listen();
        let now = clock::now();
        self.node.mesh.handle_wall(clock::wall(), now);
        self.node.handle_timeout(now);
        self.posts.handle_timeout(now);
        if self.next_paper.is_none_or(|at| at <= now) {
            self.next_paper = Some(now + PAPER_EVERY);
            self.node.show_paper(now);
        }
        let logs = self.node.mesh.counters().logs;
        let counted = [("log_quota", logs.log_quota), ("log_looped", logs.looped)];
        let counted = counted.into_iter().chain([("log_full", logs.full), ("log_gave_way", logs.gave_way)]);
        for (reason, count) in counted {
            metrics::counter!("relay_drop_total", "reason" => reason).absolute(count);
        }
    }

    /// Before a detector decides: did anything come over the links, media for example?
    fn listen(&mut self) {
        let now = clock::now();
        for (link, sender) in &self.links {
            let heard = sender.heard();
            if self.heard.insert(*link, heard) != Some(heard) {
                self.node.mesh.handle_media(*link, now);
            }
        }
    }

    fn media(&mut self, event: Event) {
        let now = clock::now();
        if let Event::Connected { session } = &event
            && let Some(opened) = self.node.listener_opened_at(*session)
        {
            metrics::histogram!("relay_join_duration_seconds")
                .record(now.duration_since(opened).as_secs_f64());
        }
        if let Event::Closed { session, reason: CloseReason::Panicked, .. } = &event {
            tracing::error!(?session, "a defect ended a session; the message is above");
            metrics::counter!("relay_session_panics_total").increment(1);
        }
        if let Event::Health { session, health } = &event
            && health.too_large > 0
            && let Some((stream, _)) = self.node.stream_of(*session)
            && self.node.health(stream).is_none_or(|known| known.too_large == 0)
        {
            tracing::warn!(
                %stream,
                "the publisher sends RTP packets longer than 1500 octets: they are dropped, and nobody gets a \
                 whole picture; lower the MTU of its payloader (GStreamer: rtph264pay mtu=1200)"
            );
        }
        if let Event::Closed { session, reason, remote: Some(remote) } = &event
            && self.complaints.take(remote.ip(), *reason, now)
            && let Some((stream, direction)) = self.node.stream_of(*session)
        {
            let who = if direction == Direction::Ingest { "publisher" } else { "listener" };
            tracing::warn!(%stream, %remote, reason = reason.label(), "a {who}'s session ended: {reason}");
        }
        self.node.handle_media(event, now);
    }

    fn bridge(&mut self, event: BridgeEvent) {
        let now = clock::now();
        match event {
            BridgeEvent::Up { link, neighbor, zone, remote, underlay, sender } => {
                let over = underlay.kind.word();
                self.node.handle_neighbor(neighbor, zone.clone(), now);
                tracing::info!(%zone, %remote, over, neighbor = %neighbor.short(), "bridge up");
                self.heard.insert(link, sender.heard());
                self.links.insert(link, sender);
                if self.bridges.configured(&neighbor) {
                    self.node.mesh.handle_configured(neighbor);
                }
                self.node.mesh.handle_link_up_over(link, neighbor, underlay, now);
            }
            BridgeEvent::Down { link, reason } => {
                tracing::info!(link = link.0, %reason, "bridge down");
                self.links.remove(&link);
                self.heard.remove(&link);
                self.node.mesh.handle_link_down(link, now);
            }
            BridgeEvent::Message { link, message } => {
                if let Err(error) = self.node.mesh.handle_message(link, &message, now) {
                    metrics::counter!("relay_drop_total", "reason" => error.reason()).increment(1);
                }
            }
            BridgeEvent::Measured { link, rtt, loss, capacity } => {
                self.node.mesh.handle_measurement(link, rtt, loss, now);
                self.node.mesh.handle_capacity(link, capacity, now);
            }
        }
    }

    fn stored(&mut self, result: Result<(), NotStored>) {
        let Some(Held::Record(record, _)) = self.held.pop_front() else { return };
        let now = clock::now();
        self.node.handle_stored(&record, result.is_ok(), clock::wall(), now);
        let wait = self.node.mesh.has_neighbors();
        let own = record.key.writer == self.node.id;
        let place = (record.key, record.number);
        self.posts.handle_stored(&place, result.is_ok(), wait, now);
        if let Err(error) = result {
            tracing::error!(
                ?error,
                "a record could not be stored: chat of this moment will be missing after a restart"
            );
            if own {
                // After a restart its number would be given again: what comes is in another log.
                let life = random::life();
                self.node.mesh.handle_life(life);
                self.store.set_life(life);
            }
        }
        self.release();
    }

    fn answer(&mut self, ask: Ask) {
        let now = clock::now();
        // Who asked may have gone: a reply that nobody takes is no error.
        match ask {
            Ask::Streams { reply } => drop(reply.send(self.node.streams(now))),
            Ask::Mesh { reply } => drop(reply.send(self.node.topology())),
            Ask::Post { topic, new, speaker, reply } => self.post(topic, new, speaker, reply),
            Ask::File(ask) => {
                if let Some(FileAsk::Share { room, new, manifest, reply }) =
                    self.files.handle_ask(ask, &mut self.node)
                {
                    self.share(room, (new, manifest), reply);
                }
            }
            Ask::History { topic, after, limit, reply } => {
                drop(reply.send(self.node.history(&topic, after.as_deref(), limit)));
            }
            Ask::Enter { room, reply } => {
                let entered = self.node.rooms.handle_enter(&room).map(|participant| {
                    let (outbox, events) = outbox::pair();
                    let streams = FromRelay::Streams { streams: self.node.streams(now) };
                    // It is empty: there is room.
                    let _ = outbox.tell(&Told::new(&streams));
                    self.participants.insert((room.clone(), participant), outbox);
                    Entered { participant, welcome: self.node.welcome(&room), events }
                });
                drop(reply.send(entered));
            }
            Ask::Leave { room, participant } => self.leave(&room, participant),
            Ask::Open { direction, stream, holder, offer, reply } => {
                let opened = match direction {
                    Direction::Ingest => {
                        self.node.handle_publish((stream, holder), &offer, random::session(), now)
                    }
                    Direction::Egress => {
                        self.node.handle_listen((stream, holder), &offer, random::session(), now)
                    }
                };
                if matches!(opened, Err(SessionError::Full)) {
                    dropped("session_refused");
                }
                // The workers have to know the session before its first check comes.
                self.carry_out();
                drop(reply.send(opened));
            }
            Ask::Session { session, reply } => drop(reply.send(self.node.session(session, now))),
            Ask::Patch { direction, stream, session, if_match, fragment, reply } => {
                let credentials = random::credentials();
                let patched =
                    self.node.handle_patch((direction, &stream, session), &if_match, &fragment, credentials);
                self.carry_out();
                drop(reply.send(patched));
            }
            Ask::End { direction, stream, session, reply } => {
                drop(reply.send(self.node.handle_end(direction, &stream, session, now)));
            }
        }
    }

    fn post(&mut self, topic: Topic, new: NewMessage, speaker: Speaker, reply: posts::Reply) {
        let source = self.allowances.source(speaker);
        let accepted = self.node.rooms.handle_post(&topic, new, source, clock::wall());
        // What is known already is said again after a lost connection: that costs nothing.
        if let Topic::Room(room) = &topic
            && accepted.as_ref().is_ok_and(|accepted| accepted.payload.is_some())
        {
            let begins = !self.node.rooms.was_spoken_in(room);
            if let Err(error) = self.allowances.take(speaker, begins, clock::now()) {
                metrics::counter!("relay_drop_total", "reason" => error.whose.reason()).increment(1);
                return drop(reply.send(Err(error.into())));
            }
        }
        self.append(topic, accepted, reply);
    }

    /// Appends what was accepted to the log; the reply comes when it is on disk, here and on another one.
    fn append(&mut self, topic: Topic, accepted: Result<Accepted, RoomsError>, reply: posts::Reply) {
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        let Some(payload) = accepted.payload else {
            let elsewhere = accepted.known.is_some_and(|(writer, number)| {
                writer != self.node.id || self.node.mesh.is_saved(&topic, number)
            });
            let saved = if elsewhere { Saved::Mesh } else { Saved::Here };
            return drop(reply.send(Ok(Posted { id: accepted.id, saved })));
        };
        let reserved = if topic == Topic::Announcements { HELD_RESERVED } else { 0 };
        if self.held.len() >= HELD_MAX + reserved {
            metrics::counter!("relay_drop_total", "reason" => "disk_too_slow").increment(1);
            return drop(reply.send(Err(PostError::NotStored)));
        }
        let now = clock::now();
        self.node.mesh.handle_wall(clock::wall(), now);
        match self.node.handle_append(topic, payload, now) {
            Ok(place) => self.posts.handle_appended(place, accepted.id, reply),
            Err(error) => {
                tracing::error!(%error, "a record could not be appended to the log");
                metrics::counter!("relay_drop_total", "reason" => error.reason()).increment(1);
                drop(reply.send(Err(PostError::NotStored)));
            }
        }
    }

    /// Announces a file that is on disk here.
    fn share(&mut self, room: RoomName, (new, manifest): (NewFile, Manifest), reply: posts::Reply) {
        let all = vec![true; manifest.chunks.len()];
        if !self.node.mesh.handle_file_here(new.file, manifest, &all) {
            drop(reply.send(Err(PostError::NotStored)));
            return;
        }
        let accepted = self.node.rooms.handle_share(&room, new, self.node.id, clock::wall());
        self.append(Topic::Room(room), accepted, reply);
    }

    fn carry_out(&mut self) {
        let mut forwarding = false;
        let mut streams = false;
        while let Some(effect) = self.node.poll_effect(clock::now()) {
            match effect {
                Effect::Workers(command) => self.workers.tell(&command),
                Effect::Send { link, class: class @ (Class::Chat | Class::Announcement), message } => {
                    self.held.push_back(Held::Send(link, class, message))
                }
                Effect::Send { link, class, message } => self.send(link, class, message),
                Effect::Dial(node, addresses) => self.bridges.dial(node, addresses),
                Effect::Spare(link) => self.spare(link),
                Effect::DropLink { link, reason } => {
                    tracing::warn!(link = link.0, reason, "closing a bridge");
                    self.bridges.close_link(link, reason);
                }
                Effect::Forwarding => forwarding = true,
                Effect::Streams => streams = true,
                Effect::Store(record) => {
                    let stored = self.store.append(record.clone());
                    self.held.push_back(Held::Record(record, stored));
                }
                Effect::Forget(key, below) => self.store.forget(key, below),
                Effect::Saved(key, upto) => {
                    for (topic, id) in self.posts.handle_saved(&key, upto) {
                        self.node.rooms.handle_saved(&topic, id);
                    }
                }
                Effect::Life(life) => self.store.set_life(life),
                Effect::File(output) => self.files.carry_out(output, &mut self.node),
                Effect::Unreached(direction) => {
                    let kind = if direction == Direction::Ingest { "ingest" } else { "egress" };
                    metrics::counter!("relay_unreached_total", "kind" => kind).increment(1);
                }
                Effect::Warn(text) => tracing::warn!("{text}"),
                Effect::GaveWay => dropped("session_gave_way"),
                Effect::Rerouted => metrics::counter!("relay_reroute_total").increment(1),
            }
        }
        self.release();
        if forwarding {
            self.forwarding.replace(self.table());
        }
        if streams {
            let event = FromRelay::Streams { streams: self.node.streams(clock::now()) };
            self.tell(|_| true, &event);
        }
        while let Some(output) = self.node.rooms.poll_output() {
            match output {
                RoomsOutput::Tell { room, event } => self.tell(|place| *place == room, &event),
                RoomsOutput::TellAll { event } => self.tell(|_| true, &event),
            }
        }
    }

    /// Sends what no longer waits for a record.
    fn release(&mut self) {
        while let Some(Held::Send(link, class, message)) =
            self.held.pop_front_if(|held| matches!(held, Held::Send(..)))
        {
            self.send(link, class, message);
        }
    }

    /// A relay that was dialed by its configured address after it was linked is known as configured only
    /// by the bridges.
    fn spare(&mut self, link: LinkId) {
        let Some(neighbor) = self.links.get(&link).map(LinkSender::neighbor) else { return };
        if self.bridges.configured(&neighbor) {
            self.node.mesh.handle_configured(neighbor);
        } else {
            self.bridges.close_link(link, "other neighbors are nearer");
        }
    }

    fn send(&self, link: LinkId, class: Class, message: Bytes) {
        if let Some(sender) = self.links.get(&link) {
            // A full queue closes the link, and its Down follows.
            sender.send_message(class, message);
        }
    }

    /// Participants that fall too far behind are cut off.
    fn tell(&mut self, whom: impl Fn(&RoomName) -> bool, event: &FromRelay) {
        let told = Told::new(event);
        let missed: Vec<_> = self
            .participants
            .iter()
            .filter(|((room, _), _)| whom(room))
            .filter_map(|(place, outbox)| Some((place.clone(), outbox.tell(&told).err()?)))
            .collect();
        for ((room, participant), missed) in missed {
            if missed == Missed::Behind {
                dropped("participant_too_slow");
            }
            self.leave(&room, participant);
        }
    }

    fn leave(&mut self, room: &RoomName, participant: ParticipantId) {
        if self.participants.remove(&(room.clone(), participant)).is_some() {
            self.node.rooms.handle_leave(room, participant);
            self.allowances.forget(participant);
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::default();
        for forward in self.node.forwarding() {
            let children: Vec<Child> = forward
                .children
                .iter()
                .filter_map(|(link, alias)| {
                    Some(Child { link: self.links.get(link)?.clone(), alias: *alias })
                })
                .collect();
            match forward.source {
                ForwardSource::Here(track) => drop(table.local.insert(track.0, children)),
                ForwardSource::Links(sources) => {
                    let local = forward.local.map(|track| track.0);
                    let route = Route { track: forward.track, local, class: forward.class, children };
                    table.incoming.extend(sources.into_iter().map(|source| (source, route.clone())));
                }
            }
        }
        table
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("relay_drop_total", "reason" => reason).increment(1);
}

/// Waits until the record that is held first is on disk; for ever if none is held.
async fn stored(held: &mut VecDeque<Held>) -> Result<(), NotStored> {
    match held.front_mut() {
        Some(Held::Record(_, stored)) => stored.await.unwrap_or(Err(NotStored::Failed)),
        _ => std::future::pending().await,
    }
}
