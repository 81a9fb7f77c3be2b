//! Both sides of parity together: through the queues of a link, over a path that loses datagrams, in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{
    mesh::{Alias, Class, DatagramHeader, DatagramKind, Fragment, SenderClock},
    parity::{Cover, Parity, Protection},
};

use super::{
    super::{
        dedup::{Seen, Window},
        packet::Packet,
        repair::{Gap, Gaps, Nack},
        scheduler::{Next, Scheduler},
    },
    recoverer::{Counts, Recoverer, Refused},
};
use crate::clock;

const MS: Duration = Duration::from_millis(1);
const LONGEST: usize = 1300;
const ALIAS: Alias = Alias(7);

fn asked(audio: Cover, video: Cover) -> Protection {
    Protection { audio, video }
}

fn rtp(number: u16, length: usize) -> Bytes {
    let mut packet = vec![0x80, 111];
    packet.extend(number.to_be_bytes());
    packet.extend((packet.len()..length.max(12)).map(|at| (at * 31 + usize::from(number) * 7) as u8));
    packet.into()
}

fn packet(class: Class, kind: DatagramKind, payload: Bytes) -> Packet {
    Packet { kind, class, epoch: 5, alias: ALIAS, precedence: 0, payload }
}

/// All that leaves now, and the parity of it a moment later.
fn leave_with_parity(scheduler: &mut Scheduler, now: Instant) -> Vec<(DatagramHeader, Bytes)> {
    let mut left = leave(scheduler, now);
    left.extend(leave(scheduler, now + 5 * MS));
    left
}

/// All that leaves now.
fn leave(scheduler: &mut Scheduler, now: Instant) -> Vec<(DatagramHeader, Bytes)> {
    std::iter::from_fn(|| match scheduler.pop(u64::MAX, u64::MAX, LONGEST, now) {
        Next::Datagram(datagram) => DatagramHeader::split(datagram),
        Next::Wait | Next::Nothing => None,
    })
    .collect()
}

fn is_parity((header, _): &(DatagramHeader, Bytes)) -> bool {
    header.kind == DatagramKind::Parity
}

/// The receiving side of one alias, as `inbound.rs` has it.
struct There {
    window: Window,
    recoverer: Recoverer,
    gaps: Gaps,
    class: Class,
    protected: bool,
    rtt: Duration,
    /// What was taken, and when.
    taken: Vec<(Instant, DatagramHeader, Bytes)>,
    rebuilt: usize,
}

impl There {
    fn new(class: Class, protected: bool, rtt: Duration, now: Instant) -> There {
        There {
            window: Window::new(0),
            recoverer: Recoverer::new(now),
            gaps: Gaps::default(),
            class,
            protected,
            rtt,
            taken: Vec::new(),
            rebuilt: 0,
        }
    }

    fn handle(&mut self, header: DatagramHeader, payload: &Bytes, now: Instant) {
        if header.kind == DatagramKind::Parity {
            let first = header.sequence;
            if self.recoverer.handle_parity(first, payload, now).is_ok() {
                self.gaps.handle_parity(ALIAS, first, now);
            }
        } else if self.take(header, payload.clone(), now) {
            self.recoverer.handle_datagram(&header, payload, now);
        }
        while let Some((header, payload)) = self.recoverer.poll_rebuilt(ALIAS, now) {
            self.rebuilt += usize::from(self.take(header, payload, now));
        }
    }

    fn take(&mut self, header: DatagramHeader, payload: Bytes, now: Instant) -> bool {
        match self.window.insert(header.sequence) {
            Seen::Fresh { missed } => {
                let has_parity = self.protected && self.recoverer.expects(now);
                if missed > 0 {
                    let DatagramHeader { alias, sequence, .. } = header;
                    let gap = Gap { alias, sequence, missed, class: self.class, has_parity };
                    self.gaps.handle_gap(gap, self.rtt, now);
                }
            }
            Seen::Late => drop(self.gaps.handle_late(ALIAS, header.sequence)),
            Seen::Duplicate | Seen::TooOld => return false,
        }
        self.taken.push((now, header, payload));
        true
    }
}

