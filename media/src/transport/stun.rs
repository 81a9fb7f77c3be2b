//! STUN Binding messages as ICE uses them (RFC 8489, RFC 8445): reads and checks a request, writes the
//! replies to it and requests of our own. Total and bounded over outside bytes; what a check means is `ice`'s
//! business.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::hmac;

use crate::drop_reason::DropReason;

/// The key of a password, for MESSAGE-INTEGRITY.
pub(super) fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// The two halves of a Binding request's USERNAME, the receiver's ufrag first: by the first the driver finds
/// the session. Nothing is authenticated here.
pub fn stun_username(data: &[u8]) -> Option<(&str, &str)> {
    let header = Header::read(data)?;
    if header.kind != BINDING_REQUEST {
        return None;
    }
    let (_, _, value) = Attributes::of(data).flatten().find(|(_, number, _)| *number == USERNAME)?;
    split_username(value)
}

/// The number of a transaction (RFC 8489 section 5).
pub(super) type TransactionId = [u8; 12];

/// The transaction that an answer to a Binding request belongs to, success or error; `None` if it is no answer.
/// Nothing else in it is read.
pub fn stun_answered(data: &[u8]) -> Option<TransactionId> {
    let header = Header::read(data)?;
    if !matches!(header.kind, BINDING_SUCCESS | BINDING_ERROR) {
        return None;
    }
    data[8..HEADER_LEN].try_into().ok()
}

/// A check of our own, as the controlled side (RFC 8445 section 7.2.2).
pub(super) fn own_check(
    id: TransactionId,
    tie_breaker: [u8; 8],
    local_ufrag: &str,
    remote_ufrag: &str,
    remote_pwd: &str,
) -> Vec<u8> {
    let username = [remote_ufrag, local_ufrag].join(":");
    let mut check = Vec::with_capacity(CHECK_CAPACITY + username.len());
    check.extend(BINDING_REQUEST.to_be_bytes());
    check.extend([0, 0]);
    check.extend(MAGIC.to_be_bytes());
    check.extend(id);
    push(&mut check, USERNAME, username.as_bytes());
    push(&mut check, PRIORITY, &PEER_REFLEXIVE.to_be_bytes());
    push(&mut check, ICE_CONTROLLED, &tie_breaker);
    seal(check, &key(remote_pwd))
}

/// A Binding request, read but not yet authenticated.
pub(super) struct Request<'a> {
    data: &'a [u8],
    /// The receiver's ufrag.
    pub(super) local_ufrag: &'a str,
    /// The sender's ufrag.
    pub(super) remote_ufrag: &'a str,
    /// The peer nominates this pair.
    pub(super) use_candidate: bool,
    /// The peer thinks that we control.
    pub(super) peer_is_controlled: bool,
    /// Comprehension-required attributes that we do not know, the first few.
    pub(super) unknown: Unknown,
    integrity_at: usize,
}

