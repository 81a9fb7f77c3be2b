//! The header extensions that the relay writes (RFC 8285).

use bytes::BufMut;

/// A block of one-byte header extensions (RFC 8285 section 4.2); empty if there are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Elements {
    octets: [u8; MAX_ELEMENTS],
    len: usize,
}

/// What stands before one-byte elements.
const ONE_BYTE: u16 = 0xbede;
/// Two elements of one octet and one of two.
const MAX_ELEMENTS: usize = 8;
/// The longest block, with its head.
pub const MAX_EXTENSION_LEN: usize = 4 + MAX_ELEMENTS;

impl Elements {
    /// Adds an element; an id of 0 is none that was negotiated.
    pub fn push(&mut self, id: u8, value: &[u8]) {
        let Some(place) = self.octets.get_mut(self.len..=self.len + value.len()).filter(|_| id > 0) else {
            return;
        };
        let Some((head, rest)) = place.split_first_mut() else { return };
        *head = id << 4 | (value.len() as u8).wrapping_sub(1) & 0x0f;
        rest.copy_from_slice(value);
        self.len += 1 + value.len();
    }

    /// Octets of the block with its head, in whole words.
    pub fn block_len(self) -> usize {
        if self.len == 0 { 0 } else { 4 + self.len.next_multiple_of(4) }
    }

    /// Appends the block to `out`: [`Elements::block_len`] octets.
    pub fn write(&self, out: &mut impl BufMut) {
        if self.len > 0 {
            let len = self.len.next_multiple_of(4);
            out.put_u16(ONE_BYTE);
            out.put_u16((len / 4) as u16);
            out.put_slice(&self.octets[..len]);
        }
    }
}
