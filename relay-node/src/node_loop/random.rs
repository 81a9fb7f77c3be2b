//! The only source of randomness for sessions: ids, credentials, SSRCs.

use media::transport::Credentials;
use protocol::SessionId;

use crate::node::sessions::Fresh;

/// What has to be random about a session.
pub fn session() -> Fresh {
    Fresh { id: SessionId(rand::random()), local: credentials(), first_ssrc: rand::random::<u32>() | 0x1000 }
}

/// ICE credentials: 48 and 192 random bits (RFC 8445 section 5.3 wants 24 and 128).
pub fn credentials() -> Credentials {
    Credentials { ufrag: ice_text(rand::random::<[u8; 6]>()), pwd: ice_text(rand::random::<[u8; 24]>()) }
}

/// Hexadecimal is within the characters that ICE allows.
fn ice_text<const N: usize>(bytes: [u8; N]) -> String {
    hex::encode(bytes)
}
