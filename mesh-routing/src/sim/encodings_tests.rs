//! Pictures in encodings through whole meshes: what is taken of them, over links that are narrow, past relays that know of
//! none, and what a cut does to them.

use std::time::Duration;

use protocol::{
    BridgeVersion, BridgeVersions,
    mesh::{StreamTrack, TrackKey},
};

use crate::{NominalRate, PictureDemand, StreamRates};

use super::{Condition, ENCODINGS, Heard, PACKET_EVERY, Sim, check, random::Random, shape, wire::Quality};

const BASE: usize = 0;
const MIDDLE: usize = 1;
const TOP: usize = 2;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Packets of a track at a relay.
fn heard(sim: &Sim, relay: usize, key: &TrackKey) -> u64 {
    sim.relays[relay].heard.get(key).map_or(0, |heard| heard.packets)
}

/// Which of these tracks come to a relay, as its links carry them in the next half second.
fn carried(sim: &mut Sim, relay: usize, keys: &[TrackKey]) -> Vec<bool> {
    let before: Vec<_> = keys.iter().map(|key| heard(sim, relay, key)).collect();
    sim.run(Duration::from_millis(500));
    keys.iter().zip(before).map(|(key, before)| heard(sim, relay, key) > before + 10).collect()
}

#[test]
fn a_relay_takes_the_base_and_what_is_wanted_most() {
    let mut sim = Sim::new(3, &shape::chain(3), 1);
    let picture = sim.publish_encodings(0, "main-stage");
    sim.want(2, &picture[TOP], true);
    sim.run(seconds(2));
    assert_eq!(carried(&mut sim, 2, &picture), [true, false, true]);
    // One in the middle wants less: of two that gain as much together the lower is taken, and the other does without.
    sim.want(1, &picture[MIDDLE], true);
    sim.run(seconds(4));
    assert_eq!(carried(&mut sim, 1, &picture), [true, true, false]);
    assert_eq!(carried(&mut sim, 2, &picture), [true, true, false]);
    assert_eq!(sim.sent(0, 0).len(), 2);
    sim.want(1, &picture[MIDDLE], false);
    sim.run(seconds(20));
    assert_eq!(carried(&mut sim, 2, &picture), [true, false, true]);
    // Nobody is left: nothing flows.
    sim.want(2, &picture[TOP], false);
    sim.run(seconds(6));
    assert!(sim.sent(0, 0).is_empty() && sim.sent(1, 1).is_empty());
}

#[test]
fn a_wish_that_changes_leaves_no_gap() {
    let mut sim = Sim::new(3, &shape::chain(3), 2);
    let picture = sim.publish_encodings(0, "main-stage");
    sim.want(2, &picture[MIDDLE], true);
    sim.run(seconds(4));
    sim.forget_gaps();
    sim.want(2, &picture[TOP], true);
    sim.want(2, &picture[MIDDLE], false);
    // What came goes on until the other has come, and for a moment more.
    sim.run(Duration::from_millis(600));
    assert_eq!(carried(&mut sim, 2, &picture), [true, true, true]);
    sim.run(seconds(3));
    assert_eq!(carried(&mut sim, 2, &picture), [true, false, true]);
    let gap = sim.relays[2].heard[&picture[BASE]].gap;
    assert!(gap < PACKET_EVERY * 2, "{gap:?}");
}

/// Three stages behind one link, three encodings each, and sound.
struct Stages {
    sim: Sim,
    sound: Vec<TrackKey>,
    pictures: Vec<Vec<TrackKey>>,
}

impl Stages {
    fn new(stages: usize) -> Stages {
        let mut sim = Sim::new(2, &shape::chain(2), 3);
        let names: Vec<_> = (0..stages).map(|stage| format!("stage-{stage}")).collect();
        let sound: Vec<_> = names.iter().map(|name| sim.publish(0, &format!("{name}-sound"))).collect();
        let pictures: Vec<_> = names.iter().map(|name| sim.publish_encodings(0, name)).collect();
        for key in &sound {
            let (now, rates) =
                (sim.now, StreamRates { audio: NominalRate::of(96_000), ..StreamRates::default() });
            sim.with(0, |mesh| mesh.handle_rates(&key.stream, rates, now));
        }
        sim.run(seconds(1));
        for key in sound.iter().chain(pictures.iter().map(|picture| &picture[TOP])) {
            sim.want(1, key, true);
        }
        Stages { sim, sound, pictures }
    }

    fn capacity(&mut self, rate: u64) {
        self.sim.set_capacity((0, 0), rate);
    }

    /// What is planned with of the link, in bits per second.
    fn planned(&self) -> u64 {
        let rate = |key: &TrackKey| match key.track {
            StreamTrack::Encoding(place) => ENCODINGS[usize::from(place)],
            _ => 96_000,
        };
        self.sim.sent(0, 0).iter().map(rate).sum()
    }

