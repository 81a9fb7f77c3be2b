//! What is asked of sessions and what is answered: which one is meant, what came of it, or why nothing did. The steps
//! from one to the other are in `mod.rs`, status codes and headers in `api/whip.rs`.

use media::{sdp::SdpError, transport::Credentials};
use protocol::{SessionId, StreamName, ZoneName};
use thiserror::Error;

use crate::client::Client;

/// Which way media flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// WHIP: from a publisher.
    Ingest,
    /// WHEP: to a listener.
    Egress,
}

/// Who offered a session: what is said and given over its data channels is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// Where the offer came from.
    pub client: Client,
    /// It showed a token that allows to publish, or none is needed.
    pub may_publish: bool,
}

/// What has to be random about a session.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// Its id.
    pub id: SessionId,
    /// Our ICE credentials.
    pub local: Credentials,
    /// The first of our SSRCs.
    pub first_ssrc: u32,
}

/// A session that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its id, the last segment of its URL.
    pub id: SessionId,
    /// Its entity tag, without quotes.
    pub tag: String,
    /// The SDP answer.
    pub answer: String,
    /// It is a listener's, and has a picture or a sound in it.
    pub listens: bool,
}

/// What came of a PATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patched {
    /// Candidates were noted: an ICE-lite end has no use for them.
    Trickled,
    /// ICE restarts.
    Restarted {
        /// The new entity tag, without quotes.
        tag: String,
        /// Our fragment.
        answer: String,
    },
}

/// The If-Match of a PATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`
    Any,
    /// One of these entity tags, without quotes.
    Tags(Vec<String>),
    /// The header is not there.
    Missing,
}

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
