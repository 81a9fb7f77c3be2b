//! The sending side of one track to one listener: its numbers, its payload types, its repairs.
//!
//! Takes packets out of a track's ring and writes them, sealed, into a batch. Numbers and timestamps go
//! on without a break when the source of the track starts anew, so a listener never notices.

pub mod batch;
pub(crate) mod fan_out;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use protocol::{Codec, Kind, mesh::SenderClock};

use batch::Batch;

use crate::{
    rtp::{
        self,
        packet::{EXTENSION_LEN, Packet, write_extension},
        rtcp::Compound,
        srtp::Sealer,
    },
    sdp::EgressTrack,
    track::{id::TrackId, ring::Ring},
};

/// One track to one listener.
#[derive(Debug)]
pub struct Egress {
    track: TrackId,
    kind: Kind,
    ssrc: u32,
    rtx_ssrc: u32,
    payload_types: [Option<PayloadTypes>; Codec::ALL.len()],
    audio_level: u8,
    orientation: u8,
    rewrite: Option<Rewrite>,
    /// Numbers below have been sent while catching up.
    live_from: u64,
    /// The packet index the listener expects next (RFC 3711 section 3.3.1).
    next: u64,
    last: Option<LastSent>,
    rtx_index: u64,
    packets: u32,
    octets: u32,
    report_at: Option<Instant>,
    repairs: RepairBudget,
}

#[derive(Debug, Clone, Copy)]
struct PayloadTypes {
    media: u8,
    rtx: Option<u8>,
}

/// How the numbers of the ring become the listener's, since the source last started anew.
#[derive(Debug, Clone, Copy)]
struct Rewrite {
    /// The first number of the ring that the listener gets.
    first: u64,
    /// Its index at the listener.
    index: u64,
    /// Added to timestamps.
    timestamp: u32,
}

#[derive(Debug, Clone, Copy)]
struct LastSent {
    index: u64,
    timestamp: u32,
    at: Instant,
}

/// What a listener gets of the packets it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the batch: this many octets.
    Octets(usize),
    /// The listener did not negotiate the codec.
    Codec,
    /// From before the listener joined, or no longer in the ring.
    NotThere,
    /// The listener has asked for more repairs than a listener may.
    Budget,
}

/// A receiver takes the first packet's rollover counter to be 0, so the first index is far from the wrap.
const FIRST_INDEX: u64 = 1000;
/// Of sender reports, once packets flow.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// By then the first packets have left: a report before them would say nothing.
const FIRST_REPORT: Duration = Duration::from_millis(20);
/// The largest packet with our header, padding and tag, and the number of the original in a retransmission.
pub const MAX_SEALED_LEN: usize = rtp::packet::MAX_LEN + EXTENSION_LEN + 2 + 64 + 16;

impl Egress {
    /// The sending side as negotiated; `track` names what is sent.
    pub fn new(plan: &EgressTrack, track: TrackId) -> Egress {
        let mut payload_types = [None; Codec::ALL.len()];
        for negotiated in &plan.codecs {
            payload_types[negotiated.codec as usize]
                .get_or_insert(PayloadTypes { media: negotiated.payload_type, rtx: negotiated.rtx });
        }
        // an id above 14 needs two-byte elements: such a listener goes without
        let one_byte = |id: Option<u8>| id.filter(|id| *id <= 14).unwrap_or_default();
        Egress {
            track,
            kind: plan.kind,
            ssrc: plan.ssrc,
            rtx_ssrc: plan.rtx_ssrc,
            payload_types,
            audio_level: one_byte(plan.extensions.audio_level),
            orientation: one_byte(plan.extensions.video_orientation),
            rewrite: None,
            live_from: 0,
            next: FIRST_INDEX,
            last: None,
            rtx_index: FIRST_INDEX,
            packets: 0,
            octets: 0,
            report_at: None,
            repairs: RepairBudget::default(),
        }
    }

    /// What it sends.
    pub fn track(&self) -> TrackId {
        self.track
    }

    /// Our SSRC at the listener.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True once the listener gets packets of the current source.
    pub fn is_live(&self) -> bool {
        self.rewrite.is_some()
    }

