//! Loss of one hop, repaired on that hop: which link sequences are missing, and when to ask for them. The side
//! that sends them again is the [scheduler](super::scheduler). No I/O, no clock.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use protocol::mesh::{Alias, Class};

/// A packet may be overtaken by others for so long without being missed.
const REORDERING: Duration = Duration::from_millis(5);
/// Asks per packet.
const TRIES: u8 = 2;
/// A jump over more than this is no loss to repair: the tree or the neighbor's queue changed.
const GAP_MAX: u16 = 64;
/// Missing packets of a link that are waited for at a time.
const MISSING_MAX: usize = 256;
/// Link sequences that one ask can name.
const ASK_SPAN: u16 = 128;

/// Asks a neighbor for datagrams of one alias by their link sequences: bit `i` stands for `first + i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nack {
    pub alias: Alias,
    pub first: u16,
    pub bits: u128,
}

impl Nack {
    /// The longest payload.
    pub const LEN_MAX: usize = 16;

    /// Reads the payload of a `Nack` datagram; `None` if it asks for nothing or is too long.
    pub fn read(alias: Alias, first: u16, mut payload: &[u8]) -> Option<Nack> {
        if payload.is_empty() || payload.len() > Nack::LEN_MAX {
            return None;
        }
        let length = payload.len();
        let bits = payload.get_uint_le(length.min(8)) as u128
            | if length > 8 { (payload.get_uint_le(length - 8) as u128) << 64 } else { 0 };
        (bits != 0).then_some(Nack { alias, first, bits })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut impl BufMut) {
        let length = 16 - self.bits.leading_zeros() as usize / 8;
        out.put_slice(&self.bits.to_le_bytes()[..length.max(1)]);
    }

    /// How long the payload is.
    pub fn len(&self) -> usize {
        (16 - self.bits.leading_zeros() as usize / 8).max(1)
    }

    /// The link sequences asked for.
    pub fn sequences(self) -> impl Iterator<Item = u16> {
        (0..ASK_SPAN).filter(move |i| self.bits >> i & 1 == 1).map(move |i| self.first.wrapping_add(i))
    }
}

/// What is missing on a link.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    missing: Vec<Missing>,
    /// Packets that were given up since [`Gaps::take_late`].
    late: u64,
}

#[derive(Debug)]
struct Missing {
    alias: Alias,
    sequence: u16,
    asked: u8,
    ask_at: Instant,
    until: Instant,
}

impl Missing {
    fn due(&self) -> Instant {
        if self.asked < TRIES { self.ask_at.min(self.until) } else { self.until }
    }
}

/// After this a packet is of no use to a listener.
fn patience(class: Class) -> Duration {
    match class {
        Class::Video | Class::File | Class::Prefetch => Duration::from_millis(250),
        _ => Duration::from_millis(60),
    }
}

impl Gaps {
    /// `sequence` came, and the `missed` before it did not.
    pub fn handle_gap(
        &mut self,
        alias: Alias,
        sequence: u16,
        missed: u16,
        class: Class,
        rtt: Duration,
        now: Instant,
    ) {
        let until = now + patience(class);
        let hopeless = missed > GAP_MAX || now + REORDERING + rtt > until;
        for back in (1..=missed).rev() {
            if hopeless || self.missing.len() == MISSING_MAX {
                self.late += u64::from(back);
                return;
            }
            self.missing.push(Missing {
                alias,
                sequence: sequence.wrapping_sub(back),
                asked: 0,
                ask_at: now + REORDERING,
                until,
            });
        }
    }

    /// A packet that had been jumped over came.
    pub fn handle_late(&mut self, alias: Alias, sequence: u16) {
        let found = |missing: &Missing| missing.alias == alias && missing.sequence == sequence;
        if let Some(index) = self.missing.iter().position(found) {
            self.missing.swap_remove(index);
        }
    }

