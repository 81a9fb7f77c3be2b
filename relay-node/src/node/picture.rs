//! What this relay says of streams that are published here, and wants of pictures that come from elsewhere: what they take
//! and can be had in, and which encodings its listeners want. Which of them is taken is the mesh's business.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use media::{Command, EncodingView, SoundView, TrackId, rtp::descriptor::Resolution};
use mesh_routing::{AdvertisedEncoding, Label, NominalRate, PictureDemand, Rid, StreamRates, StreamView};
use protocol::{StreamName, mesh::MAX_ENCODINGS};

use super::Node;
use crate::node::Effect;

/// A rate that is more than a step from what was said, and a size that is another, have to stay there for so long, before all others hear of it.
const HELD: Duration = Duration::from_secs(10);

/// What is said of a stream that is published here.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// As it is now.
    now: StreamRates,
    told: StreamRates,
    /// Since when it is more than a step, or in size, from what was said.
    since: Option<Instant>,
    /// Its sound, and whether somebody makes rungs of it.
    sound: SoundView,
    makes_rungs: bool,
}

impl Published {
    /// How its picture comes. Gives what is to be said from now on, if that is news. Which encodings there are is news at
    /// once, what they take only if that stays.
    pub fn handle_encodings(&mut self, encodings: &[EncodingView], now: Instant) -> Option<StreamRates> {
        let StreamRates { audio, rungs, .. } = self.now;
        self.now = StreamRates { audio, rungs, ..rates(encodings) };
        self.look(now)
    }

    /// How its sound is. As above.
    pub fn handle_sound(&mut self, sound: SoundView, now: Instant) -> Option<StreamRates> {
        self.sound = sound;
        self.now.audio = NominalRate::of(sound.kilobits_per_second * 1000);
        self.look_at_rungs(now)
    }

    /// Rungs of its sound can be made, or not any more.
    pub fn handle_rungs(&mut self, makes: bool, now: Instant) -> Option<StreamRates> {
        self.makes_rungs = makes;
        self.look_at_rungs(now)
    }

    /// Which rungs can be had. They are music: a switch between them and speech would be heard.
    fn look_at_rungs(&mut self, now: Instant) -> Option<StreamRates> {
        let SoundView { kilobits_per_second, packets_per_second, speaks } = self.sound;
        let top = kilobits_per_second * 1000;
        self.now.rungs = std::array::from_fn(|rung| {
            let rate = media::rung_rate(rung, packets_per_second);
            // One that is said stays as long as it takes less than the whole.
            let said = self.told.has_rung(rung as u8);
            let pays = if said { rate < top } else { media::rung_pays(rate, top) };
            let rate = if self.makes_rungs && !speaks && pays { rate } else { 0 };
            NominalRate::of(rate)
        });
        self.look(now)
    }

    fn look(&mut self, now: Instant) -> Option<StreamRates> {
        let places = |rates: &StreamRates| rates.encodings.iter().map(|e| e.place).collect::<Vec<_>>();
        let rungs = |rates: &StreamRates| [0, 1].map(|rung| rates.has_rung(rung));
        if places(&self.now) != places(&self.told) || rungs(&self.now) != rungs(&self.told) {
            return Some(self.tell());
        }
        let far = distance(&self.now, &self.told) > 1 || labels(&self.now) != labels(&self.told);
        self.since = if far { self.since.or(Some(now)) } else { None };
        self.handle_timeout(now)
    }

    /// Time has passed. Gives what is to be said.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<StreamRates> {
        self.since.is_some_and(|since| now >= since + HELD).then(|| self.tell())
    }

    /// When there is something to say, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.since.map(|since| since + HELD)
    }

    fn tell(&mut self) -> StreamRates {
        self.since = None;
        self.told = self.now.clone();
        self.told.clone()
    }
}

/// The farthest that any of these rates is from what was said.
fn distance(rates: &StreamRates, told: &StreamRates) -> u8 {
    let encodings = rates.encodings.iter().zip(&told.encodings).map(|(a, b)| a.rate.distance(b.rate));
    let whole = [rates.video.distance(told.video), rates.audio.distance(told.audio)];
    let rungs = rates.rungs.iter().zip(told.rungs).map(|(a, b)| a.distance(b));
    encodings.chain(whole).chain(rungs).max().unwrap_or_default()
}

fn labels(rates: &StreamRates) -> Vec<Label> {
    rates.encodings.iter().map(|encoding| encoding.label).collect()
}

