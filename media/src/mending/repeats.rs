//! How often each packet of a sound leaves. A receiver that cannot ask for what it lost hears a hole, unless the same
//! octets come a second time 20 ms later: every browser takes the first of two and drops the other. It costs the
//! sound's rate once more, so it is done only while the path loses something.

use std::time::Instant;

use crate::{bandwidth::Told, bins::Bins};

/// How often a packet leaves, beside the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Times {
    /// Not again.
    #[default]
    Never,
    /// After 20 ms.
    Once,
    /// After 20 ms and after 60.
    Twice,
}

/// The decision for one listener.
#[derive(Debug)]
pub struct Repeats {
    began: Instant,
    /// Seconds.
    bins: Bins<Told, SECONDS, 1_000_000>,
    /// What was told when it was looked last.
    before: Told,
    times: Times,
    /// Since when it is so.
    since: u64,
    /// The listener tells nothing of single packets: what is mended does not show as lost.
    blind: bool,
    /// How long that is gone on with, of a listener that tells nothing of single packets.
    hold_us: u64,
    /// When it was last ended.
    ended: Option<u64>,
    /// The share that was lost before it was more often than now, until it is known what came of that.
    tried: Option<(f64, u64)>,
    /// It made things worse: not before this time again, and how long that is.
    not_before: u64,
    pause_us: u64,
}

const SECONDS: usize = 20;
/// A loss counts over so many of them.
const LATELY: usize = 5;
/// Above this share something is done: what is lost by chance now and then is less.
const LOSES: f64 = 0.01;
/// And so many packets in this time: three of a burst may be chance.
const LEAST_LOST: u64 = 4;
/// Above this, one repeat leaves too much: 0.6 % is heard.
const LOSES_MUCH: f64 = 0.08;
/// And goes on so until it is clearly less.
const LOSES_LESS: f64 = 0.06;
/// Of the losses so many have followed another: they come in bursts, and a repeat may be in the same one.
const IN_ROW: f64 = 1.0 / 3.0;
const LEAST_IN_ROW: u64 = 4;
/// Below this share over all that is known, nothing is done any more.
const LOSES_NOTHING: f64 = 0.005;
/// It goes on for so long at least: all that is known is of this time then.
const HOLD_US: u64 = SECONDS as u64 * 1_000_000;
/// Who only reports shares hears the losses each time that it is tried whether they are over: seldom.
const HOLD_MOST_US: u64 = 16 * HOLD_US;
/// A path that drops what is too much, and has no queue, loses more by it. That is seen after so long, which is as long as
/// what was lost before counts.
const TRIED_US: u64 = LATELY as u64 * 1_000_000;
/// More than this, in parts of what was lost before, and above it.
const WORSE: f64 = 2.0;
const WORSE_BY: f64 = 0.05;
/// How long it is not tried again then, doubled each time, and at most.
const PAUSE_US: u64 = 60_000_000;
const PAUSE_MOST_US: u64 = 16 * PAUSE_US;
/// A receiver report stands for so many packets: it covers a second or more.
const REPORTED: u64 = 100;

impl Repeats {
    /// Nothing is known of the path.
    pub fn new(now: Instant) -> Repeats {
        Repeats {
            began: now,
            bins: Bins::default(),
            before: Told::default(),
            times: Times::Never,
            since: 0,
            blind: true,
            hold_us: HOLD_US,
            ended: None,
            tried: None,
            not_before: 0,
            pause_us: PAUSE_US,
        }
    }

    /// What the listener has told of single packets since the beginning.
    pub fn handle_told(&mut self, told: Told, now: Instant) {
        let now = self.advance(now);
        self.blind = false;
        let before = std::mem::replace(&mut self.before, told);
        let newest = self.bins.newest();
        // What was sent once says most: of what was sent twice nobody knows for sure which of the two came.
        let (once, twice) = (told.packets - before.packets, told.repeated - before.repeated);
        newest.packets += once;
        // One that comes late takes its loss back.
        newest.lost = (newest.lost + told.lost).saturating_sub(before.lost);
        newest.in_row += told.in_row - before.in_row;
        if once < twice {
            newest.packets += twice;
            newest.lost += told.mended - before.mended;
        }
        self.look(now);
    }

