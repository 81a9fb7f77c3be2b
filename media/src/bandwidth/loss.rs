//! What share of the media of the last second was lost, and whether that is congestion. A radio loses some
//! whatever is sent; a wire that is too narrow loses what is too much.

use crate::bins::Bins;

/// Losses of one listener. Repairs and probes are left out: they say nothing of what is lost at the usual rate.
#[derive(Debug)]
pub struct Loss {
    /// The last second.
    bins: Bins<Bin, 10, 100_000>,
    above_since: Option<u64>,
    /// The share lost in each of the last seconds, newest first.
    seconds: [f32; SECONDS],
    second_began: u64,
    /// Until when the path counts as one that loses.
    lossy_until: u64,
    /// Since the beginning.
    total: Told,
    /// The last number that was lost.
    last_lost: u64,
}

/// Packets that a listener has told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Those that were sent once.
    pub packets: u64,
    /// Those of them that did not come.
    pub lost: u64,
    /// Of these, those whose predecessor did not come either.
    pub in_row: u64,
    /// Those that were sent more than once.
    pub repeated: u64,
    /// Those of them that did not come the first time.
    pub mended: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    told: u16,
    lost: u16,
}

const SECONDS: usize = 6;
/// Fewer packets say too little: one of ten is 10 %.
const LEAST_TOLD: u32 = 20;
/// Radios lose up to 5 % without anybody sending too much, and repairs cover that.
const CONGESTED: f64 = 0.10;
/// Above the loss that was there in all but one of the last six seconds: that is what the path loses anyway.
const ABOVE_USUAL: f64 = 0.08;
/// Nobody hears or sees much behind more than this, whatever is the cause.
const ALWAYS: f64 = 0.35;
/// A burst is over by then.
const HELD_US: u64 = 1_000_000;
/// Of what was told in the last six seconds: more than what a path loses by chance now and then.
const LOSSY: f64 = 0.01;
/// A path that loses is taken for one for so long after, which is the longest pause between probes: what is done about
/// the losses ends them, and to stop at once would bring them back.
const LOSSY_US: u64 = 120_000_000;

impl Default for Loss {
    fn default() -> Self {
        Loss {
            bins: Bins::default(),
            above_since: None,
            seconds: [0.0; SECONDS],
            second_began: 0,
            lossy_until: 0,
            total: Told::default(),
            last_lost: 0,
        }
    }
}

impl Loss {
    /// A packet that was sent more than once is told of; `first` if the first of it came.
    pub fn handle_repeated(&mut self, first: bool) {
        self.total.repeated += 1;
        self.total.mended += u64::from(!first);
    }

    /// The packet with this number is told to be lost, for now.
    pub fn handle_lost(&mut self, number: u64) {
        self.total.packets += 1;
        self.total.lost += 1;
        self.total.in_row += u64::from(number == self.last_lost + 1);
        self.last_lost = number;
        let bin = self.bins.newest();
        (bin.told, bin.lost) = (bin.told.saturating_add(1), bin.lost.saturating_add(1));
    }

    /// A packet arrived; `was_lost` if it was told to be lost before.
    pub fn handle_arrival(&mut self, was_lost: bool) {
        if was_lost {
            if let Some(bin) = self.bins.all_mut().iter_mut().find(|bin| bin.lost > 0) {
                bin.lost -= 1;
            }
            self.total.lost = self.total.lost.saturating_sub(1);
        } else {
            self.total.packets += 1;
            let bin = self.bins.newest();
            bin.told = bin.told.saturating_add(1);
        }
    }

    /// All packets of a feedback have been told.
    pub fn handle_feedback(&mut self, now: u64) {
        let share = self.share();
        match share {
            Some(share) if share > self.threshold() => {
                self.above_since.get_or_insert(now);
            }
            _ => self.above_since = None,
        }
        if now.saturating_sub(self.second_began) >= 1_000_000 {
            self.second_began = now;
            if let Some(share) = share {
                self.seconds.rotate_right(1);
                self.seconds[0] = share as f32;
            }
            if f64::from(self.seconds.iter().sum::<f32>()) >= LOSSY * SECONDS as f64 {
                self.lossy_until = now + LOSSY_US;
            }
        }
        self.bins.advance(now);
    }

