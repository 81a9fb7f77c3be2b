//! The sounds at this worker: which rungs each can be had in, what they take, who hears it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::advertised::AdvertisedSound;
use crate::{
    allocation::{Layer, Rung, price::ladder},
    egress::OVERHEAD,
    ingest::feedback::SoundView,
    rtp::{
        descriptor::{SpatialLayer, TemporalLayer},
        opus,
    },
    stats::{HEARD, MENDED},
    track::{
        Listener, Track, Tracks,
        id::{MAX_RUNGS, StreamTracks, TrackId},
        merger::{GROUP, MOST_SAMPLES},
    },
};

/// The sounds at this worker, by the track of what their publishers send.
#[derive(Debug, Default)]
pub struct Sounds {
    known: BTreeMap<TrackId, Sound>,
}

/// One sound.
#[derive(Debug)]
pub struct Sound {
    tracks: StreamTracks,
    /// Which rungs can be had.
    open: [bool; MAX_RUNGS],
    /// What is known of it if it comes from elsewhere, and since when each quality has come.
    elsewhere: Option<(AdvertisedSound, [Option<Instant>; MAX_RUNGS + 1])>,
    /// Until when none is taken: one stopped coming, and the same hand makes them all.
    stalled_until: Option<Instant>,
    /// Until when none is taken by who has room for what its publisher sends: one came late.
    late_until: Option<Instant>,
    listeners: Vec<Listener>,
    /// How many want each rung, and how many get it until another begins, as the node was told.
    told: [[u32; MAX_RUNGS]; 2],
    /// How those who hear it fare.
    heard: Heard,
    /// Since when anybody does.
    wanted_since: [Option<Instant>; MAX_RUNGS],
    /// What it can be had in, by rising quality; the last one is what its publisher sends. For who gets each packet on
    /// its own as long as there is room for that, and for who gets merged ones.
    rungs: [Vec<Rung>; 2],
    /// Packets of the publisher in a second.
    pace: u64,
    /// When its publisher last sent speech (SILK or hybrid).
    spoken_at: Option<Instant>,
    /// Packets go to whoever makes the rungs.
    feeds: bool,
    look_at: Option<Instant>,
}

/// How those who hear a sound at a worker fare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// How many get each rung. The others get what the publisher sends.
    pub rungs: [u32; MAX_RUNGS],
    /// How many have losses mended in each way, by [`Mended`](crate::Mended): all of them are in one.
    pub mended: [u32; MENDED],
}

impl Heard {
    /// All who hear it.
    pub fn listeners(&self) -> u32 {
        self.mended.iter().sum()
    }
}

/// A sound as it is looked at.
#[derive(Debug)]
pub struct Look {
    /// Its track.
    pub audio: TrackId,
    /// Who hears it, if there is something to choose.
    pub listeners: Vec<Listener>,
}

/// Bits per second of each rung, without what each packet takes.
const RATES: [u64; MAX_RUNGS] = [24_000, 64_000];
/// Packets a second as long as nothing is known.
const USUAL: u64 = 50;
/// A rung has to take clearly less than the next: a publisher that sends little needs none.
const LESS: (u64, u64) = (4, 5);
/// Merged packets are of no more than 60 ms.
const LEAST_PACE: u64 = 48_000 / MOST_SAMPLES as u64 + 1;
/// How often what it takes is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A rung that is behind what its publisher sends by more packets is not waited for by who has room for that: it is usually
/// behind by one, and this is what receivers have in store.
const LAGS_MOST: u16 = 4;
/// By more packets, and it does not come any more: then what its publisher sends is better than nothing on any path. On one
/// that is too narrow for it, that is full of holes.
const GONE: u16 = 50;
/// It has begun by then.
const BEGINS: Duration = Duration::from_millis(500);
/// Between speech (SILK, hybrid) and music (CELT) a switch is heard, and rungs are music. A publisher that has sent speech is
/// not taken in rungs for so long.
const SPEAKS: Duration = Duration::from_secs(5);
/// One that stopped coming is not taken for so long.
const STALLED: Duration = Duration::from_secs(5);

