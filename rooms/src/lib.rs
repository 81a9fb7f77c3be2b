//! Rooms as a core without I/O: chat, announcements, files, presence and history over replicated logs.
//!
//! The log itself (records in order per topic and writer, exactly once) belongs to whoever drives this crate;
//! [`Rooms`] makes the payloads, reads them back and keeps what a room shows.
//!
//! Each file imports only from files to its left (`script/imports` holds it):
//!
//! order: limits | error | text place | chat file | payload files | zone_token format1 shares | message | room | rooms | lib

mod chat;
pub mod error;
pub mod file;
mod files;
pub mod format1;
pub mod limits;
mod message;
mod payload;
mod place;
pub mod room;
pub mod rooms;
mod shares;
mod text;
pub mod zone_token;

pub use error::RoomsError;
pub use file::NewFile;
pub use place::{Known, Source};
pub use protocol::WallTime;
pub use room::ParticipantId;
pub use rooms::{Accepted, Output, Rooms, Written};

#[cfg(test)]
mod tests;
