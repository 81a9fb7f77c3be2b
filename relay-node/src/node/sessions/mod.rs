//! WHIP and WHEP sessions (RFC 9725): opened by an offer, patched, ended. Owns what is known of each, and says what
//! follows from what happens to them; streams and interest are in `node`, the HTTP of it is in `api/whip.rs`. Without
//! I/O: random credentials come from the driver.

mod answer;
#[cfg(test)]
mod health_tests;
pub(crate) mod hearer;
pub mod merging;
mod places;
mod quality;
#[cfg(test)]
mod tests;
mod told;
pub(crate) mod unreached;
pub(crate) mod viewer;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use media::{
    Claim, Command, Epochs, Flow, SessionPlan, StreamTracks,
    sdp::{
        EgressPlan, EgressPolicy, Fragment, IngestPlan, IngestPolicy, Local, Offer, SdpError, Setup,
        answer_egress, answer_ingest, msid_token,
    },
    transport::{Credentials, DtlsRole, Identity, TransportConfig},
};
use protocol::{Codec, Kind, SessionId, StreamName, TrackDescription};

use crate::places::shares::Holder;
pub use answer::{Direction, Fresh, IfMatch, Opened, Patched, SessionError, Whose};
use hearer::Hearer;
use merging::{Frames, Merging};
use places::SessionPlaces;
use quality::{Abilities, Ability};
use unreached::Unreached;
use viewer::Viewer;
pub use viewer::WishError;

/// Every session of this relay.
pub struct Sessions {
    identity: Arc<Identity>,
    candidates: Vec<SocketAddr>,
    /// What publishers are asked for.
    policy: IngestPolicy,
    sessions: BTreeMap<SessionId, Session>,
    places: SessionPlaces,
    /// Ended by a goodbye on DTLS: the DELETE that comes behind it is answered as if it were the first.
    ended: VecDeque<SessionId>,
    unreached: Unreached,
    abilities: Abilities,
    merging: Merging,
}

struct Session {
    stream: StreamName,
    direction: Direction,
    /// What a publisher sends.
    tracks: Vec<TrackDescription>,
    /// What a listener can play.
    ability: Ability,
    /// Of a listener that gets a picture.
    viewer: Option<Viewer>,
    /// Of a listener that gets a sound.
    hearer: Option<Hearer>,
    /// What a publisher calls the encodings of its picture.
    rids: Vec<Arc<str>>,
    remote: Credentials,
    /// Who offered.
    whose: Option<Whose>,
    tag: String,
    opened: Instant,
    connected: bool,
    /// It took too long to connect, and that was told.
    late: bool,
}

/// An offer that can be served: the answer, and what a worker has to know for it.
pub(crate) struct Answered<P> {
    answer: String,
    plan: P,
    transport: TransportConfig,
}

