//! What the descriptors of a source say, one after the other.

#![allow(clippy::unusual_byte_groupings, reason = "bits are grouped as fields are")]

use proptest::prelude::*;

use super::{
    Resolution, SpatialLayer, TemporalLayer,
    bits::Writer,
    dependency::{Dependency, Reader},
    numbered::Given,
    structure::Indication,
};

/// The mandatory fields.
fn mandatory(begins_ends: u32, template: u8, frame: u16) -> Writer {
    Writer::default().bits(2, begins_ends).bits(6, template.into()).bits(16, frame.into())
}

/// One spatial layer in two frame rates: a keyframe, frames of the base, frames between them.
const RATES: [u8; 3] = [60, 61, 62];

fn rates(begins_ends: u32, frame: u16) -> Vec<u8> {
    let writer = mandatory(begins_ends, RATES[0], frame).bits(5, 0b10000);
    // Names from 60 on, two targets; layers; then for each template what it is to the targets.
    let writer = writer.bits(6, 60).bits(5, 1).bits(6, 0b00_01_11).bits(12, 0b1010_1010_0001);
    // References: none, two back, one back. One chain, which protects both targets.
    let writer =
        writer.bits(1, 0).bits(6, 0b1_0001_0).bits(6, 0b1_0000_0).below(3, 1).below(1, 0).below(1, 0);
    // Of the chain: anew, two back, one back. 640 by 360.
    writer.bits(12, 0x021).bits(1, 1).bits(16, 639).bits(16, 359).octets()
}

/// Two sizes in one frame rate, with other names.
fn sizes(frame: u16) -> Vec<u8> {
    let writer = mandatory(0b11, 5, frame).bits(5, 0b10000);
    // Layers 0, 0, 1, 1; the lower target does without the upper frames.
    let writer = writer.bits(6, 5).bits(5, 1).bits(8, 0b00_10_00_11).bits(16, 0b1010_1011_0010_0011);
    // References: none; two back; one back; one and two back. No chains, no sizes.
    writer
        .bits(1, 0)
        .bits(6, 0b1_0001_0)
        .bits(6, 0b1_0000_0)
        .bits(11, 0b1_0000_1_0001_0)
        .below(3, 0)
        .bits(1, 0)
        .octets()
}

fn read(reader: &mut Reader, begins_ends: u32, template: u8, frame: u16) -> Option<Dependency> {
    reader.read(&mandatory(begins_ends, template, frame).octets())
}

#[test]
fn a_keyframe_brings_the_structure_that_later_frames_name() {
    let mut reader = Reader::default();
    assert_eq!(read(&mut reader, 0b11, RATES[1], 9), None, "nothing came yet");
    let first = reader.read(&rates(0b10, 10)).expect("valid");
    assert!(first.keyframe() && first.frame_begins && !first.frame_ends && first.brings_structure);
    assert_eq!((first.frame_number, first.active_targets, &first.chains[..]), (10, 0b11, &[0][..]));
    assert_eq!(first.describe(false).resolution, Some(Resolution { width: 640, height: 360 }));
    let rest = read(&mut reader, 0b01, RATES[0], 10).expect("valid");
    assert!(!rest.keyframe() && !rest.frame_begins && rest.frame_ends && !rest.brings_structure);
    assert_eq!(rest.describe(true).resolution, None);

    let between = read(&mut reader, 0b11, RATES[2], 11).expect("valid");
    assert_eq!(
        (between.temporal, &between.references[..], &between.chains[..]),
        (TemporalLayer(1), &[1][..], &[1][..])
    );
    let of = |target| between.indications.of(target);
    assert_eq!((of(0), of(1)), (Indication::NotPresent, Indication::Discardable));
    let said = between.describe(true);
    assert!(said.discardable && said.picture_begins && said.picture_ends && said.switch_up);
    let base = read(&mut reader, 0b11, RATES[1], 12).expect("valid");
    assert_eq!(&base.references[..], [2]);
    assert!(!base.describe(true).discardable && base.describe(true).switch_up);
    let targets = reader.structure().expect("came").targets();
    assert_eq!(
        targets.iter().map(|target| (target.temporal.0, target.chain)).collect::<Vec<_>>(),
        [(0, Some(0)), (1, Some(0))]
    );
    assert_eq!(read(&mut reader, 0b11, 63, 13), None, "no such template");
}

#[test]
fn a_layer_is_entered_where_a_frame_of_the_base_said_so() {
    let mut reader = Reader::default();
    let mut up = |template: usize, frame| {
        let said = read(&mut reader, 0b11, RATES[template], frame);
        said.is_some_and(|said| said.describe(true).switch_up)
    };
    assert!(!up(2, 9), "nothing came yet");
    reader.read(&rates(0b11, 10)).expect("valid");
    let mut up = |template: usize, frame| {
        let said = read(&mut reader, 0b11, RATES[template], frame).expect("valid");
        said.describe(true).switch_up
    };
    assert!(up(2, 11) && up(2, 11), "in all its packets");
    assert!(!up(2, 12), "it may refer to the one before");
    assert!(up(1, 13) && up(2, 14));
    assert!(!up(2, 12), "late");
}

