//! Carries out how listeners hear: which rungs they are at, how often packets leave, what the node is told of it.

use std::time::Instant;

use protocol::{Kind, SessionId};

use super::{
    Worker,
    advertised::AdvertisedSound,
    hearing::SoundWish,
    plan::{Audience, Event, Relayed},
    sounds::{Heard, Look, Sound},
};
use crate::{
    egress::Egress,
    rtp::descriptor::Extent,
    stats::MENDED,
    track::{
        Listener,
        id::{MAX_RUNGS, StreamTracks, TrackId},
    },
};

/// So many packets warm a decoder up.
const WARM: u64 = 5;

impl Worker {
    /// Which rungs a sound can be had in, and what is known of it if it comes from elsewhere.
    pub(super) fn handle_rungs(
        &mut self,
        (tracks, open, elsewhere): (StreamTracks, [bool; MAX_RUNGS], Option<AdvertisedSound>),
        now: Instant,
    ) {
        let listeners = self.sounds.handle_rungs(tracks, open, elsewhere, now);
        self.sounds.look_now(tracks.audio, &mut self.tracks, now);
        self.hear_all(tracks.audio, &listeners, now);
    }

    /// Somebody makes rungs of this sound, or nobody does any more. Who begins to gets what came last.
    pub(super) fn handle_feed(&mut self, tracks: StreamTracks, feeds: bool) {
        let begins = self.sounds.feed(tracks, feeds);
        let feeds_here = begins && !self.sessions.publishers(tracks.audio).is_empty();
        let Some(track) = self.tracks.get(&tracks.audio).filter(|_| feeds_here) else { return };
        let ring = track.ring();
        let newest = ring.highest().map(|highest| highest.saturating_sub(WARM - 1)..=highest);
        for (packet, _) in newest.into_iter().flatten().filter_map(|number| ring.get(number)) {
            self.relayed.push_back((tracks.audio, Relayed::Packet(packet.clone()), Audience::Ladder));
        }
    }

    /// A listener asks for another sound.
    pub(super) fn handle_sound_wish(&mut self, session: SessionId, wish: SoundWish, now: Instant) {
        self.sessions.ask_waiting(session, |asked| asked.sound = wish);
        let Some(key) = self.sessions.find(session) else { return };
        if let Some(hearing) =
            self.sessions.listening_mut(key).and_then(|listening| listening.hearing.as_mut())
        {
            hearing.handle_wish(wish);
        }
        self.hear(key, now);
    }

    /// What is known of how a listener's sound arrives is another.
    pub(super) fn hear(&mut self, key: usize, now: Instant) {
        if let Some((audio, true)) = self.hear_one(key, now) {
            self.tell_rungs(audio, Some(now));
        }
    }

    /// A packet of a publisher has come: if a rung has not for a while, who gets it goes on with the publisher's.
    pub(super) fn look_for_stall(&mut self, audio: TrackId, now: Instant) {
        if let Some(listeners) = self.sounds.handle_packet(audio, &self.tracks, now) {
            self.hear_all(audio, &listeners, now);
        }
    }

    /// What sounds take is looked at again, and what follows for each listener.
    pub(super) fn hear_due(&mut self, now: Instant) {
        while let Some(Look { audio, listeners }) = self.sounds.poll_look(&mut self.tracks, now) {
            for listener in &listeners {
                self.guarded(listener.session, |own| {
                    if let Some(listening) = own.sessions.listening_mut(listener.session) {
                        listening.handle_timeout(now);
                    }
                });
            }
            self.hear_all(audio, &listeners, now);
        }
    }

    fn hear_all(&mut self, audio: TrackId, listeners: &[Listener], now: Instant) {
        let mut changed = false;
        for listener in listeners {
            self.guarded(listener.session, |own| {
                changed |= own.hear_one(listener.session, now).is_some_and(|(_, another)| another);
            });
        }
        if changed {
            self.tell_rungs(audio, Some(now));
        }
    }

