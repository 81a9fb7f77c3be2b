//! What survives a power cut: the records of all logs and the count of starts, in one redb file.
//!
//! A thread of its own writes; what waits is committed together, and an answer means that it is on disk. What a
//! full disk refuses is written when there is room.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mesh_routing::{LogEntry, LogKey, NotStored, log::durable_order::IN_FLIGHT_MAX};
use protocol::NodeId;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;
use tokio::sync::oneshot;

use super::rows::{self, Row};
use crate::{
    clock,
    drop_reason::DropReason,
    vitals::{BEAT, Pulse},
};

/// The file below `--data`.
pub const FILE: &str = "relay.redb";
/// Records waiting for the disk, at most: the mesh gives no more.
pub const WAITING_MAX: usize = IN_FLIGHT_MAX;
/// Jobs that wait: all records, and as many that drop others. So there is always room for a record.
const JOBS_MAX: usize = 2 * WAITING_MAX;
/// Bytes of the file kept in memory. It is read once, at the start; by itself the library would keep all of it.
const CACHE: usize = 4 << 20;
/// How long after a failed write the next one is tried.
const AGAIN: Duration = Duration::from_secs(1);
/// Records committed together.
const BATCH_MAX: usize = 1024;

/// Log and number, to entry, as `rows` writes them. The order of the keys is the order in which the logs are
/// read back.
const RECORDS: TableDefinition<(&[u8], u64), &[u8]> = TableDefinition::new("records-2");
/// Format 1: writer and number, to payload.
const OLD_RECORDS: TableDefinition<(&[u8; 32], u64), &[u8]> = TableDefinition::new("records");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
const BOOT: &str = "boot";
/// Absent in format 1.
const FORMAT: &str = "format";
/// The format this release writes.
const FORMAT_NOW: u64 = 2;

/// A record of format 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRecord {
    /// The relay that wrote it.
    pub writer: NodeId,
    /// What it says.
    pub payload: Bytes,
}

/// What was on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// How often this relay was started, this time included.
    pub boot: u64,
    /// By log and number.
    pub rows: Vec<Row>,
    /// Records of format 1, by writer and number, until [`Store::migrate`].
    pub old: Vec<OldRecord>,
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
    /// A later release wrote it.
    #[error(
        "{path:?} has format {found} of a later release, this one writes {FORMAT_NOW}: start that release, \
         or give this one another directory with --data"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
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

/// The writing end. Dropping it writes what is waiting and closes the file.
#[derive(Debug)]
pub struct Store {
    jobs: Option<SyncSender<Job>>,
    /// How many jobs wait.
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Append { record: LogEntry, done: Option<oneshot::Sender<Result<(), NotStored>>> },
    Forget { key: LogKey, below: u64 },
    Seal { records: Vec<LogEntry> },
}

impl Store {
    /// Opens the file in `directory`, makes it if need be, counts this boot and reads everything.
    /// The thread that writes beats `pulse`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Directory`] if the directory cannot be used, [`StoreError::InUse`] if another process
    /// has the file open, [`StoreError::Newer`] for a later format, [`StoreError::Damaged`] if it cannot be
    /// read.
    pub fn open(directory: &Path, mut pulse: Pulse) -> Result<(Store, Loaded), StoreError> {
        let in_directory = |error| StoreError::Directory { path: directory.to_owned(), error };
        fs::create_dir_all(directory).map_err(in_directory)?;
        let path = directory.join(FILE);
        let database = open_database(&path)?;
        let damaged =
            |error: redb::Error| StoreError::Damaged { path: path.clone(), problem: error.to_string() };
        let found = format(&database).map_err(damaged)?;
        if found > FORMAT_NOW {
            return Err(StoreError::Newer { path, found });
        }
        let loaded = load(&database).map_err(damaged)?;
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let thread = std::thread::Builder::new().name("store".to_owned());
        let count = Arc::new(AtomicUsize::new(0));
        let writer =
            Writer { path, database: Some(database), waiting: count.clone(), owed: Vec::new(), failed: None };
        let run = move || {
            pulse.begin(clock::now());
            writer.run(&waiting, &pulse);
            pulse.finish();
        };
        let thread = thread.spawn(run).map_err(in_directory)?;
        Ok((Store { jobs: Some(jobs), waiting: count, thread: Some(thread) }, loaded))
    }

