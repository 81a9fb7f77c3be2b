//! The redb file of records: opened, read, written. The library asserts on some damaged files instead of returning an
//! error: nothing here panics for that, and a file is checked before it is trusted. What becomes of a damaged one is
//! the business of `salvage.rs`.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use mesh_routing::{LogEntry, LogKey};
use protocol::NodeId;
use redb::{ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{
    pages::RawRows,
    rows::{self, Row},
    store_error::StoreError,
};

/// Bytes of the file kept in memory. It is read once, at the start; by itself the library would keep all of it.
const CACHE: usize = 4 << 20;

/// Log and number, to entry, as `rows` writes them. The order of the keys is the order in which the logs are
/// read back.
pub(super) const RECORDS: TableDefinition<(&[u8], u64), &[u8]> = TableDefinition::new("records-2");
/// Format 1: writer and number, to payload.
pub(super) const OLD_RECORDS: TableDefinition<(&[u8; 32], u64), &[u8]> = TableDefinition::new("records");
pub(super) const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
pub(super) const BOOT: &str = "boot";
/// Absent in format 1.
pub(super) const FORMAT: &str = "format";
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// How often this relay was started, this time included; 0 if that is not known.
    pub boot: u64,
    /// By log and number.
    pub rows: Vec<Row>,
    /// Records of format 1, by writer and number, until [`Database::replace`].
    pub old: Vec<OldRecord>,
}

/// What is to be written.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Insert(&'a LogEntry),
    /// Records of a log with lower numbers go.
    Forget(&'a LogKey, u64),
}

/// The open file.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// Always there, but while it is dropped.
    database: Option<redb::Database>,
    /// The library did not find it as it leaves one: it may have gone back to an earlier commit.
    repaired: bool,
}

impl Drop for Database {
    fn drop(&mut self) {
        let database = self.database.take();
        // Closing a damaged file may meet what makes no sense too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

impl Database {
    /// Opens the file, or makes it, and its directory, and checks every page of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn open(path: &Path) -> Result<Database, StoreError> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| StoreError::of(directory, error))?;
        }
        let repaired = Arc::new(AtomicBool::new(false));
        let told = repaired.clone();
        let open = || {
            let mut builder = builder();
            builder.set_repair_callback(move |_| told.store(true, Ordering::Relaxed));
            Ok(builder.create(path)?)
        };
        let database = Some(guarded(path, open)?);
        let repaired = repaired.load(Ordering::Relaxed);
        let opened = Database { path: path.to_owned(), database, repaired };
        let found = opened.reads(format)?;
        if found > FORMAT_NOW {
            return Err(StoreError::Newer { path: path.to_owned(), found, written: FORMAT_NOW });
        }
        Ok(opened)
    }

