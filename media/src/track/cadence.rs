//! How evenly the pictures of a track come, and so how long it may be silent before that is a cut and not its way of
//! coming.

use std::time::{Duration, Instant};

/// How evenly the pictures of one track come.
#[derive(Debug, Default)]
pub struct Cadence {
    /// When a packet last came.
    last: Option<Instant>,
    /// The newest picture: its timestamp, and when it began to come.
    picture: Option<(u32, Instant)>,
    /// From one picture to the next, on average.
    interval: Option<Duration>,
    /// Pictures since it came without a long pause.
    pictures: u32,
    /// The longest silence of this span and of the one before it.
    longest: [Duration; 2],
    span_began: Option<Instant>,
}

/// Silences are remembered for one to two of these: a publisher that leaves out a frame now and then does so again.
const SPAN: Duration = Duration::from_secs(5);
/// A silence that ends within this time is the way in which a track comes, even if something was lost in it: a link that
/// is cut is noticed later than that.
const SHORT: Duration = Duration::from_millis(150);
/// A longer silence says nothing of how the track comes otherwise.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many pictures it is known how unevenly they come.
const KNOWN: u32 = 30;
/// Less than two intervals, so that a cut does not cost two pictures; and what the network does to a packet is in it.
const LEAST: Duration = Duration::from_millis(40);
/// How much of an interval the average takes over.
const WEIGHT: u32 = 8;

impl Cadence {
    /// A packet came. `follows` says that nothing is missing before it.
    pub fn handle_packet(&mut self, timestamp: u32, follows: bool, now: Instant) {
        let silence = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        if silence.is_some_and(|silence| silence >= PAUSE) {
            (self.pictures, self.longest, self.span_began) = (0, Default::default(), None);
        } else if let Some(silence) = silence.filter(|silence| follows || *silence <= SHORT) {
            if self.span_began.is_none_or(|began| now.saturating_duration_since(began) >= SPAN) {
                self.longest = [Duration::ZERO, self.longest[0]];
                self.span_began = Some(now);
            }
            self.longest[0] = self.longest[0].max(silence);
        }
        match self.picture {
            Some((known, _)) if (timestamp.wrapping_sub(known) as i32) <= 0 => {}
            Some((_, began)) => {
                if follows {
                    let took = now.saturating_duration_since(began);
                    let mean = self.interval.map_or(took, |mean| (mean * (WEIGHT - 1) + took) / WEIGHT);
                    self.interval = Some(mean);
                    self.pictures += 1;
                }
                self.picture = Some((timestamp, now));
            }
            None => self.picture = Some((timestamp, now)),
        }
    }

    /// When a packet last came.
    pub fn last(&self) -> Option<Instant> {
        self.last
    }

    /// When its newest picture began to come.
    pub fn began(&self) -> Option<Instant> {
        self.picture.map(|(_, began)| began)
    }

    /// From one picture to the next, on average; nothing as long as that is not known.
    pub fn interval(&self) -> Duration {
        self.interval.unwrap_or_default()
    }

    /// A silence longer than this is not its way of coming. Nothing as long as that is not known.
    pub fn patience(&self) -> Option<Duration> {
        let half = self.interval? / 2;
        let longest = self.longest[0].max(self.longest[1]).max(self.interval?);
        (self.pictures >= KNOWN).then_some((longest + half).max(LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Pictures of one packet, `gaps` milliseconds apart; a gap that is negative has a hole in it.
    fn patience(gaps: impl IntoIterator<Item = i64>) -> Option<u128> {
        let (mut cadence, mut now, mut timestamp) = (Cadence::default(), start(), u32::MAX - 9000);
        for gap in gaps {
            now += ms(gap.unsigned_abs());
            timestamp = timestamp.wrapping_add(gap.unsigned_abs() as u32 * 90);
            cadence.handle_packet(timestamp, gap > 0, now);
        }
        cadence.patience().map(|patience| patience.as_millis())
    }

    #[test]
    fn a_track_that_comes_evenly_may_miss_one_picture_and_not_two() {
        assert_eq!(patience([33; 20]), None, "it has just begun");
        assert_eq!(patience([40; 60]), Some(60));
        assert_eq!(patience([10; 200]), Some(LEAST.as_millis()));
    }

    #[test]
    fn an_uneven_track_is_waited_for_as_long_as_it_has_ever_taken() {
        let third = patience((0..90).map(|at| if at % 2 == 0 { 33 } else { 67 }));
        assert!(third.is_some_and(|third| (85..100).contains(&third)), "{third:?}");
        // One picture that was left out is remembered for five to ten seconds.
        let once = |more| patience([40; 60].into_iter().chain([80]).chain(vec![40; more]));
        assert_eq!((once(100), once(250)), (Some(100), Some(60)));
    }

    #[test]
    fn a_cut_says_nothing_of_how_a_track_comes_and_a_short_loss_does() {
        let cut = |gap| patience([40; 60].into_iter().chain([gap]).chain([40; 20]));
        assert_eq!(cut(-300), Some(60));
        assert_eq!(cut(-120), Some(140));
        assert_eq!(cut(300), Some(321), "late, but all there");
        assert_eq!(cut(-1500), None, "it begins anew");
    }
}
