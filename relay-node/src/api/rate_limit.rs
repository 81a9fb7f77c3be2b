//! How often an address may do something: a token bucket for each, in bounded memory.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{drop_reason::DropReason, places::shares::Holder};

/// Token buckets by address: `burst` at once, then one each `interval`.
#[derive(Debug)]
pub struct Rate {
    burst: u32,
    interval: Duration,
    /// When each address's bucket is full again; one that is full needs no place.
    full_at: Mutex<HashMap<Holder, Instant>>,
}

/// Addresses remembered. When there are more, the half with the fullest buckets is forgotten: whoever asks most
/// stays known.
const ADDRESSES_MAX: usize = 10_000;

impl Rate {
    /// Full buckets for everybody.
    pub fn new(burst: u32, interval: Duration) -> Rate {
        Rate { burst, interval, full_at: Mutex::default() }
    }

    /// Takes a token; false if there is none.
    pub fn take(&self, holder: Holder, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= ADDRESSES_MAX {
            forget(&mut full_at, now);
        }
        let at = full_at.entry(holder).or_insert(now);
        let next = (*at).max(now) + self.interval;
        let allowed = next <= now + self.interval * self.burst;
        if allowed {
            *at = next;
        }
        allowed
    }
}

fn forget(full_at: &mut HashMap<Holder, Instant>, now: Instant) {
    full_at.retain(|_, at| *at > now);
    if full_at.len() < ADDRESSES_MAX {
        return;
    }
    let mut all: Vec<Instant> = full_at.values().copied().collect();
    let (_, middle, _) = all.select_nth_unstable(ADDRESSES_MAX / 2);
    let middle = *middle;
    let before = full_at.len();
    full_at.retain(|_, at| *at > middle);
    let forgotten = (before - full_at.len()) as u64;
    DropReason::RateForgotten.count_all(forgotten);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_burst_then_one_each_interval_and_others_are_not_touched() {
        let rate = Rate::new(3, Duration::from_secs(1));
        let (a, b) = (IpAddr::from([10, 0, 0, 1]).into(), IpAddr::from([10, 0, 0, 2]).into());
        let now = crate::clock::now();
        assert_eq!([(); 4].map(|()| rate.take(a, now)), [true, true, true, false]);
        assert!(rate.take(b, now));
        let later = now + Duration::from_millis(1001);
        assert_eq!([(); 2].map(|()| rate.take(a, later)), [true, false]);
    }

    #[test]
    fn who_asks_most_is_not_forgotten_among_many() {
        let rate = Rate::new(3, Duration::from_secs(1));
        let greedy = IpAddr::from([10, 0, 0, 1]).into();
        let now = crate::clock::now();
        assert_eq!([(); 4].map(|()| rate.take(greedy, now)), [true, true, true, false]);
        for number in 0..3 * ADDRESSES_MAX as u32 {
            rate.take(IpAddr::from((0x0b00_0000 + number).to_be_bytes()).into(), now);
        }
        assert!(!rate.take(greedy, now));
        assert!(rate.full_at.lock().expect("whole").len() <= ADDRESSES_MAX);
    }
}
