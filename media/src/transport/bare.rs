//! For the fuzzer and the tests: the data channels of a peer without the DTLS around them, behind a handshake
//! made by hand, so that whoever calls says where the numbers begin.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::sctp::Sctp;

/// An association with a peer that writes what it likes.
pub struct Association {
    sctp: Sctp,
    /// What our packets to the relay carry.
    tag: [u8; 4],
    now: Instant,
}

impl Association {
    /// Both sides are connected; the peer's first DATA chunk would be numbered `tsn`.
    ///
    /// # Panics
    ///
    /// When the relay's side does not shake hands as RFC 9260 section 5.1 says.
    pub fn established(tsn: u32, now: Instant) -> Association {
        let mut sctp = Sctp::new(None, now);
        let tag = shake_hands(&mut sctp, tsn, now);
        Association { sctp, tag, now }
    }

    /// The peer sends a packet of these chunks, and then nothing for so long.
    pub fn feed(&mut self, chunks: &[u8], pause: Duration) {
        // What was wrong with it is counted elsewhere.
        let _ = self.sctp.handle_packet(packet(self.tag, chunks), self.now);
        self.now += pause;
        if self.sctp.poll_timeout().is_some_and(|at| at <= self.now) {
            self.sctp.handle_timeout(self.now);
        }
        // As `transport` does: nothing may be left, and nothing may go on for ever.
        assert!(std::iter::from_fn(|| self.sctp.poll_transmit()).take(10_000).count() < 10_000);
        while self.sctp.poll_event().is_some() {}
    }

    /// The relay says something on a channel, if the peer has opened it.
    pub fn say(&mut self, channel: u16, text: &[u8]) {
        let _ = self.sctp.send(channel, text, true, self.now);
    }
}

/// The peer connects, for the first time or anew; gives what its packets have to carry from then on.
pub(super) fn shake_hands(sctp: &mut Sctp, tsn: u32, now: Instant) -> [u8; 4] {
    while sctp.poll_transmit().is_some() {}
    let mut init = b"\x01\0\0\x1e".to_vec();
    // Another tag each time: that is how a peer that began again is told from one that repeats itself.
    init.extend((tsn | 1).to_be_bytes());
    init.extend(b"\0\x10\0\0\x04\0\x04\0");
    init.extend(tsn.to_be_bytes());
    // It speaks FORWARD-TSN and RE-CONFIG.
    init.extend(b"\xc0\0\0\x04\x80\x08\0\x06\xc0\x82\0\0");
    sctp.handle_packet(packet([0; 4], &init), now).expect("an INIT");
    let answer = sctp.poll_transmit().expect("an INIT ACK");
    assert_eq!(answer[12], 2);
    let tag = [answer[16], answer[17], answer[18], answer[19]];
    let mut parameters = &answer[32..];
    let cookie = loop {
        let length = usize::from(u16::from_be_bytes([parameters[2], parameters[3]]));
        let (parameter, rest) = parameters.split_at(length.next_multiple_of(4).min(parameters.len()));
        if parameter[..2] == [0, 7] {
            break &parameter[4..length];
        }
        parameters = rest;
    };
    let echo = [&[10, 0], &(4 + cookie.len() as u16).to_be_bytes()[..], cookie].concat();
    sctp.handle_packet(packet(tag, &echo), now).expect("a COOKIE ECHO");
    assert_eq!(sctp.poll_transmit().expect("a COOKIE ACK")[12], 11);
    tag
}

/// A packet of these chunks, as the relay takes it: without a checksum.
pub(super) fn packet(tag: [u8; 4], chunks: &[u8]) -> Bytes {
    [&[0x13, 0x88, 0x13, 0x88], &tag[..], &[0; 4], chunks].concat().into()
}
