//! Which temporal layers of an encoding a listener gets. They change where pictures begin; up only where a decoder can.

use crate::rtp::descriptor::{Description, TemporalLayer};

/// How much of an encoding is sent.
#[derive(Debug, Clone, Copy)]
pub struct Layers {
    /// What is wanted: this temporal layer and those below.
    pub most: TemporalLayer,
    /// What is sent. It follows where pictures begin; up only where a decoder can.
    pub sent: TemporalLayer,
}

/// All temporal layers there may be.
pub const ALL_LAYERS: TemporalLayer = TemporalLayer(u8::MAX);

impl Layers {
    /// Whether a packet of what is taken from now is of a layer that is sent.
    pub fn pass(&mut self, said: &Description) -> bool {
        if self.sent == ALL_LAYERS && self.most == ALL_LAYERS {
            return true;
        }
        if said.picture_begins {
            let step = said.switch_up && said.temporal.0 == self.sent.0.saturating_add(1);
            if self.most < self.sent || said.keyframe {
                self.sent = self.most;
            } else if step && said.temporal <= self.most {
                self.sent = said.temporal;
            }
        }
        said.temporal <= self.sent
    }
}
