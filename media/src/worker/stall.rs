//! Whether an encoding that comes from elsewhere has stopped coming while a worse one goes on, as where a link on its way
//! is cut. What listeners get then is decided in `viewing`.

use std::time::{Duration, Instant};

use crate::track::cadence::Cadence;

/// One encoding: whether it stalls, and how it has lately.
#[derive(Debug, Default)]
pub struct Stall {
    state: State,
    /// Since when a worse one has been ahead of it.
    behind_since: Option<Instant>,
    /// When it was last over.
    ended: Option<Instant>,
    /// How often it has begun soon after the one before was over.
    again: u32,
    /// Stalls in a row that were hardly over before.
    parts: u32,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Comes,
    /// Nothing has come since then.
    Stalls { since: Instant },
    /// It has come again since then, and has to go on.
    Tries { since: Instant },
}

/// Between two looks while something stalls, or is late.
const LOOK: Duration = Duration::from_millis(20);
/// A worse one has to be ahead for so long: pictures of one moment do not come in one packet.
const AHEAD: Duration = Duration::from_millis(15);
/// After a second the encoding is dormant, and this is over.
const DORMANT: Duration = Duration::from_secs(1);
/// A stall so soon after one before counts: the third in a row says that the way is bad, and what comes over it has to
/// come for a while.
const SOON: Duration = Duration::from_secs(10);
/// A stall sooner than this is a part of the one before: a few packets came while another way was looked for. So many
/// parts are passed over.
const HARDLY: Duration = Duration::from_secs(1);
const PARTS: u32 = 2;
/// For how long, of the third stall, the fourth and so on. Each return costs the publisher a keyframe.
const TRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

impl Stall {
    /// Whether it stalls now: then it is left for a worse one.
    pub fn is_stalled(&self) -> bool {
        !matches!(self.state, State::Comes)
    }

    /// Looks at how it comes. `worse` is when the newest picture of a worse one began to come. Gives true if it stalls from now on, or
    /// does not any more.
    ///
    /// A silence of both is not its own: nobody is served by turning then.
    pub fn look(&mut self, cadence: &Cadence, worse: Option<Instant>, now: Instant) -> bool {
        let Some(last) = cadence.last() else { return false };
        let before = self.is_stalled();
        let silent = cadence.patience().is_some_and(|patience| now > last + patience);
        let worse = worse.filter(|worse| silent && *worse >= last + cadence.interval() / 2);
        self.behind_since = worse.map(|worse| self.behind_since.map_or(worse, |since| since.min(worse)));
        let stalls = self.behind_since.is_some_and(|since| now >= since + AHEAD);
        let over_for = self.ended.map(|ended| now.saturating_duration_since(ended));
        match self.state {
            State::Comes if stalls => {
                let is_part = over_for.is_some_and(|over| over < HARDLY) && self.parts < PARTS;
                self.parts = if is_part { self.parts + 1 } else { 0 };
                if !is_part {
                    let soon = over_for.is_some_and(|over| over < SOON);
                    self.again = if soon { self.again + 1 } else { 0 };
                }
                self.state = State::Stalls { since: last };
            }
            State::Stalls { since } if last > since => self.state = State::Tries { since: last },
            State::Tries { .. } if stalls => self.state = State::Stalls { since: last },
            State::Comes | State::Stalls { .. } | State::Tries { .. } => {}
        }
        let tries = (self.again as usize).checked_sub(2).map_or(Duration::ZERO, |at| TRIES[at.min(2)]);
        if let State::Tries { since } = self.state
            && now >= since + tries
        {
            (self.state, self.ended) = (State::Comes, Some(now));
        }
        before != self.is_stalled()
    }

