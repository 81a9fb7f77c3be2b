//! The doors of the estimate for one listener: what was sent, what the listener tells, what may be sent. What is
//! concluded from it is in `decision`.

use std::time::{Duration, Instant};

use super::{
    decision::{LEAST, LEAST_BY_QUEUE, MOST, PathState, Rival, Spread, Stubborn, UNUSED, UNUSED_ANYWAY},
    delay_trend::{DelayTrend, EMPTY_US, Queue, Usage},
    delivery::SendRate,
    history::{Change, History, MOST_WITH_PICTURE, MOST_WITH_SOUND, Purpose, State},
    lateness::Lateness,
    loss::{Loss, Told},
    probe::{Path, Probe, Prober},
};
use crate::rtp::transport_cc::{Feedback, TICK_US, TICKS_PER_REFERENCE};

/// What the path to one listener is thought to carry.
///
/// In: [`Estimator::handle_sent`] for every packet, [`Estimator::handle_feedback`], for listeners without such
/// feedback [`Estimator::handle_reception`] and [`Estimator::handle_remb`]; [`Estimator::set_wanted`] when the
/// next step changes; [`Estimator::handle_timeout`] when [`Estimator::poll_timeout`] says so. Out:
/// [`Estimator::bitrate`], [`Estimator::poll_probe`].
#[derive(Debug)]
pub struct Estimator {
    began: Instant,
    pub(super) history: History,
    pub(super) trend: DelayTrend,
    pub(super) queue: Queue,
    pub(super) loss: Loss,
    lateness: Lateness,
    pub(super) prober: Prober,
    pub(super) sending: SendRate,
    /// Bits per second.
    pub(super) estimate: f64,
    /// The estimate is never above this.
    pub(super) most: f64,
    pub(super) state: PathState,
    /// What arrived when a queue last stood: what the path carried then.
    pub(super) capacity: Option<f64>,
    /// The same without what was known before.
    pub(super) carried: f64,
    /// The most that bursts have shown to arrive since a queue was last full: what the path carries for all, about. 0 if
    /// nothing is known.
    pub(super) whole: f64,
    /// A burst has shown that the path carries clearly more than it did.
    pub(super) wider: bool,
    /// When the estimate was last lowered.
    pub(super) lowered_at: Option<u64>,
    /// When and from where on it was lowered again and again, without the queue getting shorter.
    pub(super) stubborn: Option<Stubborn>,
    /// The queue of others while the path is contested, and since when it is watched.
    pub(super) contest: (u64, Spread),
    /// Who else filled the queue.
    pub(super) rival: Option<Rival>,
    /// A queue alone does not lower the estimate below this.
    pub(super) least_by_queue: f64,
    /// What the smallest picture takes with the sound, bits per second.
    pub(super) base: f64,
    /// Since when there is no queue.
    pub(super) empty_since: Option<u64>,
    /// When about as much as the estimate was last sent, or shown by a probe.
    pub(super) proven_at: u64,
    /// From a packet that leaves to the feedback about it, in microseconds.
    pub(super) response_us: f64,
    pub(super) heard: Heard,
    /// The handshake made the path seem narrower than what others begin with: so much, and since when.
    pub(super) handshake: Option<(f64, u64)>,
    /// The highest number that a feedback told of.
    pub(super) told: u64,
}

/// What the listener says, and when it last did.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Of the receiver's clock, unwrapped: 64 ms.
    reference: Option<i64>,
    feedback_at: Option<u64>,
    pub(super) updated_at: u64,
    /// The first packet that left after the last feedback.
    waiting_since: Option<u64>,
    /// Before it fell silent.
    before_silence: Option<f64>,
    remb: Option<(f64, u64)>,
}

