//! How often each packet of a sound leaves. A receiver that cannot ask for what it lost hears a hole, unless the same
//! octets come a second time 20 ms later: every browser takes the first of two and drops the other. Or later packets
//! carry it along (RED, RFC 2198), for who can take that apart. Both cost rate, so it is done only while the path loses
//! something.

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

/// In which way a packet leaves again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By itself: the same octets.
    Repeats,
    /// As a copy that later packets carry. It costs less, and what it mends shows as lost all the same: the listener tells
    /// what the path loses without it, however it tells.
    Copies,
}

/// The decision for one listener.
#[derive(Debug)]
pub struct Mending {
    how: How,
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
/// Above this share it leaves again, by itself or as a copy: what is lost by chance now and then is less.
const LOSES: [f64; 2] = [0.01, 0.02];
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
/// Who loses more than this loses because it is too much: what is more then is lost too.
const TOO_MUCH: f64 = 0.35;
/// Fewer packets say nothing of that.
const LEAST_TOLD: u64 = 40;
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

impl Mending {
    /// Nothing is known of the path.
    pub fn new(how: How, now: Instant) -> Mending {
        Mending {
            how,
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

    /// In which way a packet leaves again.
    pub fn how(&self) -> How {
        self.how
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
        let loses = lately.lost >= LEAST_LOST && share(lately) > LOSES[self.how as usize];
        let much = if self.times == Times::Twice { LOSES_LESS } else { LOSES_MUCH };
        let bursts = lately.in_row >= LEAST_IN_ROW && lately.in_row as f64 >= IN_ROW * lately.lost as f64;
        let worse = self.is_worse(now, share(lately));
        let too_much = lately.packets >= LEAST_TOLD && share(lately) > TOO_MUCH;
        let times = match self.times {
            _ if worse || too_much || now < self.not_before => Times::Never,
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
        let due = self.tried.filter(|(_, since)| now >= since + TRIED_US || lost > TOO_MUCH);
        let Some((before, _)) = due else { return false };
        self.tried = None;
        let worse =
            self.times > Times::Never && !self.blind && lost > (WORSE * before + WORSE_BY).max(TOO_MUCH);
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
            let hidden = self.blind && self.how == How::Repeats;
            let soon = hidden && self.ended.is_some_and(|ended| now < ended + 2 * HOLD_US);
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
#[path = "decision_tests.rs"]
mod tests;
