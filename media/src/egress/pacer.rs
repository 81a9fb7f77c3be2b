//! Pacing: how much of a picture may leave now for a listener whose path has shown its limit or loses, and which
//! numbers wait.
//!
//! Owns the budget and the backlog of one listener, and who has a backlog. What leaves is sealed in `fill`; `fan_out`
//! says when.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use super::{Egress, placed::OVERHEAD};
use crate::{
    bandwidth::Estimator,
    track::{Listener, ring::Ring},
};

/// What of a picture waits for one listener, and how much of it may leave.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Numbers in the ring of the present source, in the order in which they came. No copies: what a layer costs, or
    /// whether it is sent at all, is settled when it leaves.
    backlog: VecDeque<Range<u64>>,
    /// Octets of the backlog.
    octets: f64,
    /// Octets that may leave. Below zero when more has left: a packet leaves whole, and repairs do not wait.
    budget: f64,
    filled_at: Instant,
    /// Octets per second at which what waits is out in time. Never lowered while something waits, so that what comes
    /// later does not hold up what was there.
    haste: f64,
    /// When the backlog has to be empty.
    due: Instant,
    /// The backlog leaves faster than the estimate says.
    hastens: bool,
    /// It is among the [`Backlogs`].
    is_listed: bool,
}

/// Between two runs to a listener. What leaves in a run is one segmented send; more often is more system calls, and a
/// run of 5 ms at 2.5 times what the path carries needs a queue of 7.5 ms.
pub(super) const PACE_INTERVAL: Duration = Duration::from_millis(5);
/// The pace where nothing more is known, in parts of the estimate: that of WebRTC's pacer. A source that sends what the
/// estimate allows is through a frame in less than half of the time until the next, and a keyframe hardly waits where the
/// estimate is too low.
const PACE: f64 = 2.5;
/// The pace where something is lost and it is not known what is carried. What arrives is in the estimate, mostly with a
/// third more, so a frame is through well before the next; a queue of 15 ms still takes a keyframe where the estimate
/// is as high as what the path carries.
const LOSSY_PACE: f64 = 1.2;
/// Of what the path was seen to carry: no faster, where that is known. A probe that a short queue swallowed has shown
/// up to a sixth too much.
const CARRIED: f64 = 0.88;
/// But never slower than this, in parts of the estimate, also near what is carried: what was seen may be old.
const LEAST_PACE: f64 = 1.05;
/// Frames leave at once from this estimate on, which is the highest there is: the path has room.
const ROOMY: u64 = 20_000_000;
/// Nothing waits longer. Above that the picture is late rather than smooth: a publisher has sent far more than the
/// estimate, and only a worse encoding helps.
const LONGEST: Duration = Duration::from_millis(250);
/// Who has been sent nothing for a while gets at least so much at once, whatever the estimate: two packets.
const LEAST_RUN: f64 = 2.0 * 1236.0;
/// Repairs and probes take no more than this from the runs that follow.
const MOST_OWED: Duration = Duration::from_millis(50);
/// Holes that a publisher's losses leave in a backlog. With more of them everything leaves with the next run.
const MOST_RANGES: usize = 64;

impl Pacer {
    fn new(now: Instant) -> Pacer {
        Pacer {
            backlog: VecDeque::new(),
            octets: 0.0,
            budget: f64::MAX,
            filled_at: now,
            haste: 0.0,
            due: now,
            hastens: false,
            is_listed: false,
        }
    }

    /// Time has passed, in which so many octets per second might leave.
    fn fill(&mut self, pace: f64, now: Instant) {
        let rate = pace.max(self.haste);
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        // A run that is late may make up for it.
        let runs = if self.backlog.is_empty() { 1.0 } else { 2.0 };
        let most = (runs * rate * PACE_INTERVAL.as_secs_f64()).max(LEAST_RUN);
        let owed = self.budget.max(-rate * MOST_OWED.as_secs_f64());
        self.budget = (owed + rate * elapsed).min(most);
        self.hastens = self.haste > pace;
        if !self.backlog.is_empty() {
            // Whatever repairs took: what does not fit into the runs after this one leaves with it.
            let after = self.due.saturating_duration_since(now).saturating_sub(PACE_INTERVAL);
            let needed = self.octets - rate * after.as_secs_f64();
            self.hastens |= needed > self.budget;
            self.budget = self.budget.max(needed);
        }
    }

    fn push(&mut self, number: u64, octets: f64) {
        match self.backlog.back_mut().filter(|range| range.end == number) {
            Some(range) => range.end += 1,
            None => self.backlog.push_back(number..number + 1),
        }
        self.octets += octets;
    }

    fn pop(&mut self) -> Option<u64> {
        let range = self.backlog.front_mut()?;
        let number = range.start;
        range.start += 1;
        if range.is_empty() {
            self.backlog.pop_front();
        }
        Some(number)
    }

    fn clear(&mut self) {
        self.backlog.clear();
        self.settle();
    }

    /// Nothing waits: what was counted of it is void.
    fn settle(&mut self) {
        if self.backlog.is_empty() {
            (self.octets, self.haste) = (0.0, 0.0);
        }
    }
}

/// How fast something leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speed {
    /// At the pace that the estimate gives.
    Pace,
    /// Faster, so that it does not wait too long.
    Haste,
}

impl Egress {
    /// Whether what comes for this listener leaves in runs.
    pub(super) fn is_paced(&self, path: Option<&Estimator>, now: Instant) -> bool {
        // What comes may not pass what waits, whatever is thought of the path by now.
        self.has_backlog()
            || path.is_some_and(|path| (path.is_limited() || path.is_lossy(now)) && path.bitrate(now) < ROOMY)
    }

