//! RTP packets as this crate writes and reads them (RFC 3550, RFC 8285): the header alone, which SRTP leaves in the
//! clear. Total on any bytes.

/// Bytes of a header without extensions.
const FIXED: usize = 12;
/// The profile of one-byte extensions (RFC 8285 section 4.2).
const ONE_BYTE: [u8; 2] = [0xbe, 0xde];

/// What a packet says of itself before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Which codec.
    pub payload_type: u8,
    /// The last packet of a picture, or the first of a talkspurt.
    pub marker: bool,
    /// Counts packets.
    pub number: u16,
    /// Counts ticks of the media clock.
    pub timestamp: u32,
    /// Whose packet it is.
    pub ssrc: u32,
}

/// A packet that was read: its header and where the parts of it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// Its header.
    pub header: RtpHeader,
    /// The one-byte header extensions; empty without any.
    extensions: &'a [u8],
    /// What follows the header: sealed, unless it was opened.
    pub payload: &'a [u8],
}

impl RtpHeader {
    /// A packet with these one-byte extensions (id 1 to 14, 1 to 16 bytes each) and payload. What is no such extension
    /// is left out.
    pub fn write(&self, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(FIXED + 4 + extensions.len() * 20 + payload.len());
        packet.extend([0x80, self.payload_type & 0x7f | u8::from(self.marker) << 7]);
        packet.extend(self.number.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        let mut written = Vec::new();
        for (id, value) in extensions {
            if (1..=14).contains(id) && (1..=16).contains(&value.len()) {
                written.push(id << 4 | (value.len() - 1) as u8);
                written.extend_from_slice(value);
            }
        }
        if !written.is_empty() {
            written.resize(written.len().next_multiple_of(4), 0);
            packet[0] |= 0x10;
            packet.extend(ONE_BYTE);
            packet.extend((written.len() as u16 / 4).to_be_bytes());
            packet.extend(written);
        }
        packet.extend_from_slice(payload);
        packet
    }
}

impl<'a> RtpPacket<'a> {
    /// Reads a packet; `None` if it is none.
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let header = RtpHeader {
            payload_type: fixed[1] & 0x7f,
            marker: fixed[1] & 0x80 != 0,
            number: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        };
        let mut rest = rest.get(usize::from(fixed[0] & 0x0f) * 4..)?;
        let mut extensions = &[][..];
        if fixed[0] & 0x10 != 0 {
            let (head, after) = rest.split_first_chunk::<4>()?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
            let (found, payload) = after.split_at_checked(length)?;
            if head[..2] == ONE_BYTE {
                extensions = found;
            }
            rest = payload;
        }
        Some(RtpPacket { header, extensions, payload: rest })
    }

    /// The value of the one-byte extension with this id.
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        let mut rest = self.extensions;
        while let Some((&head, after)) = rest.split_first() {
            // Padding between extensions; 15 ends them (RFC 8285 section 4.2).
            if head == 0 {
                rest = after;
                continue;
            }
            if head >> 4 == 15 {
                return None;
            }
            let (value, after) = after.split_at_checked(usize::from(head & 0x0f) + 1)?;
            if head >> 4 == id {
                return Some(value);
            }
            rest = after;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: RtpHeader =
        RtpHeader { payload_type: 96, marker: true, number: 65_535, timestamp: 7, ssrc: 0xdead_beef };

    #[test]
    fn what_is_written_is_read() {
        let packet = HEADER.write(&[(4, b"1"), (10, b"high"), (15, b"no"), (3, b"")], b"picture");
        let read = RtpPacket::read(&packet).unwrap();
        assert_eq!((read.header, read.payload), (HEADER, &b"picture"[..]));
        assert_eq!((read.extension(4), read.extension(10)), (Some(&b"1"[..]), Some(&b"high"[..])));
        assert_eq!((read.extension(15), read.extension(3), read.extension(1)), (None, None, None));
    }

    #[test]
    fn without_extensions_there_is_no_room_for_them() {
        let packet = HEADER.write(&[], b"x");
        assert_eq!(packet.len(), FIXED + 1);
        assert_eq!(RtpPacket::read(&packet).unwrap().payload, b"x");
        assert_eq!(RtpPacket::read(&packet[..11]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), id in 0_u8..16) {
            if let Some(packet) = RtpPacket::read(&bytes) {
                let _ = packet.extension(id);
            }
        }
    }
}
