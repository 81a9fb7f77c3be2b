//! The timestamps of a source as a listener gets them: moved, and those of a picture that is caught up with pressed
//! together, so that what comes after it is neither early nor late.

/// How timestamps of a source become those of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    /// Added to each.
    offset: u32,
    past: Option<Past>,
}

/// What is older than the moment at which a listener began.
#[derive(Debug, Clone, Copy)]
struct Past {
    /// The timestamp with which it begins at the source, and as much as it is there.
    from: u32,
    span: u32,
    /// The same at the listener.
    first: u32,
    room: u32,
}

/// Pictures are pressed together by so much at most: then those of 240 in a second still have a tick each.
const MOST: u32 = 300;

impl Timeline {
    /// So much is added to each.
    pub fn new(offset: u32) -> Timeline {
        Timeline { offset, past: None }
    }

    /// From `first` to `live` at the source; the listener got `last`, and `live` as `live_at`, which is at least `least`
    /// behind. What has no room at its own time between them is pressed together.
    pub fn catching_up([first, live]: [u32; 2], [last, live_at]: [u32; 2], least: u32) -> Timeline {
        let moved = Timeline::new(live_at.wrapping_sub(live));
        let (span, room) = (live.wrapping_sub(first), live_at.wrapping_sub(last));
        if span == 0 || span > u32::MAX / 2 || room >= span.saturating_add(least) {
            return moved;
        }
        let step = least.min(room / 2);
        let room = (room - step).max(span / MOST);
        let past = Past { from: first, span, first: last.wrapping_add(step), room };
        Timeline { offset: past.first.wrapping_add(room).wrapping_sub(live), past: Some(past) }
    }

    /// A timestamp of the source at the listener.
    pub fn at(&self, timestamp: u32) -> u32 {
        if let Some(past) = &self.past {
            let since = timestamp.wrapping_sub(past.from);
            if since < past.span {
                let pressed = u64::from(since) * u64::from(past.room) / u64::from(past.span);
                return past.first.wrapping_add(pressed as u32);
            }
        }
        timestamp.wrapping_add(self.offset)
    }

    /// What is added to the timestamps that come from now on.
    pub fn offset(&self) -> u32 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_room_keeps_its_times() {
        let line = Timeline::catching_up([9000, 18_000], [500, 90_000], 900);
        assert_eq!([9000, 12_000, 18_000, 21_000].map(|at| line.at(at)), [81_000, 84_000, 90_000, 93_000]);
        let line = Timeline::catching_up([9000, 9000], [500, 5000], 900);
        assert_eq!((line.at(9000), line.at(12_000)), (5000, 8000));
    }

    proptest! {
        #[test]
        fn times_rise_and_what_is_live_is_on_time(
            first: u32, last: u32, frames in 1_u32..2400, tick in 375_u32..9000, room in 900_u32..9000,
        ) {
            let live = first.wrapping_add(frames * tick);
            let live_at = last.wrapping_add(room);
            let line = Timeline::catching_up([first, live], [last, live_at], 900);
            let times: Vec<u32> = (0..frames + 10).map(|at| line.at(first.wrapping_add(at * tick))).collect();
            let rise = |pair: &[u32]| (1..=tick).contains(&pair[1].wrapping_sub(pair[0]));
            prop_assert!(times.windows(2).all(rise), "{:?}", times);
            prop_assert!((times[0].wrapping_sub(last) as i32) > 0);
            let off = times[frames as usize].wrapping_sub(live_at);
            prop_assert!(off <= frames * tick / MOST, "{off}");
        }
    }
}
