//! What keeps a restless link from making the whole mesh restless: figures are told once they stayed
//! different for a while, and a link that keeps failing costs more and is trusted later.
//! What the figures are belongs to `mod.rs`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::wire::metric::{Capacity, UnderlayKind};

/// A figure has to be worse for so long before it is told: a burst of loss or a moment of queueing is over by then.
pub const WORSE_AFTER: Duration = Duration::from_secs(2);
/// A figure has to be better for so long before it is told. Longer than for worse: who goes back to a link too early loses
/// packets, who goes back late has a longer way for a while.
pub const BETTER_AFTER: Duration = Duration::from_secs(10);
/// A link that was bad [`BAD_TIMES`] within this time is flapping.
pub const BAD_WITHIN: Duration = Duration::from_secs(60);
/// So often, and a link is flapping.
pub const BAD_TIMES: usize = 3;
/// The time in which half of a penalty is forgiven (the shape of BGP's route flap damping, RFC 2439): after a minute a
/// sixteenth is left.
pub const HALF_LIFE: Duration = Duration::from_secs(15);

/// Costs nearer together than this are the same: 2 ms in quarters of a millisecond. On short links 20 % is nothing.
const COST_STEP: u16 = 8;
/// What each bad time of a flapping link costs, in quarters of a millisecond: 100 ms.
const PENALTY: f32 = 400.0;
const PENALTY_MAX: f32 = 2000.0;
/// Lost links whose history is kept.
const REMEMBERED_MAX: usize = 256;

/// What is said of a link.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Figures {
    pub cost: u16,
    pub rtt: Duration,
    pub loss: f32,
    pub capacity: Capacity,
}

impl Figures {
    /// Whether these are news after `told`; true means worse.
    fn news(&self, told: &Figures) -> Option<bool> {
        let apart = self.cost.abs_diff(told.cost);
        if apart >= COST_STEP && u32::from(apart) * 5 > u32::from(self.cost.max(told.cost)) {
            return Some(self.cost > told.cost);
        }
        let apart = (self.loss - told.loss).abs();
        if apart > 0.01 && apart > 0.2 * self.loss.max(told.loss) {
            return Some(self.loss > told.loss);
        }
        // Another capacity is told soon, also a better one: nothing is sent over a link because it carries more, but what was
        // refused is asked for again.
        (self.capacity != told.capacity).then_some(true)
    }
}

/// The figures told, and for how long others have been true.
#[derive(Debug, Default)]
pub(crate) struct DampedMetric {
    told: Option<Figures>,
    turn: Option<(bool, Instant)>,
}

impl DampedMetric {
    /// What the mesh was told last.
    pub fn told(&self) -> Figures {
        self.told.unwrap_or_default()
    }

    /// The figures are these now; says whether they are told from now on. The first ones are at once.
    pub fn offer(&mut self, present: Figures, now: Instant) -> bool {
        let due = match self.told.map(|told| present.news(&told)) {
            None => true,
            Some(None) => {
                self.turn = None;
                false
            }
            Some(Some(worse)) => {
                let since = match self.turn {
                    Some((same, since)) if same == worse => since,
                    _ => now,
                };
                self.turn = Some((worse, since));
                now >= since + hold(worse)
            }
        };
        if due {
            (self.told, self.turn) = (Some(present), None);
        }
        due
    }

    /// When the present figures become those to tell, if they stay.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.turn.map(|(worse, since)| since + hold(worse))
    }
}

fn hold(worse: bool) -> Duration {
    if worse { WORSE_AFTER } else { BETTER_AFTER }
}

/// When a link was bad, and what it pays for it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Flaps {
    bad: VecDeque<Instant>,
    penalty: f32,
    since: Option<Instant>,
}

impl Flaps {
    /// The link stopped working.
    pub fn handle_bad(&mut self, now: Instant) {
        if self.bad.len() == BAD_TIMES {
            self.bad.pop_front();
        }
        self.bad.push_back(now);
        if self.flapping(now) {
            self.penalty = (self.decayed(now) + PENALTY).min(PENALTY_MAX);
            self.since = Some(now);
        }
    }

    /// Whether it was bad three times within the last minute.
    pub fn flapping(&self, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < BAD_WITHIN;
        self.bad.len() == BAD_TIMES && self.bad.iter().all(recent)
    }

    /// What is added to the cost, in quarters of a millisecond.
    pub fn penalty(&self, now: Instant) -> u16 {
        self.decayed(now) as u16
    }

