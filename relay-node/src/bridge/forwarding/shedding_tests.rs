//! Tests: what leaves a lane of video on a link that is too thin. In virtual time.

use std::collections::{BTreeMap, BTreeSet};

use media::rtp::descriptor::SpatialLayer;
use proptest::prelude::*;
use protocol::{Codec, mesh::Class};

use super::*;
use crate::clock;

const MS: Duration = Duration::from_millis(1);
/// Of every packet of these tests, with the header of its datagram.
const LENGTH: u64 = 1005;

/// A source of VP8 with up to three temporal layers, each picture of one or more packets.
#[derive(Debug)]
struct Source {
    alias: u16,
    precedence: u8,
    number: u16,
    picture: u32,
}

/// What of a picture the tests choose.
#[derive(Debug, Clone, Copy)]
struct Picture {
    keyframe: bool,
    temporal: u8,
    /// It refers to the base layer alone.
    sync: bool,
    packets: u8,
}

const KEYFRAME: Picture = Picture { keyframe: true, temporal: 0, sync: false, packets: 2 };
const BASE: Picture = Picture { keyframe: false, packets: 1, ..KEYFRAME };
const UPPER: Picture = Picture { temporal: 1, ..BASE };
const SYNC: Picture = Picture { sync: true, ..UPPER };

impl Source {
    fn new(alias: u16, precedence: u8) -> Source {
        Source { alias, precedence, number: 65_500, picture: 0 }
    }

    fn next(&mut self, picture: Picture) -> Vec<Packet> {
        self.picture += 3000;
        (0..picture.packets)
            .map(|at| {
                let first = at == 0;
                let mut payload = vec![0x80, Codec::Vp8.canonical_payload_type()];
                payload.extend(self.number.to_be_bytes());
                payload.extend(self.picture.to_be_bytes());
                payload.extend([0; 4]);
                // RFC 7741 section 4.2: X and S, T, then TID and Y.
                payload.extend([
                    0x80 | u8::from(first) << 4,
                    0x20,
                    picture.temporal << 6 | u8::from(picture.sync) << 5,
                ]);
                // P, the inverse of a keyframe.
                payload.push(u8::from(!picture.keyframe));
                payload.resize(LENGTH as usize - DatagramHeader::LEN, 0);
                self.number = self.number.wrapping_add(1);
                Packet {
                    kind: DatagramKind::Rtp,
                    class: Class::Video,
                    epoch: 3,
                    alias: Alias(self.alias),
                    precedence: self.precedence,
                    payload: payload.into(),
                }
            })
            .collect()
    }
}

/// A link under test: what left of each track.
struct Link {
    scheduler: Scheduler,
    now: Instant,
    left: Vec<Left>,
    /// Of each packet that left its timestamp, whether it has the marker, and its layer.
    said: Vec<(u32, bool, SpatialLayer)>,
    room: u64,
}

/// What left, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Packet { alias: u16, number: u16 },
    Withheld { alias: u16, first: u16, count: u16 },
}

impl Link {
    fn new() -> Link {
        Link {
            scheduler: Scheduler::default(),
            now: clock::now(),
            left: Vec::new(),
            said: Vec::new(),
            room: 0,
        }
    }

    fn push(&mut self, source: &mut Source, picture: Picture) {
        source.next(picture).into_iter().for_each(|packet| self.scheduler.push(packet, self.now));
    }

    /// Time passes, and so many octets leave if there are as many.
    fn pass(&mut self, time: Duration, octets: u64) {
        self.now += time;
        self.room += octets;
        while let Next::Datagram(datagram) = self.scheduler.pop(self.room, self.room, usize::MAX, self.now) {
            self.room -= datagram.len() as u64;
            let (header, payload) = DatagramHeader::split(datagram).expect("it was written here");
            assert_eq!(header.epoch, 3);
            let alias = header.alias.0;
            self.left.push(match header.kind {
                DatagramKind::Rtp => {
                    let number = sequence(&payload).expect("an RTP packet");
                    let packet = media::Packet::from_canonical(payload, 3, self.now).expect("canonical");
                    self.said.push((packet.timestamp, packet.marker, packet.description.spatial));
                    Left::Packet { alias, number }
                }
                DatagramKind::Withheld => {
                    let Withheld { first, count } = Withheld::read(&payload).expect("a run");
                    Left::Withheld { alias, first, count }
                }
                kind => panic!("{kind:?} was not sent"),
            });
        }
        // No link saves room that it did not need.
        self.room = self.room.min(LENGTH);
    }

