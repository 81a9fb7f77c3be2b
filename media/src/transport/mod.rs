//! The transport of one WebRTC session: ICE-lite, DTLS 1.2 and data channels of one peer, without I/O. Owns
//! who the peer is, where it is and whether it is still there; leaves SDP, SRTP packets and the meaning of
//! messages to others.

#[doc(hidden)]
pub mod bare;
mod chunks;
mod client_hello;
mod dcep;
mod demux;
mod dtls;
mod engine;
mod gate;
mod ice;
mod identity;
mod keys;
mod resend;
mod sctp;
mod stun;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use demux::{Kind, classify};
pub use identity::{Fingerprint, FingerprintError, Identity, IdentityError};
pub use keys::{SrtpKeys, SrtpProfile};
pub use sctp::{ChannelError, MAX_MESSAGE};
pub use stun::{stun_answered, stun_username};

use dtls::{Dtls, DtlsEvent};
use ice::Ice;
use sctp::{CONNECT_DELAY, Sctp, SctpEvent};

/// One end of ICE credentials. Debug leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the session in each check.
    pub ufrag: String,
    /// Authenticates the checks.
    pub pwd: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// Which end of the DTLS handshake we are: client when the answer says `a=setup:active`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We say hello.
    Client,
    /// We wait for the peer's hello.
    Server,
}

/// What the offer and the answer have settled.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// The relay's certificate.
    pub identity: Arc<Identity>,
    /// Our DTLS role.
    pub role: DtlsRole,
    /// Our credentials, from the answer.
    pub local: Credentials,
    /// The peer's, from its offer: a check must say `local:remote`, and our own are signed with its password.
    pub remote: Credentials,
    /// The peer's certificate must have this fingerprint.
    pub fingerprint: Fingerprint,
    /// Whether data channels were agreed on.
    pub data_channels: bool,
}

/// A datagram was dropped; the reason is a label for the drop counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dropped: {0}")]
pub struct Drop(pub &'static str);

/// What a transport wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportOutput {
    /// Send a datagram. An authenticated check came from this address; until it has answered one of ours, no
    /// more goes there than three times what came from there.
    Transmit {
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        data: Vec<u8>,
    },
    /// Media goes here from now on: first validation, nomination or migration.
    Remote(SocketAddr),
    /// DTLS is complete and the fingerprint is right. Comes once.
    Connected(SrtpKeys),
    /// The peer opened a data channel.
    ChannelOpen {
        /// Its number, for `send_message`.
        channel: u16,
        /// Its name; at most 256 bytes.
        label: String,
    },
    /// A message came over a data channel.
    Message {
        /// The channel's number.
        channel: u16,
        /// The message; at most [`MAX_MESSAGE`] bytes.
        data: Bytes,
        /// Not text. Text is not checked to be UTF-8.
        binary: bool,
    },
    /// A data channel is gone.
    ChannelClosed {
        /// Its number.
        channel: u16,
    },
    /// The session is over. Comes once; afterwards the transport does nothing.
    Closed(CloseReason),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CloseReason {
    /// Not connected within 30 s.
    #[error("never connected")]
    ConnectTimeout,
    /// Nothing authenticated for 30 s: no check (RFC 7675), no media of a publisher, no report of a listener.
    #[error("peer fell silent")]
    ConsentExpired,
    /// The peer's certificate is not the one its SDP named.
    #[error("certificate does not match the fingerprint")]
    FingerprintMismatch,
    /// The handshake broke off, or a fatal alert came.
    #[error("dtls failed: {0}")]
    DtlsFailed(DtlsFailure),
    /// The peer offers no SRTP profile that we speak.
    #[error("no srtp profile in common")]
    NoSrtpProfile,
    /// The peer said goodbye.
    #[error("closed by the peer")]
    PeerClosed,
    /// `close` was called.
    #[error("closed")]
    LocallyClosed,
    /// Something that this peer sent met a defect of ours or of a library.
    #[error("a defect ended the session")]
    Panicked,
    /// A publisher's sequence numbers went back and on from there, under the same SSRC and keys.
    #[error(
        "its sequence numbers jumped back, which cannot be told from a replay: it has to begin a new session"
    )]
    NumbersJumpedBack,
    /// A publisher has used more SSRCs than can be kept apart.
    #[error("it has changed its SSRC too often: it has to begin a new session")]
    TooManySources,
}

