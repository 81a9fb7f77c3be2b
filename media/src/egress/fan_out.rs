//! Fan-out: the loop in which a relay spends its life. Every packet of a track, to every listener at this
//! worker, sealed with that listener's key into the batch that leaves next.
//!
//! Listeners are the outer loop and packets the inner one, so that packets to one listener lie one behind
//! the other and leave as one segmented send. Owns what waits to be sent; tracks and sessions are lent to it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use protocol::{Kind, mesh::SenderClock};

use super::{
    Egress, MAX_SEALED_LEN, Role, Sent, Way,
    batch::{Batch, MAX_RUNS},
};
use crate::{
    bandwidth::{Estimator, Probe},
    drop_reason::DropReason,
    rtp::srtp::Sealer,
    stats::{Stats, Traffic},
    track::{Listener, Track, Tracks, id::TrackId, ring::Ring},
};

/// What waits to be sent to listeners.
#[derive(Debug, Default)]
pub(crate) struct FanOut {
    /// Tracks with packets that wait for the rest of their frame.
    unflushed: Vec<TrackId>,
    catch_ups: Vec<CatchUp>,
    probings: Vec<Probing>,
    jobs: VecDeque<Job>,
    /// Emptied lists of numbers, to be filled again: a flush allocates nothing.
    spare: Vec<Vec<u64>>,
    /// Listeners that got their first packet of a source, and the source before it.
    started: VecDeque<Started>,
    /// Tracks with a listener that waits for a keyframe.
    wanted: VecDeque<TrackId>,
}

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
enum Job {
    /// New packets to everybody.
    FanOut { track: TrackId, numbers: Vec<u64>, done: usize },
    /// A picture from its keyframe on, to one latecomer: up to, not including, `end`.
    CatchUp { listener: Listener, track: TrackId, next: u64, end: u64 },
    /// Packets that one listener missed.
    Repair { listener: Listener, sequences: Vec<u16>, done: usize },
    /// A part of a burst that tries the path of one listener: so many packets and octets are still to go.
    Probe { listener: Listener, number: u8, packets: usize, octets: usize, sent: u64 },
}

impl Job {
    /// True if it sends numbers of this track, which a new source makes void.
    fn is_of(&self, id: TrackId) -> bool {
        match self {
            Job::FanOut { track, .. } | Job::CatchUp { track, .. } => *track == id,
            Job::Repair { .. } | Job::Probe { .. } => false,
        }
    }

    /// True if it serves only this session.
    fn is_for(&self, session: usize) -> bool {
        match self {
            Job::FanOut { .. } => false,
            Job::CatchUp { listener, .. } | Job::Repair { listener, .. } | Job::Probe { listener, .. } => {
                listener.session == session
            }
        }
    }
}

/// A latecomer that gets a picture from its keyframe on, piece by piece: the rest of it after `at`.
#[derive(Debug)]
struct CatchUp {
    listener: Listener,
    track: TrackId,
    next: u64,
    at: Instant,
    /// How often a gap was waited for.
    waited: u8,
}

/// A probe that leaves part by part, at its rate.
#[derive(Debug)]
struct Probing {
    listener: Listener,
    probe: Probe,
    /// Parts that have left, and all of them.
    parts: (usize, usize),
    at: Instant,
}

/// Between two parts of a probe: at once it would leave a queue as long as itself.
const PART_INTERVAL: Duration = Duration::from_millis(5);
/// A picture leaves so many packets at a time. The kernel gives a socket 208 KiB unless its owner asks for more (Chromium
/// asks for 1 MiB), and counts 2.25 KiB for each packet of a picture: what comes beyond 92 before they are read is lost,
/// and repaired a round trip later.
const PIECE: u64 = 48;
/// 105 Mbit/s with the above: other listeners hardly wait, and a picture of 360 kB is there after 25 ms.
const PIECE_INTERVAL: Duration = Duration::from_millis(4);
/// A packet that is missing in a picture is waited for so many times: a publisher's repair takes 50 ms.
const GAP_WAITS: u8 = 25;
/// Packets of a frame differ by a few octets; padding up to this many makes them one segmented send.
const MAX_PADDING: usize = 48;

