//! How often an address may do something: a token bucket for each, in bounded memory.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Token buckets by address: `burst` at once, then one each `interval`.
#[derive(Debug)]
pub struct Rate {
    burst: u32,
    interval: Duration,
    /// When each address's bucket is full again; one that is full needs no place.
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

/// Addresses remembered. When there are more, those with the fullest buckets are forgotten.
const ADDRESSES_MAX: usize = 10_000;

impl Rate {
    /// Full buckets for everybody.
    pub fn new(burst: u32, interval: Duration) -> Rate {
        Rate { burst, interval, full_at: Mutex::default() }
    }

    /// Takes a token; false if there is none.
    pub fn take(&self, address: IpAddr, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= ADDRESSES_MAX {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= ADDRESSES_MAX {
                full_at.clear();
            }
        }
        let at = full_at.entry(address).or_insert(now);
        let next = (*at).max(now) + self.interval;
        let allowed = next <= now + self.interval * self.burst;
        if allowed {
            *at = next;
        }
        allowed
    }

    /// True if [`Rate::take`] would fail.
    pub fn is_spent(&self, address: IpAddr, now: Instant) -> bool {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        full_at
            .get(&address)
            .is_some_and(|at| (*at).max(now) + self.interval > now + self.interval * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_interval_and_others_are_not_touched() {
        let rate = Rate::new(3, Duration::from_secs(1));
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = crate::clock::now();
        assert_eq!([(); 4].map(|()| rate.take(a, now)), [true, true, true, false]);
        assert!(rate.is_spent(a, now) && !rate.is_spent(b, now));
        assert!(rate.take(b, now));
        let later = now + Duration::from_millis(1001);
        assert_eq!([(); 2].map(|()| rate.take(a, later)), [true, false]);
    }
}
