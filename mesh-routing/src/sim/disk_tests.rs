//! What becomes of records when disks are slow, refuse, forget, and come back older.

use std::time::Duration;

use super::{DiskQuality, Sim, check, shape};

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
