//! Reads the SRTP profiles a DTLS client offers from its reassembled ClientHello. Total and bounded: it
//! takes bytes nobody has authenticated.

/// Numbers of the offered SRTP profiles, in the client's order; empty when there are none or the message is
/// broken. `body` is the ClientHello without its handshake header (RFC 5246 section 7.4.1.2, with the
/// cookie of RFC 6347 section 4.2.1).
pub(super) fn srtp_profiles(body: &[u8]) -> Vec<u16> {
    use_srtp(body)
        .and_then(|mut extension| extension.prefixed16())
        .map(|profiles| {
            profiles.0.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
        })
        .unwrap_or_default()
}

fn use_srtp(body: &[u8]) -> Option<Bytes<'_>> {
    let mut hello = Bytes(body);
    hello.take(VERSION_LEN + RANDOM_LEN)?;
    hello.prefixed8()?; // session id
    hello.prefixed8()?; // cookie
    hello.prefixed16()?; // cipher suites
    hello.prefixed8()?; // compression methods
    let mut extensions = hello.prefixed16()?;
    loop {
        let number = extensions.number()?;
        let extension = extensions.prefixed16()?;
        if number == USE_SRTP {
            return Some(extension);
        }
    }
}

/// What is left of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    fn prefixed8(&mut self) -> Option<Bytes<'a>> {
        let n = usize::from(self.take(1)?[0]);
        self.take(n).map(Bytes)
    }

    fn prefixed16(&mut self) -> Option<Bytes<'a>> {
        let n = usize::from(self.number()?);
        self.take(n).map(Bytes)
    }
}

const VERSION_LEN: usize = 2;
const RANDOM_LEN: usize = 32;
/// RFC 5764 section 4.1.1.
const USE_SRTP: u16 = 14;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(profiles: &[u16]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 2, 9, 9, 0, 2, 0xc0, 0x2b, 1, 0]);
        let mut extensions = vec![0, 23, 0, 0, 0, 14];
        extensions.extend((profiles.len() as u16 * 2 + 3).to_be_bytes());
        extensions.extend((profiles.len() as u16 * 2).to_be_bytes());
        extensions.extend(profiles.iter().flat_map(|p| p.to_be_bytes()));
        extensions.push(0);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    #[test]
    fn profiles_come_in_the_clients_order() {
        assert_eq!(srtp_profiles(&hello(&[1, 7, 8])), [1, 7, 8]);
        assert!(srtp_profiles(&hello(&[])).is_empty());
    }

    #[test]
    fn a_cut_hello_offers_nothing() {
        let whole = hello(&[7]);
        for n in 0..whole.len() {
            assert!(srtp_profiles(&whole[..n]).is_empty(), "cut at {n}");
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(body in proptest::collection::vec(any::<u8>(), 0..600)) {
            srtp_profiles(&body);
        }
    }
}
