//! A sound goes on in another rung: the publisher's numbers and times are the same, the octets are others. So a listener can
//! be given one packet from the one and the next from the other, without a hole and without a step in time. Merged packets
//! have numbers of their own: from and to these it goes on by time.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::{Egress, run::Run};
use crate::{
    rtp::{self, opus::Layout, packet::Packet},
    track::{
        Track, Tracks,
        id::TrackId,
        merger::{MOST_SAMPLES, begins_group},
        ring::Ring,
    },
};

/// What is missing behind more than this is left out: it comes too late.
const BEHIND_MOST: u64 = 12;
/// An encoder is behind by a frame or two. What is behind by more does not come evenly.
const LAGS_MOST: u64 = 4;
/// The same in samples, for packets of 20 ms.
const LAGS_MOST_SAMPLES: u32 = LAGS_MOST as u32 * USUAL_SAMPLES;
/// Of a packet that cannot be read.
const USUAL_SAMPLES: u32 = 960;
/// So long nothing leaves while what is behind catches up.
const HELD_MOST: Duration = Duration::from_millis(100);
/// And while a merged packet comes together, too.
const HELD_MOST_MERGED: Duration = Duration::from_millis(160);

impl Egress {
    /// New packets of a rung that the listener waits for: what of it leaves now, if it begins. As long as it is behind
    /// nothing of the present one leaves either, so that the first packet of the one is the next after the last of the other.
    pub(super) fn goes_on(
        &mut self,
        (next, numbers): (&Track, &[u64]),
        tracks: &Tracks,
        now: Instant,
    ) -> Option<RangeInclusive<u64>> {
        let (run, first, last) = (self.run.as_ref()?, *numbers.first()?, *numbers.last()?);
        let ring = next.ring();
        let (newest, _) = ring.get(last).filter(|(packet, _)| packet.epoch == run.epoch)?;
        let present = tracks.get(&run.track)?;
        if !next.is_merged() && !present.is_merged() {
            // Both count what the publisher counts.
            let next = rtp::extend(first, run.next_number() as u16);
            if next > last {
                if next - last <= LAGS_MOST {
                    self.held_until.get_or_insert(now + HELD_MOST);
                }
                return None;
            }
            // From elsewhere it may have begun a packet too late. The present one, which is behind it, has what is missing.
            if ring.get(next).is_none() && last - next <= LAGS_MOST {
                self.release(now);
                return None;
            }
            let from = if last - next > BEHIND_MOST { first } else { next };
            return Some(from..=last);
        }
        let end = sent_until(run, present.ring())?;
        let is_ahead = |packet: &Packet| (packet.timestamp.wrapping_sub(end) as i32) >= 0;
        let there = |number: &u64| ring.get(*number).is_some_and(|(packet, _)| is_ahead(packet));
        match (last.saturating_sub(BEHIND_MOST)..=last).find(there) {
            Some(from) => {
                let (first, _) = ring.get(from)?;
                if first.timestamp == end || !next.is_merged() {
                    return Some(from..=last);
                }
                // Is nothing missing but what its publisher lost?
                let before = ring
                    .get(from - 1)
                    .is_some_and(|(before, _)| (until(before).wrapping_sub(end) as i32) <= 0);
                let is_between = |packet: &Packet| {
                    is_ahead(packet) && (packet.timestamp.wrapping_sub(first.timestamp) as i32) < 0
                };
                let newest = present.ring().highest()?;
                let mut there = (newest.saturating_sub(BEHIND_MOST)..=newest)
                    .filter_map(|number| present.ring().get(number));
                if before && !there.any(|(packet, _)| is_between(packet)) {
                    return Some(from..=last);
                }
                self.release(now);
            }
            None if (until(newest).wrapping_sub(end) as i32) > 0 => self.release(now),
            // What is not merged is held where a group begins, see `held`.
            None if next.is_merged() && !present.is_merged() => {}
            None if lags(newest, end) => {
                self.held_until.get_or_insert(now + HELD_MOST_MERGED);
            }
            None => {}
        }
        None
    }

    /// The listener gets this rung from this number of its ring on.
    pub(super) fn go_on(&mut self, track: TrackId, number: u64) {
        let Some(run) = &self.run else { return };
        let (timeline, epoch) = (run.timeline, run.epoch);
        self.begin_run((track, number), epoch, timeline);
    }

    /// New packets of the present rung. `None` while they are held back; else what leaves now if they were.
    pub(super) fn held(
        &mut self,
        (present, numbers): (&Track, &[u64]),
        tracks: &Tracks,
        now: Instant,
    ) -> Option<Option<RangeInclusive<u64>>> {
        if self.held_until.is_none()
            && self.next_source.is_some()
            && self.waits_for_group(present, numbers, tracks)
        {
            self.held_until = Some(now + HELD_MOST_MERGED);
        }
        let Some(until) = self.held_until else { return Some(None) };
        if self.next_source.is_some() && now < until {
            return None;
        }
        // It does not come, or is not wanted any more.
        self.held_until = None;
        let (run, last) = (self.run.as_ref()?, *numbers.last()?);
        Some(Some(run.next_number().max(last.saturating_sub(BEHIND_MOST))..=last))
    }

    /// Whether these packets come in a merged one that the listener waits for, and begin it.
    fn waits_for_group(&self, present: &Track, numbers: &[u64], tracks: &Tracks) -> bool {
        let (Some(run), Some(first)) = (&self.run, numbers.first()) else { return false };
        let next = self.next().and_then(|next| tracks.get(&next)).filter(|next| next.is_merged());
        let newest = next.and_then(|next| next.ring().get(next.ring().highest()?));
        let (Some((newest, _)), false) = (newest, present.is_merged()) else { return false };
        let begins = *first == run.next_number() && begins_group(*first as u16);
        begins
            && newest.epoch == run.epoch
            && sent_until(run, present.ring()).is_some_and(|end| lags(newest, end))
    }

    /// The next rung has no packet that begins where the present one ends: the present one goes on.
    fn release(&mut self, now: Instant) {
        self.held_until = self.held_until.map(|_| now);
    }
}

/// Where a packet ends, in the publisher's time.
fn until(packet: &Packet) -> u32 {
    let samples = Layout::read(packet.payload()).map_or(USUAL_SAMPLES, |layout| layout.samples);
    packet.timestamp.wrapping_add(samples)
}

/// Where what has left of a run ends.
fn sent_until(run: &Run, ring: &Ring) -> Option<u32> {
    let newest = (1..=BEHIND_MOST).find_map(|back| ring.get(run.next_number().checked_sub(back)?));
    newest.map(|(packet, _)| until(packet))
}

/// What ends with this packet is behind, and will be there soon.
fn lags(newest: &Packet, end: u32) -> bool {
    end.wrapping_sub(until(newest)) <= MOST_SAMPLES + LAGS_MOST_SAMPLES
}
