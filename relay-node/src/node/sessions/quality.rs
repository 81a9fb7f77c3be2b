//! What a session gets of its stream, and why not all of it: for the API and through it for the pages.

use std::{collections::BTreeMap, time::Instant};

use media::sdp::EgressPlan;
use protocol::{
    Codec, SessionId, StreamName, TrackDescription,
    api::{self, CannotPlay, Quality},
};

use super::{Direction, Sessions, unreached};

/// What a listener can play and wanted to: two sets of bits, so that sessions which can the same are counted
/// together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ability {
    plays: u8,
    wants: u8,
}

impl Ability {
    pub(super) fn of(plan: &EgressPlan) -> Ability {
        let codecs = plan.tracks.iter().flat_map(|track| &track.codecs).map(|codec| codec.codec);
        let kinds = plan.tracks.iter().map(|track| track.kind).chain(plan.unserved.iter().copied());
        Ability {
            plays: codecs.fold(0, |plays, codec| plays | bit(codec)),
            wants: kinds.fold(0, |wants, kind| wants | 1 << kind as u8),
        }
    }

    fn plays(self, codec: Codec) -> bool {
        self.plays & bit(codec) != 0
    }

    /// What of these tracks it wanted and cannot play.
    fn lacks(self, tracks: &[TrackDescription]) -> impl Iterator<Item = Codec> + '_ {
        let wanted = tracks.iter().filter(move |track| self.wants & 1 << track.kind as u8 != 0);
        wanted.map(|track| track.codec).filter(move |codec| !self.plays(*codec))
    }
}

fn bit(codec: Codec) -> u8 {
    1 << codec as u8
}

/// How many listeners of each stream here can what: the list of streams is asked for by every page.
#[derive(Debug, Default)]
pub(super) struct Abilities(BTreeMap<StreamName, BTreeMap<Ability, u32>>);

impl Abilities {
    pub(super) fn add(&mut self, stream: &StreamName, ability: Ability) {
        *self.0.entry(stream.clone()).or_default().entry(ability).or_default() += 1;
    }

    pub(super) fn remove(&mut self, stream: &StreamName, ability: Ability) {
        let Some(abilities) = self.0.get_mut(stream) else { return };
        if let Some(count) = abilities.get_mut(&ability) {
            *count -= 1;
            if *count == 0 {
                abilities.remove(&ability);
            }
        }
        if abilities.is_empty() {
            self.0.remove(stream);
        }
    }
}

impl Sessions {
    /// A session as the API shows it, of a stream that has these tracks if it is live.
    pub(crate) fn shown(
        &self,
        id: SessionId,
        live: Option<Vec<TrackDescription>>,
        now: Instant,
    ) -> Option<api::Session> {
        let session = self.sessions.get(&id)?;
        let listens = session.direction == Direction::Egress;
        let is_live = live.is_some();
        let tracks = match live {
            Some(carried) if listens => carried,
            _ => session.tracks.clone(),
        };
        let lacking: Vec<Codec> = session.ability.lacks(&tracks).collect();
        let tracks = tracks.iter().map(|track| api::SessionTrack {
            kind: track.kind,
            codec: track.codec,
            plays: !listens || session.ability.plays(track.codec),
        });
        let tracks: Vec<_> = tracks.collect();
        let late = session.opened + unreached::PATIENCE <= now;
        let (quality, reason) = if !session.connected && late {
            let ports = self.ports();
            let text =
                format!("the page arrives, the sound does not: this client does not reach UDP {ports}");
            (Quality::Nothing, Some(text))
        } else if !session.connected {
            (Quality::Nothing, Some("connecting".to_owned()))
        } else if listens && !is_live {
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
            picture: None,
        })
    }

    /// How many of the listeners here cannot play which of these tracks of a stream.
    pub(crate) fn cannot_play(&self, stream: &StreamName, tracks: &[TrackDescription]) -> Vec<CannotPlay> {
        let mut all: Vec<CannotPlay> = Vec::new();
        for (ability, listeners) in self.abilities.0.get(stream).into_iter().flatten() {
            for codec in ability.lacks(tracks) {
                match all.iter_mut().find(|one| one.codec == codec) {
                    Some(one) => one.listeners += listeners,
                    None => all.push(CannotPlay { codec, listeners: *listeners }),
                }
            }
        }
        all
    }
}