/// What a handshake broke off about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DtlsFailure {
    /// None of the peer's cipher suites is one of ours.
    #[error(
        "no cipher suite in common: the peer has to offer ECDHE-ECDSA with AES-128-GCM, AES-256-CBC-SHA or \
         ChaCha20-Poly1305, because the relay's certificate is ECDSA"
    )]
    CipherSuites,
    /// The peer does not know RFC 7627.
    #[error("the peer does not offer the extended master secret (RFC 7627): it needs a newer TLS library")]
    ExtendedMasterSecret,
    /// None of the peer's SRTP profiles is one of ours.
    #[error("no SRTP profile in common: the peer has to offer AEAD_AES_128_GCM or AES128_CM_HMAC_SHA1_80")]
    SrtpProfiles,
    /// None of the peer's curves is one of ours.
    #[error("no curve in common: the peer has to offer P-256, P-384 or X25519")]
    Curves,
    /// Not DTLS 1.2.
    #[error("the peer does not speak DTLS 1.2")]
    Version,
    /// The peer's certificate or what it signed with it.
    #[error(
        "the peer's certificate cannot be verified: use one with an ECDSA key on P-256 or P-384, RSA or Ed25519"
    )]
    Certificate,
    /// The peer broke off, with this alert (RFC 5246 section 7.2).
    #[error("the peer broke off with alert {0}{name}", name = alert_name(*.0))]
    Alert(u8),
    /// The keys could not be used.
    #[error("the keys agreed on cannot be used")]
    Keys,
    /// Something else.
    #[error("the handshake broke off")]
    Other,
}

/// The alerts that say what is missing.
fn alert_name(alert: u8) -> &'static str {
    match alert {
        40 => ": handshake failure",
        42 => ": bad certificate",
        43 => ": unsupported certificate",
        46 => ": certificate unknown",
        47 => ": illegal parameter",
        51 => ": decrypt error",
        70 => ": protocol version",
        71 => ": insufficient security",
        80 => ": internal error",
        _ => "",
    }
}

impl CloseReason {
    /// A label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::ConnectTimeout => "connect_timeout",
            CloseReason::ConsentExpired => "consent_expired",
            CloseReason::FingerprintMismatch => "fingerprint_mismatch",
            CloseReason::DtlsFailed(_) => "dtls_failed",
            CloseReason::NoSrtpProfile => "no_srtp_profile",
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::LocallyClosed => "locally_closed",
            CloseReason::Panicked => "panicked",
            CloseReason::NumbersJumpedBack => "numbers_jumped_back",
            CloseReason::TooManySources => "too_many_sources",
        }
    }
}

/// The transport of one peer. Datagrams go in through [`handle_stun`](Self::handle_stun) and
/// [`handle_dtls`](Self::handle_dtls), told apart by [`classify`]; time through
/// [`handle_timeout`](Self::handle_timeout). After each of them, and after [`close`](Self::close),
/// [`handle_restart`](Self::handle_restart) and [`send_message`](Self::send_message), poll
/// [`poll_output`](Self::poll_output) until it is empty, then [`poll_timeout`](Self::poll_timeout).
///
/// It never sends but to an address with an authenticated check, and little until that has answered one.
pub struct Transport {
    ice: Ice,
    dtls: Dtls,
    fingerprint: Fingerprint,
    role: DtlsRole,
    data_channels: bool,
    sctp: Option<Box<Sctp>>,
    outputs: VecDeque<TransportOutput>,
    state: State,
    /// When the handshake must be over, then until when its last flight is kept.
    deadline: Option<Instant>,
    closed: Option<CloseReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Closed,
}

impl Transport {
    /// A transport that waits for the peer's first check.
    pub fn new(config: TransportConfig, now: Instant) -> Transport {
        Transport {
            ice: Ice::new(config.identity.clone(), &config.local, config.remote, now),
            dtls: Dtls::new(config.identity, config.role),
            fingerprint: config.fingerprint,
            role: config.role,
            data_channels: config.data_channels,
            sctp: None,
            outputs: VecDeque::new(),
            state: State::Connecting,
            deadline: Some(now + CONNECT_TIMEOUT),
            closed: None,
        }
    }

    /// A STUN message from the network.
    ///
    /// # Errors
    ///
    /// When it was dropped, and why.
    pub fn handle_stun(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), Drop> {
        self.check_open()?;
        self.guarded(|own| own.take_stun(from, data, now)).unwrap_or(Err(PANICKED))
    }

