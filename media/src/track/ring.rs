//! The newest packets of a track, by extended sequence number: what NACKs and latecomers are served from.

use std::{
    ops::{Range, RangeInclusive},
    time::{Duration, Instant},
};

use crate::rtp::{self, packet::Packet};

/// The newest packets of a track. A slot is overwritten when the number one lap later arrives. It becomes
/// larger, within bounds, if it would lose the beginning of a picture that a latecomer could still get.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[Option<Slot>]>,
    len: RangeInclusive<usize>,
    highest: Option<u64>,
    /// The lap in which numbers start.
    first: u64,
    keyframe: Option<Keyframe>,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    /// There from the moment the packet may leave.
    padding: Option<u8>,
    packet: Packet,
}

#[derive(Debug, Clone, Copy)]
struct Keyframe {
    number: u64,
    timestamp: u32,
    at: Instant,
    /// Of the packets from there on.
    octets: usize,
}

/// A latecomer gets a picture from its keyframe on only if that is not more than this: a keyframe is asked for
/// instead, and where none comes, the next one is waited for.
const PICTURE_OCTETS: usize = 6_000_000;
const PICTURE_AGE: Duration = Duration::from_secs(10);
/// A publisher's repair comes within this time.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why a ring does not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is there.
    Known,
    /// It is a lap too late.
    Late,
}

/// Numbers start here, so that a listener's own numbers never go below zero.
const FIRST: u64 = 1 << 16;

impl Ring {
    /// A ring of so many packets, and of so many at most; both are powers of two.
    pub fn new(len: RangeInclusive<usize>) -> Ring {
        debug_assert!(len.start().is_power_of_two() && len.end().is_power_of_two(), "numbers are masked");
        Ring { slots: empty(*len.start()), len, highest: None, first: FIRST, keyframe: None }
    }

    /// Stores a packet and gives its extended number, if it is news.
    ///
    /// # Errors
    ///
    /// It is there already or a lap too late.
    pub fn push(&mut self, packet: Packet) -> Result<u64, Refused> {
        let number = match self.highest {
            None => self.first | u64::from(packet.sequence),
            Some(highest) => rtp::extend(highest, packet.sequence),
        };
        let slot = self.slot(number);
        let there = self.slots[slot].as_ref().map(|slot| slot.number);
        if there == Some(number) {
            return Err(Refused::Known);
        }
        if there.is_some_and(|there| there > number)
            || self.highest.is_some_and(|highest| number + self.slots.len() as u64 <= highest)
        {
            return Err(Refused::Late);
        }
        if packet.description.keyframe {
            self.note_keyframe(number, &packet);
        }
        if let Some(keyframe) = self.keyframe.as_mut().filter(|keyframe| number >= keyframe.number) {
            keyframe.octets += packet.bytes.len();
        }
        if there.is_some_and(|there| self.is_needed(there, packet.received)) {
            self.grow();
        }
        let slot = self.slot(number);
        self.highest = Some(self.highest.map_or(number, |highest| highest.max(number)));
        self.slots[slot] = Some(Slot { number, padding: None, packet });
        Ok(number)
    }

    /// Whether numbers are missing before this one, or it is older than anything that is here.
    pub fn is_apart(&self, sequence: u16) -> bool {
        let Some(highest) = self.highest else { return false };
        let number = rtp::extend(highest, sequence);
        number > highest + 1 || number + self.slots.len() as u64 <= highest
    }

    /// So many numbers from this one on do not come; gives them as extended ones. The ring goes on behind them, however
    /// many they are. Nothing before the first packet.
    pub fn skip(&mut self, first: u16, count: u16) -> Option<Range<u64>> {
        let highest = self.highest?;
        let first = rtp::extend(highest, first);
        let end = first + u64::from(count);
        self.highest = Some(highest.max(end.saturating_sub(1)));
        Some(first..end)
    }

    /// Forgets everything: the next packet starts anew, above all numbers that were ever given, so that
    /// who still holds such a number finds nothing.
    pub fn clear(&mut self) {
        if self.slots.len() > *self.len.start() {
            self.slots = empty(*self.len.start());
        }
        self.slots.fill_with(|| None);
        if let Some(highest) = self.highest.take() {
            self.first = ((highest >> 16) + 2) << 16;
        }
        self.keyframe = None;
    }

    /// The packet with this number and the padding it is sent with, once that is fixed.
    pub fn get(&self, number: u64) -> Option<(&Packet, u8)> {
        self.slot_of(number).map(|slot| (&slot.packet, slot.padding.unwrap_or_default()))
    }

    /// As `get`, but nothing for a packet that still waits to be sent.
    pub fn get_sent(&self, number: u64) -> Option<(&Packet, u8)> {
        self.slot_of(number).and_then(|slot| Some((&slot.packet, slot.padding?)))
    }

