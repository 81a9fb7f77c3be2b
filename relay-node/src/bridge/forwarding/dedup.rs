//! Which numbers came already: per alias of a link, where a gap is a loss on the hop, and per track, where a
//! second copy is the other feed's. What becomes of a packet is decided by who asks.

use std::collections::VecDeque;

/// Which of the last numbers came.
#[derive(Debug)]
pub(crate) struct Window {
    newest: u16,
    bits: [u64; WINDOW as usize / 64],
}

/// What a number is to a window.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Newer than all before; so many between were jumped over.
    Fresh { missed: u16 },
    /// It had been jumped over.
    Late,
    /// It came already, or from before the first.
    Duplicate,
    /// Further back than the window reaches.
    TooOld,
}

impl Window {
    /// A window in which `first` is the next to come.
    pub fn new(first: u16) -> Window {
        // Everything before counts as seen: a track is joined in the middle.
        Window { newest: first.wrapping_sub(1), bits: [u64::MAX; WINDOW as usize / 64] }
    }

    pub fn insert(&mut self, sequence: u16) -> Seen {
        let ahead = sequence.wrapping_sub(self.newest);
        if ahead != 0 && ahead < 0x8000 {
            if ahead >= WINDOW {
                self.bits = [0; WINDOW as usize / 64];
            } else {
                (1..=ahead).for_each(|i| self.clear(self.newest.wrapping_add(i)));
            }
            self.newest = sequence;
            self.set(sequence);
            return Seen::Fresh { missed: ahead - 1 };
        }
        if self.newest.wrapping_sub(sequence) >= WINDOW {
            return Seen::TooOld;
        }
        if self.set(sequence) { Seen::Late } else { Seen::Duplicate }
    }

    fn set(&mut self, sequence: u16) -> bool {
        let (word, bit) = Self::place(sequence);
        let fresh = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        fresh
    }

    fn clear(&mut self, sequence: u16) {
        let (word, bit) = Self::place(sequence);
        self.bits[word] &= !bit;
    }

    fn place(sequence: u16) -> (usize, u64) {
        let slot = sequence % WINDOW;
        (usize::from(slot / 64), 1 << (slot % 64))
    }
}

/// Which packets of a track were taken already, whichever of its feeds brought them. A packet is known by its
/// epoch and RTP sequence number (RFC 3550), a sender clock by its content.
#[derive(Debug)]
pub(crate) struct TrackWindow {
    epoch: u8,
    packets: Window,
    /// Packets too old for the window, or of a stale epoch, since the last one that was neither.
    behind: u16,
    clocks: VecDeque<(u8, u64)>,
}

impl TrackWindow {
    /// A window in which the packet `first` of `epoch` is the next to come.
    pub fn new(epoch: u8, first: u16) -> TrackWindow {
        TrackWindow { epoch, packets: Window::new(first), behind: 0, clocks: VecDeque::with_capacity(CLOCKS) }
    }

    /// Whether the packet is to be taken. `jumped`: the feed itself went back to this number and goes on from
    /// there.
    pub fn takes_packet(&mut self, epoch: u8, sequence: u16, jumped: bool) -> bool {
        let newer = epoch != self.epoch && (epoch.wrapping_sub(self.epoch) & 0x0f) < 8;
        let seen = match epoch == self.epoch {
            true if !jumped => self.packets.insert(sequence),
            _ => Seen::TooOld,
        };
        match seen {
            Seen::Fresh { .. } | Seen::Late => {
                self.behind = 0;
                true
            }
            Seen::Duplicate => {
                self.behind = 0;
                false
            }
            Seen::TooOld => {
                self.behind = self.behind.saturating_add(1);
                let anew = newer || jumped || self.behind > STUBBORN;
                if anew {
                    self.behind = 0;
                    self.epoch = epoch;
                    self.packets = Window::new(sequence);
                    self.packets.insert(sequence);
                }
                anew
            }
        }
    }

    /// Whether it is to be taken that numbers up to this one do not come. What comes all the same is late, as ever; the
    /// window moves on, so that however many they are the next packet is known for what it is.
    pub fn takes_withheld(&mut self, epoch: u8, last: u16) -> bool {
        let is_of_now = epoch == self.epoch;
        if is_of_now {
            self.behind = 0;
            self.packets.insert(last);
        }
        is_of_now
    }

