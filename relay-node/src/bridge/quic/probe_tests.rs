//! A link in virtual time that is thought to carry less than it does, or no more.

use super::*;
use crate::bridge::quic::capacity::{Delivered, Estimate};

/// IP and UDP.
const BELOW: u64 = 28;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A path of a rate with a queue, and the media that crosses it.
#[derive(Debug, Clone, Copy)]
struct Wire {
    rate: u64,
    believed: u64,
    delay: Duration,
    /// In 1000.
    loss: u64,
    /// Chance delays what comes and the answers by up to so much, in order.
    jitter: Duration,
    /// What the shortest round trip of the congestion control is too long by.
    base_late: Duration,
    /// Of what is believed, the share in per cent that media takes: in packets of 250 octets, and as much again in bursts.
    media: u64,
    /// Others fill the path's queue up to this, for half of each second.
    cross: Duration,
    /// What passes at once, whatever the rate: a shaper's bucket, in octets.
    bucket: u64,
    /// An older relay: nothing is answered.
    silent: bool,
}

const WIRE: Wire = Wire {
    rate: 1_000_000,
    believed: 1_000_000,
    delay: Duration::from_millis(50),
    loss: 0,
    jitter: Duration::ZERO,
    base_late: Duration::ZERO,
    media: 80,
    cross: Duration::ZERO,
    bucket: 0,
    silent: false,
};

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    /// When more was found, and how much.
    found: Vec<(Duration, u64)>,
    /// The longest queue that a burst left.
    queue: Duration,
    /// Bits of probes.
    sent: u64,
    /// When it was forgotten first what the link carries, by an estimate that probes tell that it is no more.
    forgotten: Option<Duration>,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }

    fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64 + 1))
    }
}

impl Wire {
    /// What is believed stays, unless `follows`: then what is found is.
    fn run(self, length: Duration, seed: u64, follows: bool) -> Outcome {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let start = Instant::now();
        let (mut prober, mut dice, mut outcome) = (Prober::default(), Dice(seed), Outcome::default());
        let (mut now, mut free_at, mut last_answer) = (start, start, start);
        let mut believed = self.believed;
        prober.handle_believed(Some(believed), now);
        let (mut answers, mut tokens) = (Vec::<(Instant, u16, u64)>::new(), self.bucket as f64);
        let shortest = Some(2 * self.delay + self.base_late);
        let (mut media, mut tick) = (0.0_f64, 0_u64);
        let (mut estimate, mut total) = (Estimate::default(), Delivered::default());
        estimate.handle_look(total, start);
        for looks in 1..3 {
            total.bytes += believed / 8 / 4;
            total.full_bytes += believed / 8 / 4;
            total.full_time += 250 * MS;
            estimate.handle_look(total, start + 250 * looks * MS);
        }
        while now < start + length {
            now += MS;
            tick += 1;
            tokens = (tokens + self.rate as f64 / 8000.0).min(self.bucket as f64);
            let mut cross = |octets: u64, free_at: &mut Instant| {
                if tokens >= octets as f64 {
                    tokens -= octets as f64;
                    return (*free_at).max(now);
                }
                *free_at = (*free_at).max(now) + Duration::from_nanos(octets * 8_000_000_000 / self.rate);
                *free_at
            };
            if tick % 1000 < 500 && free_at < now + self.cross {
                free_at = now + self.cross;
            }
            media += believed as f64 / 8000.0 * self.media as f64 / 200.0;
            while media >= 310.0 {
                media -= 310.0;
                prober.handle_sent(250, now);
                cross(250 + OVERHEAD + BELOW, &mut free_at);
            }
            if tick % 33 == 0 {
                let mut frame = (believed as f64 / 8000.0 * 33.0 * self.media as f64 / 200.0) as u64;
                while frame > 0 {
                    let octets = frame.min(1260);
                    frame -= octets;
                    prober.handle_sent(octets.saturating_sub(OVERHEAD + BELOW) as usize, now);
                    cross(octets, &mut free_at);
                }
            }
            let path = Path { room: 64 * 1024, longest: 1299, idle: true };
            let (number, mut octets, is_burst) = match prober.poll(&path, now) {
                Probe::Ask(number) => (number, 5, false),
                Probe::Burst(number, octets) => (number, octets, true),
                Probe::Wait | Probe::Later(_) | Probe::Nothing => (0, 0, false),
            };
            let mut came = 0;
            while octets > 0 {
                let part = octets.min(1299);
                octets -= part;
                outcome.sent += (part + OVERHEAD + BELOW) * 8;
                prober.handle_sent(part as usize, now);
                let out = cross(part + OVERHEAD + BELOW, &mut free_at);
                let lost = dice.below(1000) < self.loss;
                came += if lost { 0 } else { part };
                if octets == 0 && !self.silent && !lost && dice.below(1000) >= self.loss {
                    let at = out + 2 * self.delay + dice.time(self.jitter) + dice.time(self.jitter);
                    last_answer = last_answer.max(at);
                    answers.push((last_answer, number, came));
                }
            }
            if is_burst {
                outcome.queue = outcome.queue.max(free_at.saturating_duration_since(now));
            }
            while let Some((_, number, came)) = answers.first().copied().filter(|(at, ..)| *at <= now) {
                answers.remove(0);
                match prober.handle_answer(number, came, shortest, now) {
                    Some(Seen::More(found)) => {
                        outcome.found.push((now - start, found));
                        believed = if follows { found } else { believed };
                    }
                    Some(Seen::Same) => {
                        estimate.handle_seen(Seen::Same, now);
                    }
                    None => {}
                }
            }
            if tick % 250 == 0 {
                total.bytes += believed / 8 / 4 * self.media / 100;
                // The first of them were before.
                if now > start + SECOND && estimate.handle_look(total, now).is_none() {
                    outcome.forgotten = outcome.forgotten.or(Some(now - start));
                }
                prober.handle_believed(Some(believed), now);
            }
        }
        outcome
    }
}

