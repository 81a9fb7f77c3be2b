//! Packets that came in fragments, because they are longer than a datagram of the link: put together again, in
//! bounded memory. Losses are found and repaired by link sequence, as of any datagram.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use protocol::mesh::{Alias, DatagramHeader, Fragment};

/// What of the packets of a link is not whole yet, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Fragments(VecDeque<Partial>);

#[derive(Debug)]
struct Partial {
    alias: Alias,
    epoch: u8,
    packet: u16,
    came: Vec<Bytes>,
    missing: u8,
    since: Instant,
}

/// Packets of a link that may be incomplete at a time: at 50 Mbit/s what comes within 15 ms. The oldest goes.
const PARTIAL_MAX: usize = 64;
/// A packet whose first fragment came so long ago gets no other: repairs come sooner, and the next packet of the same
/// number comes later.
const WHOLE_IN: Duration = Duration::from_secs(1);
/// The longest packet: no relay takes a longer one from a publisher.
const PACKET_MAX: usize = 2048;

/// A fragment that does not fit what came before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Nonsense;

impl Fragments {
    /// Takes what stands behind the header of a fragment; gives the packet when it is whole.
    ///
    /// # Errors
    ///
    /// [`Nonsense`] if this is no fragment, if its packet was said to have another number of fragments, or if it
    /// makes the packet too long. The packet is forgotten then.
    pub fn handle(
        &mut self,
        header: &DatagramHeader,
        payload: Bytes,
        now: Instant,
    ) -> Result<Option<Bytes>, Nonsense> {
        let (fragment, content) = Fragment::split(payload).ok_or(Nonsense)?;
        while self.0.front().is_some_and(|oldest| now >= oldest.since + WHOLE_IN) {
            self.0.pop_front();
        }
        let known = self.0.iter().position(|partial| {
            (partial.alias, partial.epoch, partial.packet) == (header.alias, header.epoch, fragment.packet)
        });
        let place = known.unwrap_or_else(|| {
            if self.0.len() == PARTIAL_MAX {
                self.0.pop_front();
            }
            self.0.push_back(Partial {
                alias: header.alias,
                epoch: header.epoch,
                packet: fragment.packet,
                came: vec![Bytes::new(); usize::from(fragment.of)],
                missing: fragment.of,
                since: now,
            });
            self.0.len() - 1
        });
        let partial = &mut self.0[place];
        let length: usize = partial.came.iter().map(Bytes::len).sum();
        if partial.came.len() != usize::from(fragment.of) || length + content.len() > PACKET_MAX {
            self.0.remove(place);
            return Err(Nonsense);
        }
        let slot = &mut partial.came[usize::from(fragment.number)];
        if slot.is_empty() {
            // Not a part of the buffer it came in, which may be kept long: a repair is waited for.
            *slot = Bytes::copy_from_slice(&content);
            partial.missing -= 1;
        }
        if partial.missing > 0 {
            return Ok(None);
        }
        let mut whole = BytesMut::with_capacity(length + content.len());
        partial.came.iter().for_each(|part| whole.extend_from_slice(part));
        self.0.remove(place);
        Ok(Some(whole.freeze()))
    }

    /// Bytes of packets that are not whole yet.
    pub fn held(&self) -> usize {
        self.0.iter().flat_map(|partial| &partial.came).map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use protocol::mesh::DatagramKind;

    use super::*;
    use crate::clock;

    fn fragment(
        alias: u16,
        epoch: u8,
        packet: u16,
        (number, of): (u8, u8),
        content: &[u8],
    ) -> (DatagramHeader, Bytes) {
        let header = DatagramHeader { kind: DatagramKind::Fragment, epoch, alias: Alias(alias), sequence: 0 };
        let mut payload = Vec::new();
        Fragment { number, of, packet }.write(&mut payload);
        payload.extend_from_slice(content);
        (header, payload.into())
    }

    fn take(
        fragments: &mut Fragments,
        (header, payload): (DatagramHeader, Bytes),
    ) -> Result<Option<Bytes>, Nonsense> {
        fragments.handle(&header, payload, clock::now())
    }

    #[test]
    fn fragments_of_several_packets_come_in_any_order() {
        let mut fragments = Fragments::default();
        let mut whole = Vec::new();
        for (alias, packet, number) in [(1, 7, 1), (2, 7, 0), (1, 8, 0), (1, 7, 0), (2, 7, 1), (1, 8, 1)] {
            let content = [alias as u8, packet as u8, number];
            whole.extend(take(&mut fragments, fragment(alias, 0, packet, (number, 2), &content)).unwrap());
        }
        assert_eq!(whole, [&[1, 7, 0, 1, 7, 1][..], &[2, 7, 0, 2, 7, 1], &[1, 8, 0, 1, 8, 1]]);
        assert!(fragments.0.is_empty());
    }

    #[test]
    fn packets_that_never_become_whole_are_bounded_and_stop_no_other() {
        let mut fragments = Fragments::default();
        for packet in 0..10_000 {
            assert_eq!(take(&mut fragments, fragment(1, 0, packet, (0, 2), &[0; 700])), Ok(None));
        }
        assert_eq!(fragments.0.len(), PARTIAL_MAX);
        assert!(take(&mut fragments, fragment(1, 0, 9_999, (1, 2), &[1])).unwrap().is_some());
        assert!(
            take(&mut fragments, fragment(1, 1, 9_998, (1, 2), &[1])).unwrap().is_none(),
            "another epoch"
        );
    }

    #[test]
    fn a_fragment_that_was_left_over_is_no_part_of_the_next_packet_of_its_number() {
        let (mut fragments, begin) = (Fragments::default(), clock::now());
        let mut take = |number, content: &[u8], after| {
            let (header, payload) = fragment(1, 0, 7, (number, 2), content);
            fragments.handle(&header, payload, begin + after)
        };
        assert_eq!(take(0, b"old ", Duration::ZERO), Ok(None));
        // 65,536 packets later.
        let later = Duration::from_secs(60);
        assert_eq!(take(1, b"packet", later), Ok(None));
        assert_eq!(take(0, b"new ", later + WHOLE_IN / 2), Ok(Some(Bytes::from_static(b"new packet"))));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut fragments = Fragments::default();
        assert_eq!(take(&mut fragments, fragment(1, 0, 1, (2, 2), &[1])), Err(Nonsense));
        assert_eq!(take(&mut fragments, fragment(1, 0, 1, (0, 1), &[1])), Err(Nonsense));
        assert_eq!(take(&mut fragments, fragment(1, 0, 1, (0, 2), &[1])), Ok(None));
        assert_eq!(take(&mut fragments, fragment(1, 0, 1, (1, 3), &[1])), Err(Nonsense));
        assert_eq!(take(&mut fragments, fragment(1, 0, 2, (0, 15), &[0; 2000])), Ok(None));
        assert_eq!(take(&mut fragments, fragment(1, 0, 2, (1, 15), &[0; 100])), Err(Nonsense));
        assert!(fragments.0.is_empty());
    }
}
