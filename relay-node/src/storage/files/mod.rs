//! Files on disk: those given to this relay and a cache of those of others, a directory each, a file for
//! each chunk. One thread reads and writes; nobody else waits for the disk.
//!
//! What was given here is synced before anybody hears of it. The cache is not: every chunk is verified when it
//! is read, and what a power cut tore is fetched again.

mod disk;
#[cfg(test)]
mod tests;
pub mod upload;
mod uploads;

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
};

use bytes::Bytes;
use mesh_routing::{
    LinkId,
    blob::{Block, Chunk, Manifest},
};
use protocol::{FileId, UploadId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{clock, drop_reason::DropReason, vitals::Pulse};
use disk::Disk;
use upload::UploadJob;

/// Below `--data`.
pub const DIRECTORY: &str = "files";
/// What may wait for the disk; beyond it requests are refused.
pub const WAITING_MAX: usize = 1024;

/// What files may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// Bytes of one file.
    pub size: u64,
    /// Bytes of files of other relays that are kept here.
    pub cache: u64,
    /// Bytes of the disk that files leave free; a twentieth of it stays free in any case.
    pub reserve: u64,
}

/// What the disk has done.
#[derive(Debug)]
pub enum FileEvent {
    /// A chunk was kept, or could not be.
    Stored {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// Whether it was kept.
        kept: bool,
    },
    /// A block was read for a neighbor.
    Read {
        /// The neighbor's link.
        link: LinkId,
        /// Which block.
        block: Block,
        /// `None` if it is not there.
        bytes: Option<Bytes>,
    },
    /// A chunk is not there any more; with `None` the whole file.
    Gone {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Option<Chunk>,
    },
}

/// Why a file was not taken.
#[derive(Debug, Error)]
pub enum FileError {
    /// It would leave less free than the operator wants.
    #[error("the disk is full")]
    Full,
    /// Too much waits for the disk.
    #[error("the disk is busy")]
    Busy,
    /// The disk says no.
    #[error("the disk refuses: {0}")]
    Disk(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> FileError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileError::Full,
            _ => FileError::Disk(error),
        }
    }
}

/// A file found on disk at the start.
#[derive(Debug)]
pub struct Found {
    /// Its id.
    pub file: FileId,
    /// What it is made of.
    pub manifest: Manifest,
    /// Which of its chunks are there.
    pub chunks: Vec<bool>,
    /// Whether it was announced, as far as the disk of files knows. If not, [`Files::settle`] has to be told.
    pub announced: bool,
}

/// The way to the thread. It ends with its last handle.
#[derive(Debug, Clone)]
pub struct Files {
    jobs: SyncSender<Job>,
    limits: FileLimits,
    ended: Arc<Mutex<Vec<Ended>>>,
}

/// What is over: it must not get lost in a full queue.
#[derive(Debug)]
enum Ended {
    /// A draft that was not published, or was.
    Draft(u64),
    /// A file that was given here is announced, or will not be.
    Given(FileId, bool),
    /// The file of an upload is announced; its bytes.
    Upload(UploadId, FileId, u64),
}

/// A file that is whole on disk and not announced yet. Dropped before it is, it is taken away again, unless somebody
/// else gave the same.
#[derive(Debug)]
pub struct Given {
    file: FileId,
    files: Files,
    settled: bool,
}

/// A file on its way in. Dropped before it is published it leaves nothing behind.
#[derive(Debug)]
pub struct Draft {
    number: u64,
    files: Files,
}

type Done<T> = oneshot::Sender<Result<T, FileError>>;

#[derive(Debug)]
enum Job {
    Store {
        file: FileId,
        chunk: Chunk,
        bytes: Bytes,
    },
    ReadFor {
        link: LinkId,
        block: Block,
    },
    Read {
        block: Block,
        done: oneshot::Sender<Option<Bytes>>,
    },
    Begin {
        length: u64,
        done: Done<u64>,
    },
    Append {
        draft: u64,
        number: u32,
        bytes: Bytes,
        done: Done<()>,
    },
    Publish {
        draft: u64,
        manifest: Manifest,
        done: Done<FileId>,
    },
    /// Something about an upload that goes on where it broke.
    Upload(UploadJob),
    /// Something ended.
    Ended,
}

