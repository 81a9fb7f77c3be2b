//! What survives a power cut: the records of all logs and the count of starts, in one redb file.
//!
//! A thread of its own writes; what waits is committed together, and an answer means that it is on disk. What a
//! full disk refuses is written when there is room. A file that cannot be opened, or is damaged, stops nobody: the
//! thread tries on, and sets a damaged one aside.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mesh_routing::{LogEntry, LogKey, NotStored, log::durable_order::IN_FLIGHT_MAX};
use tokio::sync::{mpsc, oneshot};

pub use super::database::{Loaded, OldRecord};
use super::{
    condition::Condition,
    database::{Change, Database},
    pages::{self, RawRows},
    rows::Row,
    salvage::{self, Salvaged},
    store_error::StoreError,
};
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
/// How long after a failed write the next one is tried, at first and at most: each try reads the whole file.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(8);
/// Records committed together.
const BATCH_MAX: usize = 1024;

/// The writing end. Dropping it writes what is waiting and closes the file.
#[derive(Debug)]
pub struct Store {
    jobs: Option<Arc<SyncSender<Job>>>,
    /// How many jobs wait.
    waiting: Arc<AtomicUsize>,
    condition: Condition,
    /// What was on a disk that could not be read at the start.
    late: Option<mpsc::Receiver<Vec<Row>>>,
    thread: Option<JoinHandle<()>>,
}

/// What a start found.
#[derive(Debug)]
pub struct Opened {
    /// The writing end.
    pub store: Store,
    /// What was on disk, as far as it can be read.
    pub loaded: Loaded,
    /// Why the file cannot be used now, if it cannot. The thread tries on.
    pub trouble: Option<StoreError>,
}

enum Job {
    Append { record: LogEntry, done: Option<oneshot::Sender<Result<(), NotStored>>> },
    Forget { key: LogKey, below: u64 },
    Seal { records: Vec<LogEntry> },
    Snapshot { done: oneshot::Sender<Result<RawRows, String>> },
}

/// The way to all records of one moment, for backups. It keeps the store from nothing.
#[derive(Debug, Clone)]
pub struct Snapshots(Weak<SyncSender<Job>>);

impl Snapshots {
    /// All records that are on disk now, as they are there.
    ///
    /// # Errors
    ///
    /// Why there are none, for people.
    pub async fn take(&self) -> Result<RawRows, String> {
        let (done, answer) = oneshot::channel();
        let asked = self.0.upgrade().is_some_and(|jobs| jobs.try_send(Job::Snapshot { done }).is_ok());
        let busy = || "the disk is too slow, or the relay is stopping: try again".to_owned();
        if !asked {
            return Err(busy());
        }
        answer.await.unwrap_or_else(|_| Err(busy()))
    }
}

impl Store {
    /// Opens the file in `directory`, makes it if need be, counts this boot and reads everything. What can be read of a
    /// damaged file is kept in a new one. The thread that writes beats `pulse`.
    ///
    /// # Errors
    ///
    /// When the thread cannot start.
    pub fn open(directory: &Path, mut pulse: Pulse) -> io::Result<Opened> {
        let path = directory.join(FILE);
        let condition = Condition::default();
        let (loaded, database, trouble, handed_over) = match open(&path, &condition) {
            Ok((database, loaded)) => (loaded, Some(database), None, true),
            Err(error) => {
                let rows = salvage::readable(&path);
                let handed_over = !rows.is_empty();
                (Loaded { rows, ..Loaded::default() }, None, Some(error), handed_over)
            }
        };
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let (hands_over, late) = mpsc::channel(1);
        let count = Arc::new(AtomicUsize::new(0));
        let mut writer = Writer {
            path,
            loaded: database.is_some(),
            database,
            hands_over: (!handed_over).then_some(hands_over),
            condition: condition.clone(),
            waiting: count.clone(),
            owed: Vec::new(),
            failed: None,
        };
        if let Some(error) = &trouble {
            writer.handle_failed(error);
        }
        let run = move || {
            pulse.begin(clock::now());
            writer.run(&waiting, &pulse);
            pulse.finish();
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(run)?;
        let late = (!handed_over).then_some(late);
        let store =
            Store { jobs: Some(Arc::new(jobs)), waiting: count, condition, late, thread: Some(thread) };
        Ok(Opened { store, loaded, trouble })
    }

    /// How it is, for people.
    pub fn condition(&self) -> Condition {
        self.condition.clone()
    }

    /// The way to all records of one moment.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots(self.jobs.as_ref().map(Arc::downgrade).unwrap_or_default())
    }

