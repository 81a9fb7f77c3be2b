//! Uploads that go on where they broke: what is asked of them, and what is answered. The bytes are with the thread of the
//! disk (`uploads.rs`); whoever brings them, over HTTP or a data channel, gives whole chunks here.

use std::net::IpAddr;

use bytes::Bytes;
use mesh_routing::blob::{Manifest, manifest::CHUNK_BITS};
use protocol::{FileId, RoomName, UploadId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{Ended, FileError, Files, Given, Job};

/// Uploads that are begun and not done, or done a short while ago.
pub const UPLOADS_MAX: usize = 64;
/// An upload is kept so long after it got further.
pub const KEPT_SECONDS: u64 = 24 * 3600;

/// What is given, and by whom: said when it begins, and the same to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// To this room.
    pub room: RoomName,
    /// The file's name, as it is shown.
    pub name: String,
    /// What it is.
    pub media_type: String,
    /// Who gives it.
    pub from: String,
    /// Bytes, if that was said.
    pub length: Option<u64>,
    /// Whose share of uploads it takes.
    pub holder: IpAddr,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What is given.
    pub about: About,
    /// Chunks that are on disk.
    pub chunks: u32,
    /// The file, once it is announced, and its bytes.
    pub done: Option<(FileId, u64)>,
}

impl Reached {
    /// Bytes that need not be sent again.
    pub fn offset(&self) -> u64 {
        self.done.map_or(u64::from(self.chunks) << CHUNK_BITS, |(_, length)| length)
    }
}

/// Why an upload does not go on. It stays as far as it was.
#[derive(Debug, Error)]
pub enum UploadError {
    /// There is none of this id, or none any more.
    #[error("there is no such upload")]
    Unknown,
    /// It is of another file.
    #[error("this upload is of another file")]
    Other,
    /// Somebody else has brought it further.
    #[error("the upload is somewhere else by now")]
    Elsewhere,
    /// It is done already.
    #[error("the upload is done")]
    Done,
    /// As many as there may be were begun.
    #[error("too many uploads are begun")]
    TooMany,
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, UploadError>>;

/// What is asked of the disk about uploads.
#[derive(Debug)]
pub(super) enum UploadJob {
    Begin { id: UploadId, about: About, done: Answer<Reached> },
    Look { id: UploadId, done: Answer<Reached> },
    Append { id: UploadId, number: u32, bytes: Bytes, done: Answer<()> },
    Publish { id: UploadId, number: u32, last: Bytes, done: Answer<(FileId, Manifest)> },
    Discard { id: UploadId, done: Answer<()> },
}

impl Files {
    /// Begins an upload under an id that its client drew. One of the same file that is begun goes on.
    ///
    /// # Errors
    ///
    /// [`UploadError::Other`] if the id is that of another file, [`UploadError::TooMany`] if there is no place,
    /// [`UploadError::File`] if there is no room for so many bytes or too much waits for the disk.
    pub async fn begin_upload(&self, id: UploadId, about: About) -> Result<Reached, UploadError> {
        self.ask(|done| UploadJob::Begin { id, about, done }).await
    }

    /// How far an upload is.
    ///
    /// # Errors
    ///
    /// [`UploadError::Unknown`] if there is none, [`UploadError::File`] if too much waits for the disk.
    pub async fn upload(&self, id: UploadId) -> Result<Reached, UploadError> {
        self.ask(|done| UploadJob::Look { id, done }).await
    }

    /// Writes the next chunk, which is whole. On disk it stays, whatever happens.
    ///
    /// # Errors
    ///
    /// [`UploadError::Elsewhere`] if that is not the next one, [`UploadError::Unknown`] and [`UploadError::Done`] if there is
    /// nothing to write to, [`UploadError::File`] if the disk does not take it.
    pub async fn append_upload(&self, id: UploadId, number: u32, bytes: Bytes) -> Result<(), UploadError> {
        self.ask(|done| UploadJob::Append { id, number, bytes, done }).await
    }

    /// The rest, which may be empty: the file is whole, and there for as long as it takes to announce it.
    ///
    /// # Errors
    ///
    /// As [`Files::append_upload`].
    pub async fn publish_upload(
        &self,
        id: UploadId,
        number: u32,
        last: Bytes,
    ) -> Result<(Given, Manifest), UploadError> {
        let (file, manifest) = self.ask(|done| UploadJob::Publish { id, number, last, done }).await?;
        Ok((Given { file, files: self.clone(), settled: false }, manifest))
    }

    /// The file of an upload is announced: that is known for a while.
    pub fn upload_announced(&self, id: UploadId, file: FileId, length: u64) {
        self.end(Ended::Upload(id, file, length));
    }

    /// Forgets an upload, with what came of it.
    ///
    /// # Errors
    ///
    /// As [`Files::upload`].
    pub async fn discard_upload(&self, id: UploadId) -> Result<(), UploadError> {
        self.ask(|done| UploadJob::Discard { id, done }).await
    }

    async fn ask<T>(&self, make: impl FnOnce(Answer<T>) -> UploadJob) -> Result<T, UploadError> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Upload(make(done)));
        answer.await.map_err(|_| FileError::Busy)?
    }
}
