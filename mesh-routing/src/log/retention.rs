//! How much of a log is kept, by its topic.

use std::time::Duration;

use protocol::{Topic, WallTime, mesh::Class};

/// What a record takes besides its payload, in bytes: without it, empty records would count for nothing.
pub const OVERHEAD: usize = 160;
/// Bytes kept of all logs together: whoever has most gives way, chat before announcements. The last record
/// of each log stays all the same: by it everybody knows how far the log goes.
pub const TOTAL_MAX: usize = 64 << 20;
/// Whatever its clock says, a record stays so long after it came: the clock may be wrong.
pub const STAYS: Duration = Duration::from_secs(24 * 3600);

/// The bounds of one log; what is beyond any of them goes, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The oldest record's age.
    pub age: Duration,
    /// Records.
    pub records: usize,
    /// Their bytes, [`OVERHEAD`] for each included.
    pub bytes: usize,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Retention {
    /// The bounds of the logs about a topic.
    pub fn of(topic: &Topic) -> Retention {
        match topic.class() {
            Class::Announcement => Retention { age: DAY * 30, records: 1000, bytes: 1 << 20 },
            _ => Retention { age: DAY * 7, records: 5000, bytes: 8 << 20 },
        }
    }

    /// For how long from now a record is kept that was written at `written`.
    pub(super) fn left(&self, written: WallTime, wall: WallTime) -> Duration {
        let age = Duration::from_millis(wall.0.saturating_sub(written.0));
        self.age.saturating_sub(age).max(STAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_as_old_as_its_clock_says_but_stays_a_day() {
        let retention = Retention { age: DAY * 7, records: 1, bytes: 1 };
        let day = |days: u64| WallTime(days * 24 * 3_600_000);
        assert_eq!(retention.left(day(100), day(100)), DAY * 7);
        assert_eq!(retention.left(day(100), day(104)), DAY * 3);
        assert_eq!(retention.left(day(0), day(104)), STAYS);
        assert_eq!(retention.left(day(200), day(104)), DAY * 7);
    }
}
