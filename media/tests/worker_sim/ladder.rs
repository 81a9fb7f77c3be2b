//! Who makes rungs, in virtual time: of each packet of the sound one of each rung that is wanted, a packet later. What is in
//! them says which packet it stands for.

use std::{collections::BTreeMap, time::Instant};

use bytes::BytesMut;
use media::{Packet, TrackId, packet::Canonical};

use super::TRACKS;

/// Octets of a packet of 20 ms: 24 and 64 kbit/s.
const OCTETS: [usize; 2] = [60, 160];

#[derive(Default)]
pub struct Ladder {
    /// By worker.
    wanted: BTreeMap<u8, [u32; 2]>,
    before: Option<Packet>,
    /// It hangs: nothing comes of it.
    pub hangs: bool,
    /// Packets of each rung that it made.
    pub made: [usize; 2],
}

impl Ladder {
    /// A worker wants this. Gives whether anybody does.
    pub fn handle_wanted(&mut self, worker: u8, wanted: [u32; 2]) -> bool {
        self.wanted.insert(worker, wanted);
        self.wants(0) || self.wants(1)
    }

    fn wants(&self, rung: usize) -> bool {
        self.wanted.values().any(|wanted| wanted[rung] > 0)
    }

    /// A packet of the publisher comes: what comes of the one before.
    pub fn handle_packet(&mut self, packet: Packet, now: Instant) -> Vec<(TrackId, Packet)> {
        let Some(before) = self.before.replace(packet).filter(|_| !self.hangs) else { return Vec::new() };
        let rungs: Vec<usize> = (0..2).filter(|rung| self.wants(*rung)).collect();
        rungs.into_iter().map(|rung| (TRACKS.rungs[rung], self.make(rung, &before, now))).collect()
    }

    fn make(&mut self, rung: usize, of: &Packet, now: Instant) -> Packet {
        self.made[rung] += 1;
        let canonical = Canonical {
            codec: of.codec,
            marker: of.marker,
            sequence: of.sequence,
            timestamp: of.timestamp,
            audio_level: of.audio_level,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        let mut payload = of.payload().to_vec();
        payload.resize(OCTETS[rung], 0);
        payload[0] = rung as u8;
        buffer.extend_from_slice(&payload);
        Packet::from_parts(canonical, buffer, of.epoch, now)
    }
}
