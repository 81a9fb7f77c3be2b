//! One encoding of a picture among the others: how good it is, and what it takes.

use std::time::Instant;

use super::sight::Shown;
use crate::{
    rtp::descriptor::{Resolution, TemporalLayer},
    track::{
        Tracks,
        id::{StreamTracks, TrackId},
    },
};

/// An encoding that lives, or can be had.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    /// Its track.
    pub track: TrackId,
    /// As its last keyframe said.
    pub resolution: Option<Resolution>,
    /// Bits per second.
    pub rate: u64,
    /// What each temporal layer takes with those below, as far as it comes.
    pub layers: Vec<(TemporalLayer, u64)>,
    /// It comes. What can be had comes only if somebody wants it.
    pub alive: bool,
}

impl Ranked {
    /// A track that lives and has a rate.
    pub fn measured(track: TrackId, tracks: &mut Tracks, now: Instant) -> Option<Ranked> {
        let meter = tracks.get_mut(&track)?.meter();
        let layers: Vec<_> = meter.rates(now).collect();
        let rate = layers.last().map_or(0, |(_, rate)| *rate);
        let resolution = meter.resolution();
        (meter.is_alive(now) && rate > 0).then_some(Ranked { track, resolution, rate, layers, alive: true })
    }

    /// One that does not come, and would take so much.
    pub fn to_be_had(track: TrackId, rate: u64) -> Ranked {
        Ranked { track, resolution: None, rate, layers: Vec::new(), alive: false }
    }

    /// Sizes are certain. Rates go up and down: what is a little dearer at the moment is not better.
    pub fn is_better(&self, other: &Ranked) -> bool {
        match (self.resolution.map(Resolution::pixels), other.resolution.map(Resolution::pixels)) {
            (Some(own), Some(others)) if own != others => own > others,
            _ => self.rate > other.rate + other.rate / 3,
        }
    }

    /// By this those are put in order that are not sent.
    pub fn quality(&self) -> (Option<u32>, u64) {
        (self.resolution.map(Resolution::pixels), self.rate)
    }

    /// As it is shown, of a stream with these tracks.
    pub fn shown(&self, tracks: &StreamTracks) -> Shown {
        let place = tracks.encodings.iter().position(|track| *track == self.track);
        Shown {
            place: place.map(|place| place as u8),
            resolution: self.resolution,
            rate: self.rate,
            layers: self.layers.clone(),
        }
    }
}
