//! The transport of one WebRTC session: ICE-lite, DTLS 1.2 and data channels of one peer, without I/O. Owns
//! who the peer is, where it is and whether it is still there; leaves SDP, SRTP packets and the meaning of
//! messages to others.

#[doc(hidden)]
pub mod bare;
mod chunks;
mod client_hello;
mod close_reason;
mod config;
mod dcep;
mod demux;
mod dtls;
mod engine;
mod gate;
mod handshake_path;
mod ice;
mod identity;
mod keys;
mod resend;
mod sctp;
mod stun;
mod tlv;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use crate::rtp::srtp::SrtpProfile;
pub use close_reason::{CloseReason, DtlsFailure};
pub use config::{Credentials, DtlsRole, TransportConfig};
pub use demux::{Kind, classify};
pub use identity::{Fingerprint, FingerprintError, Identity, IdentityError};
pub use keys::SrtpKeys;
pub use sctp::{ChannelError, MAX_MESSAGE};
pub use stun::{stun_answered, stun_username};

use crate::drop_reason::DropReason;
use dtls::{Dtls, DtlsEvent};
use handshake_path::HandshakePath;
use ice::Ice;
use sctp::{CONNECT_DELAY, Sctp, SctpEvent};

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
    /// DTLS is complete and the fingerprint is right. Comes once. What the path carries towards the peer at least, as far as
    /// the handshake tells, in bits per second: a slow peer looks like a narrow path.
    Connected(SrtpKeys, Option<u64>),
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
    /// The peer has so much more of what was sent over a data channel, or will never get it.
    Acknowledged {
        /// The channel's number.
        channel: u16,
        /// Bytes of whole messages.
        bytes: usize,
    },
    /// A data channel is gone.
    ChannelClosed {
        /// Its number.
        channel: u16,
    },
    /// The session is over. Comes once; afterwards the transport does nothing.
    Closed(CloseReason),
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
    /// Until it is connected.
    path: Option<Box<HandshakePath>>,
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
            path: Some(Box::default()),
            deadline: Some(now + CONNECT_TIMEOUT),
            closed: None,
        }
    }

    /// A STUN message from the network.
    ///
    /// # Errors
    ///
    /// When it was dropped, and why.
    pub fn handle_stun(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), DropReason> {
        self.check_open()?;
        self.guarded(|own| own.take_stun(from, data, now)).unwrap_or(Err(PANICKED))
    }

    fn take_stun(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), DropReason> {
        let checked = self.ice.handle_stun(from, data, now)?;
        if let Some(path) = &mut self.path {
            match checked.replies.as_slice() {
                [reply, check] => path.handle_check(reply.len() + check.len(), now),
                [] if stun_answered(data).is_some() => path.handle_check_answered(now),
                _ => {}
            }
        }
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
    pub fn handle_dtls(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), DropReason> {
        self.check_open()?;
        self.guarded(|own| own.take_dtls(from, data, now)).unwrap_or(Err(PANICKED))
    }

    fn take_dtls(&mut self, from: SocketAddr, data: &[u8], now: Instant) -> Result<(), DropReason> {
        if !self.ice.is_validated(from) {
            return Err(DropReason::DtlsUnvalidated);
        }
        self.ice.handle_received(from, data.len());
        if let Some(path) = &mut self.path {
            path.handle_flight_answered(now);
        }
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

    /// Closes a data channel, or all; nothing happens if it is not open.
    pub fn close_channel(&mut self, channel: Option<u16>, now: Instant) {
        self.guarded(|own| {
            if let Some(sctp) = &mut own.sctp {
                sctp.close(channel, now);
                own.flush(now);
            }
        });
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

    fn check_open(&self) -> Result<(), DropReason> {
        if self.state == State::Closed { Err(DropReason::SessionClosed) } else { Ok(()) }
    }

    fn consent_ends(&self) -> Option<Instant> {
        self.ice.last_heard().map(|at| at + CONSENT)
    }

    fn handle_dtls_event(&mut self, event: DtlsEvent, now: Instant) -> Result<(), DropReason> {
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
        let carries = self.path.take().and_then(|path| path.carries());
        self.outputs.push_back(TransportOutput::Connected(keys, carries));
        if self.data_channels {
            let connect_at = (self.role == DtlsRole::Client).then(|| now + CONNECT_DELAY);
            self.sctp = Some(Box::new(Sctp::new(connect_at, now)));
        }
    }

    /// Moves what the parts have produced to the outputs.
    fn flush(&mut self, now: Instant) {
        self.write_sctp(now);
        self.take_channel_events();
        self.take_datagrams(now);
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
                SctpEvent::Acknowledged { channel, bytes } => {
                    TransportOutput::Acknowledged { channel, bytes }
                }
                SctpEvent::Closed { channel } => TransportOutput::ChannelClosed { channel },
            });
        }
    }

    fn take_datagrams(&mut self, now: Instant) {
        let Some(to) = self.ice.selected() else { return };
        // What is too much for an address that has not answered yet waits: for its answer, or for more from it.
        while let Some(data) = self.dtls.poll_transmit(self.ice.budget()) {
            self.ice.handle_sent(data.len());
            if let Some(path) = &mut self.path {
                path.handle_flight(data.len(), self.dtls.transmits_again(), now);
            }
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
        self.take_datagrams(now);
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
const PANICKED: DropReason = DropReason::SessionPanicked;
/// A session that has not connected by then never will.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 7675 section 5.1.
const CONSENT: Duration = Duration::from_secs(30);
/// How long after the handshake the peer may still ask for our last flight.
const LAST_FLIGHT: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "panic_tests.rs"]
mod tests;
