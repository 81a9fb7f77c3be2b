//! The DTLS 1.2 engine behind the gate: a small trait, so that another implementation could stand in, and
//! rtc-dtls as the one in use. Knows nothing of fingerprints, loss or the rest of the session.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::config::HandshakeConfig;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_shared::TransportProtocol;

use super::close_reason::DtlsFailure;
use super::keys::SrtpKeys;
use crate::rtp::srtp::SrtpProfile;

/// What an engine has to say.
pub(super) enum EngineEvent {
    /// The handshake is complete.
    Done,
    /// Decrypted application data.
    Data(BytesMut),
    /// The peer said close_notify.
    Closed,
}

/// The engine broke off; its alert, if it has one, waits in `poll_transmit`.
#[derive(Debug, thiserror::Error)]
#[error("dtls engine failed: {0}")]
pub(super) struct EngineError(#[from] rtc_shared::error::Error);

impl EngineError {
    /// What it was about, for whoever has to do something about it.
    pub(super) fn cause(&self) -> DtlsFailure {
        use rtc_shared::error::Error;
        match self.0 {
            Error::ErrCipherSuiteNoIntersection
            | Error::ErrNoAvailableCipherSuites
            | Error::ErrInvalidCipherSuite
            | Error::ErrCipherSuiteUnset => DtlsFailure::CipherSuites,
            Error::ErrServerRequiredButNoClientEms | Error::ErrClientRequiredButNoServerEms => {
                DtlsFailure::ExtendedMasterSecret
            }
            Error::ErrServerNoMatchingSrtpProfile
            | Error::ErrClientNoMatchingSrtpProfile
            | Error::ErrRequestedButNoSrtpExtension => DtlsFailure::SrtpProfiles,
            Error::ErrNoSupportedEllipticCurves => DtlsFailure::Curves,
            Error::ErrUnsupportedProtocolVersion => DtlsFailure::Version,
            Error::ErrNoAvailableSignatureSchemes
            | Error::ErrKeySignatureVerifyUnimplemented
            | Error::ErrKeySignatureMismatch
            | Error::ErrInvalidCertificate
            | Error::ErrClientCertificateNotVerified
            | Error::ErrClientCertificateRequired
            | Error::ErrCertificateVerifyNoCertificate
            | Error::Crypto(_) => DtlsFailure::Certificate,
            _ => DtlsFailure::Other,
        }
    }
}

/// One DTLS association. After each call its datagrams are to be collected with `poll_transmit`.
pub(super) trait Engine: Send {
    /// Begins the handshake, if this side does.
    fn start(&mut self, now: Instant) -> Result<(), EngineError>;
    /// Records from the gate.
    fn handle_records(&mut self, data: &[u8], now: Instant) -> Result<Vec<EngineEvent>, EngineError>;
    /// Application data to be sent.
    fn write(&mut self, data: &[u8], now: Instant) -> Result<(), EngineError>;
    /// The time of `poll_timeout` has come.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), EngineError>;
    /// When it wants to be called.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;
    /// The peer's certificate in DER; empty before it is known.
    fn peer_certificate(&self) -> &[u8];
    /// The SRTP keys, if a profile was agreed.
    fn srtp_keys(&self) -> Option<SrtpKeys>;
    /// Says close_notify.
    fn close(&mut self, now: Instant);
}

/// rtc-dtls with one association.
pub(super) struct RtcDtls {
    endpoint: Endpoint,
    config: Option<Arc<HandshakeConfig>>,
}

impl RtcDtls {
    pub(super) fn client(config: Arc<HandshakeConfig>) -> RtcDtls {
        RtcDtls { endpoint: Endpoint::new(PEER, TransportProtocol::UDP, None), config: Some(config) }
    }

    pub(super) fn server(config: Arc<HandshakeConfig>) -> RtcDtls {
        RtcDtls { endpoint: Endpoint::new(PEER, TransportProtocol::UDP, Some(config)), config: None }
    }
}

impl Engine for RtcDtls {
    fn start(&mut self, now: Instant) -> Result<(), EngineError> {
        if let Some(config) = self.config.take() {
            self.endpoint.connect(now, PEER, config, None)?;
        }
        Ok(())
    }

    fn handle_records(&mut self, data: &[u8], now: Instant) -> Result<Vec<EngineEvent>, EngineError> {
        let events = self.endpoint.read(now, PEER, None, BytesMut::from(data))?;
        Ok(events
            .into_iter()
            .filter_map(|event| match event {
                EndpointEvent::HandshakeComplete => Some(EngineEvent::Done),
                EndpointEvent::ApplicationData(data) => Some(EngineEvent::Data(data)),
                EndpointEvent::PeerClosed => Some(EngineEvent::Closed),
                _ => None,
            })
            .collect())
    }

    fn write(&mut self, data: &[u8], now: Instant) -> Result<(), EngineError> {
        Ok(self.endpoint.write(now, PEER, data)?)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), EngineError> {
        match self.poll_timeout() {
            Some(at) if at <= now => Ok(self.endpoint.handle_timeout(PEER, now)?),
            _ => Ok(()),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&PEER)
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec())
    }

    fn peer_certificate(&self) -> &[u8] {
        self.endpoint
            .get_connection_state(PEER)
            .and_then(|state| state.peer_certificates.first())
            .map_or(&[], Vec::as_slice)
    }

    fn srtp_keys(&self) -> Option<SrtpKeys> {
        let state = self.endpoint.get_connection_state(PEER)?;
        let profile = SrtpProfile::choose([state.srtp_protection_profile() as u16])?;
        let material =
            state.export_keying_material(EXPORTER_LABEL, &[], SrtpKeys::material_len(profile)).ok()?;
        SrtpKeys::cut(profile, &material.into_bytes(), state.is_client())
    }

    fn close(&mut self, now: Instant) {
        // Cannot fail for an association of ours; if it did, there would be nothing left to do anyway.
        let _ = self.endpoint.close(now);
    }
}

/// RFC 5764 section 4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";
/// rtc-dtls tells its associations apart by address; ours has one, wherever the peer moves.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9));
