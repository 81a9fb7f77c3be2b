//! Files: which chunks of which are here, which are being fetched for whom and from where.
//!
//! A chunk (1 MiB of a file, or its manifest) is fetched whole from one neighbor, verified, given to the driver's
//! disk and only then passed on. How a chunk is fetched is in `pull`, over which link and how fast in `lane`, what
//! neighbors get in `serve`: their doors are called by `mesh/files.rs`, and none of them passes through here. Disk,
//! HTTP and the eviction of what is not wanted any more are the driver's.

mod lane;
mod pull;
mod serve;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{FileId, NodeId};

pub use crate::wire::{
    file::{Answer, Chunk, FileMessage},
    manifest::{self, MANIFEST_MAX, Manifest},
};

use crate::wire::metric::LinkId;
use lane::Lane;
use pull::Pull;
use serve::Seeks;

/// Files known here at a time: with something of them here, or wanted.
pub const FILES_MAX: usize = 4096;
/// Chunks being fetched or waited for at a time.
pub const PULLS_MAX: usize = 1024;
/// Relays remembered for one file.
const HOLDERS_MAX: usize = 8;
/// How long somebody's word is believed that a relay has a file.
const HOLDER_FOR: Duration = Duration::from_secs(60);

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOutput {
    /// Keep a chunk that was verified; the answer is [`crate::Mesh::handle_file_stored`].
    Store {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// All of it.
        bytes: Bytes,
    },
    /// Read a block for a neighbor; the answer is [`crate::Mesh::handle_file_read`].
    Read {
        /// The neighbor's link.
        link: LinkId,
        /// Which block.
        block: Block,
    },
    /// A chunk that was asked for here is on disk.
    Ready {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
    },
    /// A chunk that was asked for here was not to be had in 20 s.
    Missing {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
    },
}

/// Some bytes of a chunk: what is asked for and comes in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The file.
    pub file: FileId,
    /// The chunk.
    pub chunk: Chunk,
    /// The first byte.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileCounters {
    /// Chunks fetched and verified.
    pub fetched: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Bytes given to neighbors.
    pub served_bytes: u64,
    /// Chunks that were not what their hash says.
    pub corrupt: u64,
    /// Chunks asked of another neighbor, because one did not have them or did not answer.
    pub elsewhere: u64,
    /// Wants, pulls and seeks that found a table full.
    pub refused: u64,
}

/// A neighbor on the way to a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub neighbor: NodeId,
    /// Of the whole way from here.
    pub cost: u32,
    /// Of the way from the neighbor on.
    pub beyond: u32,
}

/// A link that is up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    pub link: LinkId,
    pub neighbor: NodeId,
    /// Its bytes are paid for.
    pub metered: bool,
}

/// What files may look at.
pub(crate) struct RoutingView<'a> {
    pub own: NodeId,
    /// Links that are up.
    pub links: Vec<Open>,
    /// The neighbors on ways to a relay that do not lead through here.
    pub ways: &'a mut dyn FnMut(&NodeId) -> Vec<Way>,
}

/// What has to be done next.
#[derive(Debug)]
pub(crate) enum Event {
    Send(LinkId, FileMessage),
    /// To every neighbor but the one at this link.
    SendAll(Option<LinkId>, FileMessage),
    Output(FileOutput),
}

type Key = (FileId, Chunk);

/// A file of which something is here, or wanted.
#[derive(Debug, Default)]
struct File {
    manifest: Option<Manifest>,
    /// Of the encoded manifest; 0 while it is not here.
    manifest_length: u32,
    /// Whether each chunk is here.
    chunks: Vec<bool>,
    /// Who should have it, until when that is believed.
    holders: BTreeMap<NodeId, Instant>,
    /// When everybody may be asked again.
    seek_at: Option<Instant>,
}

impl File {
    fn has(&self, chunk: Chunk) -> bool {
        match chunk {
            Chunk::Manifest => self.manifest.is_some(),
            Chunk::Data(number) => self.chunks.get(number as usize).copied().unwrap_or_default(),
        }
    }

