//! The publisher's packets become sound: one decoder for all rungs of a stage.

use opus::{Channels, Decoder as Libopus};

use super::{
    CHANNELS, SAMPLE_RATE,
    framing::{Layout, MAX_SAMPLES, SHORTEST},
};

/// Sound that begins without its past is faded in over so many samples: 5 ms.
const FADE: usize = 240;
/// What is louder than this, +18 dBFS, or no number, is no sound.
const LOUDEST: f32 = 8.0;

/// Decodes packets and conceals missing ones, one after the other.
#[derive(Debug)]
pub struct Decoder {
    libopus: Libopus,
    decoded: Vec<f32>,
    /// Samples that were faded in.
    faded: usize,
}

impl Decoder {
    /// A decoder that has heard nothing.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn new() -> Result<Decoder, opus::Error> {
        let libopus = Libopus::new(SAMPLE_RATE, Channels::Stereo)?;
        Ok(Decoder { libopus, decoded: vec![0.0; MAX_SAMPLES as usize * CHANNELS], faded: 0 })
    }

    /// The sound of a packet, left and right in turn; `None` if it cannot be decoded.
    pub fn decode(&mut self, layout: &Layout, payload: &[u8]) -> Option<&[f32]> {
        let decoded = self.libopus.decode_float(payload, &mut self.decoded, false);
        let samples = decoded.ok().filter(|samples| *samples == layout.samples as usize)?;
        Some(self.finish(samples))
    }

    /// The sound instead of a missing packet of so many samples: what the packet behind it says of it, or what the
    /// decoder makes up.
    pub fn conceal(&mut self, samples: u32, behind: Option<&[u8]>) -> &[f32] {
        let samples = (samples - samples % SHORTEST).min(MAX_SAMPLES) as usize;
        let missing = &mut self.decoded[..samples * CHANNELS];
        let said = behind.and_then(|payload| self.libopus.decode_float(payload, missing, true).ok());
        if said != Some(samples) && self.libopus.decode_float(&[], missing, false).ok() != Some(samples) {
            missing.fill(0.0);
        }
        self.finish(samples)
    }

    fn finish(&mut self, samples: usize) -> &[f32] {
        let decoded = &mut self.decoded[..samples * CHANNELS];
        for sample in &mut *decoded {
            let is_sound = sample.abs() <= LOUDEST;
            *sample = if is_sound { *sample } else { 0.0 };
        }
        let fading = FADE - self.faded;
        for (at, pair) in decoded.chunks_exact_mut(CHANNELS).take(fading).enumerate() {
            let gain = (self.faded + at) as f32 / FADE as f32;
            pair.iter_mut().for_each(|sample| *sample *= gain);
        }
        self.faded += fading.min(samples);
        decoded
    }
}
