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
        let mut sounds = plan.tracks.iter().filter(|track| track.kind == Kind::Audio);
        let red = sounds.any(|track| track.codecs.iter().any(|codec| codec.red.is_some()));
        Listening {
            tracks: plan.tracks.iter().map(egress).collect(),
            video: tracks.video,
            path: Box::new(Estimator::new(sees, now)),
            hearing: has(Kind::Audio).then(|| Box::new(Hearing::new(red, merged, now))),
            viewing: sees.then(|| Box::new(Viewing::new())),
            keyframes: KeyframeBudget::default(),
        }
    }

    /// The handshake is over, and has shown that the path carries so much. That is of use where the listener will tell more.
    pub fn handle_connected(&mut self, carries: Option<u64>, now: Instant) {
        let tells = self.tracks.iter().all(Egress::is_told_of);
        if let Some(carries) = carries.filter(|_| tells) {
            self.path.handle_handshake(carries, now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.path.poll_timeout().is_some_and(|at| at <= now) {
            self.path.handle_timeout(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandwidth::Purpose;

    #[test]
    fn who_hears_takes_little_memory() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let mut now = Instant::now();
        let mut path = Estimator::new(false, now);
        for _ in 0..1000 {
            now += std::time::Duration::from_millis(20);
            path.handle_sent(300, Purpose::Media, now);
        }
        let (path, hearing) = (path.memory(), size_of::<Hearing>());
        println!("path {path}, hearing {hearing}, egress {}", size_of::<Egress>());
        assert!(path + hearing <= 6 * 1024, "{path} for the path, {hearing} for what mends");
    }
}