    /// When to call [`Gaps::poll_nack`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(Missing::due).min()
    }

    /// The next ask to send; call until there is none.
    pub fn poll_nack(&mut self, rtt: Duration, now: Instant) -> Option<Nack> {
        let before = self.missing.len();
        self.missing.retain(|missing| now < missing.until);
        self.late += (before - self.missing.len()) as u64;
        let due = |missing: &Missing| missing.asked < TRIES && missing.ask_at <= now;
        let alias = self.missing.iter().find(|missing| due(missing))?.alias;
        let of_alias = |missing: &Missing| missing.alias == alias && due(missing);
        let first = self
            .missing
            .iter()
            .filter(|missing| of_alias(missing))
            .map(|missing| missing.sequence)
            .reduce(|a, b| if a.wrapping_sub(b) < 0x8000 { b } else { a })?;
        let mut nack = Nack { alias, first, bits: 0 };
        for missing in self.missing.iter_mut().filter(|missing| of_alias(missing)) {
            let offset = missing.sequence.wrapping_sub(first);
            if offset < ASK_SPAN {
                nack.bits |= 1 << offset;
                missing.asked += 1;
                missing.ask_at = now + (rtt + rtt / 4 + REORDERING).max(2 * REORDERING);
                // An answer that cannot be in time is not asked for.
                if missing.ask_at + rtt > missing.until {
                    missing.asked = TRIES;
                }
            }
        }
        Some(nack)
    }

    /// Packets given up since the last call.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(10);

    fn asks(gaps: &mut Gaps, rtt: Duration, now: Instant) -> Vec<(u16, Vec<u16>)> {
        std::iter::from_fn(|| gaps.poll_nack(rtt, now))
            .map(|nack| (nack.alias.0, nack.sequences().collect()))
            .collect()
    }

    #[test]
    fn a_gap_is_asked_for_after_5_ms_twice_and_then_given_up() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(Alias(1), 2, 4, Class::Video, RTT, now);
        assert_eq!(asks(&mut gaps, RTT, now + 4 * MS), []);
        assert_eq!(gaps.poll_timeout(), Some(now + 5 * MS));
        assert_eq!(asks(&mut gaps, RTT, now + 5 * MS), [(1, vec![65_534, 65_535, 0, 1])]);
        gaps.handle_late(Alias(1), 65_535);
        let again = gaps.poll_timeout().unwrap();
        assert!(again >= now + 5 * MS + RTT);
        assert_eq!(asks(&mut gaps, RTT, again), [(1, vec![65_534, 0, 1])]);
        assert_eq!(gaps.poll_timeout(), Some(now + 250 * MS));
        assert_eq!(asks(&mut gaps, RTT, now + 250 * MS), []);
        assert_eq!((gaps.take_late(), gaps.take_late(), gaps.poll_timeout()), (3, 0, None));
    }

    #[test]
    fn what_only_came_in_another_order_is_not_asked_for() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(Alias(1), 10, 1, Class::Audio, RTT, now);
        gaps.handle_late(Alias(1), 9);
        assert_eq!((asks(&mut gaps, RTT, now + 100 * MS), gaps.take_late()), (vec![], 0));
    }

    #[test]
    fn what_would_come_too_late_is_not_asked_for() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(Alias(1), 10, 1, Class::Audio, 70 * MS, now);
        assert_eq!((gaps.poll_timeout(), gaps.take_late()), (None, 1));
        // In time once, not twice.
        gaps.handle_gap(Alias(1), 20, 1, Class::Audio, 30 * MS, now);
        assert_eq!(asks(&mut gaps, 30 * MS, now + 5 * MS).len(), 1);
        assert_eq!(gaps.poll_timeout(), Some(now + 60 * MS));
    }

    #[test]
    fn aliases_are_asked_for_apart() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(Alias(1), 10, 1, Class::Audio, RTT, now);
        gaps.handle_gap(Alias(2), 10, 2, Class::Video, RTT, now);
        assert_eq!(asks(&mut gaps, RTT, now + 5 * MS), [(1, vec![9]), (2, vec![8, 9])]);
    }

    #[test]
    fn a_jump_is_no_loss_to_repair_and_the_list_is_bounded() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(Alias(1), 1000, GAP_MAX + 1, Class::Video, RTT, now);
        assert_eq!((gaps.poll_timeout(), gaps.take_late()), (None, u64::from(GAP_MAX) + 1));
        for alias in 0..100 {
            gaps.handle_gap(Alias(alias), 50, 10, Class::Video, RTT, now);
        }
        assert_eq!((gaps.missing.len(), gaps.take_late()), (MISSING_MAX, 1000 - MISSING_MAX as u64));
    }

    proptest! {
        #[test]
        fn an_ask_reads_back_as_written(first: u16, bits in 1_u128..) {
            let nack = Nack { alias: Alias(3), first, bits };
            let mut bytes = Vec::new();
            nack.write(&mut bytes);
            prop_assert_eq!(bytes.len(), nack.len());
            prop_assert_eq!(Nack::read(Alias(3), first, &bytes), Some(nack));
        }

        #[test]
        fn no_bytes_make_an_ask_panic(first: u16, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(nack) = Nack::read(Alias(0), first, &bytes) {
                prop_assert!(nack.sequences().count() <= usize::from(ASK_SPAN));
            }
        }

        /// Whatever is lost and repaired: each packet is asked for at most twice, never before it is missed,
        /// and in the end nothing is waited for.
        #[test]
        fn every_gap_ends(lost in prop::collection::vec(0_u8..4, 50..200), rtt in 0_u64..100) {
            let (mut gaps, begin) = (Gaps::default(), start());
            let rtt = rtt as u32 * MS;
            let mut asked = std::collections::BTreeMap::<u16, u32>::new();
            let mut gap = 0;
            let mut gapped = 0;
            for (i, fate) in lost.iter().chain([&1]).enumerate() {
                let now = begin + i as u32 * 3 * MS;
                if *fate == 0 { gap += 1; continue; }
                if gap > 0 {
                    gaps.handle_gap(Alias(1), i as u16, gap, Class::Video, rtt, now);
                    gapped += u64::from(std::mem::take(&mut gap));
                }
                while let Some(nack) = gaps.poll_nack(rtt, now) {
                    for sequence in nack.sequences() {
                        prop_assert!(sequence < i as u16);
                        *asked.entry(sequence).or_default() += 1;
                    }
                }
            }
            prop_assert!(asked.values().all(|times| *times <= u32::from(TRIES)));
            while gaps.poll_nack(rtt, begin + 10_000 * MS).is_some() {}
            prop_assert_eq!(gaps.take_late(), gapped);
            prop_assert_eq!(gaps.poll_timeout(), None);
        }
    }
}
