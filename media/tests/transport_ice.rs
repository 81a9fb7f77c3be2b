//! Where a session's peer is and whether it is still there, in virtual time. The ledger of the relay holds in
//! every one of these: three times what came, until an address has answered.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[allow(dead_code, reason = "shared by several tests")]
mod transport_sim;

use media::DropReason;
use media::transport::*;
use rtc_sctp::PayloadProtocolIdentifier as Ppi;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_USE_CANDIDATE, AttrType};

use transport_sim::*;

const PWD: &str = "relay-password-relay-pw";

/// The check that the relay has just sent there.
fn asked(relay: &mut Relay, to: std::net::SocketAddr) -> Vec<u8> {
    let outputs = std::iter::from_fn(|| relay.transport.poll_output());
    let sent = outputs.filter_map(|output| match output {
        TransportOutput::Transmit { to: at, data } if at == to => Some(data),
        _ => None,
    });
    sent.filter(|data| classify(data) == Kind::Stun && stun_answered(data).is_none()).last().expect("a check")
}

/// A nomination that may have been sent by anybody in the name of that address.
fn nomination(number: u64) -> Vec<u8> {
    check("relay:browser", PWD, number, &[(ATTR_USE_CANDIDATE, &[])])
}

#[test]
fn an_address_that_never_answers_gets_three_times_what_came_and_no_media() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    let (home, victim) = (browser.address, addr("203.0.113.9:5000"));
    let mut came = 0;
    for number in 0..200 {
        let request = nomination(number);
        came += request.len();
        relay.receive(victim, &request, net.now);
        net.run_for(&mut [&mut relay, &mut browser], SECOND / 2);
        assert_eq!(relay.transport.remote(), Some(home));
    }
    let sent = relay.ledger.sent_to(victim);
    assert!(sent > came / 2 && sent <= 3 * came, "{sent} octets for {came}");
    assert_eq!(relay.closed(), None);
    assert!(!relay.sent.iter().any(|(to, data)| *to == victim && classify(data) != Kind::Stun));
}

#[test]
fn checks_from_an_address_that_never_answers_keep_no_session() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    browser.checker.next = None;
    for number in 0..64 {
        assert_eq!(relay.closed(), None, "after {number} halves of a second");
        relay.receive(addr("203.0.113.9:5000"), &nomination(number), net.now);
        net.run_for(&mut [&mut relay, &mut browser], SECOND / 2);
        if relay.closed().is_some() {
            break;
        }
    }
    assert_eq!(relay.closed(), Some(CloseReason::ConsentExpired));
}

#[test]
fn only_the_answer_to_the_check_that_went_there_moves_media() {
    let (net, mut relay, browser) = connected(DtlsRole::Server, false, &[GCM], false);
    let (home, other, third) = (browser.address, addr("203.0.113.9:5000"), addr("203.0.113.9:5001"));
    let pwd = browser_credentials().pwd;
    let mut ask = |from| {
        relay.transport.handle_stun(from, &nomination(1), net.now).unwrap();
        asked(&mut relay, from)
    };
    let (to_other, to_third) = (ask(other), ask(third));
    assert_ne!(to_other[8..20], to_third[8..20]);
    // Signed with the password, which the attacker has, but with another's number, or none that was asked.
    let stolen = answer(&to_third, &pwd).unwrap();
    let mut forged = stolen.clone();
    forged[8..20].fill(7);
    for data in [&stolen, &forged] {
        assert_eq!(relay.transport.handle_stun(other, data, net.now), Err(DropReason::StunResponse));
    }
    let genuine = answer(&to_other, &pwd).unwrap();
    let nowhere = addr("203.0.113.9:5002");
    assert_eq!(relay.transport.handle_stun(nowhere, &genuine, net.now), Err(DropReason::StunResponse));
    assert_eq!(relay.transport.remote(), Some(home));
    // The last one nominated is the one that counts.
    relay.transport.handle_stun(other, &genuine, net.now).unwrap();
    assert_eq!(relay.transport.remote(), Some(home));
    relay.transport.handle_stun(third, &stolen, net.now).unwrap();
    assert_eq!(relay.transport.remote(), Some(third));
    // An address that has answered is not asked again, and is taken at once.
    relay.transport.handle_stun(other, &nomination(2), net.now).unwrap();
    assert_eq!(relay.transport.remote(), Some(other));
}

