//! Loss of one hop, repaired on that hop: which link sequences are missing, and when to ask for them. The side
//! that sends them again is the [scheduler](super::scheduler). No I/O, no clock.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use protocol::mesh::{Alias, Class};

use super::{packet::kind, parity::SPREAD};

/// A packet may be overtaken by others for so long without being missed.
const REORDERING: Duration = Duration::from_millis(5);
/// Asks per packet.
const TRIES: u8 = 2;
/// A jump over more than this is no loss to repair: the tree or the neighbor's queue changed.
const GAP_MAX: u16 = 64;
/// Where those that were jumped over by too many are counted.
const JUMPED: usize = 2;
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
    /// Packets that were given up since [`Gaps::take_late`]: of sound, of pictures, jumped over by too many.
    late: [u64; 3],
}

/// Datagrams that were jumped over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    pub alias: Alias,
    /// The one that came.
    pub sequence: u16,
    /// How many before it did not.
    pub missed: u16,
    pub class: Class,
    /// Parity may bring them: until it is due nobody is asked.
    pub has_parity: bool,
}

#[derive(Debug)]
struct Missing {
    alias: Alias,
    sequence: u16,
    kind: usize,
    asked: u8,
    /// Whether anybody was asked.
    was_asked: bool,
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
    /// Something was jumped over. Whether that is a loss, and not another place in the sequence.
    pub fn handle_gap(&mut self, gap: Gap, rtt: Duration, now: Instant) -> bool {
        let Gap { alias, sequence, missed, class, has_parity } = gap;
        let ask_at = now + if has_parity { SPREAD + REORDERING } else { REORDERING };
        let kind = kind(class);
        // Parity that comes when it is due is waited for all the same.
        let until = (now + patience(class)).max(if has_parity { ask_at } else { now });
        let is_too_far = ask_at + rtt > until;
        if missed > GAP_MAX {
            self.late[JUMPED] += u64::from(missed);
            return false;
        }
        for back in (1..=missed).rev() {
            if is_too_far && !has_parity || self.missing.len() == MISSING_MAX {
                self.late[kind] += u64::from(back);
                break;
            }
            self.missing.push(Missing {
                alias,
                sequence: sequence.wrapping_sub(back),
                kind,
                asked: if is_too_far { TRIES } else { 0 },
                was_asked: false,
                ask_at,
                until,
            });
        }
        true
    }

    /// A packet that had been jumped over came. Whether it had been asked for: else it came by itself, only late.
    pub fn handle_late(&mut self, alias: Alias, sequence: u16) -> bool {
        let found = |missing: &Missing| missing.alias == alias && missing.sequence == sequence;
        let index = self.missing.iter().position(found);
        index.is_some_and(|index| self.missing.swap_remove(index).was_asked)
    }

    /// A parity of the datagrams from `first` on came: what is missing before them no parity brings any more.
    pub fn handle_parity(&mut self, alias: Alias, first: u16, now: Instant) {
        for missing in self.missing.iter_mut().filter(|missing| missing.alias == alias) {
            if missing.sequence.wrapping_sub(first) >= 0x8000 {
                missing.ask_at = missing.ask_at.min(now + REORDERING);
            }
        }
    }

