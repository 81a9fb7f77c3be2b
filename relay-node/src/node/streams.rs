//! Streams at this relay and the sessions that feed or take them: what offers, patches and goodbyes of sessions come
//! to, who publishes a stream here and who may take its name over, who listens, and what the mesh is asked to bring for
//! it. What is known of each session is in `sessions/`.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use media::{
    AdvertisedEncoding, Command, EncodingView, Epochs, Event, Health, SessionPlan, StreamTracks, TrackId,
    sdp::{Fragment, Offer},
    transport::{CloseReason, Credentials},
};
use mesh_routing::{PictureDemand, SoundDemand, StreamView};
use protocol::{
    Codec, Kind, SessionId, StreamName, TrackDescription, ZoneName,
    mesh::{StreamAdvertisement, StreamTrack, TrackKey},
};

use super::{
    Effect, Node,
    picture::{Published, Wanted},
    rungs::Rungs,
    sessions::{Direction, Fresh, IfMatch, Opened, Patched, SessionError, Whose, merging::Frames},
};
use crate::places::shares::Holder;

/// A stream that is or was published or wanted here.
pub(super) struct Stream {
    pub(super) tracks: StreamTracks,
    /// The session of its publisher at this relay.
    pub(super) publisher: Option<SessionId>,
    /// What is wrong with it, and whose it is.
    health: Option<(SessionId, Health)>,
    /// How the encodings of its picture are, and whose they are.
    pub(super) encodings: Option<(SessionId, Vec<EncodingView>)>,
    /// What is advertised, until the publisher is gone for good.
    pub(super) published: Option<Vec<TrackDescription>>,
    /// The publisher dropped: until then it may come back.
    pub(super) until: Option<Instant>,
    pub(super) epochs: Epochs,
    pub(super) listeners: BTreeSet<SessionId>,
    /// Those of them that wish no picture.
    pub(super) only_heard: BTreeSet<SessionId>,
    /// There is a picture in it now.
    pub(super) has_picture: bool,
    /// What who publishes it here calls the encodings of its picture.
    pub(super) rids: Vec<Arc<str>>,
    /// What the mesh was asked for: the sound, and the picture in whatever encodings.
    interests: BTreeSet<TrackKey>,
    /// What is said of it if it is published here.
    pub(super) rates: Published,
    /// Which encodings listeners here want of a picture from elsewhere, and what of it the mesh was told.
    pub(super) wanted: Wanted,
    /// The rungs of its sound.
    pub(super) rungs: Rungs,
    sound_demand: SoundDemand,
    demand: PictureDemand,
    /// What the workers were told that the picture can be had in.
    pub(super) advertised: Vec<AdvertisedEncoding>,
}

/// A publisher that drops may come back under its name for so long without its listeners doing anything.
const GRACE: Duration = Duration::from_secs(30);
/// Streams known here beyond which unused ones are forgotten.
const STREAMS_MAX: usize = 4096;

impl Node {
    /// WHIP: a publisher's offer. Who publishes a name anew replaces whoever publishes it here: a sound
    /// engineer whose laptop crashed comes back before anybody noticed that it is gone.
    ///
    /// # Errors
    ///
    /// [`SessionError::Elsewhere`] if the name is live from another zone, [`SessionError::Sdp`] if the offer
    /// cannot be served, [`SessionError::Full`] if there is no place.
    pub fn handle_publish(
        &mut self,
        (stream, holder): (StreamName, Holder),
        offer: &Offer,
        fresh: Fresh,
        now: Instant,
    ) -> Result<Opened, SessionError> {
        if let Some(zone) = self.taken_by(&stream) {
            return Err(SessionError::Elsewhere { stream, zone });
        }
        let answered = self.sessions.answer_publisher(offer, &fresh)?;
        self.make_room(fresh.id, holder, now)?;
        let known = self.stream_mut(&stream);
        let ring = (known.tracks, known.epochs.clone());
        let (opened, plan) = self.sessions.open_publisher(fresh, stream, answered, ring, now);
        self.open(plan);
        Ok(opened)
    }

