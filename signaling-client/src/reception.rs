//! What arrived of one RTP track, counted as RFC 3550 does: packets, losses, repeats, jitter, and the
//! gaps between arrivals. Knows headers only; the sound is [`crate::sound`]'s.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc::rtp::header::Header;
use serde::Serialize;

use crate::clock;
use crate::histogram::round;

/// An arrival later than this after the one before is a gap a listener may hear.
pub const GAP: Duration = Duration::from_millis(60);
/// Gaps that are remembered one by one; those beyond are only counted.
pub const MOST_GAPS: usize = 1000;
/// Silences of a timeline that are remembered.
const MOST_SILENCES: usize = 50_000;
/// RFC 3550 appendix A.1: a jump forward beyond this is a new beginning, not a loss.
const MAX_DROPOUT: i64 = 3000;
/// And so is a jump back beyond this, for sound.
const MAX_MISORDER: i64 = 100;
/// For a picture: what was lost of a keyframe, or of what a latecomer gets at once, is repaired when thousands of packets
/// have passed it.
const MAX_REPAIR: i64 = MAX_DROPOUT;
/// Sequence numbers whose arrival is remembered, to tell a repeat from a late packet.
const REMEMBERED: usize = 4096;
/// Timestamps remembered for the same end.
const TIMESTAMPS: usize = 256;

/// A time without a packet, in a timeline that can be laid beside what was done meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Silence {
    /// When the packet before it came: milliseconds since 1970.
    pub at_ms: f64,
    /// Until the next one came, in milliseconds.
    pub ms: f64,
    /// Packets that are missing between the two, by their numbers.
    pub missing: u64,
}

/// Whether a packet is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is the first with its number.
    New,
    /// The same was there before: not to be played.
    Repeat,
}

/// Counters of one track.
#[derive(Debug)]
pub struct Reception {
    clock_rate: u32,
    /// Audio sends one packet per timestamp, so that a second one is a repeat under another number.
    one_per_timestamp: bool,
    run: Option<Run>,
    packets: u64,
    duplicates: u64,
    /// Losses in the runs that are over.
    lost_before: u64,
    jitter: f64,
    last: Option<(Instant, u32)>,
    gaps: Vec<Duration>,
    more_gaps: u64,
    timestamps: VecDeque<u32>,
    /// Silences longer than this make the timeline.
    silence: Option<Duration>,
    silences: Vec<(Instant, Duration, u64)>,
}

/// An unbroken run of one sequence number space.
#[derive(Debug)]
struct Run {
    ssrc: u32,
    first: i64,
    highest: i64,
    distinct: u64,
    seen: Vec<i64>,
}

impl Reception {
    /// Counters of an audio track.
    pub fn audio() -> Self {
        Reception::new(48_000, true)
    }

    /// Counters of a video track.
    pub fn video() -> Self {
        Reception::new(90_000, false)
    }

    fn new(clock_rate: u32, one_per_timestamp: bool) -> Self {
        Reception {
            clock_rate,
            one_per_timestamp,
            run: None,
            packets: 0,
            duplicates: 0,
            lost_before: 0,
            jitter: 0.0,
            last: None,
            gaps: Vec::new(),
            more_gaps: 0,
            timestamps: VecDeque::with_capacity(TIMESTAMPS),
            silence: None,
            silences: Vec::new(),
        }
    }

    /// Keeps a timeline of silences longer than this.
    #[must_use]
    pub fn with_timeline(self, silence: Option<Duration>) -> Self {
        Reception { silence, ..self }
    }

    /// Counts a packet that arrived at `now`.
    pub fn handle_packet(&mut self, header: &Header, now: Instant) -> Arrival {
        let before = self.run.as_ref().map(|run| (run.ssrc, run.highest));
        if self.count(header) == Arrival::Repeat {
            self.duplicates += 1;
            return Arrival::Repeat;
        }
        self.packets += 1;
        self.note_silence(before, now);
        self.time(header.timestamp, now);
        Arrival::New
    }