/// The first few unknown attributes: more would only make the reply long.
pub(super) type Unknown = smallvec::SmallVec<[u16; MAX_UNKNOWN]>;

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// The reason, for the drop counter.
    pub(super) fn read(data: &'a [u8]) -> Result<Request<'a>, DropReason> {
        let header = Header::read(data).ok_or(DropReason::StunMalformed)?;
        match header.kind {
            BINDING_REQUEST => {}
            BINDING_SUCCESS | BINDING_ERROR => return Err(DropReason::StunResponse),
            _ => return Err(DropReason::StunMethod),
        }
        let mut request = Request {
            data,
            local_ufrag: "",
            remote_ufrag: "",
            use_candidate: false,
            peer_is_controlled: false,
            unknown: Unknown::new(),
            integrity_at: 0,
        };
        let mut named = false;
        for attribute in Attributes::of(data) {
            let (at, number, value) = attribute.ok_or(DropReason::StunMalformed)?;
            match number {
                // What follows MESSAGE-INTEGRITY is not protected by it: only FINGERPRINT counts there.
                FINGERPRINT => {
                    check_fingerprint(data, at, value)?;
                    break;
                }
                _ if request.integrity_at != 0 => {}
                MESSAGE_INTEGRITY if value.len() == INTEGRITY_LEN => request.integrity_at = at,
                MESSAGE_INTEGRITY => return Err(DropReason::StunMalformed),
                USERNAME if !named => {
                    (request.local_ufrag, request.remote_ufrag) =
                        split_username(value).ok_or(DropReason::StunUsername)?;
                    named = true;
                }
                USE_CANDIDATE => request.use_candidate = true,
                ICE_CONTROLLED => request.peer_is_controlled = true,
                _ if number >= COMPREHENSION_OPTIONAL || KNOWN.contains(&number) => {}
                _ if request.unknown.len() < MAX_UNKNOWN => request.unknown.push(number),
                _ => {}
            }
        }
        if request.integrity_at == 0 {
            return Err(DropReason::StunNoIntegrity);
        }
        if !named {
            return Err(DropReason::StunUsername);
        }
        Ok(request)
    }

    /// Whether the sender knows the password.
    pub(super) fn is_authentic(&self, key: &hmac::Key) -> bool {
        let tag = integrity(self.data, self.integrity_at, key);
        let at = self.integrity_at + ATTRIBUTE_HEADER;
        rtc_crypto::constant_time_eq(tag.as_ref(), &self.data[at..at + INTEGRITY_LEN])
    }

    /// The success response, which tells the sender its address.
    pub(super) fn success(&self, from: SocketAddr, key: &hmac::Key) -> Vec<u8> {
        let mut reply = self.reply(BINDING_SUCCESS);
        let port = (from.port() ^ (MAGIC >> 16) as u16).to_be_bytes();
        match from.ip() {
            IpAddr::V4(ip) => {
                let ip = (u32::from(ip) ^ MAGIC).to_be_bytes();
                push(&mut reply, XOR_MAPPED_ADDRESS, &[&[0, 1], &port[..], &ip[..]].concat());
            }
            IpAddr::V6(ip) => {
                let mut ip = ip.octets();
                for (byte, mask) in ip.iter_mut().zip(&self.data[4..HEADER_LEN]) {
                    *byte ^= mask;
                }
                push(&mut reply, XOR_MAPPED_ADDRESS, &[&[0, 2], &port[..], &ip[..]].concat());
            }
        }
        seal(reply, key)
    }

    /// 487: both sides think that they are controlled.
    pub(super) fn role_conflict(&self, key: &hmac::Key) -> Vec<u8> {
        let mut reply = self.reply(BINDING_ERROR);
        push(&mut reply, ERROR_CODE, &[0, 0, 4, 87]);
        seal(reply, key)
    }

    /// 420: the request wants something that we do not know.
    pub(super) fn unknown_attributes(&self, key: &hmac::Key) -> Vec<u8> {
        let mut reply = self.reply(BINDING_ERROR);
        push(&mut reply, ERROR_CODE, &[0, 0, 4, 20]);
        let numbers: Vec<u8> = self.unknown.iter().flat_map(|number| number.to_be_bytes()).collect();
        push(&mut reply, UNKNOWN_ATTRIBUTES, &numbers);
        seal(reply, key)
    }

    fn reply(&self, kind: u16) -> Vec<u8> {
        let mut reply = Vec::with_capacity(REPLY_CAPACITY);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 0]);
        reply.extend(&self.data[4..HEADER_LEN]);
        reply
    }
}

fn split_username(value: &[u8]) -> Option<(&str, &str)> {
    // RFC 8489 section 14.3 bounds a USERNAME to 508 bytes.
    if value.len() > MAX_USERNAME {
        return None;
    }
    let (local, remote) = std::str::from_utf8(value).ok()?.split_once(':')?;
    (!local.is_empty() && !remote.is_empty()).then_some((local, remote))
}

struct Header {
    kind: u16,
}

impl Header {
    fn read(data: &[u8]) -> Option<Header> {
        let header = data.get(..HEADER_LEN)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let magic = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        (magic == MAGIC && length == data.len() - HEADER_LEN && length.is_multiple_of(4))
            .then(|| Header { kind: u16::from_be_bytes([header[0], header[1]]) })
    }
}

