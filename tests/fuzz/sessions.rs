//! What is behind ICE, DTLS and SRTP, reached as a peer reaches it that did everything by the book until
//! then: data channels on an established association, the flights of a handshake, media and reports after
//! decryption.

use std::{cell::RefCell, sync::Arc, time::Duration};

use media::transport::{DtlsRole, Identity, bare::Association};
use protocol::Kind;
use rtc_dtls::{crypto::Certificate, extension::extension_use_srtp::SrtpProtectionProfile};

use crate::worker_sim::{
    Sim, ms,
    transport_sim::{Browser, Node, certificate, check, origin, relay_for},
};

/// Pieces behind each other, each behind a word for what it is and its length.
pub fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[what, high, low], rest) = bytes.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        bytes = rest;
        Some((what, piece))
    })
}

pub fn piece(what: u8, bytes: &[u8]) -> Vec<u8> {
    [&[what], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// The number of the peer's first DATA chunk: the association's numbers wrap soon.
const TSN: u32 = u32::MAX - 2;

pub fn associations() -> Vec<Vec<u8>> {
    let data = |flags: u8, tsn: u32, stream: u16, number: u16, kind: u8, payload: &[u8]| {
        let length = (16 + payload.len() as u16).to_be_bytes();
        let head =
            [&[0, flags], &length[..], &tsn.to_be_bytes(), &stream.to_be_bytes(), &number.to_be_bytes()];
        let mut chunk = [&head.concat()[..], &[0, 0, 0, kind], payload].concat();
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    };
    let open = data(3, TSN, 1, 0, 50, b"\x03\0\0\0\0\0\0\0\0\x04\0\0chat");
    let unreliable = data(3, TSN.wrapping_add(1), 3, 0, 50, b"\x03\x81\0\0\0\0\0\x02\0\x01\0\x01xy");
    let said = data(3, TSN.wrapping_add(2), 1, 1, 51, b"hello");
    let half = data(2, TSN.wrapping_add(3), 1, 2, 53, &[7; 200]);
    let rest = data(1, TSN.wrapping_add(4), 1, 2, 53, &[8; 200]);
    let sack = [&b"\x03\0\0\x14"[..], &TSN.to_be_bytes(), b"\0\x10\0\0\0\x01\0\0\0\x02\0\x03"].concat();
    let forward = [&b"\xc0\0\0\x0c"[..], &TSN.wrapping_add(9).to_be_bytes(), b"\0\x01\0\x05"].concat();
    let reset =
        [&b"\x82\0\0\x16\0\x0d\0\x12"[..], &TSN.to_be_bytes(), &[0; 4], &TSN.to_be_bytes(), &[0, 1, 0, 0]];
    let conversation: Vec<u8> = [&open, &unreliable, &said, &half, &rest, &sack, &reset.concat()]
        .into_iter()
        .flat_map(|chunk| piece(1, chunk))
        .collect();
    let single = [
        &forward[..],
        b"\x04\0\0\x08\0\x01\0\x04",
        b"\x05\0\0\x08\0\x01\0\x04",
        b"\x06\0\0\x08\0\x0c\0\x04",
        b"\x09\0\0\x08\0\x01\x55\x55",
        b"\x07\0\0\x08\0\0\0\x01",
        b"\x08\0\0\x04",
        b"\x0e\0\0\x04",
        b"\x40\x03\0\x18\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\x33hell",
        b"\x82\0\0\x0c\0\x0f\0\x08\0\0\0\x01",
    ];
    let mut samples: Vec<Vec<u8>> =
        single.iter().map(|chunk| [piece(1, &open), piece(2, chunk)].concat()).collect();
    samples.push(conversation);
    samples
}

/// Packets of any chunks on an established association; the word is how many tenths of a second follow.
pub fn association(bytes: &[u8]) {
    fastrand::seed(7); // dcsctp draws its tags
    let mut association = Association::established(TSN, origin());
    for (pause, chunks) in pieces(bytes).take(64) {
        association.feed(chunks, Duration::from_millis(u64::from(pause) * 100));
        association.say(1, chunks);
    }
}

thread_local! {
    static CERTIFICATE: Certificate = certificate(false);
    static IDENTITY: Arc<Identity> = Arc::new(Identity::generate().expect("a certificate"));
}

/// A relay's certificate, made once.
pub fn identity() -> Arc<Identity> {
    IDENTITY.with(Clone::clone)
}

/// The handshake messages that a real peer sends in both roles, each as a piece, for the mutations.
pub fn handshakes() -> Vec<Vec<u8>> {
    let heard = RefCell::new(Vec::new());
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let word = u8::from(role == DtlsRole::Server);
        heard.borrow_mut().push(vec![word]);
        shake(role, |datagram, _| {
            if let Some(said) = heard.borrow_mut().last_mut() {
                said.extend(piece(0, datagram));
            }
            Vec::new()
        });
        // The same up to each flight: what is fed then comes in its place.
        for flights in 0..4 {
            heard.borrow_mut().push(vec![word | flights << 1]);
        }
    }
    heard.into_inner()
}

/// The first octet says which role the peer has and after how many of its flights the pieces come, each a
/// datagram; a piece with an odd word is a handshake body that gets its headers here.
pub fn handshake(bytes: &[u8]) {
    let Some((&word, rest)) = bytes.split_first() else { return };
    let role = if word & 1 == 0 { DtlsRole::Client } else { DtlsRole::Server };
    let after = usize::from(word >> 1 & 7);
    let mut flights = 0;
    let mut fed = false;
    shake(role, |datagram, number| {
        flights = flights.max(number);
        if number < after || fed {
            return if fed { Vec::new() } else { vec![datagram.to_vec()] };
        }
        fed = true;
        pieces(rest).take(32).enumerate().map(|(n, (word, piece))| record(word, n as u64, piece)).collect()
    });
}

/// A datagram as it is, or a handshake record around a body: the word is the message's number and type.
fn record(word: u8, number: u64, body: &[u8]) -> Vec<u8> {
    if word & 1 == 0 {
        return body.to_vec();
    }
    let (kind, rest) = body.split_first().map_or((1, body), |(kind, rest)| (*kind, rest));
    let length = (rest.len() as u32).to_be_bytes();
    let sequence = u16::from(word >> 1 & 15).to_be_bytes();
    let message = [&[kind], &length[1..], &sequence, &[0; 3], &length[1..], rest].concat();
    let head = [&[22, 0xfe, 0xfd, 0, 0][..], &(number + 100).to_be_bytes()[2..]].concat();
    [&head[..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// A handshake in which `instead` says what reaches the relay in place of a DTLS datagram of the peer.
fn shake(role: DtlsRole, mut instead: impl FnMut(&[u8], usize) -> Vec<Vec<u8>>) {
    let mut now = origin();
    let profiles = [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];
    let mut browser = Browser::new(role, CERTIFICATE.with(Clone::clone), &profiles, true, now);
    let ours = if role == DtlsRole::Client { DtlsRole::Server } else { DtlsRole::Client };
    let mut relay = relay_for(&browser, ours, &identity(), now);
    let good = check("relay:browser", "relay-password-relay-pw", 1, &[]);
    relay.receive(browser.address, &good, now);
    browser.timeout(now);
    let mut number = 0;
    for _ in 0..12 {
        now += Duration::from_millis(20);
        for (_, _, data) in relay.send(now) {
            browser.receive(relay.address, &data, now);
        }
        let mut any = false;
        for (_, _, data) in browser.send(now) {
            if media::transport::classify(&data) == media::transport::Kind::Stun {
                relay.receive(browser.address, &data, now);
                continue;
            }
            any = true;
            for datagram in instead(&data, number) {
                relay.ledger.came(browser.address, &datagram);
                let _ = relay.transport.handle_dtls(browser.address, &datagram, now);
            }
        }
        number += usize::from(any);
        relay.transport.handle_timeout(now);
        browser.timeout(now);
    }
    relay.transport.handle_timeout(now + Duration::from_secs(40));
    relay.poll(now);
}

fn offer(name: &str) -> String {
    let path = format!("{}/../media/tests/offers/{name}.sdp", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn conversations() -> Vec<Vec<u8>> {
    let rtp = [0x80, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0xfc, 1, 2, 3];
    let picture = [
        0x90, 96, 0, 9, 0, 0, 0, 2, 0, 0, 0, 2, 0xbe, 0xde, 0, 1, 0x10, 0x30, 0, 0, 0x10, 0x10, 2, 0, 0x9d,
        1, 0x2a,
    ];
    // A keyframe of the encoding m, and the same as a retransmission.
    let names = [0xbe, 0xde, 0, 1, 0x40, b'1', 0xa0, b'm'];
    let named = [
        &[0x90, 96, 0, 9, 0, 0, 0, 2, 0, 0, 0, 77],
        &names[..],
        &[0x10, 0, 0, 0, 0x9d, 1, 0x2a, 64, 1, 180, 0],
    ];
    let named = named.concat();
    let again =
        [&[0x90, 97, 0, 9, 0, 0, 0, 2, 0, 0, 0, 78], &names[..6], &[0xb0, b'm', 0, 9, 0x10, 0]].concat();
    let report = [0x80, 200, 0, 6, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5];
    let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0xff, 0xff];
    let loss = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7];
    let remb = [0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x10, 0, 1, 0, 0, 0, 7];
    let receiver =
        [0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 7, 5, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
    let one = |what, bytes: &[u8]| piece(what, bytes);
    vec![
        [one(0, &rtp), one(0, &picture), one(1, &report), one(3, &[]), one(2, &nack)].concat(),
        [one(0, &picture), one(2, &loss), one(2, &remb), one(2, &receiver), one(3, &[])].concat(),
        [one(SEVERAL, &named), one(0, &named), one(0, &again), one(1, &report), one(2, &loss), one(3, &[])]
            .concat(),
    ]
}

/// Of the first piece of a session: the publisher sends several encodings.
const SEVERAL: u8 = 8;

/// A publisher and a listener, connected, and what they send before it is sealed: 0 RTP of the publisher, 1 its
/// RTCP, 2 RTCP of the listener, 3 time; with 4 added, the numbers of what really flows stand in it. With
/// [`SEVERAL`] added to the first, the publisher sends its picture in several encodings.
pub fn session(bytes: &[u8]) {
    let mut sim = Sim::new(1, 7);
    let several = bytes.first().is_some_and(|what| what & SEVERAL != 0);
    let publish = if several { "chromium_publish_simulcast" } else { "chromium_publish" };
    let publisher = sim.publisher(&offer(publish), 0);
    let listener = sim.listener(&offer("chromium_recvonly"));
    sim.connect();
    sim.sound(publisher, 2);
    match several {
        true => sim.pictures(publisher, &[0, 1, 2], true),
        false => sim.frame(publisher, true, 2, 100),
    }
    let mut sealers = [publisher, listener].map(|peer| sim.peers[peer].sealer());
    for sealer in &mut sealers {
        // The peer has counted too: no index is used twice.
        (0..64).for_each(|_| drop(sealer.seal_rtcp(&[0x80, 200, 0, 1, 0, 0, 0, 0])));
    }
    for (what, piece) in pieces(bytes).take(64) {
        let mut piece = piece.to_vec();
        if what & 4 != 0 {
            let ssrc = sim.peers[listener].egress(Kind::Video).ssrc.to_be_bytes();
            if let Some(at) = piece.get_mut(8..12) {
                at.copy_from_slice(&ssrc);
            }
        }
        match what & 3 {
            0 => {
                let sealed = seal_rtp(&sealers[0], piece);
                sim.peers[publisher].send_raw(sealed);
            }
            // What is shorter cannot be sealed, and comes as it is.
            1 | 2 if piece.len() < 8 => sim.peers[listener].send_raw(piece),
            1 => {
                let sealed = sealers[0].seal_rtcp(&piece);
                sim.peers[publisher].send_raw(sealed);
            }
            2 => {
                let sealed = sealers[1].seal_rtcp(&piece);
                sim.peers[listener].send_raw(sealed);
            }
            _ => sim.run(ms(u64::from(what) * 8)),
        }
    }
    sim.run(ms(40));
}

/// Seals whatever it is as an RTP packet: where its header ends, only the relay's parser says.
fn seal_rtp(sealer: &media::srtp::Sealer, mut packet: Vec<u8>) -> Vec<u8> {
    let length = packet.len();
    let Some(&[_, _, high, low, _, _, _, _, a, b, c, d]) = packet.first_chunk::<12>() else { return packet };
    let header = media::rtp::Header::parse(&packet).map_or(12, |header| header.header_len);
    packet.resize(length + sealer.profile().rtp_overhead(), 0);
    let (ssrc, index) = (u32::from_be_bytes([a, b, c, d]), u64::from(u16::from_be_bytes([high, low])));
    let sealed = sealer.seal_rtp(&mut packet, header, length, ssrc, index);
    packet.truncate(sealed);
    packet
}
