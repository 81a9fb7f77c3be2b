use std::fs;

use bytes::Bytes;
use mesh_routing::{Entry, Signature};
use protocol::{Hlc, NodeId, Topic};
use rand::{RngExt, SeedableRng};
use redb::ReadableDatabase;

use super::*;
use crate::storage::{
    database::{BOOT, COUNTERS, FORMAT, OLD_RECORDS},
    pages::PAGE,
    rows,
};

fn key(writer: u8) -> LogKey {
    LogKey { topic: Topic::Announcements, writer: NodeId([writer; 32]), incarnation: 300 }
}

fn record(writer: u8, number: u64) -> LogEntry {
    let (payload, signature) = (format!("{writer}/{number}").into(), Signature([writer; 64]));
    LogEntry { key: key(writer), number, entry: Entry { hlc: Hlc(number), payload, signature } }
}

/// A store without trouble.
fn opened(directory: &Path) -> (Store, Loaded) {
    let Opened { store, loaded, trouble } = Store::open(directory, Pulse::unwatched()).expect("opens");
    assert!(trouble.is_none(), "{trouble:?}");
    (store, loaded)
}

fn trouble(directory: &Path) -> StoreError {
    let opened = Store::open(directory, Pulse::unwatched()).expect("opens");
    opened.trouble.expect("something is wrong")
}

fn append(store: &Store, record: LogEntry) -> Result<(), NotStored> {
    store.append(record).blocking_recv().expect("the store answers")
}

#[test]
fn records_and_the_boot_counter_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, loaded) = opened(directory.path());
    assert_eq!((loaded.boot, loaded.rows, loaded.old), (1, Vec::new(), Vec::new()));
    for (writer, number) in [(2, 1), (1, 1), (1, 2)] {
        assert_eq!(append(&store, record(writer, number)), Ok(()));
    }
    drop(store);
    let (_store, loaded) = opened(directory.path());
    let rows = [record(1, 1), record(1, 2), record(2, 1)].map(Row::Record).to_vec();
    assert_eq!(loaded, Loaded { boot: 2, rows, old: Vec::new() });
}

#[test]
fn what_follows_a_gap_is_loaded_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = opened(directory.path());
    for (writer, number) in [(1, 5), (1, 6), (1, 8), (1, 9), (2, 3)] {
        assert_eq!(append(&store, record(writer, number)), Ok(()));
    }
    drop(store);
    let (_store, loaded) = opened(directory.path());
    let there = [record(1, 5), record(1, 6), record(1, 8), record(1, 9), record(2, 3)];
    assert_eq!(loaded.rows, there.map(Row::Record));
}

#[test]
fn forgotten_records_are_gone_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = opened(directory.path());
    for number in 1..=4 {
        assert_eq!(append(&store, record(1, number)), Ok(()));
    }
    store.forget(key(1), 4);
    drop(store);
    let (_store, loaded) = opened(directory.path());
    assert_eq!(loaded.rows, [Row::Record(record(1, 4))]);
}

/// A file as a relay of format 1 left it.
fn write_old(directory: &Path, records: &[(u8, u64, &[u8])]) {
    let database = redb::Database::create(directory.join(FILE)).expect("opens");
    let transaction = database.begin_write().expect("begins");
    {
        transaction.open_table(COUNTERS).expect("opens").insert(BOOT, 4).expect("inserts");
        let mut table = transaction.open_table(OLD_RECORDS).expect("opens");
        for (writer, number, payload) in records {
            table.insert((&[*writer; 32], *number), *payload).expect("inserts");
        }
    }
    transaction.commit().expect("commits");
}

#[test]
fn records_of_format_1_are_handed_over_until_they_are_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    write_old(directory.path(), &[(2, 1, b"b"), (1, 2, b"a2"), (1, 1, b"a1")]);
    for boot in [5, 6] {
        let (_store, loaded) = opened(directory.path());
        let old = |writer, payload: &'static [u8]| OldRecord {
            writer: NodeId([writer; 32]),
            payload: Bytes::from_static(payload),
        };
        assert_eq!((loaded.boot, loaded.old), (boot, vec![old(1, b"a1"), old(1, b"a2"), old(2, b"b")]));
    }
    Store::migrate(directory.path(), &[record(1, 1)]).expect("is replaced");
    let (_store, loaded) = opened(directory.path());
    assert_eq!((loaded.rows, loaded.old), (vec![Row::Record(record(1, 1))], Vec::new()));
}

#[test]
fn a_file_of_a_later_release_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(opened(directory.path()));
    {
        let database = redb::Database::create(directory.path().join(FILE)).expect("opens");
        let transaction = database.begin_write().expect("begins");
        transaction.open_table(COUNTERS).expect("opens").insert(FORMAT, 3).expect("inserts");
        transaction.commit().expect("commits");
    }
    let error = trouble(directory.path());
    assert!(matches!(error, StoreError::Newer { found: 3, .. }), "{error}");
    assert_eq!(set_aside(directory.path()), Vec::<PathBuf>::new());
    let database = redb::Database::create(directory.path().join(FILE)).expect("opens");
    let counters = database.begin_read().expect("begins").open_table(COUNTERS).expect("opens");
    let counter = |name| counters.get(name).expect("reads").map(|count| count.value());
    assert_eq!((counter(FORMAT), counter(BOOT)), (Some(3), Some(1)));
}

