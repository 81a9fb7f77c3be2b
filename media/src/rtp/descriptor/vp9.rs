//! What a VP9 payload says of itself: the payload descriptor (RFC 9628 section 4.2), with the scalability
//! structure that comes with keyframes (section 4.2.1). VP9 does not say which pictures nothing refers to.

use super::{
    Description, Resolution, Resolutions, SpatialLayer, TemporalLayer,
    numbered::{Index, Numbered, PictureId},
};

/// The payload descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// P: the layer frame refers to pictures before this one.
    pub inter_picture: bool,
    /// B: a layer frame begins with this packet.
    pub begins: bool,
    /// E: a layer frame ends with this packet.
    pub ends: bool,
    /// Z: no higher spatial layer of this picture refers to the layer frame.
    pub not_needed_above: bool,
    /// Picture id, TL0PICIDX and where they stand.
    pub numbered: Numbered,
    /// If there are any.
    pub layers: Option<Layers>,
    /// How many pictures back those are that this one refers to, 1 to 127 each; 0 behind the last. Only in
    /// flexible mode (F).
    pub references: [u8; REFERENCES_MAX],
    /// What the stream is made of; with keyframes.
    pub structure: Option<Structure>,
    /// Octets of the descriptor: where the frame begins or goes on.
    pub len: usize,
}

/// The layer indices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layers {
    /// TID, 3 bits.
    pub temporal: u8,
    /// U, the switching up point. The RFC has later pictures in mind: those of higher temporal layers refer to
    /// none of higher layers before this one. Senders set it where this picture refers to none of its own
    /// layer. Who goes up by one layer at a time, at a picture of the new layer, is right with the latter.
    pub switching_up: bool,
    /// SID, 3 bits.
    pub spatial: u8,
    /// D: the layer frame refers to the next lower spatial layer of the same picture.
    pub inter_layer: bool,
}

/// The scalability structure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Structure {
    /// Spatial layers, 1 to 8 (N_S + 1).
    pub spatial_layers: u8,
    /// Of each of them, if they are said (Y).
    pub resolutions: Resolutions,
    /// Pictures in the picture group (N_G), if there is one (G). What is said of each is passed over.
    pub pictures: Option<u8>,
}

/// In flexible mode a layer frame names at most so many (RFC 9628 section 4.2).
pub const REFERENCES_MAX: usize = 3;

// The first octet.
const HAS_PICTURE_ID: u8 = 0x80;
const INTER_PICTURE: u8 = 0x40;
const HAS_LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;
const HAS_STRUCTURE: u8 = 0x02;
const NOT_NEEDED_ABOVE: u8 = 0x01;

impl Descriptor {
    /// Reads the descriptor at the start of a payload; `None` if it is cut off or names too many pictures.
    pub fn read(payload: &[u8]) -> Option<Descriptor> {
        let (&first, mut rest) = payload.split_first()?;
        let has = |bit: u8| first & bit != 0;
        let mut descriptor = Descriptor {
            inter_picture: has(INTER_PICTURE),
            begins: has(BEGINS),
            ends: has(ENDS),
            not_needed_above: has(NOT_NEEDED_ABOVE),
            ..Descriptor::default()
        };
        // What is named by distance needs something to count from.
        if has(FLEXIBLE) && !has(HAS_PICTURE_ID) {
            return None;
        }
        if has(HAS_PICTURE_ID) {
            let id = PictureId::read(payload, 1)?;
            rest = rest.get(id.len()..)?;
            descriptor.numbered.picture_id = Some(id);
        }
        if has(HAS_LAYERS) {
            descriptor.layers = Some(layers(&mut rest)?);
            if !has(FLEXIBLE) {
                let at = (payload.len() - rest.len()) as u8;
                descriptor.numbered.tl0 = Some(Index { value: octet(&mut rest)?, at });
            }
        }
        if has(FLEXIBLE) && has(INTER_PICTURE) {
            descriptor.references = references(&mut rest)?;
        }
        if has(HAS_STRUCTURE) {
            descriptor.structure = Some(structure(&mut rest)?);
        }
        descriptor.len = payload.len() - rest.len();
        Some(descriptor)
    }

