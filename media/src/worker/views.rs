//! Carries out what is chosen for listeners: which tracks they are at, which keyframes are asked for, which probes
//! leave.

use std::time::{Duration, Instant};

use protocol::SessionId;

use super::{
    Worker,
    advertised::AdvertisedEncoding,
    pictures::Look,
    plan::Event,
    sessions::Media,
    sight::Reason,
    viewing::{Choice, Turn},
    wish::Wish,
};
use crate::{
    egress::{Egress, Role, fan_out::Started},
    rtp::{descriptor::Extent, transport_cc::Feedback},
    track::{
        Listener, Track,
        id::{StreamTracks, TrackId},
    },
};

/// A keyframe this young need not be asked for again: what has come since is a small burst.
const FRESH: Duration = Duration::from_millis(300);

impl Worker {
    /// A listener's session is connected: it gets what there is.
    pub(super) fn join(&mut self, key: usize, now: Instant) {
        let Some(stream) = self.sessions.get_mut(key).map(|session| session.plan.tracks()) else { return };
        let Some(listening) = self.sessions.listening_mut(key) else { return };
        let video = listening.video;
        let egress: Vec<_> = listening.tracks.iter().map(|egress| (egress.wanted(), egress.kind())).collect();
        for (index, (wanted, kind)) in egress.into_iter().enumerate() {
            let listener = Listener { session: key, egress: index };
            let Some(wanted) = wanted else { continue };
            if kind == protocol::Kind::Audio {
                self.subscribe_sound(listener, &stream, wanted);
                self.sounds.join(stream, listener, now);
                self.hear(key, now);
                self.tell_rungs(stream.audio, Some(now));
                continue;
            }
            self.pictures.join(video, listener, &mut self.tracks, now);
            let unwanted =
                self.sessions.viewing_mut(listener).is_some_and(|viewing| !viewing.wants_picture());
            if unwanted || self.pictures.get(video).is_some_and(|picture| picture.has_encodings()) {
                if let Some(egress) = self.sessions.egress_mut(listener) {
                    egress.stop();
                }
            } else {
                self.subscribe(listener, wanted);
                self.begin(listener, wanted, true, now);
            }
            self.choose(listener, now);
        }
    }

    /// A session is gone, which had these tracks.
    pub(super) fn leave(&mut self, key: usize, video: TrackId, tracks: &[Egress]) {
        for (index, egress) in tracks.iter().enumerate() {
            let listener = Listener { session: key, egress: index };
            if self.pictures.leave(video, listener) {
                self.tell_wanted(video, &[]);
            }
            if egress.kind() == protocol::Kind::Audio {
                self.sounds.leave(egress.whole(), listener);
                self.tell_rungs(egress.whole(), None);
            }
            for source in egress.sources() {
                self.unsubscribe(listener, source);
            }
        }
    }

    /// A track starts anew, or for the first time.
    pub(super) fn handle_anew(&mut self, id: TrackId, now: Instant) {
        self.fan_out.handle_anew(id);
        let Some(track) = self.tracks.get(&id) else { return };
        let listeners: Vec<Listener> = track.listeners().collect();
        for listener in listeners {
            let Some(egress) = self.sessions.egress_mut(listener) else { continue };
            egress.handle_anew(id);
            // It waits for another one.
            if egress.role(id) == Role::None {
                self.unsubscribe(listener, id);
            }
        }
        if let Some((listeners, whole)) = self.pictures.handle_anew(id, now) {
            self.start_over(&listeners, whole.then_some(id));
        }
    }

    /// A picture comes in another way than before, as this whole or in encodings. What listeners got is over.
    fn start_over(&mut self, listeners: &[Listener], whole: Option<TrackId>) {
        for listener in listeners {
            self.stop(*listener);
            let wants = self.sessions.viewing_mut(*listener).is_some_and(|viewing| viewing.wants_picture());
            if let Some(whole) = whole.filter(|_| wants) {
                self.turn_to(*listener, whole, Extent::ALL);
            }
        }
    }

