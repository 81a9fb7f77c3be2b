//! How the numbers of a ring become those of a listener, from one source on until the next: without a hole where
//! packets were withheld, and back again for who asks for a packet once more.

use std::{collections::VecDeque, ops::Range};

use super::timeline::Timeline;
use crate::{
    rtp::descriptor::{Description, SpatialLayer},
    track::id::TrackId,
};

/// Packets of one source, one after the other.
#[derive(Debug)]
pub struct Run {
    /// What it is taken from.
    pub track: TrackId,
    /// Names it: no two runs of a listener have the same.
    pub name: u64,
    /// What becomes of timestamps.
    pub timeline: Timeline,
    /// Of its packets.
    pub epoch: u8,
    /// Numbers below have been sent while catching up.
    pub live_from: u64,
    /// From this index on the numbers of pictures are the listener's own.
    pub numbered_from: Option<u64>,
    /// The first number of the ring that the listener gets.
    first: u64,
    /// Its index at the listener (RFC 3711 section 3.3.1).
    index: u64,
    /// Above all numbers that were sent, left out or withheld.
    next: u64,
    /// What was withheld, by rising number.
    skips: VecDeque<Skip>,
    /// Below, what was withheld is forgotten.
    known_from: u64,
    /// Numbers that went as nothing but padding.
    blanks: VecDeque<u64>,
    /// The highest spatial layer that is sent, and from which number on.
    tops: VecDeque<(u64, SpatialLayer)>,
}

/// Numbers that were withheld, one after the other.
#[derive(Debug, Clone, Copy)]
struct Skip {
    from: u64,
    /// The first that was not.
    to: u64,
    /// How many before them.
    before: u64,
}

impl Skip {
    fn total(&self) -> u64 {
        self.before + (self.to - self.from)
    }
}

/// What a number of the ring is at the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has this index.
    At(u64),
    /// It has none: it was withheld.
    Withheld,
    /// It is from before the run, or nobody remembers.
    Unknown,
}

/// Two seconds of every other picture; who asks for something older gets nothing.
const SKIPS_MAX: usize = 128;
/// Late packets of pictures that were withheld: few, a publisher's repairs.
const BLANKS_MAX: usize = 64;
/// Changes of the highest spatial layer: about one a second at most.
const TOPS_MAX: usize = 32;

impl Run {
    /// A run that begins with the number `first` of the ring; the listener gets it under `index`. `top` is the highest
    /// spatial layer that is sent.
    pub fn new(
        (track, epoch): (TrackId, u8),
        name: u64,
        (first, index): (u64, u64),
        timeline: Timeline,
        top: SpatialLayer,
    ) -> Run {
        Run {
            track,
            name,
            timeline,
            epoch,
            live_from: 0,
            numbered_from: None,
            first,
            index,
            next: first,
            skips: VecDeque::new(),
            known_from: first,
            blanks: VecDeque::new(),
            tops: VecDeque::from([(first, top)]),
        }
    }

    /// The first index of the run.
    pub fn begins_at(&self) -> u64 {
        self.index
    }

    /// The number after the highest that was sent, left out or withheld.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// What a number of the ring is at the listener.
    pub fn place(&self, number: u64) -> Place {
        if number < self.known_from {
            return Place::Unknown;
        }
        let total = match self.skips.iter().rev().find(|skip| skip.from <= number) {
            Some(skip) if number < skip.to => return Place::Withheld,
            Some(skip) => skip.total(),
            None => self.skips.front().map_or(0, |skip| skip.before),
        };
        Place::At(self.index + (number - self.first) - total)
    }

    /// The number of the ring that the listener has under this index.
    pub fn number(&self, index: u64) -> Option<u64> {
        let step = index.checked_sub(self.index)? + self.first;
        let behind = self.skips.iter().rev().find(|skip| step + skip.total() >= skip.to);
        let total = behind.map_or_else(|| self.skips.front().map_or(0, |skip| skip.before), Skip::total);
        Some(step + total).filter(|number| *number >= self.known_from)
    }

    /// A packet leaves.
    pub fn sent(&mut self, number: u64) {
        self.next = self.next.max(number + 1);
    }

    /// A packet is not to leave. False if it has an index already, because later ones have left: then something has to
    /// go in its place.
    pub fn withhold(&mut self, number: u64) -> bool {
        if number < self.next {
            return self.place(number) == Place::Withheld;
        }
        self.skip(number..number + 1);
        true
    }

    /// Packets are not to come. Those that have an index already, because later ones have left, leave a hole: it cannot
    /// be told from a loss any more.
    pub fn skip(&mut self, numbers: Range<u64>) {
        let (from, to) = (numbers.start.max(self.next), numbers.end);
        if from >= to {
            return;
        }
        self.next = to;
        match self.skips.back_mut().filter(|skip| skip.to == from) {
            Some(skip) => skip.to = to,
            None => {
                let before = self.skips.back().map_or(0, Skip::total);
                self.skips.push_back(Skip { from, to, before });
            }
        }
        if self.skips.len() > SKIPS_MAX
            && let Some(skip) = self.skips.pop_front()
        {
            self.known_from = skip.to;
        }
    }

