//! What can go wrong for a participant, and the exit code a command ends with because of it.

use std::time::Duration;

use thiserror::Error;

/// Why a participant could not go on. The text is fit to be shown to whoever typed the command.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Nothing answered at the address.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why, down to the innermost cause.
        reason: String,
    },
    /// The relay answered, and said no.
    #[error("{url} answered {status}: {title}{}", detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The title of the problem document, or the status in words.
        title: String,
        /// Its detail.
        detail: Option<String>,
        /// How long the relay asks to wait before trying again.
        retry_after: Option<Duration>,
    },
    /// The relay's answer is not what the protocol says.
    #[error("{url} answered against the protocol: {reason}")]
    Protocol {
        /// Where.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The media connection was not established in time.
    #[error("no media connection within {0:?}: is the relay's UDP port open?")]
    NoConnection(Duration),
    /// The media connection was established and broke.
    #[error("the media connection is lost")]
    Lost,
    /// The source has no more sound to give.
    #[error("the source ended: {0}")]
    SourceEnded(String),
    /// The source cannot go on.
    #[error("the source failed: {0}")]
    SourceFailed(String),
    /// The WebRTC library refused something.
    #[error("webrtc: {0}")]
    Webrtc(#[from] webrtc::error::Error),
    /// The Opus library refused something.
    #[error("opus: {0}")]
    Opus(#[from] opus::Error),
    /// A data channel broke.
    #[error("data channel: {0}")]
    Channel(String),
    /// The WebSocket broke.
    #[error("websocket: {0}")]
    WebSocket(String),
}

impl Error {
    /// The exit code of a command that ends with this error: 64 usage, 69 unreachable, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 64,
            Error::Unreachable { .. } => 69,
            _ => 1,
        }
    }

    /// Whether the same request may succeed later: nothing answered, overload, a stream not yet there,
    /// a connection that broke. A wrong token or an SDP nobody can serve stays wrong.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::NoConnection(_) | Error::Lost => true,
            Error::Refused { status, .. } => matches!(status, 409 | 429 | 500..=599),
            _ => false,
        }
    }

    /// How long the relay asked to wait, where it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The innermost cause of an error, which is the one that tells an operator what to do.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
