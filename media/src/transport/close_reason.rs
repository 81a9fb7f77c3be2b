//! Why a session ended, for whoever has to do something about it: as a sentence for the log, as a label for
//! metrics.

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