    /// Whether the sender clock is to be taken: it is none of the last few.
    pub fn takes_clock(&mut self, epoch: u8, ntp: u64) -> bool {
        if self.clocks.contains(&(epoch, ntp)) {
            return false;
        }
        if self.clocks.len() == CLOCKS {
            self.clocks.pop_front();
        }
        self.clocks.push_back((epoch, ntp));
        true
    }
}

/// The RTP numbers of one feed of a track as they come: does the publisher count on, or did it jump back?
#[derive(Debug)]
pub(crate) struct Pace {
    epoch: u8,
    newest: u16,
    behind: u16,
}

impl Pace {
    /// A feed that starts with this packet.
    pub fn new(epoch: u8, first: u16) -> Pace {
        Pace { epoch, newest: first, behind: 0 }
    }

    /// True for the one packet with which it is clear that the numbers jumped back.
    pub fn jumped(&mut self, epoch: u8, sequence: u16) -> bool {
        let back = self.newest.wrapping_sub(sequence);
        if epoch != self.epoch || back == 0 || back >= 0x8000 {
            *self = Pace::new(epoch, sequence);
            return false;
        }
        if back < REORDERED {
            return false;
        }
        self.behind += 1;
        let jumped = self.behind >= JUMPED;
        if jumped {
            *self = Pace::new(epoch, sequence);
        }
        jumped
    }
}

