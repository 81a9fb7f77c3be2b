//! Disk before neighbors, as in write-ahead logging: which records are on their way to the disk, which messages wait
//! behind them, in which order all of it is let go. What follows when a record is on disk belongs to `replication.rs`.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::mesh::Class;
use thiserror::Error;

use crate::wire::{log_entry::LogEntry, metric::LinkId};

/// Records on their way to the disk; what is beyond it is refused and never written.
pub const IN_FLIGHT_MAX: usize = 8192;
/// Of these, so many are for announcements.
pub const IN_FLIGHT_RESERVED: usize = 512;
/// Records and messages that wait; beyond it this relay writes nothing more.
pub const HELD_MAX: usize = 8192;
/// And so many more before it writes no announcements.
pub const HELD_RESERVED: usize = 1024;

/// Why a record is not on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotStored {
    /// Too many are on their way already.
    #[error("the disk is too slow: {IN_FLIGHT_MAX} records are waiting")]
    Full,
    /// The disk refused.
    #[error("the disk refused the record")]
    Failed,
}

/// A message to a neighbor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub link: LinkId,
    pub class: Class,
    pub message: Bytes,
}

/// What waits for nothing any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// It is on disk, or cannot be.
    Record(LogEntry, Result<(), NotStored>),
    Send(Parcel),
}

#[derive(Debug)]
enum Held {
    /// With the answer: of the disk, or without it where there was no room.
    Record(LogEntry, Option<Result<(), NotStored>>),
    Send(Parcel),
}

/// Records that wait for the disk, and the messages that wait for them. Whatever is in front waits for the disk, once
/// [`DurableOrder::poll_released`] has nothing left.
#[derive(Debug)]
pub(crate) struct DurableOrder {
    held: VecDeque<Held>,
    /// Records that the disk was asked for and has not answered.
    in_flight: usize,
    /// At most so many; and so many of them are for announcements.
    room: usize,
    reserved: usize,
}

impl Default for DurableOrder {
    fn default() -> DurableOrder {
        let (room, reserved) = (IN_FLIGHT_MAX, IN_FLIGHT_RESERVED);
        DurableOrder { held: VecDeque::new(), in_flight: 0, room, reserved }
    }
}

impl DurableOrder {
    /// No more records than these may be on their way, of whatever class.
    #[cfg(any(test, feature = "sim"))]
    pub fn handle_room(&mut self, room: usize) {
        (self.room, self.reserved) = (room, 0);
    }

    /// Whether what is appended now would have to wait behind too much; announcements wait behind more.
    pub fn is_full(&self, class: Class) -> bool {
        self.held.len() >= HELD_MAX + if class == Class::Announcement { HELD_RESERVED } else { 0 }
    }

    /// A record that was never here before. Gives it back if the disk is to be asked.
    pub fn handle_record(&mut self, record: LogEntry) -> Option<LogEntry> {
        let reserved = if record.key.topic.class() == Class::Announcement { 0 } else { self.reserved };
        if self.in_flight >= self.room - reserved {
            self.handle_unasked(record);
            return None;
        }
        self.in_flight += 1;
        self.held.push_back(Held::Record(record.clone(), None));
        Some(record)
    }

    /// A record that the disk is not asked for.
    pub fn handle_unasked(&mut self, record: LogEntry) {
        self.held.push_back(Held::Record(record, Some(Err(NotStored::Full))));
    }

    /// A message that comes after all of that. Gives it back if it waits for nothing: control, and bytes of files, say
    /// nothing of records.
    pub fn handle_send(&mut self, parcel: Parcel) -> Option<Parcel> {
        let waits = matches!(parcel.class, Class::Announcement | Class::Chat) && !self.held.is_empty();
        if !waits {
            return Some(parcel);
        }
        self.held.push_back(Held::Send(parcel));
        None
    }

    /// The disk has answered for the record that it was asked for first.
    pub fn handle_stored(&mut self, result: Result<(), NotStored>) {
        if let Some(Held::Record(_, answer @ None)) = self.held.front_mut() {
            *answer = Some(result);
            self.in_flight -= 1;
        }
    }

