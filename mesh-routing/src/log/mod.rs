//! Replicated append logs, one per writer, payloads opaque: what is here, what a neighbor lacks, what to ask
//! for. Records are pushed when they are new and pulled, a bounded piece at a time, when they were missed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::NodeId;

use crate::{
    error::MeshError,
    link::LinkId,
    link_state::NODES_MAX,
    message::{ENTRIES_MAX, Message, Pulled},
};

/// No payload is longer, in bytes.
pub const PAYLOAD_MAX: usize = 16 * 1024;
/// Records kept per writer; older ones are below the floor.
pub const RECORDS_MAX: usize = 5000;
/// Bytes kept per writer, [`OVERHEAD`] for each record included.
pub const BYTES_MAX: usize = 8 << 20;
/// Bytes kept of all writers together: whoever has most gives way. The last record of each writer stays all
/// the same: by it a relay that restarts knows its own next number.
pub const TOTAL_MAX: usize = 64 << 20;
/// What a record takes besides its payload, in bytes: without it, empty records would count for nothing.
pub const OVERHEAD: usize = 64;
/// Bytes in the answer to one pull.
pub const TURN: usize = 64 * 1024;

/// A floor is reported when it has risen by so many records: the disk need not follow each of them.
const REPORT_EVERY: u64 = 64;
/// A latecomer does not start further ahead than this: no log is so long, and no single lie uses up its numbers.
const JUMP_MAX: u64 = 1 << 40;
/// Bytes that give way at once when there are too many.
const GIVE_WAY: usize = 1 << 20;
/// A pull that is not answered for so long may be asked elsewhere.
const PULL_PATIENCE: Duration = Duration::from_secs(5);

/// One entry of a writer's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The relay it was appended at.
    pub writer: NodeId,
    /// Counts from 1 without gaps.
    pub number: u64,
    /// At most [`PAYLOAD_MAX`] bytes, opaque.
    pub payload: Bytes,
}

#[derive(Debug, Default)]
struct Log {
    /// Numbers up to this one are gone.
    floor: u64,
    records: VecDeque<Bytes>,
    bytes: usize,
    /// The floor that was reported last.
    reported: u64,
}

impl Log {
    fn highest(&self) -> u64 {
        self.floor + self.records.len() as u64
    }

    fn push(&mut self, payload: Bytes) {
        self.bytes += payload.len() + OVERHEAD;
        self.records.push_back(payload);
        while self.records.len() > RECORDS_MAX || self.bytes > BYTES_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(gone) = self.records.pop_front() {
            self.bytes -= gone.len() + OVERHEAD;
            self.floor += 1;
        }
    }

    fn jump(&mut self, floor: u64) {
        *self = Log { floor, reported: self.reported, ..Log::default() };
    }
}

/// What came of an [`Message::Append`].
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Records that were not here.
    pub new: Vec<Record>,
    /// How many were.
    pub duplicates: u64,
    /// To ask the same neighbor next.
    pub ask: Option<Message>,
}

/// The logs of every writer.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    logs: BTreeMap<NodeId, Log>,
    /// Of all logs.
    bytes: usize,
    /// Writers whose floor has risen enough to be reported.
    risen: BTreeSet<NodeId>,
    /// The pull under way for a writer.
    pulls: BTreeMap<NodeId, (LinkId, Instant)>,
}

impl Logs {
    /// Appends to the own log.
    pub fn append(&mut self, own: NodeId, payload: Bytes) -> u64 {
        self.change(own, |log| {
            log.push(payload);
            log.highest()
        })
    }

    /// Takes a record from disk; the first of a writer says where its log starts.
    pub fn restore(&mut self, record: Record) {
        let highest = self.highest(&record.writer);
        if record.number <= highest || record.payload.len() > PAYLOAD_MAX {
            return;
        }
        self.change(record.writer, |log| {
            if record.number != highest + 1 {
                log.jump(record.number - 1);
                // The disk has nothing older, or it was to be forgotten anyway.
                log.reported = if highest == 0 { log.floor } else { log.reported };
            }
            log.push(record.payload);
        });
    }

