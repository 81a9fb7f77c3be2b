//! The sessions of a worker: one with its transport, its keys and what flows on it; all by key, and when each wants to
//! be woken; whose a datagram is. A session may be of another worker: then it is known of which. What datagrams and
//! wake-ups come to is decided in `mod.rs`.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, binary_heap::PeekMut, hash_map::Entry},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::{Codec, SessionId};

use super::{
    hearing::SoundWish,
    listening::Listening,
    plan::{Flow, SessionPlan},
    viewing::Viewing,
    wish::Wish,
};
use crate::{
    egress::{
        Egress,
        fan_out::{EgressTable, Sending},
    },
    ingest::Ingest,
    rtp::{
        rtcp::Compound,
        srtp::{Opener, Sealer, SrtpError},
    },
    track::{Listener, id::TrackId},
    transport::{Credentials, SrtpKeys, Transport},
};

/// Addresses known here; beyond that those of other workers' sessions are forgotten, and learnt anew.
const MAX_FOREIGN: usize = 16_384;
/// Addresses of one session: more than any client has.
const MAX_ADDRESSES: usize = 8;
/// Between two changes of codec that the node is told of: each is told to the whole mesh.
const CODEC_INTERVAL: Duration = Duration::from_secs(1);

/// The sessions of a worker. A key is used again once its session is gone.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: Vec<Option<Session>>,
    free: Vec<usize>,
    wakes: BinaryHeap<Reverse<(Instant, usize)>>,
    ufrags: HashMap<String, Ufrag>,
    addresses: HashMap<SocketAddr, Owner>,
}

/// What one of our ICE user fragments stands for.
#[derive(Debug)]
pub(super) enum Ufrag {
    /// A session that no check has come for here; another worker may own it by now.
    Waiting(Arc<SessionPlan>, Asked),
    /// The session with this key.
    Own(usize),
}

/// What was asked for a listener before its first check.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// What it wishes.
    pub(super) wish: Wish,
    /// What it wishes of the sound.
    pub(super) sound: SoundWish,
    /// Somebody wants to know what it sees.
    pub(super) watched: bool,
}

/// Whose the datagrams from an address are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Of the session with this key.
    Own(usize),
    /// Of a session that this worker owns.
    Foreign(u8),
}

/// A wake-up that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// The session with this key wanted it.
    Session(usize),
    /// What wanted it needs it no more.
    Nobody,
}

impl Sessions {
    /// A session was negotiated.
    pub(super) fn open(&mut self, plan: Arc<SessionPlan>) {
        self.ufrags.insert(plan.transport.local.ufrag.clone(), Ufrag::Waiting(plan, Asked::default()));
    }

    /// A session that waited has come here: gives it a key, to which its user fragment leads from now on.
    pub(super) fn insert(&mut self, session: Session) -> usize {
        let ufrag = session.ufrag.clone();
        let key = match self.free.pop() {
            Some(key) => {
                self.sessions[key] = Some(session);
                key
            }
            None => {
                self.sessions.push(Some(session));
                self.sessions.len() - 1
            }
        };
        self.ufrags.insert(ufrag, Ufrag::Own(key));
        key
    }

    /// Takes a session out: nothing leads to it any more, and its key is free.
    pub(super) fn remove(&mut self, key: usize) -> Option<Session> {
        let session = self.sessions.get_mut(key).and_then(Option::take)?;
        self.free.push(key);
        for address in &session.addresses {
            forget_address(&mut self.addresses, key, *address);
        }
        self.ufrags.retain(|_, known| !matches!(known, Ufrag::Own(own) if *own == key));
        Some(session)
    }

    /// A session that never came here is over.
    pub(super) fn close_waiting(&mut self, id: SessionId) {
        self.ufrags.retain(|_, known| !matches!(known, Ufrag::Waiting(plan, _) if plan.id == id));
    }

