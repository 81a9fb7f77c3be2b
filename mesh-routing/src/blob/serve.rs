//! What neighbors ask of this relay: chunks, blocks of them, and who has a file.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{FileId, NodeId};

use super::{Blobs, Block, Event, FileOutput, Key, RoutingView};
use crate::{
    error::MeshError,
    wire::{
        file::{Answer, Chunk, FileMessage, HOPS_MAX},
        metric::LinkId,
    },
};

/// Chunks one neighbor may wait for.
const WANTS_MAX: usize = 64;
/// Blocks the driver reads for one neighbor at a time: a window of the smallest ones.
const READS_MAX: u32 = 256;
/// Seeks of one neighbor in a second.
const SEEKS_MAX: u32 = 32;
/// Questions remembered, so that each is passed on once.
const SEEN_MAX: usize = 1024;
const SEEN_FOR: Duration = Duration::from_secs(10);

/// Questions passed on a moment ago: file, asker, nonce.
#[derive(Debug, Default)]
pub(super) struct Seeks(BTreeMap<(FileId, NodeId, u32), Instant>);

impl Blobs {
    /// A neighbor wants a chunk: it is here, or is wanted for the neighbor from now on.
    ///
    /// # Errors
    ///
    /// [`MeshError::Full`] if too much is wanted already.
    pub fn handle_want(
        &mut self,
        link: LinkId,
        key: Key,
        holder: NodeId,
        path: Vec<NodeId>,
        own: NodeId,
        now: Instant,
    ) -> Result<(), MeshError> {
        let (file, chunk) = key;
        let known = self.files.get(&file);
        let here = known.filter(|known| known.has(chunk)).and_then(|known| known.length(chunk));
        if let Some(length) = here {
            self.send(link, FileMessage::Answer { file, chunk, answer: Answer::Ready { length } });
            return Ok(());
        }
        let outside = known.is_some_and(|known| known.manifest.is_some() && known.length(chunk).is_none());
        // Each of two relays that wait for each other finds out here.
        let circle =
            path.contains(&own) || self.pulls.get(&key).is_some_and(|pull| pull.link() == Some(link));
        let refuse = FileMessage::Answer { file, chunk, answer: Answer::NotHere };
        if outside || circle || holder == own || path.len() >= HOPS_MAX {
            self.send(link, refuse);
            return Ok(());
        }
        let waits = self.pulls.values().filter(|pull| pull.waiters.contains(&link)).count();
        if waits >= WANTS_MAX || !self.make_pull(key, now) {
            self.counters.refused += 1;
            self.send(link, refuse);
            return Err(MeshError::Full { what: "chunk that is waited for" });
        }
        if let Some(known) = self.files.get_mut(&file) {
            known.hold(holder, now);
        }
        if let Some(pull) = self.pulls.get_mut(&key) {
            pull.waiters.insert(link);
            pull.behind.extend(path);
        }
        self.restless = true;
        self.send(link, FileMessage::Answer { file, chunk, answer: Answer::Working });
        Ok(())
    }

    /// A neighbor asks for bytes of a chunk that is ready.
    ///
    /// # Errors
    ///
    /// [`MeshError::Absurd`] for a block outside of its chunk, [`MeshError::Full`] if too much is being read for the
    /// neighbor, [`MeshError::UnknownLink`] if the link is gone.
    pub fn handle_pull(&mut self, link: LinkId, block: Block) -> Result<(), MeshError> {
        let Block { file, chunk, offset, length } = block;
        let known = self.files.get(&file).filter(|known| known.has(chunk));
        let Some(whole) = known.and_then(|known| known.length(chunk)) else {
            self.send(link, FileMessage::Answer { file, chunk, answer: Answer::NotHere });
            return Ok(());
        };
        if offset.checked_add(length).is_none_or(|end| end > whole) {
            return Err(MeshError::Absurd { what: "a block outside of its chunk" });
        }
        let lane = self.lanes.get_mut(&link).ok_or(MeshError::UnknownLink)?;
        if lane.reads >= READS_MAX {
            self.counters.refused += 1;
            return Err(MeshError::Full { what: "block to read" });
        }
        lane.reads += 1;
        self.events.push_back(Event::Output(FileOutput::Read { link, block }));
        Ok(())
    }

