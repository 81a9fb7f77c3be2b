//! Rungs: which one a listener gets, and that a switch leaves no hole.

use std::time::Duration;

use media::{AdvertisedSound, Command, SoundWish, rtp::opus::Layout};
use protocol::Kind;

use super::{
    Hall, PUBLISHED, nothing,
    worker_sim::{Sim, TRACKS, addr, ladder::TOCS, ms, narrow::Narrow, peer::Got},
};

/// Which rung a packet is of, merged or not.
pub fn rung(got: &Got) -> u8 {
    let toc = got.payload[0] & !3;
    TOCS.iter().position(|known| *known == toc).map_or(toc, |rung| rung as u8)
}

impl Hall {
    /// As [`Hall::new`], with somebody who makes rungs.
    pub fn with_rungs(workers: u8, seed: u64) -> Hall {
        let mut hall = Hall::with_workers(workers, seed, true);
        hall.open([true, true]);
        hall
    }

    pub fn open(&mut self, open: [bool; 2]) {
        self.sim.tell(&Command::Rungs { tracks: TRACKS, open, elsewhere: None });
    }

    /// As where the stage is at another relay: this comes of it.
    pub fn comes_from_elsewhere(&mut self, comes: [bool; 3]) {
        self.comes_of([true, true], comes);
    }

    /// The same, and its relay makes these rungs.
    pub fn comes_of(&mut self, open: [bool; 2], comes: [bool; 3]) {
        let elsewhere = Some(AdvertisedSound { rate: 160_000, comes });
        self.sim.tell(&Command::Rungs { tracks: TRACKS, open, elsewhere });
    }

    pub fn wire(&mut self, rate: u64) {
        let now = self.sim.now;
        let wire = self.sim.narrow.entry(self.listener).or_insert_with(|| Narrow::new(rate, ms(200), now));
        wire.rate = rate;
    }

    pub fn wish(&mut self, wish: SoundWish) {
        let session = self.sim.peers[self.listener].session;
        self.sim.tell(&Command::SoundWish { session, wish });
    }

    pub fn got(&self) -> Vec<&Got> {
        self.sim.peers[self.listener].got_media(Kind::Audio)
    }

    /// What came last.
    pub fn rung(&self) -> u8 {
        rung(self.got().last().unwrap())
    }

    /// How often it was another than before, among what came behind the first so many.
    pub fn switches(&self, from: usize) -> usize {
        self.got()[from.saturating_sub(1)..].windows(2).filter(|pair| rung(pair[0]) != rung(pair[1])).count()
    }

    /// The longest time between two packets, among what came behind the first so many.
    pub fn longest_gap(&self, from: usize) -> Duration {
        self.got()[from..].windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap()
    }

    /// Numbers and times go on as if there were one encoder.
    pub fn assert_seamless(&self) {
        for pair in self.got().windows(2) {
            let step = (
                pair[1].sequence.wrapping_sub(pair[0].sequence),
                pair[1].timestamp.wrapping_sub(pair[0].timestamp),
            );
            let samples = Layout::read(&pair[0].payload).unwrap().samples;
            assert_eq!(step, (1, samples), "{:?}", pair[1].at);
        }
    }
}

#[test]
fn a_wish_is_heard_at_once_and_leaves_no_hole() {
    let mut hall = Hall::with_rungs(1, 1);
    hall.play(2, nothing);
    assert_eq!((hall.rung(), hall.sim.ladder.made), (PUBLISHED, [0, 0]), "nobody wants a rung, none is made");
    for (wish, rung) in
        [(SoundWish::Low, 0), (SoundWish::Middle, 1), (SoundWish::High, PUBLISHED), (SoundWish::Low, 0)]
    {
        let before = hall.got().len();
        hall.wish(wish);
        hall.play(1, nothing);
        assert_eq!(hall.rung(), rung);
        assert_eq!(hall.switches(before), 1);
        let heard = hall.sim.workers[0].stats().hearing;
        assert_eq!(heard[usize::from(rung.min(2))], 1, "{heard:?}");
        // A rung is a frame behind the publisher.
        assert!(hall.longest_gap(before) <= ms(61), "{wish:?}: {:?}", hall.longest_gap(before));
    }
    hall.assert_seamless();
    hall.wish(SoundWish::High);
    hall.play(1, nothing);
    let made = hall.sim.ladder.made;
    hall.play(5, nothing);
    assert_eq!(hall.sim.ladder.made, made, "nobody wants one any more");
    assert_eq!(hall.sim.workers[0].stats().hearing, [0, 0, 1]);
}

