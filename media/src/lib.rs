//! The media plane as a core without I/O: sessions, packets, tracks, fan-out.

pub mod rtp;
pub mod srtp;
