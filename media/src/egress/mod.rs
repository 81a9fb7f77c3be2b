//! The sending side of one track to one listener: its numbers, its payload types, its repairs.
//!
//! Takes packets out of a ring and writes them, sealed, into a batch. Numbers and timestamps go on without a break
//! when the source starts anew, when another encoding takes its place, and where a layer is withheld, so a listener
//! never notices. Which source and which layers is decided elsewhere.

pub mod batch;
pub(crate) mod fan_out;
mod repair_budget;
mod run;
mod seal;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use protocol::{Codec, Kind, mesh::SenderClock};

use batch::Batch;
use repair_budget::RepairBudget;
use run::{Place, Run};
use seal::{Body, Elements, Header, seal};

use crate::{
    bandwidth::{Estimator, Purpose},
    rtp::{
        self,
        descriptor::{
            Description, TemporalLayer,
            numbered::Given,
            numbers::{Gaps, Numbers},
        },
        packet::Packet,
        rtcp::Compound,
        srtp::Sealer,
    },
    sdp::EgressTrack,
    track::{id::TrackId, ring::Ring},
};

/// One track to one listener.
#[derive(Debug)]
pub struct Egress {
    kind: Kind,
    ssrc: u32,
    rtx_ssrc: u32,
    payload_types: [Option<PayloadTypes>; Codec::ALL.len()],
    audio_level: u8,
    orientation: u8,
    transport_cc: u8,
    /// What it is taken from now, as long as that has not started anew.
    source: Option<TrackId>,
    /// What it will be taken from, from the next keyframe on, and how much of it.
    next_source: Option<(TrackId, TemporalLayer)>,
    run: Option<Run>,
    /// For repairs of what was sent before the run.
    before: Option<Box<Run>>,
    runs: u64,
    layers: Layers,
    /// There once the numbers of pictures are not those of the publisher any more.
    numbers: Option<Box<(Gaps, Numbers)>>,
    /// The transport-wide numbers of the newest packets, where one that is repaired goes under the same number: the lap
    /// of its index, and the number.
    kept: Box<[(u16, u16)]>,
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

#[derive(Debug, Clone, Copy)]
struct LastSent {
    index: u64,
    timestamp: u32,
    at: Instant,
}

/// How much of an encoding is sent.
#[derive(Debug, Clone, Copy)]
struct Layers {
    /// What is wanted: this temporal layer and those below.
    most: TemporalLayer,
    /// What is sent. It follows where pictures begin; up only where a decoder can.
    sent: TemporalLayer,
}

/// All temporal layers there may be.
pub const ALL_LAYERS: TemporalLayer = TemporalLayer(u8::MAX);

/// What a listener gets of the packets it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the batch: this many octets.
    Octets(usize),
    /// It is of a layer that the listener does not get.
    Withheld,
    /// The listener did not negotiate the codec.
    Codec,
    /// From before the listener joined, of another source, or no longer in the ring.
    NotThere,
    /// The listener has asked for more repairs than a listener may.
    Budget,
}

/// What a track is to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It gets this.
    Source,
    /// It waits for a place to begin with it.
    NextSource,
    /// It does not want it any more.
    None,
}

/// Where a packet leaves to.
#[derive(Debug)]
pub struct Way<'a> {
    /// The key of the session.
    pub sealer: &'a Sealer,
    /// Where its media goes.
    pub to: SocketAddr,
    /// What its path is thought to carry, of a session for which that is judged.
    pub path: Option<&'a mut Estimator>,
    /// What leaves next.
    pub batch: &'a mut Batch,
    /// When.
    pub now: Instant,
}

/// What a listener asked for again: where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// In the ring of this track.
    pub track: TrackId,
    /// Its number there.
    pub number: u64,
    index: u64,
}

