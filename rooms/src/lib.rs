//! Rooms as a core without I/O: chat, announcements, files, presence and history over replicated logs.
//!
//! The log itself (records in order per topic and writer, exactly once) belongs to whoever drives this crate;
//! [`Rooms`] makes the payloads, reads them back and keeps what a room shows.

pub mod chat;
pub mod error;
pub mod file;
pub mod format1;
mod message;
pub mod paper;
pub mod room;
pub mod rooms;
mod shares;

pub use error::RoomsError;
pub use file::NewFile;
pub use protocol::WallTime;
pub use room::ParticipantId;
pub use rooms::{Accepted, Output, Rooms, Written};
pub use shares::Source;

#[cfg(test)]
mod tests;
