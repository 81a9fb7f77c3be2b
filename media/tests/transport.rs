//! The transport of a session against stock peers and against itself, in virtual time.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[allow(dead_code, reason = "shared by several tests")]
mod transport_sim;

use std::sync::Arc;
use std::time::Duration;

use media::DropReason;
use media::transport::*;
use proptest::prelude::*;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile as Offered;
use rtc_sctp::PayloadProtocolIdentifier as Ppi;

use transport_sim::*;

const SHA1: Offered = Offered::Srtp_Aes128_Cm_Hmac_Sha1_80;

#[test]
fn the_certificate_is_shared_by_all_threads() {
    // A transport stays on the thread it was made on: its data channels count references without atomics.
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Identity>();
}

#[test]
fn both_roles_and_both_kinds_of_certificate_connect() {
    for ours in [DtlsRole::Client, DtlsRole::Server] {
        for rsa in [false, true] {
            let (_, relay, browser) = connected(ours, rsa, &[GCM, SHA1], false);
            let keys = relay.keys.clone().unwrap();
            assert_eq!(keys.profile, SrtpProfile::AeadAes128Gcm);
            let material = browser.keying_material(56);
            let (client, server) = (&material[..16], &material[16..32]);
            let expected = if ours == DtlsRole::Client { (client, server) } else { (server, client) };
            assert_eq!((&keys.local_key[..], &keys.remote_key[..]), expected);
            assert_eq!(relay.outputs[0], TransportOutput::Remote(browser.address));
            assert!(matches!(relay.outputs[1], TransportOutput::Connected(..)));
            assert_eq!(relay.outputs.len(), 2);
        }
    }
}

#[test]
fn the_browser_sees_the_certificate_that_the_sdp_names() {
    let now = origin();
    let identity = identity();
    let mut browser = Browser::new(DtlsRole::Client, certificate(false), &[GCM], false, now);
    let mut relay = relay_for(&browser, DtlsRole::Server, &identity, now);
    Net::new(now, 0, 1).run_for(&mut [&mut relay, &mut browser], SECOND);
    assert_eq!(browser.relay_fingerprint(), identity.fingerprint());
}

#[test]
fn gcm_is_chosen_whatever_the_clients_order() {
    for (offer, expected) in [
        (&[GCM, SHA1][..], SrtpProfile::AeadAes128Gcm),
        (&[SHA1, GCM], SrtpProfile::AeadAes128Gcm),
        (&[SHA1], SrtpProfile::Aes128CmSha1_80),
        (&[GCM], SrtpProfile::AeadAes128Gcm),
    ] {
        for ours in [DtlsRole::Client, DtlsRole::Server] {
            let (_, relay, _) = connected(ours, false, offer, false);
            let keys = relay.keys.unwrap();
            if ours == DtlsRole::Server || offer.len() == 1 {
                assert_eq!(keys.profile, expected, "{offer:?} {ours:?}");
            }
            assert_eq!(keys.local_salt.len(), keys.profile.salt_len());
        }
    }
}

#[test]
fn without_a_profile_in_common_nothing_connects() {
    let now = origin();
    let offer = [Offered::Srtp_Aead_Aes_256_Gcm];
    let mut browser = Browser::new(DtlsRole::Client, certificate(false), &offer, true, now);
    let mut relay = relay_for(&browser, DtlsRole::Server, &identity(), now);
    Net::new(now, 0, 1).run_for(&mut [&mut relay, &mut browser], 31 * SECOND);
    assert!(relay.keys.is_none());
    assert!(relay.closed().is_some());
}