/// A receiver takes the first packet's rollover counter to be 0, so the first index is far from the wrap.
const FIRST_INDEX: u64 = 1000;
/// Of sender reports, once packets flow.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// By then the first packets have left: a report before them would say nothing.
const FIRST_REPORT: Duration = Duration::from_millis(20);
/// The clocks of two encodings say what their timestamps have in common. If that is further from when they came, the
/// clocks are wrong.
const CLOCKS_APART: f64 = 0.5;
/// A packet of nothing but padding says how long that is.
const BLANK: u8 = 1;
/// Header, extensions and tag of a packet, about.
const OVERHEAD: usize = 36;
/// Units of NTP's clock in a second.
const NTP_SECOND: f64 = 4_294_967_296.0;
/// Padding that probes: as much as an octet can say.
const PROBE_PADDING: u8 = 255;
/// As many packets can be asked for again: 5 s of sound, a second of a large picture.
const KEPT: [usize; 2] = [256, 1024];
/// The largest packet with our header, padding and tag, and the number of the original in a retransmission.
pub const MAX_SEALED_LEN: usize = rtp::packet::MAX_LEN + seal::MAX_EXTENSION_LEN + 2 + 64 + 16;

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
        let transport_cc = one_byte(plan.extensions.transport_cc);
        let without_rtx = payload_types.iter().flatten().any(|types| types.rtx.is_none());
        let kept = if transport_cc > 0 && without_rtx { KEPT[plan.kind as usize] } else { 0 };
        Egress {
            kind: plan.kind,
            ssrc: plan.ssrc,
            rtx_ssrc: plan.rtx_ssrc,
            payload_types,
            audio_level: one_byte(plan.extensions.audio_level),
            orientation: one_byte(plan.extensions.video_orientation),
            transport_cc,
            source: None,
            next_source: Some((track, ALL_LAYERS)),
            run: None,
            before: None,
            runs: 0,
            layers: Layers { most: ALL_LAYERS, sent: ALL_LAYERS },
            numbers: None,
            kept: vec![(u16::MAX, 0); kept].into(),
            next: FIRST_INDEX,
            last: None,
            rtx_index: FIRST_INDEX,
            packets: 0,
            octets: 0,
            report_at: None,
            repairs: RepairBudget::default(),
        }
    }

    /// What it is taken from, and what it waits for.
    pub fn sources(&self) -> impl Iterator<Item = TrackId> + use<> {
        self.source.into_iter().chain(self.next())
    }

    /// What it waits for, else what it is taken from.
    pub fn wanted(&self) -> Option<TrackId> {
        self.next().or(self.source)
    }

    /// What it is taken from.
    pub fn source(&self) -> Option<TrackId> {
        self.source
    }

    /// What this track is to the listener.
    pub fn role(&self, track: TrackId) -> Role {
        if self.source == Some(track) {
            Role::Source
        } else if self.next() == Some(track) {
            Role::NextSource
        } else {
            Role::None
        }
    }

    /// Our SSRC at the listener.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// From the next keyframe of this track on it is the source, with these layers. Until then the present one goes on.
    /// Gives what was waited for and is not any more.
    pub fn turn_to(&mut self, track: TrackId, most: TemporalLayer) -> Option<TrackId> {
        let waited = self.next().filter(|waited| *waited != track);
        self.next_source = Some((track, most)).filter(|_| self.source != Some(track));
        waited
    }

    /// Of what is taken from now on no more than this temporal layer and those below.
    pub fn set_layers(&mut self, most: TemporalLayer) {
        self.layers.most = most;
    }

    /// Nothing is sent until the next source begins, if one is waited for.
    pub fn pause(&mut self) {
        self.source = None;
        self.end_run();
    }

    /// Nothing is sent, and nothing waited for.
    pub fn stop(&mut self) {
        self.next_source = None;
        self.pause();
    }

    /// A source starts anew: its next packet has to come through [`Egress::start`].
    pub fn handle_anew(&mut self, track: TrackId) {
        if self.source == Some(track) {
            self.next_source.get_or_insert((track, self.layers.most));
            self.pause();
        }
    }

    /// From the packet with this number on the listener gets everything of the track. Sound starts anywhere, a
    /// picture only with a keyframe: the caller sees to that. `clocks` are the publisher's: of the source before and
    /// of this one.
    pub fn start(
        &mut self,
        (track, number): (TrackId, u64),
        packet: &Packet,
        clocks: [Option<SenderClock>; 2],
        now: Instant,
    ) {
        let timestamp = self.first_timestamp(packet, clocks, now);
        self.end_run();
        self.runs += 1;
        let run = Run::new(track, self.runs, (number, self.next), timestamp.wrapping_sub(packet.timestamp));
        self.run = Some(run);
        if let Some((_, most)) = self.next_source.take() {
            self.layers.most = most;
        }
        self.source = Some(track);
        self.layers.sent = self.layers.most;
        if let Some(numbers) = &mut self.numbers {
            numbers.1.switch(self.runs);
            let kept = gaps_of(packet.codec) == Some(numbers.0);
            if let Some(run) = self.run.as_mut().filter(|_| kept) {
                run.numbered_from = Some(self.next);
            } else {
                self.numbers = None;
            }
        }
    }

    /// Everything of the track below `number` is sent by the caller as one burst and must not be sent again. False if
    /// it is not the source any more.
    pub fn catch_up(&mut self, track: TrackId, number: u64) -> bool {
        let Some(run) = self.run.as_mut().filter(|run| run.track == track) else { return false };
        run.live_from = number;
        true
    }

    /// False for what a burst has brought already.
    pub fn wants(&self, number: u64) -> bool {
        self.run.as_ref().is_some_and(|run| number >= run.live_from)
    }

    /// From now on the numbers of pictures are the listener's own, so that pictures can be left out of them and
    /// encodings change.
    pub fn number_pictures(&mut self, codec: Codec) {
        if let (None, Some(gaps), Some(run)) = (&self.numbers, gaps_of(codec), &mut self.run) {
            let mut numbers = Numbers::new(gaps);
            numbers.switch(run.name);
            self.numbers = Some(Box::new((gaps, numbers)));
            run.numbered_from = Some(self.next);
        }
    }

    /// Seals the packet with this number for the listener.
    pub fn send(
        &mut self,
        (track, number): (TrackId, u64),
        packet: &Packet,
        padding: u8,
        way: &mut Way<'_>,
    ) -> Sent {
        let said = &packet.description;
        if said.temporal > TemporalLayer(0) && self.numbers.is_none() {
            self.number_pictures(packet.codec);
        }
        let within = self.layers.pass(said);
        let Some(run) = self.run.as_mut().filter(|run| run.track == track) else { return Sent::NotThere };
        let mut blank = false;
        if !within {
            if let Some(numbers) = &mut self.numbers {
                numbers.1.withhold(run.name, said);
            }
            if run.withhold(number) {
                return Sent::Withheld;
            }
            blank = true;
        }
        let Place::At(index) = run.place(number) else { return Sent::NotThere };
        if is_forgotten(&self.kept, index, self.next) {
            return Sent::NotThere;
        }
        let Some(types) = self.payload_types[packet.codec as usize] else { return Sent::Codec };
        let mut given = None;
        if !blank && let Some(numbers) = &mut self.numbers {
            given = numbers.1.forward(run.name, said);
            blank = given.is_none();
        }
        if blank {
            run.blank(number);
        }
        run.sent(number);
        let timestamp = packet.timestamp.wrapping_add(run.timestamp);
        let place = Placed { index, timestamp, payload_type: types.media, blank, given };
        let len = self.seal(place, packet, padding, way);
        if index >= self.next {
            self.next = index + 1;
            self.last = Some(LastSent { index, timestamp, at: packet.received });
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload().len() as u32);
        Sent::Octets(len)
    }

    /// Where the packet is that the listener got, or should have got, under this sequence number.
    pub fn missed(&self, sequence: u16) -> Option<Missed> {
        let index = rtp::extend(self.last?.index, sequence);
        // What was not sent may still get its number from the next source.
        if index >= self.next {
            return None;
        }
        let run = self.run_of(index)?;
        Some(Missed { track: run.track, number: run.number(index)?, index })
    }

    /// Where the packet is that was sent so many before the newest.
    pub fn missed_at(&self, back: u64) -> Option<Missed> {
        let index = self.next.checked_sub(1 + back)?;
        let run = self.run_of(index)?;
        Some(Missed { track: run.track, number: run.number(index)?, index })
    }

    /// Answers a NACK for one packet: as a retransmission (RFC 4588) where negotiated, else by the same ciphertext
    /// once more.
    pub fn repair(&mut self, missed: Missed, ring: &Ring, way: &mut Way<'_>) -> Sent {
        let Missed { number, index, .. } = missed;
        let Some((packet, padding)) = ring.get_sent(number) else { return Sent::NotThere };
        let Some(types) = self.payload_types[packet.codec as usize] else { return Sent::Codec };
        let Some(run) = self.run_of(index) else { return Sent::NotThere };
        if types.rtx.is_none() && is_forgotten(&self.kept, index, self.next) {
            return Sent::NotThere;
        }
        let (name, offset, blank) = (run.name, run.timestamp, run.is_blank(number));
        let numbered = run.numbered_from.is_some_and(|from| index >= from) && !blank;
        let mut given = None;
        if numbered && let Some(numbers) = &mut self.numbers {
            given = numbers.1.forward(name, &packet.description);
            if given.is_none() {
                return Sent::NotThere;
            }
        }
        if !self.repairs.take(way.now) {
            return Sent::Budget;
        }
        let timestamp = packet.timestamp.wrapping_add(offset);
        let len = match types.rtx {
            Some(payload_type) => {
                let place = Placed { index, timestamp, payload_type, blank, given };
                self.seal_again(place, packet, Purpose::Repair, way)
            }
            None => {
                let place = Placed { index, timestamp, payload_type: types.media, blank, given };
                self.seal(place, packet, padding, way)
            }
        };
        Sent::Octets(len)
    }

    /// Sends something that tries the path: one of the newest packets once more, else padding, as a retransmission.
    /// Nothing if the listener has none.
    pub fn probe(&mut self, back: u64, probe: u8, ring: Option<&Ring>, way: &mut Way<'_>) -> Sent {
        let Some(payload_type) = self.payload_types.iter().flatten().find_map(|types| types.rtx) else {
            return Sent::NotThere;
        };
        let purpose = Purpose::Probe(probe);
        let there = self
            .missed_at(back)
            .zip(ring)
            .and_then(|(missed, ring)| Some((missed, ring.get_sent(missed.number)?.0)));
        if let Some((Missed { number, index, .. }, packet)) = there
            && let Some(PayloadTypes { rtx: Some(payload_type), .. }) =
                self.payload_types[packet.codec as usize]
            && let Some(run) = self.run_of(index)
            && !run.is_blank(number)
        {
            let (name, timestamp) = (run.name, packet.timestamp.wrapping_add(run.timestamp));
            let numbered = run.numbered_from.is_some_and(|from| index >= from);
            let given = match &mut self.numbers {
                Some(numbers) if numbered => numbers.1.forward(name, &packet.description),
                _ => None,
            };
            if given.is_some() || !numbered {
                let place = Placed { index, timestamp, payload_type, blank: false, given };
                return Sent::Octets(self.seal_again(place, packet, purpose, way));
            }
        }
        let Some(LastSent { timestamp, .. }) = self.last else { return Sent::NotThere };
        let body = Body { payload: &[], numbers: None, padding: PROBE_PADDING };
        let elements = self.elements(None, self.transport_number(&body, purpose, way));
        let (ssrc, index) = (self.rtx_ssrc, self.rtx_index);
        self.rtx_index += 1;
        let header = Header { payload_type, marker: false, ssrc, index, timestamp, original: None, elements };
        Sent::Octets(seal(&header, &body, way.sealer, way.to, way.batch))
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
        let (Some((clock, at)), Some(run)) = (clock, &self.run) else { return };
        let codec_clock = match self.kind {
            Kind::Audio => Codec::Opus.clock_rate(),
            Kind::Video => Codec::Vp8.clock_rate(),
        };
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        let clock = SenderClock {
            ntp: clock.ntp.wrapping_add((elapsed * NTP_SECOND) as u64),
            rtp: clock
                .rtp
                .wrapping_add((elapsed * f64::from(codec_clock)) as i64 as u32)
                .wrapping_add(run.timestamp),
        };
        out.sender_report(self.ssrc, clock, self.packets, self.octets);
    }

    /// The first report goes out right after the first packets.
    pub fn report_soon(&mut self, now: Instant) {
        self.report_at.get_or_insert(now + FIRST_REPORT);
    }

    /// The timestamp with which a source begins.
    fn first_timestamp(&self, packet: &Packet, clocks: [Option<SenderClock>; 2], now: Instant) -> u32 {
        let Some(last) = self.last else { return packet.timestamp };
        let rate = f64::from(packet.codec.clock_rate());
        let elapsed = (now.saturating_duration_since(last.at).as_secs_f64() * rate) as u32;
        let mut timestamp = last.timestamp.wrapping_add(elapsed);
        if let ([Some(before), Some(after)], Some(run)) = (clocks, &self.run) {
            // the time at which the packet was taken, in the units of the source before
            let since = f64::from(packet.timestamp.wrapping_sub(after.rtp) as i32) / rate;
            let apart = after.ntp.wrapping_sub(before.ntp) as i64 as f64 / NTP_SECOND + since;
            let then = before.rtp.wrapping_add((apart * rate) as i64 as u32).wrapping_add(run.timestamp);
            if f64::from(then.wrapping_sub(timestamp) as i32).abs() <= CLOCKS_APART * rate {
                timestamp = then;
            }
        }
        // at least one frame further, or a receiver would take it for the same frame
        let least = packet.codec.clock_rate() / 100;
        match (timestamp.wrapping_sub(last.timestamp) as i32) < least as i32 {
            true => last.timestamp.wrapping_add(least),
            false => timestamp,
        }
    }

    fn next(&self) -> Option<TrackId> {
        self.next_source.map(|(track, _)| track)
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.before = Some(Box::new(run));
        }
    }

    /// The run in which something was sent under this index.
    fn run_of(&self, index: u64) -> Option<&Run> {
        let runs = [self.run.as_ref(), self.before.as_deref()];
        runs.into_iter().flatten().find(|run| run.begins_at() <= index)
    }

    /// Seals a packet under its own number. Where it was sent under it before these are the same octets.
    fn seal(&mut self, place: Placed, packet: &Packet, padding: u8, way: &mut Way<'_>) -> usize {
        let body = place.body(packet, padding);
        let number = self.number_once(place.index, &body, way);
        let elements = self.elements(Some(packet), number);
        let header = place.header(self.ssrc, place.index, packet, None, elements);
        seal(&header, &body, way.sealer, way.to, way.batch)
    }

    /// The transport-wide number of a packet that may go under its own number more than once.
    fn number_once(&mut self, index: u64, body: &Body<'_>, way: &mut Way<'_>) -> Option<u16> {
        let len = self.kept.len() as u64;
        let Some(place) = index.checked_rem(len) else {
            return self.transport_number(body, Purpose::Media, way);
        };
        let lap = (index / len) as u16;
        if let Some((known, number)) = self.kept.get(place as usize)
            && *known == lap
        {
            return Some(*number);
        }
        let number = self.transport_number(body, Purpose::Media, way)?;
        self.kept[place as usize] = (lap, number);
        Some(number)
    }

    /// Seals a packet once more, as a retransmission.
    fn seal_again(&mut self, place: Placed, packet: &Packet, purpose: Purpose, way: &mut Way<'_>) -> usize {
        // it needs no padding but where that is all there is
        let body = place.body(packet, u8::from(packet.payload().is_empty()));
        let number = self.transport_number(&body, purpose, way);
        let elements = self.elements(Some(packet), number);
        let index = self.rtx_index;
        self.rtx_index += 1;
        let header = place.header(self.rtx_ssrc, index, packet, Some(place.index as u16), elements);
        seal(&header, &body, way.sealer, way.to, way.batch)
    }

    /// The transport-wide number of a packet, where the listener tells what came.
    fn transport_number(&self, body: &Body<'_>, purpose: Purpose, way: &mut Way<'_>) -> Option<u16> {
        let path = way.path.as_deref_mut()?;
        let octets = body.payload.len() + usize::from(body.padding) + OVERHEAD;
        if self.transport_cc > 0 {
            return Some(path.handle_sent(octets, purpose, way.now));
        }
        path.handle_untold(octets, way.now);
        None
    }

    fn elements(&self, packet: Option<&Packet>, number: Option<u16>) -> Elements {
        let mut elements = Elements::default();
        if let Some(level) = packet.and_then(|packet| packet.audio_level) {
            elements.push(self.audio_level, &[level]);
        }
        if let Some(turn) = packet.and_then(|packet| packet.orientation) {
            elements.push(self.orientation, &[turn]);
        }
        if let Some(number) = number {
            elements.push(self.transport_cc, &number.to_be_bytes());
        }
        elements
    }
}