    /// Whether something waits.
    pub(super) fn has_backlog(&self) -> bool {
        self.pacer.as_ref().is_some_and(|pacer| !pacer.backlog.is_empty())
    }

    /// Whether this number of the present source waits: it is not sent yet, so it is not sent again either.
    pub(super) fn waits(&self, number: u64) -> bool {
        self.pacer.as_ref().is_some_and(|pacer| pacer.backlog.iter().any(|range| range.contains(&number)))
    }

    /// Time has passed: so much more may leave. To be called before [`Egress::poll_waiting`], once a run.
    pub(super) fn fill_budget(&mut self, path: Option<&Estimator>, now: Instant) {
        let pace = path.map_or(PACE * ROOMY as f64, |path| pace(path, now));
        let pacer = self.pacer.get_or_insert_with(|| Box::new(Pacer::new(now)));
        pacer.fill(pace / 8.0, now);
    }

    /// These packets of the present source, new ones, join what waits.
    pub(super) fn defer(&mut self, numbers: &[u64], ring: &Ring, now: Instant) {
        let live_from = self.run.as_ref().map_or(u64::MAX, |run| run.live_from);
        let Some(pacer) = &mut self.pacer else { return };
        for number in numbers.iter().filter(|number| **number >= live_from) {
            pacer.push(*number, size(ring, *number));
        }
        pacer.due = if pacer.backlog.len() > MOST_RANGES { now } else { now + LONGEST };
        pacer.haste = pacer.haste.max(pacer.octets / LONGEST.as_secs_f64());
    }

    /// The next number that may leave in this run, with its size for [`Egress::spend`].
    pub(super) fn poll_waiting(&mut self, ring: &Ring) -> Option<(u64, f64, Speed)> {
        let pacer = self.pacer.as_deref_mut().filter(|pacer| pacer.budget > 0.0)?;
        let number = pacer.pop()?;
        let octets = size(ring, number);
        pacer.octets -= octets;
        pacer.settle();
        let speed = if pacer.hastens { Speed::Haste } else { Speed::Pace };
        Some((number, octets, speed))
    }

    /// What may leave in this run of a picture for a latecomer, which is spent: numbers up to, not including, this one.
    pub(super) fn spend_on_picture(&mut self, range: Range<u64>, ring: &Ring) -> u64 {
        let Some(pacer) = &mut self.pacer else { return range.end };
        for number in range.clone() {
            if pacer.budget <= 0.0 {
                return number;
            }
            pacer.budget -= size(ring, number);
        }
        range.end
    }

    /// So many octets leave: of the backlog, or past it.
    pub(super) fn spend(&mut self, octets: f64) {
        if let Some(pacer) = &mut self.pacer {
            pacer.budget -= octets;
        }
    }

    /// What waits is not sent any more: it is of a source that is over for this listener. The next one begins at once
    /// with a keyframe and takes the number after the last that has left, so that there is no hole, and nothing of
    /// before is needed to show it. To send the rest first would hold up the new picture, on the way down on a path
    /// that carries not even the old one.
    pub(super) fn drop_backlog(&mut self) {
        if let Some(pacer) = &mut self.pacer {
            pacer.clear();
        }
    }

    /// False if that is known.
    fn set_listed(&mut self, is_listed: bool) -> bool {
        let before = self.pacer.as_mut().map(|pacer| std::mem::replace(&mut pacer.is_listed, is_listed));
        before != Some(is_listed)
    }
}

/// Bits per second at which a picture leaves on this path.
fn pace(path: &Estimator, now: Instant) -> f64 {
    let estimate = path.bitrate(now) as f64;
    match path.capacity() {
        Some(capacity) => {
            (PACE * estimate).min((CARRIED * capacity as f64).max(LEAST_PACE * estimate.min(capacity as f64)))
        }
        None if path.is_lossy(now) => LOSSY_PACE * estimate,
        None => PACE * estimate,
    }
}

/// As it leaves, about.
fn size(ring: &Ring, number: u64) -> f64 {
    ring.get(number).map_or(0, |(packet, padding)| packet.payload().len() + usize::from(padding) + OVERHEAD)
        as f64
}

/// Who has a backlog at this worker. They share a timer: one wakeup serves all.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    listeners: Vec<Listener>,
    at: Option<Instant>,
}

impl Backlogs {
    /// Something of what was offered to this listener waits, or may wait.
    pub(super) fn handle_backlog(&mut self, listener: Listener, egress: &mut Egress, now: Instant) {
        if egress.has_backlog() && egress.set_listed(true) {
            self.push(listener, now);
        }
    }

    /// This listener has had its run.
    pub(super) fn handle_served(&mut self, listener: Listener, egress: &mut Egress, now: Instant) {
        egress.set_listed(false);
        self.handle_backlog(listener, egress, now);
    }

    /// Its run comes later.
    pub(super) fn push(&mut self, listener: Listener, now: Instant) {
        self.at = self.at.filter(|at| *at > now && *at <= now + PACE_INTERVAL).or(Some(now + PACE_INTERVAL));
        self.listeners.push(listener);
    }

    /// The session is over.
    pub(super) fn handle_gone(&mut self, session: usize) {
        self.listeners.retain(|listener| listener.session != session);
    }

    /// When the next runs are due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.at.filter(|_| !self.listeners.is_empty())
    }

    /// Who gets a run now.
    pub(super) fn poll_due(&mut self, now: Instant) -> impl Iterator<Item = Listener> {
        let is_due = self.poll_timeout().is_some_and(|at| at <= now);
        let count = if is_due { self.listeners.len() } else { 0 };
        if is_due {
            self.at = Some(now + PACE_INTERVAL);
        }
        self.listeners.drain(..count)
    }
}
