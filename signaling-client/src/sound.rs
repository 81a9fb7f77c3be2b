//! What is heard in a track: Opus decoded, its level, and its strongest frequency. Needs packets in
//! order of arrival, without repeats.

use std::collections::VecDeque;
use std::sync::Arc;

use opus::{Channels, Decoder};
use realfft::{RealFftPlanner, RealToComplex};

use crate::error::Error;
use crate::source::{CHANNELS, SAMPLE_RATE};

/// Samples of one spectrum: 0.68 s, bins 1.46 Hz apart, which interpolation makes hundredths.
const WINDOW: usize = 32_768;
/// The longest Opus packet: 120 ms.
const LONGEST_PACKET: usize = 5760;
/// What silence is given as.
const SILENCE_DBFS: f64 = -120.0;

/// A listening ear.
pub struct Sound {
    decoder: Decoder,
    decoded: Vec<f32>,
    /// Sums of squares, left and right.
    energy: [f64; CHANNELS],
    samples: u64,
    undecodable: u64,
    /// The mix that waits for its spectrum, at most [`WINDOW`] samples.
    mix: VecDeque<f32>,
    fft: Arc<dyn RealToComplex<f32>>,
    /// Power per bin, summed over all windows (Welch's method, without overlap).
    power: Vec<f64>,
    windows: u64,
}

impl Sound {
    /// An ear that has heard nothing yet.
    ///
    /// # Errors
    /// [`Error::Opus`] when there is no memory for a decoder.
    pub fn new() -> Result<Self, Error> {
        Ok(Sound {
            decoder: Decoder::new(SAMPLE_RATE, Channels::Stereo)?,
            decoded: vec![0.0; LONGEST_PACKET * CHANNELS],
            energy: [0.0; CHANNELS],
            samples: 0,
            undecodable: 0,
            mix: VecDeque::with_capacity(WINDOW),
            fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
            power: vec![0.0; WINDOW / 2 + 1],
            windows: 0,
        })
    }

    /// Hears one Opus packet; one that cannot be decoded is only counted.
    pub fn handle_packet(&mut self, packet: &[u8]) {
        // An empty packet would ask the decoder to conceal a loss.
        if packet.is_empty() {
            self.undecodable += 1;
            return;
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        match self.decoder.decode_float(packet, &mut decoded, false) {
            Ok(samples) => self.handle_samples(&decoded[..samples * CHANNELS]),
            Err(_) => self.undecodable += 1,
        }
        self.decoded = decoded;
    }

    /// Hears interleaved stereo samples.
    pub fn handle_samples(&mut self, interleaved: &[f32]) {
        for pair in interleaved.chunks_exact(CHANNELS) {
            let (left, right) = (pair[0], pair[1]);
            self.energy[0] += f64::from(left).powi(2);
            self.energy[1] += f64::from(right).powi(2);
            self.samples += 1;
            self.mix.push_back((left + right) / 2.0);
            if self.mix.len() == WINDOW {
                self.transform();
            }
        }
    }

    /// Root mean square over everything heard and both channels, 0 dBFS being a square wave of full scale
    /// (a sine of half scale reads -9.03); -120 for silence, `None` before anything was heard.
    pub fn level_dbfs(&self) -> Option<f64> {
        let mean = self.energy.iter().sum::<f64>() / (self.samples * CHANNELS as u64) as f64;
        (self.samples > 0).then(|| decibels(mean))
    }

    /// The same for left and right.
    pub fn levels_dbfs(&self) -> Option<[f64; CHANNELS]> {
        (self.samples > 0).then(|| self.energy.map(|energy| decibels(energy / self.samples as f64)))
    }

    /// The strongest frequency of everything heard; `None` for silence and for less than 50 ms.
    pub fn peak_hz(&mut self) -> Option<f64> {
        if self.windows == 0 {
            if self.mix.len() < SAMPLE_RATE as usize / 20 {
                return None;
            }
            self.transform();
        }
        // What is below 20 Hz is no sound.
        let lowest = (20.0 / bin_width()).ceil() as usize;
        let (peak, power) = self.power.iter().enumerate().skip(lowest).max_by(|a, b| a.1.total_cmp(b.1))?;
        if *power <= f64::from(f32::EPSILON) {
            return None;
        }
        Some(round_hundredths((peak as f64 + self.offset(peak)) * bin_width()))
    }

    /// Seconds of sound decoded.
    pub fn seconds(&self) -> f64 {
        self.samples as f64 / f64::from(SAMPLE_RATE)
    }

    /// Packets that could not be decoded.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Adds the spectrum of the waiting samples, padded with silence where they are too few.
    fn transform(&mut self) {
        let heard = self.mix.len();
        let mut input = self.fft.make_input_vec();
        for (n, (slot, sample)) in input.iter_mut().zip(self.mix.drain(..)).enumerate() {
            *slot = sample * hann(n, heard);
        }
        let mut output = self.fft.make_output_vec();
        self.fft.process(&mut input, &mut output).expect("the buffers have the sizes the plan made");
        for (sum, bin) in self.power.iter_mut().zip(&output) {
            *sum += f64::from(bin.norm_sqr());
        }
        self.windows += 1;
    }

    /// Where between the bins the peak is: the top of the parabola through three logarithms.
    fn offset(&self, peak: usize) -> f64 {
        let at = |bin: usize| self.power.get(bin).copied().unwrap_or(0.0).max(f64::MIN_POSITIVE).ln();
        let (before, top, after) = (at(peak - 1), at(peak), at(peak + 1));
        let bend = before - 2.0 * top + after;
        if bend.abs() < f64::EPSILON { 0.0 } else { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) }
    }
}

