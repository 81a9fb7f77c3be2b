//! One sound at a relay that it is not published at: in which qualities it is taken from elsewhere. A quality is a rung that
//! its origin makes, or what its publisher sends, the top.
//!
//! Each that listeners here want is taken. Where it does not come, because a link is thin, the next lower one is taken
//! beside it, and what does not come is left alone for a while. Where nothing lower comes, because the relays on the way
//! know of no rungs, the next better one is. What is wanted below is asked for by children, track by track.

use std::time::{Duration, Instant};

use protocol::mesh::{MAX_RUNGS, StreamTrack};

/// Qualities of a sound: its rungs by rising quality, then what its publisher sends.
pub(crate) const QUALITIES: usize = MAX_RUNGS + 1;
/// What the publisher sends.
pub(crate) const TOP: usize = MAX_RUNGS;

/// What is asked for and does not come after this time is not to be had. Longer than [`crate::tree::children::WAIT`].
const PATIENCE: Duration = Duration::from_secs(1);
/// The first and the longest wait before a quality that was not to be had is tried again, as of pictures.
const BARRED_MIN: Duration = Duration::from_secs(5);
const BARRED_MAX: Duration = Duration::from_secs(15);
/// What has come for so long is forgiven what it failed before.
const FORGIVEN: Duration = Duration::from_secs(10);

/// What the listeners at one relay want of a sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoundDemand {
    /// All who hear it.
    pub listeners: u32,
    /// How many of them want each rung, and none above it. The others want what the publisher sends.
    pub wanted: [u32; MAX_RUNGS],
}

impl SoundDemand {
    /// How many want each quality.
    pub(crate) fn by_quality(&self) -> [u32; QUALITIES] {
        let mut others = self.listeners;
        std::array::from_fn(|quality| {
            let count = self.wanted.get(quality).map_or(others, |count| (*count).min(others));
            others -= count;
            count
        })
    }
}

/// The track of a quality.
pub(crate) fn track(quality: usize) -> StreamTrack {
    if quality < TOP { StreamTrack::Rung(quality as u8) } else { StreamTrack::Audio }
}

/// What there is of a sound.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Its origin says that it can be had.
    pub offered: [bool; QUALITIES],
    /// A parent has agreed to send it.
    pub joined: [bool; QUALITIES],
    /// A parent is asked for it and has not answered.
    pub asked: [bool; QUALITIES],
}

/// What is taken of a sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// For listeners here.
    pub takes: [bool; QUALITIES],
    /// Not to be had for a while, whoever wants it.
    pub barred: [bool; QUALITIES],
}

/// One sound that is taken from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Sound {
    demand: SoundDemand,
    state: [Quality; QUALITIES],
    looked: Option<Instant>,
    /// What comes, as the driver was told.
    told: [bool; QUALITIES],
}

/// What is known of one quality.
#[derive(Debug, Clone, Copy, Default)]
struct Quality {
    /// Since when it is taken and comes.
    comes: Option<Instant>,
    /// Since when it is taken and does not come.
    dry: Option<Instant>,
    /// It has come since it is taken.
    came: bool,
    /// It did not come: until when it is left alone, and for how long.
    barred: Option<(Instant, Duration)>,
}

impl Quality {
    fn is_barred(&self, now: Instant) -> bool {
        self.barred.is_some_and(|(until, _)| until > now)
    }

    fn bar(&mut self, now: Instant) {
        let wait = self.barred.map_or(BARRED_MIN, |(_, wait)| wait * 2).min(BARRED_MAX);
        *self = Quality { barred: Some((now + wait, wait)), ..Quality::default() };
    }

    /// It is taken. Whether there is nothing to do but to wait for it, or it is there.
    fn take(&mut self, joined: bool, asked: bool, now: Instant) -> bool {
        if joined {
            let since = *self.comes.get_or_insert(now);
            if now >= since + FORGIVEN {
                self.barred = None;
            }
            (self.came, self.dry) = (true, None);
            return true;
        }
        self.comes = None;
        let fresh = self.dry.is_none();
        self.dry.get_or_insert(now);
        // What came and does not any more is missed at once.
        !self.came && (fresh || asked)
    }
}

