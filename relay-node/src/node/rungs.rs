//! The rungs of sounds: of those that are published here which listeners and links want, which the ladder makes, and which
//! may be counted on; of those from elsewhere what listeners here want of the mesh. Who decides for a listener is its
//! worker.

use std::{collections::BTreeMap, time::Instant};

use media::{AdvertisedSound, Command, Heard, MAX_RUNGS, Mended, SoundWish, TrackId, ladder};
use mesh_routing::{Hearing, SoundDemand, StreamView};
use protocol::{SessionId, StreamName, api::LayerWish, mesh::StreamTrack};

use super::{Effect, Node, sessions::WishError, streams::Stream};

/// What a stage sends of which nothing is said, in bits per second.
const USUAL: u64 = 160_000;

/// What is known of the rungs of one sound.
#[derive(Debug, Default)]
pub(super) struct Rungs {
    /// How many want each, by worker.
    wanted: BTreeMap<u8, [u32; MAX_RUNGS]>,
    /// How many get each until another begins, by worker.
    left: BTreeMap<u8, [u32; MAX_RUNGS]>,
    /// How those who hear it here fare, by worker.
    heard: BTreeMap<u8, Heard>,
    /// Links that want each.
    links: [bool; MAX_RUNGS],
    /// What the ladder was told.
    made: [bool; MAX_RUNGS],
    /// What the workers were told.
    told: Told,
    /// The ladder makes none of it: the machine is short of CPU.
    closed: bool,
}

/// What workers count on.
type Told = ([bool; MAX_RUNGS], Option<AdvertisedSound>);

impl Rungs {
    fn wants(&self, rung: usize) -> bool {
        let mut here = self.wanted.values().chain(self.left.values());
        self.links[rung] || here.any(|counts| counts[rung] > 0)
    }

    /// What so many listeners here want.
    pub(super) fn demand(&self, listeners: usize) -> SoundDemand {
        let sum = |rung: usize| self.wanted.values().map(|wanted| wanted[rung]).sum();
        SoundDemand { listeners: listeners as u32, wanted: std::array::from_fn(sum) }
    }
}

impl Stream {
    /// Whether rungs of its sound can be had where there is a ladder: it is published here, and the machine keeps up.
    fn has_rungs(&self) -> bool {
        self.published.is_some() && !self.rungs.closed
    }
}

impl Node {
    /// This relay makes rungs of the sounds that are published here.
    pub fn set_ladder(&mut self) {
        self.has_ladder = true;
    }

    /// The listeners of a worker want this of a sound, and get that until it begins.
    pub(super) fn handle_rungs(
        &mut self,
        (worker, track): (u8, TrackId),
        wanted: [u32; MAX_RUNGS],
        left: [u32; MAX_RUNGS],
        now: Instant,
    ) {
        let Some((stream, _)) = self.by_track.get(&track) else { return };
        let stream = stream.clone();
        let Some(known) = self.streams.get_mut(&stream) else { return };
        known.rungs.wanted.insert(worker, wanted);
        known.rungs.left.insert(worker, left);
        match known.published.is_some() {
            true => self.make_rungs(&stream),
            false => self.settle(&stream, now),
        }
    }

    /// The listeners of a worker fare so at a sound.
    pub(super) fn handle_hearing(&mut self, (worker, track): (u8, TrackId), heard: Heard, now: Instant) {
        let Some((stream, _)) = self.by_track.get(&track) else { return };
        if let Some(known) = self.streams.get_mut(stream) {
            known.rungs.heard.insert(worker, heard);
        }
        let hearing = self.hearing();
        self.mesh.handle_hearing(hearing, now);
    }

    /// How all who hear something here fare.
    pub(super) fn hearing(&self) -> Hearing {
        let mut all = Hearing::default();
        for heard in self.streams.values().flat_map(|known| known.rungs.heard.values()) {
            let [low, middle] = heard.rungs;
            let top = heard.listeners().saturating_sub(low + middle);
            let mended = Mended::ALL[1..].iter().map(|how| heard.mended[*how as usize]);
            all.qualities.iter_mut().zip([low, middle, top]).for_each(|(sum, count)| *sum += count);
            all.mended.iter_mut().zip(mended).for_each(|(sum, count)| *sum += count);
        }
        all
    }