    /// What was told since the beginning.
    pub fn total(&self) -> Told {
        self.total
    }

    /// The share lost in the last second, if enough was told.
    pub fn share(&self) -> Option<f64> {
        let (told, lost) = self.bins.all().iter().fold((0_u32, 0_u32), |(told, lost), bin| {
            (told + u32::from(bin.told), lost + u32::from(bin.lost))
        });
        (told >= LEAST_TOLD).then(|| f64::from(lost) / f64::from(told))
    }

    /// Lost in the last second.
    pub fn lost(&self) -> u32 {
        self.bins.all().iter().map(|bin| u32::from(bin.lost)).sum()
    }

    /// True if so much is lost for so long that less has to be sent.
    pub fn is_congested(&self, now: u64) -> bool {
        self.above_since.is_some_and(|since| now.saturating_sub(since) >= HELD_US)
    }

    /// True if the path has lost something worth mention lately, whatever the cause.
    pub fn is_lossy(&self, now: u64) -> bool {
        now < self.lossy_until
    }

    /// Less is sent from now on: what was lost before says nothing of that.
    pub fn handle_decrease(&mut self) {
        self.bins.clear();
        self.above_since = None;
    }

    /// The share that was lost in all but one of the last six seconds, at least: what the path loses anyway.
    /// That one may be chance.
    pub fn usual(&self) -> f64 {
        let (mut least, mut second) = (f32::MAX, f32::MAX);
        for share in self.seconds {
            (least, second) = (least.min(share), second.min(share.max(least)));
        }
        f64::from(second).min(ALWAYS)
    }

    fn threshold(&self) -> f64 {
        (self.usual() + ABOVE_USUAL).clamp(CONGESTED, ALWAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds of ten feedbacks of ten packets each, of which every `one_in`th is lost.
    fn tell(loss: &mut Loss, from: u64, seconds: u64, one_in: u64) {
        for feedback in from * 10..(from + seconds) * 10 {
            for packet in 0..10 {
                match (feedback * 10 + packet) % one_in {
                    0 => loss.handle_lost(feedback * 10 + packet),
                    _ => loss.handle_arrival(false),
                }
            }
            loss.handle_feedback(feedback * 100_000);
        }
    }

    #[test]
    fn five_percent_is_no_congestion_and_twenty_are_once_they_last() {
        let mut loss = Loss::default();
        tell(&mut loss, 0, 5, 20);
        assert!(!loss.is_congested(5_000_000));
        assert!((0.04..0.06).contains(&loss.share().expect("enough is told")));
        tell(&mut loss, 5, 1, 5);
        assert!(!loss.is_congested(6_000_000), "not held yet");
        tell(&mut loss, 6, 2, 5);
        assert!(loss.is_congested(8_000_000));
    }

    #[test]
    fn what_is_lost_anyway_is_no_congestion_but_too_much_always_is() {
        let mut loss = Loss::default();
        tell(&mut loss, 0, 12, 7);
        assert!(!loss.is_congested(12_000_000), "{:?}", loss.share());
        tell(&mut loss, 12, 12, 2);
        assert!(loss.is_congested(24_000_000), "{:?}", loss.share());
    }

    #[test]
    fn a_packet_that_comes_after_all_was_not_lost() {
        let mut loss = Loss::default();
        tell(&mut loss, 0, 1, 2);
        (0..50).for_each(|_| loss.handle_arrival(true));
        assert_eq!((loss.share(), loss.lost()), (Some(0.0), 0));
    }

    #[test]
    fn a_path_that_loses_counts_as_one_for_a_while_after_and_chance_does_not() {
        let mut loss = Loss::default();
        tell(&mut loss, 0, 30, 200);
        assert!(!loss.is_lossy(30_000_000), "half a percent");
        tell(&mut loss, 30, 6, 50);
        assert!(loss.is_lossy(36_000_000));
        tell(&mut loss, 36, 100, u64::MAX);
        assert!(loss.is_lossy(136_000_000), "what ended the losses goes on");
        tell(&mut loss, 136, 30, u64::MAX);
        assert!(!loss.is_lossy(166_000_000));
    }

    #[test]
    fn few_packets_say_nothing() {
        let mut loss = Loss::default();
        (0..19).for_each(|number| loss.handle_lost(number));
        assert_eq!(loss.share(), None);
    }
}
