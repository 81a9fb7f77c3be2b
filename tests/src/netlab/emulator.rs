//! One direction of a wire: what enters, what is lost on the way, what comes out and when.
//! Time is told to it and randomness is seeded, so that the same packets give the same losses; the devices
//! at its ends are the pump's.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Deserialize;

/// Packets on their way in one direction; what comes on top overflows.
const IN_FLIGHT: usize = 32_768;

/// Waits that are remembered until somebody asks; what comes on top is not.
const WAITS: usize = 1 << 20;

/// An IP packet of at least this many bytes carries media or data: hellos and acknowledgements are shorter.
pub const LARGE: usize = 180;

/// How a wire is, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// How long each packet takes, in milliseconds.
    pub delay_ms: f64,
    /// Up to this much more, in milliseconds, evenly spread. Order is kept, as on a real link.
    pub jitter_ms: f64,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// How many packets in a row a loss takes on average (Gilbert-Elliott); up to 1 means that each packet
    /// is lost by itself.
    pub burst: f64,
    /// Bits per second of IP packets; 0 for no limit.
    pub rate_bps: u64,
    /// Bytes that wait for the rate; what comes on top is dropped. 0 stands for 100 ms worth of the rate.
    pub queue_bytes: u64,
    /// The same as time; the smaller of both holds. 0 for no such limit.
    pub queue_ms: f64,
}

impl Conditions {
    /// A delay and nothing else.
    pub fn delay(delay: Duration) -> Conditions {
        Conditions { delay_ms: delay.as_secs_f64() * 1e3, ..Conditions::default() }
    }

    /// With this share of packets lost, each by itself.
    pub fn loss(self, share: f64) -> Conditions {
        Conditions { loss: share, burst: 1.0, ..self }
    }

    /// How long what waits for the rate may take to leave.
    fn queue(&self) -> Duration {
        let bytes = match self.queue_bytes {
            0 => Duration::MAX,
            bytes => Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate_bps.max(1) as f64),
        };
        let time = if self.queue_ms > 0.0 { millis(self.queue_ms) } else { Duration::MAX };
        match bytes.min(time) {
            Duration::MAX => Duration::from_millis(100),
            limit => limit,
        }
    }
}

/// What happened to packets in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came out at the other end.
    pub passed: u64,
    /// Of these, the [`LARGE`] ones.
    pub large: u64,
    /// Bytes that came out.
    pub bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
    /// Dropped because the wire is cut.
    pub cut: u64,
}

/// One direction of a wire.
#[derive(Debug)]
pub struct Lane {
    conditions: Conditions,
    is_cut: bool,
    /// The bad state of the Gilbert-Elliott model: everything is lost.
    is_bad: bool,
    random: StdRng,
    /// When the last packet that entered has left the sender's queue.
    free_at: Option<Instant>,
    /// With the time they arrive, in order.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    /// How long each packet waited for the rate, since somebody asked.
    waits: Vec<Duration>,
    counters: Counters,
}

impl Lane {
    /// A direction that loses nothing and takes no time.
    pub fn new(seed: u64) -> Lane {
        Lane {
            conditions: Conditions::default(),
            is_cut: false,
            is_bad: false,
            random: StdRng::seed_from_u64(seed),
            free_at: None,
            under_way: VecDeque::new(),
            waits: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Changes it for packets that enter from now on. Those under way keep their times, and nobody overtakes
    /// them.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
        self.is_bad &= conditions.loss > 0.0;
    }

    /// How it is.
    pub fn conditions(&self) -> Conditions {
        self.conditions
    }

    /// Nothing comes out from now on, not even what is under way.
    pub fn cut(&mut self) {
        self.is_cut = true;
        self.counters.cut += self.under_way.len() as u64;
        self.under_way.clear();
    }

    /// It passes packets again.
    pub fn heal(&mut self) {
        self.is_cut = false;
    }

    /// Whether it is cut.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How long packets waited for those before them, since the last call; in no order.
    pub fn take_waits(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.waits)
    }