    fn take_stun(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), Drop> {
        let checked = self.ice.handle_stun(from, data, now)?;
        let replies = checked.replies.into_iter();
        self.outputs.extend(replies.map(|data| TransportOutput::Transmit { to: from, data }));
        if checked.selected {
            self.outputs.push_back(TransportOutput::Remote(from));
            if let Some(DtlsEvent::Failed(cause)) = self.dtls.start(now) {
                self.end(CloseReason::DtlsFailed(cause), now);
            }
        }
        self.flush(now);
        Ok(())
    }

    /// A DTLS datagram from the network.
    ///
    /// # Errors
    ///
    /// When it was dropped, and why: above all when ICE has not validated the address.
    pub fn handle_dtls(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), Drop> {
        self.check_open()?;
        self.guarded(|own| own.take_dtls(from, data, now)).unwrap_or(Err(PANICKED))
    }

    fn take_dtls(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), Drop> {
        if !self.ice.is_validated(from) {
            return Err(Drop("dtls_unvalidated"));
        }
        self.ice.handle_received(from, data.len());
        let mut dropped = Ok(());
        for event in self.dtls.handle_datagram(data, now)? {
            dropped = dropped.and(self.handle_dtls_event(event, now));
        }
        self.flush(now);
        dropped
    }

    /// An ICE restart: new credentials. DTLS, keys and channels go on, and the old credentials stay valid
    /// until the first check with the new ones.
    pub fn handle_restart(&mut self, local: Credentials, remote: Credentials, _now: Instant) {
        self.ice.handle_restart(&local, remote);
    }