    /// When to call [`Gaps::poll_nack`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(Missing::due).min()
    }

    /// The next ask to send; call until there is none.
    pub fn poll_nack(&mut self, rtt: Duration, now: Instant) -> Option<Nack> {
        let late = &mut self.late;
        self.missing.retain(|missing| {
            let stays = now < missing.until;
            late[missing.kind] += u64::from(!stays);
            stays
        });
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
                missing.was_asked = true;
                missing.ask_at = now + (rtt + rtt / 4 + REORDERING).max(2 * REORDERING);
                // An answer that cannot be in time is not asked for.
                if missing.ask_at + rtt > missing.until {
                    missing.asked = TRIES;
                }
            }
        }
        Some(nack)
    }

    /// Packets given up since the last call: of sound, of pictures, and those that were jumped over by too many.
    pub fn take_late(&mut self) -> [u64; 3] {
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

    fn over(alias: u16, sequence: u16, missed: u16, class: Class) -> Gap {
        Gap { alias: Alias(alias), sequence, missed, class, has_parity: false }
    }

    fn late(gaps: &mut Gaps) -> u64 {
        gaps.take_late().iter().sum()
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
        gaps.handle_gap(over(1, 2, 4, Class::Video), RTT, now);
        assert_eq!(asks(&mut gaps, RTT, now + 4 * MS), []);
        assert_eq!(gaps.poll_timeout(), Some(now + 5 * MS));
        assert_eq!(asks(&mut gaps, RTT, now + 5 * MS), [(1, vec![65_534, 65_535, 0, 1])]);
        gaps.handle_late(Alias(1), 65_535);
        let again = gaps.poll_timeout().unwrap();
        assert!(again >= now + 5 * MS + RTT);
        assert_eq!(asks(&mut gaps, RTT, again), [(1, vec![65_534, 0, 1])]);
        assert_eq!(gaps.poll_timeout(), Some(now + 250 * MS));
        assert_eq!(asks(&mut gaps, RTT, now + 250 * MS), []);
        assert_eq!((late(&mut gaps), late(&mut gaps), gaps.poll_timeout()), (3, 0, None));
    }

    #[test]
    fn what_only_came_in_another_order_is_not_asked_for() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(over(1, 10, 1, Class::Audio), RTT, now);
        gaps.handle_late(Alias(1), 9);
        assert_eq!((asks(&mut gaps, RTT, now + 100 * MS), late(&mut gaps)), (vec![], 0));
    }

    #[test]
    fn what_would_come_too_late_is_not_asked_for() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(over(1, 10, 1, Class::Audio), 70 * MS, now);
        assert_eq!((gaps.poll_timeout(), late(&mut gaps)), (None, 1));
        // In time once, not twice.
        gaps.handle_gap(over(1, 20, 1, Class::Audio), 30 * MS, now);
        assert_eq!(asks(&mut gaps, 30 * MS, now + 5 * MS).len(), 1);
        assert_eq!(gaps.poll_timeout(), Some(now + 60 * MS));
    }

    #[test]
    fn while_parity_may_bring_it_nobody_is_asked() {
        let (mut gaps, now) = (Gaps::default(), start());
        let protected = |alias, class| Gap { has_parity: true, ..over(alias, 10, 1, class) };
        gaps.handle_gap(protected(1, Class::Video), 80 * MS, now);
        assert_eq!(asks(&mut gaps, 80 * MS, now + 84 * MS), []);
        assert_eq!(asks(&mut gaps, 80 * MS, now + 85 * MS), [(1, vec![9])]);
        assert!(gaps.handle_late(Alias(1), 9), "it was asked for");
        // No answer would be in time. It is waited for all the same, because parity may be.
        gaps.handle_gap(protected(2, Class::Audio), 80 * MS, now);
        assert_eq!(gaps.poll_timeout(), Some(now + 85 * MS));
        assert_eq!((asks(&mut gaps, 80 * MS, now + 84 * MS), late(&mut gaps)), (vec![], 0));
        assert_eq!((asks(&mut gaps, 80 * MS, now + 85 * MS), late(&mut gaps)), (vec![], 1));
        // Parity of what came later came: none is left that could bring it.
        gaps.handle_gap(protected(3, Class::Video), 20 * MS, now);
        gaps.handle_parity(Alias(3), 9, now);
        assert_eq!(gaps.poll_timeout(), Some(now + 85 * MS));
        gaps.handle_parity(Alias(3), 10, now);
        assert_eq!(asks(&mut gaps, 20 * MS, now + 5 * MS), [(3, vec![9])]);
    }

    #[test]
    fn aliases_are_asked_for_apart() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(over(1, 10, 1, Class::Audio), RTT, now);
        gaps.handle_gap(over(2, 10, 2, Class::Video), RTT, now);
        assert_eq!(asks(&mut gaps, RTT, now + 5 * MS), [(1, vec![9]), (2, vec![8, 9])]);
    }

    #[test]
    fn a_jump_is_no_loss_to_repair_and_the_list_is_bounded() {
        let (mut gaps, now) = (Gaps::default(), start());
        gaps.handle_gap(over(1, 1000, GAP_MAX + 1, Class::Video), RTT, now);
        assert_eq!((gaps.poll_timeout(), late(&mut gaps)), (None, u64::from(GAP_MAX) + 1));
        for alias in 0..100 {
            gaps.handle_gap(over(alias, 50, 10, Class::Video), RTT, now);
        }
        assert_eq!((gaps.missing.len(), late(&mut gaps)), (MISSING_MAX, 1000 - MISSING_MAX as u64));
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
                    gaps.handle_gap(over(1, i as u16, gap, Class::Video), rtt, now);
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
            prop_assert_eq!(late(&mut gaps), gapped);
            prop_assert_eq!(gaps.poll_timeout(), None);
        }
    }
}
