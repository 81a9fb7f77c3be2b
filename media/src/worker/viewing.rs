//! How one listener sees a picture: what its path carries, and which layer that is spent on. Chooses; who carries it
//! out is `views`.

use std::time::{Duration, Instant};

use super::pictures::Picture;
use crate::{
    allocation::{
        self, Rung,
        steps::{SPARE, Steps},
    },
    bandwidth::{Estimator, PathState},
    rtp::descriptor::TemporalLayer,
    track::id::TrackId,
};

/// What one listener sees of a picture.
#[derive(Debug)]
pub struct Viewing {
    /// What its path is thought to carry.
    pub estimator: Estimator,
    steps: Steps,
    /// What is sent or waited for.
    track: Option<TrackId>,
    /// What should be: it may be another encoding, which does not come yet.
    wanted: Option<TrackId>,
    /// Since when not even the base fits.
    short_since: Option<Instant>,
    /// Since when a worse encoding is waited for.
    waiting_since: Option<Instant>,
}

/// What a listener is to get of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is not known yet: as before.
    AsBefore,
    /// No picture.
    Nothing,
    /// This.
    Layer {
        /// An encoding, or the whole.
        track: TrackId,
        /// Its temporal layers up to this one.
        temporal: TemporalLayer,
        /// Better or worse than before, if it is another encoding.
        turn: Option<Turn>,
    },
}

/// A change of encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// To a better one, or to the first.
    Up,
    /// To a worse one.
    Down,
}

/// A path that has shown its limit may be too narrow for the base for so long, before the picture goes: what was there
/// of a better one is through by then.
const BASE_HOLD: Duration = Duration::from_millis(500);
/// And where that is all there is: an estimate that was lowered by chance is back by then.
const LONE_HOLD: Duration = Duration::from_millis(1500);
/// Where the next worse encoding does not begin within this time, the picture stops until it does.
const TURN_MAX: Duration = Duration::from_secs(1);
/// A queue this long and the sound is in danger: the picture stops at once.
const LONG_QUEUE: Duration = Duration::from_millis(100);
/// What is tried above what a step needs, in percent: probes measure a little less than there is, and what a step needs
/// goes up and down with the scene.
const PROBED: u64 = 10;

impl Viewing {
    /// Nothing is known of the path.
    pub fn new(now: Instant) -> Viewing {
        Viewing {
            estimator: Estimator::new(true, now),
            steps: Steps::default(),
            track: None,
            wanted: None,
            short_since: None,
            waiting_since: None,
        }
    }

    /// The estimate or the picture may be others.
    pub fn choose(&mut self, picture: &Picture, now: Instant) -> Choice {
        let rungs = picture.rungs();
        if rungs.is_empty() {
            return Choice::AsBefore;
        }
        let bitrate = self.estimator.bitrate(now);
        let need = |rung: &Rung| rung.rate + picture.sound();
        let mut fits = rungs.partition_point(|rung| need(rung) <= bitrate);
        let mut roomy = rungs.partition_point(|rung| need(rung) * (100 + SPARE) / 100 <= bitrate);
        if !self.estimator.is_limited() {
            // Nobody knows yet what the path carries. A picture shows it.
            (fits, roomy) = (fits.max(1), roomy.max(1));
        }
        if fits > 0 {
            self.short_since = None;
        } else {
            let since = *self.short_since.get_or_insert(now);
            let hold = if picture.has_encodings() { BASE_HOLD } else { LONE_HOLD };
            fits += usize::from(now.saturating_duration_since(since) < hold);
        }
        self.steps.renumber(self.wanted.and_then(|track| picture.encoding(track)));
        let before = self.track.and_then(|track| picture.encoding(track));
        let seen = allocation::Picture { rungs, wish: None, wanted_by: 1 };
        let layer = self.steps.handle(&seen, fits, roomy, now);
        let at = layer.and_then(|layer| rungs.iter().position(|rung| rung.layer == layer));
        let next = rungs.get(at.map_or(0, |at| at + 1));
        self.estimator.set_wanted(next.map(|rung| need(rung) * (100 + SPARE + PROBED) / 100));
        self.wanted = layer.and_then(|layer| picture.track(layer));
        let Some(layer) = layer else {
            self.track = None;
            return Choice::Nothing;
        };
        let Some(track) = picture.taken_from(layer) else { return Choice::AsBefore };
        let turn = (self.track != Some(track)).then(|| turn(before, picture.encoding(track)));
        self.track = Some(track);
        match turn {
            Some(Turn::Down) => self.waiting_since = Some(now),
            Some(Turn::Up) => self.waiting_since = None,
            None => {}
        }
        Choice::Layer { track, temporal: layer.temporal, turn }
    }

    /// The encoding that it is to get, whether it comes or not.
    pub fn wanted(&self) -> Option<TrackId> {
        self.wanted
    }

    /// What is waited for has begun.
    pub fn handle_started(&mut self) {
        self.waiting_since = None;
    }

    /// The present encoding may not go on until the worse one begins.
    pub fn is_too_much(&self, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| {
            let queued = self.estimator.state() != PathState::Clear && self.estimator.queue() > LONG_QUEUE;
            queued || now.saturating_duration_since(since) > TURN_MAX
        })
    }
}

fn turn(before: Option<u8>, after: Option<u8>) -> Turn {
    if before > after { Turn::Down } else { Turn::Up }
}
