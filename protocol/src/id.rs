//! Ids and names as types: a value of one of them has been checked, wherever it came from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::NameError;

const SEGMENT_MAX: usize = 64;
const STREAM_SEGMENTS_MAX: usize = 3;

fn check_segment(what: &'static str, segment: &str) -> Result<(), NameError> {
    if segment.is_empty() {
        return Err(NameError::Empty { what });
    }
    if let Some(found) = segment.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::Character { what, found });
    }
    if segment.len() > SEGMENT_MAX {
        return Err(NameError::TooLong { what, length: segment.len() });
    }
    Ok(())
}

fn check_path(what: &'static str, name: &str, most: usize) -> Result<(), NameError> {
    let count = name.split('/').count();
    if count > most {
        return Err(NameError::Segments { what, count, most });
    }
    name.split('/').try_for_each(|segment| check_segment(what, segment))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $segments:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `name` and wraps it.
            ///
            /// # Errors
            ///
            /// [`NameError`] says which rule of names it breaks.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_path($what, &name, $segments)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A named publication, for example `main-stage` or `main-stage/commentary`: one to three segments
    /// of `[a-z0-9-]{1,64}` joined by `/`.
    StreamName, "stream name", STREAM_SEGMENTS_MAX
}

impl StreamName {
    /// The name under which nothing is published: WHEP sessions of it have data channels alone.
    pub const BARE: &str = "-";

    /// Whether it is that name.
    pub fn is_bare(&self) -> bool {
        self.as_str() == StreamName::BARE
    }
}

name! {
    /// A room: one segment of `[a-z0-9-]{1,64}`.
    RoomName, "room name", 1
}
name! {
    /// A zone of the festival: one segment of `[a-z0-9-]{1,64}`.
    ZoneName, "zone name", 1
}

/// A running relay: its ed25519 public key. Shown in full as 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The first eight hexadecimal characters: enough to tell the relays of a festival apart in a log.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// One WebRTC transport of a participant. 128 random bits, because a WHIP or WHEP session URL is a
/// capability (RFC 9725 section 5): who knows it may end the session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// A file on its way in. 128 random bits that its client draws, because who knows it may go on with the upload, or end it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub [u8; 16]);

/// A file: the blake3 hash of its manifest, so whoever has the id can tell the file from any other. Shown
/// as 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub [u8; 32]);

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// Written as hexadecimal characters, and read.
macro_rules! hexadecimal {
    ($id:ident, $what:literal) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl FromStr for $id {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                decode_hex($what, text).map(Self)
            }
        }
    };
}
hexadecimal!(NodeId, "node id");
hexadecimal!(SessionId, "session id");
hexadecimal!(UploadId, "upload id");
hexadecimal!(FileId, "file id");

/// Only a prefix is shown: the whole id is a secret and must not reach a log.
macro_rules! secret {
    ($id:ident) => {
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}…", hex::encode(&self.0[..3]))
            }
        }
    };
}
secret!(SessionId);
secret!(UploadId);

fn decode_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], NameError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| NameError::Hex { what, length: 2 * N })?;
    Ok(bytes)
}

// Hexadecimal where people read (JSON), bare bytes where machines do (postcard).
impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_have_one_to_three_segments() {
        for good in ["main-stage", "main-stage/commentary", "a/b/c", "0"] {
            assert!(StreamName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "/", "a/", "a//b", "a/b/c/d", "Main", "a b", "ü", "..", long.as_str()] {
            assert!(StreamName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_checked_when_they_are_read_from_json() {
        assert!(serde_json::from_str::<RoomName>("\"lobby\"").is_ok());
        assert!(serde_json::from_str::<RoomName>("\"lobby/2\"").is_err());
    }

    #[test]
    fn node_ids_are_hexadecimal_in_json_and_bare_in_postcard() {
        let id = NodeId([7; 32]);
        let json = serde_json::to_string(&id).expect("serializes");
        assert_eq!(json, format!("\"{}\"", "07".repeat(32)));
        assert_eq!(serde_json::from_str::<NodeId>(&json).expect("parses"), id);
        let bytes = postcard::to_stdvec(&id).expect("serializes");
        assert_eq!(bytes.len(), 32);
        assert_eq!(postcard::from_bytes::<NodeId>(&bytes).expect("parses"), id);
    }
}
