//! One encoding of a publisher's picture as it comes: whether it lives, how large it is and what flows of it. Which
//! one stands for the whole picture is decided in `whole`.

use std::time::{Duration, Instant};

use crate::{
    allocation::price::Rate,
    rtp::{descriptor::Resolution, packet::Packet, sequence::is_newer},
    track::meter::DORMANT,
};

/// What came of one encoding lately.
#[derive(Debug)]
pub(super) struct Encoding {
    rate: Rate,
    life: Option<Life>,
    resolution: Option<Resolution>,
    newest: Option<Newest>,
    /// That ended since they were counted last.
    pictures: u32,
    counted_at: Instant,
}

/// Packets without a pause.
#[derive(Debug, Clone, Copy)]
struct Life {
    since: Instant,
    heard: Instant,
}

/// The packet that is ahead of all others.
#[derive(Debug, Clone, Copy)]
struct Newest {
    epoch: u8,
    sequence: u16,
    timestamp: u32,
}

/// What whoever runs a publisher sees of one encoding of its picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingView {
    /// Its name; `None` if it is the only one.
    pub rid: Option<String>,
    /// As its last keyframe said.
    pub resolution: Option<Resolution>,
    /// Pictures in the last second.
    pub frames_per_second: u32,
    /// What came in the last three seconds on average, in kbit/s; a keyframe hardly moves it.
    pub kilobits_per_second: u64,
    /// Nothing came for a second.
    pub dormant: bool,
}

impl Encoding {
    /// Nothing has come yet.
    pub(super) fn new(now: Instant) -> Encoding {
        Encoding {
            rate: Rate::new(now),
            life: None,
            resolution: None,
            newest: None,
            pictures: 0,
            counted_at: now,
        }
    }

    /// A packet came that was not here before, behind one of our own with parameter sets where it lacked them. True if
    /// a picture that can be decoded by itself begins with it, and nothing of that picture or of what follows was
    /// before.
    pub(super) fn handle_packet(&mut self, sets: Option<&Packet>, packet: &Packet, now: Instant) -> bool {
        let since = if self.is_alive(now) { self.life.map(|life| life.since) } else { None };
        self.life = Some(Life { since: since.unwrap_or(now), heard: now });
        self.rate.handle_packet(packet.bytes.len(), now);
        self.pictures += u32::from(packet.description.picture_ends);
        let resolution = sets.and_then(|sets| sets.description.resolution);
        self.resolution = packet.description.resolution.or(resolution).or(self.resolution);
        let Packet { epoch, sequence, timestamp, .. } = *packet;
        let before = self.newest.filter(|newest| newest.epoch == epoch);
        let is_ahead = before.is_none_or(|newest| is_newer(sequence, newest.sequence));
        if is_ahead {
            self.newest = Some(Newest { epoch, sequence, timestamp });
        }
        packet.description.keyframe && is_ahead && before.is_none_or(|newest| newest.timestamp != timestamp)
    }

    /// Whether something came in the last second.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.life.is_some_and(|life| now.saturating_duration_since(life.heard) < DORMANT)
    }

    /// How long it has come without a pause; `None` if it is dormant.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.life.filter(|_| self.is_alive(now)).map(|life| now.saturating_duration_since(life.since))
    }

    /// Of its last keyframe, if that said so.
    pub(super) fn pixels(&self) -> Option<u32> {
        self.resolution.map(Resolution::pixels)
    }

    /// Bits per second.
    pub(super) fn bits_per_second(&mut self, now: Instant) -> u64 {
        if self.is_alive(now) { self.rate.bits_per_second(now) } else { 0 }
    }

    /// How it is now. Pictures are counted from one time that this is asked to the next.
    pub(super) fn poll_view(&mut self, rid: Option<&str>, now: Instant) -> EncodingView {
        let passed = now.saturating_duration_since(self.counted_at).as_secs_f64();
        self.counted_at = now;
        let pictures = f64::from(std::mem::take(&mut self.pictures));
        EncodingView {
            rid: rid.map(str::to_owned),
            resolution: self.resolution,
            frames_per_second: if passed > 0.0 { (pictures / passed).round() as u32 } else { 0 },
            kilobits_per_second: self.bits_per_second(now) / 1000,
            dormant: !self.is_alive(now),
        }
    }
}
