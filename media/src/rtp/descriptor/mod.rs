//! What a packet says of itself: of which layer it is, where a picture begins and ends, whether anything refers
//! to it, and the numbers that have to be written anew where pictures are withheld. Every codec says it in its
//! own way; here it gets one shape. Which packets leave is decided elsewhere.

pub mod av1;
mod bits;
pub mod dependency;
#[cfg(test)]
mod dependency_tests;
pub mod h264;
pub mod layers_allocation;
pub mod numbered;
pub mod numbers;
#[cfg(test)]
mod numbers_tests;
pub mod structure;
pub mod summary;
pub mod vp8;
pub mod vp9;

use protocol::Codec;

use self::{numbered::Numbered, summary::Scale};
use super::keyframe;

/// Scalability inside an encoding: pictures of one instant in one of several sizes or qualities. 0 is the base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpatialLayer(pub u8);

/// Scalability inside an encoding: pictures that are left out at a lower frame rate. 0 is the base.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemporalLayer(pub u8);

/// How much of an encoding: its layers up to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// This spatial layer and those below.
    pub spatial: SpatialLayer,
    /// This temporal layer and those below.
    pub temporal: TemporalLayer,
}

impl Extent {
    /// All layers, whatever there are.
    pub const ALL: Extent = Extent { spatial: SpatialLayer(u8::MAX), temporal: TemporalLayer(u8::MAX) };
    /// The base alone.
    pub const BASE: Extent = Extent { spatial: SpatialLayer(0), temporal: TemporalLayer(0) };

    /// No more than either.
    pub fn up_to(self, other: Extent) -> Extent {
        Extent { spatial: self.spatial.min(other.spatial), temporal: self.temporal.min(other.temporal) }
    }

    /// Whether a layer is within it.
    pub fn has(self, spatial: SpatialLayer, temporal: TemporalLayer) -> bool {
        spatial <= self.spatial && temporal <= self.temporal
    }
}

/// Width and height in pixels, as a viewer sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resolution {
    /// From left to right.
    pub width: u16,
    /// From top to bottom.
    pub height: u16,
}

/// Of the spatial layers of an encoding, as far as they are said.
pub type Resolutions = [Option<Resolution>; SPATIAL_MAX];

/// Three bits count them.
pub const SPATIAL_MAX: usize = 8;

impl Resolution {
    /// By this encodings are ranked.
    pub fn pixels(self) -> u32 {
        u32::from(self.width) * u32::from(self.height)
    }
}

/// What a packet says of the picture that it is of. A *picture* is all that is of one instant, of all spatial
/// layers; a *layer frame* is what of it is of one spatial layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Description {
    /// A picture may begin with this packet: nothing of the picture that would be decoded is before it. More
    /// than one packet of an H264 picture says so (parameter sets, the first slice). Without a descriptor
    /// AV1 says so at keyframes only. Behind a packet that ends a picture another begins, whatever it says.
    pub picture_begins: bool,
    /// The picture ends with this packet (the marker, as the sender set it).
    pub picture_ends: bool,
    /// A layer frame begins with this packet.
    pub layer_begins: bool,
    /// The layer frame ends with this packet.
    pub layer_ends: bool,
    /// A keyframe begins with this packet: a receiver may start here ([`keyframe::starts`]).
    pub keyframe: bool,
    /// 0 if there is none.
    pub spatial: SpatialLayer,
    /// 0 if there is none.
    pub temporal: TemporalLayer,
    /// A receiver that had the temporal layer below may get this one from this picture on. Go up by one layer
    /// at a time: of those in between the picture says nothing.
    pub switch_up: bool,
    /// A layer frame begins with this packet that refers to nothing of its spatial layer before it: a receiver that
    /// had the spatial layer below may get this one from here on.
    pub enters: bool,
    /// Nothing refers to this picture. False where the sender does not say so.
    pub discardable: bool,
    /// It needs the lower spatial layer of the same picture.
    pub inter_layer: bool,
    /// No higher spatial layer of the same picture needs it: who gets a higher one may go without.
    pub not_needed_above: bool,
    /// Of the picture, or of the largest of its spatial layers, where it is said: with keyframes.
    pub resolution: Option<Resolution>,
    /// How large its spatial layer is beside the largest, where the payload does not say it.
    pub scale: Scale,
    /// What has to be written anew in a packet that leaves.
    pub numbered: Numbered,
}