    fn shed(&mut self) -> (u64, u64) {
        let Dropped { full, late, shed } = self.scheduler.take_dropped();
        assert_eq!((full, late), (0, 0));
        (shed.layers, shed.pictures)
    }

    fn take(&mut self, alias: u16) -> Vec<Left> {
        let left = std::mem::take(&mut self.left);
        let of = |left: &Left| match left {
            Left::Packet { alias, .. } | Left::Withheld { alias, .. } => *alias,
        };
        left.into_iter().filter(|left| of(left) == alias).collect()
    }
}

fn packets(alias: u16, numbers: impl IntoIterator<Item = u16>) -> Vec<Left> {
    numbers.into_iter().map(|number| Left::Packet { alias, number }).collect()
}

#[test]
fn of_a_link_that_is_a_little_too_thin_the_best_encoding_gives_up_its_higher_layers() {
    let (mut link, mut base, mut top) = (Link::new(), Source::new(1, 0), Source::new(2, 1));
    link.push(&mut base, KEYFRAME);
    link.push(&mut top, KEYFRAME);
    // Of eight packets in 40 ms seven leave.
    for at in 0..100 {
        link.push(&mut base, BASE);
        link.push(&mut top, BASE);
        link.push(&mut top, if at % 16 == 0 { SYNC } else { UPPER });
        link.push(&mut top, UPPER);
        link.pass(20 * MS, 7 * LENGTH / 2);
    }
    let (layers, pictures) = link.shed();
    assert!(layers > 20 && pictures == 0, "{layers} {pictures}");
    let of_base = link.left.iter().filter(|left| matches!(left, Left::Packet { alias: 1, .. })).count();
    assert!(of_base >= 95, "{of_base} of 102");
    // And when there is room again it gets them back, where a decoder can go on.
    let count = link.take(2).len();
    for at in 0..32 {
        link.push(&mut top, BASE);
        link.push(&mut top, if at % 16 == 15 { SYNC } else { UPPER });
        link.pass(20 * MS, 20 * LENGTH);
    }
    let left = link.take(2);
    let whole = left.iter().rev().take_while(|left| matches!(left, Left::Packet { .. })).count();
    assert!(count > 0 && whole >= 34, "nothing is withheld any more: {left:?}");
    assert!(!link.scheduler.shedding.is_active());
}

/// A picture of VP9 in three spatial layers of a packet each.
fn spatial(source: &mut Source, keyframe: bool) -> Vec<Packet> {
    let mut packets = source.next(Picture { packets: 3, ..BASE });
    for (packet, spatial) in packets.iter_mut().zip(0..) {
        let mut payload = packet.payload.to_vec();
        payload[1] = Codec::Vp9.canonical_payload_type() | u8::from(spatial == 2) << 7;
        // RFC 9628 section 4.2: I, P, L, B, E; the picture id; TID, SID, D; TL0PICIDX.
        payload[12] = 0xac | u8::from(!keyframe) << 6;
        payload[13..16].copy_from_slice(&[1, spatial << 1 | u8::from(spatial > 0), 1]);
        packet.payload = payload.into();
    }
    packets
}

#[test]
fn an_encoding_in_spatial_layers_becomes_smaller_and_its_pictures_have_an_end() {
    let (mut link, mut source) = (Link::new(), Source::new(1, 0));
    let mut push = |link: &mut Link, keyframe| {
        for packet in spatial(&mut source, keyframe) {
            link.scheduler.push(packet, link.now);
            // The lane may be looked at amid a picture.
            link.pass(MS, 0);
        }
    };
    push(&mut link, true);
    // Of six packets in 80 ms five leave.
    for _ in 0..100 {
        push(&mut link, false);
        link.pass(37 * MS, 5 * LENGTH / 2);
    }
    let (layers, pictures) = link.shed();
    assert!(layers > 60 && pictures == 0, "{layers} {pictures}");
    for _ in 0..10 {
        push(&mut link, false);
        link.pass(37 * MS, 20 * LENGTH);
    }
    assert_eq!(link.scheduler.poll_keyframe(), Some(Alias(1)), "the layers begin with a keyframe");
    push(&mut link, true);
    link.pass(37 * MS, 20 * LENGTH);
    assert!(!link.scheduler.shedding.is_active());
    let mut pictures: BTreeMap<u32, Vec<(bool, SpatialLayer)>> = BTreeMap::new();
    link.said.iter().for_each(|(at, marker, layer)| pictures.entry(*at).or_default().push((*marker, *layer)));
    assert_eq!(pictures.len(), 112, "no picture is missing");
    for picture in pictures.values() {
        let layers: Vec<u8> = picture.iter().map(|(_, layer)| layer.0).collect();
        assert!(layers == [0] || layers == [0, 1, 2], "{picture:?}");
        let (last, before) = picture.split_last().expect("a packet");
        assert!(last.0 && before.iter().all(|(marker, _)| !marker), "{picture:?}");
    }
    assert_eq!(pictures.values().next_back().map(Vec::len), Some(3));
}

