//! The numbers of pictures that stand in a packet, where they stand, and how they are written anew: of VP8
//! (RFC 7741 section 4.2), VP9 (RFC 9628 section 4.2), and the frame number of AV1. Which ones a receiver gets is
//! decided in [`super::numbers`].

/// A picture id: 7 or 15 bits, or the 16 of an AV1 frame number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// As it stands there.
    pub value: u16,
    /// 7, 15 or 16. With 7 it is one octet, else two.
    pub bits: u8,
    /// Its first octet.
    pub at: u8,
}

impl PictureId {
    /// The one that stands there in VP8 and VP9: the first bit says whether it has 15 bits, or 7.
    pub(super) fn read(packet: &[u8], at: usize) -> Option<PictureId> {
        let first = *packet.get(at)?;
        let (value, bits) = match first & 0x80 {
            0 => (u16::from(first), 7),
            _ => (u16::from_be_bytes([first & 0x7f, *packet.get(at + 1)?]), 15),
        };
        Some(PictureId { value, bits, at: at as u8 })
    }

    /// Octets that it takes.
    pub(super) fn len(self) -> usize {
        if self.bits == 7 { 1 } else { 2 }
    }
}

/// A number in one octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// As it stands there.
    pub value: u8,
    /// Its octet.
    pub at: u8,
}

/// The numbers that stand in a packet, and where: in the payload, or in the value of the dependency descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbered {
    /// The same for all packets of a picture.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX, 8 bits: counts the pictures of temporal layer 0.
    pub tl0: Option<Index>,
    /// KEYIDX of VP8, the low 5 bits of its octet: counts keyframes.
    pub key_index: Option<Index>,
}

/// What a receiver gets in their place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Given {
    /// As many bits of it are written as stood there.
    pub picture_id: u16,
    /// For TL0PICIDX.
    pub tl0: u8,
    /// For KEYIDX, below 32.
    pub key_index: u8,
}

impl Numbered {
    /// All octets that [`Numbered::write`] changes.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        let id = self.picture_id.into_iter().flat_map(|id| (usize::from(id.at)..).take(id.len()));
        let indexes = [self.tl0, self.key_index].into_iter().flatten();
        id.chain(indexes.map(|index| usize::from(index.at)))
    }

    /// Writes what is given over what stood in the packet that this was read from. Nothing else changes, and
    /// nothing is written that did not stand there.
    pub fn write(&self, packet: &mut [u8], given: Given) {
        let mut write = |at: usize, keep: u8, octet: u8| {
            if let Some(place) = packet.get_mut(at) {
                *place = *place & keep | octet & !keep;
            }
        };
        if let Some(PictureId { bits, at, .. }) = self.picture_id {
            let (at, [high, low]) = (usize::from(at), given.picture_id.to_be_bytes());
            match bits {
                // The first bit says how long it is.
                7 => write(at, 0x80, low),
                15 => {
                    write(at, 0x80, high);
                    write(at + 1, 0, low);
                }
                _ => {
                    write(at, 0, high);
                    write(at + 1, 0, low);
                }
            }
        }
        if let Some(Index { at, .. }) = self.tl0 {
            write(usize::from(at), 0, given.tl0);
        }
        if let Some(Index { at, .. }) = self.key_index {
            write(usize::from(at), !KEY_INDEX, given.key_index);
        }
    }
}

/// KEYIDX.
pub(super) const KEY_INDEX: u8 = 0x1f;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_and_nothing_else_changes(
            mut octets in proptest::collection::vec(any::<u8>(), 0..12),
            (id, tl0, key_index) in (any::<u16>(), any::<u8>(), 0..32_u8),
            (at, bits, tl0_at, key_at) in (0..8_u8, 0..3_usize, 8..10_u8, 10..12_u8),
        ) {
            let bits = [7, 15, 16][bits];
            let numbered = Numbered {
                picture_id: Some(PictureId { value: 0, bits, at }),
                tl0: Some(Index { value: 0, at: tl0_at }),
                key_index: Some(Index { value: 0, at: key_at }),
            };
            let before = octets.clone();
            numbered.write(&mut octets, Given { picture_id: id, tl0, key_index });
            let places: Vec<usize> = numbered.places().collect();
            for (at, (old, new)) in before.iter().zip(&octets).enumerate() {
                prop_assert!(old == new || places.contains(&at));
            }
            if octets.len() == 12 {
                let pair = u16::from_be_bytes([octets[usize::from(at)], octets[usize::from(at) + 1]]);
                let old = u16::from_be_bytes([before[usize::from(at)], before[usize::from(at) + 1]]);
                let expected = match bits {
                    7 => old & 0x80ff | (id & 0x7f) << 8,
                    15 => old & 0x8000 | id & 0x7fff,
                    _ => id,
                };
                prop_assert_eq!(pair, expected);
                prop_assert_eq!(octets[usize::from(tl0_at)], tl0);
                prop_assert_eq!(octets[usize::from(key_at)] & 0x1f, key_index);
                prop_assert_eq!(octets[usize::from(key_at)] & 0xe0, before[usize::from(key_at)] & 0xe0);
            }
        }
    }
}
