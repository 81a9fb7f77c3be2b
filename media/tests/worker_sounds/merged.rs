//! Merged packets: who gets them, that each frame of the publisher comes once, and what happens to it on the way.

use std::collections::BTreeSet;

use media::{
    SoundWish,
    rtp::opus::{Layout, frames},
};
use protocol::{Codec, Kind};

use super::{
    Hall, PUBLISHED, nothing,
    rungs::fares,
    worker_sim::{Media, Sim, ms, peer::Got},
};

impl Hall {
    /// As [`Hall::with_rungs`], with a listener of merged packets.
    fn merged(workers: u8, seed: u64) -> Hall {
        let mut hall = Hall::with_rungs(workers, seed);
        hall.sim.merged = true;
        hall.listener = hall.another();
        hall
    }

    /// One more listener of the sound.
    fn another(&mut self) -> usize {
        let listener = self.sim.listener_with(offer!("firefox_recvonly"), &[Codec::Opus], |plan| {
            plan.tracks.retain(|track| track.kind == Kind::Audio);
        });
        self.sim.connect();
        listener
    }

    fn got_by(&self, listener: usize) -> Vec<&Got> {
        self.sim.peers[listener].got_media(Kind::Audio)
    }

    /// The frames of the publisher that came, by their numbers.
    fn numbers(&self, listener: usize) -> Vec<u32> {
        self.got_by(listener).iter().flat_map(|got| numbers(got)).collect()
    }

    /// How many packets came of each length in frames, behind the first so many.
    fn lengths(&self, from: usize) -> [usize; 3] {
        let mut lengths = [0; 3];
        for got in &self.got()[from..] {
            lengths[Layout::read(&got.payload).unwrap().frames - 1] += 1;
        }
        lengths
    }

    /// Each frame of the publisher came once and in order, from the first one that came on.
    fn assert_every_frame_once(&self, listener: usize) {
        let numbers = self.numbers(listener);
        for pair in numbers.windows(2) {
            assert_eq!(pair[1], pair[0] + 1, "of {}", numbers.len());
        }
    }
}

fn numbers(got: &Got) -> Vec<u32> {
    let number = |frame: &[u8]| u32::from_be_bytes(frame[..4].try_into().unwrap());
    frames(&got.payload).unwrap().iter().map(|frame| number(frame)).collect()
}

#[test]
fn a_third_of_the_packets_brings_every_frame_once() {
    let mut hall = Hall::merged(1, 1);
    hall.play(1, nothing);
    let (before, left) = (hall.got().len(), hall.left());
    hall.play(30, nothing);
    let [one, two, three] = hall.lengths(before);
    assert!(one + two == 0 && (499..=501).contains(&three), "{:?}", hall.lengths(before));
    // The other listener gets each on its own.
    assert!((1998..=2002).contains(&(hall.left() - left)), "{}", hall.left() - left);
    hall.assert_seamless();
    hall.assert_every_frame_once(hall.listener);
    assert_eq!(hall.rung(), PUBLISHED);
}

#[test]
fn a_crowd_and_a_crew_hear_the_same() {
    let mut hall = Hall::merged(2, 2);
    hall.sim.handover = ms(4);
    let crowd: Vec<usize> = (0..4).map(|_| hall.another()).collect();
    hall.sim.merged = false;
    let crew: Vec<usize> = (0..2).map(|_| hall.another()).collect();
    hall.play(2, nothing);
    let before = hall.sim.peers.iter().map(|peer| match peer.media {
        Media::Egress(_) => peer.got_media(Kind::Audio).len(),
        Media::Ingest(_) => 0,
    });
    let before: Vec<usize> = before.collect();
    hall.play(20, nothing);
    for listener in crowd.iter().chain(&crew) {
        hall.assert_every_frame_once(*listener);
        let packets = hall.got_by(*listener).len() - before[*listener];
        let expected = if crew.contains(listener) { 1000 } else { 333 };
        assert!(packets.abs_diff(expected) <= 2, "{listener}: {packets}");
    }
    let last = |listener: &usize| *hall.numbers(*listener).last().unwrap();
    assert!(crew.iter().all(|listener| last(listener) == hall.said - 1));
    assert!(crowd.iter().all(|listener| last(listener) + 3 >= hall.said - 1), "a group that is not whole");
}

