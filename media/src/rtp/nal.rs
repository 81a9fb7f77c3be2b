//! The units of H264 (NAL units) and how payloads pack them (RFC 6184 section 5).

// Types of units: ITU-T H.264 table 7-1; those that pack others: RFC 6184 section 5.2.
pub(super) const SLICE: u8 = 1;
pub(super) const PARTITION_A: u8 = 2;
pub(super) const IDR: u8 = 5;
pub(super) const SEI: u8 = 6;
pub(super) const SPS: u8 = 7;
pub(super) const PPS: u8 = 8;
pub(super) const DELIMITER: u8 = 9;
pub(super) const PREFIX: u8 = 14;
pub(super) const RESERVED: u8 = 18;
pub(super) const STAP_A: u8 = 24;
pub(super) const FU_A: u8 = 28;

/// The units of a STAP-A, without its header: each behind its length (section 5.7.1). `None` where one is cut off, and
/// then no more.
pub(super) fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let unit = rest.split_first_chunk().and_then(|(len, behind)| {
            let (unit, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            rest = behind;
            Some(unit)
        });
        if unit.is_none() {
            rest = &[];
        }
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_until_one_is_cut_off() {
        let all =
            |payload: &[u8]| aggregated(payload).map(|unit| unit.map(<[u8]>::to_vec)).collect::<Vec<_>>();
        assert_eq!(all(&[]), []);
        assert_eq!(all(&[0, 1, 7, 0, 0, 0, 2, 8, 9]), [Some(vec![7]), Some(vec![]), Some(vec![8, 9])]);
        assert_eq!(all(&[0, 1, 7, 0, 3, 8, 9]), [Some(vec![7]), None], "shorter than its length");
        assert_eq!(all(&[0, 1, 7, 0]), [Some(vec![7]), None], "half a length");
    }
}
