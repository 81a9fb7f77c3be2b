//! A narrow wire before a listener: a bucket that lets so many bits a second through, with a queue of 200 ms before it.
//! What does not fit is dropped. Has no clock; what is in the datagrams is for others.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long a datagram waits at most.
const QUEUE: Duration = Duration::from_millis(200);
/// Bytes of IPv4 and UDP around each datagram.
const OVERHEAD: usize = 28;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitRate(u64);

/// The wire of one listener.
#[derive(Debug)]
pub struct Downlink {
    rate: BitRate,
    /// When it has sent everything that waits.
    free: Option<Instant>,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    dropped: u64,
}

impl FromStr for BitRate {
    type Err = String;

    /// `800kbit`, `1.5mbit`, or a number of bits.
    fn from_str(text: &str) -> Result<Self, String> {
        let small = text.to_ascii_lowercase();
        let (digits, unit) = [("kbit", 1e3), ("mbit", 1e6), ("bit", 1.0)]
            .into_iter()
            .find_map(|(name, unit)| Some((small.strip_suffix(name)?, unit)))
            .unwrap_or((&small, 1.0));
        let bits = digits.parse::<f64>().ok().map(|number| number * unit);
        match bits.filter(|bits| (1000.0..=1e10).contains(bits)) {
            Some(bits) => Ok(BitRate(bits as u64)),
            None => Err("use a rate such as 800kbit or 1.5mbit, at least 1kbit".to_owned()),
        }
    }
}

impl Downlink {
    /// A wire of a rate.
    pub fn new(rate: BitRate) -> Self {
        Downlink { rate, free: None, waiting: VecDeque::new(), dropped: 0 }
    }

    /// A datagram comes to the wire at this time.
    pub fn handle_datagram(&mut self, datagram: &[u8], at: Instant) {
        let begins = self.free.filter(|free| *free > at).unwrap_or(at);
        if begins.saturating_duration_since(at) > QUEUE {
            self.dropped += 1;
            return;
        }
        let bits = (datagram.len() + OVERHEAD) as u64 * 8;
        let through = begins + Duration::from_nanos(bits * 1_000_000_000 / self.rate.0);
        self.free = Some(through);
        self.waiting.push_back((through, datagram.to_vec()));
    }

    /// The next datagram that is through, and when it was.
    pub fn poll(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        self.waiting.pop_front_if(|(through, _)| *through <= now)
    }

    /// Datagrams that did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// A second of packets of 972 bytes, each 1 ms after the one before, over a wire: when the last one got through and
    /// how many were dropped.
    fn second(rate: &str) -> (usize, Duration, u64) {
        let start = clock::now();
        let mut downlink = Downlink::new(rate.parse().unwrap());
        (0..1000).for_each(|n| downlink.handle_datagram(&[0; 972], start + Duration::from_millis(n)));
        let through: Vec<Instant> =
            std::iter::from_fn(|| downlink.poll(start + Duration::from_secs(9))).map(|(at, _)| at).collect();
        (through.len(), *through.last().unwrap() - start, downlink.dropped())
    }

    #[test]
    fn what_fits_is_let_through_as_it_comes() {
        assert_eq!(second("10mbit"), (1000, Duration::from_micros(999_800), 0));
    }

    #[test]
    fn what_does_not_fit_is_delayed_and_then_dropped() {
        // A packet takes 16 ms, so that 13 wait.
        let (through, last, dropped) = second("500kbit");
        assert_eq!(through as u64 + dropped, 1000);
        assert_eq!(through, 75);
        assert_eq!(last, Duration::from_millis(1200));
    }

    #[test]
    fn nothing_is_through_before_its_time() {
        let start = clock::now();
        let mut downlink = Downlink::new("8kbit".parse().unwrap());
        downlink.handle_datagram(&[7; 72], start);
        assert_eq!(downlink.poll(start + Duration::from_millis(99)), None);
        let through = start + Duration::from_millis(100);
        assert_eq!(downlink.poll(through), Some((through, vec![7; 72])));
    }

    #[test]
    fn rates_are_read_and_mistakes_refused() {
        let bits = |text: &str| text.parse::<BitRate>().map(|rate| rate.0);
        assert_eq!(
            [bits("1mbit"), bits("1.5Mbit"), bits("800kbit"), bits("64000")].map(Result::unwrap),
            [1_000_000, 1_500_000, 800_000, 64_000]
        );
        for wrong in ["", "mbit", "-1mbit", "10bit", "1gbit", "nan"] {
            assert!(bits(wrong).is_err(), "{wrong}");
        }
    }
}
