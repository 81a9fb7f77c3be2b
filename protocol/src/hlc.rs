//! A hybrid logical clock: what orders the records of many relays whose clocks differ. It reads no clock:
//! wall time comes in.

use serde::{Deserialize, Serialize};

use crate::wall::WallTime;

/// How far ahead of this relay's wall clock another's reading is believed, in milliseconds.
pub const AHEAD_MAX_MS: u64 = 60_000;

/// A reading: milliseconds of wall time in the upper 48 bits, a counter in the lower 16. A record written
/// after another was seen has the higher value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first reading of a millisecond.
    pub fn at(wall: WallTime) -> Hlc {
        Hlc(wall.0.min((1 << 48) - 1) << 16)
    }

    /// The millisecond it was read in, or was pushed ahead to.
    pub fn wall(self) -> WallTime {
        WallTime(self.0 >> 16)
    }

    /// The reading for something new, after everything seen so far.
    pub fn tick(&mut self, wall: WallTime) -> Hlc {
        self.0 = Hlc::at(wall).0.max(self.0.saturating_add(1));
        *self
    }

    /// Takes note of another's reading. One that is too far ahead is not believed: false, and this clock
    /// stays where it is.
    pub fn observe(&mut self, other: Hlc, wall: WallTime) -> bool {
        let believed = !other.ahead(wall);
        if believed {
            self.0 = self.0.max(other.0);
        }
        believed
    }

    /// Whether no clock that is right can have come to this reading yet.
    pub fn ahead(self, wall: WallTime) -> bool {
        self.wall().0 > wall.0.saturating_add(AHEAD_MAX_MS)
    }

    /// This reading, or the latest one that is believed at `wall`.
    pub fn clamped(self, wall: WallTime) -> Hlc {
        self.min(Hlc::at(WallTime(wall.0.saturating_add(AHEAD_MAX_MS))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_700_000_000_000);

    #[test]
    fn an_answer_comes_after_what_it_answers_whatever_the_clocks_say() {
        let (mut fast, mut slow) = (Hlc::default(), Hlc::default());
        let question = fast.tick(NOW);
        assert!(slow.observe(question, WallTime(NOW.0 - 30_000)));
        assert!(slow.tick(WallTime(NOW.0 - 29_999)) > question);
    }

    #[test]
    fn a_clock_far_ahead_is_not_believed() {
        let mut clock = Hlc::default();
        clock.tick(NOW);
        assert!(!clock.observe(Hlc::at(WallTime(NOW.0 + AHEAD_MAX_MS + 1)), NOW));
        assert!(!clock.observe(Hlc(u64::MAX), NOW));
        assert_eq!(clock, Hlc::at(NOW));
        assert!(clock.observe(Hlc::at(WallTime(NOW.0 + AHEAD_MAX_MS)), NOW));
        assert_eq!(Hlc(u64::MAX).clamped(NOW).wall().0, NOW.0 + AHEAD_MAX_MS);
    }

    #[test]
    fn it_never_goes_back() {
        let mut clock = Hlc::default();
        let first = clock.tick(NOW);
        let second = clock.tick(WallTime(NOW.0 - 1000));
        assert!(second > first && second < clock.tick(WallTime(NOW.0 + 1)));
    }
}
