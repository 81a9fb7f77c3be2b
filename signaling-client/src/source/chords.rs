//! Two chords, one for each ear, and a burst of noise each second: what shows whether left and right are still apart, and
//! when. The same sound sample for sample, for ever.

use std::f64::consts::TAU;

use super::{CHANNELS, Frame, SAMPLE_RATE, Source};
use crate::error::Error;

/// A minor on the left, in hertz.
pub const LEFT_HZ: [f64; 3] = [220.0, 261.63, 329.63];
/// E major an octave higher on the right: no note of it is one of the left, or twice one.
pub const RIGHT_HZ: [f64; 3] = [415.30, 493.88, 622.25];
/// Of each note: three of them and the burst stay below full scale.
const AMPLITUDE: f64 = 0.2;
/// Of the burst.
const LOUD: f32 = 0.35;
/// Samples from one burst to the next: a second.
const PERIOD: u32 = SAMPLE_RATE;
/// Samples of a burst: 5 ms.
const BURST: u32 = SAMPLE_RATE / 200;

/// The two chords.
#[derive(Debug, Clone)]
pub struct Chords {
    /// Where each note stands, in turns: 0 to 1, so that it never loses precision.
    turns: [[f64; 3]; CHANNELS],
    /// Samples since the last burst began.
    since: u32,
    /// State of the noise.
    noise: u32,
}

impl Default for Chords {
    fn default() -> Self {
        Chords { turns: [[0.0; 3]; CHANNELS], since: 0, noise: 1 }
    }
}

impl Chords {
    fn burst(&mut self) -> f32 {
        let inside = self.since < BURST;
        self.since = (self.since + 1) % PERIOD;
        if !inside {
            return 0.0;
        }
        // xorshift (Marsaglia 2003): white enough for 5 ms.
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        LOUD * (self.noise as i32 as f32 / i32::MAX as f32)
    }
}

impl Source for Chords {
    fn fill(&mut self, frame: &mut Frame) -> Result<(), Error> {
        for pair in frame.chunks_exact_mut(CHANNELS) {
            let burst = self.burst();
            for ((slot, turns), notes) in pair.iter_mut().zip(&mut self.turns).zip([LEFT_HZ, RIGHT_HZ]) {
                let mut sum = 0.0;
                for (turn, hertz) in turns.iter_mut().zip(notes) {
                    sum += AMPLITUDE * (TAU * *turn).sin();
                    *turn = (*turn + hertz / f64::from(SAMPLE_RATE)).fract();
                }
                *slot = sum as f32 + burst;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds, left and right.
    fn heard(seconds: usize) -> [Vec<f32>; CHANNELS] {
        let mut chords = Chords::default();
        let mut frame = [0.0; 1920];
        let mut out = [Vec::new(), Vec::new()];
        for _ in 0..seconds * 50 {
            chords.fill(&mut frame).unwrap();
            for pair in frame.chunks_exact(CHANNELS) {
                out[0].push(pair[0]);
                out[1].push(pair[1]);
            }
        }
        out
    }

    /// How much of a frequency there is, as the amplitude of a sine.
    fn amplitude(samples: &[f32], hertz: f64) -> f64 {
        let angle = |n: usize| TAU * hertz * n as f64 / f64::from(SAMPLE_RATE);
        let part = |wave: fn(f64) -> f64| -> f64 {
            samples.iter().enumerate().map(|(n, sample)| f64::from(*sample) * wave(angle(n))).sum()
        };
        2.0 * part(f64::sin).hypot(part(f64::cos)) / samples.len() as f64
    }

    #[test]
    fn each_ear_hears_its_own_chord_and_nothing_of_the_other() {
        let [left, right] = heard(4);
        for (own, other, notes) in [(&left, &right, LEFT_HZ), (&right, &left, RIGHT_HZ)] {
            for hertz in notes {
                assert!((amplitude(own, hertz) - AMPLITUDE).abs() < 0.01, "{hertz}");
                assert!(amplitude(other, hertz) < 0.005, "{hertz}");
            }
        }
    }

    #[test]
    fn both_have_one_burst_a_second_and_stay_below_full_scale() {
        let [left, right] = heard(3);
        assert!(left.iter().chain(&right).all(|sample| sample.abs() < 1.0));
        // What both have in common and no chord has: the step from one sample to the next is steep in noise alone.
        let steep = |samples: &[f32]| -> Vec<usize> {
            let steps = samples.windows(2).enumerate();
            steps.filter(|(_, pair)| (pair[1] - pair[0]).abs() > 0.1).map(|(at, _)| at + 1).collect()
        };
        for samples in [&left, &right] {
            let at = steep(samples);
            let bursts: std::collections::BTreeSet<usize> =
                at.iter().map(|at| at / PERIOD as usize).collect();
            assert_eq!(bursts.len(), 3);
            assert!(at.iter().all(|at| at % (PERIOD as usize) <= BURST as usize), "{at:?}");
        }
    }
}
