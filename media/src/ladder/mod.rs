//! The ladder: the sound of a stage at lower rates, beside the publisher's own packets.
//!
//! A [`Stage`] decodes the publisher's packets once and encodes them again, as rung 0 and rung 1. A rung packet has
//! the number, the timestamp and the epoch of the packet that it stands for, and holds the sound of it to the
//! sample. So a listener can be switched at every packet. Packets in by `handle_packet`, rung packets out by
//! `poll_packet`. Who gets which rung is not decided here.
//!
//! [`Stages`] are all of a relay. [`Load`] says how many of them have to do without when their thread is behind,
//! [`Trial`] how many there can be.

mod decoder;
mod encoder;
mod load;
mod mono;
mod order;
mod passing;
mod sound;
mod stage;
mod stages;
#[cfg(test)]
mod tests;
mod trial;

pub use load::Load;
pub use stage::Stage;
pub use stages::{Event, Stages};
pub use trial::Trial;

/// How many rungs there are below the publisher's packets.
pub const RUNGS: usize = 2;
/// Bits per second of each: mono, stereo.
pub const RATES: [i32; RUNGS] = [24_000, 64_000];
/// Of the clock of Opus, and of everything here.
const SAMPLE_RATE: u32 = 48_000;
/// Sound is decoded to left and right.
const CHANNELS: usize = 2;
