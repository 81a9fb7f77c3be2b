//! What was sent of one alias lately, as it was sent: for repairs, and for parity.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use protocol::mesh::{Class, DatagramKind, Fragment};

/// Packets kept of a track, by number: some 1.3 s of audio, 0.3 s of 8 Mbit/s of video.
const KEPT_AUDIO: usize = 64;
const KEPT_VIDEO: usize = 256;
/// And for so long: nobody asks later. Memory that comes back sooner is still in the cache.
const KEPT_FOR: Duration = Duration::from_millis(400);
/// But for the last few: of a slow track it is only the next packet that shows a gap.
const KEPT_MIN: u16 = 16;

/// A packet as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub sequence: u16,
    pub kind: DatagramKind,
    pub epoch: u8,
    /// Which fragment it is, of a packet that was cut.
    pub fragment: Option<Fragment>,
    pub payload: Bytes,
}

impl Sent {
    /// Octets behind the header.
    pub fn len(&self) -> usize {
        self.payload.len() + self.fragment.map_or(0, |_| Fragment::LEN)
    }

    /// Appends what stands behind the header.
    #[inline]
    pub fn write(&self, out: &mut impl BufMut) {
        if let Some(fragment) = &self.fragment {
            fragment.write(out);
        }
        out.put_slice(&self.payload);
    }
}

/// The packets of one alias that were sent last.
#[derive(Debug)]
pub(crate) struct Kept {
    /// So many at most.
    pub most: usize,
    /// None, or `most`.
    slots: Vec<Option<(Instant, Sent)>>,
    /// What was sent before this one is not kept any more.
    oldest: u16,
}

impl Kept {
    pub fn new(class: Class) -> Kept {
        let most = match class {
            Class::Video | Class::File | Class::Prefetch => KEPT_VIDEO,
            _ => KEPT_AUDIO,
        };
        Kept { most, slots: Vec::new(), oldest: 0 }
    }

    /// Keeps a packet in place of the oldest, and lets go of those that were sent long ago.
    pub fn push(&mut self, sent: Sent, now: Instant) {
        let newest = sent.sequence;
        if self.slots.is_empty() {
            self.slots = vec![None; self.most];
            self.oldest = newest;
        }
        let slot = usize::from(newest) % self.most;
        self.slots[slot] = Some((now, sent));
        while newest.wrapping_sub(self.oldest) >= KEPT_MIN {
            let slot = &mut self.slots[usize::from(self.oldest) % self.most];
            let is_old = |(at, sent): &mut (Instant, Sent)| {
                sent.sequence == self.oldest && now.saturating_duration_since(*at) > KEPT_FOR
            };
            if slot.take_if(is_old).is_none() && usize::from(newest.wrapping_sub(self.oldest)) < self.most {
                break;
            }
            self.oldest = self.oldest.wrapping_add(1);
        }
    }

    /// The packet with this link sequence, if it is still kept.
    pub fn get(&self, sequence: u16) -> Option<&Sent> {
        self.place(sequence).map(|(_, sent)| sent)
    }

    /// When the packet with this link sequence was sent, if it is still kept.
    pub fn sent_at(&self, sequence: u16) -> Option<Instant> {
        self.place(sequence).map(|(at, _)| *at)
    }

    fn place(&self, sequence: u16) -> Option<&(Instant, Sent)> {
        let slot = self.slots.get(usize::from(sequence) % self.most)?;
        slot.as_ref().filter(|(_, sent)| sent.sequence == sequence)
    }

    /// Lets go of all packets, and of their places: a link sees 65,536 aliases before one comes back, and the
    /// numbers of each go on.
    pub fn clear(&mut self) {
        self.slots = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn sent(sequence: u32) -> Sent {
        let payload = Bytes::from(sequence.to_be_bytes().to_vec());
        Sent { sequence: sequence as u16, kind: DatagramKind::Rtp, epoch: 1, fragment: None, payload }
    }

    #[test]
    fn the_last_packets_are_kept() {
        let (mut kept, now) = (Kept::new(Class::Audio), clock::now());
        (65_500..65_636).for_each(|sequence| kept.push(sent(sequence), now));
        let has = |sequence: u16| kept.get(sequence).is_some();
        assert!(!has(35) && has(36) && has(99) && !has(100) && !has(65_500));
        kept.clear();
        assert!(kept.get(99).is_none());
        assert_eq!(kept.slots.capacity(), 0, "an alias that is done takes no memory");
    }

    #[test]
    fn a_packet_is_kept_as_long_as_somebody_may_ask_for_it() {
        let (mut kept, begin) = (Kept::new(Class::Video), clock::now());
        let mut send = |sequence: u32, millis: u64| {
            kept.push(sent(sequence), begin + Duration::from_millis(millis));
            let oldest =
                (0..=sequence).rev().take_while(|sequence| kept.get(*sequence as u16).is_some()).last();
            sequence - oldest.unwrap_or(sequence) + 1
        };
        // 100 packets a second: those of 400 ms.
        let of_a_second: Vec<u32> =
            (65_400..65_700).map(|sequence| send(sequence, 10 * u64::from(sequence))).collect();
        assert_eq!((of_a_second[0], of_a_second[39], of_a_second[299]), (1, 40, 41));
        // Then one a second: the last few.
        let later: Vec<u32> = (0..100_u32).map(|n| send(65_700 + n, 657_000 + 1000 * u64::from(n))).collect();
        assert_eq!((later[1], later[99]), (16, 16));
        // Then a thousand at once: as many as there is room for.
        let burst: Vec<u32> = (65_800..66_800).map(|sequence| send(sequence, 800_000)).collect();
        assert_eq!(burst[999], 256);
    }
}
