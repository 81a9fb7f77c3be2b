//! Fan-out: the loop in which a relay spends its life. Every packet of a track, to every listener at this
//! worker, sealed with that listener's key into the batch that leaves next.
//!
//! Listeners are the outer loop and packets the inner one, so that packets to one listener lie one behind
//! the other and leave as one segmented send.

use std::time::{Duration, Instant};

use protocol::Kind;
use smallvec::SmallVec;

use super::{
    MAX_SEALED_LEN, Sent,
    batch::{Batch, MAX_RUNS},
};
use crate::{
    Worker,
    stats::Stats,
    track::{Listener, id::TrackId, ring::Ring},
};

/// Work that fills batches; carried out in order.
#[derive(Debug)]
pub(crate) enum Job {
    /// New packets to everybody.
    FanOut { track: TrackId, numbers: Vec<u64>, done: usize },
    /// A picture from its keyframe on, to one latecomer: up to, not including, `end`.
    CatchUp { listener: Listener, track: TrackId, next: u64, end: u64 },
    /// Packets that one listener missed.
    Repair { listener: Listener, sequences: Vec<u16>, done: usize },
}

impl Job {
    /// True if it sends numbers of this track, which a new source makes void.
    pub(crate) fn is_of(&self, id: TrackId) -> bool {
        match self {
            Job::FanOut { track, .. } | Job::CatchUp { track, .. } => *track == id,
            Job::Repair { .. } => false,
        }
    }

    /// True if it serves only this session.
    pub(crate) fn is_for(&self, session: usize) -> bool {
        match self {
            Job::FanOut { .. } => false,
            Job::CatchUp { listener, .. } | Job::Repair { listener, .. } => listener.session == session,
        }
    }
}

/// A latecomer that gets a picture from its keyframe on, piece by piece: the rest of it after `at`.
#[derive(Debug)]
pub(crate) struct CatchUp {
    pub(crate) listener: Listener,
    pub(crate) track: TrackId,
    next: u64,
    pub(crate) at: Instant,
    /// How often a gap was waited for.
    waited: u8,
}

/// Most pictures are not longer than this, and leave in one burst: about 360 kB.
const FIRST_PIECE: u64 = 300;
/// Then so many at a time: about 120 Mbit/s, so that neither the socket's buffer nor the way to the listener is
/// flooded, and other listeners hardly wait.
const PIECE: u64 = 128;
const PIECE_INTERVAL: Duration = Duration::from_millis(10);
/// A packet that is missing in a picture is waited for so many times: a publisher's repair takes 50 ms.
const GAP_WAITS: u8 = 10;
/// Packets of a frame differ by a few octets; padding up to this many makes them one segmented send.
const MAX_PADDING: usize = 48;

impl Worker {
    /// Fills `batch`; false when there was nothing left to send.
    pub fn poll_transmit(&mut self, batch: &mut Batch, now: Instant) -> bool {
        while let Some((to, data)) = self.outbox.front() {
            if !batch.has_room(1, data.len()) {
                return true;
            }
            batch.push(*to, data.len(), |out| out.copy_from_slice(data));
            self.outbox.pop_front();
        }
        while let Some(mut job) = self.jobs.pop_front() {
            if !self.advance(&mut job, batch, now) {
                self.jobs.push_front(job);
                break;
            }
            if let Job::FanOut { mut numbers, .. } = job {
                numbers.clear();
                self.spare.push(numbers);
            }
        }
        !batch.is_empty()
    }

    /// Tracks whose packets have waited long enough become jobs.
    pub(crate) fn flush_due(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(&id) = self.unflushed.get(index) {
            let mut numbers = self.spare.pop().unwrap_or_default();
            let Some(track) = self.tracks.get_mut(&id) else {
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
                self.stats.delay.record(now.saturating_duration_since(packet.received));
            }
            numbers.sort_unstable();
            equalize(track.ring_mut(), &numbers);
            self.jobs.push_back(Job::FanOut { track: id, numbers, done: 0 });
        }
    }

    /// A latecomer gets the picture from its keyframe on, if it is all there: at once what makes a burst, then
    /// the rest, and from there on what comes.
    pub(crate) fn catch_up(&mut self, listener: Listener, id: TrackId, now: Instant) -> bool {
        let Some(track) = self.tracks.get(&id) else { return false };
        let Some(start) = track.ring().whole_picture(now) else { return false };
        let Some((packet, _)) = track.ring().get(start) else { return false };
        let Some((egress, _, _)) = self.sessions.sending(listener) else { return false };
        egress.start(start, packet, now);
        egress.report_soon(now);
        egress.catch_up(u64::MAX);
        let mut catch_up = CatchUp { listener, track: id, next: start, at: now, waited: 0 };
        if self.advance_catch_up(&mut catch_up, FIRST_PIECE, now) {
            self.catch_ups.push(catch_up);
        }
        true
    }

    /// The next pieces of pictures that are due.
    pub(crate) fn catch_up_due(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(catch_up) = self.catch_ups.get(index) {
            if catch_up.at > now {
                index += 1;
                continue;
            }
            let mut catch_up = self.catch_ups.swap_remove(index);
            if self.advance_catch_up(&mut catch_up, PIECE, now) {
                // Its time has moved on: it is not met again in this turn.
                self.catch_ups.push(catch_up);
            }
        }
    }