    /// Something is asked for a session that has not come here.
    pub(super) fn ask_waiting(&mut self, id: SessionId, ask: impl Fn(&mut Asked)) {
        for known in self.ufrags.values_mut() {
            match known {
                Ufrag::Waiting(plan, asked) if plan.id == id => ask(asked),
                _ => {}
            }
        }
    }

    /// A session has new credentials. Those of ours before these stay valid until the first check with the new
    /// ones, older ones do not.
    pub(super) fn handle_restart(
        &mut self,
        id: SessionId,
        local: Credentials,
        remote: Credentials,
        now: Instant,
    ) {
        let Some(key) = self.find(id) else { return self.restart_waiting(id, local.ufrag) };
        let Some(session) = self.sessions.get_mut(key).and_then(Option::as_mut) else { return };
        let before = std::mem::replace(&mut session.ufrag, local.ufrag.clone());
        self.ufrags.retain(|name, known| *name == before || !matches!(known, Ufrag::Own(own) if *own == key));
        self.ufrags.insert(local.ufrag.clone(), Ufrag::Own(key));
        session.transport.handle_restart(local, remote, now);
    }

    /// A session that is owned by another worker has new credentials: its checks may land here, and then they
    /// are forwarded.
    fn restart_waiting(&mut self, id: SessionId, ufrag: String) {
        let plan = self.ufrags.values().find_map(|known| match known {
            Ufrag::Waiting(plan, asked) if plan.id == id => Some((plan.clone(), *asked)),
            _ => None,
        });
        if let Some((plan, asked)) = plan {
            let first = &plan.transport.local.ufrag;
            self.ufrags.retain(|name, known| {
                name == first || !matches!(known, Ufrag::Waiting(waiting, _) if waiting.id == id)
            });
            self.ufrags.insert(ufrag, Ufrag::Waiting(plan, asked));
        }
    }

    /// What comes from `address` is for this session.
    pub(super) fn learn(&mut self, key: usize, address: SocketAddr) {
        let Some(session) = self.sessions.get_mut(key).and_then(Option::as_mut) else { return };
        if self.addresses.get(&address) == Some(&Owner::Own(key)) {
            return;
        }
        self.addresses.insert(address, Owner::Own(key));
        session.addresses.push(address);
        if session.addresses.len() > MAX_ADDRESSES {
            forget_address(&mut self.addresses, key, session.addresses.remove(0));
        }
    }

    /// What comes from `from` is for another worker.
    pub(super) fn learn_foreign(&mut self, from: SocketAddr, worker: u8) {
        if self.addresses.len() >= MAX_FOREIGN {
            self.addresses.retain(|_, owner| matches!(owner, Owner::Own(_)));
        }
        // An address that has proven itself to a session here stays with it.
        self.addresses.entry(from).or_insert(Owner::Foreign(worker));
    }

    /// What a user fragment stands for.
    pub(super) fn ufrag(&self, ufrag: &str) -> Option<&Ufrag> {
        self.ufrags.get(ufrag)
    }

    /// Whose the datagrams from an address are.
    pub(super) fn address(&self, from: SocketAddr) -> Option<Owner> {
        self.addresses.get(&from).copied()
    }

    /// The session with this key.
    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Session> {
        self.sessions.get_mut(key).and_then(Option::as_mut)
    }

    /// The key of a session.
    pub(super) fn find(&self, id: SessionId) -> Option<usize> {
        self.sessions.iter().position(|session| session.as_ref().is_some_and(|session| session.plan.id == id))
    }

    /// Who publishes this track here: several, while one replaces another.
    pub(super) fn publishers(&self, track: TrackId) -> Vec<usize> {
        let publishes = |session: &Session| match &session.media {
            Media::Ingest(ingest) => ingest.tracks().any(|known| known == track),
            Media::Egress(_) => false,
        };
        let all = self.sessions.iter().enumerate();
        all.filter(|(_, session)| session.as_ref().is_some_and(publishes)).map(|(key, _)| key).collect()
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.iter().flatten().count()
    }

