//! The decoded sound of a stage: as much of it as rungs still need, by position.

use std::ops::Range;

use super::CHANNELS;

/// A piece of sound without a gap, left and right in turn. Positions count samples from the start of the stage.
#[derive(Debug)]
pub struct Sound {
    samples: Vec<f32>,
    /// The position of the first one.
    start: u64,
}

/// Where a stage starts: there is room for a frame before it.
const FIRST: u64 = 1 << 16;

impl Default for Sound {
    fn default() -> Sound {
        Sound { samples: Vec::new(), start: FIRST }
    }
}

impl Sound {
    /// Behind the last sample.
    pub fn end(&self) -> u64 {
        self.start + (self.samples.len() / CHANNELS) as u64
    }

    /// Adds what follows.
    pub fn push(&mut self, interleaved: &[f32]) {
        self.samples.extend_from_slice(interleaved);
    }

    /// What comes next does not follow what is here: that is forgotten. Positions go on.
    pub fn break_off(&mut self) {
        self.start = self.end();
        self.samples.clear();
    }

    /// Forgets what is before this position.
    pub fn forget_before(&mut self, position: u64) {
        let samples = position.saturating_sub(self.start).min(self.end() - self.start);
        self.samples.drain(..samples as usize * CHANNELS);
        self.start += samples;
    }

    /// Writes the sound of these positions into `out`. What lies outside of what is here is its mirror image at the
    /// edge: no step, hence no click, and nothing that a listener hears ([`super::encoder`] says why).
    pub fn copy(&self, positions: Range<u64>, out: &mut Vec<f32>) {
        out.clear();
        let last = (self.samples.len() / CHANNELS) as i64 - 1;
        if last < 0 {
            out.resize((positions.end - positions.start) as usize * CHANNELS, 0.0);
            return;
        }
        let (from, to) =
            (positions.start as i64 - self.start as i64, positions.end as i64 - self.start as i64);
        if from >= 0 && to <= last + 1 {
            out.extend_from_slice(&self.samples[from as usize * CHANNELS..to as usize * CHANNELS]);
            return;
        }
        for at in from..to {
            let mirrored = if at < 0 { -1 - at } else { at };
            let mirrored = if mirrored > last { 2 * last + 1 - mirrored } else { mirrored };
            let at = mirrored.clamp(0, last) as usize * CHANNELS;
            out.extend_from_slice(&self.samples[at..at + CHANNELS]);
        }
    }
}
