//! The packets of one lane of a link, in their order: how long they have waited, and at what rate the lane drains.
//! Which of them go is decided elsewhere.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{packet::Packet, withheld::Numbers};

/// A lane that lets its packets wait for ever is looked at once in this time.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// The packets that wait in one lane.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    packets: VecDeque<Queued>,
    /// Of their payloads.
    octets: u64,
    /// Octets that have left since the link is up.
    left: u64,
    /// Nothing is late until then, see [`Queue::is_late`].
    fresh_until: Option<Instant>,
}

/// A packet that waits.
#[derive(Debug)]
pub(crate) struct Queued {
    pub packet: Packet,
    pub since: Instant,
    /// Octets that had left the lane when it came.
    left: u64,
    /// What of its track was shed before it.
    pub withheld: Option<Box<Numbers>>,
}

impl Queue {
    /// Packets that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// The packet that leaves next.
    #[inline]
    pub fn front(&self) -> Option<&Queued> {
        self.packets.front()
    }

    /// The packet that leaves next, for what was shed before it.
    pub fn front_mut(&mut self) -> Option<&mut Queued> {
        self.packets.front_mut()
    }

    /// All that wait, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter().map(|queued| &queued.packet)
    }

    /// All that wait, and what was shed before each, for tests.
    #[cfg(test)]
    pub fn queued(&self) -> impl Iterator<Item = (&Packet, Option<&Numbers>)> {
        self.packets.iter().map(|queued| (&queued.packet, queued.withheld.as_deref()))
    }

    /// Another packet, that came no earlier than those before it, and what of its track was shed before it.
    #[inline(always)]
    pub fn push(&mut self, packet: Packet, withheld: Option<Box<Numbers>>, now: Instant) {
        self.octets += packet.payload.len() as u64;
        self.packets.push_back(Queued { packet, since: now, left: self.left, withheld });
    }

    /// Takes the packet that leaves.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Packet> {
        let Queued { packet, .. } = self.packets.pop_front()?;
        self.octets -= packet.payload.len() as u64;
        self.left += packet.payload.len() as u64;
        Some(packet)
    }

    /// Takes the packet that would leave next and does not.
    pub fn drop_oldest(&mut self) -> Option<Packet> {
        let Queued { packet, .. } = self.packets.pop_front()?;
        self.octets -= packet.payload.len() as u64;
        Some(packet)
    }

    /// Only these stay, in their order.
    pub fn retain(&mut self, mut stays: impl FnMut(&mut Queued) -> bool) {
        let octets = &mut self.octets;
        self.packets.retain_mut(|queued| {
            let length = queued.packet.payload.len() as u64;
            let stays = stays(queued);
            *octets -= if stays { 0 } else { length };
            stays
        });
    }

    /// Whether the packet that leaves next has waited longer than this.
    pub fn has_waited(&self, most: Duration, now: Instant) -> bool {
        self.front().is_some_and(|front| now.saturating_duration_since(front.since) > most)
    }

    /// [`Queue::has_waited`] as long as a lane lets its packets wait, always the same: those behind a packet become
    /// late after it, so it is not reckoned for each.
    #[inline]
    pub fn is_late(&mut self, most: Duration, now: Instant) -> bool {
        !self.packets.is_empty()
            && self.fresh_until.is_none_or(|until| until < now)
            && self.look_for_late(most, now)
    }

    #[cold]
    fn look_for_late(&mut self, most: Duration, now: Instant) -> bool {
        self.fresh_until = self.front().and_then(|front| front.since.checked_add(most.min(LOOK_EVERY)));
        self.has_waited(most, now)
    }

    /// Whether all of it leaves within this time, if the lane goes on to drain as it has since the packet came that
    /// leaves next.
    pub fn leaves_within(&self, wait: Duration, now: Instant) -> bool {
        let Some(front) = self.front() else { return true };
        let drained = u128::from(self.left - front.left);
        let waited = now.saturating_duration_since(front.since);
        u128::from(self.octets) * waited.as_micros() <= drained * wait.as_micros()
    }
}
