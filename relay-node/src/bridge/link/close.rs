//! Why a relay closes a connection: the code on the wire, for both sides of a link.

use quinn::{ConnectionError, VarInt};

/// Why a relay closes a connection: the code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    Stopping,
    Duplicate,
    Version,
    Protocol,
    Itself,
    Overflow,
    Asked,
    Full,
    Outsider,
    /// Another relay with the key of that one was here before.
    Twin,
}

impl Close {
    pub fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// Whether `error` is the neighbor closing for this reason.
    pub fn is(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == self.code())
    }
}
