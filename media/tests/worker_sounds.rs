//! What a listener hears over a path that loses, in virtual time: the worker, a listener, and a wire that drops what chance
//! says. Whether what leaves twice is the same octet for octet is checked where it leaves.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;
#[path = "worker_sounds/merged.rs"]
mod merged;
#[path = "worker_sounds/red.rs"]
mod red;
#[path = "worker_sounds/rungs.rs"]
mod rungs;
#[path = "worker_sounds/sights.rs"]
mod sights;

use std::collections::BTreeSet;

use media::rtcp::{Compound, Reception};
use protocol::{Codec, Kind};
use worker_sim::{Sim, ms, narrow::Narrow};

/// A stage of sound, and somebody who hears it.
struct Hall {
    sim: Sim,
    publisher: usize,
    listener: usize,
    /// What its packets begin with.
    published: u8,
    /// Packets of the publisher.
    said: u32,
}

/// What packets of the publisher begin with, music of 20 ms in stereo; those of rungs begin with other bandwidths.
const PUBLISHED: u8 = 0xfc;

/// What somebody heard in some time.
#[derive(Debug)]
struct Heard {
    sent: usize,
    missing: usize,
    /// Datagrams of sound that left.
    left: u64,
}

impl Heard {
    /// Of a thousand packets.
    fn missing_per_mille(&self) -> usize {
        self.missing * 1000 / self.sent
    }
}

impl Hall {
    /// `tells` says whether the listener tells of each packet.
    fn new(seed: u64, tells: bool) -> Hall {
        Hall::with_workers(1, seed, tells)
    }

    fn with_workers(workers: u8, seed: u64, tells: bool) -> Hall {
        Hall::with_listener(offer!("firefox_recvonly"), workers, seed, tells)
    }

    fn with_listener(offer: &str, workers: u8, seed: u64, tells: bool) -> Hall {
        let mut sim = Sim::new(workers, seed);
        let publisher = sim.publisher(offer!("chromium_publish"), 0);
        let listener = sim.listener_with(offer, &[Codec::Opus], |plan| {
            plan.tracks.retain(|track| track.kind == Kind::Audio);
            for track in plan.tracks.iter_mut().filter(|_| !tells) {
                track.feedback.transport_cc = false;
                track.extensions.transport_cc = None;
            }
        });
        sim.connect();
        Hall { sim, publisher, listener, published: PUBLISHED, said: 0 }
    }

    /// So many seconds of sound. Each second the listener does what it does beside hearing.
    fn play(&mut self, seconds: usize, mut each: impl FnMut(&mut Sim, usize)) -> Heard {
        let (known, before) = (self.came(), self.left());
        for _ in 0..seconds {
            for _ in 0..50 {
                self.say();
            }
            each(&mut self.sim, self.listener);
        }
        self.sim.run(ms(200));
        let sent = seconds * 50;
        let came = self.came().difference(&known).count();
        Heard { sent, missing: sent.saturating_sub(came), left: self.left() - before }
    }

    /// 20 ms of sound at 120 kbit/s, which say how many there were before.
    fn say(&mut self) {
        let peer = &mut self.sim.peers[self.publisher];
        let timestamp = peer.feeds[0].as_ref().unwrap().timestamp;
        let mut payload = red::sound(timestamp);
        payload[0] = self.published;
        payload[1..5].copy_from_slice(&self.said.to_be_bytes());
        self.said += 1;
        peer.publish(Kind::Audio, &payload, false);
        peer.feed(Kind::Audio).timestamp += 960;
        self.sim.run(ms(20));
    }

    /// The timestamps that came.
    fn came(&self) -> BTreeSet<u32> {
        let peer = &self.sim.peers[self.listener];
        let red = peer.egress(Kind::Audio).codecs[0].red;
        peer.got_media(Kind::Audio).iter().flat_map(|got| red::heard(got, red)).collect()
    }

    fn left(&self) -> u64 {
        self.sim.workers[0].stats().sent[0].packets
    }
}

fn nothing(_: &mut Sim, _: usize) {}

#[test]
fn where_nothing_is_lost_nothing_leaves_twice() {
    let mut hall = Hall::new(1, true);
    let heard = hall.play(60, nothing);
    assert_eq!((heard.missing, heard.left, hall.sim.workers[0].stats().repeats), (0, 3000, 0));
}

