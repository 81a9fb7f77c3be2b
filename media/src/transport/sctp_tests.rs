use super::super::bare;
use super::*;

/// A peer that connects by the book and then writes what it likes.
struct Rogue {
    tag: [u8; 4],
    tsn: u32,
}

impl Rogue {
    fn connect(sctp: &mut Sctp, tsn: u32, now: Instant) -> Rogue {
        Rogue { tag: bare::shake_hands(sctp, tsn, now), tsn }
    }

    fn packet(&self, chunks: &[u8]) -> Bytes {
        bare::packet(self.tag, chunks)
    }

    fn data(&mut self, stream: u16, flags: u8, number: u16, kind: PpId, payload: &[u8]) -> Bytes {
        let mut chunk = vec![0, flags];
        chunk.extend((16 + payload.len() as u16).to_be_bytes());
        chunk.extend(self.tsn.to_be_bytes());
        chunk.extend(stream.to_be_bytes());
        chunk.extend(number.to_be_bytes());
        chunk.extend(kind.0.to_be_bytes());
        chunk.extend(payload);
        self.tsn = self.tsn.wrapping_add(1);
        self.packet(&chunk)
    }

    /// A message in one chunk.
    fn whole(&mut self, stream: u16, number: u16, kind: PpId, payload: &[u8]) -> Bytes {
        self.data(stream, 3, number, kind, payload)
    }
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
fn pair_from(tsn: u32) -> (Sctp, Rogue, Instant) {
    let now = Instant::now();
    let mut sctp = Sctp::new(None, now);
    let rogue = Rogue::connect(&mut sctp, tsn, now);
    (sctp, rogue, now)
}

fn pair() -> (Sctp, Rogue, Instant) {
    pair_from(1000)
}

const OPEN_CHAT: &[u8] = b"\x03\0\0\0\0\0\0\0\0\x04\0\0chat";

/// Whether a channel can still be opened and talked on.
fn works(sctp: &mut Sctp, rogue: &mut Rogue, now: Instant) -> bool {
    while sctp.poll_event().is_some() {}
    let open = rogue.whole(99, 0, DCEP, OPEN_CHAT);
    let hello = rogue.whole(99, 1, STRING, b"hello");
    let _ = sctp.handle_packet(open, now);
    let _ = sctp.handle_packet(hello, now);
    let events: Vec<_> = std::iter::from_fn(|| sctp.poll_event()).collect();
    events
        == [
            SctpEvent::Open { channel: 99, label: "chat".into() },
            SctpEvent::Message { channel: 99, data: Bytes::from_static(b"hello"), binary: false },
        ]
}

#[test]
fn chunks_with_false_lengths_are_counted_and_hurt_nobody() {
    // An error cause longer than its chunk, of every chunk that has causes or parameters inside.
    for kind in [1u8, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 64, 128, 130, 132, 192, 193, 194, 255] {
        for inner in [&b"\0\x01\x55\x55"[..], b"\0\0\0\0", b"\xff\xff\0\x03", b"\0\x0d\0\x05", b""] {
            for length in [0u16, 3, 4, 5, 8, 12, 16, 20, 0xffff] {
                let (mut sctp, rogue, now) = pair();
                let mut chunk = vec![kind, 0];
                chunk.extend(length.to_be_bytes());
                chunk.extend(inner);
                for length in 4..=chunk.len() {
                    let _ = sctp.handle_packet(rogue.packet(&chunk[..length]), now);
                }
                while sctp.poll_transmit().is_some() {}
            }
        }
    }
    let (mut sctp, mut rogue, now) = pair();
    let error = rogue.packet(b"\x09\0\0\x08\0\x01\x55\x55");
    assert_eq!(sctp.handle_packet(error, now), Err(DropReason::SctpMalformed));
    assert!(works(&mut sctp, &mut rogue, now));
}

#[test]
fn an_open_that_is_none_closes_its_channel_only() {
    for junk in [&b"\x03"[..], b"\x02", b"\0", b"\xff", &OPEN_CHAT[..11], &OPEN_CHAT[..15]] {
        let (mut sctp, mut rogue, now) = pair();
        let packet = rogue.whole(7, 0, DCEP, junk);
        assert_eq!(sctp.handle_packet(packet, now), Ok(()));
        assert_eq!(sctp.poll_event(), None, "{junk:?}");
        assert!(works(&mut sctp, &mut rogue, now), "{junk:?}");
    }
}

#[test]
fn numbers_wrap() {
    // The stream's numbers wrap after 65,536 messages, the association's after a hundred.
    let (mut sctp, mut rogue, now) = pair_from(u32::MAX - 100);
    let open = rogue.whole(1, 0, DCEP, OPEN_CHAT);
    sctp.handle_packet(open, now).unwrap();
    for n in 1..66_000u32 {
        let packet = rogue.whole(1, n as u16, BINARY, &n.to_be_bytes());
        sctp.handle_packet(packet, now).unwrap();
        while sctp.poll_transmit().is_some() {}
    }
    let messages = std::iter::from_fn(|| sctp.poll_event()).skip(1);
    let numbers: Vec<u32> = messages
        .map(|event| match event {
            SctpEvent::Message { data, .. } => u32::from_be_bytes(data[..].try_into().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, (1..66_000).collect::<Vec<_>>());
}

#[test]
fn acknowledgements_of_what_was_never_sent_hurt_nobody() {
    for ack in [0u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff] {
        let (mut sctp, mut rogue, now) = pair();
        let mut sack = vec![3, 0, 0, 24];
        sack.extend(ack.to_be_bytes());
        sack.extend(b"\0\x10\0\0\0\x01\0\x01\xff\xff\0\x01\0\0\0\0");
        let _ = sctp.handle_packet(rogue.packet(&sack), now);
        let mut forward = vec![192, 0, 0, 12];
        forward.extend(ack.to_be_bytes());
        forward.extend(b"\0\x01\xff\xff");
        let _ = sctp.handle_packet(rogue.packet(&forward), now);
        sctp.handle_timeout(now + Duration::from_secs(1));
        let _ = works(&mut sctp, &mut rogue, now + Duration::from_secs(1));
    }
}

#[test]
fn what_never_becomes_a_message_is_bounded() {
    // A message without an end, messages behind one that never comes, and the same in crumbs of one octet.
    type Next = fn(&mut Rogue, u16) -> Bytes;
    let behind: Next = |rogue, n| rogue.data(7, 3, 1 + n % 30_000, BINARY, &[7; 1000]);
    let tiny: Next = |rogue, n| rogue.data(7, 3, 1 + n % 30_000, BINARY, &[7]);
    let many: Next = |rogue, n| rogue.data(n % 1000, 2, 0, BINARY, &[7; 1000]);
    for (next, most) in [(behind, 5_000_000), (tiny, 50_000), (many, 5_000_000)] {
        let (mut sctp, mut rogue, now) = pair();
        let mut octets = 0;
        for n in 0.. {
            let packet = next(&mut rogue, n);
            octets += packet.len() - 28;
            if sctp.handle_packet(packet, now) == Err(DropReason::SctpUnfinished) {
                break;
            }
            while sctp.poll_transmit().is_some() {}
            assert!(octets < most, "{octets} octets and no end");
        }
        assert!(sctp.socket.is_none());
        assert_eq!(sctp.poll_timeout(), None);
    }
}

#[test]
fn an_endless_message_costs_its_channel() {
    let (mut sctp, mut rogue, now) = pair();
    let open = rogue.whole(7, 0, DCEP, OPEN_CHAT);
    sctp.handle_packet(open, now).unwrap();
    for n in 0..20_000u32 {
        let packet = rogue.data(7, if n == 0 { 2 } else { 0 }, 1, BINARY, &[7; 1000]);
        sctp.handle_packet(packet, now).unwrap();
        while sctp.poll_transmit().is_some() {}
    }
    let events: Vec<_> = std::iter::from_fn(|| sctp.poll_event()).skip(1).collect();
    assert_eq!(events, [SctpEvent::Closed { channel: 7 }]);
    assert!(works(&mut sctp, &mut rogue, now));
}

#[test]
fn streams_that_were_not_negotiated_make_nothing() {
    let (mut sctp, mut rogue, now) = pair();
    for stream in MAX_STREAMS..u16::MAX {
        let packet = rogue.data(stream, 2, 0, BINARY, &[7; 10]);
        rogue.tsn = rogue.tsn.wrapping_sub(1);
        assert_eq!(sctp.handle_packet(packet, now), Err(DropReason::SctpStream));
    }
    assert!(sctp.unfinished.is_empty());
    assert!(works(&mut sctp, &mut rogue, now));
}

#[test]
fn a_peer_that_aborts_or_begins_again_is_heard_again() {
    let (mut sctp, mut rogue, now) = pair();
    assert!(works(&mut sctp, &mut rogue, now));
    let abort = rogue.packet(b"\x06\0\0\x04");
    sctp.handle_packet(abort, now).unwrap();
    assert_eq!(sctp.poll_event(), Some(SctpEvent::Closed { channel: 99 }));
    let mut rogue = Rogue::connect(&mut sctp, 50, now);
    assert!(works(&mut sctp, &mut rogue, now));
    // And without an ABORT: a page that was reloaded behind the same session.
    let mut rogue = Rogue::connect(&mut sctp, 90, now);
    assert_eq!(sctp.poll_event(), Some(SctpEvent::Closed { channel: 99 }));
    assert!(works(&mut sctp, &mut rogue, now));
}