#[test]
fn an_error_to_our_check_is_an_answer_and_needs_no_signature() {
    let (net, mut relay, _) = connected(DtlsRole::Server, false, &[GCM], false);
    let elsewhere = addr("203.0.113.9:5000");
    for kind in [[1, 1], [1, 0x11]] {
        let from = std::net::SocketAddr::new(elsewhere.ip(), 5000 + u16::from(kind[1]));
        relay.transport.handle_stun(from, &nomination(1), net.now).unwrap();
        let mut bare = asked(&mut relay, from);
        bare.truncate(20);
        bare[..4].copy_from_slice(&[kind[0], kind[1], 0, 0]);
        relay.transport.handle_stun(from, &bare, net.now).unwrap();
        assert_eq!(relay.transport.remote(), Some(from));
    }
}

#[test]
fn a_peer_that_answers_no_check_connects_all_the_same() {
    for ours in [DtlsRole::Client, DtlsRole::Server] {
        for rsa in [false, true] {
            let now = origin();
            let mut browser = Browser::new(opposite(ours), certificate(rsa), &[GCM], true, now);
            browser.answers = false;
            let mut relay = relay_for(&browser, ours, &identity(), now);
            let mut net = Net::new(now, 0, 1);
            net.run_for(&mut [&mut relay, &mut browser], 10 * SECOND);
            assert!(relay.transport.is_connected(), "{ours:?} rsa {rsa}");
        }
    }
}

#[test]
fn an_address_that_was_first_and_never_answers_gives_way_to_one_that_does() {
    for ours in [DtlsRole::Client, DtlsRole::Server] {
        let now = origin();
        let mut browser = Browser::new(opposite(ours), certificate(false), &[GCM], true, now);
        let mut relay = relay_for(&browser, ours, &identity(), now);
        let victim = addr("203.0.113.9:5000");
        relay.receive(victim, &nomination(1), now);
        assert_eq!(relay.transport.remote(), Some(victim));
        let mut net = Net::new(now, 0, 1);
        net.run_for(&mut [&mut relay, &mut browser], 10 * SECOND);
        assert!(relay.transport.is_connected(), "{ours:?}");
        assert_eq!(relay.transport.remote(), Some(browser.address));
        assert!(!relay.ledger.is_proven(victim));
    }
}

#[test]
fn after_a_restart_media_stays_until_an_address_has_answered() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    let new = Credentials { ufrag: "relay2".into(), pwd: "another-password-another".into() };
    let theirs = Credentials { ufrag: "browser2".into(), pwd: "another-of-the-browser".into() };
    relay.transport.handle_restart(new.clone(), theirs.clone(), net.now);
    let (home, victim) = (browser.address, addr("203.0.113.9:5000"));
    let forged = check("relay2:browser2", &new.pwd, 1, &[(ATTR_USE_CANDIDATE, &[])]);
    relay.receive(victim, &forged, net.now);
    net.run_for(&mut [&mut relay], SECOND);
    assert_eq!(relay.transport.remote(), Some(home));
    // The first that works is taken, nominated or not.
    let elsewhere = addr("203.0.113.9:5001");
    let request = check("relay2:browser2", &new.pwd, 2, &[]);
    relay.transport.handle_stun(elsewhere, &request, net.now).unwrap();
    let reply = answer(&asked(&mut relay, elsewhere), &theirs.pwd).unwrap();
    relay.transport.handle_stun(elsewhere, &reply, net.now).unwrap();
    assert_eq!(relay.transport.remote(), Some(elsewhere));
    browser.checker.username = "relay2:browser2".into();
    browser.checker.pwd = new.pwd;
    browser.pwd = theirs.pwd;
    net.run_for(&mut [&mut relay, &mut browser], 60 * SECOND);
    assert_eq!((relay.transport.remote(), relay.closed()), (Some(home), None));
}