    /// A packet enters.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        if self.is_cut {
            self.counters.cut += 1;
            return;
        }
        let Some(departs) = self.depart(packet.len(), now) else {
            self.counters.overflowed += 1;
            return;
        };
        // What is lost in the air has used the air.
        if self.loses() {
            self.counters.lost += 1;
            return;
        }
        let jitter = match self.conditions.jitter_ms {
            jitter if jitter > 0.0 => jitter * self.random.random::<f64>(),
            _ => 0.0,
        };
        let arrives = departs + millis(self.conditions.delay_ms + jitter);
        let arrives = self.under_way.back().map_or(arrives, |(before, _)| arrives.max(*before));
        self.under_way.push_back((arrives, packet.to_vec()));
    }

    /// The next packet that has arrived.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (_, packet) = self.under_way.pop_front_if(|(arrives, _)| *arrives <= now)?;
        self.counters.passed += 1;
        self.counters.large += u64::from(packet.len() >= LARGE);
        self.counters.bytes += packet.len() as u64;
        Some(packet)
    }

    /// When the next packet arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.front().map(|(arrives, _)| *arrives)
    }

    /// When a packet that enters now has left the queue; `None` if the queue has no room for it.
    fn depart(&mut self, length: usize, now: Instant) -> Option<Instant> {
        if self.under_way.len() >= IN_FLIGHT {
            return None;
        }
        if self.conditions.rate_bps == 0 {
            return Some(now);
        }
        let waits = self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if !waits.is_zero() && waits > self.conditions.queue() {
            return None;
        }
        if self.waits.len() < WAITS {
            self.waits.push(waits);
        }
        let takes = Duration::from_secs_f64(length as f64 * 8.0 / self.conditions.rate_bps as f64);
        let departs = now + waits + takes;
        self.free_at = Some(departs);
        Some(departs)
    }

    /// Gilbert-Elliott with no loss in the good state and nothing but loss in the bad one: of the mean burst
    /// follows how likely the bad state ends, of the share how likely it begins.
    fn loses(&mut self) -> bool {
        let share = self.conditions.loss.clamp(0.0, 1.0);
        if share == 0.0 {
            return false;
        }
        let draw = self.random.random::<f64>();
        if self.conditions.burst <= 1.0 || share == 1.0 {
            return draw < share;
        }
        let ends = 1.0 / self.conditions.burst;
        let begins = (share * ends / (1.0 - share)).min(1.0);
        self.is_bad = if self.is_bad { draw >= ends } else { draw < begins };
        self.is_bad
    }
}

