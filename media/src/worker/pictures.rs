//! The pictures of streams as listeners at this worker can have them: which encodings live, how good they are, what
//! each costs. What of it goes to a listener is decided in `viewing`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{advertised::AdvertisedEncoding, ranked::Ranked, sight::Shown, stall::Stall, standby::Standby};
use crate::{
    allocation::{Layer, Rung, price::ladder},
    rtp::descriptor::{Extent, Resolution},
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
    /// Encodings that came, and are not sent now.
    lost: Vec<Ranked>,
    rungs: Vec<Rung>,
    /// Nothing of it comes.
    silent: bool,
    /// When a track of it last started anew: what has not come since then is over.
    anew_at: Option<Instant>,
    /// Bits per second of the sound that goes with it.
    sound: u64,
    look_at: Option<Instant>,
    /// Of each encoding by its place, where it comes from elsewhere.
    stalls: [Stall; MAX_ENCODINGS],
    stall_at: Option<Instant>,
    /// The base, for when a better one stalls.
    standby: Standby,
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
    /// A keyframe of this is to be asked for, so that who sees something better can turn to it at once.
    pub standby: Option<TrackId>,
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
            lost: Vec::new(),
            rungs: Vec::new(),
            silent: true,
            anew_at: None,
            sound: 0,
            look_at: None,
            stalls: Default::default(),
            stall_at: None,
            standby: Standby::default(),
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
        picture.lost.clear();
        picture.anew_at = Some(now);
        let before = picture.comes;
        let elsewhere = !picture.advertised.is_empty();
        if elsewhere && before == Comes::Encodings {
            return None;
        }
        picture.comes = if picture.tracks.video == track { Comes::Whole } else { Comes::Encodings };
        if picture.comes == before {
            return None;
        }
        picture.forget();
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
            (picture.look_at, picture.stall_at) = (None, None);
            self.seen.retain(|seen| *seen != video);
        }
        last
    }

    /// Who sees the picture of a stream.
    pub fn listeners(&self, video: TrackId) -> Vec<Listener> {
        self.known.get(&video).map(|picture| picture.listeners.clone()).unwrap_or_default()
    }

    /// The picture of a stream.
    pub fn get(&self, video: TrackId) -> Option<&Picture> {
        self.known.get(&video)
    }

    /// When [`Pictures::poll_look`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.seen.iter().filter_map(|video| self.known.get(video)?.due_at()).min()
    }

    /// Looks at the next picture for which it is time.
    pub fn poll_look(&mut self, tracks: &mut Tracks, now: Instant) -> Option<Look> {
        for video in &self.seen {
            let Some(picture) = self.known.get_mut(video) else { continue };
            if picture.due_at().is_none_or(|at| at > now) {
                continue;
            }
            if picture.look_at.is_none_or(|at| at > now) && !picture.look_at_stalls(tracks, now) {
                continue;
            }
            let whole = picture.turn(tracks, now);
            picture.look(tracks, now);
            let standby = picture.look_at_standby(tracks, now);
            return Some(Look { video: *video, listeners: picture.listeners.clone(), whole, standby });
        }
        None
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

    /// Whether it is published at another relay, in several encodings.
    pub fn is_from_elsewhere(&self) -> bool {
        !self.advertised.is_empty()
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

    /// The encodings that live or can be had, as they are shown, by rising quality.
    pub fn encodings(&self) -> impl ExactSizeIterator<Item = Shown> + DoubleEndedIterator {
        self.ranked.iter().map(|ranked| ranked.shown(&self.tracks))
    }

    /// Those that came and are not sent now, by rising quality.
    pub fn lost(&self) -> Vec<Shown> {
        let mut lost: Vec<&Ranked> = self.lost.iter().collect();
        lost.sort_by_key(|ranked| ranked.quality());
        lost.into_iter().map(|ranked| ranked.shown(&self.tracks)).collect()
    }

    /// The best of those that came and are not sent now, if it is better than all that are.
    pub fn lost_best(&self) -> Option<Shown> {
        let top = self.ranked.last();
        let better = self.lost.iter().filter(|lost| top.is_none_or(|top| lost.is_better(top)));
        better.max_by_key(|lost| lost.quality()).map(|lost| lost.shown(&self.tracks))
    }

    /// The best encoding that is no better than the one with this place. The base is, whatever that one is.
    pub fn bound(&self, place: u8) -> u8 {
        let Some(track) = self.tracks.encodings.get(usize::from(place)) else { return u8::MAX };
        if self.comes != Comes::Encodings {
            return u8::MAX; // there is only this one
        }
        if let Some(encoding) = self.encoding(*track) {
            return encoding;
        }
        let lost = self.lost.iter().find(|lost| lost.track == *track);
        let below = lost.map_or(0, |lost| self.ranked.iter().filter(|ranked| lost.is_better(ranked)).count());
        below.saturating_sub(1) as u8
    }

    /// The highest layers that come of an encoding.
    pub fn highest(&self, encoding: u8) -> Extent {
        let last = self.ranked.get(usize::from(encoding)).and_then(|ranked| ranked.layers.last());
        last.map_or(Extent::BASE, |layer| layer.extent)
    }

    /// Whether nothing of it comes.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// A track of it as it is shown, if it comes.
    pub fn coming(&self, track: TrackId) -> Option<Shown> {
        let alive = |ranked: &&Ranked| ranked.track == track && ranked.alive && !self.silent;
        self.ranked.iter().find(alive).map(|ranked| ranked.shown(&self.tracks))
    }

    /// Which encoding a track is now, if it lives or can be had.
    pub fn encoding(&self, track: TrackId) -> Option<u8> {
        self.ranked.iter().position(|ranked| ranked.track == track).map(|at| at as u8)
    }

    /// Whether this encoding has stopped coming, while a worse one goes on.
    pub fn is_stalled(&self, track: TrackId) -> bool {
        let place = self.tracks.encodings.iter().position(|known| *known == track);
        place.is_some_and(|place| self.stalls[place].is_stalled())
    }

    fn due_at(&self) -> Option<Instant> {
        self.look_at.into_iter().chain(self.stall_at).min()
    }

    /// Looks whether those that come from elsewhere go on. True if that is another than before for one of them.
    fn look_at_stalls(&mut self, tracks: &Tracks, now: Instant) -> bool {
        self.stall_at = None;
        let (mut worse, mut changed): (Option<Instant>, bool) = (None, false);
        for (track, _, _) in &self.advertised {
            let place = self.tracks.encodings.iter().position(|known| known == track);
            let (Some(place), Some(track)) = (place, tracks.get(track)) else { continue };
            let (stall, cadence) = (&mut self.stalls[place], track.cadence());
            changed |= stall.look(cadence, worse, now);
            // Of the base there is nothing worse.
            if worse.is_some() {
                self.stall_at = self.stall_at.into_iter().chain(stall.next_look(cadence, now)).min();
            }
            worse = worse.max(cadence.began());
        }
        changed
    }

    /// The base, if it comes from elsewhere beside a better one, and its last keyframe is too long ago.
    fn look_at_standby(&mut self, tracks: &Tracks, now: Instant) -> Option<TrackId> {
        let (base, better) = self.ranked.split_first().filter(|_| !self.advertised.is_empty())?;
        let needed = base.alive && better.iter().any(|ranked| ranked.alive);
        let keyframe = tracks.get(&base.track)?.ring().keyframe_at();
        self.standby.look(needed, keyframe, now).then_some(base.track)
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
        self.forget();
        // Encodings take the place of the whole with a keyframe.
        comes == Comes::Whole
    }

    /// It comes in another way.
    fn forget(&mut self) {
        self.ranked.clear();
        self.lost.clear();
        self.rungs.clear();
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
        let alive: Vec<Ranked> =
            members.iter().filter_map(|track| Ranked::measured(*track, tracks, now)).collect();
        self.silent = alive.is_empty();
        if self.silent {
            return; // the publisher is silent: who it comes back for is as before
        }
        self.rank(alive, tracks);
        self.rungs = match &self.ranked[..] {
            [alone] => ladder(alone.rungs()),
            // Where there are others, less of one would be a picture that stutters: the one below is better than that.
            several => ladder(several.iter().enumerate().map(|(at, ranked)| ranked.rung(at))),
        };
    }

    /// As [`Picture::look`], of what can be had from elsewhere: its origin has ranked it. What does not come, or has just
    /// begun to, takes what its origin says.
    fn look_elsewhere(&mut self, tracks: &mut Tracks, now: Instant) {
        self.look_at_stalls(tracks, now);
        let stalled = |track: TrackId| self.is_stalled(track);
        let of = |(track, nominal, resolution): &(TrackId, u64, Option<Resolution>)| {
            let comes = Ranked::measured(*track, tracks, now);
            let mut found = comes.unwrap_or_else(|| Ranked::to_be_had(*track, *nominal));
            found.resolution = found.resolution.or(*resolution);
            if !tracks.get_mut(track).is_some_and(|track| track.meter().is_settled(now)) {
                found.rate = *nominal;
            }
            found.alive &= !stalled(*track);
            found
        };
        let ranked: Vec<Ranked> = self.advertised.iter().map(of).collect();
        let before = std::mem::replace(&mut self.ranked, ranked);
        self.lose(before, tracks);
        self.silent = !self.ranked.iter().any(|ranked| ranked.alive);
        self.rungs = ladder(self.ranked.iter().enumerate().map(|(at, ranked)| ranked.rung(at)));
    }

    /// Keeps the order as it is, but where one is clearly better than the next.
    fn rank(&mut self, alive: Vec<Ranked>, tracks: &mut Tracks) {
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
        self.lose(before, tracks);
    }

    /// Keeps in mind what is there no more, unless it is of a publisher that another one has replaced.
    fn lose(&mut self, before: Vec<Ranked>, tracks: &mut Tracks) {
        self.lost.extend(before);
        let (ranked, anew_at) = (&self.ranked, self.anew_at);
        self.lost.retain(|lost| {
            let last = tracks.get_mut(&lost.track).and_then(|track| track.meter().last());
            last > anew_at && !ranked.iter().any(|ranked| ranked.track == lost.track)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let mut pictures = Pictures::default();
        pictures.handle_stream(StreamTracks::from_first(0));
        pictures.known.remove(&TrackId(1)).expect("there")
    }

    fn ranked(track: u32, width: u16, rate: u64) -> Ranked {
        let resolution = (width > 0).then_some(Resolution { width, height: 1 });
        Ranked { track: TrackId(track), resolution, rate, layers: Vec::new(), alive: true }
    }

    fn rank(picture: &mut Picture, alive: Vec<Ranked>) {
        picture.rank(alive, &mut Tracks::new());
    }

    fn order(picture: &Picture) -> Vec<u32> {
        picture.ranked.iter().map(|ranked| ranked.track.0).collect()
    }

    #[test]
    fn encodings_are_ranked_by_size_and_else_by_rate() {
        let mut picture = picture();
        rank(&mut picture, vec![ranked(2, 3000, 9), ranked(3, 1000, 90), ranked(4, 2000, 50)]);
        assert_eq!(order(&picture), [3, 4, 2]);
        rank(&mut picture, vec![ranked(2, 0, 900), ranked(3, 0, 100), ranked(4, 0, 400)]);
        assert_eq!(order(&picture), [3, 4, 2]);
    }

    #[test]
    fn two_of_one_size_do_not_change_places_with_every_scene() {
        let mut picture = picture();
        rank(&mut picture, vec![ranked(2, 1000, 100), ranked(3, 1000, 200)]);
        assert_eq!(order(&picture), [2, 3]);
        for rates in [(230, 200), (260, 200), (180, 240)] {
            rank(&mut picture, vec![ranked(2, 1000, rates.0), ranked(3, 1000, rates.1)]);
            assert_eq!(order(&picture), [2, 3], "{rates:?}");
        }
        rank(&mut picture, vec![ranked(2, 1000, 600), ranked(3, 1000, 200)]);
        assert_eq!(order(&picture), [3, 2]);
    }

    #[test]
    fn one_that_dies_leaves_the_others_in_their_order() {
        let mut picture = picture();
        rank(&mut picture, vec![ranked(2, 3000, 9), ranked(3, 1000, 90), ranked(4, 2000, 50)]);
        rank(&mut picture, vec![ranked(2, 3000, 9), ranked(4, 2000, 50)]);
        assert_eq!(order(&picture), [4, 2]);
        assert_eq!((picture.encoding(TrackId(4)), picture.encoding(TrackId(3))), (Some(0), None));
    }
}
