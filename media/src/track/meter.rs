//! What flows of a track: how much of each layer, in what size, and when something last came. What is made
//! of it is decided by whoever chooses for a listener.

use std::time::{Duration, Instant};

use crate::{
    allocation::price::Rate,
    rtp::{
        descriptor::{Description, Extent, Resolution, Resolutions, SpatialLayer, TemporalLayer},
        packet::{Packet, UDP_OVERHEAD},
    },
};

/// The rates of one track, by layer.
#[derive(Debug, Default)]
pub struct Meter {
    /// By rising layer; most tracks have one.
    layers: Vec<((SpatialLayer, TemporalLayer), Rate)>,
    resolution: Option<Resolution>,
    /// Of its spatial layers.
    resolutions: Resolutions,
    last: Option<Instant>,
    /// Since when it comes without a pause.
    since: Option<Instant>,
}

/// Layers of an encoding up to one of them, as they flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRate {
    /// This spatial and this temporal layer, with those below.
    pub extent: Extent,
    /// Bits per second at a listener.
    pub rate: u64,
    /// How large a picture of it is, where that is said.
    pub resolution: Option<Resolution>,
}

/// A track of which nothing came for so long is dormant: its publisher has stopped sending it.
pub const DORMANT: Duration = Duration::from_secs(1);
/// After this a rate says what flows, and hardly what it began with.
const SETTLED: Duration = Duration::from_millis(1500);
/// What a packet takes at a listener beside what is in its canonical form: extensions, padding, tag, and what its datagram
/// takes.
const OVERHEAD: usize = 24 + UDP_OVERHEAD;

impl Meter {
    /// A packet came.
    pub fn handle_packet(&mut self, packet: &Packet, now: Instant) {
        if !self.is_alive(now) {
            self.since = Some(now);
        }
        self.last = Some(now);
        if packet.description.resolution.is_some() {
            self.resolution = packet.description.resolution;
            self.resolutions = packet.resolutions();
        }
        let Description { spatial, scale, .. } = packet.description;
        if let Some(resolution) = self.resolution.and_then(|largest| scale.resolution(largest))
            && let Some(place) = self.resolutions.get_mut(usize::from(spatial.0))
        {
            *place = Some(resolution);
        }
        let layer = (packet.description.spatial, packet.description.temporal);
        let place = match self.layers.iter().position(|(known, _)| *known >= layer) {
            Some(place) if self.layers[place].0 == layer => place,
            place => {
                let place = place.unwrap_or(self.layers.len());
                self.layers.insert(place, (layer, Rate::new(now)));
                place
            }
        };
        self.layers[place].1.handle_packet(packet.bytes.len() + OVERHEAD, now);
    }

    /// Whether something came lately.
    pub fn is_alive(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < DORMANT)
    }

    /// Whether it has come for long enough to know what it takes: what begins does so with a keyframe.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.is_alive(now) && self.since.is_some_and(|since| now.saturating_duration_since(since) >= SETTLED)
    }

    /// When something last came.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Of its last keyframe that said so.
    pub fn resolution(&self) -> Option<Resolution> {
        self.resolution
    }

    /// What each spatial layer that flows takes at a listener up to each temporal layer, with all below both; by rising
    /// layer. The last one is all that flows.
    pub fn rates(&mut self, now: Instant) -> Vec<LayerRate> {
        if !self.is_alive(now) {
            return Vec::new();
        }
        let flowing = self.layers.iter_mut().map(|(layer, rate)| (*layer, rate.bits_per_second(now)));
        let flowing: Vec<_> = flowing.filter(|(_, rate)| *rate > 0).collect();
        let mut spatial: Vec<SpatialLayer> = flowing.iter().map(|((spatial, _), _)| *spatial).collect();
        spatial.dedup();
        let mut temporal: Vec<TemporalLayer> = flowing.iter().map(|((_, temporal), _)| *temporal).collect();
        temporal.sort_unstable();
        temporal.dedup();
        let rate = |extent: Extent| {
            let within = flowing.iter().filter(|((spatial, temporal), _)| extent.has(*spatial, *temporal));
            within.map(|(_, rate)| rate).sum()
        };
        let resolutions = self.resolutions;
        let alone = spatial.len() == 1;
        let layer = |extent: Extent| {
            let said = resolutions.get(usize::from(extent.spatial.0)).copied().flatten();
            let resolution = said.or(self.resolution.filter(|_| alone));
            LayerRate { extent, rate: rate(extent), resolution }
        };
        let layers = spatial.iter().flat_map(|spatial| {
            temporal.iter().map(|temporal| Extent { spatial: *spatial, temporal: *temporal })
        });
        layers.map(layer).collect()
    }

    /// Bits per second at a listener of all of it.
    pub fn bits_per_second(&mut self, now: Instant) -> u64 {
        if !self.is_alive(now) {
            return 0;
        }
        self.layers.iter_mut().map(|(_, rate)| rate.bits_per_second(now)).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use protocol::Codec;

    use super::*;
    use crate::rtp::packet::Canonical;

    /// A packet of VP8 with a temporal layer: X, T; TID and Y.
    fn packet(layer: u8, len: usize, now: Instant) -> Packet {
        let canonical = Canonical {
            codec: Codec::Vp8,
            marker: true,
            sequence: 0,
            timestamp: 0,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.extend_from_slice(&[0x90, 0x20, layer << 6, 0x01]);
        buffer.resize(len, 0);
        Packet::from_parts(canonical, buffer, 0, now)
    }

    #[test]
    fn each_layer_costs_what_it_is_with_those_below() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let mut now = Instant::now();
        let mut meter = Meter::default();
        // 50 pictures a second, every other one of layer 1: 25 times 1000 and 25 times 500 octets a second
        for picture in 0..150_u32 {
            let (layer, len) = if picture % 2 == 0 { (0, 1000) } else { (1, 500) };
            meter.handle_packet(&packet(layer, len - OVERHEAD, now), now);
            now += Duration::from_millis(20);
        }
        let rates: Vec<_> =
            meter.rates(now).iter().map(|layer| (layer.extent.temporal.0, layer.rate)).collect();
        let [(0, base), (1, both)] = rates[..] else { panic!("{rates:?}") };
        assert!((190_000..210_000).contains(&base), "{base}");
        assert!((285_000..315_000).contains(&both), "{both}");
        assert!(meter.is_alive(now) && meter.is_settled(now));
        now += DORMANT;
        assert!(!meter.is_alive(now));
        meter.handle_packet(&packet(0, 1000, now), now);
        assert!(meter.is_alive(now) && !meter.is_settled(now));
        now += DORMANT;
        assert_eq!(meter.bits_per_second(now), 0);
    }
}
