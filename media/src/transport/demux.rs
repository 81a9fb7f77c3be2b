//! Tells apart what shares the media port (RFC 7983), by the first bytes of a datagram. Owns no state.

/// What a datagram is, before anyone has looked inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// STUN (RFC 8489).
    Stun,
    /// DTLS records.
    Dtls,
    /// RTP or SRTP.
    Rtp,
    /// RTCP or SRTCP (RFC 5761).
    Rtcp,
    /// None of them, also an empty datagram.
    Other,
}

/// Classifies a datagram.
pub fn classify(data: &[u8]) -> Kind {
    match *data {
        [0..=3, ..] => Kind::Stun,
        [20..=63, ..] => Kind::Dtls,
        // RFC 5761 section 4: payload types 64 to 95 are not used for RTP here, so these are RTCP.
        [128..=191, 192..=223, ..] => Kind::Rtcp,
        [128..=191, _, ..] => Kind::Rtp,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide() {
        assert_eq!(classify(&[0, 1]), Kind::Stun);
        assert_eq!(classify(&[22]), Kind::Dtls);
        assert_eq!(classify(&[0x80, 111]), Kind::Rtp);
        assert_eq!(classify(&[0x80, 111 | 0x80]), Kind::Rtp);
        assert_eq!(classify(&[0x80, 200]), Kind::Rtcp);
        assert_eq!(classify(&[0x81, 206]), Kind::Rtcp);
        assert_eq!(classify(&[0x80]), Kind::Other);
        assert_eq!(classify(&[64, 0]), Kind::Other);
        assert_eq!(classify(&[]), Kind::Other);
    }
}