#[test]
fn what_the_publisher_loses_is_a_hole_and_nothing_else_is() {
    let mut hall = Hall::merged(1, 4);
    let single = hall.publisher + 1;
    hall.play(1, nothing);
    hall.sim.up.loss_percent = 5;
    hall.play(30, nothing);
    hall.sim.up.loss_percent = 0;
    hall.play(1, nothing);
    let came: BTreeSet<u32> = hall.numbers(hall.listener).into_iter().collect();
    let missing = (10..hall.said - 10).filter(|number| !came.contains(number)).count();
    assert_eq!(came.len(), hall.numbers(hall.listener).len(), "nothing comes twice");
    assert!(hall.sim.lost_up > 40 && missing <= hall.sim.lost_up, "{missing} of {}", hall.sim.lost_up);
    // Whatever came to who gets each on its own came at its time.
    let first = |listener: usize| {
        let got = hall.got_by(listener)[0];
        got.timestamp.wrapping_sub(numbers(got)[0] * 960)
    };
    for listener in [single, hall.listener] {
        let base = first(listener);
        for got in hall.got_by(listener) {
            assert_eq!(got.timestamp.wrapping_sub(base), numbers(got)[0] * 960);
        }
    }
    let got = hall.got();
    assert!(got.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
}

#[test]
fn a_merged_packet_that_is_asked_for_again_is_the_same() {
    let mut hall = Hall::merged(1, 5);
    (0..30).for_each(|_| hall.say());
    let (listener, newest) = (hall.listener, hall.got().last().unwrap().sequence);
    let ssrc = hall.sim.peers[listener].egress(Kind::Audio).ssrc;
    let repairs = hall.sim.workers[0].stats().repairs;
    hall.sim.peers[listener].nack(ssrc, vec![newest.wrapping_sub(1), newest]);
    hall.sim.run(ms(50));
    // The simulation holds what is sealed twice under one number against each other.
    assert_eq!(hall.sim.workers[0].stats().repairs - repairs, 2);
    let sealed = |sequence: u16| {
        let of = hall
            .sim
            .sealed
            .iter()
            .filter(|((peer, of, number), _)| (*peer, *of, *number as u16) == (listener, ssrc, sequence));
        of.map(|(_, sealed)| sealed.times).sum::<u32>()
    };
    assert_eq!([newest.wrapping_sub(1), newest].map(sealed), [2, 2]);
}

#[test]
fn pauses_of_the_publisher_hold_nothing_back() {
    let mut hall = Hall::merged(1, 6);
    hall.play(1, nothing);
    let listener = hall.listener;
    for pause in [400, 100, 60, 1000] {
        hall.say();
        hall.sim.run(ms(pause));
        let last = *hall.numbers(listener).last().unwrap();
        assert_eq!(last, hall.said - 1, "after {pause} ms");
        hall.sim.peers[hall.publisher].feed(Kind::Audio).timestamp += pause as u32 * 48;
    }
    hall.play(1, nothing);
    hall.assert_every_frame_once(listener);
}

#[test]
fn a_wire_of_40_kilobits_carries_merged_packets_of_the_lowest_rung() {
    for seed in 1..4 {
        let mut hall = Hall::with_rungs(1, seed);
        hall.wire(40_000);
        hall.play(12, nothing);
        let before = hall.got().len();
        let (heard, queue) = fares(&mut hall, 60);
        let lengths = hall.lengths(before);
        println!("{heard:?}, queue {queue:?}, {lengths:?}, longest gap {:?}", hall.longest_gap(before));
        assert_eq!((hall.rung(), hall.switches(before)), (0, 0));
        assert!(lengths[0] == 0 && queue < ms(60), "{lengths:?} {queue:?}");
        assert!(hall.longest_gap(before) < ms(200), "{:?}", hall.longest_gap(before));
    }
}

#[test]
fn a_wire_that_gets_narrower_and_wider_changes_the_packets_twice() {
    let mut hall = Hall::with_rungs(1, 3);
    // What leaves one by one takes 50 of it.
    for (rate, merged) in [(75_000, false), (40_000, true), (75_000, false)] {
        hall.wire(rate);
        let (first, _) = fares(&mut hall, 40);
        let before = hall.got().len();
        let (then, queue) = fares(&mut hall, 20);
        let lengths = hall.lengths(before);
        println!("{rate}: {first:?} {then:?} {queue:?} {lengths:?}");
        // At the end of what is said a group is not whole.
        let most = if merged { [1, 1, 400] } else { [1100, 0, 0] };
        assert!(lengths.iter().zip(most).all(|(count, most)| *count <= most), "{rate}: {lengths:?}");
        assert!(queue < ms(60), "{rate}: {queue:?}");
    }
}

/// Merged or not, any rung.
fn switch(hall: &mut Hall, times: usize) {
    for _ in 0..times {
        let wish = [SoundWish::Low, SoundWish::Middle, SoundWish::High][hall.sim.rng.below(3) as usize];
        hall.wish(wish);
        for _ in 0..hall.sim.rng.below(12) {
            hall.say();
        }
    }
    hall.play(1, |_: &mut Sim, _| {});
}

#[test]
fn a_hundred_switches_among_merged_rungs_leave_no_hole() {
    for seed in 1..6 {
        let mut hall = Hall::merged(2, seed);
        hall.sim.handover = ms(4);
        hall.play(1, nothing);
        switch(&mut hall, 100);
        hall.assert_seamless();
        hall.assert_every_frame_once(hall.listener);
        assert!(hall.switches(0) > 20, "{}", hall.switches(0));
    }
}
