//! `relay-node backup` and `relay-node restore`: a data directory in one file, taken while the relay runs or not, and put
//! into an empty directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    config::Config,
    storage::{
        atomic_file,
        backup::{Backup, BackupError, KEPT_FILES},
        door,
        records::Store,
        store_error::StoreError,
    },
};

/// Why there is no backup, or nothing was restored.
#[derive(Debug, Error)]
pub enum BackupCommandError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The relay that runs on the directory gives no records.
    #[error("the relay that runs on {path} gives no records: {error}")]
    Relay {
        /// The directory.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// The records cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is no backup.
    #[error("{path}: {error}")]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// Why.
        error: BackupError,
    },
    /// There is something in the directory.
    #[error("{0} is not empty: give --data a directory that is, or that does not exist")]
    NotEmpty(PathBuf),
    /// There is nothing to keep.
    #[error("{0} is no data directory of a relay: name it with --data")]
    Nothing(PathBuf),
}

impl BackupCommandError {
    /// The exit code of the contract: 64 for what was named wrongly, 69 for what cannot be had.
    pub fn exit_code(&self) -> u8 {
        match self {
            BackupCommandError::NoBackup { .. }
            | BackupCommandError::NotEmpty(_)
            | BackupCommandError::Nothing(_) => 64,
            _ => 69,
        }
    }
}

/// Writes a backup of the data directory to `file`, which only its owner may read: the key is in it.
///
/// # Errors
///
/// [`BackupCommandError`]. Then `file` is as it was.
pub fn backup(file: &Path, config: &Config) -> Result<(), BackupCommandError> {
    let data = &config.data;
    let mut backup = Backup::default();
    for name in KEPT_FILES {
        let path = data.join(name);
        match fs::read(&path) {
            Ok(bytes) => drop(backup.kept.insert(name.to_owned(), bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(in_file(&path)(error)),
        }
    }
    if backup.kept.is_empty() {
        return Err(BackupCommandError::Nothing(data.clone()));
    }
    let asked = door::ask(data).map_err(|error| BackupCommandError::Relay { path: data.clone(), error })?;
    backup.rows = match asked {
        Some(rows) => rows,
        None => Store::raw_rows(data)?,
    };
    atomic_file::write(file, &backup.encode(), atomic_file::SECRET).map_err(in_file(file))?;
    let (records, damaged) = backup.counts();
    println!("{records} records, and {} in {}", names(&backup), file.display());
    if damaged > 0 {
        println!("{damaged} more records are damaged; they are in it as they are");
    }
    Ok(())
}

/// Puts a backup into an empty data directory.
///
/// # Errors
///
/// [`BackupCommandError`]. Then nothing can be started on the directory: the key is written last.
pub fn restore(file: &Path, config: &Config) -> Result<(), BackupCommandError> {
    let data = &config.data;
    let bytes = fs::read(file).map_err(in_file(file))?;
    let backup = Backup::decode(&bytes)
        .map_err(|error| BackupCommandError::NoBackup { path: file.to_owned(), error })?;
    let empty = fs::read_dir(data).map_or(true, |mut files| files.next().is_none());
    if !empty {
        return Err(BackupCommandError::NotEmpty(data.clone()));
    }
    Store::restore(data, &backup.rows)?;
    for (name, bytes) in backup.kept.iter().rev() {
        let path = data.join(name);
        atomic_file::write(&path, bytes, atomic_file::SECRET).map_err(in_file(&path))?;
    }
    let (records, _) = backup.counts();
    println!("{records} records, and {} in {}", names(&backup), data.display());
    println!(
        "if the relay that this is of still runs elsewhere, stop it: two relays with one key are one relay to all others"
    );
    Ok(())
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> BackupCommandError + '_ {
    move |error| BackupCommandError::File { path: path.to_owned(), error }
}

fn names(backup: &Backup) -> String {
    backup.kept.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}