    /// WHEP: a listener's offer, and how it asks for its sound.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotLive`] if nobody publishes the stream, [`SessionError::Sdp`] if the offer cannot be
    /// served, [`SessionError::Full`] if there is no place.
    pub fn handle_listen(
        &mut self,
        (stream, holder): (StreamName, Holder),
        (offer, asked): (&Offer, Option<Frames>),
        fresh: Fresh,
        now: Instant,
    ) -> Result<Opened, SessionError> {
        if stream.is_bare() {
            return self.handle_bare((stream, holder), offer, fresh, now);
        }
        let Some(live) = self.live(&stream) else { return Err(SessionError::NotLive { stream }) };
        let codecs: Vec<Codec> = self.carried(&live).iter().map(|track| track.codec).collect();
        let answered = self.sessions.answer_listener(&stream, &codecs, offer, &fresh)?;
        let id = fresh.id;
        self.make_room(id, holder, now)?;
        let tracks = self.stream_mut(&stream).tracks;
        let (opened, plan) =
            self.sessions.open_listener(fresh, stream.clone(), answered, (tracks, asked), now);
        self.open(plan);
        // From now on, so that media is there when the session is connected.
        self.handle_listener(&stream, id, true, now);
        Ok(opened)
    }

    /// WHEP without a stream: a session of data channels alone.
    fn handle_bare(
        &mut self,
        (stream, holder): (StreamName, Holder),
        offer: &Offer,
        fresh: Fresh,
        now: Instant,
    ) -> Result<Opened, SessionError> {
        let answered = self.sessions.answer_listener(&stream, &[], offer, &fresh)?;
        self.make_room(fresh.id, holder, now)?;
        // No packet is of these numbers: no stream is called so.
        let tracks = self.stream_mut(&stream).tracks;
        let (opened, plan) = self.sessions.open_listener(fresh, stream, answered, (tracks, None), now);
        self.open(plan);
        Ok(opened)
    }

    fn open(&mut self, plan: SessionPlan) {
        self.effects.push_back(Effect::Workers(Command::Open(Arc::new(plan))));
    }

    /// Who offered a session, if there is one.
    pub fn whose(&self, id: SessionId) -> Option<Whose> {
        self.sessions.whose(id)
    }

    /// Who offered a session that was just opened.
    pub fn set_whose(&mut self, id: SessionId, whose: Whose) {
        self.sessions.set_whose(id, whose);
    }

    /// The zone from which a name is live that may not be published here: another one than this, and the organizer
    /// did not allow this relay to take names over. Who publishes it here already goes on.
    fn taken_by(&self, stream: &StreamName) -> Option<ZoneName> {
        let live = self.live(stream)?;
        let here = live.origin == self.id || self.mesh.zone_of(&live.origin) == Some(&self.zone);
        let own = self.streams.get(stream).is_some_and(|known| known.published.is_some());
        let may = || self.festival.as_ref().is_some_and(|festival| festival.may_take_over());
        (!here && !own && !may()).then_some(live.origin_zone)
    }

    /// A place for a session that is about to open; sessions of the greediest address may have to end for it.
    fn make_room(&mut self, id: SessionId, holder: Holder, now: Instant) -> Result<(), SessionError> {
        for gone in self.sessions.make_room(id, holder, now)? {
            self.effects.push_back(Effect::GaveWay);
            self.session_over(gone, false, now);
        }
        Ok(())
    }

    /// PATCH: trickled candidates or an ICE restart (RFC 9725 section 4.3).
    ///
    /// # Errors
    ///
    /// [`SessionError::NoSession`] if there is none of that id, stream and direction, [`SessionError::NoTag`]
    /// without a condition, [`SessionError::Tag`] for that of an earlier ICE session.
    pub fn handle_patch(
        &mut self,
        session: (Direction, &StreamName, SessionId),
        if_match: &IfMatch,
        fragment: &Fragment,
        fresh: Credentials,
    ) -> Result<Patched, SessionError> {
        let (patched, restart) = self.sessions.handle_patch(session, if_match, fragment, fresh)?;
        self.effects.extend(restart.map(Effect::Workers));
        Ok(patched)
    }

    /// DELETE: the participant ends the session.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoSession`] if there is none of that id, stream and direction, and none that just
    /// ended.
    pub fn handle_end(
        &mut self,
        direction: Direction,
        stream: &StreamName,
        id: SessionId,
        now: Instant,
    ) -> Result<(), SessionError> {
        if self.sessions.handle_end(direction, stream, id)? {
            self.session_over(id, true, now);
        }
        Ok(())
    }