#[test]
fn a_silent_peer_loses_consent_after_thirty_seconds() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    net.run_for(&mut [&mut relay, &mut browser], 60 * SECOND);
    assert_eq!(relay.closed(), None, "heartbeats keep it alive");
    browser.checker.next = None;
    net.run_for(&mut [&mut relay, &mut browser], 27 * SECOND);
    assert_eq!(relay.closed(), None);
    net.run_for(&mut [&mut relay, &mut browser], 4 * SECOND);
    assert_eq!(relay.closed(), Some(CloseReason::ConsentExpired));
    assert_eq!(relay.transport.poll_timeout(), None);
}

#[test]
fn an_ice_restart_keeps_keys_and_channels() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    browser.open_channel(1, "chat", net.now);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    let new = Credentials { ufrag: "relay2".into(), pwd: "another-password-another".into() };
    let theirs = Credentials { ufrag: "browser2".into(), pwd: "another-of-the-browser".into() };
    relay.transport.handle_restart(new.clone(), theirs.clone(), net.now);
    // The old ones still work …
    net.run_for(&mut [&mut relay, &mut browser], 10 * SECOND);
    assert_eq!(relay.drops, Vec::<DropReason>::new());
    // … until the first check with the new, from a new address.
    let old_address = browser.address;
    browser.address = addr("203.0.113.9:5000");
    browser.checker.username = "relay2:browser2".into();
    browser.checker.pwd = new.pwd;
    browser.pwd = theirs.pwd;
    net.run_for(&mut [&mut relay, &mut browser], 5 * SECOND);
    assert_eq!(relay.transport.remote(), Some(browser.address));
    assert!(relay.outputs.contains(&TransportOutput::Remote(browser.address)));
    let old = check("relay:browser", "relay-password-relay-pw", 1, &[]);
    assert_eq!(relay.transport.handle_stun(old_address, &old, net.now), Err(DropReason::StunUsername));
    relay.echo = true;
    browser.inbox.clear();
    browser.send_message(1, b"still here", Ppi::String, net.now);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    assert_eq!(browser.inbox.pop_front().unwrap().1, &b"still here"[..]);
}

#[test]
fn a_peer_that_moves_is_followed() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    browser.address = addr("203.0.113.9:5000");
    net.run_for(&mut [&mut relay, &mut browser], 5 * SECOND);
    assert_eq!(relay.transport.remote(), Some(browser.address));
    assert_eq!(relay.outputs.last(), Some(&TransportOutput::Remote(browser.address)));
}

#[test]
fn a_check_without_nomination_moves_nothing_while_the_pair_lives() {
    let (net, mut relay, _) = connected(DtlsRole::Server, false, &[GCM], false);
    let selected = relay.transport.remote();
    let check = check("relay:browser", "relay-password-relay-pw", 99, &[]);
    let elsewhere = addr("203.0.113.9:5000");
    relay.transport.handle_stun(elsewhere, &check, net.now).unwrap();
    assert_eq!(relay.transport.remote(), selected);
    assert!(relay.transport.is_validated(elsewhere));
    // Once the pair is silent, the address that still speaks is the peer, if it hears as well.
    let later = net.now + 8 * SECOND;
    relay.transport.handle_stun(elsewhere, &check, later).unwrap();
    assert_eq!(relay.transport.remote(), selected);
    let answer = answer(&asked(&mut relay, elsewhere), &browser_credentials().pwd).unwrap();
    relay.transport.handle_stun(elsewhere, &answer, later).unwrap();
    assert_eq!(relay.transport.remote(), Some(elsewhere));
}

