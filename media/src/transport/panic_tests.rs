use std::sync::Arc;
use std::time::Instant;

use super::engine::{Engine, EngineError, EngineEvent};
use super::*;

/// A library with a defect, which shows again when it is dropped.
struct Broken;

impl Engine for Broken {
    fn start(&mut self, _: Instant) -> Result<(), EngineError> {
        panic!("a defect in start")
    }
    fn handle_records(&mut self, _: &[u8], _: Instant) -> Result<Vec<EngineEvent>, EngineError> {
        panic!("a defect in handle_records")
    }
    fn write(&mut self, _: &[u8], _: Instant) -> Result<(), EngineError> {
        panic!("a defect in write")
    }
    fn handle_timeout(&mut self, _: Instant) -> Result<(), EngineError> {
        panic!("a defect in handle_timeout")
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        None
    }
    fn peer_certificate(&self) -> &[u8] {
        &[]
    }
    fn srtp_keys(&self) -> Option<SrtpKeys> {
        None
    }
    fn close(&mut self, _: Instant) {
        panic!("a defect in close")
    }
}

/// An authenticated check (RFC 8489), made by rtc-stun.
fn check_from(username: &str, pwd: &str) -> Vec<u8> {
    use rtc_stun::message::{BINDING_REQUEST, Message, Setter};
    let provider = rtc_crypto::default_provider().unwrap();
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.write_header();
    let name = rtc_stun::attributes::ATTR_USERNAME;
    rtc_stun::textattrs::TextAttribute::new(name, username.into()).add_to(&mut message).unwrap();
    message.add(rtc_stun::attributes::ATTR_ICE_CONTROLLING, &[1; 8]);
    rtc_stun::integrity::MessageIntegrity::new_short_term_integrity_with_provider(
        pwd.into(),
        provider.crypto(),
    )
    .add_to(&mut message)
    .unwrap();
    rtc_stun::fingerprint::FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

impl std::ops::Drop for Broken {
    fn drop(&mut self) {
        panic!("a defect in drop");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
fn a_panic_in_a_library_ends_the_session_and_only_it() {
    let now = Instant::now();
    let from: SocketAddr = "198.51.100.7:40000".parse().unwrap();
    let broken = || {
        let identity = Arc::new(Identity::generate().unwrap());
        let mut transport = Transport::new(
            TransportConfig {
                fingerprint: identity.fingerprint(),
                identity,
                role: DtlsRole::Server,
                local: Credentials { ufrag: "relay".into(), pwd: "relay-password-relay-pw".into() },
                remote: Credentials { ufrag: "browser".into(), pwd: "browser-password-browser".into() },
                data_channels: false,
            },
            now,
        );
        transport.dtls.replace_engine(Box::new(Broken));
        let check = check_from("relay:browser", "relay-password-relay-pw");
        transport.handle_stun(from, &check, now).unwrap();
        while transport.poll_output().is_some() {}
        transport
    };
    // A whole ClientHello, so that the gate lets it through to the engine.
    let hello =
        [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2][..], &[7; 2]]
            .concat();
    let mut transport = broken();
    assert_eq!(transport.handle_dtls(from, &hello, now), Err(DropReason::SessionPanicked));
    let outputs: Vec<_> = std::iter::from_fn(|| transport.poll_output()).collect();
    assert_eq!(outputs, [TransportOutput::Closed(CloseReason::Panicked)]);
    // It is over: nothing reaches the library any more, and no timer runs.
    assert_eq!(transport.handle_dtls(from, &hello, now), Err(DropReason::SessionClosed));
    transport.handle_timeout(now + Duration::from_secs(60));
    transport.close(now);
    assert_eq!((transport.poll_timeout(), transport.poll_output()), (None, None));

    let mut transport = broken();
    transport.close(now);
    let outputs: Vec<_> = std::iter::from_fn(|| transport.poll_output()).collect();
    assert_eq!(outputs, [TransportOutput::Closed(CloseReason::Panicked)]);
}
