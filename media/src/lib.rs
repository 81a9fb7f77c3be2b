//! The media plane as a core without I/O: sessions, packets, tracks, fan-out.

pub mod arrival;
pub mod keyframe;
pub mod packet;
pub mod repair;
pub mod ring;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod srtp;
