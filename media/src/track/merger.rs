//! Packets of a sound become fewer and longer ones: up to three that follow each other go as one. Nothing is encoded
//! anew. Who gets them is decided in `worker`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use protocol::Codec;

use crate::rtp::{
    is_newer,
    opus::{Frames, Layout},
    packet::{Canonical, Packet},
};

/// Makes the packets of a merged track out of those of one track.
#[derive(Debug)]
pub struct Merger {
    /// The number of the next merged packet: its own count.
    sequence: u16,
    /// What the next packet of the source has to be, to go on.
    next: Option<Next>,
    group: Vec<Packet>,
    /// When what waits goes out, whatever comes.
    due: Option<Instant>,
    frames: Frames,
    ready: VecDeque<Packet>,
}

/// What follows the newest packet.
#[derive(Debug, Clone, Copy)]
struct Next {
    sequence: u16,
    /// None if nobody knows how long the newest packet is.
    timestamp: Option<u32>,
    epoch: u8,
    /// The first octet of the newest packet, but for how its frames are packed.
    toc: u8,
}

/// So many packets go as one.
pub const GROUP: u16 = 3;
/// And no more sound than this: 60 ms at 48 kHz.
pub const MOST_SAMPLES: u32 = 2880;
/// Nor more octets: what every path carries in one piece.
const MOST_OCTETS: usize = 1150;
/// What waits goes out after this time, be it alone.
const WAIT: Duration = Duration::from_millis(60);

/// Whether a group begins with this number of the publisher. It is the same for each rung of a sound, so that one rung
/// follows another without a hole.
pub fn begins_group(sequence: u16) -> bool {
    sequence.is_multiple_of(GROUP)
}

impl Merger {
    /// Nothing has come; the first merged packet has this number.
    pub fn new(sequence: u16) -> Merger {
        Merger {
            sequence,
            next: None,
            group: Vec::new(),
            due: None,
            frames: Frames::default(),
            ready: VecDeque::new(),
        }
    }

    /// The source starts anew: what waits is of before, and what comes next follows nothing.
    pub fn handle_anew(&mut self) {
        self.group.clear();
        (self.next, self.due) = (None, None);
    }

    /// A packet of the source. One that is late, or that is known, goes no further.
    pub fn handle_packet(&mut self, packet: Packet, now: Instant) {
        let toc = packet.payload().first().map_or(0, |toc| toc & !3);
        let samples = Layout::read(packet.payload()).map(|layout| layout.samples);
        if let Some(next) = self.next.filter(|next| next.epoch == packet.epoch) {
            if is_newer(next.sequence, packet.sequence) {
                return;
            }
            let follows = next.sequence == packet.sequence && next.timestamp == Some(packet.timestamp);
            if !follows || next.toc != toc {
                self.flush();
            }
        } else {
            self.flush();
        }
        if begins_group(packet.sequence) || samples.is_none() || !self.has_room(&packet, samples) {
            self.flush();
        }
        let last = begins_group(packet.sequence.wrapping_add(1));
        self.next = Some(Next {
            sequence: packet.sequence.wrapping_add(1),
            timestamp: samples.map(|samples| packet.timestamp.wrapping_add(samples)),
            epoch: packet.epoch,
            toc,
        });
        self.due = self.due.or(Some(now + WAIT));
        self.group.push(packet);
        // What cannot be joined does not wait, and what has no room for another one neither.
        let full = samples.is_none_or(|samples| self.samples() + samples > MOST_SAMPLES)
            || self.octets() >= MOST_OCTETS;
        if last || full {
            self.flush();
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.flush();
        }
    }

    /// When [`Merger::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The next merged packet.
    pub fn poll(&mut self) -> Option<Packet> {
        self.ready.pop_front()
    }

    fn has_room(&self, packet: &Packet, samples: Option<u32>) -> bool {
        let samples = self.samples() + samples.unwrap_or_default();
        samples <= MOST_SAMPLES && self.octets() + packet.payload().len() <= MOST_OCTETS
    }

    fn octets(&self) -> usize {
        self.group.iter().map(|packet| packet.payload().len()).sum()
    }

    /// Of what waits.
    fn samples(&self) -> u32 {
        match (self.group.first(), self.next.and_then(|next| next.timestamp)) {
            (Some(first), Some(end)) => end.wrapping_sub(first.timestamp),
            _ => 0,
        }
    }

    /// What waits is a packet.
    fn flush(&mut self) {
        self.due = None;
        let Some(first) = self.group.first() else { return };
        let canonical = Canonical {
            codec: Codec::Opus,
            marker: first.marker,
            sequence: self.sequence,
            timestamp: first.timestamp,
            audio_level: loudest(&self.group),
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::with_capacity(MOST_OCTETS);
        canonical.write(&mut buffer);
        self.frames.clear();
        self.group.iter().for_each(|packet| self.frames.push(packet.payload()));
        // One is passed on as it is, padding and all.
        let joined = self.group.len() > 1 && self.frames.write(&mut buffer).is_some();
        if !joined {
            buffer.extend_from_slice(first.payload());
        }
        // When its first frame came: a listener goes on with another source by that.
        let merged = Packet::from_parts(canonical, buffer, first.epoch, first.received);
        self.sequence = self.sequence.wrapping_add(1);
        self.ready.push_back(merged);
        self.group.clear();
    }
}

/// The level of the loudest of them (RFC 6464): 0 is as loud as can be. There is a voice if one of them has one.
fn loudest(packets: &[Packet]) -> Option<u8> {
    let levels = packets.iter().filter_map(|packet| packet.audio_level);
    levels.reduce(|one, other| (one | other) & 0x80 | (one & 0x7f).min(other & 0x7f))
}

#[cfg(test)]
#[path = "merger_tests.rs"]
mod tests;
