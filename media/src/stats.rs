//! What a worker has counted since it started. The driver turns differences into metrics.

use std::{collections::BTreeMap, time::Duration};

use protocol::{Kind, mesh::MAX_RUNGS};

use crate::drop_reason::DropReason;

/// Packets and octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// RTP packets.
    pub packets: u64,
    /// Octets of RTP, sealed.
    pub octets: u64,
}

impl Traffic {
    /// A packet of so many octets.
    pub(crate) fn handle_packet(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, more: Traffic) {
        self.packets += more.packets;
        self.octets += more.octets;
    }
}

/// Counters of one worker; they only grow, except for the two gauges.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// From publishers, audio and video.
    pub received: [Traffic; 2],
    /// To listeners, audio and video.
    pub sent: [Traffic; 2],
    /// Packets of publishers that were missing when the next one came.
    pub lost: u64,
    /// Of those, packets of sound that a later one brought a copy of.
    pub mended: u64,
    /// Asked again: entries of NACKs to publishers, each 1 to 17 packets; packets that listeners asked for.
    pub nacks: [u64; 2],
    /// Packets sent again to listeners.
    pub repairs: u64,
    /// Packets of sound sent again to listeners before they asked.
    pub repeats: u64,
    /// Packets of sound that left with copies of those before them.
    pub red: u64,
    /// Keyframe requests: to publishers, by listeners.
    pub keyframe_requests: [u64; 2],
    /// Dropped, by reason.
    pub drops: BTreeMap<DropReason, u64>,
    /// Bursts that tried the path of a listener.
    pub probes: u64,
    /// Packets of pictures that waited for their run: at the pace that the estimate gives, and faster, so that they do
    /// not wait too long.
    pub paced: [u64; 2],
    /// Pictures of listeners that got another encoding, a better one or a worse one, by [`Reason`](crate::Reason).
    pub switches: [[u64; REASONS]; 2],
    /// Pictures of listeners that stopped, by reason: so that the sound goes on, or because nobody wants them.
    pub pauses: [u64; REASONS],
    /// Pictures that went on with fewer of their temporal layers until a worse encoding began, and did not stop.
    pub thinned: u64,
    /// What paths of listeners are thought to carry, and what their pictures take of it: of each once a second.
    pub estimates: Bitrates,
    /// As above.
    pub allocated: Bitrates,
    /// Listeners of a sound by the rung that they are to get, by rising quality; the last one is what publishers send.
    pub hearing: [u64; HEARD],
    /// Listeners of a sound by how what they lose of it is mended, by [`Mended`](crate::Mended).
    pub mending: [u64; MENDED],
    /// Connected publishers.
    pub publishers: u64,
    /// Connected listeners.
    pub listeners: u64,
    /// From the socket that brought a packet to the socket that takes it on.
    pub delay: DelayHistogram,
}

/// Rungs of a sound, and what its publisher sends.
pub const HEARD: usize = MAX_RUNGS + 1;
/// As many as there are of [`Mended`](crate::Mended).
pub const MENDED: usize = 4;
/// As many as there are of [`Reason`](crate::Reason).
pub const REASONS: usize = 5;

impl Stats {
    /// Counts something that was dropped.
    pub fn drop(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }

    pub(crate) fn traffic(side: &mut [Traffic; 2], kind: Kind) -> &mut Traffic {
        &mut side[kind as usize]
    }
}

/// A histogram with fixed buckets.
#[derive(Debug, Clone, Default)]
pub struct DelayHistogram {
    /// One for each of [`DelayHistogram::BOUNDS`], and one for everything above.
    pub buckets: [u64; DelayHistogram::BOUNDS.len() + 1],
}

impl DelayHistogram {
    /// Upper bounds, seconds.
    pub const BOUNDS: [f64; 12] =
        [50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3];

    /// Counts one delay.
    pub fn record(&mut self, delay: Duration) {
        let seconds = delay.as_secs_f64();
        let bucket = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        self.buckets[bucket] += 1;
    }
}

/// How many had which bitrate.
#[derive(Debug, Clone, Default)]
pub struct Bitrates {
    /// One for each of [`Bitrates::BOUNDS`], and one for everything above.
    pub buckets: [u64; Bitrates::BOUNDS.len() + 1],
}

impl Bitrates {
    /// Upper bounds, bits per second.
    pub const BOUNDS: [f64; 9] = [0.0, 150e3, 300e3, 600e3, 1.2e6, 2.5e6, 5e6, 10e6, 20e6];

    /// Counts one.
    pub fn record(&mut self, bits_per_second: u64) {
        let rate = bits_per_second as f64;
        let bucket = Self::BOUNDS.iter().position(|bound| rate <= *bound).unwrap_or(Self::BOUNDS.len());
        self.buckets[bucket] += 1;
    }
}
