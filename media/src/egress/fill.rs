//! What fills a batch: new packets of a track to everybody, what waited for one listener, what it missed, a picture for a
//! latecomer, a probe. What waits to be sent, and until when, is in `fan_out` and `pacer`.
//!
//! Listeners are the outer loop and packets the inner one, so that packets to one listener lie one behind the other and
//! leave as one segmented send.

use std::{collections::VecDeque, net::SocketAddr, ops::RangeInclusive, time::Instant};

use protocol::{Kind, mesh::SenderClock};

use super::{
    Egress, MAX_SEALED_LEN, Role, Sent, Way,
    batch::{Batch, MAX_RUNS},
    pacer::Backlogs,
};
use crate::{
    bandwidth::Estimator,
    drop_reason::DropReason,
    rtp::{packet::UDP_OVERHEAD, srtp::Sealer},
    stats::{Stats, Traffic},
    track::{Listener, Track, Tracks, id::TrackId, ring::Ring},
};

/// The sessions as fan-out sees them: the sending sides of the listeners' tracks. A type parameter, not an
/// object: it is asked once for each listener and flush.
pub(crate) trait EgressTable {
    /// The sending side of a listener's track with what sealing needs; `None` until it is connected.
    fn sending(&mut self, listener: Listener) -> Option<Sending<'_>>;
}

/// The sending side of a connected listener's track.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    /// Its numbers.
    pub(crate) egress: &'a mut Egress,
    /// The key of its session.
    pub(crate) sealer: &'a Sealer,
    /// Where its session's media goes.
    pub(crate) to: SocketAddr,
    /// What its path is thought to carry, where that is judged.
    pub(crate) path: Option<&'a mut Estimator>,
}

impl<'a> Sending<'a> {
    fn way<'b>(self, batch: &'b mut Batch, now: Instant) -> (&'b mut Egress, Way<'b>)
    where
        'a: 'b,
    {
        let Sending { egress, sealer, to, path } = self;
        (egress, Way { sealer, to, path, batch, now })
    }
}

/// A listener has begun with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    /// Which.
    pub(crate) listener: Listener,
    /// What it was taken from before, if that is not over.
    pub(crate) before: Option<TrackId>,
}

/// Work that fills batches; carried out in order.
#[derive(Debug)]
pub(super) enum Job {
    /// New packets to everybody.
    FanOut { track: TrackId, numbers: Vec<u64>, done: usize },
    /// A picture from its keyframe on, to one latecomer, as long as it is in that start: up to, not including, `end`.
    CatchUp { listener: Listener, track: TrackId, start: u64, next: u64, end: u64 },
    /// The next run of what waits for one listener.
    Paced { listener: Listener, begun: bool },
    /// Packets that one listener missed.
    Repair { listener: Listener, sequences: Vec<u16>, done: usize },
    /// A part of a burst that tries the path of one listener: so many packets and octets are still to go.
    Probe { listener: Listener, number: u8, packets: usize, octets: usize, sent: u64 },
}

impl Job {
    /// True if it sends numbers of this track, which a new source makes void.
    pub(super) fn is_of(&self, id: TrackId) -> bool {
        match self {
            Job::FanOut { track, .. } | Job::CatchUp { track, .. } => *track == id,
            Job::Paced { .. } | Job::Repair { .. } | Job::Probe { .. } => false,
        }
    }

    /// True if it serves only this session.
    pub(super) fn is_for(&self, session: usize) -> bool {
        match self {
            Job::FanOut { .. } => false,
            Job::CatchUp { listener, .. }
            | Job::Paced { listener, .. }
            | Job::Repair { listener, .. }
            | Job::Probe { listener, .. } => listener.session == session,
        }
    }
}

/// What the jobs of one batch work with.
pub(super) struct Fill<'a, S> {
    pub(super) batch: &'a mut Batch,
    pub(super) tracks: &'a Tracks,
    pub(super) sessions: &'a mut S,
    pub(super) stats: &'a mut Stats,
    pub(super) started: &'a mut VecDeque<Started>,
    pub(super) wanted: &'a mut VecDeque<TrackId>,
    pub(super) backlogs: &'a mut Backlogs,
    pub(super) now: Instant,
}

