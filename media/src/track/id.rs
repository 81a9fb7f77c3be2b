//! The names of tracks inside one relay: numbers that mean nothing to another. What a track is called in the
//! mesh is the node's business.

use protocol::Kind;
pub use protocol::mesh::{MAX_ENCODINGS, MAX_RUNGS, StreamTrack};

/// A track as the workers of one relay know it; where it comes from is not their business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u32);

/// The tracks of a stream: its sound as it comes and in cheaper rungs, and its picture as a whole or in several encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTracks {
    /// Its sound.
    pub audio: TrackId,
    /// Its picture, where the publisher sends one encoding of it. Where it sends several, one of them, for neighbors
    /// that know of no encodings; nobody here gets it then.
    pub video: TrackId,
    /// Each encoding of its picture, where the publisher sends several.
    pub encodings: [TrackId; MAX_ENCODINGS],
    /// Its sound encoded anew, by rising quality; all of them cost less than what the publisher sends.
    pub rungs: [TrackId; MAX_RUNGS],
}

impl StreamTracks {
    /// As many numbers the tracks of a stream take.
    pub const COUNT: u32 = (2 + MAX_ENCODINGS + MAX_RUNGS) as u32;

    /// Those with the numbers from `first` on.
    pub const fn from_first(first: u32) -> StreamTracks {
        const fn id(first: u32, at: u32) -> TrackId {
            TrackId(first.wrapping_add(at))
        }
        let encodings = [id(first, 2), id(first, 3), id(first, 4), id(first, 5)];
        let rungs = [id(first, 6), id(first, 7)];
        StreamTracks { audio: id(first, 0), video: id(first, 1), encodings, rungs }
    }

    /// The one that a stream without encodings has of this kind.
    pub fn of(&self, kind: Kind) -> TrackId {
        match kind {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
        }
    }

    /// This one.
    pub fn get(&self, track: StreamTrack) -> TrackId {
        match track {
            StreamTrack::Audio => self.audio,
            StreamTrack::Video => self.video,
            StreamTrack::Encoding(encoding) => self.encodings[usize::from(encoding).min(MAX_ENCODINGS - 1)],
            StreamTrack::Rung(rung) => self.rungs[usize::from(rung).min(MAX_RUNGS - 1)],
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (StreamTrack, TrackId)> + use<> {
        let encodings = (0..).map(StreamTrack::Encoding).zip(self.encodings);
        let rungs = (0..).map(StreamTrack::Rung).zip(self.rungs);
        let whole = [(StreamTrack::Audio, self.audio), (StreamTrack::Video, self.video)];
        whole.into_iter().chain(encodings).chain(rungs)
    }
}

/// The place of a track among those of a stream, below [`StreamTracks::COUNT`].
pub(super) fn place(track: StreamTrack) -> usize {
    match track {
        StreamTrack::Audio => 0,
        StreamTrack::Video => 1,
        StreamTrack::Encoding(encoding) => 2 + usize::from(encoding).min(MAX_ENCODINGS - 1),
        StreamTrack::Rung(rung) => 2 + MAX_ENCODINGS + usize::from(rung).min(MAX_RUNGS - 1),
    }
}
