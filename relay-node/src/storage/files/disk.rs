//! The thread that reads and writes files: those given here, the cache of those of others, and what is on its way in.
//! Nobody else touches the directory; the way here is `mod.rs`'s.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use mesh_routing::blob::{Block, Chunk, FILES_MAX, Manifest};
use protocol::FileId;
use tokio::sync::mpsc;

use super::{Ended, FileError, FileEvent, FileLimits, Found, Job, uploads::Uploads};
use crate::{
    clock,
    drop_reason::DropReason,
    vitals::{BEAT, Pulse},
};

/// Chunks kept in memory: what one neighbor pulls block by block is read once.
const MEMORY_CHUNKS: usize = 16;

pub(super) const OWN: &str = "own";
pub(super) const CACHE: &str = "cache";
pub(super) const DRAFTS: &str = "drafts";
pub(super) const UPLOADS: &str = "uploads";
const MANIFEST: &str = "manifest";
/// Beside the manifest of a file that was given here as long as no record of it is on disk: the start that finds it
/// knows that the file may be an orphan.
const UNANNOUNCED: &str = "unannounced";
/// Behind the name of what is being written.
const PART: &str = ".part";

/// A file on disk.
struct Entry {
    own: bool,
    announced: bool,
    manifest: Manifest,
    chunks: BTreeSet<u32>,
    /// Of its chunks.
    bytes: u64,
    /// Grows with every use of any file.
    used: u64,
}

/// The thread's own.
pub(super) struct Disk {
    root: PathBuf,
    limits: FileLimits,
    events: mpsc::Sender<FileEvent>,
    entries: BTreeMap<FileId, Entry>,
    /// Bytes of the files of others.
    cached: u64,
    uses: u64,
    drafts: u64,
    pub(super) uploads: Uploads,
    /// How many times each file was given and is not settled.
    given: BTreeMap<FileId, u32>,
    ended: Arc<Mutex<Vec<Ended>>>,
    /// The chunks used last, the newest at the end.
    memory: VecDeque<(FileId, Chunk, Bytes)>,
}

impl Disk {
    /// Opens the directory, makes it if need be, throws away what was not finished. A disk that refuses that stops
    /// nobody: what is there is read, and who gives a file is told.
    pub(super) fn open(
        root: PathBuf,
        limits: FileLimits,
        events: mpsc::Sender<FileEvent>,
        ended: Arc<Mutex<Vec<Ended>>>,
    ) -> Disk {
        let _ = fs::remove_dir_all(root.join(DRAFTS));
        if let Err(error) = make_directories(&root) {
            tracing::error!(%error, directory = %root.display(), "no files can be taken until the disk takes them");
        }
        let uploads = Uploads::open(root.join(UPLOADS), now());
        Disk {
            root,
            limits,
            events,
            entries: BTreeMap::new(),
            cached: 0,
            uses: 0,
            drafts: 0,
            uploads,
            given: BTreeMap::new(),
            ended,
            memory: VecDeque::new(),
        }
    }

    pub(super) fn run(mut self, waiting: &Receiver<Job>, pulse: &Pulse) {
        loop {
            pulse.beat(clock::now());
            let job = match waiting.recv_timeout(BEAT) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.uploads.expire(now());
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.end();
            // Who asked may have lost interest: an answer that nobody takes is no error.
            match job {
                Job::Store { file, chunk, bytes } => {
                    let kept = self.store(file, chunk, bytes);
                    self.tell(FileEvent::Stored { file, chunk, kept });
                }
                Job::ReadFor { link, block } => {
                    let bytes = self.read(block);
                    self.tell(FileEvent::Read { link, block, bytes });
                }
                Job::Read { block, done } => {
                    if !done.is_closed() {
                        drop(done.send(self.read(block)));
                    }
                }
                Job::Begin { length, done } => {
                    if let Err(Ok(draft)) = done.send(self.begin(length)) {
                        self.discard(draft);
                    }
                }
                Job::Append { draft, number, bytes, done } => {
                    drop(done.send(self.append(draft, number, &bytes)));
                }
                Job::Publish { draft, manifest, done } => {
                    let published = self.publish(&self.draft(draft), manifest);
                    if let Err(Ok(file)) = done.send(published) {
                        self.settle(file, false);
                    }
                }
                Job::Upload(job) => self.take_upload(job, now()),
                Job::Ended => {}
            }
        }
        self.end();
    }