/// Which datagrams a path loses.
struct Path {
    dice: u64,
    loss: f64,
    /// How many in a row on average, if they depend on each other (Gilbert and Elliott).
    burst: Option<f64>,
    is_bad: bool,
}

impl Path {
    fn new(loss: f64, burst: Option<f64>) -> Path {
        Path { dice: 88_172_645_463_325_252, loss, burst, is_bad: false }
    }

    fn loses(&mut self) -> bool {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let dice = (self.dice >> 11) as f64 / (1_u64 << 53) as f64;
        let Some(burst) = self.burst else { return dice < self.loss };
        let ends = 1.0 / burst;
        let begins = self.loss * ends / (1.0 - self.loss);
        self.is_bad = if self.is_bad { dice >= ends } else { dice < begins };
        self.is_bad
    }
}

/// What came of so much sound of a packet each 20 ms, over a hop of 80 ms round trip.
struct Outcome {
    /// In per cent: never there, or more than 100 ms later than it was due.
    lost_or_late: f64,
    /// Octets of parity in per cent of those of the sound, headers of QUIC, UDP and IP not counted.
    parity: f64,
    nacks: usize,
}

fn hop(cover: Cover, mut path: Path, packets: u16) -> Outcome {
    let (begin, delay) = (clock::now(), 40 * MS);
    let mut scheduler = Scheduler::default();
    scheduler.handle_protection(asked(cover, Cover::None));
    let mut there = There::new(Class::Audio, cover != Cover::None, 2 * delay, begin);
    let (mut down, mut up) = (BTreeMap::<u32, Vec<_>>::new(), BTreeMap::<u32, Vec<Nack>>::new());
    let (mut sound, mut parity, mut nacks) = (0, 0, 0);
    let ms = |duration: Duration| duration.as_millis() as u32;
    for at in 0..u32::from(packets) * 20 + 500 {
        let now = begin + at * MS;
        if at % 20 == 0 && at / 20 < packets.into() {
            scheduler.push(packet(Class::Audio, DatagramKind::Rtp, rtp((at / 20) as u16, 120)), now);
        }
        for nack in up.remove(&at).unwrap_or_default() {
            scheduler.handle_nack(nack);
        }
        for datagram in leave(&mut scheduler, now) {
            let octets = DatagramHeader::LEN + datagram.1.len();
            *(if is_parity(&datagram) { &mut parity } else { &mut sound }) += octets;
            if !path.loses() {
                down.entry(at + ms(delay)).or_default().push(datagram);
            }
        }
        for (header, payload) in down.remove(&at).unwrap_or_default() {
            there.handle(header, &payload, now);
        }
        while let Some(nack) = there.gaps.poll_nack(2 * delay, now) {
            nacks += 1;
            if !path.loses() {
                up.entry(at + ms(delay)).or_default().push(nack);
            }
        }
    }
    let numbers: BTreeSet<u16> = there.taken.iter().map(|(_, header, _)| header.sequence).collect();
    assert_eq!(numbers.len(), there.taken.len(), "something was taken twice");
    let in_time = there.taken.iter().filter(|(came, header, payload)| {
        assert_eq!(*payload, rtp(header.sequence, 120));
        *came <= begin + u32::from(header.sequence) * 20 * MS + delay + 100 * MS
    });
    Outcome {
        lost_or_late: 100.0 * (1.0 - in_time.count() as f64 / f64::from(packets)),
        parity: 100.0 * parity as f64 / sound as f64,
        nacks,
    }
}

