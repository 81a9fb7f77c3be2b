//! Demo music, made in code: four chords going round as a pad, a bass, a seeded arpeggio and drums.
//! The same seed gives the same music, sample for sample, for ever.

use std::f32::consts::{FRAC_PI_2, TAU};

use super::{CHANNELS, Frame, SAMPLE_RATE, Source};
use crate::error::Error;

const RATE: f32 = SAMPLE_RATE as f32;
/// Samples of a sixteenth note at 100 beats a minute.
const STEP: u64 = SAMPLE_RATE as u64 * 60 / 100 / 4;
const STEPS_PER_BAR: u64 = 16;
/// A minor, F, C, G: three notes each in semitones above A2 (110 Hz), and the root of the bass.
const CHORDS: [([i32; 3], i32); 4] =
    [([12, 15, 19], 0), ([8, 12, 15], -4), ([10, 15, 19], 3), ([10, 14, 17], -2)];
/// Eight bars make a section; the drums rest in each fourth.
const BARS_PER_SECTION: u64 = 8;
/// The sum of the voices stays under full scale with this.
const LEVEL: f32 = 0.30;

/// The music.
#[derive(Debug, Clone)]
pub struct Demo {
    seed: u64,
    /// Samples played.
    position: u64,
    /// State of the noise generator for hats and snare.
    noise: u32,
}

impl Demo {
    /// The music of a seed, from its beginning.
    pub fn new(seed: u64) -> Self {
        Demo { seed, position: 0, noise: (seed as u32) | 1 }
    }

    fn sample(&mut self) -> (f32, f32) {
        let step = self.position / STEP;
        let bar = step / STEPS_PER_BAR;
        let in_step = (self.position % STEP) as f32 / RATE;
        let in_bar = (self.position % (STEP * STEPS_PER_BAR)) as f32 / RATE;
        let pad = pad(bar, in_bar);
        let bass = bass(step, in_step);
        let (arpeggio, side) = self.arpeggio(step, in_step);
        let (drums, hat) = self.drums(step, in_step);
        let centre = bass + drums;
        let swing = (TAU * 0.07 * (self.position % (SAMPLE_RATE as u64 * 100)) as f32 / RATE).sin() * 0.25;
        let left = centre + pad * (1.0 - swing) + arpeggio * (1.0 - side) + hat * 0.8;
        let right = centre + pad * (1.0 + swing) + arpeggio * side + hat * 1.2;
        self.position += 1;
        (soft(left), soft(right))
    }

    /// One plucked note per sixteenth, chosen by the seed out of the chord over two octaves; some rest.
    fn arpeggio(&self, step: u64, time: f32) -> (f32, f32) {
        let mut sound = 0.0;
        // The note before still rings.
        for back in 0..2_u64 {
            let Some(step) = step.checked_sub(back) else { continue };
            let dice = scramble(self.seed ^ step);
            if dice.is_multiple_of(5) {
                continue;
            }
            let (notes, _) = CHORDS[chord(step / STEPS_PER_BAR)];
            let note = notes[(dice >> 8) as usize % notes.len()] + 12 * (1 + ((dice >> 16) & 1) as i32);
            let time = time + back as f32 * STEP as f32 / RATE;
            let turn = TAU * pitch(note) * time;
            let attack = (time / 0.004).min(1.0);
            sound += 0.45 * attack * (-7.0 * time).exp() * (turn.sin() + 0.3 * (2.0 * turn).sin());
        }
        (sound, if step.is_multiple_of(2) { 0.3 } else { 0.7 })
    }

