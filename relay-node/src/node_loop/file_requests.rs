//! Who at this relay waits for which part of a file, and the way of the mesh's wishes to the disk.

use std::collections::BTreeMap;

use mesh_routing::blob::{FileOutput, Manifest, Part};
use protocol::{FileId, RoomName, api};
use rooms::NewFile;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::{
    clock,
    node::{Node, posts::PostError},
    storage::files::{FileEvent, Files},
};

/// Requests that may wait for parts.
const WAITING_MAX: usize = 4096;

type Reply = oneshot::Sender<Result<(), NoPart>>;

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
pub enum FileRequest {
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

/// The node loop's side of files.
#[derive(Debug)]
pub struct FileRequests {
    files: Files,
    replies: BTreeMap<(FileId, Part), Vec<Reply>>,
    count: usize,
}

impl FileRequests {
    /// Nobody waits.
    pub fn new(files: Files) -> FileRequests {
        FileRequests { files, replies: BTreeMap::new(), count: 0 }
    }

    /// What HTTP asks; gives back what has to be written to the log first.
    pub fn handle_request(&mut self, request: FileRequest, node: &mut Node) -> Option<FileRequest> {
        // Who asked may have gone: a reply that nobody takes is no error.
        match request {
            FileRequest::Share { .. } => return Some(request),
            FileRequest::List { room, reply } => {
                drop(reply.send(node.files(&room)));
            }
            FileRequest::Manifest { file, reply } => drop(reply.send(node.file_manifest(&file).cloned())),
            FileRequest::Want { file, part, reply } => self.want(file, part, reply, node),
        }
        None
    }

    fn want(&mut self, file: FileId, part: Part, reply: Reply, node: &mut Node) {
        let refuse = if !node.is_announced(&file) && node.file_manifest(&file).is_none() {
            // Whoever makes up hashes costs the mesh nothing.
            Some(NoPart::Unknown)
        } else {
            self.forget_gone();
            (self.count >= WAITING_MAX).then_some(NoPart::Busy)
        };
        if let Some(refuse) = refuse {
            let _ = reply.send(Err(refuse));
            return;
        }
        self.count += 1;
        self.replies.entry((file, part)).or_default().push(reply);
        node.handle_file_want(file, part, clock::now());
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

    /// What the mesh wants done.
    pub fn carry_out(&mut self, output: FileOutput, node: &mut Node) {
        match output {
            FileOutput::Store { file, part, bytes } => {
                if !self.files.store(file, part, bytes) {
                    node.handle_file_stored(file, part, false, clock::now());
                }
            }
            FileOutput::Read { link, piece } => {
                if !self.files.read_for(link, piece) {
                    node.handle_file_read(link, piece, None, clock::now());
                }
            }
            FileOutput::Ready { file, part } => self.answer(file, part, Ok(())),
            FileOutput::Missing { file, part } => self.answer(file, part, Err(NoPart::Missing)),
        }
    }

    fn answer(&mut self, file: FileId, part: Part, answer: Result<(), NoPart>) {
        for reply in self.replies.remove(&(file, part)).unwrap_or_default() {
            self.count -= 1;
            // The client may have gone.
            let _ = reply.send(answer);
        }
    }

    /// What the disk has done.
    pub fn handle_event(&mut self, event: FileEvent, node: &mut Node) {
        let now = clock::now();
        match event {
            FileEvent::Stored { file, part, kept } => node.handle_file_stored(file, part, kept, now),
            FileEvent::Read { link, piece, bytes } => node.handle_file_read(link, piece, bytes, now),
            FileEvent::Gone { file, part } => node.handle_file_gone(file, part, now),
        }
    }
}
