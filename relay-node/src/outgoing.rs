//! A file on its way out, whichever way it goes, over HTTP (`api/files.rs`) or a data channel (`channels/files.rs`): its
//! chunks are asked for ahead, wherever they are, and read from disk as they come.

use std::collections::VecDeque;

use bytes::Bytes;
use mesh_routing::blob::{Block, Chunk, Manifest};
use protocol::FileId;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::{
    node::files::NoChunk,
    node_loop::request::{FileRequest, NodeRequest, RequestError, Requests},
    places::Held,
    storage::files::Files,
};

/// Chunks asked for before they are needed.
const AHEAD: usize = 8;
/// A chunk that was thrown away between its coming and its being read is fetched again so often.
const TRIES: usize = 3;

/// Why it does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OutgoingError {
    /// Nobody announced it.
    #[error("no room has such a file: its announcement may not have come here yet, try again later")]
    Unknown,
    /// Who has it cannot be reached.
    #[error("no relay that has this file can be reached: try again when the links are back")]
    Unreachable,
    /// Too much is asked for, or others need the place.
    #[error("too many files are on their way at this relay: try again in a few seconds")]
    Busy,
    /// The relay stops.
    #[error("this relay is stopping: try again in a few seconds")]
    Stopped,
    /// The node loop does not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Says that a chunk is on disk here, or why it will not be.
type Arrival = oneshot::Receiver<Result<(), NoChunk>>;

/// One file, or a range of it.
pub struct Outgoing {
    requests: Requests,
    files: Files,
    file: FileId,
    manifest: Manifest,
    /// The next byte.
    at: u64,
    /// The byte after the last.
    to: u64,
    /// Chunks that were asked for and are not read yet.
    asked: VecDeque<(u32, Option<Arrival>)>,
    /// The next chunk to ask for.
    next: u32,
    place: Held,
}

/// What a file is made of, once that is here.
///
/// # Errors
///
/// [`OutgoingError`]: nobody has it, or nobody answers.
pub async fn manifest_of(requests: &Requests, file: FileId) -> Result<Manifest, OutgoingError> {
    want(requests, file, Chunk::Manifest).await?;
    let manifest = requests.ask(|reply| NodeRequest::File(FileRequest::Manifest { file, reply })).await?;
    manifest.ok_or(OutgoingError::Unreachable)
}

impl Outgoing {
    /// The bytes of a file from one on, up to another.
    pub fn new(
        (requests, files): (Requests, Files),
        (file, manifest): (FileId, Manifest),
        (from, to): (u64, u64),
        place: Held,
    ) -> Outgoing {
        let next = (from >> manifest.chunk_bits) as u32;
        Outgoing { requests, files, file, manifest, at: from, to, asked: VecDeque::new(), next, place }
    }

    /// The next byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether all of it has gone.
    pub fn is_over(&self) -> bool {
        self.at >= self.to
    }

    /// The next bytes, at most so many, unless others need the place. Nothing is lost if this is dropped while it waits.
    ///
    /// # Errors
    ///
    /// As [`Outgoing::block`].
    pub async fn block_or_lost(&mut self, most: u32) -> Result<Bytes, OutgoingError> {
        let lost = self.place.notice();
        tokio::select! {
            block = self.block(most) => block,
            () = lost.notified() => Err(OutgoingError::Busy),
        }
    }

    /// The next bytes, at most so many, once they are here.
    ///
    /// # Errors
    ///
    /// [`OutgoingError`]: they do not come.
    pub async fn block(&mut self, most: u32) -> Result<Bytes, OutgoingError> {
        let number = (self.at >> self.manifest.chunk_bits) as u32;
        while self.asked.front().is_some_and(|(asked, _)| *asked < number) {
            self.asked.pop_front();
        }
        let last = ((self.to - 1) >> self.manifest.chunk_bits) as u32;
        while self.asked.len() < AHEAD && self.next <= last {
            let answer = ask_for(&self.requests, self.file, Chunk::Data(self.next)).await;
            self.asked.push_back((self.next, Some(answer)));
            self.next += 1;
        }
        if let Some((_, answer)) = self.asked.front_mut()
            && let Some(answer) = answer.take()
        {
            answered(answer).await?;
        }
        let start = u64::from(number) << self.manifest.chunk_bits;
        let end = (start + u64::from(self.manifest.chunk_length(number))).min(self.to);
        let length = (end - self.at).min(most.into()) as u32;
        let offset = (self.at - start) as u32;
        let block = Block { file: self.file, chunk: Chunk::Data(number), offset, length };
        for _ in 0..TRIES {
            if let Some(bytes) = self.files.read(block).await {
                self.at += bytes.len() as u64;
                self.place.progress();
                return Ok(bytes);
            }
            want(&self.requests, self.file, Chunk::Data(number)).await?;
        }
        Err(OutgoingError::Unreachable)
    }
}

async fn ask_for(requests: &Requests, file: FileId, chunk: Chunk) -> Arrival {
    let (reply, answer) = oneshot::channel();
    // Not `ask`: the mesh may take longer than the node loop does.
    requests.tell(NodeRequest::File(FileRequest::Want { file, chunk, reply })).await;
    answer
}

async fn answered(answer: Arrival) -> Result<(), OutgoingError> {
    match answer.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(NoChunk::Unknown)) => Err(OutgoingError::Unknown),
        Ok(Err(NoChunk::Missing)) => Err(OutgoingError::Unreachable),
        Ok(Err(NoChunk::Busy)) => Err(OutgoingError::Busy),
        Err(_) => Err(OutgoingError::Stopped),
    }
}

async fn want(requests: &Requests, file: FileId, chunk: Chunk) -> Result<(), OutgoingError> {
    answered(ask_for(requests, file, chunk).await).await
}