#[test]
fn what_is_too_much_for_a_link_is_shed_up_to_a_keyframe_the_best_first() {
    let (mut link, mut base, mut top) = (Link::new(), Source::new(1, 0), Source::new(2, 2));
    for source in [&mut base, &mut top] {
        link.push(source, KEYFRAME);
    }
    for _ in 0..50 {
        link.push(&mut base, BASE);
        (0..3).for_each(|_| link.push(&mut top, BASE));
        link.pass(20 * MS, 2 * LENGTH);
    }
    let (layers, pictures) = link.shed();
    assert!(layers == 0 && pictures > 100, "{layers} {pictures}");
    assert_eq!(link.scheduler.poll_keyframe(), Some(Alias(2)));
    let left = link.take(1);
    assert!(left.len() >= 50, "{} of 52", left.len());
    assert!(left.iter().all(|left| matches!(left, Left::Packet { .. })), "the base lacks nothing");
    // The lane has drained: the next keyframe may pass, after what says which numbers do not come.
    let next = top.number;
    link.push(&mut top, KEYFRAME);
    link.pass(20 * MS, 9 * LENGTH);
    let left = link.take(2);
    let [Left::Withheld { first, count, .. }, rest @ ..] = &left[..] else { panic!("{left:?}") };
    assert_eq!(first.wrapping_add(*count), next);
    assert_eq!(rest, packets(2, [next, next.wrapping_add(1)]));
    assert!(!link.scheduler.shedding.is_active());
}

#[test]
fn a_keyframe_that_takes_long_comes_through() {
    let (mut link, mut source) = (Link::new(), Source::new(1, 0));
    // 400 ms of the link, again and again.
    for _ in 0..4 {
        let first = source.number;
        link.push(&mut source, Picture { packets: 40, ..KEYFRAME });
        for _ in 0..50 {
            link.pass(20 * MS, 2 * LENGTH);
            link.push(&mut source, BASE);
        }
        let left = link.take(1);
        let keyframe = packets(1, (0..40).map(|at| first.wrapping_add(at)));
        assert!(left.windows(40).any(|part| part == keyframe), "{left:?}");
    }
}

#[test]
fn a_lane_with_too_many_packets_sheds_whatever_their_age() {
    let (mut link, mut base, mut top) = (Link::new(), Source::new(1, 0), Source::new(2, 1));
    link.push(&mut base, KEYFRAME);
    link.push(&mut top, KEYFRAME);
    for _ in 0..BOUNDS[VIDEO] {
        link.push(&mut base, BASE);
        (0..2).for_each(|_| link.push(&mut top, BASE));
        assert!(link.scheduler.lanes[VIDEO].len() <= BOUNDS[VIDEO]);
    }
    let (_, pictures) = link.shed();
    link.pass(MS, u64::MAX / 2);
    let base = link.take(1).len();
    assert!(pictures > 4096, "{pictures}");
    assert!(base > 0 && base <= BOUNDS[VIDEO], "{base}");
}

#[test]
fn a_clock_is_never_shed() {
    let (mut link, mut source) = (Link::new(), Source::new(1, 0));
    link.push(&mut source, KEYFRAME);
    let clock = Packet {
        kind: DatagramKind::SenderClock,
        payload: vec![0; 12].into(),
        ..source.next(BASE).remove(0)
    };
    link.scheduler.push(clock, link.now);
    link.push(&mut source, BASE);
    link.now += 500 * MS;
    assert_eq!(link.scheduler.pop(0, 0, usize::MAX, link.now), Next::Wait);
    assert_eq!(link.shed(), (0, 3));
    let Next::Datagram(left) = link.scheduler.pop(99, 99, usize::MAX, link.now) else { panic!("the clock") };
    assert_eq!(left.len(), DatagramHeader::LEN + 12);
    assert_eq!(link.scheduler.pop(99, 99, usize::MAX, link.now), Next::Nothing);
}

