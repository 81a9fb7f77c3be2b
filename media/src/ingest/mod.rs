//! The receiving side of a publisher's session: from SRTP to canonical packets. What the publisher is told in
//! return is put together in `feedback`.
//!
//! Owns the tracks of one session: each encoding of a picture is one, where there are several. Keys belong to the
//! session, listeners to `track`.

mod behind;
pub(crate) mod encoding;
pub(crate) mod feedback;
mod keyframe_request;
mod nack;
mod place;
mod reception;
mod red;
mod remb;
mod renumber;
mod source;
pub(crate) mod transport_cc;
mod whole;

use std::time::Instant;

use bytes::BytesMut;
use protocol::{Codec, mesh::SenderClock};

use behind::Behind;
use encoding::EncodingView;
use feedback::{Health, REPORT_INTERVAL};
use keyframe_request::KeyframeRequest;
use nack::Missing;
use place::{Form, Places, codec_of};
use reception::ReceptionState;
use red::{Neighbors, is_plain};
use remb::LossEstimate;
use renumber::Renumber;
use source::{Sources, Turn};
use transport_cc::ArrivalLog;
use whole::Whole;

use crate::{
    drop_reason::DropReason,
    rtp::{
        self,
        descriptor::{dependency, summary::Summary},
        packet::{self, Canonical, Packet},
        parameter_sets::ParameterSets,
        red::Red,
        rtcp::Report,
        srtp::{Opener, SrtpError},
    },
    sdp::{IngestPlan, IngestTrack, MAX_ENCODINGS},
    track::{
        epoch::{Epochs, HeldEpoch},
        id::{StreamTrack, StreamTracks, TrackId},
    },
    transport::CloseReason,
};

/// The tracks a publisher sends on one session.
#[derive(Debug)]
pub struct Ingest {
    tracks: Vec<Track>,
    places: Places,
    picture: Option<Picture>,
    epochs: Epochs,
    arrivals: Option<ArrivalLog>,
    estimate: Option<LossEstimate>,
    report_at: Instant,
    health: Health,
    told: Health,
    /// What its sound was last said to take, in kbit/s.
    told_sound: feedback::SoundView,
    /// What the last packet brought of those before it.
    mended: Vec<Packet>,
    slab: BytesMut,
}

#[derive(Debug)]
struct Track {
    id: TrackId,
    of: StreamTrack,
    plan: IngestTrack,
    /// Its name, if it is one of several encodings of a picture.
    rid: Option<String>,
    /// There from its first packet on.
    epoch: Option<HeldEpoch>,
    sources: Sources,
    behind: Behind,
    missing: Missing,
    neighbors: Neighbors,
    renumber: Renumber,
    sets: ParameterSets,
    dependency: dependency::Reader,
    reception: ReceptionState,
    keyframe: KeyframeRequest,
    /// Numbers the full intra requests (RFC 5104 section 4.3.1.1).
    intra_requests: u8,
}

/// A picture as a whole: its only encoding, or one of several.
#[derive(Debug)]
struct Picture {
    id: TrackId,
    whole: Whole,
    /// Of the whole, where there are several encodings. There once one is chosen.
    epoch: Option<HeldEpoch>,
    told: Vec<EncodingView>,
}

/// What of an encoding is of the whole picture too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The track of the whole.
    pub track: TrackId,
    /// Its epoch there.
    pub epoch: u8,
}

/// The clock of a publisher.
#[derive(Debug, Clone, Copy)]
pub struct Reported {
    /// Of this track.
    pub track: TrackId,
    /// Of this epoch.
    pub epoch: u8,
    /// Of the picture as a whole too.
    pub whole: Option<Part>,
    /// Wall clock and RTP clock.
    pub clock: SenderClock,
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
        /// A packet of ours that goes before it.
        before: Option<Box<Packet>>,
        /// Both are of the picture as a whole too.
        whole: Option<Part>,
    },
    /// Authentic, but nothing to forward (padding).
    Nothing,
    /// Authentic, but dropped, for this reason.
    Aside(DropReason),
    /// Dropped, for this reason.
    Dropped(DropReason),
    /// Nothing more can come of this session: the publisher has to begin a new one.
    Over(CloseReason),
}

/// Payloads are cut from slabs of this size: one allocation for about 50 packets.
const SLAB: usize = 64 * 1024;

