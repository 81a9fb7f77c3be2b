//! What is sent to a listener: sound, and a picture in one of several encodings, or as much as may be sent.

use super::wire::Dice;

/// Bits per second.
pub const SOUND: f64 = 96_000.0;
pub const PICTURES: [f64; 3] = [120_000.0, 600_000.0, 2_000_000.0];

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plan {
    /// Sends what the estimate allows.
    Greedy,
    /// Sound, and the best encoding that the estimate allows.
    Picture,
    /// Sound and the encoding with this number, whatever the estimate says; wants the next one or not.
    Fixed { encoding: usize, wants: bool },
}

#[derive(Debug)]
pub struct Source {
    pub plan: Plan,
    /// Seconds between which only sound is sent.
    pub paused: Option<(f64, f64)>,
    /// How many encodings are sent: 0 is sound alone.
    pub level: usize,
    /// When the level changed, to what.
    pub changes: Vec<(f64, usize)>,
    sound_at: u64,
    frame_at: u64,
    greedy_at: u64,
    chosen_at: u64,
    key: bool,
    frames: u64,
    dice: Dice,
}

/// Spare above what an encoding needs before it is chosen.
const SPARE: f64 = 1.05;

pub fn need(level: usize) -> f64 {
    SOUND + level.checked_sub(1).map_or(0.0, |encoding| PICTURES[encoding])
}

impl Source {
    pub fn new(plan: Plan, seed: u64) -> Source {
        let level = if let Plan::Fixed { encoding, .. } = plan { encoding + 1 } else { 0 };
        Source {
            plan,
            paused: None,
            level,
            changes: Vec::new(),
            sound_at: 0,
            frame_at: 0,
            greedy_at: 0,
            chosen_at: 0,
            key: true,
            frames: 0,
            dice: Dice::new(seed ^ 77),
        }
    }

    /// Chooses what to send. Gives what the next step needs.
    pub fn choose(&mut self, bitrate: f64, now: u64) -> Option<u64> {
        let paused = self.is_paused(now);
        match self.plan {
            Plan::Greedy => return Some(20_000_000),
            Plan::Fixed { encoding, wants } => {
                let next = encoding + 2;
                return (wants && next <= PICTURES.len()).then(|| (need(next) * SPARE * 1.02) as u64);
            }
            Plan::Picture => {}
        }
        let before = self.level;
        if paused {
            self.level = 0;
        } else if bitrate < need(self.level) && self.level > 0 {
            self.level = (0..self.level).rev().find(|level| need(*level) <= bitrate).unwrap_or_default();
        } else if now >= self.chosen_at + 1_000_000 {
            let fits = |level: &usize| need(*level) * SPARE <= bitrate;
            self.level = (self.level..=PICTURES.len()).rev().find(fits).unwrap_or(self.level);
        }
        if self.level != before {
            self.chosen_at = now;
            self.key = true;
            self.changes.push((now as f64 / 1e6, self.level));
        }
        (!paused && self.level < PICTURES.len()).then(|| (need(self.level + 1) * SPARE * 1.02) as u64)
    }

    /// Sizes of what leaves until `now`, with the time.
    pub fn send(&mut self, bitrate: f64, now: u64, out: &mut Vec<(u64, usize)>) {
        if self.plan == Plan::Greedy {
            while self.greedy_at <= now {
                let octets = (bitrate * 0.015 / 8.0).clamp(200.0, 1200.0) * (0.7 + 0.3 * self.dice.roll());
                out.push((self.greedy_at, octets as usize));
                self.greedy_at =
                    (self.greedy_at + (octets * 8e6 / bitrate) as u64).max(now.saturating_sub(5_000));
            }
            return;
        }
        while self.sound_at <= now {
            out.push((self.sound_at, (SOUND / 8.0 / 50.0) as usize));
            self.sound_at += 20_000;
        }
        while self.frame_at <= now {
            if let Some(encoding) = self.level.checked_sub(1).filter(|_| !self.is_paused(now)) {
                // a keyframe every ten seconds, and after each change
                let key = std::mem::take(&mut self.key) || self.frames.is_multiple_of(300);
                let size = PICTURES[encoding] / 8.0 / 30.0 * (0.7 + 0.6 * self.dice.roll());
                let mut left = (size * if key { 4.0 } else { 0.97 }) as usize;
                while left > 0 {
                    let octets = left.min(1200);
                    out.push((self.frame_at, octets.max(60)));
                    left -= octets;
                }
                self.frames += 1;
            }
            self.frame_at += 33_333;
        }
    }

    /// When the level last changed before that second, and to what.
    pub fn level_at(&self, at: f64) -> (f64, usize) {
        self.changes.iter().rev().find(|(when, _)| *when <= at).copied().unwrap_or_default()
    }

    /// Seconds at that level between two.
    pub fn time_at(&self, level: usize, from: f64, to: f64) -> f64 {
        let ends = self.changes.iter().skip(1).map(|(at, _)| *at).chain([f64::MAX]);
        let at_level = self.changes.iter().zip(ends).filter(|((_, to), _)| *to == level);
        at_level.map(|((begin, _), end)| (end.min(to) - begin.max(from)).max(0.0)).sum()
    }

    pub fn changes_in(&self, from: f64, to: f64) -> usize {
        self.changes.iter().filter(|(when, _)| *when > from && *when <= to).count()
    }

    fn is_paused(&self, now: u64) -> bool {
        self.paused.is_some_and(|(from, to)| (from..to).contains(&(now as f64 / 1e6)))
    }
}
