//! One encoding of a picture among the others: how good it is, and what it takes.

use std::time::Instant;

use super::sight::Shown;
use crate::{
    allocation::Layer,
    rtp::descriptor::{Extent, Resolution, TemporalLayer},
    track::{
        Tracks,
        id::{StreamTracks, TrackId},
        meter::LayerRate,
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
    /// What each layer takes with those below, as far as it comes.
    pub layers: Vec<LayerRate>,
    /// It comes. What can be had comes only if somebody wants it.
    pub alive: bool,
}

impl Ranked {
    /// A track that lives and has a rate.
    pub fn measured(track: TrackId, tracks: &mut Tracks, now: Instant) -> Option<Ranked> {
        let meter = tracks.get_mut(&track)?.meter();
        let layers = meter.rates(now);
        let rate = layers.last().map_or(0, |layer| layer.rate);
        let resolution = meter.resolution();
        (meter.is_alive(now) && rate > 0).then_some(Ranked { track, resolution, rate, layers, alive: true })
    }

    /// One that does not come, and would take so much.
    pub fn to_be_had(track: TrackId, rate: u64) -> Ranked {
        Ranked { track, resolution: None, rate, layers: Vec::new(), alive: false }
    }

    /// All of it, as one of several.
    pub fn rung(&self, encoding: usize) -> (Layer, u64) {
        (layer(encoding as u8, Extent::ALL), self.rate)
    }

    /// Its layers as rungs, where it is the only encoding: of the lowest spatial layer each temporal layer, of those
    /// above all temporal layers, and before that all but the highest if that leaves two or more. So each rung takes more
    /// than the one below and looks better: a larger picture with the pictures of one temporal layer alone would stutter,
    /// where the smaller one with all of them does not. The last one is all there is, whatever comes later.
    pub fn rungs(&self) -> Vec<(Layer, u64)> {
        let (Some(base), Some(top)) = (self.layers.first(), self.layers.last()) else {
            return vec![self.rung(0)];
        };
        let (base, top) = (base.extent, top.extent);
        let mut below: Vec<TemporalLayer> = self.layers.iter().map(|layer| layer.extent.temporal).collect();
        below.retain(|temporal| *temporal < top.temporal);
        let half = below.iter().copied().max().filter(|half| *half > base.temporal);
        let mut rungs: Vec<(Layer, u64)> = Vec::new();
        for LayerRate { extent, rate, .. } in &self.layers {
            let Extent { spatial, temporal } = *extent;
            let is_rung = spatial == base.spatial || temporal == top.temporal || Some(temporal) == half;
            let rises = rungs.last().is_none_or(|(_, below)| rate > below);
            if *extent == top {
                rungs.push((layer(0, Extent::ALL), *rate));
            } else if is_rung && rises {
                let all = if temporal == top.temporal { Extent::ALL.temporal } else { temporal };
                rungs.push((layer(0, Extent { spatial, temporal: all }), *rate));
            }
        }
        rungs
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

fn layer(encoding: u8, Extent { spatial, temporal }: Extent) -> Layer {
    Layer { encoding, spatial, temporal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::descriptor::SpatialLayer;

    /// An encoding of so many layers; what each takes alone is `rates[spatial][temporal]`.
    fn encoding(rates: &[&[u64]]) -> Ranked {
        let of = |spatial: usize, temporal: usize| {
            let below = rates[..=spatial].iter().flat_map(|rates| &rates[..=temporal]);
            let extent =
                Extent { spatial: SpatialLayer(spatial as u8), temporal: TemporalLayer(temporal as u8) };
            LayerRate { extent, rate: below.sum(), resolution: None }
        };
        let layers: Vec<LayerRate> = (0..rates.len())
            .flat_map(|spatial| (0..rates[0].len()).map(move |temporal| (spatial, temporal)))
            .map(|(spatial, temporal)| of(spatial, temporal))
            .collect();
        let rate = layers.last().expect("a layer").rate;
        Ranked { track: TrackId(0), resolution: None, rate, layers, alive: true }
    }

    fn rungs(rates: &[&[u64]]) -> Vec<(u8, u8, u64)> {
        let rungs = encoding(rates).rungs();
        rungs.iter().map(|(layer, rate)| (layer.spatial.0, layer.temporal.0, *rate)).collect()
    }

    const ALL: u8 = u8::MAX;

    #[test]
    fn an_encoding_is_a_ladder_of_its_layers() {
        assert_eq!(rungs(&[&[100]]), [(ALL, ALL, 100)]);
        assert_eq!(rungs(&[&[60, 40]]), [(0, 0, 60), (ALL, ALL, 100)]);
        assert_eq!(rungs(&[&[100], &[300], &[900]]), [(0, ALL, 100), (1, ALL, 400), (ALL, ALL, 1300)]);
        let nine: [&[u64]; 3] = [&[50, 25, 25], &[150, 75, 75], &[450, 225, 225]];
        let expected = [
            (0, 0, 50),
            (0, 1, 75),
            (0, ALL, 100),
            (1, 1, 300),
            (1, ALL, 400),
            (2, 1, 975),
            (ALL, ALL, 1300),
        ];
        assert_eq!(rungs(&nine), expected);
    }

    #[test]
    fn a_rung_that_takes_less_than_the_one_below_is_none() {
        let rates = rungs(&[&[50, 25, 400], &[150, 75, 75]]);
        assert_eq!(rates, [(0, 0, 50), (0, 1, 75), (0, ALL, 475), (ALL, ALL, 775)]);
    }
}
