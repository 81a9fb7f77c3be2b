//! What a wire with a short queue loses of a picture, with real feedback of that wire: a listener at its end tells what
//! came, and its estimate decides whether and how fast the picture is paced.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::stage::{Left, Stage, VIDEO_EGRESS};
use crate::{
    bandwidth::Estimator,
    ingest::transport_cc::ArrivalLog,
    rtp::{rtcp::Compound, transport_cc::Feedback},
    track::{Listener, id::TrackId},
};

const PICTURE: TrackId = TrackId(0);
const LISTENER: Listener = Listener { session: 0, egress: VIDEO_EGRESS };
const MBIT: u64 = 1_000_000;
const FRAME: Duration = Duration::from_nanos(33_333_334);
const STEP: Duration = Duration::from_millis(5);
const ONE_WAY: Duration = Duration::from_millis(20);
const FEEDBACK: Duration = Duration::from_millis(50);

/// A wire with a queue that drops what does not fit, and a radio behind it that loses one packet of so many.
struct Wire {
    rate: u64,
    longest: Duration,
    radio: Option<u64>,
    free_at: Duration,
    dice: u64,
}

impl Wire {
    fn new(rate: u64, longest: u64, radio: Option<u64>) -> Wire {
        Wire { rate, longest: Duration::from_millis(longest), radio, free_at: Duration::ZERO, dice: 7 }
    }

    /// When it arrives, if it does.
    fn carry(&mut self, left: &Left) -> Option<Duration> {
        if self.free_at.saturating_sub(left.at) > self.longest {
            return None;
        }
        let takes = Duration::from_nanos((left.len as u64 + 28) * 8_000_000_000 / self.rate);
        self.free_at = self.free_at.max(left.at) + takes;
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let loses = self.radio.is_some_and(|one_in| (self.dice >> 33).is_multiple_of(one_in));
        (!loses).then_some(self.free_at + ONE_WAY)
    }
}

/// A publisher, a relay, a wire and a listener that tells what came.
struct Road {
    stage: Stage,
    wire: Wire,
    began: Instant,
    log: ArrivalLog,
    /// Whether the listener's feedback comes back.
    tells: bool,
    arriving: VecDeque<(Duration, u16)>,
    feedback: VecDeque<(Duration, Vec<u8>)>,
    next_feedback: Duration,
    /// What left, how long it waited at the relay, and whether it arrived.
    carried: Vec<Carried>,
    /// When each packet of the picture came to the relay.
    came: Vec<Duration>,
    frames: u32,
    frame_at: Duration,
}

struct Carried {
    left: Left,
    waited: Duration,
    arrives: bool,
}

impl Road {
    fn new(wire: Wire, wanted: Option<u64>, tells: bool) -> Road {
        let mut stage = Stage::new();
        stage.viewer(None, true);
        stage.viewers.0[0].path.set_wanted(wanted);
        let began = stage.now;
        Road {
            stage,
            wire,
            began,
            log: ArrivalLog::new(began),
            tells,
            arriving: VecDeque::new(),
            feedback: VecDeque::new(),
            next_feedback: Duration::ZERO,
            carried: Vec::new(),
            came: Vec::new(),
            frames: 0,
            frame_at: Duration::ZERO,
        }
    }

    /// 2 Mbit/s of picture with a keyframe of 60 kB every two seconds, and sound, for so many seconds.
    fn run(&mut self, seconds: u64) -> &mut Road {
        let end = self.stage.elapsed() + Duration::from_secs(seconds);
        while self.stage.elapsed() < end {
            if self.frame_at <= self.stage.elapsed() {
                self.frame_at += FRAME;
                let key = self.frames.is_multiple_of(60);
                self.frames += 1;
                let octets = if key { 60_000_usize } else { 7_460 };
                self.came.resize(self.came.len() + octets.div_ceil(1200), self.stage.elapsed());
                self.stage.bring_picture(PICTURE, octets, key);
                self.stage.bring_sound();
                self.carry();
            }
            self.stage.run(STEP.min(self.frame_at.saturating_sub(self.stage.elapsed())));
            self.carry();
            self.tell();
        }
        self
    }

    /// What has left goes over the wire.
    fn carry(&mut self) {
        for left in std::mem::take(&mut self.stage.viewers.0[0].left) {
            let arrives = self.wire.carry(&left);
            self.arriving.extend(arrives.zip(left.transport));
            let is_picture = left.ssrc == 1;
            let came = self.came.get(usize::from(left.from.1)).filter(|_| is_picture);
            let waited = left.at - *came.unwrap_or(&left.at);
            self.carried.push(Carried { left, waited, arrives: arrives.is_some() });
        }
    }

    /// What has arrived is told, and what that says of the path is acted on.
    fn tell(&mut self) {
        let now = self.stage.elapsed();
        while let Some((at, number)) = self.arriving.pop_front_if(|(at, _)| *at <= now) {
            self.log.handle_arrival(number, self.began + at);
        }
        if self.tells && now >= self.next_feedback {
            self.next_feedback = now + FEEDBACK;
            let mut out = Compound::default();
            self.log.poll_feedback(1, 2, &mut out, self.stage.now);
            if !out.is_empty() {
                self.feedback.push_back((now + ONE_WAY, out.bytes().to_vec()));
            }
        }
        let path = &mut self.stage.viewers.0[0].path;
        if path.poll_timeout().is_some_and(|due| due <= self.stage.now) && self.tells {
            path.handle_timeout(self.stage.now);
        }
        while let Some((_, bytes)) = self.feedback.pop_front_if(|(due, _)| *due <= now) {
            let feedback = Feedback::parse(&bytes[4..]).expect("our own feedback can be read");
            path.handle_feedback(&feedback, self.stage.now);
            if let Some(probe) = path.poll_probe(self.stage.now) {
                self.stage.fan_out.handle_probe(LISTENER, probe, self.stage.now);
                self.stage.pump();
                return;
            }
        }
    }

