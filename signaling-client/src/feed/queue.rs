//! Sound between a source with a clock of its own and a publication that takes a frame each 20 ms: bounded, and never
//! further behind than half a second. Has no clock; who takes a frame is the clock.

use std::collections::VecDeque;

use crate::source::{CHANNELS, FRAME_SAMPLES, Frame};

/// Frames that may wait: 500 ms.
pub const MOST_FRAMES: usize = 25;
/// Frames that wait before the first one is given: what comes in pieces is heard without holes.
const FIRST_CUSHION: usize = 3;
/// The cushion grows by so many frames with each hole, up to 200 ms.
const CUSHION_STEP: usize = 2;
const LONGEST_CUSHION: usize = 10;
/// If so many frames come while none is taken, nobody takes them: what waits then is old.
const NOBODY: usize = 15;

/// Frames that wait.
#[derive(Debug)]
pub struct Queue {
    live: bool,
    frames: VecDeque<Frame>,
    /// The beginning of the next frame.
    begun: Vec<f32>,
    cushion: usize,
    /// Whether the cushion was there, and frames are given.
    flows: bool,
    ends: bool,
    came_untaken: usize,
    /// Whether a frame was ever asked for: what came before the publication began was never behind.
    begun_to_take: bool,
    skipped: u64,
    missing: u64,
}

impl Queue {
    /// A queue of a source that is live: what is old is left out. Of one that can wait nothing is left out, as long as it
    /// asks [`Queue::is_full`] before each frame.
    pub fn new(live: bool) -> Self {
        Queue {
            live,
            frames: VecDeque::with_capacity(MOST_FRAMES),
            begun: Vec::with_capacity(FRAME_SAMPLES * CHANNELS),
            cushion: FIRST_CUSHION,
            flows: false,
            ends: false,
            came_untaken: 0,
            begun_to_take: false,
            skipped: 0,
            missing: 0,
        }
    }

    /// Takes in interleaved stereo. If too much waits, the oldest goes until the cushion is left: one hole instead of
    /// many.
    pub fn handle_samples(&mut self, mut samples: &[f32]) {
        const LENGTH: usize = FRAME_SAMPLES * CHANNELS;
        while !samples.is_empty() {
            let (now, rest) = samples.split_at(samples.len().min(LENGTH - self.begun.len()));
            self.begun.extend_from_slice(now);
            samples = rest;
            if self.begun.len() == LENGTH {
                let mut frame = [0.0; LENGTH];
                frame.copy_from_slice(&self.begun);
                self.begun.clear();
                if self.frames.len() == MOST_FRAMES {
                    self.skip_to_live();
                }
                self.frames.push_back(frame);
                self.came_untaken += 1;
            }
        }
    }

    /// The next frame, or `false` and silence while there is none.
    pub fn poll_frame(&mut self, frame: &mut Frame) -> bool {
        let untaken = std::mem::take(&mut self.came_untaken) >= NOBODY || !self.begun_to_take;
        if untaken && self.live && !self.ends {
            self.skip_to_live();
        }
        self.begun_to_take = true;
        self.flows |= self.ends || self.frames.len() >= self.cushion;
        match if self.flows { self.frames.pop_front() } else { None } {
            Some(next) => {
                *frame = next;
                true
            }
            None => {
                if std::mem::take(&mut self.flows) {
                    self.cushion = (self.cushion + CUSHION_STEP).min(LONGEST_CUSHION);
                }
                frame.fill(0.0);
                self.missing += 1;
                false
            }
        }
    }

    /// Nothing more comes: what waits is given, the last frame filled up with silence.
    pub fn finish(&mut self) {
        if !self.begun.is_empty() {
            let silence = FRAME_SAMPLES * CHANNELS - self.begun.len();
            self.handle_samples(&[0.0; FRAME_SAMPLES * CHANNELS][..silence]);
        }
        self.ends = true;
    }

    /// Whether everything was given after [`Queue::finish`].
    pub fn is_finished(&self) -> bool {
        self.ends && self.frames.is_empty()
    }

    /// Whether one that can wait should wait before it brings more.
    pub fn is_full(&self) -> bool {
        self.frames.len() >= LONGEST_CUSHION
    }

    /// Frames that were left out to be live again, since the first one was asked for.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Frames of silence in place of sound that did not come.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Frames that wait.
    pub fn waiting(&self) -> usize {
        self.frames.len()
    }

