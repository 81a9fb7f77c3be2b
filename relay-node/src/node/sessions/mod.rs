//! WHIP and WHEP sessions (RFC 9725): opened by an offer, patched, ended; what media says of them.
//!
//! The HTTP of it is in `whip`, streams and interest are in `node`. Without I/O: random credentials come
//! from the driver.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use media::{
    Claim, Command, Event, Flow, SessionPlan,
    sdp::{
        EgressPolicy, Fragment, IngestPolicy, Local, Offer, SdpError, Setup, answer_egress, answer_ingest,
        msid_token,
    },
    transport::{CloseReason, Credentials, DtlsRole, Identity, TransportConfig},
};
use protocol::{Codec, SessionId, StreamName, TrackDescription, ZoneName};
use thiserror::Error;

use super::{Effect, Node};
use crate::places::shares::Holder;
use places::SessionPlaces;
use quality::{Abilities, Ability};
use unreached::Unreached;

#[cfg(test)]
mod health_tests;
mod places;
mod quality;
#[cfg(test)]
mod tests;
pub(crate) mod unreached;

/// Every session of this relay.
pub struct Sessions {
    identity: Arc<Identity>,
    candidates: Vec<SocketAddr>,
    opus_bitrate: u32,
    sessions: BTreeMap<SessionId, Session>,
    places: SessionPlaces,
    /// Ended by a goodbye on DTLS: the DELETE that comes behind it is answered as if it were the first.
    ended: VecDeque<SessionId>,
    unreached: Unreached,
    abilities: Abilities,
}

struct Session {
    stream: StreamName,
    direction: Direction,
    /// What a publisher sends.
    tracks: Vec<TrackDescription>,
    /// What a listener can play.
    ability: Ability,
    remote: Credentials,
    tag: String,
    opened: Instant,
    connected: bool,
    /// It took too long to connect, and that was told.
    late: bool,
}

/// What was agreed with the peer of a session.
#[derive(Default)]
struct Agreed {
    tracks: Vec<TrackDescription>,
    ability: Ability,
}

/// Which way media flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// WHIP: from a publisher.
    Ingest,
    /// WHEP: to a listener.
    Egress,
}

/// What has to be random about a session.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// Its id.
    pub id: SessionId,
    /// Our ICE credentials.
    pub local: Credentials,
    /// The first of our SSRCs.
    pub first_ssrc: u32,
}

/// A session that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its id, the last segment of its URL.
    pub id: SessionId,
    /// Its entity tag, without quotes.
    pub tag: String,
    /// The SDP answer.
    pub answer: String,
}

/// What came of a PATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patched {
    /// Candidates were noted: an ICE-lite end has no use for them.
    Trickled,
    /// ICE restarts.
    Restarted {
        /// The new entity tag, without quotes.
        tag: String,
        /// Our fragment.
        answer: String,
    },
}

/// The If-Match of a PATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`
    Any,
    /// One of these entity tags, without quotes.
    Tags(Vec<String>),
    /// The header is not there.
    Missing,
}

/// Why a session was not opened or changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The offer or the fragment.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// WHEP: nobody publishes the stream anywhere in the mesh.
    #[error("nobody publishes {stream} now: try again in a few seconds")]
    NotLive {
        /// The stream.
        stream: StreamName,
    },
    /// WHIP: the name is live from another zone.
    #[error(
        "{stream} is live from the zone {zone}: end it there first, take another name, or ask the organizer for \
         a zone token that may take over"
    )]
    Elsewhere {
        /// The stream.
        stream: StreamName,
        /// Where.
        zone: ZoneName,
    },
    /// No such session, or it is over.
    #[error("there is no such session: it may have ended; open a new one with POST")]
    NoSession,
    /// The entity tag is that of an earlier ICE session.
    #[error(
        "If-Match does not name this session's entity tag: use the ETag of the last answer, or * to restart ICE"
    )]
    Tag,
    /// No condition was sent.
    #[error("send If-Match with the session's ETag, or If-Match: * to restart ICE")]
    NoTag,
    /// As many sessions as the relay serves are open or opening.
    #[error("this relay is full: try again in a few seconds")]
    Full,
}

