//! Bits of the headers of pictures, from the front; `None` at their end.

/// A place in a header.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// From the first bit on.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Bits { bytes, at: 0 }
    }

    /// So many bits, at most 32.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0_u32, |sum, _| Some(sum << 1 | self.bit()?))
    }

    /// One bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        Some(self.bit()? == 1)
    }

    /// An Exp-Golomb number (ITU-T H.264 section 9.1) below 65536.
    pub(crate) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 16 {
                return None;
            }
        }
        Some((1 << zeros | self.take(zeros)?) - 1)
    }

    fn bit(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_numbers_are_read_from_the_front() {
        // 1010 1 010 011 00100 …
        let mut bits = Bits::new(&[0b1010_1010, 0b0110_0100]);
        assert_eq!(
            (bits.take(4), bits.golomb(), bits.golomb(), bits.golomb()),
            (Some(10), Some(0), Some(1), Some(2))
        );
        assert_eq!((bits.golomb(), bits.flag()), (Some(3), None));
        assert_eq!(Bits::new(&[0; 9]).golomb(), None);
    }
}
