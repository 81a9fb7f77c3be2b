//! What becomes of an own record that the disk refused. Its number would be given again after a restart, so nobody may
//! see it under that one: what it says goes into a log whose name is lost with this run of the relay.

use super::{LogEntry, LogKey, Logs, place::INCARNATIONS};
use crate::wire::{log_entry::Entry, message::Message, signature::first_word};

/// A record and all after it in its log: they were never seen outside of this relay, and will not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    pub key: LogKey,
    pub from: u64,
}

impl Withdrawn {
    /// Whether it is one of these.
    pub fn is(&self, record: &LogEntry) -> bool {
        record.key == self.key && record.number >= self.from
    }

    /// Whether a message shows one of them.
    pub fn is_in(&self, message: &[u8]) -> bool {
        let Ok(Message::Append { key, first, entries, .. }) = Message::decode(message) else { return false };
        key == self.key && first.saturating_add(entries.len() as u64) > self.from
    }
}

impl Logs {
    /// The disk lacks a record: what follows it in its log is not told to be there. If the record is an own one, what
    /// this relay writes from now on is in other logs. Gives what has to be withdrawn, with what it says.
    pub fn handle_refused(&mut self, record: &LogEntry) -> Option<(Withdrawn, Vec<Entry>)> {
        if let Some(log) = self.logs.get_mut(&record.key) {
            log.torn = true;
        }
        // What a neighbor brought has been seen, also if it is of an earlier run of this relay.
        if record.key.writer != self.own || self.from.contains_key(&record.key) {
            return None;
        }
        if self.volatile && self.is_own(&record.key) {
            // After a restart nobody writes in this log: its numbers are safe.
            self.incarnation += 1;
            return None;
        }
        if !self.volatile {
            self.volatile = true;
            self.incarnation = self.volatile_incarnation();
        }
        let (key, from) = (record.key.clone(), record.number);
        let mut entries = vec![record.entry.clone()];
        if self.logs.contains_key(&key) {
            let behind = self.change(&key, |log| log.cut(from));
            entries.extend(behind.into_iter().filter(|(number, _)| *number > from).map(|(_, entry)| entry));
        }
        if self.highest(&key) == 0 && self.logs.remove(&key).is_some() {
            self.counts.remove(&key);
        }
        Some((Withdrawn { key, from }, entries))
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

    /// The first of a row of incarnations that no other run of this relay has.
    fn volatile_incarnation(&self) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("peddlenet relay 2026 incarnations of a run");
        for part in [self.seed, self.incarnation, self.clock.0] {
            hasher.update(&part.to_be_bytes());
        }
        first_word(&hasher) & !(INCARNATIONS - 1)
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
        LinkId, Mesh, NotStored, Output,
        sim::{config, epoch, node},
        wire::signature::SimulatedKeys,
    };

    const INCARNATION: u64 = 7;

    fn lobby() -> Topic {
        Topic::Room(RoomName::new("lobby").unwrap())
    }

    /// A relay with a neighbor.
    fn mesh(now: Instant) -> Mesh {
        let mut mesh = Mesh::new(config(node(0), ZoneName::new("zone").unwrap(), 1, 1), now);
        mesh.handle_incarnation(INCARNATION);
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
                Output::Store(_)
                | Output::Record { .. }
                | Output::Withdrawn { .. }
                | Output::Incarnation(_) => {
                    outputs.push(output);
                }
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
    fn a_record_that_the_disk_refuses_is_seen_only_in_a_log_of_this_run() {
        let now = epoch();
        let mut mesh = mesh(now);
        let (first, second) = (say(&mut mesh, "one", now), say(&mut mesh, "two", now));
        assert_eq!((first.0.incarnation, first.1, second.1), (INCARNATION, 1, 2));
        assert_eq!(poll(&mut mesh).0.len(), 2);
        let (outputs, shown) = answer(&mut mesh, Err(NotStored::Failed), now);
        let [Output::Withdrawn { key, number: 1, .. }, Output::Store(one), Output::Store(two)] = &outputs[..]
        else {
            panic!("{outputs:?}");
        };
        assert_eq!(
            (key, &one.entry.payload[..], &two.entry.payload[..]),
            (&first.0, &b"one"[..], &b"two"[..])
        );
        assert!(one.key.incarnation != INCARNATION && shown.is_empty(), "{shown:?}");
        // The one behind it is on disk, but nobody sees it there either.
        let (outputs, shown) = answer(&mut mesh, Ok(()), now);
        assert!(matches!(outputs[..], [Output::Withdrawn { number: 2, .. }]) && shown.is_empty());
        // In the other log they are seen, whatever the disk says: nobody gives their numbers again.
        let incarnation = one.key.incarnation;
        let (outputs, shown) = answer(&mut mesh, Err(NotStored::Failed), now);
        assert!(
            matches!(&outputs[..], [Output::Record { stored: Err(_), record }] if record.key.incarnation == incarnation)
        );
        assert_eq!(shown, [(incarnation, 1)]);
        let (outputs, shown) = answer(&mut mesh, Ok(()), now);
        // Behind a gap: its author is not told that it is safe.
        assert!(matches!(outputs[..], [Output::Record { stored: Err(_), .. }]));
        assert_eq!(shown, [(incarnation, 2)]);
        // What comes is in a log that the disk has all of.
        let third = say(&mut mesh, "three", now);
        assert!(third.0.incarnation != incarnation && third.0.incarnation != INCARNATION && third.1 == 1);
        poll(&mut mesh);
        let (outputs, _) = answer(&mut mesh, Ok(()), now);
        assert!(matches!(outputs[..], [Output::Record { stored: Ok(()), .. }]));
        assert_eq!(say(&mut mesh, "four", now), (third.0, 2));
    }

    #[test]
    fn what_has_not_come_out_yet_is_withdrawn_too() {
        let now = epoch();
        let mut mesh = mesh(now);
        say(&mut mesh, "one", now);
        poll(&mut mesh);
        say(&mut mesh, "two", now);
        let (outputs, shown) = answer(&mut mesh, Err(NotStored::Failed), now);
        let stored = outputs.iter().filter(
            |output| matches!(output, Output::Store(record) if record.key.incarnation == INCARNATION),
        );
        assert_eq!((stored.count(), shown.len()), (0, 0));
        let withdrawn = outputs.iter().filter(|output| matches!(output, Output::Withdrawn { .. }));
        assert_eq!((withdrawn.count(), outputs.len()), (2, 4), "{outputs:?}");
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

    #[test]
    fn two_runs_of_a_relay_have_no_incarnation_of_this_kind_in_common() {
        let now = epoch();
        let incarnation = |seed| {
            let mut mesh = Mesh::new(config(node(0), ZoneName::new("zone").unwrap(), 1, seed), now);
            mesh.handle_incarnation(INCARNATION);
            say(&mut mesh, "one", now);
            poll(&mut mesh);
            answer(&mut mesh, Err(NotStored::Failed), now);
            say(&mut mesh, "two", now).0.incarnation
        };
        assert!(incarnation(1).abs_diff(incarnation(2)) > INCARNATIONS);
    }
}