#[test]
fn of_a_sound_over_a_long_lossy_hop_nearly_all_is_there_in_time() {
    let mut seen = BTreeMap::new();
    for (name, loss, burst) in
        [("1 %", 0.01, None), ("5 %", 0.05, None), ("5 % in bursts of 3", 0.05, Some(3.0))]
    {
        for cover in [Cover::None, Cover::Once, Cover::Twice] {
            let Outcome { lost_or_late, parity, nacks } = hop(cover, Path::new(loss, burst), 30_000);
            println!(
                "{name:>18}, {cover:?}: {lost_or_late:.2} % lost or late, parity {parity:.0} %, {nacks} nacks"
            );
            seen.insert((name, cover), lost_or_late);
        }
    }
    assert!(seen[&("5 %", Cover::None)] > 4.0, "without parity all that is lost is lost");
    assert!(seen[&("1 %", Cover::Once)] <= 0.1);
    assert!(seen[&("5 %", Cover::Once)] <= 1.2);
    assert!(seen[&("5 %", Cover::Twice)] <= 0.3);
    assert!(seen[&("5 % in bursts of 3", Cover::Twice)] <= 3.0);
}

/// What leaves of so many packets, so far apart.
fn sent(class: Class, protection: Protection, packets: u16, apart: Duration) -> Vec<(DatagramHeader, Bytes)> {
    let (mut scheduler, begin) = (Scheduler::default(), clock::now());
    scheduler.handle_protection(protection);
    (0..packets)
        .flat_map(|number| {
            let now = begin + u32::from(number) * apart;
            scheduler.push(packet(class, DatagramKind::Rtp, rtp(number, 60)), now);
            leave_with_parity(&mut scheduler, now)
        })
        .collect()
}

/// The sequences of each group, with how many datagrams had left before its parity.
fn groups(sent: &[(DatagramHeader, Bytes)]) -> Vec<(usize, Vec<u16>)> {
    let parities = sent.iter().enumerate().filter(|(_, datagram)| is_parity(datagram));
    parities
        .map(|(at, (header, payload))| {
            let (parity, _) = Parity::split(header.sequence, payload).expect("it was written here");
            (at, parity.group.sequences().collect())
        })
        .collect()
}

