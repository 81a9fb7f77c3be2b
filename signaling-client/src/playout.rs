//! What a receiver with a small store would have to make up: plays one track of sound with a fixed delay, in virtual time,
//! and counts what is not there when its turn comes. Knows headers and lengths only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::histogram::round;
use crate::source::SAMPLE_RATE;

/// What is kept before it is played: little more than what a browser has on a wire without jitter.
pub const STORE: Duration = Duration::from_millis(80);
/// Packets that wait for their turn. More is no sound of a stage.
const MOST_WAITING: usize = 128;
/// Samples of a packet whose length is not known yet: 20 ms.
const USUAL: u32 = 960;
/// After so many samples that are made up in a row nothing is played, and the sound begins anew with the next packet.
const NEW: u64 = 2 * SAMPLE_RATE as u64;
/// What a sound that has become late as a whole has in store from then on.
const LATER: Duration = Duration::from_millis(20);

/// What was made up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Concealed {
    /// Samples that were made up.
    pub samples: u64,
    /// Percent of all that was played.
    pub percent: f64,
    /// The longest time in one piece, in milliseconds.
    pub longest_ms: f64,
    /// Pieces.
    pub events: u64,
    /// Packets that came when their turn was over.
    pub late: u64,
}

/// Plays one track.
#[derive(Debug, Default)]
pub struct Playout {
    turn: Option<Turn>,
    /// Timestamps and samples of what came, in order of the timestamps.
    waiting: VecDeque<(u32, u32)>,
    /// The last packet that was played: its timestamp, and its samples.
    last: Option<u32>,
    usual: Option<u32>,
    played: u64,
    made_up: u64,
    /// Samples that are made up in one piece, up to now.
    piece: u64,
    longest: u64,
    events: u64,
    late: u64,
}

/// What is played next.
#[derive(Debug, Clone, Copy)]
struct Turn {
    timestamp: u32,
    at: Instant,
}

impl Playout {
    /// A packet of so many samples came at `now`; not one that came before.
    pub fn handle_packet(&mut self, timestamp: u32, samples: u32, now: Instant) {
        self.advance(now);
        let turn = *self.turn.get_or_insert(Turn { timestamp, at: now + STORE });
        if ahead(timestamp, turn.timestamp) < 0 {
            if !self.follows(timestamp) {
                self.late += 1;
                return;
            }
            // All is late from here on: the delay is longer now, as it gets in a browser.
            self.turn = Some(Turn { timestamp, at: now + LATER });
        }
        let place = self.waiting.partition_point(|(known, _)| ahead(*known, timestamp) < 0);
        self.waiting.insert(place, (timestamp, samples));
        if self.waiting.len() > MOST_WAITING {
            self.begin_anew();
        }
    }

    /// Whether nothing else waits and what was played last is before this.
    fn follows(&self, timestamp: u32) -> bool {
        self.waiting.is_empty() && self.last.is_none_or(|last| ahead(timestamp, last) > 0)
    }

    /// Plays what is due until `now`.
    pub fn advance(&mut self, now: Instant) {
        while let Some(turn) = self.turn
            && turn.at <= now
        {
            let usual = self.usual.unwrap_or(USUAL).max(1);
            match self
                .waiting
                .front()
                .map(|(timestamp, samples)| (ahead(*timestamp, turn.timestamp), *samples))
            {
                Some((behind, _)) if behind < 0 => {
                    self.waiting.pop_front();
                    self.late += 1;
                }
                Some((0, samples)) => {
                    self.waiting.pop_front();
                    self.last = Some(turn.timestamp);
                    self.usual = Some(samples);
                    self.played += u64::from(samples);
                    self.piece = 0;
                    self.turn = Some(turn.after(samples));
                }
                next => {
                    let samples = next.map_or(usual, |(until, _)| until.unsigned_abs().min(usual));
                    self.make_up(samples);
                    self.turn = Some(turn.after(samples));
                    if self.piece >= NEW {
                        self.begin_anew();
                    }
                }
            }
        }
    }

    /// What was made up so far. What waits is not played any more.
    pub fn concealed(&self) -> Concealed {
        let ms = |samples: u64| round(samples as f64 * 1e3 / f64::from(SAMPLE_RATE));
        let all = self.played + self.made_up;
        Concealed {
            samples: self.made_up,
            percent: if all > 0 { round(100.0 * self.made_up as f64 / all as f64) } else { 0.0 },
            longest_ms: ms(self.longest),
            events: self.events,
            late: self.late,
        }
    }