fn resolution(label: Label) -> Option<Resolution> {
    let Label { width, height, .. } = label;
    (width > 0 && height > 0).then_some(Resolution { width, height })
}

fn label(encoding: &EncodingView) -> Label {
    let size = encoding.resolution;
    Label {
        rid: encoding.rid.as_deref().and_then(Rid::new),
        width: size.map_or(0, |size| size.width),
        height: size.map_or(0, |size| size.height),
    }
}

/// What is to be said of a picture that comes like this.
fn rates(encodings: &[EncodingView]) -> StreamRates {
    let rate = |encoding: &EncodingView| NominalRate::of(encoding.kilobits_per_second * 1000);
    let alive = |(_, encoding): &(u8, &EncodingView)| !encoding.dormant && encoding.kilobits_per_second > 0;
    let mut ranked: Vec<(u8, &EncodingView)> = (0..).zip(encodings).filter(alive).collect();
    ranked.sort_by_key(|(_, encoding)| quality(encoding));
    // As a whole the best of them is sent.
    let video = ranked.last().map(|(_, encoding)| rate(encoding)).unwrap_or_default();
    let advertised = |(place, encoding): &(u8, &EncodingView)| AdvertisedEncoding {
        place: *place,
        rate: rate(encoding),
        label: label(encoding),
    };
    let several = encodings.len() > 1;
    let encodings = if several { ranked.iter().map(advertised).collect() } else { Vec::new() };
    StreamRates { video, encodings, ..StreamRates::default() }
}

/// Sizes are certain, rates go up and down.
fn quality(encoding: &EncodingView) -> (u32, u64) {
    let pixels = encoding.resolution.map_or(0, |resolution| resolution.pixels());
    (pixels, encoding.kilobits_per_second)
}

/// What listeners here want of a picture, by worker.
#[derive(Debug, Default)]
pub(super) struct Wanted(BTreeMap<u8, [u32; MAX_ENCODINGS]>);

impl Wanted {
    /// A worker says what its listeners want.
    pub fn handle_demand(&mut self, worker: u8, wanted: [u32; MAX_ENCODINGS]) {
        self.0.insert(worker, wanted);
    }

    /// Together, of so many listeners.
    pub fn demand(&self, listeners: usize) -> PictureDemand {
        let mut demand = PictureDemand { listeners: listeners as u32, ..PictureDemand::default() };
        for wanted in self.0.values() {
            for (sum, count) in demand.wanted.iter_mut().zip(wanted) {
                *sum += count;
            }
        }
        demand
    }
}

