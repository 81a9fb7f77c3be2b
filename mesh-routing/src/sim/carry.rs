//! How things cross a wire. A message is cut into datagrams; those lost are sent again when the sender
//! notices, and nothing after it in its stream is delivered before it, as in QUIC. A packet is sent once. What
//! waits for a wire with a rate leaves by class; of the media that do not fit the lowest class gives way.

use std::time::Duration;

use bytes::Bytes;
use protocol::mesh::Class;

use super::{
    Sim,
    event::{Event, Toward},
    media::Packet,
    wire::{Flight, Progress, SEGMENT, Waiting},
};

/// Drivers look at what a wire lost this often.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// Datagrams below which a share of loss says nothing.
const MEASURE_MIN: u64 = 8;
/// After a silence, what was lost is sent again within this: with the next probe that is answered.
const PROBE_EVERY_US: u64 = 200_000;
/// What UDP, IP and QUIC add to a datagram, in bytes.
const OVERHEAD: usize = 60;

impl Sim {
    pub(super) fn toward(&self, wire: usize, end: usize) -> Toward {
        Toward { wire: wire as u32, end: end as u8, life: self.wires[wire].ways[end].life }
    }

    /// Says whether the link that this was sent on is still the same.
    fn lives(&self, toward: Toward) -> bool {
        self.wires[toward.wire as usize].ways[usize::from(toward.end)].life == toward.life
    }

    /// Sends a message toward an end of a wire.
    pub(super) fn carry(&mut self, wire: usize, end: usize, class: Class, bytes: Bytes) {
        let (toward, lane) = (self.toward(wire, end), class as usize);
        let state = &mut self.wires[wire];
        let way = &mut state.ways[end];
        let left = bytes.len();
        let parts = u16::try_from(left.div_ceil(SEGMENT)).unwrap_or(u16::MAX).max(1);
        let index = way.lanes[lane].first + way.lanes[lane].flights.len() as u64;
        way.lanes[lane].flights.push_back(Flight { bytes, progress: Progress::Under });
        if state.quality.rate == 0 {
            self.launch(toward, lane as u8, index, parts, 0, Duration::ZERO);
        } else {
            way.waiting[lane].push_back(Waiting::Message { index, parts, left });
            self.depart(toward);
        }
    }

    /// Sends a packet toward an end of a wire.
    pub(super) fn carry_packet(&mut self, wire: usize, end: usize, packet: Packet) {
        let toward = self.toward(wire, end);
        let state = &mut self.wires[wire];
        if state.quality.rate == 0 {
            return self.launch_packet(toward, packet, Duration::ZERO);
        }
        let (way, room) = (&mut state.ways[end], state.quality.room());
        let bytes = packet.bytes();
        way.media += bytes;
        way.waiting[packet.class() as usize].push_back(Waiting::Packet { packet, bytes });
        while way.media > room {
            let is_media = |waiting: &Waiting| matches!(waiting, Waiting::Packet { .. });
            let Some(lane) = way.waiting.iter_mut().rev().find(|lane| lane.iter().any(is_media)) else {
                break;
            };
            let Some(at) = lane.iter().position(is_media) else { break };
            if let Some(Waiting::Packet { bytes, .. }) = lane.remove(at) {
                way.media -= bytes;
                way.carried.dropped += 1;
            }
        }
        self.depart(toward);
    }