    /// From the packet with this number on the listener gets everything. Sound starts anywhere, a
    /// picture only with a keyframe: the caller sees to that.
    pub fn start(&mut self, number: u64, packet: &Packet, now: Instant) {
        let timestamp = match self.last {
            None => 0,
            Some(last) => {
                let ticks = now.duration_since(last.at).as_secs_f64() * f64::from(packet.codec.clock_rate());
                // at least one frame further, or a receiver would take it for the same frame
                let ticks = (ticks as u32).max(packet.codec.clock_rate() / 100);
                last.timestamp.wrapping_add(ticks).wrapping_sub(packet.timestamp)
            }
        };
        self.rewrite = Some(Rewrite { first: number, index: self.next, timestamp });
    }

    /// Everything below `number` is sent by the caller as one burst and must not be sent again.
    pub fn catch_up(&mut self, number: u64) {
        self.live_from = number;
    }

    /// False for what a burst has brought already.
    pub fn wants(&self, number: u64) -> bool {
        number >= self.live_from
    }

    /// The source starts anew: the next packet has to come through [`Egress::start`].
    pub fn stop(&mut self) {
        self.rewrite = None;
        self.live_from = 0;
    }

    /// Seals the packet with this number for the listener.
    pub fn send(
        &mut self,
        number: u64,
        packet: &Packet,
        padding: u8,
        sealer: &Sealer,
        to: SocketAddr,
        batch: &mut Batch,
    ) -> Sent {
        let Some((index, timestamp)) = self.rewritten(number, packet) else { return Sent::NotThere };
        let Some(types) = self.payload_types[packet.codec as usize] else { return Sent::Codec };
        let header =
            EgressHeader { payload_type: types.media, ssrc: self.ssrc, index, timestamp, original: None };
        let len = self.seal(&header, packet, padding, sealer, to, batch);
        if index >= self.next {
            self.next = index + 1;
            self.last = Some(LastSent { index, timestamp, at: packet.received });
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload().len() as u32);
        Sent::Octets(len)
    }

    /// Answers a NACK for one sequence number: as a retransmission (RFC 4588) where negotiated, else by
    /// the same ciphertext once more.
    pub fn repair(
        &mut self,
        sequence: u16,
        ring: &Ring,
        sealer: &Sealer,
        to: SocketAddr,
        batch: &mut Batch,
        now: Instant,
    ) -> Sent {
        let (Some(rewrite), Some(last)) = (self.rewrite, self.last) else { return Sent::NotThere };
        let index = rtp::extend(last.index, sequence);
        // What was not sent may still get its number from the next source.
        if index >= self.next {
            return Sent::NotThere;
        }
        let Some(number) = index.checked_sub(rewrite.index).map(|step| rewrite.first + step) else {
            return Sent::NotThere;
        };
        let Some((packet, padding)) = ring.get_sent(number) else { return Sent::NotThere };
        let Some(types) = self.payload_types[packet.codec as usize] else { return Sent::Codec };
        if !self.repairs.take(now) {
            return Sent::Budget;
        }
        let timestamp = packet.timestamp.wrapping_add(rewrite.timestamp);
        let header = match types.rtx {
            Some(payload_type) => {
                let rtx = self.rtx_index;
                self.rtx_index += 1;
                EgressHeader {
                    payload_type,
                    ssrc: self.rtx_ssrc,
                    index: rtx,
                    timestamp,
                    original: Some(sequence),
                }
            }
            None => {
                EgressHeader { payload_type: types.media, ssrc: self.ssrc, index, timestamp, original: None }
            }
        };
        // a retransmission needs no padding but where that is all there is
        let padding = if header.original.is_some() && !packet.payload().is_empty() { 0 } else { padding };
        Sent::Octets(self.seal(&header, packet, padding, sealer, to, batch))
    }

    /// When a sender report is due.
    pub fn report_at(&self) -> Option<Instant> {
        self.report_at
    }