    fn end(&mut self) {
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for what in ended {
            match what {
                Ended::Draft(draft) => self.discard(draft),
                Ended::Given(file, announced) => self.settle(file, announced),
                Ended::Upload(id, file, length) => self.uploads.announced(&id, file, length, now()),
            }
        }
    }

    fn discard(&self, draft: u64) {
        // What cannot be removed goes at the next start.
        let _ = fs::remove_dir_all(self.draft(draft));
    }

    /// One of those who gave the file has announced it, or could not.
    pub(super) fn settle(&mut self, file: FileId, announced: bool) {
        if let Some(given) = self.given.get_mut(&file) {
            *given -= 1;
            if *given == 0 {
                self.given.remove(&file);
            }
        }
        let place = self.place(&file, true);
        let Some(entry) = self.entries.get_mut(&file).filter(|entry| entry.own) else { return };
        if announced && !entry.announced {
            entry.announced = true;
            // If it stays, the next start finds the record.
            let _ = fs::remove_file(place.join(UNANNOUNCED));
        }
        if !entry.announced && !self.given.contains_key(&file) {
            self.forget(&file);
            self.tell(FileEvent::Gone { file, chunk: None });
        }
    }

    fn tell(&self, event: FileEvent) {
        // The node loop is the last to end: then nobody wants to know.
        let _ = self.events.blocking_send(event);
    }

    fn draft(&self, draft: u64) -> PathBuf {
        self.root.join(DRAFTS).join(draft.to_string())
    }

    fn place(&self, file: &FileId, own: bool) -> PathBuf {
        self.root.join(if own { OWN } else { CACHE }).join(file.to_string())
    }

    /// What is there, the files used longest ago first.
    pub(super) fn find(&mut self) -> Vec<Found> {
        let mut places = Vec::new();
        for own in [true, false] {
            let directory = fs::read_dir(self.root.join(if own { OWN } else { CACHE }));
            // What cannot be read is left out.
            for place in directory.into_iter().flatten().flatten() {
                let Ok(file) = place.file_name().to_string_lossy().parse::<FileId>() else { continue };
                let used =
                    place.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                places.push((!own, used, file, place.path()));
            }
        }
        // One's own come first: those of others can be had again.
        places.sort();
        let mut found = Vec::new();
        for (of_other, _, file, path) in places {
            sweep(&path);
            let announced = !path.join(UNANNOUNCED).exists();
            let manifest = fs::read(path.join(MANIFEST)).ok();
            let manifest = manifest.filter(|bytes| FileId(*blake3::hash(bytes).as_bytes()) == file);
            let Some(manifest) = manifest.and_then(|bytes| Manifest::decode(&bytes)) else {
                if of_other || !announced {
                    // Torn by a crash: it can be had again, or nobody was told of it.
                    let _ = fs::remove_dir_all(&path);
                    continue;
                }
                tracing::warn!(?path, "this file's manifest is damaged: it is left out");
                continue;
            };
            if self.entries.len() >= FILES_MAX || self.entries.contains_key(&file) {
                tracing::warn!(?path, "there are more files than this relay serves: it is left out");
                continue;
            }
            let there = |number: &u32| {
                let length = fs::metadata(path.join(number.to_string())).map(|data| data.len()).ok();
                length == Some(manifest.chunk_length(*number).into())
            };
            let chunks: BTreeSet<u32> = (0..manifest.chunks.len() as u32).filter(there).collect();
            let bytes = chunks.iter().map(|number| u64::from(manifest.chunk_length(*number))).sum();
            if of_other {
                self.cached += bytes;
            }
            let here = (0..manifest.chunks.len() as u32).map(|number| chunks.contains(&number)).collect();
            found.push(Found { file, manifest: manifest.clone(), chunks: here, announced });
            if !announced {
                self.given.insert(file, 1);
            }
            self.uses += 1;
            let entry = Entry { own: !of_other, announced, manifest, chunks, bytes, used: self.uses };
            self.entries.insert(file, entry);
        }
        found
    }

