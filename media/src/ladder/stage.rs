//! One stage: the publisher's packets in, rung packets out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use protocol::Codec;

use super::{
    RUNGS, SAMPLE_RATE,
    decoder::Decoder,
    encoder::{Encoder, Piece},
    order::{Order, Refused, Step},
    sound::Sound,
};
use crate::{
    drop_reason::DropReason,
    rtp::{
        opus::{Layout, MAX_SAMPLES, SHORTEST},
        packet::{Canonical, Packet},
    },
    track::epoch,
};

/// Packets that are decoded before the first one that counts: a decoder needs some to be what the publisher's encoder
/// takes it for.
const KEPT: usize = 5;
/// A packet waits so long for the sound behind it, and twice as long as it plays: a packet behind it may be missing,
/// and concealed. Then a pause has begun, and it goes without.
const WAIT: Duration = Duration::from_millis(80);
/// More than this is not made up: 200 ms.
const MADE_UP_MAX: u32 = 9600;
/// A timestamp that is off by less follows the packet before: clocks that count milliseconds round.
const TOLERANCE: u32 = SHORTEST;
/// A packet of another epoch counts at once if it is a newer one, else only after this.
const SILENCE: Duration = Duration::from_millis(500);
/// Sound that comes faster than it plays, by this much, is dropped: it would be others' CPU.
const AHEAD_MAX: Duration = Duration::from_secs(2);
/// Before it is known, a packet is as long as nearly all are: 20 ms.
const USUAL: u32 = 960;
/// Sound that is kept behind its use: the frame that an encoder is warmed with.
const HISTORY: u64 = 2 * USUAL as u64;

/// The ladder of one stage.
///
/// After each `handle_packet` and `handle_timeout`, take what `poll_packet` has, until nothing is left.
#[derive(Debug, Default)]
pub struct Stage {
    wanted: [bool; RUNGS],
    /// Packets are decoded.
    running: bool,
    epoch: Option<(u8, Instant)>,
    /// The last packets, for a decoder that has to be warm.
    kept: VecDeque<Packet>,
    /// Up to when the sound that came plays, if it had begun when it came.
    plays_until: Option<Instant>,
    order: Order,
    decoder: Option<Decoder>,
    sound: Sound,
    /// The timestamp that follows what was decoded.
    expected: Option<u32>,
    /// Samples of the last packet.
    usual: Option<u32>,
    /// Packets whose sound is known, without what is behind it. At most a few: the next packet is behind it.
    pending: VecDeque<Pending>,
    encoders: [Option<Encoder>; RUNGS],
    ready: VecDeque<(usize, Packet)>,
    dropped: Vec<DropReason>,
}

/// A packet that is to be encoded.
#[derive(Debug)]
struct Pending {
    canonical: Canonical,
    epoch: u8,
    received: Instant,
    /// When it was decoded.
    since: Instant,
    /// `None` for a packet without sound: only its number counts.
    piece: Option<Piece>,
}

impl Pending {
    /// When it goes without the sound behind it.
    fn goes_at(&self) -> Instant {
        let samples = self.piece.as_ref().map_or(0, |piece| piece.positions.end - piece.positions.start);
        self.since + WAIT + 2 * duration(samples as u32)
    }
}

impl Stage {
    /// A stage of which nobody wants a rung.
    pub fn new() -> Stage {
        Stage::default()
    }

    /// Which rungs are wanted. What is not wanted is not encoded, and nothing is decoded if none is. One that was not
    /// wanted starts with the next packet.
    pub fn set_wanted(&mut self, wanted: [bool; RUNGS]) {
        let was = self.wanted;
        self.wanted = wanted;
        for (encoder, _) in self.encoders.iter_mut().zip(wanted).filter(|(_, wanted)| !wanted) {
            *encoder = None;
        }
        if was.contains(&true) && !wanted.contains(&true) {
            self.begin_anew();
            self.ready.clear();
        }
    }

    /// A packet of the publisher's sound came.
    pub fn handle_packet(&mut self, packet: &Packet, now: Instant) {
        if packet.codec != Codec::Opus || !self.takes_epoch(packet.epoch, now) {
            return;
        }
        let layout = Layout::read(packet.payload());
        if !self.wanted.contains(&true) {
            self.keep(packet);
            return;
        }
        let samples = match layout {
            Some(layout) => layout.samples,
            None if packet.payload().is_empty() => 0,
            // It is concealed.
            None => self.usual.unwrap_or(USUAL),
        };
        let Some(plays_until) = self.plays_until(samples, now) else {
            self.dropped.push(DropReason::LadderTooFast);
            return;
        };
        if !self.running {
            self.start(packet.sequence);
        }
        self.keep(packet);
        match self.order.handle_packet(packet.clone(), now) {
            Ok(()) => self.plays_until = Some(plays_until),
            Err(Refused::Late) => self.dropped.push(DropReason::LadderLate),
            Err(Refused::Jumped) => {
                self.finish_all();
                self.begin_anew();
                self.start(packet.sequence);
                // The first number is never too late.
                let _ = self.order.handle_packet(packet.clone(), now);
            }
        }
        self.take_in_order(now);
    }

