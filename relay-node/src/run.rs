//! The node loop: everything that happens to the relay's state happens here, one thing after another.
//!
//! Takes asks, bridge events and media events, gives them to `node`, carries out the effects. What should
//! happen is decided there.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use media::Event;
use mesh_routing::{LinkId, Record};
use protocol::{RoomName, api::Posted, mesh::Class, signaling::FromRelay};
use rooms::{Output as RoomsOutput, ParticipantId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    ask::{Ask, Entered, PARTICIPANT_EVENTS_MAX, PostError},
    bridge::{BridgeEvent, Bridges, Child, Forwarding, LinkSender, Route, Table},
    clock,
    discover::Seen,
    fresh,
    media_thread::Workers,
    node::{Effect, ForwardSource, Node},
    sessions::Direction,
    store::{self, NotStored, Store},
};

/// The loop's own state: handles, and what waits for the disk.
pub struct NodeLoop {
    node: Node,
    workers: Workers,
    bridges: Bridges,
    forwarding: Arc<Forwarding>,
    store: Store,
    links: BTreeMap<LinkId, LinkSender>,
    /// What had been heard on each link when it was looked at last.
    heard: BTreeMap<LinkId, u64>,
    participants: BTreeMap<(RoomName, ParticipantId), mpsc::Sender<FromRelay>>,
    held: VecDeque<Held>,
    /// Replies to posts whose records are on their way to the disk, by the text of their ids.
    posts: Vec<PendingPost>,
}

/// What may happen only once the records before it are on disk: otherwise a crash could give the number
/// of a record that others have seen to another one.
enum Held {
    Record(Record, oneshot::Receiver<Result<(), NotStored>>),
    Send(LinkId, Bytes),
}

struct PendingPost {
    payload: Bytes,
    id: String,
    reply: oneshot::Sender<Result<Posted, PostError>>,
}

/// Records and messages that may wait for the disk; beyond it posts are refused.
const HELD_MAX: usize = 8192;

