//! A data channel as the rest of the relay sees it: what happens to it, and what is wanted of it. What a label or a message
//! means is for others.

use bytes::Bytes;
use protocol::SessionId;

/// One data channel of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// The session.
    pub session: SessionId,
    /// Its number there. It may be that of another channel once this one is closed.
    pub number: u16,
    /// Where the worker that owns the session finds it.
    pub(super) key: usize,
}

impl ChannelId {
    /// One that no worker knows, for tests of who hears of channels.
    #[doc(hidden)]
    pub fn outside(session: SessionId, number: u16) -> ChannelId {
        ChannelId { session, number, key: usize::MAX }
    }
}

/// What happens to a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// The peer opened it.
    Open {
        /// Its name; at most 256 bytes.
        label: String,
    },
    /// The peer says something.
    Message {
        /// At most [`crate::transport::MAX_MESSAGE`] bytes.
        data: Bytes,
        /// Text otherwise, which is not checked to be UTF-8.
        binary: bool,
    },
    /// The peer has so many bytes more of what was said, or will never get them.
    Acknowledged {
        /// Of whole messages.
        bytes: usize,
    },
    /// It was not said: there is no room for it, or the channel is closing.
    Refused,
    /// It is gone. Nothing comes after this but another channel of the same number.
    Closed,
}

/// What is wanted of a data channel. Only the worker that told of the channel is asked.
#[derive(Debug, Clone)]
pub enum ChannelWish {
    /// Say something.
    Say {
        /// What.
        data: Bytes,
        /// Text otherwise.
        binary: bool,
    },
    /// Close it.
    Close,
    /// Close all channels of the session.
    CloseAll,
}
