//! What packets say of themselves: payloads of each video codec, and the header extensions that say more.

use media::rtp::descriptor::{
    Description, SpatialLayer, dependency, describe,
    layers_allocation::LayersAllocation,
    numbered::Given,
    numbers::{Gaps, Numbers},
};
use protocol::Codec;

use crate::sessions::{piece, pieces};

/// The codec of a piece: its low bits; the highest is the marker.
const CODECS: [Codec; 4] = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];

/// Payloads one behind the other, each behind its codec and marker and its length.
pub fn payloads() -> Vec<Vec<u8>> {
    let vp8: [&[u8]; 4] = [
        // A keyframe of 1280 by 720 with all extensions, its second packet, a picture between, one in 7 bits.
        &[0x90, 0xf0, 0xff, 0xfe, 0xff, 0x3f, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02, 7],
        &[0x80, 0xf0, 0xff, 0xfe, 0xff, 0x3f, 1, 2, 3],
        &[0xb0, 0xf0, 0xff, 0xff, 0xff, 0xbf, 0x31, 4, 5],
        &[0x90, 0xa0, 0x00, 0x20, 0x11, 6],
    ];
    let vp9: [&[u8]; 4] = [
        // A keyframe of two layers with their sizes and a picture group, the layer above, a picture after it, one
        // in flexible mode that refers to three.
        &[0xaf, 0x81, 0, 0x00, 1, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x14, 2, 0x44, 1, 0x82],
        &[0xec, 0x81, 0, 0x03, 1, 0x86],
        &[0xe9, 0x81, 1, 0x30, 1, 0x86],
        &[0xfc, 0x81, 2, 0x52, 0x03, 0x05, 0x08, 0x86],
    ];
    let h264: [&[u8]; 5] = [
        // Parameter sets of 640 by 360 with an IDR, its fragments, and a slice to which nothing refers.
        &[
            0x78, 0, 10, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x40, 0, 4, 0x68, 0xce, 0x3c,
            0x80, 0, 2, 0x65, 0x88,
        ],
        &[0x7c, 0x85, 0x88, 0x84],
        &[0x7c, 0x45, 1],
        &[0x01, 0x9a, 1],
        &[
            0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00,
            0x10,
        ],
    ];
    // The second one begins with a sequence header of 1280 by 720.
    let av1: [&[u8]; 3] = [
        &[0x18, 0x0a, 0x0b],
        &[0x28, 10, 0x08, 0x00, 0x07, 0x01, 0x42, 0xe9, 0x3f, 0xd6, 0x78, 0x00, 0x32],
        &[0x90, 1],
    ];
    let all: [&[&[u8]]; 4] = [&vp8, &vp9, &h264, &av1];
    let of = |codec: usize| {
        let marked = all[codec].iter().enumerate();
        marked
            .flat_map(move |(at, payload)| piece(codec as u8 | (at as u8 & 1) << 7, payload))
            .collect::<Vec<u8>>()
    };
    (0..all.len()).map(of).collect()
}

/// Whatever a payload says, its numbers are written and read again, and a receiver gets each number once.
pub fn descriptor(bytes: &[u8]) {
    let mut numbers = [Gaps::Close, Gaps::Keep].map(Numbers::new);
    numbers.iter_mut().for_each(|numbers| numbers.switch(0));
    for (head, payload) in pieces(bytes).take(64) {
        let codec = CODECS[usize::from(head) % CODECS.len()];
        let marker = head & 0x80 != 0;
        let Some(said) = describe(codec, payload, marker) else { continue };
        assert!(said.picture_ends == marker && (said.layer_ends || !marker));
        if head & 0x40 != 0 {
            numbers.iter_mut().for_each(|numbers| numbers.withhold(0, &said));
        }
        for numbers in &mut numbers {
            let Some(given) = numbers.forward(0, &said) else { continue };
            assert_eq!(numbers.forward(0, &said), Some(given), "again the same");
            let mut written = payload.to_vec();
            said.numbered.write(&mut written, given);
            let again = describe(codec, &written, marker).expect("still valid");
            assert!(
                again
                    .numbered
                    .picture_id
                    .is_none_or(|id| id.value == given.picture_id & ((1 << id.bits) - 1))
            );
            assert!(again.numbered.tl0.is_none_or(|tl0| tl0.value == given.tl0));
            assert!(again.numbered.key_index.is_none_or(|index| index.value == given.key_index));
            said.numbered.places().for_each(|at| written[at] = payload[at]);
            assert_eq!(written, payload, "nothing else changes");
        }
    }
}

/// Descriptors one behind the other, each behind an octet and its length.
pub fn dependencies() -> Vec<Vec<u8>> {
    // A structure of two frame rates with sizes, then frames of it: of the base, between, and one that differs.
    let rates = [0xbc, 0x00, 0x0a, 0x87, 0x81, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x09, 0xfc, 0x05, 0x9c];
    let own = [0xfd, 0x00, 0x0c, 0x7b, 0xa9, 0x5f, 0xff, 0xff, 0x9d, 0xc0];
    let said: [&[u8]; 4] = [&rates, &[0xfe, 0x00, 0x0b], &[0xfd, 0x00, 0x0c], &own];
    vec![said.iter().flat_map(|value| piece(0, value)).collect()]
}

/// One source says all of it.
pub fn dependency(bytes: &[u8]) {
    let mut reader = dependency::Reader::default();
    for (head, value) in pieces(bytes).take(256) {
        let Some(said) = reader.read(value) else { continue };
        assert!(said.references.len() <= 16 && said.chains.len() <= 32);
        let description = said.describe(head & 0x80 != 0);
        assert!(description.spatial <= SpatialLayer(3) && description.temporal.0 <= 7);
        assert!(!said.brings_structure || reader.structure().is_some());
        let summary = said.summary(false).describe(Description::default());
        assert_eq!((summary.spatial, summary.temporal), (description.spatial, description.temporal));
        let mut written = value.to_vec();
        said.numbered().write(&mut written, Given { picture_id: said.frame_number, ..Given::default() });
        assert_eq!(written, value, "the same number changes nothing");
    }
}

pub fn allocations() -> Vec<Vec<u8>> {
    let simulcast = vec![
        0x61, 0x58, 90, 120, 0xac, 2, 0xf4, 3, 0xe8, 7, 0xd0, 0x0f, 0xc4, 0x13, 1, 63, 0, 179, 15, 2, 127, 1,
        103, 30, 4, 255, 2, 207, 60,
    ];
    vec![vec![0], simulcast, vec![0x10, 0x50, 0x10, 5, 6, 7], vec![0x20, 0x01, 0x20, 0, 5, 6]]
}

pub fn allocation(bytes: &[u8]) {
    if let Some(read) = LayersAllocation::read(bytes) {
        assert!(read.streams <= 4 && read.layers.len() <= 16);
        assert!(read.layers.iter().all(|layer| (1..=4).contains(&layer.kilobits.len())));
    }
}
