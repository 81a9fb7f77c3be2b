//! The header of an RTP packet as it comes from outside (RFC 3550 section 5.1, extensions RFC 8285): a total
//! parser. What is in the payload is the business of others.

use thiserror::Error;

/// Why bytes are not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RtpError {
    /// Shorter than its own header says.
    #[error("packet is shorter than its header")]
    Short,
    /// Not version 2.
    #[error("not rtp version 2")]
    Version,
    /// The padding count is 0 or longer than the payload.
    #[error("padding is longer than the payload")]
    Padding,
}

/// The header of an RTP packet; the offsets are checked against the packet it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Padding octets end the payload (known only after decryption).
    pub padding: bool,
    /// The marker bit: the last packet of a video frame.
    pub marker: bool,
    /// 7 bits.
    pub payload_type: u8,
    /// 16 bits, wraps around.
    pub sequence: u16,
    /// In units of the codec's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
    /// Fixed header, CSRCs and extension together: where the payload starts.
    pub header_len: usize,
    extension: Option<Extension>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extension {
    two_byte: bool,
    start: usize,
    end: usize,
}

/// Octets of a header without CSRCs and extension.
pub const FIXED_LEN: usize = 12;
/// RFC 8285 section 4.2.
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// RFC 8285 section 4.3.
const TWO_BYTE_PROFILE: u16 = 0x1000;

impl Header {
    /// Reads the header of `packet`, sealed or plain.
    ///
    /// # Errors
    ///
    /// [`RtpError::Short`] and [`RtpError::Version`]: it is no RTP.
    pub fn parse(packet: &[u8]) -> Result<Header, RtpError> {
        let Some(fixed) = packet.first_chunk::<FIXED_LEN>() else { return Err(RtpError::Short) };
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let mut header_len = FIXED_LEN + 4 * usize::from(fixed[0] & 0x0f);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let head = packet.get(header_len..header_len + 4).ok_or(RtpError::Short)?;
            let profile = u16::from_be_bytes([head[0], head[1]]);
            let start = header_len + 4;
            let end = start + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            // RFC 8285 section 4.3: the low four bits of a two-byte profile are the application's.
            let two_byte = profile & 0xfff0 == TWO_BYTE_PROFILE;
            if two_byte || profile == ONE_BYTE_PROFILE {
                extension = Some(Extension { two_byte, start, end });
            }
            header_len = end;
        }
        if packet.len() < header_len {
            return Err(RtpError::Short);
        }
        Ok(Header {
            padding: fixed[0] & 0x20 != 0,
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            header_len,
            extension,
        })
    }

    /// The header extensions of the packet this header was read from.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        match self.extension {
            Some(Extension { two_byte, start, end }) => {
                Extensions { rest: packet.get(start..end).unwrap_or_default(), two_byte }
            }
            None => Extensions { rest: &[], two_byte: false },
        }
    }

    /// The length of a decrypted payload without its padding.
    ///
    /// # Errors
    ///
    /// [`RtpError::Padding`].
    pub fn payload_len(&self, payload: &[u8]) -> Result<usize, RtpError> {
        if !self.padding {
            return Ok(payload.len());
        }
        let padding = usize::from(*payload.last().ok_or(RtpError::Padding)?);
        match payload.len().checked_sub(padding) {
            Some(len) if padding > 0 => Ok(len),
            _ => Err(RtpError::Padding),
        }
    }
}

/// Iterates over (id, value); stops at the first element that does not fit.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        while let [0, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let (id, len, rest) = match (self.two_byte, self.rest) {
            (true, [id, len, rest @ ..]) => (*id, usize::from(*len), rest),
            // id 15 is reserved and ends the list (RFC 8285 section 4.2)
            (false, [head, rest @ ..]) if head >> 4 != 15 => (head >> 4, usize::from(head & 0x0f) + 1, rest),
            _ => {
                self.rest = &[];
                return None;
            }
        };
        if rest.len() < len {
            self.rest = &[];
            return None;
        }
        let (value, rest) = rest.split_at(len);
        self.rest = rest;
        Some((id, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_byte_and_two_byte_extensions_are_read() {
        let mut packet = vec![0x90, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend([0xbe, 0xde, 0, 2, 0x10, 0xaa, 0, 0x31, 1, 2, 0, 0, 9]);
        let header = Header::parse(&packet).expect("valid");
        let all: Vec<_> = header.extensions(&packet).collect();
        assert_eq!(all, [(1, &[0xaa][..]), (3, &[1, 2][..])]);
        assert_eq!(packet[header.header_len..], [9]);

        let mut packet = vec![0x90, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend([0x10, 0x00, 0, 2, 20, 1, 7, 0, 21, 0, 0, 0]);
        let header = Header::parse(&packet).expect("valid");
        let all: Vec<_> = header.extensions(&packet).collect();
        assert_eq!(all, [(20, &[7][..]), (21, &[][..])]);
    }

    #[test]
    fn an_extension_longer_than_the_packet_is_refused() {
        let packet = [0x90, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xbe, 0xde, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(Header::parse(&packet), Err(RtpError::Short));
        let csrcs = [0x8f, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        assert_eq!(Header::parse(&csrcs), Err(RtpError::Short));
    }

    #[test]
    fn padding_longer_than_the_payload_is_refused() {
        let header = Header::parse(&[0xa0, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]).expect("valid");
        assert_eq!(header.payload_len(&[1, 2, 255]), Err(RtpError::Padding));
        assert_eq!(header.payload_len(&[1, 2, 0]), Err(RtpError::Padding));
        assert_eq!(header.payload_len(&[]), Err(RtpError::Padding));
        assert_eq!(header.payload_len(&[7, 0, 2]), Ok(1));
    }

    proptest! {
        #[test]
        fn parsing_junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(header) = Header::parse(&junk) {
                prop_assert!(header.header_len <= junk.len());
                header.extensions(&junk).for_each(drop);
                let _ = header.payload_len(&junk[header.header_len..]);
            }
        }
    }
}