    /// The driver read a block for a neighbor; `None` if it is not there.
    pub fn handle_read(&mut self, link: LinkId, block: Block, bytes: Option<Bytes>) {
        let Block { file, chunk, offset, .. } = block;
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.reads = lane.reads.saturating_sub(1);
            match bytes {
                Some(bytes) => {
                    self.counters.served_bytes += bytes.len() as u64;
                    self.send(link, FileMessage::Block { file, chunk, offset, bytes });
                }
                None => self.send(link, FileMessage::Answer { file, chunk, answer: Answer::NotHere }),
            }
        }
    }

    /// Somebody asks all relays who has a file.
    ///
    /// # Errors
    ///
    /// [`MeshError::Full`] if the neighbor brings too many or too many are remembered, [`MeshError::UnknownLink`] if
    /// the link is gone.
    pub fn handle_seek(
        &mut self,
        link: LinkId,
        file: FileId,
        (asker, nonce, hops): (NodeId, u32, u8),
        around: &mut RoutingView<'_>,
        now: Instant,
    ) -> Result<(), MeshError> {
        if asker == around.own || usize::from(hops) >= HOPS_MAX {
            return Ok(());
        }
        let lane = self.lanes.get_mut(&link).ok_or(MeshError::UnknownLink)?;
        let (since, count) = &mut lane.seeks;
        if since.is_none_or(|since| since + Duration::from_secs(1) <= now) {
            (*since, *count) = (Some(now), 0);
        }
        *count += 1;
        if *count > SEEKS_MAX {
            self.counters.refused += 1;
            return Err(MeshError::Full { what: "seek in this second" });
        }
        let seen = &mut self.seeks.0;
        seen.retain(|_, until| *until > now);
        if seen.contains_key(&(file, asker, nonce)) {
            return Ok(());
        }
        if seen.len() >= SEEN_MAX {
            self.counters.refused += 1;
            return Err(MeshError::Full { what: "seek to remember" });
        }
        seen.insert((file, asker, nonce), now + SEEN_FOR);
        let any = self.files.get(&file).is_some_and(|known| known.chunks.iter().any(|here| *here));
        let empty = self.manifest(&file).is_some_and(|manifest| manifest.length == 0);
        if any || empty {
            // Back the way it came: nobody asks who cannot be answered there.
            let have = FileMessage::Have { file, holder: around.own, asker, hops: 0 };
            self.toward(&asker, have, around);
        }
        self.events
            .push_back(Event::SendAll(Some(link), FileMessage::Seek { file, asker, nonce, hops: hops + 1 }));
        Ok(())
    }

    /// A relay has some of a file that was asked for, here or elsewhere.
    pub fn handle_have(
        &mut self,
        file: FileId,
        holder: NodeId,
        (asker, hops): (NodeId, u8),
        around: &mut RoutingView<'_>,
        now: Instant,
    ) {
        if asker != around.own {
            if usize::from(hops) < HOPS_MAX {
                let have = FileMessage::Have { file, holder, asker, hops: hops + 1 };
                self.toward(&asker, have, around);
            }
            return;
        }
        let wanted = (file, Chunk::Manifest)..=(file, Chunk::Data(u32::MAX));
        let mut any = false;
        for (_, pull) in self.pulls.range_mut(wanted) {
            any = true;
            pull.ask_again();
        }
        if let (true, Some(known)) = (any, self.files.get_mut(&file)) {
            known.hold(holder, now);
            self.restless = true;
        }
    }

    fn toward(&mut self, to: &NodeId, message: FileMessage, around: &mut RoutingView<'_>) {
        let next = (around.ways)(to).into_iter().min_by_key(|way| (way.cost, way.neighbor));
        let link = next.and_then(|way| around.links.iter().find(|open| open.neighbor == way.neighbor));
        if let Some(open) = link {
            self.send(open.link, message);
        }
    }
}
