//! A picture in several encodings and the sound with it, as another worker hands them over: VP8 with two temporal
//! layers, 30 pictures a second. The publisher answers keyframe requests.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use media::{Packet, Relayed, packet::Canonical};
use protocol::{Codec, mesh::SenderClock};

use super::{Item, Sim, TRACKS, ms};

/// What is sent of each encoding.
pub struct Encoding {
    /// Bits per second.
    pub rate: u64,
    pub width: u16,
    pub height: u16,
    /// Whether it is sent.
    pub lives: bool,
    /// It is sent as the whole picture.
    pub whole: bool,
    pub epoch: u8,
    /// The link that it comes over is cut: it is sent, and nothing comes.
    pub cut: bool,
    /// Every third picture is left out by the publisher.
    pub skips: bool,
    /// Each picture comes up to this much later.
    pub jitter: Duration,
    sequence: u16,
    /// Of its RTP clock, when the stage began.
    timestamp: u32,
    picture: u16,
    tl0: u8,
    key_index: u8,
    keyframe_at: Option<Instant>,
}

/// What publishes.
pub struct Stage {
    pub encodings: Vec<Encoding>,
    /// They are no encodings, but spatial layers of one in VP9, with two temporal layers, as the whole picture.
    pub spatial: bool,
    /// The wait for a keyframe.
    pub answers_in: Duration,
    /// The scene takes more and less, by so much of the whole, within two seconds.
    pub swing: f64,
    began: Instant,
    pictures: u64,
    sounds: u64,
    sound_sequence: u16,
    seen: usize,
}

/// Bits per second of the encodings that tests have.
pub const RATES: [u64; 3] = [120_000, 600_000, 2_000_000];
const SOUND: usize = 96_000 / 8 / 50;
const LARGEST: usize = 1100;
/// Where the number of the encoding stands in a payload, behind the descriptor and the keyframe's head.
pub const MARK: usize = 16;

impl Stage {
    pub fn new(rates: &[u64], now: Instant) -> Stage {
        let encoding = |(at, rate): (usize, &u64)| Encoding {
            rate: *rate,
            width: 320 << at,
            height: 180 << at,
            lives: true,
            whole: false,
            epoch: 3,
            cut: false,
            skips: false,
            jitter: Duration::ZERO,
            sequence: 65_000_u16.wrapping_add(1000 * at as u16),
            timestamp: 1_000_000 * at as u32,
            picture: 0x7ff0_u16.wrapping_add(100 * at as u16),
            tl0: 250_u8.wrapping_add(3 * at as u8),
            key_index: 7 * at as u8,
            keyframe_at: Some(now),
        };
        Stage {
            encodings: rates.iter().enumerate().map(encoding).collect(),
            spatial: false,
            answers_in: ms(100),
            swing: 0.0,
            began: now,
            pictures: 0,
            sounds: 0,
            sound_sequence: 60_000,
            seen: 0,
        }
    }

    /// Publishes for a time.
    pub fn run(&mut self, sim: &mut Sim, time: Duration) {
        let end = sim.now + time;
        loop {
            let picture_at = self.began + Duration::from_micros(33_333) * self.pictures as u32;
            let sound_at = self.began + ms(20) * self.sounds as u32;
            let at = picture_at.min(sound_at);
            if at >= end {
                sim.run(end.saturating_duration_since(sim.now));
                return;
            }
            sim.run(at.saturating_duration_since(sim.now));
            self.heed(sim);
            if picture_at <= sound_at {
                self.picture(sim);
            } else {
                self.sound(sim);
            }
        }
    }

    fn heed(&mut self, sim: &Sim) {
        for track in &sim.wanted[self.seen..] {
            let whole = self.encodings.iter().position(|encoding| encoding.whole || self.spatial);
            let of = TRACKS.encodings.iter().position(|encoding| encoding == track);
            let asked = if *track == TRACKS.video { whole } else { of };
            if let Some(encoding) = asked.and_then(|at| self.encodings.get_mut(at)) {
                encoding.keyframe_at.get_or_insert(sim.now + self.answers_in);
            }
        }
        self.seen = sim.wanted.len();
    }