impl Sounds {
    /// Which rungs of a sound can be had, and what is known of it if it comes from elsewhere. Gives who hears it.
    pub fn handle_rungs(
        &mut self,
        tracks: StreamTracks,
        open: [bool; MAX_RUNGS],
        elsewhere: Option<AdvertisedSound>,
        now: Instant,
    ) -> Vec<Listener> {
        let sound = self.sound(tracks);
        sound.open = open;
        let before = sound.elsewhere.map(|(_, since)| since).unwrap_or_default();
        let since = |of: AdvertisedSound| {
            std::array::from_fn(|quality| of.comes[quality].then(|| before[quality].unwrap_or(now)))
        };
        sound.elsewhere = elsewhere.map(|of| (of, since(of)));
        sound.listeners.clone()
    }

    /// How the sound of a publisher here is.
    pub fn view(&self, audio: TrackId, track: &mut Track, now: Instant) -> SoundView {
        SoundView {
            kilobits_per_second: track.meter().bits_per_second(now) / 1000,
            packets_per_second: packets_per_second(track),
            speaks: self.known.get(&audio).is_some_and(|sound| sound.speaks(now)),
        }
    }

    /// The rungs of a sound that somebody makes.
    pub fn fed_rungs(&self, audio: TrackId) -> impl Iterator<Item = TrackId> + use<> {
        let fed = self.known.get(&audio).filter(|sound| sound.feeds);
        fed.map(|sound| sound.tracks.rungs).into_iter().flatten()
    }

    /// Somebody hears it.
    pub fn join(&mut self, tracks: StreamTracks, listener: Listener, now: Instant) {
        let sound = self.sound(tracks);
        sound.listeners.push(listener);
        sound.look_at.get_or_insert(now);
    }

    /// Somebody hears it no more.
    pub fn leave(&mut self, audio: TrackId, listener: Listener) {
        let Some(sound) = self.known.get_mut(&audio) else { return };
        sound.listeners.retain(|known| *known != listener);
        if sound.listeners.is_empty() {
            sound.look_at = None;
        }
    }

    /// What it takes is looked at now.
    pub fn look_now(&mut self, audio: TrackId, tracks: &mut Tracks, now: Instant) {
        if let Some(sound) = self.known.get_mut(&audio) {
            sound.price(tracks, now);
        }
    }

    /// Packets go to whoever makes rungs of it, or do not. True if they begin to.
    pub fn feed(&mut self, tracks: StreamTracks, feeds: bool) -> bool {
        !std::mem::replace(&mut self.sound(tracks).feeds, feeds) && feeds
    }

    /// Whether packets go to whoever makes rungs of it.
    pub fn feeds(&self, audio: TrackId) -> bool {
        self.known.get(&audio).is_some_and(|sound| sound.feeds)
    }

    /// Nobody here publishes, wants or hears it any more.
    pub fn forget(&mut self, audio: TrackId) {
        if self.known.get(&audio).is_some_and(|sound| sound.listeners.is_empty()) {
            self.known.remove(&audio);
        }
    }

    /// This one.
    pub fn get(&self, audio: TrackId) -> Option<&Sound> {
        self.known.get(&audio)
    }

    /// This one.
    pub fn get_mut(&mut self, audio: TrackId) -> Option<&mut Sound> {
        self.known.get_mut(&audio)
    }

