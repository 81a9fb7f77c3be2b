//! Listeners and other flows on one wire: who sends when, what comes back, and what is noted of it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    source::{Plan, Source, need},
    tcp::{Flow, SEGMENT},
    wire::{ONE_WAY_US, Packet, Radio, Wire},
};
use crate::{
    bandwidth::{Estimator, Purpose},
    ingest::transport_cc::ArrivalLog,
    rtp::{rtcp::Compound, transport_cc::Feedback},
};

pub struct Listener {
    pub estimator: Estimator,
    pub source: Source,
    /// Microseconds between feedbacks; our own writer makes them every 50 ms.
    pub interval: u64,
    /// No feedback arrives between these seconds.
    pub deaf: Option<(f64, f64)>,
    log: ArrivalLog,
    polled: u64,
    feedback: VecDeque<(u64, Vec<u8>)>,
    probe: VecDeque<(u64, usize, Purpose)>,
    /// How many packets were sent.
    pub numbers: u64,
    pub from: u64,
    pub notes: Notes,
}

/// What a run leaves.
#[derive(Default)]
pub struct Notes {
    /// Each 100 ms.
    pub rows: Vec<Row>,
    /// Time of arrival and wait of each packet, seconds.
    pub waits: Vec<(f64, f64)>,
    row: Row,
}

/// Time, estimate; bits that were sent, that arrived, that were sent in probes since the row before.
#[derive(Debug, Default, Clone, Copy)]
pub struct Row {
    pub at: f64,
    pub bitrate: f64,
    pub sent: f64,
    pub arrived: f64,
    pub probes: f64,
}

pub struct Network {
    pub wire: Wire,
    pub listeners: Vec<Listener>,
    pub tcp: Option<Box<dyn Flow>>,
    pub tcp_arrived: Vec<(f64, f64)>,
    acks: VecDeque<(u64, u64)>,
    begin: Instant,
    now: u64,
}

impl Network {
    pub fn new(steps: &[(f64, f64)], radio: Radio, seed: u64) -> Network {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let begin = Instant::now();
        Network {
            wire: Wire::new(steps, radio, seed),
            listeners: Vec::new(),
            tcp: None,
            tcp_arrived: Vec::new(),
            acks: VecDeque::new(),
            begin,
            now: 0,
        }
    }

    /// A listener that joins at that second.
    pub fn join(&mut self, plan: Plan, from: f64, seed: u64) -> &mut Listener {
        let from = (from * 1e6) as u64;
        let at = self.begin + Duration::from_micros(from);
        self.listeners.push(Listener {
            estimator: Estimator::new(true, at),
            source: Source::new(plan, seed),
            interval: 50_000,
            deaf: None,
            log: ArrivalLog::new(self.begin),
            polled: 0,
            feedback: VecDeque::new(),
            probe: VecDeque::new(),
            numbers: 0,
            from,
            notes: Notes::default(),
        });
        self.listeners.last_mut().expect("it was just pushed")
    }

    pub fn run(&mut self, seconds: f64) {
        let end = (seconds * 1e6) as u64;
        while self.now < end {
            self.now += 1_000;
            self.step();
        }
    }

    fn step(&mut self) {
        let (now, begin) = (self.now, self.begin);
        for (flow, listener) in self.listeners.iter_mut().enumerate().filter(|(_, one)| one.from <= now) {
            listener.send(flow, &mut self.wire, begin, now);
        }
        if let Some(tcp) = &mut self.tcp {
            while self.acks.front().is_some_and(|(at, _)| *at <= now) {
                let (at, number) = self.acks.pop_front().expect("there is one");
                tcp.handle_ack(number, at);
            }
            while let Some(number) = tcp.poll(now) {
                self.wire.send(Packet { flow: usize::MAX, number, octets: SEGMENT }, now);
            }
        }
        while let Some(arrival) = self.wire.poll(now) {
            let packet = arrival.packet;
            if packet.flow == usize::MAX {
                self.acks.push_back((arrival.at + ONE_WAY_US, packet.number));
                self.tcp_arrived.push((arrival.at as f64 / 1e6, packet.octets as f64 * 8.0));
                continue;
            }
            let listener = &mut self.listeners[packet.flow];
            listener.log.handle_arrival(packet.number as u16, begin + Duration::from_micros(arrival.at));
            listener.notes.row.arrived += packet.octets as f64 * 8.0;
            listener.notes.waits.push((arrival.at as f64 / 1e6, arrival.waited as f64 / 1e6));
        }
        for listener in self.listeners.iter_mut().filter(|one| one.from <= now) {
            listener.hear(begin, now);
        }
    }
}

