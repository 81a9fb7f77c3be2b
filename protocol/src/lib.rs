//! The words and wire shapes that every crate of the relay shares.
//!
//! Ids and validated names ([`id`]), codecs and tracks ([`codec`]), the media datagram that crosses a
//! link ([`mesh`]) and what brings it back where it was lost ([`parity`]), what logs are about and how they are ordered ([`topic`], [`hlc`]), the JSON of the HTTP
//! API ([`api`]) and of the WebSocket ([`signaling`]), what the organizer signs ([`token`]), and how all of it grows
//! ([`version`], [`fields`]).
//! This crate depends on no other crate of the house and does no I/O.
//!
//! Each file imports only from files to its left (`script/imports` holds it):
//!
//! order: codec error fields parity version wall | api hlc id | mesh signaling token transfer | topic | lib

pub mod api;
pub mod codec;
pub mod error;
pub mod fields;
pub mod hlc;
pub mod id;
pub mod mesh;
pub mod parity;
pub mod signaling;
pub mod token;
pub mod topic;
pub mod transfer;
pub mod version;
pub mod wall;

pub use codec::{Codec, Kind, TrackDescription};
pub use error::NameError;
pub use hlc::Hlc;
pub use id::{FileId, NodeId, RoomName, SessionId, StreamName, UploadId, ZoneName};
pub use topic::{Carriage, Topic, UnknownTopic};
pub use version::{BridgeVersion, BridgeVersions};
pub use wall::WallTime;
