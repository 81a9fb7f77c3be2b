//! What a VP8 payload says of itself: the payload descriptor (RFC 7741 section 4.2), and how large a keyframe is
//! (RFC 6386 section 9.1).

use super::{
    Description, Resolution, TemporalLayer,
    numbered::{Index, Numbered, PictureId},
};

/// The payload descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// N: nothing refers to the picture.
    pub non_reference: bool,
    /// S: a partition begins with this packet.
    pub partition_begins: bool,
    /// PID, 3 bits. A picture begins where partition 0 does.
    pub partition: u8,
    /// Picture id, TL0PICIDX, KEYIDX and where they stand.
    pub numbered: Numbered,
    /// TID, 2 bits, if there are temporal layers.
    pub temporal: Option<u8>,
    /// Y, the layer sync bit: the picture refers to pictures of temporal layer 0 alone.
    pub layer_sync: bool,
    /// Octets of the descriptor: where the VP8 payload header begins.
    pub len: usize,
}

// The first octet, the octet of extensions behind it, and what is in those.
const EXTENDED: u8 = 0x80;
const NON_REFERENCE: u8 = 0x20;
const PARTITION_BEGINS: u8 = 0x10;
const PARTITION: u8 = 0x07;
const HAS_PICTURE_ID: u8 = 0x80;
const HAS_TL0: u8 = 0x40;
const HAS_TEMPORAL: u8 = 0x20;
const HAS_KEY_INDEX: u8 = 0x10;
const LAYER_SYNC: u8 = 0x20;
const KEY_INDEX: u8 = 0x1f;

impl Descriptor {
    /// Reads the descriptor at the start of a payload; `None` if it is cut off.
    pub fn read(payload: &[u8]) -> Option<Descriptor> {
        let first = *payload.first()?;
        let mut descriptor = Descriptor {
            non_reference: first & NON_REFERENCE != 0,
            partition_begins: first & PARTITION_BEGINS != 0,
            partition: first & PARTITION,
            len: 1,
            ..Descriptor::default()
        };
        if first & EXTENDED != 0 {
            let extensions = *payload.get(1)?;
            descriptor.len = 2;
            descriptor.read_extensions(extensions, payload)?;
        }
        Some(descriptor)
    }

    fn read_extensions(&mut self, extensions: u8, payload: &[u8]) -> Option<()> {
        if extensions & HAS_PICTURE_ID != 0 {
            let id = PictureId::read(payload, self.len)?;
            self.len += id.len();
            self.numbered.picture_id = Some(id);
        }
        if extensions & HAS_TL0 != 0 {
            let (at, value) = self.octet(payload)?;
            self.numbered.tl0 = Some(Index { value, at });
        }
        if extensions & (HAS_TEMPORAL | HAS_KEY_INDEX) != 0 {
            let (at, octet) = self.octet(payload)?;
            // Each of the two counts only if its own bit says so.
            if extensions & HAS_TEMPORAL != 0 {
                self.temporal = Some(octet >> 6);
                self.layer_sync = octet & LAYER_SYNC != 0;
            }
            if extensions & HAS_KEY_INDEX != 0 {
                self.numbered.key_index = Some(Index { value: octet & KEY_INDEX, at });
            }
        }
        Some(())
    }

    /// The next octet, and where it stands.
    fn octet(&mut self, payload: &[u8]) -> Option<(u8, u8)> {
        let at = self.len;
        self.len += 1;
        Some((at as u8, *payload.get(at)?))
    }

    /// In the shape of all codecs, but for what the RTP header says.
    pub(super) fn describe(&self, payload: &[u8]) -> Description {
        let begins = self.partition_begins && self.partition == 0;
        let behind = payload.get(self.len..).unwrap_or_default();
        Description {
            picture_begins: begins,
            layer_begins: begins,
            temporal: TemporalLayer(self.temporal.unwrap_or(0)),
            switch_up: self.layer_sync,
            discardable: self.non_reference,
            not_needed_above: true,
            resolution: if begins { resolution(behind) } else { None },
            numbered: self.numbered,
            ..Description::default()
        }
    }
}

