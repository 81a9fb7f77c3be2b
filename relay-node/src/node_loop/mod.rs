//! The node loop: everything that happens to the relay's state happens here, one thing after another.
//!
//! Takes requests, bridge events and media events, gives them to `node`, carries out the effects. What should
//! happen is decided there.
//!
//! In this file, in this order: the loop (`run`), the timer, what the node is given (media events, bridge events,
//! requests), what it wants done (`carry_out`), and the answers that the disk of records owes. The way of a post is in
//! `posting`, whose turn it is in `inputs`, what can be asked in `request`.

mod inputs;
pub mod outbox;
mod participants;
mod posting;
pub mod random;
pub mod request;
mod watchers;

use std::{
    collections::{BTreeMap, VecDeque},
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use media::{Bound, Event, SoundWish, Wish, sdp::Offer, transport::CloseReason};
use mesh_routing::{Counters, LinkId, NotStored};
use protocol::{RoomName, SessionId, StreamName, api, mesh::Class, signaling::FromRelay};
use rooms::{Output as RoomsOutput, ParticipantId, RoomsError};
use tokio::sync::oneshot;

use crate::{
    bridge::{BridgeEvent, Bridges, Forwarding, LinkSender},
    clock,
    drop_reason::{self, DropReason},
    ladder::Ladder,
    media::thread::Workers,
    node::{
        Effect, Node,
        allowance::Allowances,
        complaints::Complaints,
        posts::Posts,
        sessions::{Direction, Opened, SessionError, Whose, merging::Frames},
        viewers::Wished,
    },
    storage::{
        files::{FileEvent, Files},
        records::Store,
    },
    vitals::Pulse,
};
pub use inputs::Inputs;
use inputs::{Input, Listening};
use participants::Participants;
use request::{Entered, FileRequest, NodeRequest, Watching};
use watchers::Watchers;

/// The loop's own state: handles, and the answers that it waits for.
pub struct NodeLoop {
    node: Node,
    workers: Workers,
    ladder: Option<Ladder>,
    bridges: Bridges,
    forwarding: Arc<Forwarding>,
    store: Store,
    files: Files,
    links: BTreeMap<LinkId, LinkSender>,
    /// What had been heard on each link when it was looked at last.
    heard: BTreeMap<LinkId, u64>,
    participants: Participants,
    watchers: Watchers,
    disk: DiskAnswers,
    posts: Posts,
    complaints: Complaints,
    allowances: Allowances,
    /// When it is looked whether the zone token was renewed.
    next_token_look: Option<Instant>,
}

/// A zone token that was renewed is shown to all after this time at the latest.
const ZONE_TOKEN_EVERY: Duration = Duration::from_secs(60);

impl NodeLoop {
    /// The loop around a node.
    pub fn new(
        node: Node,
        (workers, ladder): (Workers, Option<Ladder>),
        bridges: Bridges,
        forwarding: Arc<Forwarding>,
        store: Store,
        files: Files,
        allowances: Allowances,
    ) -> NodeLoop {
        NodeLoop {
            node,
            workers,
            ladder,
            bridges,
            forwarding,
            store,
            files,
            links: BTreeMap::new(),
            heard: BTreeMap::new(),
            participants: Participants::default(),
            watchers: Watchers::default(),
            disk: DiskAnswers::default(),
            posts: Posts::default(),
            complaints: Complaints::default(),
            allowances,
            next_token_look: None,
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, inputs: Inputs, mut pulse: Pulse) {
        pulse.begin(clock::now());
        let mut inputs = Listening::new(inputs);
        loop {
            let deadline = self.poll_timeout();
            match inputs.next(&mut self.disk, deadline).await {
                Input::Stop => break,
                Input::Beat => {
                    pulse.beat(clock::now());
                    continue;
                }
                Input::Due => self.timeout(),
                Input::Media(event) => self.media(event),
                Input::Ladder(event) => self.node.handle_ladder(event, clock::now()),
                Input::Bridge(event) => self.bridge(event),
                Input::Stored(stored) => {
                    let now = clock::now();
                    self.node.handle_wall(clock::wall(), now);
                    self.node.handle_stored(stored, now);
                }
                Input::File(event) => self.node.handle_file_event(event, clock::now()),
                Input::Request(request) => self.answer(request),
                Input::Seen(seen) => self.node.handle_discovered(seen.node, seen.addresses, clock::now()),
                Input::History(rows) => drop(self.node.restore_rows(rows)),
            }
            self.carry_out();
        }
        self.node.handle_stop(clock::now());
        self.carry_out();
        self.participants.clear();
        self.watchers.clear();
        self.workers.stop();
        self.ladder.iter().for_each(Ladder::stop);
        self.bridges.shutdown().await;
        pulse.finish();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.node.poll_timeout().into_iter().chain(self.posts.poll_timeout()).min()
    }

    fn timeout(&mut self) {
        self.listen();
        let now = clock::now();
        self.node.handle_wall(clock::wall(), now);
        self.node.handle_timeout(now);
        self.posts.handle_timeout(now);
        if self.next_token_look.is_none_or(|at| at <= now) {
            self.next_token_look = Some(now + ZONE_TOKEN_EVERY);
            self.node.show_zone_token(now);
        }
        self.count();
    }

    /// What the mesh counted, for the metrics.
    fn count(&mut self) {
        let Counters { logs, unknown, .. } = self.node.mesh_counters();
        let counted = [
            (DropReason::LogQuota, logs.log_quota),
            (DropReason::LogBadRecord, logs.bad),
            (DropReason::LogLooped, logs.looped),
            (DropReason::LogFull, logs.full),
            (DropReason::LogGaveWay, logs.gave_way),
            (DropReason::BridgeUnknownPassedOn, unknown.passed_on),
            (DropReason::BridgeUnknownField, unknown.message_fields),
            (DropReason::LsaUnknownField, unknown.lsa_fields),
            (DropReason::LogUnknownTopic, unknown.topics),
        ];
        for (reason, count) in counted {
            reason.counter().absolute(count);
        }
        drop_reason::count_unknown_messages(unknown.messages);
        #[cfg(feature = "next")]
        while let Some((from, way)) = self.node.poll_note() {
            crate::bridge::next::count(&from, way.word());
        }
    }

    /// Before a detector decides: did anything come over the links, media for example?
    fn listen(&mut self) {
        let now = clock::now();
        for (link, sender) in &self.links {
            let heard = sender.heard();
            if self.heard.insert(*link, heard) != Some(heard) {
                self.node.handle_heard(*link, now);
            }
        }
    }
}

/// What the node is given.
impl NodeLoop {
    /// What media workers say: metrics and the log get their part here, what it comes to is decided in `node`.
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
            BridgeEvent::Up { link, neighbor, incarnation, zone, remote, underlay, version, sender } => {
                let over = underlay.kind.word();
                tracing::info!(%zone, %remote, over, %version, neighbor = %neighbor.short(), "bridge up");
                self.heard.insert(link, sender.heard());
                self.links.insert(link, sender);
                let configured = self.bridges.configured(&neighbor);
                let of = (neighbor, incarnation, zone);
                self.node.handle_link_up(link, of, (underlay, version), configured, now);
            }
            BridgeEvent::Second { by, zone } => self.node.handle_second((by, zone), now),
            BridgeEvent::Misfit(misfit) => self.node.handle_misfit(misfit, now),
            BridgeEvent::Down { link, reason } => {
                tracing::info!(link = link.0, %reason, "bridge down");
                self.links.remove(&link);
                self.heard.remove(&link);
                self.node.handle_link_down(link, now);
            }
            BridgeEvent::Message { link, message } => {
                if let Err(error) = self.node.handle_message(link, &message, now) {
                    drop_reason::count_message(&error);
                }
            }
            BridgeEvent::Measured { link, rtt, loss, capacity, heard } => {
                self.node.handle_measured(link, (rtt, loss), capacity, heard, now);
                let sender = self.links.get(&link);
                let shed =
                    sender.into_iter().flat_map(|sender| iter::from_fn(|| sender.poll_keyframe_wanted()));
                self.node.handle_shed(link, &shed.collect::<Vec<_>>(), now);
            }
        }
    }

    /// Answers a request; posts are answered once they are on disk.
    fn answer(&mut self, request: NodeRequest) {
        let now = clock::now();
        // Who asked may have gone: a reply that nobody takes is no error.
        match request {
            NodeRequest::ClosedRungs { reply } => drop(reply.send(self.node.closed_rungs())),
            NodeRequest::Streams { reply } => drop(reply.send(self.node.streams(now))),
            NodeRequest::Mesh { reply } => {
                let store = self.store.condition().shown();
                drop(reply.send(api::Mesh { store, ..self.node.topology(now) }));
            }
            NodeRequest::Post { topic, new, speaker, reply } => self.post(topic, new, speaker, reply),
            NodeRequest::File(FileRequest::Share { room, new, manifest, reply }) => {
                self.share(room, (new, manifest), reply);
            }
            NodeRequest::File(FileRequest::List { room, reply }) => drop(reply.send(self.node.files(&room))),
            NodeRequest::File(FileRequest::Manifest { file, reply }) => {
                drop(reply.send(self.node.file_manifest(&file).cloned()));
            }
            NodeRequest::File(FileRequest::Want { file, chunk, reply }) => {
                self.node.handle_file_want(file, chunk, reply, now);
            }
            NodeRequest::History { topic, after, limit, reply } => {
                drop(reply.send(self.node.history(&topic, after.as_deref(), limit)));
            }
            NodeRequest::Enter { room, reply } => drop(reply.send(self.enter(room))),
            NodeRequest::Leave { room, participant } => self.leave(&room, participant),
            NodeRequest::Whose { session, reply } => drop(reply.send(self.node.whose(session))),
            NodeRequest::Open { direction, stream, whose, offer, frames, reply } => {
                let opened = self.open(direction, (stream, whose), (&offer, frames));
                // The workers have to know the session before its first check comes.
                self.carry_out();
                drop(reply.send(opened));
            }
            NodeRequest::Session { session, reply } => drop(reply.send(self.node.session(session, now))),
            NodeRequest::Patch { direction, stream, session, if_match, fragment, reply } => {
                let credentials = random::credentials();
                let patched =
                    self.node.handle_patch((direction, &stream, session), &if_match, &fragment, credentials);
                self.carry_out();
                drop(reply.send(patched));
            }
            NodeRequest::Wish { stream, session, wish, reply } => {
                let wished = self.node.handle_wish(&stream, session, &wish, now);
                if let Ok(wish) = wished {
                    metrics::counter!("relay_wish_total", "wish" => label(wish)).increment(1);
                }
                drop(reply.send(wished.map(drop)));
            }
            NodeRequest::Watch { stream, session, reply } => {
                let watched = self.node.handle_watch(&stream, session).map(|watched| Watching {
                    fresh: watched.fresh,
                    events: self.watchers.add(session, watched.seen),
                });
                drop(reply.send(watched));
            }
            NodeRequest::End { direction, stream, session, reply } => {
                drop(reply.send(self.node.handle_end(direction, &stream, session, now)));
            }
        }
    }

    fn open(
        &mut self,
        direction: Direction,
        (stream, whose): (StreamName, Whose),
        (offer, frames): (&Offer, Option<Frames>),
    ) -> Result<Opened, SessionError> {
        let (now, held) = (clock::now(), (stream, whose.client.holder()));
        let opened = match direction {
            Direction::Ingest => self.node.handle_publish(held, offer, random::session(), now),
            Direction::Egress => self.node.handle_listen(held, (offer, frames), random::session(), now),
        };
        if let Ok(opened) = &opened {
            self.node.set_whose(opened.id, whose);
        }
        if matches!(opened, Err(SessionError::Full)) {
            DropReason::SessionRefused.count();
        }
        opened
    }

    fn enter(&mut self, room: RoomName) -> Result<Entered, RoomsError> {
        let participant = self.node.handle_enter(&room)?;
        let streams = FromRelay::Streams { streams: self.node.streams(clock::now()) };
        let events = self.participants.enter((room.clone(), participant), &streams);
        Ok(Entered { participant, welcome: self.node.welcome(&room), events })
    }

    fn leave(&mut self, room: &RoomName, participant: ParticipantId) {
        if self.participants.leave(&(room.clone(), participant)) {
            self.node.handle_leave(room, participant);
            self.allowances.forget(participant);
        }
    }
}

