//! The pages of a file of records, read without the library that wrote them: what is left of a damaged file. A leaf is
//! taken for what it is wherever it lies, and a row counts if its sum, or its writer's signature, says so. So it does not
//! matter which pages lead to it.
//!
//! Leaves that the library does not use any more may still be there, with records that a log has forgotten. They are
//! records all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use super::rows::{self, Row};

/// Octets of a page. A leaf begins at the beginning of one, and is longer if a row is.
pub const PAGE: usize = 4096;
/// What the library writes first in a leaf.
const LEAF: u8 = 1;
/// A leaf is not longer: it holds one row of that size at most, else it is a page.
const LEAF_MAX: usize = 64 * PAGE;
/// Read at once.
const BLOCK: usize = 256 * PAGE;
/// Octets of rows that are kept: twice what all logs may take.
const KEPT_MAX: usize = 128 << 20;

/// Log and number as the file has them, and the row as it was written.
pub type RawRows = BTreeMap<(Vec<u8>, u64), Vec<u8>>;
/// Rows that are not as they were written, at most.
const UNSOUND_MAX: usize = 100_000;

/// What is in the pages of a file.
#[derive(Debug, Default)]
pub struct Found {
    /// The rows that are as they were written.
    pub rows: RawRows,
    /// Where there is a row that is not, and no other copy of it: log and number.
    pub unsound: BTreeSet<(Vec<u8>, u64)>,
    /// Octets of rows.
    kept: usize,
}

/// All rows that can be read, whatever happened to the file. What the disk refuses to read is passed over.
///
/// # Errors
///
/// When the file cannot be opened at all.
pub fn read_file(path: &Path) -> io::Result<Found> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut found = Found::default();
    let mut block = vec![0; BLOCK + LEAF_MAX];
    for offset in (0..length).step_by(BLOCK) {
        let rest = block.len().min(length - offset);
        read_block(&file, offset as u64, &mut block[..rest]);
        found.read_pages(&block[..rest], BLOCK);
    }
    Ok(found)
}

/// All rows that are in these pages. Total: whatever the bytes are.
pub fn read(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    found.read_pages(bytes, bytes.len());
    found
}

/// Page by page where the disk cannot read all of it.
fn read_block(file: &File, offset: u64, block: &mut [u8]) {
    if file.read_exact_at(block, offset).is_ok() {
        return;
    }
    for (index, page) in block.chunks_mut(PAGE).enumerate() {
        if file.read_exact_at(page, offset + (index * PAGE) as u64).is_err() {
            page.fill(0);
        }
    }
}

impl Found {
    /// The leaves that begin before `end`.
    fn read_pages(&mut self, bytes: &[u8], end: usize) {
        for start in (0..end.min(bytes.len())).step_by(PAGE) {
            let leaf = &bytes[start..bytes.len().min(start + LEAF_MAX)];
            self.read_leaf(leaf);
        }
    }

    /// A leaf has the number of its rows, where each key and each value ends, the keys, the values.
    fn read_leaf(&mut self, leaf: &[u8]) -> Option<()> {
        if *leaf.first()? != LEAF {
            return None;
        }
        let count = usize::from(u16::from_le_bytes(leaf.get(2..4)?.try_into().ok()?));
        let end = |index: usize| {
            let at = 4 + 4 * index;
            Some(u32::from_le_bytes(leaf.get(at..at + 4)?.try_into().ok()?) as usize)
        };
        let keys_begin = 4 + 8 * count;
        let values_begin = end(count.checked_sub(1)?)?;
        for row in 0..count {
            let key_begin = if row == 0 { keys_begin } else { end(row - 1)? };
            let value_begin = if row == 0 { values_begin } else { end(count + row - 1)? };
            let (Some(key), Some(value)) =
                (leaf.get(key_begin..end(row)?), leaf.get(value_begin..end(count + row)?))
            else {
                continue;
            };
            if let Some((log, number)) = read_key(key) {
                self.take((log.to_vec(), number), value);
            }
        }
        Some(())
    }

    fn take(&mut self, place: (Vec<u8>, u64), value: &[u8]) {
        let (log, number) = (&place.0, place.1);
        let known = self.rows.get(&place);
        match rows::sound(log, number, value) {
            Some(_) if self.kept + value.len() > KEPT_MAX => {}
            // One with a sum is worth more than one without.
            Some(_) if known.is_some_and(|known| is_proven(log, number, known)) => {}
            Some(_) => {
                self.kept += value.len();
                self.unsound.remove(&place);
                self.rows.insert(place, value.to_vec());
            }
            None if known.is_none() && self.unsound.len() < UNSOUND_MAX && rows::is_log(log) => {
                self.unsound.insert(place);
            }
            None => {}
        }
    }
}

fn is_proven(log: &[u8], number: u64, value: &[u8]) -> bool {
    matches!(rows::sound(log, number, value), Some(Row::Record(_)))
}

/// A key is the length of the log's name, the name, and the number.
fn read_key(key: &[u8]) -> Option<(&[u8], u64)> {
    let (length, rest) = match *key.first()? {
        254 => (usize::from(u16::from_le_bytes(key.get(1..3)?.try_into().ok()?)), key.get(3..)?),
        255 => (u32::from_le_bytes(key.get(1..5)?.try_into().ok()?) as usize, key.get(5..)?),
        length => (usize::from(length), key.get(1..)?),
    };
    let number = u64::from_le_bytes(rest.get(length..)?.try_into().ok()?);
    Some((&rest[..length], number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_in_a_page_nothing_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            if let Some(first) = bytes.first_mut() {
                *first = LEAF;
            }
            prop_assert!(read(&bytes).rows.len() < 1000);
        }
    }
}
