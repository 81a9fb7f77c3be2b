//! The rows of the table of records: a record as bytes, and the records that bytes are, whatever happened to them
//! on disk. The file they lie in is the business of `records.rs`.

use mesh_routing::{LogEntry, LogKey};

use crate::drop_reason::DropReason;

/// The first half of a row's key: the log (postcard). The second half is the number.
pub fn key(key: &LogKey) -> Vec<u8> {
    postcard::to_stdvec(key).expect("names and numbers always serialize")
}

/// The value of a row: the entry (postcard).
pub fn entry(record: &LogEntry) -> Vec<u8> {
    postcard::to_stdvec(&record.entry).expect("bytes and numbers always serialize")
}

/// Adds the record in a row; rows come in the order of the table.
pub fn read(key: &[u8], number: u64, entry: &[u8], records: &mut Vec<LogEntry>) {
    let read = (postcard::from_bytes(key), postcard::from_bytes(entry));
    // Of a log written in two ways one would begin where the other has not ended.
    let (Ok(log), Ok(entry), true) = (read.0, read.1, is_as_written(key)) else {
        DropReason::StoreUnreadable.count();
        return;
    };
    let record = LogEntry { key: log, number, entry };
    let goes_on = |last: &LogEntry| last.number.checked_add(1) == Some(number);
    if records.last().is_some_and(|last| last.key == record.key && !goes_on(last)) {
        // A refused append left a gap: what follows is fetched again from the neighbors.
        return;
    }
    records.push(record);
}

fn is_as_written(bytes: &[u8]) -> bool {
    postcard::from_bytes(bytes).is_ok_and(|log| key(&log) == bytes)
}

#[cfg(test)]
mod tests {
    use mesh_routing::{Entry, Signature};
    use protocol::{Hlc, NodeId, Topic};

    use super::*;

    fn record(number: u64) -> LogEntry {
        let key = LogKey { topic: Topic::Announcements, writer: NodeId([1; 32]), incarnation: 5 };
        let entry =
            Entry { hlc: Hlc(number), payload: b"hello".as_slice().into(), signature: Signature([2; 64]) };
        LogEntry { key, number, entry }
    }

    fn all(rows: &[(Vec<u8>, u64, Vec<u8>)]) -> Vec<LogEntry> {
        let mut records = Vec::new();
        rows.iter().for_each(|(key, number, entry)| read(key, *number, entry, &mut records));
        records
    }

    #[test]
    fn damaged_rows_are_left_out_and_no_number_is_too_high() {
        let row = |record: &LogEntry| (key(&record.key), record.number, entry(record));
        let junk = (b"junk".to_vec(), 2, b"junk".to_vec());
        let (first, second, last) = (record(1), record(2), record(u64::MAX));
        assert_eq!(all(&[row(&first), junk, row(&second), row(&last)]), [first, second]);
        assert_eq!(all(&[row(&last), row(&record(0))]), [last]);
    }

    #[test]
    fn a_log_has_one_name() {
        let (first, again) = (record(1), record(2));
        let mut other = key(&again.key);
        assert_eq!(other.pop(), Some(5), "the incarnation");
        // The same number in two octets, as no relay writes it.
        other.extend([0x85, 0]);
        let rows = [(key(&first.key), 1, entry(&first)), (other, 2, entry(&again))];
        assert_eq!(all(&rows), [first]);
    }
}