    /// All records of a directory on which no relay runs, as they are there.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn raw_rows(directory: &Path) -> Result<RawRows, StoreError> {
        let path = directory.join(FILE);
        if !path.exists() {
            return Ok(RawRows::new());
        }
        match Database::open(&path).and_then(|database| database.raw_rows()) {
            // Of a damaged file what can be read of it; the next start mends it.
            Err(StoreError::Damaged { .. }) => {
                let found = pages::read_file(&path).map_err(|error| StoreError::of(&path, error))?;
                Ok(found.rows)
            }
            read => read,
        }
    }

    /// Reads every page of the file of a directory on which no relay runs, in memory: the file stays as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn check(directory: &Path) -> Result<RawRows, StoreError> {
        Database::open_copy(&directory.join(FILE))?.raw_rows()
    }

    /// Makes the file of records in an empty directory, with these.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn restore(directory: &Path, rows: &RawRows) -> Result<(), StoreError> {
        salvage::make(&directory.join(FILE), rows).map(drop)
    }

    /// What was on a disk that could not be read at the start comes out here once it can. To be taken once.
    pub fn take_late(&mut self) -> Option<mpsc::Receiver<Vec<Row>>> {
        self.late.take()
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
    /// [`StoreError`], with the cause; what is there stays as it is then.
    pub fn migrate(directory: &Path, records: &[LogEntry]) -> Result<(), StoreError> {
        Database::open(&directory.join(FILE))?.replace(records)
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

/// Opens the file and reads it; of a damaged one what can be read, out of a new file.
fn open(path: &Path, condition: &Condition) -> Result<(Database, Loaded), StoreError> {
    let opened = Database::open(path).and_then(|database| {
        let mut loaded = database.load()?;
        if database.was_repaired() {
            let behind = salvage::behind(path, &loaded.rows);
            if !behind.is_empty() {
                database.fill(&behind, None)?;
                loaded.rows = database.rows()?;
            }
        }
        Ok((database, loaded))
    });
    match opened {
        Err(error @ StoreError::Damaged { .. }) => mend(path, &error, condition),
        opened => opened,
    }
}

fn mend(path: &Path, error: &StoreError, condition: &Condition) -> Result<(Database, Loaded), StoreError> {
    let Salvaged { database, loaded, aside } = salvage::salvage(path)?;
    let is_record = |row: &&Row| !matches!(row, Row::Damaged(..));
    let records = loaded.rows.iter().filter(is_record).count();
    tracing::error!(%error, records, set_aside = %aside.display(), "a new file has the records that could be read");
    condition.handle_set_aside(records, aside);
    Ok((database, loaded))
}

/// The thread: takes what waits, commits it as one transaction, answers.
struct Writer {
    path: PathBuf,
    /// The library refuses everything after one failed write until the file is opened anew.
    database: Option<Database>,
    /// It was read in this run, and the start counted.
    loaded: bool,
    /// Where what is in it goes, if nothing of it could be read at the start.
    hands_over: Option<mpsc::Sender<Vec<Row>>>,
    condition: Condition,
    waiting: Arc<AtomicUsize>,
    /// What the disk refused. Its writers were told; it is written when the disk takes it, so that no log has a gap.
    owed: Vec<Job>,
    /// When it failed last, and how long it is waited after that.
    failed: Option<(Instant, Duration)>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Job>, pulse: &Pulse) {
        loop {
            pulse.beat(clock::now());
            match waiting.recv_timeout(BEAT) {
                Ok(first) => {
                    let mut batch: Vec<Job> =
                        std::iter::once(first).chain(waiting.try_iter()).take(BATCH_MAX).collect();
                    let is_snapshot = |job: &mut Job| matches!(job, Job::Snapshot { .. });
                    let snapshots: Vec<Job> = batch.extract_if(.., is_snapshot).collect();
                    self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
                    self.take(batch);
                    snapshots.into_iter().for_each(|job| self.snapshot(job));
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
        if jobs.is_empty() && self.database.is_some() {
            return;
        }
        let tried_just_now = self.failed.is_some_and(|(at, pause)| clock::now() < at + pause);
        let written = if tried_just_now { Err(None) } else { self.write(&jobs).map_err(Some) };
        match &written {
            Ok(()) => {
                self.failed = None;
                if self.condition.handle_good() {
                    tracing::warn!(owed = told, "the disk takes the log again: what it refused is written");
                }
            }
            Err(error) => {
                if let Some(error) = error {
                    self.handle_failed(error);
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

    /// After all that came before it.
    fn snapshot(&self, job: Job) {
        let Job::Snapshot { done } = job else { return };
        let without = || self.condition.shown().map_or_else(String::new, |shown| shown.warning);
        let rows = match &self.database {
            Some(database) => database.raw_rows().map_err(|error| error.to_string()),
            None => Err(without()),
        };
        // Who asked may have gone.
        let _ = done.send(rows);
    }

    fn handle_failed(&mut self, error: &StoreError) {
        if self.condition.handle_trouble(error) {
            tracing::error!(%error, "records cannot be written to disk: trying again");
        }
        let pause = self.failed.map_or(AGAIN, |(_, pause)| (pause * 2).min(AGAIN_MAX));
        self.failed = Some((clock::now(), pause));
    }

    fn write(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open()?,
        };
        match database.write(changes(jobs)) {
            Err(error @ StoreError::Damaged { .. }) => {
                drop(database);
                let (database, _) = mend(&self.path, &error, &self.condition)?;
                database.write(changes(jobs))?;
                self.database = Some(database);
            }
            written => {
                written?;
                self.database = Some(database);
            }
        }
        Ok(())
    }

    /// Opens the file anew. The first time in a run it is as at the start.
    fn open(&mut self) -> Result<Database, StoreError> {
        if self.loaded {
            return match Database::open(&self.path) {
                Err(error @ StoreError::Damaged { .. }) => Ok(mend(&self.path, &error, &self.condition)?.0),
                opened => opened,
            };
        }
        let (database, loaded) = open(&self.path, &self.condition)?;
        self.loaded = true;
        if let Some(hands_over) = self.hands_over.take() {
            // There is room for the one that there is; at the end of the relay nobody wants it.
            let _ = hands_over.try_send(loaded.rows);
        }
        Ok(database)
    }
}

fn changes(jobs: &[Job]) -> impl Iterator<Item = Change<'_>> {
    jobs.iter().flat_map(|job| {
        let (records, forget): (&[LogEntry], _) = match job {
            Job::Append { record, .. } => (std::slice::from_ref(record), None),
            Job::Seal { records } => (records, None),
            Job::Forget { key, below } => (&[], Some(Change::Forget(key, *below))),
            Job::Snapshot { .. } => (&[], None),
        };
        records.iter().map(Change::Insert).chain(forget)
    })
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
