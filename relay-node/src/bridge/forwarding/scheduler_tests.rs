use protocol::mesh::Class;

use super::*;
use crate::clock;

fn packet(class: Class, alias: u16, payload: Bytes) -> Packet {
    Packet { kind: DatagramKind::Rtp, class, epoch: 3, alias: Alias(alias), precedence: 0, payload }
}

fn push(scheduler: &mut Scheduler, class: Class, alias: u16, byte: u8) {
    scheduler.push(packet(class, alias, Bytes::from(vec![byte; 8])), clock::now());
}

fn pop(scheduler: &mut Scheduler) -> Option<Bytes> {
    match scheduler.pop(u64::MAX, u64::MAX, usize::MAX, clock::now()) {
        Next::Datagram(datagram) => Some(datagram),
        Next::Nothing => None,
        Next::Wait => panic!("there is room"),
    }
}

fn drain(scheduler: &mut Scheduler) -> Vec<(u16, u16, u8)> {
    std::iter::from_fn(|| pop(scheduler))
        .map(|datagram| {
            let (header, payload) = DatagramHeader::split(datagram).unwrap();
            assert_eq!((header.epoch, payload.len()), (3, 8));
            (header.alias.0, header.sequence, payload[0])
        })
        .collect()
}

#[test]
fn audio_leaves_before_video_and_video_before_prefetch() {
    let mut scheduler = Scheduler::default();
    for (alias, class) in [(1, Class::Prefetch), (2, Class::Video), (3, Class::Audio), (4, Class::Emergency)]
    {
        push(&mut scheduler, class, alias, 0);
    }
    let order: Vec<u16> = drain(&mut scheduler).into_iter().map(|(alias, ..)| alias).collect();
    assert_eq!(order, [4, 3, 2, 1]);
    assert_eq!(scheduler.pop(u64::MAX, u64::MAX, usize::MAX, clock::now()), Next::Nothing);
}

#[test]
fn a_full_class_loses_its_oldest_and_hurts_no_other() {
    let mut scheduler = Scheduler::default();
    push(&mut scheduler, Class::Video, 2, 0);
    for i in 0..=255 {
        push(&mut scheduler, Class::Audio, 1, i);
    }
    assert_eq!(scheduler.take_dropped(), Dropped::default());
    push(&mut scheduler, Class::Audio, 1, 99);
    assert_eq!(scheduler.take_dropped(), Dropped { full: 1, ..Dropped::default() });
    let left = drain(&mut scheduler);
    assert_eq!(left.len(), 257);
    assert_eq!(left[0], (1, 0, 1), "the oldest went, and its sequence was never given");
    assert_eq!(left[255], (1, 255, 99));
    assert_eq!(left[256], (2, 0, 0));
}

#[test]
fn a_packet_is_late_in_its_own_time_whenever_the_one_before_it_left() {
    for left in [150, 175, 200] {
        let (mut scheduler, begin) = (Scheduler::default(), clock::now());
        let ms = |ms| begin + Duration::from_millis(ms);
        scheduler.push(packet(Class::Audio, 1, Bytes::from_static(&[0; 8])), ms(0));
        scheduler.push(packet(Class::Audio, 1, Bytes::from_static(&[1; 8])), ms(150));
        assert!(matches!(scheduler.pop(99, 99, usize::MAX, ms(left)), Next::Datagram(_)));
        assert_eq!(scheduler.pop(0, 0, usize::MAX, ms(350)), Next::Wait);
        assert_eq!(scheduler.pop(99, 99, usize::MAX, ms(351)), Next::Nothing);
        assert_eq!(scheduler.take_dropped(), Dropped { late: 1, ..Dropped::default() });
    }
}

