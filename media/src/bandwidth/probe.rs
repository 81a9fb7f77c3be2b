//! When to try whether more goes through than is sent, and how much: a short burst at a higher rate, judged by
//! the rate at which it arrives. Says what to send; the caller sends it.

use super::{delivery::Delivery, history::PROBES};

/// What is known of the path, rates in bits per second.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// What it is thought to carry.
    pub estimate: f64,
    /// The estimate is never above this.
    pub most: f64,
    /// Nothing has shown lately that the estimate is right: what is wanted is tried although it is not above it.
    pub unproven: bool,
    /// By how much chance delays packets.
    pub jitter_us: u64,
    /// What is sent.
    pub sent: f64,
    /// What was carried when a queue stood.
    pub capacity: Option<f64>,
}

/// A burst to be sent: packets that carry nothing new, one after the other at a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Its number, for [`super::Purpose::Probe`].
    pub number: u8,
    /// Bits per second at which to send it; sent all at once it tells as much, at the price of a longer queue.
    pub rate: u64,
    /// How much to send.
    pub octets: usize,
    /// In at least so many packets.
    pub packets: usize,
}

/// Probes of one listener.
#[derive(Debug)]
pub struct Prober {
    wanted: Option<u64>,
    next_at: u64,
    pause: u64,
    /// When it is looked whether the path carries more than it did.
    glance_at: u64,
    last: u8,
    running: Option<Running>,
    /// When the last showed room, and the pause before it.
    succeeded: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    probe: Probe,
    /// Its failure is no news.
    glance: bool,
    began: u64,
    sent: usize,
    first: u64,
    last: u64,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// The path carries this: bits per second.
    Room(f64),
    /// It does not carry what was tried, but this.
    NoRoom {
        /// Bits per second.
        tried: f64,
        /// Bits per second.
        carried: f64,
    },
    /// Too little came to tell, or a queue stood already.
    Unknown,
}

/// How long a probe takes at its rate: on a wire that is half as wide it leaves a queue as long again.
const BURST_US: u64 = 15_000;
/// Where a radio delays packets by chance, a burst is this many times as long as the delays.
const JITTERS: u64 = 8;
const LONGEST_BURST_US: u64 = 80_000;
/// Beside what is sent a burst leaves a queue, where what the path carries is known: no longer than this,
const QUEUE_US: f64 = 50_000.0;
/// and gone after this.
const GONE_US: f64 = 300_000.0;
/// Between the packets of such a burst at most, so that chance evens out.
const GAP_US: u64 = 4_000;
/// Fewer packets are too few gaps to measure.
const PACKETS: usize = 5;
/// Smaller packets would measure what the wire needs per packet.
const LEAST_PACKET: usize = 120;
/// What a packet takes is known but about, so of the octets of a whole burst this part is counted at least.
const WHOLE: f64 = 0.9;
/// Less is no step: noise of the measurement.
const LEAST_STEP: f64 = 1.02;
/// Of the rate tried, what has to arrive. The rest is noise of timers and of radios.
const CARRIED: f64 = 0.9;
/// More lost than this, and nothing can be told.
const TOO_MANY_LOST: f64 = 0.34;
/// An answer takes a round trip and the interval of feedback.
const ANSWER_US: u64 = 1_000_000;
/// After the first failure, and half as long again after each that follows. After 20 s of failures the pause is
/// 8 s: that long the next step waits at most on a wire that has just become wider.
const PAUSE_US: u64 = 1_500_000;
const LONGEST_PAUSE_US: u64 = 120_000_000;
/// However long the pause is, it is looked so often whether the path carries clearly more than was known: little is sent
/// for that, and a failure says nothing new.
const GLANCE_US: u64 = 5_000_000;
/// So many times what was known. What arrives of it has to be more than that, see [`CARRIED`].
const PEEK: f64 = 1.2;
/// A queue so soon after a success says that the success was none.
const DOUBT_US: u64 = 60_000_000;

impl Path {
    /// How long a burst may be at this rate.
    fn longest_us(&self, rate: f64) -> u64 {
        let Some(capacity) = self.capacity else { return LONGEST_BURST_US };
        let beyond = (rate + self.sent - capacity).max(1.0);
        let queue_us = QUEUE_US.min(GONE_US * (1.0 - self.sent / capacity)).max(0.0);
        ((queue_us * capacity / beyond) as u64).clamp(BURST_US, LONGEST_BURST_US)
    }
}

impl Default for Prober {
    fn default() -> Self {
        Prober {
            wanted: None,
            next_at: 0,
            pause: PAUSE_US,
            glance_at: 0,
            last: 0,
            running: None,
            succeeded: None,
        }
    }
}

impl Prober {
    /// What the next step needs, bits per second; `None` if there is no next step.
    pub fn set_wanted(&mut self, wanted: Option<u64>) {
        self.wanted = wanted;
    }

