//! What is concluded from a feedback: the estimate is raised while nothing queues, lowered to what arrives when a
//! queue stands or much is lost, and left alone where the queue is somebody else's.

use std::time::Instant;

use super::{
    delay_trend::{DelayTrend, STANDING_US, Usage},
    delivery,
    estimator::{Estimator, START},
    probe::Outcome,
};

/// A queue that lasts although less is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stubborn {
    pub began: u64,
    /// The estimate at the beginning, and what arrived.
    estimate: f64,
    carried: f64,
    spread: Spread,
}

/// Between which bounds a queue was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread(Option<(u64, u64)>);

impl Spread {
    fn note(&mut self, queue_us: u64, counts: bool) {
        let (least, most) = self.0.unwrap_or((u64::MAX, 0));
        if counts {
            self.0 = Some((least.min(queue_us), most.max(queue_us)));
        }
    }

    /// True of what hardly changed.
    fn is_constant(&self) -> bool {
        self.0.is_some_and(|(least, most)| most - least < CONSTANT_US)
    }
}

/// Somebody else who fills the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rival {
    /// When the queue was last its.
    seen_at: u64,
    /// What arrives beside it, in bits per second.
    share: f64,
    /// The least delay before its queue was taken for a longer way.
    base: Option<i64>,
}

impl Rival {
    /// The queue is its: no more arrives than did beside it a while ago.
    fn fills(&self, arrived: f64, now: u64) -> bool {
        now < self.seen_at + RIVAL_US && arrived < OWN_QUEUE * self.share.max(SMALL_SHARE)
    }
}

/// What is thought of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// Nothing queues: the estimate grows, as far as what arrives supports it.
    Clear,
    /// A queue stood, and gets shorter: less than the estimate is sent.
    Draining,
    /// The queue is somebody else's and does not get shorter for anything that is sent less: the share is
    /// judged by losses.
    Contested,
    /// No feedback comes.
    Silent,
}

