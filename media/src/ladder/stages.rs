//! All stages of a relay that have a ladder: whose rungs are wanted, and whose have to close because the thread that
//! runs this is behind.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use protocol::Codec;

use super::{Load, RUNGS, Stage, passing::Passing};
use crate::{
    drop_reason::DropReason,
    rtp::packet::Packet,
    track::id::{StreamTracks, TrackId},
};

/// What is neither heard nor wanted for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// How often it is looked whether the thread is behind.
const LOOK: Duration = Duration::from_millis(200);
/// Stages at a time. One more has no rungs. Each takes some 150 kB with both.
const STAGES_MAX: usize = 256;

/// What others have to know of a stage, by the track of its sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its rungs have closed, because the machine is short of CPU: listeners need the publisher's packets.
    Closed {
        /// The stage.
        audio: TrackId,
    },
    /// Its rungs are open again.
    Opened {
        /// The stage.
        audio: TrackId,
    },
}

/// All stages. After each `handle_…` take what the `poll_…` have, until nothing is left.
#[derive(Debug, Default)]
pub struct Stages {
    /// By the track of the sound.
    stages: BTreeMap<TrackId, Entry>,
    load: Load,
    look_at: Option<Instant>,
    /// How long the packet waited that waited least since the last look.
    behind: Option<Duration>,
    ready: VecDeque<(TrackId, Packet)>,
    events: VecDeque<Event>,
    dropped: Vec<DropReason>,
}

#[derive(Debug)]
struct Entry {
    stage: Stage,
    /// What leaves in the place of its rungs while they are closed.
    passing: Passing,
    /// Its rungs' tracks, once somebody has wanted any.
    tracks: Option<[TrackId; RUNGS]>,
    wanted: [bool; RUNGS],
    closed: bool,
    /// When a packet came, or what is wanted changed.
    heard: Instant,
}

impl Entry {
    fn is_wanted(&self) -> bool {
        self.wanted.contains(&true)
    }

    /// The rungs that somebody wants.
    fn wanted(&self) -> impl Iterator<Item = usize> + use<> {
        let wanted = self.wanted;
        (0..RUNGS).filter(move |rung| wanted[*rung])
    }

    /// A packet of the publisher leaves as those of the rungs that somebody wants.
    fn pass(&mut self, packet: &Packet) -> [Option<(TrackId, Packet)>; RUNGS] {
        std::array::from_fn(|rung| if self.wanted[rung] { self.leave(rung, packet.clone()) } else { None })
    }

    /// A packet of a rung leaves on this track.
    fn leave(&mut self, rung: usize, packet: Packet) -> Option<(TrackId, Packet)> {
        self.passing.handle_left(rung, &packet);
        let track = self.tracks.and_then(|tracks| tracks.get(rung).copied());
        track.map(|track| (track, packet))
    }
}

impl Stages {
    /// A packet of the sound of a stage. `received` of it says how far behind this is.
    pub fn handle_packet(&mut self, audio: TrackId, packet: &Packet, now: Instant) {
        if packet.codec != Codec::Opus {
            return;
        }
        let waited = now.saturating_duration_since(packet.received);
        self.behind = Some(self.behind.map_or(waited, |least| least.min(waited)));
        self.look_at.get_or_insert(now + LOOK);
        let Some(entry) = self.entry(audio, now) else { return };
        entry.heard = now;
        entry.stage.handle_packet(packet, now);
        entry.passing.handle_packet(packet);
        let passed = if entry.closed { entry.pass(packet) } else { Default::default() };
        self.ready.extend(passed.into_iter().flatten());
        self.drain(audio);
    }

    /// Which rungs of a stage somebody wants.
    pub fn handle_wanted(&mut self, tracks: StreamTracks, rungs: [bool; RUNGS], now: Instant) {
        let wants_any = rungs.contains(&true);
        if !wants_any && !self.stages.contains_key(&tracks.audio) {
            return;
        }
        let Some(entry) = self.entry(tracks.audio, now) else {
            // There is no place for it.
            self.events.push_back(Event::Closed { audio: tracks.audio });
            return;
        };
        entry.heard = now;
        entry.tracks = Some(tracks.rungs);
        entry.wanted = rungs;
        (0..RUNGS).filter(|rung| !rungs[*rung]).for_each(|rung| entry.passing.forget(rung));
        self.settle();
    }