impl Sound {
    /// What is wanted here is another.
    pub fn handle_demand(&mut self, demand: SoundDemand) {
        self.demand = demand;
    }

    /// What is wanted here.
    pub fn demand(&self) -> &SoundDemand {
        &self.demand
    }

    /// Whether somebody here hears it.
    pub fn is_heard(&self) -> bool {
        self.demand.listeners > 0
    }

    /// What did not come may come now.
    pub fn forgive(&mut self) {
        self.state.iter_mut().for_each(|quality| quality.barred = None);
    }

    /// What comes, if the driver was told something else.
    pub fn poll_comes(&mut self, joined: [bool; QUALITIES]) -> Option<[bool; QUALITIES]> {
        (std::mem::replace(&mut self.told, joined) != joined).then_some(joined)
    }

    /// What comes, as the driver was told.
    pub fn comes(&self) -> [bool; QUALITIES] {
        self.told
    }

    /// What is to be taken now.
    pub fn settle(&mut self, seen: &Seen, now: Instant) -> Taken {
        self.looked = Some(now);
        let mut takes = [false; QUALITIES];
        for (quality, count) in self.demand.by_quality().into_iter().enumerate().rev() {
            if count > 0 {
                self.take(quality, &mut takes, seen, now);
            }
        }
        for (quality, takes) in self.state.iter_mut().zip(takes) {
            if !takes {
                *quality = Quality { barred: quality.barred, ..Quality::default() };
            }
        }
        Taken { takes, barred: self.state.map(|quality| quality.is_barred(now)) }
    }

    /// Takes a quality, and what is to come in its place as long as it does not: the next lower ones, then the next better.
    fn take(&mut self, wanted: usize, takes: &mut [bool; QUALITIES], seen: &Seen, now: Instant) {
        for quality in (0..=wanted).rev().chain(wanted + 1..QUALITIES) {
            let state = &mut self.state[quality];
            if !seen.offered[quality] || state.is_barred(now) {
                continue;
            }
            let other = (0..QUALITIES).any(|other| other != quality && seen.joined[other]);
            // While nothing comes everything is tried.
            if other && !seen.joined[quality] && state.dry.is_some_and(|dry| now >= dry + PATIENCE) {
                state.bar(now);
                takes[quality] = false;
                continue;
            }
            takes[quality] = true;
            if state.take(seen.joined[quality], seen.asked[quality], now) {
                return;
            }
        }
    }

