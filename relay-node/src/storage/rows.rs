//! The rows of the table of records: a record as bytes, and the records that bytes are, whatever happened to them
//! on disk. The file they lie in is the business of `records.rs`.

use mesh_routing::{Entry, Keys, LogEntry, LogKey};

use crate::drop_reason::DropReason;

/// Octets of the sum behind an entry.
const SUM: usize = 8;

/// The first half of a row's key: the log (postcard). The second half is the number.
pub fn key(key: &LogKey) -> Vec<u8> {
    postcard::to_stdvec(key).expect("names and numbers always serialize")
}

/// The value of a row: the entry (postcard) and a sum over all of the row. An earlier release reads past the sum.
pub fn entry(record: &LogEntry) -> Vec<u8> {
    let mut row = postcard::to_stdvec(&record.entry).expect("bytes and numbers always serialize");
    row.extend(sum(&key(&record.key), record.number, &row));
    row
}

/// What a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// As it was written.
    Record(LogEntry),
    /// Readable, of a release that wrote no sums: whether its writer signed it is not known.
    Unproven(LogEntry),
    /// Damaged, in that place of a log.
    Damaged(LogKey, u64),
}

/// Adds what a row is; rows come in the order of the table. What is in no log is left out.
pub fn read(key: &[u8], number: u64, row: &[u8], rows: &mut Vec<Row>) {
    let Some(log) = log_of(key) else {
        DropReason::StoreUnreadable.count();
        return;
    };
    rows.push(sound(key, number, row).unwrap_or_else(|| damaged(log, number)));
}

/// A row that is as it was written, as far as can be seen.
pub fn sound(key: &[u8], number: u64, row: &[u8]) -> Option<Row> {
    let log = log_of(key)?;
    let (entry, rest) = postcard::take_from_bytes::<Entry>(row).ok()?;
    let record = LogEntry { key: log, number, entry };
    match rest {
        [] => Some(Row::Unproven(record)),
        _ => (rest == sum(key, number, &row[..row.len() - rest.len()])).then_some(Row::Record(record)),
    }
}

/// Whether these are the octets of a log's name.
pub fn is_log(key: &[u8]) -> bool {
    log_of(key).is_some()
}

/// A row that is not as it was written; it is counted. `None` if it is of no log.
pub fn unsound(key: &[u8], number: u64) -> Option<Row> {
    log_of(key).map(|log| damaged(log, number))
}

/// Of a log written in two ways one would begin where the other has not ended.
fn log_of(key: &[u8]) -> Option<LogKey> {
    let log = postcard::from_bytes::<LogKey>(key).ok()?;
    (self::key(&log) == key).then_some(log)
}

/// What is so of the rows of an earlier release: each record is checked by its writer's signature, which takes far longer
/// than a sum. So all cores take a part.
pub fn prove(rows: &mut [Row], keys: &dyn Keys) {
    if !rows.iter().any(|row| matches!(row, Row::Unproven(_))) {
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let part = rows.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for rows in rows.chunks_mut(part) {
            scope.spawn(move || rows.iter_mut().for_each(|row| prove_one(row, keys)));
        }
    });
}

fn prove_one(row: &mut Row, keys: &dyn Keys) {
    if let Row::Unproven(record) = row
        && !record.verify(keys)
    {
        *row = damaged(record.key.clone(), record.number);
    }
}

fn damaged(key: LogKey, number: u64) -> Row {
    DropReason::StoreUnreadable.count();
    Row::Damaged(key, number)
}

/// Finds a bit that flipped on the disk. It is no signature: that was checked when the record came.
fn sum(key: &[u8], number: u64, entry: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes()).update(key).update(entry);
    let mut sum = [0; SUM];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..SUM]);
    sum
}

#[cfg(test)]
mod tests {
    use mesh_routing::Signature;
    use protocol::{Hlc, NodeId, Topic};

    use super::*;