#[test]
fn what_a_path_loses_is_hardly_heard() {
    for (loss, most) in [(2, 5), (5, 10), (10, 20), (20, 60)] {
        let mut hall = Hall::new(loss, true);
        hall.sim.down.loss_percent = loss;
        hall.play(10, nothing);
        let heard = hall.play(60, nothing);
        assert!(heard.missing_per_mille() <= most, "{loss} %: {heard:?}");
        assert!(heard.left >= heard.sent as u64 * 19 / 10, "{loss} %: {heard:?}");
        if loss < 8 {
            assert!(heard.left <= heard.sent as u64 * 21 / 10, "{loss} %: once is enough: {heard:?}");
        }
        // It is over.
        hall.sim.down.loss_percent = 0;
        hall.play(40, nothing);
        let heard = hall.play(20, nothing);
        assert_eq!(heard.left, heard.sent as u64, "{loss} %");
    }
}

#[test]
fn who_reports_only_what_share_came_is_helped_too() {
    let mut hall = Hall::new(7, false);
    hall.sim.down.loss_percent = 5;
    let mut report = reporter(&hall.sim);
    hall.play(10, &mut report);
    let heard = hall.play(9, &mut report);
    assert!(heard.missing_per_mille() <= 10, "{heard:?}");
}

/// Tells each second which share came.
fn reporter(sim: &Sim) -> impl FnMut(&mut Sim, usize) + use<> {
    let mut seen = (sim.now, 0);
    move |sim: &mut Sim, listener: usize| {
        let got = sim.peers[listener].got_media(Kind::Audio);
        let came: BTreeSet<u16> = got.iter().filter(|got| got.at >= seen.0).map(|got| got.sequence).collect();
        let lost = 1.0 - came.len() as f64 / 50.0;
        seen = (sim.now, seen.1 + 1);
        let ssrc = sim.peers[listener].egress(Kind::Audio).ssrc;
        let reception =
            Reception { ssrc, fraction_lost: (lost.max(0.0) * 256.0) as u8, ..Reception::default() };
        let mut compound = Compound::default();
        compound.receiver_report(7, &[reception]);
        sim.peers[listener].send_rtcp(compound.bytes());
    }
}

#[test]
fn who_asks_again_is_answered_and_not_sent_everything_twice() {
    let mut hall = Hall::new(3, true);
    hall.sim.down.loss_percent = 5;
    let mut asked = 0;
    for _ in 0..200 {
        (0..5).for_each(|_| hall.say());
        asked += ask(&mut hall.sim, hall.listener);
    }
    hall.sim.run(ms(200));
    let stats = hall.sim.workers[0].stats();
    assert!(asked > 20 && stats.repairs > 20, "{asked} {}", stats.repairs);
    // Before the first question, and while by chance so much is lost that answers alone would not do.
    assert!(stats.repeats < 300, "{} of 1000", stats.repeats);
}

/// Asks for what is missing of the last packets; gives how many that are.
fn ask(sim: &mut Sim, listener: usize) -> usize {
    let track = sim.peers[listener].egress(Kind::Audio).ssrc;
    let got = sim.peers[listener].got_media(Kind::Audio);
    let came: BTreeSet<u16> = got.iter().map(|got| got.sequence).collect();
    let newest = got.last().unwrap().sequence;
    let missing: Vec<u16> =
        (1..9).map(|back| newest.wrapping_sub(back)).filter(|sequence| !came.contains(sequence)).collect();
    let asked = missing.len();
    if !missing.is_empty() {
        sim.peers[listener].nack(track, missing);
    }
    asked
}

#[test]
fn who_asks_for_everything_again_gets_it_once_more_and_no_oftener() {
    let mut hall = Hall::new(3, true);
    for _ in 0..500 {
        hall.say();
        let ssrc = hall.sim.peers[hall.listener].egress(Kind::Audio).ssrc;
        let newest = hall.sim.peers[hall.listener].got_media(Kind::Audio).last().unwrap().sequence;
        let all: Vec<u16> = (0..30).map(|back| newest.wrapping_sub(back)).collect();
        hall.sim.peers[hall.listener].nack(ssrc, all);
    }
    let stats = hall.sim.workers[0].stats();
    assert!(stats.sent[0].packets <= 2 * 500 + 16, "{} packets of 500", stats.sent[0].packets);
}

#[test]
fn a_path_without_room_is_not_made_fuller() {
    let mut hall = Hall::new(5, true);
    let (listener, now) = (hall.listener, hall.sim.now);
    // The wire is too narrow for the sound alone: what is lost is lost by that.
    hall.sim.narrow.insert(listener, Narrow::new(110_000, ms(200), now));
    hall.play(10, nothing);
    let heard = hall.play(30, nothing);
    assert!(heard.left <= heard.sent as u64 * 11 / 10, "{heard:?}");
}
