//! What becomes of records when disks are slow, refuse, forget, and come back older.

use std::time::Duration;

use super::{Condition, DiskQuality, Sim, check, generate, schedule_tests, shape};

const MS: Duration = Duration::from_millis(1);

/// A write takes 100 ms.
const SLOW: DiskQuality = DiskQuality { delay_us: 100_000, jitter_us: 0, failing: 0.0, room: 0 };

fn texts(sim: &Sim, relay: usize) -> Vec<String> {
    let text = |record: &crate::LogEntry| String::from_utf8(record.entry.payload.to_vec()).unwrap();
    let mut texts: Vec<_> = sim.relays[relay].records.iter().map(text).collect();
    texts.sort();
    texts
}

/// A chain whose first relay has a slow disk.
fn chain() -> Sim {
    let mut sim = Sim::new(3, &shape::chain(3), 1);
    sim.set_disk(0, SLOW);
    sim.run(MS * 4000);
    sim
}

#[test]
fn nothing_leaves_before_it_is_on_disk_and_what_a_power_cut_takes_nobody_has_seen() {
    let mut sim = chain();
    sim.append(0, "one");
    sim.run(MS * 99);
    assert_eq!((texts(&sim, 0).len(), texts(&sim, 2).len()), (0, 0));
    sim.run(MS * 100);
    assert_eq!((texts(&sim, 0), texts(&sim, 2)), (vec!["one".to_owned()], vec!["one".to_owned()]));
    // Two writes: what came while the first was written is written after it.
    sim.append(0, "two");
    sim.run(MS);
    sim.append(0, "three");
    sim.run(MS * 110);
    sim.kill(0);
    sim.run(MS * 500);
    assert_eq!(texts(&sim, 2), ["one", "two"]);
    sim.start(0);
    sim.append(0, "four");
    sim.run(MS * 10_000);
    for relay in 0..3 {
        assert!(texts(&sim, relay).iter().any(|text| text == "four"), "{:?}", texts(&sim, relay));
    }
    check::at_rest(&mut sim);
}

#[test]
fn what_a_disk_refuses_is_said_all_the_same_and_no_number_is_given_again() {
    let mut sim = chain();
    sim.append(0, "one");
    sim.run(MS * 300);
    sim.fill_disk(0, true);
    sim.append(0, "two");
    sim.append(0, "three");
    sim.run(MS * 500);
    assert_eq!(texts(&sim, 2), ["one", "three", "two"]);
    // The disk never took them, and the relay writes before it hears of them.
    sim.kill(0);
    sim.fill_disk(0, false);
    sim.start(0);
    sim.append(0, "four");
    sim.run(MS * 15_000);
    assert_eq!(texts(&sim, 2), ["four", "one", "three", "two"]);
    assert_eq!((texts(&sim, 0), sim.returned), (texts(&sim, 2), 1));
    check::at_rest(&mut sim);
}

#[test]
fn what_a_disk_refused_for_a_while_is_there_after_a_restart() {
    let mut sim = chain();
    sim.fill_disk(0, true);
    sim.append(0, "one");
    sim.run(MS * 500);
    sim.fill_disk(0, false);
    sim.run(MS * 3000);
    sim.append(0, "two");
    sim.run(MS * 500);
    sim.kill(0);
    sim.set_wire(0, Condition::Cut);
    sim.start(0);
    let mut found = texts(&sim, 0);
    found.dedup();
    assert_eq!(found, ["one", "two"]);
}

#[test]
fn a_relay_with_an_older_disk_that_writes_before_it_is_told_loses_nothing() {
    for behind in [1, 5, 10] {
        let mut sim = Sim::new(3, &shape::chain(3), 1);
        sim.run(MS * 4000);
        for number in 0..10 - behind {
            sim.append(0, &format!("before {number}"));
        }
        sim.run(MS * 500);
        sim.snapshot(0);
        for number in 0..behind {
            sim.append(0, &format!("after {number}"));
        }
        sim.run(MS * 500);
        sim.kill(0);
        sim.put_back(0);
        sim.set_wire(0, Condition::Cut);
        sim.start(0);
        for number in 0..behind {
            sim.append(0, &format!("alone {number}"));
        }
        sim.run(MS * 1000);
        assert_eq!((texts(&sim, 0).len(), texts(&sim, 2).len(), sim.returned), (10, 10, 0));
        sim.set_wire(0, Condition::Good);
        sim.run(MS * 10_000);
        assert_eq!((0..3).map(|relay| texts(&sim, relay).len()).collect::<Vec<_>>(), [10 + behind; 3]);
        assert_eq!(sim.returned, 1, "people are told, once for what comes together");
        check::at_rest(&mut sim);
    }
}

#[test]
fn two_disks_that_agree_with_each_other_are_no_proof_that_nothing_is_missing() {
    // Both relays of one room were put back to the same evening. A third one, not reached, knows more.
    let mut sim = Sim::new(3, &shape::chain(3), 2);
    sim.run(MS * 4000);
    sim.append(0, "one");
    sim.run(MS * 500);
    [0, 1].into_iter().for_each(|relay| sim.snapshot(relay));
    sim.append(0, "two");
    sim.run(MS * 500);
    sim.set_wire(1, Condition::Cut);
    for relay in [0, 1] {
        sim.kill(relay);
        sim.put_back(relay);
    }
    [0, 1].into_iter().for_each(|relay| sim.start(relay));
    sim.run(MS * 3000);
    sim.append(0, "three");
    sim.run(MS * 500);
    assert_eq!(texts(&sim, 1), ["one", "three"]);
    sim.set_wire(1, Condition::Good);
    sim.run(MS * 10_000);
    assert!((0..3).all(|relay| texts(&sim, relay) == ["one", "three", "two"]));
    check::at_rest(&mut sim);
}

#[test]
fn a_flipped_bit_costs_one_record_and_none_if_anybody_has_it() {
    // At the end of the chain somebody has it; with one relay alone nobody has, and a newcomer gets all others.
    for others in [1, 0] {
        let mut sim = Sim::new(3, &shape::chain(3), 3);
        sim.run(MS * 4000);
        if others == 0 {
            sim.set_wire(0, Condition::Cut);
        }
        for number in 0..30 {
            sim.append(0, &format!("{number:02}"));
        }
        sim.run(MS * 1000);
        sim.kill(0);
        sim.damage(0);
        sim.start(0);
        assert_eq!(texts(&sim, 0).len(), 29, "what is behind it is there");
        sim.run(MS * 10_000);
        sim.set_wire(0, Condition::Good);
        sim.run(MS * 20_000);
        let there = (0..3).map(|relay| texts(&sim, relay).len()).collect::<Vec<_>>();
        assert_eq!(there, [29 + others; 3]);
        check::at_rest(&mut sim);
        // What nobody has is not asked for again and again.
        let said = |sim: &Sim| sim.relays[1].mesh.as_ref().map(|mesh| mesh.counters().logs.pulled);
        let before = said(&sim);
        sim.run(MS * 30_000);
        assert_eq!(said(&sim), before);
        sim.append(0, "more");
        sim.run(MS * 1000);
        assert!((0..3).all(|relay| texts(&sim, relay).len() == 30 + others));
    }
}

/// `SIM_SEED=n SIM_RUNS=n cargo test -p mesh-routing --lib -- --ignored --nocapture older_disks_by_the_thousand`
#[test]
#[ignore = "more of what a third of all schedules are"]
fn older_disks_by_the_thousand() {
    schedule_tests::play(1000, generate::older);
}
