//! What a dependency descriptor says of a packet, in three octets of its canonical header (`protocol::mesh::extension`).
//!
//! A descriptor names templates that came with a keyframe. A relay that gets a track from its middle on does not know
//! them, nor does a link that looks at one packet. So the relay that the publisher is connected to reads it, and all
//! others get this.

use super::{Description, Resolution, SpatialLayer, TemporalLayer};

/// What is said of a packet, as it stands in its header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary(pub [u8; 3]);

/// How large the pictures of a spatial layer are, in parts of the largest one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scale(u8);

// The first octet.
const LAYER_BEGINS: u8 = 0x80;
const LAYER_ENDS: u8 = 0x40;
const ENTERS: u8 = 0x20;
const SWITCH_UP: u8 = 0x10;
const DISCARDABLE: u8 = 0x08;
const INTER_LAYER: u8 = 0x04;
const NOT_NEEDED_ABOVE: u8 = 0x02;
/// The second: two bits of spatial layer, three of temporal layer.
const SPATIAL: u8 = 6;
const TEMPORAL: u8 = 3;
/// Halves, quarters and eighths, thirds and ninths are whole numbers of these.
const PARTS: u32 = 144;

impl Summary {
    /// Of what a descriptor says; `own` and `largest` are how large pictures of its layer and of the largest one are.
    pub fn new(said: &Description, own: Option<Resolution>, largest: Option<Resolution>) -> Summary {
        let flags = [
            (said.layer_begins, LAYER_BEGINS),
            (said.layer_ends, LAYER_ENDS),
            (said.enters, ENTERS),
            (said.switch_up, SWITCH_UP),
            (said.discardable, DISCARDABLE),
            (said.inter_layer, INTER_LAYER),
            (said.not_needed_above, NOT_NEEDED_ABOVE),
        ];
        let flags = flags.into_iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag);
        let layers = said.spatial.0 << SPATIAL | (said.temporal.0 & 0x07) << TEMPORAL;
        let scale = own.zip(largest).map_or(Scale::default(), |(own, largest)| Scale::of(own, largest));
        Summary([flags, layers, scale.0])
    }

    /// In the shape of all codecs: `of` is what the payload and the RTP header say.
    pub fn describe(self, of: Description) -> Description {
        let Summary([flags, layers, scale]) = self;
        let has = |flag: u8| flags & flag != 0;
        let spatial = SpatialLayer(layers >> SPATIAL);
        Description {
            picture_begins: of.keyframe || has(LAYER_BEGINS) && spatial == SpatialLayer(0),
            layer_begins: has(LAYER_BEGINS),
            layer_ends: has(LAYER_ENDS) || of.picture_ends,
            enters: has(ENTERS),
            switch_up: has(SWITCH_UP),
            discardable: has(DISCARDABLE),
            inter_layer: has(INTER_LAYER),
            not_needed_above: has(NOT_NEEDED_ABOVE),
            spatial,
            temporal: TemporalLayer(layers >> TEMPORAL & 0x07),
            scale: Scale(scale),
            ..of
        }
    }
}

impl Scale {
    fn of(own: Resolution, largest: Resolution) -> Scale {
        let (own, largest) = (u32::from(own.width), u32::from(largest.width).max(1));
        Scale(((own * PARTS + largest / 2) / largest).min(PARTS) as u8)
    }

    /// How large it is, where the largest one is so large; `None` if it is not said.
    pub fn resolution(self, largest: Resolution) -> Option<Resolution> {
        let parts = u32::from(self.0).min(PARTS);
        let part = |whole: u16| ((u32::from(whole) * parts + PARTS / 2) / PARTS) as u16;
        (parts > 0).then(|| Resolution { width: part(largest.width), height: part(largest.height) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_of_layers_are_parts_of_the_largest() {
        let size = |width, height| Resolution { width, height };
        let largest = size(1280, 720);
        for own in [largest, size(640, 360), size(320, 180), size(160, 90), size(853, 480)] {
            assert_eq!(Scale::of(own, largest).resolution(largest), Some(own));
        }
        assert_eq!(Scale::default().resolution(largest), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            flags in any::<[bool; 7]>(), keyframe: bool, marker: bool, spatial in 0..4_u8, temporal in 0..8_u8,
        ) {
            let of = Description { keyframe, picture_ends: marker, ..Description::default() };
            let [layer_begins, layer_ends, enters, switch_up, discardable, inter_layer, not_needed_above] = flags;
            let said = Description {
                picture_begins: keyframe || layer_begins && spatial == 0,
                layer_begins,
                layer_ends: layer_ends || marker,
                enters,
                switch_up,
                discardable,
                inter_layer,
                not_needed_above,
                spatial: SpatialLayer(spatial),
                temporal: TemporalLayer(temporal),
                ..of
            };
            prop_assert_eq!(Summary::new(&said, None, None).describe(of), said);
        }

        #[test]
        fn any_octets_are_survived(octets: [u8; 3], width: u16, height: u16) {
            let said = Summary(octets).describe(Description::default());
            prop_assert!(said.spatial.0 < 4 && said.temporal.0 < 8);
            let size = said.scale.resolution(Resolution { width, height });
            prop_assert!(size.is_none_or(|size| size.width <= width && size.height <= height));
        }
    }
}