/// Sessions that ended and are still known by their ids.
const ENDED_MAX: usize = 1024;
/// A session that never connects is gone after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Sessions {
    /// No sessions yet. `candidates` are offered to browsers, the best first; `policy` is for publishers.
    pub fn new(identity: Arc<Identity>, candidates: Vec<SocketAddr>, policy: IngestPolicy) -> Sessions {
        Sessions {
            identity,
            candidates,
            policy,
            sessions: BTreeMap::new(),
            places: SessionPlaces::default(),
            ended: VecDeque::new(),
            unreached: Unreached::default(),
            abilities: Abilities::default(),
            merging: Merging::default(),
        }
    }

    /// When listeners get merged packets.
    pub fn set_merging(&mut self, merging: Merging) {
        self.merging = merging;
    }

    /// WHIP: answers a publisher's offer, if it can be served.
    pub(crate) fn answer_publisher(
        &self,
        offer: &Offer,
        fresh: &Fresh,
    ) -> Result<Answered<IngestPlan>, SessionError> {
        let fingerprint = self.identity.fingerprint().to_string();
        let (answer, plan) = answer_ingest(offer, &self.local(fresh, &fingerprint), &self.policy)?;
        let transport = self.transport(offer, fresh, plan.setup, plan.data_channel)?;
        Ok(Answered { answer, plan, transport })
    }

    /// WHEP: answers a listener's offer, if something of the stream, which has these codecs, can be played.
    pub(crate) fn answer_listener(
        &self,
        stream: &StreamName,
        codecs: &[Codec],
        offer: &Offer,
        fresh: &Fresh,
    ) -> Result<Answered<EgressPlan>, SessionError> {
        let policy = match stream.is_bare() {
            true => EgressPolicy::bare(),
            false => EgressPolicy::new(stream.as_str(), codecs, fresh.first_ssrc),
        };
        let fingerprint = self.identity.fingerprint().to_string();
        let (answer, plan) = answer_egress(offer, &self.local(fresh, &fingerprint), &policy)?;
        let transport = self.transport(offer, fresh, plan.setup, plan.data_channel)?;
        Ok(Answered { answer, plan, transport })
    }

    /// A place for a session that is about to open: gives the sessions of the greediest address that have to end
    /// for it.
    pub(crate) fn make_room(
        &mut self,
        id: SessionId,
        holder: Holder,
        now: Instant,
    ) -> Result<Vec<SessionId>, SessionError> {
        self.places.open(id, holder, now).map_err(|_| SessionError::Full)
    }

    /// A publisher's session opens; the plan is for the workers.
    pub(crate) fn open_publisher(
        &mut self,
        fresh: Fresh,
        stream: StreamName,
        answered: Answered<IngestPlan>,
        (tracks, epochs): (StreamTracks, Epochs),
        now: Instant,
    ) -> (Opened, SessionPlan) {
        let Answered { answer, plan, transport } = answered;
        let sent = plan.tracks.iter().filter_map(|track| {
            let codec = track.codecs.first()?.codec;
            Some(TrackDescription { kind: track.kind, codec, layers: 1 })
        });
        let agreed = (sent.collect(), Ability::default());
        let rids = plan.tracks.iter().flat_map(|track| track.rids.iter().map(|rid| rid.as_str().into()));
        let names = (None, None, rids.collect());
        let flow = Flow::Ingest { plan, tracks, epochs };
        self.open(fresh, (stream, Direction::Ingest), agreed, names, (answer, transport, flow), now)
    }

    /// A listener's session opens; the plan is for the workers.
    pub(crate) fn open_listener(
        &mut self,
        fresh: Fresh,
        stream: StreamName,
        answered: Answered<EgressPlan>,
        (tracks, asked): (StreamTracks, Option<Frames>),
        now: Instant,
    ) -> (Opened, SessionPlan) {
        let Answered { answer, plan, transport } = answered;
        let ability = Ability::of(&plan);
        self.abilities.add(&stream, ability);
        let mid = |kind| plan.tracks.iter().find(|track| track.kind == kind).map(|track| track.mid.clone());
        let viewer = mid(Kind::Video).map(Viewer::new);
        let hearer = mid(Kind::Audio).map(Hearer::new);
        let merged = self.merging.applies(asked);
        let flow = Flow::Egress { plan, tracks, cname: msid_token(stream.as_str()), merged };
        let (agreed, names) = ((Vec::new(), ability), (viewer, hearer, Vec::new()));
        self.open(fresh, (stream, Direction::Egress), agreed, names, (answer, transport, flow), now)
    }

    fn open(
        &mut self,
        fresh: Fresh,
        (stream, direction): (StreamName, Direction),
        (tracks, ability): (Vec<TrackDescription>, Ability),
        (viewer, hearer, rids): (Option<Viewer>, Option<Hearer>, Vec<Arc<str>>),
        (answer, transport, flow): (String, TransportConfig, Flow),
        now: Instant,
    ) -> (Opened, SessionPlan) {
        let (tag, listens) = (fresh.local.ufrag, viewer.is_some() || hearer.is_some());
        let session = Session {
            stream,
            direction,
            tracks,
            ability,
            viewer,
            hearer,
            rids,
            remote: transport.remote.clone(),
            whose: None,
            tag: tag.clone(),
            opened: now,
            connected: false,
            late: false,
        };
        self.sessions.insert(fresh.id, session);
        let plan = SessionPlan { id: fresh.id, transport, flow, claim: Claim::default() };
        (Opened { id: fresh.id, tag, answer, listens }, plan)
    }

    /// PATCH: trickled candidates or an ICE restart (RFC 9725 section 4.3). Of a restart the workers have to know.
    pub(crate) fn handle_patch(
        &mut self,
        (direction, stream, id): (Direction, &StreamName, SessionId),
        if_match: &IfMatch,
        fragment: &Fragment,
        fresh: Credentials,
    ) -> Result<(Patched, Option<Command>), SessionError> {
        let session = self.find(id, stream, direction)?;
        let restarts = fragment.restarts(&session.remote.ufrag, &session.remote.pwd);
        match if_match {
            IfMatch::Missing => return Err(SessionError::NoTag),
            IfMatch::Tags(tags) if !tags.contains(&session.tag) => return Err(SessionError::Tag),
            _ if !restarts => return Ok((Patched::Trickled, None)),
            _ => {}
        }
        let (Some(ufrag), Some(pwd)) = (fragment.ufrag.clone(), fragment.pwd.clone()) else {
            return Ok((Patched::Trickled, None));
        };
        let local = Local {
            ufrag: &fresh.ufrag,
            pwd: &fresh.pwd,
            fingerprint: "",
            candidates: &self.candidates,
            session_id: 0,
        };
        let answer = fragment.answer(&local);
        let tag = fresh.ufrag.clone();
        let remote = Credentials { ufrag, pwd };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.remote = remote.clone();
            session.tag = tag.clone();
        }
        let restart = Command::Restart { session: id, local: fresh, remote };
        Ok((Patched::Restarted { tag, answer }, Some(restart)))
    }

    /// DELETE: whether there is still something to end; it may have said goodbye on DTLS just before.
    pub(crate) fn handle_end(
        &mut self,
        direction: Direction,
        stream: &StreamName,
        id: SessionId,
    ) -> Result<bool, SessionError> {
        if let Some(index) = self.ended.iter().position(|ended| *ended == id) {
            self.ended.remove(index);
            return Ok(false);
        }
        self.find(id, stream, direction)?;
        Ok(true)
    }

    /// A session is connected. Of a publisher's, what it publishes.
    pub(crate) fn handle_connected(
        &mut self,
        id: SessionId,
        now: Instant,
    ) -> Option<(StreamName, Vec<TrackDescription>)> {
        let session = self.sessions.get_mut(&id)?;
        session.connected = true;
        self.places.connected(id, now);
        let publishes = session.direction == Direction::Ingest;
        publishes.then(|| (session.stream.clone(), session.tracks.clone()))
    }

    /// A publisher's packets are of this codec: of several that were agreed on it chose this one. Gives what it
    /// publishes, if that is news.
    pub(crate) fn handle_codec(
        &mut self,
        id: SessionId,
        codec: Codec,
    ) -> Option<(StreamName, Vec<TrackDescription>)> {
        let session = self.sessions.get_mut(&id)?;
        let of_kind = |track: &&mut TrackDescription| track.kind == codec.kind() && track.codec != codec;
        session.tracks.iter_mut().find(of_kind)?.codec = codec;
        Some((session.stream.clone(), session.tracks.clone()))
    }

    /// The peer said goodbye on DTLS.
    pub(crate) fn handle_goodbye(&mut self, id: SessionId) {
        if self.sessions.contains_key(&id) {
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(id);
        }
    }

    /// A session is over. Gives what it was, if it was still there.
    pub(crate) fn handle_over(&mut self, id: SessionId) -> Option<(StreamName, Direction)> {
        let session = self.sessions.remove(&id)?;
        self.places.over(id);
        if session.direction == Direction::Egress {
            self.abilities.remove(&session.stream, session.ability);
        }
        Some((session.stream, session.direction))
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
    pub(crate) fn serves(&self, stream: &StreamName) -> bool {
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

    /// The stream of a session, and which way it goes.
    pub(crate) fn stream_of(&self, id: SessionId) -> Option<(&StreamName, Direction)> {
        self.sessions.get(&id).map(|session| (&session.stream, session.direction))
    }

    /// Who offered a session.
    pub(crate) fn set_whose(&mut self, id: SessionId, whose: Whose) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.whose = Some(whose);
        }
    }

    /// Who offered a session, if there is one.
    pub(crate) fn whose(&self, id: SessionId) -> Option<Whose> {
        self.sessions.get(&id)?.whose
    }

    /// What the publisher with this session calls the encodings of its picture.
    pub(crate) fn rids(&self, id: SessionId) -> Vec<Arc<str>> {
        self.sessions.get(&id).map(|session| session.rids.clone()).unwrap_or_default()
    }

    /// How a listener sees its picture, if it gets one.
    pub(crate) fn viewer(&self, id: SessionId) -> Option<&Viewer> {
        self.sessions.get(&id)?.viewer.as_ref()
    }

    /// As above, to be changed.
    pub(crate) fn viewer_mut(&mut self, id: SessionId) -> Option<&mut Viewer> {
        self.sessions.get_mut(&id)?.viewer.as_mut()
    }

    /// How a listener hears, if it gets a sound.
    pub(crate) fn hearer(&self, id: SessionId) -> Option<&Hearer> {
        self.sessions.get(&id)?.hearer.as_ref()
    }

    /// As above, to be changed.
    pub(crate) fn hearer_mut(&mut self, id: SessionId) -> Option<&mut Hearer> {
        self.sessions.get_mut(&id)?.hearer.as_mut()
    }

    /// Whether this is a listener of this stream, and whether it is connected.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoSession`] if it is none.
    pub(crate) fn listens(&self, id: SessionId, stream: &StreamName) -> Result<bool, SessionError> {
        self.find(id, stream, Direction::Egress).map(|session| session.connected)
    }

    /// When a listener's session was opened.
    pub(crate) fn listener_opened_at(&self, id: SessionId) -> Option<Instant> {
        let session = self.sessions.get(&id)?;
        (session.direction == Direction::Egress).then_some(session.opened)
    }

    /// All there are.
    pub(crate) fn ids(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    fn local<'a>(&'a self, fresh: &'a Fresh, fingerprint: &'a str) -> Local<'a> {
        let [a, b, c, d, e, f, g, h, ..] = fresh.id.0;
        Local {
            ufrag: &fresh.local.ufrag,
            pwd: &fresh.local.pwd,
            fingerprint,
            candidates: &self.candidates,
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
            identity: self.identity.clone(),
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