impl FanOut {
    /// A packet has come to this track and waits there, see [`crate::track::Track::flush_at`].
    pub(crate) fn handle_pending(&mut self, id: TrackId) {
        if !self.unflushed.contains(&id) {
            self.unflushed.push(id);
        }
    }

    /// The source of this track starts anew: numbers of before mean nothing any more.
    pub(crate) fn handle_anew(&mut self, id: TrackId) {
        self.jobs.retain(|job| !job.is_of(id));
        self.catch_ups.retain(|catch_up| catch_up.track != id);
    }

    /// The session is over.
    pub(crate) fn handle_gone(&mut self, session: usize) {
        self.jobs.retain(|job| !job.is_for(session));
        self.catch_ups.retain(|catch_up| catch_up.listener.session != session);
        self.probings.retain(|probing| probing.listener.session != session);
    }

    /// A listener misses these packets.
    pub(crate) fn handle_nack(&mut self, listener: Listener, sequences: Vec<u16>) {
        self.jobs.push_back(Job::Repair { listener, sequences, done: 0 });
    }

    /// The path of a listener is to be tried.
    pub(crate) fn handle_probe(&mut self, listener: Listener, probe: Probe, now: Instant) {
        let takes = Duration::from_secs_f64(probe.octets as f64 * 8.0 / probe.rate.max(1) as f64);
        let parts = (takes.as_micros() / PART_INTERVAL.as_micros()).max(1) as usize;
        self.probings.push(Probing { listener, probe, parts: (0, parts), at: now });
        self.probe_due(now);
    }

    /// The next parts of probes that are due.
    pub(crate) fn probe_due(&mut self, now: Instant) {
        for Probing { listener, probe, parts: (left, all), at } in &mut self.probings {
            if *at <= now {
                let (packets, octets) = (probe.packets.div_ceil(*all), probe.octets.div_ceil(*all));
                let sent = (*left * packets) as u64;
                self.jobs.push_back(Job::Probe {
                    listener: *listener,
                    number: probe.number,
                    packets,
                    octets,
                    sent,
                });
                *left += 1;
                *at = now + PART_INTERVAL;
            }
        }
        self.probings.retain(|probing| probing.parts.0 < probing.parts.1);
    }

    /// When [`FanOut::flush_due`], [`FanOut::catch_up_due`] or [`FanOut::probe_due`] has something to do.
    pub(crate) fn poll_timeout(&self, tracks: &Tracks) -> Option<Instant> {
        let flush = self.unflushed.iter().filter_map(|track| tracks.get(track)?.flush_at()).min();
        let catch_up = self.catch_ups.iter().map(|catch_up| catch_up.at).min();
        let probe = self.probings.iter().map(|probing| probing.at).min();
        [flush, catch_up, probe].into_iter().flatten().min()
    }

    /// The next listener that got its first packet of a source: its session wants to be woken for its report.
    pub(crate) fn poll_started(&mut self) -> Option<Started> {
        self.started.pop_front()
    }

    /// The next track that a listener needs a keyframe of.
    pub(crate) fn poll_keyframe(&mut self) -> Option<TrackId> {
        self.wanted.pop_front()
    }

    /// Fills `batch` from the jobs, in their order; stops where it is full. Afterwards
    /// [`FanOut::poll_started`] and [`FanOut::poll_keyframe`] have what followed from it.
    pub(crate) fn fill(
        &mut self,
        batch: &mut Batch,
        tracks: &Tracks,
        sessions: &mut impl EgressTable,
        stats: &mut Stats,
        now: Instant,
    ) {
        let FanOut { jobs, spare, started, wanted, .. } = self;
        let mut fill = Fill { batch, tracks, sessions, stats, started, wanted, now };
        while let Some(mut job) = jobs.pop_front() {
            if !fill.advance(&mut job) {
                jobs.push_front(job);
                break;
            }
            if let Job::FanOut { mut numbers, .. } = job {
                numbers.clear();
                spare.push(numbers);
            }
        }
    }

