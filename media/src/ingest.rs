//! The receiving side of a publisher's session: from SRTP to canonical packets, and the feedback that
//! the publisher needs (receiver reports, NACKs, keyframe requests, transport-wide feedback or REMB).
//!
//! Owns the tracks of one session; keys belong to the session, listeners to `track`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use protocol::{Codec, Kind, mesh::SenderClock};

use crate::{
    TrackId,
    arrival::ArrivalLog,
    estimate::LossEstimate,
    packet::{self, Canonical, Packet},
    renumber::Renumber,
    repair::Missing,
    rtcp::{Compound, Reception, Report},
    rtp,
    sdp::{IngestPlan, IngestTrack},
    srtp::{Opener, SrtpError},
};

/// The tracks a publisher sends on one session.
#[derive(Debug)]
pub struct Ingest {
    tracks: Vec<Track>,
    sources: BTreeMap<u32, Source>,
    arrivals: Option<ArrivalLog>,
    estimate: Option<LossEstimate>,
    report_at: Instant,
    slab: BytesMut,
}

#[derive(Debug)]
struct Track {
    id: TrackId,
    plan: IngestTrack,
    epoch: u8,
    ssrc: Option<u32>,
    missing: Missing,
    renumber: Renumber,
    reception: ReceptionState,
    keyframe: KeyframeRequest,
    /// Numbers the full intra requests (RFC 5104 section 4.3.1.1).
    intra_requests: u8,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    track: usize,
    retransmission: bool,
}

/// What came of a packet.
#[derive(Debug)]
pub enum Received {
    /// A media packet, and how many before it seem to be lost.
    Packet {
        /// Of this track.
        track: TrackId,
        /// In canonical form.
        packet: Packet,
        /// Numbers skipped right before it.
        lost: u32,
    },
    /// Valid, but nothing to forward (padding).
    Nothing,
    /// Dropped, for this reason.
    Dropped(&'static str),
}

const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Payloads are cut from slabs of this size: one allocation for about 50 packets.
const SLAB: usize = 64 * 1024;
/// The SSRC of our own feedback; nothing else is ever sent to a publisher.
const OWN_SSRC: u32 = 1;

impl Ingest {
    /// The receiving side for a negotiated plan; `ids` names the track of each kind. Epochs are
    /// `epoch` and `epoch + 1`, should the publisher change a source.
    pub fn new(plan: &IngestPlan, ids: impl Fn(Kind) -> TrackId, epoch: u8, now: Instant) -> Ingest {
        let tracks: Vec<Track> = plan
            .tracks
            .iter()
            .map(|track| Track {
                id: ids(track.kind),
                plan: track.clone(),
                epoch: epoch & 0x0e,
                ssrc: None,
                missing: Missing::default(),
                renumber: Renumber::default(),
                reception: ReceptionState::default(),
                keyframe: KeyframeRequest::default(),
                intra_requests: 0,
            })
            .collect();
        let mut sources = BTreeMap::new();
        for (index, track) in tracks.iter().enumerate() {
            for (ssrc, retransmission) in &track.plan.ssrcs {
                sources.insert(*ssrc, Source { track: index, retransmission: false });
                if let Some(ssrc) = retransmission {
                    sources.insert(*ssrc, Source { track: index, retransmission: true });
                }
            }
        }
        let transport_cc = plan.tracks.iter().any(|track| track.feedback.transport_cc);
        let remb = plan.tracks.iter().any(|track| track.feedback.remb);
        Ingest {
            tracks,
            sources,
            arrivals: transport_cc.then(|| ArrivalLog::new(now)),
            estimate: (remb && !transport_cc).then(LossEstimate::default),
            report_at: now + REPORT_INTERVAL,
            slab: BytesMut::new(),
        }
    }

