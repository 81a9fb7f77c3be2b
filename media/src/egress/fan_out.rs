//! Fan-out: the loop in which a relay spends its life. Every packet of a track, to every listener at this worker, sealed
//! with that listener's key into the batch that leaves next.
//!
//! Owns what waits to be sent, and until when; tracks and sessions are lent to it. How a batch is filled is in `fill`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use protocol::Kind;

pub(crate) use super::fill::{EgressTable, Sending, Started};
use super::{
    batch::Batch,
    fill::{Fill, Job, clocks},
    pacer::{Backlogs, PACE_INTERVAL},
};
use crate::{
    bandwidth::Probe,
    stats::Stats,
    track::{Listener, Tracks, id::TrackId, ring::Ring},
};

/// What waits to be sent to listeners.
#[derive(Debug, Default)]
pub(crate) struct FanOut {
    /// Tracks with packets that wait for the rest of their frame.
    unflushed: Vec<TrackId>,
    catch_ups: Vec<CatchUp>,
    probings: Vec<Probing>,
    backlogs: Backlogs,
    jobs: VecDeque<Job>,
    /// Emptied lists of numbers, to be filled again: a flush allocates nothing.
    spare: Vec<Vec<u64>>,
    /// Listeners that got their first packet of a source, and the source before it.
    started: VecDeque<Started>,
    /// Tracks with a listener that waits for a keyframe.
    wanted: VecDeque<TrackId>,
}

/// A latecomer that gets a picture from its keyframe on, piece by piece: the rest of it after `at`.
#[derive(Debug)]
struct CatchUp {
    listener: Listener,
    track: TrackId,
    /// Which of the listener's starts it is.
    start: u64,
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
        self.backlogs.handle_gone(session);
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

    /// The next runs of what waits. To be called after all else that is due: sound and repairs go first.
    pub(crate) fn pace_due(&mut self, now: Instant) {
        let run = |listener| Job::Paced { listener, begun: false };
        self.jobs.extend(self.backlogs.poll_due(now).map(run));
    }

    /// When [`FanOut::flush_due`], [`FanOut::catch_up_due`], [`FanOut::probe_due`] or [`FanOut::pace_due`] has something
    /// to do.
    pub(crate) fn poll_timeout(&self, tracks: &Tracks) -> Option<Instant> {
        let flush = self.unflushed.iter().filter_map(|track| tracks.get(track)?.flush_at()).min();
        let catch_up = self.catch_ups.iter().map(|catch_up| catch_up.at).min();
        let probe = self.probings.iter().map(|probing| probing.at).min();
        [flush, catch_up, probe, self.backlogs.poll_timeout()].into_iter().flatten().min()
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
        let FanOut { jobs, spare, started, wanted, backlogs, .. } = self;
        let mut fill = Fill { batch, tracks, sessions, stats, started, wanted, backlogs, now };
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
            // What is merged has waited on purpose.
            if let Some((packet, _)) = track.ring().get(numbers[0]).filter(|_| !track.is_merged()) {
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
        // What was withheld at the end has no packet.
        let newest = track.ring().highest().and_then(|highest| track.ring().get(highest));
        let live = newest.map_or(packet, |(newest, _)| newest);
        let Some(Sending { egress, .. }) = sessions.sending(listener) else { return false };
        let clocks = clocks(tracks, egress.source(), id);
        egress.start_behind((id, start), [packet, live], clocks, now);
        egress.report_soon(now);
        let (next, start) = (start, egress.starts());
        egress.catch_up(start, u64::MAX);
        let mut catch_up = CatchUp { listener, track: id, start, next, at: now, waited: 0 };
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
        let there = match gap {
            Some(gap) if catch_up.waited < GAP_WAITS => gap,
            _ => most,
        };
        let Some(Sending { egress, path, .. }) = sessions.sending(catch_up.listener) else { return false };
        if !egress.catch_up(catch_up.start, u64::MAX) {
            return false;
        }
        let path = path.as_deref();
        let (mut end, mut interval) = (there, PIECE_INTERVAL);
        if egress.is_paced(path, now) {
            // However long it takes: what is more than the path carries would not be there sooner.
            egress.fill_budget(path, now);
            (end, interval) = (egress.spend_on_picture(catch_up.next..there, ring), PACE_INTERVAL);
        }
        // Of those that wait for their frame, too.
        (catch_up.next..end).for_each(|number| ring.fix_padding(number, 0));
        let is_done = end == highest + 1;
        if is_done {
            egress.catch_up(catch_up.start, end);
        }
        catch_up.waited = if there == catch_up.next { catch_up.waited + 1 } else { 0 };
        if end > catch_up.next {
            let CatchUp { listener, track, start, next, .. } = *catch_up;
            self.jobs.push_back(Job::CatchUp { listener, track, start, next, end });
        }
        catch_up.next = end;
        catch_up.at = now + interval;
        !is_done
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