/// Walks the attributes: where each begins, its number, its value. Ends with one `None` if one overruns the
/// message.
struct Attributes<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    fn of(data: &'a [u8]) -> Self {
        Attributes { data, at: HEADER_LEN }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Option<(usize, u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.data.get(at..).filter(|rest| !rest.is_empty())?;
        self.at = usize::MAX;
        let Some(header) = rest.get(..ATTRIBUTE_HEADER) else { return Some(None) };
        let number = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let Some(value) = rest.get(ATTRIBUTE_HEADER..ATTRIBUTE_HEADER + length) else { return Some(None) };
        self.at = at + ATTRIBUTE_HEADER + length.next_multiple_of(4);
        Some(Some((at, number, value)))
    }
}

fn check_fingerprint(data: &[u8], at: usize, value: &[u8]) -> Result<(), DropReason> {
    let last = at + ATTRIBUTE_HEADER + FINGERPRINT_LEN == data.len();
    if last && value == (crc32(&data[..at]) ^ FINGERPRINT_XOR).to_be_bytes() {
        Ok(())
    } else {
        Err(DropReason::StunFingerprint)
    }
}

/// HMAC over what precedes MESSAGE-INTEGRITY, with the length as if the message ended with it.
fn integrity(data: &[u8], at: usize, key: &hmac::Key) -> hmac::Tag {
    let length = (at + ATTRIBUTE_HEADER + INTEGRITY_LEN - HEADER_LEN) as u16;
    let mut context = hmac::Context::with_key(key);
    context.update(&data[..2]);
    context.update(&length.to_be_bytes());
    context.update(&data[4..at]);
    context.sign()
}

