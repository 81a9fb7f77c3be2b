//! How one listener hears: which rung of the sound its path carries, and whether what it loses is sent again before it asks.
//! Chooses; who carries it out is `hears`.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{
    sight::{Mended, Reason, SoundSight, Telling},
    sounds::Sound,
    trial::{Outcome, Trial},
};
use crate::{
    allocation::{
        Picture, Rung,
        steps::{Steps, spared, tried},
    },
    bandwidth::{Estimator, PathState},
    mending::{How, Mending, Times},
    stats::HEARD,
    track::id::{MAX_RUNGS, TrackId},
};

/// How one listener hears.
#[derive(Debug)]
pub struct Hearing {
    merged: bool,
    mending: Mending,
    steps: Steps,
    trial: Trial,
    /// No better rung than this is wished.
    wish: SoundWish,
    /// What was chosen last.
    chosen: Option<TrackId>,
    /// It is less than there is, because of the path.
    lowered: bool,
    /// When a queue last stood.
    queued_at: Option<Instant>,
    /// When it last asked for sound again.
    asked_at: Option<Instant>,
    /// How what it loses is mended now.
    mended: Mended,
    /// When what it hears is told.
    pub telling: Telling<SoundSight>,
}

/// What a listener wishes of the sound. It is a bound: what its path carries may be less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SoundWish {
    /// 24 kbit/s, mono.
    Low,
    /// 64 kbit/s.
    Middle,
    /// What the publisher sends.
    #[default]
    High,
}

/// What a listener is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// This rung: what was chosen, or what comes in its place.
    pub track: TrackId,
    /// So often again.
    pub times: Times,
    /// With so many copies of those before.
    pub copies: Times,
    /// So many packets once more right before the next one.
    pub again: Option<usize>,
}

/// Who has asked in this time asks for what it loses.
const ASKS: Duration = Duration::from_secs(5);
/// An answer that takes longer comes too late for what a receiver has in store.
const ANSWERED: Duration = Duration::from_millis(120);
/// A queue that stands for so long is one.
const QUEUED: Duration = Duration::from_millis(25);
/// Losses that a queue has made are told by then.
const CLEARS: Duration = Duration::from_secs(2);

impl Hearing {
    /// Nothing is known of the path. `red` says whether it takes copies apart, `merged` that it gets fewer and longer packets,
    /// whatever its path carries.
    pub fn new(red: bool, merged: bool, now: Instant) -> Hearing {
        Hearing {
            merged,
            mending: Mending::new(if red { How::Copies } else { How::Repeats }, now),
            steps: Steps::default(),
            trial: Trial::new(now),
            wish: SoundWish::default(),
            chosen: None,
            lowered: false,
            queued_at: None,
            asked_at: None,
            mended: Mended::Not,
            telling: Telling::default(),
        }
    }

