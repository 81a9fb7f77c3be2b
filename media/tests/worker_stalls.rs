//! A picture from elsewhere whose encodings stop coming and come again, because links on their way are cut: what a
//! listener sees of it.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use std::time::{Duration, Instant};

use media::{AdvertisedEncoding, Command};
use protocol::Kind;
use worker_sim::{
    SECOND, Sim, TRACKS,
    encodings::{MARK, RATES, Stage},
    is_continuous, ms,
    peer::Got,
};

const TOP: usize = 2;
const BASE: usize = 0;

struct View {
    sim: Sim,
    stage: Stage,
    listener: usize,
}

impl View {
    /// A listener whose path carries everything, and a stage elsewhere of which base and top come.
    fn new() -> View {
        let mut sim = Sim::new(1, 1);
        let listener = sim.listener(offer!("chromium_recvonly"));
        sim.connect();
        let mut stage = Stage::new(&RATES, sim.now);
        stage.encodings[1].lives = false;
        let mut view = View { sim, stage, listener };
        let advertised = |(place, rate)| AdvertisedEncoding { place, rate, rid: None, resolution: None };
        let encodings = (0..).zip(RATES).map(advertised).collect();
        view.sim.tell(&Command::Advertised { tracks: TRACKS, encodings });
        view
    }

    fn run(&mut self, time: Duration) {
        self.stage.run(&mut self.sim, time);
    }

    fn got_since(&self, since: Instant) -> Vec<&Got> {
        let all = self.sim.peers[self.listener].got_media(Kind::Video);
        all.into_iter().filter(|got| got.at >= since && !got.payload.is_empty()).collect()
    }

    /// Which encodings came since then, one after the other.
    fn encodings(&self, since: Instant) -> Vec<usize> {
        let mut all: Vec<usize> = self.got_since(since).iter().map(|got| encoding_of(got)).collect();
        all.dedup();
        all
    }
}

fn encoding_of(got: &Got) -> usize {
    usize::from(got.payload[MARK])
}

fn is_keyframe(got: &Got) -> bool {
    // Behind six octets of descriptor the first bit of the frame's head says so, at the beginning of a frame.
    got.payload[0] & 0x10 != 0 && got.payload[6] & 1 == 0
}

#[test]
fn a_base_that_rested_comes_back_with_a_keyframe_and_without_a_hole() {
    let mut view = View::new();
    view.stage.encodings[TOP].lives = false;
    view.run(SECOND * 5);
    for _ in 0..3 {
        view.stage.encodings[BASE].cut = true;
        view.run(SECOND * 3);
        let (since, asked) = (view.sim.now, view.sim.wanted.len());
        view.stage.encodings[BASE].cut = false;
        view.run(SECOND * 3);
        let got = view.got_since(since);
        assert!(is_keyframe(got[0]), "not the middle of a picture");
        assert!(got[0].at - since < ms(200), "a keyframe was asked for at once");
        assert_eq!(view.sim.wanted.len() - asked, 1);
        assert!(is_continuous(&view.sim, view.listener, Kind::Video));
    }
    assert_eq!(view.sim.workers[0].holdings().places, 2, "its sound and its picture");
}

#[test]
fn a_loss_of_300_ms_is_a_hole_as_ever() {
    let mut view = View::new();
    view.stage.encodings[TOP].lives = false;
    view.run(SECOND * 5);
    view.stage.encodings[BASE].cut = true;
    view.run(ms(300));
    let (since, asked) = (view.sim.now, view.sim.wanted.len());
    view.stage.encodings[BASE].cut = false;
    view.run(SECOND);
    let first = view.got_since(since)[0].at - since;
    assert!(first < ms(60), "{first:?}");
    assert_eq!(view.sim.wanted.len(), asked, "the listener asks by itself");
    assert!(!is_continuous(&view.sim, view.listener, Kind::Video));
}

