//! Percentiles of very many durations in little, fixed memory: buckets that each are 2 % wider than the
//! one before, from a microsecond to minutes.

use std::time::Duration;

use serde::Serialize;

/// Bucket `n` holds what is below `WIDTH^n` microseconds.
const WIDTH: f64 = 1.02;
/// 1.02^1000 microseconds are 6 minutes.
const BUCKETS: usize = 1000;

/// Counts of durations.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

/// What is read off a [`Histogram`], in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are shorter.
    pub p50: f64,
    /// 95 of 100 are shorter.
    pub p95: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS], total: 0, longest: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, duration: Duration) {
        let micros = (duration.as_secs_f64() * 1e6).max(1.0);
        let bucket = (micros.ln() / WIDTH.ln()).ceil() as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
        self.longest = self.longest.max(duration);
    }

    /// Adds all counts of another.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, more)| *own += more);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether none were counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The usual percentiles; `None` when nothing was counted.
    pub fn percentiles(&self) -> Option<Percentiles> {
        (self.total > 0).then(|| Percentiles {
            p50: self.percentile(0.50),
            p95: self.percentile(0.95),
            p99: self.percentile(0.99),
            max: round(self.longest.as_secs_f64() * 1e3),
        })
    }

    fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.total as f64).ceil() as u64;
        let mut below = 0;
        let bucket = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        let micros = WIDTH.powi(bucket.unwrap_or(0) as i32);
        round((micros / 1e3).min(self.longest.as_secs_f64() * 1e3))
    }
}

/// Milliseconds with the microseconds a person wants to read.
pub(crate) fn round(millis: f64) -> f64 {
    (millis * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        assert!(histogram.percentiles().is_none());
        (1..=1000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        let read = histogram.percentiles().unwrap();
        for (found, wanted) in [(read.p50, 500.0), (read.p95, 950.0), (read.p99, 990.0)] {
            assert!((found / wanted - 1.0).abs() < 0.021, "{found} for {wanted}");
        }
        assert_eq!(read.max, 1000.0);
        assert_eq!(histogram.len(), 1000);
    }

    #[test]
    fn extremes_are_counted_too() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::ZERO);
        histogram.add(Duration::from_secs(1_000_000));
        assert_eq!(histogram.len(), 2);
    }
}