/// Bits per second. Enough for sound and a small picture, and the first probes double it within a second.
pub(super) const START: f64 = 300_000.0;
/// The first feedback takes a round trip and 100 ms.
const UNTOLD_US: u64 = 1_000_000;
/// Sending what is left of the estimate empties such a queue in 300 ms.
const SHORT_QUEUE_US: u64 = 50_000;
/// While a longer queue stands, as much less is sent as empties it in this time.
const DRAIN_US: f64 = 1_000_000.0;
/// But never less than this part.
const DRAIN_LEAST: f64 = 0.8;
/// Of what was carried when a queue stood, a source may take so much on average.
const CARRIES: f64 = 0.97;
/// Who takes most of a path has given way by then: it sees the queue as soon, and waits a second for a keyframe at most.
const GIVES_WAY_US: u64 = 1_500_000;
/// With a queue this long less has to be sent whatever comes of it.
const LONG_QUEUE_US: u64 = 150_000;
/// A queue this long and the sound is in danger: receivers have about as much in store.
const FULL_US: u64 = 60_000;
/// With sound alone a queue of 200 ms of ours is gone by then.
const CLOGGED_US: u64 = 800_000;
/// Several intervals of feedback, and what a radio sleeps.
const SILENCE_US: u64 = 1_000_000;
/// A probe or a full load shows what the path carries for so long.
const PROOF_US: u64 = 10_000_000;
/// Receivers send REMB about every second, and when it falls.
const REMB_US: u64 = 10_000_000;

impl Estimator {
    /// The estimate for a listener that gets a picture, or sound only.
    pub fn new(picture: bool, now: Instant) -> Estimator {
        Estimator {
            began: now,
            history: History::new(if picture { MOST_WITH_PICTURE } else { MOST_WITH_SOUND }),
            trend: DelayTrend::default(),
            queue: Queue::default(),
            loss: Loss::default(),
            lateness: Lateness::default(),
            prober: Prober::default(),
            sending: SendRate::default(),
            estimate: START,
            most: MOST,
            state: PathState::Clear,
            capacity: None,
            carried: f64::MAX,
            whole: 0.0,
            wider: false,
            lowered_at: None,
            stubborn: None,
            contest: (0, Spread::default()),
            rival: None,
            least_by_queue: LEAST_BY_QUEUE,
            base: 0.0,
            empty_since: None,
            proven_at: 0,
            response_us: 100_000.0,
            heard: Heard::default(),
            handshake: None,
            told: 0,
        }
    }

    /// No more than this is believed, in bits per second, whatever the listener tells.
    pub fn set_most(&mut self, most: u64) {
        self.most = (most as f64).max(LEAST);
        self.estimate = self.estimate.min(self.most);
    }

    /// What is believed at most, in bits per second.
    pub fn most(&self) -> u64 {
        self.most as u64
    }

    /// A packet leaves: the number that it carries.
    pub fn handle_sent(&mut self, octets: usize, purpose: Purpose, now: Instant) -> u16 {
        let now = self.since_begin(now);
        let number = self.history.push(octets, purpose, now);
        self.sending.handle_sent(octets, now);
        if let Purpose::Probe(probe) = purpose {
            self.prober.handle_sent(probe, number, octets);
        }
        self.heard.waiting_since.get_or_insert(now);
        number as u16
    }

    /// The packet with this number leaves once more, octet for octet. What is told of it from now on may be of either, so
    /// the second one is counted neither as sent nor as arrived.
    pub fn handle_repeated(&mut self, number: u16) {
        self.history.repeat(self.history.extend(number));
    }

    /// A packet leaves for a listener that does not tell what came.
    pub fn handle_untold(&mut self, octets: usize, now: Instant) {
        let now = self.since_begin(now);
        self.sending.handle_sent(octets, now);
    }

    /// The listener tells what came.
    pub fn handle_feedback(&mut self, feedback: &Feedback, now: Instant) {
        let now = self.since_begin(now);
        let mut newest = None;
        let reference = self.reference(feedback.reference);
        for told in feedback.packets() {
            let ticks = told.arrival.map(|ticks| reference * TICKS_PER_REFERENCE + i64::from(ticks));
            match self.history.report(told.number, ticks.map(|ticks| ticks as u32)) {
                Some(Change::Arrived { packet, was_lost }) => {
                    newest = newest.max(Some(packet.sent));
                    let arrived = ticks.unwrap_or_default().saturating_mul(TICK_US);
                    let delay = arrived - packet.sent as i64;
                    let late = self.lateness.handle_arrival(delay);
                    match packet.purpose() {
                        // It is the one that was sent later.
                        Purpose::Media if packet.is_repeated() => {
                            self.loss.handle_repeated(!late && !was_lost);
                            if late {
                                continue;
                            }
                        }
                        // they are smaller than others, so they wait less for themselves
                        Purpose::Probe(_) => continue,
                        Purpose::Media if self.is_recent(packet.sent) => self.loss.handle_arrival(was_lost),
                        Purpose::Media | Purpose::Repair => {}
                    }
                    self.trend.handle_arrival(packet.sent, delay);
                }
                Some(Change::Lost { packet }) if packet.is_repeated() => self.loss.handle_repeated(false),
                Some(Change::Lost { packet })
                    if packet.purpose() == Purpose::Media && self.is_recent(packet.sent) =>
                {
                    self.loss.handle_lost(self.history.extend(told.number));
                }
                _ => {}
            }
        }
        let last = feedback.base.wrapping_add(feedback.count - 1);
        self.told = self.told.max(self.history.extend(last));
        if let Some(sent) = newest {
            let response = now.saturating_sub(sent) as f64;
            self.response_us += (response.min(1e6) - self.response_us) / 8.0;
        }
        self.queue = self.trend.queue();
        self.loss.handle_feedback(now);
        self.hear(now);
        self.judge_probe(now);
        self.update(now);
    }

