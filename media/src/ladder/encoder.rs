//! The encoder of one rung: the sound of a packet becomes another packet of the same length, at another rate.
//!
//! CELT encodes blocks that overlap by 2.5 ms, and an encoder looks ahead by its lookahead. So what is decoded lies
//! behind what was fed by so much. For a packet of the positions `p..q` the encoder is fed `p + lookahead..q +
//! lookahead`, and what is decoded is the sound of `p..q`. The last samples fed are but half of an overlap: they
//! are heard only together with the next packet.

use std::ops::Range;

use bytes::BufMut;
use opus::{Application, Bandwidth, Bitrate, Channels, Encoder as Libopus, Signal};

use super::{
    CHANNELS, RATES, SAMPLE_RATE,
    framing::{Frames, SHORTEST},
    mono::{BLOCK, Mono},
    sound::Sound,
};

/// The frames that CELT has, in samples.
const FRAMES: [u32; 4] = [960, 480, 240, 120];
/// A packet is never longer than this many hundredths of what its rate gives.
const LONGEST_PERCENT: u64 = 130;
/// The stereo rung of sound that has one channel only: with it mono sounds as stereo does with its own rate.
const MONO_RATE: i32 = 48_000;
/// Packets of one channel in a row until the stereo rung is mono: 1 s of 20 ms.
const MONO_AFTER: u32 = 50;
/// Longer than any frame of a rung.
const FRAME_LEN_MAX: usize = 512;

/// Encodes one rung of a stage.
#[derive(Debug)]
pub struct Encoder {
    libopus: Libopus,
    rung: usize,
    lookahead: u64,
    /// The position that would follow what was fed; `None` if that was no sound of the stage's.
    next: Option<u64>,
    rate: Option<i32>,
    mono: Mono,
    /// Packets of one channel in a row.
    alike: u32,
    stereo: Vec<f32>,
    fed: Vec<f32>,
    frames: Frames,
}

/// Sound that a packet stands for.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Where it is.
    pub positions: Range<u64>,
    /// The publisher's packet has two channels.
    pub stereo: bool,
}