    /// Tracks whose packets have waited long enough become jobs.
    pub(crate) fn flush_due(&mut self, tracks: &mut Tracks, stats: &mut Stats, now: Instant) {
        let mut index = 0;
        while let Some(&id) = self.unflushed.get(index) {
            let mut numbers = self.spare.pop().unwrap_or_default();
            let Some(track) = tracks.get_mut(&id) else {
                self.unflushed.swap_remove(index);
                continue;
            };
            track.take_pending(&mut numbers, now);
            if numbers.is_empty() {
                self.spare.push(numbers);
                index += 1;
                continue;
            }
            self.unflushed.swap_remove(index);
            if let Some((packet, _)) = track.ring().get(numbers[0]) {
                stats.delay.record(now.saturating_duration_since(packet.received));
            }
            numbers.sort_unstable();
            equalize(track.ring_mut(), &numbers);
            self.jobs.push_back(Job::FanOut { track: id, numbers, done: 0 });
        }
    }

    /// A latecomer gets the picture from its keyframe on, if it is all there, piece by piece, and from there on what
    /// comes.
    pub(crate) fn catch_up(
        &mut self,
        listener: Listener,
        id: TrackId,
        tracks: &mut Tracks,
        sessions: &mut impl EgressTable,
        now: Instant,
    ) -> bool {
        let Some(track) = tracks.get(&id) else { return false };
        let Some(start) = track.ring().whole_picture(now) else { return false };
        let Some((packet, _)) = track.ring().get(start) else { return false };
        let Some(Sending { egress, .. }) = sessions.sending(listener) else { return false };
        let clocks = clocks(tracks, egress.source(), id);
        egress.start((id, start), packet, clocks, now);
        egress.report_soon(now);
        egress.catch_up(id, u64::MAX);
        let mut catch_up = CatchUp { listener, track: id, next: start, at: now, waited: 0 };
        if self.advance_catch_up(&mut catch_up, tracks, sessions, now) {
            self.catch_ups.push(catch_up);
        }
        true
    }

    /// The next pieces of pictures that are due.
    pub(crate) fn catch_up_due(
        &mut self,
        tracks: &mut Tracks,
        sessions: &mut impl EgressTable,
        now: Instant,
    ) {
        let mut index = 0;
        while let Some(catch_up) = self.catch_ups.get(index) {
            if catch_up.at > now {
                index += 1;
                continue;
            }
            let mut catch_up = self.catch_ups.swap_remove(index);
            if self.advance_catch_up(&mut catch_up, tracks, sessions, now) {
                // Its time has moved on: it is not met again in this turn.
                self.catch_ups.push(catch_up);
            }
        }
    }

    /// Queues a piece; true if there is more to come.
    fn advance_catch_up(
        &mut self,
        catch_up: &mut CatchUp,
        tracks: &mut Tracks,
        sessions: &mut impl EgressTable,
        now: Instant,
    ) -> bool {
        let Some(track) = tracks.get_mut(&catch_up.track) else { return false };
        let ring = track.ring_mut();
        let Some(highest) = ring.highest() else { return false };
        let most = (catch_up.next + PIECE).min(highest + 1);
        let gap = (catch_up.next..most).find(|number| ring.get(*number).is_none());
        let end = match gap {
            Some(gap) if catch_up.waited < GAP_WAITS => gap,
            _ => most,
        };
        // Of those that wait for their frame, too.
        (catch_up.next..end).for_each(|number| ring.fix_padding(number, 0));
        let Some(Sending { egress, .. }) = sessions.sending(catch_up.listener) else { return false };
        let is_done = end == highest + 1;
        if !egress.catch_up(catch_up.track, if is_done { end } else { u64::MAX }) {
            return false;
        }
        catch_up.waited = if end == catch_up.next { catch_up.waited + 1 } else { 0 };
        if end > catch_up.next {
            let CatchUp { listener, track, next, .. } = *catch_up;
            self.jobs.push_back(Job::CatchUp { listener, track, next, end });
        }
        catch_up.next = end;
        catch_up.at = now + PIECE_INTERVAL;
        !is_done
    }
}

