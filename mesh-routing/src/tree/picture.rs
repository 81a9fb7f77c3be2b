//! One picture that comes in several encodings, at a relay that it is not published at: which of its encodings are taken
//! from elsewhere. All that are wanted here and below would be a copy of the picture each, and most of it for few.
//!
//! Taken are the base, which everybody can have who can have any, and one encoding above it: the one by which most is
//! gained. Who wants another one gets the next lower of the two. What does not come is left alone for a while, and the
//! next best taken meanwhile. If even the base does not come, because the relays on the way know of no encodings, the
//! picture is taken as a whole.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::mesh::MAX_ENCODINGS;

use crate::wire::{
    metric::LinkId,
    rates::{AdvertisedEncoding, StreamRates},
};

/// What did not come after this time is not to be had. Longer than [`crate::tree::children::WAIT`].
const PATIENCE: Duration = Duration::from_secs(1);
/// The base is waited for a little longer: what comes in its place is another picture.
const BASE_PATIENCE: Duration = Duration::from_millis(1500);
/// The first and the longest wait before an encoding that was not to be had is tried again. Asking costs a message, and
/// nothing flows for it.
const BARRED_MIN: Duration = Duration::from_secs(5);
const BARRED_MAX: Duration = Duration::from_secs(15);
/// What a child asked for is remembered until it would have asked again: the longest wait, and what the answer takes.
const REMEMBERED: Duration = Duration::from_secs(18);
/// An encoding that has come for so long is forgiven what it failed before.
const FORGIVEN: Duration = Duration::from_secs(10);
/// One that works is not exchanged sooner: each exchange costs a keyframe.
const HELD: Duration = Duration::from_secs(2);

/// What the listeners at one relay want of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureDemand {
    /// All who see it.
    pub listeners: u32,
    /// How many of them want each encoding, by its place, and none above it. The others want the base.
    pub wanted: [u32; MAX_ENCODINGS],
}

/// What is taken of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// It, as a whole.
    pub whole: bool,
    /// The place of its base.
    pub base: Option<u8>,
    /// The place of one encoding above that.
    pub upper: Option<u8>,
    /// How many gain by it.
    pub behind: u32,
}

impl Taken {
    pub fn contains(&self, place: u8) -> bool {
        self.base == Some(place) || self.upper == Some(place)
    }
}

/// What there is of a picture, and who wants it below.
pub(crate) struct Seen<'a> {
    pub rates: &'a StreamRates,
    /// Of each child the best encoding that it asks for, by rank, and how many listeners that is for.
    pub below: &'a BTreeMap<LinkId, (u8, u32)>,
    /// Whether an encoding is joined, by place.
    pub joined: [bool; MAX_ENCODINGS],
}

/// One picture that is taken from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    demand: PictureDemand,
    upper: Option<Upper>,
    barred: BTreeMap<u8, Barred>,
    /// Of each child the best that it asked for lately.
    wishes: BTreeMap<LinkId, Wish>,
    /// Since when the base is wanted and does not come.
    without_base: Option<Instant>,
    looked: Option<Instant>,
}

/// The encoding above the base that is taken.
#[derive(Debug, Clone, Copy)]
struct Upper {
    place: u8,
    since: Instant,
    /// Since when it does not come.
    dry: Option<Instant>,
}

/// An encoding that did not come.
#[derive(Debug, Clone, Copy)]
struct Barred {
    until: Instant,
    wait: Duration,
}

/// What a child asked for at best. It asks now and then for what it was refused, and other children at other times. So how
/// many would gain by it is known only from what each of them asked for lately.
#[derive(Debug, Clone, Copy)]
struct Wish {
    rank: u8,
    listeners: u32,
    at: Instant,
}

impl Picture {
    /// What is wanted here is another.
    pub fn handle_demand(&mut self, demand: PictureDemand) {
        self.demand = demand;
    }

    /// Whether somebody here sees it.
    pub fn is_seen(&self) -> bool {
        self.demand.listeners > 0
    }

    /// What did not come may come now.
    pub fn forgive(&mut self) {
        self.barred.clear();
    }