    /// The next rung packet, and its track.
    pub fn poll_packet(&mut self) -> Option<(TrackId, Packet)> {
        self.ready.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was dropped.
    pub fn poll_dropped(&mut self) -> Option<DropReason> {
        self.dropped.pop()
    }

    /// When [`Stages::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let forgets = self.stages.values().filter(|entry| !entry.is_wanted());
        let forgets = forgets.map(|entry| entry.heard + FORGOTTEN_AFTER);
        let stages = self.stages.values().filter_map(|entry| entry.stage.poll_timeout());
        stages.chain(forgets).chain(self.look_at).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |entry: &Entry| entry.stage.poll_timeout().is_some_and(|at| at <= now);
        let due: Vec<TrackId> =
            self.stages.iter().filter(|(_, entry)| is_due(entry)).map(|(audio, _)| *audio).collect();
        for audio in due {
            if let Some(entry) = self.stages.get_mut(&audio) {
                entry.stage.handle_timeout(now);
            }
            self.drain(audio);
        }
        self.stages.retain(|_, entry| entry.is_wanted() || now < entry.heard + FORGOTTEN_AFTER);
        if self.look_at.is_some_and(|at| at <= now) {
            self.look(now);
        }
    }

    /// Stages with rungs that are encoded now.
    pub fn open(&self) -> usize {
        self.stages.values().filter(|entry| entry.is_wanted() && !entry.closed).count()
    }

    /// Stages whose rungs are wanted, and closed.
    pub fn closed(&self) -> usize {
        self.stages.values().filter(|entry| entry.closed).count()
    }

    /// The stage of this sound; `None` if there are too many.
    fn entry(&mut self, audio: TrackId, now: Instant) -> Option<&mut Entry> {
        let is_full = self.stages.len() >= STAGES_MAX;
        match self.stages.entry(audio) {
            std::collections::btree_map::Entry::Occupied(known) => Some(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(_) if is_full => None,
            std::collections::btree_map::Entry::Vacant(place) => Some(place.insert(Entry {
                stage: Stage::new(),
                passing: Passing::default(),
                tracks: None,
                wanted: [false; RUNGS],
                closed: false,
                heard: now,
            })),
        }
    }

    fn look(&mut self, now: Instant) {
        let wanted = self.stages.values().filter(|entry| entry.is_wanted()).count();
        let behind = self.behind.take();
        self.load.handle_look(behind.unwrap_or_default(), wanted, now);
        self.settle();
        // Where nothing comes and nothing is closed, the next packet starts the looks again.
        self.look_at = (behind.is_some() || self.load.closed() > 0).then_some(now + LOOK);
    }

    /// The stages with the highest numbers are closed, as many as have to be. What was on its way through the encoders of
    /// one leaves as its publisher sent it.
    fn settle(&mut self) {
        let mut closed = self.load.closed();
        for (audio, entry) in self.stages.iter_mut().rev() {
            let closes = entry.is_wanted() && closed > 0;
            closed -= usize::from(closes);
            if entry.closed != closes {
                entry.closed = closes;
                let audio = *audio;
                // One that nobody wants any more is not opened.
                if closes {
                    for rung in entry.wanted() {
                        for packet in entry.passing.behind(rung) {
                            self.ready.extend(entry.leave(rung, packet));
                        }
                    }
                    self.events.push_back(Event::Closed { audio });
                } else if entry.is_wanted() {
                    self.events.push_back(Event::Opened { audio });
                }
            }
            entry.stage.set_wanted(if closes { [false; RUNGS] } else { entry.wanted });
        }
    }

    /// Takes what a stage has.
    fn drain(&mut self, audio: TrackId) {
        let Some(entry) = self.stages.get_mut(&audio) else { return };
        while let Some((rung, packet)) = entry.stage.poll_packet() {
            self.ready.extend(entry.leave(rung, packet));
        }
        self.dropped.extend(std::iter::from_fn(|| entry.stage.poll_dropped()));
    }
}