    /// What a picture can be had in from elsewhere is another.
    pub(super) fn handle_advertised(
        &mut self,
        tracks: StreamTracks,
        encodings: &[AdvertisedEncoding],
        now: Instant,
    ) {
        let listeners = self.pictures.handle_advertised(tracks, encodings, now);
        self.start_over(&listeners, None);
    }

    /// The node has to know which encodings of a picture are wanted here, where they come from elsewhere.
    fn tell_wanted(&mut self, video: TrackId, listeners: &[Listener]) {
        let sessions = &mut self.sessions;
        let wanted = listeners.iter().filter_map(|listener| sessions.viewing_mut(*listener)?.wanted());
        if let Some(wanted) = self.pictures.handle_wanted(video, wanted) {
            self.events.push_back(Event::Demand { worker: self.index, track: video, wanted });
        }
    }

    /// A listener asks for another picture. Who owns its session acts, the others keep it in mind as long as nobody does.
    pub(super) fn handle_wish(&mut self, session: SessionId, wish: Wish, now: Instant) {
        self.sessions.ask_waiting(session, |asked| asked.wish = wish);
        let Some(listener) = self.viewer(session) else { return };
        if let Some(viewing) = self.sessions.viewing_mut(listener) {
            viewing.handle_wish(wish, now);
        }
        self.choose(listener, now);
        if let Some(listening) = self.sessions.listening_mut(listener.session) {
            let video = listening.video;
            let listeners = self.pictures.listeners(video);
            self.tell_wanted(video, &listeners);
        }
    }

    /// Somebody wants to know what a listener sees and hears, or nobody does.
    pub(super) fn handle_watch(&mut self, session: SessionId, watched: bool, now: Instant) {
        self.sessions.ask_waiting(session, |asked| asked.watched = watched);
        if let Some(key) = self.sessions.find(session) {
            let hearing = self.sessions.listening_mut(key).and_then(|listening| listening.hearing.as_mut());
            if let Some(hearing) = hearing {
                hearing.telling.watch(watched);
            }
            self.hear(key, now);
        }
        let Some(listener) = self.viewer(session) else { return };
        if let Some(viewing) = self.sessions.viewing_mut(listener) {
            viewing.telling.watch(watched);
        }
    }

    /// The picture of a session that is owned here.
    fn viewer(&mut self, session: SessionId) -> Option<Listener> {
        let session = self.sessions.find(session)?;
        let tracks = &self.sessions.listening_mut(session)?.tracks;
        let egress = tracks.iter().position(|track| track.kind() == protocol::Kind::Video)?;
        Some(Listener { session, egress })
    }

    /// Counts how a listener fares, and tells what it sees if somebody wants to know.
    fn look_at(&mut self, listener: Listener, now: Instant) {
        let Some(session) = self.sessions.get_mut(listener.session) else { return };
        let id = session.plan.id;
        let Media::Egress(listening) = &mut session.media else { return };
        let egress = listening.tracks.get(listener.egress);
        let (Some(viewing), Some(picture)) = (&mut listening.viewing, self.pictures.get(listening.video))
        else {
            return;
        };
        if let Some((estimate, allocated)) = viewing.poll_sample(&listening.path, now) {
            self.stats.estimates.record(estimate);
            self.stats.allocated.record(allocated);
        }
        if viewing.telling.is_due(now) {
            let sight = viewing.sight(picture, egress);
            let news = viewing.telling.handle_sight(sight, now).map(Box::new);
            self.events.extend(news.map(|sight| Event::Sight { session: id, sight }));
        }
    }