    /// What it has told while a queue stood: that says nothing of what the path loses anyway, and there is no room.
    pub fn handle_told_in_queue(&mut self, told: Told) {
        self.blind = false;
        self.before = told;
        self.bins.clear();
        self.tried = None;
        self.times = Times::Never;
    }

    /// The share that a receiver report says was lost, of a listener that tells nothing of single packets.
    pub fn handle_report(&mut self, share: f64, now: Instant) {
        let now = self.advance(now);
        if !self.blind || !share.is_finite() {
            return;
        }
        let newest = self.bins.newest();
        newest.packets += REPORTED;
        newest.lost += (REPORTED as f64 * share.clamp(0.0, 1.0)).round() as u64;
        self.look(now);
    }

    /// How often a packet leaves again, if there is room for it.
    pub fn times(&self) -> Times {
        self.times
    }

    fn look(&mut self, now: u64) {
        let lately = self.sum(LATELY);
        let loses = lately.lost >= LEAST_LOST && share(lately) > LOSES;
        let much = if self.times == Times::Twice { LOSES_LESS } else { LOSES_MUCH };
        let bursts = lately.in_row >= LEAST_IN_ROW && lately.in_row as f64 >= IN_ROW * lately.lost as f64;
        let worse = self.is_worse(now, share(lately));
        let times = match self.times {
            _ if worse || now < self.not_before => Times::Never,
            _ if loses && (bursts || share(lately) > much) => Times::Twice,
            _ if loses => Times::Once,
            Times::Never => Times::Never,
            same if now < self.since + self.hold_us || share(self.sum(SECONDS)) >= LOSES_NOTHING => {
                same.min(Times::Once)
            }
            _ => Times::Never,
        };
        self.turn(times, now);
    }

    /// Whether sending more has only lost more.
    fn is_worse(&mut self, now: u64, lost: f64) -> bool {
        let due = self.tried.filter(|(_, since)| now >= since + TRIED_US);
        let Some((before, _)) = due else { return false };
        self.tried = None;
        let worse = self.times > Times::Never && !self.blind && lost > WORSE * before + WORSE_BY;
        if worse {
            self.not_before = now + self.pause_us;
            self.pause_us = (2 * self.pause_us).min(PAUSE_MOST_US);
        }
        worse
    }

    fn turn(&mut self, times: Times, now: u64) {
        if self.times == times {
            return;
        }
        if times > self.times {
            self.tried = Some((share(self.sum(LATELY)), now));
        }
        if self.times == Times::Never {
            let soon = self.blind && self.ended.is_some_and(|ended| now < ended + 2 * HOLD_US);
            self.hold_us = if soon { (2 * self.hold_us).min(HOLD_MOST_US) } else { HOLD_US };
        }
        if times == Times::Never {
            self.ended = Some(now);
            if now >= self.not_before {
                self.pause_us = PAUSE_US;
            }
        }
        if self.times == Times::Never || times == Times::Never {
            self.since = now;
        }
        self.times = times;
    }

    fn sum(&self, seconds: usize) -> Told {
        let mut sum = Told::default();
        for told in &self.bins.all()[..seconds] {
            sum.packets += told.packets;
            sum.lost += told.lost;
            sum.in_row += told.in_row;
        }
        sum
    }

    fn advance(&mut self, now: Instant) -> u64 {
        let now = now.saturating_duration_since(self.began).as_micros() as u64;
        self.bins.advance(now);
        now
    }
}

impl Times {
    /// As a number of repeats.
    pub fn count(self) -> usize {
        self as usize
    }
}