#[test]
fn of_a_sound_from_elsewhere_a_listener_gets_the_best_that_comes() {
    let mut hall = Hall::with_rungs(1, 1);
    // Somebody makes both, whatever is wanted here.
    hall.sim.ladder.handle_wanted(9, [1, 1]);
    hall.sim.tell(&Command::Feed { tracks: TRACKS, feeds: true });
    hall.play(1, nothing);
    let all = [true; 3];
    for (wish, comes, rung) in [
        (SoundWish::High, all, PUBLISHED),
        (SoundWish::High, [true, true, false], 1),
        (SoundWish::High, [true, false, false], 0),
        (SoundWish::High, [true, false, true], PUBLISHED),
        // What is wished less and does not come: the next better one.
        (SoundWish::Low, [false, true, true], 1),
        (SoundWish::Low, [false, false, true], PUBLISHED),
        (SoundWish::Low, all, 0),
        // Of nothing that is said to come it is what was chosen.
        (SoundWish::Middle, [false; 3], 1),
    ] {
        let before = hall.got().len();
        hall.wish(wish);
        hall.comes_from_elsewhere(comes);
        hall.play(1, nothing);
        assert_eq!(hall.rung(), rung, "{wish:?} {comes:?}");
        assert!(hall.longest_gap(before) <= ms(61), "{wish:?} {comes:?}: {:?}", hall.longest_gap(before));
        let heard = hall.sim.workers[0].stats().hearing;
        assert_eq!(heard[usize::from(rung.min(2))], 1, "{wish:?} {comes:?}: {heard:?}");
    }
    hall.assert_seamless();
}

#[test]
fn rungs_that_close_elsewhere_and_open_again_leave_no_hole() {
    let mut hall = Hall::with_rungs(1, 1);
    hall.sim.ladder.handle_wanted(9, [1, 1]);
    hall.sim.tell(&Command::Feed { tracks: TRACKS, feeds: true });
    hall.comes_from_elsewhere([true; 3]);
    hall.wish(SoundWish::Low);
    hall.play(2, nothing);
    let both = [true, true];
    // It closes there, and that is heard of here; what the publisher sends comes, and then no rung. Then they come again.
    for (passes, open, comes, rung) in [
        (false, both, [true, false, false], 0),
        (true, both, [true, false, false], PUBLISHED),
        (true, [false, false], [true, false, false], PUBLISHED),
        (true, [false, false], [true, false, true], PUBLISHED),
        (true, [false, false], [false, false, true], PUBLISHED),
        (false, both, [false, false, true], PUBLISHED),
        (false, both, [true, false, true], 0),
        (false, both, [true, false, false], 0),
    ] {
        hall.sim.ladder.passes = passes;
        let before = hall.got().len();
        hall.comes_of(open, comes);
        hall.play(1, nothing);
        assert_eq!(hall.rung(), rung, "{passes} {open:?} {comes:?}");
        assert!(hall.longest_gap(before) <= ms(61), "{open:?} {comes:?}: {:?}", hall.longest_gap(before));
    }
    hall.assert_seamless();
}

#[test]
fn two_hundred_switches_leave_no_hole() {
    let mut hall = Hall::with_rungs(2, 9);
    let address = hall.sim.peers[hall.listener].browser.address;
    assert_ne!(address, addr("127.0.0.1:1"));
    hall.sim.handover = ms(4);
    for _ in 0..200 {
        let wish = [SoundWish::Low, SoundWish::Middle, SoundWish::High][hall.sim.rng.below(3) as usize];
        hall.wish(wish);
        for _ in 0..hall.sim.rng.below(12) {
            hall.say();
        }
    }
    hall.play(1, nothing);
    hall.assert_seamless();
    assert!(hall.switches(0) > 80, "{}", hall.switches(0));
}

#[test]
fn a_rung_that_stops_coming_gives_way_to_the_publisher() {
    let mut hall = Hall::with_rungs(1, 1);
    hall.wish(SoundWish::Middle);
    hall.play(2, nothing);
    for closed in [false, true] {
        assert_eq!(hall.rung(), 1);
        let before = hall.got().len();
        match closed {
            true => hall.open([false, false]),
            false => hall.sim.ladder.hangs = true,
        }
        hall.play(1, nothing);
        assert_eq!(hall.rung(), PUBLISHED, "closed: {closed}");
        let most = if closed { 41 } else { 121 };
        assert!(hall.longest_gap(before) <= ms(most), "closed: {closed}: {:?}", hall.longest_gap(before));
        hall.sim.ladder.hangs = false;
        hall.open([true, true]);
        hall.play(8, nothing);
    }
    assert_eq!(hall.rung(), 1, "it comes again");
    hall.assert_seamless();
}

