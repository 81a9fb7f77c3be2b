//! What a listener wishes of a picture. It is a bound: what its path carries may be less.

use super::pictures::Picture;
use crate::{egress::ALL_LAYERS, rtp::descriptor::TemporalLayer};

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
        let within = |layer: TemporalLayer| {
            let Some(most) = self.temporal else { return true };
            // Of several encodings each is one rung: less of it is sent then, and it stays the same rung.
            !alone || layer <= most || layer == ALL_LAYERS && picture.layers(0) <= most
        };
        let allowed = rungs.partition_point(|rung| rung.layer.encoding <= top && within(rung.layer.temporal));
        allowed.max(1).min(rungs.len())
    }

    /// Of what a layer has, so much.
    pub(super) fn temporal(&self, layer: TemporalLayer) -> TemporalLayer {
        self.temporal.map_or(layer, |most| layer.min(most))
    }

    /// Whether less of an encoding is sent than there is.
    pub(super) fn cuts(&self, picture: &Picture, encoding: u8) -> bool {
        self.temporal.is_some_and(|most| picture.layers(encoding) > most)
    }
}
