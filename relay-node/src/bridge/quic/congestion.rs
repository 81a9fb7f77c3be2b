//! How much may be on the way to a neighbor: a window steered by delay. It aims at a queue of 25 ms on the path,
//! takes loss alone for a radio's, and tells the scheduler what room is left. Where it is full, sound may take the place of
//! half of what arrives. Pure; quinn calls it.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory},
};

use super::{send_budget::SendBudget, shortest::Shortest};

/// The queue on the path that a full link is kept at.
const TARGET: Duration = Duration::from_millis(25);
/// With loss above [`LOSS_NOTICED`] the path's buffer may be shorter than that.
const TARGET_LOSSY: Duration = Duration::from_millis(12);
const LOSS_NOTICED: f64 = 0.02;
/// A round trip is longer by so much although no queue stands: acknowledgements wait, and a packet takes its time on the
/// wire, which on a thin path is more than all of the above. A target below that closes the window for nothing.
const ACK_WAIT: Duration = Duration::from_millis(10);
const PACKETS_ON_WIRE: f64 = 1.5;
const TARGET_MAX: Duration = Duration::from_millis(60);
/// Loss above this closes the window whatever the delay says: a policer has no queue.
const LOSS_MAX: f64 = 0.10;
const LOSS_CUT: f64 = 0.85;
/// After that it grows by a packet a round for so long.
const CAREFUL: Duration = Duration::from_secs(2);
/// Loss is judged over so many packets at least.
const LOSS_SAMPLE: u64 = 60;
/// A round trip that was not seen for so long is not believed any more; a link that is always full drains its
/// queue once to see it again.
const BASE_AGE: Duration = Duration::from_secs(10);
/// What finds so long a queue for the length of a [`ROUND`] ends the round at once: the path's buffer fills meanwhile.
const LONG_QUEUE: Duration = Duration::from_millis(50);
/// Samples of one round are taken for so long at least: acknowledgements wait up to 10 ms.
const ROUND: Duration = Duration::from_millis(10);
/// A queue that stays while next to nothing is sent is the path's own delay.
const STUCK_ROUNDS: u32 = 3;
/// In packets.
const MIN_WINDOW: u64 = 4;
const MAX_WINDOW: u64 = 16 * 1024 * 1024;
/// Of what arrives while the window is full, the share that what is urgent may send past it. The other half empties the
/// queue, also if more is urgent than the path carries.
const PAST_SHARE: u64 = 2;
/// What is urgent may send past the window at a time, in packets.
const PAST_MAX: u64 = 4;
/// What is sent in packets as small as these are acknowledgements, which are not in flight.
const ACK_ONLY: u64 = 64;

/// Makes the controllers of connections.
#[derive(Debug, Clone, Copy)]
pub struct DelayConfig {
    /// The window of a new connection, in bytes.
    pub initial_window: u64,
}

impl ControllerFactory for DelayConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Delay::new(self.initial_window, current_mtu, now))
    }
}

/// The window of one connection.
///
/// Once a round it compares the shortest round trip of the round with the shortest of the last seconds: the
/// difference is the queue. A full link's round trip is its window over its rate, so `window × (base + target) /
/// round trip` is the window that makes the queue the target, in one step.
#[derive(Debug, Clone)]
pub struct Delay {
    budget: Arc<SendBudget>,
    initial: u64,
    window: u64,
    mtu: u64,
    base: Base,
    round: Round,
    acked: u64,
    lost: u64,
    /// Rounds with a queue although the window is the smallest.
    stuck: u32,
    /// The round before ended with a queue and with more to send.
    was_full: bool,
    draining: Option<Instant>,
    careful_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Round {
    begin: Instant,
    /// What was delivered before it.
    delivered: u64,
    first_sample: Option<Instant>,
    shortest: Duration,
    /// Since when all meets a long queue, and the shortest round trip since.
    long_queue: Option<(Instant, Duration)>,
    most_in_flight: u64,
    limited: bool,
    /// Something passed the window: no sign that the path is full, but one that the window is small.
    passed: bool,
    marked: bool,
}

/// The shortest round trip lately.
#[derive(Debug, Clone, Copy)]
struct Base {
    shortest: Shortest,
    /// When a sample last came near it.
    seen: Instant,
}

impl Base {
    fn new(now: Instant) -> Base {
        Base { shortest: Shortest::since(now, BASE_AGE), seen: now }
    }

