//! What numbers a receiver gets, whatever is withheld, late, repeated or switched.

use proptest::prelude::*;

use super::{
    Description, TemporalLayer,
    numbered::{Given, Index, Numbered, PictureId},
    numbers::{Gaps, Numbers},
};

/// A packet of a VP8 picture.
fn packet(id: u32, bits: u8) -> Description {
    let value = (id & ((1 << bits) - 1)) as u16;
    let picture_id = Some(PictureId { value, bits, at: 2 });
    Description { numbered: Numbered { picture_id, ..Numbered::default() }, ..Description::default() }
}

/// With the other numbers.
fn counted(id: u32, tl0: u8, key_index: u8) -> Description {
    let mut packet = packet(id, 15);
    packet.numbered.tl0 = Some(Index { value: tl0, at: 4 });
    packet.numbered.key_index = Some(Index { value: key_index, at: 5 });
    packet
}

fn close() -> Numbers {
    let mut numbers = Numbers::new(Gaps::Close);
    numbers.switch(1);
    numbers
}

fn id(given: Option<Given>) -> Option<u16> {
    given.map(|given| given.picture_id)
}

#[test]
fn what_was_withheld_leaves_no_gap() {
    let mut numbers = close();
    for (picture, expected) in [(7, Some(7)), (8, None), (9, Some(8)), (10, None), (11, Some(9))] {
        if expected.is_none() {
            numbers.withhold(1, &packet(picture, 15));
            numbers.withhold(1, &packet(picture, 15));
        } else {
            assert_eq!(id(numbers.forward(1, &packet(picture, 15))), expected);
        }
        assert_eq!(id(numbers.forward(1, &packet(picture, 15))), expected, "again, and for all its packets");
    }
    assert_eq!(id(numbers.forward(1, &packet(9, 15))), Some(8), "a repair");
}

#[test]
fn distances_between_pictures_stay_where_others_are_named_by_them() {
    let mut numbers = Numbers::new(Gaps::Keep);
    numbers.switch(1);
    assert_eq!(id(numbers.forward(1, &packet(7, 15))), Some(7));
    numbers.withhold(1, &packet(8, 15));
    assert_eq!(id(numbers.forward(1, &packet(9, 15))), Some(9));
    numbers.switch(2);
    assert_eq!(id(numbers.forward(2, &packet(500, 15))), Some(10));
    assert_eq!(id(numbers.forward(2, &packet(503, 15))), Some(13));
}

#[test]
fn another_source_goes_on_where_the_one_before_ended() {
    let mut numbers = close();
    let first = Given { picture_id: 7, tl0: 255, key_index: 31 };
    assert_eq!(numbers.forward(1, &counted(7, 255, 31)), Some(first));
    numbers.switch(2);
    let second = Given { picture_id: 8, tl0: 0, key_index: 0 };
    assert_eq!(numbers.forward(2, &counted(900, 33, 3)), Some(second));
    let third = Given { picture_id: 9, tl0: 1, key_index: 0 };
    assert_eq!(numbers.forward(2, &counted(901, 34, 3)), Some(third));
    assert_eq!(numbers.forward(1, &counted(7, 255, 31)), Some(first), "a repair of the one before");
    assert_eq!(numbers.forward(1, &counted(8, 0, 31)), None, "it is not forwarded any more");
    assert_eq!(numbers.forward(2, &counted(899, 33, 3)), None, "from before it was forwarded");
    assert_eq!(numbers.forward(3, &counted(1, 1, 1)), None, "nobody said so");
    numbers.switch(1);
    let back = Given { picture_id: 10, tl0: 2, key_index: 1 };
    assert_eq!(numbers.forward(1, &counted(60, 9, 31)), Some(back));
}

#[test]
fn a_late_picture_keeps_its_number_also_for_the_next_source() {
    let mut numbers = close();
    assert_eq!(id(numbers.forward(1, &packet(10, 15))), Some(10));
    numbers.withhold(1, &packet(12, 15));
    assert_eq!(id(numbers.forward(1, &packet(11, 15))), Some(11));
    numbers.switch(2);
    assert_eq!(id(numbers.forward(2, &packet(0, 15))), Some(12));
    assert_eq!(id(numbers.forward(1, &packet(11, 15))), Some(11));
}

#[test]
fn numbers_wrap_around_in_their_own_width() {
    for bits in [7, 15, 16] {
        let end = 1 << bits;
        let mut numbers = close();
        let mut expected = (end - 40) as u16;
        for picture in end - 40..end + 40 {
            if (picture - (end - 40)) % 3 == 1 {
                numbers.withhold(1, &packet(picture, bits));
            } else {
                let given = numbers.forward(1, &packet(picture, bits)).expect("the newest");
                let low = |id: u16| u32::from(id) & ((1 << bits) - 1);
                assert_eq!(low(given.picture_id), low(expected));
                expected = expected.wrapping_add(1);
            }
        }
    }
}

#[test]
fn a_source_that_counts_anew_goes_on() {
    let mut numbers = close();
    assert_eq!(id(numbers.forward(1, &packet(5000, 15))), Some(5000));
    assert_eq!(id(numbers.forward(1, &packet(9000, 15))), Some(5001), "far ahead");
    assert_eq!(id(numbers.forward(1, &packet(20, 15))), None, "old");
    let keyframe = Description { keyframe: true, ..packet(20, 15) };
    assert_eq!(id(numbers.forward(1, &keyframe)), Some(5002), "new");
    assert_eq!(id(numbers.forward(1, &packet(21, 15))), Some(5003));
    assert_eq!(id(numbers.forward(1, &packet(21, 7))), Some(5004), "counts in another width");
}

