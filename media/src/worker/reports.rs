//! What RTCP asks of a worker: packets again, a keyframe, a picture of how a receiver fares; and what the worker
//! reports to publishers itself.

use std::time::Instant;

use protocol::{Kind, mesh::SenderClock};

use super::{
    Worker,
    plan::{Audience, Event, Flow, Relayed},
    sessions::Media,
};
use crate::{
    egress::Egress,
    ingest::{Part, Reported},
    rtp::rtcp::{Compound, Report},
    track::{Listener, Track, id::TrackId},
};

/// One NACK message cannot ask for more.
const MAX_NACKED: usize = 256;

impl Worker {
    pub(super) fn handle_reports(&mut self, key: usize, reports: &[Report], now: Instant) {
        for report in reports {
            let Some(session) = self.sessions.get_mut(key) else { return };
            match &mut session.media {
                Media::Ingest(ingest) => {
                    if let Some(Reported { track, epoch, whole, clock }) = ingest.handle_report(report, now) {
                        self.bring_clock(Part { track, epoch }, clock, Audience::Everybody, now);
                        if let Some(whole) = whole {
                            self.bring_clock(whole, clock, Audience::Links, now);
                        }
                    }
                }
                Media::Egress(listening) => match report {
                    Report::Nack { ssrc, pairs } => {
                        let by_ssrc = |track: &Egress| track.ssrc() == *ssrc;
                        let Some(egress) = listening.tracks.iter().position(by_ssrc) else {
                            continue;
                        };
                        let sequences: Vec<u16> = rtcp_sequences(pairs).take(MAX_NACKED).collect();
                        self.stats.nacks[1] += sequences.len() as u64;
                        let sound = listening.tracks[egress].kind() == Kind::Audio;
                        if let Some(hearing) = listening.hearing.as_mut().filter(|_| sound) {
                            hearing.handle_nack(now);
                        }
                        self.fan_out.handle_nack(Listener { session: key, egress }, sequences);
                    }
                    Report::Keyframe { ssrc } => {
                        let by_ssrc = |track: &&Egress| track.ssrc() == *ssrc;
                        let wanted = listening.tracks.iter().find(by_ssrc).and_then(Egress::wanted);
                        self.stats.keyframe_requests[1] += 1;
                        let came = |id: &TrackId| self.tracks.get(id)?.ring().keyframe_at();
                        if let Some(track) = wanted.filter(|id| listening.keyframes.take(came(id), now)) {
                            self.want_keyframe(track, now);
                        }
                    }
                    Report::Reception(reception) => {
                        let lost = f64::from(reception.fraction_lost) / 256.0;
                        let by_ssrc = |track: &&Egress| track.ssrc() == reception.ssrc;
                        match listening.tracks.iter().find(by_ssrc).map(Egress::kind) {
                            Some(Kind::Video) => {
                                listening.path.handle_reception(lost, now);
                                self.see(key, now);
                            }
                            Some(Kind::Audio) => {
                                if let Some(hearing) = &mut listening.hearing {
                                    hearing.handle_report(lost, now);
                                }
                                self.hear(key, now);
                            }
                            None => {}
                        }
                    }
                    Report::Estimate { bitrate } => {
                        listening.path.handle_remb(*bitrate, now);
                        self.see(key, now);
                    }
                    Report::Sender { .. } | Report::Bye { .. } => {}
                },
            }
        }
        self.sessions.schedule(key);
    }

    /// The clock of a publisher, for a track that it feeds.
    fn bring_clock(&mut self, part: Part, clock: SenderClock, audience: Audience, now: Instant) {
        let Part { track, epoch } = part;
        if audience == Audience::Everybody {
            self.handle_clock(track, epoch, clock, now);
        }
        self.relayed.push_back((track, Relayed::Clock { epoch, clock }, audience));
        // The times of rungs are the publisher's.
        for rung in self.sounds.fed_rungs(track) {
            self.handle_clock(rung, epoch, clock, now);
            self.relayed.push_back((rung, Relayed::Clock { epoch, clock }, Audience::Everybody));
        }
    }

