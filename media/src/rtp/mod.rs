//! Packets: RTP and RTCP as they come from outside, SRTP around them, the canonical form inside, the few bits of
//! a payload that a relay has to know, and what a packet says of its picture. Knows no session, no track and no
//! address.

pub mod descriptor;
pub(crate) mod elements;
pub(crate) mod header;
pub mod keyframe;
mod nal;
pub mod opus;
#[cfg(test)]
mod opus_tests;
pub mod packet;
pub(crate) mod parameter_sets;
pub mod red;
pub mod rtcp;
pub(crate) mod sequence;
pub mod srtp;
pub mod transport_cc;

pub use header::{Extensions, FIXED_LEN, Header, RtpError};
pub use sequence::{extend, is_newer};