    /// A media worker says something.
    pub fn handle_media(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { session } => {
                if let Some((stream, tracks)) = self.sessions.handle_connected(session, now) {
                    self.handle_published(session, &stream, tracks, now);
                }
            }
            Event::Codec { session, codec } => {
                if let Some((stream, tracks)) = self.sessions.handle_codec(session, codec) {
                    self.handle_codecs(session, &stream, tracks, now);
                }
            }
            Event::Closed { session, reason, .. } => {
                let goodbye = reason == CloseReason::PeerClosed;
                if goodbye {
                    self.sessions.handle_goodbye(session);
                }
                self.session_over(session, goodbye, now);
            }
            Event::Health { session, health } => {
                let Some((stream, _)) = self.sessions.stream_of(session) else { return };
                let stream = stream.clone();
                self.handle_health(session, &stream, health);
            }
            Event::Encodings { session, encodings } => {
                let Some((stream, _)) = self.sessions.stream_of(session) else { return };
                let stream = stream.clone();
                if self.publishes(session, &stream) {
                    self.handle_encodings(&stream, &encodings, now);
                }
                if let Some(known) = self.streams.get_mut(&stream) {
                    known.encodings = Some((session, encodings));
                }
            }
            Event::Sound { session, sound } => {
                let Some((stream, _)) = self.sessions.stream_of(session) else { return };
                let stream = stream.clone();
                if self.publishes(session, &stream) {
                    self.handle_sound(&stream, sound, now);
                }
            }
            Event::Demand { worker, track, wanted } => self.handle_demand(worker, track, wanted, now),
            Event::Rungs { worker, track, wanted, left } => {
                self.handle_rungs((worker, track), wanted, left, now);
            }
            Event::Heard { worker, track, heard } => self.handle_hearing((worker, track), heard, now),
            Event::Sight { session, sight } => self.handle_sight(session, sight),
            Event::SoundSight { session, sight } => self.handle_sound_sight(session, sight),
            Event::KeyframeWanted { track } => self.handle_keyframe_wanted(track, now),
            // They go elsewhere.
            Event::Channel(..) | Event::ChannelsOver { .. } | Event::Foreign { .. } => {}
        }
    }

    /// The relay stops: every peer is told goodbye.
    pub fn handle_stop(&mut self, now: Instant) {
        for session in self.sessions.ids() {
            self.session_over(session, false, now);
        }
    }

    /// Time has passed: sessions that should have connected by now are counted, each once, and those that never
    /// did are over.
    pub(super) fn look_at_sessions(&mut self, now: Instant) {
        let (late, said) = self.sessions.handle_late(now);
        self.effects.extend(late.into_iter().map(Effect::Unreached));
        self.effects.extend(said.map(Effect::Warn));
        for gone in self.sessions.handle_timeout(now) {
            self.session_over(gone, false, now);
        }
    }

    fn session_over(&mut self, id: SessionId, wanted: bool, now: Instant) {
        let Some((stream, direction)) = self.sessions.handle_over(id) else { return };
        self.effects.push_back(Effect::Workers(Command::Close { session: id }));
        self.effects.push_back(Effect::Over(id));
        match direction {
            Direction::Ingest => self.handle_publisher_gone(id, &stream, wanted, now),
            Direction::Egress => self.handle_listener(&stream, id, false, now),
        }
    }

    /// The stream of a session, and which way it goes.
    pub fn stream_of(&self, id: SessionId) -> Option<(&StreamName, Direction)> {
        self.sessions.stream_of(id)
    }

    /// When a listener's session was opened.
    pub fn listener_opened_at(&self, id: SessionId) -> Option<Instant> {
        self.sessions.listener_opened_at(id)
    }

    /// Whether a session is that of the stream's publisher here.
    fn publishes(&self, session: SessionId, stream: &StreamName) -> bool {
        self.streams.get(stream).is_some_and(|known| known.publisher == Some(session))
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
        known.rids = self.sessions.rids(session);
        if let Some(replaced) = replaced {
            self.session_over(replaced, false, now);
        }
        self.mesh.handle_publish(StreamAdvertisement { name: stream.clone(), tracks }, now);
        self.open_rungs(stream, now);
        self.settle(stream, now);
    }

    /// A media worker says how a publisher is.
    fn handle_health(&mut self, session: SessionId, stream: &StreamName, health: Health) {
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
    fn handle_codecs(
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
            known.only_heard.remove(&session);
        }
        self.settle(stream, now);
    }

    /// A listener at this relay needs a keyframe.
    pub fn handle_keyframe_wanted(&mut self, track: TrackId, now: Instant) {
        let Some((stream, of)) = self.by_track.get(&track) else { return };
        let Some(known) = self.streams.get(stream) else { return };
        if known.publisher.is_some() {
            self.effects.push_back(Effect::Workers(Command::RequestKeyframe { track }));
            return;
        }
        let wanted = known.interests.iter().find(|key| key.track.kind() == of.kind());
        let wanted = wanted.map(|key| TrackKey { track: *of, ..key.clone() });
        if let Some(key) = wanted {
            self.mesh.handle_keyframe_request(&key, now);
        }
    }

    /// The stream's place at this relay, made if there is none.
    fn stream_mut(&mut self, name: &StreamName) -> &mut Stream {
        if self.streams.len() >= STREAMS_MAX {
            self.forget_unused();
        }
        let next_track = &mut self.next_track;
        let by_track = &mut self.by_track;
        let epochs = Epochs::new(self.epoch_seed);
        self.streams.entry(name.clone()).or_insert_with(|| {
            let tracks = StreamTracks::from_first(*next_track);
            *next_track = next_track.wrapping_add(StreamTracks::COUNT);
            by_track.extend(tracks.all().map(|(of, track)| (track, (name.clone(), of))));
            Stream {
                tracks,
                publisher: None,
                health: None,
                encodings: None,
                published: None,
                until: None,
                epochs,
                listeners: BTreeSet::new(),
                only_heard: BTreeSet::new(),
                has_picture: false,
                rids: Vec::new(),
                interests: BTreeSet::new(),
                rates: Published::default(),
                wanted: Wanted::default(),
                rungs: Rungs::default(),
                sound_demand: SoundDemand::default(),
                demand: PictureDemand::default(),
                advertised: Vec::new(),
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
            known.rates = Published::default();
            self.mesh.handle_unpublish(stream, now);
            self.open_rungs(stream, now);
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
    pub(super) fn settle(&mut self, name: &StreamName, now: Instant) {
        let live = self.live(name);
        self.tell_advertised(name, live.as_ref());
        self.tell_rungs(name, live.as_ref());
        let carried = live.as_ref().map(|live| self.carried(live)).unwrap_or_default();
        let Some(known) = self.streams.get_mut(name) else { return };
        known.has_picture = carried.iter().any(|track| track.kind == Kind::Video);
        let heard_here = known.published.is_some() && !known.listeners.is_empty();
        self.mesh.handle_listeners(name, heard_here, now);
        let wanted: BTreeSet<TrackKey> = match live {
            Some(stream)
                if stream.origin != self.id && known.published.is_none() && !known.listeners.is_empty() =>
            {
                stream
                    .tracks
                    .iter()
                    .map(|track| TrackKey {
                        origin: stream.origin,
                        stream: name.clone(),
                        track: StreamTrack::of(track.kind),
                    })
                    .collect()
            }
            _ => BTreeSet::new(),
        };
        for key in wanted.difference(&known.interests) {
            // From another origin numbers start anew.
            for (_, track) in known.tracks.all().filter(|(of, _)| of.kind() == key.track.kind()) {
                self.effects.push_back(Effect::Workers(Command::Reset { track }));
            }
            match key.track.kind() {
                // What is wanted of them is told below.
                Kind::Audio => known.sound_demand = SoundDemand::default(),
                Kind::Video => known.demand = PictureDemand::default(),
            }
        }
        for key in known.interests.difference(&wanted) {
            self.mesh.handle_interest(key.clone(), false, now);
        }
        let demand = known.rungs.demand(known.listeners.len());
        if let Some(key) = wanted.iter().find(|key| key.track == StreamTrack::Audio)
            && known.sound_demand != demand
        {
            known.sound_demand = demand;
            self.mesh.handle_sound_demand(key.origin, name.clone(), demand, now);
        }
        let demand = known.wanted.demand(known.listeners.len() - known.only_heard.len());
        if let Some(key) = wanted.iter().find(|key| key.track == StreamTrack::Video)
            && known.demand != demand
        {
            known.demand = demand;
            self.mesh.handle_demand(key.origin, name.clone(), demand, now);
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
                for (_, track) in known.tracks.all() {
                    self.by_track.remove(&track);
                    self.effects.push_back(Effect::Workers(Command::Forget { track }));
                }
            }
            used
        });
    }
}
