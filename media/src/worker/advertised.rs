//! What a picture or a sound from elsewhere can be had in, as the node says it: its origin has told the mesh.

use std::sync::Arc;

use crate::{rtp::descriptor::Resolution, track::id::MAX_RUNGS};

/// An encoding that a picture from elsewhere can be had in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedEncoding {
    /// Its place in the publisher's answer.
    pub place: u8,
    /// What it takes, in bits per second.
    pub rate: u64,
    /// What its publisher calls it, if that is known.
    pub rid: Option<Arc<str>>,
    /// How large it is, if that is known.
    pub resolution: Option<Resolution>,
}

/// A sound from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertisedSound {
    /// What its publisher sends takes, in bits per second.
    pub rate: u64,
    /// Which rungs come here, by rising quality, and whether what the publisher sends does. Links may be too thin for what
    /// is wanted.
    pub comes: [bool; MAX_RUNGS + 1],
}
