//! Schedules from a seed: any shape of mesh, most of them small, and anything that may happen to it.

use std::collections::{BTreeSet, VecDeque};

use super::{
    DiskQuality, Quality,
    random::Random,
    schedule::{Action, Schedule, Step},
    shape::{self, Wires},
};

/// Of so many schedules one is of several areas.
const AREAS_IN: u64 = 3;
/// Of so many threes of schedules one has disks that take their time, refuse and forget: a third of all, a third of
/// which is of several areas.
const DISKS_IN: u64 = 3;
/// Of so many threes of threes of schedules one has disks that come back older: a third of all, also of those with areas
/// and of those with disks that refuse.
const OLDER_IN: u64 = 3;
/// Of so many schedules one has wires that relays know to be narrow for pictures, and one for sounds.
const NARROW_IN: u64 = 4;
/// Streams of a relay that publishes.
const STREAMS: u64 = 3;

/// The schedule of a seed.
pub fn schedule(seed: u64) -> Schedule {
    let random = &mut Random::new(seed ^ 0x5eed_5eed);
    let wires = wires(random);
    let relays = 1 + wires.iter().map(|(a, b)| *a.max(b)).max().unwrap_or(0);
    let wires: Vec<_> = wires.into_iter().map(|(a, b)| (a, b, quality(random))).collect();
    let mut draw = Draw { relays: relays as u64, wires: wires.clone(), publishers: Vec::new(), random };
    let mut actions = Vec::new();
    for _ in 0..1 + draw.random.below(3) {
        let (relay, stream) = (draw.relay(), draw.random.below(STREAMS) as usize);
        draw.publishers.push((relay, stream));
        actions.push((0, Action::Publish { relay, stream }));
    }
    for _ in 0..1 + draw.random.below(5) {
        actions.push((0, draw.want()));
    }
    for _ in 0..8 + draw.random.below(40) {
        let wait = draw.random.pick(&[0, 20, 300, 300, 300, 2000]);
        actions.push((draw.random.below(wait + 1), draw.action()));
    }
    let mut areas = Vec::new();
    if seed.is_multiple_of(AREAS_IN) {
        let random = &mut Random::new(seed ^ 0xa4ea);
        areas = self::areas(relays, &wires, random);
        // An operator gives a relay another number.
        if random.once_in(3) {
            let (relay, area) = (random.below(relays as u64) as usize, random.pick(&areas));
            let at = actions.len() / 2;
            let moved = [Action::Kill { relay }, Action::Move { relay, area }, Action::Start { relay }];
            actions.splice(at..at, moved.map(|action| (random.below(300), action)));
        }
    }
    let mut disks = Vec::new();
    if has_disks(seed) {
        let random = &mut Random::new(seed ^ 0xd15c);
        disks = (0..relays).map(|_| disk(random)).collect();
        happen_to_disks(&mut actions, relays, random);
    }
    const PICTURES: [u64; 6] = [0, 3_000_000, 3_000_000, 5_000_000, 8_000_000, 20_000_000];
    // Too narrow for what publishers of sound send.
    const SOUNDS: [u64; 6] = [0, 60_000, 160_000, 160_000, 250_000, 400_000];
    for (turn, word, rates) in [(1, 0x0a44, PICTURES), (3, 0x50bd, SOUNDS)] {
        if seed % NARROW_IN != turn {
            continue;
        }
        let random = &mut Random::new(seed ^ word);
        for _ in 0..4 + random.below(12) {
            let (wire, end) = (random.below(wires.len() as u64) as usize, random.below(2) as usize);
            let rate = random.pick(&rates);
            let at = random.below(actions.len() as u64 + 1) as usize;
            actions.insert(at, (random.below(500), Action::Narrow { wire, end, rate }));
        }
    }
    let mut at_ms = 0;
    let steps = actions.into_iter().map(|(wait, action)| {
        at_ms += wait;
        Step { at_ms, action }
    });
    let mut schedule = Schedule { seed, relays, areas, disks, wires, steps: steps.collect() };
    if has_older_disks(seed) {
        put_back(&mut schedule);
    }
    schedule
}

