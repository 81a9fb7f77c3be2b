//! The media plane as a core without I/O: sessions, packets, tracks, fan-out.
//!
//! Start with [`Worker`]: datagrams and commands in, datagrams and events out. SDP is answered in
//! [`sdp`], which makes the [`SessionPlan`] that a worker is told to open. The plane does not know that
//! there is a mesh: it sees tracks, some of which come from elsewhere.

mod drop_reason;
mod egress;
mod ingest;
pub mod rtp;
pub mod sdp;
pub mod stats;
mod track;
pub mod transport;
mod worker;

pub use drop_reason::DropReason;
pub use egress::batch::{self, Batch, Run};
pub use ingest::feedback::Health;
pub use rtp::{
    keyframe,
    packet::{self, Packet},
    rtcp, srtp,
};
pub use stats::Stats;
pub use track::{
    epoch::{Epochs, HeldEpoch},
    id::{TrackId, TrackPair},
};
pub use worker::{
    Holdings, Worker,
    plan::{Claim, Command, Event, Flow, Relayed, SessionPlan},
};
