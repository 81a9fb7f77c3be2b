//! Tests of what is kept on disk.

use std::fs;

use super::{
    disk::{CACHE, DRAFTS, OWN},
    *,
};

const LIMITS: FileLimits = FileLimits { size: 1 << 20, cache: 1 << 20, reserve: 0 };

fn manifest(name: &str, chunks: &[&[u8]]) -> Manifest {
    Manifest {
        name: name.into(),
        media_type: "text/plain".into(),
        length: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        chunk_bits: 10,
        chunks: chunks.iter().map(|chunk| *blake3::hash(chunk).as_bytes()).collect(),
    }
}

fn open(data: &Path, limits: FileLimits) -> (Files, Vec<Found>, mpsc::Receiver<FileEvent>) {
    let (events, inbox) = mpsc::channel(100);
    let (files, found) = Files::open(data, limits, events, Pulse::unwatched()).expect("opens");
    (files, found, inbox)
}

async fn kept(inbox: &mut mpsc::Receiver<FileEvent>) -> bool {
    loop {
        if let Some(FileEvent::Stored { kept, .. }) = inbox.recv().await {
            return kept;
        }
    }
}

fn whole(file: FileId, number: u32, length: usize) -> Block {
    Block { file, chunk: Chunk::Data(number), offset: 0, length: length as u32 }
}

#[tokio::test]
async fn a_draft_that_is_published_is_there_after_a_restart_and_any_other_is_not() {
    let data = tempfile::tempdir().expect("a directory");
    let (a, b) = (vec![1; 1024], vec![2; 7]);
    let manifest = manifest("a.txt", &[&a, &b]);
    let (files, found, _inbox) = open(data.path(), LIMITS);
    assert!(found.is_empty());
    let draft = files.begin(1031).await.expect("there is room");
    draft.append(0, a.clone().into()).await.expect("is written");
    draft.append(1, b.clone().into()).await.expect("is written");
    let other = files.begin(5).await.expect("there is room");
    other.append(0, vec![9; 5].into()).await.expect("is written");
    let given = draft.publish(manifest.clone()).await.expect("is published");
    let file = given.file();
    assert_eq!(file, manifest.id());
    given.announced();
    assert_eq!(files.read(whole(file, 1, 7)).await.as_deref(), Some(&b[..]));
    drop((files, other));
    let (files, found, _inbox) = open(data.path(), LIMITS);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].file, &found[0].chunks[..]), (file, &[true, true][..]));
    assert_eq!(files.read(whole(file, 0, 1024)).await.as_deref(), Some(&a[..]));
    assert_eq!(files.read(whole(file, 1, 8)).await, None, "a block outside of its chunk");
    let drafts = fs::read_dir(data.path().join(DIRECTORY).join(DRAFTS)).expect("is there");
    assert_eq!(drafts.count(), 0);
}

#[tokio::test]
async fn the_cache_gives_the_file_away_that_was_used_longest_ago() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = FileLimits { cache: 5000, ..LIMITS };
    let (files, _, mut inbox) = open(data.path(), limits);
    let mut ids = Vec::new();
    for (number, name) in [(0, "a"), (1, "b"), (2, "c")] {
        let chunks = [[number; 1024], [number + 10; 1024]];
        let manifest = manifest(name, &[&chunks[0], &chunks[1]]);
        let file = manifest.id();
        ids.push(file);
        files.store(file, Chunk::Manifest, manifest.encode());
        for (number, bytes) in (0u32..).zip(chunks) {
            files.store(file, Chunk::Data(number), Bytes::copy_from_slice(&bytes));
        }
        for _ in 0..3 {
            assert!(kept(&mut inbox).await);
        }
        // The first one is used again.
        assert!(files.read(whole(ids[0], 0, 1024)).await.is_some());
    }
    assert!(files.read(whole(ids[1], 0, 1024)).await.is_none(), "the second one had to go");
    assert!(files.read(whole(ids[0], 1, 1024)).await.is_some());
    assert!(files.read(whole(ids[2], 1, 1024)).await.is_some());
}

