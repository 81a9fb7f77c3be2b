//! What becomes of a damaged file of records: what can be read of it goes into a new file, and the damaged one is set
//! aside under another name. Nothing is deleted, and a power cut in between leaves the damaged file in its place or the
//! new one.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    database::{Database, Loaded},
    pages::{self, Found, RawRows},
    rows::{self, Row},
    store_error::StoreError,
};

/// Behind the name of a file that is set aside, and a number.
const ASIDE: &str = ".damaged-";
/// Behind the name of the one that will be in its place.
const NEW: &str = ".new";
/// Damaged files beside each other, at most.
const ASIDE_MAX: u32 = 10_000;
/// Records before the first one that is left: they may have been in a page that is lost, so neighbors are asked for them.
/// As many as a log may lack.
const LOST_BEFORE: u64 = 64;

/// A file in the place of a damaged one.
pub(super) struct Salvaged {
    pub database: Database,
    pub loaded: Loaded,
    /// Where the damaged one is now.
    pub aside: PathBuf,
}

/// Makes a new file of what can be read of a damaged one, and sets that aside.
///
/// # Errors
///
/// [`StoreError`]: all is as it was, and what can be read of it can be had by [`readable`].
pub(super) fn salvage(path: &Path) -> Result<Salvaged, StoreError> {
    let read = pages::read_file(path).map_err(|error| StoreError::of(path, error))?;
    let raw = &read.rows;
    let new = with(path, NEW);
    // A power cut may have left it.
    let _ = fs::remove_file(&new);
    let made = (|| {
        let database = make(&new, raw)?;
        let boot = database.load()?.boot;
        Ok((database, boot, swap(path, &new)?))
    })();
    let (mut database, boot, aside) = made.inspect_err(|_| {
        // On a full disk it takes the room that the relay waits for.
        let _ = fs::remove_file(&new);
    })?;
    database.handle_moved(path);
    let loaded = Loaded { boot, rows: found(&read), old: Vec::new() };
    Ok(Salvaged { database, loaded, aside })
}

/// A new file with these rows.
///
/// # Errors
///
/// [`StoreError`], with the cause.
pub(super) fn make(path: &Path, raw: &RawRows) -> Result<Database, StoreError> {
    let database = Database::open(path)?;
    database.fill(raw, Some(another_boot(raw)))?;
    Ok(database)
}

/// How often the relay was started is not known any more: a number that it has hardly had, and not a small one, as others
/// remember those.
fn another_boot(raw: &RawRows) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for row in raw.values() {
        hasher.update(row);
    }
    let [a, b, ..] = *hasher.finalize().as_bytes();
    1 << 20 | u64::from(u16::from_be_bytes([a, b]))
}

/// What can be read of a file that cannot be opened, without a change to it. None of it if it may not even be read.
pub(super) fn readable(path: &Path) -> Vec<Row> {
    pages::read_file(path).map(|read| found(&read)).unwrap_or_default()
}

/// Rows behind the end of their logs as the table has them. Where the page that says which commit is the last one is
/// damaged, the library goes back to the one before; what the last one wrote is still there.
pub(super) fn behind(path: &Path, table: &[Row]) -> RawRows {
    let mut highest: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for row in table {
        let (key, number) = match row {
            Row::Record(record) | Row::Unproven(record) => (&record.key, record.number),
            Row::Damaged(key, number) => (key, *number),
        };
        highest.insert(rows::key(key), number);
    }
    let mut raw = pages::read_file(path).unwrap_or_default().rows;
    raw.retain(|(key, number), _| highest.get(key).is_none_or(|highest| number > highest));
    raw
}

/// The rows that were found, those of them that are damaged, and what may have been lost before them: by log and number.
fn found(read: &Found) -> Vec<Row> {
    let mut all = BTreeMap::new();
    let (mut log, mut highest) = (None, BTreeMap::new());
    for ((key, number), row) in &read.rows {
        let Some(row) = rows::sound(key, *number, row) else { continue };
        if let Row::Record(record) | Row::Unproven(record) = &row
            && log != Some(key)
        {
            if *number > 1 {
                let first = number.saturating_sub(LOST_BEFORE).max(1);
                all.insert((key, first), Row::Damaged(record.key.clone(), first));
            }
            log = Some(key);
        }
        highest.insert(key, *number);
        all.insert((key, *number), row);
    }
    for (key, number) in &read.unsound {
        // The number may be what is damaged.
        let highest = highest.get(key).copied().unwrap_or_default();
        if *number <= highest.saturating_add(LOST_BEFORE)
            && let Some(row) = rows::unsound(key, *number)
        {
            all.insert((key, *number), row);
        }
    }
    all.into_values().collect()
}

/// Gives the damaged file another name and the new one its name. Says how the damaged one is called now.
fn swap(path: &Path, new: &Path) -> Result<PathBuf, StoreError> {
    let failed = |error| StoreError::of(path, error);
    for number in 1..ASIDE_MAX {
        let aside = with(path, &format!("{ASIDE}{number}"));
        match fs::hard_link(path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(_) if aside.exists() => continue,
            // A file system without links: for a moment there is no file of that name.
            Err(_) => fs::rename(path, &aside).map_err(failed)?,
        }
        fs::rename(new, path).map_err(failed)?;
        if let Some(directory) = path.parent() {
            // If it fails, a power cut may bring the damaged one back, which is set aside again.
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        return Ok(aside);
    }
    Err(failed(io::Error::other("too many damaged files lie beside it")))
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
