//! A publisher, a stage and a listener, all with libopus, in virtual time.

mod framing;
mod level;
mod losses;
mod pauses;
mod rungs;
mod signal;
mod stages;
mod strangers;
mod switching;
mod time;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use opus::{Application, Bitrate, Channels, Decoder, Encoder};
use protocol::Codec;

use super::{RUNGS, Stage, framing::Layout};
use crate::{
    drop_reason::DropReason,
    rtp::packet::{Canonical, Packet},
};

#[expect(clippy::disallowed_methods, reason = "the first instant of virtual time")]
fn start() -> Instant {
    Instant::now()
}

/// What a publisher sends.
#[derive(Clone, Copy)]
struct Format {
    channels: Channels,
    application: Application,
    bitrate: i32,
    /// Samples of each packet.
    frame: usize,
}

const MUSIC: Format =
    Format { channels: Channels::Stereo, application: Application::Audio, bitrate: 128_000, frame: 960 };

/// The payloads of interleaved stereo.
fn encode(samples: &[f32], format: Format) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(48_000, format.channels, format.application).unwrap();
    encoder.set_bitrate(Bitrate::Bits(format.bitrate)).unwrap();
    encode_with(&mut encoder, samples, format)
}

fn encode_with(encoder: &mut Encoder, samples: &[f32], format: Format) -> Vec<Vec<u8>> {
    let encode_frame = |frame: &[f32]| {
        let left: Vec<f32>;
        let fed = match format.channels {
            Channels::Stereo => frame,
            Channels::Mono => {
                left = frame.iter().step_by(2).copied().collect();
                &left
            }
        };
        encoder.encode_vec_float(fed, 4000).unwrap()
    };
    samples.chunks_exact(format.frame * 2).map(encode_frame).collect()
}

/// Packets with these payloads, numbered and timed from here on.
fn number(payloads: &[Vec<u8>], sequence: u16, timestamp: u32, epoch: u8, now: Instant) -> Vec<Packet> {
    let mut at = 0;
    let mut packets = Vec::new();
    for (nth, payload) in payloads.iter().enumerate() {
        let received = now + Duration::from_micros(u64::from(at) * 1000 / 48);
        packets.push(packet(
            sequence.wrapping_add(nth as u16),
            timestamp.wrapping_add(at),
            epoch,
            payload,
            received,
        ));
        at += Layout::read(payload).map_or(960, |layout| layout.samples);
    }
    packets
}

fn packet(sequence: u16, timestamp: u32, epoch: u8, payload: &[u8], received: Instant) -> Packet {
    let canonical = Canonical {
        codec: Codec::Opus,
        marker: sequence.is_multiple_of(50),
        sequence,
        timestamp,
        audio_level: Some(0x80 | (sequence % 100) as u8),
        orientation: None,
        dependency: None,
    };
    let mut buffer = BytesMut::new();
    canonical.write(&mut buffer);
    buffer.extend_from_slice(payload);
    Packet::from_parts(canonical, buffer, epoch, received)
}

/// A stage and what came out of it.
#[derive(Default)]
struct Ladder {
    stage: Stage,
    out: [Vec<Packet>; RUNGS],
    dropped: Vec<DropReason>,
    /// When each packet of `out` came.
    at: [Vec<Instant>; RUNGS],
}

impl Ladder {
    fn new(wanted: [bool; RUNGS]) -> Ladder {
        let mut ladder = Ladder::default();
        ladder.stage.set_wanted(wanted);
        ladder
    }

    /// Each packet at its time, with the timers between them.
    fn feed<'a>(&mut self, packets: impl IntoIterator<Item = &'a Packet>) {
        for packet in packets {
            self.run_until(packet.received);
            self.stage.handle_packet(packet, packet.received);
            self.drain(packet.received);
        }
    }

    fn run_until(&mut self, now: Instant) {
        while let Some(at) = self.stage.poll_timeout().filter(|at| *at <= now) {
            self.stage.handle_timeout(at);
            self.drain(at);
            assert_ne!(self.stage.poll_timeout(), Some(at), "a timer that does nothing");
        }
    }

    fn drain(&mut self, now: Instant) {
        while let Some((rung, packet)) = self.stage.poll_packet() {
            let layout = Layout::read(packet.payload());
            assert!(
                packet.payload().is_empty() || layout.is_some_and(|layout| layout.is_celt()),
                "each rung packet is CELT"
            );
            self.out[rung].push(packet);
            self.at[rung].push(now);
        }
        self.dropped.extend(std::iter::from_fn(|| self.stage.poll_dropped()));
    }

    /// Until nothing is left to do.
    fn finish(&mut self) {
        while let Some(at) = self.stage.poll_timeout() {
            self.run_until(at);
        }
    }
}

/// What a listener hears: left and right in turn.
fn decode<'a>(packets: impl IntoIterator<Item = &'a Packet>) -> Vec<f32> {
    let mut decoder = Decoder::new(48_000, Channels::Stereo).unwrap();
    let mut heard = Vec::new();
    let mut decoded = [0.0; 5760 * 2];
    for packet in packets {
        let samples = decoder.decode_float(packet.payload(), &mut decoded, false).unwrap();
        heard.extend_from_slice(&decoded[..samples * 2]);
    }
    heard
}

fn channel(interleaved: &[f32], channel: usize) -> Vec<f32> {
    interleaved.iter().skip(channel).step_by(2).copied().collect()
}

fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len().max(1) as f64
}

fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.max(1e-20).log10()
}

/// How many samples `late` lies behind `reference`, from -1000 to 1000, by the highest correlation.
fn lag(reference: &[f32], late: &[f32]) -> i64 {
    let len = reference.len().min(late.len());
    let (from, to) = (2000, len - 2000);
    let correlation = |lag: i64| {
        let pairs = reference[from..to].iter().zip(&late[(from as i64 + lag) as usize..]);
        pairs.map(|(one, other)| one * other).sum::<f32>()
    };
    (-1000..=1000).max_by(|one, other| correlation(*one).total_cmp(&correlation(*other))).unwrap()
}

/// Left and right together.
fn middle(interleaved: &[f32]) -> Vec<f32> {
    interleaved.chunks_exact(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect()
}