    /// Takes records of a neighbor: only those that go on where the log ends, or, in the answer to a pull,
    /// where everything before them is gone for good.
    pub fn take(
        &mut self,
        link: LinkId,
        (writer, first, payloads): (NodeId, u64, Vec<Bytes>),
        pulled: Option<Pulled>,
        now: Instant,
    ) -> Result<Taken, MeshError> {
        let answers = pulled.is_some() && self.pulls.get(&writer).is_some_and(|(from, _)| *from == link);
        if answers {
            self.pulls.remove(&writer);
        }
        if first == 0 || first.checked_add(payloads.len() as u64).is_none_or(|end| end > u64::MAX >> 1) {
            return Err(MeshError::Absurd { what: "a record number like this" });
        }
        if !self.logs.contains_key(&writer) && self.logs.len() >= NODES_MAX {
            return Err(MeshError::Full { what: "writer" });
        }
        let mut taken = Taken::default();
        let highest = self.highest(&writer);
        let jump = answers
            && pulled.is_some_and(|pulled| pulled.floor > highest && pulled.floor == first - 1)
            && first - highest <= JUMP_MAX
            && !payloads.is_empty();
        let end = first + payloads.len() as u64;
        // A writer nothing is taken of gets no log.
        let gap = !jump && first > highest + 1 && end > first;
        if gap || end <= highest + 1 {
            taken.duplicates = if gap { 0 } else { end - first };
        } else {
            self.change(writer, |log| {
                if jump {
                    log.jump(first - 1);
                }
                for (number, payload) in (first..).zip(payloads) {
                    if number <= log.highest() {
                        taken.duplicates += 1;
                        continue;
                    }
                    log.push(payload.clone());
                    taken.new.push(Record { writer, number, payload });
                }
            });
        }
        let more = answers && pulled.is_some_and(|pulled| pulled.more) && !taken.new.is_empty();
        // An answer with a gap is a lie: it is not asked for again at once.
        if (gap && !answers) || more {
            taken.ask = self.pull(link, writer, now);
        }
        Ok(taken)
    }

    /// How far the logs go, in messages of bounded length.
    pub fn heads(&self) -> Vec<Message> {
        let entries: Vec<_> =
            self.logs.iter().map(|(writer, log)| (*writer, log.floor, log.highest())).collect();
        entries.chunks(ENTRIES_MAX).map(|part| Message::Heads { entries: part.to_vec() }).collect()
    }

    /// How far the log of one writer goes.
    pub fn head(&self, writer: &NodeId) -> Option<Message> {
        let log = self.logs.get(writer)?;
        Some(Message::Heads { entries: vec![(*writer, log.floor, log.highest())] })
    }

    /// What to ask a neighbor for whose logs go so far.
    pub fn missing(&mut self, link: LinkId, entries: &[(NodeId, u64, u64)], now: Instant) -> Vec<Message> {
        entries
            .iter()
            .filter(|(_, _, theirs)| *theirs < u64::MAX >> 1)
            .filter_map(|(writer, _, theirs)| {
                (*theirs > self.highest(writer)).then(|| self.pull(link, *writer, now)).flatten()
            })
            .collect()
    }

    /// A link is gone: what was asked for there may be asked for elsewhere.
    pub fn forget(&mut self, link: LinkId) {
        self.pulls.retain(|_, (from, _)| *from != link);
    }

    fn pull(&mut self, link: LinkId, writer: NodeId, now: Instant) -> Option<Message> {
        let waiting = self.pulls.get(&writer).is_some_and(|(_, since)| now < *since + PULL_PATIENCE);
        if waiting || (self.pulls.len() >= NODES_MAX && !self.pulls.contains_key(&writer)) {
            return None;
        }
        self.pulls.insert(writer, (link, now));
        Some(Message::Pull { writer, after: self.highest(&writer) })
    }

