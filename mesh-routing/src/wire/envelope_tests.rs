//! What is not known is told from what is malformed, and what is passed on is what was signed.

use proptest::prelude::*;

use super::*;
use crate::{sim::node, wire::signature::SimulatedKeys};

fn said(payload: &'static [u8]) -> Said {
    Said { kind: 77, origin: node(1), number: 5, payload: Bytes::from_static(payload) }
}

fn opaque(scope: Scope) -> Opaque {
    Opaque::sign(scope, said(b"hello"), &SimulatedKeys(node(1)))
}

#[test]
fn a_kind_that_is_not_known_is_passed_over_whatever_follows() {
    for tail in [&b""[..], b"\xff\xff", &[0; 300]] {
        let bytes = [&[0, 99][..], tail].concat();
        assert_eq!(Received::decode(&bytes), Ok(Received::PassedOver { kind: 99 }));
    }
    let about_files = [0, Message::FILE as u8, 99, 1, 2];
    assert_eq!(Received::decode(&about_files), Ok(Received::PassedOver { kind: Message::FILE }));
    assert_eq!(Received::decode(&[0]), Err(MeshError::Malformed));
    assert_eq!(Received::decode(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Err(MeshError::Malformed));
}

#[test]
fn bits_of_the_first_octet_that_have_no_meaning_yet_are_not_looked_at() {
    let probe = Message::Buckets { hashes: vec![7; crate::wire::message::BUCKETS] };
    let mut bytes = probe.encode().to_vec();
    bytes[0] |= 0b1010_1000;
    assert_eq!(Message::decode(&bytes), Ok(probe));
}

#[test]
fn fields_behind_a_message_are_passed_over_and_counted() {
    let message = Message::Summary { database: 1, logs: 2 };
    let mut bytes = message.encode().to_vec();
    protocol::fields::write(&mut bytes, 3, b"three");
    protocol::fields::write(&mut bytes, 9, b"");
    assert_eq!(Received::decode(&bytes), Ok(Received::Known { message, unknown_fields: 2 }));
    bytes.push(1);
    assert_eq!(Received::decode(&bytes), Err(MeshError::Malformed));
}

#[test]
fn what_is_passed_on_is_what_was_signed_one_hop_further() {
    for scope in [Scope::Area, Scope::Mesh] {
        let sent = opaque(scope);
        let Ok(Received::PassedOn(mut here)) = Received::decode(&sent.encode()) else { panic!("{scope:?}") };
        assert_eq!((&here.said, here.scope, here.hops), (&said(b"hello"), scope, 0));
        here.hops += 1;
        let Ok(Received::PassedOn(there)) = Received::decode(&here.encode()) else { panic!("{scope:?}") };
        assert_eq!(there.hops, 1);
        assert!(there.verify(&SimulatedKeys(node(2))));
        assert_eq!(there.encode()[2..], sent.encode()[2..], "octet for octet");
    }
}

#[test]
fn only_its_origin_can_say_it_and_nobody_can_change_it() {
    let keys = SimulatedKeys(node(3));
    assert!(!Opaque::sign(Scope::Mesh, said(b"hello"), &SimulatedKeys(node(2))).verify(&keys));
    let bytes = opaque(Scope::Area).encode();
    for at in (0..bytes.len()).filter(|at| *at != 1) {
        let mut changed = bytes.to_vec();
        changed[at] ^= if at == 0 { 3 } else { 1 };
        if let Ok(Received::PassedOn(read)) = Received::decode(&changed) {
            assert!(!read.verify(&keys), "octet {at}");
        }
    }
}

#[test]
fn what_everybody_gets_is_short_and_ends_with_its_signature() {
    let long = Said { payload: vec![0; OPAQUE_MAX + 1].into(), ..said(b"") };
    let long = Opaque::sign(Scope::Mesh, long, &SimulatedKeys(node(1))).encode();
    assert!(matches!(Received::decode(&long), Err(MeshError::Absurd { .. })));
    let more = [&opaque(Scope::Mesh).encode()[..], &[0]].concat();
    assert_eq!(Received::decode(&more), Err(MeshError::Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), octet in 0..4u8) {
        let _ = Received::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = octet;
        }
        if let Ok(Received::PassedOn(read)) = Received::decode(&bytes) {
            let _ = read.verify(&SimulatedKeys(node(1)));
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
