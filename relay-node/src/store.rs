//! What survives a power cut: the log's records and the boot counter, in one redb file.
//!
//! A thread of its own writes; what waits is committed together, and an answer means that it is on disk.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use bytes::Bytes;
use protocol::NodeId;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;
use tokio::sync::oneshot;

/// The file below `--data`.
pub const FILE: &str = "relay.redb";
/// Records waiting for the disk; beyond it [`Store::append`] refuses.
pub const WAITING_MAX: usize = 8192;
/// Records committed together.
const BATCH_MAX: usize = 1024;

/// Writer and number, to payload. The order of the keys is the order in which the log is read back.
const RECORDS: TableDefinition<(&[u8; 32], u64), &[u8]> = TableDefinition::new("records");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
const BOOT: &str = "boot";

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The relay that wrote it.
    pub writer: NodeId,
    /// Its number among the writer's records.
    pub number: u64,
    /// What it says; only rooms look inside.
    pub payload: Bytes,
}

/// What was on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// How often this relay was started, this time included.
    pub boot: u64,
    /// By writer and number; the numbers of a writer have no gaps.
    pub records: Vec<Record>,
}

/// Why the store cannot be used. All of it is exit code 69.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory cannot be made or written.
    #[error(
        "data directory {path:?} cannot be used: {error}; give another one with --data or mend its rights"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another process has it open.
    #[error("{path:?} is in use by another relay: stop that one or give this one a --data of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error(
        "{path:?} is damaged ({problem}): move it away and start again; chat comes back from the other relays"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Why a record is not on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotStored {
    /// Too many are waiting already.
    #[error("the disk is too slow: {WAITING_MAX} records are waiting")]
    Full,
    /// The disk refused.
    #[error("the disk refused the record")]
    Failed,
}

/// The writing end. Dropping it writes what is waiting and closes the file.
#[derive(Debug)]
pub struct Store {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Append { record: Record, done: oneshot::Sender<Result<(), NotStored>> },
    Forget { writer: NodeId, below: u64 },
}

impl Store {
    /// Opens the file in `directory`, makes it if need be, counts this boot and reads everything.
    pub fn open(directory: &Path) -> Result<(Store, Loaded), StoreError> {
        let in_directory = |error| StoreError::Directory { path: directory.to_owned(), error };
        fs::create_dir_all(directory).map_err(in_directory)?;
        let path = directory.join(FILE);
        let database = open_database(&path)?;
        let damaged =
            |error: redb::Error| StoreError::Damaged { path: path.clone(), problem: error.to_string() };
        let loaded = load(&database).map_err(damaged)?;
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("store".to_owned());
        let thread = thread.spawn(move || write_all(&database, &waiting)).map_err(in_directory)?;
        Ok((Store { jobs: Some(jobs), thread: Some(thread) }, loaded))
    }

    /// Writes a record; the answer comes when it is on disk. Writing the same record again is fine.
    pub fn append(&self, record: Record) -> oneshot::Receiver<Result<(), NotStored>> {
        let (done, answer) = oneshot::channel();
        let Some(jobs) = &self.jobs else { return answer };
        if let Err(error) = jobs.try_send(Job::Append { record, done }) {
            metrics::counter!("relay_drop_total", "reason" => "store_queue_full").increment(1);
            let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = error;
            if let Job::Append { done, .. } = job {
                // The caller may have lost interest.
                let _ = done.send(Err(NotStored::Full));
            }
        }
        answer
    }

    /// Drops a writer's records with numbers below `below`: the log forgot them. It may be skipped when
    /// the disk is behind; the next call then does more.
    pub fn forget(&self, writer: NodeId, below: u64) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.try_send(Job::Forget { writer, below });
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed already.
            let _ = thread.join();
        }
    }
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    let damaged = |problem| StoreError::Damaged { path: path.to_owned(), problem };
    // The library asserts on some damaged files instead of returning an error.
    let opened = std::panic::catch_unwind(|| Database::create(path));
    match opened.map_err(|_| damaged("its structure makes no sense".to_owned()))? {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(DatabaseError::Storage(redb::StorageError::Io(error)))
            if error.kind() != std::io::ErrorKind::InvalidData =>
        {
            Err(StoreError::Directory { path: path.to_owned(), error })
        }
        Err(error) => Err(damaged(error.to_string())),
    }
}