    /// Distinct packets that arrived.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Packets that were there before.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Packets that were sent, by their numbers, and did not arrive.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.run.as_ref().map_or(0, Run::lost)
    }

    /// Interarrival jitter (RFC 3550 section 6.4.1) in milliseconds.
    pub fn jitter_ms(&self) -> f64 {
        round(self.jitter * 1e3 / f64::from(self.clock_rate))
    }

    /// The same in ticks of the media clock, as receiver reports have it.
    pub fn jitter_ticks(&self) -> u32 {
        self.jitter as u32
    }

    /// The SSRC that is heard, and the highest number of it with the laps above 16 bits; `None` before a packet came.
    pub fn highest(&self) -> Option<(u32, u32)> {
        self.run.as_ref().map(|run| (run.ssrc, run.highest as u32))
    }

    /// The gaps, in milliseconds, in order; at most [`MOST_GAPS`].
    pub fn gaps_ms(&self) -> impl Iterator<Item = f64> {
        self.gaps.iter().map(|gap| round(gap.as_secs_f64() * 1e3))
    }

    /// Gaps that were counted and are not in [`Reception::gaps_ms`].
    pub fn more_gaps(&self) -> u64 {
        self.more_gaps
    }

    fn count(&mut self, header: &Header) -> Arrival {
        let number = header.sequence_number;
        let (run, sequence) = match self.run.take() {
            Some(run) if run.ssrc == header.ssrc => {
                let ahead = i64::from(number.wrapping_sub(run.highest as u16) as i16);
                let behind = if self.one_per_timestamp { MAX_MISORDER } else { MAX_REPAIR };
                if (-behind..=MAX_DROPOUT).contains(&ahead) {
                    let sequence = run.highest + ahead;
                    (self.run.insert(run), sequence)
                } else {
                    self.lost_before += run.lost();
                    (self.run.insert(Run::new(header.ssrc, number)), i64::from(number))
                }
            }
            other => {
                self.lost_before += other.map_or(0, |run| run.lost());
                (self.run.insert(Run::new(header.ssrc, number)), i64::from(number))
            }
        };
        let mut arrival = run.count(sequence);
        if arrival == Arrival::New && self.one_per_timestamp {
            if self.timestamps.contains(&header.timestamp) {
                arrival = Arrival::Repeat;
            } else {
                if self.timestamps.len() == TIMESTAMPS {
                    self.timestamps.pop_front();
                }
                self.timestamps.push_back(header.timestamp);
            }
        }
        arrival
    }

    /// The timeline; `None` unless one is kept.
    pub fn silences(&self) -> Option<Vec<Silence>> {
        let (now, unix_ms) = (clock::now(), clock::unix_micros() as f64 / 1e3);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let silence = |&(at, length, missing): &(Instant, Duration, u64)| Silence {
            at_ms: round(unix_ms - ms(now.saturating_duration_since(at))),
            ms: round(ms(length)),
            missing,
        };
        self.silence.map(|_| self.silences.iter().map(silence).collect())
    }

    fn note_silence(&mut self, before: Option<(u32, i64)>, now: Instant) {
        let (Some(silence), Some((last, _))) = (self.silence, self.last) else { return };
        let between = now.saturating_duration_since(last);
        if between > silence && self.silences.len() < MOST_SILENCES {
            let missing = match (before, &self.run) {
                (Some((ssrc, highest)), Some(run)) if run.ssrc == ssrc => run.highest - highest - 1,
                _ => 0,
            };
            self.silences.push((last, between, u64::try_from(missing).unwrap_or(0)));
        }
    }

    fn time(&mut self, timestamp: u32, now: Instant) {
        if let Some((before, earlier)) = self.last {
            let between = now.saturating_duration_since(before);
            if between > GAP {
                match self.gaps.len() < MOST_GAPS {
                    true => self.gaps.push(between),
                    false => self.more_gaps += 1,
                }
            }
            let sent = f64::from(timestamp.wrapping_sub(earlier) as i32);
            let arrived = between.as_secs_f64() * f64::from(self.clock_rate);
            // A jump of seconds in the timestamps is a new beginning and says nothing about the way here.
            if (sent.abs() as u64) < u64::from(self.clock_rate) * 2 {
                self.jitter += ((arrived - sent).abs() - self.jitter) / 16.0;
            }
        }
        self.last = Some((now, timestamp));
    }
}

impl Run {
    fn new(ssrc: u32, first: u16) -> Self {
        let first = i64::from(first);
        Run { ssrc, first, highest: first, distinct: 0, seen: vec![i64::MIN; REMEMBERED] }
    }

    fn count(&mut self, sequence: i64) -> Arrival {
        let slot = sequence.rem_euclid(REMEMBERED as i64) as usize;
        if self.seen[slot] == sequence {
            return Arrival::Repeat;
        }
        self.seen[slot] = sequence;
        self.distinct += 1;
        self.highest = self.highest.max(sequence);
        self.first = self.first.min(sequence);
        Arrival::New
    }

