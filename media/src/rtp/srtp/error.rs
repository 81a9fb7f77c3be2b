//! Why a packet was not opened: what the counters and the session make of it is for others to say.

use thiserror::Error;

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SrtpError {
    /// Shorter than a header and a tag.
    #[error("packet is too short")]
    Short,
    /// The tag does not match: forged, damaged, or of another session.
    #[error("authentication failed")]
    Authentication,
    /// Seen before (RFC 3711 section 3.3.2).
    #[error("replayed packet")]
    Replay,
    /// Authentic, and older than the replay window: replayed, or the numbers jumped back.
    #[error("packet older than the replay window")]
    Behind,
    /// The peer uses more SSRCs than a session may have.
    #[error("too many sources")]
    Sources,
    /// The master key or salt has the wrong length.
    #[error("key material has the wrong length")]
    Key,
}