    fn get(&self) -> Option<Duration> {
        self.shortest.get()
    }

    fn sample(&mut self, rtt: Duration, now: Instant) {
        self.shortest.sample(rtt, now);
        if self.get().is_some_and(|base| rtt <= base + base / 8 + Duration::from_millis(3)) {
            self.seen = now;
        }
    }
}

impl Round {
    fn new(delivered: u64, now: Instant) -> Round {
        Round {
            begin: now,
            delivered,
            first_sample: None,
            shortest: Duration::MAX,
            long_queue: None,
            most_in_flight: 0,
            limited: false,
            passed: false,
            marked: false,
        }
    }
}

impl Delay {
    /// A controller with this first window.
    pub fn new(initial: u64, mtu: u16, now: Instant) -> Delay {
        let delay = Delay {
            budget: Arc::default(),
            initial,
            window: initial,
            mtu: mtu.into(),
            base: Base::new(now),
            round: Round::new(0, now),
            acked: 0,
            lost: 0,
            stuck: 0,
            was_full: false,
            draining: None,
            careful_until: None,
        };
        delay.publish();
        delay
    }

    /// What the scheduler reads.
    pub fn budget(&self) -> Arc<SendBudget> {
        self.budget.clone()
    }

    /// Packets left.
    pub fn handle_sent(&mut self, bytes: u64) {
        if bytes > ACK_ONLY {
            let in_flight = self.budget.in_flight.fetch_add(bytes, Relaxed) + bytes;
            self.round.most_in_flight = self.round.most_in_flight.max(in_flight);
            take(&self.budget.past, bytes);
            if self.is_full(in_flight) {
                take(&self.budget.credit, bytes);
            }
        }
        self.budget.wake();
    }

    /// A packet that left at `sent` was acknowledged.
    pub fn handle_ack(&mut self, sent: Instant, bytes: u64, now: Instant) {
        let rtt = now.saturating_duration_since(sent);
        self.acked += bytes;
        self.budget.delivered.fetch_add(bytes, Relaxed);
        self.base.sample(rtt, now);
        if self.is_full(self.budget.in_flight.load(Relaxed)) {
            let credit = self.budget.credit.load(Relaxed) + bytes / PAST_SHARE;
            self.budget.credit.store(credit.min(PAST_MAX * self.mtu), Relaxed);
        }
        // What left before the round says what the window before it did.
        if sent >= self.round.begin {
            self.round.first_sample.get_or_insert(now);
            self.round.shortest = self.round.shortest.min(rtt);
            let is_long = self.base.get().is_some_and(|base| rtt >= base + LONG_QUEUE);
            let (since, shortest) = self.round.long_queue.unwrap_or((now, rtt));
            self.round.long_queue = is_long.then_some((since, shortest.min(rtt)));
        }
    }

    /// All acknowledgements of one packet were handled.
    pub fn handle_acks_end(&mut self, in_flight: u64, limited: bool, now: Instant) {
        self.budget.in_flight.store(in_flight, Relaxed);
        self.round.passed |= self.budget.passed.swap(false, Relaxed);
        self.round.limited |= limited || self.budget.wanted.load(Relaxed);
        if self.draining.is_some_and(|until| until <= now) {
            self.draining = None;
            self.round = Round::new(self.budget.delivered.load(Relaxed), now);
        }
        let least = ROUND.max(self.round.shortest / 2);
        let long_enough = |first: Instant| now.saturating_duration_since(first) >= least;
        let long_queue = self.round.long_queue.filter(|(since, _)| now >= *since + ROUND);
        if let Some((_, shortest)) = long_queue {
            self.round.shortest = shortest;
        }
        if long_queue.is_some() || self.round.first_sample.is_some_and(long_enough) {
            self.end_round(now);
            self.round = Round::new(self.budget.delivered.load(Relaxed), now);
            self.round.most_in_flight = in_flight;
        }
        if !self.is_full(in_flight) {
            self.budget.credit.store(0, Relaxed);
        }
        let shortest = self.base.get().unwrap_or_default();
        self.budget.shortest_micros.store(shortest.as_micros() as u64, Relaxed);
        self.publish();
        self.budget.wake();
    }

