//! What a relay proves of itself to all others: the token that the organizer signed for it, as a record among its
//! announcements. It is shown to nobody; who believes it, and what follows from it, is decided elsewhere.

use bytes::Bytes;

use crate::payload::{Beside, Payload};

/// The payload of a record that carries a token.
pub fn encode(token: String) -> Bytes {
    Payload::ZoneToken(token).encode(Beside::default())
}

/// The token in a payload, if it carries one.
pub fn decode(payload: &[u8]) -> Option<String> {
    match Payload::decode(payload)? {
        (Payload::ZoneToken(token), _) => Some(token),
        _ => None,
    }
}