/// The longest time without a picture that is newer than the one before.
fn gap(got: &[&Got]) -> Duration {
    got.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

impl View {
    /// The top is seen, and how it comes is known.
    fn at_the_top() -> View {
        let mut view = View::new();
        view.run(SECOND * 12);
        let lately = view.encodings(view.sim.now - SECOND * 2);
        assert_eq!(lately, [TOP]);
        view
    }
}

#[test]
fn who_sees_a_top_that_is_cut_sees_the_base_at_once_and_the_top_again_when_it_comes() {
    for keyframes_after in [ms(30), ms(150)] {
        let mut view = View::at_the_top();
        view.stage.answers_in = keyframes_after;
        let (cut, asked) = (view.sim.now, view.sim.wanted.len());
        view.stage.encodings[TOP].cut = true;
        view.run(ms(240));
        assert_eq!(view.encodings(cut + ms(11)).last(), Some(&BASE));
        assert_eq!(view.sim.demands[&0], [0, 0, 1, 0], "the top is wanted as before");
        view.stage.encodings[TOP].cut = false;
        let back = view.sim.now;
        view.run(SECOND * 5);
        let got = view.got_since(cut - ms(200));
        assert!(gap(&got) <= ms(70), "{:?}", gap(&got));
        assert_eq!(view.encodings(cut - ms(200)), [TOP, BASE, TOP]);
        let again = got.iter().find(|got| got.at > back && encoding_of(got) == TOP).unwrap();
        assert!(is_keyframe(again));
        // What is asked for is seen with the next picture, and so is the answer.
        assert!(again.at - back < keyframes_after + ms(150), "{:?}", again.at - back);
        let top = view.sim.wanted[asked..].iter().filter(|of| **of == TRACKS.encodings[TOP]).count();
        assert_eq!(top, 1, "the base was there, and the top was asked for once");
        assert!(is_continuous(&view.sim, view.listener, Kind::Video));
        assert_eq!(view.sim.workers[0].holdings().places, 2);
    }
}

#[test]
fn times_go_on_while_a_picture_is_caught_up_with() {
    let mut view = View::at_the_top();
    let cut = view.sim.now;
    view.stage.encodings[TOP].cut = true;
    view.run(SECOND * 3);
    let got = view.got_since(cut - SECOND);
    let live: Vec<_> = got.iter().filter(|got| got.at > cut + ms(500)).collect();
    let (before, after) = (got[0], live[0]);
    let span = f64::from(after.timestamp.wrapping_sub(before.timestamp)) / 90_000.0;
    let took = (after.at - before.at).as_secs_f64();
    assert!((span - took).abs() < 0.05, "{span} s of timestamps in {took} s");
    let mut pictures: Vec<u32> = got.iter().map(|got| got.timestamp).collect();
    pictures.dedup();
    assert!(pictures.windows(2).all(|pair| (pair[1].wrapping_sub(pair[0]) as i32) > 0), "no step back");
    let burst = got.iter().filter(|got| encoding_of(got) == BASE && got.at < cut + ms(100)).count();
    assert!(burst > 40, "the base is seconds from its keyframe: {burst}");
}

#[test]
fn who_has_no_room_for_the_top_by_then_does_not_return() {
    let mut view = View::at_the_top();
    view.stage.encodings[TOP].cut = true;
    view.run(ms(250));
    view.sim.narrow.insert(view.listener, worker_sim::narrow::Narrow::new(200_000, ms(200), view.sim.now));
    view.run(SECOND * 3);
    view.stage.encodings[TOP].cut = false;
    let back = view.sim.now;
    view.run(SECOND * 3);
    assert!(!view.encodings(back).contains(&TOP), "{:?}", view.encodings(back));
}

#[test]
fn a_keyframe_of_the_base_is_never_long_ago_while_a_better_one_is_seen() {
    let mut view = View::at_the_top();
    let of_base = |view: &View| view.sim.wanted.iter().filter(|of| **of == TRACKS.encodings[BASE]).count();
    let before = of_base(&view);
    view.run(SECOND * 60);
    let asked = of_base(&view) - before;
    assert!((10..=12).contains(&asked), "{asked}");
    // Nobody sees a better one.
    view.stage.encodings[TOP].lives = false;
    view.run(SECOND * 3);
    let before = of_base(&view);
    view.run(SECOND * 60);
    assert_eq!(of_base(&view), before);
    view.stage.encodings[TOP].lives = true;
    view.run(SECOND * 10);
    // A publisher that does not answer is asked ever less often.
    let before = of_base(&view);
    view.stage.answers_in = SECOND * 3600;
    view.run(SECOND * 60);
    assert!(of_base(&view) - before <= 7, "{}", of_base(&view) - before);
}

#[test]
fn an_uneven_top_stays() {
    let mut view = View::at_the_top();
    view.stage.encodings[TOP].jitter = ms(60);
    view.run(SECOND * 2);
    let since = view.sim.now;
    view.run(SECOND * 60);
    assert_eq!(view.encodings(since), [TOP], "30 ms earlier or later");
    view.stage.encodings[TOP].jitter = Duration::ZERO;
    view.run(SECOND * 15);
    view.stage.encodings[TOP].skips = true;
    view.run(SECOND * 2);
    let since = view.sim.now;
    view.run(SECOND * 60);
    assert_eq!(view.encodings(since), [TOP], "every third picture is left out");
}

#[test]
fn a_publisher_that_hesitates_turns_nobody() {
    let mut view = View::at_the_top();
    let since = view.sim.now;
    for pause in [100, 300, 700] {
        // Nothing is sent by anybody.
        view.sim.run(ms(pause));
        view.run(SECOND * 5);
    }
    assert_eq!(view.encodings(since), [TOP]);
}

#[test]
fn what_is_published_here_is_left_after_a_second_as_ever() {
    let mut sim = Sim::new(1, 1);
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    let stage = Stage::new(&RATES, sim.now);
    let mut view = View { sim, stage, listener };
    view.run(SECOND * 12);
    view.stage.encodings[TOP].cut = true;
    let cut = view.sim.now;
    view.run(SECOND * 3);
    let got = view.got_since(cut + ms(50));
    assert!(got[0].at - cut > ms(900), "{:?}", got[0].at - cut);
}