    /// How many hear each rung, and what publishers send, of all sounds. And how many have losses mended in which way.
    pub fn heard(&self) -> ([u64; HEARD], [u64; MENDED]) {
        let (mut rungs, mut mended) = ([0; HEARD], [0; MENDED]);
        for heard in self.known.values().map(|sound| &sound.heard) {
            let below: u32 = heard.rungs.iter().sum();
            let whole = heard.listeners().saturating_sub(below);
            let all = heard.rungs.into_iter().chain([whole]);
            rungs.iter_mut().zip(all).for_each(|(sum, count)| *sum += u64::from(count));
            mended.iter_mut().zip(heard.mended).for_each(|(sum, count)| *sum += u64::from(count));
        }
        (rungs, mended)
    }

    /// When [`Sounds::poll_look`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.known.values().filter_map(|sound| sound.look_at).min()
    }

    /// Looks at the next sound for which it is time.
    pub fn poll_look(&mut self, tracks: &mut Tracks, now: Instant) -> Option<Look> {
        let due = |sound: &&mut Sound| sound.look_at.is_some_and(|at| at <= now);
        let sound = self.known.values_mut().find(due)?;
        sound.look_at = Some(now + LOOK);
        sound.price(tracks, now);
        let listeners = if sound.rungs[0].len() > 1 { sound.listeners.clone() } else { Vec::new() };
        Some(Look { audio: sound.tracks.audio, listeners })
    }

    /// A packet of a publisher has come. Gives who hears it if a rung has stopped coming meanwhile, or may not be taken any
    /// more.
    pub fn handle_packet(&mut self, audio: TrackId, tracks: &Tracks, now: Instant) -> Option<Vec<Listener>> {
        let sound = self.known.get_mut(&audio)?;
        let newest = tracks.get(&audio).map(Track::ring);
        let newest = newest.and_then(|ring| ring.get(ring.highest()?));
        let toc = newest.and_then(|(packet, _)| packet.payload().first());
        let speaks = toc.is_some_and(|toc| !opus::is_celt(*toc));
        let begins = speaks && sound.spoken_at.is_none_or(|at| now >= at + SPEAKS);
        if speaks {
            sound.spoken_at = Some(now);
        }
        let mut lags = 0;
        for (rung, track) in sound.tracks.rungs.iter().enumerate() {
            let settled = sound.since(rung).is_some_and(|since| now >= since + BEGINS);
            let comes = tracks.get(track).filter(|_| settled && sound.is_open(rung, now));
            lags = lags.max(comes.zip(tracks.get(&audio)).map_or(0, |(rung, whole)| lag(rung, whole)));
        }
        let spoken = begins && sound.told.iter().flatten().any(|count| *count > 0);
        let (was_late, gone) = (sound.is_late(now), lags > GONE);
        if lags > LAGS_MOST {
            sound.late_until = Some(now + STALLED);
        }
        if gone {
            sound.stalled_until = sound.late_until;
        }
        let news = spoken || gone || sound.is_late(now) && !was_late;
        news.then(|| {
            sound.price(&mut Tracks::new(), now);
            sound.listeners.clone()
        })
    }

    fn sound(&mut self, tracks: StreamTracks) -> &mut Sound {
        self.known.entry(tracks.audio).or_insert_with(|| Sound {
            tracks,
            open: [false; MAX_RUNGS],
            elsewhere: None,
            stalled_until: None,
            late_until: None,
            listeners: Vec::new(),
            told: Default::default(),
            heard: Heard::default(),
            wanted_since: [None; MAX_RUNGS],
            rungs: Default::default(),
            pace: USUAL,
            spoken_at: None,
            feeds: false,
            look_at: None,
        })
    }
}

impl Sound {
    /// What it can be had in, by rising quality: the last one is what its publisher sends.
    pub fn rungs(&self, merged: bool) -> &[Rung] {
        &self.rungs[usize::from(merged)]
    }

    /// The track of a rung, for who gets merged packets or not. The lowest one is merged for everybody.
    pub fn track(&self, layer: Layer, merged: bool) -> TrackId {
        let at = usize::from(layer.encoding).min(MAX_RUNGS);
        match merged || layer == lowest() {
            true => self.tracks.merged[at],
            false => self.tracks.rungs.get(at).copied().unwrap_or(self.tracks.audio),
        }
    }