    /// The forwarding table is another: links may want other rungs of the sounds that are published here.
    pub(super) fn look_at_links(&mut self) {
        let mut wanted: BTreeMap<StreamName, [bool; MAX_RUNGS]> = BTreeMap::new();
        for entry in self.mesh.forwarding() {
            let StreamTrack::Rung(rung) = entry.track.track else { continue };
            let links = wanted.entry(entry.track.stream.clone()).or_default();
            if let Some(link) = links.get_mut(usize::from(rung)) {
                *link |= entry.published && !entry.children.is_empty();
            }
        }
        let mut changed = Vec::new();
        for (name, known) in &mut self.streams {
            let links = wanted.get(name).copied().unwrap_or_default();
            if std::mem::replace(&mut known.rungs.links, links) != links {
                changed.push(name.clone());
            }
        }
        changed.iter().for_each(|stream| self.make_rungs(stream));
    }

    /// The ladder says something.
    pub fn handle_ladder(&mut self, event: ladder::Event, now: Instant) {
        let (audio, closed) = match event {
            ladder::Event::Closed { audio } => (audio, true),
            ladder::Event::Opened { audio } => (audio, false),
        };
        let Some((stream, _)) = self.by_track.get(&audio) else { return };
        let stream = stream.clone();
        if let Some(known) = self.streams.get_mut(&stream) {
            known.rungs.closed = closed;
        }
        self.open_rungs(&stream, now);
    }

    /// Streams whose rungs are closed, because the machine is short of CPU.
    pub fn closed_rungs(&self) -> Vec<StreamName> {
        let closed = self.streams.iter().filter(|(_, known)| known.rungs.closed && known.published.is_some());
        closed.map(|(name, _)| name.clone()).collect()
    }

    /// A stream is published here, or is not any more, or its rungs may be had or not: tells the workers and the mesh what
    /// they may count on, if that is news.
    pub(super) fn open_rungs(&mut self, stream: &StreamName, now: Instant) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let open = self.has_ladder && known.has_rungs();
        if let Some(rates) = known.rates.handle_rungs(open, now) {
            self.mesh.handle_rates(stream, rates, now);
        }
        let live = self.live(stream);
        self.tell_rungs(stream, live.as_ref());
        self.make_rungs(stream);
    }

    /// Tells the workers what a sound can be had in, and what of it comes, if that is news.
    pub(super) fn tell_rungs(&mut self, name: &StreamName, live: Option<&StreamView>) {
        let Some(known) = self.streams.get_mut(name) else { return };
        let elsewhere = live.filter(|live| live.origin != self.id && known.published.is_none());
        let told: Told = match elsewhere {
            Some(live) => {
                let open = std::array::from_fn(|rung| live.rates.has_rung(rung as u8));
                // As of pictures, listeners go by what is likely. Of what nothing is said it is what a stage sends.
                let rate = live.rates.audio.likely_bits_per_second().unwrap_or(USUAL);
                let comes = self.mesh.sound_comes(&live.origin, name);
                (open, Some(AdvertisedSound { rate, comes }))
            }
            None => ([self.has_ladder && known.has_rungs(); MAX_RUNGS], None),
        };
        if std::mem::replace(&mut known.rungs.told, told) != told {
            let (tracks, (open, elsewhere)) = (known.tracks, told);
            self.effects.push_back(Effect::Workers(Command::Rungs { tracks, open, elsewhere }));
        }
    }

    /// Tells the ladder what is wanted of a sound, and the workers whether it is fed, if that is news.
    fn make_rungs(&mut self, stream: &StreamName) {
        let Some(known) = self.streams.get_mut(stream) else { return };
        let (tracks, here) = (known.tracks, known.published.is_some());
        let wanted = std::array::from_fn(|rung| here && self.has_ladder && known.rungs.wants(rung));
        let before = std::mem::replace(&mut known.rungs.made, wanted);
        if wanted == before {
            return;
        }
        self.effects.push_back(Effect::Ladder(tracks, wanted));
        let feeds = wanted.contains(&true);
        if before.contains(&true) != feeds {
            self.effects.push_back(Effect::Workers(Command::Feed { tracks, feeds }));
        }
    }

    /// A listener wishes another sound.
    ///
    /// # Errors
    ///
    /// As [`Node::handle_wish`].
    pub(super) fn handle_sound_wish(
        &mut self,
        id: SessionId,
        wish: &LayerWish,
        now: Instant,
    ) -> Result<SoundWish, WishError> {
        let hearer = self.sessions.hearer_mut(id).ok_or(WishError::NoPicture)?;
        let wish = hearer.handle_wish(wish, now)?;
        self.effects.push_back(Effect::Workers(Command::SoundWish { session: id, wish }));
        Ok(wish)
    }
}