fn millis(ms: f64) -> Duration {
    Duration::from_secs_f64(ms.clamp(0.0, 3_600_000.0) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn lane(conditions: Conditions) -> (Lane, Instant) {
        let mut lane = Lane::new(7);
        lane.set(conditions);
        (lane, clock::now())
    }

    /// Sends `count` packets of `length`, one per `every`; returns (number, arrival) of those that came.
    fn send(
        lane: &mut Lane,
        count: u32,
        length: usize,
        every: Duration,
        start: Instant,
    ) -> Vec<(u32, Duration)> {
        let mut arrived = vec![];
        let mut drain = |lane: &mut Lane, until: Option<Instant>| {
            while let Some(at) = lane.poll_timeout().filter(|at| until.is_none_or(|until| *at <= until)) {
                let packet = lane.poll_packet(at).unwrap();
                let number = u32::from_be_bytes(packet[..4].try_into().unwrap());
                arrived.push((number, at.saturating_duration_since(start)));
            }
        };
        for number in 0..count {
            let now = start + every * number;
            drain(lane, Some(now));
            let mut packet = vec![0; length];
            packet[..4].copy_from_slice(&number.to_be_bytes());
            lane.handle_packet(&packet, now);
        }
        drain(lane, None);
        arrived
    }

    #[test]
    fn a_packet_arrives_after_the_delay_and_not_before() {
        let (mut lane, start) = lane(Conditions::delay(20 * MS));
        lane.handle_packet(&[0; 100], start);
        assert_eq!(lane.poll_timeout(), Some(start + 20 * MS));
        assert_eq!(lane.poll_packet(start + 19 * MS), None);
        assert!(lane.poll_packet(start + 20 * MS).is_some());
        assert_eq!(lane.counters(), Counters { passed: 1, bytes: 100, ..Counters::default() });
    }

    #[test]
    fn jitter_spreads_arrivals_and_keeps_the_order() {
        let (mut lane, start) = lane(Conditions { delay_ms: 10.0, jitter_ms: 5.0, ..Conditions::default() });
        let arrived = send(&mut lane, 1000, 100, 10 * MS, start);
        assert!(arrived.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let extra: Vec<f64> =
            arrived.iter().map(|(n, at)| (*at - 10 * MS * *n).as_secs_f64() * 1e3 - 10.0).collect();
        assert!(extra.iter().all(|extra| (0.0..=5.0).contains(extra)));
        let mean = extra.iter().sum::<f64>() / extra.len() as f64;
        assert!((mean - 2.5).abs() < 0.2, "{mean}");
    }

    #[test]
    fn loss_comes_in_the_share_and_in_the_bursts_asked_for() {
        for (share, burst, wanted) in [(0.05, 1.0, 1.0 / 0.95), (0.05, 3.0, 3.0), (0.3, 8.0, 8.0)] {
            let (mut lane, start) = lane(Conditions { loss: share, burst, ..Conditions::default() });
            let arrived = send(&mut lane, 200_000, 100, MS, start);
            let lost = 1.0 - arrived.len() as f64 / 200_000.0;
            let bursts = arrived.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1).count();
            let mean = (200_000 - arrived.len()) as f64 / bursts as f64;
            assert!((lost - share).abs() < share * 0.1, "{lost} instead of {share}");
            assert!((mean - wanted).abs() < wanted * 0.1, "bursts of {mean} instead of {wanted}");
        }
    }

    #[test]
    fn the_rate_paces_and_the_queue_drops_its_tail() {
        // 1000 bytes at 1 Mbit/s take 8 ms; 80 ms of queue hold ten of them.
        let conditions = Conditions { rate_bps: 1_000_000, queue_ms: 80.0, ..Conditions::default() };
        let (mut lane, start) = lane(conditions);
        let arrived = send(&mut lane, 100, 1000, Duration::ZERO, start);
        assert_eq!(arrived.len(), 11);
        assert_eq!(lane.counters().overflowed, 89);
        for (number, at) in &arrived {
            assert_eq!(*at, 8 * MS * (number + 1));
        }
        let waits = lane.take_waits();
        assert_eq!((waits.len(), waits[10]), (11, 80 * MS));
        // What comes at the rate is not dropped and waits for nobody.
        let later = start + Duration::from_secs(1);
        assert_eq!(send(&mut lane, 100, 1000, 8 * MS, later).len(), 100);
        assert!(lane.take_waits().iter().all(Duration::is_zero));
    }

    #[test]
    fn a_queue_in_bytes_is_the_time_these_bytes_take() {
        let conditions = Conditions { rate_bps: 8_000_000, queue_bytes: 3000, ..Conditions::default() };
        let (mut lane, start) = lane(conditions);
        assert_eq!(send(&mut lane, 10, 1000, Duration::ZERO, start).len(), 4);
    }

    #[test]
    fn a_cut_takes_what_is_under_way_and_says_nothing() {
        let (mut lane, start) = lane(Conditions::delay(20 * MS));
        lane.handle_packet(&[0; 100], start);
        lane.cut();
        lane.handle_packet(&[0; 100], start);
        assert_eq!((lane.poll_timeout(), lane.counters().cut), (None, 2));
        lane.heal();
        lane.handle_packet(&[0; 100], start);
        assert!(lane.poll_timeout().is_some());
    }

    #[test]
    fn a_shorter_delay_lets_nobody_overtake() {
        let (mut lane, start) = lane(Conditions::delay(20 * MS));
        lane.handle_packet(&[0; 4], start);
        lane.set(Conditions::delay(MS));
        lane.handle_packet(&[1; 4], start + MS);
        assert_eq!(lane.poll_packet(start + 20 * MS).unwrap()[0], 0);
        assert_eq!(lane.poll_packet(start + 20 * MS).unwrap()[0], 1);
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let run = || {
            let (mut lane, start) =
                lane(Conditions { loss: 0.1, burst: 2.0, jitter_ms: 3.0, ..Conditions::default() });
            send(&mut lane, 5000, 100, MS, start)
        };
        assert_eq!(run(), run());
    }
}