#[test]
fn a_rung_that_comes_late_goes_on_where_there_is_no_room_for_more() {
    for wire in [Some(60_000), Some(40_000), None] {
        let mut hall = Hall::with_rungs(1, 1);
        match wire {
            Some(rate) => hall.wire(rate),
            None => hall.wish(SoundWish::Low),
        }
        hall.play(20, nothing);
        assert_eq!(hall.rung(), 0);
        let before = hall.got().len();
        hall.sim.ladder.lags = 10;
        let heard = hall.play(3, nothing);
        assert_eq!(hall.rung(), if wire.is_some() { 0 } else { PUBLISHED }, "{wire:?}");
        hall.sim.ladder.lags = 0;
        let then = hall.play(8, nothing);
        println!("{wire:?}: {heard:?} {then:?}, {} switches", hall.switches(before));
        assert_eq!((hall.rung(), hall.switches(before)), (0, if wire.is_some() { 0 } else { 2 }), "{wire:?}");
        assert!(heard.missing <= 11 && then.missing <= 1, "{wire:?}: {heard:?} {then:?}");
    }
}

#[test]
fn a_publisher_that_speaks_is_not_taken_in_rungs() {
    let mut hall = Hall::with_rungs(1, 1);
    hall.wish(SoundWish::Low);
    hall.play(2, nothing);
    assert_eq!(hall.rung(), 0);
    hall.published = 0x78;
    hall.play(2, nothing);
    assert_eq!(hall.rung(), 0x78, "hybrid speech");
    hall.published = PUBLISHED;
    hall.play(8, nothing);
    assert_eq!(hall.rung(), 0);
    hall.assert_seamless();
}

/// What came of some time on a wire.
pub fn fares(hall: &mut Hall, seconds: usize) -> (super::Heard, Duration) {
    let from = hall.sim.now;
    let heard = hall.play(seconds, nothing);
    let queue = hall.sim.narrow[&hall.listener].p95(from, hall.sim.now);
    (heard, queue)
}

#[test]
fn a_wire_of_60_kilobits_carries_the_lowest_rung() {
    for seed in 1..5 {
        let mut hall = Hall::with_rungs(1, seed);
        hall.wire(60_000);
        hall.play(10, nothing);
        let before = hall.got().len();
        let (heard, queue) = fares(&mut hall, 60);
        println!("{heard:?}, queue {queue:?}, {} switches", hall.switches(before));
        assert_eq!((hall.rung(), hall.switches(before)), (0, 0));
        assert!(heard.missing_per_mille() < 5 && queue < ms(60), "{heard:?} {queue:?}");
    }
}

#[test]
fn the_sound_follows_a_wire_that_gets_narrow_and_wide() {
    let mut hall = Hall::with_rungs(1, 3);
    hall.wire(300_000);
    hall.play(10, nothing);
    assert_eq!(hall.rung(), PUBLISHED);
    for (rate, rung) in [(90_000, 0), (60_000, 0), (130_000, 1), (300_000, PUBLISHED)] {
        hall.wire(rate);
        let before = hall.got().len();
        let (first, _) = fares(&mut hall, 10);
        let (then, queue) = fares(&mut hall, 10);
        println!(
            "{rate}: {} {first:?} {then:?}, queue {queue:?}, {} switches",
            hall.rung(),
            hall.switches(before)
        );
        assert_eq!(hall.rung(), rung, "{rate}");
        assert!(
            first.missing <= 10 && then.missing == 0 && queue < ms(60),
            "{rate}: {first:?} {then:?} {queue:?}"
        );
    }
}

#[test]
fn who_is_on_a_path_that_loses_hears_it_all_the_same_at_any_rung() {
    let mut hall = Hall::with_rungs(1, 5);
    hall.sim.down.loss_percent = 5;
    for wish in [SoundWish::Low, SoundWish::Middle, SoundWish::High] {
        hall.wish(wish);
        hall.play(10, nothing);
        let heard = hall.play(20, |_: &mut Sim, _| {});
        assert!(heard.missing_per_mille() <= 10, "{wish:?}: {heard:?}");
    }
}
