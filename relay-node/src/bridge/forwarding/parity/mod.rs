//! Parity of what a link carries: what was lost comes back without being asked for, where an answer would come too late.
//! The sending side is the [protector](protector), the receiving side the [recoverer](recoverer). Whether there is any
//! the receiving side of a link decides, in `mesh-routing/src/link/protection.rs`. No I/O, no clock.

pub(crate) mod protector;
pub(crate) mod recoverer;
pub(crate) mod tally;

use std::time::Duration;

/// From the first datagram of a group to its parity: what comes back later is of little use to a listener.
pub(crate) const SPREAD: Duration = Duration::from_millis(80);

#[cfg(test)]
mod tests;