/// What the loop listens to.
pub struct Inputs {
    /// From HTTP and WebSocket.
    pub asks: mpsc::Receiver<Ask>,
    /// From the bridges.
    pub bridge: mpsc::Receiver<BridgeEvent>,
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
    ) -> NodeLoop {
        NodeLoop {
            node,
            workers,
            bridges,
            forwarding,
            store,
            links: BTreeMap::new(),
            heard: BTreeMap::new(),
            participants: BTreeMap::new(),
            held: VecDeque::new(),
            posts: Vec::new(),
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, mut inputs: Inputs) {
        loop {
            let wake = self.node.poll_timeout().map(tokio::time::Instant::from_std);
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = inputs.stop.wait_for(|stop| *stop) => break,
                Some(event) = inputs.media.recv() => self.media(event),
                Some(event) = inputs.bridge.recv() => self.bridge(event),
                stored = stored(&mut self.held) => self.stored(stored),
                Some(ask) = inputs.asks.recv() => self.answer(ask),
                Some(seen) = inputs.discovered.recv() => {
                    self.node.mesh.handle_discovered(seen.node, seen.addresses, clock::now());
                }
                () = sleep => {
                    self.listen();
                    self.node.handle_timeout(clock::now());
                }
            }
            self.carry_out();
        }
        self.node.handle_stop(clock::now());
        self.carry_out();
        self.participants.clear();
        self.workers.stop();
        self.bridges.shutdown().await;
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
        self.node.handle_media(event, now);
    }

    fn bridge(&mut self, event: BridgeEvent) {
        let now = clock::now();
        match event {
            BridgeEvent::Up { link, neighbor, zone, remote, underlay, sender } => {
                let over = underlay.kind.word();
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
            BridgeEvent::Measured { link, rtt, loss } => {
                self.node.mesh.handle_measurement(link, rtt, loss, now)
            }
        }
    }

    fn stored(&mut self, result: Result<(), NotStored>) {
        let Some(Held::Record(record, _)) = self.held.pop_front() else { return };
        let post = self.posts.iter().position(|post| post.payload == record.payload);
        let post = post.map(|index| self.posts.swap_remove(index));
        match result {
            Ok(()) => {
                self.node.handle_stored(&record, clock::wall());
                if let Some(post) = post {
                    // The participant may have gone.
                    let _ = post.reply.send(Ok(Posted { id: post.id }));
                }
            }
            Err(error) => {
                tracing::error!(
                    ?error,
                    "a record could not be stored: chat of this moment will be missing after a restart"
                );
                self.node.handle_stored(&record, clock::wall());
                if let Some(post) = post {
                    let _ = post.reply.send(Err(PostError::NotStored));
                }
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
            Ask::Post { room, new, reply } => match self.node.rooms.handle_post(room, new, clock::wall()) {
                Ok(accepted) => match accepted.payload {
                    None => drop(reply.send(Ok(Posted { id: accepted.id }))),
                    Some(_) if self.held.len() >= HELD_MAX => {
                        metrics::counter!("relay_drop_total", "reason" => "disk_too_slow").increment(1);
                        drop(reply.send(Err(PostError::NotStored)));
                    }
                    Some(payload) => match self.node.mesh.handle_append(payload.clone(), now) {
                        Ok(_) => self.posts.push(PendingPost { payload, id: accepted.id, reply }),
                        Err(error) => {
                            tracing::error!(%error, "a message could not be appended to the log");
                            drop(reply.send(Err(PostError::NotStored)));
                        }
                    },
                },
                Err(error) => drop(reply.send(Err(error.into()))),
            },
            Ask::History { room, after, limit, reply } => {
                drop(reply.send(self.node.rooms.history(&room, after.as_deref(), limit)));
            }
            Ask::Enter { room, reply } => {
                let entered = self.node.rooms.handle_enter(&room).map(|participant| {
                    let (sender, events) = mpsc::channel(PARTICIPANT_EVENTS_MAX);
                    let streams = FromRelay::Streams { streams: self.node.streams(now) };
                    // The channel is empty: there is room.
                    let _ = sender.try_send(streams);
                    self.participants.insert((room.clone(), participant), sender);
                    Entered { participant, welcome: self.node.rooms.welcome(&room), events }
                });
                drop(reply.send(entered));
            }
            Ask::Leave { room, participant } => self.leave(&room, participant),
            Ask::Open { direction, stream, offer, reply } => {
                let opened = match direction {
                    Direction::Ingest => self.node.handle_publish(stream, &offer, fresh::session(), now),
                    Direction::Egress => self.node.handle_listen(stream, &offer, fresh::session(), now),
                };
                // The workers have to know the session before its first check comes.
                self.carry_out();
                drop(reply.send(opened));
            }
            Ask::Patch { direction, stream, session, if_match, fragment, reply } => {
                let credentials = fresh::credentials();
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

    fn carry_out(&mut self) {
        let mut forwarding = false;
        let mut streams = false;
        while let Some(effect) = self.node.poll_effect(clock::now()) {
            match effect {
                Effect::Workers(command) => self.workers.tell(&command),
                Effect::Send { link, class: Class::Chat, message } => {
                    self.held.push_back(Held::Send(link, message))
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
                    let entry = store::Record {
                        writer: record.writer,
                        number: record.number,
                        payload: record.payload.clone(),
                    };
                    let stored = self.store.append(entry);
                    self.held.push_back(Held::Record(record, stored));
                }
                Effect::Forget(writer, below) => self.store.forget(writer, below),
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
        while let Some(RoomsOutput::Tell { room, event }) = self.node.rooms.poll_output() {
            self.tell(|place| *place == room, &event);
        }
    }

    /// Sends what no longer waits for a record.
    fn release(&mut self) {
        while let Some(Held::Send(link, message)) =
            self.held.pop_front_if(|held| matches!(held, Held::Send(..)))
        {
            self.send(link, Class::Chat, message);
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
        let slow: Vec<_> = self
            .participants
            .iter()
            .filter(|((room, _), sender)| whom(room) && sender.try_send(event.clone()).is_err())
            .map(|(place, _)| place.clone())
            .collect();
        for (room, participant) in slow {
            metrics::counter!("relay_drop_total", "reason" => "participant_too_slow").increment(1);
            self.leave(&room, participant);
        }
    }

    fn leave(&mut self, room: &RoomName, participant: ParticipantId) {
        if self.participants.remove(&(room.clone(), participant)).is_some() {
            self.node.rooms.handle_leave(room, participant);
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

/// Waits until the record that is held first is on disk; for ever if none is held.
async fn stored(held: &mut VecDeque<Held>) -> Result<(), NotStored> {
    match held.front_mut() {
        Some(Held::Record(_, stored)) => stored.await.unwrap_or(Err(NotStored::Failed)),
        _ => std::future::pending().await,
    }
}
