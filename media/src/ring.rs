//! The newest packets of a track, by extended sequence number: what NACKs and latecomers are served from.

use crate::{packet::Packet, rtp};

/// The newest packets of a track. A slot is overwritten when the number one lap later arrives.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[Option<Slot>]>,
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
}

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
    /// A ring of `len` packets; `len` is a power of two.
    pub fn new(len: usize) -> Ring {
        debug_assert!(len.is_power_of_two(), "numbers are masked");
        Ring { slots: (0..len).map(|_| None).collect(), highest: None, first: FIRST, keyframe: None }
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
        if packet.keyframe {
            self.note_keyframe(number, packet.timestamp);
        }
        self.highest = Some(self.highest.map_or(number, |highest| highest.max(number)));
        self.slots[slot] = Some(Slot { number, padding: None, packet });
        Ok(number)
    }

    /// Forgets everything: the next packet starts anew, above all numbers that were ever given, so that
    /// who still holds such a number finds nothing.
    pub fn clear(&mut self) {
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

    /// The number that a 16-bit sequence number stands for, near the newest packet.
    pub fn resolve(&self, sequence: u16) -> Option<u64> {
        self.highest.map(|highest| rtp::extend(highest, sequence))
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

    /// The first packet of the newest keyframe, if everything from there on is still here without a gap.
    pub fn whole_picture(&self) -> Option<u64> {
        let start = self.keyframe?.number;
        (start..=self.highest?).all(|number| self.get(number).is_some()).then_some(start)
    }

    /// A keyframe may announce itself twice (an SPS, then the IDR slice): the first packet counts.
    fn note_keyframe(&mut self, number: u64, timestamp: u32) {
        match self.keyframe {
            Some(known) if known.timestamp == timestamp => {
                self.keyframe = Some(Keyframe { number: known.number.min(number), timestamp });
            }
            Some(known) if known.number > number => {}
            _ => self.keyframe = Some(Keyframe { number, timestamp }),
        }
    }

    fn slot_of(&self, number: u64) -> Option<&Slot> {
        self.slots[self.slot(number)].as_ref().filter(|slot| slot.number == number)
    }

    fn slot(&self, number: u64) -> usize {
        number as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use protocol::Codec;

    use super::*;
    use crate::packet::Canonical;

    fn packet(sequence: u16, keyframe: bool) -> Packet {
        let canonical = Canonical {
            codec: Codec::Vp8,
            marker: false,
            sequence,
            timestamp: u32::from(sequence) / 3,
            audio_level: None,
            orientation: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.extend_from_slice(&[0x10, u8::from(!keyframe)]);
        #[expect(clippy::disallowed_methods, reason = "an instant to stamp packets with")]
        Packet::from_parts(canonical, buffer, 0, std::time::Instant::now())
    }

    #[test]
    fn numbers_go_on_across_the_wrap() {
        let mut ring = Ring::new(8);
        assert_eq!(ring.push(packet(65_535, false)), Ok(FIRST + 65_535));
        assert_eq!(ring.push(packet(0, false)), Ok(FIRST + 65_536));
        assert_eq!(ring.push(packet(65_534, false)), Ok(FIRST + 65_534));
        assert_eq!(ring.resolve(65_534), Some(FIRST + 65_534));
    }

    #[test]
    fn a_packet_is_taken_once_and_not_a_lap_too_late() {
        let mut ring = Ring::new(8);
        assert!(ring.push(packet(100, false)).is_ok());
        assert_eq!(ring.push(packet(100, false)), Err(Refused::Known));
        assert!(ring.push(packet(108, false)).is_ok());
        assert_eq!(ring.push(packet(100, false)), Err(Refused::Late));
        assert!(ring.push(packet(101, false)).is_ok(), "late, but within the lap");
        assert!(ring.get(FIRST + 100).is_none());
    }

    #[test]
    fn numbers_are_never_given_again_and_padding_is_fixed_once() {
        let mut ring = Ring::new(8);
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
        let mut ring = Ring::new(16);
        ring.push(packet(3, false)).expect("new");
        assert_eq!(ring.whole_picture(), None);
        ring.push(packet(4, true)).expect("new");
        ring.push(packet(5, false)).expect("new");
        ring.push(packet(7, false)).expect("new");
        assert_eq!(ring.whole_picture(), None, "6 is missing");
        ring.push(packet(6, false)).expect("new");
        assert_eq!(ring.whole_picture(), Some(FIRST + 4));
        for sequence in 8..30 {
            ring.push(packet(sequence, false)).expect("new");
        }
        assert_eq!(ring.whole_picture(), None, "the keyframe was overwritten");
    }
}