    /// Packets are lost; `bytes` is 0 if they were only marked.
    pub fn handle_lost(&mut self, bytes: u64, outage: bool) {
        self.lost += bytes;
        self.round.marked |= bytes == 0;
        let in_flight = self.budget.in_flight.load(Relaxed);
        self.budget.in_flight.store(in_flight.saturating_sub(bytes), Relaxed);
        if outage {
            self.window = (self.window / 2).max(self.min_window());
        }
        self.publish();
        self.budget.wake();
    }

    fn end_round(&mut self, now: Instant) {
        let Some(base) = self.base.get() else { return };
        let rtt = self.round.shortest.max(Duration::from_micros(1));
        let queue = rtt.saturating_sub(base);
        let loss = self.loss();
        let used = self.window.min(self.round.most_in_flight);
        let wire = rtt.mul_f64(PACKETS_ON_WIRE * self.mtu as f64 / used.max(self.mtu) as f64);
        let target = if loss > LOSS_NOTICED { TARGET_LOSSY } else { TARGET };
        let target = target.max((ACK_WAIT + wire).min(TARGET_MAX));
        let is_full = self.round.limited && queue >= target / 2;
        // In the first round of several the path became full: some of it went by before.
        if is_full && self.was_full {
            let delivered = self.budget.delivered.load(Relaxed) - self.round.delivered;
            let took = now.saturating_duration_since(self.round.begin);
            self.budget.full_bytes.fetch_add(delivered, Relaxed);
            self.budget.full_micros.fetch_add(took.as_micros() as u64, Relaxed);
        }
        self.was_full = is_full;
        let mut ratio = (base + target).as_secs_f64() / rtt.as_secs_f64();
        if self.round.marked || (loss > LOSS_MAX && self.acked + self.lost >= LOSS_SAMPLE * self.mtu) {
            ratio = ratio.min(LOSS_CUT).min(1.0 - loss);
            (self.acked, self.lost) = (0, 0);
            self.careful_until = Some(now + CAREFUL);
        }
        if ratio < 1.0 {
            self.window = (used as f64 * ratio.max(0.5)) as u64;
        } else if (self.round.limited || self.round.passed) && ratio > 1.02 {
            let careful = self.careful_until.is_some_and(|until| now < until);
            // Media leaves its reserve, and quinn a packet: what stands free by that is used too. Without it a small window
            // would never grow again.
            let full = self.window.min(used + self.budget.reserve() + self.mtu);
            let step = if careful { 0.0 } else { full as f64 * (ratio.min(2.0) - 1.0) };
            // At least a packet: a window that grows by less does not grow.
            self.window = self.window.max(full + (step as u64).max(self.mtu));
        }
        self.forget_loss();
        self.window = self.window.clamp(self.min_window(), MAX_WINDOW);
        self.stuck = if self.window == self.min_window() && queue > target { self.stuck + 1 } else { 0 };
        if self.stuck >= STUCK_ROUNDS {
            self.stuck = 0;
            self.base = Base::new(now);
            self.base.sample(rtt, now);
        }
        if self.round.limited && now.saturating_duration_since(self.base.seen) >= BASE_AGE {
            self.base.seen = now;
            self.draining = Some(now + rtt + 2 * queue.min(2 * TARGET));
        }
    }

    /// The share of bytes lost lately.
    fn loss(&self) -> f64 {
        self.lost as f64 / (self.acked + self.lost).max(LOSS_SAMPLE * self.mtu) as f64
    }

    fn forget_loss(&mut self) {
        if self.acked + self.lost > 4 * LOSS_SAMPLE * self.mtu {
            self.acked /= 2;
            self.lost /= 2;
        }
    }

    fn min_window(&self) -> u64 {
        MIN_WINDOW * self.mtu
    }

    /// Whether quinn sends nothing more.
    fn is_full(&self, in_flight: u64) -> bool {
        in_flight + self.mtu > self.open()
    }

    /// As quinn sees it: what may pass the window is added to what is on the way, and a packet, as that is what quinn
    /// takes each packet for.
    fn open_to_quinn(&self) -> u64 {
        match self.budget.past.load(Relaxed) {
            0 => self.open(),
            past => self.open().max(self.budget.in_flight.load(Relaxed) + past + self.mtu),
        }
    }

    fn open(&self) -> u64 {
        if self.draining.is_some() { self.min_window() } else { self.window }
    }

