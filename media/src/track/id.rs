//! The names of tracks inside one relay: numbers that mean nothing to another. What a track is called in the
//! mesh is the node's business.

use protocol::Kind;

/// A track as the workers of one relay know it; where it comes from is not their business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u32);

/// The two tracks a stream can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackPair {
    /// Its sound.
    pub audio: TrackId,
    /// Its picture.
    pub video: TrackId,
}

impl TrackPair {
    /// The one of this kind.
    pub fn of(self, kind: Kind) -> TrackId {
        match kind {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
        }
    }
}