fn push(message: &mut Vec<u8>, number: u16, value: &[u8]) {
    message.extend(number.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Ends a message with MESSAGE-INTEGRITY and FINGERPRINT.
fn seal(mut message: Vec<u8>, key: &hmac::Key) -> Vec<u8> {
    let tag = integrity(&message, message.len(), key);
    push(&mut message, MESSAGE_INTEGRITY, tag.as_ref());
    let length = (message.len() + ATTRIBUTE_HEADER + FINGERPRINT_LEN - HEADER_LEN) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32(&message) ^ FINGERPRINT_XOR;
    push(&mut message, FINGERPRINT, &crc.to_be_bytes());
    message
}

/// The CRC of ITU V.42, reflected.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| (crc >> 8) ^ CRC_TABLE[usize::from((crc as u8) ^ byte)])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

// RFC 8489 section 5; the lengths and the mask of attributes are in section 14.
const MAGIC: u32 = 0x2112_a442;
const HEADER_LEN: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_LEN: usize = 4;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const MAX_USERNAME: usize = 508;
const MAX_UNKNOWN: usize = 4;
/// A success response over IPv6 has 20 + 24 + 24 + 8 bytes.
const REPLY_CAPACITY: usize = 76;
/// A request without its name: header, PRIORITY, ICE-CONTROLLED, MESSAGE-INTEGRITY, FINGERPRINT, and what a
/// name is padded with.
const CHECK_CAPACITY: usize = 20 + 8 + 8 + 12 + 24 + 8;
/// The priority of a candidate that the peer learns from a check (RFC 8445 section 5.1.2.1).
const PEER_REFLEXIVE: u32 = 110 << 24 | 65_535 << 8 | 255;

// RFC 8489 section 5: method Binding, and the bits of the class.
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

// RFC 8489 section 14; PRIORITY, USE-CANDIDATE and ICE-CONTROLLED are in RFC 8445 section 16.1.
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
/// From here on an unknown attribute may be ignored.
const COMPREHENSION_OPTIONAL: u16 = 0x8000;
/// Required attributes that need nothing done: PRIORITY, and what has no meaning in a request (REALM, NONCE,
/// the addresses and error of responses).
const KNOWN: [u16; 8] =
    [USERNAME, PRIORITY, 0x0001, ERROR_CODE, UNKNOWN_ATTRIBUTES, 0x0014, 0x0015, XOR_MAPPED_ADDRESS];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// RFC 5769 section 2.1.
    #[test]
    fn the_rfcs_own_request_is_authentic() {
        let request = Request::read(&RFC5769).unwrap();
        assert_eq!((request.local_ufrag, request.remote_ufrag), ("evtj", "h6vY"));
        assert_eq!(stun_username(&RFC5769), Some(("evtj", "h6vY")));
        assert!(request.peer_is_controlled);
        assert!(request.is_authentic(&key("VOkJxbRl1RmTxUk/WvJxBt")));
        assert!(!request.is_authentic(&key("VOkJxbRl1RmTxUk/WvJxBu")));
        assert!(request.unknown.is_empty());
    }

    #[test]
    fn a_flipped_bit_is_never_authentic() {
        let key = key("VOkJxbRl1RmTxUk/WvJxBt");
        // FINGERPRINT lies behind the protected part; without its number it is an attribute to be ignored.
        for bit in 0..(RFC5769.len() - FINGERPRINT_LEN - ATTRIBUTE_HEADER) * 8 {
            let mut data = RFC5769;
            data[bit / 8] ^= 1 << (bit % 8);
            let authentic = Request::read(&data).is_ok_and(|request| request.is_authentic(&key));
            assert!(!authentic, "bit {bit}");
        }
    }

    #[test]
    fn replies_are_authentic_and_not_longer_than_a_request() {
        let request = Request::read(&RFC5769).unwrap();
        let key = key("secret");
        for reply in [
            request.success("192.0.2.1:32853".parse().unwrap(), &key),
            request.success("[2001:db8::1]:32853".parse().unwrap(), &key),
            request.role_conflict(&key),
            request.unknown_attributes(&key),
        ] {
            assert!(reply.len() <= RFC5769.len());
            assert!(Header::read(&reply).is_some());
            let at = reply.len() - FINGERPRINT_LEN - ATTRIBUTE_HEADER;
            check_fingerprint(&reply, at, &reply[at + ATTRIBUTE_HEADER..]).unwrap();
            let at = at - INTEGRITY_LEN - ATTRIBUTE_HEADER;
            assert_eq!(
                integrity(&reply, at, &key).as_ref(),
                &reply[at + ATTRIBUTE_HEADER..][..INTEGRITY_LEN]
            );
        }
    }

    #[test]
    fn a_check_of_our_own_is_one_that_we_would_believe() {
        let check = own_check([7; 12], [1; 8], "relay", "browser", "the-browsers-password");
        let request = Request::read(&check).unwrap();
        assert_eq!((request.local_ufrag, request.remote_ufrag), ("browser", "relay"));
        assert!(request.peer_is_controlled && !request.use_candidate && request.unknown.is_empty());
        assert!(request.is_authentic(&key("the-browsers-password")));
        assert_eq!(stun_answered(&check), None);
        let key = key("the-browsers-password");
        for answer in [request.success("192.0.2.1:1".parse().unwrap(), &key), request.role_conflict(&key)] {
            assert_eq!(stun_answered(&answer), Some([7; 12]));
            assert_eq!(stun_answered(&answer[..answer.len() - 4]), None);
        }
    }

    #[test]
    fn cut_messages_are_refused() {
        for n in 0..RFC5769.len() {
            assert!(Request::read(&RFC5769[..n]).is_err());
            assert_eq!(stun_username(&RFC5769[..n]), None);
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(kind in 0u16..3, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut data = kind.to_be_bytes().to_vec();
            data.extend(((body.len() & !3) as u16).to_be_bytes());
            data.extend(MAGIC.to_be_bytes());
            data.extend([0; 12]);
            data.extend(&body[..body.len() & !3]);
            let _ = (stun_username(&data), stun_answered(&data));
            if let Ok(request) = Request::read(&data) {
                request.is_authentic(&key("x"));
            }
            let _ = stun_username(&body);
        }
    }

    const RFC5769: [u8; 108] = [
        0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
        0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20,
        0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00,
        0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a,
        0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf,
        0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28,
        0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
    ];
}
