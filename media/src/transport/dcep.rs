//! DCEP, the protocol that opens a data channel (RFC 8832): two messages, read and written. Knows nothing of
//! streams; what a channel is for belongs to others.

/// A DATA_CHANNEL_OPEN (RFC 8832 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// Whether messages may overtake each other.
    pub(super) unordered: bool,
    /// How long a message is tried.
    pub(super) reliability: Reliability,
    /// The name that the page gave the channel.
    pub(super) label: String,
}

/// How long a message of a channel is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reliability {
    /// Until it arrives.
    Full,
    /// So many times after the first.
    Retransmissions(u32),
    /// So many milliseconds.
    Lifetime(u32),
}

/// A DATA_CHANNEL_ACK (RFC 8832 section 5.2).
pub(super) const ACK: [u8; 1] = [0x02];

/// The longest label: more than any page uses.
pub(super) const MAX_LABEL: usize = 256;

impl Open {
    /// Reads one; `None` for anything else, for a channel type that RFC 8832 does not know, and for a label
    /// that is too long or no text.
    pub(super) fn read(message: &[u8]) -> Option<Open> {
        let (header, names) = message.split_at_checked(HEADER)?;
        if header[0] != OPEN {
            return None;
        }
        let parameter = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let reliability = match header[1] & !UNORDERED {
            0 => Reliability::Full,
            1 => Reliability::Retransmissions(parameter),
            2 => Reliability::Lifetime(parameter),
            _ => return None,
        };
        let label = usize::from(u16::from_be_bytes([header[8], header[9]]));
        let protocol = usize::from(u16::from_be_bytes([header[10], header[11]]));
        if label > MAX_LABEL || names.len() != label + protocol {
            return None;
        }
        let label = std::str::from_utf8(&names[..label]).ok()?.to_owned();
        Some(Open { unordered: header[1] & UNORDERED != 0, reliability, label })
    }
}

// RFC 8832 section 5.1.
const OPEN: u8 = 0x03;
const UNORDERED: u8 = 0x80;
const HEADER: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(kind: u8, parameter: u32, label: &[u8], protocol: &[u8]) -> Vec<u8> {
        let mut message = vec![OPEN, kind, 1, 0];
        message.extend(parameter.to_be_bytes());
        message.extend((label.len() as u16).to_be_bytes());
        message.extend((protocol.len() as u16).to_be_bytes());
        message.extend(label);
        message.extend(protocol);
        message
    }

    #[test]
    fn an_open_says_order_reliability_and_name() {
        let read = |kind, parameter| Open::read(&open(kind, parameter, "jäm".as_bytes(), b"sub"));
        let wanted = |unordered, reliability| Some(Open { unordered, reliability, label: "jäm".into() });
        assert_eq!(read(0x00, 0), wanted(false, Reliability::Full));
        assert_eq!(read(0x80, 7), wanted(true, Reliability::Full));
        assert_eq!(read(0x01, 3), wanted(false, Reliability::Retransmissions(3)));
        assert_eq!(read(0x82, 250), wanted(true, Reliability::Lifetime(250)));
        assert_eq!(read(0x03, 0), None);
        assert_eq!(read(0x7f, 0), None);
    }

    #[test]
    fn what_is_short_long_or_no_text_is_none() {
        let good = open(0, 0, b"chat", b"");
        for length in 0..good.len() {
            assert_eq!(Open::read(&good[..length]), None, "{length}");
        }
        let mut long = good;
        long.push(0);
        assert_eq!(Open::read(&long), None);
        assert_eq!(Open::read(&open(0, 0, &[b'x'; MAX_LABEL + 1], b"")), None);
        assert_eq!(Open::read(&open(0, 0, b"\xff\xfe", b"")), None);
        assert_eq!(Open::read(&ACK), None);
    }

    proptest! {
        #[test]
        fn junk_never_panics(message in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(open) = Open::read(&message) {
                assert!(open.label.len() <= MAX_LABEL);
            }
        }
    }
}
