//! How loud a source is, and what is wrong with its sound: peak and RMS of left and right, clipping, silence, a dead
//! channel, sides of opposite phase. Time is counted in frames.

use std::fmt;

use serde::Serialize;

use crate::source::{CHANNELS, Frame, SAMPLE_RATE};

/// Frames of one reading: half a second.
const READING_FRAMES: u32 = 25;
/// Readings after which a trouble that lasts is told: 5 s.
const LASTING: u32 = 10;
/// What has no peak above this is silent: -60 dBFS.
const SILENT: f32 = 0.001;
/// What has a peak above this sounds: -40 dBFS.
const SOUNDS: f32 = 0.01;
/// So many samples in a row at full scale are clipped.
const CLIPPED_RUN: u32 = 3;
const FULL_SCALE: f32 = 0.999;
/// Below this correlation, little is left of the sound where both sides become one.
const OPPOSITE: f64 = -0.5;
const FLOOR_DBFS: f64 = -120.0;

/// What may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Both sides are silent.
    Silence,
    /// One side is silent while the other one sounds: 0 is left.
    DeadChannel(usize),
    /// It is louder than it can be.
    Clipping,
    /// Left and right cancel each other out.
    Phase,
}

/// What a meter tells.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Half a second is over.
    Reading(Reading),
    /// Something is wrong since now.
    Began(Trouble),
    /// It is right again.
    Ended(Trouble),
}

/// What was heard in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    peak: [f32; CHANNELS],
    energy: [f64; CHANNELS],
    /// The sum of the products of left and right.
    product: f64,
    samples: u64,
    clipped: bool,
}

/// A reading in decibels, for people and for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Levels {
    /// The highest sample of left and right, 0 dBFS being full scale.
    pub peak_dbfs: [f64; CHANNELS],
    /// Root mean square, as the report of `listen` has it.
    pub rms_dbfs: [f64; CHANNELS],
    /// 1 for mono, 0 for nothing in common, -1 for opposite phase; `null` where a side is silent.
    pub correlation: Option<f64>,
    /// Whether it was too loud.
    pub clipped: bool,
}

/// A meter.
#[derive(Debug, Default)]
pub struct Meter {
    now: Reading,
    frames: u32,
    /// Samples at full scale in a row.
    full: [u32; CHANNELS],
    silence: Lasting,
    dead: [Lasting; CHANNELS],
    phase: Lasting,
    clipping: bool,
    unclipped: u32,
}

/// Something that is told once it lasts.
#[derive(Debug, Default)]
struct Lasting {
    readings: u32,
    told: bool,
}

impl Meter {
    /// Hears one frame.
    pub fn handle_frame(&mut self, frame: &Frame) -> Vec<News> {
        for pair in frame.chunks_exact(CHANNELS) {
            for (side, sample) in pair.iter().enumerate() {
                let level = sample.abs();
                self.now.peak[side] = self.now.peak[side].max(level);
                self.now.energy[side] += f64::from(*sample).powi(2);
                self.full[side] = if level >= FULL_SCALE { self.full[side].saturating_add(1) } else { 0 };
                self.now.clipped |= self.full[side] >= CLIPPED_RUN;
            }
            self.now.product += f64::from(pair[0]) * f64::from(pair[1]);
            self.now.samples += 1;
        }
        self.frames += 1;
        if self.frames < READING_FRAMES {
            return vec![];
        }
        self.frames = 0;
        let reading = std::mem::take(&mut self.now);
        let mut news = self.judge(&reading);
        news.insert(0, News::Reading(reading));
        news
    }

