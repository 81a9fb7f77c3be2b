//! Streams at this relay: who publishes one here, who listens, and what the mesh is asked to bring for it. Which of
//! their sessions there are is in `sessions/`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use media::{Command, Epochs, Health, TrackId, TrackPair};
use mesh_routing::StreamView;
use protocol::{
    Kind, SessionId, StreamName, TrackDescription, ZoneName,
    mesh::{StreamAdvertisement, TrackKey},
};

use super::{Effect, Node};

/// A stream that is or was published or wanted here.
pub(super) struct Stream {
    pub(super) tracks: TrackPair,
    /// The session of its publisher at this relay.
    pub(super) publisher: Option<SessionId>,
    /// What is wrong with it, and whose it is.
    health: Option<(SessionId, Health)>,
    /// What is advertised, until the publisher is gone for good.
    pub(super) published: Option<Vec<TrackDescription>>,
    /// The publisher dropped: until then it may come back.
    pub(super) until: Option<Instant>,
    pub(super) epochs: Epochs,
    pub(super) listeners: BTreeSet<SessionId>,
    /// What the mesh was asked for.
    interests: BTreeSet<TrackKey>,
}

/// A publisher that drops may come back under its name for so long without its listeners doing anything.
const GRACE: Duration = Duration::from_secs(30);
/// Streams known here beyond which unused ones are forgotten.
const STREAMS_MAX: usize = 4096;

impl Node {
    /// The zone from which a name is live that may not be published here: another one than this, and the organizer
    /// did not allow this relay to take names over. Who publishes it here already goes on.
    pub(super) fn taken_by(&self, stream: &StreamName) -> Option<ZoneName> {
        let live = self.live(stream)?;
        let here = live.origin == self.id || self.mesh.zone_of(&live.origin) == Some(&self.zone);
        let own = self.streams.get(stream).is_some_and(|known| known.published.is_some());
        let may = || self.festival.as_ref().is_some_and(|festival| festival.may_take_over());
        (!here && !own && !may()).then_some(live.origin_zone)
    }

