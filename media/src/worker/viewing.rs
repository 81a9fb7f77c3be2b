//! How one listener sees a picture: which layer what its path carries is spent on. Chooses; who carries it out is
//! `views`.

use std::time::{Duration, Instant};

use super::{
    pictures::Picture,
    sight::{Reason, Sight, Telling},
    wish::{Bound, Wish},
};
use crate::{
    allocation::{
        self, Rung,
        steps::{Steps, spared, tried},
    },
    bandwidth::Estimator,
    egress::Egress,
    rtp::descriptor::Extent,
    track::id::TrackId,
};

/// What one listener sees of a picture.
#[derive(Debug)]
pub struct Viewing {
    steps: Steps,
    /// What is sent or waited for.
    track: Option<TrackId>,
    /// What should be: it may be another encoding, which does not come yet.
    wanted: Option<TrackId>,
    /// Since when not even the base fits.
    short_since: Option<Instant>,
    /// Since when a worse encoding is waited for, and why.
    waiting_since: Option<(Instant, Reason)>,
    /// When a keyframe was last asked for because of a spatial layer, and how often in a row.
    layer_asked: Option<(Instant, u32)>,
    wish: Wish,
    /// The wish is another, and nothing has come of it yet.
    asked: bool,
    /// What is to be sent, as it was chosen last.
    chosen: Chosen,
    /// Why that is not the best, as it was when what was chosen had begun.
    reason: Reason,
    /// When what it sees is told.
    pub telling: Telling,
    /// When it was last counted.
    sampled_at: Option<Instant>,
}

/// What was chosen.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    /// What it takes.
    rate: u64,
    /// Why it is not the best of what there is.
    less: Option<Reason>,
    /// Another one is taken as long as it does not come.
    missing: bool,
}

