//! A stage in virtual time: encodings of a picture and a sound, fan-out, listeners on paths of which a limit is known or
//! not. Everything that leaves is opened and noted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use protocol::{Codec, Kind};

use super::{MEDIA, plan};
use crate::{
    Stats,
    bandwidth::Estimator,
    egress::{
        Batch, Egress,
        fan_out::{EgressTable, FanOut, Sending},
    },
    rtp::{
        Header,
        descriptor::Extent,
        packet::{Canonical, Packet},
        srtp::{Opener, Sealer, SrtpProfile},
    },
    sdp::{EgressTrack, NegotiatedCodec},
    track::{Listener, Taken, Track, Tracks, id::TrackId},
};

/// The sound; pictures have the numbers below.
pub const SOUND: TrackId = TrackId(100);
/// Of the listener's tracks.
pub const VIDEO_EGRESS: usize = 0;
const AUDIO_EGRESS: usize = 1;
const KEY: [u8; 16] = [7; 16];
const SALT: [u8; 12] = [9; 12];

/// What left for a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    pub at: Duration,
    pub len: usize,
    pub ssrc: u32,
    /// Of the listener.
    pub sequence: u16,
    /// Of retransmissions.
    pub original: Option<u16>,
    /// The track that it was taken from, and the publisher's number there.
    pub from: (u8, u16),
    pub transport: Option<u16>,
}

pub struct Viewer {
    pub video: Egress,
    pub audio: Egress,
    pub path: Estimator,
    pub left: Vec<Left>,
    sealer: Sealer,
    sealed: BTreeMap<(u32, u16), Vec<u8>>,
}

#[derive(Default)]
pub struct Viewers(pub Vec<Viewer>);

impl EgressTable for Viewers {
    fn sending(&mut self, listener: Listener) -> Option<Sending<'_>> {
        let Viewer { video, audio, path, sealer, .. } = self.0.get_mut(listener.session)?;
        let egress = if listener.egress == VIDEO_EGRESS { video } else { audio };
        let to = SocketAddr::from(([127, 0, 0, 1], listener.session as u16));
        Some(Sending { egress, sealer, to, path: Some(path) })
    }
}

pub struct Stage {
    pub now: Instant,
    began: Instant,
    pub tracks: Tracks,
    pub fan_out: FanOut,
    pub viewers: Viewers,
    pub stats: Stats,
    /// What left, with its runs: octet for octet.
    pub sends: Vec<(Duration, usize, Vec<u8>)>,
    sequences: BTreeMap<TrackId, u16>,
    timestamp: u32,
}

impl Stage {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    pub fn new() -> Stage {
        let now = Instant::now();
        Stage {
            now,
            began: now,
            tracks: Tracks::new(),
            fan_out: FanOut::default(),
            viewers: Viewers::default(),
            stats: Stats::default(),
            sends: Vec::new(),
            sequences: BTreeMap::new(),
            timestamp: 0,
        }
    }

    /// A listener that takes the first encoding, on a path with this limit, if one is known.
    pub fn viewer(&mut self, limit: Option<u64>, rtx: bool) -> usize {
        let session = self.viewers.0.len();
        let video = plan(Codec::H264, rtx);
        let audio = EgressTrack {
            kind: Kind::Audio,
            ssrc: 3,
            rtx_ssrc: 4,
            codecs: vec![NegotiatedCodec {
                codec: Codec::Opus,
                payload_type: 111,
                rtx: None,
                red: None,
                profile_level_id: None,
            }],
            ..plan(Codec::Opus, false)
        };
        let mut path = Estimator::new(true, self.began);
        limit.into_iter().for_each(|limit| path.limit_to(limit, self.now));
        // None of the encodings is the track as a whole.
        let mut video = Egress::new(&video, TrackId(99));
        video.turn_to(TrackId(0), Extent::ALL);
        self.viewers.0.push(Viewer {
            video,
            audio: Egress::new(&audio, SOUND),
            path,
            left: Vec::new(),
            sealer: Sealer::new(SrtpProfile::AeadAes128Gcm, &KEY, &SALT).expect("keys"),
            sealed: BTreeMap::new(),
        });
        self.subscribe(session, TrackId(0));
        let track = self.tracks.entry(SOUND).or_insert_with(|| Track::new(Kind::Audio));
        track.subscribe(Listener { session, egress: AUDIO_EGRESS });
        session
    }