    /// A listener has begun with a source. Gives its sound if that goes on in another rung than before.
    pub(super) fn handle_started(&mut self, started: Started) -> Option<TrackId> {
        let Started { listener, before } = started;
        if let Some(before) = before {
            self.unsubscribe(listener, before);
        }
        let egress = self.sessions.egress_mut(listener);
        let sound =
            egress.filter(|egress| egress.kind() == protocol::Kind::Audio).map(|egress| egress.whole());
        if let Some(viewing) = self.sessions.viewing_mut(listener).filter(|_| sound.is_none()) {
            let thinned = viewing.handle_started();
            self.stats.thinned += u64::from(thinned && before.is_some());
        }
        self.sessions.schedule(listener.session);
        sound.filter(|_| before.is_some())
    }

    /// A listener tells what came.
    pub(super) fn handle_transport_feedback(&mut self, key: usize, feedback: &Feedback<'_>, now: Instant) {
        let Some(listening) = self.sessions.listening_mut(key) else { return };
        listening.path.handle_feedback(feedback, now);
        self.hear(key, now);
        self.see(key, now);
    }

    /// What is known of a listener's path is another.
    pub(super) fn see(&mut self, key: usize, now: Instant) {
        let Some(listening) = self.sessions.listening_mut(key) else { return };
        let Some(egress) = listening.tracks.iter().position(|track| track.kind() == protocol::Kind::Video)
        else {
            return;
        };
        let listener = Listener { session: key, egress };
        self.choose(listener, now);
        let Some(listening) = self.sessions.listening_mut(key) else { return };
        if let Some(probe) = listening.path.poll_probe(now) {
            self.stats.probes += 1;
            self.fan_out.handle_probe(listener, probe, now);
        }
    }

    /// Rates are looked at again, and what follows for each listener.
    pub(super) fn look_due(&mut self, now: Instant) {
        // Each is looked at once: its time has moved on.
        while let Some(Look { video, listeners, whole, standby }) =
            self.pictures.poll_look(&mut self.tracks, now)
        {
            if whole {
                self.start_over(&listeners, Some(video));
            }
            for listener in listeners.iter().copied() {
                self.guarded(listener.session, |own| {
                    if let Some(listening) = own.sessions.listening_mut(listener.session) {
                        listening.handle_timeout(now);
                    }
                    own.choose(listener, now);
                    own.look_at(listener, now);
                });
            }
            self.tell_wanted(video, &listeners);
            if let Some(base) = standby {
                self.want_keyframe(base, now);
            }
        }
    }

    fn choose(&mut self, listener: Listener, now: Instant) {
        let Some(Media::Egress(listening)) =
            self.sessions.get_mut(listener.session).map(|session| &mut session.media)
        else {
            return;
        };
        let (Some(viewing), Some(picture)) = (&mut listening.viewing, self.pictures.get(listening.video))
        else {
            return;
        };
        let path = &mut listening.path;
        let choice = viewing.choose(picture, path, now);
        if listening.hearing.as_ref().is_some_and(|hearing| hearing.is_lowered()) {
            // First the sound gets better.
            path.set_wanted(None);
        }
        let too_much = viewing.is_too_much(path, now);
        let clogged = path.is_clogged(now);
        let Some(egress) = listening.tracks.get_mut(listener.egress) else { return };
        // Nothing is lost by leaving it at once.
        let over = egress.source().is_none_or(|source| picture.is_stalled(source));
        let elsewhere = picture.is_from_elsewhere();
        let encoding = egress.source().and_then(|source| picture.encoding(source)).unwrap_or_default();
        let highest = picture.highest(encoding).spatial;
        match choice {
            Choice::AsBefore => {}
            Choice::Nothing(why) => self.stats.pauses[why as usize] += u64::from(self.stop(listener)),
            Choice::Layer { track, extent, turn } => match egress.role(track) {
                Role::Source => {
                    egress.set_layers(extent);
                    let waited = egress.turn_to(track, extent);
                    let asks = viewing.asks_for_layer(egress.waits_for_layer(highest), now);
                    waited.into_iter().for_each(|other| self.unsubscribe(listener, other));
                    if asks {
                        self.want_keyframe(track, now);
                    }
                }
                Role::NextSource => {
                    let blank = egress.source().is_none();
                    if over && !blank {
                        self.begin(listener, track, over, now);
                    } else if blank && !clogged {
                        // It may have waited for a queue to get shorter: what came meanwhile is there.
                        self.catch_up(listener, track, now);
                    } else if too_much {
                        self.pause(listener);
                    }
                }
                Role::None => {
                    let worse = turn.is_some_and(|(turn, _)| turn == Turn::Down);
                    let why = turn.map_or(Reason::Link, |(_, why)| why);
                    // What was wished can wait for its keyframe, and what does not come takes nothing.
                    if worse && why == Reason::Link {
                        egress.set_layers(Extent::BASE);
                    }
                    if egress.source().is_some() {
                        self.stats.switches[usize::from(worse)][why as usize] += 1;
                    }
                    self.turn_to(listener, track, extent);
                    if worse && too_much {
                        self.pause(listener);
                    }
                    if clogged {
                        // What is in the ring would only make the queue longer.
                        self.want_keyframe(track, now);
                        return;
                    }
                    // What comes again often does so with a keyframe that was asked for on its way.
                    let fresh = elsewhere && self.has_fresh_picture(track, now);
                    self.begin(listener, track, over || fresh, now);
                }
            },
        }
    }

