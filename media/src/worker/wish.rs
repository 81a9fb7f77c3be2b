//! What a listener wishes of a picture. It is a bound: what its path carries may be less.

use super::pictures::Picture;
use crate::{
    allocation::Layer,
    rtp::descriptor::{Extent, SpatialLayer, TemporalLayer},
};

/// What a listener asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Sound only.
    Sound,
    /// A picture that is no better than this.
    UpTo(Bound),
}

/// No better than this; what is not named is not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// The encoding with this place in the publisher's answer.
    pub encoding: Option<u8>,
    /// Of its spatial layers, this one and those below.
    pub spatial: Option<SpatialLayer>,
    /// Of its temporal layers, this one and those below.
    pub temporal: Option<TemporalLayer>,
}

impl Default for Wish {
    /// The best that fits.
    fn default() -> Wish {
        Wish::UpTo(Bound::default())
    }
}

impl Bound {
    /// How many of the rungs of a picture are no better. The base always is: who wants no picture asks for sound.
    pub(super) fn allowed(&self, picture: &Picture) -> usize {
        let top = self.encoding.map_or(u8::MAX, |place| picture.bound(place));
        let rungs = picture.rungs();
        let alone = picture.encodings().len() == 1;
        let (most, there) = (self.most(), picture.highest(0));
        // Where quality rises by size, less of a rung is sent, and it stays the same rung: so it is with several
        // encodings, and of the temporal layers where there are several spatial ones.
        let within = |layer: Layer| {
            let spatial = layer.spatial.min(there.spatial) <= most.spatial;
            let temporal =
                there.spatial > SpatialLayer(0) || layer.temporal.min(there.temporal) <= most.temporal;
            !alone || spatial && temporal
        };
        let allowed = rungs.partition_point(|rung| rung.layer.encoding <= top && within(rung.layer));
        allowed.max(1).min(rungs.len())
    }

    /// Of what a layer has, so much.
    pub(super) fn extent(&self, layer: Layer) -> Extent {
        Extent { spatial: layer.spatial, temporal: layer.temporal }.up_to(self.most())
    }

    /// Whether less of an encoding is sent than there is.
    pub(super) fn cuts(&self, picture: &Picture, encoding: u8) -> bool {
        let there = picture.highest(encoding);
        there.up_to(self.most()) != there
    }

    fn most(&self) -> Extent {
        let Extent { spatial, temporal } = Extent::ALL;
        Extent { spatial: self.spatial.unwrap_or(spatial), temporal: self.temporal.unwrap_or(temporal) }
    }
}