/// Sound at its lowest, so that the path can still be measured.
pub(super) const LEAST: f64 = 50_000.0;
/// Where sound can be had that takes less, this is its lowest: three frames of 24 kbit/s in one packet.
const LEAST_OF_RUNGS: f64 = 30_000.0;
/// Nothing that a stream has needs more, unless the operator says so.
pub(super) const MOST: f64 = 20_000_000.0;
/// A path that carries so many times what the handshake seemed to show is not narrow: the peer was slow.
const SLOW_PEER: f64 = 1.5;
/// Of what arrives when a queue stands: the rest empties the queue. As GCC section 5.5.
const AFTER_QUEUE: f64 = 0.85;
/// What arrives is measured over this after a queue showed: a narrower wire shows in two feedbacks.
const JUST_NOW_US: i64 = 250_000;
/// And over this to see whether a queue that has just begun to stand carries clearly less than is sent.
const NARROW_US: i64 = 100_000;
/// Such a queue: it is seen long before one that stood for [`STANDING_US`] is, at the price of a closer look.
const NARROW_QUEUE_US: u64 = 40_000;
/// While packets queue they arrive as fast as the wire is. After a keyframe that is more than what is sent on average;
/// on a wire that became narrow it is less than this part of it.
const NARROW: f64 = 0.8;
/// And over this where the question is what the source makes use of: several pictures.
const LATELY_US: i64 = 1_000_000;
/// Above what arrives, nothing is known: a source that sends little proves little (GCC section 5.5 has the same
/// factor).
pub(super) const UNUSED: f64 = 1.5;
/// In addition, so that sound alone leaves room for the smallest picture.
pub(super) const UNUSED_ANYWAY: f64 = 100_000.0;
/// What a radio may lose of what has crossed a full wire; more is lost by the queue.
const RADIO_LOSS: f64 = 0.05;
/// Of what arrives without a queue, this is counted on.
const CARRIED: f64 = 0.95;
/// A source that sends less than this part of the estimate does not test it.
const FILLED: f64 = 0.9;
/// The estimate is near what the path carried before.
const NEAR_BELOW: f64 = 0.8;
/// The path carries more than before: what is known of it is void.
const BEYOND: f64 = 1.06;
/// And this is no noise of a measurement.
const WIDER: f64 = 1.15;
/// Sends a source less than this part of what is carried over a second, then no queue of its own lasts.
const BURST: f64 = 0.9;
/// A queue alone lowers the estimate no further: a flow of that size hardly makes a queue, it suffers one.
/// On a narrower wire losses tell.
pub(super) const LEAST_BY_QUEUE: f64 = 160_000.0;
/// What is measured within this part of what was known is the same path.
const SAME_PATH: f64 = 0.25;
/// What is so much less is another path.
const NARROWER: f64 = 0.6;
/// A probe that shows less than this part of the estimate was disturbed.
const SAME_BELOW: f64 = 0.9;
/// So much a probe raises the estimate that showed less room than it tried.
const BESIDE_OTHERS: f64 = 1.2;
/// Growth in a second, far from what the path carried.
const FAR_GROWTH: f64 = 0.15;
/// Growth in a second, near it: so little that the queue is seen before it is long.
const NEAR_GROWTH: f64 = 0.1;
/// And in bits per second, so that flows on one wire come to equal shares.
const NEAR_GROWTH_MOST: f64 = 80_000.0;
/// A queue that stands so long, although the estimate fell to [`STUBBORN_FALL`] of what it was, is not ours: one
/// of ours of 200 ms is empty by then. Half as long is enough for who sends next to nothing.
const STUBBORN_US: u64 = 1_200_000;
const STUBBORN_FALL: f64 = 0.65;
/// The share taken back from a queue that is somebody else's.
const CONTESTED_SHARE: f64 = 0.8;
/// Lost in a second: the queue is full, everybody on it has to give way.
const CONTESTED_LOSS: f64 = 0.01;
/// No loss lowers the estimate below this beside others: it is less than anybody's share. If it is not, more than
/// 10 % is lost.
const SMALL_SHARE: f64 = 250_000.0;
/// And where the smallest picture takes more than that, no further than to what it takes, up to this.
const SMALL_SHARE_MOST: f64 = 500_000.0;
/// Growth beside others, of that near what the path carries: with all of it more than half would be taken.
const CONTESTED_GROWTH: f64 = 0.75;
/// So many times what is sent a step beside others may be: encodings are hardly further apart.
const ATTEMPT: f64 = 4.0;
/// Who filled the queue so lately still does: BBR stops for a moment each ten seconds, others after each loss.
const RIVAL_US: u64 = 20_000_000;
/// A queue in which so much more arrives than did beside the other is one's own.
const OWN_QUEUE: f64 = 1.25;
/// And one that is gone so soon after less was sent is one's own,
const OWN_US: u64 = 2_000_000;
/// unless it is back after this: one's own takes longer to grow.
const BACK_US: u64 = 1_000_000;
/// Of what a path carries for all, so much is forgotten in a second if no burst shows it again.
const FORGOTTEN: f64 = 0.05;
/// What arrives beside others is averaged over this.
const SHARE_US: f64 = 3_000_000.0;
/// Flows that fill a queue make it longer and shorter several times in this.
const CONTEST_US: u64 = 4_000_000;
/// Clocks and radios make as much of a queue that does not change.
const CONSTANT_US: u64 = 8_000;
/// A queue so long empty is nobody's.
const CONTEST_OVER_US: u64 = 300_000;

impl Estimator {
    /// Whether the sound can be had in rungs that take less than the publisher's: then a queue can be made shorter on a
    /// path that is narrower than that.
    pub fn set_rungs(&mut self, there_are: bool) {
        self.least_by_queue = if there_are { LEAST_OF_RUNGS } else { LEAST_BY_QUEUE };
    }