    /// User fragments known here, those of other workers' sessions included.
    pub(super) fn ufrags(&self) -> usize {
        self.ufrags.len()
    }

    /// Addresses that lead to a session here.
    pub(super) fn own_addresses(&self) -> usize {
        self.addresses.values().filter(|owner| matches!(owner, Owner::Own(_))).count()
    }

    /// Sees to it that the session is woken when it wants.
    pub(super) fn schedule(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key).and_then(Option::as_mut) else { return };
        let Some(at) = session.poll_timeout() else { return };
        if session.wake.is_none_or(|wake| at < wake) {
            session.wake = Some(at);
            self.wakes.push(Reverse((at, key)));
        }
    }

    /// When the first session wants to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    /// How many wake-ups are noted, those included that will be for nobody.
    pub(super) fn wakes(&self) -> usize {
        self.wakes.len()
    }

    /// Takes the next wake-up that is due, with the key of the session that it is for, if it is for one.
    pub(super) fn poll_wake(&mut self, now: Instant) -> Option<Wake> {
        let wake = self.wakes.peek_mut().filter(|wake| wake.0.0 <= now)?;
        let Reverse((at, key)) = PeekMut::pop(wake);
        let Some(session) = self.get_mut(key).filter(|session| session.wake == Some(at)) else {
            return Some(Wake::Nobody); // an earlier wake-up came instead, or the session is gone
        };
        session.wake = None;
        Some(Wake::Session(key))
    }

    /// What flows to the listener with this key.
    pub(super) fn listening_mut(&mut self, key: usize) -> Option<&mut Listening> {
        match &mut self.get_mut(key)?.media {
            Media::Egress(listening) => Some(listening),
            Media::Ingest(_) => None,
        }
    }

    /// The sending side of a listener's track.
    pub(super) fn egress_mut(&mut self, listener: Listener) -> Option<&mut Egress> {
        self.listening_mut(listener.session)?.tracks.get_mut(listener.egress)
    }

    /// How a listener sees the picture.
    pub(super) fn viewing_mut(&mut self, listener: Listener) -> Option<&mut Viewing> {
        self.listening_mut(listener.session)?.viewing.as_deref_mut()
    }
}

impl EgressTable for Sessions {
    fn sending(&mut self, listener: Listener) -> Option<Sending<'_>> {
        let session = self.get_mut(listener.session)?;
        let Media::Egress(listening) = &mut session.media else { return None };
        let Keys { sealer, .. } = session.keys.as_ref()?;
        Some(Sending {
            egress: listening.tracks.get_mut(listener.egress)?,
            sealer,
            to: session.remote?,
            path: Some(&mut listening.path),
        })
    }
}

/// It may lead to another session by now.
fn forget_address(addresses: &mut HashMap<SocketAddr, Owner>, key: usize, address: SocketAddr) {
    if let Entry::Occupied(known) = addresses.entry(address)
        && *known.get() == Owner::Own(key)
    {
        known.remove();
    }
}

/// One session inside a worker.
#[derive(Debug)]
pub struct Session {
    /// What was negotiated.
    pub plan: Arc<SessionPlan>,
    /// Our newest ICE user fragment.
    ufrag: String,
    /// ICE, DTLS and data channels.
    pub transport: Transport,
    /// There once the session is connected.
    pub keys: Option<Keys>,
    /// Where media goes.
    pub remote: Option<SocketAddr>,
    /// What flows.
    pub media: Media,
    /// The earliest wake-up that is scheduled.
    wake: Option<Instant>,
    /// Addresses that lead to this session, the oldest first.
    addresses: Vec<SocketAddr>,
    /// What flows from a publisher, sound and picture, as the node was told, and when.
    told: [Option<(Codec, Instant)>; 2],
}

/// Both directions of SRTP.
#[derive(Debug)]
pub struct Keys {
    /// For what leaves.
    pub sealer: Sealer,
    /// For what comes.
    pub opener: Opener,
}