/// Whether the schedule of a seed has disks.
pub fn has_disks(seed: u64) -> bool {
    (seed / AREAS_IN).is_multiple_of(DISKS_IN)
}

/// Whether in the schedule of a seed relays come back with older disks.
pub fn has_older_disks(seed: u64) -> bool {
    (seed / AREAS_IN / DISKS_IN).is_multiple_of(OLDER_IN)
}

/// The schedule of a seed, and relays that come back with an older disk in any case.
pub fn older(seed: u64) -> Schedule {
    let mut schedule = schedule(seed);
    if !has_older_disks(seed) {
        put_back(&mut schedule);
    }
    schedule
}

/// Relays come back with an older disk: somebody put a copy back. People write before the copy is made, after it, and when
/// the relay is back. Often nobody hears that at first, and sometimes the same copy is put back again, or
/// a bit flips.
fn put_back(schedule: &mut Schedule) {
    let random = &mut Random::new(schedule.seed ^ 0x01d0_d15c);
    let last = schedule.steps.last().map_or(0, |step| step.at_ms);
    for _ in 0..3 {
        let (relay, mut at_ms) = (random.below(schedule.relays as u64) as usize, random.below(last + 1));
        let write = |random: &mut Random| vec![Action::Append { relay }; random.below(6) as usize];
        let mut what = write(random);
        what.push(Action::Snapshot { relay });
        for _ in 0..1 + random.below(2) {
            what.extend(write(random));
            what.push(Action::Kill { relay });
            let alone = random.once_in(2);
            let wires = (0..schedule.wires.len()).filter(|wire| {
                let (a, b, _) = schedule.wires[*wire];
                alone && (a == relay || b == relay)
            });
            let wires: Vec<_> = wires.collect();
            what.extend(wires.iter().map(|wire| Action::Cut { wire: *wire }));
            what.push(Action::StartOlder { relay });
            // It shows at the start after this one.
            what.extend(random.once_in(2).then_some(Action::Damage { relay }));
            what.extend(write(random));
            what.extend(wires.iter().map(|wire| Action::Heal { wire: *wire }));
            what.extend(write(random));
        }
        for action in what {
            let wait = random.below(600);
            at_ms += if matches!(action, Action::Cut { .. } | Action::Heal { .. }) { 0 } else { wait };
            schedule.steps.push(Step { at_ms, action });
        }
    }
    schedule.steps.sort_by_key(|step| step.at_ms);
}

/// Most disks take their time. Some refuse a write now and then, some have little room for what waits.
fn disk(random: &mut Random) -> DiskQuality {
    if random.once_in(4) {
        return DiskQuality::default();
    }
    let delay_us = random.pick(&[500, 5000, 50_000, 300_000]);
    DiskQuality {
        delay_us,
        jitter_us: random.below(delay_us),
        failing: random.pick(&[0.0, 0.0, 0.1, 0.5]),
        room: random.pick(&[0, 0, 0, 3]),
    }
}

/// People write more than otherwise, just before the power is gone too, and disks are full for a while.
fn happen_to_disks(actions: &mut Vec<(u64, Action)>, relays: usize, random: &mut Random) {
    for _ in 0..4 + random.below(12) {
        let relay = random.below(relays as u64) as usize;
        let write = (0..1 + random.below(6)).map(|_| (random.below(100), Action::Append { relay }));
        let mut what: Vec<_> = write.collect();
        match random.below(6) {
            0..=1 => what.push((random.below(400), Action::Kill { relay })),
            2 => what.insert(0, (0, Action::Fill { relay })),
            3 => what.push((random.below(2000), Action::Clear { relay })),
            4 => what.push((random.below(400), Action::Start { relay })),
            _ => {}
        }
        let at = random.below(actions.len() as u64 + 1) as usize;
        actions.splice(at..at, what);
    }
}

