//! Listeners that do not tell the truth, and those that tell less: they get at most their cap, and hurt only
//! themselves.

use std::time::{Duration, Instant};

use super::wire::Dice;
use crate::{
    bandwidth::{Estimator, PathState, Purpose},
    rtp::transport_cc::Feedback,
};

/// What it tells of the packets that were sent since the last feedback.
type Tale<'a> = &'a mut dyn FnMut(u64) -> Option<i16>;

pub fn begin() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    Instant::now()
}

/// The body of a feedback: a large delta, or none, for each packet.
pub fn body(base: u16, reference: u32, arrivals: &[Option<i16>]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(base.to_be_bytes());
    body.extend((arrivals.len() as u16).to_be_bytes());
    body.extend(&reference.to_be_bytes()[1..]);
    body.push(0);
    for chunk in arrivals.chunks(7) {
        let symbols =
            chunk.iter().zip(0..).map(|(arrival, at)| u16::from(arrival.is_some()) << (13 - 2 * at));
        body.extend((0xc000 | symbols.sum::<u16>()).to_be_bytes());
    }
    body.extend(arrivals.iter().flatten().flat_map(|delta| delta.to_be_bytes()));
    body
}

/// Sends what the estimate allows and all probes, for so many seconds.
fn listen(estimator: &mut Estimator, start: Instant, seconds: u64, tale: Tale) {
    let mut told = 0_u64;
    let mut sent = 0_u64;
    for tick in 0..seconds * 20 {
        let now = start + Duration::from_millis(50 * tick);
        estimator.set_wanted(Some(1_000_000_000));
        let allowed = estimator.bitrate(now) as usize / 8 / 20;
        for _ in 0..allowed.div_ceil(1200) {
            estimator.handle_sent(1200, Purpose::Media, now);
            sent += 1;
        }
        if let Some(probe) = estimator.poll_probe(now) {
            for _ in 0..probe.packets {
                let octets = probe.octets.div_ceil(probe.packets);
                estimator.handle_sent(octets, Purpose::Probe(probe.number), now);
                sent += 1;
            }
        }
        let arrivals: Vec<_> = (told..sent).map(&mut *tale).collect();
        let bytes = body(told as u16, (tick * 50 / 64) as u32, &arrivals);
        let feedback = Feedback::parse(&bytes).expect("it is well formed");
        estimator.handle_feedback(&feedback, now + Duration::from_millis(40));
        if estimator.poll_timeout().is_some_and(|at| at <= now) {
            estimator.handle_timeout(now);
        }
        told = sent;
    }
}

#[test]
fn whoever_acknowledges_everything_at_once_gets_the_cap() {
    let start = begin();
    let mut estimator = Estimator::new(true, start);
    listen(&mut estimator, start, 60, &mut |_| Some(0));
    let bitrate = estimator.bitrate(start + Duration::from_secs(60));
    assert!(bitrate <= 20_000_000, "{bitrate}");
    assert!(estimator.memory() <= 24 * 1024, "{}", estimator.memory());
}

#[test]
fn whoever_acknowledges_nothing_gets_the_floor() {
    let start = begin();
    let mut estimator = Estimator::new(true, start);
    listen(&mut estimator, start, 30, &mut |_| None);
    let bitrate = estimator.bitrate(start + Duration::from_secs(30));
    assert_eq!(bitrate, 50_000);
}

#[test]
fn nonsense_keeps_the_estimate_within_its_bounds() {
    for seed in 1..20 {
        let mut dice = Dice::new(seed);
        let start = begin();
        let mut estimator = Estimator::new(true, start);
        listen(&mut estimator, start, 20, &mut |_| {
            (dice.roll() < 0.7).then(|| (dice.roll() * 65_536.0 - 32_768.0) as i16)
        });
        let bitrate = estimator.bitrate(start + Duration::from_secs(20));
        assert!((50_000..=20_000_000).contains(&bitrate), "{bitrate}");
    }
}

#[test]
fn reports_about_nothing_are_counted_and_change_nothing() {
    let start = begin();
    let mut estimator = Estimator::new(false, start);
    let arrivals = [Some(1), Some(1), None, Some(1)];
    let told = |estimator: &mut Estimator| {
        let bytes = body(40_000, 5, &arrivals);
        estimator.handle_feedback(&Feedback::parse(&bytes).expect("it is well formed"), start);
    };
    told(&mut estimator);
    for _ in 0..10 {
        estimator.handle_sent(160, Purpose::Media, start);
    }
    told(&mut estimator);
    assert_eq!(estimator.ignored_reports(), 8);
    assert_eq!(estimator.bitrate(start), 300_000);
}

#[test]
fn the_clock_of_a_receiver_may_wrap() {
    let start = begin();
    let mut estimator = Estimator::new(true, start);
    let tell = |estimator: &mut Estimator, tick: u32, reference: u32| {
        let now = start + Duration::from_millis(64) * tick;
        estimator.handle_sent(1200, Purpose::Media, now);
        let bytes = body(tick as u16, reference & 0xff_ffff, &[Some(100)]);
        let feedback = Feedback::parse(&bytes).expect("it is well formed");
        estimator.handle_feedback(&feedback, now + Duration::from_millis(50));
    };
    // 0xffffff x 64 ms, then 0
    (0..40).for_each(|tick| tell(&mut estimator, tick, 0xff_fff0 + tick));
    assert_eq!((estimator.queue(), estimator.state()), (Duration::ZERO, PathState::Clear));
    // a wait of 128 ms that the wrap would hide if it were not undone
    (40..50).for_each(|tick| tell(&mut estimator, tick, 0xff_fff2 + tick));
    assert_eq!(estimator.queue(), Duration::from_millis(128));
}

#[test]
fn a_listener_that_hears_only_costs_little() {
    let start = begin();
    let mut estimator = Estimator::new(false, start);
    for tick in 0..10_000 {
        estimator.handle_sent(160, Purpose::Media, start + Duration::from_millis(20 * tick));
    }
    assert!(estimator.memory() <= 4 * 1024, "{}", estimator.memory());
}

#[test]
fn without_feedback_reports_and_remb_lead() {
    let start = begin();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut estimator = Estimator::new(true, start);
    assert_eq!(estimator.poll_probe(at(1)), None, "a probe would not be answered");
    estimator.handle_remb(1_500_000, at(1));
    assert_eq!(estimator.bitrate(at(1)), 1_500_000);
    estimator.handle_remb(400_000, at(2));
    assert_eq!(estimator.bitrate(at(2)), 400_000, "it fell");
    estimator.handle_remb(1_500_000, at(3));
    estimator.handle_reception(0.3, at(3));
    let lossy = estimator.bitrate(at(3));
    assert!(lossy < 400_000, "{lossy}");
    estimator.handle_remb(1_500_000, at(4));
    assert_eq!(estimator.bitrate(at(4)), lossy, "what the receiver thinks does not undo a loss");
    for second in 5..30 {
        for packet in 0..50 {
            let now = at(second) + Duration::from_millis(20 * packet);
            estimator.handle_sent(500, Purpose::Media, now);
        }
        estimator.handle_reception(0.0, at(second + 1));
    }
    let grown = estimator.bitrate(at(30));
    assert!((300_001..500_000).contains(&grown), "as far as what is sent supports: {grown}");
    assert_eq!(estimator.state(), PathState::Clear);
}