    fn decayed(&self, now: Instant) -> f32 {
        let Some(since) = self.since else { return 0.0 };
        let lives = now.saturating_duration_since(since).as_secs_f32() / HALF_LIFE.as_secs_f32();
        self.penalty * 0.5f32.powf(lives)
    }

    fn last(&self) -> Option<Instant> {
        self.bad.back().copied()
    }
}

/// The histories of links that are gone, for when they come back under another number.
#[derive(Debug, Default)]
pub(crate) struct Remembered(BTreeMap<(NodeId, UnderlayKind), Flaps>);

impl Remembered {
    /// Keeps the history of a link that is gone; the one that was bad longest ago makes room.
    pub fn keep(&mut self, neighbor: NodeId, kind: UnderlayKind, flaps: Flaps, now: Instant) {
        let fresh =
            |flaps: &Flaps| flaps.last().is_some_and(|at| now.saturating_duration_since(at) < BAD_WITHIN * 2);
        self.0.retain(|_, flaps| fresh(flaps));
        if !fresh(&flaps) {
            return;
        }
        if self.0.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, flaps)| flaps.last()).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
        self.0.insert((neighbor, kind), flaps);
    }

    /// The history of a link that is there again.
    pub fn take(&mut self, neighbor: NodeId, kind: UnderlayKind) -> Flaps {
        self.0.remove(&(neighbor, kind)).unwrap_or_default()
    }

    #[cfg(test)]
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn figures(cost: u16) -> Figures {
        Figures { cost, ..Figures::default() }
    }

    #[test]
    fn worse_is_told_after_two_seconds_and_better_after_ten() {
        let start = crate::sim::epoch();
        let mut news = DampedMetric::default();
        assert!(news.offer(figures(100), start));
        assert!(!news.offer(figures(200), start + S));
        assert_eq!(news.poll_timeout(), Some(start + S * 3));
        assert!(news.offer(figures(210), start + S * 3));
        assert!(!news.offer(figures(100), start + S * 4));
        assert!(!news.offer(figures(100), start + S * 13));
        assert!(news.offer(figures(100), start + S * 14));
        assert_eq!((news.told().cost, news.poll_timeout()), (100, None));
    }

    #[test]
    fn another_capacity_is_told_after_two_seconds() {
        let start = crate::sim::epoch();
        let mut news = DampedMetric::default();
        let of = |capacity| Figures { capacity: Capacity(capacity), ..figures(100) };
        news.offer(of(0), start);
        for (at, capacity) in (1..).zip([5, 2, 9, 0]) {
            assert!(!news.offer(of(capacity), start + S * 10 * at));
            assert!(!news.offer(of(capacity), start + S * 10 * at + S));
            assert!(news.offer(of(capacity), start + S * 10 * at + 2 * S), "{capacity}");
        }
    }

    #[test]
    fn what_goes_back_is_not_told() {
        let start = crate::sim::epoch();
        let mut news = DampedMetric::default();
        news.offer(figures(100), start);
        for second in 1..60 {
            // One bad second in two: never bad for two in a row.
            let cost = if second % 2 == 0 { 100 } else { 300 };
            assert!(!news.offer(figures(cost), start + S * second));
        }
    }

    #[test]
    fn small_changes_are_not_told() {
        let start = crate::sim::epoch();
        let mut news = DampedMetric::default();
        news.offer(figures(10), start);
        news.offer(figures(17), start);
        assert!(!news.offer(figures(17), start + S * 60));
        news.offer(figures(18), start + S * 60);
        assert!(news.offer(figures(18), start + S * 62));
    }

    #[test]
    fn the_third_time_in_a_minute_costs_and_half_is_forgiven_in_15_s() {
        let start = crate::sim::epoch();
        let mut flaps = Flaps::default();
        flaps.handle_bad(start);
        flaps.handle_bad(start + S * 5);
        assert_eq!((flaps.penalty(start + S * 5), flaps.flapping(start + S * 5)), (0, false));
        flaps.handle_bad(start + S * 10);
        assert_eq!((flaps.penalty(start + S * 10), flaps.flapping(start + S * 10)), (400, true));
        assert_eq!(flaps.penalty(start + S * 25), 200);
        assert!(!flaps.flapping(start + S * 61));
    }

    #[test]
    fn three_times_in_three_minutes_cost_nothing() {
        let start = crate::sim::epoch();
        let mut flaps = Flaps::default();
        for minute in 0..9 {
            flaps.handle_bad(start + S * 40 * minute);
        }
        assert_eq!(flaps.penalty(start + S * 320), 0);
    }
}