    /// Whether so many bytes more would leave too little free; `less` are those that could be thrown away.
    fn tight(&self, more: u64, less: u64) -> bool {
        // A file system that does not say how full it is says so when it is.
        let Ok(stat) = rustix::fs::statvfs(&self.root) else { return false };
        let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        free.saturating_add(less).saturating_sub(more) < self.limits.reserve.max(total / 20)
    }

    /// Room for so many bytes, made of the cache if need be.
    pub(super) fn make_room(&mut self, more: u64) -> Result<(), FileError> {
        while self.tight(more, 0) {
            // Not for nothing.
            if self.tight(more, self.cached) || !self.evict(None) {
                return Err(FileError::Full);
            }
        }
        Ok(())
    }

    /// Throws the file of another relay away that was used longest ago, but not `keep`.
    fn evict(&mut self, keep: Option<&FileId>) -> bool {
        let others = self.entries.iter().filter(|(file, entry)| !entry.own && Some(*file) != keep);
        let Some(file) = others.min_by_key(|(_, entry)| entry.used).map(|(file, _)| *file) else {
            return false;
        };
        self.forget(&file);
        self.tell(FileEvent::Gone { file, chunk: None });
        true
    }

    fn forget(&mut self, file: &FileId) {
        if let Some(entry) = self.entries.remove(file) {
            if !entry.own {
                self.cached -= entry.bytes;
            }
            // What cannot be removed is found at the next start.
            let _ = fs::remove_dir_all(self.place(file, entry.own));
        }
    }

    fn store(&mut self, file: FileId, chunk: Chunk, bytes: Bytes) -> bool {
        let kept = self.store_on_disk(file, chunk, &bytes);
        if let Err(error) = &kept {
            tracing::warn!(%error, ?file, ?chunk, "a chunk of a file is not kept");
            DropReason::FileNotKept.count();
        }
        if kept.is_ok() {
            self.remember(file, chunk, bytes);
        }
        kept.is_ok()
    }

