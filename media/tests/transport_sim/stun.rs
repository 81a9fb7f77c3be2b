//! What a full ICE agent sends: checks, and answers to checks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::transport::stun_answered;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS, AttrType,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use rtc_stun::textattrs::TextAttribute;

/// The checks of a controlling ICE agent.
pub struct Checker {
    pub to: SocketAddr,
    pub username: String,
    pub pwd: String,
    pub next: Option<Instant>,
    pub replies: usize,
    counter: u64,
}

impl Checker {
    pub fn new(to: SocketAddr, username: &str, pwd: &str, now: Instant) -> Checker {
        Checker { to, username: username.into(), pwd: pwd.into(), next: Some(now), replies: 0, counter: 0 }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        if self.next.is_none_or(|at| at > now) {
            return None;
        }
        self.counter += 1;
        // As Chromium: fast until there is an answer, then a heartbeat.
        self.next = Some(now + Duration::from_millis(if self.replies == 0 { 100 } else { 2500 }));
        Some((self.to, check(&self.username, &self.pwd, self.counter, &[(ATTR_USE_CANDIDATE, &[])])))
    }

    /// Whether this is the reply to one of its checks.
    pub(super) fn has_sent(&self, data: &[u8]) -> bool {
        stun_answered(data).is_some_and(|id| {
            let number = u64::from_be_bytes(id[..8].try_into().unwrap());
            (1..=self.counter).contains(&number) && id[8..] == [0; 4]
        })
    }

    pub(super) fn handle_reply(&mut self, data: &[u8]) {
        let mut reply = Message::new();
        reply.unmarshal_binary(data).unwrap();
        FINGERPRINT.check(&reply).unwrap();
        let provider = rtc_crypto::default_provider().unwrap();
        MessageIntegrity::check(&mut reply, self.pwd.as_bytes(), provider.crypto()).unwrap();
        self.replies += 1;
    }
}

/// A Binding request, made by rtc-stun.
pub fn check(username: &str, pwd: &str, id: u64, attributes: &[(AttrType, &[u8])]) -> Vec<u8> {
    let provider = rtc_crypto::default_provider().unwrap();
    let mut message = Message::new();
    message.transaction_id.0[..8].copy_from_slice(&id.to_be_bytes());
    message.set_type(BINDING_REQUEST);
    message.write_header();
    TextAttribute::new(ATTR_USERNAME, username.into()).add_to(&mut message).unwrap();
    message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
    for (number, value) in attributes {
        message.add(*number, value);
    }
    if !attributes.iter().any(|(number, _)| *number == rtc_stun::attributes::ATTR_ICE_CONTROLLED) {
        message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
    }
    MessageIntegrity::new_short_term_integrity_with_provider(pwd.into(), provider.crypto())
        .add_to(&mut message)
        .unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

/// The answer to a check, as an agent with this password gives it; `None` if it is no check meant for it.
pub fn answer(check: &[u8], pwd: &str) -> Option<Vec<u8>> {
    let provider = rtc_crypto::default_provider().unwrap();
    let mut request = Message::new();
    request.unmarshal_binary(check).unwrap();
    FINGERPRINT.check(&request).unwrap();
    MessageIntegrity::check(&mut request, pwd.as_bytes(), provider.crypto()).ok()?;
    let mut reply = Message::new();
    reply.transaction_id = request.transaction_id;
    reply.set_type(BINDING_SUCCESS);
    reply.write_header();
    reply.add(ATTR_XORMAPPED_ADDRESS, &[0, 1, 0xbd, 0x52, 0xe1, 0x12, 0xa6, 0x43]);
    MessageIntegrity::new_short_term_integrity_with_provider(pwd.into(), provider.crypto())
        .add_to(&mut reply)
        .unwrap();
    FINGERPRINT.add_to(&mut reply).unwrap();
    Some(reply.raw)
}
