//! Why the records on disk cannot be had, in words that say what to do. Each cause has words of its own.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why the store cannot be used. The relay serves without it, and tries again.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk has no room.
    #[error(
        "the disk of {path:?} is full: delete something on it, or give the relay a larger one with --data"
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The user may not read or write it.
    #[error(
        "this user may not read and write {path:?}: give the directory to the user that the relay runs as (chown), or \
         choose another one with --data"
    )]
    Rights {
        /// The file.
        path: PathBuf,
    },
    /// The file system cannot be written.
    #[error(
        "{path:?} is on a file system that is mounted read-only: mount it for writing. A card that became read-only by \
         itself is about to fail, copy it"
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error(
        "{path:?} is in use by another relay or another process: stop that one or give this one a --data of its own"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "{path:?} has format {found} of a later release, this one writes {written}: start that release, \
         or give this one another directory with --data"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format of this release.
        written: u64,
    },
    /// It is not what was written.
    #[error("{path:?} is damaged ({problem}): copy the data directory to another card or disk soon")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk says no for another reason.
    #[error(
        "data directory {path:?} cannot be used: {error}; look at the disk, or give the relay another one with --data"
    )]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl StoreError {
    /// What the system says of a file, as a cause.
    pub(super) fn of(path: &Path, error: io::Error) -> StoreError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
            io::ErrorKind::PermissionDenied => StoreError::Rights { path },
            io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path },
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                StoreError::Damaged { path, problem: error.to_string() }
            }
            // A part of the disk that cannot be read any more.
            _ if error.raw_os_error() == Some(libc::EIO) => {
                StoreError::Damaged { path, problem: error.to_string() }
            }
            _ => StoreError::Disk { path, error },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_words_of_its_own_that_say_what_to_do() {
        let path = Path::new("/data/relay.redb");
        let told = |kind: io::ErrorKind| StoreError::of(path, kind.into()).to_string();
        for (kind, cure) in [
            (io::ErrorKind::StorageFull, "delete something"),
            (io::ErrorKind::QuotaExceeded, "delete something"),
            (io::ErrorKind::PermissionDenied, "chown"),
            (io::ErrorKind::ReadOnlyFilesystem, "mount it for writing"),
            (io::ErrorKind::InvalidData, "is damaged"),
            (io::ErrorKind::TimedOut, "look at the disk"),
        ] {
            let told = told(kind);
            assert!(told.contains(cure) && told.contains("/data/relay.redb"), "{kind:?}: {told}");
        }
        let unreadable = StoreError::of(path, io::Error::from_raw_os_error(libc::EIO));
        assert!(matches!(unreadable, StoreError::Damaged { .. }), "{unreadable}");
    }
}