    /// Chooses for one listener. Gives its sound, and whether it wants another rung than before, or what it loses is mended in
    /// another way.
    fn hear_one(&mut self, key: usize, now: Instant) -> Option<(TrackId, bool)> {
        let listening = self.sessions.listening_mut(key)?;
        let index = listening.tracks.iter().position(|egress| egress.kind() == Kind::Audio)?;
        let (egress, hearing) = (listening.tracks.get_mut(index)?, listening.hearing.as_mut()?);
        if let Some((number, bits)) = egress.take_again() {
            hearing.handle_again(number, bits);
        }
        if listening.path.is_told() {
            hearing.handle_told(&mut listening.path, now);
        }
        let audio = egress.whole();
        let before = (hearing.chosen(), egress.wanted(), hearing.mended());
        let sound = self.sounds.get(audio)?;
        let heard = hearing.choose(sound, &mut listening.path, now)?;
        let another = before != (hearing.chosen(), Some(heard.track), hearing.mended());
        let news = match hearing.telling.is_due(now) {
            true => hearing.telling.handle_sight(hearing.sight(sound, heard.track), now),
            false => None,
        };
        egress.set_repeats(heard.times);
        egress.set_copies(heard.copies.count(), self.sounds.get(audio).and_then(Sound::low));
        if let Some(count) = heard.again {
            egress.go_again(count);
        }
        if egress.wanted() != Some(heard.track) {
            let listener = Listener { session: key, egress: index };
            self.turn_sound_to(listener, heard.track);
        }
        if let Some(sight) = news {
            let session = self.sessions.get_mut(key)?.plan.id;
            self.events.push_back(Event::SoundSight { session, sight });
        }
        Some((audio, another))
    }

    /// From the next packet on a listener gets this rung.
    fn turn_sound_to(&mut self, listener: Listener, track: TrackId) {
        let Some(egress) = self.sessions.egress_mut(listener) else { return };
        let waited = egress.turn_to(track, Extent::ALL);
        let there = egress.source() == Some(track);
        waited.into_iter().for_each(|other| self.unsubscribe(listener, other));
        let stream = self.sessions.get_mut(listener.session).map(|session| session.plan.tracks());
        if let Some(stream) = stream.filter(|_| !there) {
            self.subscribe_sound(listener, &stream, track);
        }
    }

    /// The node has to know which rungs are wanted here. Nobody begins to want one by leaving.
    pub(super) fn tell_rungs(&mut self, audio: TrackId, now: Option<Instant>) {
        let Some(sound) = self.sounds.get(audio) else { return };
        let [mut heard, mut wanted, mut left] = [[0; MAX_RUNGS]; 3];
        let mut mended = [0; MENDED];
        for listener in sound.listeners() {
            let Some(listening) = self.sessions.listening_mut(listener.session) else { continue };
            let how = listening.hearing.as_ref().map(|hearing| hearing.mended());
            how.into_iter().for_each(|how| mended[how as usize] += 1);
            let chosen = listening.hearing.as_ref().and_then(|hearing| sound.rung(hearing.chosen()?));
            let egress = listening.tracks.get(listener.egress);
            let rung = |track: fn(&Egress) -> Option<TrackId>| sound.rung(egress.and_then(track)?);
            rung(Egress::wanted).into_iter().for_each(|rung| heard[rung] += 1);
            chosen.into_iter().for_each(|rung| wanted[rung] += 1);
            // Until the next one begins it gets the present one.
            let source = rung(Egress::source).filter(|source| Some(*source) != chosen);
            source.into_iter().for_each(|rung| left[rung] += 1);
        }
        let Some(sound) = self.sounds.get_mut(audio) else { return };
        let news = sound.handle_heard(Heard { rungs: heard, mended });
        if sound.handle_wanted(wanted, left, now) {
            self.events.push_back(Event::Rungs { worker: self.index, track: audio, wanted, left });
        }
        if news {
            let heard = sound.heard();
            self.events.push_back(Event::Heard { worker: self.index, track: audio, heard });
        }
        (self.stats.hearing, self.stats.mending) = self.sounds.heard();
    }
}