    /// Writers and the floors of their logs, where these rose: what is below may be deleted on disk.
    pub fn poll_floors(&mut self) -> Vec<(NodeId, u64)> {
        let mut report = |writer| {
            let log = self.logs.get_mut(&writer)?;
            log.reported = log.floor;
            Some((writer, log.floor))
        };
        std::mem::take(&mut self.risen).into_iter().filter_map(&mut report).collect()
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn highest(&self, writer: &NodeId) -> u64 {
        self.logs.get(writer).map_or(0, Log::highest)
    }

    /// Does something with one log and keeps the bounds.
    fn change<T>(&mut self, writer: NodeId, what: impl FnOnce(&mut Log) -> T) -> T {
        let log = self.logs.entry(writer).or_default();
        let before = log.bytes;
        let result = what(log);
        self.bytes = self.bytes + log.bytes - before;
        if log.floor >= log.reported + REPORT_EVERY {
            self.risen.insert(writer);
        }
        if self.bytes > TOTAL_MAX {
            self.give_way();
        }
        result
    }

    fn give_way(&mut self) {
        while self.bytes > TOTAL_MAX - GIVE_WAY {
            let many = self.logs.iter_mut().filter(|(_, log)| log.records.len() > 1);
            let Some((writer, log)) = many.max_by_key(|(_, log)| log.bytes) else { return };
            let before = log.bytes;
            // A small log gives one record, a large one a piece of itself.
            let until = before - before / 8;
            while log.bytes >= until && log.records.len() > 1 {
                log.drop_oldest();
            }
            self.bytes -= before - log.bytes;
            if log.floor >= log.reported + REPORT_EVERY {
                self.risen.insert(*writer);
            }
        }
    }

    /// The answer to a pull: at most [`TURN`] bytes, or one record.
    pub fn answer(&self, writer: NodeId, after: u64) -> Message {
        let Some(log) = self.logs.get(&writer) else {
            let pulled = Some(Pulled { floor: 0, more: false });
            return Message::Append { writer, first: 1, payloads: Vec::new(), pulled };
        };
        let first = after.max(log.floor).saturating_add(1).min(log.highest() + 1);
        let skip = usize::try_from(first - log.floor - 1).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let payloads: Vec<Bytes> = log
            .records
            .iter()
            .skip(skip)
            .take_while(|payload| {
                let room = bytes == 0 || bytes + payload.len() <= TURN;
                bytes += payload.len().max(1);
                room
            })
            .cloned()
            .collect();
        let more = first + payloads.len() as u64 <= log.highest();
        Message::Append { writer, first, payloads, pulled: Some(Pulled { floor: log.floor, more }) }
    }

    /// Equal on two relays whose logs go equally far.
    pub fn hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (writer, log) in self.logs.iter().filter(|(_, log)| log.highest() > 0) {
            hasher.update(&writer.0);
            hasher.update(&log.highest().to_be_bytes());
        }
        crate::flood::first_word(&hasher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: LinkId = LinkId(1);

    fn writer() -> NodeId {
        NodeId([7; 32])
    }

    fn bytes(length: usize) -> Bytes {
        vec![0; length].into()
    }

    #[test]
    fn only_the_next_number_is_taken_and_a_gap_is_asked_for() {
        let (mut logs, now) = (Logs::default(), crate::sim::epoch());
        let taken = logs.take(LINK, (writer(), 1, vec![bytes(1), bytes(1)]), None, now).unwrap();
        assert_eq!((taken.new.len(), taken.ask), (2, None));
        let taken = logs.take(LINK, (writer(), 2, vec![bytes(1)]), None, now).unwrap();
        assert_eq!((taken.new.len(), taken.duplicates), (0, 1));
        let taken = logs.take(LINK, (writer(), 9, vec![bytes(1)]), None, now).unwrap();
        assert_eq!(taken.ask, Some(Message::Pull { writer: writer(), after: 2 }));
        // Not asked twice while the first answer may still come.
        let taken = logs.take(LINK, (writer(), 10, vec![bytes(1)]), None, now).unwrap();
        assert_eq!((taken.new.len(), taken.ask), (0, None));
    }

    #[test]
    fn an_answer_is_bounded_and_says_that_there_is_more() {
        let mut logs = Logs::default();
        for _ in 0..100 {
            logs.append(writer(), bytes(PAYLOAD_MAX));
        }
        let Message::Append { payloads, pulled, first, .. } = logs.answer(writer(), 50) else { panic!() };
        assert_eq!((first, payloads.len()), (51, TURN / PAYLOAD_MAX));
        assert_eq!(pulled, Some(Pulled { floor: 0, more: true }));
    }

    #[test]
    fn a_latecomer_starts_at_the_floor() {
        let (mut old, mut new, now) = (Logs::default(), Logs::default(), crate::sim::epoch());
        for _ in 0..RECORDS_MAX + 10 {
            old.append(writer(), bytes(10));
        }
        let asks = new.missing(LINK, &[(writer(), 10, RECORDS_MAX as u64 + 10)], now);
        let mut ask = asks.into_iter().next();
        let mut number = 10;
        while let Some(Message::Pull { writer, after }) = ask {
            let Message::Append { writer, first, payloads, pulled } = old.answer(writer, after) else {
                panic!()
            };
            let taken = new.take(LINK, (writer, first, payloads), pulled, now).unwrap();
            for record in taken.new {
                number += 1;
                assert_eq!(record.number, number);
            }
            ask = taken.ask;
        }
        assert_eq!(number, RECORDS_MAX as u64 + 10);
        assert_eq!(new.hash(), old.hash());
    }

    #[test]
    fn all_logs_together_are_bounded_and_the_largest_gives_way() {
        let (mut logs, now) = (Logs::default(), crate::sim::epoch());
        let small = NodeId([1; 32]);
        for _ in 0..100 {
            logs.append(small, bytes(100));
        }
        for number in 1..=600u64 {
            for writer in 2..14 {
                let records = (NodeId([writer; 32]), number, vec![bytes(PAYLOAD_MAX)]);
                assert_eq!(logs.take(LINK, records, None, now).unwrap().new.len(), 1);
            }
        }
        let counted = |log: &Log| log.records.iter().map(|record| record.len() + OVERHEAD).sum::<usize>();
        assert!(logs.logs.values().all(|log| counted(log) == log.bytes && log.bytes <= BYTES_MAX));
        assert_eq!(logs.logs.values().map(counted).sum::<usize>(), logs.bytes);
        assert!((TOTAL_MAX - 3 * GIVE_WAY..=TOTAL_MAX).contains(&logs.bytes), "{}", logs.bytes);
        assert_eq!(logs.logs[&small].floor, 0, "the small log is whole");
        assert!(logs.logs.values().all(|log| log.highest() >= 100));
        let floors = logs.poll_floors();
        assert_eq!(floors.len(), 12);
        assert!(floors.iter().all(|(writer, floor)| logs.logs[writer].floor == *floor));
        assert!(logs.poll_floors().is_empty());
    }

    #[test]
    fn the_last_record_of_each_writer_stays() {
        let mut logs = Logs::default();
        for writer in 0..5000u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&writer.to_be_bytes());
            for _ in 0..2 {
                logs.append(NodeId(id), bytes(PAYLOAD_MAX));
            }
        }
        assert!(logs.logs.values().all(|log| log.records.len() == 1 && log.highest() == 2));
    }