impl Listener {
    fn send(&mut self, flow: usize, wire: &mut Wire, begin: Instant, now: u64) {
        let at = |us: u64| begin + Duration::from_micros(us);
        if self.estimator.poll_timeout().is_some_and(|due| due <= at(now)) {
            self.estimator.handle_timeout(at(now));
        }
        let bitrate = self.estimator.bitrate(at(now)) as f64;
        if now.is_multiple_of(20_000) {
            let wanted = self.source.choose(bitrate, now);
            self.estimator.set_wanted(wanted);
            self.estimator.set_base(need(1) as u64);
        }
        if let Some(probe) = self.estimator.poll_probe(at(now)) {
            let count = probe.packets.max(probe.octets.div_ceil(1200));
            let octets = probe.octets.div_ceil(count);
            let gap = octets as u64 * 8_000_000 / probe.rate;
            for packet in 0..count as u64 {
                self.probe.push_back((now + packet * gap, octets, Purpose::Probe(probe.number)));
            }
        }
        let mut media = Vec::new();
        self.source.send(bitrate, now, &mut media);
        let mut all: Vec<_> = media.into_iter().map(|(at, octets)| (at, octets, Purpose::Media)).collect();
        while self.probe.front().is_some_and(|(at, ..)| *at <= now) {
            all.extend(self.probe.pop_front());
        }
        all.sort_by_key(|(at, ..)| *at);
        for (time, octets, purpose) in all {
            let time = time.clamp(now - 1_000, now);
            let number = self.estimator.handle_sent(octets, purpose, at(time));
            assert_eq!(number, self.numbers as u16, "numbers follow each other");
            let bits = octets as f64 * 8.0;
            self.notes.row.sent += bits;
            if purpose != Purpose::Media {
                self.notes.row.probes += bits;
            }
            wire.send(Packet { flow, number: self.numbers, octets }, time);
            self.numbers += 1;
        }
    }

    fn hear(&mut self, begin: Instant, now: u64) {
        let at = begin + Duration::from_micros(now);
        if now >= self.polled + self.interval && self.log.poll_timeout().is_some_and(|due| due <= at) {
            self.polled = now;
            let mut out = Compound::default();
            self.log.poll_feedback(1, 2, &mut out, at);
            if !out.is_empty() {
                self.feedback.push_back((now + ONE_WAY_US, out.bytes().to_vec()));
            }
        }
        while self.feedback.front().is_some_and(|(due, _)| *due <= now) {
            let (_, bytes) = self.feedback.pop_front().expect("there is one");
            let seconds = now as f64 / 1e6;
            if self.deaf.is_none_or(|(from, to)| !(from..to).contains(&seconds)) {
                let feedback = Feedback::parse(&bytes[4..]).expect("our own feedback can be read");
                self.estimator.handle_feedback(&feedback, at);
            }
        }
        if now.is_multiple_of(100_000) {
            self.notes.row.at = now as f64 / 1e6;
            self.notes.row.bitrate = self.estimator.bitrate(at) as f64;
            self.notes.rows.push(std::mem::take(&mut self.notes.row));
        }
    }
}

impl Notes {
    fn rows(&self, from: f64, to: f64) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.at > from && row.at <= to)
    }

    /// Bits per second that arrived.
    pub fn arrived(&self, from: f64, to: f64) -> f64 {
        self.rows(from, to).map(|row| row.arrived).sum::<f64>() / (to - from)
    }

    /// Bits per second that were sent.
    pub fn sent(&self, from: f64, to: f64) -> f64 {
        self.rows(from, to).map(|row| row.sent).sum::<f64>() / (to - from)
    }

    /// Bits per second of probes.
    pub fn probed(&self, from: f64, to: f64) -> f64 {
        self.rows(from, to).map(|row| row.probes).sum::<f64>() / (to - from)
    }

    pub fn least_bitrate(&self, from: f64, to: f64) -> f64 {
        self.rows(from, to).map(|row| row.bitrate).fold(f64::MAX, f64::min)
    }

    pub fn most_bitrate(&self, from: f64, to: f64) -> f64 {
        self.rows(from, to).map(|row| row.bitrate).fold(0.0, f64::max)
    }

    pub fn mean_bitrate(&self, from: f64, to: f64) -> f64 {
        let (sum, count) =
            self.rows(from, to).fold((0.0, 0), |(sum, count), row| (sum + row.bitrate, count + 1));
        sum / f64::from(count)
    }

    /// What all but 5 % of the packets waited at most, seconds.
    pub fn queue_p95(&self, from: f64, to: f64) -> f64 {
        let within = self.waits.iter().filter(|(at, _)| *at > from && *at <= to);
        let mut waits: Vec<f64> = within.map(|(_, wait)| *wait).collect();
        waits.sort_by(f64::total_cmp);
        waits.get(waits.len() * 95 / 100).copied().unwrap_or_default()
    }
}