    /// A picture in spatial layers. Numbers and keyframes are those of the first of them.
    fn spatial_picture(&mut self, sim: &mut Sim) {
        let number = self.pictures;
        self.pictures += 1;
        let ticks = (sim.now.duration_since(self.began).as_secs_f64() * 90_000.0) as u32;
        let count = self.encodings.len();
        let sizes: Vec<(u64, u16, u16)> =
            self.encodings.iter().map(|layer| (layer.rate, layer.width, layer.height)).collect();
        let base = &mut self.encodings[0];
        let keyframe = base.keyframe_at.is_some_and(|at| at <= sim.now);
        base.keyframe_at = base.keyframe_at.filter(|_| !keyframe);
        let temporal = if keyframe { 0 } else { (number % 2) as u8 };
        base.picture = base.picture.wrapping_add(1) & 0x7fff;
        base.tl0 = base.tl0.wrapping_add(u8::from(temporal == 0));
        let factor = match (keyframe, temporal) {
            (true, _) => 5.0,
            (false, 0) => 1.2,
            (false, _) => 0.8,
        };
        for (spatial, (rate, ..)) in sizes.iter().enumerate() {
            let mut left = (*rate as f64 / 8.0 / 30.0 * factor) as usize;
            let mut first = true;
            while left > 0 {
                let len = left.clamp(2 * MARK, LARGEST);
                left = left.saturating_sub(LARGEST);
                let canonical = Canonical {
                    codec: Codec::Vp9,
                    marker: left == 0 && spatial + 1 == count,
                    sequence: base.sequence,
                    timestamp: ticks,
                    audio_level: None,
                    orientation: None,
                    dependency: None,
                };
                base.sequence = base.sequence.wrapping_add(1);
                let mut buffer = BytesMut::new();
                canonical.write(&mut buffer);
                // RFC 9628 section 4.2: I, P, L, B, E, V; the picture id; TID, U, SID, D; TL0PICIDX
                let structure = keyframe && first && spatial == 0;
                let flag = |is: bool, at: u8| u8::from(is) << at;
                let head = flag(!keyframe, 6) | flag(first, 3) | flag(left == 0, 2) | flag(structure, 1);
                buffer.put_u8(0xa0 | head);
                buffer.put_u16(0x8000 | base.picture);
                buffer.put_u8(temporal << 5 | 0x10 | (spatial as u8) << 1 | u8::from(spatial > 0));
                buffer.put_u8(base.tl0);
                if structure {
                    buffer.put_u8((count as u8 - 1) << 5 | 0x10);
                    for (_, width, height) in &sizes {
                        buffer.put_u16(*width);
                        buffer.put_u16(*height);
                    }
                }
                buffer.resize(canonical.header_len() + len, 0xab);
                first = false;
                let packet = Packet::from_parts(canonical, buffer, base.epoch, sim.now);
                for worker in &mut sim.workers {
                    worker.handle_packet(TRACKS.video, packet.clone(), sim.now);
                }
            }
        }
        sim.run(Duration::ZERO);
    }

