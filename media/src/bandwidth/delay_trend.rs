//! How long packets wait on the way: the queue that stands in front of the narrowest place, and whether it
//! grows. Only differences count, so the two clocks need not agree.
//!
//! What counts is the *least* delay of a while, as in CoDel (RFC 8289): a burst of a picture and the jitter of
//! a radio delay some packets, a queue delays all of them.

use super::line::Line;

/// The delays of one listener.
#[derive(Debug)]
pub struct DelayTrend {
    groups: [Group; GROUPS],
    /// Of the newest group, which is being filled.
    newest: usize,
    len: usize,
    /// The least delay of each span of [`BASE_SPAN_US`], newest first.
    bases: [i64; BASES],
    base_began: u64,
    base_span: u64,
}

/// Packets that left within [`GROUP_US`].
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    sent: u64,
    delay: i64,
}

/// What the delays say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Queue {
    /// What the last packets met that tell it from chance, in microseconds.
    pub newest_us: u64,
    /// What stood all the time of the last [`SHORT_US`], in microseconds.
    pub recent_us: u64,
    /// What stood all the time of the last [`LONG_US`], in microseconds.
    pub standing_us: u64,
    /// How much the delay grows, in seconds per second.
    pub slope: f64,
}

/// What the path is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A queue stands and does not shrink.
    Over,
    /// There is no queue to speak of.
    Normal,
    /// A queue stands and shrinks, or is too short to act on.
    Draining,
}

/// Packets that leave together arrive one after the other. The first of them shows the queue, the others show
/// themselves.
const GROUP_US: u64 = 5_000;
const GROUPS: usize = 64;
/// Queues are judged by what stood so long: a picture at 30 frames a second leaves the wire idle several times.
pub const LONG_US: u64 = 250_000;
/// A wire that became much narrower fills its queue in a few hundred milliseconds: it is seen after these.
pub const SHORT_US: u64 = 100_000;
/// At least so many groups are judged: with less, jitter of 30 ms could look like a queue.
const LEAST_GROUPS: usize = 6;
/// And so many of what is just now.
const NEWEST_GROUPS: usize = 4;
/// Chance is judged by so many.
const LATELY_GROUPS: usize = 32;
/// A queue that stood for the long while. Below the 60 ms that nobody minds, above what jitter of 30 ms
/// leaves as the least of ten packets.
pub const STANDING_US: u64 = 25_000;
/// A queue that stood for the short while.
const RECENT_US: u64 = 60_000;
/// A queue that shrinks faster than this needs no more than waiting.
const SHRINKING: f64 = -0.03;
/// Less than this is no queue: clocks, radios and sleeping kernels make as much.
pub const EMPTY_US: u64 = 10_000;
/// The least delay is that of the last 20 s: long enough to have seen the wire idle, short enough for a path
/// that became longer, and for clocks that drift by 100 ppm.
const BASE_SPAN_US: u64 = 2_000_000;
/// Beside flows that keep the queue full the wire is hardly ever idle: then it is that of the last five minutes.
const KEPT_SPAN_US: u64 = 30_000_000;
const BASES: usize = 10;
/// No queue is that long: a clock was set.
const CLOCK_WAS_SET_US: i64 = 5_000_000;

impl Default for DelayTrend {
    fn default() -> Self {
        DelayTrend {
            groups: [Group::default(); GROUPS],
            newest: 0,
            len: 0,
            bases: [i64::MAX; BASES],
            base_began: 0,
            base_span: BASE_SPAN_US,
        }
    }
}

impl DelayTrend {
    /// A packet that left at `sent` arrived `delay` later, both in microseconds; the zero of delays is anywhere.
    pub fn handle_arrival(&mut self, sent: u64, delay: i64) {
        if self.len > 0 && (delay - self.base()).abs() > CLOCK_WAS_SET_US {
            *self = DelayTrend::default();
        }
        self.note_base(sent, delay);
        let newest = &mut self.groups[self.newest];
        if self.len == 0 || sent >= newest.sent + GROUP_US {
            self.newest = (self.newest + usize::from(self.len > 0)) % GROUPS;
            self.len = (self.len + 1).min(GROUPS);
            self.groups[self.newest] = Group { sent, delay };
        } else if sent + GROUP_US > newest.sent {
            newest.delay = newest.delay.min(delay);
        }
        // what left earlier was reordered: it says nothing of now
    }

    /// What stands now, judged by all that has arrived.
    pub fn queue(&self) -> Queue {
        let Some(end) = self.backwards().next().map(|group| group.sent) else { return Queue::default() };
        let base = self.base();
        let (mut newest, mut recent, mut standing) = (i64::MAX, i64::MAX, i64::MAX);
        let mut line = Line::default();
        for (at, group) in self.backwards().enumerate() {
            let age = end.saturating_sub(group.sent);
            if age > LONG_US && at >= LEAST_GROUPS {
                break;
            }
            if age <= SHORT_US || at < LEAST_GROUPS / 2 {
                recent = recent.min(group.delay);
            }
            if at < NEWEST_GROUPS {
                newest = newest.min(group.delay);
            }
            standing = standing.min(group.delay);
            line.add(-(age as f64), (group.delay - base) as f64);
        }
        let over_base = |delay: i64| u64::try_from(delay.saturating_sub(base)).unwrap_or_default();
        Queue {
            newest_us: over_base(newest),
            recent_us: over_base(recent),
            standing_us: over_base(standing),
            slope: line.slope(),
        }
    }