    /// A receiver report about media, of a listener without transport-wide feedback: the share that it lost.
    pub fn handle_reception(&mut self, lost: f64, now: Instant) {
        let now = self.since_begin(now);
        if self.is_told() || !lost.is_finite() {
            return;
        }
        let sent = self.sending.rate(now);
        // the steps of the loss-based controller of GCC, section 6
        if lost > 0.1 {
            self.lowered_at = Some(now);
            self.estimate = (self.estimate.min(sent.max(LEAST)) * (1.0 - 0.5 * lost)).max(LEAST);
        } else if lost < 0.02 {
            // nobody probes here: the next step is tried itself
            let wanted = self.prober.wanted().unwrap_or_default() as f64;
            let supported = (sent * UNUSED + UNUSED_ANYWAY).max(wanted);
            self.estimate = self.estimate.max((self.estimate * 1.08).min(supported)).min(self.most);
        }
    }

    /// The receiver's own estimate (REMB), of a listener without transport-wide feedback.
    pub fn handle_remb(&mut self, bitrate: u64, now: Instant) {
        let now = self.since_begin(now);
        if !self.is_told() {
            let told = (bitrate as f64).clamp(LEAST, self.most);
            self.heard.remb = Some((told, now));
            if self.lowered_at.is_none_or(|at| now > at + REMB_US) {
                self.estimate = self.estimate.max(told);
            }
        }
    }

    /// The handshake has shown that the path carries at least so much, in bits per second. If that is less than what others
    /// begin with it is where this path begins.
    pub fn handle_handshake(&mut self, carries: u64, now: Instant) {
        let carries = (carries as f64).max(self.least());
        if carries < START {
            self.handshake = Some((carries, self.since_begin(now)));
            self.estimate = carries.min(self.most);
        }
    }

    /// What the smallest picture takes with the sound, bits per second.
    pub fn set_base(&mut self, base: u64) {
        self.base = base as f64;
    }

    /// What the next step up would need in all, bits per second, with what the caller wants spare; `None` if
    /// there is none. Probes go so far.
    pub fn set_wanted(&mut self, wanted: Option<u64>) {
        self.prober.set_wanted(wanted);
    }

    /// The estimate in bits per second: what may be sent now. Less than what the path carries while a queue
    /// gets shorter.
    pub fn bitrate(&self, now: Instant) -> u64 {
        self.limited(self.drained(), now)
    }

    /// As [`Estimator::bitrate`], once no queue is left.
    pub fn bitrate_later(&self, now: Instant) -> u64 {
        self.limited(self.estimate, now)
    }

    /// Whether a source that takes this on average may go on as it is, bits per second, although the estimate is lower
    /// for the moment: it takes less than was carried when a queue stood, so the queue gets shorter by itself.
    pub fn carries(&self, need: u64, now: Instant) -> bool {
        let now = self.since_begin(now);
        let own = matches!(self.state, PathState::Clear | PathState::Draining);
        let short = self.queue.recent_us < LONG_QUEUE_US;
        let carried = self.capacity.map_or(0.0, |capacity| capacity.min(self.carried));
        // Somebody else takes more than half of the path, and gives way first.
        let small = (need as f64) < self.whole / 2.0;
        let patient = self.stubborn.is_none_or(|stubborn| now < stubborn.began + GIVES_WAY_US);
        own && (short && (need as f64) < CARRIES * carried || small && patient)
    }

