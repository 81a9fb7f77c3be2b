//! DTLS with one peer: the engine, the gate before it and the resend behind it. Owns the handshake up to its
//! end; whether the peer is the right one is for `transport` to check, and nothing leaves here before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::client_hello;
use super::close_reason::DtlsFailure;
use super::config::DtlsRole;
use super::engine::{Engine, EngineError, EngineEvent, RtcDtls};
use super::gate::{CLOSE_NOTIFY, Gate, Passed};
use super::identity::{Fingerprint, Identity};
use super::keys::SrtpKeys;
use super::resend::Resend;
use crate::drop_reason::DropReason;
use crate::rtp::srtp::SrtpProfile;

/// The DTLS half of a transport.
pub(super) struct Dtls {
    identity: Arc<Identity>,
    role: DtlsRole,
    /// None: a server that has not seen a ClientHello, a client that has not begun.
    engine: Option<Box<dyn Engine>>,
    gate: Gate,
    resend: Resend,
    transmits: VecDeque<Vec<u8>>,
    /// What is to be transmitted left before.
    again: bool,
    done: bool,
}

/// What DTLS has to say.
#[derive(Debug)]
pub(super) enum DtlsEvent {
    /// The handshake is complete; the certificate is not yet compared with anything.
    Done,
    /// Application data, only after `Done`.
    Data(Bytes),
    /// The peer said close_notify.
    Closed,
    /// It will not come to anything any more.
    Failed(DtlsFailure),
}

impl Dtls {
    pub(super) fn new(identity: Arc<Identity>, role: DtlsRole) -> Dtls {
        Dtls {
            identity,
            role,
            engine: None,
            gate: Gate::new(role == DtlsRole::Client),
            resend: Resend::new(),
            transmits: VecDeque::new(),
            again: false,
            done: false,
        }
    }

    /// There is an address to send to: a client says hello.
    pub(super) fn start(&mut self, now: Instant) -> Option<DtlsEvent> {
        if self.role == DtlsRole::Server || self.engine.is_some() {
            return None;
        }
        let mut engine = RtcDtls::client(self.identity.client_config());
        let started = engine.start(now);
        self.engine = Some(Box::new(engine));
        let hello = self.collect();
        self.resend.handle_hello(&hello, now);
        self.transmit(hello);
        started.err().map(|error| DtlsEvent::Failed(error.cause()))
    }

    /// A datagram from a validated address.
    pub(super) fn handle_datagram(
        &mut self,
        data: &[u8],
        now: Instant,
    ) -> Result<Vec<DtlsEvent>, DropReason> {
        if self.engine.is_none() && self.role == DtlsRole::Client {
            return Err(DropReason::DtlsEarly);
        }
        let passed = self.gate.handle_datagram(data, self.done)?;
        if let Some(description) = passed.alert {
            let failed = DtlsEvent::Failed(DtlsFailure::Alert(description));
            return Ok(vec![if description == CLOSE_NOTIFY { DtlsEvent::Closed } else { failed }]);
        }
        let mut events = Vec::new();
        let mut sent = false;
        if !passed.records.is_empty() {
            self.make_server(&passed);
            sent = self.feed(&passed.records, &mut events, now);
        }
        if passed.is_repeat && !sent {
            let flight = self.resend.handle_repeat(now).to_vec();
            self.transmit_again(flight);
        } else if !self.done {
            self.resend.handle_answer(now);
        }
        Ok(events)
    }

    /// Sends application data.
    pub(super) fn write(&mut self, data: &[u8], now: Instant) -> Result<(), EngineError> {
        if let Some(engine) = &mut self.engine {
            engine.write(data, now)?;
        }
        let datagrams = self.collect();
        self.transmits.extend(datagrams);
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<DtlsEvent> {
        if self.engine_timeout().is_some_and(|at| at <= now)
            && let Some(engine) = &mut self.engine
        {
            let result = engine.handle_timeout(now);
            let datagrams = self.collect();
            self.resend.handle_flight(&datagrams, now);
            self.transmit_again(datagrams);
            if let Err(error) = result {
                return Some(DtlsEvent::Failed(error.cause()));
            }
        }
        let flight = self.resend.handle_timeout(now).to_vec();
        self.transmit_again(flight);
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.engine_timeout(), self.resend.poll_timeout()].into_iter().flatten().min()
    }