    fn skip_to_live(&mut self) {
        let old = self.frames.len().saturating_sub(self.cushion);
        self.frames.drain(..old);
        self.skipped += if self.begun_to_take { old as u64 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: usize = FRAME_SAMPLES * CHANNELS;

    fn came(queue: &mut Queue, numbers: std::ops::Range<usize>) {
        for number in numbers {
            queue.handle_samples(&[number as f32; LENGTH]);
        }
    }

    fn taken(queue: &mut Queue) -> Option<usize> {
        let mut frame = [7.0; LENGTH];
        queue.poll_frame(&mut frame).then_some(frame[0] as usize)
    }

    fn taken_all(queue: &mut Queue) -> Vec<usize> {
        std::iter::from_fn(|| taken(queue)).collect()
    }

    #[test]
    fn frames_come_out_in_order_once_there_is_a_cushion() {
        let mut queue = Queue::new(true);
        came(&mut queue, 1..3);
        assert_eq!(taken(&mut queue), None);
        came(&mut queue, 3..4);
        assert_eq!(taken_all(&mut queue), [1, 2, 3]);
        assert_eq!((queue.missing(), queue.skipped()), (2, 0));
    }

    #[test]
    fn a_hole_makes_the_cushion_longer_but_not_for_ever() {
        let mut queue = Queue::new(true);
        assert_eq!(taken(&mut queue), None);
        for _ in 0..20 {
            came(&mut queue, 0..LONGEST_CUSHION);
            assert_eq!(taken_all(&mut queue).len(), LONGEST_CUSHION);
        }
        came(&mut queue, 1..LONGEST_CUSHION);
        assert_eq!(taken(&mut queue), None);
        came(&mut queue, LONGEST_CUSHION..LONGEST_CUSHION + 1);
        assert_eq!(taken(&mut queue), Some(1));
    }

    #[test]
    fn a_source_that_comes_faster_than_it_is_taken_is_never_half_a_second_ahead() {
        let mut queue = Queue::new(true);
        let mut last = None;
        for round in 0..500 {
            came(&mut queue, round * 2..round * 2 + 2);
            let now = taken(&mut queue);
            assert!(now >= last, "{now:?} after {last:?}");
            last = now;
            assert!(queue.waiting() <= MOST_FRAMES);
            assert!(round < 1 || round * 2 + 1 - now.unwrap() <= MOST_FRAMES);
        }
        assert_eq!(1000 - queue.waiting() as u64, queue.skipped() + 500 - queue.missing());
    }

    #[test]
    fn what_waited_while_nobody_took_it_is_old() {
        let mut queue = Queue::new(true);
        came(&mut queue, 0..20);
        assert_eq!(taken(&mut queue), Some(20 - FIRST_CUSHION));
        assert_eq!(queue.skipped(), 0, "nobody has waited for it yet");
        came(&mut queue, 20..40);
        assert_eq!(taken(&mut queue), Some(40 - FIRST_CUSHION));
        assert_eq!(queue.skipped(), 19);
    }

    #[test]
    fn a_file_loses_nothing_before_the_first_frame_is_taken() {
        let mut queue = Queue::new(false);
        came(&mut queue, 0..LONGEST_CUSHION);
        assert!(queue.is_full());
        assert_eq!(taken_all(&mut queue), (0..LONGEST_CUSHION).collect::<Vec<_>>());
    }

    #[test]
    fn the_end_gives_what_waits_filled_up_with_silence() {
        let mut queue = Queue::new(true);
        came(&mut queue, 1..2);
        queue.handle_samples(&[0.5; 100]);
        queue.finish();
        assert_eq!(taken(&mut queue), Some(1));
        assert!(!queue.is_finished());
        let mut frame = [7.0; LENGTH];
        assert!(queue.poll_frame(&mut frame));
        assert_eq!((frame[99], frame[100], frame[LENGTH - 1]), (0.5, 0.0, 0.0));
        assert!(queue.is_finished());
    }

    proptest! {
        #[test]
        fn no_sample_is_lost_or_made_up_but_counted(pieces in proptest::collection::vec(0..6000usize, 1..40)) {
            let mut queue = Queue::new(true);
            let (mut given, mut frames) = (0, 0);
            for piece in &pieces {
                queue.handle_samples(&vec![1.0; piece / 2 * 2]);
                given += piece / 2 * 2;
                frames += usize::from(taken(&mut queue).is_some());
            }
            let counted = frames + queue.waiting() + queue.skipped() as usize;
            prop_assert_eq!(given / LENGTH, counted);
        }
    }
}
