//! A walk over pieces that each say their own length: the chunks of SCTP, the records of DTLS and the fragments
//! in them. Total over outside bytes: it ends before a piece that is shorter than its header, or longer than
//! what is there. What a piece means is for others.

use std::ops::Range;

/// How pieces lie one behind the other.
pub(super) struct Layout {
    /// Octets of a header.
    pub(super) header: usize,
    /// Octets of header and body, read from the header.
    pub(super) length: fn(&[u8]) -> usize,
    /// The next piece begins at a multiple of so many octets, counted from this one.
    pub(super) align: usize,
}

/// Where the pieces lie that begin at `at`. The last one may do without what aligns the next.
pub(super) fn walk<'a>(
    data: &'a [u8],
    mut at: usize,
    layout: &'a Layout,
) -> impl Iterator<Item = Range<usize>> + 'a {
    std::iter::from_fn(move || {
        let header = data.get(at..)?.get(..layout.header)?;
        let length = (layout.length)(header);
        let span = at..at + length;
        data.get(span.clone()).filter(|piece| piece.len() >= layout.header)?;
        at += length.next_multiple_of(layout.align);
        Some(span)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { header: 2, length: |header| usize::from(header[1]), align: 4 };

    fn spans(data: &[u8]) -> Vec<(usize, usize)> {
        walk(data, 1, &LAYOUT).map(|span| (span.start, span.end)).collect()
    }

    #[test]
    fn pieces_are_aligned_from_where_the_first_begins() {
        assert_eq!(spans(&[9, 0, 3, 7, 0, 0, 2]), [(1, 4), (5, 7)]);
        assert_eq!(spans(&[9, 0, 2]), [(1, 3)], "the last needs nothing behind it");
    }

    #[test]
    fn a_length_that_lies_ends_the_walk() {
        assert_eq!(spans(&[9, 0, 2, 0, 0, 0, 0]), [(1, 3)], "shorter than its header");
        assert_eq!(spans(&[9, 0, 2, 0, 0, 0, 3]), [(1, 3)], "longer than what is there");
        assert_eq!(spans(&[9, 0, 2, 0, 0, 0]), [(1, 3)], "no whole header");
        assert!(spans(&[]).is_empty() && spans(&[9]).is_empty());
    }
}
