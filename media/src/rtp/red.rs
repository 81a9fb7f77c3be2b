//! RED (RFC 2198): a packet of sound that carries some of those before it as well. Reads and writes the blocks; which
//! packets they are of is the business of others.

/// A packet before, as a later one carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// What the packet had, 7 bits.
    pub payload_type: u8,
    /// By so much its timestamp is less.
    pub offset: u16,
    /// All of it.
    pub payload: &'a [u8],
}

/// The payload of a RED packet, taken apart.
#[derive(Debug, Clone)]
pub struct Red<'a> {
    /// What the packet is itself.
    pub payload_type: u8,
    /// Never empty.
    pub primary: &'a [u8],
    heads: &'a [u8],
    copies: &'a [u8],
}

/// Octets of the head of a copy; that of the packet itself is one.
const HEAD: usize = 4;
/// The largest offset that 14 bits say: 341 ms at 48 kHz.
const MAX_OFFSET: u16 = (1 << 14) - 1;
/// The longest block that 10 bits say.
const MAX_BLOCK: usize = (1 << 10) - 1;
/// More copies than any sender makes.
const MAX_COPIES: usize = 32;

impl<'a> Red<'a> {
    /// Takes a payload apart; `None` if the blocks are longer than it is, are too many, or the packet itself is empty.
    pub fn parse(payload: &'a [u8]) -> Option<Red<'a>> {
        let mut octets = 0;
        for copies in 0..=MAX_COPIES {
            let (heads, rest) = payload.split_at_checked(HEAD * copies)?;
            let (first, blocks) = rest.split_first()?;
            if first & 0x80 == 0 {
                let (copies, primary) = blocks.split_at_checked(octets)?;
                let red = Red { payload_type: first & 0x7f, primary, heads, copies };
                return Some(red).filter(|red| !red.primary.is_empty());
            }
            let (_, len) = offset_and_len(rest.first_chunk()?);
            octets += len;
        }
        None
    }

    /// The packets before that it carries, the oldest first, if its sender keeps to the order.
    pub fn copies(&self) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let mut rest = self.copies;
        self.heads.as_chunks::<HEAD>().0.iter().filter_map(move |head| {
            let (offset, len) = offset_and_len(head);
            let (payload, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(Block { payload_type: head[0] & 0x7f, offset, payload })
        })
    }
}

impl Block<'_> {
    /// Whether it can be said.
    pub fn fits(&self) -> bool {
        (1..=MAX_OFFSET).contains(&self.offset) && (1..=MAX_BLOCK).contains(&self.payload.len())
    }

    fn head(&self) -> [u8; HEAD] {
        let word = u32::from(self.offset) << 10 | self.payload.len() as u32;
        let [_, high, middle, low] = word.to_be_bytes();
        [0x80 | self.payload_type, high, middle, low]
    }
}

/// Octets that these copies take, before the packet itself.
pub fn octets<'a>(copies: impl Iterator<Item = Block<'a>>) -> usize {
    copies.map(|copy| HEAD + copy.payload.len()).sum::<usize>() + 1
}

/// Writes these copies, the oldest first, to `out`, which is as long as [`octets`] says; the packet itself, which is of
/// this payload type, goes behind. Each has to fit.
pub fn write<'a>(copies: impl Iterator<Item = Block<'a>> + Clone, payload_type: u8, out: &mut [u8]) {
    let mut at = 0;
    let mut put = |octets: &[u8]| {
        out[at..at + octets.len()].copy_from_slice(octets);
        at += octets.len();
    };
    copies.clone().for_each(|copy| put(&copy.head()));
    put(&[payload_type]);
    copies.for_each(|copy| put(copy.payload));
}

fn offset_and_len(head: &[u8; HEAD]) -> (u16, usize) {
    let word = u32::from_be_bytes(*head);
    ((word >> 10) as u16 & MAX_OFFSET, word as usize & MAX_BLOCK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(copies: &[Block<'_>], primary: &[u8]) -> Vec<u8> {
        let mut out = vec![0; octets(copies.iter().copied())];
        write(copies.iter().copied(), 111, &mut out);
        out.extend_from_slice(primary);
        out
    }

    #[test]
    fn the_blocks_are_those_of_the_rfc() {
        let copies = [
            Block { payload_type: 111, offset: 1920, payload: &[1, 2, 3] },
            Block { payload_type: 111, offset: 960, payload: &[4, 5] },
        ];
        let expected = [0xef, 0x1e, 0x00, 0x03, 0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(written(&copies, &[6, 7]), expected);
        let red = Red::parse(&expected).expect("whole");
        assert_eq!((red.payload_type, red.primary), (111, &[6, 7][..]));
        assert_eq!(red.copies().collect::<Vec<_>>(), copies);
        let alone = Red::parse(&[0x6f, 9]).expect("no copies");
        assert_eq!((alone.primary, alone.copies().count()), (&[9][..], 0));
    }

    #[test]
    fn what_is_longer_than_it_is_or_never_ends_is_refused() {
        let good = [0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 2, 6, 7];
        assert!((0..8).all(|len| Red::parse(&good[..len]).is_none()), "the packet itself is empty or cut");
        assert!(Red::parse(&[0xef, 0x0f, 0x03, 0xff, 0x6f, 1, 2, 6, 7]).is_none(), "a block of 1023");
        assert!(Red::parse(&[0xff; 1500]).is_none(), "heads without end");
        assert!(Red::parse(&[0x80, 0, 0, 0].repeat(300)).is_none(), "heads of nothing without end");
    }

    #[test]
    fn what_cannot_be_said_does_not_fit() {
        let block = |offset, len| Block { payload_type: 111, offset, payload: &[7; 2000][..len] }.fits();
        assert!(block(1, 1) && block(16_383, 1023));
        assert!(!block(0, 1) && !block(16_384, 1) && !block(1, 0) && !block(1, 1024));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            copies in proptest::collection::vec(
                (0..128_u8, 1..=MAX_OFFSET, proptest::collection::vec(any::<u8>(), 1..=MAX_BLOCK)), 0..4),
            primary in proptest::collection::vec(any::<u8>(), 1..1500),
        ) {
            let copies: Vec<Block<'_>> = copies
                .iter()
                .map(|(payload_type, offset, payload)| {
                    Block { payload_type: *payload_type, offset: *offset, payload }
                })
                .collect();
            prop_assert!(copies.iter().all(Block::fits));
            let whole = written(&copies, &primary);
            let red = Red::parse(&whole).expect("whole");
            prop_assert_eq!((red.payload_type, red.primary), (111, &primary[..]));
            prop_assert_eq!(red.copies().collect::<Vec<_>>(), copies);
        }

        #[test]
        fn junk_is_taken_apart_or_refused(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(red) = Red::parse(&junk) {
                let copied: usize = red.copies().map(|copy| copy.payload.len()).sum();
                prop_assert!(copied + red.primary.len() < junk.len());
                prop_assert_eq!(red.copies().count() * HEAD, red.heads.len());
            }
        }
    }
}