/// What the node wants done, each effect by whoever does it: workers, bridges, disks, participants.
impl NodeLoop {
    /// Does what the node wants done, until it wants nothing more.
    fn carry_out(&mut self) {
        let mut forwarding = false;
        let mut streams = false;
        while let Some(effect) = self.node.poll_effect(clock::now()) {
            match effect {
                Effect::Workers(command) => self.workers.tell(&command),
                Effect::Ladder(tracks, rungs) => {
                    self.ladder.iter().for_each(|ladder| ladder.tell(tracks, rungs));
                }
                Effect::Send { link, class, message } => self.send(link, class, message),
                Effect::Protect(link, protection) => {
                    if let Some(sender) = self.links.get(&link) {
                        sender.protect(protection);
                    }
                }
                Effect::Dial(node, addresses) => self.bridges.dial(node, addresses),
                Effect::Spare(link) => self.spare(link),
                Effect::DropLink { link, reason } => {
                    tracing::warn!(link = link.0, reason, "closing a bridge");
                    self.bridges.close_link(link, reason);
                }
                Effect::RefuseSecond(link) => self.bridges.refuse_second(link),
                Effect::StayOut => self.bridges.stay_out(),
                Effect::Forwarding => forwarding = true,
                Effect::Streams => streams = true,
                Effect::Store(record) => self.disk.expect(self.store.append(record)),
                Effect::Stored(place, stored) => self.stored(&place, stored),
                Effect::Forget(key, below) => self.store.forget(key, below),
                Effect::Saved(key, upto) => {
                    for (topic, id) in self.posts.handle_saved(&key, upto) {
                        self.node.handle_saved(&topic, id);
                    }
                }
                Effect::StoreChunk { file, chunk, bytes } => {
                    if !self.files.store(file, chunk, bytes) {
                        let refused = FileEvent::Stored { file, chunk, kept: false };
                        self.node.handle_file_event(refused, clock::now());
                    }
                }
                Effect::ReadBlock { link, block } => {
                    if !self.files.read_for(link, block) {
                        let refused = FileEvent::Read { link, block, bytes: None };
                        self.node.handle_file_event(refused, clock::now());
                    }
                }
                Effect::Seen(session) => self.seen(session),
                Effect::Over(session) => self.watchers.over(session),
                Effect::Unreached(direction) => {
                    let kind = if direction == Direction::Ingest { "ingest" } else { "egress" };
                    metrics::counter!("relay_unreached_total", "kind" => kind).increment(1);
                }
                Effect::Warn(text) => tracing::warn!("{text}"),
                Effect::GaveWay => DropReason::SessionGaveWay.count(),
                Effect::Rerouted => metrics::counter!("relay_reroute_total").increment(1),
            }
        }
        if forwarding {
            self.forwarding.replace(self.node.forwarding(&self.links));
        }
        if streams {
            let event = FromRelay::Streams { streams: self.node.streams(clock::now()) };
            self.tell(|_| true, &event);
            // Names and what there is may be others.
            for session in self.watchers.sessions() {
                self.seen(session);
            }
        }
        while let Some(output) = self.node.poll_room_output() {
            match output {
                RoomsOutput::Tell { room, event } => self.tell(|place| *place == room, &event),
                RoomsOutput::TellAll { event } => self.tell(|_| true, &event),
            }
        }
    }

