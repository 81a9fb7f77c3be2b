//! Merged tracks: of each rung that somebody here hears in fewer and longer packets, these are made once, whoever listens.
//! What is left of a track then is what it is of any: a ring, repairs, fan-out.

use std::{collections::BTreeMap, time::Instant};

use super::Worker;
use crate::{
    rtp::packet::Packet,
    track::{
        Listener, Track, Tracks,
        id::{StreamTracks, TrackId},
        merger::Merger,
    },
};

/// Merged tracks that are made now, by the track that they are made of.
#[derive(Debug, Default)]
pub struct Merging {
    known: BTreeMap<TrackId, Made>,
}

/// A merged track that is made.
#[derive(Debug)]
struct Made {
    track: TrackId,
    merger: Merger,
}

impl Merging {
    /// A merged track is made of this one.
    pub fn is_source(&self, track: TrackId) -> bool {
        self.known.contains_key(&track)
    }

    /// Somebody comes to a merged track: it is made from the next packet of `source` on.
    fn begin(&mut self, source: TrackId, track: TrackId, tracks: &mut Tracks) {
        let merged = tracks.entry(track).or_insert_with(Track::merged);
        if self.is_source(source) && merged.listeners().next().is_some() {
            return;
        }
        // Numbers go on: under the old ones somebody may ask for old packets. One is left out, so that what comes now is not
        // taken for what follows.
        let next = merged.ring().highest().map_or(0, |highest| (highest as u16).wrapping_add(2));
        self.known.insert(source, Made { track, merger: Merger::new(next) });
    }

    /// When a packet has waited long enough.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.known.values().filter_map(|made| made.merger.poll_timeout()).min()
    }

    /// Time has passed: the next source of which something has waited long enough.
    fn poll_due(&mut self, now: Instant) -> Option<TrackId> {
        let is_due = |made: &Made| made.merger.poll_timeout().is_some_and(|at| at <= now);
        let (source, made) = self.known.iter_mut().find(|(_, made)| is_due(made))?;
        made.merger.handle_timeout(now);
        Some(*source)
    }
}

impl Worker {
    /// A listener comes to a rung of a sound, merged or not.
    pub(super) fn subscribe_sound(&mut self, listener: Listener, stream: &StreamTracks, track: TrackId) {
        if let Some(source) = stream.merged_from(track) {
            self.merging.begin(source, track, &mut self.tracks);
        }
        self.subscribe(listener, track);
    }

    /// A packet of a track of which a merged one is made. `anew` says that its source starts anew with it.
    pub(super) fn merge(&mut self, source: TrackId, packet: Packet, anew: bool, now: Instant) {
        let Some(made) = self.merging.known.get_mut(&source) else { return };
        let track = made.track;
        if self.tracks.get(&track).is_none_or(|track| track.listeners().next().is_none()) {
            self.merging.known.remove(&source);
            return;
        }
        if anew {
            made.merger.handle_anew();
        }
        made.merger.handle_packet(packet, now);
        if anew {
            self.handle_anew(track, now);
        }
        self.take_merged(source, now);
    }

    /// What has waited long enough goes out.
    pub(super) fn merge_due(&mut self, now: Instant) {
        while let Some(source) = self.merging.poll_due(now) {
            self.take_merged(source, now);
        }
    }

    fn take_merged(&mut self, source: TrackId, now: Instant) {
        while let Some((track, packet)) =
            self.merging.known.get_mut(&source).and_then(|made| Some((made.track, made.merger.poll()?)))
        {
            self.take(track, packet, now);
        }
    }

    /// Nobody here publishes, wants or hears a sound any more.
    pub(super) fn forget_merged(&mut self, audio: TrackId) {
        let Some(sound) = self.sounds.get(audio) else { return };
        for track in sound.tracks().merged {
            if self.tracks.get(&track).is_some_and(|track| track.listeners().next().is_none()) {
                self.tracks.remove(&track);
                self.merging.known.retain(|_, made| made.track != track);
            }
        }
    }
}
