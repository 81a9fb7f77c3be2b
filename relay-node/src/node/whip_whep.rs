//! WHIP and WHEP at this relay: what offers, patches and goodbyes of sessions, and what media says of them, come to
//! for streams, mesh and workers. The sessions themselves are in `sessions/`.

use std::{sync::Arc, time::Instant};

use media::{
    Command, Event,
    sdp::{Fragment, Offer},
    transport::{CloseReason, Credentials},
};
use protocol::{Codec, SessionId, StreamName, api};

use super::{
    Effect, Node,
    sessions::{Direction, Fresh, IfMatch, Opened, Patched, SessionError},
};
use crate::places::shares::Holder;

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
        self.effects.push_back(Effect::Workers(Command::Open(Arc::new(plan))));
        Ok(opened)
    }

    /// WHEP: a listener's offer.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotLive`] if nobody publishes the stream, [`SessionError::Sdp`] if the offer cannot be
    /// served, [`SessionError::Full`] if there is no place.
    pub fn handle_listen(
        &mut self,
        (stream, holder): (StreamName, Holder),
        offer: &Offer,
        fresh: Fresh,
        now: Instant,
    ) -> Result<Opened, SessionError> {
        let Some(live) = self.live(&stream) else { return Err(SessionError::NotLive { stream }) };
        let codecs: Vec<Codec> = self.carried(&live).iter().map(|track| track.codec).collect();
        let answered = self.sessions.answer_listener(&stream, &codecs, offer, &fresh)?;
        let id = fresh.id;
        self.make_room(id, holder, now)?;
        let tracks = self.stream_mut(&stream).tracks;
        let (opened, plan) = self.sessions.open_listener(fresh, stream.clone(), answered, tracks, now);
        self.effects.push_back(Effect::Workers(Command::Open(Arc::new(plan))));
        // From now on, so that media is there when the session is connected.
        self.handle_listener(&stream, id, true, now);
        Ok(opened)
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
            Event::KeyframeWanted { track } => self.handle_keyframe_wanted(track, now),
            // Chat and files over data channels come with the participant's door to the rooms.
            Event::Message { .. } | Event::Foreign { .. } => {}
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

    pub(super) fn session_over(&mut self, id: SessionId, wanted: bool, now: Instant) {
        let Some((stream, direction)) = self.sessions.handle_over(id) else { return };
        self.effects.push_back(Effect::Workers(Command::Close { session: id }));
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

    /// `GET /api/v1/sessions/{session}`.
    pub fn session(&self, id: SessionId, now: Instant) -> Option<api::Session> {
        let (stream, _) = self.sessions.stream_of(id)?;
        let carried = self.live(stream).map(|live| self.carried(&live));
        self.sessions.shown(id, carried, now)
    }
}
