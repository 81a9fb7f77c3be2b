//! The way of packets from media threads to the bridges' thread: a bounded queue for each lane, without a lock.

use crossbeam_queue::ArrayQueue;

use super::packet::{LANES, Packet, lane};

/// Packets each lane holds until the bridges' thread takes them, which is at once while it lives.
const BOUNDS: [usize; LANES] = [64, 128, 512, 256];

/// What other threads have for one link.
#[derive(Debug)]
pub(crate) struct Intake([ArrayQueue<Packet>; LANES]);

impl Default for Intake {
    fn default() -> Intake {
        Intake(BOUNDS.map(ArrayQueue::new))
    }
}

impl Intake {
    /// From any thread; `false` if the oldest of its lane had to go to make room.
    pub fn push(&self, packet: Packet) -> bool {
        self.0[lane(packet.class)].force_push(packet).is_none()
    }

    /// Everything that is there, most urgent first.
    pub fn drain(&self, mut take: impl FnMut(Packet)) {
        for queue in &self.0 {
            // Not for ever: what comes meanwhile has woken the reader again.
            for _ in 0..queue.capacity() {
                let Some(packet) = queue.pop() else { break };
                take(packet);
            }
        }
    }
}
