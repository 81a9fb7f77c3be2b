//! ICE-lite (RFC 8445 section 2.5): answers authenticated checks, knows which addresses are the peer's and
//! which of them it has chosen, and notices when consent runs out (RFC 7675). It never asks anything itself
//! and never resolves a candidate: addresses are learnt from authenticated requests alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use super::stun::{self, Request};
use super::{Credentials, Drop};

/// The lite agent of one session.
pub(super) struct Ice {
    current: Ours,
    /// Credentials from before a restart, valid until the first check with the new ones.
    previous: Option<Ours>,
    /// Addresses with an authenticated request, and when the last one came, or something else that proves as
    /// much.
    validated: Vec<(SocketAddr, Instant)>,
    selected: Option<SocketAddr>,
}

/// What a check leads to.
pub(super) struct Checked {
    /// Goes back to the sender.
    pub(super) reply: Vec<u8>,
    /// The selected address changed to the sender's.
    pub(super) selected: bool,
}

/// Our half of the credentials, and whose checks they are for.
struct Ours {
    ufrag: String,
    key: hmac::Key,
    remote_ufrag: String,
}

impl Ours {
    fn new(local: &Credentials, remote_ufrag: String) -> Ours {
        Ours { ufrag: local.ufrag.clone(), key: stun::key(&local.pwd), remote_ufrag }
    }

    fn are_meant_by(&self, request: &Request<'_>) -> bool {
        self.ufrag == request.local_ufrag && self.remote_ufrag == request.remote_ufrag
    }
}

impl Ice {
    pub(super) fn new(local: &Credentials, remote_ufrag: String) -> Ice {
        Ice { current: Ours::new(local, remote_ufrag), previous: None, validated: Vec::new(), selected: None }
    }

    /// A STUN message from outside.
    pub(super) fn handle_stun(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> Result<Checked, Drop> {
        let request = Request::read(data).map_err(Drop)?;
        let is_current = self.current.are_meant_by(&request);
        let ours = if is_current {
            &self.current
        } else {
            self.previous.as_ref().filter(|ours| ours.are_meant_by(&request)).ok_or(Drop("stun_username"))?
        };
        if !request.is_authentic(&ours.key) {
            return Err(Drop("stun_integrity"));
        }
        if !request.unknown.is_empty() {
            return Ok(Checked { reply: request.unknown_attributes(&ours.key), selected: false });
        }
        if request.peer_is_controlled {
            return Ok(Checked { reply: request.role_conflict(&ours.key), selected: false });
        }
        let reply = request.success(from, &ours.key);
        if is_current && self.previous.take().is_some() {
            // A restart begins anew: the first pair that works is used until one is nominated.
            self.validated.clear();
            self.selected = None;
        }
        let selected = self.selects(from, request.use_candidate, now);
        self.note(from, now);
        if selected {
            self.selected = Some(from);
        }
        Ok(Checked { reply, selected })
    }

    /// New credentials (RFC 8445 section 9); what is selected stays so until the peer checks with them.
    pub(super) fn handle_restart(&mut self, local: &Credentials, remote_ufrag: String) {
        let replaced = std::mem::replace(&mut self.current, Ours::new(local, remote_ufrag));
        // A second restart before a check: the peer still has only the oldest pair to use.
        self.previous.get_or_insert(replaced);
    }

    /// Whether an authenticated request has come from there.
    pub(super) fn is_validated(&self, from: SocketAddr) -> bool {
        self.selected == Some(from) || self.validated.iter().any(|(address, _)| *address == from)
    }

    /// Where to send.
    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// The peer's keys have proved that it is there and wants what it gets. An address that no request came
    /// from stays unknown.
    pub(super) fn handle_heard(&mut self, from: SocketAddr, now: Instant) {
        if let Some((_, at)) = self.validated.iter_mut().find(|(address, _)| *address == from) {
            *at = now;
        }
    }

    /// When something authentic came last.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        self.validated.iter().map(|(_, at)| *at).max()
    }

    fn selects(&self, from: SocketAddr, use_candidate: bool, now: Instant) -> bool {
        let Some(selected) = self.selected else { return true };
        if selected == from {
            return false;
        }
        // The peer's word counts; without it we follow only when the selected address has fallen silent
        // (a phone that changed its network, a NAT that changed its port).
        let silent = self
            .validated
            .iter()
            .find(|(address, _)| *address == selected)
            .is_none_or(|(_, at)| now.duration_since(*at) > SILENT);
        use_candidate || silent
    }

    fn note(&mut self, from: SocketAddr, now: Instant) {
        if let Some(entry) = self.validated.iter_mut().find(|(address, _)| *address == from) {
            entry.1 = now;
            return;
        }
        if self.validated.len() >= MAX_VALIDATED {
            let oldest = self
                .validated
                .iter()
                .enumerate()
                .filter(|(_, (address, _))| Some(*address) != self.selected)
                .min_by_key(|(_, (_, at))| *at)
                .map(|(index, _)| index);
            if let Some(index) = oldest {
                self.validated.swap_remove(index);
            }
        }
        self.validated.push((from, now));
    }
}

/// Addresses of one peer that are remembered.
const MAX_VALIDATED: usize = 8;
/// Browsers check their pair every 2.5 s (Chromium) to 6 s (RFC 7675): after this long it is not in use.
const SILENT: Duration = Duration::from_secs(7);
