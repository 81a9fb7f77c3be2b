//! The relay's DTLS identity and the fingerprints by which WebRTC peers know each other (RFC 8122).
//! Owns certificate, key and the handshake configurations made from them; comparing a peer's certificate
//! with what its SDP promised is asked here, what follows from the answer is decided in `transport`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hmac};
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;

use crate::rtp::srtp::SrtpProfile;

/// A self-signed ECDSA P-256 certificate, shared by all sessions of a relay process.
///
/// Making one draws on the crypto crate's own generator, and so does every handshake run with it (nonces,
/// ephemeral keys): the one randomness of this crate that is not passed in, because a DTLS endpoint whose
/// random source can be replayed is not a DTLS endpoint.
pub struct Identity {
    fingerprint: Fingerprint,
    client: Arc<HandshakeConfig>,
    server_gcm: Arc<HandshakeConfig>,
    server_sha1: Arc<HandshakeConfig>,
    /// Of this process alone: the numbers of our own checks come from it.
    secret: hmac::Key,
}

impl Identity {
    /// Makes a fresh key and certificate.
    ///
    /// # Errors
    ///
    /// When the crypto crate cannot make a key, or refuses the configuration made from it.
    pub fn generate() -> Result<Identity, IdentityError> {
        let provider = rtc_crypto::default_provider().map_err(IdentityError::new)?;
        let secret =
            hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(IdentityError::new)?;
        let certificate = Certificate::generate_self_signed(vec!["relay".to_owned()], provider.crypto())
            .map_err(IdentityError::new)?;
        Self::from_certificate(certificate, provider, secret)
    }

