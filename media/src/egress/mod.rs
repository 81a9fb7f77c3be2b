//! The sending side of one track to one listener: its numbers, its payload types, its repairs.
//!
//! Takes packets out of a ring and writes them, sealed, into a batch. Numbers and timestamps go on without a break
//! when the source starts anew, when another encoding takes its place, and where a layer is withheld, so a listener
//! never notices. Which source and which layers is decided elsewhere.

pub mod batch;
mod clock;
pub(crate) mod fan_out;
mod fill;
mod layers;
mod pacer;
mod placed;
mod red;
mod repair;
mod repair_budget;
mod repeats;
mod run;
mod rungs;
mod seal;
#[cfg(test)]
mod tests;
mod timeline;

use std::{net::SocketAddr, ops::Range, time::Instant};

use protocol::{Codec, Kind, mesh::SenderClock};

use batch::Batch;
use layers::Layers;
use pacer::Pacer;
pub(crate) use placed::OVERHEAD;
use placed::{KEPT, Placed, is_forgotten};
use red::{Copies, Redundancy};
use repair_budget::RepairBudget;
use repeats::Repeated;
use run::{Place, Run};
use seal::Wrapped;
use timeline::Timeline;

use crate::{
    bandwidth::Estimator,
    rtp::{
        self,
        descriptor::{
            Extent, SpatialLayer, TemporalLayer,
            numbers::{Gaps, Numbers},
        },
        packet::Packet,
        srtp::Sealer,
    },
    sdp::{EgressTrack, NegotiatedCodec},
    track::id::TrackId,
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
    /// The track as a whole: any other source is an encoding of it.
    whole: TrackId,
    /// What it is taken from now, as long as that has not started anew.
    source: Option<TrackId>,
    /// What it will be taken from, from the next keyframe on, and how much of it.
    next_source: Option<(TrackId, Extent)>,
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
    repeated: Repeated,
    redundancy: Redundancy,
    /// Until when nothing of the present rung leaves, because the next one is behind.
    held_until: Option<Instant>,
    /// There once its path has shown a limit.
    pacer: Option<Box<Pacer>>,
}

#[derive(Debug, Clone, Copy)]
struct PayloadTypes {
    media: u8,
    rtx: Option<u8>,
    red: Option<u8>,
}

impl PayloadTypes {
    /// How a packet leaves with these copies, if there are any and the listener takes them apart.
    fn wrap<'a>(&self, copies: &'a Copies) -> Option<Wrapped<'a>> {
        let red = self.red.filter(|_| !copies.is_empty())?;
        Some(Wrapped { red, payload_type: self.media, copies })
    }
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
    /// It is of a layer that the listener does not get.
    Withheld,
    /// The listener did not negotiate the codec.
    Codec,
    /// From before the listener joined, of another source, or no longer in the ring.
    NotThere,
    /// It went once more a moment ago.
    OnItsWay,
    /// The listener has asked for more repairs than its path has room for, or than a listener may.
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

/// A receiver takes the first packet's rollover counter to be 0, so the first index is far from the wrap.
const FIRST_INDEX: u64 = 1000;
/// The largest packet with our header, padding and tag, the number of the original in a retransmission, and a seam.
pub const MAX_SEALED_LEN: usize = rtp::packet::MAX_LEN + rtp::elements::MAX_EXTENSION_LEN + 2 + 1 + 64 + 16;

impl Egress {
    /// The sending side as negotiated; `track` names what is sent, as a whole.
    pub fn new(plan: &EgressTrack, track: TrackId) -> Egress {
        let mut payload_types = [None; Codec::ALL.len()];
        for negotiated in &plan.codecs {
            let NegotiatedCodec { payload_type: media, rtx, red, .. } = *negotiated;
            payload_types[negotiated.codec as usize].get_or_insert(PayloadTypes { media, rtx, red });
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
            whole: track,
            source: None,
            next_source: Some((track, Extent::ALL)),
            run: None,
            before: None,
            runs: 0,
            layers: Layers { most: Extent::ALL, sent: Extent::ALL },
            numbers: None,
            kept: vec![(u16::MAX, 0); kept].into(),
            next: FIRST_INDEX,
            last: None,
            rtx_index: FIRST_INDEX,
            packets: 0,
            octets: 0,
            report_at: None,
            repairs: RepairBudget::default(),
            repeated: Repeated::default(),
            redundancy: Redundancy::default(),
            held_until: None,
            pacer: None,
        }
    }

