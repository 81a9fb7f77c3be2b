//! What the node loop listens to.

use media::Event;
use tokio::sync::{mpsc, watch};

use super::request::Questions;
use crate::{
    bridge::{BridgeEvent, mdns::Seen},
    storage::files::FileEvent,
};

/// What the loop listens to.
pub struct Inputs {
    /// From HTTP and WebSocket.
    pub asks: Questions,
    /// From the bridges.
    pub bridge: mpsc::Receiver<BridgeEvent>,
    /// From the disk of files.
    pub files: mpsc::Receiver<FileEvent>,
    /// Relays on the local network.
    pub discovered: mpsc::Receiver<Seen>,
    /// From the media workers.
    pub media: mpsc::Receiver<Event>,
    /// Turns true when the relay stops.
    pub stop: watch::Receiver<bool>,
}
