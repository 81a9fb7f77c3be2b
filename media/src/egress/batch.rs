//! Datagrams on their way out: sealed into one arena, in runs that leave with one system call each.

use std::net::SocketAddr;

/// Datagrams to one address that lie one behind the other: all of `segment` octets but the last, which
/// may be shorter. That is what the kernel's UDP segmentation (GSO) takes as one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where to.
    pub to: SocketAddr,
    /// Where the run starts in the arena.
    pub start: usize,
    /// Its octets in all.
    pub len: usize,
    /// Octets of each datagram but the last.
    pub segment: usize,
}

impl Run {
    /// How many datagrams it is.
    pub fn datagrams(&self) -> usize {
        self.len.div_ceil(self.segment)
    }
}

/// What one `sendmmsg` takes. Filled by [`crate::Worker::poll_transmit`], emptied by the driver.
#[derive(Debug)]
pub struct Batch {
    arena: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
}

/// More messages in one system call gain nothing.
pub const MAX_RUNS: usize = 64;
/// The kernel's limits for one segmented send.
const MAX_SEGMENTS: usize = 64;
const MAX_RUN_LEN: usize = 65_000;
/// The kernel refuses a segmented send whose segments do not fit the way in one piece: with the headers of
/// IPv6 and UDP this is 1500. What is longer leaves by itself, and is fragmented by IP.
const MAX_SEGMENT: usize = 1452;
/// Stays in the second-level cache.
const ARENA: usize = 512 * 1024;

impl Default for Batch {
    fn default() -> Self {
        Batch { arena: vec![0; ARENA].into(), used: 0, runs: Vec::with_capacity(MAX_RUNS) }
    }
}

impl Batch {
    /// The runs, in the order in which they have to leave.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The octets of a run.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        &self.arena[run.start..run.start + run.len]
    }

    /// True if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }

    /// True if `datagrams` more of `len` octets each fit, whatever their addresses.
    pub fn has_room(&self, datagrams: usize, len: usize) -> bool {
        self.runs.len() + datagrams <= MAX_RUNS.max(datagrams)
            && self.used + datagrams * len <= self.arena.len()
    }

    /// Appends a datagram of exactly `len` octets that `write` puts in place. The caller has asked
    /// [`Batch::has_room`].
    pub fn push(&mut self, to: SocketAddr, len: usize, write: impl FnOnce(&mut [u8])) {
        let start = self.used;
        write(&mut self.arena[start..start + len]);
        self.used += len;
        if let Some(run) = self.runs.last_mut()
            && run.to == to
            && len <= run.segment
            && run.segment <= MAX_SEGMENT
            && run.len % run.segment == 0
            && run.len + len <= MAX_RUN_LEN
            && run.datagrams() < MAX_SEGMENTS
        {
            run.len += len;
            return;
        }
        self.runs.push(Run { to, start, len, segment: len });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn equal_datagrams_to_one_address_are_one_run_and_a_shorter_one_ends_it() {
        let mut batch = Batch::default();
        for (port, len) in [(1, 100), (1, 100), (1, 60), (1, 60), (2, 60), (1, 60)] {
            batch.push(address(port), len, |octets| octets.fill(len as u8));
        }
        let runs: Vec<_> = batch.runs().iter().map(|run| (run.to.port(), run.segment, run.len)).collect();
        assert_eq!(runs, [(1, 100, 260), (1, 60, 60), (2, 60, 60), (1, 60, 60)]);
        assert_eq!(batch.runs()[0].datagrams(), 3);
        assert_eq!(batch.bytes(&batch.runs()[1]), [60; 60]);
    }

    #[test]
    fn what_does_not_fit_the_way_in_one_piece_leaves_by_itself() {
        let mut batch = Batch::default();
        for len in [1452, 1452, 1453, 1453, 1300] {
            batch.push(address(1), len, |_| {});
        }
        let runs: Vec<_> = batch.runs().iter().map(|run| (run.segment, run.datagrams())).collect();
        assert_eq!(runs, [(1452, 2), (1453, 1), (1453, 1), (1300, 1)]);
    }

    #[test]
    fn a_run_stays_within_what_the_kernel_takes() {
        let mut batch = Batch::default();
        for _ in 0..200 {
            batch.push(address(1), 1216, |_| {});
        }
        assert!(batch.runs().iter().all(|run| run.len <= MAX_RUN_LEN && run.datagrams() <= MAX_SEGMENTS));
        assert_eq!(batch.runs().iter().map(Run::datagrams).sum::<usize>(), 200);
    }
}