#[test]
fn sound_that_is_too_old_goes_oldest_first_and_of_each_lane_by_itself() {
    let (mut scheduler, begin) = (Scheduler::default(), clock::now());
    let ms = |ms| begin + Duration::from_millis(ms);
    for at in 0..10_u8 {
        let payload = || Bytes::from(vec![at; 8]);
        scheduler.push(packet(Class::Audio, 1, payload()), ms(20 * u64::from(at)));
        scheduler.push(packet(Class::Emergency, 2, payload()), ms(20 * u64::from(at)));
    }
    assert_eq!(scheduler.pop(0, 0, usize::MAX, ms(200)), Next::Wait);
    assert_eq!(scheduler.take_dropped(), Dropped::default(), "200 ms are not too old");
    // Emergency waits for room, and what is behind it goes when its turn comes.
    assert_eq!(scheduler.pop(0, 0, usize::MAX, ms(250)), Next::Wait);
    assert_eq!(scheduler.take_dropped(), Dropped { late: 3, ..Dropped::default() });
    let left: Vec<(u16, u8)> = std::iter::from_fn(|| match scheduler.pop(99, 99, usize::MAX, ms(250)) {
        Next::Datagram(datagram) => Some((u16::from_be_bytes([datagram[1], datagram[2]]), datagram[5])),
        _ => None,
    })
    .collect();
    let of = |alias| (3..10).map(move |at| (alias, at));
    assert_eq!(left, of(2).chain(of(1)).collect::<Vec<_>>());
    assert_eq!(scheduler.take_dropped(), Dropped { late: 3, ..Dropped::default() });
}

#[test]
fn link_sequences_count_per_alias_and_wrap() {
    let mut scheduler = Scheduler::default();
    for _ in 0..0x1_0001 {
        push(&mut scheduler, Class::Video, 1, 0);
        pop(&mut scheduler);
    }
    push(&mut scheduler, Class::Video, 1, 0);
    push(&mut scheduler, Class::Video, 9, 0);
    assert_eq!(drain(&mut scheduler), [(1, 1, 0), (9, 0, 0)]);
}

#[test]
fn without_room_nothing_passes_what_waits_but_what_is_more_urgent() {
    let mut scheduler = Scheduler::default();
    push(&mut scheduler, Class::Audio, 1, 0);
    push(&mut scheduler, Class::Video, 2, 0);
    assert_eq!(scheduler.pop(12, u64::MAX, usize::MAX, clock::now()), Next::Wait);
    assert!(matches!(scheduler.pop(13, 12, usize::MAX, clock::now()), Next::Datagram(_)));
    assert_eq!(scheduler.pop(13, 12, usize::MAX, clock::now()), Next::Wait);
    push(&mut scheduler, Class::Emergency, 3, 0);
    assert!(matches!(scheduler.pop(13, 12, usize::MAX, clock::now()), Next::Datagram(_)));
    assert_eq!(scheduler.pop(13, 12, usize::MAX, clock::now()), Next::Wait);
    assert!(matches!(scheduler.pop(13, 13, usize::MAX, clock::now()), Next::Datagram(_)));
}

#[test]
fn a_repair_is_the_original_datagram_and_goes_before_its_class() {
    let mut scheduler = Scheduler::default();
    for byte in 0..10 {
        push(&mut scheduler, Class::Video, 1, byte);
    }
    drain(&mut scheduler);
    push(&mut scheduler, Class::Video, 1, 10);
    push(&mut scheduler, Class::Audio, 2, 0);
    // 3 and 5 are there, 10 was not sent yet, and 3 is asked for twice.
    let nack = Nack { alias: Alias(1), first: 3, bits: 0b1000_0101 };
    assert_eq!(scheduler.handle_nack(nack), 2);
    assert_eq!(scheduler.handle_nack(Nack { bits: 1, ..nack }), 0);
    assert_eq!(scheduler.handle_nack(Nack { alias: Alias(7), ..nack }), 0);
    assert_eq!(drain(&mut scheduler), [(2, 0, 0), (1, 3, 3), (1, 5, 5), (1, 10, 10)]);
    // A track that sends no more keeps nothing.
    scheduler.handle_tick();
    assert_eq!(scheduler.handle_nack(nack), 3);
    scheduler.handle_tick();
    assert_eq!(drain(&mut scheduler), []);
    push(&mut scheduler, Class::Video, 1, 11);
    assert_eq!(drain(&mut scheduler), [(1, 11, 11)], "its numbers go on");
}

