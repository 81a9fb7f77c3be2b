//! What an estimate is spent on: which layer of which picture goes to a listener, or over a link.
//!
//! Without I/O and without packets: rates in, layers out. What the pictures cost is in `price`, what would be best just
//! now in `spend`, when it is done in `steps`: a picture gets worse at once, and better only after a while.

pub mod price;
pub mod spend;
pub mod steps;

use crate::rtp::descriptor::{SpatialLayer, TemporalLayer};

/// A quality of a picture: an encoding, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer {
    /// Which encoding of the publisher, by rising quality.
    pub encoding: u8,
    /// Of its spatial layers, this one and those below.
    pub spatial: SpatialLayer,
    /// Of its temporal layers, this one and those below.
    pub temporal: TemporalLayer,
}

/// A layer and what it costs with all that it needs below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// The layer.
    pub layer: Layer,
    /// Bits per second.
    pub rate: u64,
}

/// What one picture can be had in, and how much it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// By rising quality, as [`price::ladder`] makes them: the first is the base.
    pub rungs: &'a [Rung],
    /// The highest that is wanted; `None` for the best there is.
    pub wish: Option<Layer>,
    /// How many want it; of two pictures the one with more is made better first.
    pub wanted_by: u32,
}

impl Picture<'_> {
    /// The rungs that the wish allows. The base is always among them: who wants no picture at all asks for none.
    fn allowed(&self) -> &[Rung] {
        let Some(wish) = self.wish else { return self.rungs };
        let above = self.rungs.iter().position(|rung| rung.layer > wish).unwrap_or(self.rungs.len());
        &self.rungs[..above.max(1).min(self.rungs.len())]
    }
}