    /// Writes a record; the answer comes when it is on disk. Writing the same record again is fine.
    pub fn append(&self, record: LogEntry) -> oneshot::Receiver<Result<(), NotStored>> {
        let (done, answer) = oneshot::channel();
        let job = Job::Append { record, done: Some(done) };
        if let Some(Job::Append { done: Some(done), .. }) = self.send(job) {
            // The caller may have lost interest.
            let _ = done.send(Err(NotStored::Full));
        }
        answer
    }

    /// Gives back what there is no room for.
    fn send(&self, job: Job) -> Option<Job> {
        let jobs = self.jobs.as_ref()?;
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = jobs.try_send(job) else {
            return None;
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }

    /// Puts these records in the place of those of format 1.
    ///
    /// # Errors
    ///
    /// As [`Store::open`]; what is there stays as it is then.
    pub fn migrate(directory: &Path, records: &[LogEntry]) -> Result<(), StoreError> {
        let path = directory.join(FILE);
        let database = open_database(&path)?;
        let damaged =
            |error: redb::Error| StoreError::Damaged { path: path.clone(), problem: error.to_string() };
        replace(&database, records).map_err(damaged)
    }

    /// Writes records again that an earlier release wrote without a sum, so that the next start need not check what
    /// their writers signed.
    pub fn seal(&self, records: Vec<LogEntry>) {
        if !records.is_empty() && self.send(Job::Seal { records }).is_some() {
            // The next start does it.
            DropReason::StoreQueueFull.count();
        }
    }

    /// Drops a log's records with numbers below `below`: the log forgot them. It may be skipped when
    /// the disk is behind; the next call then does more.
    pub fn forget(&self, key: LogKey, below: u64) {
        let behind = self.waiting.load(Ordering::Relaxed) >= WAITING_MAX;
        if behind || self.send(Job::Forget { key, below }).is_some() {
            DropReason::StoreQueueFull.count();
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
    let opened = std::panic::catch_unwind(|| Database::builder().set_cache_size(CACHE).create(path));
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

fn format(database: &Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(COUNTERS) {
        Ok(counters) => Ok(counters.get(FORMAT)?.map_or(1, |format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(FORMAT_NOW),
        Err(error) => Err(error.into()),
    }
}

fn load(database: &Database) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_write()?;
    let (boot, old) = {
        let mut counters = transaction.open_table(COUNTERS)?;
        let boot = counters.get(BOOT)?.map_or(0, |boot| boot.value()) + 1;
        counters.insert(BOOT, boot)?;
        transaction.open_table(RECORDS)?;
        let mut old = Vec::new();
        if boot > 1 && counters.get(FORMAT)?.is_none() {
            for entry in transaction.open_table(OLD_RECORDS)?.iter()? {
                let (key, payload) = entry?;
                let payload = Bytes::copy_from_slice(payload.value());
                old.push(OldRecord { writer: NodeId(*key.value().0), payload });
            }
        }
        if old.is_empty() {
            counters.insert(FORMAT, FORMAT_NOW)?;
        }
        (boot, old)
    };
    transaction.commit()?;
    let mut rows = Vec::new();
    for entry in database.begin_read()?.open_table(RECORDS)?.iter()? {
        let (place, entry) = entry?;
        let (key, number) = place.value();
        rows::read(key, number, entry.value(), &mut rows);
    }
    Ok(Loaded { boot, rows, old })
}

fn replace(database: &Database, records: &[LogEntry]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for record in records {
            insert(&mut table, record)?;
        }
        transaction.open_table(COUNTERS)?.insert(FORMAT, FORMAT_NOW)?;
        transaction.delete_table(OLD_RECORDS)?;
    }
    transaction.commit()?;
    Ok(())
}

fn insert(table: &mut redb::Table<'_, (&[u8], u64), &[u8]>, record: &LogEntry) -> Result<(), redb::Error> {
    table.insert((&rows::key(&record.key)[..], record.number), &rows::entry(record)[..])?;
    Ok(())
}

/// The thread: takes what waits, commits it as one transaction, answers.
struct Writer {
    path: PathBuf,
    /// The library refuses everything after one failed write until the file is opened anew.
    database: Option<Database>,
    waiting: Arc<AtomicUsize>,
    /// What the disk refused. Its writers were told; it is written when the disk takes it, so that no log has a gap.
    owed: Vec<Job>,
    failed: Option<Instant>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Job>, pulse: &Pulse) {
        loop {
            pulse.beat(clock::now());
            match waiting.recv_timeout(BEAT) {
                Ok(first) => {
                    let batch: Vec<Job> =
                        std::iter::once(first).chain(waiting.try_iter()).take(BATCH_MAX).collect();
                    self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
                    self.take(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.take(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => {
                    self.failed = None;
                    return self.take(Vec::new());
                }
            }
        }
    }

    fn take(&mut self, batch: Vec<Job>) {
        let mut jobs = std::mem::take(&mut self.owed);
        let told = jobs.len();
        jobs.extend(batch);
        if jobs.is_empty() {
            return;
        }
        let tried_just_now = self.failed.is_some_and(|at| clock::now() < at + AGAIN);
        let written = if tried_just_now { Err(None) } else { self.write(&jobs).map_err(Some) };
        match &written {
            Ok(()) => {
                if self.failed.take().is_some() {
                    tracing::warn!(owed = told, "the disk takes the log again: what it refused is written");
                }
            }
            Err(error) => {
                if let Some(error) = error {
                    tracing::error!(%error, records = jobs.len(), "cannot write the log to disk: trying again");
                    self.failed = Some(clock::now());
                }
                DropReason::StoreFailed.count_all((jobs.len() - told) as u64);
            }
        }
        for job in &mut jobs {
            if let Job::Append { done, .. } = job
                && let Some(done) = done.take()
            {
                // The caller may have lost interest.
                let _ = done.send(written.as_ref().map_err(|_| NotStored::Failed).copied());
            }
        }
        if written.is_err() {
            // The oldest go: they are the most likely to be on other disks.
            self.owed = jobs.split_off(jobs.len().saturating_sub(WAITING_MAX));
        }
    }

    fn write(&mut self, jobs: &[Job]) -> Result<(), String> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path).map_err(|error| error.to_string())?,
        };
        write(&database, jobs).map_err(|error| error.to_string())?;
        self.database = Some(database);
        Ok(())
    }
}

fn write(database: &Database, batch: &[Job]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for job in batch {
            match job {
                Job::Append { record, .. } => insert(&mut table, record)?,
                Job::Seal { records } => {
                    for record in records {
                        insert(&mut table, record)?;
                    }
                }
                Job::Forget { key, below } => {
                    let key = rows::key(key);
                    table.retain_in((&key[..], 0)..(&key[..], *below), |_, _| false)?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use mesh_routing::{Entry, Signature};
    use protocol::{Hlc, Topic};

    use super::*;

    fn key(writer: u8) -> LogKey {
        LogKey { topic: Topic::Announcements, writer: NodeId([writer; 32]), incarnation: 300 }
    }

    fn record(writer: u8, number: u64) -> LogEntry {
        let (payload, signature) = (format!("{writer}/{number}").into(), Signature([writer; 64]));
        LogEntry { key: key(writer), number, entry: Entry { hlc: Hlc(number), payload, signature } }
    }

    fn append(store: &Store, record: LogEntry) -> Result<(), NotStored> {
        store.append(record).blocking_recv().expect("the store answers")
    }

    #[test]
    fn records_and_the_boot_counter_survive_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, loaded) = Store::open(directory.path(), Pulse::unwatched()).expect("opens");
        assert_eq!((loaded.boot, loaded.rows, loaded.old), (1, Vec::new(), Vec::new()));
        for (writer, number) in [(2, 1), (1, 1), (1, 2)] {
            assert_eq!(append(&store, record(writer, number)), Ok(()));
        }
        drop(store);
        let (_store, loaded) = Store::open(directory.path(), Pulse::unwatched()).expect("opens again");
        let rows = [record(1, 1), record(1, 2), record(2, 1)].map(Row::Record).to_vec();
        assert_eq!(loaded, Loaded { boot: 2, rows, old: Vec::new() });
    }

    #[test]
    fn what_follows_a_gap_is_loaded_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(directory.path(), Pulse::unwatched()).expect("opens");
        for (writer, number) in [(1, 5), (1, 6), (1, 8), (1, 9), (2, 3)] {
            assert_eq!(append(&store, record(writer, number)), Ok(()));
        }
        drop(store);
        let (_store, loaded) = Store::open(directory.path(), Pulse::unwatched()).expect("opens again");
        let there = [record(1, 5), record(1, 6), record(1, 8), record(1, 9), record(2, 3)];
        assert_eq!(loaded.rows, there.map(Row::Record));
    }

    #[test]
    fn forgotten_records_are_gone_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(directory.path(), Pulse::unwatched()).expect("opens");
        for number in 1..=4 {
            assert_eq!(append(&store, record(1, number)), Ok(()));
        }
        store.forget(key(1), 4);
        drop(store);
        let (_store, loaded) = Store::open(directory.path(), Pulse::unwatched()).expect("opens again");
        assert_eq!(loaded.rows, [Row::Record(record(1, 4))]);
    }

    /// A file as a relay of format 1 left it.
    fn write_old(directory: &Path, records: &[(u8, u64, &[u8])]) {
        let database = open_database(&directory.join(FILE)).expect("opens");
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
            let (_store, loaded) = Store::open(directory.path(), Pulse::unwatched()).expect("opens");
            let old = |writer, payload: &'static [u8]| OldRecord {
                writer: NodeId([writer; 32]),
                payload: Bytes::from_static(payload),
            };
            assert_eq!((loaded.boot, loaded.old), (boot, vec![old(1, b"a1"), old(1, b"a2"), old(2, b"b")]));
        }
        Store::migrate(directory.path(), &[record(1, 1)]).expect("is replaced");
        let (_store, loaded) = Store::open(directory.path(), Pulse::unwatched()).expect("opens");
        assert_eq!((loaded.rows, loaded.old), (vec![Row::Record(record(1, 1))], Vec::new()));
    }

    #[test]
    fn a_file_of_a_later_release_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        drop(Store::open(directory.path(), Pulse::unwatched()).expect("opens"));
        {
            let database = open_database(&directory.path().join(FILE)).expect("opens");
            let transaction = database.begin_write().expect("begins");
            transaction.open_table(COUNTERS).expect("opens").insert(FORMAT, 3).expect("inserts");
            transaction.commit().expect("commits");
        }
        let error = Store::open(directory.path(), Pulse::unwatched()).expect_err("is of a later release");
        assert!(matches!(error, StoreError::Newer { found: 3, .. }), "{error}");
    }

    #[test]
    fn a_second_relay_on_the_same_directory_is_told_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_store, _) = Store::open(directory.path(), Pulse::unwatched()).expect("opens");
        let error = Store::open(directory.path(), Pulse::unwatched()).expect_err("is in use");
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_damaged_file_is_reported_and_left_alone() {
        for junk in [b"not a database, whatever it is".to_vec(), vec![0; 8192], vec![0xff; 300]] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join(FILE);
            fs::write(&path, &junk).expect("writes");
            let error = Store::open(directory.path(), Pulse::unwatched()).expect_err("is damaged");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).expect("is still there"), junk);
        }
    }
}
