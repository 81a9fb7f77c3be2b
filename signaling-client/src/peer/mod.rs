//! One end of a session in few bytes: ICE, DTLS and SRTP over one socket, without the rest of a peer connection. What is
//! in the packets is for others; [`connection`] brings the clock and the socket.
//!
//! After each `handle_…` the caller sends what [`Peer::poll_transmit`] gives, and comes back at [`Peer::poll_timeout`].

mod checks;
pub mod connection;
pub mod description;
mod handshake;
pub mod rtp;
mod secrets;
mod stun;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use checks::Checks;
use description::Answer;
pub use handshake::Identity;
use handshake::{Handshake, Outcome};
pub use secrets::Secrets;
pub use stun::Credentials;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not yet connected.
    Connecting,
    /// Media can flow.
    Connected,
    /// The relay ended it, or does not answer any more.
    Gone,
}

/// What a datagram is for the caller (RFC 7983, RFC 5761).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// RTP, still sealed.
    Media,
    /// RTCP, still sealed.
    Reports,
    /// It was for the session itself, or is nothing.
    Nothing,
}

/// One session's end.
pub struct Peer {
    identity: Arc<Identity>,
    checks: Checks,
    handshake: Handshake,
    secrets: Option<Secrets>,
    standing: Standing,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Peer {
    /// A session with whoever gave this answer.
    ///
    /// # Errors
    /// The missing line, when the answer names no ufrag, password, SHA-256 fingerprint or candidate of a family.
    pub fn new(
        identity: Arc<Identity>,
        local: Credentials,
        answer: &Answer,
        ipv4: bool,
        now: Instant,
    ) -> Result<Peer, &'static str> {
        let remote = Credentials {
            ufrag: answer.ufrag.clone().ok_or("the answer has no ice-ufrag")?,
            password: answer.password.clone().ok_or("the answer has no ice-pwd")?,
        };
        let expected = answer.fingerprint.clone().ok_or("the answer has no sha-256 fingerprint")?;
        let candidates: Vec<SocketAddr> =
            answer.candidates.iter().copied().filter(|candidate| candidate.is_ipv4() == ipv4).collect();
        if candidates.is_empty() {
            return Err("the answer has no candidate that can be reached");
        }
        Ok(Peer {
            checks: Checks::new(local, remote, candidates, now),
            handshake: Handshake::new(Arc::clone(&identity), expected),
            identity,
            secrets: None,
            standing: Standing::Connecting,
            transmits: VecDeque::new(),
        })
    }

    /// A datagram that arrived.
    pub fn handle_datagram(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Came {
        match data.first() {
            Some(0..=3) => {
                let provider = Arc::clone(self.identity.provider());
                if let Some(answer) = self.checks.handle_datagram(from, data, provider.crypto(), now) {
                    self.transmits.push_back((from, answer));
                }
                self.begin(now);
                Came::Nothing
            }
            Some(20..=63) if self.checks.selected() == Some(from) => {
                let (outcome, datagrams) = self.handshake.handle_datagram(data, now);
                self.transmit(datagrams);
                match outcome {
                    Outcome::Done => self.connect(),
                    Outcome::Over => self.standing = Standing::Gone,
                    Outcome::Going => {}
                }
                Came::Nothing
            }
            Some(128..=191) if self.secrets.is_some() && self.checks.selected() == Some(from) => {
                match data.get(1) {
                    Some(192..=223) => Came::Reports,
                    Some(_) => Came::Media,
                    None => Came::Nothing,
                }
            }
            _ => Came::Nothing,
        }
    }

    /// The time of [`Peer::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.standing == Standing::Gone {
            return;
        }
        let provider = Arc::clone(self.identity.provider());
        match self.checks.handle_timeout(provider.crypto(), now) {
            Ok(checks) => self.transmits.extend(checks),
            Err(_) => self.standing = Standing::Gone,
        }
        let flight = self.handshake.handle_timeout(now);
        self.transmit(flight);
        if self.checks.is_lost(now) {
            self.standing = Standing::Gone;
        }
    }

    /// When it wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.handshake.poll_timeout().unwrap_or(self.checks.poll_timeout()).min(self.checks.poll_timeout())
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Where the relay is, once a check was answered.
    pub fn relay(&self) -> Option<SocketAddr> {
        self.checks.selected()
    }

    /// The keys, once connected.
    pub fn secrets(&mut self) -> Option<&mut Secrets> {
        self.secrets.as_mut()
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant) {
        if self.standing == Standing::Connected {
            let datagrams = self.handshake.close(now);
            self.transmit(datagrams);
        }
        self.standing = Standing::Gone;
    }

    fn begin(&mut self, now: Instant) {
        if self.checks.selected().is_some() {
            match self.handshake.begin(now) {
                Ok(hello) => self.transmit(hello),
                Err(_) => self.standing = Standing::Gone,
            }
        }
    }

    fn connect(&mut self) {
        match self.handshake.secrets() {
            Ok(secrets) => {
                self.secrets = Some(secrets);
                self.standing = Standing::Connected;
            }
            Err(error) => {
                tracing::debug!("no keys: {error}");
                self.standing = Standing::Gone;
            }
        }
    }

    fn transmit(&mut self, datagrams: Vec<Vec<u8>>) {
        if let Some(relay) = self.checks.selected() {
            self.transmits.extend(datagrams.into_iter().map(|datagram| (relay, datagram)));
        }
    }
}
