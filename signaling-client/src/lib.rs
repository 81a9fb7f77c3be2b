//! A headless participant: publishes, listens, chats and makes load, as a library and a command line.
//!
//! [`endpoint`] speaks HTTP to a WHIP or WHEP endpoint, [`participant`] is one peer connection,
//! [`whip`] and [`whep`] join the two. [`publish`], [`listen`], [`chat`] and [`load`] are what the
//! commands do. [`peer`] is one end of a session without a peer connection, for [`simulcast`] and for very many
//! sessions. [`feed`] opens desks, files and encoders. The relay itself uses none of this.
//!
//! Each file imports only from files to its left (`script/imports` holds it):
//!
//! order: bits clock downlink error feedback histogram keyframe_request picture stamp | endpoint participant peer reception source | feed playout rung sound video whip | channel | chat descriptor ivf publish whep | hearing payload view | encoding listen listener | audience simulcast transfer | load | lib main

mod audience;
mod bits;
pub mod channel;
pub mod chat;
pub mod clock;
pub mod descriptor;
pub mod downlink;
pub mod encoding;
pub mod endpoint;
pub mod error;
pub mod feed;
mod feedback;
pub mod hearing;
pub mod histogram;
pub mod ivf;
mod keyframe_request;
pub mod listen;
mod listener;
pub mod load;
pub mod participant;
pub mod payload;
pub mod peer;
pub mod picture;
pub mod playout;
pub mod publish;
pub mod reception;
pub mod rung;
pub mod simulcast;
pub mod sound;
pub mod source;
pub mod stamp;
pub mod transfer;
pub mod video;
pub mod view;
pub mod whep;
pub mod whip;

pub use error::Error;