    #[test]
    fn empty_records_count_too() {
        let mut logs = Logs::default();
        for writer in 0..400u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&writer.to_be_bytes());
            for _ in 0..RECORDS_MAX {
                logs.append(NodeId(id), Bytes::new());
            }
        }
        let records: usize = logs.logs.values().map(|log| log.records.len()).sum();
        assert!(records <= TOTAL_MAX / OVERHEAD, "{records}");
    }

    #[test]
    fn a_writer_nothing_is_taken_of_gets_no_log() {
        let (mut logs, now) = (Logs::default(), crate::sim::epoch());
        let taken = logs.take(LINK, (writer(), 5, vec![bytes(1)]), None, now).unwrap();
        assert_eq!((taken.new.len(), taken.ask), (0, Some(Message::Pull { writer: writer(), after: 0 })));
        assert!(logs.logs.is_empty());
    }

    #[test]
    fn a_floor_is_reported_now_and_then() {
        let mut logs = Logs::default();
        let mut reported = Vec::new();
        for _ in 0..RECORDS_MAX + 200 {
            logs.append(writer(), bytes(1));
            reported.extend(logs.poll_floors());
        }
        assert_eq!(reported, [(writer(), 64), (writer(), 128), (writer(), 192)]);
    }

    #[test]
    fn what_was_on_disk_is_not_new() {
        let (mut logs, now) = (Logs::default(), crate::sim::epoch());
        for number in 4..9 {
            logs.restore(Record { writer: writer(), number, payload: bytes(1) });
        }
        assert!(logs.missing(LINK, &[(writer(), 0, 8)], now).is_empty());
        assert_eq!(logs.append(writer(), bytes(1)), 9);
    }
}
