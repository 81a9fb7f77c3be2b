//! A trial of what a stage costs on this machine: who has a clock runs it for a while.

use std::time::Duration;

use opus::{Application, Bitrate, Channels, Encoder as Libopus};

use super::{
    CHANNELS, RUNGS, SAMPLE_RATE,
    decoder::Decoder,
    encoder::{Encoder, Piece},
    framing::Layout,
    sound::Sound,
};

/// Samples of a frame of the trial: 20 ms.
const FRAME: usize = 960;
/// Packets of the publisher; they come again and again.
const PACKETS: usize = 10;

/// A stage with a publisher of its own: 128 kbit/s of sound that never rests.
#[derive(Debug)]
pub struct Trial {
    packets: Vec<Vec<u8>>,
    decoder: Decoder,
    encoders: [Encoder; RUNGS],
    sound: Sound,
    out: Vec<u8>,
    frames: u32,
}

impl Trial {
    /// A stage that is ready to run.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn new() -> Result<Trial, opus::Error> {
        let mut publisher = Libopus::new(SAMPLE_RATE, Channels::Stereo, Application::Audio)?;
        publisher.set_bitrate(Bitrate::Bits(128_000))?;
        let mut noise = 0x2545_f491_4f6c_dd1d_u64;
        let mut packets = Vec::new();
        for nth in 0..PACKETS {
            let samples: Vec<f32> =
                (0..FRAME * CHANNELS).map(|at| music(nth * FRAME + at / CHANNELS, at, &mut noise)).collect();
            let mut packet = vec![0; 1275];
            let len = publisher.encode_float(&samples, &mut packet)?;
            packet.truncate(len);
            packets.push(packet);
        }
        Ok(Trial {
            packets,
            decoder: Decoder::new()?,
            encoders: [Encoder::new(0)?, Encoder::new(1)?],
            sound: Sound::default(),
            out: Vec::new(),
            frames: 0,
        })
    }

    /// Runs one packet of 20 ms: decoded once, encoded as both rungs.
    pub fn run(&mut self) {
        let packet = &self.packets[self.frames as usize % PACKETS];
        self.frames += 1;
        let start = self.sound.end();
        if let Some(decoded) = Layout::read(packet).and_then(|layout| self.decoder.decode(&layout, packet)) {
            self.sound.push(decoded);
        }
        let frame = FRAME as u64;
        let piece = Piece { positions: start.saturating_sub(frame)..start, stereo: true };
        if self.frames > 1 {
            for encoder in &mut self.encoders {
                self.out.clear();
                let _ = encoder.encode(&piece, &self.sound, &mut self.out);
            }
        }
        self.sound.forget_before(start.saturating_sub(3 * frame));
    }

    /// How many stages one core does with both rungs, if it took so long to run so many packets.
    pub fn stages_per_core(packets: u32, took: Duration) -> u32 {
        let played = f64::from(packets) * FRAME as f64 / f64::from(SAMPLE_RATE);
        // As a float becomes an integer it ends at the largest one.
        (played / took.as_secs_f64().max(1e-9)) as u32
    }
}

/// Two chords and noise.
fn music(at: usize, channel: usize, noise: &mut u64) -> f32 {
    *noise ^= *noise << 13;
    *noise ^= *noise >> 7;
    *noise ^= *noise << 17;
    let hiss = (*noise >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let seconds = at as f32 / SAMPLE_RATE as f32;
    let chord = [[220.0, 277.0, 330.0], [440.0, 554.0, 659.0]][channel % CHANNELS];
    let tones: f32 = chord.iter().map(|hertz| (std::f32::consts::TAU * hertz * seconds).sin()).sum();
    0.15 * tones + 0.1 * hiss
}