    /// Whether all sound comes, and of each picture which encodings.
    fn carried(&mut self) -> (bool, Vec<Vec<bool>>) {
        let sound = self.sound.clone();
        let all = carried(&mut self.sim, 1, &sound).into_iter().all(|comes| comes);
        let pictures = self.pictures.clone();
        (all, pictures.iter().map(|picture| carried(&mut self.sim, 1, picture)).collect())
    }
}

#[test]
fn a_narrow_link_carries_all_sound_then_every_base_then_what_fits() {
    let mut stages = Stages::new(3);
    stages.sim.run(seconds(4));
    stages.capacity(5_000_000);
    stages.sim.run(seconds(4));
    let (sound, pictures) = stages.carried();
    assert!(sound && pictures.iter().all(|picture| picture[BASE]), "{pictures:?}");
    // 85 % are 4.25 Mbit/s: beside sound and bases for a top and a middle, not for two tops.
    let uppers: Vec<_> = pictures.iter().map(|picture| (picture[MIDDLE], picture[TOP])).collect();
    assert_eq!(uppers.iter().filter(|(_, top)| *top).count(), 1, "{uppers:?}");
    assert!(uppers.iter().any(|(middle, _)| *middle), "{uppers:?}");
    assert!(stages.planned() <= 4_250_000);

    stages.capacity(1_000_000);
    stages.sim.run(seconds(4));
    let (sound, pictures) = stages.carried();
    assert!(sound && pictures.iter().all(|picture| *picture == [true, false, false]), "{pictures:?}");

    stages.capacity(300_000);
    stages.sim.run(seconds(4));
    let (sound, pictures) = stages.carried();
    assert!(sound && pictures.iter().flatten().all(|comes| !comes), "{pictures:?}");

    // Two seconds until it is told, and what was refused is asked for at once.
    stages.capacity(5_000_000);
    stages.sim.run(seconds(5));
    let (sound, pictures) = stages.carried();
    assert!(sound && pictures.iter().all(|picture| picture[BASE]), "{pictures:?}");
    assert_eq!(pictures.iter().filter(|picture| picture[TOP]).count(), 1, "{pictures:?}");
    check::at_rest(&mut stages.sim);
}

#[test]
fn what_a_narrow_link_carries_does_not_change_from_moment_to_moment() {
    let mut stages = Stages::new(3);
    stages.capacity(5_000_000);
    stages.sim.run(seconds(10));
    let mut before = stages.sim.sent(0, 0);
    let mut changes = std::collections::BTreeMap::<TrackKey, u32>::new();
    for _ in 0..600 {
        stages.sim.run(Duration::from_millis(100));
        let now = stages.sim.sent(0, 0);
        for key in before.symmetric_difference(&now) {
            *changes.entry(key.clone()).or_default() += 1;
        }
        before = now;
    }
    println!("changes of a track on a link of constant capacity, in a minute: {:?}", changes.values());
    assert!(changes.values().all(|count| *count <= 6), "{changes:?}");
}

#[test]
fn on_a_link_that_becomes_narrow_the_encoding_for_the_fewest_goes_first() {
    // Behind relay 1 three want the top of one stage, and one that of another.
    let mut sim = Sim::new(5, &[(0, 1), (1, 2), (1, 3), (1, 4)], 5);
    let (few, many) = (sim.publish_encodings(0, "few"), sim.publish_encodings(0, "many"));
    sim.want(2, &few[TOP], true);
    sim.run(seconds(2));
    (2..5).for_each(|relay| sim.want(relay, &many[TOP], true));
    // How many they are is said when joins are repeated.
    sim.run(seconds(25));
    let before = sim.sent(0, 0);
    assert!(before.contains(&few[TOP]) && before.contains(&many[TOP]), "{before:?}");
    sim.set_capacity((0, 0), 4_000_000);
    sim.run(Duration::from_millis(500));
    let sent = sim.sent(0, 0);
    assert!(sent.contains(&many[TOP]) && !sent.contains(&few[TOP]), "the newer one stays: {sent:?}");
    assert!(sent.contains(&few[BASE]) && sent.contains(&many[BASE]), "{sent:?}");
}

/// So many look at the top of a picture at a relay.
fn look(sim: &mut Sim, relay: usize, top: &TrackKey, listeners: u32) {
    sim.relays[relay].wanted.insert(top.clone());
    let (now, mut demand) = (sim.now, PictureDemand { listeners, ..PictureDemand::default() });
    demand.wanted[usize::from(top.track.encoding().unwrap())] = listeners;
    sim.with(relay, |mesh| mesh.handle_demand(top.origin, top.stream.clone(), demand, now));
}

