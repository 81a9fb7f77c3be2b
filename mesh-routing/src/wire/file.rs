//! What relays say to each other about files; all of it is one variant of [`crate::wire::message::Message`].
//! `docs/mesh.md` ("Files") is the manual.

use bytes::Bytes;
use protocol::{FileId, NodeId, mesh::Class};
use serde::{Deserialize, Serialize};

use super::manifest::{CHUNK_BITS, MANIFEST_MAX};
use crate::error::MeshError;

/// Relays that a want may pass.
pub const HOPS_MAX: usize = 16;
/// Bytes of one block.
pub const BLOCK_MAX: u32 = 64 * 1024;

/// What of a file is hashed, asked for and kept by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Chunk {
    /// What the file is made of; verified by the file's id.
    Manifest,
    /// Up to 1 MiB of its bytes, by number; verified by the manifest.
    Data(u32),
}

/// What a relay says to its neighbor about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileMessage {
    /// The sender wants a chunk: have it, or get it.
    Want {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// The relay that should have it.
        holder: NodeId,
        /// Relays that wait for it, the sender last.
        path: Vec<NodeId>,
    },
    /// What became of a want.
    Answer {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// What became of it.
        answer: Answer,
    },
    /// Asks for bytes of a chunk that is ready.
    Pull {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// The first byte.
        offset: u32,
        /// How many, at most [`BLOCK_MAX`].
        length: u32,
    },
    /// These bytes.
    Block {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// The first byte.
        offset: u32,
        /// The bytes.
        bytes: Bytes,
    },
    /// Somebody finds no way to a holder: who has any of the file? Goes to every relay.
    Seek {
        /// The file.
        file: FileId,
        /// Who asks.
        asker: NodeId,
        /// Tells one question of the asker from the next.
        nonce: u32,
        /// Links it has passed.
        hops: u8,
    },
    /// The answer to a seek, on its way to the asker.
    Have {
        /// The file.
        file: FileId,
        /// Who has some of it.
        holder: NodeId,
        /// Who asked.
        asker: NodeId,
        /// Links it has passed.
        hops: u8,
    },
}

/// What became of a want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It can be pulled, this many bytes.
    Ready {
        /// Bytes.
        length: u32,
    },
    /// It is being fetched; repeated while it is.
    Working,
    /// Not to be had here.
    NotHere,
}

impl FileMessage {
    /// The bytes of files go behind everything else, what asks for them before: it is small, and the window
    /// of a link bounds it.
    pub(crate) fn class(&self) -> Class {
        match self {
            FileMessage::Block { .. } => Class::File,
            _ => Class::Control,
        }
    }

    pub(crate) fn check(&self) -> Result<(), MeshError> {
        let absurd = |what| Err(MeshError::Absurd { what });
        match self {
            FileMessage::Want { path, .. } if path.is_empty() || path.len() > HOPS_MAX => {
                absurd("a want that passed no or too many relays")
            }
            FileMessage::Pull { length, .. } if *length == 0 || *length > BLOCK_MAX => {
                absurd("a block of no or too many bytes")
            }
            FileMessage::Block { bytes, .. } if bytes.is_empty() || bytes.len() > BLOCK_MAX as usize => {
                absurd("a block of no or too many bytes")
            }
            FileMessage::Answer { chunk, answer: Answer::Ready { length }, .. } => {
                let most = match chunk {
                    Chunk::Manifest => MANIFEST_MAX,
                    Chunk::Data(_) => 1 << CHUNK_BITS,
                };
                if *length == 0 || *length as usize > most {
                    return absurd("a chunk of no or too many bytes");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
