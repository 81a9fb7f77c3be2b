//! The life of a chunk that is not here: who wants it, which neighbor was asked, coming block by block, verified, given
//! to the disk, or not to be had. Over which link it is asked for, and how fast, is in `lane`; what neighbors ask of
//! this relay is in `serve`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use protocol::{FileId, NodeId};

use super::{Blobs, Event, FILES_MAX, FileOutput, Key, Manifest, PULLS_MAX, RoutingView};
use crate::{
    error::MeshError,
    wire::{
        file::{Answer, Chunk, FileMessage, HOPS_MAX},
        manifest::id_of,
        metric::LinkId,
    },
};

/// Without a byte of it for so long a chunk is missing.
const PATIENCE: Duration = Duration::from_secs(20);
/// A neighbor that says nothing for so long is not asked any longer.
const ANSWER_IN: Duration = Duration::from_secs(4);
/// A chunk whose blocks stop coming for so long is asked elsewhere.
const BLOCK_IN: Duration = Duration::from_secs(4);
/// A neighbor that did not give a chunk is asked for it again after this.
const AGAIN: Duration = Duration::from_secs(3);
/// Who waits is told so this often.
const WORKING_EVERY: Duration = Duration::from_secs(1);
/// Everybody is asked who has a file this often.
const SEEK_EVERY: Duration = Duration::from_secs(5);

/// A chunk that is wanted.
#[derive(Debug)]
pub(super) struct Pull {
    /// First wanted, first asked for.
    pub order: u64,
    /// Somebody here waits for it.
    local: bool,
    /// Neighbors that wait for it.
    pub waiters: BTreeSet<LinkId>,
    /// Relays that wait for those: to ask them would be a circle.
    pub behind: BTreeSet<NodeId>,
    deadline: Instant,
    /// Neighbors that did not have it, and when they may be asked again.
    failed: BTreeMap<LinkId, Instant>,
    told: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Asked { link: LinkId, until: Instant },
    Coming { link: LinkId, length: u32, asked: u32, buffer: BytesMut, until: Instant },
    Storing(Bytes),
}

impl Pull {
    /// Asked of nobody.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Over which it is asked for.
    pub fn link(&self) -> Option<LinkId> {
        match &self.stage {
            Stage::Asked { link, .. } | Stage::Coming { link, .. } => Some(*link),
            Stage::Idle | Stage::Storing(_) => None,
        }
    }

    /// Somebody here waits for it, from now on.
    pub fn want_here(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.local, true) {
            self.deadline = now + PATIENCE;
        }
    }

    /// Whether a neighbor may be asked for it.
    pub fn may_ask(&self, link: &LinkId, neighbor: &NodeId) -> bool {
        !self.failed.contains_key(link) && !self.behind.contains(neighbor)
    }

    /// It is asked of a neighbor: which relays wait for it, the own one last.
    pub fn handle_asked(&mut self, link: LinkId, own: NodeId, now: Instant) -> Vec<NodeId> {
        self.stage = Stage::Asked { link, until: now + ANSWER_IN };
        let mut path: Vec<NodeId> = self.behind.iter().copied().take(HOPS_MAX - 1).collect();
        path.push(own);
        path
    }

    /// Bytes of it that a neighbor has ready and that are not asked for yet.
    pub fn left(&self) -> u32 {
        match &self.stage {
            Stage::Coming { length, asked, .. } => length - asked,
            _ => 0,
        }
    }

    /// So many more of them are asked for: from which on.
    pub fn handle_pulled(&mut self, more: u32) -> u32 {
        match &mut self.stage {
            Stage::Coming { asked, .. } => std::mem::replace(asked, *asked + more),
            _ => 0,
        }
    }

    /// Somebody has it: neighbors that did not may have it, or a way to it, now.
    pub fn ask_again(&mut self) {
        self.failed.clear();
    }

    /// The neighbor did not give it.
    pub fn fail(&mut self, link: LinkId, now: Instant) {
        self.failed.insert(link, now + AGAIN);
        self.stage = Stage::Idle;
    }
}