    /// Sends what is most urgent of what waits, if the wire is free.
    fn depart(&mut self, toward: Toward) {
        let (wire, end) = (toward.wire as usize, usize::from(toward.end));
        let quality = self.wires[wire].quality;
        let way = &mut self.wires[wire].ways[end];
        if way.departing {
            return;
        }
        let Some(lane) = way.waiting.iter().position(|lane| !lane.is_empty()) else { return };
        let Some(front) = way.waiting[lane].front_mut() else { return };
        let size = match front {
            Waiting::Message { left, .. } => (*left).min(SEGMENT),
            Waiting::Packet { bytes, .. } => *bytes,
        };
        way.departing = true;
        let takes = quality.crossing(size + OVERHEAD);
        let done = match front {
            Waiting::Message { left, .. } => {
                *left -= size;
                *left == 0
            }
            Waiting::Packet { .. } => true,
        };
        if done {
            match way.waiting[lane].pop_front() {
                Some(Waiting::Message { index, parts, .. }) => {
                    self.launch(toward, lane as u8, index, parts, 0, takes);
                }
                Some(Waiting::Packet { packet, bytes }) => {
                    way.media -= bytes;
                    self.launch_packet(toward, packet, takes);
                }
                None => {}
            }
        }
        self.events.push(self.now + takes, Event::Depart { toward });
    }

    pub(super) fn departed(&mut self, toward: Toward) {
        if self.lives(toward) {
            self.wires[toward.wire as usize].ways[usize::from(toward.end)].departing = false;
            self.depart(toward);
        }
    }

    fn launch(&mut self, toward: Toward, lane: u8, index: u64, parts: u16, attempt: u8, takes: Duration) {
        let (wire, end) = (toward.wire as usize, usize::from(toward.end));
        let state = &mut self.wires[wire];
        // A sender that has died sends nothing again.
        if state.silent(end) || state.links[1 - end].is_none() {
            return state.ways[end].set(lane, index, Progress::Stalled(parts));
        }
        let (now, quality) = (self.now, state.quality);
        let mut missing = 0;
        for _ in 0..parts {
            missing += u16::from(state.ways[end].loses(&quality, &mut self.random, now));
        }
        if missing == 0 {
            let at = now + takes + quality.transit(&mut self.random);
            self.events.push(at, Event::Arrive { toward, lane, index });
        } else {
            let event = Event::Resend { toward, lane, index, missing, attempt: attempt + 1 };
            self.events.push(now + takes + quality.notice(attempt), event);
        }
    }

    pub(super) fn resend(&mut self, toward: Toward, lane: u8, index: u64, missing: u16, attempt: u8) {
        if self.lives(toward) {
            self.launch(toward, lane, index, missing, attempt, Duration::ZERO);
        }
    }

    fn launch_packet(&mut self, toward: Toward, packet: Packet, takes: Duration) {
        let (wire, end) = (toward.wire as usize, usize::from(toward.end));
        let (state, now) = (&mut self.wires[wire], self.now);
        if state.silent(end) || state.ways[end].loses(&state.quality, &mut self.random, now) {
            return;
        }
        let at = now + takes + state.quality.transit(&mut self.random);
        self.events.push(at, Event::Media { toward, packet });
    }

    pub(super) fn arrive(&mut self, toward: Toward, lane: u8, index: u64) {
        if !self.lives(toward) {
            return;
        }
        let (wire, end) = (toward.wire as usize, usize::from(toward.end));
        let silent = self.wires[wire].silent(end);
        let progress = if silent { Progress::Stalled(1) } else { Progress::There };
        self.wires[wire].ways[end].set(lane, index, progress);
        if !silent {
            self.deliver(wire, end, lane);
        }
    }

    /// Hands over what is there and has nothing before it.
    fn deliver(&mut self, wire: usize, end: usize, lane: u8) {
        let relay = self.wires[wire].ends[end];
        while !self.relays[relay].sleeps(self.now)
            && let Some(link) = self.wires[wire].links[end]
        {
            let Some(bytes) = self.wires[wire].ways[end].take(lane) else { return };
            self.messages.0 += 1;
            self.messages.1 += bytes.len() as u64;
            let now = self.now;
            self.with(relay, |mesh| {
                mesh.handle_message(link, &bytes, now).expect("relays understand each other");
            });
        }
    }

    /// Hands over what came while a driver slept.
    pub(super) fn deliver_all(&mut self, wire: usize, end: usize) {
        for lane in 0..self.wires[wire].ways[end].lanes.len() {
            self.deliver(wire, end, lane as u8);
        }
    }