    /// The packet that stands for the same of a source as this one of another ring: a rung of the same sound.
    pub fn get_alike(&self, packet: &Packet) -> Option<&Packet> {
        let number = rtp::extend(self.highest?, packet.sequence);
        let (alike, _) = self.get(number)?;
        let is_it = (alike.timestamp, alike.epoch) == (packet.timestamp, packet.epoch);
        Some(alike).filter(|alike| is_it && alike.codec == packet.codec)
    }

    /// Fixes the padding a packet is sent with, before it leaves for the first time: it has to be the same
    /// each time, because the same number may never be sealed with different octets. Later calls for the
    /// same packet change nothing.
    pub fn fix_padding(&mut self, number: u64, padding: u8) {
        let slot = self.slot(number);
        if let Some(slot) = self.slots[slot].as_mut().filter(|slot| slot.number == number) {
            // A packet of nothing but padding says how long that is.
            let least = u8::from(slot.packet.payload().is_empty());
            slot.padding.get_or_insert(padding.max(least));
        }
    }

    /// The newest number.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// When the newest keyframe began to come.
    pub fn keyframe_at(&self) -> Option<Instant> {
        self.keyframe.map(|keyframe| keyframe.at)
    }

    /// The first packet of the newest keyframe, if everything from there on is still here, and is not more or
    /// older than a latecomer should get. A gap that showed only a moment ago may still be mended.
    pub fn whole_picture(&self, now: Instant) -> Option<u64> {
        let (keyframe, highest) = (self.keyframe?, self.highest?);
        let mut gap = false;
        for number in keyframe.number..=highest {
            match self.get(number) {
                Some((packet, _)) if gap && now.saturating_duration_since(packet.received) > PATIENCE => {
                    return None;
                }
                packet => gap = packet.is_none(),
            }
        }
        let starts = keyframe.is_moderate(now) && self.get(keyframe.number).is_some();
        starts.then_some(keyframe.number)
    }

    /// A keyframe may announce itself twice (an SPS, then the IDR slice): the first packet counts.
    fn note_keyframe(&mut self, number: u64, packet: &Packet) {
        let new = Keyframe { number, timestamp: packet.timestamp, at: packet.received, octets: 0 };
        match self.keyframe {
            Some(known) if known.timestamp == packet.timestamp => {
                self.keyframe = Some(Keyframe { number: known.number.min(number), ..known });
            }
            Some(known) if known.number > number => {}
            _ => self.keyframe = Some(new),
        }
    }

    /// True if a latecomer at this time would get the packet with this number.
    fn is_needed(&self, number: u64, now: Instant) -> bool {
        self.slots.len() < *self.len.end()
            && self.keyframe.is_some_and(|keyframe| number >= keyframe.number && keyframe.is_moderate(now))
    }

    /// Twice as many packets; each keeps its number.
    fn grow(&mut self) {
        let before = std::mem::take(&mut self.slots);
        self.slots = empty(2 * before.len());
        for slot in before.into_iter().flatten() {
            let place = self.slot(slot.number);
            self.slots[place] = Some(slot);
        }
    }

    fn slot_of(&self, number: u64) -> Option<&Slot> {
        self.slots[self.slot(number)].as_ref().filter(|slot| slot.number == number)
    }

    fn slot(&self, number: u64) -> usize {
        number as usize & (self.slots.len() - 1)
    }
}

impl Keyframe {
    fn is_moderate(&self, now: Instant) -> bool {
        self.octets <= PICTURE_OCTETS && now.saturating_duration_since(self.at) <= PICTURE_AGE
    }
}