    fn store_on_disk(&mut self, file: FileId, chunk: Chunk, bytes: &[u8]) -> Result<(), FileError> {
        let length = bytes.len() as u64;
        while self.cached + length > self.limits.cache || self.tight(length, 0) {
            if self.tight(length, self.cached) || !self.evict(Some(&file)) {
                return Err(FileError::Full);
            }
        }
        self.uses += 1;
        match chunk {
            Chunk::Manifest => {
                let manifest = Manifest::decode(bytes)
                    .ok_or_else(|| FileError::Disk(io::Error::other("it is no manifest")))?;
                if self.entries.contains_key(&file) {
                    return Ok(());
                }
                let place = self.place(&file, false);
                fs::create_dir_all(&place)?;
                write(&place, MANIFEST, bytes, false)?;
                let (chunks, used) = (BTreeSet::new(), self.uses);
                let entry = Entry { own: false, announced: true, manifest, chunks, bytes: 0, used };
                self.entries.insert(file, entry);
            }
            Chunk::Data(number) => {
                let own = self.entries.get(&file).is_some_and(|entry| entry.own);
                let place = self.place(&file, own);
                let Some(entry) = self.entries.get_mut(&file) else {
                    return Err(FileError::Disk(io::Error::other("its manifest is gone")));
                };
                write(&place, &number.to_string(), bytes, false)?;
                entry.used = self.uses;
                if entry.chunks.insert(number) {
                    entry.bytes += length;
                    if !own {
                        self.cached += length;
                    }
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, file: FileId, chunk: Chunk, bytes: Bytes) {
        if self.memory.len() >= MEMORY_CHUNKS {
            self.memory.pop_front();
        }
        self.memory.push_back((file, chunk, bytes));
    }

    fn read(&mut self, block: Block) -> Option<Bytes> {
        let Block { file, chunk, offset, length } = block;
        let whole = self.load(file, chunk)?;
        let from = offset as usize;
        // A copy: a slice would keep the whole chunk in memory for as long as it takes to be sent.
        whole.get(from..from.checked_add(length as usize)?).map(Bytes::copy_from_slice)
    }

    /// A chunk, from memory or from disk, and then verified.
    fn load(&mut self, file: FileId, chunk: Chunk) -> Option<Bytes> {
        self.uses += 1;
        let entry = self.entries.get_mut(&file)?;
        entry.used = self.uses;
        if let Some(at) = self.memory.iter().position(|(f, c, _)| *f == file && *c == chunk) {
            let kept = self.memory.remove(at)?;
            let bytes = kept.2.clone();
            self.memory.push_back(kept);
            return Some(bytes);
        }
        let bytes: Bytes = match chunk {
            Chunk::Manifest => entry.manifest.encode(),
            Chunk::Data(number) => {
                if !entry.chunks.contains(&number) {
                    return None;
                }
                let own = entry.own;
                let path = self.place(&file, own).join(number.to_string());
                let read = fs::read(&path);
                let entry = self.entries.get_mut(&file)?;
                match read {
                    Ok(bytes) if entry.manifest.verifies(number, &bytes) => bytes.into(),
                    outcome => {
                        let problem = outcome.err().map_or("it is damaged".to_owned(), |e| e.to_string());
                        tracing::warn!(
                            ?path,
                            problem,
                            "a chunk cannot be read: it is fetched again if it is wanted"
                        );
                        entry.chunks.remove(&number);
                        let length = u64::from(entry.manifest.chunk_length(number));
                        entry.bytes -= length;
                        if !own {
                            self.cached -= length;
                        }
                        let _ = fs::remove_file(&path);
                        self.tell(FileEvent::Gone { file, chunk: Some(chunk) });
                        return None;
                    }
                }
            }
        };
        self.remember(file, chunk, bytes.clone());
        Some(bytes)
    }

    fn begin(&mut self, length: u64) -> Result<u64, FileError> {
        if self.entries.len() >= FILES_MAX && !self.evict(None) {
            return Err(FileError::Full);
        }
        self.make_room(length)?;
        make_directories(&self.root)?;
        self.drafts += 1;
        fs::create_dir_all(self.draft(self.drafts))?;
        Ok(self.drafts)
    }

    fn append(&mut self, draft: u64, number: u32, bytes: &[u8]) -> Result<(), FileError> {
        self.make_room(bytes.len() as u64)?;
        write(&self.draft(draft), &number.to_string(), bytes, true)?;
        Ok(())
    }

    /// What lies there whole is a file from now on, until it is known whether it is announced.
    pub(super) fn publish(&mut self, draft: &Path, manifest: Manifest) -> Result<FileId, FileError> {
        let file = manifest.id();
        if self.entries.get(&file).is_some_and(|entry| entry.own && entry.bytes == manifest.length) {
            *self.given.entry(file).or_default() += 1;
            return Ok(file);
        }
        // One that was announced and lost a chunk stays announced.
        let announced = self.entries.get(&file).is_some_and(|entry| entry.own && entry.announced);
        write(draft, MANIFEST, &manifest.encode(), true)?;
        if !announced {
            write(draft, UNANNOUNCED, &[], true)?;
        }
        File::open(draft)?.sync_all()?;
        self.forget(&file);
        let place = self.place(&file, true);
        // A file of one's own of which chunks were lost.
        let _ = fs::remove_dir_all(&place);
        fs::rename(draft, &place)?;
        if let Err(error) = File::open(self.root.join(OWN)).and_then(|directory| directory.sync_all()) {
            let _ = fs::remove_dir_all(&place);
            return Err(error.into());
        }
        self.uses += 1;
        let chunks = (0..manifest.chunks.len() as u32).collect();
        let bytes = manifest.length;
        self.entries.insert(file, Entry { own: true, announced, manifest, chunks, bytes, used: self.uses });
        *self.given.entry(file).or_default() += 1;
        Ok(file)
    }
}

/// The time of day, as file systems have it.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall().0)
}

fn make_directories(root: &Path) -> io::Result<()> {
    let all = [OWN, CACHE, DRAFTS, UPLOADS];
    all.into_iter().try_for_each(|directory| fs::create_dir_all(root.join(directory)))
}

/// Takes away what a crash left half written.
fn sweep(directory: &Path) {
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().ends_with(PART) {
            // It is looked at by nobody, and again at the next start.
            let _ = fs::remove_file(file.path());
        }
    }
}

/// Writes a file whole or not at all.
pub(super) fn write(directory: &Path, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
    let part = directory.join(format!("{name}{PART}"));
    let written = (|| {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&part, directory.join(name))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}