/// Two to four areas. Mostly each hangs together and ends where the next one begins; sometimes anybody is in any,
/// so that many have several parts.
fn areas(relays: usize, wires: &[(usize, usize, Quality)], random: &mut Random) -> Vec<u16> {
    let count = 2 + random.below(3) as u16;
    if random.once_in(4) {
        return (0..relays).map(|_| random.below(count.into()) as u16).collect();
    }
    let mut found = vec![None; relays];
    let centres = (0..count).map(|area| (random.below(relays as u64) as usize, area));
    let mut edge: VecDeque<_> = centres.collect();
    while let Some((relay, area)) = edge.pop_front() {
        if found[relay].is_some() {
            continue;
        }
        found[relay] = Some(area);
        let other = |(a, b, _): &(usize, usize, Quality)| match relay {
            relay if relay == *a => Some(*b),
            relay if relay == *b => Some(*a),
            _ => None,
        };
        edge.extend(wires.iter().filter_map(other).map(|relay| (relay, area)));
    }
    found.into_iter().map(|area| area.unwrap_or(0)).collect()
}

fn wires(random: &mut Random) -> Wires {
    // From 4 to 64, half of them below 12.
    let relays = 4 + (random.share().powi(3) * 61.0) as usize;
    match random.below(8) {
        0 => shape::chain(relays.min(24)),
        1 => shape::ring(relays.min(32)),
        2 => shape::two_rings(relays.div_ceil(2).max(3)),
        3 => shape::ladder(relays.div_ceil(2)),
        4 => shape::full(relays.min(12)),
        5 => shape::star_of_stars(2 + random.below(4) as usize, relays / 6),
        _ => shape::geometric(relays, 2 + random.below(3) as usize, random),
    }
}

/// Most wires are good, some lose now and then.
fn quality(random: &mut Random) -> Quality {
    let mut quality = Quality::usual(random);
    if random.once_in(4) {
        quality.loss = random.below(30) as f64 / 1000.0;
    }
    quality
}

struct Draw<'a> {
    relays: u64,
    wires: Vec<(usize, usize, Quality)>,
    publishers: Vec<(usize, usize)>,
    random: &'a mut Random,
}

impl Draw<'_> {
    fn relay(&mut self) -> usize {
        self.random.below(self.relays) as usize
    }

    fn wire(&mut self) -> usize {
        self.random.below(self.wires.len() as u64) as usize
    }

    fn want(&mut self) -> Action {
        let (origin, stream) = self.random.pick(&self.publishers);
        Action::Want { relay: self.relay(), origin, stream }
    }

    fn action(&mut self) -> Action {
        let (relay, wire) = (self.relay(), self.wire());
        let (origin, stream) = self.random.pick(&self.publishers);
        match self.random.below(32) {
            0..=5 => self.want(),
            6..=7 => Action::Unwant { relay, origin, stream },
            8 => Action::Unpublish { relay: origin, stream },
            9..=10 => Action::Publish { relay: origin, stream },
            11..=12 => Action::Silence { wire },
            13..=14 => Action::Cut { wire },
            15 => Action::Deafen { wire, end: self.random.below(2) as usize },
            16..=18 => Action::Heal { wire },
            19 => {
                let mut quality = self.wires[wire].2;
                quality.delay_us = 300 + self.random.below(30_000);
                quality.loss = self.random.below(30) as f64 / 1000.0;
                Action::Change { wire, quality }
            }
            20..=21 => Action::Kill { relay },
            22..=23 => Action::Start { relay },
            24 => Action::StartEmpty { relay },
            25 => Action::Stall { relay, ms: 20 + self.random.below(280) },
            26 => {
                let side = (0..self.relays as usize).filter(|_| self.random.once_in(2));
                Action::Part { side: side.collect::<BTreeSet<_>>() }
            }
            27 => Action::Merge,
            _ => Action::Append { relay },
        }
    }
}
