//! How many bytes of files may be on their way over one link: so many that the link is used, so few that
//! what is more urgent never finds a queue of more than [`QUEUE`] before it.

use std::time::{Duration, Instant};

/// The queue that files may build on a link.
pub(crate) const QUEUE: Duration = Duration::from_millis(25);
/// The most that is asked of one link at a time, in bytes: half of what the driver's queue takes.
pub(crate) const WINDOW_MAX: u32 = 1024 * 1024;
/// The least, in bytes: also the smallest piece.
pub(crate) const WINDOW_MIN: u32 = 4 * 1024;
/// A piece on a link that is not slow, in bytes.
pub(crate) const PIECE: u32 = 16 * 1024;

const WINDOW_FIRST: u32 = 16 * 1024;
/// The fastest answer is looked for anew so often: a way may have become longer.
const BASE_FOR: Duration = Duration::from_secs(10);

/// Grows by a piece each round while answers come at once, shrinks by a fifth when they queue.
#[derive(Debug)]
pub(crate) struct Window {
    size: u32,
    /// Below this the window doubles each round; at first until a queue is seen.
    open_to: u32,
    /// The fastest answer of this time and of the one before.
    base: [Option<Duration>; 2],
    base_until: Instant,
    /// The window of before, while the queue is let run empty so that the fastest answer can be seen: else
    /// a queue that always stands would pass for the length of the way.
    emptying: Option<(u32, Instant)>,
    shrunk: Instant,
}

impl Window {
    pub fn new(now: Instant) -> Window {
        Window {
            size: WINDOW_FIRST,
            open_to: WINDOW_MAX,
            base: [None; 2],
            base_until: now + BASE_FOR,
            emptying: None,
            shrunk: now,
        }
    }

    /// Bytes that may be on their way.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Bytes to ask for at a time.
    pub fn piece(&self) -> u32 {
        if self.size < 4 * PIECE { WINDOW_MIN } else { PIECE }
    }

    /// A piece of `length` bytes came `took` after it was asked for. `full` says that the window was what
    /// kept more from being asked.
    pub fn handle_piece(&mut self, length: u32, took: Duration, full: bool, now: Instant) {
        if now >= self.base_until {
            self.base = [None, self.base[0]];
            self.base_until = now + BASE_FOR;
            self.emptying = Some((self.size, now + took * 2));
            self.size = WINDOW_MIN;
        }
        self.base[0] = Some(self.base[0].map_or(took, |base| base.min(took)));
        if let Some((size, until)) = self.emptying {
            if now >= until {
                // Not at once: a whole window in one go is a queue.
                (self.open_to, self.emptying) = (size, None);
            }
            return;
        }
        let base = self.base.iter().flatten().min().copied().unwrap_or(took);
        let queue = took.saturating_sub(base);
        if queue > QUEUE / 2 {
            self.open_to = 0;
        }
        if queue > QUEUE {
            // Once each round: what was asked before the window shrank says nothing new.
            if now >= self.shrunk + took {
                self.size = (self.size / 5 * 4).max(WINDOW_MIN);
                self.shrunk = now;
            }
        } else if queue < QUEUE / 2 && full {
            let more = if self.size < self.open_to {
                u64::from(length)
            } else {
                u64::from(length) * u64::from(self.piece()) / u64::from(self.size)
            };
            self.size = self.size.saturating_add(more as u32).min(WINDOW_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::epoch;

    /// A link of so many bytes per second and a delay: what queue does the window settle at?
    fn settle(rate: u64, delay: Duration) -> (Duration, u64) {
        let start = epoch();
        let (mut now, mut free_at) = (start, start);
        let mut window = Window::new(now);
        let mut flights: std::collections::VecDeque<(Instant, u32, Instant)> = Default::default();
        let (mut worst, mut bytes) = (Duration::ZERO, 0);
        while now < start + Duration::from_secs(60) {
            while flights.is_empty()
                || flights.iter().map(|f| f.1).sum::<u32>() + window.piece() <= window.size()
            {
                let length = window.piece();
                let queue = free_at.saturating_duration_since(now);
                if now > start + Duration::from_secs(30) {
                    worst = worst.max(queue);
                    bytes += u64::from(length);
                }
                free_at = free_at.max(now) + Duration::from_micros(u64::from(length) * 1_000_000 / rate);
                flights.push_back((now, length, free_at + delay));
            }
            let (asked, length, arrives) = flights.pop_front().expect("the window is never empty");
            now = now.max(arrives);
            window.handle_piece(length, now - asked, true, now);
        }
        (worst, bytes / 30)
    }

    #[test]
    fn a_link_is_used_and_its_queue_stays_short() {
        for (mbit, delay_ms) in [(2, 30), (10, 5), (10, 60), (100, 5), (100, 30)] {
            let rate = mbit * 1_000_000 / 8;
            let (queue, used) = settle(rate, Duration::from_millis(delay_ms));
            println!("{mbit} Mbit/s, {delay_ms} ms: queue {queue:?}, used {} %", used * 100 / rate);
            let piece = Duration::from_micros(u64::from(PIECE) * 1_000_000 / rate);
            assert!(queue <= QUEUE * 2 + piece, "{mbit} Mbit/s: {queue:?}");
            assert!(used * 10 >= rate * 7, "{mbit} Mbit/s: {used} of {rate}");
        }
    }
}
