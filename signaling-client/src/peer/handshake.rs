//! DTLS as the client of one association (RFC 5764): the handshake, the certificate that the relay has to show, and the
//! keys that are left. Repeats its last flight when no answer comes.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_crypto::{HashAlgorithm, RTCCryptoProvider};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;

use super::secrets::Secrets;
use crate::error::Error;

/// rtc-dtls repeats by itself only whole flights, and late: what is lost is repeated here.
const REPEAT: Duration = Duration::from_millis(400);
/// And no more than this.
const LONGEST_REPEAT: Duration = Duration::from_secs(3);
/// rtc-dtls tells associations apart by address; ours has one, wherever the relay is.
const RELAY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9));
/// RFC 5764 section 4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// A certificate, and what is made of it once for all sessions of a process.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    config: Arc<HandshakeConfig>,
    fingerprint: String,
}

impl Identity {
    /// Makes a certificate.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when the crypto library cannot.
    pub fn generate() -> Result<Identity, Error> {
        let failed =
            |error: &dyn std::fmt::Display| Error::Webrtc(rtc_shared::error::Error::Other(error.to_string()));
        let provider = rtc_crypto::default_provider().map_err(|error| failed(&error))?;
        let certificate =
            Certificate::generate_self_signed(vec!["participant".to_owned()], provider.crypto())?;
        let der = certificate.certificate.first().map(|der| der.as_ref().to_vec()).unwrap_or_default();
        let fingerprint = fingerprint(provider.as_ref(), &der).ok_or_else(|| failed(&"no SHA-256"))?;
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&provider))
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // The chain means nothing here: the certificate is compared with the answer's fingerprint.
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)?;
        Ok(Identity { provider, config: Arc::new(config), fingerprint })
    }

    /// `AA:BB:…`, the SHA-256 of the certificate.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn provider(&self) -> &Arc<dyn RTCCryptoProvider> {
        &self.provider
    }
}

/// One handshake, and the association after it.
pub(super) struct Handshake {
    endpoint: Endpoint,
    identity: Arc<Identity>,
    /// What the answer says the relay's certificate is: the SHA-256 in capitals.
    expected: String,
    begun: bool,
    flight: Vec<Vec<u8>>,
    repeat: Option<(Instant, Duration)>,
    done: bool,
}

/// What a datagram or a time brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing new.
    Going,
    /// The handshake is complete, and with the right relay.
    Done,
    /// The relay said goodbye, or it cannot be talked to.
    Over,
}

impl Handshake {
    pub(super) fn new(identity: Arc<Identity>, expected: String) -> Self {
        let endpoint = Endpoint::new(RELAY, TransportProtocol::UDP, None);
        Handshake {
            endpoint,
            identity,
            expected,
            begun: false,
            flight: Vec::new(),
            repeat: None,
            done: false,
        }
    }

    /// Says hello, once there is an address to say it to.
    ///
    /// # Errors
    /// [`Error::Webrtc`].
    pub(super) fn begin(&mut self, now: Instant) -> Result<Vec<Vec<u8>>, Error> {
        if self.begun {
            return Ok(Vec::new());
        }
        self.begun = true;
        self.endpoint.connect(now, RELAY, Arc::clone(&self.identity.config), None)?;
        Ok(self.collect(now))
    }

    /// A datagram of DTLS; gives what to send.
    pub(super) fn handle_datagram(&mut self, data: &[u8], now: Instant) -> (Outcome, Vec<Vec<u8>>) {
        let Ok(events) = self.endpoint.read(now, RELAY, None, BytesMut::from(data)) else {
            let last_words = self.collect(now);
            // After the handshake a bad record is dropped (RFC 6347 section 4.1.2.7).
            return (if self.done { Outcome::Going } else { Outcome::Over }, last_words);
        };
        let mut outcome = Outcome::Going;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete if self.is_expected() => {
                    self.done = true;
                    outcome = Outcome::Done;
                }
                EndpointEvent::HandshakeComplete | EndpointEvent::PeerClosed => outcome = Outcome::Over,
                _ => {}
            }
        }
        let datagrams = self.collect(now);
        if self.done {
            self.repeat = None;
        }
        (outcome, datagrams)
    }

    /// What to send again.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Vec<u8>> {
        match self.repeat {
            Some((at, after)) if at <= now => {
                let after = (after * 2).min(LONGEST_REPEAT);
                self.repeat = Some((now + after, after));
                self.flight.clone()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.repeat.map(|(at, _)| at)
    }

    /// The keys, after the handshake.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when the relay chose no SRTP profile that we have.
    pub(super) fn secrets(&self) -> Result<Secrets, Error> {
        let state = self.endpoint.get_connection_state(RELAY).ok_or(Error::Lost)?;
        let profile = state.srtp_protection_profile();
        let material = |length| {
            let material = state.export_keying_material(EXPORTER_LABEL, &[], length);
            Ok(material.map_err(|error| rtc_shared::error::Error::Other(error.to_string()))?.into_bytes())
        };
        Secrets::new(profile as u16, material, self.identity.provider().crypto())
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant) -> Vec<Vec<u8>> {
        // Without an association there is nobody to say it to.
        let _ = self.endpoint.close(now);
        self.collect(now)
    }

    fn is_expected(&self) -> bool {
        let state = self.endpoint.get_connection_state(RELAY);
        let certificate = state.and_then(|state| state.peer_certificates.first());
        certificate
            .and_then(|der| fingerprint(self.identity.provider().as_ref(), der))
            .is_some_and(|shown| shown.eq_ignore_ascii_case(&self.expected))
    }

    fn collect(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let datagrams: Vec<Vec<u8>> =
            std::iter::from_fn(|| self.endpoint.poll_transmit()).map(|sent| sent.message.to_vec()).collect();
        if !datagrams.is_empty() && !self.done {
            self.flight.clone_from(&datagrams);
            self.repeat = Some((now + REPEAT, REPEAT));
        }
        datagrams
    }
}

fn fingerprint(provider: &dyn RTCCryptoProvider, der: &[u8]) -> Option<String> {
    let digest = provider.crypto().hash(HashAlgorithm::Sha256, der).ok()?;
    Some(digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}