    fn lost(&self) -> u64 {
        let expected = u64::try_from(self.highest - self.first + 1).unwrap_or(0);
        expected.saturating_sub(self.distinct)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn header(sequence: u32) -> Header {
        Header {
            sequence_number: sequence as u16,
            timestamp: sequence.wrapping_mul(960),
            ssrc: 1,
            ..Header::default()
        }
    }

    fn receive(sequences: &[u32]) -> Reception {
        let start = clock::now();
        let mut reception = Reception::audio();
        for (n, sequence) in sequences.iter().enumerate() {
            reception.handle_packet(&header(*sequence), start + Duration::from_millis(20) * n as u32);
        }
        reception
    }

    #[test]
    fn nothing_is_lost_across_the_wrap() {
        let reception = receive(&(65_000..66_500).collect::<Vec<_>>());
        assert_eq!((reception.packets(), reception.lost(), reception.duplicates()), (1500, 0, 0));
        assert_eq!(reception.jitter_ms(), 0.0);
        assert_eq!(reception.gaps_ms().count(), 0);
    }

    #[test]
    fn losses_repeats_and_late_packets_are_told_apart() {
        let reception = receive(&[10, 11, 13, 13, 12, 16]);
        assert_eq!((reception.packets(), reception.lost(), reception.duplicates()), (5, 2, 1));
    }

    #[test]
    fn the_same_sound_under_a_second_number_is_a_repeat() {
        let start = clock::now();
        let mut reception = Reception::audio();
        for number in [1, 2, 3] {
            reception.handle_packet(&Header { timestamp: 960, ..header(number) }, start);
        }
        assert_eq!((reception.packets(), reception.lost(), reception.duplicates()), (1, 0, 2));
    }

    #[test]
    fn packets_of_one_video_frame_are_not_repeats() {
        let start = clock::now();
        let mut reception = Reception::video();
        for number in [1, 2, 3] {
            reception.handle_packet(&Header { timestamp: 3000, ..header(number) }, start);
        }
        assert_eq!((reception.packets(), reception.duplicates()), (3, 0));
    }

    #[test]
    fn what_is_repaired_late_and_often_is_counted_once() {
        let start = clock::now();
        let mut reception = Reception::video();
        let burst = (1000..1180).chain(1295..1400);
        for number in burst.chain((1180..1290).cycle().take(1000)).chain(1400..1500) {
            reception.handle_packet(&header(number), start);
        }
        assert_eq!((reception.packets(), reception.lost(), reception.duplicates()), (495, 5, 890));
    }

    #[test]
    fn a_publisher_that_begins_anew_has_lost_nothing() {
        let reception = receive(&[100, 101, 102, 40_000, 40_001]);
        assert_eq!((reception.packets(), reception.lost()), (5, 0));
    }

    #[test]
    fn a_gap_is_what_lasts_longer_than_sixty_milliseconds() {
        let start = clock::now();
        let mut reception = Reception::audio();
        for (number, at) in [(1, 0), (2, 20), (3, 80), (4, 300)] {
            reception.handle_packet(&header(number), start + Duration::from_millis(at));
        }
        assert_eq!(reception.gaps_ms().collect::<Vec<_>>(), [220.0]);
    }

    #[test]
    fn a_timeline_says_when_how_long_and_how_many_are_missing() {
        // In the past: the timeline is told as of now.
        let start = clock::now() - Duration::from_secs(1);
        let mut reception = Reception::audio().with_timeline(Some(Duration::from_millis(30)));
        for (number, at) in [(1, 0), (2, 20), (3, 70), (7, 170)] {
            reception.handle_packet(&header(number), start + Duration::from_millis(at));
        }
        let silences = reception.silences().unwrap();
        let what: Vec<_> = silences.iter().map(|silence| (silence.ms, silence.missing)).collect();
        assert_eq!(what, [(50.0, 0), (100.0, 3)]);
        assert!((silences[1].at_ms - silences[0].at_ms - 50.0).abs() < 0.1);
        assert_eq!(receive(&[1, 2]).silences(), None);
    }

    #[test]
    fn jitter_is_that_of_rfc_3550() {
        let start = clock::now();
        let mut reception = Reception::audio();
        // Every second packet is 10 ms late: the mean deviation goes towards 10 ms.
        for number in 0..500_u64 {
            let at = Duration::from_millis(20 * number + 10 * (number % 2));
            reception.handle_packet(&header(number as u32), start + at);
        }
        assert!((reception.jitter_ms() - 10.0).abs() < 0.1, "{}", reception.jitter_ms());
    }

    proptest! {
        #[test]
        fn any_headers_are_counted_once(
            headers in proptest::collection::vec((any::<u16>(), any::<u32>(), 0_u32..3), 0..200)
        ) {
            let start = clock::now();
            let mut reception = Reception::audio();
            for (sequence_number, timestamp, ssrc) in &headers {
                let header = Header {
                    sequence_number: *sequence_number,
                    timestamp: *timestamp,
                    ssrc: *ssrc,
                    ..Header::default()
                };
                reception.handle_packet(&header, start);
            }
            prop_assert_eq!(reception.packets() + reception.duplicates(), headers.len() as u64);
        }
    }
}