impl Ingest {
    /// The receiving side for a negotiated plan. It feeds tracks of `ids`; `epochs` counts their new starts.
    pub fn new(plan: &IngestPlan, ids: &StreamTracks, epochs: Epochs, now: Instant) -> Ingest {
        let tracks: Vec<Track> = plan.tracks.iter().flat_map(|track| Track::all_of(track, ids)).collect();
        let places = Places::new(&tracks);
        let encodings = tracks.iter().filter_map(Track::encoding).count();
        let transport_cc = plan.tracks.iter().any(|track| track.feedback.transport_cc);
        let remb = plan.tracks.iter().any(|track| track.feedback.remb);
        Ingest {
            tracks,
            places,
            picture: (encodings > 0).then(|| Picture {
                id: ids.video,
                whole: Whole::new(encodings, now),
                epoch: None,
                told: Vec::new(),
            }),
            epochs,
            arrivals: transport_cc.then(|| ArrivalLog::new(now)),
            estimate: (remb && !transport_cc).then(LossEstimate::default),
            report_at: now + REPORT_INTERVAL,
            health: Health::default(),
            told: Health::default(),
            told_sound: feedback::SoundView::default(),
            mended: Vec::new(),
            slab: BytesMut::new(),
        }
    }

    /// Opens a sealed RTP packet and makes it canonical.
    pub fn handle_rtp(&mut self, sealed: &[u8], opener: &mut Opener, now: Instant) -> Received {
        match self.receive(sealed, opener, now) {
            Ok(received) | Err(received) => received,
        }
    }