impl Encoder {
    /// An encoder of this rung.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn new(rung: usize) -> Result<Encoder, opus::Error> {
        let channels = if rung == 0 { Channels::Mono } else { Channels::Stereo };
        // This application is CELT alone, whatever the rate and the sound.
        let mut libopus = Libopus::new(SAMPLE_RATE, channels, Application::LowDelay)?;
        libopus.set_complexity(10)?;
        libopus.set_signal(Signal::Music)?;
        libopus.set_bandwidth(Bandwidth::Fullband)?;
        libopus.set_vbr(true)?;
        libopus.set_vbr_constraint(true)?;
        libopus.set_inband_fec(false)?;
        libopus.set_dtx(false)?;
        let lookahead = libopus.get_lookahead()?.unsigned_abs().into();
        Ok(Encoder {
            libopus,
            rung,
            lookahead,
            next: None,
            rate: None,
            mono: Mono::default(),
            alike: 0,
            stereo: Vec::new(),
            fed: Vec::new(),
            frames: Frames::default(),
        })
    }

    /// How far behind a packet the sound has to be known before it is encoded: what the encoder looks ahead, and what
    /// the gain of mono does.
    pub fn reach(&self) -> u64 {
        self.lookahead + BLOCK as u64
    }

    /// Appends the packet of a piece to `out`. Where its reach is not all here, the end of the sound is mirrored. `None` if
    /// the encoder fails: nothing is appended then, and it begins anew with the next piece.
    pub fn encode(&mut self, piece: &Piece, sound: &Sound, out: &mut impl BufMut) -> Option<()> {
        let encoded = self.encode_frames(piece, sound);
        // What was mirrored has to be fed again, as it is.
        let known = piece.positions.end + self.lookahead <= sound.end();
        self.next = (encoded.is_ok() && known).then_some(piece.positions.end + self.lookahead);
        encoded.ok()?;
        self.frames.write(out)
    }

    fn encode_frames(&mut self, piece: &Piece, sound: &Sound) -> Result<(), opus::Error> {
        let samples = (piece.positions.end - piece.positions.start) as u32;
        // All frames of a packet have one length.
        let frame = FRAMES.into_iter().find(|frame| samples.is_multiple_of(*frame)).unwrap_or(SHORTEST);
        self.choose_channels(piece.stereo)?;
        self.choose_rate(frame)?;
        self.frames.clear();
        let start = piece.positions.start + self.lookahead;
        if self.next != Some(start) {
            self.warm(start, sound)?;
        }
        for nth in 0..u64::from(samples / frame) {
            let at = start + nth * u64::from(frame);
            let mut packet = [0; FRAME_LEN_MAX];
            let len = self.encode_frame(at..at + u64::from(frame), sound, &mut packet)?;
            self.frames.push(&packet[..len]);
        }
        Ok(())
    }

    /// What was fed before does not lead to `start`: the encoder hears the frame before it, and its packet is thrown
    /// away. So it has the half of the overlap that the next packet needs.
    fn warm(&mut self, start: u64, sound: &Sound) -> Result<(), opus::Error> {
        let frame = u64::from(FRAMES[0]);
        self.mono.reset();
        self.encode_frame(start - frame..start, sound, &mut [0; FRAME_LEN_MAX])?;
        Ok(())
    }

    fn encode_frame(
        &mut self,
        positions: Range<u64>,
        sound: &Sound,
        packet: &mut [u8; FRAME_LEN_MAX],
    ) -> Result<usize, opus::Error> {
        let samples = (positions.end - positions.start) as u32;
        let longest = self.rate_of(samples) as u64 * u64::from(samples) * LONGEST_PERCENT / 100;
        let longest = (longest / (8 * u64::from(SAMPLE_RATE))) as usize;
        let packet = &mut packet[..longest.min(FRAME_LEN_MAX)];
        if self.rung > 0 {
            sound.copy(positions, &mut self.stereo);
            return self.libopus.encode_float(&self.stereo, packet);
        }
        sound.copy(positions.start..positions.end + BLOCK as u64, &mut self.stereo);
        self.fed.clear();
        self.mono.mix(&self.stereo, &mut self.fed);
        self.libopus.encode_float(&self.fed, packet)
    }

    fn choose_rate(&mut self, frame: u32) -> Result<(), opus::Error> {
        let rate = self.rate_of(frame);
        if self.rate != Some(rate) {
            self.libopus.set_bitrate(Bitrate::Bits(rate))?;
            self.rate = Some(rate);
        }
        Ok(())
    }

    /// A frame costs bits by itself. Below 10 ms there are so many that the rate of a rung would not pay for the sound;
    /// what is added is what libopus takes off before it chooses.
    fn rate_of(&self, frame: u32) -> i32 {
        let rate = if self.is_mono() && self.rung > 0 { MONO_RATE } else { RATES[self.rung] };
        let channels = if self.is_mono() { 1 } else { CHANNELS as i32 };
        let frames_per_second = (SAMPLE_RATE / frame) as i32;
        if frames_per_second <= 100 { rate } else { rate + (40 * channels + 20) * (frames_per_second - 50) }
    }

    /// The stereo rung of a publisher who has been mono for a while is mono.
    fn choose_channels(&mut self, stereo: bool) -> Result<(), opus::Error> {
        let was = self.is_mono();
        self.alike = if stereo { 0 } else { self.alike.saturating_add(1) };
        if self.rung > 0 && was != self.is_mono() {
            self.libopus.set_force_channels(self.is_mono().then_some(Channels::Mono))?;
        }
        Ok(())
    }

    fn is_mono(&self) -> bool {
        self.rung == 0 || self.alike >= MONO_AFTER
    }
}