#[test]
fn a_picture_that_more_look_at_takes_the_place_of_another_and_keeps_it() {
    // Beside the bases one top and one middle have room. The top is that of the stage that came first.
    let mut sim = Sim::new(2, &shape::chain(2), 5);
    let (few, many) = (sim.publish_encodings(0, "few"), sim.publish_encodings(0, "many"));
    sim.run(seconds(1));
    sim.set_capacity((0, 0), 4_500_000);
    look(&mut sim, 1, &few[TOP], 2);
    sim.run(seconds(5));
    assert!(sim.sent(0, 0).contains(&few[TOP]));
    // Where as many look at it, it stays: nobody takes turns.
    for listeners in [2, 3] {
        look(&mut sim, 1, &many[TOP], listeners);
        sim.run(seconds(30));
        let sent = sim.sent(0, 0);
        assert!(sent.contains(&few[TOP]) && !sent.contains(&many[TOP]), "{sent:?}");
    }
    // Where clearly more do, it goes, within the longest wait before what was refused is tried again.
    look(&mut sim, 1, &many[TOP], 4);
    sim.run(seconds(16));
    for _ in 0..600 {
        let sent = sim.sent(0, 0);
        assert!(sent.contains(&many[TOP]) && !sent.contains(&few[TOP]), "{sent:?}");
        assert!(sent.contains(&few[BASE]) && sent.contains(&many[BASE]), "{sent:?}");
        sim.run(Duration::from_millis(100));
    }
    assert!(sim.sent(0, 0).contains(&few[MIDDLE]), "{:?}", sim.sent(0, 0));
    check::at_rest(&mut sim);
}

#[test]
fn what_many_relays_want_behind_another_counts_together() {
    let mut sim = Sim::new(5, &[(0, 1), (1, 2), (1, 3), (1, 4)], 5);
    let (few, many) = (sim.publish_encodings(0, "few"), sim.publish_encodings(0, "many"));
    sim.run(seconds(1));
    sim.set_capacity((0, 0), 4_500_000);
    sim.want(2, &few[TOP], true);
    sim.run(seconds(5));
    assert!(sim.sent(0, 0).contains(&few[TOP]));
    // They come one after the other, and each is refused at first.
    for relay in 2..5 {
        sim.want(relay, &many[TOP], true);
        sim.run(seconds(2));
    }
    sim.run(seconds(40));
    let sent = sim.sent(0, 0);
    assert!(sent.contains(&many[TOP]) && !sent.contains(&few[TOP]), "{sent:?}");
    for relay in 2..5 {
        assert_eq!(carried(&mut sim, relay, &many), [true, false, true], "{relay}");
    }
    check::at_rest(&mut sim);
}

#[test]
fn past_a_relay_that_knows_of_no_encodings_a_picture_comes_as_a_whole() {
    let wires: Vec<_> = shape::chain(4).iter().map(|(a, b)| (*a, *b, Quality::default())).collect();
    let mut sim = Sim::with_wires(4, &wires, Random::new(4));
    let old = BridgeVersions::new(BridgeVersion::FIRST, BridgeVersion::FIRST).expect("a range");
    sim.relays[1].versions = old;
    (0..4).for_each(|relay| sim.start(relay));
    let picture = sim.publish_encodings(0, "main-stage");
    let whole = TrackKey { track: StreamTrack::Video, ..picture[BASE].clone() };
    sim.want(2, &picture[TOP], true);
    sim.want(3, &picture[MIDDLE], true);
    sim.run(seconds(6));
    for relay in [2, 3] {
        assert_eq!(carried(&mut sim, relay, &picture), [false; 3]);
        assert_eq!(carried(&mut sim, relay, std::slice::from_ref(&whole)), [true], "relay {relay}");
    }
    // It is updated: from then on encodings come, and the whole does not.
    sim.kill(1);
    sim.relays[1].versions = BridgeVersions::SPOKEN;
    sim.run(seconds(3));
    sim.start(1);
    sim.run(seconds(30));
    assert_eq!(carried(&mut sim, 2, &picture)[BASE..=BASE], [true]);
    assert_eq!(carried(&mut sim, 3, &picture)[BASE..=BASE], [true]);
    assert_eq!(carried(&mut sim, 3, &[whole]), [false]);
}

#[test]
fn a_cut_softens_a_picture_and_does_not_stop_it() {
    let mut worst = Duration::ZERO;
    for seed in 0..20 {
        for wire in 0..4 {
            let mut sim = Sim::near(4, &shape::ring(4), seed);
            let picture = sim.publish_encodings(0, "main-stage");
            (1..4).for_each(|relay| sim.want(relay, &picture[TOP], true));
            sim.run(seconds(8));
            for heard in sim.relays.iter_mut().flat_map(|relay| relay.heard.values_mut()) {
                *heard = Heard { last: heard.last, ..Heard::default() };
            }
            sim.set_wire(wire, Condition::Silent);
            sim.run(seconds(8));
            for relay in 1..4 {
                worst = worst.max(sim.relays[relay].heard[&picture[BASE]].gap);
                assert!(carried(&mut sim, relay, &picture)[TOP], "seed {seed}, wire {wire}, relay {relay}");
            }
        }
    }
    println!("the base in a ring of four, every wire cut: a gap of {worst:?} at worst");
    assert!(worst <= PACKET_EVERY + Duration::from_millis(20), "{worst:?}");
}