    /// A publisher is connected: its stream is live. Only now it replaces whoever published the name here,
    /// so an offer that never connects silences nobody.
    pub fn handle_published(
        &mut self,
        session: SessionId,
        stream: &StreamName,
        tracks: Vec<TrackDescription>,
        now: Instant,
    ) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let replaced = known.publisher.replace(session);
        known.until = None;
        known.published = Some(tracks.clone());
        if let Some(replaced) = replaced {
            self.session_over(replaced, false, now);
        }
        self.mesh.handle_publish(StreamAdvertisement { name: stream.clone(), tracks }, now);
        self.settle(stream, now);
    }

    /// A media worker says how a publisher is.
    pub(super) fn handle_health(&mut self, session: SessionId, stream: &StreamName, health: Health) {
        if let Some(known) = self.streams.get_mut(stream) {
            known.health = Some((session, health));
        }
    }

    /// How the publisher of a stream here is, as far as its session has told.
    pub fn health(&self, stream: &StreamName) -> Option<Health> {
        let known = self.streams.get(stream)?;
        known.health.filter(|(session, _)| known.publisher == Some(*session)).map(|(_, health)| health)
    }

    /// What the publisher of a stream sends is another codec than was thought.
    pub(super) fn handle_codecs(
        &mut self,
        session: SessionId,
        stream: &StreamName,
        tracks: Vec<TrackDescription>,
        now: Instant,
    ) {
        let Some(known) = self.streams.get_mut(stream).filter(|known| known.publisher == Some(session))
        else {
            return;
        };
        known.published = Some(tracks.clone());
        self.mesh.handle_publish(StreamAdvertisement { name: stream.clone(), tracks }, now);
        self.effects.push_back(Effect::Streams);
    }

    /// A publisher's session ended. `wanted` says that it was ended on purpose: then its stream is over at
    /// once, else it may come back within 30 s.
    pub fn handle_publisher_gone(
        &mut self,
        session: SessionId,
        stream: &StreamName,
        wanted: bool,
        now: Instant,
    ) {
        let Some(known) = self.streams.get_mut(stream).filter(|known| known.publisher == Some(session))
        else {
            return;
        };
        known.publisher = None;
        if wanted {
            self.unpublish(stream, now);
        } else {
            known.until = Some(now + GRACE);
        }
    }

    /// A listener came or went: see to it that the mesh brings what is wanted, and only that.
    pub fn handle_listener(&mut self, stream: &StreamName, session: SessionId, listens: bool, now: Instant) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        if listens {
            known.listeners.insert(session);
        } else {
            known.listeners.remove(&session);
        }
        self.settle(stream, now);
    }

    /// A listener at this relay needs a keyframe.
    pub fn handle_keyframe_wanted(&mut self, track: TrackId, now: Instant) {
        let Some((stream, kind)) = self.by_track.get(&track) else { return };
        let Some(known) = self.streams.get(stream) else { return };
        if known.publisher.is_some() {
            self.effects.push_back(Effect::Workers(Command::RequestKeyframe { track }));
            return;
        }
        let wanted = known.interests.iter().find(|key| key.kind == *kind).cloned();
        if let Some(key) = wanted {
            self.mesh.handle_keyframe_request(&key, now);
        }
    }

    /// The stream's place at this relay, made if there is none.
    pub(super) fn stream_mut(&mut self, name: &StreamName) -> &mut Stream {
        if self.streams.len() >= STREAMS_MAX {
            self.forget_unused();
        }
        let next_track = &mut self.next_track;
        let by_track = &mut self.by_track;
        let epochs = Epochs::new(self.epoch_seed);
        self.streams.entry(name.clone()).or_insert_with(|| {
            let tracks = TrackPair { audio: TrackId(*next_track), video: TrackId(*next_track + 1) };
            *next_track = next_track.wrapping_add(2);
            by_track.insert(tracks.audio, (name.clone(), Kind::Audio));
            by_track.insert(tracks.video, (name.clone(), Kind::Video));
            Stream {
                tracks,
                publisher: None,
                health: None,
                published: None,
                until: None,
                epochs,
                listeners: BTreeSet::new(),
                interests: BTreeSet::new(),
            }
        })
    }

    /// The view of a stream that is live somewhere in the mesh.
    pub fn live(&self, name: &StreamName) -> Option<StreamView> {
        self.mesh.streams().into_iter().find(|stream| stream.name == *name)
    }

    /// What a stream is now. Of what is published here this relay knows it before the mesh does.
    pub(super) fn carried(&self, stream: &StreamView) -> Vec<TrackDescription> {
        let here = self.streams.get(&stream.name).and_then(|known| known.published.as_ref());
        here.unwrap_or(&stream.tracks).clone()
    }

    pub(super) fn unpublish(&mut self, stream: &StreamName, now: Instant) {
        if let Some(known) = self.streams.get_mut(stream) {
            (known.until, known.published) = (None, None);
            self.mesh.handle_unpublish(stream, now);
        }
    }

    pub(super) fn settle_all(&mut self, now: Instant) {
        let wanted: Vec<StreamName> = self
            .streams
            .iter()
            .filter(|(_, known)| !known.listeners.is_empty() || !known.interests.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for stream in wanted {
            self.settle(&stream, now);
        }
    }

    /// Asks the mesh for the tracks of a stream that somebody here listens to, and for nothing else.
    fn settle(&mut self, name: &StreamName, now: Instant) {
        let live = self.live(name);
        let Some(known) = self.streams.get_mut(name) else { return };
        let heard_here = known.published.is_some() && !known.listeners.is_empty();
        self.mesh.handle_listeners(name, heard_here, now);
        let wanted: BTreeSet<TrackKey> = match live {
            Some(stream)
                if stream.origin != self.id && known.published.is_none() && !known.listeners.is_empty() =>
            {
                stream
                    .tracks
                    .iter()
                    .map(|track| TrackKey { origin: stream.origin, stream: name.clone(), kind: track.kind })
                    .collect()
            }
            _ => BTreeSet::new(),
        };
        for key in wanted.difference(&known.interests) {
            // From another origin numbers start anew.
            let track = known.tracks.of(key.kind);
            self.effects.push_back(Effect::Workers(Command::Reset { track }));
            self.mesh.handle_interest(key.clone(), true, now);
        }
        for key in known.interests.difference(&wanted) {
            self.mesh.handle_interest(key.clone(), false, now);
        }
        if known.interests != wanted {
            known.interests = wanted;
            self.effects.push_back(Effect::Forwarding);
        }
    }

    fn forget_unused(&mut self) {
        self.streams.retain(|name, known| {
            let used = known.published.is_some() || self.sessions.serves(name);
            if !used {
                for track in [known.tracks.audio, known.tracks.video] {
                    self.by_track.remove(&track);
                    self.effects.push_back(Effect::Workers(Command::Forget { track }));
                }
            }
            used
        });
    }
}
