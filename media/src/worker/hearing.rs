//! How one listener hears: whether what it loses is sent again before it asks. Chooses; who carries it out is `sounds`.

use std::time::{Duration, Instant};

use crate::{
    bandwidth::{Estimator, PathState},
    mending::{Repeats, Times},
};

/// How one listener hears.
#[derive(Debug)]
pub struct Hearing {
    repeats: Repeats,
    /// When a queue last stood.
    queued_at: Option<Instant>,
    /// When it last asked for sound again.
    asked_at: Option<Instant>,
}

/// Who has asked in this time asks for what it loses.
const ASKS: Duration = Duration::from_secs(5);
/// An answer that takes longer comes too late for what a receiver has in store.
const ANSWERED: Duration = Duration::from_millis(120);
/// A queue that stands for so long is one.
const QUEUED: Duration = Duration::from_millis(25);
/// Losses that a queue has made are told by then.
const CLEARS: Duration = Duration::from_secs(2);
/// What 50 packets a second take beside their payload: 64 octets each.
const HEADERS: u64 = 25_600;

impl Hearing {
    /// Nothing is known of the path.
    pub fn new(now: Instant) -> Hearing {
        Hearing { repeats: Repeats::new(now), queued_at: None, asked_at: None }
    }

    /// It asks for sound again.
    pub fn handle_nack(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// It has told what came.
    pub fn handle_told(&mut self, path: &Estimator, now: Instant) {
        // Behind a queue it is what was too much that is lost, and more would be too much too.
        if path.state() != PathState::Clear || path.queue() >= QUEUED {
            self.queued_at = Some(now);
        }
        match self.queued_at.is_some_and(|at| now < at + CLEARS) {
            true => self.repeats.handle_told_in_queue(path.told()),
            false => self.repeats.handle_told(path.told(), now),
        }
    }

    /// It reports this share of the sound as lost.
    pub fn handle_report(&mut self, lost: f64, now: Instant) {
        self.repeats.handle_report(lost, now);
    }

    /// How often the sound leaves again, of which the payload takes so many bits per second.
    pub fn repeats(&self, path: &mut Estimator, sound: u64, now: Instant) -> Times {
        let asks = self.asked_at.is_some_and(|at| now.saturating_duration_since(at) < ASKS);
        if asks && path.response() < ANSWERED {
            return Times::Never;
        }
        // Without a queue that ever stood, losses say nothing of what there is room for.
        let room = match path.capacity() {
            Some(capacity) => capacity.max(path.bitrate(now)).saturating_sub(path.sent(now)),
            None => u64::MAX,
        };
        let fits = |times: &Times| times.count() as u64 * (sound + HEADERS) <= room;
        let wanted = self.repeats.times();
        [Times::Twice, Times::Once]
            .into_iter()
            .find(|times| *times <= wanted && fits(times))
            .unwrap_or_default()
    }
}