    /// The time of `poll_timeout` has come. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != State::Closed {
            self.guarded(|own| own.take_timeout(now));
        }
    }

    fn take_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            if self.state == State::Connecting {
                return self.end(CloseReason::ConnectTimeout, now);
            }
            self.dtls.forget_handshake();
        }
        if self.consent_ends().is_some_and(|at| at <= now) {
            return self.end(CloseReason::ConsentExpired, now);
        }
        if let Some(event) = self.dtls.handle_timeout(now) {
            // A timer brings no packet that could be dropped.
            let _ = self.handle_dtls_event(event, now);
        }
        if let Some(sctp) = &mut self.sctp {
            sctp.handle_timeout(now);
        }
        self.flush(now);
    }

    /// When `handle_timeout` wants to be called; `None` once closed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let sctp = self.sctp.as_ref().and_then(|sctp| sctp.poll_timeout());
        [self.deadline, self.consent_ends(), self.dtls.poll_timeout(), sctp].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<TransportOutput> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // An idle session keeps no room for the bursts of its handshake.
            self.outputs.shrink_to_fit();
        }
        output
    }

    /// Sends a message over a channel that the peer has opened.
    ///
    /// # Errors
    ///
    /// When the channel is not open, the message too long, or the channel's buffer full because the peer
    /// does not read.
    pub fn send_message(
        &mut self,
        channel: u16,
        data: &[u8],
        binary: bool,
        now: Instant,
    ) -> Result<(), ChannelError> {
        let sent = self.guarded(|own| {
            let sctp = own.sctp.as_mut().ok_or(ChannelError::NotOpen)?;
            sctp.send(channel, data, binary, now)?;
            own.flush(now);
            Ok(())
        });
        sent.unwrap_or(Err(ChannelError::NotOpen))
    }

    /// Ends the session and tells the peer.
    pub fn close(&mut self, now: Instant) {
        self.guarded(|own| own.end(CloseReason::LocallyClosed, now));
    }

    /// SRTP or SRTCP from there has just proved to be the peer's, and new: as good as a check, if it comes from
    /// an address that a check came from.
    pub fn handle_heard(&mut self, from: SocketAddr, now: Instant) {
        self.ice.handle_heard(from, now);
    }

    /// Ends the session for what came of its media, and tells the peer.
    pub fn give_up(&mut self, reason: CloseReason, now: Instant) {
        self.guarded(|own| own.end(reason, now));
    }

    /// The selected address: where media goes.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.ice.selected()
    }

    /// Whether media from this address may be this peer's.
    pub fn is_validated(&self, from: SocketAddr) -> bool {
        self.ice.is_validated(from)
    }

    /// Whether DTLS is complete and the session not over.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Why the session ended, if it has.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Messages that `send_message` refused because the peer did not read.
    pub fn messages_refused(&self) -> u64 {
        self.sctp.as_ref().map_or(0, |sctp| sctp.refused())
    }

    /// Gives something to the libraries that read what strangers wrote. A panic in one of them ends this
    /// session and nothing else.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Transport) -> T) -> Option<T> {
        let acted = catch_unwind(AssertUnwindSafe(|| act(self)));
        if acted.is_err() {
            // In what state they are nobody knows: they are asked for nothing more, not even for a goodbye.
            let broken = (self.dtls.abandon(), self.sctp.take());
            let _ = catch_unwind(AssertUnwindSafe(|| drop(broken)));
            self.state = State::Closed;
            self.closed = Some(CloseReason::Panicked);
            self.outputs.push_back(TransportOutput::Closed(CloseReason::Panicked));
        }
        acted.ok()
    }

    fn check_open(&self) -> Result<(), Drop> {
        if self.state == State::Closed { Err(Drop("session_closed")) } else { Ok(()) }
    }

    fn consent_ends(&self) -> Option<Instant> {
        self.ice.last_heard().map(|at| at + CONSENT)
    }

    fn handle_dtls_event(&mut self, event: DtlsEvent, now: Instant) -> Result<(), Drop> {
        match event {
            DtlsEvent::Done => self.handle_done(now),
            // Nothing is heard before the fingerprint is known to be right, data channels included.
            DtlsEvent::Data(data) if self.state == State::Connected => {
                if let Some(sctp) = &mut self.sctp {
                    return sctp.handle_packet(data, now);
                }
            }
            DtlsEvent::Data(_) => {}
            DtlsEvent::Closed => self.end(CloseReason::PeerClosed, now),
            DtlsEvent::Failed(cause) => self.end(CloseReason::DtlsFailed(cause), now),
        }
        Ok(())
    }

    fn handle_done(&mut self, now: Instant) {
        if self.state != State::Connecting {
            return;
        }
        if !self.dtls.peer_matches(&self.fingerprint) {
            return self.end(CloseReason::FingerprintMismatch, now);
        }
        let Some(keys) = self.dtls.srtp_keys() else {
            return self.end(CloseReason::NoSrtpProfile, now);
        };
        self.state = State::Connected;
        self.ice.handle_connected();
        self.deadline = Some(now + LAST_FLIGHT);
        self.outputs.push_back(TransportOutput::Connected(keys));
        if self.data_channels {
            let connect_at = (self.role == DtlsRole::Client).then(|| now + CONNECT_DELAY);
            self.sctp = Some(Box::new(Sctp::new(connect_at, now)));
        }
    }

    /// Moves what the parts have produced to the outputs.
    fn flush(&mut self, now: Instant) {
        self.write_sctp(now);
        self.take_channel_events();
        self.take_datagrams();
    }

    fn write_sctp(&mut self, now: Instant) {
        let Some(sctp) = &mut self.sctp else { return };
        while let Some(packet) = sctp.poll_transmit() {
            if self.dtls.write(&packet, now).is_err() {
                // The peer has closed: retransmitting into the void would go on for minutes.
                return sctp.stop();
            }
        }
    }

    fn take_channel_events(&mut self) {
        let Some(sctp) = &mut self.sctp else { return };
        while let Some(event) = sctp.poll_event() {
            self.outputs.push_back(match event {
                SctpEvent::Open { channel, label } => TransportOutput::ChannelOpen { channel, label },
                SctpEvent::Message { channel, data, binary } => {
                    TransportOutput::Message { channel, data, binary }
                }
                SctpEvent::Closed { channel } => TransportOutput::ChannelClosed { channel },
            });
        }
    }

    fn take_datagrams(&mut self) {
        let Some(to) = self.ice.selected() else { return };
        // What is too much for an address that has not answered yet waits: for its answer, or for more from it.
        while let Some(data) = self.dtls.poll_transmit(self.ice.budget()) {
            self.ice.handle_sent(data.len());
            self.outputs.push_back(TransportOutput::Transmit { to, data });
        }
    }

    fn end(&mut self, reason: CloseReason, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        self.dtls.close(now);
        if let Some(sctp) = &mut self.sctp {
            sctp.stop();
        }
        self.take_channel_events();
        self.take_datagrams();
        self.sctp = None;
        self.state = State::Closed;
        self.closed = Some(reason);
        self.outputs.push_back(TransportOutput::Closed(reason));
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("state", &self.state)
            .field("remote", &self.remote())
            .finish_non_exhaustive()
    }
}

/// What a session was given when it ended by a defect.
const PANICKED: Drop = Drop("session_panicked");
/// A session that has not connected by then never will.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 7675 section 5.1.
const CONSENT: Duration = Duration::from_secs(30);
/// How long after the handshake the peer may still ask for our last flight.
const LAST_FLIGHT: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "panic_tests.rs"]
mod tests;