/// The size in the header of a keyframe, which begins with three octets of frame tag and a start code.
fn resolution(frame: &[u8]) -> Option<Resolution> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, width_low, width_high, height_low, height_high, ..] = frame else {
        return None;
    };
    if tag & 0x01 != 0 {
        return None; // not a keyframe
    }
    // The two highest bits say how to scale it up for show.
    let size = |low: u8, high: u8| u16::from_le_bytes([low, high & 0x3f]);
    let (width, height) = (size(*width_low, *width_high), size(*height_low, *height_high));
    Some(Resolution { width, height }).filter(|size| size.pixels() > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::Codec;

    use super::{
        super::{describe, numbered::Given},
        *,
    };

    #[test]
    fn every_combination_of_extensions_is_read() {
        let short = PictureId { value: 0x11, bits: 7, at: 2 };
        let long = PictureId { value: 0x1122, bits: 15, at: 2 };
        for extensions in 0..16_u8 {
            for id in [short, long] {
                let mut payload = vec![0x80, extensions << 4];
                let has = |bit: u8| extensions << 4 & bit != 0;
                let mut expected = Descriptor::default();
                if has(HAS_PICTURE_ID) {
                    payload.extend(if id.bits == 7 { &[0x11][..] } else { &[0x91, 0x22] });
                    expected.numbered.picture_id = Some(id);
                }
                if has(HAS_TL0) {
                    expected.numbered.tl0 = Some(Index { value: 0x33, at: payload.len() as u8 });
                    payload.push(0x33);
                }
                if has(HAS_TEMPORAL) || has(HAS_KEY_INDEX) {
                    if has(HAS_TEMPORAL) {
                        (expected.temporal, expected.layer_sync) = (Some(2), true);
                    }
                    if has(HAS_KEY_INDEX) {
                        expected.numbered.key_index = Some(Index { value: 0x15, at: payload.len() as u8 });
                    }
                    payload.push(0b1011_0101);
                }
                expected.len = payload.len();
                for len in 1..payload.len() {
                    assert_eq!(Descriptor::read(&payload[..len]), None, "{extensions:#b} cut off at {len}");
                }
                assert_eq!(Descriptor::read(&payload), Some(expected), "{extensions:#b}");
            }
        }
    }

    #[test]
    fn the_first_octet_says_where_a_picture_begins_and_whether_anything_refers_to_it() {
        let describe = |payload: &[u8], marker| describe(Codec::Vp8, payload, marker).expect("valid");
        let first = describe(&[0x10, 0x01], false);
        assert!(first.picture_begins && first.layer_begins && !first.keyframe && !first.discardable);
        assert!(describe(&[0x30, 0x01], false).discardable);
        assert!(!describe(&[0x11, 0x01], false).picture_begins, "the second partition");
        let last = describe(&[0x00, 0x01], true);
        assert!(!last.picture_begins && last.picture_ends && last.layer_ends);
    }

    #[test]
    fn layers_and_where_to_switch_up() {
        // I, L, T: 15 bits of picture id, TL0PICIDX, then TID 2 with and without Y.
        let describe =
            |octet| describe(Codec::Vp8, &[0x90, 0xe0, 0x80, 7, 9, octet, 1], false).expect("valid");
        assert_eq!((describe(0xa0).temporal, describe(0xa0).switch_up), (TemporalLayer(2), true));
        assert_eq!((describe(0x80).temporal, describe(0x80).switch_up), (TemporalLayer(2), false));
    }

    #[test]
    fn a_keyframe_says_how_large_it_is() {
        // 1280 by 720, with a scale that does not count.
        let keyframe = [0x10, 0x50, 0x12, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x45, 0xd0, 0x82];
        let said = describe(Codec::Vp8, &keyframe, false).expect("valid");
        assert!(said.keyframe);
        assert_eq!(said.resolution, Some(Resolution { width: 1280, height: 720 }));
        for (at, octet) in [(0, 0x00), (1, 0x51), (4, 0x9c), (7, 0)] {
            let mut other = keyframe;
            other[at] = octet;
            if at == 7 {
                other[8] = 0x40;
            }
            let said = describe(Codec::Vp8, &other, false).expect("valid");
            assert_eq!(said.resolution, None, "continued, predicted, no start code, no width");
        }
        assert_eq!(describe(Codec::Vp8, &keyframe[..10], false).expect("valid").resolution, None);
    }

    #[test]
    fn numbers_are_written_in_their_own_width() {
        let given = Given { picture_id: 0x1234, tl0: 0x56, key_index: 3 };
        let mut long = [0x90, 0xf0, 0x80, 7, 9, 0xbf, 1];
        let numbered = Descriptor::read(&long).expect("valid").numbered;
        numbered.write(&mut long, given);
        assert_eq!(long, [0x90, 0xf0, 0x92, 0x34, 0x56, 0xa3, 1]);
        let mut short = [0x90, 0x80, 0x07, 0x01];
        let numbered = Descriptor::read(&short).expect("valid").numbered;
        numbered.write(&mut short, given);
        assert_eq!(short, [0x90, 0x80, 0x34, 0x01]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            payload in proptest::collection::vec(any::<u8>(), 1..20),
            given in (any::<u16>(), any::<u8>(), 0..32_u8),
        ) {
            let Some(before) = Descriptor::read(&payload) else { return Ok(()) };
            prop_assert!(before.len <= payload.len());
            let given = Given { picture_id: given.0, tl0: given.1, key_index: given.2 };
            let mut written = payload.clone();
            before.numbered.write(&mut written, given);
            let after = Descriptor::read(&written).expect("still valid");
            if let Some(id) = after.numbered.picture_id {
                prop_assert_eq!(id.value, given.picture_id & ((1 << id.bits) - 1));
            }
            prop_assert!(after.numbered.tl0.is_none_or(|tl0| tl0.value == given.tl0));
            prop_assert!(after.numbered.key_index.is_none_or(|index| index.value == given.key_index));
            let places: Vec<usize> = before.numbered.places().collect();
            for at in 0..payload.len() {
                prop_assert!(payload[at] == written[at] || places.contains(&at));
            }
            // All else reads as before.
            let again = Descriptor { numbered: before.numbered, ..after };
            prop_assert_eq!(again, before);
        }
    }
}
