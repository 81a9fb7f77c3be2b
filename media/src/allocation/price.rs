//! What layers cost: the rate of each as it flows, and the ladder of them that allocation climbs.

use std::time::Instant;

use super::{Layer, Rung};
use crate::bins::Bins;

/// A tenth of a second.
const BIN_US: u64 = 100_000;
/// One is being filled, the others are looked at: three seconds. In one a scene takes a sixth more or less than in the
/// next, and a step up wants no less to spare than that.
const BINS: usize = 31;
/// A bin counts at most so many times the middle one. Three pictures a bin are alike within a factor of two; a
/// keyframe is ten times a picture, and would make every listener step down for it, and up again.
const SPIKE: u64 = 2;

/// The rate of what flows, over the last three seconds. A keyframe hardly moves it.
#[derive(Debug, Clone)]
pub struct Rate {
    began: Instant,
    octets: Bins<u32, BINS, BIN_US>,
}

impl Rate {
    /// Nothing has come yet.
    pub fn new(now: Instant) -> Rate {
        Rate { began: now, octets: Bins::default() }
    }

    /// A packet of so many octets came.
    pub fn handle_packet(&mut self, octets: usize, now: Instant) {
        self.advance(now);
        let newest = self.octets.newest();
        *newest = newest.saturating_add(u32::try_from(octets).unwrap_or(u32::MAX));
    }

    /// Bits per second; 0 if nothing came in that time.
    pub fn bits_per_second(&mut self, now: Instant) -> u64 {
        self.advance(now);
        // The bin that is filled now says nothing yet, but in the first tenth of a second there is no other.
        let whole = (self.octets.began() / BIN_US).min(BINS as u64 - 1);
        let mut seen = *self.octets.all();
        let seen = &mut seen[1..=whole as usize];
        seen.sort_unstable();
        // Of those with something in them: a screen that is shown five times a second leaves every other one empty.
        let first = seen.partition_point(|octets| *octets == 0);
        let Some(middle) = seen.get(first + (seen.len() - first) / 2).copied().map(u64::from) else {
            return 0;
        };
        let octets: u64 = seen.iter().map(|octets| u64::from(*octets).min(SPIKE * middle)).sum();
        octets * 8_000_000 / (whole * BIN_US)
    }

    fn advance(&mut self, now: Instant) {
        self.octets.advance(now.saturating_duration_since(self.began).as_micros() as u64);
    }
}

/// The rungs of a picture out of its layers, in any order. By rising quality, and what is better never costs less: an
/// encoder that has little to do may send a high layer for less than a low one, for a moment.
pub fn ladder(layers: impl IntoIterator<Item = (Layer, u64)>) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = layers.into_iter().map(|(layer, rate)| Rung { layer, rate }).collect();
    rungs.sort_by_key(|rung| rung.layer);
    rungs.dedup_by_key(|rung| rung.layer);
    let mut most = 0;
    for rung in &mut rungs {
        most = rung.rate.max(most + 1);
        rung.rate = most;
    }
    rungs
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::rtp::descriptor::{SpatialLayer, TemporalLayer};

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// 30 pictures a second of so many octets from `from` on, for a time.
    fn flow(rate: &mut Rate, from: Instant, time: Duration, octets: usize) -> Instant {
        let picture = Duration::from_micros(33_333);
        let mut now = from;
        while now < from + time {
            rate.handle_packet(octets, now);
            now += picture;
        }
        now
    }

    #[test]
    fn what_flows_is_measured_over_a_second() {
        let began = start();
        let mut rate = Rate::new(began);
        assert_eq!(rate.bits_per_second(began), 0);
        let half = flow(&mut rate, began, Duration::from_millis(500), 2500);
        let measured = rate.bits_per_second(half) as f64;
        assert!((measured / 600_000.0 - 1.0).abs() < 0.1, "{measured} after half a second");
        let end = flow(&mut rate, half, Duration::from_secs(3), 2500);
        let measured = rate.bits_per_second(end) as f64;
        assert!((measured / 600_000.0 - 1.0).abs() < 0.05, "{measured}");
        assert_eq!(rate.bits_per_second(end + Duration::from_millis(3200)), 0);
    }

    #[test]
    fn a_keyframe_hardly_moves_it_and_a_scene_that_moves_does() {
        let began = start();
        let mut rate = Rate::new(began);
        let now = flow(&mut rate, began, Duration::from_secs(2), 2500);
        rate.handle_packet(60_000, now);
        let now = flow(&mut rate, now, Duration::from_millis(200), 2500);
        let measured = rate.bits_per_second(now) as f64;
        assert!(
            measured < 600_000.0 * 1.25,
            "{measured} with a keyframe of 60 kB, 1 Mbit/s as a plain average"
        );
        let now = flow(&mut rate, now, Duration::from_secs(3), 7500);
        let measured = rate.bits_per_second(now) as f64;
        assert!((measured / 1_800_000.0 - 1.0).abs() < 0.1, "{measured}");
    }

    #[test]
    fn five_pictures_a_second_are_a_rate_too() {
        let began = start();
        let mut rate = Rate::new(began);
        let mut now = began;
        for _ in 0..20 {
            rate.handle_packet(10_000, now);
            now += Duration::from_millis(200);
        }
        let measured = rate.bits_per_second(now) as f64;
        assert!((measured / 400_000.0 - 1.0).abs() < 0.15, "{measured}");
    }

    fn layer(encoding: u8, temporal: u8) -> Layer {
        Layer { encoding, spatial: SpatialLayer(0), temporal: TemporalLayer(temporal) }
    }

    #[test]
    fn a_ladder_rises() {
        let layers =
            [(layer(1, 0), 90_000), (layer(0, 1), 120_000), (layer(0, 0), 80_000), (layer(2, 0), 500_000)];
        let rungs: Vec<_> = ladder(layers).into_iter().map(|rung| (rung.layer, rung.rate)).collect();
        let expected =
            [(layer(0, 0), 80_000), (layer(0, 1), 120_000), (layer(1, 0), 120_001), (layer(2, 0), 500_000)];
        assert_eq!(rungs, expected);
    }

    proptest! {
        #[test]
        fn whatever_comes_whenever_is_measured(
            packets in proptest::collection::vec((0usize..100_000, 0u64..3000), 0..200),
        ) {
            let (mut now, mut sum) = (start(), 0);
            let mut rate = Rate::new(now);
            for (octets, pause) in packets {
                now += Duration::from_millis(pause);
                sum += octets as u64;
                rate.handle_packet(octets, now);
                prop_assert!(rate.bits_per_second(now) <= sum * 80);
            }
        }
    }
}
