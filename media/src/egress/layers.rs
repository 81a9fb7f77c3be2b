//! Which layers of an encoding a listener gets. They change where pictures begin; up only where a decoder can.
//!
//! A spatial layer more is sent from a keyframe on. It could begin too where a layer frame refers to nothing of its past
//! ([`Description::enters`]), but by then the marker of the picture has left with the layer below.

use crate::rtp::descriptor::{Description, Extent};

/// How much of an encoding is sent.
#[derive(Debug, Clone, Copy)]
pub struct Layers {
    /// What is wanted.
    pub most: Extent,
    /// What is sent. It follows where pictures begin; up only where a decoder can.
    pub sent: Extent,
}

impl Layers {
    /// Whether a packet of what is taken from now is of a layer that is sent.
    pub fn pass(&mut self, said: &Description) -> bool {
        if self.sent == Extent::ALL && self.most == Extent::ALL {
            return true;
        }
        self.turn(said);
        said.is_within(self.sent)
    }

    fn turn(&mut self, said: &Description) {
        let Layers { most, sent } = self;
        if said.keyframe {
            *sent = *most;
        } else if said.picture_begins {
            *sent = sent.up_to(*most);
            let above = said.temporal.0 == sent.temporal.0.saturating_add(1);
            if above && said.switch_up && said.temporal <= most.temporal {
                sent.temporal = said.temporal;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::descriptor::{SpatialLayer, TemporalLayer};

    fn extent(spatial: u8, temporal: u8) -> Extent {
        Extent { spatial: SpatialLayer(spatial), temporal: TemporalLayer(temporal) }
    }

    /// The first packet of a layer frame.
    fn frame(spatial: u8, temporal: u8) -> Description {
        Description {
            picture_begins: spatial == 0,
            layer_begins: true,
            spatial: SpatialLayer(spatial),
            temporal: TemporalLayer(temporal),
            ..Description::default()
        }
    }

    /// What passes of a picture of three spatial layers.
    fn picture(layers: &mut Layers, temporal: u8, keyframe: bool) -> [bool; 3] {
        [0, 1, 2].map(|spatial| {
            let said = frame(spatial, temporal);
            layers.pass(&Description { keyframe: keyframe && spatial == 0, enters: keyframe, ..said })
        })
    }

    #[test]
    fn fewer_layers_are_sent_from_the_next_picture_on_and_more_from_a_keyframe_on() {
        let mut layers = Layers { most: Extent::ALL, sent: Extent::ALL };
        assert_eq!(picture(&mut layers, 2, false), [true; 3]);
        assert!(layers.pass(&frame(0, 0)));
        layers.most = extent(1, u8::MAX);
        assert!(layers.pass(&frame(2, 0)), "the picture that has begun is sent whole");
        assert_eq!(picture(&mut layers, 2, false), [true, true, false]);
        layers.most = Extent::BASE;
        assert_eq!(picture(&mut layers, 1, false), [false; 3]);
        assert_eq!(picture(&mut layers, 0, false), [true, false, false]);
        layers.most = Extent::ALL;
        assert_eq!(picture(&mut layers, 0, false), [true, false, false]);
        assert_eq!(picture(&mut layers, 0, true), [true; 3]);
        assert_eq!(layers.sent, Extent::ALL);
    }

    #[test]
    fn a_picture_that_has_ended_becomes_no_larger() {
        let mut layers = Layers { most: Extent::ALL, sent: extent(0, u8::MAX) };
        assert!(layers.pass(&frame(0, 0)));
        assert!(!layers.pass(&Description { enters: true, ..frame(1, 0) }));
    }

    #[test]
    fn temporal_layers_come_back_one_by_one() {
        let mut layers = Layers { most: Extent::ALL, sent: Extent::BASE };
        let switch = |temporal| Description { switch_up: true, ..frame(0, temporal) };
        assert!(!layers.pass(&switch(2)) && !layers.pass(&frame(0, 1)));
        assert!(layers.pass(&switch(1)) && layers.pass(&switch(2)));
        assert!(!layers.pass(&frame(1, 0)), "the spatial ones wait for a keyframe");
    }
}
