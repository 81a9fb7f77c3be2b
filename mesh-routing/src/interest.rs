//! Which streams have listeners at this relay, when the mesh is told of it, and who hears what in the mesh.
//! It is for people to look at: no route and no tree depends on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use protocol::{Kind, NodeId, StreamName, mesh::TrackKey};

use crate::wire::{hearing::Hearing, lsa::HEARD_MAX};

/// How long a stream is still said to be heard after its last listener left: reloading a page is no news.
const LINGER: Duration = Duration::from_secs(2);
/// The first and the longest wait after the mesh was told something: people look at it, and listeners come and go more
/// often than anything else.
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// How listeners fare is told so often at most, and only if it looks another.
const HEARING_EVERY: Duration = Duration::from_secs(10);
/// [`HeardBy::heard_by`] changes at most this often: it goes to every page that is open.
const VIEW_EVERY: Duration = Duration::from_millis(500);

/// Who listens here.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    heard: BTreeMap<StreamName, Heard>,
    /// Counts the streams that began to be heard: the lowest of those in `heard` is the oldest.
    begun: u64,
    /// The mesh was told something else.
    news: bool,
    told: Option<Instant>,
    wait: Duration,
    /// How all who listen here fare.
    hearing: Option<Hearing>,
    /// What the mesh was told of that, and when.
    hearing_told: Option<(Hearing, Instant)>,
}

#[derive(Debug, Default)]
struct Heard {
    begun: u64,
    /// It is published here and heard here.
    here: bool,
    /// The tracks of other relays that are wanted.
    tracks: BTreeSet<(NodeId, Kind)>,
    /// Nobody is left: until then one may come back.
    until: Option<Instant>,
}

impl Interest {
    /// A track is wanted here, or not any more.
    pub fn handle_interest(&mut self, key: &TrackKey, wanted: bool, now: Instant) {
        let track = (key.origin, key.track.kind());
        self.change(&key.stream, wanted, now, |heard| {
            if wanted {
                heard.tracks.insert(track);
            } else {
                heard.tracks.remove(&track);
            }
        });
    }

    /// A stream that is published here is heard here, or not any more.
    pub fn handle_listeners(&mut self, stream: &StreamName, listens: bool, now: Instant) {
        self.change(stream, listens, now, |heard| heard.here = listens);
    }

    /// All who listen here fare so.
    pub fn handle_hearing(&mut self, hearing: Hearing) {
        self.hearing = Some(hearing);
    }

    /// How all who listen here fare, if that is known.
    pub fn hearing(&self) -> Option<Hearing> {
        self.hearing
    }

    /// When the mesh is to be told of that.
    fn hearing_at(&self, now: Option<Instant>) -> Option<Instant> {
        let hearing = self.hearing?;
        match self.hearing_told {
            Some((told, _)) if told.is_like(&hearing) => None,
            Some((_, at)) => Some(at + HEARING_EVERY),
            None => now,
        }
    }

    /// Forgets what nobody came back to. Says whether there was any.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let before = self.heard.len();
        self.heard.retain(|_, heard| heard.until.is_none_or(|until| until > now));
        let gone = self.heard.len() != before;
        self.news |= gone;
        gone
    }

    /// When there is something to forget or to tell.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let gone = self.heard.values().filter_map(|heard| heard.until);
        let news = self.told.filter(|_| self.news).map(|told| told + self.wait);
        gone.chain(news).chain(self.hearing_at(None)).min()
    }

    /// Whether there is news that the mesh may be told by now.
    pub fn due(&self, now: Instant) -> bool {
        let hearing = self.hearing_at(Some(now)).is_some_and(|at| at <= now);
        hearing || self.news && self.told.is_none_or(|told| told + self.wait <= now)
    }

    /// The mesh was told what [`Interest::streams`] and [`Interest::hearing`] say.
    pub fn handle_told(&mut self, now: Instant) {
        self.hearing_told = self.hearing.map(|hearing| (hearing, now));
        if !std::mem::take(&mut self.news) {
            return;
        }
        let quiet = self.told.is_none_or(|told| now.saturating_duration_since(told) > self.wait * 2);
        self.wait = if quiet { BACK_OFF_MIN } else { (self.wait * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX) };
        self.told = Some(now);
    }

    /// What is heard here, ascending by name, at most [`HEARD_MAX`].
    pub fn streams(&self) -> impl Iterator<Item = &StreamName> {
        self.heard.keys()
    }

    fn change(&mut self, stream: &StreamName, comes: bool, now: Instant, what: impl FnOnce(&mut Heard)) {
        if comes && !self.heard.contains_key(stream) {
            if self.heard.len() >= HEARD_MAX {
                let oldest = self.heard.iter().min_by_key(|(_, heard)| heard.begun);
                let oldest = oldest.map(|(name, _)| name.clone());
                oldest.and_then(|oldest| self.heard.remove(&oldest));
            }
            self.begun += 1;
            self.news = true;
            let heard = Heard { begun: self.begun, ..Heard::default() };
            self.heard.insert(stream.clone(), heard);
        }
        let Some(heard) = self.heard.get_mut(stream) else { return };
        what(heard);
        let empty = !heard.here && heard.tracks.is_empty();
        heard.until = empty.then(|| heard.until.unwrap_or(now + LINGER));
    }
}