    /// The track that is given for a rung: its own, or as long as that does not come from elsewhere, the next lower one, or
    /// the next better one.
    pub fn given(&self, layer: Layer, merged: bool) -> TrackId {
        let at = usize::from(layer.encoding).min(MAX_RUNGS);
        let comes = |quality: &usize| self.comes(*quality);
        match (0..=at).rev().chain(at + 1..=MAX_RUNGS).find(comes) {
            Some(other) if other != at => self.track(self::layer(other as u8), merged),
            _ => self.track(layer, merged),
        }
    }

    /// Whether a rung, or what the publisher sends, comes where somebody wants it: from elsewhere it may not.
    fn comes(&self, quality: usize) -> bool {
        self.elsewhere.is_none_or(|(of, _)| of.comes[quality])
    }

    /// Since when a rung is wanted and could come.
    fn since(&self, rung: usize) -> Option<Instant> {
        let wanted = self.wanted_since[rung]?;
        match self.elsewhere {
            Some((_, since)) => since[rung].map(|since| since.max(wanted)),
            None => Some(wanted),
        }
    }

    /// Which rung a track is, merged or not.
    pub fn rung(&self, track: TrackId) -> Option<usize> {
        let source = self.tracks.merged_from(track).unwrap_or(track);
        self.tracks.rungs.iter().position(|known| *known == source)
    }

    /// How many packets of this track there are in a second.
    pub fn packets_per_second(&self, track: TrackId) -> u64 {
        let merged = self.tracks.merged_from(track).is_some();
        (if merged { merged_pace(self.pace) } else { self.pace }).max(1)
    }

    /// Its tracks.
    pub fn tracks(&self) -> &StreamTracks {
        &self.tracks
    }

    /// The track of the cheapest rung, if it can be had.
    pub fn low(&self) -> Option<TrackId> {
        (self.open[0] && self.comes(0)).then_some(self.tracks.rungs[0])
    }

    /// What that takes, if somebody here wants it: then it comes.
    pub fn low_rate(&self) -> Option<u64> {
        let is_made = match self.elsewhere {
            Some(_) => self.comes(0),
            None => self.told.iter().any(|counts| counts[0] > 0),
        };
        let low = self.rungs[0].iter().find(|rung| rung.layer == layer(0) && is_made);
        low.map(|low| low.rate)
    }

    /// Who hears it.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Those who hear it fare so. True if that is news.
    pub fn handle_heard(&mut self, heard: Heard) -> bool {
        std::mem::replace(&mut self.heard, heard) != heard
    }

    /// How those who hear it fare.
    pub fn heard(&self) -> Heard {
        self.heard
    }

    /// So many want each rung, and so many get it until another begins. True if the node has to be told.
    pub fn handle_wanted(
        &mut self,
        wanted: [u32; MAX_RUNGS],
        left: [u32; MAX_RUNGS],
        now: Option<Instant>,
    ) -> bool {
        for (rung, since) in self.wanted_since.iter_mut().enumerate() {
            *since = if wanted[rung] + left[rung] > 0 { since.or(now) } else { None };
        }
        std::mem::replace(&mut self.told, [wanted, left]) != [wanted, left]
    }

    fn speaks(&self, now: Instant) -> bool {
        self.spoken_at.is_some_and(|at| now < at + SPEAKS)
    }

    /// Whether a rung came late a moment ago.
    pub fn is_late(&self, now: Instant) -> bool {
        self.late_until.is_some_and(|until| now < until)
    }

    fn is_open(&self, rung: usize, now: Instant) -> bool {
        self.open[rung] && !self.speaks(now) && self.stalled_until.is_none_or(|until| now >= until)
    }