/// Sessions that ended and are still known by their ids.
const ENDED_MAX: usize = 1024;
/// A session that never connects is gone after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Sessions {
    /// No sessions yet. `candidates` are offered to browsers, the best first.
    pub fn new(identity: Arc<Identity>, candidates: Vec<SocketAddr>, opus_bitrate: u32) -> Sessions {
        Sessions {
            identity,
            candidates,
            opus_bitrate,
            sessions: BTreeMap::new(),
            places: SessionPlaces::default(),
            ended: VecDeque::new(),
            unreached: Unreached::default(),
            abilities: Abilities::default(),
        }
    }

    /// Time has passed: the sessions that never connected.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<SessionId> {
        self.sessions
            .iter()
            .filter(|(_, session)| !session.connected && session.opened + CONNECT_TIMEOUT <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let opening = self.sessions.values().filter(|session| !session.connected);
        let wait = |session: &Session| if session.late { CONNECT_TIMEOUT } else { unreached::PATIENCE };
        let late = opening.map(|session| session.opened + wait(session)).min();
        late.into_iter().chain(self.unreached.poll_timeout()).min()
    }

    /// True if a session of this stream is open or opening.
    pub(crate) fn serve(&self, stream: &StreamName) -> bool {
        self.sessions.values().any(|session| session.stream == *stream)
    }

    fn find(
        &self,
        id: SessionId,
        stream: &StreamName,
        direction: Direction,
    ) -> Result<&Session, SessionError> {
        self.sessions
            .get(&id)
            .filter(|session| session.stream == *stream && session.direction == direction)
            .ok_or(SessionError::NoSession)
    }
}

