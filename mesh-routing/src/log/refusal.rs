//! What becomes of a log that the disk lacks a record of. The record is seen all the same: no later run of this relay
//! writes in a log of this one, so its number is never given again.

use super::{LogKey, Logs};

impl Logs {
    /// The disk lacks a record of this log: what follows it is not told to be there. If this run writes the log, what it
    /// writes about the topic from now on is in another one, so that the disk has all of that.
    pub fn handle_refused(&mut self, key: &LogKey) {
        if let Some(log) = self.logs.get_mut(key) {
            log.torn = true;
        }
        if self.is_of_this_run(key) {
            self.turn_away(key);
        }
    }

    /// A record of this log will never be on disk.
    pub fn handle_gap(&mut self, key: &LogKey) {
        if let Some(log) = self.logs.get_mut(key) {
            log.gap = true;
        }
    }

    /// Whether a record of this log will never be on disk, so that none behind it may be.
    pub fn has_gap(&self, key: &LogKey) -> bool {
        self.logs.get(key).is_some_and(|log| log.gap)
    }

    /// Whether this relay wrote a record in a log that the disk lacks a part of.
    pub fn is_torn(&self, key: &LogKey) -> bool {
        key.writer == self.own && self.logs.get(key).is_some_and(|log| log.torn)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use protocol::{Hlc, NodeId, RoomName, Topic, ZoneName};

    use super::*;
    use crate::{
        LinkId, LogEntry, Mesh, NotStored, Output,
        sim::{config, epoch, node},
        wire::{message::Message, signature::SimulatedKeys},
    };

    const INCARNATION: u64 = 7;

    fn lobby() -> Topic {
        Topic::Room(RoomName::new("lobby").unwrap())
    }

    /// A relay with a neighbor.
    fn mesh(now: Instant) -> Mesh {
        let mut mesh = Mesh::new(config(node(0), ZoneName::new("zone").unwrap(), 1, INCARNATION), now);
        mesh.handle_link_up(LinkId(1), node(1), now);
        poll(&mut mesh);
        mesh
    }

    /// What it wants of its disk and of people, and the records that its neighbor gets.
    fn poll(mesh: &mut Mesh) -> (Vec<Output>, Vec<(u64, u64)>) {
        let (mut outputs, mut shown) = (Vec::new(), Vec::new());
        while let Some(output) = mesh.poll_output() {
            match output {
                Output::Send { message, .. } => {
                    if let Ok(Message::Append { key, first, entries, .. }) = Message::decode(&message) {
                        shown.extend((first..).zip(entries).map(|(number, _)| (key.incarnation, number)));
                    }
                }
                Output::Store(_) | Output::Record { .. } => outputs.push(output),
                _ => {}
            }
        }
        (outputs, shown)
    }

    fn say(mesh: &mut Mesh, text: &'static str, now: Instant) -> (LogKey, u64) {
        mesh.handle_append(lobby(), Bytes::from_static(text.as_bytes()), now).unwrap()
    }

    fn answer(
        mesh: &mut Mesh,
        result: Result<(), NotStored>,
        now: Instant,
    ) -> (Vec<Output>, Vec<(u64, u64)>) {
        mesh.handle_stored(result, now);
        poll(mesh)
    }

    #[test]
    fn a_record_that_the_disk_refuses_is_seen_all_the_same_and_the_next_one_is_in_another_log() {
        let now = epoch();
        let mut mesh = mesh(now);
        let (first, second) = (say(&mut mesh, "one", now), say(&mut mesh, "two", now));
        assert_eq!((first.0.incarnation, first.1, second.1), (INCARNATION, 1, 2));
        let (outputs, shown) = poll(&mut mesh);
        assert!(matches!(outputs[..], [Output::Store(_), Output::Store(_)]) && shown.is_empty());
        let (outputs, shown) = answer(&mut mesh, Err(NotStored::Failed), now);
        assert!(matches!(outputs[..], [Output::Record { stored: Err(_), .. }]), "{outputs:?}");
        assert_eq!(shown, [(INCARNATION, 1)]);
        // Behind a gap: its author is not told that it is safe.
        let (outputs, shown) = answer(&mut mesh, Ok(()), now);
        assert!(matches!(outputs[..], [Output::Record { stored: Err(_), .. }]), "{outputs:?}");
        assert_eq!(shown, [(INCARNATION, 2)]);
        // What comes is in a log that the disk has all of.
        let third = say(&mut mesh, "three", now);
        assert!(third.0.incarnation != INCARNATION && third.1 == 1);
        poll(&mut mesh);
        let (outputs, _) = answer(&mut mesh, Ok(()), now);
        assert!(matches!(outputs[..], [Output::Record { stored: Ok(()), .. }]));
        assert_eq!(say(&mut mesh, "four", now), (third.0, 2));
    }

    /// The neighbor brings a record of that writer.
    fn bring(mesh: &mut Mesh, (writer, incarnation): (NodeId, u64), number: u64, now: Instant) -> LogEntry {
        let key = LogKey { topic: lobby(), writer, incarnation };
        let text = Bytes::from_static(b"hello");
        let record = LogEntry::sign(&SimulatedKeys(writer), key.clone(), number, Hlc(1), text);
        let (entries, path) = (vec![record.entry.clone()], vec![node(1)]);
        let push = Message::Append { key, first: number, entries, path, pulled: None };
        mesh.handle_message(LinkId(1), &push.encode(), now).unwrap();
        record
    }

    #[test]
    fn a_log_of_which_a_record_was_not_written_has_none_behind_it_on_disk() {
        let now = epoch();
        let mut mesh = mesh(now);
        mesh.handle_disk_room(1);
        let writer = (node(2), 1);
        say(&mut mesh, "one", now);
        let first = bring(&mut mesh, writer, 1, now);
        assert!(matches!(poll(&mut mesh).0[..], [Output::Store(_)]));
        let (outputs, _) = answer(&mut mesh, Ok(()), now);
        let full = |record| Output::Record { record, stored: Err(NotStored::Full) };
        assert_eq!(outputs[1..], [full(first)]);
        // There is room again, and nothing in front of it: it is shown at once.
        let second = bring(&mut mesh, writer, 2, now);
        assert_eq!(poll(&mut mesh).0, [full(second)]);
        let other = bring(&mut mesh, (node(3), 1), 1, now);
        assert_eq!(poll(&mut mesh).0, [Output::Store(other)]);
    }

    #[test]
    fn what_a_neighbor_brings_back_of_an_earlier_run_stays_where_it_is() {
        let now = epoch();
        let mut mesh = mesh(now);
        let record = bring(&mut mesh, (node(0), 99 << 32), 1, now);
        assert_eq!(poll(&mut mesh).0, [Output::Store(record.clone())]);
        let (outputs, _) = answer(&mut mesh, Err(NotStored::Failed), now);
        assert_eq!(outputs, [Output::Record { record, stored: Err(NotStored::Failed) }]);
        assert_eq!(say(&mut mesh, "new", now).0.incarnation, INCARNATION);
    }
}