impl Node {
    /// How the encodings of a picture that is published here are.
    pub(super) fn handle_encodings(&mut self, stream: &StreamName, encodings: &[EncodingView], now: Instant) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        if let Some(rates) = known.rates.handle_encodings(encodings, now) {
            self.mesh.handle_rates(stream, rates, now);
        }
    }

    /// What the sound of a stream that is published here takes.
    pub(super) fn handle_sound(&mut self, stream: &StreamName, sound: SoundView, now: Instant) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        if let Some(rates) = known.rates.handle_sound(sound, now) {
            self.mesh.handle_rates(stream, rates, now);
        }
    }

    /// Says what has stayed as it is for long enough.
    pub(super) fn look_at_rates(&mut self, now: Instant) {
        for (stream, known) in &mut self.streams {
            if let Some(rates) = known.rates.handle_timeout(now) {
                self.mesh.handle_rates(stream, rates, now);
            }
        }
    }

    /// The listeners of a worker want this of a picture.
    pub(super) fn handle_demand(
        &mut self,
        worker: u8,
        track: TrackId,
        wanted: [u32; MAX_ENCODINGS],
        now: Instant,
    ) {
        let Some((stream, _)) = self.by_track.get(&track) else { return };
        let stream = stream.clone();
        if let Some(known) = self.streams.get_mut(&stream) {
            known.wanted.handle_demand(worker, wanted);
            self.settle(&stream, now);
        }
    }

    /// Tells the workers what a picture can be had in, if that is news. What is published here they see by themselves.
    pub(super) fn tell_advertised(&mut self, name: &StreamName, live: Option<&StreamView>) {
        let Some(known) = self.streams.get_mut(name) else { return };
        let elsewhere = live.filter(|live| live.origin != self.id && known.published.is_none());
        let encodings = elsewhere.map(|live| live.rates.encodings.as_slice()).unwrap_or_default();
        // Links are planned with the whole step, so that all fits. Listeners go by what is likely: it is measured when it
        // comes. Of what nothing is said, that is soon.
        let advertised = |e: &AdvertisedEncoding| media::AdvertisedEncoding {
            place: e.place,
            rate: e.rate.likely_bits_per_second().unwrap_or(1),
            rid: e.label.rid.map(|rid| rid.as_str().into()),
            resolution: resolution(e.label),
        };
        let advertised: Vec<_> = encodings.iter().map(advertised).collect();
        if known.advertised != advertised {
            known.advertised.clone_from(&advertised);
            let tracks = known.tracks;
            self.effects.push_back(Effect::Workers(Command::Advertised { tracks, encodings: advertised }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(kilobits_per_second: u64, dormant: bool) -> EncodingView {
        EncodingView { rid: None, resolution: None, frames_per_second: 30, kilobits_per_second, dormant }
    }

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn places(rates: &StreamRates) -> Vec<u8> {
        rates.encodings.iter().map(|encoding| encoding.place).collect()
    }

    #[test]
    fn encodings_are_said_by_rising_quality_and_only_those_that_live() {
        let mut published = Published::default();
        let all = [view(2000, false), view(120, false), view(600, false)];
        let said = published.handle_encodings(&all, start()).expect("news");
        assert_eq!(places(&said), [1, 2, 0]);
        assert_eq!(said.video, NominalRate::of(2_000_000));
        let said =
            published.handle_encodings(&[view(2000, true), view(120, false), view(600, false)], start());
        assert_eq!(places(&said.expect("news at once")), [1, 2]);
        // One alone is no news of what there is: what it takes is said when it stays.
        let (mut alone, start) = (Published::default(), start());
        assert_eq!(alone.handle_encodings(&all[..1], start), None);
        let said = alone.handle_timeout(start + HELD).expect("it stayed");
        assert_eq!((places(&said), said.video), (Vec::new(), NominalRate::of(2_000_000)));
    }

    #[test]
    fn a_rate_is_said_anew_when_it_has_stayed_more_than_a_step_away() {
        let (mut published, start) = (Published::default(), start());
        let two = |high| [view(100, false), view(high, false)];
        assert!(published.handle_encodings(&two(1000), start).is_some());
        for near in [600, 1600, 1000] {
            assert_eq!(published.handle_encodings(&two(near), start), None, "{near}: one step");
        }
        assert_eq!(
            (published.handle_encodings(&two(400), start), published.poll_timeout()),
            (None, Some(start + HELD))
        );
        assert_eq!(published.handle_timeout(start + HELD / 2), None);
        // It came back: nothing is said.
        assert_eq!(published.handle_encodings(&two(900), start + HELD / 2), None);
        assert_eq!(published.poll_timeout(), None);
        let again = start + HELD;
        assert_eq!(published.handle_encodings(&two(400), again), None);
        let said = published.handle_timeout(again + HELD).expect("it stayed");
        assert_eq!(said.encodings[1].rate, NominalRate::of(400_000));
        assert_eq!(published.poll_timeout(), None);
    }

    #[test]
    fn a_size_is_said_with_the_encoding_and_anew_when_it_has_stayed() {
        let (mut published, start) = (Published::default(), start());
        let named = |rid: &str, width: Option<u16>| EncodingView {
            rid: Some(rid.to_owned()),
            resolution: width.map(|width| Resolution { width, height: 9 }),
            ..view(u64::from(rid.len() as u32) * 100, false)
        };
        let both = |width| [named("h", width), named("a-name-that-is-too-long", Some(640))];
        let said = published.handle_encodings(&both(None), start).expect("news at once");
        assert_eq!(said.encodings[0].label, Label { rid: Rid::new("h"), width: 0, height: 0 });
        assert_eq!(said.encodings[1].label, Label { rid: None, width: 640, height: 9 });
        assert_eq!(published.handle_encodings(&both(Some(320)), start), None);
        assert_eq!(published.handle_encodings(&both(None), start + HELD / 2), None, "it is as it was");
        let (again, later) = (start + HELD, start + HELD * 2);
        assert_eq!(published.handle_encodings(&both(Some(320)), again), None);
        assert_eq!(published.handle_timeout(later).expect("it stayed").encodings[0].label.width, 320);
    }

    #[test]
    fn what_workers_want_is_wanted_together() {
        let mut wanted = Wanted::default();
        wanted.handle_demand(0, [1, 0, 2, 0]);
        wanted.handle_demand(1, [0, 3, 1, 0]);
        wanted.handle_demand(0, [0, 0, 2, 0]);
        assert_eq!(wanted.demand(9), PictureDemand { listeners: 9, wanted: [0, 3, 3, 0] });
    }
}
