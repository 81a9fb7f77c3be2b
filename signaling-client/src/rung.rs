//! Which rung of a sound comes, as its packets show: one channel or two, and about how many kbit/s. The relay changes it from
//! one packet to the next (docs/media.md, The ladder); nothing in the headers says so.

use std::time::Instant;

use serde::Serialize;

use crate::clock;
use crate::histogram::round;
use crate::source::SAMPLE_RATE;

/// Changes that are remembered.
const MOST: usize = 1000;
/// Samples over which the rate is averaged: a quarter of a second. One packet says little, half of them are smaller.
const WINDOW: u64 = SAMPLE_RATE as u64 / 4;
/// Between 24 and 64 kbit/s, and between 64 and what a stage sends.
const BOUNDS: [f64; 2] = [40.0, 78.0];
/// So far beyond a bound the rate has to be to count, as a factor.
const CLEARLY: f64 = 1.08;
/// The longest Opus packet, in samples of 48 kHz.
const LONGEST: u32 = 5760;

/// About how many kbit/s a sound has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// Less than 40: the lowest rung has 24.
    Low,
    /// Less than 78: the middle one has 64.
    Middle,
    /// More.
    High,
}

/// From some time on, a rung.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rung {
    /// Since when: milliseconds since 1970.
    pub at_ms: f64,
    /// One or two.
    pub channels: u8,
    /// About how much.
    pub rate: Rate,
}

/// Follows the packets of one sound.
#[derive(Debug, Default)]
pub struct Rungs {
    /// What is being averaged: since when, octets, samples.
    window: Option<(Instant, u64, u64)>,
    stereo: bool,
    turns: Vec<(Instant, u8, Rate)>,
    changes: u64,
}

impl Rungs {
    /// A packet that came at `now`, in the order in which it was sent or nearly so.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        let Some(toc) = packet.first() else { return };
        let stereo = toc & 4 != 0;
        // The averages of two rungs say nothing together.
        let window = self.window.take().filter(|_| stereo == self.stereo).unwrap_or((now, 0, 0));
        self.stereo = stereo;
        let (since, octets, played) =
            (window.0, window.1 + packet.len() as u64, window.2 + u64::from(samples(packet)));
        self.window = Some((since, octets, played));
        if played >= WINDOW {
            self.window = None;
            let kbps = octets as f64 * 8.0 * f64::from(SAMPLE_RATE) / played as f64 / 1e3;
            self.handle_rate(kbps, since);
        }
    }

    /// How often it was another than before.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The rungs in turn, at most 1000.
    pub fn turns(&self) -> Vec<Rung> {
        let (now, unix_ms) = (clock::now(), clock::unix_micros() as f64 / 1e3);
        let rung = |&(at, channels, rate): &(Instant, u8, Rate)| Rung {
            at_ms: round(unix_ms - now.saturating_duration_since(at).as_secs_f64() * 1e3),
            channels,
            rate,
        };
        self.turns.iter().map(rung).collect()
    }

    fn handle_rate(&mut self, kbps: f64, since: Instant) {
        let before = self.turns.last().copied();
        let channels = if self.stereo { 2 } else { 1 };
        let rate = match before {
            Some((_, same, rate)) if same == channels => beyond(rate, kbps),
            _ => of(kbps),
        };
        if before.is_none_or(|(_, channels_before, rate_before)| {
            (channels_before, rate_before) != (channels, rate)
        }) {
            self.changes += u64::from(before.is_some());
            if self.turns.len() < MOST {
                self.turns.push((since, channels, rate));
            }
        }
    }
}

fn of(kbps: f64) -> Rate {
    match BOUNDS.iter().filter(|bound| kbps >= **bound).count() {
        0 => Rate::Low,
        1 => Rate::Middle,
        _ => Rate::High,
    }
}

/// The rate that is now, if it is clearly another.
fn beyond(before: Rate, kbps: f64) -> Rate {
    let (high, low) = (of(kbps / CLEARLY), of(kbps * CLEARLY));
    if high > before { high } else { low.min(before) }
}

/// Samples of a packet at 48 kHz (RFC 6716, section 3.1); those of 20 ms if it breaks a rule.
pub fn samples(packet: &[u8]) -> u32 {
    let Some(toc) = packet.first() else { return 960 };
    let config = toc >> 3;
    let frame = match config {
        0..12 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..16 => [480, 960][usize::from(config & 1)],
        _ => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(1, |count| u32::from(count & 63)),
    };
    Some(frame * frames).filter(|samples| (1..=LONGEST).contains(samples)).unwrap_or(960)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// CELT, fullband, frames of 20 ms.
    const MONO: u8 = 31 << 3;
    const STEREO: u8 = MONO | 4;

    /// Packets of 20 ms: so many with this TOC and about so many kbit/s, every second one smaller.
    fn hear(parts: &[(usize, u8, f64)]) -> Rungs {
        let mut now = clock::now();
        let mut rungs = Rungs::default();
        for (count, toc, kbps) in parts {
            for number in 0..*count {
                let octets = kbps * 2.5 * if number % 2 == 0 { 1.1 } else { 0.9 };
                let mut packet = vec![0; octets as usize];
                packet[0] = *toc;
                rungs.handle_packet(&packet, now);
                now += Duration::from_millis(20);
            }
        }
        rungs
    }

    fn told(rungs: &Rungs) -> Vec<(u8, Rate)> {
        rungs.turns().iter().map(|rung| (rung.channels, rung.rate)).collect()
    }

    #[test]
    fn a_sound_that_stays_has_one_rung() {
        for (kbps, rate) in [(24.0, Rate::Low), (64.0, Rate::Middle), (96.0, Rate::High), (256.0, Rate::High)]
        {
            let rungs = hear(&[(500, STEREO, kbps)]);
            assert_eq!((told(&rungs), rungs.changes()), (vec![(2, rate)], 0));
        }
    }

    #[test]
    fn each_switch_of_the_ladder_is_told() {
        let rungs =
            hear(&[(100, STEREO, 96.0), (100, MONO, 24.0), (100, STEREO, 64.0), (100, STEREO, 128.0)]);
        let expected = [(2, Rate::High), (1, Rate::Low), (2, Rate::Middle), (2, Rate::High)];
        assert_eq!((told(&rungs), rungs.changes()), (expected.to_vec(), 3));
    }

    #[test]
    fn a_rate_near_a_bound_is_no_change() {
        let near = [(50, STEREO, 76.0), (50, STEREO, 80.0)].repeat(10);
        assert_eq!(hear(&near).changes(), 0);
    }

    #[test]
    fn the_length_of_a_packet_is_that_of_rfc_6716() {
        for (packet, length) in [
            (&[STEREO, 0][..], 960),
            (&[16 << 3], 120),
            (&[3 << 3], 2880),
            (&[STEREO | 1], 1920),
            (&[STEREO | 3, 3], 2880),
            // Rules that are broken.
            (&[STEREO | 3, 63], 960),
            (&[STEREO | 3, 0], 960),
            (&[], 960),
        ] {
            assert_eq!(samples(packet), length, "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn any_packets_are_taken(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..200)) {
            let mut rungs = Rungs::default();
            for packet in packets {
                rungs.handle_packet(&packet, clock::now());
            }
            prop_assert!(rungs.turns().len() <= MOST);
        }
    }
}