    fn subscribe(&mut self, session: usize, id: TrackId) {
        let track = self.tracks.entry(id).or_insert_with(|| Track::new(Kind::Video));
        track.subscribe(Listener { session, egress: VIDEO_EGRESS });
    }

    /// From its next keyframe on a listener gets this.
    pub fn turn(&mut self, session: usize, to: TrackId) {
        let waited = self.viewers.0[session].video.turn_to(to, Extent::ALL);
        if let Some(track) = waited.and_then(|waited| self.tracks.get_mut(&waited)) {
            track.unsubscribe(Listener { session, egress: VIDEO_EGRESS });
        }
        self.subscribe(session, to);
    }

    /// A listener sees nothing until it is turned to something.
    pub fn stop(&mut self, session: usize) {
        let listener = Listener { session, egress: VIDEO_EGRESS };
        for source in self.viewers.0[session].video.sources().collect::<Vec<_>>() {
            self.tracks.get_mut(&source).expect("a track").unsubscribe(listener);
        }
        self.viewers.0[session].video.stop();
    }

    /// A listener begins with what there is of a picture; false if that is not whole.
    pub fn catch_up(&mut self, session: usize, id: TrackId) -> bool {
        let listener = Listener { session, egress: VIDEO_EGRESS };
        let Stage { fan_out, tracks, viewers, now, .. } = self;
        let begins = fan_out.catch_up(listener, id, tracks, viewers, *now);
        self.pump();
        begins
    }

    /// A listener misses what it should have got under these numbers.
    pub fn nack(&mut self, session: usize, sequences: Vec<u16>) {
        self.fan_out.handle_nack(Listener { session, egress: VIDEO_EGRESS }, sequences);
    }

    /// Packets of so many octets of a picture that its publisher sends now, and their numbers.
    pub fn picture(&mut self, id: TrackId, lens: &[usize], key: bool) -> Vec<Packet> {
        self.timestamp = self.timestamp.wrapping_add(3000);
        let packet = |(at, len): (usize, &usize)| {
            let sequence = self.sequences.entry(id).or_default();
            let canonical = Canonical {
                codec: Codec::H264,
                marker: at + 1 == lens.len(),
                sequence: *sequence,
                timestamp: self.timestamp,
                audio_level: None,
                orientation: None,
                dependency: None,
            };
            let mut buffer = BytesMut::new();
            canonical.write(&mut buffer);
            buffer.put_u8(if key && at == 0 { 0x65 } else { 0x41 });
            buffer.put_u8(id.0 as u8);
            buffer.put_u16(*sequence);
            buffer.resize(buffer.len() + len.saturating_sub(4), 0x55);
            *sequence = sequence.wrapping_add(1);
            Packet::from_parts(canonical, buffer, 0, self.now)
        };
        lens.iter().enumerate().map(packet).collect()
    }

    /// A packet of a track comes.
    pub fn bring(&mut self, id: TrackId, packet: Packet) {
        let track = self.tracks.entry(id).or_insert_with(|| Track::new(packet.kind()));
        match track.handle_packet(packet, self.now) {
            Taken::Stale => return,
            Taken::Pending => {}
            Taken::Anew => {
                self.fan_out.handle_anew(id);
                self.viewers.0.iter_mut().for_each(|viewer| viewer.video.handle_anew(id));
            }
        }
        self.fan_out.handle_pending(id);
        self.fan_out.flush_due(&mut self.tracks, &mut self.stats, self.now);
    }

