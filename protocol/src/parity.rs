//! Parity on links: how much of it the receiving side of a link asks for, and what stands in a parity datagram. A parity
//! is the exclusive or of the datagrams of a group (as in RFC 8627), so that one of them that was lost comes back
//! without being asked for. Who asks, who sends and who rebuilds is elsewhere.

use bytes::BufMut;
use serde::{Deserialize, Serialize};

/// In how many groups each datagram of a track is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cover {
    /// In none.
    #[default]
    None,
    /// In one: of sound a parity for each four, of pictures one for each ten.
    Once,
    /// In two: of sound a parity for each two, over four of the last five. Pictures have no more than one.
    Twice,
}

/// What the receiving side of a link asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Protection {
    /// For sound.
    pub audio: Cover,
    /// For pictures: the base of each, or all there is of it.
    pub video: Cover,
}

impl Protection {
    /// Nothing is asked for.
    pub const NONE: Protection = Protection { audio: Cover::None, video: Cover::None };
}

/// The datagrams of one alias that a parity is of, by link sequence: bit `i` stands for `first + i`, and bit 0 is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The first link sequence.
    pub first: u16,
    /// Which of those from there on.
    pub bits: u16,
}

impl Group {
    /// Link sequences from the first to the last, at most.
    pub const SPAN: u16 = 16;

    /// Its link sequences, in order.
    pub fn sequences(self) -> impl Iterator<Item = u16> + Clone {
        (0..Group::SPAN).filter(move |i| self.bits >> i & 1 == 1).map(move |i| self.first.wrapping_add(i))
    }
}

/// The head of a parity datagram, behind the datagram header, whose link sequence is the first of the group. The
/// exclusive or of what stands behind the headers follows; a shorter one counts as filled up with zeros.
///
/// ```text
///  0                   1                   2                   3                   4
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9
/// +-------------------------------+---------------+-------------------------------+
/// |        bits of the group      | epoch, kind   |             length            |
/// +-------------------------------+---------------+-------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parity {
    /// Which datagrams.
    pub group: Group,
    /// The exclusive or of the first octets of their headers.
    pub flags: u8,
    /// The exclusive or of the lengths of what stands behind their headers.
    pub length: u16,
}

impl Parity {
    /// Its length on the wire.
    pub const LEN: usize = 5;

    /// Appends it to `out`.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u16(self.group.bits);
        out.put_u8(self.flags);
        out.put_u16(self.length);
    }

    /// Splits what follows the header of a parity datagram into head and body; `None` if it is too short, or of a group
    /// without its first.
    pub fn split(first: u16, payload: &[u8]) -> Option<(Parity, &[u8])> {
        let (&[b0, b1, flags, l0, l1], body) = payload.split_first_chunk()?;
        let group = Group { first, bits: u16::from_be_bytes([b0, b1]) };
        let parity = Parity { group, flags, length: u16::from_be_bytes([l0, l1]) };
        (group.bits & 1 == 1).then_some((parity, body))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_group_names_its_sequences_across_the_wrap() {
        let group = Group { first: 65_534, bits: 0b1_1011 };
        assert_eq!(group.sequences().collect::<Vec<_>>(), [65_534, 65_535, 1, 2]);
    }

    proptest! {
        #[test]
        fn a_parity_reads_back_as_written(first: u16, bits: u16, flags: u8, length: u16, body: Vec<u8>) {
            let parity = Parity { group: Group { first, bits: bits | 1 }, flags, length };
            let mut bytes = Vec::new();
            parity.write(&mut bytes);
            prop_assert_eq!(bytes.len(), Parity::LEN);
            bytes.extend(&body);
            prop_assert_eq!(Parity::split(first, &bytes), Some((parity, &body[..])));
        }

        #[test]
        fn no_bytes_make_a_group_without_its_first(first: u16, bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            match Parity::split(first, &bytes) {
                Some((parity, body)) => {
                    prop_assert_eq!(parity.group.sequences().next(), Some(first));
                    prop_assert_eq!(body.len() + Parity::LEN, bytes.len());
                }
                None => prop_assert!(bytes.len() < Parity::LEN || bytes[1] & 1 == 0),
            }
        }
    }
}
