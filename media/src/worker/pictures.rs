//! The pictures of streams as listeners at this worker can have them: which encodings live, how good they are, what
//! each costs. What of it goes to a listener is decided in `viewing`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    allocation::{Layer, Rung, price::ladder},
    egress::ALL_LAYERS,
    rtp::descriptor::SpatialLayer,
    track::{
        Listener, Tracks,
        id::{StreamTracks, TrackId},
    },
};

/// The pictures of all streams that this worker has heard of, by the number of the whole track.
#[derive(Debug, Default)]
pub struct Pictures {
    known: BTreeMap<TrackId, Picture>,
    /// Those that somebody sees: many may be known.
    seen: Vec<TrackId>,
}

/// The picture of one stream.
#[derive(Debug)]
pub struct Picture {
    tracks: StreamTracks,
    comes: Comes,
    listeners: Vec<Listener>,
    /// Encodings that live, by rising quality.
    ranked: Vec<Ranked>,
    rungs: Vec<Rung>,
    /// Bits per second of the sound that goes with it.
    sound: u64,
    look_at: Option<Instant>,
}

/// How the publisher sends a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// It has not been seen yet.
    Unknown,
    /// As one track.
    Whole,
    /// In several encodings.
    Encodings,
}

#[derive(Debug, Clone, Copy)]
struct Ranked {
    track: TrackId,
    /// 0 if it is not known.
    pixels: u32,
    rate: u64,
}

impl Ranked {
    /// Sizes are certain. Rates go up and down: what is a little dearer at the moment is not better.
    fn is_better(&self, other: &Ranked) -> bool {
        match self.pixels > 0 && other.pixels > 0 && self.pixels != other.pixels {
            true => self.pixels > other.pixels,
            false => self.rate > other.rate + other.rate / 3,
        }
    }
}

/// How often rates are looked at while somebody listens.
const LOOK: Duration = Duration::from_millis(100);

impl Pictures {
    /// A stream with these tracks may come or be listened to.
    pub fn handle_stream(&mut self, tracks: StreamTracks) {
        self.known.entry(tracks.video).or_insert_with(|| Picture {
            tracks,
            comes: Comes::Unknown,
            listeners: Vec::new(),
            ranked: Vec::new(),
            rungs: Vec::new(),
            sound: 0,
            look_at: None,
        });
    }

    /// Nobody here publishes, wants or hears this track any more.
    pub fn handle_forget(&mut self, track: TrackId) {
        if self.known.get(&track).is_some_and(|picture| picture.listeners.is_empty()) {
            self.known.remove(&track);
        }
    }

    /// A track starts anew. Gives the listeners if the picture does not come as it did, and whether it comes as a whole
    /// from now on. What they got before is over then. What comes in encodings is looked at before anybody gets it.
    pub fn handle_anew(&mut self, track: TrackId, now: Instant) -> Option<(Vec<Listener>, bool)> {
        let of = |picture: &&mut Picture| {
            picture.tracks.video == track || picture.tracks.encodings.contains(&track)
        };
        let picture = self.known.values_mut().find(of)?;
        let before = picture.comes;
        picture.comes = if picture.tracks.video == track { Comes::Whole } else { Comes::Encodings };
        if picture.comes == before {
            return None;
        }
        picture.ranked.clear();
        picture.rungs.clear();
        picture.look_soon(now);
        Some((picture.listeners.clone(), picture.comes == Comes::Whole))
    }

    /// Somebody listens from now on.
    pub fn join(&mut self, video: TrackId, listener: Listener, tracks: &mut Tracks, now: Instant) {
        let Some(picture) = self.known.get_mut(&video) else { return };
        if picture.listeners.is_empty() {
            self.seen.push(video);
        }
        picture.listeners.push(listener);
        picture.look(tracks, now);
    }

    /// Somebody listens no more.
    pub fn leave(&mut self, video: TrackId, listener: Listener) {
        let Some(picture) = self.known.get_mut(&video) else { return };
        picture.listeners.retain(|known| *known != listener);
        if picture.listeners.is_empty() {
            picture.look_at = None;
            self.seen.retain(|seen| *seen != video);
        }
    }

    /// The picture of a stream.
    pub fn get(&self, video: TrackId) -> Option<&Picture> {
        self.known.get(&video)
    }

    /// When [`Pictures::poll_look`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.seen.iter().filter_map(|video| self.known.get(video)?.look_at).min()
    }

    /// Looks at the next picture for which it is time; gives who listens.
    pub fn poll_look(&mut self, tracks: &mut Tracks, now: Instant) -> Option<Vec<Listener>> {
        let is_due = |video: &&TrackId| {
            self.known.get(*video).and_then(|picture| picture.look_at).is_some_and(|at| at <= now)
        };
        let video = *self.seen.iter().find(is_due)?;
        let picture = self.known.get_mut(&video)?;
        picture.look(tracks, now);
        Some(picture.listeners.clone())
    }
}

impl Picture {
    /// Whether it comes in several encodings.
    pub fn has_encodings(&self) -> bool {
        self.comes == Comes::Encodings
    }

    /// What it can be had in, by rising quality; empty as long as that is not known.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Bits per second of the sound that goes with it.
    pub fn sound(&self) -> u64 {
        self.sound
    }

