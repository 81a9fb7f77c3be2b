//! Which SSRC a publisher's track is taken from. A publisher may change it at any time, and some send two
//! at once: a change is one new start, and of two that go on side by side one is taken and the other left
//! alone.
//!
//! Knows SSRCs and when they were heard; keys, numbers and payloads are the business of `ingest`.

use std::time::{Duration, Instant};

use crate::rtp;

/// The SSRCs of one track.
#[derive(Debug, Default)]
pub struct Sources {
    current: Option<u32>,
    voices: Vec<Voice>,
}

/// One SSRC that media came from, or is announced to come from.
#[derive(Debug)]
struct Voice {
    ssrc: u32,
    announced: bool,
    heard: Option<Heard>,
    octets: u64,
    /// New packets since another source took the track.
    ahead: u32,
    contest: Option<Contest>,
    /// The source that it was left alone for.
    lost_to: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    sequence: u16,
    at: Instant,
}

/// Two sources send at once: what each of them had brought when that was noticed.
#[derive(Debug, Clone, Copy)]
struct Contest {
    since: Instant,
    own: u64,
    other: u64,
}

/// What a packet's source is to its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The source of the track.
    Current,
    /// The source of the track from this packet on.
    Anew,
    /// Another source has the track.
    Aside,
}

/// A source that was silent for so long gives way to any other, and begins anew when it comes back.
const IDLE: Duration = Duration::from_millis(500);
/// So many packets of a source that lost the track may still have been on their way.
const OVERTAKEN: u32 = 5;
/// Two sources are compared for so long before one is left alone.
const CONTEST: Duration = Duration::from_millis(300);
/// More are not remembered: whoever comes back after that is new.
const MAX_VOICES: usize = 16;

impl Sources {
    /// None heard yet; the offer announced these.
    pub fn new(announced: impl Iterator<Item = u32>) -> Sources {
        let voices = announced.take(MAX_VOICES).map(|ssrc| Voice::new(ssrc, true)).collect();
        Sources { current: None, voices }
    }

    /// The SSRC that the track is taken from.
    pub fn current(&self) -> Option<u32> {
        self.current
    }

    /// True if media has come from this SSRC.
    pub fn has_heard(&self, ssrc: u32) -> bool {
        self.voices.iter().any(|voice| voice.ssrc == ssrc && voice.heard.is_some())
    }

    /// An authenticated media packet of this SSRC came.
    pub fn handle_packet(&mut self, ssrc: u32, sequence: u16, octets: usize, now: Instant) -> Turn {
        let place = self.place(ssrc);
        let voice = &mut self.voices[place];
        let before = voice.heard.replace(Heard { sequence, at: now });
        voice.octets += octets as u64;
        let late = before.is_some_and(|heard| !rtp::is_newer(sequence, heard.sequence));
        if late {
            voice.heard = before.map(|heard| Heard { at: now, ..heard });
        }
        let Some(current) = self.current else { return self.take(place) };
        if current == ssrc {
            return Turn::Current;
        }
        if late {
            return Turn::Aside;
        }
        let began = before.is_none_or(|heard| now.saturating_duration_since(heard.at) >= IDLE);
        let lost = voice.lost_to == Some(current);
        let rival = self.voices.iter().find(|voice| voice.ssrc == current);
        let silent = rival
            .and_then(|rival| rival.heard)
            .is_none_or(|heard| now.saturating_duration_since(heard.at) >= IDLE);
        if silent || (began && !lost) {
            return self.take(place);
        }
        if lost || !self.wins(place, current, now) { Turn::Aside } else { self.take(place) }
    }

    /// Two sources at once: who is announced is the better one, else who brings half as much again.
    fn wins(&mut self, place: usize, current: u32, now: Instant) -> bool {
        let Some((announced, brought)) = self
            .voices
            .iter()
            .find(|voice| voice.ssrc == current)
            .map(|rival| (rival.announced, rival.octets))
        else {
            return true;
        };
        let voice = &mut self.voices[place];
        voice.ahead += 1;
        if voice.ahead < OVERTAKEN {
            return false;
        }
        let contest = *voice.contest.get_or_insert(Contest { since: now, own: voice.octets, other: brought });
        if now.saturating_duration_since(contest.since) < CONTEST {
            return false;
        }
        let (own, other) = (voice.octets - contest.own, brought - contest.other);
        let wins = match (voice.announced, announced) {
            (true, false) => true,
            (false, true) => false,
            _ => own > other + other / 2,
        };
        if wins {
            let ssrc = voice.ssrc;
            self.voices
                .iter_mut()
                .filter(|voice| voice.ssrc == current)
                .for_each(|rival| rival.lost_to = Some(ssrc));
        } else {
            voice.lost_to = Some(current);
        }
        wins
    }

    fn take(&mut self, place: usize) -> Turn {
        let ssrc = self.voices[place].ssrc;
        for voice in &mut self.voices {
            (voice.ahead, voice.contest) = (0, None);
        }
        match self.current.replace(ssrc) {
            Some(_) => Turn::Anew,
            None => Turn::Current,
        }
    }