fn bin_width() -> f64 {
    f64::from(SAMPLE_RATE) / WINDOW as f64
}

fn hann(n: usize, length: usize) -> f32 {
    let turn = std::f32::consts::TAU * n as f32 / length as f32;
    0.5 - 0.5 * turn.cos()
}

fn decibels(mean_square: f64) -> f64 {
    if mean_square > 0.0 {
        round_hundredths((10.0 * mean_square.log10()).max(SILENCE_DBFS))
    } else {
        SILENCE_DBFS
    }
}

fn round_hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Encoder;
    use crate::source::{Source, Tone};
    use proptest::prelude::*;

    fn hear(frequency: f64, frames: usize) -> Sound {
        let mut tone = Tone::new(frequency).unwrap();
        let mut sound = Sound::new().unwrap();
        let mut frame = [0.0; 1920];
        for _ in 0..frames {
            tone.fill(&mut frame).unwrap();
            sound.handle_samples(&frame);
        }
        sound
    }

    #[test]
    fn a_tone_is_measured_to_a_tenth_of_a_hertz() {
        for frequency in [50.0, 440.0, 441.3, 1000.0, 9999.5] {
            let peak = hear(frequency, 100).peak_hz().unwrap();
            assert!((peak - frequency).abs() < 0.1, "{peak} for {frequency}");
        }
    }

    #[test]
    fn a_fifth_of_a_second_is_enough_for_one_hertz() {
        let peak = hear(440.0, 10).peak_hz().unwrap();
        assert!((peak - 440.0).abs() < 1.0, "{peak}");
    }

    #[test]
    fn a_sine_of_half_scale_is_nine_decibels_down() {
        let sound = hear(440.0, 50);
        assert_eq!(sound.level_dbfs(), Some(-9.03));
        assert_eq!(sound.levels_dbfs(), Some([-9.03, -9.03]));
    }

    #[test]
    fn silence_has_a_floor_and_no_frequency() {
        let mut sound = Sound::new().unwrap();
        assert_eq!((sound.level_dbfs(), sound.peak_hz()), (None, None));
        sound.handle_samples(&[0.0; 96_000]);
        assert_eq!((sound.level_dbfs(), sound.peak_hz()), (Some(SILENCE_DBFS), None));
    }

    #[test]
    fn a_tone_keeps_its_frequency_and_level_through_opus() {
        let mut encoder = Encoder::new(128_000).unwrap();
        let mut tone = Tone::new(440.0).unwrap();
        let mut sound = Sound::new().unwrap();
        let mut frame = [0.0; 1920];
        for _ in 0..100 {
            tone.fill(&mut frame).unwrap();
            sound.handle_packet(&encoder.encode(&frame).unwrap());
        }
        let (peak, level) = (sound.peak_hz().unwrap(), sound.level_dbfs().unwrap());
        assert!((peak - 440.0).abs() < 0.2, "{peak}");
        assert!((level + 9.03).abs() < 0.3, "{level}");
        assert_eq!(sound.undecodable(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard_without_panic(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut sound = Sound::new().unwrap();
            sound.handle_packet(&packet);
        }
    }
}