    /// In the shape of all codecs, but for what the RTP header says.
    pub(super) fn describe(&self) -> Description {
        let layers = self.layers.unwrap_or_default();
        Description {
            picture_begins: self.begins && layers.spatial == 0,
            layer_begins: self.begins,
            layer_ends: self.ends,
            spatial: SpatialLayer(layers.spatial),
            temporal: TemporalLayer(layers.temporal),
            switch_up: layers.switching_up,
            enters: self.begins && !self.inter_picture,
            inter_layer: layers.inter_layer,
            not_needed_above: self.not_needed_above,
            resolution: self.structure.and_then(|structure| structure.largest()),
            numbered: self.numbered,
            ..Description::default()
        }
    }
}

impl Structure {
    /// The largest of the spatial layers.
    pub fn largest(&self) -> Option<Resolution> {
        self.resolutions.iter().flatten().copied().max_by_key(|resolution| resolution.pixels())
    }
}

fn octet(rest: &mut &[u8]) -> Option<u8> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(*first)
}

fn layers(rest: &mut &[u8]) -> Option<Layers> {
    let octet = octet(rest)?;
    Some(Layers {
        temporal: octet >> 5,
        switching_up: octet & 0x10 != 0,
        spatial: octet >> 1 & 0x07,
        inter_layer: octet & 0x01 != 0,
    })
}

/// P_DIFF, 7 bits each, and N: another one follows.
fn references(rest: &mut &[u8]) -> Option<[u8; REFERENCES_MAX]> {
    let mut references = [0; REFERENCES_MAX];
    for reference in &mut references {
        let octet = octet(rest)?;
        *reference = octet >> 1;
        // A picture before this one: never this one itself.
        if *reference == 0 {
            return None;
        }
        if octet & 0x01 == 0 {
            return Some(references);
        }
    }
    None
}

