//! The organizer's secret key in a file that only its owner reads, with the festival's name and how the
//! key came from earlier ones.

use std::{fs, io, path::Path};

use aws_lc_rs::signature::Ed25519KeyPair;
use protocol::token::{FestivalId, Rotation};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::revocation_list::RevocationList;
use crate::storage::atomic_file;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is there and holds something else.
    #[error("is not an organizer's key")]
    NotAKey,
    /// No key could be made.
    #[error("the system gives no randomness")]
    NoRandomness,
}

/// What signs for a festival.
#[derive(Debug)]
pub struct OrganizerKey {
    /// The festival's name, for people.
    pub name: String,
    /// The key.
    pub pair: Ed25519KeyPair,
    /// How it came from earlier ones, oldest first.
    pub rotations: Vec<Rotation>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    festival: String,
    secret: String,
    #[serde(default)]
    rotations: Vec<String>,
}

impl OrganizerKey {
    /// The first key of a new festival.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`] if no key can be made.
    pub fn create(name: &str) -> Result<OrganizerKey, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::NoRandomness)?;
        Ok(OrganizerKey { name: name.to_owned(), pair, rotations: Vec::new() })
    }

    /// The next key of the same festival, and the change to it.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`] if no key can be made.
    pub fn next(&self, old_until: Option<u64>) -> Result<(OrganizerKey, Rotation), KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::NoRandomness)?;
        let rotation = Rotation::rotate(&self.pair, &pair, self.epoch() + 1, old_until)
            .expect("a change of key is far below the longest one");
        let rotations = self.rotations.iter().cloned().chain([rotation.clone()]).collect();
        Ok((OrganizerKey { name: self.name.clone(), pair, rotations }, rotation))
    }

    /// What this key is known by.
    pub fn id(&self) -> FestivalId {
        FestivalId::of(&self.pair)
    }

    /// How many keys came before it.
    pub fn epoch(&self) -> u32 {
        self.rotations.last().map_or(0, |rotation| rotation.unverified().epoch)
    }

    /// The organizer's keys as far as this key knows them.
    pub fn revocations(&self) -> RevocationList {
        let mut revocations = RevocationList::new(self.id());
        for rotation in self.rotations.iter().rev() {
            // They were checked when the file was read.
            let _ = revocations.adopt(&rotation.to_string());
        }
        revocations
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`KeyError::Io`] if it cannot be read, [`KeyError::NotAKey`] if it holds something else.
    pub fn read(path: &Path) -> Result<OrganizerKey, KeyError> {
        let text = fs::read_to_string(path)?;
        let file: File = toml::from_str(&text).map_err(|_| KeyError::NotAKey)?;
        OrganizerKey::of(file).ok_or(KeyError::NotAKey)
    }

    fn of(file: File) -> Option<OrganizerKey> {
        let pair = Ed25519KeyPair::from_pkcs8(&hex::decode(&file.secret).ok()?).ok()?;
        let rotations: Vec<Rotation> =
            file.rotations.iter().map(|line| line.parse().ok()).collect::<Option<_>>()?;
        let key = OrganizerKey { name: file.name, pair, rotations };
        let whole = key.revocations().organizer().rotations().count() == key.rotations.len();
        (whole && file.festival == key.id().to_string()).then_some(key)
    }

    /// Writes a file that only its owner reads; never in the place of another.
    ///
    /// # Errors
    ///
    /// [`KeyError::Io`] if there is such a file already or it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        if fs::symlink_metadata(path).is_ok() {
            let taken = "is there already: choose another name, or move it away";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, taken).into());
        }
        let pkcs8 = self.pair.to_pkcs8().map_err(|_| KeyError::NoRandomness)?;
        let file = File {
            name: self.name.clone(),
            festival: self.id().to_string(),
            secret: hex::encode(pkcs8.as_ref()),
            rotations: self.rotations.iter().map(ToString::to_string).collect(),
        };
        let text = toml::to_string(&file).map_err(io::Error::other)?;
        let remark = "# The organizer's key. Who has this file can let any relay into the festival.\n";
        Ok(atomic_file::write(path, format!("{remark}{text}").as_bytes(), atomic_file::SECRET)?)
    }
}