fn empty(len: usize) -> Box<[Option<Slot>]> {
    (0..len).map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use protocol::Codec;

    use super::*;
    use crate::rtp::{descriptor::Description, packet::Canonical};

    fn packet(sequence: u16, keyframe: bool) -> Packet {
        let canonical = Canonical {
            codec: Codec::Vp8,
            marker: false,
            sequence,
            timestamp: u32::from(sequence) / 3,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.extend_from_slice(&[0x10, u8::from(!keyframe)]);
        #[expect(clippy::disallowed_methods, reason = "an instant to stamp packets with")]
        Packet::from_parts(canonical, buffer, 0, std::time::Instant::now())
    }

    #[test]
    fn numbers_go_on_across_the_wrap() {
        let mut ring = Ring::new(8..=8);
        assert_eq!(ring.push(packet(65_535, false)), Ok(FIRST + 65_535));
        assert_eq!(ring.push(packet(0, false)), Ok(FIRST + 65_536));
        assert_eq!(ring.push(packet(65_534, false)), Ok(FIRST + 65_534));
        let resolved = ring.highest().map(|highest| rtp::extend(highest, 65_534));
        assert_eq!(resolved, Some(FIRST + 65_534));
    }

    #[test]
    fn a_packet_is_taken_once_and_not_a_lap_too_late() {
        let mut ring = Ring::new(8..=8);
        assert!(ring.push(packet(100, false)).is_ok());
        assert_eq!(ring.push(packet(100, false)), Err(Refused::Known));
        assert!(ring.push(packet(108, false)).is_ok());
        assert_eq!(ring.push(packet(100, false)), Err(Refused::Late));
        assert!(ring.push(packet(101, false)).is_ok(), "late, but within the lap");
        assert!(ring.get(FIRST + 100).is_none());
    }

    #[test]
    fn a_ring_goes_on_behind_what_was_withheld_however_many() {
        let mut ring = Ring::new(8..=8);
        assert_eq!(ring.skip(1, 1), None, "nothing is known of its numbers");
        ring.push(packet(65_000, false)).expect("new");
        let mut next = FIRST + 65_001;
        for _ in 0..20 {
            assert_eq!(ring.skip(next as u16, 4096), Some(next..next + 4096));
            next += 4096;
        }
        assert_eq!(ring.push(packet(next as u16, true)), Ok(next));
        assert_eq!(ring.whole_picture(packet(0, false).received), Some(next));
        assert_eq!(ring.skip(next as u16 - 3, 2), Some(next - 3..next - 1), "late news");
        assert_eq!(ring.highest(), Some(next));
    }

    #[test]
    fn numbers_are_never_given_again_and_padding_is_fixed_once() {
        let mut ring = Ring::new(8..=8);
        let before = ring.push(packet(65_535, false)).expect("new");
        assert!(ring.get_sent(before).is_none(), "it waits");
        ring.fix_padding(before, 3);
        ring.fix_padding(before, 5);
        assert_eq!(ring.get_sent(before).map(|(_, padding)| padding), Some(3));
        ring.clear();
        assert!(ring.push(packet(0, false)).expect("new") > before + 1);
        assert!(ring.push(packet(65_535, false)).expect("late, but new") > before);
        assert!(ring.get(before).is_none());
    }

    #[test]
    fn a_picture_is_whole_from_its_keyframe_on_or_not_at_all() {
        let mut ring = Ring::new(16..=16);
        ring.push(packet(3, false)).expect("new");
        assert_eq!(ring.whole_picture(packet(0, false).received), None);
        ring.push(packet(4, true)).expect("new");
        ring.push(packet(5, false)).expect("new");
        ring.push(packet(7, false)).expect("new");
        let now = packet(0, false).received;
        assert_eq!(ring.whole_picture(now), Some(FIRST + 4), "6 may still come");
        assert_eq!(ring.whole_picture(now + PATIENCE * 2), None, "6 is missing");
        ring.push(packet(6, false)).expect("new");
        assert_eq!(ring.whole_picture(now + PATIENCE * 2), Some(FIRST + 4));
        for sequence in 8..30 {
            ring.push(packet(sequence, false)).expect("new");
        }
        assert_eq!(ring.whole_picture(now), None, "the keyframe was overwritten");
    }

    #[test]
    fn a_ring_grows_for_a_picture_and_for_nothing_else() {
        let mut ring = Ring::new(8..=32);
        for sequence in 0..100 {
            ring.push(packet(sequence, false)).expect("new");
        }
        assert_eq!(ring.slots.len(), 8, "nobody could start there");
        ring.push(packet(100, true)).expect("new");
        for sequence in 101..130 {
            ring.push(packet(sequence, false)).expect("new");
            assert_eq!(ring.whole_picture(packet(0, false).received), Some(FIRST + 100));
        }
        assert_eq!(ring.slots.len(), 32);
        assert_eq!(ring.push(packet(110, false)), Err(Refused::Known));
        for sequence in 130..140 {
            ring.push(packet(sequence, false)).expect("new");
        }
        let whole = ring.whole_picture(packet(0, false).received);
        assert_eq!((ring.slots.len(), whole), (32, None), "as large as it may be");
        ring.clear();
        assert_eq!(ring.slots.len(), 8);
    }

    #[test]
    fn a_picture_that_is_too_old_or_too_large_is_not_for_latecomers() {
        let mut ring = Ring::new(8..=8192);
        let mut first = packet(0, true);
        ring.push(first.clone()).expect("new");
        let mut late = packet(1, false);
        late.received = first.received + PICTURE_AGE;
        ring.push(late.clone()).expect("new");
        assert_eq!(ring.whole_picture(late.received), Some(FIRST));
        late.received += Duration::from_millis(1);
        assert_eq!(ring.whole_picture(late.received), None);

        let mut ring = Ring::new(8..=8192);
        first.bytes = vec![0; 1400].into();
        let most = PICTURE_OCTETS / 1400;
        for sequence in 0..=most as u16 {
            let description = Description { keyframe: sequence == 0, ..Description::default() };
            let packet = Packet { sequence, description, ..first.clone() };
            assert_eq!(ring.whole_picture(first.received), (sequence > 0).then_some(FIRST), "{sequence}");
            ring.push(packet).expect("new");
        }
        assert_eq!(ring.whole_picture(first.received), None);
    }
}
