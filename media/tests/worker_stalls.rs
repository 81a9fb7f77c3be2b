//! A picture from elsewhere whose encodings stop coming and come again, because links on their way are cut: what a
//! listener sees of it.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use std::time::{Duration, Instant};

use media::Command;
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
        let encodings = (0..).zip(RATES).collect();
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