    /// The next datagram, if it is no longer than this.
    pub(super) fn poll_transmit(&mut self, longest: usize) -> Option<Vec<u8>> {
        if self.transmits.front()?.len() > longest {
            return None;
        }
        let datagram = self.transmits.pop_front();
        if self.transmits.is_empty() && self.done {
            self.transmits = VecDeque::new();
        }
        datagram
    }

    /// Whether what is to be transmitted has left before.
    pub(super) fn transmits_again(&self) -> bool {
        self.again
    }

    /// Whether the certificate the peer proved to own is the one its SDP named.
    pub(super) fn peer_matches(&self, fingerprint: &Fingerprint) -> bool {
        self.engine.as_ref().is_some_and(|engine| fingerprint.matches(engine.peer_certificate()))
    }

    pub(super) fn srtp_keys(&self) -> Option<SrtpKeys> {
        self.engine.as_ref()?.srtp_keys()
    }

    /// Says close_notify.
    pub(super) fn close(&mut self, now: Instant) {
        if let Some(engine) = &mut self.engine {
            engine.close(now);
        }
        let datagrams = self.collect();
        self.transmits.extend(datagrams);
        self.resend.clear();
    }

    /// Another engine, for tests of what happens when one breaks.
    #[cfg(test)]
    pub(super) fn replace_engine(&mut self, engine: Box<dyn Engine>) {
        self.engine = Some(engine);
    }

    /// Gives the engine away, to be dropped: nothing is sent any more.
    pub(super) fn abandon(&mut self) -> Option<Box<dyn Engine>> {
        self.transmits.clear();
        self.resend.clear();
        self.engine.take()
    }

    /// The peer has shown that it has our last flight: what was kept for repeating it can go.
    pub(super) fn forget_handshake(&mut self) {
        self.resend.clear();
    }

    /// A server is made with the one profile that we chose of those the client offers.
    fn make_server(&mut self, passed: &Passed) {
        if self.engine.is_some() {
            return;
        }
        let hello = passed.client_hello.as_deref().unwrap_or_default();
        // Without a usable offer the handshake runs on and ends without keys.
        let profile =
            SrtpProfile::choose(client_hello::srtp_profiles(hello)).unwrap_or(SrtpProfile::AeadAes128Gcm);
        self.engine = Some(Box::new(RtcDtls::server(self.identity.server_config(profile))));
    }

    /// Gives records to the engine; whether it sent something in answer.
    fn feed(&mut self, records: &[u8], events: &mut Vec<DtlsEvent>, now: Instant) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        let result = engine.handle_records(records, now);
        let was_done = self.done;
        let failed = result.as_ref().err().map(EngineError::cause);
        for event in result.into_iter().flatten() {
            match event {
                EngineEvent::Done => {
                    self.done = true;
                    events.push(DtlsEvent::Done);
                }
                EngineEvent::Data(data) => events.push(DtlsEvent::Data(data.freeze())),
                EngineEvent::Closed => events.push(DtlsEvent::Closed),
            }
        }
        let datagrams = self.collect();
        let sent = !datagrams.is_empty();
        if !was_done {
            self.resend.handle_flight(&datagrams, now);
        }
        self.transmit(datagrams);
        if let Some(cause) = failed {
            events.push(DtlsEvent::Failed(cause));
        } else if self.done && !was_done {
            self.resend.stop();
            for record in self.gate.release_early() {
                self.feed(&record, events, now);
            }
        }
        sent
    }

    fn transmit(&mut self, datagrams: Vec<Vec<u8>>) {
        if !datagrams.is_empty() {
            self.transmits.extend(datagrams);
            self.again = false;
        }
    }

    /// A flight once more: what still waits of it from the time before need not go too.
    fn transmit_again(&mut self, flight: Vec<Vec<u8>>) {
        if !flight.is_empty() {
            self.transmits = flight.into();
            self.again = true;
        }
    }

    /// rtc-dtls leaves its timer running after the last flight.
    fn engine_timeout(&self) -> Option<Instant> {
        self.engine.as_ref().filter(|_| !self.done)?.poll_timeout()
    }

    fn collect(&mut self) -> Vec<Vec<u8>> {
        let Some(engine) = &mut self.engine else { return Vec::new() };
        std::iter::from_fn(|| engine.poll_transmit()).collect()
    }
}
