//! The media plane as a core without I/O: sessions, packets, tracks, fan-out.
//!
//! Start with [`Worker`]: datagrams and commands in, datagrams and events out. SDP is answered in
//! [`sdp`], which makes the [`SessionPlan`] that a worker is told to open. The plane does not know that
//! there is a mesh: it sees tracks, some of which come from elsewhere.
//!
//! | folder | what a packet meets there |
//! |---|---|
//! | `drop_reason` | why it went no further |
//! | `stats`, `bins` | what is counted; what happened lately |
//! | [`rtp`] | its header, its seal, its canonical form; RTCP about it |
//! | [`allocation`] | which layer of a picture a rate is spent on |
//! | [`sdp`] | what was agreed about it in offer and answer |
//! | [`transport`] | ICE, DTLS and data channels of the peer that it comes from or goes to |
//! | `track` | the ring that it waits in, and who listens |
//! | [`bandwidth`] | how much of it the path to one listener is thought to carry |
//! | [`ladder`] | how its sound becomes sound at lower rates |
//! | `mending` | whether what the listener loses of it is sent again before it asks |
//! | `ingest` | the way in: which track it is of, and what its publisher is told |
//! | `egress` | the way out: fan-out, the numbers of each listener, the batch that leaves |
//! | `worker` | the doors, and the sessions behind them |
//!
//! A folder imports from those to its left; those in one position do not know each other.
//!
//! order: drop_reason | stats bins | rtp | allocation sdp transport | track | bandwidth ladder | mending | ingest egress | worker | lib

pub mod allocation;
pub mod bandwidth;
mod bins;
mod drop_reason;
mod egress;
mod ingest;
pub mod ladder;
mod mending;
pub mod rtp;
pub mod sdp;
pub mod stats;
mod track;
pub mod transport;
mod worker;

pub use drop_reason::DropReason;
pub use egress::batch::{self, Batch, Run};
pub use ingest::{
    encoding::EncodingView,
    feedback::{Health, SoundView},
    transport_cc::ArrivalLog,
};
pub use rtp::{
    keyframe,
    packet::{self, Packet},
    red, rtcp, srtp, transport_cc,
};
pub use stats::Stats;
pub use track::{
    epoch::{Epochs, HeldEpoch},
    id::{MAX_ENCODINGS, MAX_RUNGS, StreamTrack, StreamTracks, TrackId},
    meter::LayerRate,
};
pub use worker::{
    Claim, Holdings, Worker,
    advertised::{AdvertisedEncoding, AdvertisedSound},
    channel::{ChannelEvent, ChannelId, ChannelWish},
    hearing::SoundWish,
    plan::{Audience, Command, Event, Flow, Relayed, SessionPlan},
    sight::{Mended, Reason, Shown, Sight, SoundSight},
    sounds::{Heard, rung_pays, rung_rate},
    wish::{Bound, Wish},
};
