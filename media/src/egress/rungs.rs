//! A sound goes on in another rung: the publisher's numbers and times are the same, the octets are others. So a listener can
//! be given one packet from the one and the next from the other, without a hole and without a step in time.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::{Egress, run::Run};
use crate::{
    rtp,
    track::{id::TrackId, ring::Ring},
};

/// What is missing behind more than this is left out: it comes too late.
const BEHIND_MOST: u64 = 12;
/// An encoder is behind by a frame or two. What is behind by more does not come evenly.
const LAGS_MOST: u64 = 4;
/// So long nothing leaves while what is behind catches up.
const HELD_MOST: Duration = Duration::from_millis(100);

impl Egress {
    /// New packets of a rung that the listener waits for: what of it leaves now, if it begins. As long as it is behind
    /// nothing of the present one leaves either, so that the first packet of the one is the next after the last of the other.
    pub(super) fn goes_on(
        &mut self,
        ring: &Ring,
        numbers: &[u64],
        now: Instant,
    ) -> Option<RangeInclusive<u64>> {
        let (run, first, last) = (self.run.as_ref()?, *numbers.first()?, *numbers.last()?);
        if ring.get(last).is_none_or(|(packet, _)| packet.epoch != run.epoch) {
            return None;
        }
        // Both count what the publisher counts.
        let next = rtp::extend(first, run.next_number() as u16);
        if next > last {
            if next - last <= LAGS_MOST {
                self.held_since.get_or_insert(now);
            }
            return None;
        }
        let from = if last - next > BEHIND_MOST { first } else { next };
        Some(from..=last)
    }

    /// The listener gets this rung from this number of its ring on.
    pub(super) fn go_on(&mut self, track: TrackId, number: u64) {
        let Some(run) = &self.run else { return };
        let (timeline, epoch) = (run.timeline, run.epoch);
        self.end_run();
        self.held_since = None;
        self.runs += 1;
        self.next_source = None;
        let place = (number, self.next);
        let mut run = Run::new(track, self.runs, place, timeline, self.layers.sent.spatial);
        run.epoch = epoch;
        self.run = Some(run);
        self.source = Some(track);
    }

    /// New packets of the present rung. `None` while they are held back; else what leaves now if they were.
    pub(super) fn held(&mut self, numbers: &[u64], now: Instant) -> Option<Option<RangeInclusive<u64>>> {
        let Some(since) = self.held_since else { return Some(None) };
        if self.next_source.is_some() && now.saturating_duration_since(since) < HELD_MOST {
            return None;
        }
        // It does not come, or is not wanted any more.
        self.held_since = None;
        let (run, last) = (self.run.as_ref()?, *numbers.last()?);
        Some(Some(run.next_number().max(last.saturating_sub(BEHIND_MOST))..=last))
    }
}