    /// Kick, snare and hat: what goes to the middle, and the hat.
    fn drums(&mut self, step: u64, time: f32) -> (f32, f32) {
        let bar = step / STEPS_PER_BAR;
        let noise = self.next_noise();
        if bar % BARS_PER_SECTION == BARS_PER_SECTION - 1 || bar < 2 {
            return (0.0, 0.0);
        }
        let beat = step % STEPS_PER_BAR;
        let mut centre = 0.0;
        if beat.is_multiple_of(4) {
            // The pitch falls from 160 to 50 Hz.
            let turns = 50.0 * time + 110.0 / 30.0 * (1.0 - (-30.0 * time).exp());
            centre += 0.9 * (-9.0 * time).exp() * (TAU * turns).sin();
        }
        if beat == 4 || beat == 12 {
            centre += 0.30 * (-18.0 * time).exp() * noise;
        }
        let hat = if beat % 4 == 2 { 0.10 * (-40.0 * time).exp() * noise } else { 0.0 };
        (centre, hat)
    }

    fn next_noise(&mut self) -> f32 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        self.noise as f32 / (u32::MAX / 2) as f32 - 1.0
    }
}

impl Source for Demo {
    fn fill(&mut self, frame: &mut Frame) -> Result<(), Error> {
        for pair in frame.chunks_exact_mut(CHANNELS) {
            (pair[0], pair[1]) = self.sample();
        }
        Ok(())
    }
}

/// The chord, swelling in and out over its bar, so that the change of chord never clicks.
fn pad(bar: u64, time: f32) -> f32 {
    let length = (STEP * STEPS_PER_BAR) as f32 / RATE;
    let swell = (FRAC_PI_2 * (time / 0.15).min((length - time) / 0.15).clamp(0.0, 1.0)).sin();
    let (notes, _) = CHORDS[chord(bar)];
    let voices: f32 = notes
        .iter()
        .map(|note| {
            let turn = TAU * pitch(*note + 12) * time;
            turn.sin() + 0.35 * (1.003 * turn).sin() + 0.15 * (3.0 * turn).sin()
        })
        .sum();
    0.12 * swell * voices
}

/// The root on the beat and before the third one.
fn bass(step: u64, time: f32) -> f32 {
    let beat = step % STEPS_PER_BAR;
    let started = [0, 6, 8, 14].into_iter().rev().find(|start| *start <= beat).unwrap_or(0);
    let time = time + ((beat - started) * STEP) as f32 / RATE;
    let (_, root) = CHORDS[chord(step / STEPS_PER_BAR)];
    let turn = TAU * pitch(root - 12) * time;
    let attack = (time / 0.008).min(1.0);
    0.6 * attack * (-3.0 * time).exp() * (turn.sin() + 0.4 * (2.0 * turn).sin())
}

fn chord(bar: u64) -> usize {
    (bar % CHORDS.len() as u64) as usize
}

/// Hertz of a note in semitones above A2.
fn pitch(semitones: i32) -> f32 {
    110.0 * (semitones as f32 / 12.0).exp2()
}

/// Limits gently: never beyond full scale, and linear for what is soft.
fn soft(sound: f32) -> f32 {
    (LEVEL * 2.0 * sound).tanh() * 0.8
}

/// A well-mixed number of a number (splitmix64).
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seed: u64, count: usize) -> Vec<f32> {
        let mut demo = Demo::new(seed);
        let mut frame = [0.0; 1920];
        let mut all = Vec::new();
        for _ in 0..count * 50 {
            demo.fill(&mut frame).unwrap();
            all.extend_from_slice(&frame);
        }
        all
    }

    #[test]
    fn a_seed_gives_the_same_music_and_another_seed_another() {
        assert_eq!(seconds(7, 12), seconds(7, 12));
        assert_ne!(seconds(7, 12), seconds(8, 12));
    }

    #[test]
    fn the_music_is_neither_silent_nor_clipped() {
        for second in seconds(1, 30).chunks(SAMPLE_RATE as usize * 2) {
            let peak = second.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
            let rms = (second.iter().map(|s| s * s).sum::<f32>() / second.len() as f32).sqrt();
            assert!(peak < 0.9 && rms > 0.03, "peak {peak}, rms {rms}");
        }
    }

    #[test]
    fn left_and_right_differ() {
        assert!(seconds(1, 8).chunks(2).any(|pair| (pair[0] - pair[1]).abs() > 0.05));
    }
}
