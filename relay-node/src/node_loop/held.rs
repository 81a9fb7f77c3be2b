//! What waits until the records before it are on disk, in order: otherwise a crash could give the number of a record
//! that others have seen to another one.

use std::collections::VecDeque;

use bytes::Bytes;
use mesh_routing::{LinkId, LogEntry};
use protocol::mesh::Class;
use tokio::sync::oneshot;

use crate::storage::records::NotStored;

/// Records and messages that may wait for the disk; beyond it posts are refused.
const HELD_MAX: usize = 8192;
/// And so many more before announcements are.
const HELD_RESERVED: usize = 1024;

/// The records that wait for the disk, and the messages that wait for them.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<Waiting>);

#[derive(Debug)]
enum Waiting {
    Record(LogEntry, oneshot::Receiver<Result<(), NotStored>>),
    Send(LinkId, Class, Bytes),
}

impl Held {
    /// Whether a post would have to wait behind too much; announcements wait behind more.
    pub fn is_full(&self, announcement: bool) -> bool {
        self.0.len() >= HELD_MAX + if announcement { HELD_RESERVED } else { 0 }
    }

    /// A record is on its way to the disk.
    pub fn record(&mut self, record: LogEntry, stored: oneshot::Receiver<Result<(), NotStored>>) {
        self.0.push_back(Waiting::Record(record, stored));
    }

    /// A message that may leave after it.
    pub fn send(&mut self, link: LinkId, class: Class, message: Bytes) {
        self.0.push_back(Waiting::Send(link, class, message));
    }

    /// Waits until the record that is held first is on disk; for ever if none is held.
    ///
    /// # Errors
    ///
    /// Why it is not on disk; [`NotStored::Failed`] also if the thread of the disk is gone.
    pub async fn stored(&mut self) -> Result<(), NotStored> {
        match self.0.front_mut() {
            Some(Waiting::Record(_, stored)) => stored.await.unwrap_or(Err(NotStored::Failed)),
            _ => std::future::pending().await,
        }
    }

    /// The record that was waited for.
    pub fn take_record(&mut self) -> Option<LogEntry> {
        match self.0.pop_front() {
            Some(Waiting::Record(record, _)) => Some(record),
            _ => None,
        }
    }

    /// The next message that waits for no record any more.
    pub fn poll_send(&mut self) -> Option<(LinkId, Class, Bytes)> {
        match self.0.pop_front_if(|waiting| matches!(waiting, Waiting::Send(..))) {
            Some(Waiting::Send(link, class, message)) => Some((link, class, message)),
            _ => None,
        }
    }
}