#[test]
fn many_addresses_never_push_out_the_selected_one() {
    let (net, mut relay, browser) = connected(DtlsRole::Server, false, &[GCM], false);
    let check = check("relay:browser", "relay-password-relay-pw", 99, &[]);
    for port in 1..100 {
        relay.transport.handle_stun(addr(&format!("203.0.113.9:{port}")), &check, net.now).unwrap();
    }
    assert_eq!(relay.transport.remote(), Some(browser.address));
    let known = (1..100).filter(|port| relay.transport.is_validated(addr(&format!("203.0.113.9:{port}"))));
    assert_eq!(known.count(), 7);
    // One that has answered is not pushed out by those that have not.
    let own = addr("203.0.113.7:1");
    relay.transport.handle_stun(own, &check, net.now).unwrap();
    let reply = answer(&asked(&mut relay, own), &browser_credentials().pwd).unwrap();
    relay.transport.handle_stun(own, &reply, net.now).unwrap();
    for port in 1..100 {
        let later = net.now + SECOND;
        relay.transport.handle_stun(addr(&format!("203.0.113.9:{port}")), &check, later).unwrap();
    }
    assert!(relay.transport.is_validated(own));
}

#[test]
fn unauthenticated_checks_get_no_answer() {
    let now = origin();
    let browser = Browser::new(DtlsRole::Client, certificate(false), &[GCM], false, now);
    let mut relay = relay_for(&browser, DtlsRole::Server, &identity(), now);
    let pwd = "relay-password-relay-pw";
    for (data, reason) in [
        (check("relay:browser", "wrong", 1, &[]), DropReason::StunIntegrity),
        (check("other:browser", pwd, 1, &[]), DropReason::StunUsername),
        (check("relay:other", pwd, 1, &[]), DropReason::StunUsername),
        (check("relay", pwd, 1, &[]), DropReason::StunUsername),
        (vec![0; 20], DropReason::StunMalformed),
        (Vec::new(), DropReason::StunMalformed),
    ] {
        assert_eq!(relay.transport.handle_stun(browser.address, &data, now), Err(reason));
        assert_eq!(relay.transport.poll_output(), None);
    }
    let mut reply = check("relay:browser", pwd, 1, &[]);
    reply[..2].copy_from_slice(&[1, 1]);
    assert_eq!(relay.transport.handle_stun(browser.address, &reply, now), Err(DropReason::StunResponse));
}

#[test]
fn role_conflicts_and_unknown_attributes_are_answered_with_errors() {
    let now = origin();
    let browser = Browser::new(DtlsRole::Client, certificate(false), &[GCM], false, now);
    let mut relay = relay_for(&browser, DtlsRole::Server, &identity(), now);
    let pwd = "relay-password-relay-pw";
    for (attribute, code) in [((ATTR_ICE_CONTROLLED, &[1u8; 8][..]), 87), ((AttrType(0x7001), &[]), 20)] {
        let request = check("relay:browser", pwd, 1, &[attribute]);
        relay.transport.handle_stun(browser.address, &request, now).unwrap();
        let Some(TransportOutput::Transmit { to, data }) = relay.transport.poll_output() else { panic!() };
        assert_eq!(to, browser.address);
        assert_eq!(data[..2], [1, 0x11]);
        assert_eq!(data[20..28], [0, 9, 0, 4, 0, 0, 4, code]);
        assert!(data.len() <= request.len());
        assert_eq!(relay.transport.poll_output(), None);
        assert!(!relay.transport.is_validated(browser.address));
    }
    let optional = check("relay:browser", pwd, 2, &[(AttrType(0xc057), &[0; 4]), (ATTR_USE_CANDIDATE, &[])]);
    relay.transport.handle_stun(browser.address, &optional, now).unwrap();
    assert_eq!(relay.transport.remote(), Some(browser.address));
}