/// What flows on a session.
#[derive(Debug)]
pub enum Media {
    /// From a publisher.
    Ingest(Box<Ingest>),
    /// To a listener.
    Egress(Listening),
}

impl Session {
    /// A session whose peer's first check has come.
    pub fn new(plan: Arc<SessionPlan>, now: Instant) -> Session {
        let media = match &plan.flow {
            Flow::Ingest { plan, tracks, epochs } => {
                Media::Ingest(Box::new(Ingest::new(plan, tracks, epochs.clone(), now)))
            }
            Flow::Egress { plan, tracks, merged, .. } => {
                Media::Egress(Listening::new(plan, (tracks, *merged), now))
            }
        };
        Session {
            ufrag: plan.transport.local.ufrag.clone(),
            transport: Transport::new(plan.transport.clone(), now),
            plan,
            keys: None,
            remote: None,
            media,
            wake: None,
            addresses: Vec::new(),
            told: [None; 2],
        }
    }

    /// What was asked for it before it came.
    pub(super) fn handle_asked(&mut self, asked: Asked, most: Option<u64>, now: Instant) {
        let Media::Egress(listening) = &mut self.media else { return };
        if let Some(most) = most {
            listening.path.set_most(most);
        }
        if let Some(hearing) = &mut listening.hearing {
            hearing.handle_wish(asked.sound);
            hearing.telling.watch(asked.watched);
        }
        if let Some(viewing) = &mut listening.viewing {
            if asked.wish != Wish::default() {
                viewing.handle_wish(asked.wish, now);
            }
            viewing.telling.watch(asked.watched);
        }
    }

    /// A packet of this codec came; true if the node should know.
    pub fn handle_codec(&mut self, codec: Codec, now: Instant) -> bool {
        let told = &mut self.told[codec.kind() as usize];
        let news = told.is_none_or(|(known, at)| known != codec && at + CODEC_INTERVAL <= now);
        if news {
            *told = Some((codec, now));
        }
        news
    }

    /// DTLS is done.
    ///
    /// # Errors
    ///
    /// [`SrtpError::Key`]: the keys do not fit their profile.
    pub fn handle_keys(&mut self, keys: &SrtpKeys) -> Result<(), SrtpError> {
        self.keys = Some(Keys {
            sealer: Sealer::new(keys.profile, &keys.local_key, &keys.local_salt)?,
            opener: match self.media {
                Media::Ingest(_) => Opener::new(keys.profile, &keys.remote_key, &keys.remote_salt)?,
                Media::Egress(_) => Opener::for_listener(keys.profile, &keys.remote_key, &keys.remote_salt)?,
            },
        });
        Ok(())
    }

    /// Seals a compound packet for the peer.
    pub fn seal_rtcp(&mut self, compound: &Compound) -> Option<(SocketAddr, Vec<u8>)> {
        let keys = self.keys.as_mut()?;
        Some((self.remote?, keys.sealer.seal_rtcp(compound.bytes())))
    }

    /// When it wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let media = match (&self.media, &self.keys) {
            (_, None) => None,
            (Media::Ingest(ingest), _) => ingest.poll_timeout(),
            (Media::Egress(listening), _) => listening.tracks.iter().filter_map(Egress::report_at).min(),
        };
        [media, self.transport.poll_timeout()].into_iter().flatten().min()
    }
}

/// Which worker owns a session: settled once, by the first authenticated check.
#[derive(Debug, Default)]
pub struct Claim(AtomicU32);

impl Claim {
    /// The owner, if there is one.
    pub fn owner(&self) -> Option<u8> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            owner => Some((owner - 1) as u8),
        }
    }

    /// Claims the session for `worker`; gives the owner, which may be another worker.
    pub fn claim(&self, worker: u8) -> u8 {
        match self.0.compare_exchange(0, u32::from(worker) + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => worker,
            Err(owner) => (owner - 1) as u8,
        }
    }
}