#[test]
fn what_was_withheld_has_its_place_in_the_sequence_and_is_repaired() {
    let (mut link, mut source) = (Link::new(), Source::new(1, 0));
    link.push(&mut source, KEYFRAME);
    link.pass(MS, 9 * LENGTH);
    link.push(&mut source, BASE);
    link.pass(200 * MS, 0);
    link.push(&mut source, KEYFRAME);
    let sent: Vec<Bytes> =
        std::iter::from_fn(|| match link.scheduler.pop(9999, 9999, usize::MAX, link.now) {
            Next::Datagram(datagram) => Some(datagram),
            _ => None,
        })
        .collect();
    let headers: Vec<_> = sent.iter().filter_map(|datagram| DatagramHeader::read(datagram)).collect();
    let kinds = headers.iter().map(|header| (header.kind, header.sequence));
    let expected = [(DatagramKind::Withheld, 2), (DatagramKind::Rtp, 3), (DatagramKind::Rtp, 4)];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
    assert_eq!(link.scheduler.handle_nack(Nack { alias: Alias(1), first: 2, bits: 0b11 }), 2);
    for datagram in &sent[..2] {
        let repaired = link.scheduler.pop(9999, 9999, usize::MAX, link.now);
        assert_eq!(repaired, Next::Datagram(datagram.clone()));
    }
}

#[derive(Debug, Clone)]
enum Act {
    Push(usize, Picture),
    /// So many packets were withheld on the way here.
    Withheld(usize, u16),
    Pass(u8, u8),
    Tick,
}

fn act() -> impl Strategy<Value = Act> {
    let picture =
        (0..12_u8, 0..3_u8, any::<bool>(), 1..4_u8).prop_map(|(kind, temporal, sync, packets)| match kind {
            0 => Picture { packets: 4 * packets, ..KEYFRAME },
            1..=5 => Picture { packets, ..BASE },
            _ => Picture { temporal, sync: sync && temporal > 0, packets, ..BASE },
        });
    prop_oneof![
        12 => (0..4_usize, picture).prop_map(|(source, picture)| Act::Push(source, picture)),
        1 => (0..4_usize, 1..9_u16).prop_map(|(source, count)| Act::Withheld(source, count)),
        8 => (0..60_u8, 0..12_u8).prop_map(|(time, packets)| Act::Pass(time, packets)),
        1 => Just(Act::Tick),
    ]
}

/// Numbers of RTP packets that wait in the lane, and those that are withheld and not told yet, by track.
fn waiting(scheduler: &Scheduler) -> [BTreeMap<u16, BTreeSet<u16>>; 2] {
    let [mut queued, mut withheld] = [(); 2].map(|()| BTreeMap::<u16, BTreeSet<u16>>::new());
    for (packet, numbers) in scheduler.lanes[VIDEO].queued() {
        let alias = packet.alias.0;
        let mut untold = |run: Withheld| {
            let numbers = (0..run.count).map(|at| run.first.wrapping_add(at));
            withheld.entry(alias).or_default().extend(numbers);
        };
        numbers.into_iter().flat_map(|numbers| numbers.iter()).for_each(|(_, run)| untold(run));
        match Withheld::read(&packet.payload) {
            Some(run) => untold(run),
            None => drop(queued.entry(alias).or_default().insert(sequence(&packet.payload).expect("RTP"))),
        }
    }
    for (alias, run) in scheduler.shedding.untold() {
        let numbers = (0..run.count).map(|at| run.first.wrapping_add(at));
        withheld.entry(alias.0).or_default().extend(numbers);
    }
    [queued, withheld]
}