    /// The next rung packet, and of which rung it is.
    pub fn poll_packet(&mut self) -> Option<(usize, Packet)> {
        self.ready.pop_front()
    }

    /// What was dropped since the last time.
    pub fn poll_dropped(&mut self) -> Option<DropReason> {
        self.dropped.pop()
    }

    /// When [`Stage::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waits = self.pending.front().map(Pending::goes_at);
        waits.into_iter().chain(self.order.poll_timeout()).min()
    }

    /// A missing packet is given up, or a packet goes without the sound behind it.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.take_in_order(now);
        if self.pending.front().is_some_and(|pending| pending.goes_at() <= now) {
            self.finish_all();
        }
    }

    /// Packets of a publisher that was replaced do not bring it back.
    fn takes_epoch(&mut self, epoch: u8, now: Instant) -> bool {
        if let Some((known, heard)) = self.epoch
            && known != epoch
        {
            if !epoch::is_newer(epoch, known) && now.saturating_duration_since(heard) < SILENCE {
                return false;
            }
            self.finish_all();
            self.begin_anew();
            self.kept.clear();
        }
        self.epoch = Some((epoch, now));
        true
    }

    /// Until when the sound that came plays with so many samples more; `None` if that is too far ahead.
    fn plays_until(&self, samples: u32, now: Instant) -> Option<Instant> {
        let from = self.plays_until.map_or(now, |until| until.max(now));
        Some(from + duration(samples)).filter(|until| *until <= now + AHEAD_MAX)
    }

    fn keep(&mut self, packet: &Packet) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(packet.clone());
    }

    /// Everything but the last packets is forgotten: the next one begins anew.
    fn begin_anew(&mut self) {
        self.running = false;
        self.order.clear();
        self.decoder = None;
        self.sound.break_off();
        self.expected = None;
        self.usual = None;
        self.pending.clear();
        self.encoders = Default::default();
    }

    /// A decoder that has heard the last packets begins with this number.
    fn start(&mut self, sequence: u16) {
        let mut kept: Vec<Packet> = self.kept.iter().cloned().collect();
        let before = |packet: &Packet| sequence.wrapping_sub(packet.sequence);
        kept.retain(|packet| (1..64).contains(&before(packet)));
        kept.sort_by_key(|packet| std::cmp::Reverse(before(packet)));
        kept.dedup_by_key(|packet| packet.sequence);
        for packet in kept {
            self.decode(&packet);
        }
        self.order.begin(sequence);
        self.running = true;
    }

    fn take_in_order(&mut self, now: Instant) {
        if !self.wanted.contains(&true) {
            return;
        }
        while let Some(step) = self.order.poll(now) {
            match step {
                Step::Packet(packet) => self.take(&packet, now),
                Step::Missing { first, count } => self.conceal(first, count, now),
            }
            self.encode(false);
        }
    }

    /// A packet whose turn it is: decoded, and it waits for the next one.
    fn take(&mut self, packet: &Packet, now: Instant) {
        let piece = self.decode(packet);
        let canonical = Canonical {
            codec: packet.codec,
            marker: packet.marker,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            audio_level: packet.audio_level,
            orientation: packet.orientation,
            dependency: None,
        };
        self.pending.push_back(Pending {
            canonical,
            epoch: packet.epoch,
            received: packet.received,
            since: now,
            piece,
        });
    }

    /// Where the sound of a packet is; `None` if it has none.
    fn decode(&mut self, packet: &Packet) -> Option<Piece> {
        let payload = packet.payload();
        // A packet of padding alone fills the place of a number, and plays nothing.
        if payload.is_empty() {
            return None;
        }
        let layout = Layout::read(payload);
        let samples = layout.map_or(self.usual.unwrap_or(USUAL), |layout| layout.samples);
        self.meet(packet.timestamp);
        let Some(decoder) = decoder(&mut self.decoder) else {
            self.dropped.push(DropReason::LadderUndecodable);
            return None;
        };
        let start = self.sound.end();
        match layout.as_ref().and_then(|layout| decoder.decode(layout, payload)) {
            Some(decoded) => self.sound.push(decoded),
            None => {
                self.dropped.push(DropReason::LadderUndecodable);
                self.sound.push(decoder.conceal(samples, None));
            }
        }
        self.usual = Some(samples);
        self.expected = Some(packet.timestamp.wrapping_add(samples));
        let stereo = layout.is_none_or(|layout| layout.stereo);
        Some(Piece { positions: start..self.sound.end(), stereo })
    }

    /// Sound of this timestamp comes: if it does not follow what is here, there is a gap, and nothing fills it.
    fn meet(&mut self, timestamp: u32) {
        let off = self.expected.map(|expected| timestamp.wrapping_sub(expected) as i32);
        if off.is_some_and(|off| off.unsigned_abs() >= TOLERANCE) {
            self.encode(true);
            self.sound.break_off();
        }
    }

    /// So many packets from this number on do not come. Their rung packets exist all the same, if it is sensible to make
    /// up their sound.
    fn conceal(&mut self, first: u16, count: u64, now: Instant) {
        let behind = self.order.first_waiting().map(|behind| {
            let payload = behind.bytes.slice(usize::from(behind.header_len)..);
            (behind.timestamp, behind.epoch, behind.received, payload)
        });
        let (Some((timestamp, epoch, received, payload)), Some(expected)) = (behind, self.expected) else {
            return;
        };
        let lost = timestamp.wrapping_sub(expected);
        let each = self.lost_samples(lost, count);
        let plays_until = each.and_then(|each| self.plays_until(each * count as u32, now));
        let (Some(each), Some(_)) = (each, plays_until) else {
            self.finish_all();
            return self.forget_sound();
        };
        self.plays_until = plays_until;
        let says_what_was = Layout::read(&payload).is_some_and(|layout| !layout.is_celt());
        for nth in 0..count as u32 {
            let Some(decoder) = decoder(&mut self.decoder) else { return };
            let behind = (nth + 1 == count as u32 && says_what_was).then_some(&payload[..]);
            let start = self.sound.end();
            self.sound.push(decoder.conceal(each, behind));
            let canonical = Canonical {
                codec: Codec::Opus,
                marker: false,
                sequence: first.wrapping_add(nth as u16),
                timestamp: expected.wrapping_add(nth * each),
                audio_level: None,
                orientation: None,
                dependency: None,
            };
            let piece = Some(Piece { positions: start..self.sound.end(), stereo: true });
            self.pending.push_back(Pending { canonical, epoch, received, since: now, piece });
            self.encode(false);
        }
        self.expected = Some(expected.wrapping_add(count as u32 * each));
    }

    /// Samples of each of so many missing packets, which have `lost` samples together; `None` if nothing is made up: the
    /// timestamps went back, or it is too much.
    fn lost_samples(&self, lost: u32, count: u64) -> Option<u32> {
        let count = u32::try_from(count).ok().filter(|count| count * SHORTEST <= MADE_UP_MAX)?;
        if !(count * SHORTEST..=MADE_UP_MAX).contains(&lost) {
            return None;
        }
        // Rounded clocks lose less than half of the shortest frame.
        let each = (lost + SHORTEST / 2) / count / SHORTEST * SHORTEST;
        // What one packet cannot hold is a pause, and the packet was in it.
        Some(if each <= MAX_SAMPLES { each.max(SHORTEST) } else { self.usual.unwrap_or(USUAL) })
    }

    /// The decoder and the encoders start anew, with the next packet.
    fn forget_sound(&mut self) {
        self.decoder = None;
        self.sound.break_off();
        self.expected = None;
        self.encoders = Default::default();
    }

    /// Nothing follows: what waits goes without the sound behind it.
    fn finish_all(&mut self) {
        self.encode(true);
    }

    /// Encodes the packets whose reach is known, or all of them.
    fn encode(&mut self, all: bool) {
        let wanted = self.wanted;
        while let Some(pending) = self.pending.front() {
            let reach = pending.piece.as_ref().map(|piece| piece.positions.end);
            for rung in (0..RUNGS).filter(|rung| wanted[*rung]) {
                if self.encoders[rung].is_none() {
                    self.encoders[rung] = Encoder::new(rung).ok();
                }
            }
            let furthest = self.encoders.iter().flatten().map(Encoder::reach).max().unwrap_or(0);
            if !all && reach.is_some_and(|end| end + furthest > self.sound.end()) {
                break;
            }
            let Some(pending) = self.pending.pop_front() else { break };
            for rung in (0..RUNGS).filter(|rung| wanted[*rung]) {
                match self.encode_packet(rung, &pending) {
                    Some(packet) => self.ready.push_back((rung, packet)),
                    None => self.dropped.push(DropReason::LadderUndecodable),
                }
            }
        }
        let needed = self.pending.iter().find_map(|pending| pending.piece.as_ref());
        let needed = needed.map_or(self.sound.end(), |piece| piece.positions.start);
        self.sound.forget_before(needed.saturating_sub(HISTORY));
    }

    fn encode_packet(&mut self, rung: usize, pending: &Pending) -> Option<Packet> {
        let mut buffer = BytesMut::with_capacity(pending.canonical.header_len() + 256);
        pending.canonical.write(&mut buffer);
        if let Some(piece) = &pending.piece {
            self.encoders[rung].as_mut()?.encode(piece, &self.sound, &mut buffer)?;
        }
        Some(Packet::from_parts(pending.canonical, buffer, pending.epoch, pending.received))
    }
}

/// The decoder, made if there is none; `None` if there is no memory for one.
fn decoder(decoder: &mut Option<Decoder>) -> Option<&mut Decoder> {
    if decoder.is_none() {
        *decoder = Decoder::new().ok();
    }
    decoder.as_mut()
}

fn duration(samples: u32) -> Duration {
    Duration::from_micros(u64::from(samples) * 1_000_000 / u64::from(SAMPLE_RATE))
}
