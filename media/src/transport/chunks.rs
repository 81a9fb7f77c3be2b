//! A look at the chunks of an SCTP packet before the association gets it (RFC 9260 section 3): which streams
//! it touches and how much of which message it brings. Owns no state; the bounds are in `sctp`.

use std::ops::Range;

use super::tlv::{Layout, walk};

/// A DATA chunk (RFC 9260 section 3.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DataChunk {
    /// The stream it belongs to.
    pub(super) stream: u16,
    /// Its message ends with it.
    pub(super) ends_message: bool,
    /// Octets of the message in it.
    pub(super) length: usize,
}

/// What becomes of a chunk, or of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Goes on as it is.
    Pass,
    /// Becomes a message of its own with the type [`CRUMB`], which the receiver throws away.
    Crumb,
    /// Must not reach the association.
    Drop,
}

/// The payload type of what is left of a message that was too long. Nobody has registered it.
pub(super) const CRUMB: u32 = 0xffff_ff63;

/// Looks at each DATA chunk, and makes crumbs of those of which `weigh` says so. A packet that names a
/// stream of `max_streams` or above is to be dropped, and then nothing was weighed.
pub(super) fn inspect(
    packet: &mut [u8],
    max_streams: u16,
    mut weigh: impl FnMut(DataChunk) -> Verdict,
) -> Verdict {
    if spans(packet).any(|span| names_stream_from(&packet[span], max_streams)) {
        return Verdict::Drop;
    }
    let data: Vec<_> = spans(packet).filter(|span| packet[span.start] == DATA).collect();
    for span in data {
        let chunk = &mut packet[span];
        if chunk.len() < DATA_HEADER {
            continue; // the association says what is wrong with it
        }
        let stream = u16::from_be_bytes([chunk[8], chunk[9]]);
        let ends_message = chunk[1] & ENDING != 0;
        if weigh(DataChunk { stream, ends_message, length: chunk.len() - DATA_HEADER }) == Verdict::Crumb {
            chunk[1] |= UNORDERED | BEGINNING | ENDING;
            // Not on its own stream: while a reset of that one is under way, dcsctp keeps what comes on it.
            chunk[8..10].copy_from_slice(&(max_streams - 1).to_be_bytes());
            chunk[12..16].copy_from_slice(&CRUMB.to_be_bytes());
        }
    }
    Verdict::Pass
}

/// DATA on such a stream, or a FORWARD-TSN that skips messages of one (RFC 3758 section 3.2).
fn names_stream_from(chunk: &[u8], max_streams: u16) -> bool {
    let beyond = |stream: &[u8]| u16::from_be_bytes([stream[0], stream[1]]) >= max_streams;
    match chunk[0] {
        DATA => chunk.get(8..10).is_some_and(beyond),
        FORWARD_TSN => chunk.get(8..).unwrap_or_default().chunks_exact(4).any(beyond),
        _ => false,
    }
}

/// Where the chunks of a packet lie, each with its header (RFC 9260 section 3.2). The length leaves the padding
/// to a multiple of four out.
fn spans(packet: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    const CHUNKS: Layout = Layout {
        header: 4,
        length: |header| usize::from(u16::from_be_bytes([header[2], header[3]])),
        align: 4,
    };
    walk(packet, COMMON_HEADER, &CHUNKS)
}

// RFC 9260 sections 3.1 to 3.3.1, FORWARD-TSN RFC 3758 section 3.2.
const COMMON_HEADER: usize = 12;
const DATA_HEADER: usize = 16;
const DATA: u8 = 0;
const FORWARD_TSN: u8 = 192;
const UNORDERED: u8 = 4;
const BEGINNING: u8 = 2;
const ENDING: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(chunks: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0; COMMON_HEADER];
        for chunk in chunks {
            packet.extend_from_slice(chunk);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    fn data(flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = (DATA_HEADER + payload.len()) as u8;
        [&[DATA, flags, 0, length, 0, 0, 0, 1, 0, stream, 0, 0, 0, 0, 0, 51], payload].concat()
    }

    #[test]
    fn each_data_chunk_is_weighed_and_crumbs_stand_alone() {
        let mut packet = packet(&[&data(BEGINNING, 3, b"abcde"), &[3, 0, 0, 4], &data(ENDING, 5, b"f")]);
        let before = packet.clone();
        let mut seen = Vec::new();
        let verdict = inspect(&mut packet, 8, |chunk| {
            seen.push((chunk.stream, chunk.ends_message, chunk.length));
            if chunk.stream == 5 { Verdict::Crumb } else { Verdict::Pass }
        });
        assert_eq!(verdict, Verdict::Pass);
        assert_eq!(seen, [(3, false, 5), (5, true, 1)]);
        let second = COMMON_HEADER + 24 + 4;
        assert_eq!(packet[..second], before[..second]);
        assert_eq!(packet[second + 1], UNORDERED | BEGINNING | ENDING);
        assert_eq!(packet[second + 8..second + 10], [0, 7]);
        assert_eq!(packet[second + 12..second + 16], CRUMB.to_be_bytes());
        assert_eq!(packet[second + 16..], before[second + 16..]);
    }

    #[test]
    fn streams_that_were_not_negotiated_drop_the_packet() {
        let forward = [FORWARD_TSN, 0, 0, 16, 0, 0, 0, 9, 0, 1, 0, 0, 0, 8, 0, 0];
        for bad in [packet(&[&data(3, 7, b"x"), &data(3, 8, b"x")]), packet(&[&data(3, 1, b"x"), &forward])] {
            let weighed = |_| panic!("weighed");
            assert_eq!(inspect(&mut bad.clone(), 8, weighed), Verdict::Drop);
            assert_eq!(inspect(&mut bad.clone(), 9, |_| Verdict::Pass), Verdict::Pass);
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(mut packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            inspect(&mut packet, 100, |chunk| {
                assert!(chunk.length <= 200);
                Verdict::Crumb
            });
        }
    }
}