    /// A whole picture comes at once, in packets of 1200 octets.
    pub fn bring_picture(&mut self, id: TrackId, octets: usize, key: bool) {
        let mut lens = vec![1200; octets / 1200];
        lens.extend(Some(octets % 1200).filter(|rest| *rest > 0));
        for packet in self.picture(id, &lens, key) {
            self.bring(id, packet);
        }
        self.pump();
    }

    /// A packet of sound comes; the publisher's number.
    pub fn bring_sound(&mut self) -> u16 {
        let sequence = self.sequences.entry(SOUND).or_default();
        let number = *sequence;
        *sequence += 1;
        let canonical = Canonical {
            codec: Codec::Opus,
            marker: false,
            sequence: number,
            timestamp: u32::from(number) * 960,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.put_slice(&[0, SOUND.0 as u8]);
        buffer.put_u16(number);
        buffer.resize(buffer.len() + 236, 0x33);
        self.bring(SOUND, Packet::from_parts(canonical, buffer, 0, self.now));
        self.pump();
        number
    }

    /// Time passes.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.fan_out.poll_timeout(&self.tracks).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.fan_out.flush_due(&mut self.tracks, &mut self.stats, self.now);
            self.fan_out.catch_up_due(&mut self.tracks, &mut self.viewers, self.now);
            self.fan_out.probe_due(self.now);
            self.fan_out.pace_due(self.now);
            self.pump();
        }
        self.now = end;
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.began
    }

    /// What is queued leaves.
    pub fn pump(&mut self) {
        let mut batch = Batch::default();
        loop {
            let Stage { fan_out, tracks, viewers, stats, now, .. } = self;
            fan_out.fill(&mut batch, tracks, viewers, stats, *now);
            while let Some(started) = self.fan_out.poll_started() {
                if let Some(track) = started.before.and_then(|before| self.tracks.get_mut(&before)) {
                    track.unsubscribe(started.listener);
                }
            }
            while self.fan_out.poll_keyframe().is_some() {}
            if batch.is_empty() {
                return;
            }
            self.take(&batch);
            batch.clear();
        }
    }

    fn take(&mut self, batch: &Batch) {
        let at = self.elapsed();
        for run in batch.runs() {
            let session = usize::from(run.to.port());
            self.sends.push((at, session, batch.bytes(run).to_vec()));
            let Viewer { left, sealed, .. } = &mut self.viewers.0[session];
            for datagram in batch.bytes(run).chunks(run.segment) {
                let header = Header::parse(datagram).expect("RTP");
                let before = sealed.insert((header.ssrc, header.sequence), datagram.to_vec());
                assert!(before.is_none_or(|before| before == datagram), "one number, two packets");
                let mut plain = BytesMut::new();
                // A new one each time: it may be sent again under its number.
                Opener::new(SrtpProfile::AeadAes128Gcm, &KEY, &SALT)
                    .expect("keys")
                    .open_rtp(datagram, &header, &mut plain)
                    .expect("authentic");
                let again = header.payload_type != MEDIA && header.ssrc == 2;
                let original = again.then(|| u16::from_be_bytes([plain[0], plain[1]]));
                let payload = &plain[if again { 2 } else { 0 }..];
                left.push(Left {
                    at,
                    len: datagram.len(),
                    ssrc: header.ssrc,
                    sequence: header.sequence,
                    original,
                    from: (payload[1], u16::from_be_bytes([payload[2], payload[3]])),
                    transport: transport_number(datagram),
                });
            }
        }
    }
}

/// Of the only one-byte element of packets here (RFC 8285 section 4.2).
fn transport_number(datagram: &[u8]) -> Option<u16> {
    let has_elements = datagram[0] & 0x10 != 0;
    has_elements.then(|| u16::from_be_bytes([datagram[17], datagram[18]]))
}

impl Viewer {
    /// What left of the picture for the first time, in order: where it was taken from.
    pub fn pictures(&self) -> Vec<(u8, u16)> {
        self.left.iter().filter(|left| left.ssrc == 1).map(|left| left.from).collect()
    }
}
