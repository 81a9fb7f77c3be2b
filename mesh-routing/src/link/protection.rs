//! Whether the receiving side of a link asks for parity: where the answer of a repair would come too late, or where much is
//! lost in spite of repairs. What a queue loses is not mended by sending more. How parity is made is the driver's.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use protocol::parity::{Cover, Protection};

/// What came of one kind of media over a link since it is up, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Datagrams that came by themselves.
    pub came: u64,
    /// Those that were lost on the way, whatever became of them.
    pub lost: u64,
    /// Of these, those that followed another one that was lost.
    pub in_row: u64,
    /// Those that were given up: neither repairs nor parity brought them in time.
    pub late: u64,
}

/// What a link's receiving side asks for.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    /// Both kinds as they were told, the oldest first.
    looks: VecDeque<(Instant, [Heard; 2])>,
    kinds: [Kind; 2],
    asked: Protection,
    tried: Option<Tried>,
    /// It made things worse: not before this time again, and how long that was.
    not_before: Option<(Instant, Duration)>,
}

/// What is known of sound, or of pictures.
#[derive(Debug, Default)]
struct Kind {
    cover: Cover,
    /// When an answer would last have come too late.
    far: Option<Instant>,
    /// The share that was lost when it began for what repairs did not bring.
    began_at: Option<f64>,
}

/// It began or became more, and what comes of it is to be seen.
#[derive(Debug, Clone, Copy)]
struct Tried {
    at: Instant,
    /// The share that was lost before.
    lost: f64,
}

/// A loss counts for so long, and without need parity goes on for as long.
const LATELY: Duration = Duration::from_secs(10);
/// Looks that are kept of that time: the driver looks four times a second.
const LOOKS_MAX: usize = 64;
/// Above this round trip a repair comes too late: of sound if it is asked for at all, of pictures if one is lost on its way.
const TOO_FAR: [Duration; 2] = [Duration::from_millis(40), Duration::from_millis(100)];
/// Above this share of losses it begins there, and so many there have to be.
const LOSES: f64 = 0.003;
const LEAST_LOST: u64 = 3;
/// Above this share that is lost in spite of repairs it begins anywhere.
const LOSES_FOR_GOOD: f64 = 0.005;
/// It ends below this share.
const LOSES_NOTHING: f64 = 0.002;
/// Above this share one parity leaves too much: of 2 %, in groups of four, every thirteenth.
const LOSES_MUCH: f64 = 0.02;
/// And goes on so until it is clearly less.
const LOSES_LESS: f64 = 0.015;
/// So many, and this part of the losses, have followed another: they come in bursts.
const LEAST_IN_ROW: u64 = 4;
const IN_ROW: f64 = 1.0 / 3.0;
/// A round trip that is so much above the shortest is a queue's. What the congestion control leaves is less than half.
const QUEUE: Duration = Duration::from_millis(60);
/// A path that drops what is too much loses more by it. That is seen after so long.
const TRIED: Duration = Duration::from_secs(5);
/// More than this, in parts of what was lost before, and above it.
const WORSE: f64 = 2.0;
const WORSE_BY: f64 = 0.05;
/// How long it is not tried again then, doubled each time, and at most.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MOST: Duration = Duration::from_secs(16 * 60);

impl Asking {
    /// What came so far, and the round trip with the shortest one lately. What is asked for from now on, if that is
    /// something else than before.
    pub fn handle_heard(
        &mut self,
        heard: [Heard; 2],
        (rtt, shortest): (Duration, Duration),
        now: Instant,
    ) -> Option<Protection> {
        if rtt > shortest + QUEUE {
            // What is lost in a queue says nothing of what the path loses anyway.
            self.looks.clear();
            self.tried = None;
            self.kinds = Default::default();
        } else {
            self.look(heard, rtt, now);
        }
        let asked = Protection { audio: self.kinds[0].cover, video: self.kinds[1].cover };
        (std::mem::replace(&mut self.asked, asked) != asked).then_some(asked)
    }

    fn look(&mut self, heard: [Heard; 2], rtt: Duration, now: Instant) {
        self.looks.push_back((now, heard));
        while self.looks.len() > LOOKS_MAX || self.looks.get(1).is_some_and(|(at, _)| now >= *at + LATELY) {
            self.looks.pop_front();
        }
        let Some((_, before)) = self.looks.front() else { return };
        let lately = [heard[0].since(&before[0]), heard[1].since(&before[1])];
        // The path does not know what it loses.
        let path = lately[0].and(&lately[1]);
        let lost = path.share(path.lost);
        let is_paused = self.is_worse(lost, now) || self.not_before.is_some_and(|(until, _)| now < until);
        let most = self.kinds.each_ref().map(|kind| kind.cover);
        for ((kind, of_kind), too_far) in self.kinds.iter_mut().zip(&lately).zip(TOO_FAR) {
            if is_paused {
                *kind = Kind::default();
            } else {
                kind.look(of_kind, &path, rtt, too_far, now);
            }
        }
        if self.kinds.iter().zip(most).any(|(kind, before)| kind.cover > before) {
            self.tried = Some(Tried { at: now, lost });
        }
    }