    pub(super) fn arrive_packet(&mut self, toward: Toward, packet: Packet) {
        let (wire, end) = (toward.wire as usize, usize::from(toward.end));
        if !self.lives(toward) || self.wires[wire].silent(end) {
            return;
        }
        let relay = self.wires[wire].ends[end];
        if self.relays[relay].sleeps(self.now) {
            return self.relays[relay].inbox.push((toward, packet));
        }
        let Some(link) = self.wires[wire].links[end] else { return };
        self.wires[wire].ways[end].carried.packets += 1;
        *self.crossed.entry((wire, end)).or_default() += 1;
        let now = self.now;
        self.with(relay, |mesh| mesh.handle_media(link, now));
        self.receive(relay, link, packet);
    }

    /// A wire works again: what was sent into silence is sent again.
    pub(super) fn mend(&mut self, wire: usize) {
        for end in [0, 1] {
            let toward = self.toward(wire, end);
            if self.wires[wire].silent(end) || self.wires[wire].links[1 - end].is_none() {
                continue;
            }
            let quality = self.wires[wire].quality;
            let wait = Duration::from_micros(self.random.below(PROBE_EVERY_US)) + quality.rtt();
            let stalled = self.wires[wire].ways[end].stalled();
            for (lane, index, missing) in stalled {
                let event = Event::Resend { toward, lane, index, missing, attempt: 0 };
                self.events.push(self.now + wait, event);
            }
        }
    }

    /// Lets drivers look at the wire from now on, if it ever loses or delays anything by itself.
    pub(super) fn watch(&mut self, wire: usize) {
        if !std::mem::replace(&mut self.wires[wire].watched, true) {
            self.events.push(self.now + MEASURE_EVERY, Event::Measure { wire: wire as u32 });
        }
    }

    pub(super) fn measure(&mut self, wire: usize) {
        self.events.push(self.now + MEASURE_EVERY, Event::Measure { wire: wire as u32 });
        let (now, rtt) = (self.now, self.wires[wire].quality.rtt());
        for end in [0, 1] {
            // A sender knows what was lost on its way out.
            let state = &mut self.wires[wire];
            let (relay, Some(link)) = (state.ends[end], state.links[end]) else { continue };
            let way = &mut state.ways[1 - end];
            let (sent, lost) = (way.carried.sent, way.carried.lost);
            let (sent_now, lost_now) = (sent - way.measured.0, lost - way.measured.1);
            if sent_now >= MEASURE_MIN && !self.relays[relay].sleeps(now) {
                way.measured = (sent, lost);
                let loss = lost_now as f32 / sent_now as f32;
                self.with(relay, |mesh| mesh.handle_measurement(link, rtt, loss, now));
            }
        }
    }
}

impl super::wire::Way {
    fn set(&mut self, lane: u8, index: u64, progress: Progress) {
        let lane = &mut self.lanes[usize::from(lane)];
        if let Some(flight) =
            index.checked_sub(lane.first).and_then(|at| lane.flights.get_mut(usize::try_from(at).ok()?))
        {
            flight.progress = progress;
        }
    }

    fn take(&mut self, lane: u8) -> Option<Bytes> {
        let lane = &mut self.lanes[usize::from(lane)];
        let flight = lane.flights.pop_front_if(|flight| flight.progress == Progress::There)?;
        lane.first += 1;
        self.carried.messages += 1;
        self.carried.message_bytes += flight.bytes.len() as u64;
        Some(flight.bytes)
    }

    /// What was sent into silence is under way again.
    fn stalled(&mut self) -> Vec<(u8, u64, u16)> {
        let mut found = Vec::new();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            for (index, flight) in (lane.first..).zip(&mut lane.flights) {
                if let Progress::Stalled(parts) = flight.progress {
                    flight.progress = Progress::Under;
                    found.push((number as u8, index, parts));
                }
            }
        }
        found
    }
}