    /// Opens a sealed RTP packet and makes it canonical.
    pub fn handle_rtp(&mut self, sealed: &[u8], opener: &mut Opener, now: Instant) -> Received {
        match self.receive(sealed, opener, now) {
            Ok(received) => received,
            Err(reason) => Received::Dropped(reason),
        }
    }

    fn receive(
        &mut self,
        sealed: &[u8],
        opener: &mut Opener,
        now: Instant,
    ) -> Result<Received, &'static str> {
        let header = rtp::Header::parse(sealed).map_err(|_| "rtp_malformed")?;
        let source = self.source(&header, sealed).ok_or("rtp_unknown_source")?;
        let track = &self.tracks[source.track];
        let (codec, retransmission) =
            codec_of(&track.plan, header.payload_type).ok_or("rtp_unknown_payload_type")?;
        let extensions = &track.plan.extensions;
        let mut transport_sequence = None;
        let mut canonical = Canonical {
            codec,
            marker: header.marker,
            sequence: header.sequence,
            timestamp: header.timestamp,
            audio_level: None,
            orientation: None,
        };
        for (id, value) in header.extensions(sealed) {
            let id = Some(id);
            match *value {
                [level] if id == extensions.audio_level => canonical.audio_level = Some(level),
                [turn] if id == extensions.video_orientation => canonical.orientation = Some(turn),
                [high, low] if id == extensions.transport_cc => {
                    transport_sequence = Some(u16::from_be_bytes([high, low]));
                }
                _ => {}
            }
        }
        if sealed.len() > packet::MAX_LEN {
            return Err("rtp_too_large");
        }
        if self.slab.capacity() < packet::MAX_HEADER_LEN + sealed.len() {
            self.slab.reserve(SLAB);
        }
        self.slab.clear();
        canonical.write(&mut self.slab);
        opener.open_rtp(sealed, &header, &mut self.slab).map_err(|error| match error {
            SrtpError::Replay => "srtp_replay",
            SrtpError::Authentication => "srtp_authentication",
            SrtpError::Sources => "srtp_sources",
            SrtpError::Short | SrtpError::Key => "rtp_malformed",
        })?;
        // From here on the packet is the publisher's own.
        self.sources.insert(header.ssrc, source);
        if let (Some(log), Some(sequence)) = (&mut self.arrivals, transport_sequence) {
            log.handle_arrival(sequence, now);
        }
        let mut buffer = self.slab.split();
        let payload_len =
            header.payload_len(&buffer[canonical.header_len()..]).map_err(|_| "rtp_malformed_padding")?;
        buffer.truncate(canonical.header_len() + payload_len);
        let track = &mut self.tracks[source.track];
        if retransmission {
            if payload_len <= 2 {
                return Ok(Received::Nothing); // padding, sent to probe the bandwidth
            }
            packet::unwrap_retransmission(&mut buffer, &mut canonical).ok_or("rtp_malformed")?;
        } else {
            track.change_source(header.ssrc);
            track.reception.handle_packet(&header, codec, now);
        }
        let lost = track.missing.handle_packet(canonical.sequence, now);
        if let Some(estimate) = &mut self.estimate {
            estimate.handle_packet(sealed.len(), lost);
        }
        if buffer.len() == canonical.header_len() {
            track.renumber.handle_empty(canonical.sequence);
            return Err("rtp_empty_payload");
        }
        canonical.sequence = track.renumber.handle_packet(canonical.sequence);
        buffer[2..4].copy_from_slice(&canonical.sequence.to_be_bytes());
        let packet = Packet::from_parts(canonical, buffer, track.epoch, now);
        Ok(Received::Packet { track: track.id, packet, lost })
    }