    /// Opens a copy in memory, and checks every page of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn open_copy(path: &Path) -> Result<Database, StoreError> {
        let bytes = fs::read(path).map_err(|error| StoreError::of(path, error))?;
        let open = || {
            let memory = redb::backends::InMemoryBackend::new();
            memory.set_len(bytes.len() as u64)?;
            memory.write(0, &bytes)?;
            Ok(builder().create_with_backend(memory)?)
        };
        let database = Some(guarded(path, open)?);
        Ok(Database { path: path.to_owned(), database, repaired: false })
    }

    /// Whether it may have gone back to an earlier commit when it was opened.
    pub fn was_repaired(&self) -> bool {
        self.repaired
    }

    /// Counts this start and reads everything.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        self.reads(load)
    }

    /// All rows as they are in the file, of one moment.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn raw_rows(&self) -> Result<RawRows, StoreError> {
        self.reads(|database| {
            let mut rows = RawRows::new();
            match database.begin_read()?.open_table(RECORDS) {
                Ok(table) => {
                    for entry in table.iter()? {
                        let (place, entry) = entry?;
                        let (key, number) = place.value();
                        rows.insert((key.to_vec(), number), entry.value().to_vec());
                    }
                }
                Err(redb::TableError::TableDoesNotExist(_)) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(rows)
        })
    }

    /// Commits all of it, or nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause. The library refuses everything after that until the file is opened anew.
    pub fn write<'a>(&self, changes: impl Iterator<Item = Change<'a>>) -> Result<(), StoreError> {
        self.commits(|transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            for change in changes {
                match change {
                    Change::Insert(record) => insert(&mut table, record)?,
                    Change::Forget(key, below) => {
                        let key = rows::key(key);
                        table.retain_in((&key[..], 0)..(&key[..], below), |_, _| false)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// The file has another name now.
    pub fn handle_moved(&mut self, path: &Path) {
        self.path = path.to_owned();
    }

    /// All rows, read again.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn rows(&self) -> Result<Vec<Row>, StoreError> {
        self.reads(read_rows)
    }

    /// Puts rows into the file as they were in another one; into a new file also how often the relay was started.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause.
    pub fn fill(&self, rows: &RawRows, boot: Option<u64>) -> Result<(), StoreError> {
        self.commits(|transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            for ((key, number), row) in rows {
                table.insert((&key[..], *number), &row[..])?;
            }
            if let Some(boot) = boot {
                let mut counters = transaction.open_table(COUNTERS)?;
                counters.insert(FORMAT, FORMAT_NOW)?;
                counters.insert(BOOT, boot)?;
            }
            Ok(())
        })
    }

    /// Puts these records in the place of those of format 1.
    ///
    /// # Errors
    ///
    /// [`StoreError`], with the cause; what is there stays as it is then.
    pub fn replace(&self, records: &[LogEntry]) -> Result<(), StoreError> {
        self.commits(|transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            for record in records {
                insert(&mut table, record)?;
            }
            transaction.open_table(COUNTERS)?.insert(FORMAT, FORMAT_NOW)?;
            transaction.delete_table(OLD_RECORDS)?;
            Ok(())
        })
    }

    /// Commits what is changed, or nothing of it.
    fn commits(
        &self,
        what: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        self.reads(|database| {
            let transaction = database.begin_write()?;
            what(&transaction)?;
            Ok(transaction.commit()?)
        })
    }

    fn reads<T>(
        &self,
        what: impl FnOnce(&redb::Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = self.database.as_ref().expect("it is taken by drop alone");
        guarded(&self.path, || what(database))
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

/// Lets the library do something. A panic of it is damage of the file.
fn guarded<T>(path: &Path, what: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    let damaged = |problem| StoreError::Damaged { path: path.to_owned(), problem };
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(redb::Error::DatabaseAlreadyOpen)) => Err(StoreError::InUse { path: path.to_owned() }),
        Ok(Err(redb::Error::Io(error))) => Err(StoreError::of(path, error)),
        Ok(Err(error @ redb::Error::PreviousIo)) => {
            Err(StoreError::Disk { path: path.to_owned(), error: std::io::Error::other(error.to_string()) })
        }
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("its structure makes no sense".to_owned())),
    }
}

fn format(database: &redb::Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(COUNTERS) {
        Ok(counters) => Ok(counters.get(FORMAT)?.map_or(1, |format| format.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(FORMAT_NOW),
        Err(error) => Err(error.into()),
    }
}

fn load(database: &redb::Database) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_write()?;
    let (boot, old) = {
        let mut counters = transaction.open_table(COUNTERS)?;
        let boot = counters.get(BOOT)?.map_or(0, |boot| boot.value()).saturating_add(1);
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
    Ok(Loaded { boot, rows: read_rows(database)?, old })
}

fn read_rows(database: &redb::Database) -> Result<Vec<Row>, redb::Error> {
    let mut rows = Vec::new();
    for entry in database.begin_read()?.open_table(RECORDS)?.iter()? {
        let (place, entry) = entry?;
        let (key, number) = place.value();
        rows::read(key, number, entry.value(), &mut rows);
    }
    Ok(rows)
}

fn insert(table: &mut redb::Table<'_, (&[u8], u64), &[u8]>, record: &LogEntry) -> Result<(), redb::Error> {
    table.insert((&rows::key(&record.key)[..], record.number), &rows::entry(record)[..])?;
    Ok(())
}