impl Description {
    /// Whether a receiver of layers up to these gets the packet.
    pub fn is_within(&self, extent: Extent) -> bool {
        extent.has(self.spatial, self.temporal)
    }

    /// Whether a picture ends here for a receiver of spatial layers up to this one: it gets the marker then
    /// (RFC 9628 section 4.1, AV1 RTP payload specification section 4.2).
    pub fn ends_at(&self, spatial: SpatialLayer) -> bool {
        self.picture_ends || (self.layer_ends && self.spatial == spatial)
    }
}

/// What a video payload says of itself. `marker` is that of its RTP header. `None`: it cannot be read. Treat it
/// as base layer then, to which everything refers. Total on any bytes.
///
/// Of which layer a packet of AV1 is stands in a header extension, see [`dependency::Reader`]; here it has one layer.
pub fn describe(codec: Codec, payload: &[u8], marker: bool) -> Option<Description> {
    let keyframe = keyframe::starts(codec, payload);
    let said = match codec {
        Codec::Opus => return None,
        Codec::Vp8 => vp8::Descriptor::read(payload)?.describe(payload),
        Codec::Vp9 => vp9::Descriptor::read(payload)?.describe(),
        Codec::H264 => h264::describe(payload)?,
        Codec::Av1 => av1::describe(payload)?,
    };
    let layer_ends = said.layer_ends || marker;
    Some(Description { keyframe, picture_ends: marker, layer_ends, ..said })
}

/// How large the spatial layers are, where a payload says so: with keyframes. Total on any bytes.
pub fn resolutions(codec: Codec, payload: &[u8]) -> Resolutions {
    let descriptor = if codec == Codec::Vp9 { vp9::Descriptor::read(payload) } else { None };
    let structure = descriptor.and_then(|descriptor| descriptor.structure);
    structure.map(|structure| structure.resolutions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_receiver_of_a_lower_layer_gets_the_marker_where_its_layer_ends() {
        let description =
            Description { layer_ends: true, spatial: SpatialLayer(1), ..Description::default() };
        assert!(description.ends_at(SpatialLayer(1)));
        assert!(!description.ends_at(SpatialLayer(0)) && !description.ends_at(SpatialLayer(2)));
        let last = Description { picture_ends: true, ..description };
        assert!(last.ends_at(SpatialLayer(2)), "the higher layer has nothing of this picture");
    }

    #[test]
    fn layers_are_chosen_in_both_directions() {
        let (spatial, temporal) = (SpatialLayer(1), TemporalLayer(2));
        let description = Description { spatial, temporal, ..Description::default() };
        let within = |spatial, temporal| {
            description
                .is_within(Extent { spatial: SpatialLayer(spatial), temporal: TemporalLayer(temporal) })
        };
        assert!(within(1, 2) && description.is_within(Extent::ALL));
        assert!(!within(0, 2) && !within(1, 1) && !description.is_within(Extent::BASE));
    }

    #[test]
    fn av1_without_a_descriptor_has_one_layer() {
        let first = describe(Codec::Av1, &[0x18, 0x0a], false).expect("valid");
        assert!(first.keyframe && first.picture_begins && !first.picture_ends);
        let last = describe(Codec::Av1, &[0x90], true).expect("valid");
        assert!(!last.keyframe && !last.picture_begins && last.picture_ends && last.layer_ends);
        assert_eq!(describe(Codec::Av1, &[0x88], true), None, "goes on with what begins");
        assert_eq!(describe(Codec::Av1, &[], true), None);
        assert_eq!(describe(Codec::Opus, &[1, 2, 3], true), None);
    }

    proptest! {
        #[test]
        fn junk_never_panics(
            mut junk in proptest::collection::vec(any::<u8>(), 0..64),
            head in any::<u8>(),
            marker in any::<bool>(),
        ) {
            if let Some(first) = junk.first_mut() {
                *first = head;
            }
            for codec in Codec::ALL {
                let Some(said) = describe(codec, &junk, marker) else { continue };
                prop_assert_eq!(said.picture_ends, marker);
                let _ = resolutions(codec, &junk);
                prop_assert_eq!(said.keyframe, keyframe::starts(codec, &junk));
                for at in said.numbered.places() {
                    prop_assert!(at < junk.len());
                }
            }
        }
    }
}
