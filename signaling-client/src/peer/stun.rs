//! The STUN messages of ICE (RFC 8489, RFC 8445): written, and read when their integrity holds. What a check means is
//! [`super::checks`]'s.

use std::net::SocketAddr;

use rtc_crypto::RTCCrypto;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, MessageType, Setter, TransactionId,
};
use rtc_stun::xoraddr::XorMappedAddress;

use crate::error::Error;

/// Of a host candidate, the only one (RFC 8445 section 5.1.2).
pub(super) const PRIORITY: u32 = 2_130_706_431;

/// Who one end of a session is, as its description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the session.
    pub ufrag: String,
    /// The key of checks to it.
    pub password: String,
}

/// A message that belongs to the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The other side asks.
    Request([u8; 12]),
    /// It answered.
    Success([u8; 12]),
    /// It answered that it does not like the check.
    Refused,
}

/// A check of the controlling side that nominates its pair (RFC 8445 section 7.2.2).
pub(super) fn check(
    local: &Credentials,
    remote: &Credentials,
    tie_breaker: [u8; 8],
    crypto: &dyn RTCCrypto,
) -> Result<([u8; 12], Vec<u8>), Error> {
    let id = TransactionId(rand::random());
    let mut message = begin(BINDING_REQUEST, &id)?;
    message.add(ATTR_USERNAME, format!("{}:{}", remote.ufrag, local.ufrag).as_bytes());
    message.add(ATTR_ICE_CONTROLLING, &tie_breaker);
    message.add(ATTR_USE_CANDIDATE, &[]);
    message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
    Ok((id.0, end(message, &remote.password, crypto)?))
}

/// The answer to a request from an address.
pub(super) fn answer(
    id: [u8; 12],
    from: SocketAddr,
    local: &Credentials,
    crypto: &dyn RTCCrypto,
) -> Result<Vec<u8>, Error> {
    let mut message = begin(BINDING_SUCCESS, &TransactionId(id))?;
    XorMappedAddress { ip: from.ip(), port: from.port() }.add_to(&mut message)?;
    end(message, &local.password, crypto)
}

/// Reads a message whose integrity holds; `None` for everything else.
pub(super) fn read(
    data: &[u8],
    local: &Credentials,
    remote: &Credentials,
    crypto: &dyn RTCCrypto,
) -> Option<Read> {
    let mut message = Message { raw: data.to_vec(), ..Message::default() };
    message.decode().ok()?;
    let password = match message.typ {
        BINDING_REQUEST => &local.password,
        BINDING_SUCCESS | BINDING_ERROR => &remote.password,
        _ => return None,
    };
    MessageIntegrity::check(&mut message, password.as_bytes(), crypto).ok()?;
    Some(match message.typ {
        BINDING_REQUEST => Read::Request(message.transaction_id.0),
        BINDING_SUCCESS => Read::Success(message.transaction_id.0),
        _ => Read::Refused,
    })
}

fn begin(kind: MessageType, id: &TransactionId) -> Result<Message, Error> {
    let mut message = Message::new();
    message.build(&[Box::new(kind), Box::new(*id)])?;
    Ok(message)
}

fn end(mut message: Message, password: &str, crypto: &dyn RTCCrypto) -> Result<Vec<u8>, Error> {
    MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)
        .add_to(&mut message)?;
    FINGERPRINT.add_to(&mut message)?;
    Ok(message.raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.to_owned(), password: format!("{name}-password-of-22-letters") }
    }

    #[test]
    fn a_check_and_its_answer_are_read_at_the_other_end_only() {
        let provider = rtc_crypto::default_provider().unwrap();
        let crypto = provider.crypto();
        let (ours, theirs) = (credentials("ours"), credentials("theirs"));
        let (id, request) = check(&ours, &theirs, [1; 8], crypto).unwrap();
        assert_eq!(read(&request, &theirs, &ours, crypto), Some(Read::Request(id)));
        assert_eq!(read(&request, &ours, &theirs, crypto), None);
        let response = answer(id, "192.0.2.7:9".parse().unwrap(), &theirs, crypto).unwrap();
        assert_eq!(read(&response, &ours, &theirs, crypto), Some(Read::Success(id)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let provider = rtc_crypto::default_provider().unwrap();
            let _ = read(&bytes, &credentials("ours"), &credentials("theirs"), provider.crypto());
        }
    }
}
