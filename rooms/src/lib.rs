//! Rooms as a core without I/O: chat, files, presence and history over a replicated log.
//!
//! The log itself (records in order per writer, exactly once) belongs to whoever drives this crate;
//! [`Rooms`] makes the payloads, reads them back and keeps what a room shows.

pub mod chat;
pub mod error;
pub mod file;
pub mod room;
pub mod rooms;
pub mod wall;

pub use error::RoomsError;
pub use file::NewFile;
pub use room::ParticipantId;
pub use rooms::{Accepted, Output, Rooms};
pub use wall::WallTime;

#[cfg(test)]
mod tests;