    /// Queues a piece of at most `len` packets; true if there is more to come.
    fn advance_catch_up(&mut self, catch_up: &mut CatchUp, len: u64, now: Instant) -> bool {
        let Some(track) = self.tracks.get_mut(&catch_up.track) else { return false };
        let ring = track.ring_mut();
        let Some(highest) = ring.highest() else { return false };
        let most = (catch_up.next + len).min(highest + 1);
        let gap = (catch_up.next..most).find(|number| ring.get(*number).is_none());
        let end = match gap {
            Some(gap) if catch_up.waited < GAP_WAITS => gap,
            _ => most,
        };
        // Of those that wait for their frame, too.
        (catch_up.next..end).for_each(|number| ring.fix_padding(number, 0));
        let Some((egress, _, _)) = self.sessions.sending(catch_up.listener) else { return false };
        let is_done = end == highest + 1;
        egress.catch_up(if is_done { end } else { u64::MAX });
        catch_up.waited = if end == catch_up.next { catch_up.waited + 1 } else { 0 };
        if end > catch_up.next {
            let CatchUp { listener, track, next, .. } = *catch_up;
            self.jobs.push_back(Job::CatchUp { listener, track, next, end });
        }
        catch_up.next = end;
        catch_up.at = now + PIECE_INTERVAL;
        !is_done
    }

    /// Carries a job on; false if the batch is full before it is done.
    fn advance(&mut self, job: &mut Job, batch: &mut Batch, now: Instant) -> bool {
        match job {
            Job::FanOut { track, numbers, done } => self.fan_out(*track, numbers, done, batch, now),
            Job::CatchUp { listener, track, next, end } => {
                let Some(track) = self.tracks.get(track) else { return true };
                let Some((egress, sealer, to)) = self.sessions.sending(*listener) else { return true };
                while next < end {
                    if !batch.has_room(1, MAX_SEALED_LEN) {
                        return false;
                    }
                    if let Some((packet, padding)) = track.ring().get(*next) {
                        let sent = egress.send(*next, packet, padding, sealer, to, batch);
                        count(&mut self.stats, sent, Kind::Video);
                    }
                    *next += 1;
                }
                true
            }
            Job::Repair { listener, sequences, done } => {
                let Some((egress, sealer, to)) = self.sessions.sending(*listener) else { return true };
                let Some(track) = self.tracks.get(&egress.track()) else { return true };
                while let Some(sequence) = sequences.get(*done) {
                    if !batch.has_room(1, MAX_SEALED_LEN) {
                        return false;
                    }
                    let sent = egress.repair(*sequence, track.ring(), sealer, to, batch, now);
                    count(&mut self.stats, sent, egress.kind());
                    self.stats.repairs += u64::from(matches!(sent, Sent::Octets(_)));
                    *done += 1;
                }
                true
            }
        }
    }

    fn fan_out(
        &mut self,
        id: TrackId,
        numbers: &[u64],
        done: &mut usize,
        batch: &mut Batch,
        now: Instant,
    ) -> bool {
        let Some(track) = self.tracks.get(&id) else { return true };
        let ring = track.ring();
        let Some(kind) =
            numbers.first().and_then(|number| ring.get(*number)).map(|(packet, _)| packet.kind())
        else {
            return true;
        };
        let mut traffic = crate::stats::Traffic::default();
        let mut done_all = true;
        let mut waiting = false;
        let mut started = SmallVec::<[usize; 8]>::new();
        for listener in &track.listeners()[*done..] {
            if !batch.has_room(numbers.len().min(MAX_RUNS), MAX_SEALED_LEN) {
                done_all = false;
                break;
            }
            *done += 1;
            let Some((egress, sealer, to)) = self.sessions.sending(*listener) else { continue };
            let mut from = 0;
            if !egress.is_live() {
                match start(ring, numbers, kind) {
                    Some(index) => from = index,
                    None => {
                        waiting = true;
                        continue;
                    }
                }
                let Some((packet, _)) = ring.get(numbers[from]) else { continue };
                egress.start(numbers[from], packet, now);
                egress.report_soon(now);
                started.push(listener.session);
            }
            for number in &numbers[from..] {
                let Some((packet, padding)) = ring.get(*number).filter(|_| egress.wants(*number)) else {
                    continue;
                };
                match egress.send(*number, packet, padding, sealer, to, batch) {
                    Sent::Octets(octets) => {
                        traffic.packets += 1;
                        traffic.octets += octets as u64;
                    }
                    Sent::Codec => self.stats.drop("codec_not_negotiated"),
                    Sent::NotThere | Sent::Budget => {}
                }
            }
        }
        let total = Stats::traffic(&mut self.stats.sent, kind);
        total.packets += traffic.packets;
        total.octets += traffic.octets;
        started.into_iter().for_each(|session| self.sessions.schedule(session));
        if waiting {
            self.want_keyframe(id, now);
        }
        done_all
    }
}

/// Where a listener can start: sound anywhere, a picture with a keyframe.
fn start(ring: &Ring, numbers: &[u64], kind: Kind) -> Option<usize> {
    match kind {
        Kind::Audio => Some(0),
        Kind::Video => {
            numbers.iter().position(|number| ring.get(*number).is_some_and(|(packet, _)| packet.keyframe))
        }
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
        Sent::Codec => stats.drop("codec_not_negotiated"),
        Sent::NotThere => stats.drop("repair_not_there"),
        Sent::Budget => stats.drop("repair_budget"),
    }
}
