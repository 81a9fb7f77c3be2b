//! What can be wrong with what a participant or a record asks for.

use thiserror::Error;

use crate::limits::{AUTHOR_MAX, NONCE_MAX, PARTICIPANTS_MAX, TEXT_MAX, VISITED_MAX};

/// Why something was refused. The text is fit to be shown to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoomsError {
    /// A field has no visible characters.
    #[error("{field} is empty: give it 1 to {most} characters")]
    Empty {
        /// The field of the message.
        field: &'static str,
        /// How many characters it may have.
        most: usize,
    },
    /// A field has too many characters.
    #[error("{field} has {length} characters: at most {most} are allowed")]
    TooLong {
        /// The field of the message.
        field: &'static str,
        /// How many it has.
        length: usize,
        /// How many it may have.
        most: usize,
    },
    /// The message as a whole takes too many bytes, though none of its fields has too many characters.
    #[error(
        "the message takes {length} bytes with author and nonce: at most {most} are allowed; shorten the text, or \
         send it in two parts"
    )]
    TooLarge {
        /// How many it takes.
        length: usize,
        /// How many it may take.
        most: usize,
    },
    /// A control character where none may be.
    #[error("{field} contains the control character {found:?}: remove it")]
    Control {
        /// The field of the message.
        field: &'static str,
        /// The first offending character.
        found: char,
    },
    /// `after` names a message this relay does not have.
    #[error("no message {id:?} in this room here: it is too old or has not arrived; ask without `after`")]
    UnknownMessage {
        /// The id asked for.
        id: String,
    },
    /// There is no place for another room.
    #[error("this relay already has people in {VISITED_MAX} rooms: use one of them or try later")]
    TooManyRooms,
    /// There is no place for another participant.
    #[error("this room already has {PARTICIPANTS_MAX} participants at this relay: try later")]
    Full,
    /// A log record that this version cannot read. It stays in the log and is not shown.
    #[error("record cannot be read")]
    Unreadable,
}

impl RoomsError {
    pub(crate) fn author_empty() -> Self {
        Self::Empty { field: "author", most: AUTHOR_MAX }
    }
    pub(crate) fn author_too_long(length: usize) -> Self {
        Self::TooLong { field: "author", length, most: AUTHOR_MAX }
    }
    pub(crate) fn text_empty() -> Self {
        Self::Empty { field: "text", most: TEXT_MAX }
    }
    pub(crate) fn text_too_long(length: usize) -> Self {
        Self::TooLong { field: "text", length, most: TEXT_MAX }
    }
    pub(crate) fn nonce_too_long(length: usize) -> Self {
        Self::TooLong { field: "nonce", length, most: NONCE_MAX }
    }
}
