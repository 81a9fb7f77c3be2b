//! A listener that is turned at random among the rungs of a sound, merged and not: it gets each frame once.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::{plan, *};
use crate::{
    Stats,
    egress::fan_out::{EgressTable, FanOut, Sending},
    rtp::opus,
    track::{Listener, merger::Merger},
};

/// What the publisher sends, and two rungs, which are behind; then the same merged.
const TRACKS: [TrackId; 6] = [TrackId(0), TrackId(1), TrackId(2), TrackId(3), TrackId(4), TrackId(5)];
const ME: Listener = Listener { session: 0, egress: 0 };
/// 20 ms of CELT in three bandwidths.
const TOCS: [u8; 3] = [0xf8, 0xd8, 0xb8];

struct Ear {
    egress: Egress,
    path: Estimator,
    sealer: crate::rtp::srtp::Sealer,
}

impl EgressTable for Ear {
    fn sending(&mut self, _: Listener) -> Option<Sending<'_>> {
        let Ear { egress, path, sealer } = self;
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        Some(Sending { egress, sealer, to, path: Some(path) })
    }
}

/// What came: sequence number, timestamp, the numbers of the frames, when.
type Heard = (u16, u32, Vec<u16>, Duration);

struct Hall {
    now: Instant,
    began: Instant,
    tracks: Tracks,
    fan_out: FanOut,
    stats: Stats,
    ear: Ear,
    mergers: [Merger; 3],
    heard: Vec<Heard>,
}

impl Hall {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn new() -> Hall {
        let now = Instant::now();
        let plan = EgressTrack { kind: Kind::Audio, ..plan(Codec::Opus, false) };
        let mut tracks: Tracks = TRACKS[..3].iter().map(|id| (*id, Track::new(Kind::Audio))).collect();
        tracks.extend(TRACKS[3..].iter().map(|id| (*id, Track::merged())));
        let mut hall = Hall {
            now,
            began: now,
            tracks,
            fan_out: FanOut::default(),
            stats: Stats::default(),
            ear: Ear {
                egress: Egress::new(&plan, TRACKS[0]),
                path: Estimator::new(false, now),
                sealer: crate::rtp::srtp::Sealer::new(SrtpProfile::AeadAes128Gcm, &[7; 16], &[9; 12])
                    .expect("keys"),
            },
            mergers: [0, 0, 0].map(Merger::new),
            heard: Vec::new(),
        };
        hall.turn(0);
        hall
    }

    fn turn(&mut self, to: usize) {
        let waited = self.ear.egress.turn_to(TRACKS[to], Extent::ALL);
        if let Some(track) = waited.and_then(|waited| self.tracks.get_mut(&waited)) {
            track.unsubscribe(ME);
        }
        self.tracks.get_mut(&TRACKS[to]).expect("a track").subscribe(ME);
    }

    /// A packet of the publisher, as a track has it.
    fn bring(&mut self, track: usize, number: u16, len: usize) {
        let canonical = Canonical {
            codec: Codec::Opus,
            marker: false,
            sequence: number,
            timestamp: u32::from(number).wrapping_mul(960).wrapping_sub(20 * 960),
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.put_u8(TOCS[track]);
        buffer.put_u16(number);
        buffer.resize(buffer.len() + len, 0x55);
        let packet = Packet::from_parts(canonical, buffer, 0, self.now);
        self.take(TRACKS[track], packet.clone());
        self.mergers[track].handle_packet(packet, self.now);
        self.merged(track);
    }

    fn merged(&mut self, track: usize) {
        while let Some(packet) = self.mergers[track].poll() {
            self.take(TRACKS[track + 3], packet);
        }
    }

    fn take(&mut self, id: TrackId, packet: Packet) {
        self.tracks.get_mut(&id).expect("a track").handle_packet(packet, self.now);
        self.fan_out.handle_pending(id);
        self.fan_out.flush_due(&mut self.tracks, &mut self.stats, self.now);
        let mut batch = Batch::default();
        self.fan_out.fill(&mut batch, &self.tracks, &mut self.ear, &mut self.stats, self.now);
        while let Some(started) = self.fan_out.poll_started() {
            if let Some(track) = started.before.and_then(|before| self.tracks.get_mut(&before)) {
                track.unsubscribe(ME);
            }
        }
        for run in batch.runs() {
            for datagram in batch.bytes(run).chunks(run.segment) {
                let header = RtpHeader::parse(datagram).expect("RTP");
                let mut plain = BytesMut::new();
                Opener::new(SrtpProfile::AeadAes128Gcm, &[7; 16], &[9; 12])
                    .expect("keys")
                    .open_rtp(datagram, &header, &mut plain)
                    .expect("authentic");
                let frames = opus::frames(&plain).expect("Opus");
                let numbers = frames.iter().map(|frame| u16::from_be_bytes([frame[0], frame[1]])).collect();
                self.heard.push((header.sequence, header.timestamp, numbers, self.now - self.began));
            }
        }
    }

    /// 20 ms: what the publisher sends, and what rungs that are `lags` packets behind have of it.
    fn say(&mut self, number: u16, lags: [u16; 2], len: usize) {
        self.now += Duration::from_millis(20);
        for track in 0..3 {
            self.mergers[track].handle_timeout(self.now);
            self.merged(track);
        }
        self.bring(0, number, len);
        for (rung, lag) in lags.into_iter().enumerate() {
            if number >= lag {
                self.bring(rung + 1, number - lag, 40);
            }
        }
    }

    /// Every frame once, times without a step, the longest silence.
    fn check(&self) -> Duration {
        for pair in self.heard.windows(2) {
            let [(sequence, timestamp, frames, _), (next, then, behind, _)] = pair else { continue };
            assert_eq!(*next, sequence.wrapping_add(1));
            assert_eq!(then.wrapping_sub(*timestamp), 960 * frames.len() as u32, "{frames:?} {behind:?}");
        }
        let numbers: Vec<u16> = self.heard.iter().flat_map(|(_, _, numbers, _)| numbers.clone()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{numbers:?}");
        self.heard.windows(2).map(|pair| pair[1].3 - pair[0].3).max().unwrap_or_default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_hundred_turns_bring_every_frame_once(
        turns in proptest::collection::vec((0..6usize, 1..20u16), 100),
        lags in [0..4u16, 0..4u16],
        len in prop_oneof![Just(60usize), Just(300), Just(450)],
    ) {
        let (mut hall, mut number) = (Hall::new(), 0);
        for (to, packets) in turns {
            hall.turn(to);
            for _ in 0..packets {
                hall.say(number, lags, len);
                number += 1;
            }
        }
        let longest = hall.check();
        prop_assert!(longest <= Duration::from_millis(180), "{:?}", longest);
    }
}

#[test]
fn a_turn_to_merged_packets_and_back_takes_no_longer_than_they_do() {
    for lag in 0..3 {
        let (mut hall, mut number) = (Hall::new(), 0);
        for to in [5, 2, 3, 0, 5, 0] {
            hall.turn(to);
            for _ in 0..15 {
                hall.say(number, [lag, lag], 300);
                number += 1;
            }
            assert_eq!(hall.ear.egress.source(), Some(TRACKS[to]), "behind by {lag}");
        }
        let longest = hall.check();
        assert!(longest <= Duration::from_millis(60 + 20 * u64::from(lag)), "{lag}: {longest:?}");
    }
}
