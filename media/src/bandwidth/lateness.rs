//! Which of two came: a packet whose octets were sent once more 20 ms later has arrived, and its number does not say by
//! which of the two. The second one is later than its neighbors by about that much.

/// The delays of the packets that arrived last.
#[derive(Debug, Clone, Copy)]
pub struct Lateness {
    delays: [i64; LATELY],
    next: usize,
}

/// Few, so that a queue that grows is not taken for it: in 80 ms of sound it grows by less.
const LATELY: usize = 4;
/// A frame of 20 ms less what a radio and two clocks make of it.
const LATE_US: i64 = 12_000;

impl Default for Lateness {
    fn default() -> Self {
        Lateness { delays: [i64::MAX; LATELY], next: 0 }
    }
}

impl Lateness {
    /// A packet arrived with this delay, in microseconds from a begin that is always the same. True if it is that much later
    /// than one of those before it.
    pub fn handle_arrival(&mut self, delay: i64) -> bool {
        let least = self.delays.iter().copied().min().unwrap_or(i64::MAX);
        self.delays[self.next] = delay;
        self.next = (self.next + 1) % LATELY;
        delay.saturating_sub(LATE_US) >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_frame_later_than_its_neighbors_is_late() {
        let mut lateness = Lateness::default();
        let late = [5_000, 5_100, 25_000, 5_200, 24_900, 65_000, 5_000].map(|us| lateness.handle_arrival(us));
        assert_eq!(late, [false, false, true, false, true, true, false]);
    }

    #[test]
    fn a_queue_that_grows_is_not_late_but_for_its_first_packets() {
        let mut lateness = Lateness::default();
        let grows = (0..100).filter(|at| lateness.handle_arrival(at * 2_000)).count();
        assert_eq!(grows, 0, "100 ms in a second");
        let jumps = (0..100).filter(|_| lateness.handle_arrival(400_000)).count();
        assert_eq!(jumps, LATELY, "then all are as late");
    }
}