    /// What each rung takes at a listener. Of what the publisher sends it is measured, if `tracks` has it.
    fn price(&mut self, tracks: &mut Tracks, now: Instant) {
        // What stands for a packet is as long as it.
        let all = [self.tracks.audio].into_iter().chain(self.tracks.rungs);
        let newest = all.filter_map(|track| tracks.get(&track)).max_by_key(|track| track.newest_at());
        self.pace = newest.map_or(USUAL, packets_per_second);
        let track = tracks.get_mut(&self.tracks.audio);
        let before = self.rungs[0].last().map(|top| top.rate);
        let measured = match self.elsewhere {
            // It does not come as long as all here get less.
            Some((said, _)) => {
                let settled = track.map(Track::meter).filter(|meter| meter.is_settled(now));
                Some(settled.map_or(said.rate, |meter| meter.bits_per_second(now)))
            }
            None => track.map(|track| track.meter().bits_per_second(now)),
        };
        let top = measured.or(before).unwrap_or_default();
        let (each, merged) = (self.pace, merged_pace(self.pace));
        let open = (0..MAX_RUNGS).filter(|rung| self.is_open(*rung, now));
        let below = |pace| open.clone().map(move |rung| (layer(rung as u8), rung_rate(rung, pace)));
        let alone = self.is_open(0, now).then_some((lowest(), rung_rate(0, merged)));
        let ladder_to = |below: &mut dyn Iterator<Item = (Layer, u64)>, top| {
            let less = below.filter(|(_, rate)| rung_pays(*rate, top));
            ladder(less.chain([(layer(MAX_RUNGS as u8), top)]))
        };
        let less = top.saturating_sub(headers(each) - headers(merged));
        self.rungs =
            [ladder_to(&mut alone.into_iter().chain(below(each)), top), ladder_to(&mut below(merged), less)];
    }
}

/// What a rung takes at a listener or a link, in bits per second, with so many packets a second.
pub fn rung_rate(rung: usize, packets_per_second: u64) -> u64 {
    RATES.get(rung).map_or(0, |rate| rate + headers(packets_per_second))
}

/// Whether a rung of this rate is worth it beside what a publisher sends: it takes clearly less.
pub fn rung_pays(rate: u64, top: u64) -> bool {
    rate * LESS.1 < top * LESS.0
}

/// What is not sound of so many packets a second, in bits per second.
fn headers(packets_per_second: u64) -> u64 {
    packets_per_second * OVERHEAD as u64 * 8
}

/// A rung as allocation knows it.
fn layer(encoding: u8) -> Layer {
    Layer { encoding, spatial: SpatialLayer(0), temporal: TemporalLayer(1) }
}

/// The lowest rung in merged packets, for who gets each on its own otherwise: below the same in single ones.
fn lowest() -> Layer {
    Layer { temporal: TemporalLayer(0), ..layer(0) }
}

/// How many merged packets come of so many: three go as one, unless they are long.
fn merged_pace(pace: u64) -> u64 {
    pace.div_ceil(GROUP.into()).max(pace.min(LEAST_PACE))
}

/// By how many packets a rung is behind.
fn lag(rung: &Track, whole: &Track) -> u16 {
    let newest = |track: &Track| track.ring().highest().map(|number| number as u16);
    let lag = newest(whole).zip(newest(rung)).map_or(0, |(whole, rung)| whole.wrapping_sub(rung));
    if lag < u16::MAX / 2 { lag } else { 0 }
}

/// As its newest packets are.
fn packets_per_second(track: &Track) -> u64 {
    let ring = track.ring();
    let timestamp = |number: u64| ring.get(number).map(|(packet, _)| packet.timestamp);
    let pair = ring.highest().and_then(|highest| Some((timestamp(highest)?, timestamp(highest - 1)?)));
    let ticks = pair.map_or(0, |(last, before)| last.wrapping_sub(before));
    // From 2.5 to 120 ms.
    if (120..=5760).contains(&ticks) { u64::from(48_000 / ticks) } else { USUAL }
}