    /// What empties the queue.
    fn drained(&self) -> f64 {
        let rate = self.estimate;
        if self.state != PathState::Draining {
            return rate;
        }
        let long = self.queue.standing_us.saturating_sub(SHORT_QUEUE_US) as f64;
        let drained = rate * (1.0 - long / DRAIN_US).max(DRAIN_LEAST);
        drained.max(rate.min(self.least_by_queue))
    }

    fn limited(&self, mut rate: f64, now: Instant) -> u64 {
        let now = self.since_begin(now);
        if let Some((remb, at)) = self.heard.remb
            && now < at + REMB_US
        {
            rate = rate.min(remb);
        }
        rate.clamp(self.least(), self.most) as u64
    }

    /// Whether transport-wide feedback has shown the limit of the path: a queue, losses, silence. Before that the
    /// estimate is a guess, and without such feedback it stays one: nothing would tell when there is room again.
    pub fn is_limited(&self) -> bool {
        let lowered = self.lowered_at.is_some() || self.state == PathState::Silent;
        self.is_told() && lowered
    }

    /// Whether nothing at all is known of the path, so that a picture has to show what it carries. Who does not tell within a
    /// second may not tell at all.
    pub fn is_unknown(&self, now: Instant) -> bool {
        let waits = self
            .handshake
            .is_some_and(|(_, since)| self.is_told() || self.since_begin(now) < since + UNTOLD_US);
        !self.is_limited() && !waits
    }

    /// Whether the listener tells what came, packet by packet.
    pub fn is_told(&self) -> bool {
        self.heard.feedback_at.is_some()
    }

    /// From a packet that leaves to what the listener tells of it, lately: the queue is in it.
    pub fn response(&self) -> Duration {
        Duration::from_micros(self.response_us as u64)
    }

    /// What the path as a whole was seen to carry, in bits per second: when a queue last stood, or a probe filled it.
    pub fn capacity(&self) -> Option<u64> {
        self.capacity.map(|capacity| capacity as u64)
    }

    /// Whether the path has been seen to carry clearly more than it did, since this was asked last.
    pub fn take_wider(&mut self) -> bool {
        std::mem::take(&mut self.wider)
    }

    /// Whether transport-wide feedback has told of losses lately, be it of a queue that is full before it shows or of a
    /// radio.
    pub fn is_lossy(&self, now: Instant) -> bool {
        self.loss.is_lossy(self.since_begin(now))
    }

    /// As if feedback had shown that the path carries this and no more.
    #[cfg(test)]
    pub(crate) fn limit_to(&mut self, bitrate: u64, now: Instant) {
        let now = self.since_begin(now);
        self.estimate = bitrate as f64;
        self.lowered_at = Some(now);
        self.heard.feedback_at = Some(now);
    }

    /// When the packet with this transport-wide number left, since the estimate began.
    #[cfg(test)]
    pub(crate) fn left_at(&self, number: u16) -> Option<Duration> {
        let packet = self.history.get(self.history.extend(number))?;
        Some(Duration::from_micros(packet.sent))
    }

    /// What is thought of the path.
    pub fn state(&self) -> PathState {
        self.state
    }

    /// How long packets wait on the way, at least.
    pub fn queue(&self) -> Duration {
        Duration::from_micros(self.queue.standing_us)
    }

    /// Whether a queue of ours is long just now: what leaves comes late, and keeps it long.
    pub fn is_full(&self) -> bool {
        self.state == PathState::Draining && self.queue.newest_us > FULL_US
    }

    /// Whether a picture that begins now had better wait until the queue is short. Not for long: a queue that does not get
    /// shorter is somebody else's.
    pub fn is_clogged(&self, now: Instant) -> bool {
        let now = self.since_begin(now);
        self.is_full() && self.lowered_at.is_some_and(|at| now < at + CLOGGED_US)
    }

    /// The transport-wide number that the next packet gets.
    pub fn next_number(&self) -> u64 {
        self.history.next()
    }

    /// How much later a packet came than the quickest of the eight before it. `None` as long as nothing is told of it,
    /// `Some(None)` if it was lost.
    pub fn lateness(&self, number: u64) -> Option<Option<Duration>> {
        let delay = |number| {
            let packet = self.history.get(number).filter(|packet| packet.state == State::Arrived)?;
            Some(i64::from(packet.arrived) * TICK_US - packet.sent as i64)
        };
        match self.history.get(number).map(|packet| packet.state) {
            Some(State::Untold) => None,
            Some(State::Arrived) => {
                let least = (number.saturating_sub(8)..number).filter_map(delay).min();
                let later = delay(number).zip(least).map(|(delay, least)| delay - least);
                Some(later.map(|later| Duration::from_micros(later.max(0) as u64)))
            }
            Some(State::Lost) | None => Some(None),
        }
    }

