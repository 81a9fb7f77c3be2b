//! What listeners here wish, see and hear: wishes on their way to the workers, sights on their way to who reads them. What
//! is understood and how it is named is in `sessions/viewer.rs` and `sessions/hearer.rs`.

use std::{sync::Arc, time::Instant};

use media::{Command, Sight, SoundSight, SoundWish, Wish};
use protocol::{
    SessionId, StreamName,
    api::{LayerWish, Picture, PictureLayers, PictureReason},
};

use super::{
    Effect, Node,
    sessions::{SessionError, WishError, hearer::Hearer, viewer::Names},
};

/// What somebody who reads it is told of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The mid of the picture at the listener, and what it may have; `None` for one that gets no picture.
    pub layers: Option<(String, PictureLayers)>,
    /// What it has.
    pub quality: Picture,
}

/// What a listener wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wished {
    /// Of the picture.
    Picture(Wish),
    /// Of the sound.
    Sound(SoundWish),
}

/// A listener of whom somebody reads from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// What is known now.
    pub seen: Seen,
    /// What is known is of now. Otherwise more will be known in a moment.
    pub fresh: bool,
}

impl Node {
    /// A listener wishes another picture, or another sound.
    ///
    /// # Errors
    ///
    /// [`WishError::NoSession`] if it is no listener of this stream, the others if the wish cannot be understood or comes
    /// too soon.
    pub fn handle_wish(
        &mut self,
        stream: &StreamName,
        id: SessionId,
        wish: &LayerWish,
        now: Instant,
    ) -> Result<Wished, WishError> {
        self.sessions.listens(id, stream).map_err(|_| WishError::NoSession)?;
        if self.is_of_sound(id, wish) {
            return self.handle_sound_wish(id, wish, now).map(Wished::Sound);
        }
        let names = self.names(stream);
        let viewer = self.sessions.viewer_mut(id).ok_or(WishError::NoPicture)?;
        let wish = match viewer.handle_wish(wish, &names, now) {
            Err(WishError::Media { mid, .. }) => {
                let sound = self.sessions.hearer_mut(id).map(|hearer| hearer.mid.clone());
                return Err(WishError::Media { mid, sound });
            }
            wish => wish?,
        };
        self.effects.push_back(Effect::Workers(Command::Wish { session: id, wish }));
        if let Some(known) = self.streams.get_mut(stream) {
            let changed = match wish {
                Wish::Sound => known.only_heard.insert(id),
                Wish::UpTo(_) => known.only_heard.remove(&id),
            };
            if changed {
                self.settle(stream, now);
            }
        }
        Ok(Wished::Picture(wish))
    }

    /// Whether a wish is about the sound: it names it, or there is no picture.
    fn is_of_sound(&mut self, id: SessionId, wish: &LayerWish) -> bool {
        let pictureless = self.sessions.viewer(id).is_none() && wish.media_id.is_none();
        let named = |mid: &String| wish.media_id.as_ref() == Some(mid);
        self.sessions.hearer_mut(id).is_some_and(|hearer| pictureless || named(&hearer.mid))
    }

    /// Somebody reads what a listener sees from now on.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoSession`] if it is no listener of this stream.
    pub fn handle_watch(&mut self, stream: &StreamName, id: SessionId) -> Result<Watched, SessionError> {
        let connected = self.sessions.listens(id, stream)?;
        let hears = self.sessions.hearer_mut(id).map(|hearer| hearer.told.handle_watched());
        let sees = self.sessions.viewer_mut(id).map(|viewer| viewer.told.handle_watched());
        let (mut begins, mut fresh) = (false, true);
        for (first, of_now) in hears.into_iter().chain(sees) {
            (begins, fresh) = (begins || first, fresh && of_now);
        }
        if begins {
            self.effects.push_back(Effect::Workers(Command::Watch { session: id, watched: true }));
        }
        let seen = self.seen(id).ok_or(SessionError::NoSession)?;
        // Of one that is not connected a worker knows nothing.
        Ok(Watched { seen, fresh: fresh || !connected })
    }

    /// Nobody reads it any more.
    pub fn handle_unwatched(&mut self, id: SessionId) {
        if let Some(viewer) = self.sessions.viewer_mut(id) {
            viewer.told.handle_unwatched();
        }
        if let Some(hearer) = self.sessions.hearer_mut(id) {
            hearer.told.handle_unwatched();
        }
        self.effects.push_back(Effect::Workers(Command::Watch { session: id, watched: false }));
    }

    /// A worker says what a listener hears.
    pub(super) fn handle_sound_sight(&mut self, id: SessionId, sight: SoundSight) {
        if let Some(hearer) = self.sessions.hearer_mut(id) {
            hearer.told.handle_sight(sight);
            self.effects.push_back(Effect::Seen(id));
        }
    }

    /// A worker says what a listener sees.
    pub(super) fn handle_sight(&mut self, id: SessionId, sight: Box<Sight>) {
        if let Some(viewer) = self.sessions.viewer_mut(id) {
            viewer.told.handle_sight(sight);
            self.effects.push_back(Effect::Seen(id));
        }
    }

    /// What a listener sees and hears, as it was told last.
    pub fn seen(&self, id: SessionId) -> Option<Seen> {
        let (stream, _) = self.sessions.stream_of(id)?;
        let (viewer, hearer) = (self.sessions.viewer(id), self.sessions.hearer(id));
        let has_picture = viewer.is_some() && self.has_picture(stream);
        let names = self.names(stream);
        let picture = viewer.map(|viewer| viewer.picture(&names, has_picture));
        let none = Picture { video: None, best: None, reason: PictureReason::None, audio: None };
        Some(Seen {
            layers: viewer.map(|viewer| (viewer.mid.clone(), viewer.layers(&names, has_picture))),
            quality: Picture { audio: hearer.and_then(Hearer::sound), ..picture.unwrap_or(none) },
        })
    }

    /// What of it the status of a session says: nothing as long as nothing was told.
    pub(super) fn picture(&self, id: SessionId) -> Option<Picture> {
        let seen = self.sessions.viewer(id).is_some_and(|viewer| viewer.told.sight().is_some());
        let heard = self.sessions.hearer(id).is_some_and(|hearer| hearer.told.sight().is_some());
        self.seen(id).filter(|_| seen || heard).map(|seen| seen.quality)
    }

    fn has_picture(&self, stream: &StreamName) -> bool {
        self.streams.get(stream).is_some_and(|known| known.has_picture)
    }

    /// What the encodings of a picture are called, as far as that is known here.
    fn names(&self, stream: &StreamName) -> Names {
        let Some(known) = self.streams.get(stream) else { return Names::One(None) };
        let several = |mut names: Vec<(u8, Option<Arc<str>>)>| {
            names.sort_unstable_by_key(|(place, _)| *place);
            Names::Several(names)
        };
        match (&known.published, &known.rids[..], &known.advertised[..]) {
            (Some(_), [], _) | (None, _, []) => Names::One(None),
            (Some(_), [rid], _) => Names::One(Some(rid.clone())),
            (Some(_), rids, _) => several((0..).zip(rids.iter().cloned().map(Some)).collect()),
            (None, _, advertised) => {
                several(advertised.iter().map(|encoding| (encoding.place, encoding.rid.clone())).collect())
            }
        }
    }
}