    /// Whether sending more has only lost more.
    fn is_worse(&mut self, lost: f64, now: Instant) -> bool {
        let Some(Tried { lost: before, .. }) = self.tried.take_if(|tried| now >= tried.at + TRIED) else {
            return false;
        };
        let is_worse = lost > WORSE * before + WORSE_BY;
        if is_worse {
            let pause = self.not_before.map_or(PAUSE, |(_, pause)| (2 * pause).min(PAUSE_MOST));
            self.not_before = Some((now + pause, pause));
        }
        is_worse
    }
}

impl Kind {
    fn look(&mut self, of_kind: &Heard, path: &Heard, rtt: Duration, too_far: Duration, now: Instant) {
        let lost = path.share(path.lost);
        let is_heard = of_kind.came + of_kind.lost > 0;
        // Not off and on again where the round trip is about as long as that.
        let far = if self.cover == Cover::None { too_far } else { too_far * 9 / 10 };
        if rtt > far {
            self.far = Some(now);
        }
        let is_far = self.far.is_some_and(|far| now < far + LATELY);
        let for_good = of_kind.late >= LEAST_LOST && of_kind.share(of_kind.late) > LOSES_FOR_GOOD;
        let begins = path.lost >= LEAST_LOST && lost > LOSES && (rtt > far || for_good);
        let goes_on = self.cover != Cover::None
            && lost > LOSES_NOTHING
            && (is_far || self.began_at.is_some_and(|began_at| lost > began_at / 2.0));
        if !is_heard || !begins && !goes_on {
            (self.cover, self.began_at) = (Cover::None, None);
            return;
        }
        if self.cover == Cover::None && for_good {
            self.began_at = Some(lost);
        }
        let much = if self.cover == Cover::Twice { LOSES_LESS } else { LOSES_MUCH };
        let in_bursts =
            of_kind.in_row >= LEAST_IN_ROW && of_kind.in_row as f64 >= IN_ROW * of_kind.lost as f64;
        self.cover = if lost > much || in_bursts { Cover::Twice } else { Cover::Once };
    }
}

impl Heard {
    fn since(&self, before: &Heard) -> Heard {
        Heard {
            came: self.came.saturating_sub(before.came),
            // One that was only late takes its loss back.
            lost: self.lost.saturating_sub(before.lost),
            in_row: self.in_row.saturating_sub(before.in_row),
            late: self.late.saturating_sub(before.late),
        }
    }

    fn and(&self, other: &Heard) -> Heard {
        Heard {
            came: self.came + other.came,
            lost: self.lost + other.lost,
            in_row: self.in_row + other.in_row,
            late: self.late + other.late,
        }
    }

