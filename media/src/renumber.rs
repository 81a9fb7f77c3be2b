//! Sequence numbers without holes: a publisher that probes its bandwidth sends empty packets between the
//! sound (RFC 3550 section 5.1 lets it), and these go no further.
//!
//! Without this a listener would take each for lost and ask for it again and again.

use std::collections::VecDeque;

/// Takes the numbers of empty packets out of one source's sequence.
#[derive(Debug, Default)]
pub struct Renumber {
    highest: Option<u16>,
    /// Empty packets older than those in `recent`.
    forgotten: u16,
    /// The numbers of the latest empty packets, ascending.
    recent: VecDeque<u16>,
}

/// More than arrive within the time that packets are mended in.
const RECENT_MAX: usize = 64;
/// Nor do packets come later than this.
const REACH: u16 = 4096;

impl Renumber {
    /// An empty packet came and is dropped.
    pub fn handle_empty(&mut self, sequence: u16) {
        // One that comes late has left its hole already: closing it now would give a number twice.
        if self.highest.is_some_and(|highest| !is_newer(sequence, highest)) {
            return;
        }
        self.highest = Some(sequence);
        self.recent.push_back(sequence);
        self.forget(sequence);
    }

    /// The number that a packet with this one goes on under.
    pub fn handle_packet(&mut self, sequence: u16) -> u16 {
        if self.highest.is_none_or(|highest| is_newer(sequence, highest)) {
            self.highest = Some(sequence);
            self.forget(sequence);
        }
        let before = self.recent.iter().rev().skip_while(|empty| is_newer(**empty, sequence)).count();
        sequence.wrapping_sub(self.forgotten).wrapping_sub(before as u16)
    }

    /// Before its number comes round again, an empty packet is only counted.
    fn forget(&mut self, highest: u16) {
        while self
            .recent
            .front()
            .is_some_and(|oldest| self.recent.len() > RECENT_MAX || highest.wrapping_sub(*oldest) > REACH)
        {
            self.recent.pop_front();
            self.forgotten = self.forgotten.wrapping_add(1);
        }
    }
}

/// RFC 1982.
fn is_newer(sequence: u16, than: u16) -> bool {
    sequence != than && sequence.wrapping_sub(than) < 0x8000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_packets_leave_no_hole() {
        let mut renumber = Renumber::default();
        assert_eq!(renumber.handle_packet(65_534), 65_534);
        renumber.handle_empty(65_535);
        renumber.handle_empty(0);
        assert_eq!(renumber.handle_packet(1), 65_535);
        assert_eq!(renumber.handle_packet(2), 0);
    }

    #[test]
    fn late_packet_keeps_its_place() {
        let mut renumber = Renumber::default();
        assert_eq!(renumber.handle_packet(10), 10);
        renumber.handle_empty(12);
        assert_eq!(renumber.handle_packet(13), 12);
        assert_eq!(renumber.handle_packet(11), 11);
    }

    #[test]
    fn late_empty_packet_gives_no_number_twice() {
        let mut renumber = Renumber::default();
        assert_eq!(renumber.handle_packet(10), 10);
        assert_eq!(renumber.handle_packet(12), 12);
        renumber.handle_empty(11);
        assert_eq!(renumber.handle_packet(13), 13);
    }

    #[test]
    fn one_empty_packet_counts_for_ever() {
        let mut renumber = Renumber::default();
        renumber.handle_empty(0);
        for sequence in 1..200_000u32 {
            assert_eq!(renumber.handle_packet(sequence as u16), (sequence - 1) as u16);
        }
    }

    #[test]
    fn packets_in_order_stay_in_order_whatever_is_empty() {
        let mut renumber = Renumber::default();
        let mut expected = 0u16;
        for sequence in 0..200_000u32 {
            if sequence % 7 == 3 || (sequence / 100) % 5 == 4 {
                renumber.handle_empty(sequence as u16);
            } else {
                assert_eq!(renumber.handle_packet(sequence as u16), expected);
                expected = expected.wrapping_add(1);
            }
        }
    }
}
