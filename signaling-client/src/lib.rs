//! A headless participant: publishes, listens, chats and makes load, as a library and a command line.
//!
//! [`endpoint`] speaks HTTP to a WHIP or WHEP endpoint, [`participant`] is one peer connection,
//! [`whip`] and [`whep`] join the two. [`publish`], [`listen`], [`chat`] and [`load`] are what the
//! commands do. The relay itself uses none of this.
//!
//! Each file imports only from files to its left (`script/imports` holds it):
//!
//! order: clock error histogram keyframe_request picture stamp | endpoint participant reception source | chat sound video whip | publish whep | listen | load | lib main

pub mod chat;
pub mod clock;
pub mod endpoint;
pub mod error;
pub mod histogram;
mod keyframe_request;
pub mod listen;
pub mod load;
pub mod participant;
pub mod picture;
pub mod publish;
pub mod reception;
pub mod sound;
pub mod source;
pub mod stamp;
pub mod video;
pub mod whep;
pub mod whip;

pub use error::Error;
