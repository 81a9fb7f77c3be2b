//! What of the packets that a listener misses goes to it once more, and when: repairs use the same path as what they
//! repair.

use std::time::{Duration, Instant};

use protocol::Kind;

use crate::bandwidth::Estimator;

/// How much one listener may have sent again.
#[derive(Debug)]
pub struct RepairBudget {
    since: Option<Instant>,
    used: u32,
    /// Octets of pictures that may go. Below zero when more went: a packet goes whole.
    octets: f64,
    filled_at: Option<Instant>,
    /// Packets of sound that may go.
    sound: u8,
    /// What went lately, by the index. There once something was repaired.
    newest: Option<Box<[Option<Went>; NEWEST]>>,
}

/// An index, when it last went once more, and how often.
type Went = (u64, Instant, u8);

/// Why a packet does not go once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It went once more a moment ago, and the listener cannot know yet.
    OnItsWay,
    /// The listener has asked for more than its path has room for.
    Budget,
}

/// A listener may have so many packets repaired per second; one that asks for everything again would only make its
/// own link worse.
const PER_SECOND: u32 = 500;
/// Repairs that are remembered: a listener asks again for what it lost within one queue.
const NEWEST: usize = 64;
/// A listener asks again each round trip as it knows it, which leaves the queue of the moment out.
const ANSWER_LEAST: Duration = Duration::from_millis(20);
const ANSWER_MOST: Duration = Duration::from_millis(500);
/// Of the estimate repairs of a picture take no more, where the path has shown its limit: what a radio loses is less.
const SHARE: f64 = 0.5;
/// So many octets at once, after a rest.
const BURST: f64 = 12_000.0;
/// Packets of sound: 200 ms of it and more. What is older is not heard any more.
const SOUND_BURST: u8 = 16;
/// A packet of sound goes so often: then there is no time for another.
const SOUND_TRIES: u8 = 2;

impl Default for RepairBudget {
    fn default() -> Self {
        RepairBudget { since: None, used: 0, octets: 0.0, filled_at: None, sound: SOUND_BURST, newest: None }
    }
}

impl RepairBudget {
    /// A packet of sound leaves for the first time: one may go once more.
    pub fn handle_sound(&mut self) {
        self.sound = (self.sound + 1).min(SOUND_BURST);
    }

    /// Takes what a packet of this index and size needs.
    ///
    /// # Errors
    /// If it is not to go: why.
    pub fn take(
        &mut self,
        (kind, index, octets): (Kind, u64, usize),
        path: Option<&Estimator>,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.used) = (Some(now), 0);
        }
        self.used += 1;
        if self.used > PER_SECOND {
            return Err(Refusal::Budget);
        }
        let path = path.filter(|path| path.is_told());
        if path.is_none() && kind == Kind::Video {
            return Ok(());
        }
        let slot = index as usize % NEWEST;
        let answered = path.map(|path| path.response().clamp(ANSWER_LEAST, ANSWER_MOST)).unwrap_or_default();
        let went = self.newest.as_ref().and_then(|newest| newest[slot]).filter(|(known, ..)| *known == index);
        if went.is_some_and(|(_, at, _)| now < at + answered) {
            return Err(Refusal::OnItsWay);
        }
        let tries = went.map_or(0, |(.., tries)| tries);
        match (kind, path) {
            (Kind::Audio, _) if tries >= SOUND_TRIES || self.sound == 0 => {
                return Err(Refusal::Budget);
            }
            (Kind::Audio, _) => self.sound -= 1,
            (Kind::Video, Some(path)) if path.is_limited() && !self.take_octets(octets as f64, path, now) => {
                return Err(Refusal::Budget);
            }
            (Kind::Video, _) => {}
        }
        let newest = self.newest.get_or_insert_with(|| Box::new([None; NEWEST]));
        newest[slot] = Some((index, now, tries + 1));
        Ok(())
    }

    fn take_octets(&mut self, octets: f64, path: &Estimator, now: Instant) -> bool {
        let elapsed = self.filled_at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        self.filled_at = Some(now);
        let rate = SHARE * path.bitrate(now) as f64 / 8.0;
        self.octets = (self.octets + rate * elapsed.as_secs_f64()).min(BURST);
        // In a long queue a repair comes too late for its picture, and keeps out what would be in time.
        let takes = !path.is_full() && self.octets > 0.0;
        if takes {
            self.octets -= octets;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A path that has shown this limit.
    fn limited(bitrate: u64, now: Instant) -> Estimator {
        let mut path = Estimator::new(true, now);
        path.limit_to(bitrate, now);
        path
    }

    #[test]
    fn what_is_on_its_way_does_not_go_again_until_the_listener_can_have_told() {
        let now = start();
        let (path, mut budget) = (limited(1_000_000, now), RepairBudget::default());
        let mut take = |index, after| budget.take((Kind::Audio, index, 160), Some(&path), now + after);
        assert_eq!(take(7, ms(0)), Ok(()));
        assert_eq!(
            take(7, ms(99)),
            Err(Refusal::OnItsWay),
            "an answer takes 100 ms as long as nothing is known"
        );
        assert_eq!(take(8, ms(99)), Ok(()));
        assert_eq!(take(7, ms(101)), Ok(()), "it may be lost again");
        // Another one at the same place is not taken for it.
        assert_eq!(take(7 + NEWEST as u64, ms(102)), Ok(()));
        let mut untold = RepairBudget::default();
        for _ in 0..10 {
            assert_eq!(
                untold.take((Kind::Video, 7, 1200), None, now),
                Ok(()),
                "nothing is known of its path"
            );
        }
    }

    #[test]
    fn a_picture_takes_half_of_what_a_limited_path_carries_and_sound_what_it_needs() {
        let now = start();
        let path = limited(800_000, now);
        let taken = |kind, seconds: u32| {
            let mut budget = RepairBudget::default();
            let asked = |tick| {
                // Of the sound as much leaves for the first time.
                budget.handle_sound();
                let asked = (kind, u64::from(tick), 1000);
                budget.take(asked, Some(&path), now + ms(10) * tick).map_or(0, |()| 1000)
            };
            (0..seconds * 100).map(asked).sum::<u32>()
        };
        let picture = taken(Kind::Video, 10);
        assert!((500_000..=515_000).contains(&picture), "50 kB a second and 12 kB at once: {picture}");
        assert_eq!(taken(Kind::Audio, 10), 1_000_000);
    }

    #[test]
    fn sound_goes_twice_again_and_no_more_of_it_than_left_for_the_first_time() {
        let now = start();
        for path in [None, Some(&limited(800_000, now))] {
            let mut budget = RepairBudget::default();
            let mut take = |index, after| budget.take((Kind::Audio, index, 200), path, now + after);
            assert_eq!(
                [take(3, ms(0)), take(3, ms(200)), take(3, ms(400))],
                [Ok(()), Ok(()), Err(Refusal::Budget)]
            );
            let went = (4..400).filter(|index| take(*index, ms(500)).is_ok()).count();
            assert_eq!(went, 14, "16 in all");
            (0..2).for_each(|_| budget.handle_sound());
            let went = (400..500)
                .filter(|index| budget.take((Kind::Audio, *index, 200), path, now + ms(600)).is_ok());
            assert_eq!(went.count(), 2);
        }
    }
}