    /// The share of picture and sound that was lost since that second.
    fn lost(&self, from: u64) -> f64 {
        let media = || self.media(from);
        media().filter(|carried| !carried.arrives).count() as f64 / media().count() as f64
    }

    /// What all but so many percent of the packets waited at most.
    fn waited(&self, percent: usize, from: u64) -> Duration {
        let mut waits: Vec<_> = self.media(from).map(|carried| carried.waited).collect();
        waits.sort_unstable();
        waits[(waits.len() - 1) * (100 - percent) / 100]
    }

    fn media(&self, from: u64) -> impl Iterator<Item = &Carried> {
        let from = Duration::from_secs(from);
        self.carried
            .iter()
            .filter(move |carried| carried.left.at >= from && matches!(carried.left.ssrc, 1 | 3))
    }

    fn path(&self) -> &Estimator {
        &self.stage.viewers.0[0].path
    }

    fn print(&self, name: &str, from: u64) {
        let [p80, all] = [20, 0].map(|percent| self.waited(percent, from).as_millis());
        println!(
            "{name}: {:.2} % lost, 80 % wait {p80} ms at most, all {all} ms; estimate {}, capacity {:?}, {}{}",
            100.0 * self.lost(from),
            self.path().bitrate(self.stage.now),
            self.path().capacity(),
            if self.path().is_limited() { "limited " } else { "" },
            if self.path().is_lossy(self.stage.now) { "lossy" } else { "" },
        );
    }
}

/// 5 Mbit/s with a queue of 15 ms.
fn short() -> Wire {
    Wire::new(5 * MBIT, 15, None)
}

/// The share that is lost where every frame leaves at once, because nothing is told.
fn lost_at_once(wire: Wire) -> f64 {
    let mut road = Road::new(wire, None, false);
    road.run(20).print("at once", 0);
    road.lost(0)
}

/// The share that is lost at an estimate of so much on a road of which the limit has shown, with what it knows by then.
fn lost_at(mut road: Road, estimate: u64) -> f64 {
    let from = road.stage.elapsed().as_secs();
    let now = road.stage.now;
    road.tells = false;
    road.stage.viewers.0[0].path.limit_to(estimate, now);
    road.run(20).print("at an estimate of that", from);
    road.lost(from)
}

#[test]
fn a_short_queue_takes_frames_that_are_paced_by_what_it_was_seen_to_carry() {
    let at_once = lost_at_once(short());
    assert!(at_once > 0.05);
    let unknown = [2 * MBIT, 3 * MBIT, 4_500_000];
    let unknown = unknown.map(|estimate| lost_at(Road::new(short(), None, false), estimate));
    assert!(unknown[0] < 0.001, "{unknown:?}");
    // 2.5 times more than half of what the wire carries is more than it carries: a long burst still overflows.
    assert!(unknown[1] < 0.5 * at_once && unknown[2] < 0.75 * at_once, "{unknown:?}");
    for estimate in [2 * MBIT, 3 * MBIT, 4_500_000] {
        let mut road = Road::new(short(), Some(20 * MBIT), true);
        road.run(20);
        assert!(road.path().capacity().is_some(), "a probe has failed");
        assert!(lost_at(road, estimate) < 0.001, "{estimate}");
    }
}

#[test]
fn who_loses_is_paced_before_a_queue_shows() {
    for (rate, queue, wanted) in [
        (5, 10, None),
        (5, 15, None),
        (5, 15, Some(4 * MBIT)),
        (5, 15, Some(20 * MBIT)),
        (5, 30, None),
        (5, 60, None),
        (8, 15, None),
    ] {
        let wire = || Wire::new(rate * MBIT, queue, None);
        let at_once = lost_at_once(wire());
        let mut road = Road::new(wire(), wanted, true);
        road.run(60).print(&format!("{rate} Mbit/s, {queue} ms, {wanted:?} wanted"), 10);
        assert!(road.path().is_lossy(road.stage.now));
        assert!(at_once > 0.04 && road.lost(10) < 0.001, "{} {at_once}", road.lost(10));
    }
}

#[test]
fn what_pacing_ended_does_not_come_back_each_moment() {
    let mut road = Road::new(short(), None, true);
    road.run(250).print("four minutes", 10);
    assert!(road.lost(10) < 0.004, "{}", road.lost(10));
}

#[test]
fn what_a_radio_loses_is_no_more_and_no_frame_waits_for_the_next() {
    for one_in in [50, 20, 10] {
        let wire = || Wire::new(50 * MBIT, 15, Some(one_in));
        let at_once = lost_at_once(wire());
        let mut road = Road::new(wire(), None, true);
        road.run(60).print(&format!("one of {one_in} lost"), 10);
        assert!((road.lost(10) - at_once).abs() < 0.005, "{} {at_once}", road.lost(10));
        // The packets of keyframes are one of eight.
        assert!(road.waited(20, 10) < FRAME / 2, "{:?}", road.waited(20, 10));
        assert!(road.waited(0, 10) <= Duration::from_millis(150), "{:?}", road.waited(0, 10));
    }
}
