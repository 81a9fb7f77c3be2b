//! ICE-lite (RFC 8445 section 2.5): answers authenticated checks, knows which addresses are the peer's and
//! which of them it has chosen, and notices when consent runs out (RFC 7675). It never resolves a candidate:
//! addresses are learnt from authenticated requests alone.
//!
//! A request says who sent it, not that its sender is where it says: the source of a datagram can be forged.
//! So an address that is new is asked back, by one check of our own. Until it has answered, no more goes there
//! than three times what came from there (the rule of RFC 9000 section 8), and media does not move there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use super::config::Credentials;
use super::identity::Identity;
use super::stun::{self, Request, TransactionId, own_check, stun_answered};
use crate::drop_reason::DropReason;

/// The lite agent of one session.
pub(super) struct Ice {
    identity: Arc<Identity>,
    /// Told apart from others by this, also after a restart.
    session: [u8; 8],
    began: Instant,
    current: Pair,
    /// Credentials from before a restart, valid until the first check with the new ones.
    previous: Option<Pair>,
    /// Addresses with an authenticated request.
    paths: Vec<Path>,
    selected: Option<SocketAddr>,
    /// Would be selected if it had answered.
    wanted: Option<SocketAddr>,
    /// After a restart the first address that works is wanted, nominated or not.
    starts_anew: bool,
}

/// What a STUN message leads to.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Goes back to the sender, in this order.
    pub(super) replies: smallvec::SmallVec<[Vec<u8>; 2]>,
    /// The selected address changed to the sender's.
    pub(super) selected: bool,
}

/// The credentials of both ends.
struct Pair {
    ufrag: String,
    key: hmac::Key,
    remote: Credentials,
}

/// An address of the peer.
struct Path {
    address: SocketAddr,
    /// When its first request came.
    since: Instant,
    /// When the last one came, or something else that proves as much.
    heard: Instant,
    /// It has shown that it receives what is sent there.
    proven: bool,
    /// Octets from there and to there until it was proven.
    received: u32,
    sent: u32,
}

impl Pair {
    fn new(local: &Credentials, remote: Credentials) -> Pair {
        Pair { ufrag: local.ufrag.clone(), key: stun::key(&local.pwd), remote }
    }

    fn is_meant_by(&self, request: &Request<'_>) -> bool {
        self.ufrag == request.local_ufrag && self.remote.ufrag == request.remote_ufrag
    }
}

impl Path {
    /// How much more may go there.
    fn budget(&self) -> usize {
        if self.proven {
            return usize::MAX;
        }
        (self.received as usize * AMPLIFICATION).saturating_sub(self.sent as usize)
    }

    fn send(&mut self, octets: usize) {
        self.sent = self.sent.saturating_add(octets as u32);
    }

    fn receive(&mut self, octets: usize) {
        self.received = self.received.saturating_add(octets as u32);
    }
}

impl Ice {
    pub(super) fn new(
        identity: Arc<Identity>,
        local: &Credentials,
        remote: Credentials,
        now: Instant,
    ) -> Ice {
        let mut session = [0; 8];
        let words = [local.ufrag.as_bytes(), local.pwd.as_bytes()];
        session.copy_from_slice(&identity.unguessable(&words)[..8]);
        Ice {
            identity,
            session,
            began: now,
            current: Pair::new(local, remote),
            previous: None,
            paths: Vec::new(),
            selected: None,
            wanted: None,
            starts_anew: false,
        }
    }

