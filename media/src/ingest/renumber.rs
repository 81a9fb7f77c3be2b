//! Sequence numbers without holes: a publisher that probes its bandwidth sends empty packets between the
//! sound (RFC 3550 section 5.1 lets it), and these go no further. And room for packets of our own between
//! those of the publisher: parameter sets before a keyframe that lacks them.
//!
//! Without this a listener would take each empty packet for lost and ask for it again and again.

use std::collections::VecDeque;

use crate::rtp::is_newer;

/// Takes the numbers of empty packets out of one source's sequence, and puts numbers in.
#[derive(Debug, Default)]
pub struct Renumber {
    highest: Option<u16>,
    /// What the changes before those in `recent` add up to.
    forgotten: u16,
    /// The latest changes, ascending.
    recent: VecDeque<Change>,
}

/// From a number on, all numbers are others.
#[derive(Debug, Clone, Copy)]
struct Change {
    from: u16,
    /// One more or one less.
    by: u16,
}

/// More than arrive within the time that packets are mended in.
const RECENT_MAX: usize = 64;
/// Nor do packets come later than this.
const REACH: u16 = 4096;
const ONE_LESS: u16 = u16::MAX;

impl Renumber {
    /// An empty packet came and is dropped. One that comes late has left its hole already: closing it now
    /// would give a number twice, so its number is given, to be filled with nothing.
    pub fn handle_empty(&mut self, sequence: u16) -> Option<u16> {
        if self.highest.is_some_and(|highest| !is_newer(sequence, highest)) {
            return Some(self.number(sequence));
        }
        self.highest = Some(sequence);
        self.change(Change { from: sequence.wrapping_add(1), by: ONE_LESS }, sequence);
        None
    }

    /// The number that a packet with this one goes on under.
    pub fn handle_packet(&mut self, sequence: u16) -> u16 {
        if self.highest.is_none_or(|highest| is_newer(sequence, highest)) {
            self.highest = Some(sequence);
            self.forget(sequence);
        }
        self.number(sequence)
    }

    /// A number right before that of the packet with this one, which comes next; `None` if it comes late,
    /// because those behind it have their numbers.
    pub fn insert_before(&mut self, sequence: u16) -> Option<u16> {
        if self.highest.is_some_and(|highest| !is_newer(sequence, highest)) {
            return None;
        }
        let number = self.number(sequence);
        self.change(Change { from: sequence, by: 1 }, sequence);
        Some(number)
    }

    fn number(&self, sequence: u16) -> u16 {
        let changes = self.recent.iter().rev().skip_while(|change| is_newer(change.from, sequence));
        changes.fold(sequence.wrapping_add(self.forgotten), |number, change| number.wrapping_add(change.by))
    }

    fn change(&mut self, change: Change, highest: u16) {
        self.recent.push_back(change);
        self.forget(highest);
    }

    /// Before its number comes round again, a change is only counted.
    fn forget(&mut self, highest: u16) {
        // The newest may lie one ahead.
        let is_old = |change: &Change| highest.wrapping_add(1).wrapping_sub(change.from) > REACH;
        while let Some(oldest) = self.recent.front().copied() {
            if self.recent.len() <= RECENT_MAX && !is_old(&oldest) {
                break;
            }
            self.recent.pop_front();
            self.forgotten = self.forgotten.wrapping_add(oldest.by);
        }
    }
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
        assert_eq!(renumber.handle_empty(11), Some(11), "a hole to be filled");
        assert_eq!(renumber.handle_packet(13), 13);
    }

    #[test]
    fn a_packet_of_our_own_gets_a_number_between_two() {
        let mut renumber = Renumber::default();
        assert_eq!(renumber.handle_packet(65_534), 65_534);
        assert_eq!(renumber.handle_empty(65_535), None);
        assert_eq!(renumber.insert_before(0), Some(65_535));
        assert_eq!(renumber.handle_packet(0), 0);
        assert_eq!(renumber.insert_before(0), None, "it is late");
        assert_eq!(renumber.handle_empty(1), None);
        assert_eq!(renumber.insert_before(3), Some(2), "2 is missing");
        assert_eq!(renumber.handle_packet(3), 3);
        assert_eq!(renumber.handle_packet(2), 1);
        for sequence in 4..200_000_u32 {
            assert_eq!(renumber.handle_packet(sequence as u16), sequence as u16);
        }
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