#[test]
fn pictures_of_layer_0_to_which_nothing_refers_leave_no_gap_either() {
    let mut numbers = close();
    let tl0 = |given: Option<Given>| given.map(|given| given.tl0);
    assert_eq!(tl0(numbers.forward(1, &counted(1, 10, 0))), Some(10));
    numbers.withhold(1, &Description { discardable: true, ..counted(2, 11, 0) });
    assert_eq!(tl0(numbers.forward(1, &counted(3, 12, 0))), Some(11));
    assert_eq!(tl0(numbers.forward(1, &counted(1, 10, 0))), Some(10), "a repair");
    numbers.withhold(1, &counted(4, 13, 0));
    assert_eq!(tl0(numbers.forward(1, &counted(5, 14, 0))), Some(13), "a gap where something lacks");
    numbers.withhold(1, &Description { temporal: TemporalLayer(1), ..counted(6, 14, 0) });
    assert_eq!(tl0(numbers.forward(1, &counted(7, 15, 0))), Some(14));
}

#[test]
fn without_picture_ids_the_other_numbers_go_on() {
    let mut numbers = close();
    let only = |tl0| Description {
        numbered: Numbered { picture_id: None, ..counted(0, tl0, 0).numbered },
        ..Description::default()
    };
    assert_eq!(numbers.forward(1, &only(5)).map(|given| given.tl0), Some(5));
    numbers.switch(2);
    assert_eq!(numbers.forward(2, &only(90)).map(|given| given.tl0), Some(6));
    assert_eq!(numbers.forward(1, &only(5)).map(|given| given.tl0), Some(5));
}

/// What happens to a picture on its way.
#[derive(Debug, Clone)]
struct Picture {
    withheld: bool,
    /// It comes so many packets later, and once more so many after that.
    late: usize,
    again: usize,
}

fn pictures() -> impl Strategy<Value = Vec<Picture>> {
    let picture = (any::<bool>(), prop_oneof![6 => Just(0), 1 => 1..60_usize], 0..60_usize);
    proptest::collection::vec(picture, 1..200).prop_map(|pictures| {
        pictures.into_iter().map(|(withheld, late, again)| Picture { withheld, late, again }).collect()
    })
}

/// The order in which pictures arrive, with those that come twice.
fn arrivals(pictures: &[Picture]) -> Vec<usize> {
    let mut arrivals: Vec<(usize, usize)> = Vec::new();
    for (at, picture) in pictures.iter().enumerate() {
        arrivals.push((at + picture.late, at));
        arrivals.push((at + picture.late + picture.again, at));
    }
    arrivals.sort();
    arrivals.into_iter().map(|(_, picture)| picture).collect()
}

proptest! {
    #[test]
    fn numbers_are_continuous_whatever_is_withheld_late_repeated_or_switched(
        sources in proptest::collection::vec((any::<u16>(), pictures()), 1..5),
        bits in prop_oneof![Just(15_u8), Just(16)],
    ) {
        let mut numbers = Numbers::new(Gaps::Close);
        let mut last: Option<u16> = None;
        let (mut gaps, mut overtaken) = (0, 0);
        for (source, (first, mut pictures)) in sources.into_iter().enumerate() {
            let source = source as u64;
            numbers.switch(source);
            // A source begins with its keyframe.
            pictures[0] = Picture { withheld: false, late: 0, again: 0 };
            let name = |picture: usize| packet(u32::from(first) + picture as u32, bits);
            let mut given: Vec<Option<u16>> = vec![None; pictures.len()];
            for picture in arrivals(&pictures) {
                if pictures[picture].withheld {
                    numbers.withhold(source, &name(picture));
                    continue;
                }
                let now = id(numbers.forward(source, &name(picture)));
                prop_assert!(now.is_some());
                prop_assert!(given[picture].is_none() || given[picture] == now, "again the same");
                given[picture] = now;
            }
            for now in given.iter().flatten() {
                if let Some(last) = last {
                    let step = now.wrapping_sub(last) as i16;
                    prop_assert!(step >= 1, "in order, and none twice: {last} {now}");
                    gaps += usize::from(step as u16) - 1;
                }
                last = Some(*now);
            }
            overtaken += pictures.iter().filter(|picture| picture.withheld && picture.late > 0).count();
            prop_assert!(gaps <= overtaken, "a gap only where one came too late to be closed");
        }
    }

    #[test]
    fn any_packets_of_any_source_do_no_harm(
        steps in proptest::collection::vec((0..3_u8, 0..3_u64, any::<u16>(), 0..3_usize, any::<bool>()), 0..300),
        gaps in prop_oneof![Just(Gaps::Close), Just(Gaps::Keep)],
    ) {
        let mut numbers = Numbers::new(gaps);
        for (what, source, picture, bits, keyframe) in steps {
            let packet = Description { keyframe, ..packet(u32::from(picture), [7, 15, 16][bits]) };
            match what {
                0 => numbers.switch(source),
                1 => numbers.withhold(source, &packet),
                _ => {
                    let given = numbers.forward(source, &packet);
                    let again = numbers.forward(source, &packet);
                    prop_assert_eq!(given, again);
                }
            }
        }
    }
}