    /// What the next step needs.
    pub fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    /// When a probe that is not answered has failed.
    pub fn answer_at(&self) -> Option<u64> {
        self.running.map(|running| running.began + ANSWER_US)
    }

    /// A probe, if one is due: towards what is wanted, never above twice the estimate.
    pub fn poll(&mut self, path: &Path, now: u64) -> Option<Probe> {
        let wanted = (self.wanted? as f64).min(path.most);
        let little = wanted < path.estimate * LEAST_STEP && !path.unproven;
        if self.running.is_some() || little {
            return None;
        }
        let glance = now < self.next_at;
        let (rate, burst_us) = if glance {
            let beyond = PEEK * path.capacity.filter(|_| now >= self.glance_at)?;
            (Some(beyond).filter(|beyond| *beyond <= wanted)?, BURST_US)
        } else {
            let rate = wanted.min(2.0 * path.estimate);
            (rate, path.longest_us(rate).min(BURST_US + JITTERS * path.jitter_us))
        };
        self.glance_at = now + GLANCE_US;
        let octets = (rate * burst_us as f64 / 8e6) as usize;
        self.last = (self.last + 1) % PROBES;
        let octets = octets.max(PACKETS * LEAST_PACKET);
        let packets = PACKETS.max((burst_us / GAP_US) as usize);
        let probe = Probe { number: self.last, rate: rate as u64, octets, packets };
        self.running = Some(Running { probe, glance, began: now, sent: 0, first: 0, last: 0 });
        Some(probe)
    }

    /// A packet of a probe leaves under this number.
    pub fn handle_sent(&mut self, probe: u8, number: u64, octets: usize) {
        if let Some(running) = self.running.as_mut().filter(|running| running.probe.number == probe) {
            if running.sent == 0 {
                running.first = number;
            }
            running.last = number;
            running.sent += octets;
        }
    }

    /// What can be judged now: feedback has come up to the number `told`. Gives the first and the last number.
    pub fn complete(&self, told: u64) -> Option<(u64, u64)> {
        self.running
            .filter(|running| running.sent as f64 >= WHOLE * running.probe.octets as f64)
            .filter(|running| running.last <= told)
            .map(|running| (running.first, running.last))
    }

    /// Judges the running probe by how it fared; `queued` if a queue stands now.
    pub fn judge(&mut self, fared: Option<Delivery>, queued: bool, now: u64) -> Option<Outcome> {
        let running = self.running.take()?;
        let Some(fared) = fared.filter(|fared| fared.lost <= TOO_MANY_LOST) else {
            self.fail(running.glance, now);
            return Some(Outcome::Unknown);
        };
        let tried = fared.sent.min(running.probe.rate as f64);
        if queued || fared.arrived < CARRIED * tried {
            self.fail(running.glance, now);
            let carried = fared.arrived.min(tried);
            return Some(if queued { Outcome::Unknown } else { Outcome::NoRoom { tried, carried } });
        }
        self.succeeded = Some((now, self.pause));
        self.forget_failures(now);
        Some(Outcome::Room(tried))
    }

    /// A probe that was not answered in time has failed.
    pub fn handle_timeout(&mut self, now: u64) {
        if let Some(running) = self.running.filter(|running| now >= running.began + ANSWER_US) {
            self.running = None;
            self.fail(running.glance, now);
        }
    }

    /// A queue stands, or too much is lost: no probes for a while. If that came soon after a success, the
    /// success was an error.
    pub fn handle_congestion(&mut self, now: u64) {
        let success = self.succeeded.take().filter(|(at, _)| now < at + DOUBT_US);
        if let Some((_, pause)) = success {
            self.pause = self.pause.max(pause);
        }
        let disturbed = self.running.take().is_some_and(|running| !running.glance);
        self.glance_at = self.glance_at.max(now + PAUSE_US);
        if success.is_some() || disturbed {
            self.fail(false, now);
        } else {
            self.next_at = self.next_at.max(now + self.pause);
        }
    }

    /// Where no probe can tell: what to grow to if it is time to try, or if it is little anyway. Losses after that
    /// are a failure.
    pub fn attempt(&mut self, estimate: f64, little: bool, now: u64) -> Option<f64> {
        let wanted = self.wanted.map(|wanted| wanted as f64).filter(|wanted| *wanted > estimate)?;
        (little || now >= self.next_at).then(|| {
            self.succeeded = Some((now, self.pause));
            wanted
        })
    }

    /// The path carries more than it did: what failed before says nothing any more.
    pub fn forget_failures(&mut self, now: u64) {
        self.pause = PAUSE_US;
        self.next_at = now;
    }

    fn fail(&mut self, glance: bool, now: u64) {
        if glance {
            return;
        }
        self.next_at = now + self.pause;
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE_US);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn path(estimate: f64, unproven: bool, jitter_us: u64) -> Path {
        Path { estimate, most: 20e6, unproven, jitter_us, sent: 0.0, capacity: None }
    }

