//! What logs do in whole meshes.

use std::time::Duration;

use protocol::Topic;

use crate::{
    LogCounters,
    sim::{Condition, Sim, check, shape},
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn counters(sim: &Sim, relay: usize) -> LogCounters {
    sim.relays[relay].mesh.as_ref().unwrap().counters().logs
}

fn texts(sim: &Sim, relay: usize) -> Vec<String> {
    let text = |record: &crate::LogEntry| String::from_utf8(record.entry.payload.to_vec()).unwrap();
    sim.relays[relay].records.iter().map(text).collect()
}

#[test]
fn a_record_comes_to_each_relay_of_a_full_mesh_once() {
    let mut sim = Sim::new(6, &shape::full(6), 1);
    sim.run(seconds(4));
    for i in 0..50 {
        sim.append(i % 6, "hello");
        sim.run(Duration::from_millis(30));
    }
    sim.run(Duration::from_millis(500));
    for relay in 0..6 {
        let mesh = sim.relays[relay].mesh.as_ref().unwrap();
        let duplicates: u64 = mesh.links().map(|(_, _, _, counters)| counters.duplicates).sum();
        let pulled = counters(&sim, relay).pulled;
        println!(
            "relay {relay}: {} records, {duplicates} duplicates, {pulled} pulls",
            texts(&sim, relay).len()
        );
        assert_eq!((texts(&sim, relay).len(), pulled), (50, 0));
    }
    check::at_rest(&mut sim);
}

#[test]
fn the_far_end_of_a_ring_hears_chat_at_once_and_so_it_does_after_a_silent_cut() {
    let mut sim = Sim::new(8, &shape::ring(8), 2);
    sim.run(seconds(4));
    sim.append(0, "before");
    sim.run(Duration::from_millis(60));
    assert_eq!(texts(&sim, 4), ["before"]);
    // Nobody knows yet that the wire is dead: word comes by the other way, and is followed.
    sim.set_wire(0, Condition::Silent);
    sim.append(0, "meanwhile");
    sim.run(Duration::from_millis(700));
    assert!((0..8).all(|relay| texts(&sim, relay).len() == 2));
    sim.set_wire(0, Condition::Good);
    sim.run(seconds(10));
    check::at_rest(&mut sim);
}

#[test]
fn chat_goes_beyond_the_hop_limit_all_the_same() {
    let mut sim = Sim::new(24, &shape::chain(24), 3);
    sim.run(seconds(6));
    sim.append(0, "hello");
    sim.run(seconds(2));
    assert_eq!(texts(&sim, 23), ["hello"]);
    assert_eq!((counters(&sim, 15).pulled, counters(&sim, 17).pulled), (0, 1));
    check::at_rest(&mut sim);
}

#[test]
fn a_relay_that_kept_its_disk_keeps_its_log_and_goes_on_in_another() {
    let mut sim = Sim::new(4, &shape::ring(4), 4);
    sim.run(seconds(2));
    sim.append(1, "one");
    sim.run(seconds(1));
    sim.kill(1);
    sim.run(seconds(2));
    sim.start(1);
    sim.append(1, "two");
    sim.run(seconds(10));
    let logs: std::collections::BTreeSet<_> = sim.relays[3].records.iter().map(|r| r.key.clone()).collect();
    assert_eq!((logs.len(), texts(&sim, 3)), (2, vec!["one".to_owned(), "two".to_owned()]));
    check::at_rest(&mut sim);
}

#[test]
fn a_writer_that_lost_its_disk_corrupts_nothing() {
    let mut sim = Sim::new(4, &shape::ring(4), 5);
    sim.run(seconds(2));
    for i in 0..10 {
        sim.append(1, &format!("first {i}"));
    }
    sim.run(seconds(1));
    sim.kill(1);
    sim.wipe(1);
    sim.run(seconds(2));
    sim.start(1);
    // Before it heard anything of its former incarnation.
    sim.append(1, "second 0");
    sim.append(1, "second 1");
    sim.run(seconds(10));
    for relay in 0..4 {
        let mut texts = texts(&sim, relay);
        texts.sort();
        assert_eq!((texts.len(), texts[10].as_str()), (12, "second 0"), "relay {relay}");
    }
    check::at_rest(&mut sim);
}

#[test]
fn an_old_copy_of_a_disk_corrupts_nothing() {
    let mut sim = Sim::new(4, &shape::ring(4), 6);
    sim.run(seconds(2));
    sim.append(1, "one");
    sim.run(seconds(1));
    sim.snapshot(1);
    sim.append(1, "two");
    sim.append(1, "three");
    sim.run(seconds(1));
    sim.kill(1);
    sim.put_back(1);
    sim.start(1);
    sim.run(seconds(2));
    sim.append(1, "four");
    sim.run(seconds(10));
    for relay in 0..4 {
        let mut texts = texts(&sim, relay);
        texts.sort();
        assert_eq!(texts, ["four", "one", "three", "two"], "relay {relay}");
    }
    let incarnations: std::collections::BTreeSet<_> =
        sim.relays[3].records.iter().map(|r| r.key.incarnation).collect();
    assert_eq!(incarnations.len(), 2);
    check::at_rest(&mut sim);
}

#[test]
fn announcements_come_first_when_two_halves_meet_again() {
    let mut sim = Sim::new(4, &shape::chain(4), 7);
    sim.run(seconds(2));
    sim.set_wire(1, Condition::Cut);
    for i in 0..600 {
        sim.append(i % 2, &format!("chat {}", "x".repeat(900)));
    }
    sim.append_to(0, Topic::Announcements, "storm");
    sim.run(seconds(2));
    let before = texts(&sim, 3).len();
    sim.set_wire(1, Condition::Good);
    sim.run(seconds(20));
    for relay in [2, 3] {
        let texts = texts(&sim, relay);
        assert_eq!(texts.len(), before + 601);
        assert_eq!(texts.iter().position(|text| text == "storm"), Some(before), "relay {relay}");
    }
    check::at_rest(&mut sim);
}

#[test]
fn an_announcement_needs_no_route_and_takes_every_way() {
    let mut sim = Sim::new(4, &shape::ring(4), 8);
    sim.run(seconds(4));
    sim.append_to(0, Topic::Announcements, "storm");
    sim.run(Duration::from_millis(30));
    for relay in 0..4 {
        assert_eq!((texts(&sim, relay).len(), counters(&sim, relay).pulled), (1, 0));
    }
    // Both ways round: the relay opposite has it twice, and its neighbors are told by it.
    let mesh = sim.relays[2].mesh.as_ref().unwrap();
    assert!(mesh.links().map(|(_, _, _, counters)| counters.duplicates).sum::<u64>() >= 1);
    check::at_rest(&mut sim);
}

#[test]
fn the_writer_hears_that_its_record_is_on_another_disk() {
    let mut sim = Sim::new(4, &shape::chain(4), 9);
    sim.run(seconds(2));
    sim.append(0, "hello");
    sim.run(Duration::from_millis(40));
    assert_eq!(sim.relays[0].saved.values().collect::<Vec<_>>(), [&1]);
    sim.set_wire(0, Condition::Cut);
    sim.append(0, "alone");
    sim.run(seconds(3));
    assert_eq!(sim.relays[0].saved.values().collect::<Vec<_>>(), [&1]);
    sim.set_wire(0, Condition::Good);
    sim.run(seconds(1));
    assert_eq!(sim.relays[0].saved.values().collect::<Vec<_>>(), [&2]);
}

#[test]
fn a_clock_an_hour_ahead_is_heard_and_not_followed() {
    let mut sim = Sim::new(3, &shape::chain(3), 10);
    sim.kill(1);
    sim.relays[1].skew = 3_600_000;
    sim.start(1);
    sim.run(seconds(3));
    sim.append(1, "from the future");
    sim.run(seconds(1));
    sim.append(0, "from now");
    sim.run(seconds(1));
    assert_eq!((counters(&sim, 0).ahead, counters(&sim, 2).ahead), (1, 1));
    let written = |text: &str| {
        let record = sim.relays[2].records.iter().find(|r| r.entry.payload == text.as_bytes());
        record.unwrap().entry.hlc
    };
    assert!(written("from now") < written("from the future"));
    check::at_rest(&mut sim);
}

#[test]
fn many_rooms_are_compared_by_topic_and_meet_again() {
    let mut sim = Sim::new(3, &shape::chain(3), 11);
    sim.run(seconds(2));
    sim.set_wire(0, Condition::Cut);
    for i in 0..300 {
        let room = protocol::RoomName::new(format!("room-{}", i % 100)).unwrap();
        sim.append_to(i % 3, Topic::Room(room), "hello");
    }
    sim.run(seconds(3));
    sim.set_wire(0, Condition::Good);
    sim.run(seconds(5));
    assert!((0..3).all(|relay| texts(&sim, relay).len() == 300));
    check::at_rest(&mut sim);
}
