//! The node loop: everything that happens to the relay's state happens here, one thing after another.
//!
//! Takes requests, bridge events and media events, gives them to `node`, carries out the effects. What should
//! happen is decided there. Each kind of input has a file here: `answers`, `links`, `media_events`, `posting`.

mod answers;
mod disk_answers;
mod effects;
pub mod file_requests;
mod inputs;
mod links;
mod media_events;
pub mod outbox;
mod participants;
mod posting;
pub mod random;
pub mod request;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_routing::{Counters, LinkId};

use crate::{
    bridge::{Bridges, Forwarding, LinkSender},
    clock,
    drop_reason::{self, DropReason},
    media::thread::Workers,
    node::{Node, allowance::Allowances, complaints::Complaints, posts::Posts},
    storage::{files::Files, records::Store},
    vitals::Pulse,
};
use disk_answers::DiskAnswers;
use file_requests::FileRequests;
pub use inputs::Inputs;
use inputs::{Input, Listening};
use participants::Participants;

/// The loop's own state: handles, and the answers that it waits for.
pub struct NodeLoop {
    node: Node,
    workers: Workers,
    bridges: Bridges,
    forwarding: Arc<Forwarding>,
    store: Store,
    files: FileRequests,
    links: BTreeMap<LinkId, LinkSender>,
    /// What had been heard on each link when it was looked at last.
    heard: BTreeMap<LinkId, u64>,
    participants: Participants,
    disk: DiskAnswers,
    posts: Posts,
    complaints: Complaints,
    allowances: Allowances,
    /// When it is looked whether the zone token was renewed.
    next_paper: Option<Instant>,
}

/// A zone token that was renewed is shown to all after this time at the latest.
const PAPER_EVERY: Duration = Duration::from_secs(60);

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
            files: FileRequests::new(files),
            links: BTreeMap::new(),
            heard: BTreeMap::new(),
            participants: Participants::default(),
            disk: DiskAnswers::default(),
            posts: Posts::default(),
            complaints: Complaints::default(),
            allowances,
            next_paper: None,
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
                Input::Bridge(event) => self.bridge(event),
                Input::Stored(stored) => {
                    let now = clock::now();
                    self.node.handle_wall(clock::wall(), now);
                    self.node.handle_stored(stored, now);
                }
                Input::File(event) => self.files.handle_event(event, &mut self.node),
                Input::Request(request) => self.answer(request),
                Input::Seen(seen) => self.node.handle_discovered(seen.node, seen.addresses, clock::now()),
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

    fn poll_timeout(&self) -> Option<Instant> {
        self.node.poll_timeout().into_iter().chain(self.posts.poll_timeout()).min()
    }

    fn timeout(&mut self) {
        self.listen();
        let now = clock::now();
        self.node.handle_wall(clock::wall(), now);
        self.node.handle_timeout(now);
        self.posts.handle_timeout(now);
        if self.next_paper.is_none_or(|at| at <= now) {
            self.next_paper = Some(now + PAPER_EVERY);
            self.node.show_paper(now);
        }
        let Counters { logs, unknown, .. } = self.node.mesh_counters();
        let counted = [
            (DropReason::LogQuota, logs.log_quota),
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
}