    /// A trial has shown that so many bits per second are carried.
    pub fn handle_carried(&mut self, bits: u64, now: Instant) {
        let (bits, now) = (bits as f64, self.since_begin(now));
        self.proven_at = now;
        if self.capacity.is_some_and(|capacity| bits > BEYOND * capacity) {
            self.capacity = None;
            self.prober.forget_failures(now);
        }
        self.estimate = self.estimate.max(bits).min(self.most);
    }

    /// Below this it is never lowered.
    pub(super) fn least(&self) -> f64 {
        LEAST.min(self.least_by_queue)
    }

    pub(super) fn judge_probe(&mut self, now: u64) {
        let Some((first, last)) = self.prober.complete(self.told) else { return };
        let fared = delivery::stretch(&self.history, first, last, self.loss.share());
        let queued = self.queue.recent_us > STANDING_US;
        match self.prober.judge(fared, queued, now) {
            Some(Outcome::Room(rate)) => {
                self.proven_at = now;
                self.whole = self.whole.max(rate);
                self.wider |= self.capacity.is_some_and(|capacity| rate > WIDER * capacity);
                if self.capacity.is_some_and(|capacity| rate > BEYOND * capacity) {
                    self.capacity = None;
                    self.prober.forget_failures(now);
                }
                self.estimate = self.estimate.max(rate);
                if self.handshake.take_if(|(carries, _)| rate > SLOW_PEER * *carries).is_some() {
                    self.estimate = self.estimate.max(START);
                }
                self.estimate = self.estimate.min(self.most);
            }
            Some(Outcome::NoRoom { tried, carried }) if tried <= self.estimate => {
                // what was thought to be carried is not
                let arrived = delivery::arrival_rate(&self.history, LATELY_US).unwrap_or_default();
                self.estimate = self.estimate.min(carried.max(arrived));
            }
            Some(Outcome::NoRoom { carried, .. }) => {
                self.whole = self.whole.max(carried);
                // beside other flows a burst gets more than its share
                let raised = (AFTER_QUEUE * carried).min(BESIDE_OTHERS * self.estimate);
                self.estimate = self.estimate.max(raised).min(self.most);
                if carried > SAME_BELOW * self.estimate {
                    self.capacity = Some(carried);
                }
            }
            _ => {}
        }
    }

