//! Who makes rungs, in virtual time: of each packet of the sound one of each rung that is wanted, a packet later. What is in
//! them says which packet it stands for.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use bytes::BytesMut;
use media::{Packet, TrackId, packet::Canonical};

use super::TRACKS;

/// Octets of a packet of 20 ms: 24 and 64 kbit/s.
const OCTETS: [usize; 2] = [60, 160];
/// What they begin with: 20 ms of CELT in other bandwidths than the publisher's.
pub const TOCS: [u8; 2] = [0xb8, 0xd8];

#[derive(Default)]
pub struct Ladder {
    /// By worker.
    wanted: BTreeMap<u8, [u32; 2]>,
    waiting: VecDeque<Packet>,
    /// It is behind by so many packets more.
    pub lags: usize,
    /// It hangs: nothing comes of it.
    pub hangs: bool,
    /// It is closed: what the publisher sent comes in the place of its rungs.
    pub passes: bool,
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
        self.waiting.push_back(packet);
        let late = self.waiting.len().saturating_sub(1 + self.lags);
        let due: Vec<Packet> = self.waiting.drain(..late).filter(|_| !self.hangs).collect();
        let rungs: Vec<usize> = (0..2).filter(|rung| self.wants(*rung)).collect();
        let made = due.iter().flat_map(|of| rungs.iter().map(move |rung| (*rung, of)));
        let made: Vec<_> = made.collect();
        made.into_iter().map(|(rung, of)| (TRACKS.rungs[rung], self.make(rung, of, now))).collect()
    }

    fn make(&mut self, rung: usize, of: &Packet, now: Instant) -> Packet {
        if self.passes {
            return of.clone();
        }
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
        payload[0] = TOCS[rung];
        buffer.extend_from_slice(&payload);
        Packet::from_parts(canonical, buffer, of.epoch, now)
    }
}
