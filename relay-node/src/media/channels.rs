//! The way of data channels out of a media thread, to those who know what they mean (`channels/`), and back. The thread
//! never waits for them: whose events find no room loses its channels, and that is told as soon as there is room. Of what
//! is left once half of the room is taken no session gets more than its share.

use std::collections::{BTreeMap, BTreeSet};

use media::{ChannelEvent, ChannelId};
use protocol::SessionId;
use tokio::sync::mpsc;

use crate::drop_reason::DropReason;

/// Events of channels that may wait, of all workers.
pub const EVENTS_MAX: usize = 4096;
/// One part of so many of them is a session's share of what is left when half of them wait.
const SHARES: usize = 16;
/// Bytes of a message that some label has a use for: 16 KiB, with a head.
pub const MESSAGE_MAX: usize = 16 * 1024 + 64;

/// What a worker has to say of data channels.
#[derive(Debug)]
pub enum Happened {
    /// Something happened to a channel.
    Channel {
        /// The worker, which is asked for what is wanted of the channel.
        worker: usize,
        /// Which.
        channel: ChannelId,
        /// What.
        event: ChannelEvent,
    },
    /// A message came that is longer than [`MESSAGE_MAX`]; it is dropped.
    TooLong {
        /// The worker.
        worker: usize,
        /// On this channel.
        channel: ChannelId,
    },
    /// The session has no channels any more.
    Over(SessionId),
}

/// The thread's end.
pub struct ChannelsOut {
    worker: usize,
    to: mpsc::Sender<Happened>,
    /// Sessions that have lost their channels, or are over, and of which that could not be told yet.
    over: BTreeSet<SessionId>,
    /// How many events of a session came since less than half of the room was taken.
    crowding: BTreeMap<SessionId, usize>,
}

impl ChannelsOut {
    /// That of this worker.
    pub fn new(worker: usize, to: mpsc::Sender<Happened>) -> ChannelsOut {
        ChannelsOut { worker, to, over: BTreeSet::new(), crowding: BTreeMap::new() }
    }

    /// Something happened to a channel. False if the session's channels have to be closed, because nobody will hear of them.
    #[must_use]
    pub fn tell(&mut self, channel: ChannelId, event: ChannelEvent) -> bool {
        self.tell_over();
        let worker = self.worker;
        if self.over.contains(&channel.session) {
            // A channel that was opened meanwhile has nobody who serves it.
            return !matches!(event, ChannelEvent::Open { .. });
        }
        let happened = match event {
            ChannelEvent::Message { data, .. } if data.len() > MESSAGE_MAX => {
                Happened::TooLong { worker, channel }
            }
            event => Happened::Channel { worker, channel, event },
        };
        if self.has_share(channel.session) && self.to.try_send(happened).is_ok() {
            return true;
        }
        DropReason::ChannelQueueFull.count();
        self.over.insert(channel.session);
        false
    }

    /// Whether a session may say one thing more.
    fn has_share(&mut self, session: SessionId) -> bool {
        let most = self.to.max_capacity();
        if self.to.capacity() > most / 2 {
            self.crowding.clear();
            return true;
        }
        let came = self.crowding.entry(session).or_default();
        *came += 1;
        *came <= (most / SHARES).max(4)
    }

    /// A session is over.
    pub fn handle_over(&mut self, session: SessionId) {
        self.over.insert(session);
        self.tell_over();
    }

    /// Tells what could not be told before.
    pub fn tell_over(&mut self) {
        while let Some(session) = self.over.first() {
            if self.to.try_send(Happened::Over(*session)).is_err() {
                break;
            }
            self.over.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(length: usize) -> ChannelEvent {
        ChannelEvent::Message { data: Bytes::from(vec![7; length]), binary: true }
    }

    fn channel(session: u8) -> ChannelId {
        ChannelId::outside(SessionId([session; 16]), 1)
    }

    #[test]
    fn whose_events_find_no_room_loses_its_channels_and_others_keep_theirs() {
        let (to, mut taken) = mpsc::channel(4);
        let mut out = ChannelsOut::new(3, to);
        for _ in 0..4 {
            assert!(out.tell(channel(1), message(10)));
        }
        assert!(!out.tell(channel(1), message(10)), "no room: its channels have to be closed");
        assert!(out.tell(channel(1), ChannelEvent::Closed), "which is told as one");
        assert!(!out.tell(channel(1), ChannelEvent::Open { label: "room/1/lobby".to_owned() }));
        for _ in 0..4 {
            assert!(matches!(taken.try_recv(), Ok(Happened::Channel { worker: 3, .. })));
        }
        // There is room again: first it is said that they are gone.
        assert!(out.tell(channel(2), message(10)));
        assert!(matches!(taken.try_recv(), Ok(Happened::Over(session)) if session == SessionId([1; 16])));
        assert!(out.tell(channel(1), ChannelEvent::Open { label: "room/1/lobby".to_owned() }));
    }

    #[test]
    fn who_floods_leaves_room_to_others() {
        let (to, mut taken) = mpsc::channel(64);
        let mut out = ChannelsOut::new(0, to);
        let came = (0..64).take_while(|_| out.tell(channel(1), message(10))).count();
        assert_eq!(came, 32 + 4, "half of the room, and its share of the rest");
        for session in 2..9 {
            assert!(out.tell(channel(session), message(10)));
        }
        while taken.try_recv().is_ok() {}
        // It was told that its channels are gone, and begins anew.
        out.tell_over();
        assert!(out.tell(channel(1), ChannelEvent::Open { label: "room/1/lobby".to_owned() }));
    }

    #[test]
    fn a_message_that_no_label_takes_goes_no_further() {
        let (to, mut taken) = mpsc::channel(4);
        let mut out = ChannelsOut::new(0, to);
        assert!(out.tell(channel(1), message(MESSAGE_MAX)) && out.tell(channel(1), message(MESSAGE_MAX + 1)));
        assert!(matches!(taken.try_recv(), Ok(Happened::Channel { .. })));
        assert!(matches!(taken.try_recv(), Ok(Happened::TooLong { .. })));
    }
}