    fn judge(&mut self, reading: &Reading) -> Vec<News> {
        let mut news = vec![];
        let [left, right] = reading.peak;
        let silent = reading.peak.map(|peak| peak < SILENT);
        self.silence.handle(Some(silent == [true, true]), Trouble::Silence, &mut news);
        for (side, (own, other)) in [(left, right), (right, left)].into_iter().enumerate() {
            // While neither sounds nothing is known.
            let dead = if own < SILENT { (other > SOUNDS).then_some(true) } else { Some(false) };
            self.dead[side].handle(dead, Trouble::DeadChannel(side), &mut news);
        }
        let opposite = reading.correlation().map(|correlation| correlation < OPPOSITE);
        self.phase.handle(opposite, Trouble::Phase, &mut news);
        self.unclipped = if reading.clipped { 0 } else { self.unclipped.saturating_add(1) };
        if reading.clipped && !std::mem::replace(&mut self.clipping, true) {
            news.push(News::Began(Trouble::Clipping));
        } else if self.clipping && self.unclipped >= LASTING {
            self.clipping = false;
            news.push(News::Ended(Trouble::Clipping));
        }
        news
    }
}

impl Lasting {
    /// One more reading in which it is so, or not, or cannot be known.
    fn handle(&mut self, so: Option<bool>, trouble: Trouble, news: &mut Vec<News>) {
        match so {
            Some(true) => self.readings = self.readings.saturating_add(1),
            Some(false) => self.readings = 0,
            None => return,
        }
        if self.readings >= LASTING && !std::mem::replace(&mut self.told, true) {
            news.push(News::Began(trouble));
        } else if self.readings == 0 && std::mem::take(&mut self.told) {
            news.push(News::Ended(trouble));
        }
    }
}

impl Reading {
    /// Both times together.
    #[must_use]
    pub fn and(&self, other: &Reading) -> Reading {
        let both = [0, 1];
        Reading {
            peak: both.map(|side| self.peak[side].max(other.peak[side])),
            energy: both.map(|side| self.energy[side] + other.energy[side]),
            product: self.product + other.product,
            samples: self.samples + other.samples,
            clipped: self.clipped || other.clipped,
        }
    }

    /// How long it is, in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples as f64 / f64::from(SAMPLE_RATE)
    }

    /// In decibels.
    pub fn levels(&self) -> Levels {
        let samples = self.samples.max(1) as f64;
        Levels {
            peak_dbfs: self.peak.map(|peak| decibels(f64::from(peak).powi(2))),
            rms_dbfs: self.energy.map(|energy| decibels(energy / samples)),
            correlation: self.correlation().map(|correlation| (correlation * 100.0).round() / 100.0),
            clipped: self.clipped,
        }
    }

    fn correlation(&self) -> Option<f64> {
        let audible = self.peak.iter().all(|peak| *peak >= SILENT);
        audible.then(|| self.product / (self.energy[0] * self.energy[1]).sqrt())
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (side, name) in ["L", "R"].into_iter().enumerate() {
            write!(f, "{name} {:6.1} peak {:6.1}  ", self.rms_dbfs[side], self.peak_dbfs[side])?;
        }
        f.write_str("dBFS")?;
        f.write_str(if self.clipped { "  CLIPS" } else { "" })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Silence => f.write_str("silence for 5 s"),
            Trouble::DeadChannel(side) => {
                write!(f, "nothing on the {} for 5 s, while the other side sounds", ["left", "right"][*side])
            }
            Trouble::Clipping => f.write_str("clipping: turn the source down, or use --gain"),
            Trouble::Phase => f.write_str(
                "left and right are of opposite phase for 5 s: on one loudspeaker they cancel out",
            ),
        }
    }
}

