//! Epochs, wraps and jumps; what follows when a thread is behind; what a trial says.

use std::time::Duration;

use super::{
    super::{Load, Trial},
    Ladder, MUSIC, channel, decode, encode, lag, number, power, signal, start,
};
use crate::rtp::packet::Packet;

fn numbers(packets: &[Packet]) -> Vec<(u8, u16)> {
    packets.iter().map(|packet| (packet.epoch, packet.sequence)).collect()
}

#[test]
fn numbers_and_timestamps_wrap() {
    let packets =
        number(&encode(&signal::noise(1000, 0.3, 0.5), MUSIC), 65_530, u32::MAX - 4800, 15, start());
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    assert_eq!(numbers(&ladder.out[1]), numbers(&packets));
    let (reference, heard) = (channel(&decode(&packets), 0), channel(&decode(&ladder.out[1]), 0));
    assert_eq!(lag(&reference, &heard), 0);
}

#[test]
fn a_newer_epoch_begins_anew_and_an_older_one_is_not_heard() {
    let payloads = encode(&signal::noise(1000, 0.3, 0.5), MUSIC);
    let first = number(&payloads, 500, 77, 15, start());
    let again = start() + Duration::from_millis(1000);
    let second = number(&payloads, 9, 9_999_999, 0, again);
    let mut straggler = first[49].clone();
    straggler.received = second[5].received;
    let mut all: Vec<Packet> = first.iter().chain(&second).cloned().collect();
    all.push(straggler);
    all.sort_by_key(|packet| packet.received);
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&all);
    ladder.finish();
    let whole: Vec<Packet> = first.iter().chain(&second).cloned().collect();
    for out in &ladder.out {
        assert_eq!(numbers(out), numbers(&whole), "what waited of the old one came out first");
        let (reference, heard) = (super::middle(&decode(&second)), super::middle(&decode(&out[50..])));
        assert_eq!(lag(&reference, &heard), 0);
        assert!(power(&heard[..120]) < power(&heard[4800..9600]) / 10.0, "it fades in");
    }
}

#[test]
fn numbers_that_jump_back_within_an_epoch_begin_anew_after_a_while() {
    let payloads = encode(&signal::noise(2500, 0.3, 0.5), MUSIC);
    let first = number(&payloads[..20], 500, 77, 0, start());
    let second = number(&payloads, 100, 5, 0, start() + Duration::from_millis(400));
    let mut ladder = Ladder::new([true, false]);
    ladder.feed(first.iter().chain(&second));
    ladder.finish();
    let expected: Vec<u16> = (500..520).chain(149..225).collect();
    assert_eq!(ladder.out[0].iter().map(|packet| packet.sequence).collect::<Vec<_>>(), expected);
    assert_eq!(ladder.dropped.len(), 49);
}

#[test]
fn numbers_that_jump_ahead_go_on_there() {
    let payloads = encode(&signal::noise(1000, 0.3, 0.5), MUSIC);
    for (sequence, timestamp) in [(20_000, 900_000), (520, 3_000_000_000), (30_000, 19_200)] {
        let first = number(&payloads[..20], 500, 0, 0, start());
        let second = number(&payloads[20..], sequence, timestamp, 0, start() + Duration::from_millis(400));
        let mut ladder = Ladder::new([true, true]);
        ladder.feed(first.iter().chain(&second));
        ladder.finish();
        let whole: Vec<Packet> = first.iter().chain(&second).cloned().collect();
        assert_eq!(numbers(&ladder.out[0]), numbers(&whole));
    }
}

#[test]
fn the_highest_stages_close_one_a_look_and_open_one_every_ten_seconds() {
    let mut load = Load::default();
    let start = start();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let (late, fine) = (Duration::from_millis(40), Duration::from_millis(39));
    load.handle_look(fine, 3, at(0));
    assert_eq!(load.closed(), 0);
    for (nth, closed) in [1, 2, 3, 3].into_iter().enumerate() {
        load.handle_look(late, 3, at(200 * nth as u64));
        assert_eq!(load.closed(), closed, "no more than there are");
    }
    load.handle_look(fine, 3, at(1000));
    load.handle_look(fine, 3, at(10_999));
    assert_eq!(load.closed(), 3);
    load.handle_look(fine, 3, at(11_000));
    load.handle_look(fine, 3, at(20_999));
    assert_eq!(load.closed(), 2);
    load.handle_look(late, 3, at(21_000));
    assert_eq!(load.closed(), 3, "too early");
    load.handle_look(fine, 3, at(22_000));
    load.handle_look(fine, 3, at(31_999));
    assert_eq!(load.closed(), 3, "it has to be calm for ten seconds again");
    load.handle_look(fine, 2, at(31_999));
    assert_eq!(load.closed(), 2, "one stage is gone");
    load.handle_look(fine, 2, at(32_000));
    load.handle_look(fine, 2, at(42_000));
    load.handle_look(fine, 2, at(52_000));
    assert_eq!(load.closed(), 0);
}

#[test]
fn a_trial_says_how_many_stages_a_core_does() {
    let mut trial = Trial::new().unwrap();
    (0..50).for_each(|_| trial.run());
    assert_eq!(Trial::stages_per_core(50, Duration::from_millis(20)), 50, "one second of sound in 20 ms");
    assert_eq!(Trial::stages_per_core(50, Duration::from_secs(2)), 0);
    assert!(Trial::stages_per_core(50, Duration::ZERO) > 1_000_000);
}