    /// The track that a layer is taken from.
    pub fn track(&self, layer: Layer) -> Option<TrackId> {
        self.ranked.get(usize::from(layer.encoding)).map(|ranked| ranked.track)
    }

    /// Which encoding a track is now, if it lives.
    pub fn encoding(&self, track: TrackId) -> Option<u8> {
        self.ranked.iter().position(|ranked| ranked.track == track).map(|at| at as u8)
    }

    fn look_soon(&mut self, now: Instant) {
        if !self.listeners.is_empty() {
            self.look_at = Some(self.look_at.map_or(now + LOOK, |at| at.min(now + LOOK)));
        }
    }

    /// Measures what there is.
    fn look(&mut self, tracks: &mut Tracks, now: Instant) {
        self.look_at = Some(now + LOOK);
        self.sound = tracks.get_mut(&self.tracks.audio).map_or(0, |sound| sound.meter().bits_per_second(now));
        let whole = [self.tracks.video];
        let members = match self.comes {
            Comes::Encodings => &self.tracks.encodings[..],
            Comes::Whole | Comes::Unknown => &whole,
        };
        let alive: Vec<Ranked> = members.iter().filter_map(|track| ranked(*track, tracks, now)).collect();
        if alive.is_empty() {
            return; // the publisher is silent: who it comes back for is as before
        }
        self.rank(alive);
        let mut layers = Vec::new();
        for (encoding, ranked) in self.ranked.iter().enumerate() {
            let layer = |temporal| Layer { encoding: encoding as u8, spatial: SpatialLayer(0), temporal };
            // Where there are others, less of one would be a picture that stutters: the one below is better than that.
            if self.ranked.len() == 1
                && let Some(track) = tracks.get_mut(&ranked.track)
            {
                layers.extend(track.meter().rates(now).map(|(temporal, rate)| (layer(temporal), rate)));
                layers.pop();
            }
            layers.push((layer(ALL_LAYERS), ranked.rate));
        }
        self.rungs = ladder(layers);
    }

    /// Keeps the order as it is, but where one is clearly better than the next.
    fn rank(&mut self, alive: Vec<Ranked>) {
        let before = std::mem::take(&mut self.ranked);
        let place = |track: TrackId| before.iter().position(|ranked| ranked.track == track);
        let mut order = alive;
        order.sort_by_key(|ranked| place(ranked.track).unwrap_or(usize::MAX));
        for end in (1..order.len()).rev() {
            for at in 0..end {
                if order[at].is_better(&order[at + 1]) {
                    order.swap(at, at + 1);
                }
            }
        }
        self.ranked = order;
    }
}

/// A track that lives and has a rate.
fn ranked(track: TrackId, tracks: &mut Tracks, now: Instant) -> Option<Ranked> {
    let meter = tracks.get_mut(&track)?.meter();
    let rate = meter.bits_per_second(now);
    let pixels = meter.resolution().map_or(0, |resolution| resolution.pixels());
    (meter.is_alive(now) && rate > 0).then_some(Ranked { track, pixels, rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let mut pictures = Pictures::default();
        pictures.handle_stream(StreamTracks::from_first(0));
        pictures.known.remove(&TrackId(1)).expect("there")
    }

    fn ranked(track: u32, pixels: u32, rate: u64) -> Ranked {
        Ranked { track: TrackId(track), pixels, rate }
    }

    fn order(picture: &Picture) -> Vec<u32> {
        picture.ranked.iter().map(|ranked| ranked.track.0).collect()
    }

    #[test]
    fn encodings_are_ranked_by_size_and_else_by_rate() {
        let mut picture = picture();
        picture.rank(vec![ranked(2, 3000, 9), ranked(3, 1000, 90), ranked(4, 2000, 50)]);
        assert_eq!(order(&picture), [3, 4, 2]);
        picture.rank(vec![ranked(2, 0, 900), ranked(3, 0, 100), ranked(4, 0, 400)]);
        assert_eq!(order(&picture), [3, 4, 2]);
    }

    #[test]
    fn two_of_one_size_do_not_change_places_with_every_scene() {
        let mut picture = picture();
        picture.rank(vec![ranked(2, 1000, 100), ranked(3, 1000, 200)]);
        assert_eq!(order(&picture), [2, 3]);
        for rates in [(230, 200), (260, 200), (180, 240)] {
            picture.rank(vec![ranked(2, 1000, rates.0), ranked(3, 1000, rates.1)]);
            assert_eq!(order(&picture), [2, 3], "{rates:?}");
        }
        picture.rank(vec![ranked(2, 1000, 600), ranked(3, 1000, 200)]);
        assert_eq!(order(&picture), [3, 2]);
    }

    #[test]
    fn one_that_dies_leaves_the_others_in_their_order() {
        let mut picture = picture();
        picture.rank(vec![ranked(2, 3000, 9), ranked(3, 1000, 90), ranked(4, 2000, 50)]);
        picture.rank(vec![ranked(2, 3000, 9), ranked(4, 2000, 50)]);
        assert_eq!(order(&picture), [4, 2]);
        assert_eq!((picture.encoding(TrackId(4)), picture.encoding(TrackId(3))), (Some(0), None));
    }
}
