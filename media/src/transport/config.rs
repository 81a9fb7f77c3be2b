//! What a transport is told when it begins: what offer and answer have settled.

use std::fmt;
use std::sync::Arc;

use super::identity::{Fingerprint, Identity};

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
