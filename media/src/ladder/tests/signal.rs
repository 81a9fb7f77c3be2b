//! Made-up sound: interleaved stereo.

use std::f64::consts::TAU;

pub const LEFT: [f64; 4] = [300.0, 500.0, 800.0, 1300.0];
pub const RIGHT: [f64; 4] = [400.0, 650.0, 1050.0, 1700.0];

/// A generator of noise, -1 to 1.
pub struct Noise(pub u64);

impl Noise {
    pub fn sample(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn stereo(milliseconds: usize, mut sample: impl FnMut(f64) -> [f32; 2]) -> Vec<f32> {
    (0..milliseconds * 48).flat_map(|at| sample(at as f64 / 48_000.0)).collect()
}

fn chord(frequencies: &[f64], seconds: f64) -> f32 {
    frequencies.iter().map(|hertz| 0.11 * (TAU * hertz * seconds + hertz).sin()).sum::<f64>() as f32
}

/// A chord on each side, and nothing above 2 kHz.
pub fn chords(milliseconds: usize) -> Vec<f32> {
    stereo(milliseconds, |seconds| [chord(&LEFT, seconds), chord(&RIGHT, seconds)])
}

/// Noise that is alike on both sides by this much, -1 to 1, coloured so that most of it is low, as music is.
pub fn noise(milliseconds: usize, alike: f32, volume: f32) -> Vec<f32> {
    let mut noise = Noise(77);
    let mut low = [0.0f32; 2];
    let own = (1.0 - alike * alike).sqrt();
    stereo(milliseconds, |_| {
        let (one, other) = (noise.sample(), noise.sample());
        for (low, new) in low.iter_mut().zip([one, alike * one + own * other]) {
            *low += 0.2 * (new - *low);
        }
        low.map(|low| volume * low)
    })
}

/// Something like a voice: pulses through two resonances.
pub fn voice(milliseconds: usize) -> Vec<f32> {
    let (mut phase, mut noise) = (0.0, Noise(99));
    let mut state = [[0.0f64; 2]; 2];
    stereo(milliseconds, |seconds| {
        phase += (120.0 + 15.0 * (TAU * 0.7 * seconds).sin()) / 48_000.0;
        let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
        phase -= pulse;
        let loud = ((TAU * 3.5 * seconds).sin() * 0.5 + 0.5).powf(0.7);
        let source = loud * (8.0 * pulse + 0.05 * f64::from(noise.sample()));
        let mut sample = 0.0;
        for (state, (hertz, width)) in state.iter_mut().zip([(600.0, 80.0), (1700.0, 120.0)]) {
            let radius = (-TAU / 2.0 * width / 48_000.0).exp();
            let out = source * (1.0 - radius) + 2.0 * radius * (TAU * hertz / 48_000.0).cos() * state[0]
                - radius * radius * state[1];
            *state = [out, state[0]];
            sample += out;
        }
        [(sample * 0.3).clamp(-0.8, 0.8) as f32; 2]
    })
}
