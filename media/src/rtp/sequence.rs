//! The arithmetic of sequence numbers, which wrap around at 16 bits.

/// The number nearest to `reference` whose low 16 bits are `sequence`; never below zero.
pub fn extend(reference: u64, sequence: u16) -> u64 {
    let step = sequence.wrapping_sub(reference as u16) as i16;
    match reference.checked_add_signed(i64::from(step)) {
        Some(extended) => extended,
        None => u64::from(sequence),
    }
}

/// RFC 1982: true if `sequence` follows `than`, within half of all numbers.
pub fn is_newer(sequence: u16, than: u16) -> bool {
    sequence != than && sequence.wrapping_sub(than) < 0x8000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_extend_across_the_wrap_both_ways() {
        assert_eq!(extend(65_535, 0), 65_536);
        assert_eq!(extend(65_536, 65_535), 65_535);
        assert_eq!(extend(3, 65_535), 65_535);
        assert_eq!(extend(200_000, 200_001_u32 as u16), 200_001);
    }
}