/// What the jobs of one batch work with.
struct Fill<'a, S> {
    batch: &'a mut Batch,
    tracks: &'a Tracks,
    sessions: &'a mut S,
    stats: &'a mut Stats,
    started: &'a mut VecDeque<Started>,
    wanted: &'a mut VecDeque<TrackId>,
    now: Instant,
}

impl<S: EgressTable> Fill<'_, S> {
    /// Carries a job on; false if the batch is full before it is done.
    fn advance(&mut self, job: &mut Job) -> bool {
        let Fill { batch, tracks, sessions, stats, now, .. } = self;
        match job {
            Job::FanOut { track, numbers, done } => self.send_to_all(*track, numbers, done),
            Job::CatchUp { listener, track: id, next, end } => {
                let Some(ring) = tracks.get(id).map(Track::ring) else { return true };
                let Some(sending) = sessions.sending(*listener) else { return true };
                let (egress, mut way) = sending.way(batch, *now);
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
                    stats.repairs += u64::from(matches!(sent, Sent::Octets(_)));
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
                    let Sent::Octets(len) = egress.probe(*sent, *number, ring, &mut way) else { return true };
                    *packets = packets.saturating_sub(1);
                    *octets = octets.saturating_sub(len);
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
            match egress.role(id) {
                Role::Source => {}
                Role::None => continue,
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
            for number in &numbers[from..] {
                let Some((packet, padding)) = ring.get(*number).filter(|_| egress.wants(*number)) else {
                    continue;
                };
                match egress.send((id, *number), packet, padding, &mut way) {
                    Sent::Octets(octets) => {
                        traffic.packets += 1;
                        traffic.octets += octets as u64;
                    }
                    Sent::Codec => stats.drop(DropReason::CodecNotNegotiated),
                    Sent::Withheld | Sent::NotThere | Sent::Budget => {}
                }
            }
        }
        let total = Stats::traffic(&mut stats.sent, kind);
        total.packets += traffic.packets;
        total.octets += traffic.octets;
        if waiting {
            self.wanted.push_back(id);
        }
        done_all
    }
}

/// What the publishers' clocks say of the source before and of the next one.
fn clocks(tracks: &Tracks, before: Option<TrackId>, next: TrackId) -> [Option<SenderClock>; 2] {
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

/// Pads all packets but the last to the length of the longest, where that is a matter of a few octets.
/// From here on their octets are fixed.
fn equalize(ring: &mut Ring, numbers: &[u64]) {
    let len = |ring: &Ring, number: u64| {
        ring.get(number)
            .filter(|(packet, _)| packet.kind() == Kind::Video)
            .map(|(packet, _)| packet.payload().len())
    };
    let longest = numbers.iter().filter_map(|number| len(ring, *number)).max().unwrap_or_default();
    let last = numbers.last();
    for number in numbers {
        let short = len(ring, *number).map_or(0, |len| longest - len);
        let pad = Some(number) != last && short <= MAX_PADDING;
        ring.fix_padding(*number, if pad { short as u8 } else { 0 });
    }
}

fn count(stats: &mut Stats, sent: Sent, kind: Kind) {
    match sent {
        Sent::Octets(octets) => {
            let traffic = Stats::traffic(&mut stats.sent, kind);
            traffic.packets += 1;
            traffic.octets += octets as u64;
        }
        Sent::Codec => stats.drop(DropReason::CodecNotNegotiated),
        Sent::Withheld => {}
        Sent::NotThere => stats.drop(DropReason::RepairNotThere),
        Sent::Budget => stats.drop(DropReason::RepairBudget),
    }
}