/// Numbers behind the newest that are still told apart from duplicates.
const WINDOW: u16 = 1024;
/// So many packets of a stale epoch, or too old, with none of the current between: the track is what they say.
const STUBBORN: u16 = 50;
/// A feed brings packets later than others by so many at most: repairs, and what the path reorders.
const REORDERED: u16 = 256;
/// So many further back than that, and none ahead between: the publisher's numbers jumped.
const JUMPED: u16 = 16;
/// Clocks come every second or so; a second feed is not so far behind.
const CLOCKS: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_sequence_passes_once() {
        let mut window = Window::new(65_530);
        for sequence in (65_530..=u16::MAX).chain(0..2000) {
            assert_eq!(window.insert(sequence), Seen::Fresh { missed: 0 });
            assert_eq!(window.insert(sequence), Seen::Duplicate);
        }
    }

    #[test]
    fn what_was_jumped_over_may_come_late_once() {
        let mut window = Window::new(10);
        assert_eq!(window.insert(10), Seen::Fresh { missed: 0 });
        assert_eq!(window.insert(13), Seen::Fresh { missed: 2 });
        assert_eq!(window.insert(11), Seen::Late);
        assert_eq!(window.insert(11), Seen::Duplicate);
        assert_eq!(window.insert(9), Seen::Duplicate, "from before the track was joined");
        assert_eq!(window.insert(5000), Seen::Fresh { missed: 4986 });
        assert_eq!(window.insert(12), Seen::TooOld);
        assert_eq!(window.insert(4999), Seen::Late);
    }

    /// Feeds `(epoch, sequence)` to a window; those that it takes.
    fn taken(window: &mut TrackWindow, packets: impl IntoIterator<Item = (u8, u16)>) -> Vec<(u8, u16)> {
        packets.into_iter().filter(|(epoch, n)| window.takes_packet(*epoch, *n, false)).collect()
    }

    #[test]
    fn of_two_feeds_each_packet_is_taken_once_across_the_wrap() {
        let mut window = TrackWindow::new(0, 65_000);
        let numbers: Vec<u16> = (0..2000).map(|i| 65_000_u16.wrapping_add(i)).collect();
        // The second feed is 30 packets behind and has what the first one lost.
        let mut came = Vec::new();
        for (i, n) in numbers.iter().enumerate() {
            if i % 7 != 0 {
                came.extend(taken(&mut window, [(0, *n)]));
            }
            if let Some(late) = i.checked_sub(30) {
                came.extend(taken(&mut window, [(0, numbers[late])]));
            }
        }
        came.sort_by_key(|(_, n)| n.wrapping_sub(65_000));
        let expected: Vec<_> = numbers[..came.len()].iter().map(|n| (0, *n)).collect();
        assert!(came.len() >= 1970);
        assert_eq!(came[..1970], expected[..1970]);
    }

    #[test]
    fn a_newer_epoch_counts_at_once_and_what_is_left_of_the_old_one_does_not_bring_it_back() {
        let mut window = TrackWindow::new(14, 100);
        assert_eq!(taken(&mut window, [(14, 100), (14, 101)]).len(), 2);
        // Seven ahead is newer, eight ahead is older.
        assert_eq!(taken(&mut window, [(5, 9), (14, 102), (5, 10), (13, 103), (5, 9)]), [(5, 9), (5, 10)]);
        // The second feed still brings the old epoch for a while, between packets of the new one.
        for n in 11..400 {
            assert_eq!(taken(&mut window, [(14, 100 + n), (5, n)]), [(5, n)]);
        }
    }

    #[test]
    fn epochs_that_count_on_are_followed_however_many() {
        let mut window = TrackWindow::new(3, 7);
        for n in 0..100_u8 {
            // The numbers of each start have nothing to do with those before.
            let (epoch, first) = ((3 + n) & 0x0f, 7 + u16::from(n).wrapping_mul(9_999));
            let packets = (0..3).map(|i| (epoch, first.wrapping_add(i)));
            assert_eq!(taken(&mut window, packets).len(), 3, "start {n}");
        }
    }

    #[test]
    fn an_epoch_that_seems_old_is_taken_when_nothing_else_comes() {
        let mut window = TrackWindow::new(4, 0);
        taken(&mut window, [(4, 0)]);
        let came = taken(&mut window, (0..200).map(|n| (2, n)));
        assert_eq!(came.len(), 200 - usize::from(STUBBORN));
    }

    #[test]
    fn a_publisher_whose_numbers_jump_back_is_heard_again() {
        for back in [20_000_u16, 700] {
            let (mut window, mut pace) = (TrackWindow::new(0, 40_000), Pace::new(0, 40_000));
            let mut takes = |n: u16| {
                let jumped = pace.jumped(0, n);
                window.takes_packet(0, n, jumped)
            };
            assert!((40_000..40_600).all(&mut takes));
            let came = (0..300).filter(|i| takes(40_600 - back + i)).count();
            assert!(came >= 300 - usize::from(JUMPED), "{came} of 300 after a jump by {back}");
        }
    }

    #[test]
    fn a_slow_feed_is_no_jump() {
        let mut window = TrackWindow::new(0, 0);
        assert_eq!(taken(&mut window, (0..1000).map(|n| (0, n))).len(), 1000);
        // The fast feed died; the slow one is 900 behind, and repeats all of it.
        let mut pace = Pace::new(0, 100);
        let came = (100..1500).filter(|n| {
            let jumped = pace.jumped(0, *n);
            window.takes_packet(0, *n, jumped)
        });
        assert_eq!(came.collect::<Vec<u16>>(), (1000..1500).collect::<Vec<u16>>());
    }

    #[test]
    fn a_clock_is_known_by_what_it_says() {
        let mut window = TrackWindow::new(0, 0);
        let clocks = [(0, 7), (0, 7), (0, 8), (2, 8), (0, 7), (0, 9), (2, 8)];
        let came: Vec<_> =
            clocks.into_iter().filter(|(epoch, ntp)| window.takes_clock(*epoch, *ntp)).collect();
        assert_eq!(came, [(0, 7), (0, 8), (2, 8), (0, 9)]);
    }

    proptest! {
        #[test]
        fn whatever_the_order_nothing_passes_twice(sequences in prop::collection::vec(0_u16..1000, 1..2000)) {
            let mut window = Window::new(0);
            let mut passed = std::collections::BTreeSet::new();
            for sequence in sequences {
                let fresh = matches!(window.insert(sequence), Seen::Fresh { .. } | Seen::Late);
                prop_assert_eq!(fresh, passed.insert(sequence));
            }
        }

        #[test]
        fn no_packet_of_a_track_passes_twice_within_an_epoch(packets in prop::collection::vec((0_u8..2, 0_u16..1000), 1..2000)) {
            let mut window = TrackWindow::new(0, 0);
            let mut passed = std::collections::BTreeSet::new();
            let mut epoch = 0;
            for packet in packets {
                if window.takes_packet(packet.0, packet.1, false) {
                    if packet.0 != epoch {
                        (epoch, passed) = (packet.0, Default::default());
                    }
                    prop_assert!(passed.insert(packet));
                }
            }
        }
    }
}