    /// What waits for nothing any more, in order; `None` when there is nothing left.
    pub fn poll_released(&mut self) -> Option<Released> {
        let answered = |held: &mut Held| !matches!(held, Held::Record(_, None));
        Some(match self.held.pop_front_if(answered)? {
            Held::Record(record, result) => Released::Record(record, result.unwrap_or(Ok(()))),
            Held::Send(parcel) => Released::Send(parcel),
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Hlc, NodeId, RoomName, Topic};

    use super::*;
    use crate::wire::{log_entry::LogKey, signature::SimulatedKeys};

    fn record(topic: Topic, number: u64) -> LogEntry {
        let writer = NodeId([1; 32]);
        let key = LogKey { topic, writer, incarnation: 1 };
        LogEntry::sign(&SimulatedKeys(writer), key, number, Hlc(number), Bytes::new())
    }

    fn chat(number: u64) -> LogEntry {
        record(Topic::Room(RoomName::new("lobby").unwrap()), number)
    }

    fn parcel(class: Class) -> Parcel {
        Parcel { link: LinkId(1), class, message: Bytes::from_static(b"hello") }
    }

    fn released(order: &mut DurableOrder) -> Vec<Released> {
        std::iter::from_fn(|| order.poll_released()).collect()
    }

    #[test]
    fn messages_wait_for_the_records_before_them_and_control_for_nothing() {
        let mut order = DurableOrder::default();
        assert_eq!(order.handle_send(parcel(Class::Chat)), Some(parcel(Class::Chat)));
        assert_eq!(order.handle_record(chat(1)), Some(chat(1)));
        assert_eq!(order.handle_send(parcel(Class::Chat)), None);
        assert_eq!(order.handle_record(chat(2)), Some(chat(2)));
        assert_eq!(order.handle_send(parcel(Class::Announcement)), None);
        assert_eq!(order.handle_send(parcel(Class::Control)), Some(parcel(Class::Control)));
        assert_eq!(order.handle_send(parcel(Class::File)), Some(parcel(Class::File)));
        assert_eq!(released(&mut order), []);
        order.handle_stored(Ok(()));
        let first = [Released::Record(chat(1), Ok(())), Released::Send(parcel(Class::Chat))];
        assert_eq!(released(&mut order), first);
        order.handle_stored(Err(NotStored::Failed));
        let failed = Released::Record(chat(2), Err(NotStored::Failed));
        assert_eq!(released(&mut order), [failed, Released::Send(parcel(Class::Announcement))]);
        assert_eq!(order.handle_send(parcel(Class::Chat)), Some(parcel(Class::Chat)));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_passed_over() {
        let mut order = DurableOrder::default();
        order.handle_stored(Ok(()));
        assert_eq!(order.handle_record(chat(1)), Some(chat(1)));
        assert_eq!(released(&mut order), []);
    }

    #[test]
    fn so_many_records_are_on_their_way_and_those_beyond_are_refused_in_their_turn() {
        let mut order = DurableOrder::default();
        let most = (IN_FLIGHT_MAX - IN_FLIGHT_RESERVED) as u64;
        assert!((1..=most).all(|number| order.handle_record(chat(number)).is_some()));
        assert_eq!(order.handle_record(chat(most + 1)), None);
        // Announcements have places of their own.
        let storm = record(Topic::Announcements, 1);
        assert_eq!(order.handle_record(storm.clone()), Some(storm.clone()));
        for number in 1..most {
            order.handle_stored(Ok(()));
            assert_eq!(released(&mut order), [Released::Record(chat(number), Ok(()))]);
        }
        order.handle_stored(Ok(()));
        let full = Released::Record(chat(most + 1), Err(NotStored::Full));
        assert_eq!(released(&mut order), [Released::Record(chat(most), Ok(())), full]);
        order.handle_stored(Ok(()));
        assert_eq!(released(&mut order), [Released::Record(storm, Ok(()))]);
    }

    #[test]
    fn announcements_may_be_written_when_chat_may_not() {
        let mut order = DurableOrder::default();
        order.handle_record(chat(1));
        while !order.is_full(Class::Chat) {
            order.handle_send(parcel(Class::Chat));
        }
        assert_eq!(order.held.len(), HELD_MAX);
        assert!(!order.is_full(Class::Announcement));
        for _ in 0..HELD_RESERVED {
            order.handle_send(parcel(Class::Chat));
        }
        assert!(order.is_full(Class::Announcement));
    }
}