fn load(database: &Database) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_write()?;
    let boot = {
        let mut counters = transaction.open_table(COUNTERS)?;
        let boot = counters.get(BOOT)?.map_or(0, |boot| boot.value()) + 1;
        counters.insert(BOOT, boot)?;
        transaction.open_table(RECORDS)?;
        boot
    };
    transaction.commit()?;
    let mut records: Vec<Record> = Vec::new();
    for entry in database.begin_read()?.open_table(RECORDS)?.iter()? {
        let (key, payload) = entry?;
        let (writer, number) = key.value();
        let writer = NodeId(*writer);
        let gap = records.last().is_some_and(|last| last.writer == writer && last.number + 1 < number);
        if gap || records.last().is_some_and(|last| last.writer == writer && last.number >= number) {
            // A refused append left a gap: what follows is fetched again from the neighbors.
            continue;
        }
        records.push(Record { writer, number, payload: Bytes::copy_from_slice(payload.value()) });
    }
    Ok(Loaded { boot, records })
}

/// The thread: takes what waits, commits it as one transaction, answers.
fn write_all(database: &Database, waiting: &Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let batch: Vec<Job> = std::iter::once(first).chain(waiting.try_iter()).take(BATCH_MAX).collect();
        let outcome = write(database, &batch).map_err(|error| {
            tracing::error!(%error, records = batch.len(), "cannot write the log to disk");
            metrics::counter!("relay_drop_total", "reason" => "store_failed").increment(batch.len() as u64);
            NotStored::Failed
        });
        for job in batch {
            if let Job::Append { done, .. } = job {
                // The caller may have lost interest.
                let _ = done.send(outcome);
            }
        }
    }
}

fn write(database: &Database, batch: &[Job]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for job in batch {
            match job {
                Job::Append { record, .. } => {
                    table.insert((&record.writer.0, record.number), &record.payload[..])?;
                }
                Job::Forget { writer, below } => {
                    table.retain_in((&writer.0, 0)..(&writer.0, *below), |_, _| false)?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(writer: u8, number: u64) -> Record {
        let payload = format!("{writer}/{number}").into();
        Record { writer: NodeId([writer; 32]), number, payload }
    }

    fn append(store: &Store, record: Record) -> Result<(), NotStored> {
        store.append(record).blocking_recv().expect("the store answers")
    }

    #[test]
    fn records_and_the_boot_counter_survive_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, loaded) = Store::open(directory.path()).expect("opens");
        assert_eq!(loaded, Loaded { boot: 1, records: Vec::new() });
        for (writer, number) in [(2, 1), (1, 1), (1, 2)] {
            assert_eq!(append(&store, record(writer, number)), Ok(()));
        }
        drop(store);
        let (_store, loaded) = Store::open(directory.path()).expect("opens again");
        assert_eq!(loaded, Loaded { boot: 2, records: vec![record(1, 1), record(1, 2), record(2, 1)] });
    }

    #[test]
    fn what_follows_a_gap_is_not_loaded() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(directory.path()).expect("opens");
        for (writer, number) in [(1, 5), (1, 6), (1, 8), (1, 9), (2, 3)] {
            assert_eq!(append(&store, record(writer, number)), Ok(()));
        }
        drop(store);
        let (_store, loaded) = Store::open(directory.path()).expect("opens again");
        assert_eq!(loaded.records, [record(1, 5), record(1, 6), record(2, 3)]);
    }

    #[test]
    fn forgotten_records_are_gone_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(directory.path()).expect("opens");
        for number in 1..=4 {
            assert_eq!(append(&store, record(1, number)), Ok(()));
        }
        store.forget(NodeId([1; 32]), 4);
        drop(store);
        let (_store, loaded) = Store::open(directory.path()).expect("opens again");
        assert_eq!(loaded.records, [record(1, 4)]);
    }

    #[test]
    fn a_second_relay_on_the_same_directory_is_told_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_store, _) = Store::open(directory.path()).expect("opens");
        let error = Store::open(directory.path()).expect_err("is in use");
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        for junk in [b"not a database, whatever it is".to_vec(), vec![0; 8192], vec![0xff; 300]] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join(FILE);
            fs::write(&path, &junk).expect("writes");
            let error = Store::open(directory.path()).expect_err("is damaged");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).expect("is still there"), junk);
        }
    }
}