#[tokio::test]
async fn a_chunk_that_the_disk_changed_is_not_given_to_anybody() {
    let data = tempfile::tempdir().expect("a directory");
    let bytes = [5; 100];
    let manifest = manifest("a", &[&bytes]);
    let file = manifest.id();
    let (files, _, mut inbox) = open(data.path(), LIMITS);
    files.store(file, Chunk::Manifest, manifest.encode());
    files.store(file, Chunk::Data(0), Bytes::copy_from_slice(&bytes));
    assert!(kept(&mut inbox).await && kept(&mut inbox).await);
    drop(files);
    let path = data.path().join(DIRECTORY).join(CACHE).join(file.to_string()).join("0");
    fs::write(&path, [6; 100]).expect("writes");
    let (files, found, mut inbox) = open(data.path(), LIMITS);
    assert_eq!(found[0].chunks, [true], "nobody reads 2 GiB at the start");
    assert_eq!(files.read(whole(file, 0, 100)).await, None);
    let gone = inbox.recv().await;
    assert!(matches!(gone, Some(FileEvent::Gone { chunk: Some(Chunk::Data(0)), .. })), "{gone:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_disk_that_is_too_full_takes_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let (files, _, mut inbox) = open(data.path(), FileLimits { reserve: u64::MAX, ..LIMITS });
    assert!(matches!(files.begin(1).await, Err(FileError::Full)));
    let manifest = manifest("a", &[b"a"]);
    files.store(manifest.id(), Chunk::Manifest, manifest.encode());
    assert!(!kept(&mut inbox).await);
}

/// How many files lie below the directory of files.
fn lying(data: &Path) -> usize {
    let mut count = 0;
    let mut directories = vec![data.join(DIRECTORY)];
    while let Some(directory) = directories.pop() {
        for found in fs::read_dir(directory).into_iter().flatten().flatten() {
            match found.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => directories.push(found.path()),
                false => count += 1,
            }
        }
    }
    count
}

/// Gives a file of one chunk.
async fn give(files: &Files, name: &str) -> Given {
    let draft = files.begin(3).await.expect("there is room");
    draft.append(0, Bytes::from_static(b"abc")).await.expect("is written");
    draft.publish(manifest(name, &[b"abc"])).await.expect("is published")
}

/// Waits until the disk has done all that was asked of it before.
async fn done(files: &Files) {
    drop(files.begin(0).await.expect("there is room"));
    drop(files.begin(0).await.expect("there is room"));
    let _ = files.read(whole(FileId([0; 32]), 0, 1)).await;
}

#[tokio::test]
async fn a_file_that_is_not_announced_leaves_nothing_and_is_told_to_be_gone() {
    let data = tempfile::tempdir().expect("a directory");
    let (files, _, mut inbox) = open(data.path(), LIMITS);
    let given = give(&files, "a").await;
    let file = given.file();
    drop(given);
    done(&files).await;
    assert_eq!((lying(data.path()), files.read(whole(file, 0, 3)).await), (0, None));
    assert!(matches!(inbox.recv().await, Some(FileEvent::Gone { chunk: None, .. })));
    // Whoever goes away while the disk works is the same.
    let draft = files.begin(3).await.expect("there is room");
    draft.append(0, Bytes::from_static(b"abc")).await.expect("is written");
    let publishing = draft.publish(manifest("b", &[b"abc"]));
    drop(tokio::time::timeout(std::time::Duration::ZERO, publishing).await);
    drop(tokio::time::timeout(std::time::Duration::ZERO, files.begin(3)).await);
    done(&files).await;
    assert_eq!(lying(data.path()), 0);
    drop(files);
}

#[tokio::test]
async fn a_file_given_twice_stays_if_either_is_announced() {
    let data = tempfile::tempdir().expect("a directory");
    let (files, _, _inbox) = open(data.path(), LIMITS);
    for announced_first in [true, false] {
        let name = if announced_first { "a" } else { "b" };
        let (one, other) = (give(&files, name).await, give(&files, name).await);
        let file = one.file();
        if announced_first {
            one.announced();
            drop(other);
        } else {
            drop(one);
            other.announced();
        }
        // And a third one that is refused takes nothing away.
        drop(give(&files, name).await);
        done(&files).await;
        assert!(files.read(whole(file, 0, 3)).await.is_some());
    }
    // Two manifests, two chunks.
    assert_eq!(lying(data.path()), 4);
}

#[tokio::test]
async fn what_a_crash_left_is_an_orphan_unless_a_record_of_it_is_there() {
    let data = tempfile::tempdir().expect("a directory");
    let (files, _, _inbox) = open(data.path(), LIMITS);
    let (known, orphan) = (give(&files, "known").await, give(&files, "orphan").await);
    let ids = (known.file(), orphan.file());
    // As a crash does: nothing is settled.
    known.leave();
    orphan.leave();
    done(&files).await;
    drop(files);
    let root = data.path().join(DIRECTORY);
    let torn = root.join(CACHE).join("ab".repeat(32));
    fs::create_dir_all(&torn).expect("makes");
    fs::write(torn.join("0"), b"abc").expect("writes");
    fs::write(root.join(OWN).join(ids.0.to_string()).join("0.part"), b"a").expect("writes");
    fs::create_dir_all(root.join(DRAFTS).join("7")).expect("makes");
    fs::write(root.join(DRAFTS).join("7").join("0"), b"abc").expect("writes");
    let (files, found, _inbox) = open(data.path(), LIMITS);
    assert!(found.len() == 2 && found.iter().all(|found| !found.announced));
    files.settle(ids.0, true);
    files.settle(ids.1, false);
    done(&files).await;
    assert_eq!(lying(data.path()), 2, "manifest and chunk of the one that is known");
    assert!(files.read(whole(ids.0, 0, 3)).await.is_some());
    drop(files);
    let (_files, found, _inbox) = open(data.path(), LIMITS);
    assert!(found.len() == 1 && found[0].announced);
}
