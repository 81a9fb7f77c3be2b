//! What an H264 decoder has to know before a picture: the parameter sets (SPS and PPS, RFC 6184). Some
//! encoders send them once, or only in their offer, and whoever comes later stays without a picture. Here they
//! are kept, and put before an IDR that comes without.

use bytes::Bytes;

use super::nal::{self, FU_A, IDR, PPS, SPS, STAP_A};

/// The parameter sets of one track.
#[derive(Debug, Default)]
pub struct ParameterSets {
    kept: Vec<Set>,
    /// Sets that came since the last slice.
    came: [bool; 2],
    /// The timestamp of the newest IDR.
    idr: Option<u32>,
}

#[derive(Debug)]
struct Set {
    kind: u8,
    id: u32,
    unit: Bytes,
}

/// Encoders have one of each, some have one per layer.
const SETS_MAX: usize = 16;
/// They leave in one packet.
const OCTETS_MAX: usize = 1100;

impl ParameterSets {
    /// With those of the offer (`sprop-parameter-sets`).
    pub fn new(units: &[Vec<u8>]) -> ParameterSets {
        let mut sets = ParameterSets::default();
        units.iter().for_each(|unit| sets.keep(unit));
        sets
    }

    /// Another source: what is known counts until its own come.
    pub fn start_anew(&mut self) {
        (self.came, self.idr) = ([false; 2], None);
    }

    /// Takes what a packet brings. Gives a payload to go before it, if an IDR begins with it whose parameter
    /// sets did not come.
    pub fn handle_packet(&mut self, payload: &[u8], timestamp: u32) -> Option<Vec<u8>> {
        let head = *payload.first()?;
        match head & 0x1f {
            STAP_A => {
                let mut lacks = None;
                for unit in nal::aggregated(&payload[1..]).map_while(|unit| unit) {
                    lacks = lacks.or(self.handle_unit(unit, timestamp));
                }
                lacks
            }
            FU_A => match payload.get(1)? {
                // Sets in pieces are none that we keep.
                start if start & 0x80 != 0 => self.handle_slice(start & 0x1f, timestamp),
                _ => None,
            },
            _ => self.handle_unit(payload, timestamp),
        }
    }

    fn handle_unit(&mut self, unit: &[u8], timestamp: u32) -> Option<Vec<u8>> {
        let kind = unit.first()? & 0x1f;
        if kind == SPS || kind == PPS {
            self.keep(unit);
            self.came[usize::from(kind - SPS)] = true;
            return None;
        }
        self.handle_slice(kind, timestamp)
    }

    fn handle_slice(&mut self, kind: u8, timestamp: u32) -> Option<Vec<u8>> {
        if !(1..=IDR).contains(&kind) {
            return None;
        }
        let came = std::mem::take(&mut self.came);
        if kind != IDR || self.idr.replace(timestamp) == Some(timestamp) || came == [true; 2] {
            return None;
        }
        self.stap()
    }

    /// All sets in one payload, SPS first; `None` if there are not both.
    fn stap(&self) -> Option<Vec<u8>> {
        let mut out = vec![0x60 | STAP_A];
        for kind in [SPS, PPS] {
            let before = out.len();
            for set in self.kept.iter().filter(|set| set.kind == kind) {
                out.extend((set.unit.len() as u16).to_be_bytes());
                out.extend_from_slice(&set.unit);
            }
            if out.len() == before {
                return None;
            }
        }
        Some(out)
    }

    fn keep(&mut self, unit: &[u8]) {
        let Some((kind, id)) = id(unit) else { return };
        if let Some(set) = self.kept.iter_mut().find(|set| (set.kind, set.id) == (kind, id)) {
            if set.unit != unit {
                set.unit = Bytes::copy_from_slice(unit);
            }
        } else {
            self.kept.push(Set { kind, id, unit: Bytes::copy_from_slice(unit) });
        }
        let octets = |kept: &[Set]| kept.iter().map(|set| 2 + set.unit.len()).sum::<usize>();
        while self.kept.len() > SETS_MAX || octets(&self.kept) > OCTETS_MAX {
            self.kept.remove(0);
        }
    }
}

