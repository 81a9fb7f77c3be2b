//! A sine of an exact frequency, the same on both channels: what a test measures at the other end.

use std::f64::consts::TAU;

use super::{CHANNELS, Frame, SAMPLE_RATE, Source};
use crate::error::Error;

/// Half of full scale, -9.03 dBFS: loud, and far from clipping after a lossy codec.
const AMPLITUDE: f64 = 0.5;

/// A sine.
#[derive(Debug, Clone)]
pub struct Tone {
    /// Turns per sample.
    step: f64,
    /// Where the sine stands, in turns: 0 to 1, so that it never loses precision.
    turn: f64,
}

impl Tone {
    /// A tone of `frequency` in hertz.
    ///
    /// # Errors
    /// [`Error::Usage`] outside 20 Hz to 20 kHz, the band that Opus carries.
    pub fn new(frequency: f64) -> Result<Self, Error> {
        if !(20.0..=20_000.0).contains(&frequency) {
            return Err(Error::Usage(format!("a tone of {frequency} Hz: use 20 to 20000")));
        }
        Ok(Tone { step: frequency / f64::from(SAMPLE_RATE), turn: 0.0 })
    }
}

impl Source for Tone {
    fn fill(&mut self, frame: &mut Frame) -> Result<(), Error> {
        for pair in frame.chunks_exact_mut(CHANNELS) {
            pair.fill((AMPLITUDE * (TAU * self.turn).sin()) as f32);
            self.turn = (self.turn + self.step).fract();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_440_hz_has_440_turns() {
        let mut tone = Tone::new(440.0).unwrap();
        let mut frame = [0.0; 1920];
        let mut rising = 0;
        let mut last = 0.0;
        for _ in 0..50 {
            tone.fill(&mut frame).unwrap();
            for pair in frame.chunks_exact(2) {
                assert_eq!(pair[0], pair[1]);
                rising += usize::from(last <= 0.0 && pair[0] > 0.0);
                last = pair[0];
            }
        }
        assert_eq!(rising, 440);
    }

    #[test]
    fn what_opus_cannot_carry_is_refused() {
        for wrong in [0.0, -440.0, 30_000.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Tone::new(wrong).unwrap_err().exit_code(), 64);
        }
    }
}