    /// Which track a packet belongs to: by SSRC, else by mid, else by payload type.
    fn source(&self, header: &rtp::Header, sealed: &[u8]) -> Option<Source> {
        if let Some(source) = self.sources.get(&header.ssrc) {
            return Some(*source);
        }
        let by_mid = self.tracks.iter().position(|track| {
            let mid = track.plan.extensions.mid;
            header
                .extensions(sealed)
                .any(|(id, value)| Some(id) == mid && value == track.plan.mid.as_bytes() && !value.is_empty())
        });
        let track = by_mid.or_else(|| {
            self.tracks.iter().position(|track| codec_of(&track.plan, header.payload_type).is_some())
        })?;
        let (_, retransmission) = codec_of(&self.tracks[track].plan, header.payload_type)?;
        Some(Source { track, retransmission })
    }

    /// Takes a report of the publisher; a sender clock is for the listeners.
    pub fn handle_report(&mut self, report: &Report, now: Instant) -> Option<(TrackId, u8, SenderClock)> {
        let Report::Sender { ssrc, clock } = report else { return None };
        let source = self.sources.get(ssrc).filter(|source| !source.retransmission)?;
        let track = &mut self.tracks[source.track];
        track.reception.last_report = Some(((clock.ntp >> 16) as u32, now));
        (track.ssrc == Some(*ssrc)).then_some((track.id, track.epoch, *clock))
    }

    /// Somebody needs a keyframe of this track. A source that has not begun will begin with one.
    pub fn handle_keyframe_request(&mut self, track: TrackId, now: Instant) {
        if let Some(track) = self.tracks.iter_mut().find(|known| known.id == track && known.ssrc.is_some()) {
            track.keyframe.request(now);
        }
    }

    /// The tracks it receives.
    pub fn tracks(&self) -> impl Iterator<Item = TrackId> {
        self.tracks.iter().map(|track| track.id)
    }

    /// When [`Ingest::poll_feedback`] has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let per_track = self.tracks.iter().flat_map(|track| {
            [track.plan.feedback.nack.then(|| track.missing.poll_timeout()).flatten(), track.keyframe.due]
        });
        let arrivals = self.arrivals.as_ref().and_then(ArrivalLog::poll_timeout);
        per_track.chain([arrivals, Some(self.report_at)]).flatten().min()
    }

    /// The feedback that is due, as a plain compound packet.
    pub fn poll_feedback(&mut self, now: Instant) -> Option<(Compound, FeedbackCount)> {
        let mut out = Compound::default();
        let mut count = FeedbackCount::default();
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.report(&mut out, now);
        }
        for track in &mut self.tracks {
            let Some(ssrc) = track.ssrc else { continue };
            if track.plan.feedback.nack {
                let pairs = track.missing.poll_nack(now);
                if !pairs.is_empty() {
                    count.nacks += pairs.len() as u64;
                    out.nack(OWN_SSRC, ssrc, &pairs);
                }
            }
            if track.keyframe.poll(now) {
                let feedback = track.plan.feedback;
                count.keyframe_requests += u64::from(feedback.pli || feedback.fir);
                if feedback.pli {
                    out.picture_loss(OWN_SSRC, ssrc);
                } else if feedback.fir {
                    track.intra_requests = track.intra_requests.wrapping_add(1);
                    out.full_intra_request(OWN_SSRC, ssrc, track.intra_requests);
                }
            }
        }
        if let Some(log) = &mut self.arrivals {
            let ssrc = self.tracks.iter().rev().find_map(|track| track.ssrc).unwrap_or_default();
            log.poll_feedback(OWN_SSRC, ssrc, &mut out, now);
        }
        (!out.is_empty()).then_some((out, count))
    }

    fn report(&mut self, out: &mut Compound, now: Instant) {
        let blocks: Vec<Reception> = self
            .tracks
            .iter_mut()
            .filter_map(|track| Some(track.reception.block(track.ssrc?, track.missing.highest(), now)))
            .collect();
        out.receiver_report(OWN_SSRC, &blocks).cname(OWN_SSRC, "relay");
        if let Some(estimate) = &mut self.estimate {
            let ssrcs: Vec<u32> = self.tracks.iter().filter_map(|track| track.ssrc).collect();
            out.estimate(OWN_SSRC, &ssrcs, estimate.poll_bitrate());
        }
    }
}