    /// Bytes of a chunk, as far as that is known.
    fn length(&self, chunk: Chunk) -> Option<u32> {
        match (chunk, &self.manifest) {
            (_, None) => None,
            (Chunk::Manifest, _) => Some(self.manifest_length),
            (Chunk::Data(number), Some(manifest)) => Some(manifest.chunk_length(number)).filter(|l| *l > 0),
        }
    }

    fn hold(&mut self, holder: NodeId, now: Instant) {
        if self.holders.len() >= HOLDERS_MAX && !self.holders.contains_key(&holder) {
            let oldest = self.holders.iter().min_by_key(|(_, until)| **until).map(|(id, _)| *id);
            oldest.map(|id| self.holders.remove(&id));
        }
        self.holders.insert(holder, now + HOLDER_FOR);
    }
}

/// All files of a relay: the doors are in `pull` (a chunk that is not here), `serve` (what neighbors ask for) and `lane`
/// (links, [`Blobs::settle`]).
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    files: BTreeMap<FileId, File>,
    pulls: BTreeMap<Key, Pull>,
    lanes: BTreeMap<LinkId, Lane>,
    seeks: Seeks,
    order: u64,
    nonce: u32,
    tick: Option<Instant>,
    /// Something changed that chunks wait for.
    restless: bool,
    /// Blocks came: others can be asked for.
    flowing: bool,
    events: VecDeque<Event>,
    pub counters: FileCounters,
}

impl Blobs {
    /// A file that is on disk, with the chunks of it that are. `false` if there is no room for it.
    pub fn restore(&mut self, file: FileId, manifest: Manifest, here: &[bool]) -> bool {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(&file) {
            return false;
        }
        let known = self.files.entry(file).or_default();
        known.manifest_length = manifest.encode().len() as u32;
        known.chunks = (0..manifest.chunks.len()).map(|i| here.get(i).copied().unwrap_or_default()).collect();
        known.manifest = Some(manifest);
        true
    }

    /// Chunks are not on disk any more: one of them, or all.
    pub fn handle_gone(&mut self, file: FileId, chunk: Option<Chunk>) {
        let Some(known) = self.files.get_mut(&file) else { return };
        match chunk {
            Some(Chunk::Data(number)) => {
                if let Some(here) = known.chunks.get_mut(number as usize) {
                    *here = false;
                }
            }
            Some(Chunk::Manifest) | None => (known.manifest, known.chunks) = (None, Vec::new()),
        }
        self.tidy(&file);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tick
    }

    /// Whether [`Blobs::settle`] has nothing to do.
    pub fn rest(&self, now: Instant) -> bool {
        !self.restless && !self.flowing && self.events.is_empty() && self.tick.is_none_or(|tick| tick > now)
    }

    /// The file's manifest, if it is here.
    pub fn manifest(&self, file: &FileId) -> Option<&Manifest> {
        self.files.get(file)?.manifest.as_ref()
    }

    /// Bytes of the file that are here.
    pub fn here(&self, file: &FileId) -> u64 {
        let Some(known) = self.files.get(file) else { return 0 };
        let Some(manifest) = &known.manifest else { return 0 };
        let here = (0u32..).zip(&known.chunks).filter(|(_, here)| **here);
        here.map(|(number, _)| u64::from(manifest.chunk_length(number))).sum()
    }

    fn send(&mut self, link: LinkId, message: FileMessage) {
        self.events.push_back(Event::Send(link, message));
    }

    /// Forgets a file of which nothing is here and nothing is wanted.
    fn tidy(&mut self, file: &FileId) {
        let wanted =
            self.pulls.range((*file, Chunk::Manifest)..).next().is_some_and(|(key, _)| key.0 == *file);
        if !wanted && self.files.get(file).is_some_and(|known| known.manifest.is_none()) {
            self.files.remove(file);
        }
    }
}