impl Blobs {
    /// Somebody here wants a chunk. Ready or missing follows.
    pub fn handle_want_here(&mut self, key: Key, holder: Option<NodeId>, now: Instant) {
        let (file, chunk) = key;
        if self.files.get(&file).is_some_and(|known| known.has(chunk)) {
            self.events.push_back(Event::Output(FileOutput::Ready { file, chunk }));
            return;
        }
        if !self.make_pull(key, now) {
            self.counters.refused += 1;
            self.events.push_back(Event::Output(FileOutput::Missing { file, chunk }));
            return;
        }
        if let (Some(holder), Some(known)) = (holder, self.files.get_mut(&file)) {
            known.hold(holder, now);
        }
        if let Some(pull) = self.pulls.get_mut(&key) {
            pull.want_here(now);
        }
        self.restless = true;
    }

    /// A place for a chunk that is wanted; `false` if there is none.
    pub(super) fn make_pull(&mut self, key: Key, now: Instant) -> bool {
        if self.pulls.contains_key(&key) {
            return true;
        }
        let room = self.files.len() < FILES_MAX || self.files.contains_key(&key.0);
        if self.pulls.len() >= PULLS_MAX || !room {
            return false;
        }
        self.files.entry(key.0).or_default();
        self.order += 1;
        let pull = Pull {
            order: self.order,
            local: false,
            waiters: BTreeSet::new(),
            behind: BTreeSet::new(),
            deadline: now + PATIENCE,
            failed: BTreeMap::new(),
            told: now,
            stage: Stage::Idle,
        };
        self.pulls.insert(key, pull);
        true
    }

    /// What a neighbor has to say to a want of this relay.
    pub fn handle_answer(
        &mut self,
        (link, neighbor): (LinkId, NodeId),
        key: Key,
        answer: Answer,
        now: Instant,
    ) {
        // It may have said that it has the file, and have only a part of it: asked as a holder it would refuse for ever
        // what it would fetch from another one.
        if let (Answer::NotHere, Some(known)) = (&answer, self.files.get_mut(&key.0)) {
            known.holders.remove(&neighbor);
        }
        let expected = self.files.get(&key.0).and_then(|file| file.length(key.1));
        let Some(pull) = self.pulls.get_mut(&key).filter(|pull| pull.link() == Some(link)) else { return };
        match (answer, &mut pull.stage) {
            (Answer::Working, Stage::Asked { until, .. }) => *until = now + ANSWER_IN,
            (Answer::Ready { length }, Stage::Asked { .. }) if expected.is_none_or(|e| e == length) => {
                let (buffer, until) = (BytesMut::new(), now + BLOCK_IN);
                pull.stage = Stage::Coming { link, length, asked: 0, buffer, until };
                self.restless = true;
            }
            (Answer::NotHere | Answer::Ready { .. }, Stage::Asked { .. })
            | (Answer::NotHere, Stage::Coming { .. }) => self.elsewhere(key, link, now),
            _ => {}
        }
    }