    /// A STUN message from outside.
    pub(super) fn handle_stun(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> Result<Checked, DropReason> {
        match stun_answered(data) {
            Some(id) => self.handle_answer(from, id, now),
            None => self.handle_check(from, data, now),
        }
    }

    fn handle_check(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<Checked, DropReason> {
        let request = Request::read(data)?;
        let is_current = self.current.is_meant_by(&request);
        let pair = if is_current {
            &self.current
        } else {
            self.previous
                .as_ref()
                .filter(|pair| pair.is_meant_by(&request))
                .ok_or(DropReason::StunUsername)?
        };
        if !request.is_authentic(&pair.key) {
            return Err(DropReason::StunIntegrity);
        }
        // Neither error is longer than its request, and neither makes the sender's address known.
        if !request.unknown.is_empty() {
            return Ok(Checked::reply(request.unknown_attributes(&pair.key)));
        }
        if request.peer_is_controlled {
            return Ok(Checked::reply(request.role_conflict(&pair.key)));
        }
        let reply = request.success(from, &pair.key);
        if is_current && self.previous.take().is_some() {
            // Media goes on where it went until an address has answered.
            self.paths.retain(|path| Some(path.address) == self.selected);
            self.wanted = None;
            self.starts_anew = true;
        }
        let selected = self.selects(from, request.use_candidate, now);
        let check = (!self.is_proven(from)).then(|| self.question(from, is_current, now));
        let path = self.note(from, now);
        path.receive(data.len());
        path.send(reply.len());
        let mut checked = Checked { selected, ..Checked::reply(reply) };
        // A lost one needs no timer: the peer checks again, and is asked again.
        if let Some(check) = check.filter(|check| check.len() <= path.budget()) {
            path.send(check.len());
            checked.replies.push(check);
        }
        Ok(checked)
    }

    /// Something answered: if it is a check of ours, the address that it went to receives.
    fn handle_answer(
        &mut self,
        from: SocketAddr,
        id: TransactionId,
        now: Instant,
    ) -> Result<Checked, DropReason> {
        let path = self.path(from).ok_or(DropReason::StunResponse)?;
        // Its MESSAGE-INTEGRITY is not looked at, ffmpeg's has none: whoever knows the number has the check.
        let (ours, _) = self.numbers(from, path.since);
        if !rtc_crypto::constant_time_eq(&ours, &id) {
            return Err(DropReason::StunResponse);
        }
        self.prove(from);
        // An address that never answered gives way, nominated or not.
        let selected = self.wanted == Some(from)
            || self.selected != Some(from)
                && (!self.selected_path().is_some_and(|path| path.proven) || self.is_silent(now));
        if selected {
            self.select(from);
        }
        Ok(Checked { selected, ..Checked::default() })
    }

    /// New credentials (RFC 8445 section 9); what is selected stays so until an address has answered a check
    /// with them.
    pub(super) fn handle_restart(&mut self, local: &Credentials, remote: Credentials) {
        let replaced = std::mem::replace(&mut self.current, Pair::new(local, remote));
        // A second restart before a check: the peer still has only the oldest pair to use.
        self.previous.get_or_insert(replaced);
    }

    /// The handshake is complete: the peer has read what was sent to the selected address, because nothing
    /// went anywhere else before.
    pub(super) fn handle_connected(&mut self) {
        if let Some(selected) = self.selected {
            self.prove(selected);
        }
    }

    /// Whether an authenticated request has come from there.
    pub(super) fn is_validated(&self, from: SocketAddr) -> bool {
        self.path(from).is_some()
    }

    /// Where to send.
    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// How many octets may go to the selected address now.
    pub(super) fn budget(&self) -> usize {
        self.selected_path().map_or(0, Path::budget)
    }

    /// So much went to the selected address.
    pub(super) fn handle_sent(&mut self, octets: usize) {
        if let Some(path) = self.selected.and_then(|selected| self.path_mut(selected)) {
            path.send(octets);
        }
    }

    /// So much came from there that nothing has authenticated yet.
    pub(super) fn handle_received(&mut self, from: SocketAddr, octets: usize) {
        if let Some(path) = self.path_mut(from) {
            path.receive(octets);
        }
    }

    /// The peer's keys have proved that it is there and wants what it gets. An address that no request came
    /// from stays unknown. It proves nothing about where the peer is: whoever has the keys can write any
    /// sender's address on it.
    pub(super) fn handle_heard(&mut self, from: SocketAddr, now: Instant) {
        if let Some(path) = self.path_mut(from) {
            path.heard = now;
        }
    }

    /// When something authentic came last from an address that media may go to. What never answered keeps no
    /// session: it could be anybody's, and media would go on to where the peer was before.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        let counts = |path: &&Path| path.proven || Some(path.address) == self.selected;
        self.paths.iter().filter(counts).map(|path| path.heard).max()
    }

    /// Whether a check from there makes its address the selected one.
    fn selects(&mut self, from: SocketAddr, use_candidate: bool, now: Instant) -> bool {
        if self.selected == Some(from) {
            if use_candidate || self.starts_anew {
                self.wanted = None;
            }
            self.starts_anew = false;
            return false;
        }
        // The peer's word counts; without it we follow only when the selected address has fallen silent
        // (a phone that changed its network, a NAT that changed its port).
        if self.selected.is_some() && !use_candidate && !self.starts_anew && !self.is_silent(now) {
            return false;
        }
        // The first address is taken at its word, so that the handshake need not wait: it has its budget.
        if self.selected.is_none() || self.is_proven(from) {
            self.select(from);
            return true;
        }
        self.wanted = Some(from);
        false
    }

    fn select(&mut self, address: SocketAddr) {
        self.selected = Some(address);
        self.wanted = None;
        self.starts_anew = false;
    }

    fn prove(&mut self, address: SocketAddr) {
        if let Some(path) = self.path_mut(address) {
            path.proven = true;
        }
    }

    fn path(&self, address: SocketAddr) -> Option<&Path> {
        self.paths.iter().find(|path| path.address == address)
    }

    fn path_mut(&mut self, address: SocketAddr) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| path.address == address)
    }

    fn selected_path(&self) -> Option<&Path> {
        self.path(self.selected?)
    }

    fn is_proven(&self, address: SocketAddr) -> bool {
        self.path(address).is_some_and(|path| path.proven)
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.selected_path().is_none_or(|path| now.duration_since(path.heard) > SILENT)
    }

    /// Our own check of an address: the same one until it is answered or the address forgotten.
    fn question(&self, to: SocketAddr, is_current: bool, now: Instant) -> Vec<u8> {
        let since = self.path(to).map_or(now, |path| path.since);
        let (id, tie_breaker) = self.numbers(to, since);
        let pair = self.previous.as_ref().filter(|_| !is_current).unwrap_or(&self.current);
        own_check(id, tie_breaker, &pair.ufrag, &pair.remote.ufrag, &pair.remote.pwd)
    }

    /// The number of the check that goes to an address first seen then, and a tie-breaker.
    fn numbers(&self, to: SocketAddr, since: Instant) -> (TransactionId, [u8; 8]) {
        let since = since.duration_since(self.began).as_nanos().to_be_bytes();
        let to = to.to_string();
        let octets = self.identity.unguessable(&[&self.session, to.as_bytes(), &since]);
        let (mut id, mut tie_breaker) = ([0; 12], [0; 8]);
        id.copy_from_slice(&octets[..12]);
        tie_breaker.copy_from_slice(&octets[12..20]);
        (id, tie_breaker)
    }

    fn note(&mut self, from: SocketAddr, now: Instant) -> &mut Path {
        let at = self.paths.iter().position(|path| path.address == from).unwrap_or_else(|| {
            self.make_room();
            let path = Path { address: from, since: now, heard: now, proven: false, received: 0, sent: 0 };
            self.paths.push(path);
            self.paths.len() - 1
        });
        self.paths[at].heard = now;
        &mut self.paths[at]
    }

    fn make_room(&mut self) {
        if self.paths.len() < MAX_PATHS {
            return;
        }
        let spare = self.paths.iter().enumerate().filter(|(_, path)| Some(path.address) != self.selected);
        // One that answered stays longer than those that anybody can make up.
        let oldest = spare.min_by_key(|(_, path)| (path.proven, path.heard)).map(|(index, _)| index);
        if let Some(index) = oldest {
            self.paths.swap_remove(index);
        }
    }
}

impl Checked {
    fn reply(reply: Vec<u8>) -> Checked {
        Checked { replies: smallvec::smallvec![reply], selected: false }
    }
}

/// Addresses of one peer that are remembered.
const MAX_PATHS: usize = 8;
/// Octets that may go to an address for each that came from there, until it has answered.
const AMPLIFICATION: usize = 3;
/// Browsers check their pair every 2.5 s (Chromium) to 6 s (RFC 7675): after this long it is not in use.
const SILENT: Duration = Duration::from_secs(7);