    /// A listener gets nothing until what it waits for begins.
    fn pause(&mut self, listener: Listener) {
        let Some(egress) = self.sessions.egress_mut(listener) else { return };
        if let Some(source) = egress.source() {
            egress.pause();
            self.unsubscribe(listener, source);
        }
    }

    /// A listener gets nothing, and waits for nothing. False if that was so before.
    fn stop(&mut self, listener: Listener) -> bool {
        let Some(egress) = self.sessions.egress_mut(listener) else { return false };
        let sources: Vec<TrackId> = egress.sources().collect();
        egress.stop();
        sources.iter().for_each(|source| self.unsubscribe(listener, *source));
        !sources.is_empty()
    }

    /// From its next keyframe on a listener gets this track.
    fn turn_to(&mut self, listener: Listener, track: TrackId, extent: Extent) {
        let Some(egress) = self.sessions.egress_mut(listener) else { return };
        let waited = egress.turn_to(track, extent);
        waited.into_iter().for_each(|other| self.unsubscribe(listener, other));
        self.subscribe(listener, track);
    }

    /// Whether a keyframe has just come: with another one no time would be won.
    fn has_fresh_picture(&self, track: TrackId, now: Instant) -> bool {
        let keyframe = self.tracks.get(&track).and_then(|track| track.ring().keyframe_at());
        keyframe.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
    }

    /// Who sees nothing, or gets no more of what it sees, begins with the picture that is there, if it is whole. All
    /// others wait for a keyframe.
    fn begin(&mut self, listener: Listener, track: TrackId, over: bool, now: Instant) {
        if !over || !self.catch_up(listener, track, now) {
            self.want_keyframe(track, now);
        }
    }

    /// Begins with the picture that is there. False if it is not whole.
    fn catch_up(&mut self, listener: Listener, track: TrackId, now: Instant) -> bool {
        let before = self.sessions.egress_mut(listener).and_then(|egress| egress.source());
        let begins = self.fan_out.catch_up(listener, track, &mut self.tracks, &mut self.sessions, now);
        if begins {
            self.handle_started(Started { listener, before });
        }
        begins
    }

    pub(super) fn subscribe(&mut self, listener: Listener, id: TrackId) {
        let kind = self.sessions.egress_mut(listener).map(|egress| egress.kind());
        let Some(kind) = kind else { return };
        self.tracks.entry(id).or_insert_with(|| Track::new(kind)).subscribe(listener);
    }

    pub(super) fn unsubscribe(&mut self, listener: Listener, id: TrackId) {
        if let Some(track) = self.tracks.get_mut(&id) {
            track.unsubscribe(listener);
        }
    }
}