#[test]
fn a_handshake_that_breaks_off_says_about_what() {
    use rtc_dtls::cipher_suite::CipherSuiteId;
    use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
    type Change = fn(ConfigBuilder) -> ConfigBuilder;
    let cases: [(Change, &[Offered], bool, DtlsFailure); 4] = [
        (
            |config| config.with_extended_master_secret(ExtendedMasterSecretType::Disable),
            &[GCM],
            false,
            DtlsFailure::ExtendedMasterSecret,
        ),
        (
            |config| config.with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256]),
            &[GCM],
            true,
            DtlsFailure::CipherSuites,
        ),
        (|config| config, &[Offered::Srtp_Aead_Aes_256_Gcm], false, DtlsFailure::SrtpProfiles),
        (
            |config| config.with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Ccm]),
            &[GCM],
            false,
            DtlsFailure::CipherSuites,
        ),
    ];
    for (change, profiles, rsa, cause) in cases {
        let now = origin();
        let mut browser = Browser::new_with(DtlsRole::Client, certificate(rsa), profiles, false, now, change);
        let mut relay = relay_for(&browser, DtlsRole::Server, &identity(), now);
        Net::new(now, 0, 1).run_for(&mut [&mut relay, &mut browser], 31 * SECOND);
        assert_eq!(relay.closed(), Some(CloseReason::DtlsFailed(cause)));
        assert!(!cause.to_string().is_empty());
    }
}

#[test]
fn a_wrong_fingerprint_never_connects_and_opens_no_channel() {
    for ours in [DtlsRole::Client, DtlsRole::Server] {
        let now = origin();
        let mut browser = Browser::new(opposite(ours), certificate(false), &[GCM], true, now);
        let other = Browser::new(opposite(ours), certificate(false), &[GCM], true, now);
        let mut relay = relay_for(&other, ours, &identity(), now);
        let mut net = Net::new(now, 0, 1);
        net.run_for(&mut [&mut relay, &mut browser], 5 * SECOND);
        assert_eq!(relay.closed(), Some(CloseReason::FingerprintMismatch));
        assert!(relay.keys.is_none());
        assert!(relay.opened().is_empty() && !browser.sctp_connected);
        assert_eq!(relay.transport.poll_timeout(), None);
    }
}

#[test]
fn dtls_from_an_unvalidated_address_is_ignored() {
    let now = origin();
    let (_, relay, browser) = connected(DtlsRole::Client, false, &[GCM], false);
    let mut fresh = relay_for(&browser, DtlsRole::Server, &identity(), now);
    let dtls = relay.sent.iter().find(|(_, data)| classify(data) == Kind::Dtls).unwrap();
    for n in 0..10_000u32 {
        let from = std::net::SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 4000));
        assert_eq!(fresh.transport.handle_dtls(from, &dtls.1, now), Err(DropReason::DtlsUnvalidated));
        assert_eq!(fresh.transport.poll_output(), None);
    }
}

#[test]
fn handshakes_survive_loss() {
    let (a, b) = (identity(), identity());
    for loss in [0, 5, 10, 20] {
        let runs = if loss == 0 { 20 } else { 200 };
        let mut failed = Vec::new();
        for seed in 0..runs {
            let now = origin();
            let (mut client, mut server) = twins(&a, &b, now);
            let mut net = Net::new(now, loss, seed * 77 + loss);
            net.run_for(&mut [&mut client, &mut server], 31 * SECOND);
            let (Some(ours), Some(theirs)) = (&client.keys, &server.keys) else {
                failed.push((seed, client.closed(), server.closed()));
                continue;
            };
            assert_eq!((&ours.local_key, &ours.local_salt), (&theirs.remote_key, &theirs.remote_salt));
            assert_eq!((&ours.remote_key, &ours.remote_salt), (&theirs.local_key, &theirs.local_salt));
        }
        println!("{loss} % loss: {} of {runs} failed", failed.len());
        assert!(failed.len() as u64 * 50 <= runs, "at {loss} %: {failed:?}");
    }
}

#[test]
fn a_peer_that_never_checks_is_given_up_after_thirty_seconds() {
    let now = origin();
    let browser = Browser::new(DtlsRole::Client, certificate(false), &[GCM], false, now);
    let mut relay = relay_for(&browser, DtlsRole::Server, &identity(), now);
    let mut net = Net::new(now, 0, 1);
    assert_eq!(relay.transport.poll_timeout(), Some(now + 30 * SECOND));
    net.run_for(&mut [&mut relay], 30 * SECOND - Duration::from_millis(1));
    assert_eq!(relay.closed(), None);
    net.run_for(&mut [&mut relay], 2 * SECOND);
    assert_eq!(relay.closed(), Some(CloseReason::ConnectTimeout));
    assert!(relay.sent.is_empty());
    assert_eq!(relay.transport.handle_stun(browser.address, &[], net.now), Err(DropReason::SessionClosed));
}