    /// Whether the listener tells what of it came, packet by packet.
    pub fn is_told_of(&self) -> bool {
        self.transport_cc > 0
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

    /// The track as a whole.
    pub fn whole(&self) -> TrackId {
        self.whole
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
    pub fn turn_to(&mut self, track: TrackId, most: Extent) -> Option<TrackId> {
        let waited = self.next().filter(|waited| *waited != track);
        self.next_source = Some((track, most)).filter(|_| self.source != Some(track));
        waited
    }

    /// Of what is taken from now on no more than these layers.
    pub fn set_layers(&mut self, most: Extent) {
        self.layers.most = most;
    }

    /// What of it is sent.
    pub fn extent(&self) -> Extent {
        self.layers.sent
    }

    /// Whether a spatial layer of it is wanted that is not sent, of those up to `highest`: it begins with a keyframe.
    pub fn waits_for_layer(&self, highest: SpatialLayer) -> bool {
        self.source.is_some() && self.layers.sent.spatial < self.layers.most.spatial.min(highest)
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
        let timeline = Timeline::new(timestamp.wrapping_sub(packet.timestamp));
        self.begin((track, number), packet, timeline);
    }

    /// As [`Egress::start`], with a picture that began before: `live` is the newest packet of it.
    pub fn start_behind(
        &mut self,
        first: (TrackId, u64),
        [packet, live]: [&Packet; 2],
        clocks: [Option<SenderClock>; 2],
        now: Instant,
    ) {
        let timeline = self.catching_up([packet, live], clocks, now);
        self.begin(first, packet, timeline);
    }

    fn begin(&mut self, (track, number): (TrackId, u64), packet: &Packet, timeline: Timeline) {
        let codec = packet.codec;
        if let Some((_, most)) = self.next_source {
            self.layers.most = most;
        }
        self.layers.sent = self.layers.most;
        self.begin_run((track, number), packet.epoch, timeline);
        if let Some(numbers) = &mut self.numbers {
            numbers.1.switch(self.runs);
            let kept = gaps_of(codec) == Some(numbers.0);
            if let Some(run) = self.run.as_mut().filter(|_| kept) {
                run.numbered_from = Some(self.next);
            } else {
                self.numbers = None;
            }
        }
        if track != self.whole {
            self.number_pictures(codec);
        }
    }

    /// From this packet of a source on, which is of this epoch. What was before is over, and nothing waited for.
    fn begin_run(&mut self, (track, number): (TrackId, u64), epoch: u8, timeline: Timeline) {
        self.end_run();
        self.held_until = None;
        self.next_source = None;
        self.runs += 1;
        let (place, top) = ((number, self.next), self.layers.sent.spatial);
        self.run = Some(Run::new((track, epoch), self.runs, place, timeline, top));
        self.source = Some(track);
    }

    /// How often it has started with a source.
    pub fn starts(&self) -> u64 {
        self.runs
    }

    /// Everything of the source below `number` is sent by the caller as one burst and must not be sent again. False if
    /// that start is over, see [`Egress::starts`]: even of the same track, a burst that goes on would send twice what
    /// the next one brings.
    pub fn catch_up(&mut self, start: u64, number: u64) -> bool {
        let Some(run) = self.run.as_mut().filter(|run| run.name == start) else { return false };
        run.live_from = number;
        true
    }

    /// False for what a burst has brought already.
    pub fn wants(&self, number: u64) -> bool {
        self.run.as_ref().is_some_and(|run| number >= run.live_from)
    }

    /// Packets of the track do not come: the numbers that the listener gets close over them.
    pub fn handle_withheld(&mut self, track: TrackId, numbers: Range<u64>) {
        if let Some(run) = self.run.as_mut().filter(|run| run.track == track) {
            run.skip(numbers);
        }
    }

    /// From now on the numbers of pictures are the listener's own, so that pictures can be left out of them and
    /// encodings change.
    fn number_pictures(&mut self, codec: Codec) {
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
        self.send_with((track, number), packet, padding, Copies::default(), way)
    }

    /// As [`Egress::send`], with what the packet takes along.
    fn send_with(
        &mut self,
        (track, number): (TrackId, u64),
        packet: &Packet,
        padding: u8,
        copies: Copies,
        way: &mut Way<'_>,
    ) -> Sent {
        let said = &packet.description;
        if said.temporal > TemporalLayer(0) {
            self.number_pictures(packet.codec);
        }
        let top = self.layers.sent.spatial;
        let within = self.layers.pass(said);
        let Some(run) = self.run.as_mut().filter(|run| run.track == track) else { return Sent::NotThere };
        if self.layers.sent.spatial != top {
            run.set_top(self.layers.sent.spatial);
        }
        let mut blank = false;
        if !within {
            // Of a picture that is only smaller the rest leaves.
            if let Some(numbers) = self.numbers.as_mut().filter(|_| said.temporal > self.layers.sent.temporal)
            {
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
        let timestamp = run.timeline.at(packet.timestamp);
        let marker = packet.marker || said.layer_ends && run.ends(number, said);
        let place = Placed { index, timestamp, payload_type: types.media, marker, blank, given };
        let red = types.wrap(&copies);
        let copied = red.map_or(0, Wrapped::octets);
        let len = self.seal(place, packet, padding, red, way);
        if red.is_some() {
            self.redundancy.handle_left(index, copies);
        }
        if index >= self.next {
            self.next = index + 1;
            self.last = Some(LastSent { index, timestamp, at: packet.received });
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload().len() as u32 + copied as u32);
        if self.kind == Kind::Audio {
            self.repairs.handle_sound();
        }
        Sent::Octets(len)
    }

    fn next(&self) -> Option<TrackId> {
        self.next_source.map(|(track, _)| track)
    }

    fn end_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.before = Some(Box::new(run));
        }
        self.drop_backlog();
    }

    /// The run in which something was sent under this index.
    fn run_of(&self, index: u64) -> Option<&Run> {
        let runs = [self.run.as_ref(), self.before.as_deref()];
        runs.into_iter().flatten().find(|run| run.begins_at() <= index)
    }
}

/// What becomes of the numbers of pictures that are withheld; `None` of a codec that has none.
fn gaps_of(codec: Codec) -> Option<Gaps> {
    match codec {
        Codec::Vp8 => Some(Gaps::Close),
        Codec::Vp9 | Codec::Av1 => Some(Gaps::Keep),
        Codec::H264 | Codec::Opus => None,
    }
}
