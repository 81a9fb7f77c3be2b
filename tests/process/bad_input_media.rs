//! Bad input over UDP, from sources that no session knows: STUN, DTLS, RTP and RTCP shapes, and plain noise,
//! on the media port and on the bridge. It is dropped and counted, answered with nothing larger than itself,
//! and a listener does not notice. (What comes from inside a session is in the tests of `media`.)

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::{net::SocketAddr, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tests::{Listener, Publisher, Relay, Setup, now, pause, until};
use tokio::{net::UdpSocket, time::timeout};

const SOON: Duration = Duration::from_secs(10);

/// What arrives from nobody, in the shapes that RFC 7983 tells apart by the first byte.
fn junk(random: &mut StdRng, kind: usize) -> Vec<u8> {
    let mut noise = |length: usize| -> Vec<u8> { (0..length).map(|_| random.random()).collect() };
    match kind % 8 {
        // A binding request under an unknown name, with a MESSAGE-INTEGRITY made of noise.
        0 => {
            let mut message = vec![0x00, 0x01, 0x00, 0x28, 0x21, 0x12, 0xa4, 0x42];
            message.extend(noise(12));
            message.extend(b"\x00\x06\x00\x09nope:nada\0\0\0");
            message.extend(b"\x00\x08\x00\x14");
            message.extend(noise(20));
            message
        }
        // A binding request with a length that is a lie.
        1 => {
            let mut message = vec![0x00, 0x01, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42];
            message.extend(noise(12));
            message
        }
        // A ClientHello record, by its header at least.
        2 => {
            let mut record = vec![
                22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 1, 0, 0, 188, 0, 0, 0, 0, 0, 0, 0, 188, 0xfe,
                0xfd,
            ];
            record.extend(noise(186));
            record
        }
        // A DTLS record of another epoch with a length that is a lie.
        3 => {
            let mut record = vec![23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
            record.extend(noise(40));
            record
        }
        // RTP with an extension longer than the packet, 15 CSRCs and padding of 255.
        4 => {
            let mut packet = vec![0xbf, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
            packet.extend(noise(60));
            packet.extend([0xbe, 0xde, 0xff, 0xff, 0xff]);
            packet
        }
        // RTP without a payload.
        5 => vec![0x80, 111, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1],
        // RTCP with a false length.
        6 => vec![0x81, 201, 0xff, 0xff, 0, 0, 0, 1, 9, 9],
        _ => noise(1 + kind % 1400),
    }
}

/// Sends `count` pieces of junk over four seconds, from sources that change, and counts what comes back.
async fn pour(target: SocketAddr, count: usize) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(7);
    let mut buffer = [0; 2048];
    let (mut sent, mut returned) = (0, 0);
    for round in 0..40 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for at in 0..count / 40 {
            let datagram = junk(&mut random, at + round);
            sent += socket.send_to(&datagram, target).await.unwrap();
        }
        pause(Duration::from_millis(100)).await;
        while let Ok(Ok((length, _))) = timeout(Duration::from_millis(1), socket.recv_from(&mut buffer)).await
        {
            returned += length;
        }
    }
    (sent, returned)
}

async fn playing() -> (Relay, Publisher, Listener) {
    let relay = Setup::zone("stage").start().await.unwrap();
    let publisher = Publisher::tone(&relay, "main-stage", 440).unwrap();
    let api = relay.api();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let listener = Listener::start(&relay, "main-stage", 8).unwrap();
    until("the listener is there", SOON, || async {
        Ok(api.stream("main-stage").await?.filter(|s| s.listeners == 1))
    })
    .await
    .unwrap();
    pause(Duration::from_secs(1)).await;
    (relay, publisher, listener)
}

#[tokio::test]
async fn noise_on_the_media_port_is_dropped_counted_and_not_answered() {
    let (relay, _publisher, listener) = playing().await;
    let drops = relay.api().metrics().await.unwrap().sum("relay_drop_total", &[]);
    let (sent, returned) = pour(relay.media(), 20_000).await;
    let metrics = relay.api().metrics().await.unwrap();
    println!("{sent} bytes of junk, {returned} bytes came back; drops: {}", metrics.show("relay_drop_total"));
    assert!(metrics.sum("relay_drop_total", &[]) - drops > 10_000.0, "what is dropped is counted");
    assert_eq!(returned, 0, "unauthenticated datagrams get no answer");
    let report = listener.report().await.unwrap();
    println!("{report:?}");
    report.undisturbed(440).unwrap();
}

#[tokio::test]
async fn noise_on_the_bridge_port_disturbs_no_bridge() {
    let stage = Setup::zone("stage").start().await.unwrap();
    let camping = Setup::zone("camping").peer(stage.bridge()).start().await.unwrap();
    let _publisher = Publisher::tone(&stage, "main-stage", 440).unwrap();
    let api = camping.api();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let listener = Listener::start(&camping, "main-stage", 8).unwrap();
    until("the listener is there", SOON, || async {
        Ok(api.stream("main-stage").await?.filter(|s| s.listeners == 1))
    })
    .await
    .unwrap();
    let (sent, returned) = pour(stage.bridge(), 20_000).await;
    println!("{sent} bytes of junk, {returned} bytes came back");
    assert!(returned <= 3 * sent, "more than QUIC's limit of three times (RFC 9000 section 8.1)");
    let report = listener.report().await.unwrap();
    println!("{report:?}");
    report.undisturbed(440).unwrap();
    assert!(api.mesh().await.unwrap().links.iter().all(|link| link.up));
}

#[tokio::test]
async fn sessions_that_never_connect_are_gone_in_thirty_seconds() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let api = relay.api();
    let before = relay.resident_kib().unwrap();
    let offer = tests::Offer::default().text();
    let mut locations = vec![];
    for at in 0..20 {
        let answer = api.offer(&format!("/whip/never-{at}"), &offer).await.unwrap();
        assert_eq!(answer.status.as_u16(), 201, "{answer:?}");
        locations.push(answer.header("location").to_owned());
    }
    let began = now();
    // A PATCH for another entity tag changes nothing: 412 while the session is there, 404 afterwards.
    let headers = [("content-type", "application/trickle-ice-sdpfrag"), ("if-match", "\"other\"")];
    let fragment = "a=ice-ufrag:Zq3x\r\na=ice-pwd:pY9mQ7cS1hT2vB4nK6jL8dFw\r\n";
    for location in &locations {
        until("the session is gone", Duration::from_secs(40), || async {
            let status = api.send("PATCH", location, &headers, fragment).await?.status.as_u16();
            pause(Duration::from_millis(200)).await;
            anyhow::ensure!(status == 404, "PATCH gave {status}");
            Ok(Some(()))
        })
        .await
        .unwrap();
    }
    assert!(began.elapsed() > Duration::from_secs(10), "a slow client was not waited for");
    println!(
        "gone after {:?}; resident {before} KiB before, {} KiB after",
        began.elapsed(),
        relay.resident_kib().unwrap()
    );
    assert!(api.streams().await.unwrap().is_empty());
}
