//! What the log says of sessions that ended for a reason that somebody can do something about: once per
//! address and reason in a minute, because some clients try again at once. Without I/O.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use media::transport::CloseReason;

/// What was said lately.
#[derive(Debug, Default)]
pub struct Complaints {
    said: HashMap<(IpAddr, CloseReason), Instant>,
}

const INTERVAL: Duration = Duration::from_secs(60);
/// Beyond that many in a minute the log says no more of them.
const SAID_MAX: usize = 1024;

impl Complaints {
    /// True if the log should say that a session with this address ended for this reason.
    pub fn take(&mut self, address: IpAddr, reason: CloseReason, now: Instant) -> bool {
        let tells = match reason {
            CloseReason::FingerprintMismatch
            | CloseReason::DtlsFailed(_)
            | CloseReason::NoSrtpProfile
            | CloseReason::NumbersJumpedBack
            | CloseReason::TooManySources => true,
            CloseReason::ConnectTimeout
            | CloseReason::ConsentExpired
            | CloseReason::PeerClosed
            | CloseReason::LocallyClosed
            // Said by itself, whoever it was.
            | CloseReason::Panicked => false,
        };
        if !tells {
            return false;
        }
        if self.said.len() >= SAID_MAX {
            self.said.retain(|_, at| now.saturating_duration_since(*at) < INTERVAL);
        }
        let known = self.said.get(&(address, reason));
        let say = known.is_none_or(|at| now.saturating_duration_since(*at) >= INTERVAL)
            && (known.is_some() || self.said.len() < SAID_MAX);
        if say {
            self.said.insert((address, reason), now);
        }
        say
    }
}

#[cfg(test)]
mod tests {
    use media::transport::DtlsFailure;

    use super::*;

    #[test]
    fn a_reason_is_said_once_per_address_and_minute() {
        let mut complaints = Complaints::default();
        let now = crate::clock::now();
        let failed = |cause| CloseReason::DtlsFailed(cause);
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let said = [
            (address(1), failed(DtlsFailure::Certificate)),
            (address(1), failed(DtlsFailure::Certificate)),
            (address(2), failed(DtlsFailure::Certificate)),
            (address(1), failed(DtlsFailure::Alert(40))),
            (address(1), CloseReason::NumbersJumpedBack),
            (address(1), CloseReason::ConsentExpired),
        ]
        .map(|(address, reason)| complaints.take(address, reason, now));
        assert_eq!(said, [true, false, true, true, true, false]);
        assert!(complaints.take(address(1), failed(DtlsFailure::Certificate), now + INTERVAL));
    }

    #[test]
    fn addresses_without_number_fill_neither_memory_nor_log() {
        let mut complaints = Complaints::default();
        let now = crate::clock::now();
        let said = (0..100_000_u32)
            .filter(|n| complaints.take(IpAddr::from(n.to_be_bytes()), CloseReason::NoSrtpProfile, now))
            .count();
        assert_eq!(said, SAID_MAX);
        assert!(complaints.said.len() <= SAID_MAX);
    }
}