/// What [`Ingest::poll_feedback`] asked for, for the counters.
#[derive(Debug, Default, Clone, Copy)]
pub struct FeedbackCount {
    /// NACK pairs.
    pub nacks: u64,
    /// Picture loss indications.
    pub keyframe_requests: u64,
}

impl Track {
    fn change_source(&mut self, ssrc: u32) {
        if self.ssrc == Some(ssrc) {
            return;
        }
        if self.ssrc.is_some() {
            self.epoch ^= 1;
            self.missing = Missing::default();
            self.renumber = Renumber::default();
            self.reception = ReceptionState::default();
        }
        self.ssrc = Some(ssrc);
    }
}

/// The codec of a payload type, and whether it is its retransmission.
fn codec_of(plan: &IngestTrack, payload_type: u8) -> Option<(Codec, bool)> {
    plan.codecs.iter().find_map(|codec| {
        if codec.payload_type == payload_type {
            Some((codec.codec, false))
        } else if codec.rtx == Some(payload_type) {
            Some((codec.codec, true))
        } else {
            None
        }
    })
}

/// What a receiver report says of one source (RFC 3550 section 6.4.1 and appendix A).
#[derive(Debug, Default)]
struct ReceptionState {
    first: Option<u32>,
    received: u32,
    expected_before: u32,
    received_before: u32,
    jitter: f64,
    transit: Option<f64>,
    started: Option<Instant>,
    last_report: Option<(u32, Instant)>,
}

impl ReceptionState {
    fn handle_packet(&mut self, header: &rtp::Header, codec: Codec, now: Instant) {
        self.received += 1;
        self.first.get_or_insert((1 << 16) | u32::from(header.sequence)); // as `Missing` counts
        let started = *self.started.get_or_insert(now);
        let clock = f64::from(codec.clock_rate());
        let arrival = now.duration_since(started).as_secs_f64() * clock;
        let transit = arrival - f64::from(header.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let change = (transit - before).abs();
            if change < clock {
                self.jitter += (change - self.jitter) / 16.0;
            }
        }
    }

    fn block(&mut self, ssrc: u32, highest: u32, now: Instant) -> Reception {
        let expected = highest.wrapping_sub(self.first.unwrap_or(highest)).wrapping_add(1);
        let expected_now = expected.saturating_sub(self.expected_before);
        let received_now = self.received.saturating_sub(self.received_before);
        let lost_now = expected_now.saturating_sub(received_now);
        (self.expected_before, self.received_before) = (expected, self.received);
        let (last_report, delay) = match self.last_report {
            Some((ntp, at)) => (ntp, (now.duration_since(at).as_secs_f64() * 65_536.0) as u32),
            None => (0, 0),
        };
        Reception {
            ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now).unwrap_or_default().min(255) as u8,
            total_lost: expected.wrapping_sub(self.received) as i32, // less than none after reordering at the start
            highest,
            jitter: self.jitter as u32,
            last_report,
            delay,
        }
    }
}

/// At most one request in 500 ms goes to a publisher, however many listeners ask.
#[derive(Debug, Default)]
struct KeyframeRequest {
    due: Option<Instant>,
    last: Option<Instant>,
}

const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

impl KeyframeRequest {
    fn request(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| (last + KEYFRAME_INTERVAL).max(now));
        self.due.get_or_insert(earliest);
    }

    fn poll(&mut self, now: Instant) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            (self.due, self.last) = (None, Some(now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_keyframe_requests_in_half_a_second_are_two() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let start = Instant::now();
        let mut request = KeyframeRequest::default();
        let mut sent = 0;
        for ms in 0..=500 {
            let now = start + Duration::from_millis(ms);
            request.request(now);
            sent += u32::from(request.poll(now));
        }
        assert_eq!(sent, 2);
    }
}
