//! What can be wrong with a word that came from outside.

use thiserror::Error;

/// Why a name or an id was refused. The text is fit to be shown to whoever typed it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// A name, or one of its segments, has no characters.
    #[error("{what} is empty: use 1 to 64 of a-z, 0-9 and -")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// A segment is longer than 64 characters.
    #[error("{what} has a segment of {length} characters: at most 64 are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length in characters.
        length: usize,
    },
    /// A character outside `[a-z0-9-]`.
    #[error("{what} contains {found:?}: only a-z, 0-9 and - are allowed")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The first offending character.
        found: char,
    },
    /// Too many segments joined by `/`.
    #[error("{what} has {count} segments: at most {most} are allowed")]
    Segments {
        /// Which kind of name.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// Not the hexadecimal form of an id.
    #[error("{what} is not {length} hexadecimal characters")]
    Hex {
        /// Which kind of id.
        what: &'static str,
        /// How many characters it has to have.
        length: usize,
    },
}