    fn place(&mut self, ssrc: u32) -> usize {
        if let Some(place) = self.voices.iter().position(|voice| voice.ssrc == ssrc) {
            return place;
        }
        if self.voices.len() >= MAX_VOICES {
            let silent = |voice: &Voice| voice.heard.map(|heard| heard.at);
            let oldest = self
                .voices
                .iter()
                .enumerate()
                .filter(|(_, voice)| Some(voice.ssrc) != self.current)
                .min_by_key(|(_, voice)| silent(voice))
                .map(|(place, _)| place);
            if let Some(oldest) = oldest {
                self.voices.swap_remove(oldest);
            }
        }
        self.voices.push(Voice::new(ssrc, false));
        self.voices.len() - 1
    }
}

impl Voice {
    fn new(ssrc: u32, announced: bool) -> Voice {
        Voice { ssrc, announced, heard: None, octets: 0, ahead: 0, contest: None, lost_to: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Packets of 20 ms from each SSRC with these octets each; those that the track took, and the new starts.
    fn play(
        sources: &mut Sources,
        from: &[(u32, usize)],
        packets: u16,
        at: &mut (Instant, u16),
    ) -> (Vec<u32>, usize) {
        let (mut taken, mut starts) = (Vec::new(), 0);
        for _ in 0..packets {
            for (ssrc, octets) in from {
                match sources.handle_packet(*ssrc, at.1, *octets, at.0) {
                    Turn::Aside => {}
                    turn => {
                        starts += usize::from(turn == Turn::Anew);
                        taken.push(*ssrc);
                    }
                }
            }
            at.0 += Duration::from_millis(20);
            at.1 = at.1.wrapping_add(1);
        }
        (taken, starts)
    }

    #[test]
    fn every_change_is_one_new_start_and_loses_nothing() {
        let mut sources = Sources::default();
        let mut at = (start(), 65_530);
        play(&mut sources, &[(0, 100)], 10, &mut at);
        for ssrc in 1..500 {
            let (taken, starts) = play(&mut sources, &[(ssrc, 100)], 3, &mut at);
            assert_eq!((taken.len(), starts), (3, 1), "source {ssrc}");
        }
        assert!(sources.voices.len() <= MAX_VOICES);
    }

    #[test]
    fn two_that_take_turns_lose_nothing_either() {
        let mut sources = Sources::default();
        let mut at = (start(), 0);
        play(&mut sources, &[(1, 100)], 50, &mut at);
        for turn in 0..20 {
            let (taken, starts) = play(&mut sources, &[(2 - turn % 2, 100)], 50, &mut at);
            assert_eq!((taken.len(), starts), (50, 1));
        }
    }

    #[test]
    fn of_two_at_once_one_is_taken_and_stays() {
        for (octets, better) in [([100, 100], 2), ([100, 300], 2), ([300, 100], 1)] {
            let mut sources = Sources::default();
            let mut at = (start(), 0);
            play(&mut sources, &[(1, octets[0])], 50, &mut at);
            let both = [(1, octets[0]), (2, octets[1])];
            let (_, starts) = play(&mut sources, &both, 100, &mut at);
            assert!(starts <= 2, "{starts}");
            let (taken, starts) = play(&mut sources, &both, 1000, &mut at);
            assert_eq!((taken, starts), (vec![better; 1000], 0), "{octets:?}");
        }
    }

    #[test]
    fn who_is_announced_is_taken_whoever_was_first() {
        for order in [[7, 8], [8, 7]] {
            let mut sources = Sources::new([7].into_iter());
            let mut at = (start(), 0);
            play(&mut sources, &[(order[0], 200)], 10, &mut at);
            let both = [(order[0], 200), (order[1], 200)];
            play(&mut sources, &both, 30, &mut at);
            let (taken, starts) = play(&mut sources, &both, 100, &mut at);
            assert_eq!((taken, starts), (vec![7; 100], 0), "{order:?}");
        }
    }

    #[test]
    fn of_three_at_once_the_best_is_taken_in_a_second() {
        for layers in [[50, 200, 900], [900, 50, 200], [200, 900, 50]] {
            let both: Vec<(u32, usize)> = layers.iter().map(|octets| (*octets as u32, *octets)).collect();
            let mut sources = Sources::default();
            let mut at = (start(), 0);
            let (_, starts) = play(&mut sources, &both, 50, &mut at);
            assert!(starts <= 4, "{starts}");
            assert_eq!(play(&mut sources, &both, 500, &mut at), (vec![900; 500], 0), "{layers:?}");
        }
    }

    #[test]
    fn packets_that_were_still_on_their_way_bring_nobody_back() {
        let mut sources = Sources::default();
        let mut at = (start(), 100);
        play(&mut sources, &[(1, 100)], 10, &mut at);
        play(&mut sources, &[(2, 100)], 1, &mut at);
        for late in [103, 105, 111, 112, 113] {
            assert_eq!(sources.handle_packet(1, late, 100, at.0), Turn::Aside);
        }
        assert_eq!(play(&mut sources, &[(2, 100)], 100, &mut at), (vec![2; 100], 0));
    }

    #[test]
    fn who_was_left_alone_is_there_when_the_other_falls_silent() {
        let mut sources = Sources::default();
        let mut at = (start(), 0);
        play(&mut sources, &[(1, 100), (2, 400)], 100, &mut at);
        let (taken, starts) = play(&mut sources, &[(1, 100)], 100, &mut at);
        assert!((70..=80).contains(&taken.len()), "{}", taken.len());
        assert_eq!(starts, 1);
    }
}
