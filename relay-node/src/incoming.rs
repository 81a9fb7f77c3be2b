//! A file on its way in, whichever way it comes, over HTTP (`api/uploads.rs`) or a data channel (`channels/files.rs`): put
//! together to chunks, to disk chunk by chunk, and announced in its room when it is whole. What is on disk stays there when
//! the way breaks; less than a chunk has to be sent again.

use bytes::Bytes;
use mesh_routing::blob::{Manifest, manifest::CHUNK_BITS};
use protocol::{FileId, RoomName, UploadId, api::Posted};
use rooms::NewFile;
use thiserror::Error;

use crate::{
    node::posts::PostError,
    node_loop::request::{FileRequest, NodeRequest, REPLY_TIMEOUT, RequestError, Requests},
    storage::files::{
        Files, Given,
        upload::{About, Reached, UploadError},
    },
};

/// Bytes of a chunk.
pub const CHUNK: usize = 1 << CHUNK_BITS;

/// Why it does not go on.
#[derive(Debug, Error)]
pub enum IncomingError {
    /// Larger than this relay takes: so many bytes.
    #[error("the file is too large: this relay takes {} MiB", .0 >> 20)]
    TooLarge(u64),
    /// It is longer or shorter than was said when it began.
    #[error("the file is not as long as was said: begin another upload")]
    Length,
    /// A chunk is not what its hash says; it has to be sent again.
    #[error("a part does not fit its hash: send it again")]
    Hash,
    /// The disk of files.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Nobody announced it in time.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It cannot be announced.
    #[error(transparent)]
    Post(#[from] PostError),
}

/// One file on its way in.
pub struct Incoming {
    files: Files,
    requests: Requests,
    id: UploadId,
    about: About,
    /// Chunks on disk.
    chunks: u32,
    /// What is not a chunk yet.
    buffer: Vec<u8>,
    /// What each chunk has to be, where that is known.
    hashes: Option<Vec<[u8; 32]>>,
}

impl Incoming {
    /// One that is so far.
    pub fn new(files: Files, requests: Requests, id: UploadId, reached: Reached) -> Incoming {
        let Reached { about, chunks, .. } = reached;
        Incoming { files, requests, id, about, chunks, buffer: Vec::new(), hashes: None }
    }

    /// Each chunk has to have the hash that is said here.
    #[must_use]
    pub fn expecting(self, hashes: Vec<[u8; 32]>) -> Incoming {
        Incoming { hashes: Some(hashes), ..self }
    }

    /// Bytes that have come.
    pub fn offset(&self) -> u64 {
        self.kept() + self.buffer.len() as u64
    }

    /// Bytes that stay if the way breaks now.
    pub fn kept(&self) -> u64 {
        u64::from(self.chunks) << CHUNK_BITS
    }

    /// More of it, from [`Incoming::offset`] on.
    ///
    /// # Errors
    ///
    /// [`IncomingError::TooLarge`] and [`IncomingError::Length`] if it is longer than it may be or than was said,
    /// [`IncomingError::Hash`] if a chunk is not what it should be: then it goes on at [`Incoming::kept`].
    /// [`IncomingError::Upload`] if the disk does not take it.
    pub async fn write(&mut self, data: Bytes) -> Result<(), IncomingError> {
        let mut data = data;
        let length = self.offset() + data.len() as u64;
        let limit = self.files.limits().size;
        if length > limit {
            return Err(IncomingError::TooLarge(limit));
        }
        if self.about.length.is_some_and(|said| length > said) {
            return Err(IncomingError::Length);
        }
        while !data.is_empty() {
            let room = CHUNK - self.buffer.len();
            self.buffer.extend_from_slice(&data.split_to(room.min(data.len())));
            if self.buffer.len() == CHUNK {
                let chunk = Bytes::from(std::mem::take(&mut self.buffer));
                self.check(&chunk)?;
                self.files.append_upload(self.id, self.chunks, chunk).await?;
                self.chunks += 1;
            }
        }
        Ok(())
    }

    /// It is whole: announces it. Gives its id and its length.
    ///
    /// # Errors
    ///
    /// [`IncomingError::Length`] if it is shorter than was said, [`IncomingError::Hash`] as above,
    /// [`IncomingError::Upload`] if the disk does not take it, [`IncomingError::Request`] and [`IncomingError::Post`] if it
    /// cannot be announced: then the upload has to begin anew.
    pub async fn finish(&mut self) -> Result<(FileId, u64), IncomingError> {
        if self.about.length.is_some_and(|said| said != self.offset()) {
            return Err(IncomingError::Length);
        }
        let last = Bytes::from(std::mem::take(&mut self.buffer));
        if !last.is_empty() {
            self.check(&last)?;
        }
        let (given, manifest) = self.files.publish_upload(self.id, self.chunks, last).await?;
        let About { room, from, .. } = self.about.clone();
        let (file, length) = (given.file(), manifest.length);
        let (files, id) = (self.files.clone(), self.id);
        let known = move || files.upload_announced(id, file, length);
        announce(&self.requests, room, (given, manifest), from, known).await?;
        Ok((file, length))
    }

    fn check(&self, chunk: &[u8]) -> Result<(), IncomingError> {
        let Some(hashes) = &self.hashes else { return Ok(()) };
        let fits = hashes.get(self.chunks as usize).is_some_and(|hash| blake3::hash(chunk) == *hash);
        if fits { Ok(()) } else { Err(IncomingError::Hash) }
    }
}

/// Announces a file that is whole on disk in a room; `known` is called once a record of it is there. Whoever goes away
/// meanwhile leaves neither a file without a record nor a record without a file.
///
/// # Errors
///
/// [`IncomingError::Request`] if nobody answers in time, [`IncomingError::Post`] if it cannot be announced.
pub async fn announce(
    requests: &Requests,
    room: RoomName,
    (given, manifest): (Given, Manifest),
    from: String,
    known: impl FnOnce() + Send + 'static,
) -> Result<(), IncomingError> {
    let Manifest { name, media_type, length, .. } = manifest.clone();
    let new = NewFile { file: given.file(), name, length, media_type, author: from };
    let asked = requests.put(|reply| NodeRequest::File(FileRequest::Share { room, new, manifest, reply }))?;
    let announced = tokio::spawn(async move {
        let posted = asked.wait_to_the_end().await;
        match &posted {
            Ok(Ok(_)) => {
                given.announced();
                known();
            }
            // Dropped: the file goes.
            Ok(Err(_)) => drop(given),
            Err(_) => given.leave(),
        }
        posted
    });
    let announced = tokio::time::timeout(REPLY_TIMEOUT, announced).await.map_err(|_| RequestError::Busy)?;
    let Posted { .. } = announced.map_err(|_| RequestError::Stopped)???;
    Ok(())
}
