//! The media plane as a core without I/O: sessions, packets, tracks, fan-out.
//!
//! Start with [`Worker`]: datagrams and commands in, datagrams and events out. SDP is answered in
//! [`sdp`], which makes the [`SessionPlan`] that a worker is told to open. The plane does not know that
//! there is a mesh: it sees tracks, some of which come from elsewhere.

pub mod arrival;
pub mod batch;
pub mod egress;
pub mod estimate;
mod fan_out;
pub mod ingest;
pub mod keyframe;
mod keyframe_request;
pub mod packet;
mod parameter_sets;
pub mod plan;
mod renumber;
pub mod repair;
pub mod ring;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
mod session;
mod source;
pub mod srtp;
pub mod stats;
pub mod track;
pub mod transport;
mod worker;

pub use batch::{Batch, Run};
pub use packet::Packet;
pub use plan::{
    Claim, Command, Epochs, Event, Flow, Health, HeldEpoch, Relayed, SessionPlan, TrackId, TrackPair,
};
pub use stats::Stats;
pub use worker::{Holdings, Worker};