/// What a listener is to get of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// It is not known yet: as before.
    AsBefore,
    /// No picture, for this reason.
    Nothing(Reason),
    /// This.
    Layer {
        /// An encoding, or the whole.
        track: TrackId,
        /// Its layers up to these.
        extent: Extent,
        /// Better or worse than before, if it is another encoding, and why.
        turn: Option<(Turn, Reason)>,
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
/// of a better one is through by then. Half as long where there was none lately.
const BASE_HOLD: Duration = Duration::from_millis(500);
/// And where that is all there is: an estimate that was lowered by chance is back by then.
const LONE_HOLD: Duration = Duration::from_millis(1500);
/// Where the next worse encoding does not begin within this time, the picture stops until it does.
const TURN_MAX: Duration = Duration::from_secs(1);
/// A spatial layer that does not begin is asked for again after this time, doubled each time.
const LAYER_AGAIN: Duration = Duration::from_millis(500);
/// As often at most.
const LAYER_DOUBLINGS: u32 = 4;
/// How often what it is thought to carry and gets is counted.
const SAMPLE: Duration = Duration::from_secs(1);

impl Viewing {
    /// Nothing is known of the path.
    pub fn new() -> Viewing {
        Viewing {
            steps: Steps::default(),
            track: None,
            wanted: None,
            short_since: None,
            waiting_since: None,
            layer_asked: None,
            wish: Wish::default(),
            asked: false,
            chosen: Chosen::NOTHING,
            reason: Reason::Publisher,
            telling: Telling::default(),
            sampled_at: None,
        }
    }

    /// It asks for another picture than before.
    pub fn handle_wish(&mut self, wish: Wish, now: Instant) {
        self.telling.handle_wish(now);
        if self.wish == wish {
            return;
        }
        self.wish = wish;
        self.asked = true;
        self.steps.handle_wish();
        if wish == Wish::Sound {
            self.steps.stop();
        }
    }

    /// Whether it wants a picture.
    pub fn wants_picture(&self) -> bool {
        self.wish != Wish::Sound
    }

    /// The estimate, the picture or the wish may be others.
    pub fn choose(&mut self, picture: &Picture, path: &mut Estimator, now: Instant) -> Choice {
        let Wish::UpTo(bound) = self.wish else { return self.hear_only(path) };
        let rungs = picture.rungs();
        if rungs.is_empty() {
            return Choice::AsBefore;
        }
        let (fits, roomy) = self.room(picture, path, now);
        let allowed = bound.allowed(picture);
        let tracks = (self.track, self.wanted);
        let before = self.track.and_then(|track| picture.encoding(track));
        self.steps.renumber(self.wanted.and_then(|track| picture.encoding(track)));
        if path.take_wider() {
            self.steps.forgive(now);
        }
        let wish = (allowed < rungs.len()).then(|| rungs[allowed - 1].layer);
        let seen = allocation::Picture { rungs, wish, wanted_by: 1 };
        let layer = self.steps.handle(&seen, fits.min(allowed), roomy.min(allowed), now);
        let at = layer.and_then(|layer| rungs.iter().position(|rung| rung.layer == layer));
        let need = |rung: &Rung| rung.rate + picture.sound();
        path.set_base(need(&rungs[0]));
        let next = rungs[..allowed].get(at.map_or(0, |at| at + 1));
        let next = next.filter(|rung| spared(need(rung)) <= path.most());
        path.set_wanted(next.map(|rung| tried(need(rung))));
        self.wanted = layer.and_then(|layer| picture.track(layer));
        let Some((layer, at)) = layer.zip(at) else {
            self.track = None;
            self.chosen = Chosen { less: Some(Reason::Link), ..Chosen::NOTHING };
            return Choice::Nothing(Reason::Link);
        };
        let asked = std::mem::take(&mut self.asked);
        let taken = picture.taken_from(layer);
        let extent = bound.extent(layer);
        self.chosen = Chosen {
            rate: rungs[at].rate,
            less: less(picture, bound, (at, allowed, layer.encoding)),
            missing: taken.is_none() || taken != self.wanted,
        };
        let Some(track) = taken else { return Choice::AsBefore };
        let why = match tracks {
            _ if asked => Reason::Wish,
            (Some(track), _) if before.is_none() && Some(track) == tracks.1 => Reason::Publisher,
            _ if self.chosen.missing || tracks.0.is_some() && tracks.0 != tracks.1 => Reason::Bridge,
            _ => Reason::Link,
        };
        let gone = why == Reason::Publisher && picture.lost_best().is_some();
        let to = if gone { Turn::Down } else { turn(before, picture.encoding(track)) };
        let turn = (self.track != Some(track)).then_some((to, why));
        self.track = Some(track);
        match turn {
            Some((Turn::Down, why @ (Reason::Link | Reason::Wish))) => self.waiting_since = Some((now, why)),
            // What does not come any more takes nothing.
            Some(_) => self.waiting_since = None,
            None => {}
        }
        Choice::Layer { track, extent, turn }
    }

    /// No picture is wished.
    fn hear_only(&mut self, path: &mut Estimator) -> Choice {
        path.set_wanted(None);
        (self.track, self.wanted) = (None, None);
        (self.short_since, self.waiting_since) = (None, None);
        self.chosen = Chosen { less: Some(Reason::Wish), ..Chosen::NOTHING };
        Choice::Nothing(Reason::Wish)
    }

    /// How many rungs are within the estimate, and how many with something to spare.
    fn room(&mut self, picture: &Picture, path: &Estimator, now: Instant) -> (usize, usize) {
        let rungs = picture.rungs();
        // What another encoding begins with waits until the queue is short: it need not empty it.
        let waits = picture.has_encodings() && path.is_clogged(now);
        let bitrate = if waits { path.bitrate_later(now) } else { path.bitrate(now) };
        let need = |rung: &Rung| rung.rate + picture.sound();
        let mut fits = rungs.partition_point(|rung| need(rung) <= bitrate);
        if let Some(sent) = self.sent(picture).filter(|sent| path.carries(need(&rungs[*sent]), now)) {
            fits = fits.max(sent + 1);
        }
        let mut roomy = rungs.partition_point(|rung| spared(need(rung)) <= bitrate);
        let most = path.most();
        let unknown = path.is_unknown(now);
        if unknown && rungs.first().is_some_and(|base| need(base) <= most) {
            // Nobody knows yet what the path carries. A picture shows it.
            (fits, roomy) = (fits.max(1), roomy.max(1));
        }
        if fits > 0 {
            self.short_since = None;
        } else {
            let since = *self.short_since.get_or_insert(now);
            let hold = match picture.has_encodings() {
                // The sound is what would pay for it.
                _ if bitrate < picture.sound() && !unknown => Duration::ZERO,
                true if self.steps.rested(2 * BASE_HOLD, now) => BASE_HOLD / 2,
                true => BASE_HOLD,
                false => LONE_HOLD,
            };
            if now.saturating_duration_since(since) < hold {
                // What begins with a large picture is measured as more than it takes.
                (fits, roomy) = (1, usize::from(unknown));
            }
        }
        (fits, roomy)
    }

    /// The rung that is sent.
    fn sent(&self, picture: &Picture) -> Option<usize> {
        let (encoding, layer) = (picture.encoding(self.track?)?, self.steps.current()?);
        let rung = picture.rungs().iter().position(|rung| rung.layer == layer);
        rung.filter(|_| layer.encoding == encoding)
    }

    /// What it sees while it is sent this.
    pub fn sight(&mut self, picture: &Picture, egress: Option<&Egress>) -> Sight {
        let source = egress.and_then(Egress::source);
        let sent = egress.zip(source).and_then(|(egress, source)| {
            let mut shown = picture.coming(source)?;
            shown.cut(egress.extent());
            Some(shown)
        });
        // Until what is chosen begins it is as it was.
        let waits = egress.is_none_or(|egress| {
            let encoding = self.track.and_then(|track| picture.encoding(track)).unwrap_or_default();
            egress.source() != self.track || egress.waits_for_layer(picture.highest(encoding).spatial)
        });
        self.reason = self.reason_of(picture, waits);
        let lost = picture.lost_best();
        Sight {
            sent,
            best: lost.or_else(|| picture.encodings().next_back()),
            active: picture.encodings().rev().collect(),
            inactive: picture.lost().into_iter().rev().collect(),
            reason: self.reason,
        }
    }

    fn reason_of(&self, picture: &Picture, waits: bool) -> Reason {
        match self.chosen.less {
            Some(Reason::Wish) if self.wish == Wish::Sound => Reason::Wish,
            _ if picture.is_silent() && !picture.is_from_elsewhere() => Reason::Publisher,
            _ if waits => self.reason,
            less if self.chosen.missing => {
                if picture.is_from_elsewhere() {
                    Reason::Bridge
                } else {
                    less.unwrap_or(Reason::Publisher)
                }
            }
            Some(less) => less,
            None if picture.lost_best().is_some() => Reason::Publisher,
            None => Reason::Best,
        }
    }

    /// What its path is thought to carry, and what its picture takes, once a second.
    pub fn poll_sample(&mut self, path: &Estimator, now: Instant) -> Option<(u64, u64)> {
        if self.sampled_at.is_some_and(|at| now < at + SAMPLE) {
            return None;
        }
        self.sampled_at = Some(now);
        Some((path.bitrate(now), self.chosen.rate))
    }

    /// The encoding that it is to get, whether it comes or not.
    pub fn wanted(&self) -> Option<TrackId> {
        self.wanted
    }

    /// What is waited for has begun. True if it is a worse encoding for which the one before was thinned.
    pub fn handle_started(&mut self) -> bool {
        self.waiting_since.take().is_some_and(|(_, why)| why != Reason::Wish)
    }

    /// Whether a keyframe is to be asked for now, because a spatial layer of what is sent is waited for or not.
    pub fn asks_for_layer(&mut self, waits: bool, now: Instant) -> bool {
        if !waits {
            self.layer_asked = None;
            return false;
        }
        let (next, times) = match self.layer_asked {
            Some((asked, times)) => (asked + LAYER_AGAIN * (1 << times.min(LAYER_DOUBLINGS)), times + 1),
            None => (now, 0),
        };
        let due = now >= next;
        if due {
            self.layer_asked = Some((now, times));
        }
        due
    }

    /// The present encoding may not go on until the worse one begins.
    pub fn is_too_much(&self, path: &Estimator, now: Instant) -> bool {
        self.waiting_since.is_some_and(|(since, why)| {
            // What was wished can wait: there is room for what is sent.
            path.is_full() || why != Reason::Wish && now.saturating_duration_since(since) > TURN_MAX
        })
    }
}

impl Chosen {
    const NOTHING: Chosen = Chosen { rate: 0, less: None, missing: false };
}

/// Why this rung is not the best.
fn less(picture: &Picture, bound: Bound, (at, allowed, encoding): (usize, usize, u8)) -> Option<Reason> {
    if at + 1 < picture.rungs().len() {
        return Some(if at + 1 >= allowed { Reason::Wish } else { Reason::Link });
    }
    bound.cuts(picture, encoding).then_some(Reason::Wish)
}

fn turn(before: Option<u8>, after: Option<u8>) -> Turn {
    if before > after { Turn::Down } else { Turn::Up }
}