    /// By how much chance delays three of four packets at least, microseconds. Sound that waits behind a picture
    /// is no chance, and is less than that.
    pub fn jitter_us(&self) -> u64 {
        let mut delays = [0; GROUPS];
        let len = self
            .backwards()
            .take(LATELY_GROUPS)
            .zip(&mut delays)
            .map(|(group, at)| *at = group.delay)
            .count();
        let delays = &mut delays[..len];
        delays.sort_unstable();
        let (Some(least), Some(quarter)) = (delays.first(), delays.get(len / 4)) else { return 0 };
        u64::try_from(quarter - least).unwrap_or_default()
    }

    /// The least delay is remembered longer, or not.
    pub fn keep_base(&mut self, longer: bool) {
        self.base_span = if longer { KEPT_SPAN_US } else { BASE_SPAN_US };
    }

    fn backwards(&self) -> impl Iterator<Item = &Group> {
        (0..self.len).map(|back| &self.groups[(self.newest + GROUPS - back) % GROUPS])
    }

    /// A delay that was least before counts again.
    pub fn lower_base(&mut self, base: i64) {
        self.bases[0] = self.bases[0].min(base);
    }

    /// The least delay that is remembered.
    pub fn base(&self) -> i64 {
        self.bases.iter().copied().min().unwrap_or(i64::MAX)
    }

    fn note_base(&mut self, sent: u64, delay: i64) {
        let spans = (sent.saturating_sub(self.base_began) / self.base_span).min(BASES as u64) as usize;
        if spans > 0 {
            // nothing heard for long: the last that is known stays better than nothing
            let before = self.base();
            self.bases.rotate_right(spans % BASES);
            self.bases[..spans].fill(i64::MAX);
            if spans == BASES {
                self.bases[BASES - 1] = before;
            }
            self.base_began = sent;
        }
        self.bases[0] = self.bases[0].min(delay);
    }
}

impl Queue {
    /// What it means for who sends.
    pub fn usage(&self) -> Usage {
        if self.standing_us < EMPTY_US {
            Usage::Normal
        } else if self.slope > SHRINKING && (self.standing_us > STANDING_US || self.recent_us > RECENT_US) {
            Usage::Over
        } else {
            Usage::Draining
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet each 10 ms, delayed by what `delay` gives for its number.
    fn after(packets: u64, delay: impl Fn(u64) -> i64) -> Queue {
        let mut trend = DelayTrend::default();
        (0..packets).for_each(|number| trend.handle_arrival(number * 10_000, delay(number)));
        trend.queue()
    }

    #[test]
    fn a_queue_that_grows_is_overuse_and_one_that_shrinks_is_not() {
        let growing = after(100, |number| 5000 + 1200 * number.saturating_sub(50) as i64);
        assert_eq!(growing.usage(), Usage::Over);
        assert!((0.11..0.13).contains(&growing.slope), "1.2 ms in 10: {growing:?}");
        let shrinking =
            after(100, |number| 5000 + if number < 50 { 0 } else { 200_000 - 1000 * number as i64 });
        assert_eq!(shrinking.usage(), Usage::Draining);
        assert_eq!(after(100, |_| -7_000_000).usage(), Usage::Normal);
    }

    #[test]
    fn jitter_and_bursts_are_no_queue() {
        let jitter = after(200, |number| 20_000 + (number * 7919 % 30_000) as i64);
        assert_eq!(jitter.usage(), Usage::Normal, "{jitter:?}");
        // a picture of 80 ms on the wire in front of the sound, once
        let burst = after(100, |number| if (90..98).contains(&number) { 100_000 } else { 20_000 });
        assert_eq!(burst.usage(), Usage::Normal, "{burst:?}");
    }

    #[test]
    fn a_clock_that_was_set_begins_anew() {
        let queue = after(100, |number| if number < 50 { 0 } else { 60_000_000 });
        assert_eq!((queue.usage(), queue.standing_us), (Usage::Normal, 0));
    }

    #[test]
    fn what_overtook_others_does_not_confuse_the_groups() {
        let mut trend = DelayTrend::default();
        for number in [1, 0, 3, 2, 5, 4, 7, 6, 9, 8] {
            trend.handle_arrival(number * 10_000, 20_000);
        }
        assert_eq!(trend.queue(), Queue::default());
    }

    #[test]
    fn chance_is_measured_over_the_packets_that_it_delays() {
        let mut trend = DelayTrend::default();
        for number in 0..60_u64 {
            trend.handle_arrival(number * 10_000, (number * 7919 % 30_000) as i64);
        }
        assert!((5_000..10_000).contains(&trend.jitter_us()), "{}", trend.jitter_us());
    }
}