    fn send(&self, link: LinkId, class: Class, message: Bytes) {
        if let Some(sender) = self.links.get(&link) {
            // A full queue closes the link, and its Down follows.
            sender.send_message(class, message);
        }
    }

    /// Tells who reads what a listener sees. Where nobody does any more, workers need not say it.
    fn seen(&mut self, session: SessionId) {
        if let Some(seen) = self.node.seen(session)
            && !self.watchers.tell(session, &seen)
        {
            self.node.handle_unwatched(session);
        }
    }

    /// A relay that was dialed by its configured address after it was linked is known as configured only
    /// by the bridges.
    fn spare(&mut self, link: LinkId) {
        let Some(neighbor) = self.links.get(&link).map(LinkSender::neighbor) else { return };
        if self.bridges.configured(&neighbor) {
            self.node.handle_configured(neighbor);
        } else {
            self.bridges.close_link(link, "other neighbors are nearer");
        }
    }

    /// Participants that fall too far behind are cut off.
    fn tell(&mut self, whom: impl Fn(&RoomName) -> bool, event: &FromRelay) {
        for (room, participant) in self.participants.tell(whom, event) {
            self.leave(&room, participant);
        }
    }
}

/// A kind of wish, as it is counted.
fn label(wished: Wished) -> &'static str {
    match wished {
        Wished::Picture(Wish::Sound) => "sound",
        Wished::Picture(Wish::UpTo(bound)) if bound == Bound::default() => "auto",
        Wished::Picture(Wish::UpTo(_)) => "encoding",
        Wished::Sound(SoundWish::Low) => "sound_low",
        Wished::Sound(SoundWish::Middle) => "sound_mid",
        Wished::Sound(SoundWish::High) => "sound_high",
    }
}

/// What the disk of records has not answered yet, in the order in which it was asked. What waits for an answer is the
/// mesh's business.
#[derive(Debug, Default)]
struct DiskAnswers(VecDeque<oneshot::Receiver<Result<(), NotStored>>>);

impl DiskAnswers {
    /// The disk was asked once more.
    fn expect(&mut self, answer: oneshot::Receiver<Result<(), NotStored>>) {
        self.0.push_back(answer);
    }

    /// Waits for the next answer; for ever if none will come. Nothing is lost if this is dropped while it waits.
    ///
    /// # Errors
    ///
    /// [`NotStored`] if the record is not on disk.
    async fn next(&mut self) -> Result<(), NotStored> {
        let Some(first) = self.0.front_mut() else { return std::future::pending().await };
        let answer = first.await.unwrap_or(Err(NotStored::Failed));
        self.0.pop_front();
        answer
    }
}
