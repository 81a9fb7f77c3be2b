//! What neighbors ask of this relay: parts, pieces of them, and who has a file.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{FileId, NodeId};

use super::{Blobs, Event, FileOutput, Key, Piece, RoutingView};
use crate::{
    error::MeshError,
    wire::{
        file::{Answer, FileMessage, HOPS_MAX, Part},
        metric::LinkId,
    },
};

/// Parts one neighbor may wait for.
const WANTS_MAX: usize = 64;
/// Pieces the driver reads for one neighbor at a time: a window of the smallest ones.
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
    /// A neighbor wants a part: it is here, or is wanted for the neighbor from now on.
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
        let (file, part) = key;
        let known = self.files.get(&file);
        let here = known.filter(|known| known.has(part)).and_then(|known| known.length(part));
        if let Some(length) = here {
            self.send(link, FileMessage::Answer { file, part, answer: Answer::Ready { length } });
            return Ok(());
        }
        let outside = known.is_some_and(|known| known.manifest.is_some() && known.length(part).is_none());
        // Each of two relays that wait for each other finds out here.
        let circle =
            path.contains(&own) || self.pulls.get(&key).is_some_and(|pull| pull.link() == Some(link));
        let refuse = FileMessage::Answer { file, part, answer: Answer::NotHere };
        if outside || circle || holder == own || path.len() >= HOPS_MAX {
            self.send(link, refuse);
            return Ok(());
        }
        let waits = self.pulls.values().filter(|pull| pull.waiters.contains(&link)).count();
        if waits >= WANTS_MAX || !self.make_pull(key, now) {
            self.counters.refused += 1;
            self.send(link, refuse);
            return Err(MeshError::Full { what: "part that is waited for" });
        }
        if let Some(known) = self.files.get_mut(&file) {
            known.hold(holder, now);
        }
        if let Some(pull) = self.pulls.get_mut(&key) {
            pull.waiters.insert(link);
            pull.behind.extend(path);
        }
        self.restless = true;
        self.send(link, FileMessage::Answer { file, part, answer: Answer::Working });
        Ok(())
    }

    /// A neighbor asks for bytes of a part that is ready.
    ///
    /// # Errors
    ///
    /// [`MeshError::Absurd`] for a piece outside of its part, [`MeshError::Full`] if too much is being read for the
    /// neighbor, [`MeshError::UnknownLink`] if the link is gone.
    pub fn handle_pull(&mut self, link: LinkId, piece: Piece) -> Result<(), MeshError> {
        let Piece { file, part, offset, length } = piece;
        let known = self.files.get(&file).filter(|known| known.has(part));
        let Some(whole) = known.and_then(|known| known.length(part)) else {
            self.send(link, FileMessage::Answer { file, part, answer: Answer::NotHere });
            return Ok(());
        };
        if offset.checked_add(length).is_none_or(|end| end > whole) {
            return Err(MeshError::Absurd { what: "a piece outside of its part" });
        }
        let lane = self.lanes.get_mut(&link).ok_or(MeshError::UnknownLink)?;
        if lane.reads >= READS_MAX {
            self.counters.refused += 1;
            return Err(MeshError::Full { what: "piece to read" });
        }
        lane.reads += 1;
        self.events.push_back(Event::Output(FileOutput::Read { link, piece }));
        Ok(())
    }

    /// The driver read a piece for a neighbor; `None` if it is not there.
    pub fn handle_read(&mut self, link: LinkId, piece: Piece, bytes: Option<Bytes>) {
        let Piece { file, part, offset, .. } = piece;
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.reads = lane.reads.saturating_sub(1);
            match bytes {
                Some(bytes) => {
                    self.counters.served_bytes += bytes.len() as u64;
                    self.send(link, FileMessage::Piece { file, part, offset, bytes });
                }
                None => self.send(link, FileMessage::Answer { file, part, answer: Answer::NotHere }),
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
        let wanted = (file, Part::Manifest)..=(file, Part::Chunk(u32::MAX));
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
