//! The words and wire shapes that every crate of the relay shares.
//!
//! Ids and validated names ([`id`]), codecs and tracks ([`codec`]), the media datagram that crosses a
//! link ([`mesh`]), the JSON of the HTTP API ([`api`]) and of the WebSocket ([`signaling`]), what the organizer signs ([`token`]).
//! This crate depends on no other crate of the house and does no I/O.

pub mod api;
pub mod codec;
pub mod error;
pub mod id;
pub mod mesh;
pub mod signaling;
pub mod token;

pub use codec::{Codec, Kind, TrackDescription};
pub use error::NameError;
pub use id::{NodeId, RoomName, SessionId, StreamName, ZoneName};