    /// Reports and requests that a session owes its peer.
    pub(super) fn feed_back(&mut self, key: usize, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.keys.is_none() {
            return;
        }
        let compound = match &mut session.media {
            Media::Ingest(ingest) => match ingest.poll_feedback(now) {
                Some((compound, count)) => {
                    self.stats.nacks[0] += count.nacks;
                    self.stats.keyframe_requests[0] += count.keyframe_requests;
                    if count.reported {
                        let id = session.plan.id;
                        let health = ingest.poll_health();
                        self.events.extend(health.map(|health| Event::Health { session: id, health }));
                        let encodings = ingest.poll_encodings(now).map(<[_]>::to_vec);
                        let event = |encodings| Event::Encodings { session: id, encodings };
                        self.events.extend(encodings.map(event));
                        let Flow::Ingest { tracks, .. } = &session.plan.flow else { return };
                        if let Some(track) = self.tracks.get_mut(&tracks.audio) {
                            let view = self.sounds.view(tracks.audio, track, now);
                            let event = |sound| Event::Sound { session: id, sound };
                            self.events.extend(ingest.poll_sound(view).map(event));
                        }
                    }
                    compound
                }
                None => return,
            },
            Media::Egress(listening) => {
                let tracks = &mut listening.tracks;
                let mut compound = Compound::default();
                for egress in &mut *tracks {
                    let source = egress.source().and_then(|source| self.tracks.get(&source));
                    let clock = source.and_then(Track::clock);
                    egress.poll_report(clock, &mut compound, now);
                }
                let Flow::Egress { cname, .. } = &session.plan.flow else { return };
                if compound.is_empty() {
                    return;
                }
                for egress in tracks {
                    compound.cname(egress.ssrc(), cname);
                }
                compound
            }
        };
        self.outbox.extend(session.seal_rtcp(&compound));
    }

    /// A listener here needs a picture: ask the publisher if it is ours, else tell the node. What is asked for
    /// too soon after the last time is asked for when that is over.
    pub(super) fn want_keyframe(&mut self, id: TrackId, now: Instant) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if !track.ask_keyframe(now) {
            if !self.asking.contains(&id) {
                self.asking.push(id);
            }
        } else if !self.request_keyframe(id, now) {
            self.events.push_back(Event::KeyframeWanted { track: id });
        }
    }

    /// Asks for the keyframes that had to wait.
    pub(super) fn ask_due(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(&id) = self.asking.get(index) {
            match self.tracks.get(&id).and_then(Track::keyframe_due) {
                Some(due) if due > now => index += 1,
                Some(_) => {
                    self.asking.swap_remove(index);
                    self.want_keyframe(id, now);
                }
                None => drop(self.asking.swap_remove(index)),
            }
        }
    }

    /// Asks the publisher of a track, if its session is here: each of them, while one replaces another.
    pub(super) fn request_keyframe(&mut self, id: TrackId, now: Instant) -> bool {
        let publishers = self.sessions.publishers(id);
        for key in &publishers {
            if let Some(Media::Ingest(ingest)) = self.sessions.get_mut(*key).map(|session| &mut session.media)
            {
                ingest.handle_keyframe_request(id, now);
                self.sessions.schedule(*key);
            }
        }
        !publishers.is_empty()
    }
}

/// The sequence numbers of a generic NACK (RFC 4585 section 6.2.1).
fn rtcp_sequences(pairs: &[(u16, u16)]) -> impl Iterator<Item = u16> {
    pairs.iter().flat_map(|(first, following)| {
        let more = (0..16).filter(move |bit| following >> bit & 1 == 1);
        std::iter::once(*first).chain(more.map(move |bit| first.wrapping_add(bit + 1)))
    })
}
