//! Where the sound of a publication comes from: each source fills frames of 20 ms, stereo, 48 kHz.
//! Pacing and encoding are [`crate::publish`]'s.

pub mod chords;
pub mod demo;
pub mod tone;

use crate::error::Error;

pub use chords::Chords;
pub use demo::Demo;
pub use tone::Tone;

/// Samples per second and channel.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of one frame and channel: 20 ms.
pub const FRAME_SAMPLES: usize = 960;
/// Left and right.
pub const CHANNELS: usize = 2;

/// One frame: interleaved left and right, within -1 to 1.
pub type Frame = [f32; FRAME_SAMPLES * CHANNELS];

/// Something that sounds.
pub trait Source: Send {
    /// Fills the next 20 ms.
    ///
    /// # Errors
    /// [`Error::SourceEnded`] when there is no more.
    fn fill(&mut self, frame: &mut Frame) -> Result<(), Error>;
}