impl<S: EgressTable> Fill<'_, S> {
    /// Carries a job on; false if the batch is full before it is done.
    pub(super) fn advance(&mut self, job: &mut Job) -> bool {
        let Fill { batch, tracks, sessions, stats, now, .. } = self;
        match job {
            Job::FanOut { track, numbers, done } => self.send_to_all(*track, numbers, done),
            Job::CatchUp { listener, track: id, start, next, end } => {
                let Some(ring) = tracks.get(id).map(Track::ring) else { return true };
                let Some(sending) = sessions.sending(*listener) else { return true };
                let (egress, mut way) = sending.way(batch, *now);
                if egress.source() != Some(*id) || egress.starts() != *start {
                    return true;
                }
                while next < end {
                    if !way.batch.has_room(1, MAX_SEALED_LEN) {
                        return false;
                    }
                    if let Some((packet, padding)) = ring.get(*next) {
                        let sent = egress.send((*id, *next), packet, padding, &mut way);
                        count(stats, sent, Kind::Video);
                    }
                    *next += 1;
                }
                true
            }
            Job::Paced { listener, begun } => {
                let Some(sending) = sessions.sending(*listener) else {
                    self.backlogs.push(*listener, *now);
                    return true;
                };
                let (egress, mut way) = sending.way(batch, *now);
                if !std::mem::replace(begun, true) {
                    egress.fill_budget(way.path.as_deref(), *now);
                }
                let done = send_waiting(tracks, egress, &mut way, stats, true);
                if done {
                    self.backlogs.handle_served(*listener, egress, *now);
                }
                done
            }
            Job::Repair { listener, sequences, done } => {
                let Some(sending) = sessions.sending(*listener) else { return true };
                let (egress, mut way) = sending.way(batch, *now);
                while let Some(sequence) = sequences.get(*done) {
                    if !way.batch.has_room(1, MAX_SEALED_LEN) {
                        return false;
                    }
                    let missed = egress.missed(*sequence);
                    let there = missed.and_then(|missed| Some((missed, tracks.get(&missed.track)?.ring())));
                    let sent =
                        there.map_or(Sent::NotThere, |(missed, ring)| egress.repair(missed, ring, &mut way));
                    count(stats, sent, egress.kind());
                    if let Sent::Octets(octets) = sent {
                        stats.repairs += 1;
                        egress.spend((octets + UDP_OVERHEAD) as f64);
                    }
                    *done += 1;
                }
                true
            }
            Job::Probe { listener, number, packets, octets, sent } => {
                let Some(sending) = sessions.sending(*listener) else { return true };
                let (egress, mut way) = sending.way(batch, *now);
                while *packets > 0 || *octets > 0 {
                    if !way.batch.has_room(1, MAX_SEALED_LEN) {
                        return false;
                    }
                    let missed = egress.missed_at(*sent);
                    let ring = missed.and_then(|missed| tracks.get(&missed.track)).map(Track::ring);
                    let each = *octets / (*packets).max(1);
                    let Sent::Octets(len) = egress.probe(*sent, (*number, each), ring, &mut way) else {
                        return true;
                    };
                    // What waits gets what the probe leaves of the budget: together they are no faster.
                    egress.spend((len + UDP_OVERHEAD) as f64);
                    *packets = packets.saturating_sub(1);
                    *octets = octets.saturating_sub(len + UDP_OVERHEAD);
                    *sent += 1;
                }
                true
            }
        }
    }

    /// New packets of a track to its listeners, from the place `done` on.
    fn send_to_all(&mut self, id: TrackId, numbers: &[u64], done: &mut usize) -> bool {
        let Fill { batch, tracks, sessions, stats, now, .. } = self;
        let Some(track) = tracks.get(&id) else { return true };
        let ring = track.ring();
        let Some(kind) =
            numbers.first().and_then(|number| ring.get(*number)).map(|(packet, _)| packet.kind())
        else {
            return true;
        };
        let mut traffic = Traffic::default();
        // Of a sound: what has left before, and leaves once more.
        let mut again = Traffic::default();
        let mut done_all = true;
        let mut waiting = false;
        for place in track.places().get(*done..).unwrap_or_default() {
            if !batch.has_room(numbers.len().min(MAX_RUNS), MAX_SEALED_LEN) {
                done_all = false;
                break;
            }
            *done += 1;
            let Some(listener) = *place else { continue };
            let Some(sending) = sessions.sending(listener) else { continue };
            let (egress, mut way) = sending.way(batch, *now);
            let mut from = 0;
            // Of a sound: what leaves beside what is new.
            let mut missing = None;
            match egress.role(id) {
                Role::Source if kind == Kind::Audio => match egress.held((track, numbers), tracks, *now) {
                    Some(held) => missing = held,
                    None => continue,
                },
                Role::Source => {}
                Role::None => continue,
                // A picture that begins behind a long queue comes too late, and in parts.
                Role::NextSource if kind == Kind::Video && is_clogged(way.path.as_deref(), *now) => continue,
                Role::NextSource if kind == Kind::Audio && egress.source().is_some() => {
                    let Some(range) = egress.goes_on((track, numbers), tracks, *now) else { continue };
                    let before = egress.source();
                    egress.go_on(id, *range.start());
                    self.started.push_back(Started { listener, before });
                    missing = Some(range);
                }
                Role::NextSource => {
                    match start(ring, numbers, kind) {
                        Some(index) => from = index,
                        None => {
                            waiting = true;
                            continue;
                        }
                    }
                    let Some((packet, _)) = ring.get(numbers[from]) else { continue };
                    let before = egress.source();
                    egress.start((id, numbers[from]), packet, clocks(tracks, before, id), *now);
                    egress.report_soon(*now);
                    self.started.push_back(Started { listener, before });
                }
            }
            if kind == Kind::Video && egress.is_paced(way.path.as_deref(), *now) {
                let waited = egress.has_backlog();
                if !waited {
                    egress.fill_budget(way.path.as_deref(), *now);
                }
                egress.defer(&numbers[from..], ring, *now);
                if !waited {
                    send_waiting(tracks, egress, &mut way, stats, false);
                }
                self.backlogs.handle_backlog(listener, egress, *now);
                continue;
            }
            if kind == Kind::Audio {
                again += egress.repeat_before(tracks, &mut way);
            }
            let (range, new) = match missing {
                Some(range) => (range, &[][..]),
                None => (RangeInclusive::new(1, 0), &numbers[from..]),
            };
            for number in range.chain(new.iter().copied()) {
                let Some((packet, padding)) = ring.get(number).filter(|_| egress.wants(number)) else {
                    continue;
                };
                let copies = egress.copies((id, number), packet, tracks);
                let carries = !copies.is_empty();
                match egress.send_with((id, number), packet, padding, copies, &mut way) {
                    Sent::Octets(octets) => {
                        traffic.handle_packet(octets);
                        stats.red += u64::from(carries);
                    }
                    Sent::Codec => stats.drop(DropReason::CodecNotNegotiated),
                    Sent::Withheld | Sent::NotThere | Sent::OnItsWay | Sent::Budget => {}
                }
            }
            if kind == Kind::Audio {
                again += egress.repeat(tracks, &mut way);
            }
        }
        stats.repeats += again.packets;
        traffic += again;
        *Stats::traffic(&mut stats.sent, kind) += traffic;
        if waiting {
            self.wanted.push_back(id);
        }
        done_all
    }
}

