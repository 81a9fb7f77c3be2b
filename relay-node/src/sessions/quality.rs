//! What a session gets of its stream, and why not all of it: for the API and through it for the pages.

use std::time::Instant;

use protocol::{
    Codec, SessionId, StreamName, TrackDescription,
    api::{self, CannotPlay, Quality},
};

use super::{Direction, Session, unreached};
use crate::node::Node;

impl Session {
    /// What of these tracks it wanted and cannot play.
    fn lacks<'t>(&'t self, tracks: &'t [TrackDescription]) -> impl Iterator<Item = Codec> + 't {
        let listens = self.direction == Direction::Egress;
        let carried = tracks.iter().filter(move |track| listens && self.wants.contains(&track.kind));
        carried.map(|track| track.codec).filter(|codec| !self.plays.contains(codec))
    }
}

impl Node {
    /// `GET /api/v1/sessions/{session}`.
    pub fn session(&self, id: SessionId, now: Instant) -> Option<api::Session> {
        let session = self.sessions.sessions.get(&id)?;
        let listens = session.direction == Direction::Egress;
        let live = self.live(&session.stream);
        let tracks = match &live {
            Some(live) if listens => self.carried(live),
            _ => session.tracks.clone(),
        };
        let lacking: Vec<Codec> = session.lacks(&tracks).collect();
        let tracks = tracks.iter().map(|track| api::SessionTrack {
            kind: track.kind,
            codec: track.codec,
            plays: !listens || session.plays.contains(&track.codec),
        });
        let tracks: Vec<_> = tracks.collect();
        let late = session.opened + unreached::PATIENCE <= now;
        let (quality, reason) = if !session.connected && late {
            let ports = self.sessions.ports();
            let text =
                format!("the page arrives, the sound does not: this client does not reach UDP {ports}");
            (Quality::Nothing, Some(text))
        } else if !session.connected {
            (Quality::Nothing, Some("connecting".to_owned()))
        } else if listens && live.is_none() {
            (Quality::Nothing, Some(format!("nobody publishes {} now", session.stream)))
        } else if lacking.is_empty() {
            (Quality::Good, None)
        } else {
            let all = tracks.iter().all(|track| !track.plays);
            let quality = if all { Quality::Nothing } else { Quality::Partly };
            let names: Vec<_> = lacking.iter().map(|codec| codec.encoding_name()).collect();
            let text =
                format!("{} is {} now, which this client did not offer", session.stream, names.join(" and "));
            (quality, Some(text))
        };
        Some(api::Session {
            stream: session.stream.to_string(),
            publishes: !listens,
            connected: session.connected,
            quality,
            reason,
            tracks,
        })
    }

    /// How many of the listeners here cannot play which of these tracks of a stream.
    pub(crate) fn cannot_play(&self, stream: &StreamName, tracks: &[TrackDescription]) -> Vec<CannotPlay> {
        let mut all: Vec<CannotPlay> = Vec::new();
        let listeners = self.streams.get(stream).into_iter().flat_map(|known| &known.listeners);
        for session in listeners.filter_map(|id| self.sessions.sessions.get(id)) {
            for codec in session.lacks(tracks) {
                match all.iter_mut().find(|one| one.codec == codec) {
                    Some(one) => one.listeners += 1,
                    None => all.push(CannotPlay { codec, listeners: 1 }),
                }
            }
        }
        all
    }
}
