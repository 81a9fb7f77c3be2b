//! How many of the packets before it each packet of a sound carries along (RED, RFC 2198), for a listener that can take
//! that apart. It costs less than [`Repeats`], and what it mends shows as lost all the same: the listener tells what the
//! path loses without it, however it tells.

use std::time::Instant;

use super::{Repeats, Times};
use crate::bandwidth::Told;

/// The decision for one listener.
#[derive(Debug)]
pub struct Red(Repeats);

/// Above this share something is done.
const LOSES: f64 = 0.02;

impl Red {
    /// Nothing is known of the path.
    pub fn new(now: Instant) -> Red {
        Red(Repeats::of(LOSES, true, now))
    }

    /// What the listener has told of single packets since the beginning.
    pub fn handle_told(&mut self, told: Told, now: Instant) {
        self.0.handle_told(told, now);
    }

    /// What it has told while a queue stood: that says nothing of what the path loses anyway, and there is no room.
    pub fn handle_told_in_queue(&mut self, told: Told) {
        self.0.handle_told_in_queue(told);
    }

    /// The share that a receiver report says was lost, of a listener that tells nothing of single packets.
    pub fn handle_report(&mut self, share: f64, now: Instant) {
        self.0.handle_report(share, now);
    }

    /// So many copies, if there is room for them.
    pub fn copies(&self) -> Times {
        self.0.times()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A listener of 50 packets a second that tells of each tenth of a second, and loses `run` packets of every so many.
    struct Listener {
        red: Red,
        told: Told,
        now: Instant,
        packet: u64,
    }

    impl Listener {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        fn new() -> Listener {
            let now = Instant::now();
            Listener { red: Red::new(now), told: Told::default(), now, packet: 0 }
        }

        /// What it comes to in so long, each time that it is another.
        fn tell(&mut self, seconds: u64, (run, every): (u64, u64)) -> Vec<Times> {
            let mut seen = Vec::new();
            for _ in 0..seconds * 10 {
                let before = self.red.copies();
                for _ in 0..5 {
                    self.packet += 1;
                    let at = self.packet % every.max(1);
                    self.told.packets += 1;
                    self.told.lost += u64::from(every > 0 && at < run);
                    self.told.in_row += u64::from(every > 0 && at > 0 && at < run);
                }
                self.now += Duration::from_millis(100);
                self.red.handle_told(self.told, self.now);
                if self.red.copies() != before {
                    seen.push(self.red.copies());
                }
            }
            seen
        }
    }

    #[test]
    fn it_begins_above_two_percent_and_ends_when_nothing_was_lost_for_long() {
        assert_eq!(Listener::new().tell(600, (1, 0)), []);
        assert_eq!(Listener::new().tell(600, (1, 80)), [], "1.25 %");
        let mut listener = Listener::new();
        assert_eq!(listener.tell(20, (1, 30)), [Times::Once], "3.3 %");
        assert_eq!(listener.tell(60, (1, 100)), [], "1 % is not nothing");
        assert_eq!(listener.tell(60, (1, 0)), [Times::Never]);
    }

    #[test]
    fn where_much_is_lost_or_in_bursts_there_are_two() {
        let last = |losses| Listener::new().tell(20, losses).last().copied();
        assert_eq!(last((1, 20)), Some(Times::Once), "5 %");
        assert_eq!(last((1, 10)), Some(Times::Twice), "10 %");
        assert_eq!(last((3, 60)), Some(Times::Twice), "5 % in bursts of three");
    }

    #[test]
    fn who_reports_only_shares_is_not_tried_ever_more_seldom() {
        let mut listener = Listener::new();
        let mut report_until = |times: Times, share: f64| {
            (1..1000).find(|_| {
                listener.now += Duration::from_secs(1);
                listener.red.handle_report(share, listener.now);
                listener.red.copies() == times
            })
        };
        for _ in 0..4 {
            assert!(report_until(Times::Once, 0.05).is_some_and(|after| after <= 5));
            assert!(report_until(Times::Never, 0.0).is_some_and(|after| after <= 20), "what is mended shows");
        }
    }
}