    fn picture(&mut self, sim: &mut Sim) {
        if self.spatial {
            return self.spatial_picture(sim);
        }
        let number = self.pictures;
        self.pictures += 1;
        let ticks = (sim.now.duration_since(self.began).as_secs_f64() * 90_000.0) as u32;
        for (at, encoding) in self.encodings.iter_mut().enumerate() {
            if !encoding.lives || encoding.skips && number % 3 == 2 {
                continue;
            }
            let late = sim.random(encoding.jitter);
            let keyframe = encoding.keyframe_at.is_some_and(|at| at <= sim.now);
            let layer = if keyframe { 0 } else { (number % 2) as u8 };
            if keyframe {
                encoding.keyframe_at = None;
                encoding.key_index = encoding.key_index.wrapping_add(1) & 0x1f;
            }
            encoding.picture = encoding.picture.wrapping_add(1) & 0x7fff;
            encoding.tl0 = encoding.tl0.wrapping_add(u8::from(layer == 0));
            let scene = 1.0 + self.swing * (f64::from(ticks) * std::f64::consts::PI / 90_000.0).sin();
            let mean = scene * encoding.rate as f64 / 8.0 / 30.0;
            // the upper layer takes two fifths
            let size = mean
                * if keyframe {
                    5.0
                } else if layer == 0 {
                    1.2
                } else {
                    0.8
                };
            let mut left = (size as usize).max(MARK + 1);
            let mut first = true;
            while left > 0 {
                let len = left.clamp(MARK + 1, LARGEST);
                left = left.saturating_sub(LARGEST);
                let canonical = Canonical {
                    codec: Codec::Vp8,
                    marker: left == 0,
                    sequence: encoding.sequence,
                    timestamp: encoding.timestamp.wrapping_add(ticks),
                    audio_level: None,
                    orientation: None,
                    dependency: None,
                };
                encoding.sequence = encoding.sequence.wrapping_add(1);
                let mut buffer = BytesMut::new();
                canonical.write(&mut buffer);
                // RFC 7741 section 4.2: X, S; I, L, T, K; the picture id; TL0PICIDX; TID, Y, KEYIDX
                buffer.put_slice(&[0x80 | u8::from(first) << 4, 0xf0]);
                buffer.put_u16(0x8000 | encoding.picture);
                buffer.put_slice(&[encoding.tl0, layer << 6 | 0x20 | encoding.key_index]);
                buffer.put_slice(&[u8::from(!keyframe), 0, 0, 0x9d, 0x01, 0x2a]);
                buffer.put_u16_le(encoding.width);
                buffer.put_u16_le(encoding.height);
                buffer.put_u8(at as u8);
                buffer.resize(canonical.header_len() + len, 0xab);
                first = false;
                if encoding.cut {
                    continue;
                }
                let packet = Packet::from_parts(canonical, buffer, encoding.epoch, sim.now + late);
                let track = if encoding.whole { TRACKS.video } else { TRACKS.encodings[at] };
                for worker in 0..sim.workers.len() {
                    if late > Duration::ZERO {
                        let relayed = Relayed::Packet(packet.clone());
                        sim.fly(sim.now + late, Item::Relayed(worker, track, relayed));
                    } else {
                        sim.workers[worker].handle_packet(track, packet.clone(), sim.now);
                    }
                }
            }
            if number.is_multiple_of(30) && !encoding.cut {
                let ntp = (0xe000_0000_u64 << 32) + (f64::from(ticks) / 90_000.0 * 4_294_967_296.0) as u64;
                let clock = SenderClock { ntp, rtp: encoding.timestamp.wrapping_add(ticks) };
                for worker in &mut sim.workers {
                    worker.handle_clock(TRACKS.encodings[at], encoding.epoch, clock, sim.now);
                }
            }
        }
        sim.run(Duration::ZERO);
    }

    fn sound(&mut self, sim: &mut Sim) {
        let canonical = Canonical {
            codec: Codec::Opus,
            marker: false,
            sequence: self.sound_sequence,
            timestamp: (self.sounds * 960) as u32,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        self.sounds += 1;
        self.sound_sequence = self.sound_sequence.wrapping_add(1);
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.resize(canonical.header_len() + SOUND, 0xcd);
        let packet = Packet::from_parts(canonical, buffer, 3, sim.now);
        let mut all = vec![(TRACKS.audio, packet.clone())];
        all.extend(sim.ladder.handle_packet(packet, sim.now));
        for (track, packet) in all {
            for worker in &mut sim.workers {
                worker.handle_packet(track, packet.clone(), sim.now);
            }
        }
        sim.run(Duration::ZERO);
    }
}