    /// When it is to be looked at again; nothing while it is dormant or not known well enough.
    pub fn next_look(&self, cadence: &Cadence, now: Instant) -> Option<Instant> {
        let last = cadence.last().filter(|last| now < *last + DORMANT)?;
        match self.state {
            State::Comes => Some((last + cadence.patience()? + Duration::from_millis(1)).max(now + LOOK / 2)),
            State::Stalls { .. } | State::Tries { .. } => Some(now + LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// An encoding with a worse one beside it, in virtual time.
    struct Field {
        began: Instant,
        now: Instant,
        both: [(u32, Cadence); 2],
        /// Something was lost before the next picture.
        hole: bool,
        stall: Stall,
        look_at: Instant,
        looks: u32,
    }

    const WORSE: usize = 0;
    const BETTER: usize = 1;

    impl Field {
        fn new() -> Field {
            #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
            let began = Instant::now();
            let both = [(0, Cadence::default()), (0, Cadence::default())];
            Field { began, now: began, both, hole: false, stall: Stall::default(), look_at: began, looks: 0 }
        }

        fn picture(&mut self, of: usize) {
            let hole = of == BETTER && std::mem::take(&mut self.hole);
            let timestamp = (self.now - self.began).as_millis() as u32 * 90;
            self.both[of].1.handle_packet(timestamp, !hole, self.now);
        }

        /// A millisecond passes. Gives whether it stalls, where that changes.
        fn tick(&mut self) -> Option<bool> {
            self.now += ms(1);
            if self.now < self.look_at {
                return None;
            }
            self.looks += 1;
            let changed = self.stall.look(&self.both[BETTER].1, self.both[WORSE].1.began(), self.now);
            let next = self.stall.next_look(&self.both[BETTER].1, self.now);
            self.look_at = next.unwrap_or(self.now + ms(100));
            changed.then(|| self.stall.is_stalled())
        }

        /// So many pictures of both, 33 ms apart; the better one comes where `comes` says so. Gives the changes: after
        /// how many milliseconds, and what it is then.
        fn run(&mut self, pictures: u32, comes: impl Fn(u32) -> bool) -> Vec<(u64, bool)> {
            let (began, mut changes) = (self.now, Vec::new());
            for picture in 0..pictures {
                self.picture(WORSE);
                if comes(picture) {
                    self.picture(BETTER);
                }
                for _ in 0..33 {
                    let change = self.tick();
                    changes.extend(change.map(|stalls| ((self.now - began).as_millis() as u64, stalls)));
                }
            }
            changes
        }
    }

    #[test]
    fn one_that_is_cut_stalls_within_two_pictures_and_comes_again_at_once() {
        let mut field = Field::new();
        assert_eq!(field.run(150, |_| true), []);
        assert!(field.looks < 150, "fewer looks than pictures: {}", field.looks);
        let cut = field.run(9, |_| false);
        assert!(matches!(cut[..], [(at, true)] if at < 33), "the last one came 33 ms before: {cut:?}");
        field.hole = true;
        let back = field.run(300, |_| true);
        assert!(matches!(back[..], [(at, false)] if at <= 21), "{back:?}");
    }

    #[test]
    fn one_that_is_cut_again_and_again_has_to_come_for_a_while() {
        let mut field = Field::new();
        field.run(150, |_| true);
        let mut waits = Vec::new();
        for _ in 0..6 {
            field.run(9, |_| false);
            field.hole = true;
            waits.extend(field.run(210, |_| true).iter().map(|(at, _)| at / 1000));
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 4]);
    }

    #[test]
    fn a_few_packets_amid_a_stall_make_it_no_second_one() {
        let mut field = Field::new();
        field.run(150, |_| true);
        field.hole = true;
        // Of a second it comes for a tenth in the middle.
        field.run(30, |picture| (12..15).contains(&picture));
        field.hole = true;
        let back = field.run(60, |_| true);
        assert!(matches!(back[..], [(at, false)] if at <= 21), "{back:?}");
    }

    #[test]
    fn a_silence_of_both_is_not_its_own() {
        let mut field = Field::new();
        field.run(150, |_| true);
        for _ in 0..2000 {
            assert_eq!(field.tick(), None);
        }
        assert_eq!(field.run(150, |_| true), []);
        // The worse one is there first.
        field.picture(WORSE);
        (0..12).for_each(|_| assert_eq!(field.tick(), None));
        field.picture(BETTER);
        assert_eq!(field.run(150, |_| true), []);
    }

    #[test]
    fn one_of_which_its_publisher_leaves_out_pictures_stalls_once_and_not_again() {
        for every in [3, 7, 90] {
            let mut field = Field::new();
            field.run(150, |_| true);
            let changes = field.run(1800, |picture| picture % every != every - 1);
            assert!(changes.len() <= 2, "every {every}: {changes:?}");
            // Where it has been so from the beginning, never.
            let mut field = Field::new();
            let changes = field.run(1800, |picture| picture % every != every - 1);
            assert!(every == 90 || changes.is_empty(), "every {every}: {changes:?}");
        }
    }
}
