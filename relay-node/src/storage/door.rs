//! The door of the running relay's records: a socket in the data directory that only its owner can open. Whoever connects
//! gets all records as they are in that moment. The running relay holds the file, so nobody else can read it.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::Path,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{
    backup::{Backup, BackupError},
    pages::RawRows,
    records::Snapshots,
};

/// Below `--data`.
const FILE: &str = "records.sock";
/// What comes first in an answer.
const ROWS: u8 = 0;
const WORDS: u8 = 1;
/// How long whoever connected may take to read.
const PATIENCE: Duration = Duration::from_secs(120);
/// More than all records may take.
const ANSWER_MAX: u64 = 1 << 30;

/// Serves the door for as long as the relay runs. A disk on which it cannot be made has no door.
pub async fn serve(directory: std::path::PathBuf, snapshots: Snapshots) {
    let listener = match open(&directory) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "no backup can be taken while this relay runs");
            return;
        }
    };
    loop {
        // One at a time: each holds all records in memory.
        match listener.accept().await {
            Ok((stream, _)) => drop(timeout(PATIENCE, answer(stream, &snapshots)).await),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

fn open(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(FILE);
    // One of an earlier run; this relay holds the lock of the records.
    let _ = fs::remove_file(&path);
    let listener = within(directory, |path| UnixListener::bind(path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(mut stream: UnixStream, snapshots: &Snapshots) -> io::Result<()> {
    let (kind, bytes) = match snapshots.take().await {
        Ok(rows) => (ROWS, Backup { rows, ..Backup::default() }.encode()),
        Err(words) => (WORDS, words.into_bytes()),
    };
    stream.write_u8(kind).await?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// The records of the relay that runs on this directory; `None` if none does.
///
/// # Errors
///
/// What the relay says, or what came is not whole.
pub fn ask(directory: &Path) -> io::Result<Option<RawRows>> {
    let connected = within(directory, |path| std::os::unix::net::UnixStream::connect(path));
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    match bytes.split_first() {
        Some((&ROWS, file)) => {
            let backup =
                Backup::decode(file).map_err(|error: BackupError| io::Error::other(error.to_string()))?;
            Ok(Some(backup.rows))
        }
        Some((_, words)) => Err(io::Error::other(String::from_utf8_lossy(words).into_owned())),
        None => Err(io::Error::other("the relay hung up: its log says more")),
    }
}

/// A socket has a short name only: it is named from its directory.
fn within<T>(directory: &Path, what: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let open = File::open(directory)?;
    let short = format!("/proc/self/fd/{}/{FILE}", open.as_raw_fd());
    what(Path::new(&short))
}