#[test]
fn a_link_that_got_wider_is_known_soon() {
    for believed in [300_000, 1_000_000] {
        for (times, within) in [(3, 6), (16, 6)] {
            for jitter in [Duration::ZERO, 3 * MS] {
                for seed in 0..10 {
                    let wire = Wire { rate: times * believed, believed, jitter, ..WIRE };
                    let found = wire.run(20 * SECOND, seed, true).found;
                    let when = |least: u64| {
                        let found = found.iter().find(|(_, bits)| *bits >= least);
                        found.map_or(100 * SECOND, |(at, _)| *at)
                    };
                    let (first, most) = (when(0), when((wire.rate / 5 * 2).min(5_000_000)));
                    println!("{believed}, {times} times, {jitter:?}: {first:?}, 40 % of it {most:?}");
                    assert!(first <= within * SECOND, "{wire:?}: {found:?}");
                    assert!(most <= 12 * SECOND, "{wire:?}: {found:?}");
                    assert!(found.iter().all(|(_, bits)| *bits <= wire.rate), "{wire:?}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn a_link_that_stays_thin_is_not_thought_wider_in_ten_minutes() {
    for believed in [100_000, 300_000, 1_000_000, 5_000_000] {
        let wire = Wire { rate: believed, believed, ..WIRE };
        for (seed, wire) in (0..).zip([
            wire,
            Wire { loss: 20, ..wire },
            Wire { loss: 100, jitter: 10 * MS, ..wire },
            Wire { jitter: 2 * MS, ..wire },
            Wire { jitter: 10 * MS, ..wire },
            Wire { base_late: 10 * MS, ..wire },
            Wire { base_late: 10 * MS, jitter: 10 * MS, loss: 20, ..wire },
            Wire { cross: 30 * MS, ..wire },
            Wire { cross: 200 * MS, jitter: 5 * MS, base_late: 10 * MS, ..wire },
            Wire { media: 0, ..wire },
            Wire { media: 95, jitter: 20 * MS, ..wire },
        ]) {
            let Outcome { found, sent, forgotten, .. } = wire.run(600 * SECOND, seed, false);
            assert!(found.is_empty(), "{wire:?}: {found:?}");
            // At 100 kbit/s the question alone takes as long as a queue, and chance may look like one.
            let is_told = believed > 100_000 && wire.jitter <= 2 * MS && wire.cross < 100 * MS;
            assert!(!is_told || forgotten.is_none(), "{wire:?}: {forgotten:?}");
            assert!(sent <= believed * 600 / 100, "{wire:?}: {sent}");
            assert!(sent > 0, "{wire:?}: it is probed at all");
        }
    }
}

#[test]
fn what_a_link_carries_is_forgotten_where_nothing_answers_and_where_it_is_wide() {
    let silent = Wire { silent: true, ..WIRE }.run(60 * SECOND, 1, false);
    assert_eq!(silent.forgotten.map(|at| at.as_secs()), Some(10));
    let wide = Wire { rate: 5_000_000, ..WIRE }.run(60 * SECOND, 1, false);
    assert!(wide.forgotten.is_some() && !wide.found.is_empty(), "more is never taken for the same: {wide:?}");
}

/// Sound alone may be all that a link is thought to carry.
#[test]
fn a_link_whose_belief_is_used_up_is_probed_all_the_same() {
    for media in [90, 95, 100] {
        let wire = Wire { rate: 5_000_000, believed: 400_000, media, ..WIRE };
        for seed in 0..10 {
            let found = wire.run(20 * SECOND, seed, true).found;
            let first = found.first().map_or(100 * SECOND, |(at, _)| *at);
            assert!(first <= 6 * SECOND, "{wire:?}: {found:?}");
        }
    }
}

#[test]
fn a_burst_leaves_no_queue_above_25_ms() {
    for believed in [100_000, 300_000, 1_000_000, 5_000_000] {
        for media in [0, 50, 80] {
            let wire = Wire { rate: believed, believed, media, ..WIRE };
            let Outcome { queue, sent, .. } = wire.run(120 * SECOND, 7, false);
            assert!(queue <= 25 * MS, "{wire:?}: {queue:?}");
            assert!(sent > 0);
        }
    }
}

#[test]
fn a_shaper_that_lets_bursts_pass_is_believed_more_and_more_seldom() {
    let wire = Wire { bucket: 8_000, media: 30, ..WIRE };
    let found = wire.run(600 * SECOND, 1, false).found;
    assert!(!found.is_empty(), "it looks wide");
    let early = found.iter().filter(|(at, _)| *at < 60 * SECOND).count();
    let late = found.iter().filter(|(at, _)| *at > 300 * SECOND).count();
    assert!(early <= 6 && late <= 3, "{found:?}");
}

#[test]
fn a_neighbor_that_does_not_answer_is_asked_seldom() {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    let start = Instant::now();
    let mut prober = Prober::default();
    let path = Path { room: 64 * 1024, longest: 1299, idle: true };
    let mut asked = 0;
    for ms in 0..600_000 {
        let now = start + ms * MS;
        prober.handle_believed(Some(1_000_000), now);
        match prober.poll(&path, now) {
            Probe::Ask(_) => asked += 1,
            Probe::Nothing => {}
            probe => panic!("{probe:?} without an answer"),
        }
    }
    assert!((10..20).contains(&asked), "{asked}");
    prober.handle_believed(None, start + 601 * SECOND);
    assert_eq!(prober.poll(&path, start + 700 * SECOND), Probe::Nothing, "nothing is thought of it");
}

#[test]
fn a_burst_waits_for_room_and_not_for_long() {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    let start = Instant::now();
    let mut prober = Prober::default();
    let path = Path { room: 0, longest: 1299, idle: true };
    prober.handle_believed(Some(1_000_000), start);
    let now = start + PAUSE;
    let Probe::Ask(number) = prober.poll(&path, now) else { panic!("it is due") };
    assert_eq!(prober.handle_answer(number, 0, None, now + 100 * MS), None);
    assert_eq!(prober.poll(&path, now + 100 * MS), Probe::Wait);
    let busy = Path { idle: false, ..path };
    assert_eq!(prober.poll(&busy, now + 110 * MS), Probe::Later(now + 110 * MS + AGAIN));
    assert_eq!(prober.poll(&path, now + 100 * MS + STALE), Probe::Nothing);
    let Probe::Ask(number) = prober.poll(&path, now + 2 * SECOND) else { panic!("it is asked again") };
    assert_eq!(prober.handle_answer(number, 0, None, now + 2100 * MS), None);
    let wide = Path { room: 64 * 1024, ..path };
    assert_eq!(prober.poll(&wide, now + 2100 * MS), Probe::Burst(number + 1, 2500 - 2 * OVERHEAD));
}