/// Who hears what in the mesh, as it was last shown.
#[derive(Debug, Default)]
pub(crate) struct HeardBy {
    /// By stream; ascending relays.
    heard: BTreeMap<StreamName, Vec<NodeId>>,
    at: Option<Instant>,
    /// It may be another by now.
    stale: bool,
}

impl HeardBy {
    /// It may be another by now.
    pub fn handle_change(&mut self) {
        self.stale = true;
    }

    /// The relays, ascending, that hear a stream.
    pub fn heard_by(&self, stream: &StreamName) -> &[NodeId] {
        self.heard.get(stream).map_or(&[], Vec::as_slice)
    }

    /// Looks anew who hears what, if it may differ and was not looked at just now. Says whether it differs. `live` are
    /// the streams that there are, `said` what relays that can be reached say that they hear, by relay.
    pub fn handle_timeout<'a>(
        &mut self,
        live: impl Iterator<Item = &'a StreamName>,
        said: impl Iterator<Item = (NodeId, &'a StreamName)>,
        now: Instant,
    ) -> bool {
        if !self.stale || self.due().is_some_and(|due| due > now) {
            return false;
        }
        self.stale = false;
        let live: BTreeSet<&StreamName> = live.collect();
        let mut heard: BTreeMap<StreamName, Vec<NodeId>> = BTreeMap::new();
        for (id, stream) in said.filter(|(_, stream)| live.contains(stream)) {
            heard.entry(stream.clone()).or_default().push(id);
        }
        if heard == self.heard {
            return false;
        }
        (self.heard, self.at) = (heard, Some(now));
        true
    }

    /// When it is to be shown anew.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due().filter(|_| self.stale)
    }

    fn due(&self) -> Option<Instant> {
        self.at.map(|at| at + VIEW_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use protocol::mesh::StreamTrack;

    use super::*;
    use crate::sim::{epoch, node};

    fn name(index: usize) -> StreamName {
        StreamName::new(format!("stage-{index}")).unwrap()
    }

    fn key(index: usize, kind: Kind) -> TrackKey {
        TrackKey { origin: node(1), stream: name(index), track: StreamTrack::of(kind) }
    }

    #[test]
    fn how_listeners_fare_is_told_at_once_and_then_every_ten_seconds_if_it_looks_another() {
        let (mut audience, start) = (Interest::default(), epoch());
        assert!(!audience.due(start), "nothing is known of it");
        let second = Duration::from_secs(1);
        let mut told = Vec::new();
        for nth in 0..40 {
            let now = start + second * nth;
            audience.handle_hearing(Hearing { qualities: [0, nth / 15, 10], mended: [0; 3] });
            if audience.due(now) {
                told.push(nth);
                audience.handle_told(now);
            }
        }
        // One of eleven at 15 s, and two of twelve at 30.
        assert_eq!(told, [0, 15, 30]);
        audience.handle_hearing(Hearing { qualities: [9, 0, 3], mended: [0; 3] });
        assert!(!audience.due(start + second * 39));
        assert_eq!(audience.poll_timeout(), Some(start + second * 40));
    }

    #[test]
    fn a_stream_is_heard_until_its_last_track_is_not_wanted_for_two_seconds() {
        let (mut audience, start) = (Interest::default(), epoch());
        audience.handle_interest(&key(1, Kind::Audio), true, start);
        audience.handle_interest(&key(1, Kind::Video), true, start);
        audience.handle_interest(&key(1, Kind::Audio), false, start);
        assert_eq!((audience.due(start), audience.poll_timeout()), (true, None));
        audience.handle_told(start);
        audience.handle_interest(&key(1, Kind::Video), false, start);
        assert_eq!(audience.poll_timeout(), Some(start + LINGER));
        assert!(!audience.due(start), "not news before the time is over");
        assert!(audience.handle_timeout(start + LINGER));
        assert!(audience.due(start + LINGER));
        assert_eq!(audience.streams().count(), 0);
    }

    #[test]
    fn a_listener_that_comes_back_at_once_is_no_news() {
        let (mut audience, start) = (Interest::default(), epoch());
        audience.handle_listeners(&name(1), true, start);
        audience.handle_told(start);
        audience.handle_listeners(&name(1), false, start + Duration::from_secs(1));
        audience.handle_listeners(&name(1), true, start + Duration::from_secs(2));
        assert!(!audience.handle_timeout(start + Duration::from_secs(9)));
        assert_eq!((audience.due(start + Duration::from_secs(9)), audience.poll_timeout()), (false, None));
    }

    #[test]
    fn changes_one_after_the_other_are_told_ever_less_often() {
        let (mut audience, start) = (Interest::default(), epoch());
        let mut now = start;
        let mut told = 0;
        for index in 0..1000 {
            audience.handle_listeners(&name(index), true, now);
            audience.handle_timeout(now);
            if audience.due(now) {
                audience.handle_told(now);
                told += 1;
            }
            now += Duration::from_millis(20);
        }
        assert!((8..=16).contains(&told), "{told} in twenty seconds");
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut audience, start) = (Interest::default(), epoch());
        for index in 0..HEARD_MAX + 3 {
            audience.handle_listeners(&name(index), true, start);
        }
        assert_eq!(audience.streams().count(), HEARD_MAX);
        assert!((0..3).all(|index| audience.streams().all(|heard| *heard != name(index))));
        // What made room may leave without harm.
        audience.handle_listeners(&name(0), false, start);
        assert_eq!(audience.streams().count(), HEARD_MAX);
    }
}