fn structure(rest: &mut &[u8]) -> Option<Structure> {
    let head = octet(rest)?;
    let (has_resolutions, has_group) = (head & 0x10 != 0, head & 0x08 != 0);
    let mut structure = Structure { spatial_layers: (head >> 5) + 1, ..Structure::default() };
    if has_resolutions {
        for resolution in structure.resolutions.iter_mut().take(usize::from(structure.spatial_layers)) {
            let mut size = || Some(u16::from_be_bytes([octet(rest)?, octet(rest)?]));
            *resolution = Some(Resolution { width: size()?, height: size()? });
        }
    }
    if has_group {
        let pictures = octet(rest)?;
        structure.pictures = Some(pictures);
        for _ in 0..pictures {
            // R: how many octets of P_DIFF follow.
            let references = usize::from(octet(rest)? >> 2 & 0x03);
            *rest = rest.get(references..)?;
        }
    }
    Some(structure)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::Codec;

    use super::{
        super::{SPATIAL_MAX, describe, numbered::Given},
        *,
    };

    const LONG: PictureId = PictureId { value: 0x1122, bits: 15, at: 1 };

    #[test]
    fn every_combination_of_fields_is_read() {
        for first in 0..=255_u8 {
            let has = |bit: u8| first & bit != 0;
            let mut payload = vec![first];
            let mut expected = Descriptor {
                inter_picture: has(INTER_PICTURE),
                begins: has(BEGINS),
                ends: has(ENDS),
                not_needed_above: has(NOT_NEEDED_ABOVE),
                ..Descriptor::default()
            };
            if has(HAS_PICTURE_ID) {
                payload.extend([0x91, 0x22]);
                expected.numbered.picture_id = Some(LONG);
            }
            if has(HAS_LAYERS) {
                payload.push(0b0101_0011);
                let layers = Layers { temporal: 2, switching_up: true, spatial: 1, inter_layer: true };
                expected.layers = Some(layers);
                if !has(FLEXIBLE) {
                    expected.numbered.tl0 = Some(Index { value: 0x44, at: payload.len() as u8 });
                    payload.push(0x44);
                }
            }
            if has(FLEXIBLE) && has(INTER_PICTURE) {
                payload.extend([0x03, 0xfe]);
                expected.references = [1, 127, 0];
            }
            if has(HAS_STRUCTURE) {
                payload.extend([0x38, 1, 64, 0, 180, 2, 128, 1, 104, 3]);
                payload.extend([0x00, 0x48, 9, 9, 0x54, 9]);
                let mut resolutions = [None; SPATIAL_MAX];
                resolutions[0] = Some(Resolution { width: 320, height: 180 });
                resolutions[1] = Some(Resolution { width: 640, height: 360 });
                expected.structure = Some(Structure { spatial_layers: 2, resolutions, pictures: Some(3) });
            }
            expected.len = payload.len();
            if has(FLEXIBLE) && !has(HAS_PICTURE_ID) {
                assert_eq!(Descriptor::read(&payload), None);
                continue;
            }
            for len in 0..payload.len() {
                assert_eq!(Descriptor::read(&payload[..len]), None, "{first:#010b} cut off at {len}");
            }
            assert_eq!(Descriptor::read(&payload), Some(expected), "{first:#010b}");
        }
    }

    #[test]
    fn at_most_three_pictures_are_named() {
        let read = |octets: &[u8]| Descriptor::read(octets).map(|descriptor| descriptor.references);
        assert_eq!(read(&[0xd0, 5, 0x02]), Some([1, 0, 0]));
        assert_eq!(read(&[0xd0, 5, 0x03, 0x05, 0x06]), Some([1, 2, 3]));
        assert_eq!(read(&[0xd0, 5, 0x03, 0x05, 0x07, 0x08]), None, "four");
        assert_eq!(read(&[0xd0, 5, 0x00]), None, "itself");
    }

    #[test]
    fn spatial_layers_are_frames_of_one_picture() {
        let describe = |payload: &[u8], marker| describe(Codec::Vp9, payload, marker).expect("valid");
        let base = describe(&[0xad, 5, 0x00, 9], false);
        assert!(base.picture_begins && base.layer_begins && base.layer_ends && !base.picture_ends);
        assert!(base.keyframe && base.not_needed_above && !base.inter_layer && !base.discardable);
        let upper = describe(&[0xac, 5, 0b0011_0011, 9], true);
        assert!(!upper.picture_begins && upper.layer_begins && upper.layer_ends && upper.picture_ends);
        assert!(!upper.keyframe && upper.inter_layer && upper.switch_up && !upper.not_needed_above);
        assert_eq!((upper.spatial, upper.temporal), (SpatialLayer(1), TemporalLayer(1)));
        assert!(!describe(&[0xe8, 5, 0x00, 9], false).keyframe, "refers to pictures before it");
    }

    #[test]
    fn a_structure_says_how_large_the_layers_are() {
        let of = |octets: &[u8]| describe(Codec::Vp9, octets, false).expect("valid").resolution;
        assert_eq!(of(&[0x0a, 0x10, 2, 128, 1, 104]), Some(Resolution { width: 640, height: 360 }));
        assert_eq!(of(&[0x0a, 0x00]), None, "one layer, and nothing of its size");
        let mut eight = vec![0x0a, 0xf0];
        (0..8).for_each(|layer| eight.extend([0, 16 * layer + 16, 0, 9 * layer + 9]));
        assert_eq!(of(&eight), Some(Resolution { width: 128, height: 72 }));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            payload in proptest::collection::vec(any::<u8>(), 1..60),
            given in (any::<u16>(), any::<u8>()),
        ) {
            let Some(before) = Descriptor::read(&payload) else { return Ok(()) };
            prop_assert!(before.len <= payload.len());
            let given = Given { picture_id: given.0, tl0: given.1, key_index: 0 };
            let mut written = payload.clone();
            before.numbered.write(&mut written, given);
            let after = Descriptor::read(&written).expect("still valid");
            if let Some(id) = after.numbered.picture_id {
                prop_assert_eq!(id.value, given.picture_id & ((1 << id.bits) - 1));
            }
            prop_assert!(after.numbered.tl0.is_none_or(|tl0| tl0.value == given.tl0));
            let places: Vec<usize> = before.numbered.places().collect();
            for at in 0..payload.len() {
                prop_assert!(payload[at] == written[at] || places.contains(&at));
            }
            prop_assert_eq!(Descriptor { numbered: before.numbered, ..after }, before);
        }
    }
}