    /// What is to be taken now.
    pub fn settle(&mut self, seen: &Seen<'_>, now: Instant) -> Taken {
        self.looked = Some(now);
        let joined = |place: u8| seen.joined.get(usize::from(place)).copied().unwrap_or_default();
        let wanted = self.wanted(seen);
        self.remember(seen.below, now);
        let wished = self.wished(seen.rates);
        let base = seen.rates.base().filter(|_| wanted.iter().any(|count| *count > 0));
        let Some(base) = base else {
            (self.upper, self.without_base) = (None, None);
            return Taken { whole: self.is_seen() && seen.rates.encodings.is_empty(), ..Taken::default() };
        };
        let comes = joined(base) || !self.is_seen();
        let without = if comes { None } else { self.without_base.or(Some(now)) };
        self.without_base = without;
        if let Some(upper) = &mut self.upper {
            let comes = joined(upper.place);
            upper.dry = if comes { None } else { upper.dry.or(Some(now)) };
            let upper = *upper;
            if upper.dry.is_some_and(|dry| now >= dry + PATIENCE) {
                self.bar(upper.place, now);
            } else if comes && now >= upper.since + FORGIVEN {
                self.barred.remove(&upper.place);
            }
        }
        self.choose(&seen.rates.encodings, (&wanted, &wished), now);
        Taken {
            whole: without.is_some_and(|since| now >= since + BASE_PATIENCE),
            base: Some(base),
            upper: self.upper.map(|upper| upper.place),
            behind: self.upper.map_or(0, |upper| {
                from(&wished, usize::from(seen.rates.rank(upper.place).unwrap_or_default()))
            }),
        }
    }

    /// When it wants to be settled again, if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let upper = self.upper.iter().flat_map(|upper| {
            let dry = upper.dry.map(|dry| dry + PATIENCE);
            dry.into_iter().chain([upper.since + HELD])
        });
        let barred = self.barred.values().map(|barred| barred.until);
        let base = self.without_base.map(|since| since + BASE_PATIENCE);
        let looked = self.looked;
        upper.chain(barred).chain(base).filter(|at| looked.is_none_or(|looked| *at > looked)).min()
    }

    fn remember(&mut self, below: &BTreeMap<LinkId, (u8, u32)>, now: Instant) {
        self.wishes.retain(|link, _| below.contains_key(link));
        for (link, (rank, listeners)) in below {
            let wish = Wish { rank: *rank, listeners: *listeners, at: now };
            let known = self.wishes.entry(*link).or_insert(wish);
            if *rank >= known.rank || now >= known.at + REMEMBERED {
                *known = wish;
            }
        }
    }

    /// How many want each encoding at most, by rank: listeners here, and those below for whom it is asked for now.
    fn wanted(&self, seen: &Seen<'_>) -> Vec<u32> {
        self.with(seen.rates, seen.below.values().copied())
    }

    /// As [`Picture::wanted`], with what was asked for lately.
    fn wished(&self, rates: &StreamRates) -> Vec<u32> {
        self.with(rates, self.wishes.values().map(|wish| (wish.rank, wish.listeners)))
    }

    fn with(&self, rates: &StreamRates, below: impl Iterator<Item = (u8, u32)>) -> Vec<u32> {
        let mut wanted = self.wanted_here(rates);
        for (rank, behind) in below {
            if let Some(count) = wanted.get_mut(usize::from(rank)) {
                *count = count.saturating_add(behind);
            }
        }
        wanted
    }

    fn wanted_here(&self, rates: &StreamRates) -> Vec<u32> {
        let mut wanted = vec![0; rates.encodings.len()];
        let mut others = self.demand.listeners;
        for (place, count) in (0..).zip(self.demand.wanted) {
            if let Some(rank) = rates.rank(place) {
                let count = count.min(others);
                wanted[usize::from(rank)] += count;
                others -= count;
            }
        }
        if let Some(base) = wanted.first_mut() {
            *base += others;
        }
        wanted
    }

    /// Takes the encoding by which most is gained: so many steps above the base for each who gets it. Who wants less
    /// than it gets the base, and gains nothing. What nobody asks for now is not taken, however many wished for it.
    fn choose(&mut self, encodings: &[AdvertisedEncoding], (wanted, wished): (&[u32], &[u32]), now: Instant) {
        let gain = |rank: usize| u64::from(from(wished, rank)) * rank as u64;
        let fits = |rank: &usize| {
            let barred = self.barred.get(&encodings[*rank].place).is_some_and(|barred| barred.until > now);
            !barred && from(wanted, *rank) > 0
        };
        // Of equal ones the lower: it costs less.
        let best = (1..encodings.len()).rev().filter(fits).max_by_key(|rank| gain(*rank));
        let best = best.map(|rank| encodings[rank].place);
        if let Some(present) = self.upper {
            let still = |rank: &usize| encodings[*rank].place == present.place && fits(rank);
            let works = (1..encodings.len()).any(|rank| still(&rank));
            if best == Some(present.place) || works && now < present.since + HELD {
                return;
            }
        }
        self.upper = best.map(|place| Upper { place, since: now, dry: None });
    }

    fn bar(&mut self, place: u8, now: Instant) {
        let before = self.barred.get(&place).map(|barred| barred.wait * 2);
        let wait = before.unwrap_or(BARRED_MIN).min(BARRED_MAX);
        self.barred.insert(place, Barred { until: now + wait, wait });
    }
}

