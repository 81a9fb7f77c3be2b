//! The only reader of time in the relay: everything else is given `now`.
#![expect(clippy::disallowed_methods, reason = "somebody has to look at the clock: here, and nowhere else")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rooms::WallTime;

/// 2026-01-01: a clock that says less was never set.
pub const EARLIEST: WallTime = WallTime(1_767_225_600_000);

/// The monotonic time: that of the runtime, which a test may pause.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall time. A clock set before 1970 reads as 1970.
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