    /// Bytes that were pulled. What is not expected any more is passed over.
    ///
    /// # Errors
    ///
    /// [`MeshError::Absurd`] for a block that was not pulled so, or if the chunk is not what its hash says.
    pub fn handle_block(
        &mut self,
        link: LinkId,
        key: Key,
        offset: u32,
        bytes: Bytes,
        now: Instant,
    ) -> Result<(), MeshError> {
        let Some(lane) = self.lanes.get_mut(&link) else { return Ok(()) };
        let Some(asked) = lane.handle_block(&key, offset, now) else { return Ok(()) };
        self.flowing = true;
        let Some(pull) = self.pulls.get_mut(&key) else { return Ok(()) };
        let Stage::Coming { length, buffer, until, .. } = &mut pull.stage else { return Ok(()) };
        if buffer.len() != offset as usize || bytes.len() != asked as usize {
            self.elsewhere(key, link, now);
            return Err(MeshError::Absurd { what: "a block other than the one pulled" });
        }
        buffer.extend_from_slice(&bytes);
        *until = now + BLOCK_IN;
        pull.deadline = now + PATIENCE;
        if buffer.len() < *length as usize {
            return Ok(());
        }
        let whole = std::mem::take(buffer).freeze();
        let (file, chunk) = key;
        let good = match (chunk, self.files.get(&file).and_then(|known| known.manifest.as_ref())) {
            (Chunk::Manifest, _) => id_of(&whole) == file,
            (Chunk::Data(number), Some(manifest)) => manifest.verifies(number, &whole),
            (Chunk::Data(_), None) => false,
        };
        if !good {
            self.counters.corrupt += 1;
            self.elsewhere(key, link, now);
            return Err(MeshError::Absurd { what: "a chunk of a file that is not what its hash says" });
        }
        if chunk == Chunk::Manifest && Manifest::decode(&whole).is_none() {
            // The neighbor is right and the file is wrong: nobody can give a better one.
            self.give_up(key);
            return Ok(());
        }
        self.restless = true;
        self.counters.fetched += 1;
        self.counters.fetched_bytes += whole.len() as u64;
        if let Some(pull) = self.pulls.get_mut(&key) {
            pull.stage = Stage::Storing(whole.clone());
        }
        self.events.push_back(Event::Output(FileOutput::Store { file, chunk, bytes: whole }));
        Ok(())
    }

    /// The driver has kept a chunk, or could not.
    pub fn handle_stored(&mut self, key: Key, kept: bool, now: Instant) {
        let (file, chunk) = key;
        let Some(pull) = self.pulls.remove(&key) else { return };
        let Stage::Storing(bytes) = &pull.stage else {
            self.pulls.insert(key, pull);
            return;
        };
        self.restless = true;
        let known = self.files.entry(file).or_default();
        match (kept, chunk) {
            (true, Chunk::Manifest) => {
                known.manifest_length = bytes.len() as u32;
                known.manifest = Manifest::decode(bytes);
                let chunks = known.manifest.as_ref().map_or(0, |manifest| manifest.chunks.len());
                known.chunks = vec![false; chunks];
                // Those who asked for a chunk before anybody knew how many there are.
                let absurd: Vec<Key> = self
                    .pulls
                    .keys()
                    .filter(|(f, chunk)| {
                        *f == file && matches!(chunk, Chunk::Data(number) if *number as usize >= chunks)
                    })
                    .copied()
                    .collect();
                for key in absurd {
                    self.give_up(key);
                }
            }
            (true, Chunk::Data(number)) => {
                if let Some(here) = known.chunks.get_mut(number as usize) {
                    *here = true;
                }
            }
            (false, _) => {
                self.pulls.insert(key, pull);
                self.give_up(key);
                return;
            }
        }
        let length = bytes.len() as u32;
        for link in pull.waiters {
            self.send(link, FileMessage::Answer { file, chunk, answer: Answer::Ready { length } });
        }
        if pull.local {
            self.events.push_back(Event::Output(FileOutput::Ready { file, chunk }));
        }
        // Time that a chunk spent waiting for the manifest was nobody's fault.
        if chunk == Chunk::Manifest {
            for (_, pull) in self.pulls.range_mut((file, Chunk::Data(0))..=(file, Chunk::Data(u32::MAX))) {
                pull.deadline = pull.deadline.max(now + PATIENCE);
            }
        }
    }