impl Files {
    /// Opens the directory below `data`, makes it if need be, throws away what was not finished and lists what
    /// is there. Events are what the disk has done; its thread beats `pulse`.
    ///
    /// # Errors
    ///
    /// When the thread cannot start.
    pub fn open(
        data: &Path,
        limits: FileLimits,
        events: mpsc::Sender<FileEvent>,
        mut pulse: Pulse,
    ) -> io::Result<(Files, Vec<Found>)> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let ended = Arc::new(Mutex::default());
        let mut disk = Disk::open(data.join(DIRECTORY), limits, events, Arc::clone(&ended));
        let found = disk.find();
        let run = move || {
            pulse.begin(clock::now());
            disk.run(&waiting, &pulse);
            pulse.finish();
        };
        std::thread::Builder::new().name("files".to_owned()).spawn(run)?;
        Ok((Files { jobs, limits, ended }, found))
    }

    /// What files may take.
    pub fn limits(&self) -> FileLimits {
        self.limits
    }

    /// Keeps a verified chunk; [`FileEvent::Stored`] follows. `false` if too much waits for the disk.
    pub fn store(&self, file: FileId, chunk: Chunk, bytes: Bytes) -> bool {
        self.send(Job::Store { file, chunk, bytes })
    }

    /// Reads a block for a neighbor; [`FileEvent::Read`] follows. `false` if too much waits for the disk.
    pub fn read_for(&self, link: LinkId, block: Block) -> bool {
        self.send(Job::ReadFor { link, block })
    }

    /// Reads a block; `None` if it is not there.
    pub async fn read(&self, block: Block) -> Option<Bytes> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Read { block, done });
        answer.await.ok().flatten()
    }

    /// Begins a file of so many bytes, as far as that is known.
    ///
    /// # Errors
    ///
    /// [`FileError::Full`] if there is no room for so many bytes, [`FileError::Busy`] if too much waits for
    /// the disk, [`FileError::Disk`] if it refuses.
    pub async fn begin(&self, length: u64) -> Result<Draft, FileError> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Begin { length, done });
        let number = answer.await.map_err(|_| FileError::Busy)??;
        Ok(Draft { number, files: self.clone() })
    }

    /// A file that was found unannounced is announced all the same, or is an orphan and goes.
    pub fn settle(&self, file: FileId, announced: bool) {
        self.end(Ended::Given(file, announced));
    }

    fn end(&self, what: Ended) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        // If there is no room, another job comes, and what ended is looked at before it.
        let _ = self.jobs.try_send(Job::Ended);
    }

    fn send(&self, job: Job) -> bool {
        let sent = self.jobs.try_send(job).is_ok();
        if !sent {
            DropReason::FilesQueueFull.count();
        }
        sent
    }
}

impl Draft {
    /// Writes the next chunk.
    ///
    /// # Errors
    ///
    /// [`FileError::Full`] if there is no room left, [`FileError::Busy`] if too much waits for the disk,
    /// [`FileError::Disk`] if it refuses.
    pub async fn append(&self, number: u32, bytes: Bytes) -> Result<(), FileError> {
        let (done, answer) = oneshot::channel();
        self.files.send(Job::Append { draft: self.number, number, bytes, done });
        answer.await.map_err(|_| FileError::Busy)?
    }

    /// The file is whole: it is there from now on, for as long as it takes to announce it.
    ///
    /// # Errors
    ///
    /// As [`Draft::append`].
    pub async fn publish(self, manifest: Manifest) -> Result<Given, FileError> {
        let (done, answer) = oneshot::channel();
        self.files.send(Job::Publish { draft: self.number, manifest, done });
        let file = answer.await.map_err(|_| FileError::Busy)??;
        Ok(Given { file, files: self.files.clone(), settled: false })
    }
}

impl Given {
    /// Its id.
    pub fn file(&self) -> FileId {
        self.file
    }

    /// A record of it is on disk: it stays.
    pub fn announced(mut self) {
        self.settled = true;
        self.files.end(Ended::Given(self.file, true));
    }

    /// Nobody knows: the next start finds out.
    pub fn leave(mut self) {
        self.settled = true;
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.settled {
            self.files.end(Ended::Given(self.file, false));
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What was published is not there under this name any more.
        self.files.end(Ended::Draft(self.number));
    }
}