    fn record(number: u64) -> LogEntry {
        let key = LogKey { topic: Topic::Announcements, writer: NodeId([1; 32]), incarnation: 5 };
        let entry =
            Entry { hlc: Hlc(number), payload: b"hello".as_slice().into(), signature: Signature([2; 64]) };
        LogEntry { key, number, entry }
    }

    fn row(record: &LogEntry) -> (Vec<u8>, u64, Vec<u8>) {
        (key(&record.key), record.number, entry(record))
    }

    fn all(rows: &[(Vec<u8>, u64, Vec<u8>)]) -> Vec<Row> {
        let mut read_rows = Vec::new();
        rows.iter().for_each(|(key, number, entry)| read(key, *number, entry, &mut read_rows));
        read_rows
    }

    #[test]
    fn damaged_rows_are_left_out_and_no_number_is_too_high() {
        let junk = (b"junk".to_vec(), 2, b"junk".to_vec());
        let (first, second, last) = (record(1), record(2), record(u64::MAX));
        let rows = [row(&first), junk, row(&second), row(&last)];
        assert_eq!(all(&rows), [first, second, last].map(Row::Record));
    }

    #[test]
    fn whichever_bit_of_a_row_flips_is_noticed_and_costs_that_row() {
        let (before, one, after) = (record(1), record(2), record(3));
        let value = entry(&one);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let rows = all(&[row(&before), (key(&one.key), 2, flipped), row(&after)]);
            assert_eq!((&rows[0], &rows[2]), (&Row::Record(before.clone()), &Row::Record(after.clone())));
            // A length that flipped may take the sum for a part of the entry: then the signature tells.
            let found = match &rows[1] {
                Row::Damaged(key, number) => (key, *number) == (&one.key, 2),
                Row::Unproven(record) => record.entry.signature != one.entry.signature,
                Row::Record(_) => false,
            };
            assert!(found && rows.len() == 3, "bit {bit}: {rows:?}");
        }
    }

    #[test]
    fn rows_of_a_release_without_sums_are_read_and_a_release_without_sums_reads_these() {
        let one = record(1);
        let without = postcard::to_stdvec(&one.entry).expect("serializes");
        assert_eq!(all(&[(key(&one.key), 1, without)]), [Row::Unproven(one.clone())]);
        assert_eq!(postcard::from_bytes(&entry(&one)), Ok(one.entry));
    }

    /// `cargo test --release -p relay-node --lib -- --ignored --nocapture what_a_start_costs`
    #[test]
    #[ignore = "prints what a start costs"]
    fn what_a_start_costs_with_a_hundred_thousand_records() {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = crate::bridge::Identity::load_or_create(directory.path()).expect("is made").keys();
        let key = LogKey { writer: keys.node_id(), ..record(1).key };
        let sign = |number| LogEntry::sign(&*keys, key.clone(), number, Hlc(number), vec![7; 200].into());
        let with_sum: Vec<_> = (1..=100_000).map(|number| row(&sign(number))).collect();
        let timed = |what: &str, rows: &[(Vec<u8>, u64, Vec<u8>)]| {
            let began = crate::clock::now();
            let mut found = all(rows);
            prove(&mut found, &*keys);
            println!("{what}: {:?}", began.elapsed());
            assert!(found.len() == rows.len() && !found.iter().any(|row| matches!(row, Row::Damaged(..))));
        };
        timed("sums", &with_sum);
        let without = |(key, number, row): &(Vec<u8>, u64, Vec<u8>)| {
            (key.clone(), *number, row[..row.len() - SUM].to_vec())
        };
        timed("signatures, on all cores", &with_sum.iter().map(without).collect::<Vec<_>>());
    }

    #[test]
    fn a_log_has_one_name() {
        let (first, again) = (record(1), record(2));
        let mut other = key(&again.key);
        assert_eq!(other.pop(), Some(5), "the incarnation");
        // The same number in two octets, as no relay writes it.
        other.extend([0x85, 0]);
        let rows = [row(&first), (other, 2, entry(&again))];
        assert_eq!(all(&rows), [Row::Record(first)]);
    }
}