    /// What was missing before the packet that came last, and that it brought copies of: it goes before it.
    pub fn take_mended(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.mended)
    }

    fn receive(&mut self, sealed: &[u8], opener: &mut Opener, now: Instant) -> Result<Received, Received> {
        let dropped = Received::Dropped;
        let header = rtp::Header::parse(sealed).map_err(|_| dropped(DropReason::RtpMalformed))?;
        let place =
            self.places.find(&self.tracks, &header, sealed).ok_or(dropped(DropReason::RtpUnknownSource))?;
        let track = &mut self.tracks[place.track];
        let (codec, form) =
            codec_of(&track.plan, header.payload_type).ok_or(dropped(DropReason::RtpUnknownPayloadType))?;
        let extensions = &track.plan.extensions;
        let mut transport_sequence = None;
        let mut canonical = Canonical {
            codec,
            marker: header.marker,
            sequence: header.sequence,
            timestamp: header.timestamp,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut dependency = None;
        for (id, value) in header.extensions(sealed) {
            let id = Some(id);
            match *value {
                _ if id == extensions.dependency && codec == Codec::Av1 => {
                    // Its place: it is read once the packet is known to be the publisher's own.
                    canonical.dependency = Some(Summary::default());
                    dependency = Some(value);
                }
                [level] if id == extensions.audio_level => canonical.audio_level = Some(level),
                [turn] if id == extensions.video_orientation => canonical.orientation = Some(turn),
                [high, low] if id == extensions.transport_cc => {
                    transport_sequence = Some(u16::from_be_bytes([high, low]));
                }
                _ => {}
            }
        }
        if sealed.len() > packet::MAX_RTP_LEN + opener.profile().rtp_overhead() {
            self.health.too_large += 1;
            return Err(dropped(DropReason::RtpTooLarge));
        }
        if self.slab.capacity() < packet::MAX_HEADER_LEN + sealed.len() {
            self.slab.reserve(SLAB);
        }
        self.slab.clear();
        canonical.write(&mut self.slab);
        if let Err(error) = opener.open_rtp(sealed, &header, &mut self.slab) {
            return Err(match error {
                SrtpError::Behind if track.behind.handle_behind(&header, now) => {
                    Received::Over(CloseReason::NumbersJumpedBack)
                }
                SrtpError::Replay | SrtpError::Behind => dropped(DropReason::SrtpReplay),
                SrtpError::Authentication => dropped(DropReason::SrtpAuthentication),
                SrtpError::Sources => Received::Over(CloseReason::TooManySources),
                SrtpError::Short | SrtpError::Key => dropped(DropReason::RtpMalformed),
            });
        }
        // From here on the packet is the publisher's own.
        self.places.learn(&self.tracks, header.ssrc, place);
        let track = &mut self.tracks[place.track];
        track.behind.handle_new();
        if let (Some(log), Some(sequence)) = (&mut self.arrivals, transport_sequence) {
            log.handle_arrival(sequence, now);
        }
        let mut buffer = self.slab.split();
        let payload_len = header
            .payload_len(&buffer[canonical.header_len()..])
            .map_err(|_| dropped(DropReason::RtpMalformedPadding))?;
        buffer.truncate(canonical.header_len() + payload_len);
        let wrapped;
        let mut red = None;
        if form == Form::Red && payload_len > 0 {
            if place.repeats.is_some() {
                return Err(dropped(DropReason::RtpUnknownPayloadType));
            }
            wrapped = buffer.split_off(canonical.header_len());
            let parsed = Red::parse(&wrapped).filter(|red| is_plain(&track.plan, red.payload_type));
            let parsed = parsed.ok_or(Received::Aside(DropReason::RedMalformed))?;
            buffer.extend_from_slice(parsed.primary);
            red = Some(parsed);
        }
        let payload_len = buffer.len() - canonical.header_len();
        if let Some(of) = place.repeats {
            if payload_len <= 2 {
                return Ok(Received::Nothing); // padding, sent to probe the bandwidth
            }
            packet::unwrap_retransmission(&mut buffer, &mut canonical)
                .ok_or(dropped(DropReason::RtpMalformed))?;
            if !track.misses(of, canonical.sequence) {
                return Err(Received::Aside(DropReason::RtpRepeat));
            }
        } else if payload_len == 0 && track.sources.current() != Some(header.ssrc) {
            // Padding alone, sent to probe the bandwidth, makes no source.
            return Err(Received::Aside(DropReason::RtpEmptyPayload));
        } else {
            match track.sources.handle_packet(header.ssrc, header.sequence, payload_len, now) {
                Turn::Current if track.epoch.is_some() => {}
                Turn::Current => track.epoch = Some(self.epochs.take(track.of)),
                Turn::Aside => return Err(Received::Aside(DropReason::RtpOtherSource)),
                Turn::Anew => track.start_anew(&self.epochs),
            }
            track.reception.handle_packet(&header, codec, now);
        }
        let Some(epoch) = track.epoch.map(HeldEpoch::epoch) else { return Ok(Received::Nothing) };
        // A browser that probes its path repeats what came long ago.
        if let Some(value) = dependency {
            canonical.dependency = track.dependency.read(value).map(|said| said.summary(canonical.marker));
            // What cannot be read is of the base.
            canonical.dependency.get_or_insert_default();
            let header_len = canonical.header_len();
            canonical.write(&mut &mut buffer[..header_len]);
        }
        let is_news = place.repeats.is_none() || track.missing.misses(canonical.sequence);
        let lost = track.missing.handle_packet(canonical.sequence, now);
        if let Some(estimate) = &mut self.estimate {
            estimate.handle_packet(sealed.len(), lost);
        }
        let before = track.parameter_sets(&buffer, &canonical, epoch, now);
        canonical.sequence = if buffer.len() == canonical.header_len() {
            track
                .renumber
                .handle_empty(canonical.sequence)
                .ok_or(Received::Aside(DropReason::RtpEmptyPayload))?
        } else {
            track.renumber.handle_packet(canonical.sequence)
        };
        buffer[2..4].copy_from_slice(&canonical.sequence.to_be_bytes());
        let packet = Packet::from_parts(canonical, buffer, epoch, now);
        track.neighbors.handle_packet(header.sequence, header.timestamp);
        self.mended = red.map(|red| track.mend(&red, &header, &packet)).unwrap_or_default();
        let id = track.id;
        if is_news && packet.description.keyframe {
            track.keyframe.handle_keyframe(now);
            self.note_answers();
        }
        if is_news {
            self.handle_picture(place.track, before.as_deref(), &packet, now);
        }
        let whole = self.part(place.track);
        Ok(Received::Packet { track: id, packet, lost, before, whole })
    }

    /// A packet of a picture came that was not here before: from now on another encoding may stand for the whole.
    fn handle_picture(&mut self, track: usize, sets: Option<&Packet>, packet: &Packet, now: Instant) {
        let track = &self.tracks[track];
        let Some((picture, encoding)) = self.picture.as_mut().zip(track.encoding()) else { return };
        let turn = picture.whole.handle_packet(encoding, sets, packet, now);
        if track.rid.is_none() || turn == Turn::Aside {
            return;
        }
        picture.epoch = Some(match picture.epoch {
            None => self.epochs.take(StreamTrack::Video),
            // As in `Track::start_anew`: who was replaced keeps its epoch.
            Some(held) if turn == Turn::Anew => self.epochs.advance(StreamTrack::Video, held).unwrap_or(held),
            Some(held) => held,
        });
    }

    /// What of a track is of the whole picture too, where that comes in several encodings.
    fn part(&self, track: usize) -> Option<Part> {
        let (track, picture) = (&self.tracks[track], self.picture.as_ref()?);
        let is_chosen = track.rid.is_some() && picture.whole.chosen() == track.encoding();
        Some(Part { track: picture.id, epoch: picture.epoch.filter(|_| is_chosen)?.epoch() })
    }

    /// Takes a report of the publisher; a sender clock is for the listeners.
    pub fn handle_report(&mut self, report: &Report, now: Instant) -> Option<Reported> {
        let Report::Sender { ssrc, clock } = report else { return None };
        let is_it = |track: &Track| track.sources.current() == Some(*ssrc);
        let place = self.tracks.iter().position(is_it)?;
        let track = &mut self.tracks[place];
        track.reception.last_report = Some(((clock.ntp >> 16) as u32, now));
        let (track, epoch) = (track.id, track.epoch?.epoch());
        Some(Reported { track, epoch, whole: self.part(place), clock: *clock })
    }

    /// Somebody needs a keyframe of this track; of the whole picture the encoding that stands for it is asked. A
    /// source that has not begun will begin with one.
    pub fn handle_keyframe_request(&mut self, track: TrackId, now: Instant) {
        let picture = self.picture.as_ref().filter(|picture| picture.id == track);
        let chosen = picture.and_then(|picture| picture.whole.chosen());
        let is_it = |known: &Track| known.id == track || (chosen.is_some() && known.encoding() == chosen);
        if let Some(track) = self.tracks.iter_mut().find(|known| is_it(known) && known.epoch.is_some()) {
            track.keyframe.request(now);
        }
    }

    /// The tracks it feeds: each encoding, and what stands for all of them.
    pub fn tracks(&self) -> impl Iterator<Item = TrackId> {
        let whole = self.picture.as_ref().map(|picture| picture.id);
        self.tracks.iter().map(|track| track.id).chain(whole)
    }
}

