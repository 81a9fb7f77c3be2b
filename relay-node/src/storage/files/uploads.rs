//! Uploads on disk, a directory each: what is given, and its chunks so far. Which there are, how long they are kept and
//! which gives way. A chunk is synced before it counts, so that what was counted survives whatever happens.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use mesh_routing::blob::{Manifest, manifest::CHUNK_BITS};
use protocol::{FileId, UploadId};
use serde::{Deserialize, Serialize};

use super::{
    FileError,
    disk::{Disk, write},
    upload::{About, KEPT_SECONDS, Reached, UPLOADS_MAX, UploadError, UploadJob},
};
use crate::drop_reason::DropReason;

/// What of an upload is no chunk.
const ABOUT: &str = "about";
const HASHES: &str = "hashes";
/// One that got no further for so long gives way to another.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of them.
pub(super) struct Uploads {
    root: PathBuf,
    known: BTreeMap<UploadId, Upload>,
}

struct Upload {
    about: About,
    hashes: Vec<[u8; 32]>,
    done: Option<(FileId, u64)>,
    /// When it got further last.
    at: SystemTime,
}

/// What is written of one.
#[derive(Serialize, Deserialize)]
struct Written {
    about: About,
    done: Option<(String, u64)>,
}

impl Uploads {
    /// Those below this directory; what cannot be read, or is too old, goes.
    pub(super) fn open(root: PathBuf, now: SystemTime) -> Uploads {
        let mut uploads = Uploads { root, known: BTreeMap::new() };
        for place in fs::read_dir(&uploads.root).into_iter().flatten().flatten() {
            let place = place.path();
            let id = place.file_name().and_then(|name| name.to_str()?.parse().ok());
            let found = id.and_then(|id: UploadId| Some((id, read(&place)?)));
            match found {
                Some((id, upload)) if uploads.known.len() < UPLOADS_MAX => {
                    uploads.known.insert(id, upload);
                }
                // What cannot be removed is found at the next start.
                _ => drop(fs::remove_dir_all(&place)),
            }
        }
        uploads.expire(now);
        uploads
    }

    pub(super) fn begin(
        &mut self,
        id: UploadId,
        about: About,
        now: SystemTime,
    ) -> Result<Reached, UploadError> {
        if let Some(known) = self.known.get(&id) {
            let same = About { holder: known.about.holder, ..about } == known.about;
            return if same { Ok(known.reached()) } else { Err(UploadError::Other) };
        }
        self.make_room(&about, now)?;
        let place = self.place(&id);
        fs::create_dir_all(&place).map_err(FileError::from)?;
        let upload = Upload { about, hashes: Vec::new(), done: None, at: now };
        upload.write(&place)?;
        let reached = upload.reached();
        self.known.insert(id, upload);
        Ok(reached)
    }

    pub(super) fn look(&self, id: &UploadId) -> Result<Reached, UploadError> {
        self.known.get(id).map(Upload::reached).ok_or(UploadError::Unknown)
    }

    /// Writes a chunk, if it is the next one.
    pub(super) fn append(
        &mut self,
        id: &UploadId,
        number: u32,
        bytes: &[u8],
        now: SystemTime,
    ) -> Result<(), UploadError> {
        let place = self.place(id);
        let upload = self.next(id, number)?;
        if bytes.len() != 1 << CHUNK_BITS {
            return Err(UploadError::Elsewhere);
        }
        write(&place, &number.to_string(), bytes, true).map_err(FileError::from)?;
        upload.hashes.push(*blake3::hash(bytes).as_bytes());
        upload.at = now;
        // Without its hash a chunk does not count.
        let written = write(&place, HASHES, &upload.hashes.concat(), true);
        if let Err(error) = written {
            upload.hashes.pop();
            return Err(FileError::from(error).into());
        }
        Ok(())
    }

    /// Writes what is left, and gives the whole file and where it lies. Taken from there it is no upload any more.
    pub(super) fn finish(
        &mut self,
        id: &UploadId,
        number: u32,
        last: &[u8],
    ) -> Result<(Manifest, PathBuf), UploadError> {
        let place = self.place(id);
        let upload = self.next(id, number)?;
        let mut chunks = upload.hashes.clone();
        if !last.is_empty() {
            write(&place, &number.to_string(), last, true).map_err(FileError::from)?;
            chunks.push(*blake3::hash(last).as_bytes());
        }
        let length = (u64::from(number) << CHUNK_BITS) + last.len() as u64;
        let About { name, media_type, .. } = upload.about.clone();
        Ok((Manifest { name, media_type, length, chunk_bits: CHUNK_BITS, chunks }, place))
    }

    /// What was an upload lies elsewhere now, or there already.
    pub(super) fn moved(&mut self, id: &UploadId) {
        if let Some(upload) = self.known.get_mut(id) {
            upload.hashes.clear();
            let _ = fs::remove_dir_all(self.root.join(id.to_string()));
        }
    }

