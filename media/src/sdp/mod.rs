//! Offer in, answer out: the policy of WHIP (RFC 9725) and WHEP in words of SDP.
//! `rtc-sdp` parses and prints; what is accepted, and why not, is decided here. Keys, addresses and
//! ids come from the caller, packets are somebody else's.
//!
//! Start with [`Offer::parse`], go on with [`answer_ingest`] or [`answer_egress`]; trickle and ICE
//! restart bodies are a [`Fragment`].

mod answer;
mod candidate;
mod codec_choice;
mod direction;
mod egress;
mod error;
mod extension;
mod fingerprint;
mod fragment;
mod ingest;
mod media_line;
mod offer;
mod setup;
mod source;
mod spelling;

pub use answer::Local;
pub use candidate::{Candidate, Reach};
pub use codec_choice::{Feedback, NegotiatedCodec};
pub use direction::Direction;
pub use egress::{EgressPlan, EgressPolicy, EgressTrack, answer_egress, msid_token};
pub use error::SdpError;
pub use extension::ExtensionIds;
pub use fingerprint::Fingerprint;
pub use fragment::Fragment;
pub use ingest::{IngestPlan, IngestPolicy, IngestTrack, MAX_ENCODINGS, answer_ingest};
pub use media_line::{MediaLine, Medium, Payload};
pub use offer::Offer;
pub use setup::Setup;
pub use source::Rid;