    fn wanting(wanted: u64) -> Prober {
        let mut prober = Prober::default();
        prober.set_wanted(Some(wanted));
        prober
    }

    /// Sends all of a probe and judges it by the rate at which it arrives.
    fn fares(prober: &mut Prober, probe: Probe, arrived: f64, now: u64) -> Option<Outcome> {
        for number in 0..probe.packets as u64 {
            assert_eq!(prober.complete(1000), None, "not all of it is sent");
            prober.handle_sent(probe.number, 100 + number, probe.octets.div_ceil(probe.packets));
        }
        assert_eq!(prober.complete(99), None, "not all of it is told of");
        assert_eq!(prober.complete(1000), Some((100, 99 + probe.packets as u64)));
        prober.judge(Some(Delivery { arrived, sent: probe.rate as f64, lost: 0.0 }), false, now)
    }

    #[test]
    fn a_probe_goes_no_further_than_twice_the_estimate_nor_than_what_is_wanted() {
        let probe = wanting(5_000_000).poll(&path(300e3, false, 0), 0).expect("more is wanted");
        assert_eq!((probe.rate, probe.octets, probe.packets), (600_000, 1125, 5));
        let probe = wanting(400_000).poll(&path(300e3, false, 0), 0).expect("more is wanted");
        assert_eq!((probe.rate, probe.octets), (400_000, 750));
        assert_eq!(wanting(300_000).poll(&path(300e3, false, 0), 0), None, "that is carried");
        assert_eq!(Prober::default().poll(&path(300e3, false, 0), 0), None, "nothing is wanted");
        let probe = wanting(300_000).poll(&path(900e3, true, 0), 0).expect("it is not proven");
        assert_eq!(probe.rate, 300_000);
        let probe = wanting(5_000_000).poll(&path(1e6, false, 8_000), 0).expect("more is wanted");
        assert_eq!((probe.octets, probe.packets), (19_750, 19), "chance evens out over 79 ms");
        let full = Path { sent: 860e3, capacity: Some(960e3), ..path(1e6, false, 8_000) };
        let probe = wanting(5_000_000).poll(&full, 0).expect("more is wanted");
        assert_eq!(probe.octets, 3947, "16 ms: a queue of 31 ms, gone after 300");
    }

    #[test]
    fn failures_are_half_as_long_again_apart_up_to_two_minutes() {
        let mut prober = wanting(1_000_000);
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..16 {
            let probe = prober.poll(&path(600e3, false, 0), now).expect("it is due");
            let outcome = fares(&mut prober, probe, 600e3, now);
            assert_eq!(outcome, Some(Outcome::NoRoom { tried: 1e6, carried: 600e3 }));
            let before = now;
            while prober.poll(&path(600e3, false, 0), now).is_none() {
                now += 100_000;
            }
            prober.running = None;
            prober.next_at = now;
            pauses.push((now - before) / 100_000);
        }
        assert_eq!(pauses[..5], [15, 23, 34, 51, 76]);
        assert_eq!(pauses.last(), Some(&1200));
    }

    #[test]
    fn a_success_is_followed_at_once_and_doubted_when_a_queue_shows() {
        let mut prober = wanting(5_000_000);
        let probe = prober.poll(&path(300e3, false, 0), 0).expect("it is due");
        assert_eq!(prober.poll(&path(300e3, false, 0), 0), None, "one at a time");
        assert_eq!(
            fares(&mut prober, probe, 2e6, SECOND),
            Some(Outcome::Room(600e3)),
            "no more than was tried"
        );
        assert!(prober.poll(&path(600e3, false, 0), SECOND).is_some());
        prober.handle_congestion(2 * SECOND);
        assert_eq!(prober.poll(&path(300e3, false, 0), 3 * SECOND), None);
        assert_eq!(prober.pause, PAUSE_US * 3 / 2);
        assert!(prober.poll(&path(300e3, false, 0), 4 * SECOND).is_some());
    }

    #[test]
    fn what_is_not_answered_or_mostly_lost_has_failed() {
        let mut prober = wanting(5_000_000);
        prober.poll(&path(300e3, false, 0), 0).expect("it is due");
        assert_eq!(prober.answer_at(), Some(SECOND));
        prober.handle_timeout(SECOND);
        assert_eq!((prober.answer_at(), prober.poll(&path(300e3, false, 0), SECOND)), (None, None));
        prober.poll(&path(300e3, false, 0), 4 * SECOND).expect("it is due again");
        let lost = Delivery { arrived: 9e9, sent: 600e3, lost: 0.5 };
        assert_eq!(prober.judge(Some(lost), false, 5 * SECOND), Some(Outcome::Unknown));
    }
}