    /// Its file is announced.
    pub(super) fn announced(&mut self, id: &UploadId, file: FileId, length: u64, now: SystemTime) {
        let place = self.place(id);
        if let Some(upload) = self.known.get_mut(id) {
            (upload.done, upload.at) = (Some((file, length)), now);
            // Who asks after a restart is told to give it again, and it is the same file.
            let _ = fs::create_dir_all(&place).map_err(FileError::from).and_then(|()| upload.write(&place));
        }
    }

    pub(super) fn discard(&mut self, id: &UploadId) -> Result<(), UploadError> {
        self.known.remove(id).ok_or(UploadError::Unknown)?;
        // What cannot be removed is found at the next start.
        let _ = fs::remove_dir_all(self.place(id));
        Ok(())
    }

    /// Those that got no further for too long go.
    pub(super) fn expire(&mut self, now: SystemTime) {
        let old = |upload: &Upload| upload.rests(now) >= Duration::from_secs(KEPT_SECONDS);
        let old: Vec<UploadId> = self.known.iter().filter(|(_, one)| old(one)).map(|(id, _)| *id).collect();
        for id in old {
            if self.known.get(&id).is_some_and(|upload| upload.done.is_none()) {
                DropReason::UploadExpired.count();
            }
            let _ = self.discard(&id);
        }
    }

    /// A place for one more: that of the greediest address which rests for longest, if it rests for long enough. Those that
    /// are done go first.
    fn make_room(&mut self, about: &About, now: SystemTime) -> Result<(), UploadError> {
        self.expire(now);
        if self.known.len() < UPLOADS_MAX {
            return Ok(());
        }
        let has = |holder| self.known.values().filter(|one| one.about.holder == holder).count();
        let own = has(about.holder) + 1;
        let worth = |(_, one): &(&UploadId, &Upload)| {
            let greed = has(one.about.holder);
            (one.done.is_some(), greed, one.rests(now))
        };
        let gives_way = self.known.iter().max_by_key(worth).filter(|(_, one)| {
            one.done.is_some() || (has(one.about.holder) + 1 >= own && one.rests(now) >= PATIENCE)
        });
        let Some(id) = gives_way.map(|(id, _)| *id) else {
            DropReason::UploadRefused.count();
            return Err(UploadError::TooMany);
        };
        if self.known.get(&id).is_some_and(|one| one.done.is_none()) {
            DropReason::UploadGaveWay.count();
        }
        self.discard(&id)
    }

    /// An upload that waits for the chunk of this number.
    fn next(&mut self, id: &UploadId, number: u32) -> Result<&mut Upload, UploadError> {
        let upload = self.known.get_mut(id).ok_or(UploadError::Unknown)?;
        if upload.done.is_some() {
            return Err(UploadError::Done);
        }
        if upload.hashes.len() != number as usize {
            return Err(UploadError::Elsewhere);
        }
        Ok(upload)
    }

    fn place(&self, id: &UploadId) -> PathBuf {
        self.root.join(id.to_string())
    }
}

impl Disk {
    /// Does what is asked about an upload. Who asked may have lost interest: an answer that nobody takes is no error.
    pub(super) fn take_upload(&mut self, job: UploadJob, now: SystemTime) {
        match job {
            UploadJob::Begin { id, about, done } => {
                let begun = self.make_room(about.length.unwrap_or_default()).map_err(UploadError::from);
                drop(done.send(begun.and_then(|()| self.uploads.begin(id, about, now))));
            }
            UploadJob::Look { id, done } => drop(done.send(self.uploads.look(&id))),
            UploadJob::Append { id, number, bytes, done } => {
                let room = self.make_room(bytes.len() as u64).map_err(UploadError::from);
                drop(done.send(room.and_then(|()| self.uploads.append(&id, number, &bytes, now))));
            }
            UploadJob::Publish { id, number, last, done } => {
                let published = self.publish_upload(&id, number, &last);
                if let Err(Ok((file, _))) = done.send(published) {
                    self.settle(file, false);
                }
            }
            UploadJob::Discard { id, done } => drop(done.send(self.uploads.discard(&id))),
        }
    }

    fn publish_upload(
        &mut self,
        id: &UploadId,
        number: u32,
        last: &[u8],
    ) -> Result<(FileId, Manifest), UploadError> {
        self.make_room(last.len() as u64)?;
        let (manifest, place) = self.uploads.finish(id, number, last)?;
        let file = self.publish(&place, manifest.clone())?;
        self.uploads.moved(id);
        Ok((file, manifest))
    }
}

impl Upload {
    fn reached(&self) -> Reached {
        let chunks = self.hashes.len() as u32;
        Reached { about: self.about.clone(), chunks, done: self.done }
    }

    fn rests(&self, now: SystemTime) -> Duration {
        // A clock that was set back makes nothing older.
        now.duration_since(self.at).unwrap_or_default()
    }

