//! What flows to one listener: its tracks, and how it sees the picture.

use std::time::Instant;

use protocol::Kind;

use super::{hearing::Hearing, keyframe_budget::KeyframeBudget, viewing::Viewing};
use crate::{
    bandwidth::Estimator,
    egress::Egress,
    rtp::descriptor::Extent,
    sdp::{EgressPlan, EgressTrack},
    track::id::{MAX_RUNGS, StreamTracks, TrackId},
};

/// What flows to one listener.
#[derive(Debug)]
pub struct Listening {
    /// As negotiated: at most one of each kind.
    pub tracks: Vec<Egress>,
    /// Names the picture, in whatever encodings it comes.
    pub video: TrackId,
    /// What the path is thought to carry.
    pub path: Box<Estimator>,
    /// Of who gets a sound.
    pub hearing: Option<Box<Hearing>>,
    /// Of who gets a picture.
    pub viewing: Option<Box<Viewing>>,
    /// Of its own requests for keyframes.
    pub keyframes: KeyframeBudget,
}

impl Listening {
    /// As negotiated. `merged` says that the sound comes in fewer and longer packets.
    pub fn new(plan: &EgressPlan, (tracks, merged): (&StreamTracks, bool), now: Instant) -> Listening {
        let egress = |track: &EgressTrack| {
            let mut egress = Egress::new(track, tracks.of(track.kind));
            if merged && track.kind == Kind::Audio {
                egress.turn_to(tracks.merged[MAX_RUNGS], Extent::ALL);
            }
            egress
        };
        let has = |kind| plan.tracks.iter().any(|track| track.kind == kind);
        let sees = has(Kind::Video);
        Listening {
            tracks: plan.tracks.iter().map(egress).collect(),
            video: tracks.video,
            path: Box::new(Estimator::new(sees, now)),
            hearing: has(Kind::Audio).then(|| Box::new(Hearing::new(merged, now))),
            viewing: sees.then(|| Box::new(Viewing::new())),
            keyframes: KeyframeBudget::default(),
        }
    }
}