#[test]
fn a_peer_that_checks_but_never_handshakes_is_given_up_too() {
    for ours in [DtlsRole::Client, DtlsRole::Server] {
        let now = origin();
        let mut browser = Browser::new(DtlsRole::Server, certificate(false), &[GCM], false, now);
        let mut relay = relay_for(&browser, ours, &identity(), now);
        // The browser's DTLS goes nowhere: it answers checks only.
        let mut net = Net::new(now, 0, 1);
        for second in 1..40 {
            let heartbeat = check("relay:browser", "relay-password-relay-pw", second, &[]);
            relay.receive(browser.address, &heartbeat, net.now);
            net.run_for(&mut [&mut relay], SECOND);
        }
        let reason = relay.closed();
        assert!(
            matches!(reason, Some(CloseReason::ConnectTimeout | CloseReason::DtlsFailed(_))),
            "{ours:?} {reason:?}"
        );
        browser.close(net.now);
    }
}

#[test]
fn channels_echo_under_loss() {
    for loss in [0, 5, 20] {
        for seed in 0..20 {
            let now = origin();
            let mut browser = Browser::new(DtlsRole::Client, certificate(false), &[GCM], true, now);
            let mut relay = relay_for(&browser, DtlsRole::Server, &identity(), now);
            relay.echo = true;
            let mut net = Net::new(now, 0, seed);
            while !browser.done {
                net.run_for(&mut [&mut relay, &mut browser], Duration::from_millis(5));
            }
            // From here on INIT, INIT ACK and COOKIE ECHO may be lost, and the channel's OPEN.
            net.loss_percent = loss;
            for _ in 0..600 {
                if !browser.sctp_connected {
                    net.run_for(&mut [&mut relay, &mut browser], SECOND / 10);
                }
            }
            assert!(browser.sctp_connected, "seed {seed} at {loss} %");
            browser.open_channel(1, "chat", net.now);
            for n in 0..50u32 {
                let text = vec![b'a' + (n % 26) as u8; 1 + 97 * n as usize];
                browser.send_message(1, &text, if n % 2 == 0 { Ppi::String } else { Ppi::Binary }, net.now);
            }
            net.run_for(&mut [&mut relay, &mut browser], 600 * SECOND);
            assert_eq!(relay.opened(), [(1, "chat".to_owned())], "seed {seed} at {loss} %");
            browser.inbox.retain(|(_, _, ppi)| *ppi != Ppi::Dcep);
            assert_eq!(browser.inbox.len(), 50, "seed {seed} at {loss} %");
            for (n, (channel, text, ppi)) in browser.inbox.iter().enumerate() {
                assert_eq!((*channel, text.len()), (1, 1 + 97 * n));
                assert_eq!(*ppi, if n % 2 == 0 { Ppi::String } else { Ppi::Binary });
            }
        }
    }
}

#[test]
fn a_flood_of_hello_fragments_does_not_hurt_a_connected_session() {
    for ours in [DtlsRole::Client, DtlsRole::Server] {
        let (mut net, mut relay, mut browser) = connected(ours, false, &[GCM], true);
        net.run_for(&mut [&mut relay, &mut browser], SECOND);
        relay.echo = true;
        browser.open_channel(1, "chat", net.now);
        net.run_for(&mut [&mut relay, &mut browser], SECOND);
        let sent = relay.sent.len();
        let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0x04, 0x0c];
        record.extend([1, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
        record.resize(13 + 0x40c, 7);
        let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
        for n in 0..20_000u64 {
            record[5..11].copy_from_slice(&n.to_be_bytes()[2..]);
            let _ = relay.transport.handle_dtls(browser.address, &record, net.now);
            let _ = relay.transport.handle_dtls(browser.address, &alert, net.now);
            // The same under keys it does not know.
            record[4] = 1;
            let _ = relay.transport.handle_dtls(browser.address, &record, net.now);
            record[4] = 0;
        }
        net.run_for(&mut [&mut relay, &mut browser], SECOND);
        assert!(relay.sent.len() - sent < 100, "{} datagrams", relay.sent.len() - sent);
        browser.inbox.clear();
        browser.send_message(1, b"unhurt", Ppi::String, net.now);
        net.run_for(&mut [&mut relay, &mut browser], SECOND);
        assert_eq!(browser.inbox.pop_front().unwrap().1, &b"unhurt"[..]);
        assert_eq!(relay.closed(), None);
    }
}

#[test]
fn goodbyes_are_said_and_heard() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    relay.transport.close(net.now);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    assert_eq!(relay.closed(), Some(CloseReason::LocallyClosed));
    assert!(browser.closed);

    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    browser.open_channel(1, "chat", net.now);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    browser.close(net.now);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    assert!(relay.outputs.contains(&TransportOutput::ChannelClosed { channel: 1 }));
    assert_eq!(relay.outputs.last(), Some(&TransportOutput::Closed(CloseReason::PeerClosed)));
}

