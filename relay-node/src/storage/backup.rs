//! A backup of a data directory: one file with the identity, whom the relay trusts, and the records as they were in one
//! moment. Files that people gave are not in it: each is a file of its own that never changes, and can be copied.
//!
//! The file is a line that says what it is, frames, and a hash over all of it. Each frame has a kind, a length (32 bits,
//! little-endian) and as many octets.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{pages::RawRows, rows};

const HEAD: &[u8] = b"peddlenet relay backup 1\n";
const END: u8 = 0;
const KEPT: u8 = 1;
const ROW: u8 = 2;
const HASH: usize = 32;

/// The small files that are kept. `addresses.json` is of a running relay.
pub const KEPT_FILES: [&str; 4] = ["node.key", "trusted", "zone.token", "revocations.pnr"];

/// What is in a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backup {
    /// Small files by name, all of [`KEPT_FILES`].
    pub kept: BTreeMap<String, Vec<u8>>,
    /// Records.
    pub rows: RawRows,
}

/// Why a file is no backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BackupError {
    /// It does not begin like one.
    #[error("this is no backup of a relay")]
    NotOne,
    /// It ends too early, or is not what was written.
    #[error("this backup is cut off or damaged: take another one")]
    Damaged,
}

impl Backup {
    /// As a file.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = HEAD.to_vec();
        for (name, bytes) in &self.kept {
            frame(&mut file, KEPT, &[&[name.len() as u8], name.as_bytes(), bytes]);
        }
        for ((key, number), row) in &self.rows {
            let length = (key.len() as u32).to_le_bytes();
            frame(&mut file, ROW, &[&length, key, &number.to_le_bytes(), row]);
        }
        let hash = blake3::hash(&file);
        frame(&mut file, END, &[hash.as_bytes()]);
        file
    }

    /// Reads a file. Total: whatever the bytes are, an error at worst.
    ///
    /// # Errors
    ///
    /// [`BackupError`]. Then nothing of it is to be used.
    pub fn decode(file: &[u8]) -> Result<Backup, BackupError> {
        let frames = file.strip_prefix(HEAD).ok_or(BackupError::NotOne)?;
        // The last frame is always as long.
        let end = file.len().checked_sub(5 + HASH).ok_or(BackupError::Damaged)?;
        let (said, hash) = file.split_at(end);
        if hash[0] != END || hash[5..] != blake3::hash(said).as_bytes()[..] {
            return Err(BackupError::Damaged);
        }
        let mut rest = frames.get(..end - HEAD.len()).ok_or(BackupError::Damaged)?;
        let mut backup = Backup::default();
        while !rest.is_empty() {
            rest = backup.take(rest).ok_or(BackupError::Damaged)?;
        }
        Ok(backup)
    }

    fn take<'a>(&mut self, frames: &'a [u8]) -> Option<&'a [u8]> {
        let (kind, rest) = frames.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        match *kind {
            KEPT => {
                let (length, body) = body.split_first()?;
                let (name, bytes) = body.split_at_checked(usize::from(*length))?;
                // No other name: it becomes a path.
                let name = KEPT_FILES.into_iter().find(|known| known.as_bytes() == name)?;
                self.kept.insert(name.to_owned(), bytes.to_vec());
            }
            ROW => {
                let (length, body) = body.split_first_chunk::<4>()?;
                let (key, body) = body.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                let (number, row) = body.split_first_chunk::<8>()?;
                self.rows.insert((key.to_vec(), u64::from_le_bytes(*number)), row.to_vec());
            }
            _ => return None,
        }
        Some(rest)
    }

    /// How many of its records are as they were written, and how many are not.
    pub fn counts(&self) -> (usize, usize) {
        counts(&self.rows)
    }
}

/// How many rows are as they were written, and how many are not.
pub fn counts(rows: &RawRows) -> (usize, usize) {
    let sound = |((key, number), row): &(&(Vec<u8>, u64), &Vec<u8>)| rows::sound(key, *number, row).is_some();
    let good = rows.iter().filter(sound).count();
    (good, rows.len() - good)
}

fn frame(file: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    file.push(kind);
    file.extend((length as u32).to_le_bytes());
    parts.iter().for_each(|part| file.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backup() -> Backup {
        let kept = [("node.key", "secret"), ("trusted", "")];
        let kept = kept.map(|(name, bytes)| (name.to_owned(), bytes.into()));
        let row = |number| ((vec![number as u8; 3], number), vec![7; number as usize]);
        Backup { kept: kept.into(), rows: (0..9).map(row).collect() }
    }

    #[test]
    fn a_backup_reads_back_and_no_half_of_one_does() {
        let file = backup().encode();
        assert_eq!(Backup::decode(&file), Ok(backup()));
        for length in 0..file.len() {
            assert!(Backup::decode(&file[..length]).is_err(), "{length} of {}", file.len());
        }
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The length of the last frame says nothing.
            let harmless = (file.len() - HASH - 4..file.len() - HASH).contains(&(bit / 8));
            assert!(Backup::decode(&flipped).is_err() || harmless, "bit {bit}");
        }
        assert_eq!(Backup::decode(b"something else"), Err(BackupError::NotOne));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let mut backup = backup();
        backup.kept.insert("../node.key".to_owned(), Vec::new());
        assert_eq!(Backup::decode(&backup.encode()), Err(BackupError::Damaged));
    }

    proptest! {
        #[test]
        fn whatever_the_frames_are_nothing_panics(frames in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut file = [HEAD, &frames].concat();
            let hash = blake3::hash(&file);
            frame(&mut file, END, &[hash.as_bytes()]);
            let _ = Backup::decode(&file);
        }
    }
}