fn decibels(mean_square: f64) -> f64 {
    let decibels = if mean_square > 0.0 { 10.0 * mean_square.log10() } else { FLOOR_DBFS };
    (decibels.max(FLOOR_DBFS) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, Tone};

    /// Lets a tone be heard for some readings, each sample through `of`; what is told beside the readings.
    fn told(meter: &mut Meter, readings: u32, of: impl Fn(f32) -> [f32; 2]) -> Vec<News> {
        let mut tone = Tone::new(440.0).unwrap();
        let mut frame = [0.0; 1920];
        let mut told = vec![];
        for _ in 0..readings * READING_FRAMES {
            tone.fill(&mut frame).unwrap();
            frame.chunks_exact_mut(2).for_each(|pair| pair.copy_from_slice(&of(pair[0])));
            told.extend(meter.handle_frame(&frame));
        }
        told.retain(|news| !matches!(news, News::Reading(_)));
        told
    }

    #[test]
    fn a_sine_of_half_scale_has_the_peak_and_the_level_of_one() {
        let mut meter = Meter::default();
        let mut tone = Tone::new(1000.0).unwrap();
        let mut frame = [0.0; 1920];
        let mut readings = vec![];
        for _ in 0..2 * READING_FRAMES {
            tone.fill(&mut frame).unwrap();
            frame.chunks_exact_mut(2).for_each(|pair| pair[1] /= 2.0);
            readings.extend(meter.handle_frame(&frame));
        }
        let [News::Reading(first), News::Reading(second)] = &readings[..] else { panic!("{readings:?}") };
        let levels = first.and(second).levels();
        assert_eq!(levels.peak_dbfs, [-6.0, -12.0]);
        assert_eq!(levels.rms_dbfs, [-9.0, -15.1]);
        assert_eq!(levels.correlation, Some(1.0));
        assert!((first.and(second).seconds() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn silence_is_told_after_five_seconds_and_when_it_is_over() {
        let mut meter = Meter::default();
        assert_eq!(told(&mut meter, 9, |_| [0.0; 2]), []);
        assert_eq!(told(&mut meter, 20, |_| [0.0; 2]), [News::Began(Trouble::Silence)]);
        assert_eq!(told(&mut meter, 1, |sample| [sample; 2]), [News::Ended(Trouble::Silence)]);
    }

    #[test]
    fn a_dead_channel_is_told_and_a_pause_of_both_is_none() {
        let mut meter = Meter::default();
        assert_eq!(told(&mut meter, 5, |sample| [sample, 0.0]), []);
        assert_eq!(told(&mut meter, 4, |_| [0.0; 2]), []);
        assert_eq!(told(&mut meter, 5, |sample| [sample, 0.0]), [News::Began(Trouble::DeadChannel(1))]);
        assert_eq!(told(&mut meter, 1, |sample| [sample; 2]), [News::Ended(Trouble::DeadChannel(1))]);
    }

    #[test]
    fn opposite_sides_are_told_and_mono_and_one_side_are_none() {
        let mut meter = Meter::default();
        let news = told(&mut meter, 30, |sample| [sample, -sample]);
        assert_eq!(news, [News::Began(Trouble::Phase)]);
        assert_eq!(told(&mut meter, 1, |sample| [sample; 2]), [News::Ended(Trouble::Phase)]);
        assert_eq!(told(&mut meter, 30, |sample| [sample; 2]), []);
    }

    #[test]
    fn clipping_is_told_at_once_and_a_peak_at_full_scale_is_none() {
        let mut meter = Meter::default();
        assert_eq!(told(&mut meter, 4, |sample| [sample; 2]), []);
        let clipped = told(&mut meter, 3, |sample| [(4.0 * sample).clamp(-1.0, 1.0), 0.1]);
        assert_eq!(clipped, [News::Began(Trouble::Clipping)]);
        assert_eq!(told(&mut meter, 9, |sample| [sample; 2]), []);
        assert_eq!(told(&mut meter, 9, |sample| [sample; 2]), [News::Ended(Trouble::Clipping)]);
        let mut frame = [0.0; 1920];
        frame[2] = 1.0;
        frame[3] = 1.0;
        let mut meter = Meter::default();
        let news: Vec<_> = (0..READING_FRAMES).flat_map(|_| meter.handle_frame(&frame)).collect();
        assert!(matches!(news[..], [News::Reading(Reading { clipped: false, .. })]), "{news:?}");
    }
}
