//! Files that rooms share, between what the rooms say of them and what the mesh fetches, and who at this relay waits
//! for which chunk. Without I/O but the replies; the files on disk are in `storage/files/`.

use std::{collections::BTreeMap, time::Instant};

use mesh_routing::blob::{Chunk, FileOutput, Manifest};
use protocol::{FileId, RoomName, api};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{Effect, Node};
use crate::storage::files::FileEvent;

/// Requests that may wait for chunks.
const WAITING_MAX: usize = 4096;

/// Why a chunk does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoChunk {
    /// No room announced such a file, and nothing of it is here.
    #[error("no such file")]
    Unknown,
    /// Nobody who has it could be reached.
    #[error("nobody who has the file can be reached")]
    Missing,
    /// Too many wait already.
    #[error("too many wait for files")]
    Busy,
}

/// Where the answer goes.
pub type Reply = oneshot::Sender<Result<(), NoChunk>>;

/// Who waits for which chunk of a file.
#[derive(Debug, Default)]
pub(super) struct Wants {
    replies: BTreeMap<(FileId, Chunk), Vec<Reply>>,
    count: usize,
}

impl Wants {
    /// Somebody waits for a chunk; `false` if too many do, and then this one is answered.
    fn handle_want(&mut self, file: FileId, chunk: Chunk, reply: Reply) -> bool {
        self.forget_gone();
        if self.count >= WAITING_MAX {
            let _ = reply.send(Err(NoChunk::Busy));
            return false;
        }
        self.count += 1;
        self.replies.entry((file, chunk)).or_default().push(reply);
        true
    }

    /// The chunk is here, or cannot be.
    fn answer(&mut self, file: FileId, chunk: Chunk, answer: Result<(), NoChunk>) {
        for reply in self.replies.remove(&(file, chunk)).unwrap_or_default() {
            self.count -= 1;
            // The client may have gone.
            let _ = reply.send(answer);
        }
    }

    /// Clients that went away make room for others.
    fn forget_gone(&mut self) {
        if self.count >= WAITING_MAX {
            for replies in self.replies.values_mut() {
                replies.retain(|reply| !reply.is_closed());
            }
            self.replies.retain(|_, replies| !replies.is_empty());
            self.count = self.replies.values().map(Vec::len).sum();
        }
    }
}

impl Node {
    /// The files of a room, in display order, and how much of each is here.
    pub fn files(&self, room: &RoomName) -> Vec<api::SharedFile> {
        let shown = self.rooms.files(room).into_iter().map(|(file, mut shown)| {
            shown.here = self.mesh.file_bytes_here(&file);
            shown
        });
        shown.collect()
    }

    /// What a file is made of, if that is known here.
    pub fn file_manifest(&self, file: &FileId) -> Option<&Manifest> {
        self.mesh.file_manifest(file)
    }

    /// Whether a room announced such a file.
    pub fn is_announced(&self, file: &FileId) -> bool {
        self.rooms.file_origin(file).is_some()
    }

    /// A chunk is needed here: answered once it is, or cannot be.
    pub fn handle_file_want(&mut self, file: FileId, chunk: Chunk, reply: Reply, now: Instant) {
        if !self.is_announced(&file) && self.file_manifest(&file).is_none() {
            // Whoever makes up hashes costs the mesh nothing.
            let _ = reply.send(Err(NoChunk::Unknown));
        } else if self.wants.handle_want(file, chunk, reply) {
            let holder = self.rooms.file_origin(&file).filter(|origin| *origin != self.id);
            self.mesh.handle_file_want(file, chunk, holder, now);
        }
    }

    /// These chunks of a file are on disk here; `false` if there is no room for it.
    pub fn handle_file_here(&mut self, file: FileId, manifest: Manifest, chunks: &[bool]) -> bool {
        self.mesh.handle_file_here(file, manifest, chunks)
    }

    /// What the disk has done, or refuses to do.
    pub fn handle_file_event(&mut self, event: FileEvent, now: Instant) {
        match event {
            FileEvent::Stored { file, chunk, kept } => self.mesh.handle_file_stored(file, chunk, kept, now),
            FileEvent::Read { link, block, bytes } => self.mesh.handle_file_read(link, block, bytes, now),
            FileEvent::Gone { file, chunk } => self.mesh.handle_file_gone(file, chunk, now),
        }
    }

    /// What the mesh wants of the disk is an effect, what it tells those who wait is not.
    pub(super) fn take_file(&mut self, output: FileOutput) -> Option<Effect> {
        match output {
            FileOutput::Store { file, chunk, bytes } => {
                return Some(Effect::StoreChunk { file, chunk, bytes });
            }
            FileOutput::Read { link, block } => return Some(Effect::ReadBlock { link, block }),
            FileOutput::Ready { file, chunk } => self.wants.answer(file, chunk, Ok(())),
            FileOutput::Missing { file, chunk } => self.wants.answer(file, chunk, Err(NoChunk::Missing)),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId([1; 32]);

    type Answer = oneshot::Receiver<Result<(), NoChunk>>;

    fn want(wants: &mut Wants, chunk: Chunk) -> (bool, Answer) {
        let (reply, answer) = oneshot::channel();
        (wants.handle_want(FILE, chunk, reply), answer)
    }

    #[test]
    fn all_who_wait_for_a_part_are_answered_and_nobody_else() {
        let mut wants = Wants::default();
        let [mut one, mut two] = [(); 2].map(|()| want(&mut wants, Chunk::Data(1)).1);
        let mut other = want(&mut wants, Chunk::Manifest).1;
        wants.answer(FILE, Chunk::Data(1), Ok(()));
        assert_eq!([one.try_recv(), two.try_recv()], [Ok(Ok(())), Ok(Ok(()))]);
        assert!(other.try_recv().is_err());
        wants.answer(FILE, Chunk::Manifest, Err(NoChunk::Missing));
        assert_eq!((other.try_recv(), wants.count), (Ok(Err(NoChunk::Missing)), 0));
    }

    #[test]
    fn clients_that_went_make_room_and_those_that_wait_do_not() {
        let mut wants = Wants::default();
        let mut waiting: Vec<Answer> =
            (0..WAITING_MAX).map(|_| want(&mut wants, Chunk::Manifest).1).collect();
        let (taken, mut answer) = want(&mut wants, Chunk::Data(0));
        assert_eq!((taken, answer.try_recv()), (false, Ok(Err(NoChunk::Busy))));
        waiting.truncate(WAITING_MAX - 2);
        let last = [(); 2].map(|()| want(&mut wants, Chunk::Data(0)));
        assert_eq!(last.each_ref().map(|(taken, _)| *taken), [true; 2]);
        assert!(!want(&mut wants, Chunk::Data(0)).0);
        assert_eq!(wants.count, WAITING_MAX);
    }
}