    fn make_up(&mut self, samples: u32) {
        self.events += u64::from(self.piece == 0);
        self.made_up += u64::from(samples);
        self.piece += u64::from(samples);
        self.longest = self.longest.max(self.piece);
    }

    fn begin_anew(&mut self) {
        self.turn = None;
        self.last = None;
        self.waiting.clear();
        self.piece = 0;
    }
}

impl Turn {
    fn after(self, samples: u32) -> Turn {
        let length = Duration::from_nanos(u64::from(samples) * 1_000_000_000 / u64::from(SAMPLE_RATE));
        Turn { timestamp: self.timestamp.wrapping_add(samples), at: self.at + length }
    }
}

/// Samples from `b` to `a`, which may be behind a wrap.
fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    /// Packets of 20 ms, each with its number and when it comes, in milliseconds; played to the end.
    fn play(packets: &[(u32, u64)]) -> Concealed {
        let start = clock::now();
        let mut playout = Playout::default();
        // The timestamps wrap on the way.
        let timestamp = |number: u32| 0xffff_f000_u32.wrapping_add(number * 960);
        for (number, at) in packets {
            playout.handle_packet(timestamp(*number), 960, start + Duration::from_millis(*at));
        }
        let last = packets.iter().map(|(number, _)| *number).max().unwrap();
        playout.advance(start + STORE + Duration::from_millis(u64::from(last) * 20));
        playout.concealed()
    }

    #[test]
    fn what_comes_in_time_is_played_whole() {
        let late = |number: u32| if number % 7 == 3 { 79 } else { 0 };
        let packets: Vec<_> = (0..500).map(|n| (n, u64::from(n) * 20 + late(n))).collect();
        let mut sorted = packets;
        sorted.sort_by_key(|(_, at)| *at);
        assert_eq!(play(&sorted), Concealed::default());
    }

    #[test]
    fn what_is_lost_is_made_up_and_what_is_lost_in_a_row_is_one_piece() {
        let lost = [10, 20, 21, 22, 30];
        let packets: Vec<_> =
            (0..100).filter(|n| !lost.contains(n)).map(|n| (n, u64::from(n) * 20)).collect();
        let concealed = play(&packets);
        assert_eq!((concealed.samples, concealed.events, concealed.late), (5 * 960, 3, 0));
        assert_eq!((concealed.longest_ms, concealed.percent), (60.0, 5.0));
    }

    #[test]
    fn what_comes_after_its_turn_is_made_up_and_late() {
        let mut packets: Vec<_> = (0..100).filter(|n| *n != 50).map(|n| (n, u64::from(n) * 20)).collect();
        packets.insert(55, (50, 50 * 20 + 101));
        let concealed = play(&packets);
        assert_eq!((concealed.samples, concealed.late), (960, 1));
    }

    #[test]
    fn a_long_silence_is_made_up_for_two_seconds_and_then_a_new_beginning() {
        let start = clock::now();
        let mut playout = Playout::default();
        for (number, at) in [(0_u32, 0), (1, 20), (1000, 20_000), (1001, 20_020)] {
            playout.handle_packet(number * 960, 960, start + Duration::from_millis(at));
        }
        playout.advance(start + Duration::from_millis(20_100));
        assert_eq!((playout.concealed().longest_ms, playout.concealed().events), (2000.0, 1));
        assert_eq!(playout.concealed().samples, 96_000);
    }

    #[test]
    fn a_queue_that_grows_is_made_up_once() {
        // From the tenth packet on everything comes 200 ms later than before: the turn of each is over.
        let start = clock::now();
        let mut playout = Playout::default();
        for number in 0..100_u32 {
            let late = if number < 10 { 0 } else { 200 };
            playout.handle_packet(
                number * 960,
                960,
                start + Duration::from_millis(u64::from(number) * 20 + late),
            );
        }
        // What was in store goes on for 80 ms, and the first that comes later waits for 20.
        let concealed = playout.concealed();
        assert_eq!((concealed.samples, concealed.events, concealed.late), (7 * 960, 1, 0));
    }

    proptest! {
        #[test]
        fn any_packets_are_played_or_made_up_in_time(
            packets in proptest::collection::vec((any::<u32>(), 0_u32..6000, 0_u64..500), 0..300)
        ) {
            let mut now = clock::now();
            let mut playout = Playout::default();
            for (timestamp, samples, wait) in packets {
                now += Duration::from_millis(wait);
                playout.handle_packet(timestamp, samples, now);
                prop_assert!(playout.waiting.len() <= MOST_WAITING);
            }
        }
    }
}
