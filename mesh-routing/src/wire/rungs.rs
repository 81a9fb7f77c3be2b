//! In which rungs the sound of streams can be had, and what those take: a field behind the LSA of streams, after that of
//! the [labels](super::label). Relays that know of no rungs pass it on. What follows from it is decided in `tree/`.

use protocol::{fields, mesh::MAX_RUNGS};

use super::rates::{NominalRate, StreamRates};

/// Its number among the fields of an LSA of streams.
pub(crate) const FIELD: u32 = 2;

const _: () = assert!(MAX_RUNGS == 2, "as an octet has two halves");

/// Appends the field for some streams, in the order of the LSA; nothing if nothing is said of any.
///
/// Each stream is an octet with the steps of its lower rung (upper four bits) and its upper one; 0 is a rung that cannot
/// be had. Streams at the end of which nothing is said are left out.
pub(crate) fn write<'a>(out: &mut Vec<u8>, streams: impl Iterator<Item = &'a StreamRates>) {
    let octet = |rates: &StreamRates| rates.rungs[0].step() << 4 | rates.rungs[1].step();
    let mut value: Vec<u8> = streams.map(octet).collect();
    let said = value.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    value.truncate(said);
    if said > 0 {
        fields::write(out, FIELD, &value);
    }
}

/// Reads the field into these streams. Of more streams than there are nothing is said: whoever passed it on need not know
/// better.
pub(crate) fn read<'a>(value: &[u8], streams: impl ExactSizeIterator<Item = &'a mut StreamRates>) {
    if value.len() > streams.len() {
        return;
    }
    for (rates, octet) in streams.zip(value) {
        rates.rungs = [octet >> 4, octet & 0x0f].map(NominalRate::of_step);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What goes to links of a rung of 24 and of one of 64 kbit/s, with packets of 20 ms.
    const BOTH: [u64; 2] = [38_400, 78_400];

    fn rates(rungs: [u64; 2]) -> StreamRates {
        StreamRates { rungs: rungs.map(NominalRate::of), ..StreamRates::default() }
    }

    fn value(streams: &[StreamRates]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, streams.iter());
        fields::Fields::read(&out).expect("fields").get(FIELD).unwrap_or_default().to_vec()
    }

    fn read_back(value: &[u8], streams: usize) -> Vec<StreamRates> {
        let mut read_into = vec![StreamRates::default(); streams];
        read(value, read_into.iter_mut());
        read_into
    }

    #[test]
    fn what_is_said_of_rungs_reads_back() {
        let said = [rates([0, 0]), rates(BOTH), rates([BOTH[0], 0]), rates([0, 0])];
        let octets = value(&said);
        assert_eq!(octets.len(), 3, "an octet a stream, and nothing at the end of which nothing is said");
        assert_eq!(read_back(&octets, 4), said);
        assert_eq!(read_back(&octets, 2), [rates([0, 0]), rates([0, 0])], "of more streams than there are");
        assert!(value(&said[..1]).is_empty());
        let planned = said[1].rungs.map(NominalRate::bits_per_second);
        assert_eq!(planned, [Some(40_000), Some(100_000)]);
    }

    #[test]
    fn a_rung_is_ranked_by_what_there_is_below_it() {
        use protocol::mesh::StreamTrack::{Audio, Rung};
        let of = |rungs| [Rung(0), Rung(1), Audio].map(|track| rates(rungs).sound_rank(track));
        assert_eq!(of(BOTH), [0, 1, 2]);
        assert_eq!(of([BOTH[0], 0])[2], 1);
        assert_eq!(of([0, BOTH[1]])[1..], [0, 1]);
        assert_eq!(of([0, 0])[2], 0);
        assert!(
            !rates([0, BOTH[1]]).has_rung(0) && rates([0, BOTH[1]]).has_rung(1) && !rates(BOTH).has_rung(9)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_read_back(mut bytes: Vec<u8>, streams in 0_usize..64) {
            let read = read_back(&bytes, streams);
            if bytes.len() > streams {
                bytes.clear();
            }
            while bytes.last() == Some(&0) {
                bytes.pop();
            }
            // What makes sense is said in one way only.
            prop_assert_eq!(value(&read), bytes);
        }
    }
}
