//! Carries out how listeners hear.

use std::time::Instant;

use protocol::Kind;

use super::Worker;

impl Worker {
    /// What is known of how a listener's sound arrives is another.
    pub(super) fn hear(&mut self, key: usize, now: Instant) {
        let Some(listening) = self.sessions.listening_mut(key) else { return };
        let egress = listening.tracks.iter_mut().find(|egress| egress.kind() == Kind::Audio);
        let (Some(egress), Some(hearing)) = (egress, &mut listening.hearing) else { return };
        if listening.path.is_told() {
            hearing.handle_told(&listening.path, now);
        }
        let track = egress.source().and_then(|source| self.tracks.get_mut(&source));
        let sound = track.map_or(0, |track| track.meter().bits_per_second(now));
        egress.set_repeats(hearing.repeats(&mut listening.path, sound, now));
    }
}