    /// The SHA-256 fingerprint of the certificate, as the SDP answer gives it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn from_certificate(
        certificate: Certificate,
        provider: Arc<dyn RTCCryptoProvider>,
        secret: hmac::Key,
    ) -> Result<Identity, IdentityError> {
        let der =
            certificate.certificate.first().ok_or_else(|| IdentityError::new("no certificate was made"))?;
        let fingerprint = Fingerprint::of(Hash::Sha256, der.as_ref());
        let config = |is_client: bool, profiles: Vec<Offered>| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles)
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                // The chain means nothing here: the certificate is compared with the SDP's fingerprint.
                .with_insecure_skip_verify(true)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .with_flight_interval(FLIGHT_INTERVAL)
                .build(is_client, None)
                .map(Arc::new)
                .map_err(IdentityError::new)
        };
        Ok(Identity {
            fingerprint,
            client: config(true, vec![Offered::Srtp_Aead_Aes_128_Gcm, Offered::Srtp_Aes128_Cm_Hmac_Sha1_80])?,
            server_gcm: config(false, vec![Offered::Srtp_Aead_Aes_128_Gcm])?,
            server_sha1: config(false, vec![Offered::Srtp_Aes128_Cm_Hmac_Sha1_80])?,
            secret,
        })
    }

    /// Octets that nobody outside this process can know for these words, and that are the same each time.
    pub(super) fn unguessable(&self, words: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.secret);
        for word in words {
            context.update(&(word.len() as u64).to_be_bytes());
            context.update(word);
        }
        let mut octets = [0; 32];
        octets.copy_from_slice(context.sign().as_ref());
        octets
    }

    pub(super) fn client_config(&self) -> Arc<HandshakeConfig> {
        self.client.clone()
    }

    /// rtc-dtls follows the client's order of preference, so the server offers it only the one we chose.
    pub(super) fn server_config(&self, profile: SrtpProfile) -> Arc<HandshakeConfig> {
        match profile {
            SrtpProfile::AeadAes128Gcm => self.server_gcm.clone(),
            SrtpProfile::Aes128CmSha1_80 => self.server_sha1.clone(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a dtls identity: {0}")]
pub struct IdentityError(String);

impl IdentityError {
    fn new(cause: impl fmt::Display) -> Self {
        IdentityError(cause.to_string())
    }
}

/// A hash function that a fingerprint may use. SHA-1 is refused: collisions can be bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [Hash; 3] = [Hash::Sha256, Hash::Sha384, Hash::Sha512];

    fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha-256",
            Hash::Sha384 => "sha-384",
            Hash::Sha512 => "sha-512",
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }
}

/// A certificate's fingerprint: parsed from the value of `a=fingerprint` in either case, printed as
/// `sha-256 AA:BB:…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// The SHA-256 fingerprint of a certificate in DER.
    pub fn sha256(der: &[u8]) -> Fingerprint {
        Fingerprint::of(Hash::Sha256, der)
    }

    /// Whether this is the fingerprint of the certificate in DER.
    pub fn matches(&self, der: &[u8]) -> bool {
        !der.is_empty() && Fingerprint::of(self.hash, der) == *self
    }

    fn of(hash: Hash, der: &[u8]) -> Fingerprint {
        Fingerprint { hash, bytes: digest::digest(hash.algorithm(), der).as_ref().to_vec() }
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_ascii_whitespace();
        let (Some(name), Some(digits), None) = (words.next(), words.next(), words.next()) else {
            return Err(FingerprintError::Malformed);
        };
        let hash = Hash::ALL
            .into_iter()
            .find(|hash| hash.name().eq_ignore_ascii_case(name))
            .ok_or(FingerprintError::Unsupported)?;
        let length = hash.algorithm().output_len();
        // Two digits and a colon for each byte, but no colon after the last.
        if digits.len() != length * 3 - 1 {
            return Err(FingerprintError::Malformed);
        }
        let bytes: Vec<u8> =
            digits.split(':').map(hex_byte).collect::<Option<_>>().ok_or(FingerprintError::Malformed)?;
        if bytes.len() != length {
            return Err(FingerprintError::Malformed);
        }
        Ok(Fingerprint { hash, bytes })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a fingerprint was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Not a hash name followed by pairs of hex digits between colons.
    #[error("fingerprint is not of the form sha-256 AA:BB:…")]
    Malformed,
    /// SHA-1, MD5 or something unknown.
    #[error("fingerprint hash must be sha-256, sha-384 or sha-512")]
    Unsupported,
}

fn hex_byte(pair: &str) -> Option<u8> {
    (pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(pair, 16).ok())
        .flatten()
}

/// How often rtc-dtls repeats a flight by itself, seven times at most. `resend` repeats sooner; these
/// carry fresh record numbers, which a peer that checks for replays wants.
const FLIGHT_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_reads_what_it_prints_in_either_case() {
        let fingerprint = Fingerprint::sha256(b"certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint.clone()));
        assert_eq!(text.to_lowercase().parse(), Ok(fingerprint.clone()));
        assert_eq!(text.replace("sha", "SHA").parse(), Ok(fingerprint));
    }

    #[test]
    fn longer_hashes_compare() {
        for hash in Hash::ALL {
            let fingerprint: Fingerprint = Fingerprint::of(hash, b"abc").to_string().parse().unwrap();
            assert!(fingerprint.matches(b"abc"));
            assert!(!fingerprint.matches(b"abd"));
            assert!(!fingerprint.matches(b""));
        }
    }

    #[test]
    fn sha1_and_junk_are_refused() {
        let sha1 = format!("sha-1 {}", vec!["00"; 20].join(":"));
        assert_eq!(sha1.parse::<Fingerprint>(), Err(FingerprintError::Unsupported));
        for junk in ["", "sha-256", "sha-256 00", "sha-256 +0:00", "sha-256 é", "md5 a b c"] {
            assert!(junk.parse::<Fingerprint>().is_err(), "{junk}");
        }
        let signs = format!("sha-256 {}", vec!["+0"; 32].join(":"));
        assert_eq!(signs.parse::<Fingerprint>(), Err(FingerprintError::Malformed));
    }
}