#[test]
fn a_message_over_the_limit_closes_its_channel_only() {
    for length in [MAX_MESSAGE + 1, 4 * MAX_MESSAGE] {
        let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
        net.run_for(&mut [&mut relay, &mut browser], SECOND);
        relay.echo = true;
        browser.open_channel(1, "chat", net.now);
        browser.open_channel(3, "files", net.now);
        browser.send_message(3, &vec![1; length], Ppi::Binary, net.now);
        net.run_for(&mut [&mut relay, &mut browser], 20 * SECOND);
        assert!(relay.outputs.contains(&TransportOutput::ChannelClosed { channel: 3 }), "{length}");
        assert!(!relay.outputs.contains(&TransportOutput::ChannelClosed { channel: 1 }));
        browser.inbox.clear();
        browser.send_message(1, &vec![2; MAX_MESSAGE], Ppi::Binary, net.now);
        net.run_for(&mut [&mut relay, &mut browser], 60 * SECOND);
        assert_eq!(browser.inbox.pop_front().map(|(_, data, _)| data.len()), Some(MAX_MESSAGE), "{length}");
        assert_eq!(relay.closed(), None);
    }
}

#[test]
fn channels_and_labels_are_bounded() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    browser.open_channel(1, &"x".repeat(257), net.now);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    assert!(relay.opened().is_empty());
    for channel in 0..100 {
        browser.open_channel(2 + 2 * channel, &"x".repeat(256), net.now);
    }
    net.run_for(&mut [&mut relay, &mut browser], 10 * SECOND);
    assert_eq!(relay.opened().len(), 64);
}

#[test]
fn what_the_peer_has_is_told_and_a_closed_channel_takes_nothing_more() {
    for loss in [0, 10] {
        let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
        net.run_for(&mut [&mut relay, &mut browser], SECOND);
        browser.open_channel(1, "chat", net.now);
        browser.open_channel(3, "files", net.now);
        net.run_for(&mut [&mut relay, &mut browser], SECOND);
        net.loss_percent = loss;
        for length in 0..100 {
            relay.transport.send_message(1, &vec![7; length], true, net.now).unwrap();
            relay.transport.send_message(3, &[7; 10], false, net.now).unwrap();
        }
        net.run_for(&mut [&mut relay, &mut browser], 60 * SECOND);
        let told = |wanted: u16, outputs: &[TransportOutput]| -> usize {
            let bytes = outputs.iter().filter_map(|output| match output {
                TransportOutput::Acknowledged { channel, bytes } if *channel == wanted => Some(*bytes),
                _ => None,
            });
            bytes.sum()
        };
        // What is empty takes a byte in SCTP.
        assert_eq!((told(1, &relay.outputs), told(3, &relay.outputs)), (99 * 100 / 2 + 1, 1000), "{loss} %");
        relay.transport.close_channel(Some(1), net.now);
        relay.transport.close_channel(Some(77), net.now);
        net.run_for(&mut [&mut relay, &mut browser], 10 * SECOND);
        assert!(relay.outputs.contains(&TransportOutput::ChannelClosed { channel: 1 }));
        assert_eq!(relay.transport.send_message(1, b"x", true, net.now), Err(ChannelError::NotOpen));
        relay.transport.send_message(3, b"still there", true, net.now).unwrap();
        relay.transport.close_channel(None, net.now);
        assert_eq!(relay.transport.send_message(3, b"x", true, net.now), Err(ChannelError::NotOpen));
        assert_eq!(relay.closed(), None);
    }
}