/// How many get an encoding of this rank: those who want it or a better one.
fn from(wanted: &[u32], rank: usize) -> u32 {
    wanted.iter().skip(rank).fold(0, |sum, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sim::epoch,
        wire::{label::Label, rates::NominalRate},
    };

    const LOW: u8 = 2;
    const MIDDLE: u8 = 0;
    const TOP: u8 = 1;
    const SECOND: Duration = Duration::from_secs(1);

    fn rates() -> StreamRates {
        let encoding = |(place, rate)| AdvertisedEncoding {
            place,
            rate: NominalRate::of(rate),
            label: Label::default(),
        };
        let encodings = [(LOW, 120_000), (MIDDLE, 600_000), (TOP, 2_000_000)].map(encoding).to_vec();
        StreamRates { encodings, ..StreamRates::default() }
    }

    fn demand(low: u32, middle: u32, top: u32) -> PictureDemand {
        PictureDemand { listeners: low + middle + top, wanted: [middle, top, low, 0] }
    }

    fn settle(picture: &mut Picture, below: &[(u8, u32)], joined: &[u8], now: Instant) -> Taken {
        let rates = rates();
        let joined = std::array::from_fn(|place| joined.contains(&(place as u8)));
        let below = (0..).map(LinkId).zip(below.iter().copied()).collect();
        let taken = picture.settle(&Seen { rates: &rates, below: &below, joined }, now);
        Taken { behind: 0, ..taken }
    }

    fn taken(base: u8, upper: Option<u8>) -> Taken {
        Taken { whole: false, base: Some(base), upper, behind: 0 }
    }

    #[test]
    fn the_base_and_the_one_by_which_most_is_gained_are_taken() {
        let now = epoch();
        for (low, middle, top, below, upper) in [
            (1, 0, 0, &[][..], None),
            (0, 0, 1, &[], Some(TOP)),
            (5, 1, 0, &[], Some(MIDDLE)),
            (0, 5, 1, &[], Some(MIDDLE)),
            (0, 1, 5, &[], Some(TOP)),
            // One each: of equal ones the lower.
            (0, 1, 1, &[], Some(MIDDLE)),
            (0, 0, 0, &[(1, 1), (2, 1), (2, 1)], Some(TOP)),
            // Children stand for those behind them.
            (0, 0, 1, &[(1, 9), (2, 1)], Some(MIDDLE)),
            (0, 9, 0, &[(2, 300)], Some(TOP)),
            (0, 0, 0, &[(0, 1), (0, 1)], None),
        ] {
            let mut picture = Picture::default();
            picture.handle_demand(demand(low, middle, top));
            let seen = settle(&mut picture, below, &[LOW, MIDDLE, TOP], now);
            assert_eq!(seen, taken(LOW, upper), "{low} {middle} {top} {below:?}");
        }
    }

    #[test]
    fn nothing_is_taken_for_nobody() {
        assert_eq!(settle(&mut Picture::default(), &[], &[], epoch()), Taken::default());
    }

    #[test]
    fn what_does_not_come_gives_way_to_the_next_lower_and_is_tried_again() {
        let (mut picture, start) = (Picture::default(), epoch());
        picture.handle_demand(demand(0, 0, 3));
        assert_eq!(settle(&mut picture, &[], &[LOW], start), taken(LOW, Some(TOP)));
        assert_eq!(settle(&mut picture, &[], &[LOW], start), taken(LOW, Some(TOP)));
        assert_eq!(picture.deadline(), Some(start + PATIENCE));
        let mut now = start + PATIENCE;
        assert_eq!(settle(&mut picture, &[], &[LOW], now), taken(LOW, Some(MIDDLE)));
        // It comes. The top is tried after 5, 10, 15 and 15 s.
        for wait in [5, 10, 15, 15] {
            let barred = now;
            loop {
                now = picture.deadline().expect("it is tried again");
                if settle(&mut picture, &[], &[LOW, MIDDLE], now).upper == Some(TOP) {
                    break;
                }
            }
            assert_eq!(now, barred + wait * SECOND);
            settle(&mut picture, &[], &[LOW, MIDDLE], now);
            now += PATIENCE;
            assert_eq!(settle(&mut picture, &[], &[LOW, MIDDLE], now), taken(LOW, Some(MIDDLE)));
        }
    }

    #[test]
    fn what_is_forgiven_is_tried_at_once() {
        let (mut picture, start) = (Picture::default(), epoch());
        picture.handle_demand(demand(0, 0, 3));
        (0..2).for_each(|_| assert_eq!(settle(&mut picture, &[], &[LOW], start), taken(LOW, Some(TOP))));
        let now = start + PATIENCE;
        assert_eq!(settle(&mut picture, &[], &[LOW], now), taken(LOW, Some(MIDDLE)));
        picture.forgive();
        let now = now + HELD;
        assert_eq!(settle(&mut picture, &[], &[LOW, MIDDLE], now), taken(LOW, Some(TOP)));
    }

    #[test]
    fn without_its_base_a_picture_is_taken_as_a_whole_until_the_base_comes() {
        let (mut picture, start) = (Picture::default(), epoch());
        picture.handle_demand(demand(2, 0, 0));
        assert!(!settle(&mut picture, &[], &[], start).whole);
        assert_eq!(picture.deadline(), Some(start + BASE_PATIENCE));
        let late = start + BASE_PATIENCE;
        assert_eq!(settle(&mut picture, &[], &[], late), Taken { whole: true, ..taken(LOW, None) });
        assert!(!settle(&mut picture, &[], &[LOW], late).whole);
        // For children alone nothing is taken that they did not ask for.
        picture.handle_demand(PictureDemand::default());
        settle(&mut picture, &[(0, 1)], &[], late);
        assert!(!settle(&mut picture, &[(0, 1)], &[], late + BASE_PATIENCE).whole);
    }

    #[test]
    fn a_picture_in_one_encoding_is_a_whole() {
        let (mut picture, now) = (Picture::default(), epoch());
        picture.handle_demand(demand(0, 0, 2));
        let rates = StreamRates::default();
        let seen = Seen { rates: &rates, below: &BTreeMap::new(), joined: [false; MAX_ENCODINGS] };
        assert_eq!(picture.settle(&seen, now), Taken { whole: true, ..Taken::default() });
    }

    #[test]
    fn children_that_ask_at_different_times_are_counted_together() {
        let (mut picture, start, rates) = (Picture::default(), epoch(), rates());
        let joined = [false, false, true, false];
        let mut behind = |below: &[(u8, u32)], after| {
            let below = (0..).map(LinkId).zip(below.iter().copied()).collect();
            picture.settle(&Seen { rates: &rates, below: &below, joined }, start + after).behind
        };
        assert_eq!(behind(&[(2, 3), (0, 5)], Duration::ZERO), 3);
        assert_eq!(behind(&[(0, 3), (2, 5)], 5 * SECOND), 8);
        // One of them is gone, and the other wants less for long.
        assert_eq!(behind(&[(2, 3)], 6 * SECOND), 3);
        assert_eq!(behind(&[(1, 3)], 6 * SECOND + REMEMBERED), 3);
        assert_eq!(behind(&[(0, 3)], 30 * SECOND), 0);
    }

    #[test]
    fn one_that_works_stays_for_a_while() {
        let (mut picture, start) = (Picture::default(), epoch());
        picture.handle_demand(demand(0, 1, 0));
        settle(&mut picture, &[], &[LOW, MIDDLE], start);
        picture.handle_demand(demand(0, 1, 9));
        assert_eq!(settle(&mut picture, &[], &[LOW, MIDDLE], start + SECOND).upper, Some(MIDDLE));
        assert_eq!(picture.deadline(), Some(start + HELD));
        assert_eq!(settle(&mut picture, &[], &[LOW, MIDDLE], start + HELD).upper, Some(TOP));
        // What nobody wants any more goes at once.
        picture.handle_demand(demand(1, 0, 0));
        assert_eq!(settle(&mut picture, &[], &[LOW, TOP], start + HELD).upper, None);
    }
}
