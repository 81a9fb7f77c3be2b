//! Tests of what is kept on disk.

use super::*;

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

fn whole(file: FileId, chunk: u32, length: usize) -> Piece {
    Piece { file, part: Part::Chunk(chunk), offset: 0, length: length as u32 }
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
    let file = draft.publish(manifest.clone()).await.expect("is published");
    assert_eq!(file, manifest.id());
    assert_eq!(files.read(whole(file, 1, 7)).await.as_deref(), Some(&b[..]));
    drop((files, other));
    let (files, found, _inbox) = open(data.path(), LIMITS);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].file, &found[0].chunks[..]), (file, &[true, true][..]));
    assert_eq!(files.read(whole(file, 0, 1024)).await.as_deref(), Some(&a[..]));
    assert_eq!(files.read(whole(file, 1, 8)).await, None, "a piece outside of its part");
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
        files.store(file, Part::Manifest, manifest.encode());
        for (chunk, bytes) in (0u32..).zip(chunks) {
            files.store(file, Part::Chunk(chunk), Bytes::copy_from_slice(&bytes));
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
    files.store(file, Part::Manifest, manifest.encode());
    files.store(file, Part::Chunk(0), Bytes::copy_from_slice(&bytes));
    assert!(kept(&mut inbox).await && kept(&mut inbox).await);
    drop(files);
    let path = data.path().join(DIRECTORY).join(CACHE).join(file.to_string()).join("0");
    fs::write(&path, [6; 100]).expect("writes");
    let (files, found, mut inbox) = open(data.path(), LIMITS);
    assert_eq!(found[0].chunks, [true], "nobody reads 2 GiB at the start");
    assert_eq!(files.read(whole(file, 0, 100)).await, None);
    let gone = inbox.recv().await;
    assert!(matches!(gone, Some(FileEvent::Gone { part: Some(Part::Chunk(0)), .. })), "{gone:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_disk_that_is_too_full_takes_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let (files, _, mut inbox) = open(data.path(), FileLimits { reserve: u64::MAX, ..LIMITS });
    assert!(matches!(files.begin(1).await, Err(FileError::Full)));
    let manifest = manifest("a", &[b"a"]);
    files.store(manifest.id(), Part::Manifest, manifest.encode());
    assert!(!kept(&mut inbox).await);
}