    fn share(&self, count: u64) -> f64 {
        count as f64 / (self.came + self.lost).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::epoch;

    const MS: Duration = Duration::from_millis(1);
    const OFF: Protection = Protection::NONE;
    const AUDIO: Protection = Protection { audio: Cover::Once, video: Cover::None };

    /// A link with one sound of 50 packets a second, and 100 of a picture.
    struct Link {
        asking: Asking,
        heard: [Heard; 2],
        now: Instant,
        count: u64,
        rtt: Duration,
        queue: Duration,
        /// Of 1000 losses so many are given up.
        late: u64,
    }

    impl Link {
        fn new(rtt: Duration) -> Link {
            Link {
                asking: Asking::default(),
                heard: Default::default(),
                now: epoch(),
                count: 0,
                rtt,
                queue: Duration::ZERO,
                late: 0,
            }
        }

        /// So long with `run` losses of every so many; what was asked for, and after how many seconds.
        fn lose(&mut self, seconds: u32, (run, every): (u64, u64)) -> Vec<(Protection, u64)> {
            let (begin, mut asked) = (self.now, Vec::new());
            for look in 0..seconds * 4 {
                for (kind, packets) in [(0, 12 + u64::from(look % 2)), (1, 25)] {
                    for _ in 0..packets {
                        self.count += 1;
                        let at = self.count % every.max(1);
                        let heard = &mut self.heard[kind];
                        if every > 0 && at < run {
                            heard.lost += 1;
                            heard.in_row += u64::from(at > 0);
                            heard.late += u64::from(heard.lost * 617 % 1000 < self.late);
                        } else {
                            heard.came += 1;
                        }
                    }
                }
                self.now += 250 * MS;
                let round_trip = (self.rtt + self.queue, self.rtt);
                if let Some(protection) = self.asking.handle_heard(self.heard, round_trip, self.now) {
                    asked.push((protection, self.now.duration_since(begin).as_secs()));
                }
            }
            asked
        }
    }

    fn last(asked: &[(Protection, u64)]) -> Option<Protection> {
        asked.last().map(|(protection, _)| *protection)
    }

    #[test]
    fn where_answers_come_in_time_and_nearly_all_comes_nothing_is_asked_for() {
        assert_eq!(Link::new(80 * MS).lose(300, (1, 0)), [], "no loss");
        assert_eq!(Link::new(80 * MS).lose(300, (1, 1000)), [], "a thousandth");
        let mut near = Link::new(35 * MS);
        near.late = 50;
        assert_eq!(near.lose(300, (1, 20)), [], "5 %, of which repairs bring all but a twentieth");
    }

    #[test]
    fn on_a_long_way_sound_is_protected_soon_and_until_nothing_was_lost_for_ten_seconds() {
        let mut link = Link::new(50 * MS);
        let asked = link.lose(60, (1, 100));
        assert!(matches!(asked[..], [(AUDIO, ..=4)]), "1 %: {asked:?}");
        let asked = link.lose(60, (1, 0));
        assert!(matches!(asked[..], [(OFF, 8..=11)]), "{asked:?}");
    }

    #[test]
    fn on_a_longer_way_so_are_pictures() {
        let both = Protection { audio: Cover::Once, video: Cover::Once };
        assert_eq!(last(&Link::new(120 * MS).lose(10, (1, 100))), Some(both));
    }

    #[test]
    fn much_loss_and_bursts_are_covered_twice() {
        let of = |losses| last(&Link::new(80 * MS).lose(30, losses)).map(|asked| asked.audio);
        assert_eq!(of((1, 20)), Some(Cover::Twice), "5 %");
        assert_eq!(of((1, 70)), Some(Cover::Once));
        assert_eq!(of((3, 250)), Some(Cover::Twice), "bursts of three");
        let mut link = Link::new(80 * MS);
        link.lose(30, (1, 45));
        assert_eq!(link.lose(30, (1, 60)), [], "1.7 % is not yet less");
        assert_eq!(last(&link.lose(30, (1, 80))), Some(AUDIO));
    }

    #[test]
    fn what_repairs_do_not_bring_is_protected_on_any_way_while_that_much_is_lost() {
        let mut link = Link::new(20 * MS);
        link.late = 500;
        let asked = last(&link.lose(10, (1, 50))).expect("1 % is lost for good");
        assert!(asked.audio != Cover::None && asked.video != Cover::None);
        // Now nothing is: parity brings it.
        link.late = 0;
        assert!(link.lose(60, (1, 50)).iter().all(|(asked, _)| asked.audio != Cover::None));
        assert_eq!(last(&link.lose(60, (1, 150))), Some(OFF));
    }

    #[test]
    fn what_a_queue_loses_is_not_mended() {
        let mut link = Link::new(80 * MS);
        link.queue = 80 * MS;
        assert_eq!(link.lose(60, (1, 20)), []);
        link.queue = 25 * MS;
        assert!(last(&link.lose(10, (1, 20))).is_some_and(|asked| asked.audio == Cover::Twice));
        link.queue = 80 * MS;
        assert_eq!(link.lose(10, (1, 20)), [(OFF, 0)], "at once");
    }

    #[test]
    fn what_only_loses_more_by_it_is_left_alone_for_longer_each_time() {
        let mut link = Link::new(80 * MS);
        link.lose(3, (1, 20));
        assert_eq!(last(&link.lose(8, (2, 5))), Some(OFF), "a policer drops what is too much");
        assert_eq!(link.lose(50, (1, 20)), []);
        assert!(last(&link.lose(6, (1, 20))).is_some_and(|asked| asked != OFF), "tried again");
        assert_eq!(last(&link.lose(8, (2, 5))), Some(OFF));
        assert_eq!(link.lose(110, (1, 20)), [], "two minutes then");
    }

    #[test]
    fn totals_that_go_back_change_nothing() {
        let mut link = Link::new(80 * MS);
        link.lose(5, (1, 20));
        link.heard = Default::default();
        link.lose(1, (1, 0));
    }
}