#[test]
fn spatial_layers_are_frames_of_their_own() {
    let mut reader = Reader::default();
    let base = reader.read(&sizes(1)).expect("valid").describe(false);
    assert!(base.keyframe && base.picture_begins && base.layer_ends && !base.picture_ends);
    assert!(!base.not_needed_above && !base.inter_layer);
    let upper = read(&mut reader, 0b11, 7, 2).expect("valid").describe(true);
    assert!(!upper.keyframe && !upper.picture_begins && upper.layer_begins && upper.picture_ends);
    assert!(upper.inter_layer && upper.not_needed_above && upper.switch_up);
    assert_eq!(upper.spatial, SpatialLayer(1));
    let later = read(&mut reader, 0b11, 8, 4).expect("valid");
    assert_eq!(&later.references[..], [1, 2]);
    assert!(!later.describe(true).switch_up);
}

#[test]
fn a_frame_may_differ_from_its_template() {
    let mut reader = Reader::default();
    reader.read(&rates(0b11, 10)).expect("valid");
    // Indications, references of one, two and three times four bits, the chain, and one active target.
    let writer = mandatory(0b11, RATES[1], 12).bits(5, 0b01111).bits(2, 0b01).bits(4, 0b1101);
    let writer = writer.bits(2, 1).bits(4, 2).bits(2, 2).bits(8, 0xff).bits(2, 3).bits(12, 0xfff).bits(2, 0);
    let own = reader.read(&writer.bits(8, 0xee).octets()).expect("valid");
    assert_eq!(
        (own.indications.of(0), own.indications.of(1)),
        (Indication::Required, Indication::Discardable)
    );
    assert_eq!((&own.references[..], &own.chains[..]), (&[3, 256, 4096][..], &[0xee][..]));
    assert_eq!(own.active_targets, 1);
    let next = read(&mut reader, 0b11, RATES[1], 14).expect("valid");
    assert_eq!((&next.references[..], next.active_targets), (&[2][..], 1), "which are active lasts");
    let late = mandatory(0b11, RATES[2], 11).bits(5, 0b01000).bits(2, 0b11).octets();
    assert_eq!(reader.read(&late).expect("valid").active_targets, 3);
    assert_eq!(read(&mut reader, 0b11, RATES[1], 16).expect("valid").active_targets, 1, "that was late");
    let again = reader.read(&rates(0b11, 18)).expect("valid");
    assert_eq!(again.active_targets, 3, "a structure makes all active");
}

#[test]
fn late_frames_of_the_sequence_before_are_still_read() {
    let mut reader = Reader::default();
    reader.read(&rates(0b11, 65_530)).expect("valid");
    reader.read(&sizes(2)).expect("valid");
    assert!(read(&mut reader, 0b11, RATES[2], 65_535).is_some());
    reader.read(&rates(0b11, 65_530)).expect("a repair");
    assert_eq!(reader.structure().expect("came").targets()[1].spatial, SpatialLayer(1), "that was late");
    assert!(read(&mut reader, 0b11, 6, 4).is_some());
    reader.read(&rates(0b11, 40_000)).expect("valid");
    assert_eq!(reader.structure().expect("came").targets()[1].spatial, SpatialLayer(0), "counts anew");
}

#[test]
fn a_sequence_may_last_longer_than_its_numbers() {
    let mut reader = Reader::default();
    reader.read(&rates(0b11, 100)).expect("valid");
    for frame in 1..70_u32 {
        let frame = (100 + 940 * frame) as u16;
        assert!(read(&mut reader, 0b11, RATES[1], frame).is_some());
    }
    // 64,861 frames later: a little less than all numbers there are.
    reader.read(&sizes((100 + 940 * 69_u32 + 1) as u16)).expect("valid");
    assert_eq!(reader.structure().expect("came").targets()[1].spatial, SpatialLayer(1));
}

#[test]
fn what_is_cut_off_or_too_much_is_not_read() {
    let whole = rates(0b11, 10);
    for len in 0..whole.len() {
        assert_eq!(Reader::default().read(&whole[..len]), None, "cut off at {len}");
    }
    let mut reader = Reader::default();
    reader.read(&whole).expect("valid");
    let many = |count: usize| {
        let writer = mandatory(0b11, RATES[1], 12).bits(5, 0b00010);
        (0..count).fold(writer, |writer, _| writer.bits(2, 1).bits(4, 2)).bits(2, 0).octets()
    };
    assert!(reader.read(&many(16)).is_some());
    assert_eq!(reader.read(&many(17)), None);
}

#[test]
fn the_frame_number_is_written_anew() {
    let mut reader = Reader::default();
    let mut octets = rates(0b11, 10);
    let before = octets.clone();
    let numbered = reader.read(&octets).expect("valid").numbered();
    numbered.write(&mut octets, Given { picture_id: 0xfedc, tl0: 1, key_index: 1 });
    assert_eq!(reader.read(&octets).expect("valid").frame_number, 0xfedc);
    assert_eq!((octets[0], &octets[3..]), (before[0], &before[3..]));
}

proptest! {
    #[test]
    fn junk_never_panics(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20),
        names in proptest::collection::vec((0..64_u8, any::<u16>()), 20),
    ) {
        let mut reader = Reader::default();
        for (at, mut value) in values.into_iter().enumerate() {
            let (name, frame) = names[at];
            if at % 3 == 0 && value.len() > 3 {
                value.splice(0..4, mandatory(0b11, name, frame).bits(8, 0x80).octets());
            }
            if let Some(said) = reader.read(&value) {
                let _ = said.describe(true);
                prop_assert_eq!(said.numbered().places().collect::<Vec<_>>(), [1, 2]);
                prop_assert!(said.references.len() <= 16 && said.chains.len() <= 32);
            }
            let _ = read(&mut reader, 0b11, name, frame);
        }
    }
}