impl Node {
    /// WHIP: a publisher's offer. Who publishes a name anew replaces whoever publishes it here: a sound
    /// engineer whose laptop crashed comes back before anybody noticed that it is gone.
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
        let policy =
            IngestPolicy { opus_max_average_bitrate: self.sessions.opus_bitrate, data_channel: true };
        let fingerprint = self.sessions.identity.fingerprint().to_string();
        let (answer, plan) = answer_ingest(offer, &self.local(&fresh, &fingerprint), &policy)?;
        let transport = self.transport(offer, &fresh, plan.setup, plan.data_channel)?;
        let tracks = plan.tracks.iter().filter_map(|track| {
            let codec = track.codecs.first()?.codec;
            Some(TrackDescription { kind: track.kind, codec, layers: 1 })
        });
        self.make_room(fresh.id, holder, now)?;
        let agreed = Agreed { tracks: tracks.collect(), ..Agreed::default() };
        let known = self.stream_mut(&stream);
        let flow = Flow::Ingest { plan, tracks: known.tracks, epochs: known.epochs.clone() };
        Ok(self.open(fresh, stream, Direction::Ingest, agreed, offer, (answer, transport, flow), now))
    }

    /// WHEP: a listener's offer.
    pub fn handle_listen(
        &mut self,
        (stream, holder): (StreamName, Holder),
        offer: &Offer,
        fresh: Fresh,
        now: Instant,
    ) -> Result<Opened, SessionError> {
        let Some(live) = self.live(&stream) else { return Err(SessionError::NotLive { stream }) };
        let preferred: Vec<Codec> = self.carried(&live).iter().map(|track| track.codec).collect();
        // Without transport-cc a browser estimates by itself and tells us (REMB).
        let policy = EgressPolicy {
            transport_cc: false,
            ..EgressPolicy::new(stream.as_str(), &preferred, fresh.first_ssrc)
        };
        let fingerprint = self.sessions.identity.fingerprint().to_string();
        let (answer, plan) = answer_egress(offer, &self.local(&fresh, &fingerprint), &policy)?;
        let transport = self.transport(offer, &fresh, plan.setup, plan.data_channel)?;
        self.make_room(fresh.id, holder, now)?;
        let agreed = Agreed { ability: Ability::of(&plan), ..Agreed::default() };
        let tracks = self.stream_mut(&stream).tracks;
        let flow = Flow::Egress { plan, tracks, cname: msid_token(stream.as_str()) };
        let id = fresh.id;
        let opened = self.open(
            fresh,
            stream.clone(),
            Direction::Egress,
            agreed,
            offer,
            (answer, transport, flow),
            now,
        );
        // From now on, so that media is there when the session is connected.
        self.handle_listener(&stream, id, true, now);
        Ok(opened)
    }

    /// PATCH: trickled candidates or an ICE restart (RFC 9725 section 4.3).
    pub fn handle_patch(
        &mut self,
        (direction, stream, id): (Direction, &StreamName, SessionId),
        if_match: &IfMatch,
        fragment: &Fragment,
        fresh: Credentials,
    ) -> Result<Patched, SessionError> {
        let session = self.sessions.find(id, stream, direction)?;
        let restarts = fragment.restarts(&session.remote.ufrag, &session.remote.pwd);
        match if_match {
            IfMatch::Missing => return Err(SessionError::NoTag),
            IfMatch::Tags(tags) if !tags.contains(&session.tag) => return Err(SessionError::Tag),
            _ if !restarts => return Ok(Patched::Trickled),
            _ => {}
        }
        let (Some(ufrag), Some(pwd)) = (fragment.ufrag.clone(), fragment.pwd.clone()) else {
            return Ok(Patched::Trickled);
        };
        let local = Local {
            ufrag: &fresh.ufrag,
            pwd: &fresh.pwd,
            fingerprint: "",
            candidates: &self.sessions.candidates,
            session_id: 0,
        };
        let answer = fragment.answer(&local);
        let tag = fresh.ufrag.clone();
        let remote = Credentials { ufrag, pwd };
        let restart = Command::Restart { session: id, local: fresh, remote: remote.clone() };
        self.effects.push_back(Effect::Workers(restart));
        if let Some(session) = self.sessions.sessions.get_mut(&id) {
            session.remote = remote;
            session.tag = tag.clone();
        }
        Ok(Patched::Restarted { tag, answer })
    }

    /// DELETE: the participant ends the session.
    pub fn handle_end(
        &mut self,
        direction: Direction,
        stream: &StreamName,
        id: SessionId,
        now: Instant,
    ) -> Result<(), SessionError> {
        if let Some(index) = self.sessions.ended.iter().position(|ended| *ended == id) {
            self.sessions.ended.remove(index);
            return Ok(());
        }
        self.sessions.find(id, stream, direction)?;
        self.session_over(id, true, now);
        Ok(())
    }

    /// A media worker says something.
    pub fn handle_media(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected { session: id } => {
                let Some(session) = self.sessions.sessions.get_mut(&id) else { return };
                session.connected = true;
                self.sessions.places.connected(id, now);
                if session.direction == Direction::Ingest {
                    let (stream, tracks) = (session.stream.clone(), session.tracks.clone());
                    self.handle_published(id, &stream, tracks, now);
                }
            }
            Event::Codec { session: id, codec } => self.handle_codec(id, codec, now),
            Event::Closed { session, reason, .. } => {
                if reason == CloseReason::PeerClosed && self.sessions.sessions.contains_key(&session) {
                    if self.sessions.ended.len() == ENDED_MAX {
                        self.sessions.ended.pop_front();
                    }
                    self.sessions.ended.push_back(session);
                }
                self.session_over(session, reason == CloseReason::PeerClosed, now);
            }
            Event::Health { session, health } => {
                let Some(known) = self.sessions.sessions.get(&session) else { return };
                let stream = known.stream.clone();
                self.handle_health(session, &stream, health);
            }
            Event::KeyframeWanted { track } => self.handle_keyframe_wanted(track, now),
            // Chat and files over data channels come with the participant's door to the rooms.
            Event::Message { .. } | Event::Foreign { .. } => {}
        }
    }

    /// A publisher's packets are of this codec: of several that were agreed on it chose this one.
    fn handle_codec(&mut self, id: SessionId, codec: Codec, now: Instant) {
        let Some(session) = self.sessions.sessions.get_mut(&id) else { return };
        let sent = session.tracks.iter_mut().find(|track| track.kind == codec.kind() && track.codec != codec);
        let Some(sent) = sent else { return };
        sent.codec = codec;
        let (stream, tracks) = (session.stream.clone(), session.tracks.clone());
        self.handle_codecs(id, &stream, tracks, now);
    }

    /// The relay stops: every peer is told goodbye.
    pub fn handle_stop(&mut self, now: Instant) {
        let all: Vec<SessionId> = self.sessions.sessions.keys().copied().collect();
        for session in all {
            self.session_over(session, false, now);
        }
    }

    /// The stream of a session, and which way it goes.
    pub fn stream_of(&self, id: SessionId) -> Option<(&StreamName, Direction)> {
        self.sessions.sessions.get(&id).map(|session| (&session.stream, session.direction))
    }

    /// When a listener's session was opened.
    pub fn listener_opened_at(&self, id: SessionId) -> Option<Instant> {
        let session = self.sessions.sessions.get(&id)?;
        (session.direction == Direction::Egress).then_some(session.opened)
    }

    pub(crate) fn session_over(&mut self, id: SessionId, wanted: bool, now: Instant) {
        let Some(session) = self.sessions.sessions.remove(&id) else { return };
        self.sessions.places.over(id);
        self.effects.push_back(Effect::Workers(Command::Close { session: id }));
        match session.direction {
            Direction::Ingest => self.handle_publisher_gone(id, &session.stream, wanted, now),
            Direction::Egress => {
                self.sessions.abilities.remove(&session.stream, session.ability);
                self.handle_listener(&session.stream, id, false, now);
            }
        }
    }

    /// A place for a session that is about to open; sessions of the greediest address may have to end for it.
    fn make_room(&mut self, id: SessionId, holder: Holder, now: Instant) -> Result<(), SessionError> {
        let gone = self.sessions.places.open(id, holder, now).map_err(|_| SessionError::Full)?;
        for session in gone {
            self.effects.push_back(Effect::GaveWay);
            self.session_over(session, false, now);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the two doors above share this last step")]
    fn open(
        &mut self,
        fresh: Fresh,
        stream: StreamName,
        direction: Direction,
        agreed: Agreed,
        offer: &Offer,
        (answer, transport, flow): (String, TransportConfig, Flow),
        now: Instant,
    ) -> Opened {
        let tag = fresh.local.ufrag;
        let plan = SessionPlan { id: fresh.id, transport, flow, claim: Claim::default() };
        self.effects.push_back(Effect::Workers(Command::Open(Arc::new(plan))));
        let remote = Credentials { ufrag: offer.ufrag().to_owned(), pwd: offer.pwd().to_owned() };
        if direction == Direction::Egress {
            self.sessions.abilities.add(&stream, agreed.ability);
        }
        let session = Session {
            stream,
            direction,
            tracks: agreed.tracks,
            ability: agreed.ability,
            remote,
            tag: tag.clone(),
            opened: now,
            connected: false,
            late: false,
        };
        self.sessions.sessions.insert(fresh.id, session);
        Opened { id: fresh.id, tag, answer }
    }

    fn local<'a>(&'a self, fresh: &'a Fresh, fingerprint: &'a str) -> Local<'a> {
        let [a, b, c, d, e, f, g, h, ..] = fresh.id.0;
        Local {
            ufrag: &fresh.local.ufrag,
            pwd: &fresh.local.pwd,
            fingerprint,
            candidates: &self.sessions.candidates,
            // not the id itself: that is a secret
            session_id: u64::from(fresh.first_ssrc) << 16 | u64::from(a ^ b ^ c ^ d ^ e ^ f ^ g ^ h),
        }
    }

    fn transport(
        &self,
        offer: &Offer,
        fresh: &Fresh,
        setup: Setup,
        data_channels: bool,
    ) -> Result<TransportConfig, SdpError> {
        Ok(TransportConfig {
            identity: self.sessions.identity.clone(),
            role: if setup == Setup::Active { DtlsRole::Client } else { DtlsRole::Server },
            local: fresh.local.clone(),
            remote: Credentials { ufrag: offer.ufrag().to_owned(), pwd: offer.pwd().to_owned() },
            fingerprint: offer
                .fingerprint()
                .to_string()
                .parse()
                .map_err(|_| SdpError::Missing { attribute: "fingerprint" })?,
            data_channels,
        })
    }
}
