//! What keeps a session: checks, and what else proves that the peer is there (RFC 7675). What does not.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;

use media::rtcp::Compound;
use media::transport::CloseReason;
use protocol::{Kind, mesh::SenderClock};
use worker_sim::transport_sim::{Checker, check};
use worker_sim::*;

/// A publisher and a listener; who is named stops its checks.
fn connected(seed: u64) -> (Sim, usize, usize) {
    let mut sim = Sim::new(1, seed);
    let publisher = sim.publisher(offer!("aiortc_publish"), 0);
    let listener = sim.listener(offer!("aiortc_recvonly"));
    sim.connect();
    (sim, publisher, listener)
}

fn stop_checks(sim: &mut Sim, peer: usize) {
    sim.peers[peer].browser.checker.next = None;
}

fn report(sim: &mut Sim, peer: usize) {
    let mut compound = Compound::default();
    compound.receiver_report(7, &[]).cname(7, "listener");
    sim.peers[peer].send_rtcp(compound.bytes());
}

#[test]
fn a_publisher_without_checks_stays_as_long_as_its_media_comes() {
    let (mut sim, publisher, listener) = connected(1);
    stop_checks(&mut sim, publisher);
    for _ in 0..100 {
        sim.sound(publisher, 1);
        sim.run(SECOND);
    }
    assert_eq!(sim.closed, []);
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 100);
    sim.run(SECOND * 28);
    assert_eq!(sim.closed, []);
    sim.run(SECOND * 3);
    assert_eq!(sim.closed, [(sim.peers[publisher].session, CloseReason::ConsentExpired)]);
}

#[test]
fn a_publisher_that_is_muted_stays_by_its_reports_and_by_empty_packets() {
    let (mut sim, publisher, _) = connected(2);
    stop_checks(&mut sim, publisher);
    sim.sound(publisher, 1);
    for second in 0..60 {
        sim.peers[publisher].send_report(Kind::Audio, SenderClock { ntp: second << 32, rtp: 0 });
        sim.run(SECOND);
    }
    for _ in 0..60 {
        let mut padding = sim.peers[publisher].hold(Kind::Audio, &[0; 20]);
        padding[0] |= 0x20;
        *padding.last_mut().unwrap() = 20;
        sim.peers[publisher].send_rtp(&padding);
        sim.run(SECOND);
    }
    assert_eq!(sim.closed, []);
}

#[test]
fn a_listener_without_checks_stays_as_long_as_its_reports_come() {
    let (mut sim, publisher, listener) = connected(3);
    stop_checks(&mut sim, listener);
    for _ in 0..12 {
        report(&mut sim, listener);
        sim.sound(publisher, 1);
        sim.run(SECOND * 10);
    }
    assert_eq!(sim.closed, []);
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 12);
    sim.run(SECOND * 25);
    assert_eq!(sim.closed, [(sim.peers[listener].session, CloseReason::ConsentExpired)]);
}

#[test]
fn reports_that_are_replayed_forged_or_from_elsewhere_keep_no_listener() {
    for attack in 0..4 {
        let (mut sim, publisher, listener) = connected(4);
        let home = sim.peers[listener].browser.address;
        // An address of its own that it left, which it is known by all the same.
        let left = "10.7.7.7:7".parse().unwrap();
        sim.move_to(listener, left);
        sim.run(SECOND * 3);
        sim.move_to(listener, home);
        sim.run(SECOND * 3);
        report(&mut sim, listener);
        sim.run(ms(100));
        let keys = sim.peers[listener].keys.as_mut().unwrap();
        let mut seal = |n: u32| {
            let mut compound = Compound::default();
            compound.receiver_report(n, &[]);
            keys.seal.encrypt_rtcp(compound.bytes()).unwrap().to_vec()
        };
        let reports: Vec<Vec<u8>> = (0..40).map(|n| seal(n % 3)).collect();
        stop_checks(&mut sim, listener);
        sim.inject(home, reports[0].clone());
        for second in 1..40 {
            let (from, data) = match attack {
                0 => (home, reports[0].clone()),
                1 => (home, [&reports[second][..20], &[0; 40]].concat()),
                2 => (left, reports[second].clone()),
                // Media from somebody who has nothing to send.
                _ => (home, [0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9].repeat(3)),
            };
            sim.inject(from, data);
            sim.run(SECOND);
            if !sim.closed.is_empty() {
                break;
            }
        }
        assert_eq!(sim.closed, [(sim.peers[listener].session, CloseReason::ConsentExpired)], "{attack}");
        sim.sound(publisher, 1);
    }
}

/// Whoever has the credentials can write any address on a check.
#[test]
fn media_goes_to_no_address_that_has_not_answered() {
    for workers in [1, 2] {
        let mut sim = Sim::new(workers, 6);
        let publisher = sim.publisher(offer!("aiortc_publish"), 0);
        let listener = sim.listener(offer!("aiortc_recvonly"));
        sim.connect();
        let victim = "203.0.113.9:5000".parse().unwrap();
        sim.lands.insert(victim, usize::from(workers) - 1);
        let Checker { username, pwd, .. } = &sim.peers[listener].browser.checker;
        let forged = check(username, pwd, 7, &[(rtc_stun::attributes::ATTR_USE_CANDIDATE, &[])]);
        for _ in 0..20 {
            sim.inject(victim, forged.clone());
            sim.sound(publisher, 50);
        }
        assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 1000, "all of it where it went before");
        let sent = sim.ledger.sent_to(victim);
        assert!(sent > 0 && sent <= 3 * 20 * forged.len(), "{sent} octets");
        // The phone itself in another network.
        sim.move_to(listener, "203.0.113.10:5000".parse().unwrap());
        sim.run(SECOND * 5);
        sim.sound(publisher, 50);
        assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 1050);
    }
}

#[test]
fn replayed_media_keeps_no_publisher() {
    let (mut sim, publisher, _) = connected(5);
    stop_checks(&mut sim, publisher);
    let from = sim.peers[publisher].browser.address;
    let plain = sim.peers[publisher].hold(Kind::Audio, b"opus");
    let sealed = sim.peers[publisher].keys.as_mut().unwrap().seal.encrypt_rtp(&plain).unwrap().to_vec();
    for _ in 0..40 {
        sim.inject(from, sealed.clone());
        sim.run(SECOND);
        if !sim.closed.is_empty() {
            break;
        }
    }
    assert_eq!(sim.closed, [(sim.peers[publisher].session, CloseReason::ConsentExpired)]);
}