#[test]
fn a_group_is_four_packets_of_sound_ten_of_a_picture_and_none_is_older_than_80_ms() {
    let of = |class, cover, packets, millis| {
        let protection = asked(cover, cover);
        groups(&sent(class, protection, packets, millis * MS)).into_iter().map(|(_, group)| group)
    };
    let once: Vec<_> = of(Class::Audio, Cover::Once, 9, 20).collect();
    assert_eq!(once, [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    let twice: Vec<_> = of(Class::Audio, Cover::Twice, 10, 20).skip(2).collect();
    assert_eq!(twice, [vec![1, 2, 4, 5], vec![3, 4, 6, 7], vec![5, 6, 8, 9]]);
    let slow: Vec<_> = of(Class::Audio, Cover::Once, 4, 60).collect();
    assert_eq!(slow, [vec![0, 1], vec![2, 3]], "a third one would come after 120 ms");
    let silent: Vec<_> = of(Class::Audio, Cover::Once, 3, 400).collect();
    assert_eq!(silent, [vec![1], vec![2]]);
    let picture: Vec<_> = of(Class::Video, Cover::Once, 25, 5).collect();
    assert_eq!(picture, [(0..10).collect::<Vec<_>>(), (10..20).collect()]);
    assert_eq!(of(Class::Video, Cover::Once, 100, 33).count(), 0, "repairs are sooner");
    assert_eq!(of(Class::Audio, Cover::None, 100, 20).count(), 0);
}

#[test]
fn jitter_takes_nothing_from_a_group() {
    let (mut scheduler, begin) = (Scheduler::default(), clock::now());
    scheduler.handle_protection(asked(Cover::Twice, Cover::None));
    let mut left = Vec::new();
    for number in 0..40_u16 {
        // Up to 15 ms late, each as it comes.
        let now = begin + u32::from(number) * 20 * MS + u32::from(number * 7 % 16) * MS;
        scheduler.push(packet(Class::Audio, DatagramKind::Rtp, rtp(number, 60)), now);
        left.extend(leave_with_parity(&mut scheduler, now));
    }
    let groups = groups(&left);
    assert!(groups.len() >= 18 && groups.iter().skip(2).all(|(_, group)| group.len() == 4), "{groups:?}");
}

#[test]
fn a_clock_of_a_picture_closes_no_group() {
    let (mut scheduler, now) = (Scheduler::default(), clock::now());
    scheduler.handle_protection(asked(Cover::Twice, Cover::None));
    for number in 0..20 {
        scheduler.push(packet(Class::Video, DatagramKind::Rtp, rtp(number, 900)), now);
        let clock = packet(Class::Audio, DatagramKind::SenderClock, Bytes::from_static(&[0; 12]));
        scheduler.push(clock, now);
    }
    assert_eq!(groups(&leave_with_parity(&mut scheduler, now)), []);
}

#[test]
fn of_a_sound_that_is_covered_twice_any_three_datagrams_in_a_row_come_back_within_80_ms() {
    let sent = sent(Class::Audio, asked(Cover::Twice, Cover::None), 60, 20 * MS);
    let begin = clock::now();
    // Where each datagram stands on the way: a parity right behind what it is of.
    for lost in 20..60 {
        let mut there = There::new(Class::Audio, true, 80 * MS, begin);
        let mut newest = 0;
        for (at, (header, payload)) in sent.iter().enumerate() {
            if !is_parity(&(*header, payload.clone())) {
                newest = header.sequence;
            }
            if !(lost..lost + 3).contains(&at) {
                there.handle(*header, payload, begin + u32::from(newest) * 20 * MS);
            }
        }
        assert_eq!(there.taken.len(), 60, "lost from {lost} on");
        for (came, header, _) in &there.taken {
            let late = came.duration_since(begin + u32::from(header.sequence) * 20 * MS);
            assert!(late <= 80 * MS, "{} came {late:?} late, lost from {lost} on", header.sequence);
        }
    }
}

#[test]
fn parity_leaves_last_and_goes_first() {
    let (mut scheduler, now) = (Scheduler::default(), clock::now());
    scheduler.handle_protection(asked(Cover::Once, Cover::Once));
    let push = |scheduler: &mut Scheduler, class, range: std::ops::Range<u16>| {
        range.for_each(|number| scheduler.push(packet(class, DatagramKind::Rtp, rtp(number, 60)), now));
    };
    push(&mut scheduler, Class::Audio, 0..6);
    let left = leave_with_parity(&mut scheduler, now);
    let at: Vec<usize> = groups(&left).into_iter().map(|(at, _)| at).collect();
    assert_eq!((left.len(), at), (7, vec![6]), "behind what waits in its lane");
    push(&mut scheduler, Class::Audio, 6..8);
    // Room for the sound alone.
    let mut room = 2 * (DatagramHeader::LEN as u64 + 60);
    while let Next::Datagram(datagram) = scheduler.pop(room, 0, LONGEST, now) {
        room -= datagram.len() as u64;
    }
    assert_eq!(scheduler.take_parity().shed, 0);
    assert_eq!(leave(&mut scheduler, now + 81 * MS), [], "it has waited too long");
    assert_eq!(scheduler.take_parity().shed, 1);
}

#[test]
fn a_parity_that_would_not_fit_is_not_sent() {
    let (mut scheduler, now) = (Scheduler::default(), clock::now());
    scheduler.handle_protection(asked(Cover::Once, Cover::Once));
    let most = LONGEST - DatagramHeader::LEN;
    for number in 0..8 {
        let length = if number < 4 { most } else { most - Parity::LEN };
        scheduler.push(packet(Class::Audio, DatagramKind::Rtp, rtp(number, length)), now);
    }
    let left = leave_with_parity(&mut scheduler, now);
    assert!(left.iter().all(|(_, payload)| DatagramHeader::LEN + payload.len() <= LONGEST));
    assert_eq!(groups(&left), [(8, vec![4, 5, 6, 7])]);
}

/// A recoverer that knows these of four packets, and a parity of all of them.
fn three_of_four() -> (Recoverer, Vec<(DatagramHeader, Bytes)>, Instant) {
    let (sent, now) = (sent(Class::Audio, asked(Cover::Once, Cover::None), 4, 20 * MS), clock::now());
    let mut recoverer = Recoverer::new(now);
    for (header, payload) in &sent[..3] {
        recoverer.handle_datagram(header, payload, now);
    }
    (recoverer, sent, now)
}

#[test]
fn what_lies_is_dropped_and_counted() {
    let (_, sent, _) = three_of_four();
    let honest = sent[4].1.to_vec();
    let malformed = Counts { malformed: 1, ..Counts::default() };
    // A length beyond the body, one that leaves octets over, a kind that has no place in the sequence.
    for (at, flip) in [(3, 0x10), (4, 0x04), (2, 0x02), (2, 0x0f)] {
        let (mut recoverer, _, now) = three_of_four();
        let mut parity = honest.clone();
        parity[at] ^= flip;
        assert_eq!(recoverer.handle_parity(0, &parity, now), Ok(()));
        assert_eq!((recoverer.poll_rebuilt(ALIAS, now), recoverer.take_counts()), (None, malformed), "{at}");
    }
    // Shorter than what it is of, no group, too short, too long.
    let (mut recoverer, _, now) = three_of_four();
    assert_eq!(recoverer.handle_parity(0, &honest[..30], now), Ok(()));
    assert_eq!((recoverer.poll_rebuilt(ALIAS, now), recoverer.take_counts()), (None, malformed));
    for parity in [&[0, 0, 0, 0, 0, 1][..], &honest[..4], &[]] {
        assert_eq!(recoverer.handle_parity(0, parity, now), Err(Refused::Malformed));
    }
    assert_eq!(recoverer.handle_parity(0, &[1; 1506], now), Err(Refused::Malformed));
}

#[test]
fn parity_of_what_never_came_near_or_is_long_gone_is_dropped() {
    let (mut recoverer, sent, now) = three_of_four();
    for first in [4, 1000, 32_000, 65_000] {
        assert_eq!(recoverer.handle_parity(first, &sent[4].1, now), Err(Refused::Absent), "{first}");
    }
    assert_eq!(recoverer.poll_rebuilt(ALIAS, now), None);
    // What came so long ago had the same number.
    assert_eq!(recoverer.handle_parity(0, &sent[4].1, now + 60_000 * MS), Ok(()));
    assert_eq!(recoverer.poll_rebuilt(ALIAS, now + 60_000 * MS), None);
}

#[test]
fn repeated_parity_brings_nothing_again_and_what_waits_is_bounded() {
    let (mut recoverer, sent, now) = three_of_four();
    for round in 0..3 {
        assert_eq!(recoverer.handle_parity(0, &sent[4].1, now), Ok(()));
        let rebuilt = recoverer.poll_rebuilt(ALIAS, now);
        assert_eq!(rebuilt, (round == 0).then(|| sent[3].clone()));
    }
    assert_eq!(recoverer.take_counts(), Counts { useless: 2, malformed: 0 });
    // Two are missing, for ever.
    let mut parity = vec![0, 0b11_0001, 0, 0, 0];
    parity.resize(1400, 9);
    for _ in 0..1000 {
        assert_eq!(recoverer.handle_parity(0, &parity, now), Ok(()));
    }
    assert!(recoverer.held() <= 4 * 60 + 8 * 1400, "{}", recoverer.held());
    assert_eq!(recoverer.poll_rebuilt(ALIAS, now + 300 * MS), None);
    assert_eq!(recoverer.take_counts(), Counts { useless: 1000, malformed: 0 });
}

/// Packets, clocks and fragments, of sound or of a picture.
fn media(number: u16, length: usize, class: Class) -> Packet {
    match (number % 23, class) {
        (11, _) => {
            let mut clock = Vec::new();
            SenderClock { ntp: u64::from(number) << 20, rtp: 9 }.write(&mut clock);
            packet(class, DatagramKind::SenderClock, clock.into())
        }
        (17, Class::Video) => packet(class, DatagramKind::Rtp, rtp(number, 2000)),
        _ => packet(class, DatagramKind::Rtp, rtp(number, length)),
    }
}

proptest! {
    /// Whatever is lost and in whatever order the rest comes: what is taken is what was sent, octet for octet, and once.
    #[test]
    fn what_is_rebuilt_is_what_was_sent(
        fates in prop::collection::vec((0_u8..8, 12_usize..1200, 0_u64..30), 30..200),
        cover in prop_oneof![Just(Cover::Once), Just(Cover::Twice)],
        is_video: bool,
    ) {
        let class = if is_video { Class::Video } else { Class::Audio };
        let (mut scheduler, mut now) = (Scheduler::default(), clock::now());
        scheduler.handle_protection(asked(cover, cover));
        let mut there = There::new(class, true, 80 * MS, now);
        let (mut left, mut held) = (BTreeMap::new(), None);
        for (number, (fate, length, apart)) in fates.iter().enumerate() {
            now += *apart as u32 * MS;
            scheduler.push(media(number as u16, *length, class), now);
            for (at, datagram) in leave_with_parity(&mut scheduler, now).into_iter().enumerate() {
                if !is_parity(&datagram) {
                    left.insert(datagram.0.sequence, datagram.clone());
                }
                match (usize::from(*fate) + at) % 8 {
                    0 => {}
                    1 => held = Some(datagram),
                    2 => (0..2).for_each(|_| there.handle(datagram.0, &datagram.1, now)),
                    _ => there.handle(datagram.0, &datagram.1, now),
                }
                if let Some((header, payload)) = held.take_if(|_| fate % 3 == 0) {
                    there.handle(header, &payload, now);
                }
            }
        }
        let mut numbers = BTreeSet::new();
        for (_, header, payload) in &there.taken {
            prop_assert!(numbers.insert(header.sequence), "{} twice", header.sequence);
            prop_assert_eq!(left.get(&header.sequence), Some(&(*header, payload.clone())));
        }
        prop_assert!(there.recoverer.held() <= (32 + 8) * 1500);
        prop_assert_eq!(there.recoverer.take_counts().malformed, 0);
    }

    /// Whatever is said: nothing panics, and what would be rebuilt is no longer than a datagram.
    #[test]
    fn no_parity_brings_more_than_a_datagram(
        said in prop::collection::vec((any::<bool>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 1..60),
    ) {
        let mut now = clock::now();
        let mut recoverer = Recoverer::new(now);
        for (is_parity, number, octets) in said {
            now += MS;
            let number = number % 40;
            if is_parity {
                let _ = recoverer.handle_parity(number, &octets, now);
            } else {
                let header = DatagramHeader { kind: DatagramKind::Rtp, epoch: 0, alias: ALIAS, sequence: number };
                recoverer.handle_datagram(&header, &octets, now);
            }
            for _ in 0..64 {
                let Some((header, payload)) = recoverer.poll_rebuilt(ALIAS, now) else { break };
                prop_assert!(header.kind.in_sequence() && payload.len() <= 40);
            }
            prop_assert_eq!(recoverer.poll_rebuilt(ALIAS, now), None);
        }
    }
}

#[test]
fn fragments_come_back_as_fragments() {
    let (mut scheduler, now) = (Scheduler::default(), clock::now());
    scheduler.handle_protection(asked(Cover::Once, Cover::Once));
    for number in 0..5 {
        scheduler.push(packet(Class::Video, DatagramKind::Rtp, rtp(number, 2000)), now);
    }
    let left = leave_with_parity(&mut scheduler, now);
    let mut there = There::new(Class::Video, true, 80 * MS, now);
    for (header, payload) in
        left.iter().filter(|(header, _)| header.sequence != 3 || header.kind == DatagramKind::Parity)
    {
        there.handle(*header, payload, now);
    }
    let (_, header, payload) = there.taken.last().expect("all of them");
    assert_eq!((header, payload), (&left[3].0, &left[3].1));
    let (fragment, _) = Fragment::split(payload.clone()).expect("a fragment");
    assert_eq!((there.rebuilt, fragment.number, fragment.packet), (1, 1, 1));
}