proptest! {
    /// Whatever comes and whenever it leaves: every packet leaves, waits or is told to be withheld, and never two of
    /// these; a track gives way only when none of higher precedence waits any more; and what leaves can be decoded.
    #[test]
    fn nothing_is_lost_without_a_word(acts in prop::collection::vec(act(), 1..300), most in 1..12_u8) {
        let mut link = Link::new();
        let mut sources = [(1, 0), (2, 2), (3, 0), (4, 1)].map(|(alias, precedence)| Source::new(alias, precedence));
        let precedence = |alias: u16| [0, 2, 0, 1][usize::from(alias) - 1];
        // By track and number: its picture, and whether its first packet it is.
        let mut pushed = BTreeMap::<(u16, u16), (Picture, bool)>::new();
        let mut order = BTreeMap::<u16, Vec<u16>>::new();
        for act in acts {
            match act {
                Act::Push(source, picture) => {
                    let source = &mut sources[source];
                    for at in 0..picture.packets {
                        let number = source.number.wrapping_add(at.into());
                        pushed.insert((source.alias, number), (picture, at == 0));
                        order.entry(source.alias).or_default().push(number);
                    }
                    let [before, _] = waiting(&link.scheduler);
                    link.push(source, picture);
                    let [after, _] = waiting(&link.scheduler);
                    // Too many never come here, so nothing that waits goes because something comes.
                    for (alias, numbers) in before {
                        prop_assert!(after.get(&alias).is_some_and(|after| numbers.is_subset(after)));
                    }
                }
                Act::Withheld(source, count) => {
                    let source = &mut sources[source];
                    let mut payload = Vec::new();
                    Withheld { first: source.number, count }.write(&mut payload);
                    source.number = source.number.wrapping_add(count);
                    let (alias, precedence) = (Alias(source.alias), source.precedence);
                    let (kind, class) = (DatagramKind::Withheld, Class::Video);
                    let packet = Packet { kind, class, epoch: 3, alias, precedence, payload: payload.into() };
                    link.scheduler.push(packet, link.now);
                }
                Act::Pass(time, packets) => {
                    let [before, _] = waiting(&link.scheduler);
                    let known = link.left.len();
                    link.pass(MS * u32::from(time), u64::from(packets % most) * LENGTH);
                    let [after, _] = waiting(&link.scheduler);
                    for (alias, numbers) in &before {
                        let left: BTreeSet<u16> = link.left[known..].iter().filter_map(|left| match left {
                            Left::Packet { alias: of, number } if of == alias => Some(*number),
                            _ => None,
                        }).collect();
                        let gone = numbers.iter().any(|number| {
                            let upper = pushed[&(*alias, *number)].0.temporal > 0;
                            !left.contains(number) && !upper
                                && !after.get(alias).is_some_and(|after| after.contains(number))
                        });
                        if gone {
                            for (better, waits) in &after {
                                prop_assert!(
                                    precedence(*better) <= precedence(*alias) || waits.is_empty(),
                                    "{} was shed before {}", alias, better
                                );
                            }
                        }
                    }
                }
                Act::Tick => link.scheduler.handle_tick(),
            }
        }
        let [queued, untold] = waiting(&link.scheduler);
        let mut told = untold;
        let mut left = BTreeMap::<u16, BTreeSet<u16>>::new();
        for event in &link.left {
            match *event {
                Left::Packet { alias, number } => prop_assert!(left.entry(alias).or_default().insert(number)),
                Left::Withheld { alias, first, count } => {
                    let mut fresh = (0..count).map(|at| first.wrapping_add(at));
                    let told = told.entry(alias).or_default();
                    prop_assert!(fresh.all(|number| told.insert(number)), "told twice");
                }
            }
        }
        for (alias, numbers) in &order {
            let has = |of: &BTreeMap<u16, BTreeSet<u16>>, number: u16| {
                u8::from(of.get(alias).is_some_and(|numbers| numbers.contains(&number)))
            };
            for number in numbers {
                let times = has(&left, *number) + has(&told, *number) + has(&queued, *number);
                prop_assert_eq!(times, 1, "{} of {}", number, alias);
            }
            // What leaves of the base goes on where it was, or begins with a keyframe.
            let base = numbers.iter().filter(|number| pushed[&(*alias, **number)].0.temporal == 0);
            let mut went = true;
            for number in base {
                let (picture, first) = pushed[&(*alias, *number)];
                let goes = has(&left, *number) == 1;
                prop_assert!(!goes || went || (picture.keyframe && first), "{} of {}", number, alias);
                went = goes;
            }
        }
        // Numbers that do not come are told before the next packet that does.
        let mut newest = BTreeMap::<u16, u16>::new();
        for event in &link.left {
            let (alias, first, last) = match *event {
                Left::Packet { alias, number } => (alias, number, number),
                Left::Withheld { alias, first, count } => (alias, first, first.wrapping_add(count - 1)),
            };
            let expected = newest.get(&alias).copied().unwrap_or(65_499).wrapping_add(1);
            prop_assert_eq!(first, expected, "of {}", alias);
            newest.insert(alias, last);
        }
    }
}
