//! Wires that carry next to nothing, of who wants a picture too: the sound is there, and nothing keeps it back.

use media::Command;
use protocol::Kind;

use super::{
    RATES, SECOND, TRACKS, View, ms,
    worker_sim::{ladder::TOCS, peer::Got},
};

/// Packets of sound that came since the first so many, those that came twice left out; and how many of them are of the
/// lowest rung.
fn heard(view: &View, from: usize) -> (usize, usize) {
    let got = view.sim.peers[view.listener].got_media(Kind::Audio);
    let mut timestamps: Vec<u32> = got[from..].iter().map(|got| got.timestamp).collect();
    timestamps.sort_unstable();
    timestamps.dedup();
    let low = got[from..].iter().filter(|got| got.payload[0] & !3 == TOCS[0]).count();
    (timestamps.len(), low)
}

#[test]
fn who_wants_a_picture_on_a_wire_of_60_kilobits_hears_all_of_the_sound() {
    for wire in [60_000, 75_000] {
        let mut view = View::new(&RATES, wire);
        view.sim.tell(&Command::Rungs { tracks: TRACKS, open: [true, true], elsewhere: None });
        let joins = view.run(SECOND * 10);
        let before = view.sim.peers[view.listener].got_media(Kind::Audio).len();
        let left = view.sim.workers[0].stats().sent[0].packets;
        let seen = view.run(SECOND * 60);
        let (came, low) = heard(&view, before);
        let left = view.sim.workers[0].stats().sent[0].packets - left;
        let queue = view.queue(SECOND * 60);
        println!("{wire}: {joins:?}, then {seen:?}, {came} came, {low} low, {left} left, queue {queue:?}");
        assert!(came >= 2970 && low * 100 >= came * 98, "{wire}: {came} came, {low} low");
        assert!(left < 3300, "{wire}: {left} left");
        assert!(queue < ms(60) && seen.changes.is_empty(), "{wire}: {queue:?} {seen:?}");
    }
}

#[test]
fn a_wire_that_gets_narrow_costs_the_picture_and_hardly_any_sound() {
    let mut view = View::new(&RATES, 300_000);
    view.sim.tell(&Command::Rungs { tracks: TRACKS, open: [true, true], elsewhere: None });
    let seen = view.run(SECOND * 20);
    assert_eq!(seen.encoding(), Some(super::BASE), "{seen:?}");
    let from = view.sim.now;
    view.wire(60_000);
    let seen = view.run(SECOND * 20);
    let got = view.sim.peers[view.listener].got_media(Kind::Audio);
    let frames =
        |got: &&Got| media::rtp::opus::Layout::read(&got.payload).map_or(0, |layout| layout.samples / 960);
    let came: u32 = got.iter().filter(|got| got.at >= from).map(frames).sum();
    println!("{seen:?}, {came} frames of sound");
    // The queue holds 200 ms of what came before.
    assert!(seen.last < ms(800) && came >= 965, "{seen:?} {came}");
}