    fn publish(&self) {
        self.budget.window.store(self.open(), Relaxed);
        self.budget.mtu.store(self.mtu, Relaxed);
    }
}

fn take(from: &AtomicU64, bytes: u64) {
    from.store(from.load(Relaxed).saturating_sub(bytes), Relaxed);
}

impl Controller for Delay {
    fn on_sent(&mut self, _now: Instant, bytes: u64, _last_packet_number: u64) {
        self.handle_sent(bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, rtt: &RttEstimator) {
        self.budget.rtt_micros.store(rtt.get().as_micros() as u64, Relaxed);
        self.handle_ack(sent, bytes, now);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.handle_acks_end(in_flight, !app_limited, now);
    }

    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, outage: bool, lost_bytes: u64) {
        self.handle_lost(lost_bytes, outage);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.window = self.window.max(self.min_window());
        self.publish();
    }

    fn window(&self) -> u64 {
        self.open_to_quinn()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MTU: u64 = 1350;

    /// A path in virtual time: rate, delay, a buffer, loss of every nth packet; a source that offers `offered`.
    struct Path {
        rate: u64,
        delay: Duration,
        buffer: Duration,
        lose_every: u64,
        offered: u64,
        delay_jump: Option<(Duration, Duration)>,
        /// What it begins with, and whether it is media, which leaves room for others.
        window: u64,
        media: bool,
    }

    /// What came of it.
    struct Outcome {
        rate: f64,
        /// Of the queue, after the first 2 s: median and 95th percentile.
        queue: [Duration; 2],
        dropped: u64,
        window: u64,
    }

    impl Path {
        fn run(&self, seconds: u64) -> Outcome {
            #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
            let start = Instant::now();
            let step = Duration::from_micros(100);
            let mut control = Delay::new(self.window, MTU as u16, start);
            let budget = control.budget();
            let has_room = |control: &Delay, in_flight: u64| match self.media {
                true => control.budget.for_media(0) >= MTU,
                false => in_flight + MTU <= control.open(),
            };
            let (mut now, mut free_at) = (start, start);
            let (mut backlog, mut in_flight, mut sent, mut came, mut dropped) = (0_f64, 0_u64, 0, 0, 0);
            // Acknowledged or found lost at, sent at, lost.
            let mut acks: VecDeque<(Instant, Instant, bool)> = VecDeque::new();
            let mut queues = Vec::new();
            while now < start + Duration::from_secs(seconds) {
                backlog = (backlog + self.offered as f64 / 8.0 * step.as_secs_f64()).min(500_000.0);
                budget.want(backlog >= MTU as f64 && !has_room(&control, in_flight));
                while backlog >= MTU as f64 && has_room(&control, in_flight) {
                    backlog -= MTU as f64;
                    sent += 1;
                    in_flight += MTU;
                    control.handle_sent(MTU);
                    let queue = free_at.saturating_duration_since(now);
                    let radio = self.lose_every > 0 && sent % self.lose_every == 0;
                    let delay = match self.delay_jump {
                        Some((at, delay)) if now >= start + at => delay,
                        _ => self.delay,
                    };
                    if queue > self.buffer {
                        dropped += 1;
                        acks.push_back((free_at + delay, now, true));
                        continue;
                    }
                    free_at = free_at.max(now) + Duration::from_nanos(MTU * 8_000_000_000 / self.rate);
                    acks.push_back((free_at + delay, now, radio));
                    if now > start + Duration::from_secs(2) {
                        queues.push(queue);
                    }
                }
                let mut some = false;
                while acks.front().is_some_and(|(at, ..)| *at <= now) {
                    let (_, at, lost) = acks.pop_front().unwrap();
                    in_flight -= MTU;
                    if lost {
                        control.handle_lost(MTU, false);
                    } else {
                        came += 1;
                        control.handle_ack(at, MTU, now);
                        some = true;
                    }
                }
                if some {
                    control.handle_acks_end(in_flight, false, now);
                }
                now += step;
            }
            queues.sort_unstable();
            let at = |share: f64| queues[(queues.len() as f64 * share) as usize];
            let rate = (came * MTU * 8) as f64 / seconds as f64;
            Outcome { rate, queue: [at(0.5), at(0.95)], dropped, window: control.window }
        }
    }

    const THIN: Path = Path {
        rate: 8_000_000,
        delay: Duration::from_millis(20),
        buffer: Duration::from_millis(500),
        lose_every: 0,
        offered: 12_000_000,
        delay_jump: None,
        window: 256 * 1024,
        media: false,
    };

    #[test]
    fn a_full_link_keeps_a_queue_of_25_ms_and_its_rate() {
        for rate in [2_000_000, 8_000_000, 50_000_000] {
            let outcome = Path { rate, offered: rate * 3 / 2, ..THIN }.run(25);
            println!("{rate}: {:.1} Mbit/s, queue {:?}", outcome.rate / 1e6, outcome.queue);
            assert!(outcome.rate > 0.93 * rate as f64, "{}", outcome.rate);
            assert!(outcome.queue[1] < Duration::from_millis(45), "{:?}", outcome.queue);
        }
    }

    #[test]
    fn media_that_leaves_room_for_others_fills_a_link_from_the_smallest_window_on() {
        for delay in [1, 10, 50, 100].map(Duration::from_millis) {
            for packets in [4, 10, 14, 24, 40] {
                let path = Path { rate: 5_000_000, delay, window: packets * MTU, media: true, ..THIN };
                let outcome = path.run(30);
                println!(
                    "{delay:?}, {packets} packets: {:.2} Mbit/s, queue {:?}",
                    outcome.rate / 1e6,
                    outcome.queue
                );
                assert!(outcome.rate > 0.85 * 5e6, "{delay:?}, {packets}: {}", outcome.rate);
                assert!(
                    outcome.queue[1] < Duration::from_millis(60),
                    "{delay:?}, {packets}: {:?}",
                    outcome.queue
                );
            }
        }
    }

    #[test]
    fn a_link_nearby_is_no_exception() {
        let outcome = Path { delay: Duration::from_micros(300), ..THIN }.run(25);
        println!("{:.1} Mbit/s, queue {:?}", outcome.rate / 1e6, outcome.queue);
        assert!(outcome.rate > 7.4e6 && outcome.queue[1] < Duration::from_millis(45), "{:?}", outcome.queue);
    }

    #[test]
    fn loss_alone_does_not_close_the_window() {
        for (lose_every, share) in [(20, 0.88), (11, 0.83)] {
            let outcome = Path { lose_every, ..THIN }.run(20);
            println!("1 of {lose_every}: {:.1} Mbit/s, queue {:?}", outcome.rate / 1e6, outcome.queue);
            assert!(outcome.rate > share * 8e6, "{}", outcome.rate);
            assert!(outcome.queue[1] < Duration::from_millis(45));
        }
    }

    #[test]
    fn a_policer_without_a_queue_closes_it() {
        let outcome = Path { buffer: Duration::from_millis(2), ..THIN }.run(20);
        println!("{:.1} Mbit/s, {} dropped", outcome.rate / 1e6, outcome.dropped);
        let all = outcome.rate * 20.0 / 8.0 / MTU as f64;
        assert!(outcome.rate > 6e6, "{}", outcome.rate);
        assert!((outcome.dropped as f64) < 0.2 * all, "{} of {all}", outcome.dropped);
    }

    #[test]
    fn a_source_below_the_rate_keeps_its_window() {
        let outcome = Path { offered: 3_000_000, lose_every: 20, ..THIN }.run(20);
        assert!(outcome.window >= 200 * 1024, "{}", outcome.window);
        assert!(outcome.queue[1] < Duration::from_millis(5));
    }

    #[test]
    fn a_longer_way_is_not_taken_for_a_queue_for_long() {
        let jump = Some((Duration::from_secs(10), Duration::from_millis(120)));
        let outcome = Path { delay_jump: jump, ..THIN }.run(20);
        println!("{:.1} Mbit/s, queue {:?}", outcome.rate / 1e6, outcome.queue);
        assert!(outcome.rate > 0.7 * 8e6, "{}", outcome.rate);
    }

    #[test]
    fn control_finds_room_when_media_finds_none() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let mut control = Delay::new(20 * MTU, MTU as u16, Instant::now());
        let budget = control.budget();
        control.handle_sent(16 * MTU);
        assert!(budget.for_media(0) >= MTU);
        assert!(budget.for_media(MTU) < MTU, "what quinn holds already counts");
        assert!(budget.for_urgent(MTU) >= MTU);
    }
}
