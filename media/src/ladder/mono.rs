//! Stereo becomes mono as loud as it was: a gain that follows how alike the channels are, limited at full scale.
//!
//! `mono = gain · (L + R) / 2`, with `gain² = (L² + R²) / (2 · ((L + R) / 2)²)` over some 100 ms. So the mono sound on two
//! loudspeakers has the power of the stereo sound: the gain is 1 for two equal channels, √2 for two that have
//! nothing in common, and √2 where one is silent. Channels that are opposite by more than half
//! (a correlation below -0.5) would want more: it ends at 2.

use super::CHANNELS;

/// Samples over which the gain is one line: 2.5 ms, what every frame is a multiple of.
pub const BLOCK: usize = 120;
/// The part of a new block in the powers: a time constant of 100 ms.
const SHARE: f32 = 0.025;
/// The part of its way that the gain takes with each block: 50 ms. A peak does not wait for that.
const SHARE_OF_GAIN: f32 = 0.05;
/// Opposite channels are not made louder than this.
const MAX_GAIN: f32 = 2.0;
/// Full scale, a little below it: rounding must not reach it.
const CEILING: f32 = 0.999;
/// Below this power there is no sound to measure.
const SILENCE: f32 = 1e-9;

/// Makes mono of consecutive stereo.
#[derive(Debug, Default)]
pub struct Mono {
    /// Of left and right together, and of their middle; `None` before anything was heard.
    powers: Option<[f32; 2]>,
    /// The gain where the next block begins.
    gain: Option<f32>,
}

impl Mono {
    /// Forgets what was heard.
    pub fn reset(&mut self) {
        *self = Mono::default();
    }

    /// Appends the mono of all blocks of `stereo` but the last one to `out`. That one only shows how loud it is:
    /// the gain is down before a peak begins. It is the first block of the next call.
    pub fn mix(&mut self, stereo: &[f32], out: &mut Vec<f32>) {
        let whole = BLOCK * CHANNELS;
        let mut blocks = stereo.chunks_exact(whole);
        let Some(mut block) = blocks.next() else { return };
        if self.powers.is_none() {
            self.powers = Some(powers(stereo));
        }
        for next in blocks {
            self.listen(block);
            let wanted = self.wanted();
            let from = self.gain.unwrap_or(wanted).min(limit(block));
            let to = (from + (wanted - from) * SHARE_OF_GAIN).min(limit(block)).min(limit(next));
            for (at, pair) in block.chunks_exact(CHANNELS).enumerate() {
                let gain = from + (to - from) * (at as f32 / BLOCK as f32);
                out.push((gain * (pair[0] + pair[1]) / 2.0).clamp(-1.0, 1.0));
            }
            self.gain = Some(to);
            block = next;
        }
    }

    fn listen(&mut self, block: &[f32]) {
        let new = powers(block);
        let known = self.powers.get_or_insert(new);
        for (known, new) in known.iter_mut().zip(new) {
            *known += (new - *known) * SHARE;
        }
    }

    /// The gain that keeps the power.
    fn wanted(&self) -> f32 {
        match self.powers {
            Some([both, middle]) if both > SILENCE => {
                // Two equal channels have 2 · middle = both.
                (both / (2.0 * middle).max(both / (MAX_GAIN * MAX_GAIN))).sqrt()
            }
            _ => 1.0,
        }
    }
}

/// Mean squares: left and right together, and their middle.
fn powers(stereo: &[f32]) -> [f32; 2] {
    let mut sums = [0.0; 2];
    for pair in stereo.chunks_exact(CHANNELS) {
        let middle = (pair[0] + pair[1]) / 2.0;
        sums[0] += pair[0] * pair[0] + pair[1] * pair[1];
        sums[1] += middle * middle;
    }
    let pairs = (stereo.len() / CHANNELS).max(1) as f32;
    sums.map(|sum| sum / pairs)
}

/// The gain at which a block just reaches full scale.
fn limit(stereo: &[f32]) -> f32 {
    let peak = stereo.chunks_exact(CHANNELS).map(|pair| ((pair[0] + pair[1]) / 2.0).abs());
    CEILING / peak.fold(CEILING / (2.0 * MAX_GAIN), f32::max)
}