#[test]
fn a_packet_longer_than_a_datagram_leaves_in_fragments_that_are_repaired_one_by_one() {
    for (length, longest, count) in [(1500, 1208, 2), (1208, 1208, 2), (1203, 1208, 1), (1508, 208, 8)] {
        let mut scheduler = Scheduler::default();
        let payload: Bytes = (0..length).map(|n| (n * 7 % 251) as u8).collect();
        for alias in [1, 2] {
            scheduler.push(packet(Class::Video, alias, payload.clone()), clock::now());
        }
        push(&mut scheduler, Class::Audio, 3, 0);
        let sent: Vec<Bytes> =
            std::iter::from_fn(|| match scheduler.pop(u64::MAX, u64::MAX, longest, clock::now()) {
                Next::Datagram(datagram) => Some(datagram),
                _ => None,
            })
            .collect();
        assert_eq!(sent.len(), 1 + 2 * count);
        assert!(sent.iter().all(|datagram| datagram.len() <= longest));
        let mut fragments = crate::bridge::forwarding::fragments::Fragments::default();
        let whole: Vec<Bytes> = sent[1..]
            .iter()
            .filter_map(|datagram| {
                let (header, rest) = DatagramHeader::split(datagram.clone()).unwrap();
                match header.kind {
                    DatagramKind::Fragment => {
                        fragments.handle(&header, rest, clock::now()).expect("a fragment")
                    }
                    _ => Some(rest),
                }
            })
            .collect();
        assert_eq!(whole, [payload.clone(), payload.clone()]);
        let nack = Nack { alias: Alias(1), first: count as u16 - 1, bits: 1 };
        assert_eq!(scheduler.handle_nack(nack), 1);
        assert_eq!(
            scheduler.pop(u64::MAX, u64::MAX, longest, clock::now()),
            Next::Datagram(sent[count].clone())
        );
    }
}

#[test]
fn a_new_packet_never_comes_between_the_fragments_of_another() {
    let mut scheduler = Scheduler::default();
    let long = || packet(Class::Video, 1, Bytes::from(vec![1; 1400]));
    scheduler.push(long(), clock::now());
    assert!(matches!(scheduler.pop(u64::MAX, u64::MAX, 1000, clock::now()), Next::Datagram(_)));
    for _ in 0..2 * BOUNDS[2] {
        scheduler.push(long(), clock::now());
    }
    let Next::Datagram(second) = scheduler.pop(u64::MAX, u64::MAX, 1000, clock::now()) else {
        panic!("the other half")
    };
    let (header, rest) = DatagramHeader::split(second).unwrap();
    let (fragment, _) = Fragment::split(rest).unwrap();
    assert_eq!((header.sequence, fragment), (1, Fragment { number: 1, of: 2, packet: 0x0101 }));
}

#[test]
fn slabs_are_used_again() {
    let mut scheduler = Scheduler::default();
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..20_000 {
        push(&mut scheduler, Class::Video, 1, 0);
        let datagram = pop(&mut scheduler).unwrap();
        places.insert(datagram.as_ptr() as usize / SLAB);
    }
    assert!(places.len() <= 8, "{} places", places.len());
}

#[test]
fn repairs_are_a_fifth_of_what_is_sent() {
    let mut budget = Budget::default();
    while budget.spend() {}
    let mut repairs = 0;
    for _ in 0..10_000 {
        budget.earn();
        repairs += u32::from(budget.spend());
    }
    assert!((2400..=2500).contains(&repairs), "{repairs} of {}", 10_000 + repairs);
}
