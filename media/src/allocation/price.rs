//! What layers cost: the rate of each as it flows, and the ladder of them that allocation climbs.

use std::time::{Duration, Instant};

use super::{Layer, Rung};

/// A tenth of the second that is looked at.
const BUCKET: Duration = Duration::from_millis(100);
const BUCKETS: usize = 10;
/// A bucket counts at most so many times the middle one. Three pictures a bucket are alike within a factor of two; a
/// keyframe is ten times a picture, and would make every listener step down for it, and up again.
const SPIKE: u64 = 2;

/// The rate of what flows, over the last second. A keyframe hardly moves it.
#[derive(Debug, Clone)]
pub struct Rate {
    began: Instant,
    /// The bucket that is filled now, counted from the beginning.
    at: u64,
    octets: [u32; BUCKETS],
}

impl Rate {
    /// Nothing has come yet.
    pub fn new(now: Instant) -> Rate {
        Rate { began: now, at: 0, octets: [0; BUCKETS] }
    }

    /// A packet of so many octets came.
    pub fn handle_packet(&mut self, octets: usize, now: Instant) {
        self.advance(now);
        let bucket = &mut self.octets[(self.at % BUCKETS as u64) as usize];
        *bucket = bucket.saturating_add(u32::try_from(octets).unwrap_or(u32::MAX));
    }

    /// Bits per second; 0 if nothing came in the last second.
    pub fn bits_per_second(&mut self, now: Instant) -> u64 {
        self.advance(now);
        // The bucket that is filled now says nothing yet, but in the first tenth of a second there is no other.
        let whole = self.at.min(BUCKETS as u64 - 1);
        if whole == 0 {
            return 0;
        }
        let mut seen: Vec<u64> = (1..=whole)
            .map(|back| u64::from(self.octets[((self.at - back) % BUCKETS as u64) as usize]))
            .collect();
        seen.sort_unstable();
        // Of those with something in them: a screen that is shown five times a second leaves every other one empty.
        let first = seen.partition_point(|octets| *octets == 0);
        let Some(middle) = seen.get(first + (seen.len() - first) / 2).copied() else { return 0 };
        let octets: u64 = seen.iter().map(|octets| (*octets).min(SPIKE * middle)).sum();
        octets * 8 * 1000 / (whole * BUCKET.as_millis() as u64)
    }

    fn advance(&mut self, now: Instant) {
        let at = (now.saturating_duration_since(self.began).as_millis() / BUCKET.as_millis()) as u64;
        let passed = at.saturating_sub(self.at).min(BUCKETS as u64);
        for next in 1..=passed {
            self.octets[((at - passed + next) % BUCKETS as u64) as usize] = 0;
        }
        self.at = self.at.max(at);
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
        assert_eq!(rate.bits_per_second(end + Duration::from_millis(1100)), 0);
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
        let now = flow(&mut rate, now, Duration::from_secs(2), 7500);
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