    /// It asks for sound again.
    pub fn handle_nack(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// It wishes another sound than before.
    pub fn handle_wish(&mut self, wish: SoundWish) {
        if self.wish != wish {
            self.wish = wish;
            self.steps.handle_wish();
        }
    }

    /// It has told what came.
    pub fn handle_told(&mut self, path: &mut Estimator, now: Instant) {
        if path.state() != PathState::Clear || path.queue() >= QUEUED {
            self.queued_at = Some(now);
            self.trial.handle_congestion(now);
        }
        // Behind a queue it is what was too much that is lost, and more would be too much too.
        let told = path.told();
        match self.queued_at.is_some_and(|at| now < at + CLEARS) {
            true => self.mending.handle_told_in_queue(told),
            false => self.mending.handle_told(told, now),
        }
        let later = self.trial.waits().and_then(|number| path.lateness(number));
        if let Some(later) = later
            && let Some(Outcome::Carries(bits)) = self.trial.handle_arrival(later, now)
        {
            path.handle_carried(bits, now);
        }
    }

    /// It reports this share of the sound as lost.
    pub fn handle_report(&mut self, lost: f64, now: Instant) {
        self.mending.handle_report(lost, now);
    }

    /// Packets have left once more, and then the one with this number.
    pub fn handle_again(&mut self, number: u64, bits: u64) {
        self.trial.handle_sent(number, bits);
    }

    /// The rung that it is to get, whether it comes or not.
    pub fn chosen(&self) -> Option<TrackId> {
        self.chosen
    }

    /// How what it loses is mended now.
    pub fn mended(&self) -> Mended {
        self.mended
    }

    /// What it hears while it is given this track.
    pub fn sight(&self, sound: &Sound, given: TrackId) -> SoundSight {
        let rung = |track: TrackId| sound.rung(track).unwrap_or(MAX_RUNGS);
        let reason = match rung(given) {
            MAX_RUNGS => Reason::Best,
            rung_given if self.chosen.is_some_and(|chosen| rung_given < rung(chosen)) => Reason::Bridge,
            _ if self.lowered || self.wish == SoundWish::High => Reason::Link,
            _ => Reason::Wish,
        };
        SoundSight { rung: rung(given) as u8, reason, mended: self.mended }
    }

    /// Whether the path does not carry the best of the sound: there is no room for a picture then.
    pub fn is_lowered(&self) -> bool {
        self.lowered
    }

    /// The path, the sound or the wish may be others. `None` as long as nothing is known of the sound.
    pub fn choose(&mut self, sound: &Sound, path: &mut Estimator, now: Instant) -> Option<Heard> {
        let rungs = sound.rungs(self.merged);
        let top = rungs.last()?;
        path.set_rungs(rungs.len() > 1);
        let (how, wanted) = (self.mending.how(), self.mending.times());
        let room = if path.is_limited() { path.bitrate(now) } else { u64::MAX };
        let takes = |rung: &Rung| rung.rate + mended(how, sound, rung, wanted);
        // A rung that comes late is for who has no room for more.
        let only_top = sound.is_late(now) && takes(top) <= room;
        let rungs = if only_top { std::slice::from_ref(top) } else { rungs };
        // Where there is room for a better encoding, fewer frames in a packet are no step on the way to it.
        let climbs = rungs.iter().any(|rung| rung.layer.encoding > 0 && spared(takes(rung)) <= room);
        let skips = |rung: &Rung| climbs && self.wish != SoundWish::Low && follows_itself(rungs, rung);
        let current = self.steps.current();
        let rungs: SmallVec<[Rung; HEARD + 1]> =
            rungs.iter().filter(|rung| current == Some(rung.layer) || !skips(rung)).copied().collect();
        let rungs = rungs.as_slice();
        let top = rungs.last()?;
        let allowed = match self.wish {
            SoundWish::High => rungs.len(),
            wish => rungs.iter().filter(|rung| rung.layer.encoding <= wish as u8).count().max(1),
        };
        let mut fits = rungs.iter().take_while(|rung| takes(rung) <= room).count().max(1);
        let roomy = rungs.iter().take_while(|rung| spared(takes(rung)) <= room).count();
        let current =
            self.steps.current().and_then(|layer| rungs.iter().position(|rung| rung.layer == layer));
        if let Some(current) =
            current.filter(|at| wanted == Times::Never && path.carries(rungs[*at].rate, now))
        {
            fits = fits.max(current + 1);
        }
        // Of sound alone there is always some.
        let roomy = roomy.max(1);
        let wish = (allowed < rungs.len()).then(|| rungs[allowed - 1].layer);
        let seen = Picture { rungs, wish, wanted_by: 1 };
        let layer = self.steps.handle(&seen, fits.min(allowed), roomy.min(allowed), now).unwrap_or(top.layer);
        let at = rungs.iter().position(|rung| rung.layer == layer).unwrap_or(rungs.len() - 1);
        self.lowered = at + 1 < allowed;
        let chosen = sound.track(layer, self.merged);
        self.chosen = Some(chosen);
        let better = rungs[..allowed].iter().find(|rung| rung.layer.encoding > layer.encoding);
        let next = better.filter(|_| self.trial.is_bold()).or(rungs[..allowed].get(at + 1));
        let need = next.map(|next| tried(takes(next)));
        let track = sound.given(layer, self.merged);
        let each = rungs[at].rate / sound.packets_per_second(chosen);
        let tries = path.is_told() && path.state() == PathState::Clear && path.queue() < QUEUED;
        let need = need.filter(|need| tries && *need > room);
        let again = need.and_then(|need| self.trial.poll(need, each, now));
        let times = self.times(sound, &rungs[at], room, path, now);
        let (times, copies) = match how {
            How::Copies => (Times::Never, times),
            How::Repeats => (times, Times::Never),
        };
        self.mended = match (times, copies) {
            (Times::Never, Times::Never) if self.asks(path, now) => Mended::Answers,
            (Times::Never, Times::Never) => Mended::Not,
            (Times::Never, _) => Mended::Copies,
            _ => Mended::Repeats,
        };
        Some(Heard { track, times, copies, again })
    }

    /// Whether it asks for what it loses, and is answered in time.
    fn asks(&self, path: &Estimator, now: Instant) -> bool {
        let asks = self.asked_at.is_some_and(|at| now.saturating_duration_since(at) < ASKS);
        asks && path.response() < ANSWERED
    }

    /// How often the sound leaves again at this rung: by itself or as copies.
    fn times(&self, sound: &Sound, rung: &Rung, room: u64, path: &mut Estimator, now: Instant) -> Times {
        let asks = self.asks(path, now);
        let most = match self.mending.times() {
            // Of much the answers are lost too.
            Times::Twice if asks => Times::Once,
            _ if asks => return Times::Never,
            wanted => wanted,
        };
        // Without a queue that ever stood, losses say nothing of what there is room for.
        let left = match path.capacity() {
            Some(capacity) => capacity.max(room).saturating_sub(path.sent(now)),
            None => u64::MAX,
        };
        let fits = |times: &Times| mended(self.mending.how(), sound, rung, *times) <= left;
        [Times::Twice, Times::Once]
            .into_iter()
            .find(|times| *times <= most && fits(times))
            .unwrap_or_default()
    }
}

/// Whether the same encoding can be had for less, in fewer packets.
fn follows_itself(rungs: &[Rung], rung: &Rung) -> bool {
    rungs.iter().any(|other| other.layer.encoding == rung.layer.encoding && other.layer < rung.layer)
}

/// Bits per second of what leaves again, beside those of the rung itself.
fn mended(how: How, sound: &Sound, rung: &Rung, times: Times) -> u64 {
    let count = times.count() as u64;
    let low = sound.low_rate().filter(|low| how == How::Copies && *low < rung.rate);
    let Some(low) = low else { return rung.rate * count };
    // The cheapest rung is behind the publisher: of the packet right before there is none yet.
    let own = count.min(u64::from(usize::from(rung.layer.encoding) >= MAX_RUNGS));
    rung.rate * own + low * (count - own)
}
