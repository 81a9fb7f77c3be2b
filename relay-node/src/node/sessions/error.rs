//! Why a session was not opened or changed: told to who asked.

use media::sdp::SdpError;
use protocol::{StreamName, ZoneName};
use thiserror::Error;

/// Why a session was not opened or changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The offer or the fragment.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// WHEP: nobody publishes the stream anywhere in the mesh.
    #[error("nobody publishes {stream} now: try again in a few seconds")]
    NotLive {
        /// The stream.
        stream: StreamName,
    },
    /// WHIP: the name is live from another zone.
    #[error(
        "{stream} is live from the zone {zone}: end it there first, take another name, or ask the organizer for \
         a zone token that may take over"
    )]
    Elsewhere {
        /// The stream.
        stream: StreamName,
        /// Where.
        zone: ZoneName,
    },
    /// No such session, or it is over.
    #[error("there is no such session: it may have ended; open a new one with POST")]
    NoSession,
    /// The entity tag is that of an earlier ICE session.
    #[error(
        "If-Match does not name this session's entity tag: use the ETag of the last answer, or * to restart ICE"
    )]
    Tag,
    /// No condition was sent.
    #[error("send If-Match with the session's ETag, or If-Match: * to restart ICE")]
    NoTag,
    /// As many sessions as the relay serves are open or opening.
    #[error("this relay is full: try again in a few seconds")]
    Full,
}