    /// Looks for chunks that nothing is heard of.
    pub(super) fn look_after(&mut self, now: Instant) {
        let mut late = Vec::new();
        let mut over = Vec::new();
        let mut waiting = Vec::new();
        for (key, pull) in &mut self.pulls {
            pull.failed.retain(|_, until| *until > now);
            match &pull.stage {
                Stage::Storing(_) => continue,
                Stage::Asked { link, until } | Stage::Coming { link, until, .. } if *until <= now => {
                    late.push((*key, *link));
                }
                _ => {}
            }
            if pull.deadline <= now {
                over.push(*key);
            } else if pull.told + WORKING_EVERY <= now {
                pull.told = now;
                waiting.extend(pull.waiters.iter().map(|link| (*link, *key)));
            }
        }
        for (key, link) in late {
            self.elsewhere(key, link, now);
        }
        for key in over {
            self.give_up(key);
        }
        for (link, (file, chunk)) in waiting {
            self.send(link, FileMessage::Answer { file, chunk, answer: Answer::Working });
        }
        for known in self.files.values_mut() {
            known.holders.retain(|_, until| *until > now);
        }
    }

    /// The chunk is not to be had: whoever waits is told.
    fn give_up(&mut self, key: Key) {
        let Some(pull) = self.pulls.remove(&key) else { return };
        let (file, chunk) = key;
        if let Some(lane) = pull.link().and_then(|link| self.lanes.get_mut(&link)) {
            lane.forget(&key);
        }
        for link in pull.waiters {
            self.send(link, FileMessage::Answer { file, chunk, answer: Answer::NotHere });
        }
        if pull.local {
            self.events.push_back(Event::Output(FileOutput::Missing { file, chunk }));
        }
        // Chunks cannot be verified without a manifest.
        if chunk == Chunk::Manifest {
            let chunks = (file, Chunk::Data(0))..=(file, Chunk::Data(u32::MAX));
            let chunks: Vec<Key> = self.pulls.range(chunks).map(|(key, _)| *key).collect();
            for key in chunks {
                self.give_up(key);
            }
        }
        self.tidy(&file);
    }

    fn elsewhere(&mut self, key: Key, link: LinkId, now: Instant) {
        self.counters.elsewhere += 1;
        self.restless = true;
        if let Some(pull) = self.pulls.get_mut(&key) {
            pull.fail(link, now);
        }
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.forget(&key);
        }
    }

    /// Nobody is left to be asked for a chunk. Who waits at a neighbor asks another one; who waits here has
    /// only us, so everybody is asked who has the file.
    pub(super) fn nowhere(&mut self, key: Key, around: &RoutingView<'_>, now: Instant) {
        let Some(pull) = self.pulls.get_mut(&key) else { return };
        let (file, chunk) = key;
        let waiters = std::mem::take(&mut pull.waiters);
        pull.behind.clear();
        let internal = chunk == Chunk::Manifest
            && self
                .pulls
                .range((file, Chunk::Data(0))..=(file, Chunk::Data(u32::MAX)))
                .any(|(_, chunk)| chunk.local);
        let local = internal || self.pulls.get(&key).is_some_and(|pull| pull.local);
        for link in waiters {
            self.send(link, FileMessage::Answer { file, chunk, answer: Answer::NotHere });
        }
        if !local {
            self.give_up(key);
            return;
        }
        let Some(known) = self.files.get_mut(&file) else { return };
        if known.seek_at.is_none_or(|at| at <= now) && !around.links.is_empty() {
            known.seek_at = Some(now + SEEK_EVERY);
            self.nonce = self.nonce.wrapping_add(1);
            let seek = FileMessage::Seek { file, asker: around.own, nonce: self.nonce, hops: 0 };
            self.events.push_back(Event::SendAll(None, seek));
        }
    }

    /// A chunk cannot be verified before the manifest is here: it is wanted for the same neighbors.
    pub(super) fn want_manifests(&mut self, now: Instant) {
        let without: BTreeMap<FileId, BTreeSet<NodeId>> = self
            .pulls
            .iter()
            .filter(|((file, chunk), _)| *chunk != Chunk::Manifest && self.manifest(file).is_none())
            .map(|((file, _), pull)| (*file, pull.behind.clone()))
            .collect();
        for (file, behind) in without {
            let key = (file, Chunk::Manifest);
            if !self.pulls.contains_key(&key)
                && self.make_pull(key, now)
                && let Some(pull) = self.pulls.get_mut(&key)
            {
                pull.behind = behind;
            }
        }
    }
}
