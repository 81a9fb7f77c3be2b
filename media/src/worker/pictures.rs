//! The pictures of streams as listeners at this worker can have them: which encodings live, how good they are, what
//! each costs. What of it goes to a listener is decided in `viewing`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::plan::AdvertisedEncoding;
use crate::{
    allocation::{Layer, Rung, price::ladder},
    egress::ALL_LAYERS,
    rtp::descriptor::{Resolution, SpatialLayer},
    track::{
        Listener, Tracks,
        id::{MAX_ENCODINGS, StreamTrack, StreamTracks, TrackId},
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
    /// The encodings that it can be had in from elsewhere, by rising quality: their tracks, what they take, and how
    /// large they are if that is said.
    advertised: Vec<(TrackId, u64, Option<Resolution>)>,
    listeners: Vec<Listener>,
    /// Encodings by rising quality: those that live, or all that can be had.
    ranked: Vec<Ranked>,
    rungs: Vec<Rung>,
    /// Bits per second of the sound that goes with it.
    sound: u64,
    look_at: Option<Instant>,
    /// The whole has been alive without any encoding since then.
    only_whole_since: Option<Instant>,
    /// What the node was told that listeners here want.
    told: [u32; MAX_ENCODINGS],
}

/// What a look at a picture found.
#[derive(Debug)]
pub struct Look {
    /// The picture.
    pub video: TrackId,
    /// Who sees it.
    pub listeners: Vec<Listener>,
    /// It comes as a whole from now on, and not in encodings any more.
    pub whole: bool,
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
    /// It comes. What can be had comes only if somebody wants it.
    alive: bool,
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
/// The whole comes for so long without any encoding, before it is what there is: it comes for a while beside them.
const WHOLE_AFTER: Duration = Duration::from_millis(300);

impl Pictures {
    /// A stream with these tracks may come or be listened to.
    pub fn handle_stream(&mut self, tracks: StreamTracks) {
        self.known.entry(tracks.video).or_insert_with(|| Picture {
            tracks,
            comes: Comes::Unknown,
            advertised: Vec::new(),
            listeners: Vec::new(),
            ranked: Vec::new(),
            rungs: Vec::new(),
            sound: 0,
            look_at: None,
            only_whole_since: None,
            told: [0; MAX_ENCODINGS],
        });
    }

    /// What a picture can be had in from elsewhere, by the places of encodings. Gives who is to be told that it comes in
    /// encodings from now on.
    pub fn handle_advertised(
        &mut self,
        tracks: StreamTracks,
        encodings: &[AdvertisedEncoding],
        now: Instant,
    ) -> Vec<Listener> {
        self.handle_stream(tracks);
        let Some(picture) = self.known.get_mut(&tracks.video) else { return Vec::new() };
        let track = |place: u8| tracks.get(StreamTrack::Encoding(place));
        let advertised =
            |encoding: &AdvertisedEncoding| (track(encoding.place), encoding.rate, encoding.resolution);
        picture.advertised = encodings.iter().map(advertised).collect();
        picture.look_soon(now);
        // A whole that comes already goes on until they come.
        if picture.comes != Comes::Unknown || picture.advertised.is_empty() {
            return Vec::new();
        }
        picture.comes = Comes::Encodings;
        picture.listeners.clone()
    }

    /// Nobody here publishes, wants or hears this track any more.
    pub fn handle_forget(&mut self, track: TrackId) {
        if self.known.get(&track).is_some_and(|picture| picture.listeners.is_empty()) {
            self.known.remove(&track);
        }
    }

    /// A track starts anew. Gives the listeners if the picture does not come as it did, and whether it comes as a whole
    /// from now on. What they got before is over then. What comes in encodings is looked at before anybody gets it.
    ///
    /// What comes from elsewhere in encodings takes the place of the whole with a keyframe: then nothing is over.
    pub fn handle_anew(&mut self, track: TrackId, now: Instant) -> Option<(Vec<Listener>, bool)> {
        let of = |picture: &&mut Picture| {
            picture.tracks.video == track || picture.tracks.encodings.contains(&track)
        };
        let picture = self.known.values_mut().find(of)?;
        let before = picture.comes;
        let elsewhere = !picture.advertised.is_empty();
        if elsewhere && before == Comes::Encodings {
            return None;
        }
        picture.comes = if picture.tracks.video == track { Comes::Whole } else { Comes::Encodings };
        if picture.comes == before {
            return None;
        }
        picture.ranked.clear();
        picture.rungs.clear();
        picture.look_soon(now);
        if elsewhere && picture.comes == Comes::Encodings {
            return None;
        }
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

    /// Somebody listens no more. Says whether it was the last one.
    pub fn leave(&mut self, video: TrackId, listener: Listener) -> bool {
        let Some(picture) = self.known.get_mut(&video) else { return false };
        let before = picture.listeners.len();
        picture.listeners.retain(|known| *known != listener);
        let last = before > 0 && picture.listeners.is_empty();
        if last {
            picture.look_at = None;
            self.seen.retain(|seen| *seen != video);
        }
        last
    }

    /// The picture of a stream.
    pub fn get(&self, video: TrackId) -> Option<&Picture> {
        self.known.get(&video)
    }

    /// When [`Pictures::poll_look`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.seen.iter().filter_map(|video| self.known.get(video)?.look_at).min()
    }

    /// Looks at the next picture for which it is time.
    pub fn poll_look(&mut self, tracks: &mut Tracks, now: Instant) -> Option<Look> {
        let is_due = |video: &&TrackId| {
            self.known.get(*video).and_then(|picture| picture.look_at).is_some_and(|at| at <= now)
        };
        let video = *self.seen.iter().find(is_due)?;
        let picture = self.known.get_mut(&video)?;
        let whole = picture.turn(tracks, now);
        picture.look(tracks, now);
        Some(Look { video, listeners: picture.listeners.clone(), whole })
    }

    /// What listeners here want of a picture now. Gives it if the node has to be told.
    pub fn handle_wanted(
        &mut self,
        video: TrackId,
        wanted: impl Iterator<Item = TrackId>,
    ) -> Option<[u32; MAX_ENCODINGS]> {
        let picture = self.known.get_mut(&video)?;
        let mut counts = [0; MAX_ENCODINGS];
        // What is published here needs no asking.
        if !picture.advertised.is_empty() {
            for track in wanted {
                if let Some(place) = picture.tracks.encodings.iter().position(|known| *known == track) {
                    counts[place] += 1;
                }
            }
        }
        (std::mem::replace(&mut picture.told, counts) != counts).then_some(counts)
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

    /// The track that a layer is of.
    pub fn track(&self, layer: Layer) -> Option<TrackId> {
        self.ranked.get(usize::from(layer.encoding)).map(|ranked| ranked.track)
    }

    /// The track that a layer is taken from: as long as its own does not come, the best that does and is worse.
    pub fn taken_from(&self, layer: Layer) -> Option<TrackId> {
        let up_to = self.ranked.iter().take(usize::from(layer.encoding) + 1);
        up_to.rev().find(|ranked| ranked.alive).map(|ranked| ranked.track)
    }

    /// Which encoding a track is now, if it lives or can be had.
    pub fn encoding(&self, track: TrackId) -> Option<u8> {
        self.ranked.iter().position(|ranked| ranked.track == track).map(|at| at as u8)
    }

    /// Notices that it comes as a whole instead of in encodings, or the other way round: because relays on its way know
    /// of no encodings, or do by now, or because its publisher sends one by now. True if what listeners got is over, and they get the whole.
    fn turn(&mut self, tracks: &mut Tracks, now: Instant) -> bool {
        let mut lives =
            |track: &TrackId| tracks.get_mut(track).is_some_and(|track| track.meter().is_alive(now));
        let any = self.tracks.encodings.iter().any(&mut lives);
        let only_whole = !any && lives(&self.tracks.video);
        self.only_whole_since = if only_whole { self.only_whole_since.or(Some(now)) } else { None };
        let since = self.only_whole_since;
        let comes = match self.comes {
            Comes::Encodings if since.is_some_and(|since| now >= since + WHOLE_AFTER) => Comes::Whole,
            Comes::Whole if any && !self.advertised.is_empty() => Comes::Encodings,
            _ => return false,
        };
        self.comes = comes;
        self.ranked.clear();
        self.rungs.clear();
        // Encodings take the place of the whole with a keyframe.
        comes == Comes::Whole
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
        if self.comes == Comes::Encodings && !self.advertised.is_empty() {
            return self.look_elsewhere(tracks, now);
        }
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

    /// As [`Picture::look`], of what can be had from elsewhere: its origin has ranked it. What does not come, or has just
    /// begun to, takes what its origin says.
    fn look_elsewhere(&mut self, tracks: &mut Tracks, now: Instant) {
        let of = |(track, nominal, resolution): &(TrackId, u64, Option<Resolution>)| {
            let comes = ranked(*track, tracks, now);
            let mut found =
                comes.unwrap_or(Ranked { track: *track, pixels: 0, rate: *nominal, alive: false });
            if found.pixels == 0 {
                found.pixels = resolution.map_or(0, Resolution::pixels);
            }
            if !tracks.get_mut(track).is_some_and(|track| track.meter().is_settled(now)) {
                found.rate = *nominal;
            }
            found
        };
        self.ranked = self.advertised.iter().map(of).collect();
        let layer = |encoding: usize| Layer {
            encoding: encoding as u8,
            spatial: SpatialLayer(0),
            temporal: ALL_LAYERS,
        };
        self.rungs = ladder(self.ranked.iter().enumerate().map(|(at, ranked)| (layer(at), ranked.rate)));
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
    (meter.is_alive(now) && rate > 0).then_some(Ranked { track, pixels, rate, alive: true })
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
        Ranked { track: TrackId(track), pixels, rate, alive: true }
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