/// A packet at its place among those that the listener gets.
#[derive(Debug, Clone, Copy)]
struct Placed {
    index: u64,
    timestamp: u32,
    payload_type: u8,
    /// Padding goes in its place.
    blank: bool,
    given: Option<Given>,
}

impl Placed {
    fn body<'a>(&self, packet: &'a Packet, padding: u8) -> Body<'a> {
        if self.blank {
            return Body { payload: &[], numbers: None, padding: BLANK };
        }
        let numbers = self.given.map(|given| (&packet.description.numbered, given));
        Body { payload: packet.payload(), numbers, padding }
    }

    fn header(
        &self,
        ssrc: u32,
        index: u64,
        packet: &Packet,
        original: Option<u16>,
        elements: Elements,
    ) -> Header {
        Header {
            payload_type: self.payload_type,
            marker: packet.marker && !self.blank,
            ssrc,
            index,
            timestamp: self.timestamp,
            original,
            elements,
        }
    }
}

impl Layers {
    /// Whether a packet of what is taken from now is of a layer that is sent.
    fn pass(&mut self, said: &Description) -> bool {
        if self.sent == ALL_LAYERS && self.most == ALL_LAYERS {
            return true;
        }
        if said.picture_begins {
            let step = said.switch_up && said.temporal.0 == self.sent.0.saturating_add(1);
            if self.most < self.sent || said.keyframe {
                self.sent = self.most;
            } else if step && said.temporal <= self.most {
                self.sent = said.temporal;
            }
        }
        said.temporal <= self.sent
    }
}

/// Whether nobody knows any more under which transport-wide number a packet with this index went: then it may not go
/// again.
fn is_forgotten(kept: &[(u16, u16)], index: u64, next: u64) -> bool {
    !kept.is_empty() && index + kept.len() as u64 <= next
}

/// What becomes of the numbers of pictures that are withheld; `None` of a codec that has none.
fn gaps_of(codec: Codec) -> Option<Gaps> {
    match codec {
        Codec::Vp8 => Some(Gaps::Close),
        Codec::Vp9 | Codec::Av1 => Some(Gaps::Keep),
        Codec::H264 | Codec::Opus => None,
    }
}