fn share(told: Told) -> f64 {
    told.lost as f64 / told.packets.max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A listener of 50 packets a second that tells of each tenth of a second.
    struct Listener {
        repeats: Repeats,
        told: Told,
        now: Instant,
        packet: u64,
    }

    impl Listener {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        fn new() -> Listener {
            let now = Instant::now();
            Listener { repeats: Repeats::new(now), told: Told::default(), now, packet: 0 }
        }

        /// So long with losses of `run` packets every so many; gives after how long each change came.
        fn tell(&mut self, seconds: u64, (run, every): (u64, u64)) -> Vec<(Times, u64)> {
            let (began, mut seen) = (self.now, Vec::new());
            for _ in 0..seconds * 10 {
                let before = self.repeats.times();
                for _ in 0..5 {
                    self.packet += 1;
                    let at = self.packet % every.max(1);
                    self.told.packets += 1;
                    self.told.lost += u64::from(every > 0 && at < run);
                    self.told.in_row += u64::from(every > 0 && at > 0 && at < run);
                }
                self.now += Duration::from_millis(100);
                self.repeats.handle_told(self.told, self.now);
                if self.repeats.times() != before {
                    seen.push((self.repeats.times(), self.now.duration_since(began).as_secs()));
                }
            }
            seen
        }

        /// Reports this each second; gives after how many it is so.
        fn report_until(&mut self, times: Times, share: f64) -> u64 {
            (1..1000)
                .find(|_| {
                    self.now += Duration::from_secs(1);
                    self.repeats.handle_report(share, self.now);
                    self.repeats.times() == times
                })
                .expect("it comes to that")
        }
    }

    #[test]
    fn what_is_lost_by_chance_is_not_repeated() {
        assert_eq!(Listener::new().tell(600, (1, 0)), []);
        assert_eq!(Listener::new().tell(600, (1, 150)), [], "two thirds of a percent");
        assert_eq!(Listener::new().tell(30, (3, 1000)), [], "three at once, and then nothing for 20 s");
    }

    #[test]
    fn it_begins_as_soon_as_enough_is_lost_and_ends_when_nothing_was_for_long() {
        let mut listener = Listener::new();
        let began = listener.tell(60, (1, 50));
        assert_eq!(began.len(), 1, "{began:?}");
        assert_eq!(began[0].0, Times::Once);
        assert!(began[0].1 <= 5, "2 % are seen in {began:?}");
        let ended = listener.tell(60, (1, 0));
        assert!(matches!(ended[..], [(Times::Never, 10..=20)]), "less than 0.5 % in 20 s: {ended:?}");
        assert!(listener.tell(60, (1, 20))[0].1 <= 2, "5 %");
    }

    #[test]
    fn where_much_is_lost_or_in_bursts_it_is_repeated_twice() {
        let last = |losses| Listener::new().tell(20, losses).last().map(|(times, _)| *times);
        assert_eq!(last((1, 20)), Some(Times::Once), "5 %");
        assert_eq!(last((1, 10)), Some(Times::Twice), "10 %");
        assert_eq!(last((3, 60)), Some(Times::Twice), "5 % in bursts of three");
        let mut listener = Listener::new();
        listener.tell(20, (1, 10));
        assert_eq!(listener.tell(20, (1, 14)), [], "7 % are not yet less");
        assert_eq!(listener.tell(10, (1, 25)).last().map(|(times, _)| *times), Some(Times::Once));
    }

    #[test]
    fn who_reports_only_shares_is_tried_ever_more_seldom() {
        let mut listener = Listener::new();
        let mut held = Vec::new();
        for _ in 0..6 {
            listener.report_until(Times::Once, 0.05);
            // While it is repeated nothing is lost.
            held.push(listener.report_until(Times::Never, 0.0));
        }
        assert!(held.is_sorted() && held[0] <= 20 && held[5] >= 300, "{held:?}");
    }

    #[test]
    fn what_only_loses_more_by_it_is_left_alone() {
        let mut listener = Listener::new();
        listener.tell(4, (1, 20));
        assert_eq!(listener.repeats.times(), Times::Once);
        // A policer drops what is too much.
        let ended = listener.tell(8, (2, 5));
        assert_eq!(ended.last().map(|(times, _)| *times), Some(Times::Never), "{ended:?}");
        assert_eq!(listener.tell(50, (1, 20)), []);
        assert_eq!(listener.tell(20, (1, 20)).len(), 1, "tried again after a minute");
        assert_eq!(listener.tell(8, (2, 5)).last().map(|(times, _)| *times), Some(Times::Never));
        assert_eq!(listener.tell(100, (1, 20)), [], "two minutes then");
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut listener = Listener::new();
        for share in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            listener.repeats.handle_report(share, listener.now);
            assert_eq!((listener.repeats.times(), listener.repeats.sum(SECONDS).lost), (Times::Never, 0));
        }
    }
}
