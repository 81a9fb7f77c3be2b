//! The rungs of sounds that are published here: which listeners want, which the ladder makes, and which the workers may
//! count on. Who decides for a listener is its worker.

use std::{collections::BTreeMap, time::Instant};

use media::{Command, MAX_RUNGS, SoundWish, StreamTracks, TrackId, ladder};
use protocol::{SessionId, StreamName, api::LayerWish};

use super::{Effect, Node, sessions::WishError};

/// What is known of the rungs of one sound.
#[derive(Debug, Default)]
pub(super) struct Rungs {
    /// How many want each, by worker.
    wanted: BTreeMap<u8, [u32; MAX_RUNGS]>,
    /// What the ladder was told.
    made: [bool; MAX_RUNGS],
    /// What the workers were told.
    open: bool,
    /// The ladder makes none of it: the machine is short of CPU.
    closed: bool,
}

impl Rungs {
    fn wants(&self, rung: usize) -> bool {
        self.wanted.values().any(|wanted| wanted[rung] > 0)
    }
}

impl Node {
    /// This relay makes rungs of the sounds that are published here.
    pub fn set_ladder(&mut self) {
        self.has_ladder = true;
    }

    /// The listeners of a worker want this of a sound.
    pub(super) fn handle_rungs(&mut self, worker: u8, track: TrackId, wanted: [u32; MAX_RUNGS]) {
        let Some((stream, _)) = self.by_track.get(&track) else { return };
        let Some(known) = self.streams.get_mut(stream) else { return };
        known.rungs.wanted.insert(worker, wanted);
        let (tracks, here) = (known.tracks, known.published.is_some());
        self.make_rungs(tracks, here);
    }

    /// The ladder says something.
    pub fn handle_ladder(&mut self, event: ladder::Event) {
        let (audio, closed) = match event {
            ladder::Event::Closed { audio } => (audio, true),
            ladder::Event::Opened { audio } => (audio, false),
        };
        let Some((stream, _)) = self.by_track.get(&audio) else { return };
        let stream = stream.clone();
        if let Some(known) = self.streams.get_mut(&stream) {
            known.rungs.closed = closed;
        }
        self.open_rungs(&stream);
    }

    /// Streams whose rungs are closed, because the machine is short of CPU.
    pub fn closed_rungs(&self) -> Vec<StreamName> {
        let closed = self.streams.iter().filter(|(_, known)| known.rungs.closed && known.published.is_some());
        closed.map(|(name, _)| name.clone()).collect()
    }

    /// A stream is published here, or is not any more: tells the workers what they may count on, if that is news.
    pub(super) fn open_rungs(&mut self, stream: &StreamName) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let here = known.published.is_some();
        let open = self.has_ladder && here && !known.rungs.closed;
        let tracks = known.tracks;
        if std::mem::replace(&mut known.rungs.open, open) != open {
            let open = [open; MAX_RUNGS];
            self.effects.push_back(Effect::Workers(Command::Rungs { tracks, open }));
        }
        self.make_rungs(tracks, here);
    }

    /// Tells the ladder what is wanted of a sound, and the workers whether it is fed, if that is news.
    fn make_rungs(&mut self, tracks: StreamTracks, here: bool) {
        let Some((stream, _)) = self.by_track.get(&tracks.audio) else { return };
        let Some(known) = self.streams.get_mut(stream) else { return };
        let wanted = std::array::from_fn(|rung| here && self.has_ladder && known.rungs.wants(rung));
        let before = std::mem::replace(&mut known.rungs.made, wanted);
        if wanted == before {
            return;
        }
        self.effects.push_back(Effect::Ladder(tracks, wanted));
        let feeds = wanted.contains(&true);
        if before.contains(&true) != feeds {
            self.effects.push_back(Effect::Workers(Command::Feed { tracks, feeds }));
        }
    }

    /// A listener wishes another sound.
    ///
    /// # Errors
    ///
    /// As [`Node::handle_wish`].
    pub(super) fn handle_sound_wish(
        &mut self,
        id: SessionId,
        wish: &LayerWish,
        now: Instant,
    ) -> Result<SoundWish, WishError> {
        let hearer = self.sessions.hearer_mut(id).ok_or(WishError::NoPicture)?;
        let wish = hearer.handle_wish(wish, now)?;
        self.effects.push_back(Effect::Workers(Command::SoundWish { session: id, wish }));
        Ok(wish)
    }
}