    fn write(&self, place: &Path) -> Result<(), FileError> {
        let done = self.done.map(|(file, length)| (file.to_string(), length));
        let written = serde_json::to_vec(&Written { about: self.about.clone(), done });
        let written = written.expect("strings and numbers always serialize");
        write(place, ABOUT, &written, true)?;
        File::open(place)?.sync_all()?;
        Ok(())
    }
}

/// An upload as it was left: the chunks that have their hashes.
fn read(place: &Path) -> Option<Upload> {
    let Written { about, done } = serde_json::from_slice(&fs::read(place.join(ABOUT)).ok()?).ok()?;
    let done = match done {
        Some((file, length)) => Some((file.parse().ok()?, length)),
        None => None,
    };
    let hashes = fs::read(place.join(HASHES)).unwrap_or_default();
    let hashes = hashes.chunks_exact(32).map_while(|hash| hash.try_into().ok());
    let whole = |number: usize| {
        fs::metadata(place.join(number.to_string())).is_ok_and(|data| data.len() == 1 << CHUNK_BITS)
    };
    let hashes = hashes.enumerate().take_while(|(number, _)| whole(*number)).map(|(_, hash)| hash).collect();
    let at =
        [ABOUT, HASHES].iter().filter_map(|name| fs::metadata(place.join(name)).ok()?.modified().ok()).max();
    Some(Upload { about, hashes, done, at: at.unwrap_or(SystemTime::UNIX_EPOCH) })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use protocol::RoomName;

    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn about(address: u8) -> About {
        About {
            room: RoomName::new("lobby").expect("a name"),
            name: "a.txt".to_owned(),
            media_type: "text/plain".to_owned(),
            from: "Ada".to_owned(),
            length: None,
            holder: IpAddr::from([10, 0, 0, address]),
        }
    }

    fn id(number: u8) -> UploadId {
        UploadId([number; 16])
    }

    fn seconds(seconds: u64) -> SystemTime {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_thousand_uploads_begun_and_left_take_64_places_and_the_greedy_give_way() {
        let data = tempfile::tempdir().expect("a directory");
        let mut uploads = Uploads::open(data.path().join("uploads"), START);
        let mut taken = 0;
        for number in 0..1000u32 {
            let id = UploadId(u128::from(number).to_be_bytes());
            taken += u32::from(uploads.begin(id, about(1), START).is_ok());
        }
        assert_eq!((taken, uploads.known.len()), (64, UPLOADS_MAX), "none of them rests for long enough");
        assert!(matches!(uploads.begin(id(200), about(2), seconds(59)), Err(UploadError::TooMany)));
        uploads.begin(id(200), about(2), seconds(60)).expect("the greediest gives way");
        for number in 201..=231 {
            uploads.begin(id(number), about(2), seconds(61)).expect("while the other has more");
        }
        assert_eq!(uploads.known.len(), UPLOADS_MAX);
        assert_eq!(
            fs::read_dir(&uploads.root).expect("is there").count(),
            UPLOADS_MAX,
            "and the disk has no more"
        );
    }

    #[test]
    fn an_upload_is_kept_for_24_hours_after_it_got_further_and_over_a_restart() {
        let data = tempfile::tempdir().expect("a directory");
        let root = data.path().join("uploads");
        let mut uploads = Uploads::open(root.clone(), START);
        let chunk = vec![7; 1 << CHUNK_BITS];
        uploads.begin(id(1), about(1), START).expect("begins");
        uploads.append(&id(1), 0, &chunk, seconds(3600)).expect("is written");
        assert!(matches!(uploads.append(&id(1), 0, &chunk, START), Err(UploadError::Elsewhere)), "twice");
        assert!(
            matches!(uploads.append(&id(1), 1, &[7; 5], START), Err(UploadError::Elsewhere)),
            "no whole one"
        );
        uploads.expire(seconds(24 * 3600));
        assert_eq!(uploads.look(&id(1)).expect("is there").offset(), 1 << CHUNK_BITS);
        // Killed while the second chunk was written: it has no hash, and does not count.
        write(&root.join(id(1).to_string()), "1", &chunk, false).expect("is written");
        let real = SystemTime::UNIX_EPOCH + Duration::from_millis(crate::clock::wall().0);
        let mut uploads = Uploads::open(root.clone(), real);
        let reached = uploads.look(&id(1)).expect("is there");
        assert_eq!((reached.chunks, reached.about), (1, about(1)));
        let (manifest, _) = uploads.finish(&id(1), 1, b"end").expect("is whole");
        assert_eq!((manifest.length, manifest.chunks.len()), ((1 << CHUNK_BITS) + 3, 2));
        uploads.expire(real + Duration::from_secs(25 * 3600));
        assert!(matches!(uploads.look(&id(1)), Err(UploadError::Unknown)));
        assert_eq!(fs::read_dir(&root).expect("is there").count(), 0);
    }
}