    /// From now on this is the highest spatial layer that is sent. What has left stays as it was.
    pub fn set_top(&mut self, top: SpatialLayer) {
        self.tops.push_back((self.next, top));
        if self.tops.len() > TOPS_MAX {
            self.tops.pop_front();
            // Where pictures ended before is not known any more.
            let first = self.tops.front().map_or(0, |(from, _)| *from);
            self.known_from = self.known_from.max(first);
        }
    }

    /// Whether a picture ends with this packet of layers that are sent, where the packet is not the last one of the
    /// whole picture.
    pub fn ends(&self, number: u64, said: &Description) -> bool {
        let top = self.tops.iter().rev().find(|(from, _)| *from <= number);
        top.is_some_and(|(_, top)| said.ends_at(*top))
    }

    /// Padding goes in the place of a packet, and whenever it is asked for again.
    pub fn blank(&mut self, number: u64) {
        if !self.is_blank(number) {
            self.blanks.push_back(number);
        }
        if self.blanks.len() > BLANKS_MAX
            && let Some(oldest) = self.blanks.pop_front()
        {
            // What it was then is not known any more.
            self.known_from = self.known_from.max(oldest + 1);
        }
    }

    /// Whether padding went in the place of this packet.
    pub fn is_blank(&self, number: u64) -> bool {
        self.blanks.contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run() -> Run {
        Run::new((TrackId(1), 0), 1, (100, 1000), Timeline::new(0), SpatialLayer(2))
    }

    #[test]
    fn what_is_withheld_leaves_no_hole() {
        let mut run = run();
        for number in 100..110 {
            if number % 3 == 0 { assert!(run.withhold(number)) } else { run.sent(number) }
        }
        let places: Vec<Place> = (100..110).map(|number| run.place(number)).collect();
        let sent = [1000, 1001, 0, 1002, 1003, 0, 1004, 1005, 0, 1006];
        let expected: Vec<Place> =
            sent.iter().map(|index| if *index == 0 { Place::Withheld } else { Place::At(*index) }).collect();
        assert_eq!(places, expected);
        assert_eq!(
            (1000..1007).filter_map(|index| run.number(index)).collect::<Vec<_>>(),
            [100, 101, 103, 104, 106, 107, 109]
        );
        assert_eq!((run.place(99), run.number(999)), (Place::Unknown, None));
    }

    #[test]
    fn a_packet_that_comes_late_has_its_place_and_is_not_withheld_any_more() {
        let mut run = run();
        run.sent(100);
        run.sent(103);
        assert!(run.withhold(104));
        assert!(!run.withhold(101), "103 has left under its number");
        assert_eq!(
            [101, 102, 103, 105].map(|number| run.place(number)),
            [1001, 1002, 1003, 1004].map(Place::At)
        );
        run.blank(101);
        assert!(run.is_blank(101) && !run.is_blank(102));
    }

    #[test]
    fn what_does_not_come_leaves_no_hole_and_what_comes_all_the_same_has_no_place() {
        let mut run = run();
        run.sent(100);
        run.skip(101..105);
        run.skip(103..107);
        // It waited for the rest of its picture when it was known that what follows does not come.
        run.sent(107);
        run.skip(105..109);
        run.sent(109);
        let places = [101, 106, 107, 108, 109].map(|number| run.place(number));
        let (at, withheld) = (Place::At, Place::Withheld);
        assert_eq!(places, [withheld, withheld, at(1001), withheld, at(1002)]);
        assert_eq!([1001, 1002].map(|index| run.number(index)), [Some(107), Some(109)]);
        run.skip(50..109);
        assert_eq!(run.place(109), Place::At(1002), "nothing of what has left is another now");
    }

    #[test]
    fn a_picture_ends_where_it_ended_when_it_left() {
        let mut run = run();
        let end = |spatial| Description {
            layer_ends: true,
            spatial: SpatialLayer(spatial),
            ..Description::default()
        };
        (100..110).for_each(|number| run.sent(number));
        run.set_top(SpatialLayer(0));
        (110..120).for_each(|number| run.sent(number));
        let ends = |run: &Run, number| [0, 1, 2].map(|spatial| run.ends(number, &end(spatial)));
        assert_eq!((ends(&run, 109), ends(&run, 110)), ([false, false, true], [true, false, false]));
        assert!(!run.ends(110, &Description { layer_ends: false, ..end(0) }));
        for change in 0..TOPS_MAX {
            run.set_top(SpatialLayer((change % 2) as u8));
            run.sent(120 + change as u64);
        }
        assert_eq!(run.place(109), Place::Unknown);
    }

    proptest! {
        #[test]
        fn indexes_lead_back_to_their_numbers(withheld in proptest::collection::vec(any::<bool>(), 1..600)) {
            let mut run = run();
            let mut next = 1000;
            for (number, withhold) in (100..).zip(&withheld) {
                if *withhold {
                    prop_assert!(run.withhold(number));
                    prop_assert_eq!(run.place(number), Place::Withheld);
                } else {
                    run.sent(number);
                    prop_assert_eq!(run.place(number), Place::At(next));
                    prop_assert_eq!(run.number(next), Some(number));
                    next += 1;
                }
            }
            for index in 1000..next {
                if let Some(number) = run.number(index) {
                    prop_assert_eq!(run.place(number), Place::At(index));
                }
            }
            let newest = (next - 1000).min(64);
            for index in next - newest..next {
                prop_assert!(run.number(index).is_some(), "the newest are known");
            }
        }
    }
}
