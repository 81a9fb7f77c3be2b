//! Why a message from a neighbor was not taken. The driver counts each by [`MeshError::reason`] and goes on:
//! only what [`crate::Output::DropLink`] says ends a link.

use thiserror::Error;

/// A message that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The driver gave a link that is not up.
    #[error("link is not known")]
    UnknownLink,
    /// Longer than [`crate::wire::message::MESSAGE_MAX`].
    #[error("message of {length} bytes is too long")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Of a later version. Nobody's fault: [`crate::Mesh::handle_message`] takes it and counts it apart.
    #[error("message is not known here")]
    Unknown,
    /// Does not decode.
    #[error("message does not decode")]
    Malformed,
    /// Decodes, but says something that cannot be.
    #[error("message is absurd: {what}")]
    Absurd {
        /// What cannot be.
        what: &'static str,
    },
    /// Its signature is not that of the relay it names.
    #[error("signature does not match")]
    Forged,
    /// A table that is bounded has no room for it.
    #[error("no room for another {what}")]
    Full {
        /// What there are too many of.
        what: &'static str,
    },
    /// Too much waits for this relay's disk already.
    #[error("the disk is too slow: too much waits for it")]
    DiskTooSlow,
}

/// Makes the labels and the list of all out of one list.
macro_rules! reasons {
    ($($error:pat => $label:literal,)+) => {
        impl MeshError {
            /// Every label there is.
            pub const REASONS: &'static [&'static str] = &[$($label,)+];

            /// A word for a metric's label.
            pub fn reason(&self) -> &'static str {
                match self {
                    $($error => $label,)+
                }
            }
        }
    };
}

reasons! {
    MeshError::UnknownLink => "unknown_link",
    MeshError::TooLong { .. } => "too_long",
    MeshError::Unknown => "bridge_unknown_message",
    MeshError::Malformed => "malformed",
    MeshError::Absurd { .. } => "absurd",
    MeshError::Forged => "forged",
    MeshError::Full { .. } => "full",
    MeshError::DiskTooSlow => "disk_too_slow",
}
