//! The queues above quinn: what waits for a link waits here, in class order, and what is too old is
//! dropped here, oldest first, within its own class.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use protocol::mesh::{Alias, Class, DatagramHeader, DatagramKind};

const LANES: usize = 4;
/// Packets each lane holds: about 2.5 s of one audio track, 150 ms of 80 Mbit/s of video.
const BOUNDS: [usize; LANES] = [256, 256, 1024, 1024];
/// Headers and payloads are put together in slabs of this size: no allocation per packet.
const SLAB: usize = 64 * 1024;

/// The queues of one link.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    lanes: [VecDeque<Packet>; LANES],
    sequences: HashMap<Alias, u16>,
    slab: BytesMut,
}

/// A media packet before it has a link sequence.
#[derive(Debug)]
pub(super) struct Packet {
    pub kind: DatagramKind,
    pub epoch: u8,
    pub alias: Alias,
    pub payload: Bytes,
}

/// Emergency audio passes all, live audio passes video, and nothing waits for prefetch.
fn lane(class: Class) -> usize {
    match class {
        Class::Control | Class::Emergency | Class::Announcement => 0,
        Class::Chat | Class::Audio => 1,
        Class::File | Class::Video => 2,
        Class::Prefetch => 3,
    }
}

impl Scheduler {
    /// Queues a packet; `false` if the oldest of its class had to go to make room.
    pub fn push(&mut self, class: Class, packet: Packet) -> bool {
        let lane = lane(class);
        let queue = &mut self.lanes[lane];
        let room = queue.len() < BOUNDS[lane];
        if !room {
            queue.pop_front();
        }
        queue.push_back(packet);
        room
    }

    /// The next datagram to send. Its link sequence is given only now: what was dropped here leaves no
    /// gap, so a gap always means a loss on the way.
    pub fn pop(&mut self) -> Option<Bytes> {
        let packet = self.lanes.iter_mut().find_map(VecDeque::pop_front)?;
        let sequence = self.sequences.entry(packet.alias).or_default();
        let header = DatagramHeader {
            kind: packet.kind,
            epoch: packet.epoch,
            alias: packet.alias,
            sequence: *sequence,
        };
        *sequence = sequence.wrapping_add(1);

        let length = DatagramHeader::LEN + packet.payload.len();
        if self.slab.capacity() < length {
            self.slab = BytesMut::with_capacity(SLAB.max(length));
        }
        header.write(&mut self.slab);
        self.slab.extend_from_slice(&packet.payload);
        Some(self.slab.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(alias: u16, byte: u8) -> Packet {
        Packet { kind: DatagramKind::Rtp, epoch: 3, alias: Alias(alias), payload: Bytes::from(vec![byte; 8]) }
    }

    fn drain(scheduler: &mut Scheduler) -> Vec<(u16, u16, u8)> {
        std::iter::from_fn(|| scheduler.pop())
            .map(|datagram| {
                let (header, payload) = DatagramHeader::split(datagram).unwrap();
                assert_eq!((header.epoch, payload.len()), (3, 8));
                (header.alias.0, header.sequence, payload[0])
            })
            .collect()
    }

    #[test]
    fn audio_leaves_before_video_and_video_before_prefetch() {
        let mut scheduler = Scheduler::default();
        scheduler.push(Class::Prefetch, packet(1, 1));
        scheduler.push(Class::Video, packet(2, 2));
        scheduler.push(Class::Audio, packet(3, 3));
        scheduler.push(Class::Emergency, packet(4, 4));
        let order: Vec<u16> = drain(&mut scheduler).into_iter().map(|(alias, ..)| alias).collect();
        assert_eq!(order, [4, 3, 2, 1]);
        assert!(scheduler.pop().is_none());
    }

    #[test]
    fn a_full_class_loses_its_oldest_and_hurts_no_other() {
        let mut scheduler = Scheduler::default();
        assert!(scheduler.push(Class::Video, packet(2, 0)));
        for i in 0..=255 {
            assert!(scheduler.push(Class::Audio, packet(1, i)));
        }
        assert!(!scheduler.push(Class::Audio, packet(1, 99)));
        let left = drain(&mut scheduler);
        assert_eq!(left.len(), 257);
        assert_eq!(left[0], (1, 0, 1), "the oldest went, and its sequence was never given");
        assert_eq!(left[255], (1, 255, 99));
        assert_eq!(left[256], (2, 0, 0));
    }

    #[test]
    fn link_sequences_count_per_alias_and_wrap() {
        let mut scheduler = Scheduler::default();
        for _ in 0..0x1_0001 {
            scheduler.push(Class::Video, packet(1, 0));
            scheduler.pop();
        }
        scheduler.push(Class::Video, packet(1, 0));
        scheduler.push(Class::Video, packet(9, 0));
        assert_eq!(drain(&mut scheduler), [(1, 1, 0), (9, 0, 0)]);
    }
}