fn is_clogged(path: Option<&Estimator>, now: Instant) -> bool {
    path.is_some_and(|path| path.is_clogged(now))
}

/// Sends of what waits for a listener as much as may leave in this run. False if the batch is full before that.
fn send_waiting(
    tracks: &Tracks,
    egress: &mut Egress,
    way: &mut Way<'_>,
    stats: &mut Stats,
    waited: bool,
) -> bool {
    let source = egress.source();
    let Some((id, ring)) = source.and_then(|id| Some((id, tracks.get(&id)?.ring()))) else {
        egress.drop_backlog();
        return true;
    };
    while way.batch.has_room(1, MAX_SEALED_LEN) {
        let Some((number, octets, speed)) = egress.poll_waiting(ring) else { return true };
        let Some((packet, padding)) = ring.get(number) else {
            stats.drop(DropReason::Stale);
            continue;
        };
        match egress.send((id, number), packet, padding, way) {
            sent @ Sent::Octets(_) => {
                egress.spend(octets);
                count(stats, sent, Kind::Video);
                stats.paced[speed as usize] += u64::from(waited);
            }
            Sent::Codec => stats.drop(DropReason::CodecNotNegotiated),
            Sent::Withheld | Sent::NotThere | Sent::OnItsWay | Sent::Budget => {}
        }
    }
    false
}

/// What the publishers' clocks say of the source before and of the next one.
pub(super) fn clocks(tracks: &Tracks, before: Option<TrackId>, next: TrackId) -> [Option<SenderClock>; 2] {
    [before, Some(next)].map(|id| Some(tracks.get(&id?)?.clock()?.0))
}

/// Where a listener can start: sound anywhere, a picture with a keyframe.
fn start(ring: &Ring, numbers: &[u64], kind: Kind) -> Option<usize> {
    match kind {
        Kind::Audio => Some(0),
        Kind::Video => numbers
            .iter()
            .position(|number| ring.get(*number).is_some_and(|(packet, _)| packet.description.keyframe)),
    }
}

fn count(stats: &mut Stats, sent: Sent, kind: Kind) {
    match sent {
        Sent::Octets(octets) => Stats::traffic(&mut stats.sent, kind).handle_packet(octets),
        Sent::Codec => stats.drop(DropReason::CodecNotNegotiated),
        Sent::Withheld => {}
        Sent::NotThere => stats.drop(DropReason::RepairNotThere),
        Sent::OnItsWay => stats.drop(DropReason::RepairOnItsWay),
        Sent::Budget => stats.drop(DropReason::RepairBudget),
    }
}