    /// Appends a sender report to `out` if one is due: `clock` was true at `at`.
    pub fn poll_report(&mut self, clock: Option<(SenderClock, Instant)>, out: &mut Compound, now: Instant) {
        if self.report_at.is_none_or(|at| at > now) {
            return;
        }
        self.report_at = Some(now + REPORT_INTERVAL);
        if self.packets == 0 {
            return; // whoever cannot take the codec gets nothing, and no report of it
        }
        let (Some((clock, at)), Some(rewrite)) = (clock, self.rewrite) else { return };
        let codec_clock = match self.kind {
            Kind::Audio => Codec::Opus.clock_rate(),
            Kind::Video => Codec::Vp8.clock_rate(),
        };
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        let clock = SenderClock {
            ntp: clock.ntp.wrapping_add((elapsed * 4_294_967_296.0) as u64),
            rtp: clock
                .rtp
                .wrapping_add((elapsed * f64::from(codec_clock)) as i64 as u32)
                .wrapping_add(rewrite.timestamp),
        };
        out.sender_report(self.ssrc, clock, self.packets, self.octets);
    }

    /// The first report goes out right after the first packets.
    pub fn report_soon(&mut self, now: Instant) {
        self.report_at.get_or_insert(now + FIRST_REPORT);
    }

    fn rewritten(&self, number: u64, packet: &Packet) -> Option<(u64, u32)> {
        let rewrite = self.rewrite?;
        let step = number.checked_sub(rewrite.first)?;
        Some((rewrite.index + step, packet.timestamp.wrapping_add(rewrite.timestamp)))
    }

    fn seal(
        &self,
        header: &EgressHeader,
        packet: &Packet,
        padding: u8,
        sealer: &Sealer,
        to: SocketAddr,
        batch: &mut Batch,
    ) -> usize {
        let elements = [
            (self.audio_level, packet.audio_level.filter(|_| self.audio_level > 0)),
            (self.orientation, packet.orientation.filter(|_| self.orientation > 0)),
        ];
        let extended = elements.iter().any(|(_, value)| value.is_some());
        let header_len = rtp::FIXED_LEN + if extended { EXTENSION_LEN } else { 0 };
        let payload = packet.payload();
        let original = header.original.map(u16::to_be_bytes);
        let original = original.as_ref().map_or(&[][..], |octets| octets);
        let plain_len = header_len + original.len() + payload.len() + usize::from(padding);
        let sealed_len = plain_len + sealer.profile().rtp_overhead();
        batch.push(to, sealed_len, |out| {
            out[0] = 0x80 | u8::from(padding > 0) << 5 | u8::from(extended) << 4;
            out[1] = u8::from(packet.marker) << 7 | header.payload_type;
            out[2..4].copy_from_slice(&(header.index as u16).to_be_bytes());
            out[4..8].copy_from_slice(&header.timestamp.to_be_bytes());
            out[8..12].copy_from_slice(&header.ssrc.to_be_bytes());
            if extended {
                write_extension(&mut &mut out[rtp::FIXED_LEN..header_len], elements);
            }
            let body = &mut out[header_len..plain_len];
            let (first, rest) = body.split_at_mut(original.len());
            first.copy_from_slice(original);
            let (copy, pad) = rest.split_at_mut(payload.len());
            copy.copy_from_slice(payload);
            if let Some((count, zeros)) = pad.split_last_mut() {
                zeros.fill(0);
                *count = padding;
            }
            sealer.seal_rtp(out, header_len, plain_len, header.ssrc, header.index);
        });
        sealed_len
    }
}

#[derive(Debug)]
struct EgressHeader {
    payload_type: u8,
    ssrc: u32,
    index: u64,
    timestamp: u32,
    /// The original sequence number, in a retransmission.
    original: Option<u16>,
}

/// A listener may have this many packets repaired per second; one that asks for everything again would
/// only make its own link worse.
#[derive(Debug, Default)]
struct RepairBudget {
    since: Option<Instant>,
    used: u32,
}

const REPAIRS_PER_SECOND: u32 = 500;

impl RepairBudget {
    fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.used) = (Some(now), 0);
        }
        self.used += 1;
        self.used <= REPAIRS_PER_SECOND
    }
}
