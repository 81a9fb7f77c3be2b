//! What a listener sees of a picture and hears of a sound, what there would be, and why it is not the best: for whoever
//! listens, and only if it asks. When it is told is decided here, what it is in `viewing` and `hearing`.

use std::time::{Duration, Instant};

use crate::{
    rtp::descriptor::{Extent, Resolution},
    stats::MENDED,
    track::meter::LayerRate,
};

/// What a listener sees of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// What is sent, if something is.
    pub sent: Option<Shown>,
    /// The best there is, be it that nobody gets it at the moment.
    pub best: Option<Shown>,
    /// What there is, by falling quality.
    pub active: Vec<Shown>,
    /// What there was, and the publisher does not send now; by falling quality.
    pub inactive: Vec<Shown>,
    /// Why what is sent is not the best.
    pub reason: Reason,
}

/// What a listener hears of a sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoundSight {
    /// The rung that leaves, by rising quality; behind all rungs is what its publisher sends.
    pub rung: u8,
    /// Why that is not what its publisher sends.
    pub reason: Reason,
    /// How what it loses is mended now.
    pub mended: Mended,
}

/// How what a listener loses of a sound is mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mended {
    /// It loses nothing, or nothing can be done.
    #[default]
    Not,
    /// It asks, and is answered in time.
    Answers,
    /// Later packets carry copies (RED).
    Copies,
    /// Packets leave again before it asks.
    Repeats,
}

impl Mended {
    /// All of them.
    pub const ALL: [Mended; MENDED] = [Mended::Not, Mended::Answers, Mended::Copies, Mended::Repeats];

    /// Its word in metrics and in the API.
    pub fn label(self) -> &'static str {
        match self {
            Mended::Not => "none",
            Mended::Answers => "answers",
            Mended::Copies => "copies",
            Mended::Repeats => "repeats",
        }
    }
}

/// An encoding as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its place in the publisher's answer; `None` for a picture that comes as a whole.
    pub place: Option<u8>,
    /// As its last keyframe said. Of what is sent, that of the highest spatial layer that is.
    pub resolution: Option<Resolution>,
    /// Bits per second.
    pub rate: u64,
    /// What each of its layers takes with those below, by rising layer; empty if that is not known.
    pub layers: Vec<LayerRate>,
}

impl Shown {
    /// Only so much of it.
    pub(super) fn cut(&mut self, extent: Extent) {
        self.layers.retain(|layer| extent.has(layer.extent.spatial, layer.extent.temporal));
        if let Some(layer) = self.layers.last() {
            self.rate = layer.rate;
            self.resolution = layer.resolution.or(self.resolution);
        }
    }
}

/// Why a listener does not see the best there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It does.
    Best,
    /// Its path has no room for better, or for any picture.
    Link,
    /// It asked for no better, or for no picture.
    Wish,
    /// The publisher does not send better now, or no picture.
    Publisher,
    /// Better is wanted from elsewhere, and does not come.
    Bridge,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 5] =
        [Reason::Best, Reason::Link, Reason::Wish, Reason::Publisher, Reason::Bridge];

    /// Its word in metrics and in the API.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Best => "best",
            Reason::Link => "link",
            Reason::Wish => "wish",
            Reason::Publisher => "publisher",
            Reason::Bridge => "bridge",
        }
    }
}

const _: () = assert!(Reason::ALL.len() == crate::stats::REASONS, "counted by reason");
/// Between two times that one listener's sight is told.
const EVERY: Duration = Duration::from_secs(1);
/// For so long after a wish it is told what comes of it.
const AFTER_WISH: Duration = Duration::from_secs(5);

/// When a sight is told.
#[derive(Debug)]
pub struct Telling<S = Sight> {
    /// Somebody watches.
    watched: bool,
    /// Until then it is told all the same.
    until: Option<Instant>,
    told: Option<(S, Instant)>,
}

impl<S> Default for Telling<S> {
    fn default() -> Telling<S> {
        Telling { watched: false, until: None, told: None }
    }
}

/// Two of which one may be no news beside the other.
pub trait Alike {
    /// Whether it is none.
    fn is_alike(&self, other: &Self) -> bool;
}

impl<S: Alike + Clone> Telling<S> {
    /// Somebody watches from now on, or nobody does. What is told next is told whatever was told before.
    pub fn watch(&mut self, watched: bool) {
        self.watched = watched;
        self.told = None;
    }

    /// Something was wished.
    pub fn handle_wish(&mut self, now: Instant) {
        self.until = Some(now + AFTER_WISH);
    }

    /// Whether a sight is to be told now if it is news.
    pub fn is_due(&self, now: Instant) -> bool {
        let wanted = self.watched || self.until.is_some_and(|until| now < until);
        wanted && self.told.as_ref().is_none_or(|(_, at)| now >= *at + EVERY)
    }

    /// Gives it back if it is news.
    pub fn handle_sight(&mut self, sight: S, now: Instant) -> Option<S> {
        if self.told.as_ref().is_some_and(|(told, _)| told.is_alike(&sight)) {
            return None;
        }
        self.told = Some((sight.clone(), now));
        Some(sight)
    }
}

impl Alike for SoundSight {
    fn is_alike(&self, other: &SoundSight) -> bool {
        self == other
    }
}

impl Alike for Sight {
    /// Rates go up and down all the time: what is another by less than a quarter is no news.
    fn is_alike(&self, other: &Sight) -> bool {
        let one = |a: &Shown, b: &Shown| {
            a.place == b.place
                && a.resolution == b.resolution
                && a.layers.len() == b.layers.len()
                && a.rate.abs_diff(b.rate) <= a.rate / 4
        };
        let maybe = |a: &Option<Shown>, b: &Option<Shown>| match (a, b) {
            (Some(a), Some(b)) => one(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let all = |a: &[Shown], b: &[Shown]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| one(a, b));
        self.reason == other.reason
            && maybe(&self.sent, &other.sent)
            && maybe(&self.best, &other.best)
            && all(&self.active, &other.active)
            && all(&self.inactive, &other.inactive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(rate: u64, reason: Reason) -> Sight {
        let shown = Shown { place: Some(0), resolution: None, rate, layers: Vec::new() };
        let sent = Some(shown.clone());
        Sight { sent: sent.clone(), best: sent, active: vec![shown], inactive: Vec::new(), reason }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn the_last_one_is_told_but_not_more_than_one_in_a_second() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        assert!(!telling.is_due(start), "nobody asked");
        telling.watch(true);
        let mut told = Vec::new();
        for tenth in 0..30_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            let reason = if tenth < 12 { Reason::ALL[tenth as usize % 5] } else { Reason::Bridge };
            if telling.is_due(now) {
                told.extend(
                    telling.handle_sight(sight(1000, reason), now).map(|sight| (tenth, sight.reason)),
                );
            }
        }
        assert_eq!(told, [(0, Reason::Best), (11, Reason::Link), (21, Reason::Bridge)]);
        let later = start + Duration::from_secs(9);
        assert_eq!(telling.handle_sight(sight(1200, Reason::Bridge), later), None, "a little more");
        assert!(telling.handle_sight(sight(1400, Reason::Bridge), later).is_some());
        telling.watch(true);
        assert!(telling.is_due(later) && telling.handle_sight(sight(1400, Reason::Bridge), later).is_some());
        telling.watch(false);
        assert!(!telling.is_due(later));
        telling.handle_wish(later);
        assert!(telling.is_due(later) && !telling.is_due(later + AFTER_WISH));
    }
}