#[test]
fn a_second_relay_on_the_same_directory_is_told_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_store, _) = opened(directory.path());
    let error = trouble(directory.path());
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

/// The files that are set aside.
fn set_aside(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).expect("lists").map(|file| file.expect("lists").path());
    files.filter(|path| path.display().to_string().contains(".damaged-")).collect()
}

#[test]
fn a_damaged_file_is_set_aside_as_it_is_and_the_store_goes_on() {
    for junk in [b"not a database, whatever it is".to_vec(), vec![0; 8192], vec![0xff; 300]] {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(FILE), &junk).expect("writes");
        let (store, loaded) = opened(directory.path());
        assert_eq!(loaded.rows, []);
        assert_eq!(append(&store, record(1, 1)), Ok(()));
        let aside = set_aside(directory.path());
        assert_eq!(aside.len(), 1);
        assert_eq!(fs::read(&aside[0]).expect("is still there"), junk);
        let shown = store.condition().shown().expect("people are told");
        assert!(shown.history && shown.warning.contains("set aside"), "{shown:?}");
        drop(store);
        let (store, loaded) = opened(directory.path());
        assert_eq!(loaded.rows, [Row::Record(record(1, 1))]);
        assert_eq!((store.condition().shown(), set_aside(directory.path()).len()), (None, 1));
    }
}

/// A file of many records, and those.
fn written(directory: &Path) -> (Vec<u8>, Vec<LogEntry>) {
    let (store, _) = opened(directory);
    let long = |mut record: LogEntry| {
        record.entry.payload =
            format!("{}/{} {}", record.key.writer.short(), record.number, "z".repeat(300)).into();
        record
    };
    let records: Vec<_> =
        (1..=40).flat_map(|number| (1..=6).map(move |writer| long(record(writer, number)))).collect();
    for part in records.chunks(16) {
        let answers: Vec<_> = part.iter().map(|record| store.append(record.clone())).collect();
        answers.into_iter().for_each(|answer| assert_eq!(answer.blocking_recv(), Ok(Ok(()))));
    }
    drop(store);
    (fs::read(directory.join(FILE)).expect("reads"), records)
}

/// The pages in which a row stands, of the last commit or of one before.
fn places(file: &[u8], record: &LogEntry) -> Vec<usize> {
    let row = rows::entry(record);
    file.windows(row.len()).enumerate().filter(|(_, at)| *at == row).map(|(at, _)| at / PAGE).collect()
}

#[test]
fn two_hundred_damaged_copies_start_and_keep_what_reads() {
    let directory = tempfile::tempdir().expect("a directory");
    let (good, records) = written(directory.path());
    let pages = good.len() / PAGE;
    let places: Vec<_> = records.iter().map(|record| places(&good, record)).collect();
    assert!(places.iter().all(|places| !places.is_empty()), "the rows lie in the file as they were written");
    let mut random = rand::rngs::StdRng::seed_from_u64(10);
    let (mut aside, mut lost) = (0, 0);
    for copy in 0..200 {
        let mut bytes = good.clone();
        // Every page has its turn, the first ones, which lead to all others, several times.
        let page = if copy < pages { copy } else { random.random_range(0..pages.min(8)) };
        let at = page * PAGE;
        let mut hurt = vec![page];
        match copy % 5 {
            0 => bytes[at..at + PAGE].fill(0),
            1 => {
                let place = at + random.random_range(0..PAGE);
                bytes[place] ^= 1 << random.random_range(0..8);
            }
            2 => random.fill(&mut bytes[at..at + PAGE]),
            3 => {
                // Half a page is of another one.
                let other = random.random_range(0..pages) * PAGE;
                bytes.copy_within(other..other + PAGE / 2, at);
            }
            _ => {
                bytes.truncate(at + random.random_range(0..PAGE));
                hurt = (page..pages).collect();
            }
        }
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(FILE), &bytes).expect("writes");
        let (store, loaded) = opened(directory.path());
        let kept: Vec<_> = loaded.rows.iter().filter(|row| matches!(row, Row::Record(_))).collect();
        for (record, places) in records.iter().zip(&places) {
            let reads = places.iter().any(|place| !hurt.contains(place));
            let is_kept = kept.contains(&&Row::Record(record.clone()));
            assert!(
                is_kept || !reads,
                "copy {copy}, page {page}: {:?} {} is lost",
                record.key.writer,
                record.number
            );
            lost += usize::from(!is_kept);
        }
        assert!(kept.len() <= records.len(), "nothing is made up, nothing comes twice");
        // It is on disk, and what is new is too.
        assert_eq!(append(&store, record(9, 1)), Ok(()));
        drop(store);
        let (_store, again) = opened(directory.path());
        let kept_again = again.rows.iter().filter(|row| matches!(row, Row::Record(_))).count();
        assert_eq!(kept_again, kept.len() + 1, "copy {copy}");
        let files = set_aside(directory.path());
        aside += files.len();
        assert!(files.iter().all(|file| fs::read(file).is_ok_and(|file| file == bytes)), "it is as it was");
    }
    println!("{aside} of 200 set aside, {lost} records lost of {}", 200 * records.len());
    assert!(aside > 100, "{aside}");
}