    /// When it wants to be settled again, if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let looked = self.looked;
        let of = |quality: &Quality| {
            [quality.dry.map(|dry| dry + PATIENCE), quality.barred.map(|(until, _)| until)]
        };
        let all = self.state.iter().flat_map(of).flatten();
        all.filter(|at| looked.is_none_or(|looked| *at > looked)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::epoch;

    const LOW: usize = 0;
    const MIDDLE: usize = 1;
    const MS: Duration = Duration::from_millis(1);

    fn heard(low: u32, middle: u32, top: u32) -> Sound {
        let demand = SoundDemand { listeners: low + middle + top, wanted: [low, middle] };
        Sound { demand, ..Sound::default() }
    }

    fn seen(joined: &[usize], asked: &[usize]) -> Seen {
        let is = |of: &[usize]| std::array::from_fn(|quality| of.contains(&quality));
        Seen { offered: [true; QUALITIES], joined: is(joined), asked: is(asked) }
    }

    fn takes(sound: &mut Sound, seen: &Seen, now: Instant) -> Vec<usize> {
        let taken = sound.settle(seen, now).takes;
        (0..QUALITIES).filter(|quality| taken[*quality]).collect()
    }

    #[test]
    fn each_quality_that_is_wanted_is_taken_and_no_other() {
        let now = epoch();
        for (low, middle, top, all) in [
            (0, 0, 3, &[TOP][..]),
            (1, 0, 3, &[LOW, TOP]),
            (0, 2, 0, &[MIDDLE]),
            (1, 1, 1, &[LOW, MIDDLE, TOP]),
            (0, 0, 0, &[]),
        ] {
            let mut sound = heard(low, middle, top);
            assert_eq!(takes(&mut sound, &seen(&[], &[]), now), all);
            assert_eq!(takes(&mut sound, &seen(all, &[]), now), all);
            assert_eq!(sound.deadline(), None);
        }
        // More than there are want nothing.
        let demand = SoundDemand { listeners: 2, wanted: [1, 9] };
        assert_eq!(demand.by_quality(), [1, 1, 0]);
    }

    #[test]
    fn where_the_top_is_refused_the_next_lower_is_taken_until_it_is_tried_again() {
        let (mut sound, start) = (heard(0, 0, 2), epoch());
        assert_eq!(takes(&mut sound, &seen(&[], &[]), start), [TOP]);
        assert_eq!(takes(&mut sound, &seen(&[], &[TOP]), start + MS), [TOP], "it is asked for");
        assert_eq!(takes(&mut sound, &seen(&[], &[]), start + 2 * MS), [MIDDLE, TOP]);
        assert_eq!(takes(&mut sound, &seen(&[], &[]), start + 3 * MS), [LOW, MIDDLE, TOP]);
        let low = seen(&[LOW], &[]);
        assert_eq!(takes(&mut sound, &low, start + 4 * MS), [LOW, MIDDLE, TOP]);
        let mut now = start + PATIENCE + 3 * MS;
        let taken = sound.settle(&low, now);
        assert_eq!((taken.takes, taken.barred), ([true, false, false], [false, true, true]));
        for wait in [5, 10, 15, 15] {
            let barred = now;
            now = sound.deadline().expect("it is tried again");
            assert_eq!(now, barred + Duration::from_secs(wait));
            assert_eq!(takes(&mut sound, &low, now), [TOP]);
            assert_eq!(takes(&mut sound, &low, now + MS), [MIDDLE, TOP]);
            assert_eq!(takes(&mut sound, &low, now + 2 * MS), [LOW, MIDDLE, TOP]);
            now += PATIENCE + 2 * MS;
            assert_eq!(takes(&mut sound, &low, now), [LOW]);
        }
        // There is room.
        sound.forgive();
        assert_eq!(takes(&mut sound, &low, now), [TOP]);
        assert_eq!(takes(&mut sound, &seen(&[LOW, TOP], &[]), now + MS), [TOP]);
    }

    #[test]
    fn what_is_lost_is_covered_at_once_though_others_are_asked() {
        let (mut sound, start) = (heard(0, 0, 1), epoch());
        takes(&mut sound, &seen(&[TOP], &[]), start);
        assert_eq!(takes(&mut sound, &seen(&[], &[TOP]), start + MS), [MIDDLE, TOP]);
        // The other way has it.
        assert_eq!(takes(&mut sound, &seen(&[MIDDLE, TOP], &[]), start + 2 * MS), [TOP]);
    }

    #[test]
    fn while_nothing_comes_nothing_is_given_up() {
        let (mut sound, start) = (heard(0, 0, 1), epoch());
        let nothing = seen(&[], &[]);
        takes(&mut sound, &nothing, start);
        takes(&mut sound, &nothing, start + MS);
        for second in 1..60 {
            let now = start + Duration::from_secs(second);
            let taken = sound.settle(&nothing, now);
            assert_eq!((taken.takes, taken.barred), ([true; QUALITIES], [false; QUALITIES]));
        }
    }

    #[test]
    fn past_relays_that_know_of_no_rungs_who_wants_less_gets_the_top() {
        let (mut sound, start) = (heard(1, 0, 0), epoch());
        assert_eq!(takes(&mut sound, &seen(&[], &[]), start), [LOW]);
        assert_eq!(takes(&mut sound, &seen(&[], &[]), start + MS), [LOW, MIDDLE]);
        assert_eq!(takes(&mut sound, &seen(&[], &[]), start + 2 * MS), [LOW, MIDDLE, TOP]);
        let now = start + PATIENCE + MS;
        assert_eq!(takes(&mut sound, &seen(&[TOP], &[]), now), [TOP]);
    }

    #[test]
    fn rungs_that_are_not_offered_are_not_asked_for() {
        let (mut sound, now) = (heard(1, 0, 1), epoch());
        let mut top = seen(&[], &[]);
        top.offered = [false, false, true];
        assert_eq!(takes(&mut sound, &top, now), [TOP]);
        assert_eq!(takes(&mut sound, &top, now + MS), [TOP]);
    }
}
