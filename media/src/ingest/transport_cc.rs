//! When packets of a publisher arrived, told back to it as transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): that is what lets a browser raise its bitrate.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::rtp::{
    self,
    rtcp::Compound,
    transport_cc::{TICK_US, TICKS_PER_REFERENCE},
};

/// Arrival times of the last half second, and from where on the next feedback tells them.
#[derive(Debug)]
pub struct ArrivalLog {
    started: Instant,
    arrivals: BTreeMap<u64, Instant>,
    highest: Option<u64>,
    next: Option<u64>,
    untold: usize,
    feedbacks: u8,
    due: Option<Instant>,
}

/// Chromium ramps up its bitrate on this feedback.
const INTERVAL: Duration = Duration::from_millis(50);
/// More packets than that in one interval, and feedback goes out early.
const MAX_UNTOLD: usize = 200;
/// A gap longer than this is not told packet by packet: the publisher restarted its numbers. Also what is
/// remembered at most.
const MAX_SPAN: u64 = 2000;
/// A packet that comes later than this after its neighbors is told of no more.
const MEMORY: Duration = Duration::from_millis(500);
/// The unit of the reference time, in microseconds.
const REFERENCE_US: i64 = TICK_US * TICKS_PER_REFERENCE;

impl ArrivalLog {
    /// An empty log.
    pub fn new(now: Instant) -> ArrivalLog {
        ArrivalLog {
            started: now,
            arrivals: BTreeMap::new(),
            highest: None,
            next: None,
            untold: 0,
            feedbacks: 0,
            due: None,
        }
    }

    /// A packet with this transport-wide sequence number arrived.
    pub fn handle_arrival(&mut self, sequence: u16, now: Instant) {
        // room below, so that numbers that arrive out of order at the start do not go below zero
        let number =
            self.highest.map_or((1 << 16) | u64::from(sequence), |highest| rtp::extend(highest, sequence));
        let oldest = self.arrivals.first_key_value().map(|(oldest, _)| *oldest);
        if let Some(next) = self.next.filter(|next| number < *next) {
            // It was told to be lost. What came after it is told once more with it, because a feedback
            // says of every number in its span whether it came.
            if oldest.is_none_or(|oldest| number < oldest) {
                return;
            }
            self.next = Some(next.min(number));
        }
        self.highest = Some(self.highest.map_or(number, |highest| highest.max(number)));
        self.arrivals.entry(number).or_insert(now);
        if self.arrivals.len() as u64 > MAX_SPAN {
            self.arrivals.pop_first();
        }
        self.untold += 1;
        self.due.get_or_insert(now + INTERVAL);
        if self.untold >= MAX_UNTOLD {
            self.due = Some(now);
        }
    }