/// Which set a unit is (H.264 sections 7.3.2.1.1 and 7.3.2.2).
fn id(unit: &[u8]) -> Option<(u8, u32)> {
    let kind = unit.first()? & 0x1f;
    match kind {
        // Profile, constraints and level stand before it.
        SPS => Some((kind, number(unit.get(4..)?)?)),
        PPS => Some((kind, number(&unit[1..])?)),
        _ => None,
    }
}

/// An unsigned Exp-Golomb code at the start.
fn number(bits: &[u8]) -> Option<u32> {
    let word = bits.iter().chain(&[0; 4]).take(4).fold(0_u32, |word, octet| word << 8 | u32::from(*octet));
    let zeros = word.leading_zeros();
    if bits.is_empty() || zeros > 8 {
        return None; // ids go up to 255
    }
    Some((word >> (31 - 2 * zeros)) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPS_0: [u8; 6] = [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x68];
    const PPS_0: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

    fn stap(units: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0x78];
        for unit in units {
            out.extend((unit.len() as u16).to_be_bytes());
            out.extend_from_slice(unit);
        }
        out
    }

    #[test]
    fn ids_are_read() {
        assert_eq!(id(&SPS_0), Some((7, 0)));
        assert_eq!(id(&PPS_0), Some((8, 0)));
        assert_eq!(id(&[0x68, 0b0100_0000]), Some((8, 1)));
        assert_eq!(id(&[0x68, 0b0001_1111, 0x80]), Some((8, 14)));
        assert_eq!(id(&[0x68, 0]), None);
    }

    #[test]
    fn an_idr_without_sets_gets_those_that_came_before_and_one_with_them_does_not() {
        let mut sets = ParameterSets::default();
        let expected = Some(stap(&[&SPS_0, &PPS_0]));
        assert_eq!(sets.handle_packet(&[0x65, 0x80], 1), None, "there are none yet");
        assert_eq!(sets.handle_packet(&SPS_0, 2), None);
        assert_eq!(sets.handle_packet(&PPS_0, 2), None);
        assert_eq!(sets.handle_packet(&[0x7c, 0x85, 1], 2), None, "it has its sets");
        assert_eq!(sets.handle_packet(&[0x41, 0x9a], 3), None);
        assert_eq!(sets.handle_packet(&[0x65, 0x80], 4), expected, "alone");
        assert_eq!(sets.handle_packet(&[0x65, 0x20], 4), None, "the second slice of it");
        assert_eq!(sets.handle_packet(&[0x7c, 0x85, 1], 5), expected, "in pieces");
        assert_eq!(sets.handle_packet(&[0x7c, 0x05, 1], 5), None);
        assert_eq!(sets.handle_packet(&stap(&[&[0x06, 5], &[0x65, 0x80]]), 6), expected, "with others");
        assert_eq!(sets.handle_packet(&stap(&[&SPS_0, &PPS_0, &[0x65, 0x80]]), 7), None);
        assert_eq!(sets.handle_packet(&PPS_0, 8), None);
        assert_eq!(sets.handle_packet(&[0x65, 0x80], 8), expected, "half of them");
    }

    #[test]
    fn sets_of_the_offer_count_until_others_come() {
        let mut sets = ParameterSets::new(&[SPS_0.to_vec(), PPS_0.to_vec()]);
        assert_eq!(sets.handle_packet(&[0x65, 0x80], 1), Some(stap(&[&SPS_0, &PPS_0])));
        let other = [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x69, 1];
        sets.handle_packet(&stap(&[&other, &PPS_0]), 2);
        sets.handle_packet(&[0x41], 2);
        assert_eq!(sets.handle_packet(&[0x65, 0x80], 3), Some(stap(&[&other, &PPS_0])));
    }

    proptest! {
        #[test]
        fn junk_never_panics_and_stays_small(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..60),
        ) {
            let mut sets = ParameterSets::default();
            for (n, mut packet) in packets.into_iter().enumerate() {
                if let Some(head) = packet.first_mut().filter(|_| n % 2 == 0) {
                    *head = [0x67, 0x68, 0x65, 0x78, 0x7c][n / 2 % 5];
                }
                if let Some(before) = sets.handle_packet(&packet, n as u32) {
                    prop_assert!(before.len() <= 1 + OCTETS_MAX);
                }
            }
        }
    }
}
