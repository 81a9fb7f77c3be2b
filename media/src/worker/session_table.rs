//! The sessions of a worker by key, and when each wants to be woken. A key is used again once its session is
//! gone. Whose a datagram is, is for `owners` to say.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    time::Instant,
};

use protocol::SessionId;

use super::session::{Keys, Media, Session};
use crate::{
    egress::{
        Egress,
        fan_out::{EgressTable, Sending},
    },
    track::Listener,
};

/// The sessions of a worker.
#[derive(Debug, Default)]
pub(super) struct SessionTable {
    sessions: Vec<Option<Session>>,
    free: Vec<usize>,
    wakes: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl SessionTable {
    /// Gives a session a key.
    pub(super) fn insert(&mut self, session: Session) -> usize {
        match self.free.pop() {
            Some(key) => {
                self.sessions[key] = Some(session);
                key
            }
            None => {
                self.sessions.push(Some(session));
                self.sessions.len() - 1
            }
        }
    }

    /// Takes a session out; its key is free.
    pub(super) fn remove(&mut self, key: usize) -> Option<Session> {
        let session = self.sessions.get_mut(key).and_then(Option::take)?;
        self.free.push(key);
        Some(session)
    }

    /// The session with this key.
    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Session> {
        self.sessions.get_mut(key).and_then(Option::as_mut)
    }

    /// The key of a session.
    pub(super) fn find(&self, id: SessionId) -> Option<usize> {
        self.sessions.iter().position(|session| session.as_ref().is_some_and(|session| session.plan.id == id))
    }

    /// All keys, free ones included.
    pub(super) fn keys(&self) -> std::ops::Range<usize> {
        0..self.sessions.len()
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.iter().flatten().count()
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

    /// The sending side of a listener's track.
    pub(super) fn egress_mut(&mut self, listener: Listener) -> Option<&mut Egress> {
        match &mut self.get_mut(listener.session)?.media {
            Media::Egress(tracks) => tracks.get_mut(listener.egress),
            Media::Ingest(_) => None,
        }
    }
}

impl EgressTable for SessionTable {
    fn sending(&mut self, listener: Listener) -> Option<Sending<'_>> {
        let session = self.get_mut(listener.session)?;
        let Media::Egress(tracks) = &mut session.media else { return None };
        let Keys { sealer, .. } = session.keys.as_ref()?;
        Some(Sending { egress: tracks.get_mut(listener.egress)?, sealer, to: session.remote? })
    }
}

/// A wake-up that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// The session with this key wanted it.
    Session(usize),
    /// What wanted it needs it no more.
    Nobody,
}