#[test]
fn a_listener_that_never_reads_hurts_only_itself() {
    let (mut net, mut relay, mut browser) = connected(DtlsRole::Server, false, &[GCM], true);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    browser.open_channel(1, "chat", net.now);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    assert_eq!(relay.transport.send_message(9, b"x", true, net.now), Err(ChannelError::NotOpen));
    let long = vec![0; MAX_MESSAGE + 1];
    assert_eq!(relay.transport.send_message(1, &long, true, net.now), Err(ChannelError::TooLarge));
    let mut taken = 0;
    for _ in 0..1000 {
        match relay.transport.send_message(1, &[0; 10_000], true, net.now) {
            Ok(()) => taken += 1,
            Err(error) => assert_eq!(error, ChannelError::Full),
        }
    }
    assert!(taken <= 2 * MAX_MESSAGE / 10_000, "{taken}");
    assert_eq!(relay.transport.messages_refused(), 1000 - taken as u64);
    net.run_for(&mut [&mut relay, &mut browser], 30 * SECOND);
    relay.transport.send_message(1, b"room again", true, net.now).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn junk_never_panics_a_fresh_transport(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
        kinds in proptest::collection::vec((20u8..24, 0u8..3), 1..20),
        client in any::<bool>(),
    ) {
        let now = origin();
        let browser = Browser::new(DtlsRole::Server, FIXED.with(Clone::clone), &[GCM], true, now);
        let role = if client { DtlsRole::Client } else { DtlsRole::Server };
        let mut relay = relay_for(&browser, role, &IDENTITY.with(Clone::clone), now);
        let good = check("relay:browser", "relay-password-relay-pw", 1, &[]);
        relay.receive(browser.address, &good, now);
        for (mut datagram, (kind, epoch)) in datagrams.into_iter().zip(kinds) {
            let _ = stun_username(&datagram);
            relay.ledger.came(browser.address, &datagram);
            let _ = relay.transport.handle_stun(browser.address, &datagram, now);
            let _ = relay.transport.handle_dtls(browser.address, &datagram, now);
            let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1];
            record.extend((datagram.len() as u16).to_be_bytes());
            record.append(&mut datagram);
            relay.ledger.came(browser.address, &record);
            let _ = relay.transport.handle_dtls(browser.address, &record, now);
            relay.transport.handle_timeout(now + SECOND);
            relay.poll(now);
        }
    }

    #[test]
    fn corrupted_handshakes_never_panic(
        seed in any::<u64>(), every in 1u64..6, client in any::<bool>(),
    ) {
        let now = origin();
        let (ours, theirs) = if client {
            (DtlsRole::Client, DtlsRole::Server)
        } else {
            (DtlsRole::Server, DtlsRole::Client)
        };
        let mut browser = Browser::new(theirs, FIXED.with(Clone::clone), &[GCM], false, now);
        let mut relay = relay_for(&browser, ours, &IDENTITY.with(Clone::clone), now);
        let mut rng = Rng(seed);
        let mut to_browser = Vec::new();
        browser.timeout(now);
        for step in 0..60u64 {
            let now = now + Duration::from_millis(step * 60);
            for (_, _, mut data) in browser.send(now) {
                if classify(&data) == Kind::Dtls && rng.below(every) == 0 {
                    let at = rng.below(data.len() as u64) as usize;
                    data[at] = rng.next() as u8;
                }
                relay.ledger.came(browser.address, &data);
                match classify(&data) {
                    Kind::Stun => { let _ = relay.transport.handle_stun(browser.address, &data, now); }
                    _ => { let _ = relay.transport.handle_dtls(browser.address, &data, now); }
                }
            }
            relay.transport.handle_timeout(now);
            to_browser.extend(relay.send(now));
            for (_, _, data) in to_browser.drain(..) {
                browser.receive(relay.address, &data, now);
            }
            browser.timeout(now);
        }
    }
}

thread_local! {
    static FIXED: rtc_dtls::crypto::Certificate = certificate(false);
    static IDENTITY: Arc<Identity> = identity();
}