    /// Bits per second that are sent, without what is sent again unchanged.
    pub fn sent(&mut self, now: Instant) -> u64 {
        self.sending.rate(self.since_begin(now)) as u64
    }

    /// What was told of media since the beginning.
    pub fn told(&self) -> Told {
        self.loss.total()
    }

    /// The share of media lost in the last second, if enough was told.
    pub fn loss(&self) -> Option<f64> {
        self.loss.share()
    }

    /// Reports that were about nothing: never sent, too old, told before.
    pub fn ignored_reports(&self) -> u64 {
        self.history.ignored()
    }

    /// Octets that this listener costs.
    pub fn memory(&self) -> usize {
        size_of::<Estimator>() + self.history.memory()
    }

    /// A probe to be sent now, if one is due; to be asked after each feedback. The caller sends it as packets
    /// with [`Purpose::Probe`].
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let now = self.since_begin(now);
        let clear = self.state == PathState::Clear && self.queue.recent_us < EMPTY_US;
        let wait = (self.response_us as u64 + 500_000).max(1_000_000);
        let rested = self.lowered_at.is_none_or(|at| now > at + wait);
        if !self.is_told() || !clear || !rested || self.loss.is_congested(now) {
            return None;
        }
        let wanted = self.prober.wanted()? as f64;
        if self.is_near() && self.is_filled(now) {
            // growth tells as much, and leaves a shorter queue
            return None;
        }
        let unproven = now > self.proven_at + PROOF_US && wanted > UNUSED * self.sending.rate(now);
        let path = Path {
            estimate: self.estimate,
            most: self.most,
            unproven,
            jitter_us: self.trend.jitter_us(),
            sent: self.sending.rate(now),
            capacity: self.capacity,
        };
        self.prober.poll(&path, now)
    }

    /// When [`Estimator::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.silent_at(), self.prober.answer_at()].into_iter().flatten().min();
        due.map(|at| self.began + Duration::from_micros(at))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.since_begin(now);
        self.prober.handle_timeout(now);
        if self.silent_at().is_some_and(|at| now >= at) {
            // Nobody knows what became of what was sent. Half is sent for a second, then half of that: a path
            // that is full gets empty, and one that is fine goes on with little.
            self.heard.before_silence.get_or_insert(self.estimate);
            self.heard.waiting_since = Some(now);
            self.estimate = (self.estimate / 2.0).max(self.least());
            self.state = PathState::Silent;
            self.prober.handle_congestion(now);
        }
    }

    fn silent_at(&self) -> Option<u64> {
        self.heard.feedback_at?;
        self.heard.waiting_since.map(|since| since + SILENCE_US)
    }

    fn hear(&mut self, now: u64) {
        self.heard.feedback_at = Some(now);
        self.heard.waiting_since = None;
        self.heard.remb = None;
        match self.queue.standing_us < EMPTY_US {
            true => _ = self.empty_since.get_or_insert(now),
            false => self.empty_since = None,
        }
        let before = self.heard.before_silence.take();
        if self.state == PathState::Silent {
            self.state = PathState::Clear;
            if let Some(before) = before.filter(|_| self.queue.usage() == Usage::Normal) {
                // what was sent meanwhile has come, and nothing queues: it was the feedback that got lost
                let lost = self.loss.share().unwrap_or_default();
                self.estimate = self.estimate.max(before * (1.0 - lost));
            }
        }
    }

    /// What left before the estimate was lowered says nothing of the estimate.
    fn is_recent(&self, sent: u64) -> bool {
        self.lowered_at.is_none_or(|at| sent > at)
    }

    fn reference(&mut self, wrapped: u32) -> i64 {
        let reference = match self.heard.reference {
            None => i64::from(wrapped),
            // the difference, in 24 bits with a sign
            Some(before) => before + i64::from((wrapped.wrapping_sub(before as u32) << 8) as i32 >> 8),
        };
        self.heard.reference = Some(reference);
        reference
    }

    pub(super) fn since_begin(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_micros() as u64
    }
}
