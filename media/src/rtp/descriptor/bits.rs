//! Bits of octets, the highest first, and the codes that are made of them. Total: behind the end there is
//! nothing.

/// Reads bits from the front.
#[derive(Debug, Clone)]
pub struct Bits<'a> {
    octets: &'a [u8],
    /// Bits that were read.
    at: usize,
}

impl<'a> Bits<'a> {
    /// From the first bit on.
    pub fn new(octets: &'a [u8]) -> Bits<'a> {
        Bits { octets, at: 0 }
    }

    /// The next bit.
    pub fn bit(&mut self) -> Option<bool> {
        let octet = self.octets.get(self.at / 8)?;
        let bit = octet >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit != 0)
    }

    /// A number of that many bits, at most 32.
    pub fn number(&mut self, bits: u32) -> Option<u32> {
        (0..bits.min(32)).try_fold(0, |number, _| Some(number << 1 | u32::from(self.bit()?)))
    }

    /// A number of 8 bits at most.
    pub fn small(&mut self, bits: u32) -> Option<u8> {
        Some(self.number(bits.min(8))? as u8)
    }

    /// A number below `values` in as few bits as that takes: `ns(n)` of the AV1 RTP payload specification,
    /// section A.8.2.
    pub fn below(&mut self, values: u32) -> Option<u32> {
        let width = u32::BITS - values.leading_zeros();
        let short = (1_u64 << width) - u64::from(values);
        let number = self.number(width.saturating_sub(1))?;
        if u64::from(number) < short {
            return Some(number);
        }
        let longer = (u64::from(number) << 1) - short + u64::from(self.bit()?);
        u32::try_from(longer).ok()
    }

    /// An unsigned Exp-Golomb code: `ue(v)` of ITU-T H.264 section 9.1.
    pub fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.number(zeros)?)
    }

    /// A signed Exp-Golomb code: `se(v)` of ITU-T H.264 section 9.1.1.
    pub fn signed_exp_golomb(&mut self) -> Option<i32> {
        let code = i64::from(self.exp_golomb()?);
        let half = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { half } else { -half }).ok()
    }
}

/// Writes bits, for tests of what reads them.
#[cfg(test)]
#[derive(Debug, Clone, Default)]
pub struct Writer(Vec<bool>);

#[cfg(test)]
impl Writer {
    pub fn bits(mut self, count: u32, value: u32) -> Writer {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 != 0));
        self
    }

    /// Exp-Golomb codes.
    pub fn codes(self, values: &[u32]) -> Writer {
        values.iter().fold(self, |writer, value| {
            let len = (value + 1).ilog2();
            writer.bits(len, 0).bits(len + 1, value + 1)
        })
    }

    /// `ns(n)`.
    pub fn below(self, values: u32, number: u32) -> Writer {
        let width = u32::BITS - values.leading_zeros();
        let short = (1 << width) - values;
        if number < short { self.bits(width - 1, number) } else { self.bits(width, number + short) }
    }

    /// With zeros behind the last bit.
    pub fn octets(&self) -> Vec<u8> {
        let octet =
            |bits: &[bool]| (0..8).fold(0, |octet, at| octet << 1 | u8::from(bits.get(at) == Some(&true)));
        self.0.chunks(8).map(octet).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_across_octets() {
        let mut bits = Bits::new(&[0b1010_0110, 0b1100_0000]);
        assert_eq!(bits.number(3), Some(0b101));
        assert_eq!(bits.number(7), Some(0b0011011));
        assert_eq!(bits.bit(), Some(false));
        assert_eq!(bits.number(6), None, "5 are left");
    }

    #[test]
    fn exp_golomb_codes_are_those_of_the_table() {
        for (code, unsigned, signed) in [
            (0b1000_0000, 0, 0),
            (0b0100_0000, 1, 1),
            (0b0110_0000, 2, -1),
            (0b0010_0000, 3, 2),
            (0b0011_1000, 6, -3),
            (0b0001_0010, 8, -4),
        ] {
            assert_eq!(Bits::new(&[code]).exp_golomb(), Some(unsigned));
            assert_eq!(Bits::new(&[code]).signed_exp_golomb(), Some(signed));
        }
        assert_eq!(Bits::new(&[0; 9]).exp_golomb(), None, "endless zeros");
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0xff]).exp_golomb(), None, "cut off");
        let longest = Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe]).exp_golomb();
        assert_eq!(longest, Some(u32::MAX - 1));
    }

    #[test]
    fn numbers_below_a_limit_take_few_bits() {
        // Of five values the first three take two bits, the others three.
        let codes =
            [(0b0000_0000, 0), (0b0100_0000, 1), (0b1000_0000, 2), (0b1100_0000, 3), (0b1110_0000, 4)];
        for (code, number) in codes {
            assert_eq!(Bits::new(&[code]).below(5), Some(number));
        }
        assert_eq!(Bits::new(&[]).below(1), Some(0), "one value takes no bits");
        assert_eq!(Bits::new(&[]).below(0), Some(0));
        assert_eq!(Bits::new(&[]).below(2), None);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(values in 1..40_u32, number in any::<u32>(), code in 0..u32::MAX - 1) {
            let octets = Writer::default().below(values, number % values).codes(&[code]).octets();
            let mut bits = Bits::new(&octets);
            prop_assert_eq!(bits.below(values), Some(number % values));
            prop_assert_eq!(bits.exp_golomb(), Some(code));
        }

        #[test]
        fn junk_never_panics_and_stays_below_the_limit(
            junk in proptest::collection::vec(any::<u8>(), 0..12),
            values in any::<u32>(),
        ) {
            if let Some(number) = Bits::new(&junk).below(values) {
                prop_assert!(number < values.max(1));
            }
            let _ = Bits::new(&junk).exp_golomb();
            let _ = Bits::new(&junk).signed_exp_golomb();
            let _ = Bits::new(&junk).number(values);
        }
    }
}