impl Track {
    /// What comes on one m-line: one track, or one for each encoding where there are several.
    fn all_of(plan: &IngestTrack, ids: &StreamTracks) -> Vec<Track> {
        let encodings = plan.rids.iter().zip(0..).take(MAX_ENCODINGS);
        match plan.rids.len() {
            0 | 1 => vec![Track::new(plan, StreamTrack::of(plan.kind), None, ids)],
            _ => encodings
                .map(|(rid, at)| Track::new(plan, StreamTrack::Encoding(at), Some(rid.clone()), ids))
                .collect(),
        }
    }

    fn new(plan: &IngestTrack, of: StreamTrack, rid: Option<String>, ids: &StreamTracks) -> Track {
        // Of which encoding an announced SSRC is, the offer does not say.
        let announced = plan.ssrcs.iter().map(|(ssrc, _)| *ssrc).filter(|_| rid.is_none());
        Track {
            id: ids.get(of),
            of,
            epoch: None,
            sources: Sources::new(announced),
            behind: Behind::default(),
            missing: Missing::default(),
            neighbors: Neighbors::default(),
            renumber: Renumber::default(),
            sets: ParameterSets::new(&plan.parameter_sets),
            dependency: dependency::Reader::default(),
            reception: ReceptionState::default(),
            keyframe: KeyframeRequest::default(),
            intra_requests: 0,
            plan: plan.clone(),
            rid,
        }
    }

    /// Which encoding of the picture it is.
    fn encoding(&self) -> Option<usize> {
        match self.of {
            StreamTrack::Audio | StreamTrack::Rung(_) => None,
            StreamTrack::Video => Some(0),
            StreamTrack::Encoding(encoding) => Some(encoding.into()),
        }
    }

    /// Another SSRC: its numbers and times have nothing to do with those before. A session whose stream
    /// another one publishes by now keeps its epoch, and its packets are stale.
    fn start_anew(&mut self, epochs: &Epochs) {
        self.epoch = self.epoch.map(|held| epochs.advance(self.of, held).unwrap_or(held));
        self.missing = Missing::default();
        self.neighbors = Neighbors::default();
        self.renumber = Renumber::default();
        self.sets.start_anew();
        self.dependency = dependency::Reader::default();
        self.reception = ReceptionState::default();
    }

    /// The parameter sets that have to go before this packet, as a packet of their own.
    fn parameter_sets(
        &mut self,
        buffer: &[u8],
        canonical: &Canonical,
        epoch: u8,
        now: Instant,
    ) -> Option<Box<Packet>> {
        if canonical.codec != Codec::H264 {
            return None;
        }
        let payload = self.sets.handle_packet(&buffer[canonical.header_len()..], canonical.timestamp)?;
        let sequence = self.renumber.insert_before(canonical.sequence)?;
        let canonical = Canonical { sequence, marker: false, ..*canonical };
        let mut buffer = BytesMut::with_capacity(packet::MAX_HEADER_LEN + payload.len());
        canonical.write(&mut buffer);
        buffer.extend_from_slice(&payload);
        Some(Box::new(Packet::from_parts(canonical, buffer, epoch, now)))
    }

    /// True if a retransmission may be of use: the packet it repeats, of this SSRC if that is known, did not
    /// come, or came so lately that it can still be told from a jump of the numbers.
    fn misses(&self, of: Option<u32>, sequence: u16) -> bool {
        let is_of_the_source =
            of.is_none_or(|of| !self.sources.has_heard(of) || self.sources.current() == Some(of));
        self.missing.misses(sequence) || (is_of_the_source && self.missing.is_recent(sequence))
    }
}
