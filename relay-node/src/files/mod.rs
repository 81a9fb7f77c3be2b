//! Files between disk, mesh and HTTP. What is on disk belongs to `disk`, a thread of its own; who waits for
//! which part at this relay to `waiting`, inside the node loop; requests to `api/files.rs`.

pub mod disk;
mod waiting;

use std::io;

use bytes::Bytes;
use mesh_routing::{
    LinkId,
    blob::{Manifest, Part, Piece},
};
use protocol::{FileId, RoomName, api};
use rooms::NewFile;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::ask::PostError;

pub use disk::{Draft, Files, Given};
pub use waiting::Waiting;

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
    /// A part was kept, or could not be.
    Stored {
        /// The file.
        file: FileId,
        /// The part.
        part: Part,
        /// Whether it was kept.
        kept: bool,
    },
    /// A piece was read for a neighbor.
    Read {
        /// The neighbor's link.
        link: LinkId,
        /// Which piece.
        piece: Piece,
        /// `None` if it is not there.
        bytes: Option<Bytes>,
    },
    /// A part is not there any more; with `None` the whole file.
    Gone {
        /// The file.
        file: FileId,
        /// The part.
        part: Option<Part>,
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

/// Why a part does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoPart {
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

/// What HTTP asks the node loop about files.
#[derive(Debug)]
pub enum FileAsk {
    /// Announce a file that is on disk in a room; answered like a message.
    Share {
        /// The room.
        room: RoomName,
        /// The file.
        new: NewFile,
        /// What it is made of.
        manifest: Manifest,
        /// Its id.
        reply: oneshot::Sender<Result<api::Posted, PostError>>,
    },
    /// The files of a room.
    List {
        /// The room.
        room: RoomName,
        /// In display order.
        reply: oneshot::Sender<Vec<api::SharedFile>>,
    },
    /// What a file is made of, if that is known here.
    Manifest {
        /// The file.
        file: FileId,
        /// All of it.
        reply: oneshot::Sender<Option<Manifest>>,
    },
    /// A part is needed here: answered once it is, or cannot be.
    Want {
        /// The file.
        file: FileId,
        /// The part.
        part: Part,
        /// Whether it is here now.
        reply: oneshot::Sender<Result<(), NoPart>>,
    },
}