    /// When [`ArrivalLog::poll_feedback`] has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Appends the feedback that is due to `out`.
    pub fn poll_feedback(&mut self, own: u32, ssrc: u32, out: &mut Compound, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        (self.due, self.untold) = (None, 0);
        let Some(last) = self.highest else { return };
        let first = self.arrivals.range(self.next.unwrap_or_default()..).next().map(|(first, _)| *first);
        let Some(first) = first else { return };
        let base = self.next.filter(|next| last - next < MAX_SPAN).unwrap_or(first);
        self.next = Some(last + 1);
        if last - base < MAX_SPAN {
            let feedback = self.feedbacks;
            self.feedbacks = self.feedbacks.wrapping_add(1);
            let told: Vec<(u64, Instant)> =
                self.arrivals.range(base..).map(|(number, at)| (*number, *at)).collect();
            let started = self.started;
            out.transport_wide(own, ssrc, |out| write(base, &told, started, feedback, out));
        }
        self.arrivals.retain(|_, at| now.duration_since(*at) < MEMORY);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Lost = 0,
    Small = 1,
    Large = 2,
}

fn write(base: u64, arrivals: &[(u64, Instant)], started: Instant, feedback: u8, out: &mut Vec<u8>) {
    let Some((_, first_at)) = arrivals.first() else { return };
    let since_us = |at: &Instant| at.duration_since(started).as_micros() as i64;
    let reference = since_us(first_at) / REFERENCE_US;
    let mut before_us = reference * REFERENCE_US;
    let mut symbols = Vec::new();
    let mut deltas = Vec::new();
    let mut number = base;
    for (arrived, at) in arrivals {
        symbols.resize(symbols.len() + (arrived - number) as usize, Symbol::Lost);
        number = arrived + 1;
        let ticks = ((since_us(at) - before_us) / TICK_US).clamp(i16::MIN.into(), i16::MAX.into());
        before_us += ticks * TICK_US;
        match u8::try_from(ticks) {
            Ok(ticks) => {
                symbols.push(Symbol::Small);
                deltas.push(ticks);
            }
            Err(_) => {
                symbols.push(Symbol::Large);
                deltas.extend((ticks as i16).to_be_bytes());
            }
        }
    }
    out.extend((base as u16).to_be_bytes());
    out.extend((symbols.len() as u16).to_be_bytes());
    out.extend(&(reference as u32).to_be_bytes()[1..]);
    out.push(feedback);
    write_chunks(&symbols, out);
    out.extend(deltas);
}

/// Runs of seven or more equal symbols as a run length chunk, the rest as vectors of seven two-bit symbols.
fn write_chunks(symbols: &[Symbol], out: &mut Vec<u8>) {
    let mut rest = symbols;
    while let Some(&symbol) = rest.first() {
        let run = rest.iter().take(0x1fff).take_while(|next| **next == symbol).count();
        let (chunk, used) = if run >= 7 {
            ((symbol as u16) << 13 | run as u16, run)
        } else {
            let used = rest.len().min(7);
            let vector = rest[..used]
                .iter()
                .zip(0..)
                .fold(0, |vector, (symbol, place)| vector | (*symbol as u16) << (12 - 2 * place));
            (0xc000 | vector, used)
        };
        out.extend(chunk.to_be_bytes());
        rest = &rest[used..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(arrivals: &[(u16, u64)]) -> Vec<u8> {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let start = Instant::now();
        let mut log = ArrivalLog::new(start);
        for (sequence, ms) in arrivals {
            log.handle_arrival(*sequence, start + Duration::from_millis(*ms));
        }
        let mut out = Compound::default();
        log.poll_feedback(1, 2, &mut out, start + Duration::from_secs(1));
        out.bytes().to_vec()
    }

    #[test]
    fn a_feedback_is_laid_out_as_the_draft_says() {
        // 10 and 11 arrive, 12 is lost, 13 arrives late by more than a small delta can say
        let bytes = feedback(&[(10, 64), (11, 65), (13, 165)]);
        assert_eq!(bytes[..4], [0x8f, 205, 0, 6]);
        assert_eq!(bytes[12..16], [0, 10, 0, 4], "base and count");
        assert_eq!(bytes[16..20], [0, 0, 1, 0], "reference time 1 x 64 ms, first feedback");
        assert_eq!(bytes[20..22], (0xc000_u16 | 1 << 12 | 1 << 10 | 2 << 6).to_be_bytes());
        assert_eq!(bytes[22..26], [0, 4, 1, 144], "0, 1 ms, and 100 ms in two octets");
        assert_eq!(bytes.len(), 28, "padded to words");
    }

    #[test]
    fn long_runs_are_one_chunk() {
        let arrivals: Vec<_> = (0..100).map(|n| (n, u64::from(n))).collect();
        let bytes = feedback(&arrivals);
        assert_eq!(bytes[20..22], (1_u16 << 13 | 100).to_be_bytes());
    }

    #[test]
    fn losses_between_two_feedbacks_are_told() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let start = Instant::now();
        let mut log = ArrivalLog::new(start);
        log.handle_arrival(1, start);
        log.poll_feedback(1, 2, &mut Compound::default(), start + INTERVAL);
        log.handle_arrival(4, start + INTERVAL);
        let mut out = Compound::default();
        log.poll_feedback(1, 2, &mut out, start + INTERVAL * 2);
        assert_eq!(out.bytes()[12..16], [0, 2, 0, 3], "2 and 3 are lost, 4 came");
    }
}
