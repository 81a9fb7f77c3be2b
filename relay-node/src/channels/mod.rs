//! Data channels of sessions, and what their labels mean; `docs/channels.md` is the manual. One task hears of all channels
//! from the media threads ([`run`]) and starts one for each channel whose label is known.

mod files;
mod hub;
mod label;
mod room;
mod way;

use crate::{media::thread::Workers, node_loop::request::Requests, places::Places, storage::files::Files};
pub use hub::run;

/// What serves channels.
#[derive(Clone)]
pub struct ChannelsState {
    /// The way to the node loop.
    pub requests: Requests,
    /// The way to the channels.
    pub workers: Workers,
    /// Places of participants.
    pub participants: Places,
    /// The way to the disk of files.
    pub files: Files,
    /// Places of uploads.
    pub uploads: Places,
    /// Places of downloads.
    pub downloads: Places,
}