    pub(super) fn update(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.heard.updated_at).min(250_000) as f64 / 1e6;
        self.heard.updated_at = now;
        self.whole *= 1.0 - FORGOTTEN * elapsed;
        if self.loss.is_congested(now) {
            self.lower_by_loss(now);
            return;
        }
        if self.state == PathState::Contested {
            self.contend(elapsed, now);
            return;
        }
        let narrow = self.has_become_narrow(now);
        match self.queue.usage() {
            Usage::Over => self.lower_by_queue(narrow, now),
            Usage::Draining | Usage::Normal if narrow => self.lower_by_queue(narrow, now),
            Usage::Draining => {}
            Usage::Normal => {
                self.state = PathState::Clear;
                self.stubborn = None;
                self.raise(elapsed, now);
            }
        }
    }

    /// A queue has begun to stand, and while it does clearly less arrives than is sent.
    fn has_become_narrow(&mut self, now: u64) -> bool {
        let sent = NARROW * self.sending.rate(now);
        // Once less is sent the last second says nothing of it.
        self.state == PathState::Clear
            && self.queue.newest_us > NARROW_QUEUE_US
            && delivery::arrival_rate(&self.history, NARROW_US).is_some_and(|arrived| arrived < sent)
    }

    /// A queue stands: what arrives is all that the path carries. Nothing more is concluded until this shows.
    fn lower_by_queue(&mut self, narrow: bool, now: u64) {
        let just_now = delivery::arrival_rate(&self.history, JUST_NOW_US);
        let arrived = just_now.unwrap_or_default();
        // A wire that is so much narrower is another one than that was on.
        self.rival = self.rival.filter(|rival| !narrow || arrived > NARROWER * rival.share);
        if self.loss.lost() > 0 {
            self.whole = 0.0;
        }
        if let Some(rival) = self.rival.filter(|rival| rival.fills(arrived, now)) {
            self.stubborn = None;
            rival.base.into_iter().for_each(|base| self.trend.lower_base(base));
            self.begin_contest(now);
            return;
        }
        if let Some(stubborn) = &mut self.stubborn {
            stubborn.spread.note(self.queue.standing_us, now > stubborn.began + STUBBORN_US / 2);
            let stubborn = *stubborn;
            let small = self.estimate < 1.01 * self.least_by_queue;
            let fallen = small || self.estimate < STUBBORN_FALL * stubborn.carried;
            let patience = if small { STUBBORN_US / 2 } else { STUBBORN_US };
            if now > stubborn.began + patience && (fallen || self.is_longer(stubborn.spread)) {
                self.give_up_on_queue(stubborn, now);
                return;
            }
        }
        self.state = PathState::Draining;
        if self.lowered_at.is_some_and(|at| (now as f64) < at as f64 + self.response_us + 100_000.0) {
            return;
        }
        let arrived = just_now.unwrap_or(self.estimate);
        // what a radio loses has crossed the wire
        let carried = arrived / (1.0 - self.loss.share().unwrap_or_default().min(RADIO_LOSS));
        self.stubborn.get_or_insert(Stubborn {
            began: now,
            estimate: self.estimate,
            carried,
            spread: Spread::default(),
        });
        self.carried = carried;
        self.capacity = Some(match self.capacity {
            Some(before) if (carried / before - 1.0).abs() < SAME_PATH => (before + carried) / 2.0,
            before => {
                if before.is_some_and(|before| carried < NARROWER * before) {
                    // what failed on a path that was wider says nothing of this one
                    self.prober.forget_failures(now);
                }
                carried
            }
        });
        // A source that sends less than is carried has sent a burst: its queue gets shorter by itself.
        let burst = self.sending.rate(now) < BURST * carried;
        let lowered = if burst { carried } else { AFTER_QUEUE * carried };
        self.lower_to(lowered.max(self.least_by_queue), now);
    }

    /// Sending less does not make the queue shorter: it is none, or it is of others.
    fn give_up_on_queue(&mut self, stubborn: Stubborn, now: u64) {
        self.stubborn = None;
        if self.is_longer(stubborn.spread) {
            // Or somebody keeps it as it is: then it shows again before long. No way becomes longer twice.
            let base = Some(self.trend.base());
            self.rival = Some(Rival { seen_at: now, share: stubborn.carried, base });
            self.trend = DelayTrend::default();
            self.state = PathState::Clear;
            self.estimate = self.estimate.max(stubborn.estimate);
            return;
        }
        self.estimate = self.estimate.max(CONTESTED_SHARE * stubborn.carried);
        self.lowered_at = Some(now);
        self.begin_contest(now);
    }

    fn begin_contest(&mut self, now: u64) {
        self.state = PathState::Contested;
        self.contest = (now, Spread::default());
        self.trend.keep_base(true);
    }

    fn lower_by_loss(&mut self, now: u64) {
        // Below what arrives, so that a path that is too narrow loses nothing any more: if it still does, that
        // is what it loses anyway.
        let arrived = delivery::arrival_rate(&self.history, LATELY_US).unwrap_or_default();
        self.lower_to(AFTER_QUEUE * arrived.min(self.estimate), now);
    }

    fn lower_to(&mut self, bitrate: f64, now: u64) {
        self.prober.handle_congestion(now);
        let bitrate = bitrate.max(self.least());
        if bitrate < self.estimate {
            self.estimate = bitrate;
            self.lowered_at = Some(now);
            self.loss.handle_decrease();
        }
    }

    /// Beside flows that fill the queue: a little more while nothing is lost, less when something is.
    fn contend(&mut self, elapsed: f64, now: u64) {
        if let Some(since) = self.empty_since {
            if now > since + CONTEST_OVER_US {
                self.state = PathState::Clear;
                self.trend.keep_base(false);
                if self.lowered_at.is_some_and(|at| now < at + OWN_US) {
                    // Sending less was all that it took, unless it is back at once.
                    let seen_at = (now + BACK_US).saturating_sub(RIVAL_US);
                    self.rival = self.rival.map(|rival| Rival { seen_at, ..rival });
                }
            }
            return;
        }
        if let Some(arrived) = delivery::arrival_rate(&self.history, LATELY_US) {
            let share = self.rival.map_or(arrived, |rival| rival.share);
            let part = elapsed * 1e6 / SHARE_US;
            self.rival = Some(Rival { seen_at: now, share: share + (arrived - share) * part, base: None });
        }
        let (since, spread) = &mut self.contest;
        spread.note(self.queue.standing_us, true);
        if now > *since + CONTEST_US {
            let spread = std::mem::take(spread);
            *since = now;
            if self.is_longer(spread) {
                self.trend = DelayTrend::default();
                self.state = PathState::Clear;
                return;
            }
        }
        let rested = self.lowered_at.is_none_or(|at| now > at + 1_000_000);
        if self.loss.share().is_none_or(|share| share > CONTESTED_LOSS) {
            if rested && self.loss.lost() > 0 {
                let lowered = AFTER_QUEUE * self.estimate;
                self.lower_to(lowered.max(self.small_share()), now);
            }
        } else if self.is_filled(now) {
            self.estimate =
                (self.estimate + CONTESTED_GROWTH * near_growth(self.estimate) * elapsed).min(self.most);
        } else if let Some(step) = self.prober.attempt(self.estimate, self.estimate < self.small_share(), now)
        {
            // no probe can tell what the share is: the step is tried itself
            let step = step.min(ATTEMPT * self.sending.rate(now)).min(self.most);
            let grown = self.estimate * (1.0 + FAR_GROWTH * elapsed);
            self.estimate = self.estimate.max(grown.min(step));
        }
    }

    /// Less is nobody's share: what the smallest picture takes, if it is small.
    fn small_share(&self) -> f64 {
        self.base.clamp(SMALL_SHARE, SMALL_SHARE_MOST)
    }

    fn raise(&mut self, elapsed: f64, now: u64) {
        let filled = self.is_filled(now);
        if filled {
            self.proven_at = now;
        }
        let step = if self.is_near() { near_growth(self.estimate) } else { FAR_GROWTH * self.estimate };
        let grown = self.estimate + step * elapsed;
        let Some(arrived) = delivery::arrival_rate(&self.history, LATELY_US) else { return };
        let mut supported = (UNUSED * arrived + UNUSED_ANYWAY).min(self.most);
        if !filled {
            // what is not tried is no more than what was left of what failed: from there on probes tell
            supported = supported.min(AFTER_QUEUE * self.capacity.unwrap_or(f64::MAX));
        }
        self.estimate = self.estimate.max(grown.min(supported));
        let settled = (LATELY_US as f64 + self.response_us) as u64;
        if self.lowered_at.is_none_or(|at| now > at + settled) {
            // what arrives without a queue is carried
            self.estimate = self.estimate.max((CARRIED * arrived).min(self.most));
        }
        if self.capacity.is_some_and(|capacity| arrived > BEYOND * capacity) {
            self.capacity = None;
            self.prober.forget_failures(now);
        }
    }

    /// The source sends about as much as it may.
    pub(super) fn is_filled(&mut self, now: u64) -> bool {
        self.sending.rate(now) > FILLED * self.estimate
    }

    /// The estimate is close to where a queue began.
    pub(super) fn is_near(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.estimate > NEAR_BELOW * capacity)
    }

    /// Not a queue, but a way that has become longer: a queue goes up and down, or it is full and something is
    /// lost.
    fn is_longer(&self, spread: Spread) -> bool {
        let lossless = self.loss.share().map_or(self.loss.lost() == 0, |share| share < RADIO_LOSS);
        spread.is_constant() && lossless
    }
}

fn near_growth(estimate: f64) -> f64 {
    (NEAR_GROWTH * estimate).min(NEAR_GROWTH_MOST)
}
