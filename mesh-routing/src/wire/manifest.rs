//! What a file is made of: its name, its length and the blake3 hash of each chunk. The file's id is the hash
//! of these bytes, so who has the id can check the manifest, and who has the manifest each chunk.

use bytes::Bytes;
use protocol::FileId;
use serde::{Deserialize, Serialize};

/// Bytes of a chunk, as a power of two: 1 MiB. Files made elsewhere may have smaller ones.
pub const CHUNK_BITS: u8 = 20;
/// Chunks of one file: 4 GiB.
pub const CHUNKS_MAX: usize = 4096;
/// Bytes of an encoded manifest.
pub const MANIFEST_MAX: usize = CHUNKS_MAX * 32 + 1024;
/// Bytes of a name.
pub const NAME_MAX: usize = 512;
/// Bytes of a media type.
pub const MEDIA_TYPE_MAX: usize = 127;

const CHUNK_BITS_MIN: u8 = 10;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the file is called, as its publisher says: to be cleaned before anybody uses it.
    pub name: String,
    /// What it is, as its publisher says.
    pub media_type: String,
    /// Bytes.
    pub length: u64,
    /// Every chunk but the last has `1 << chunk_bits` bytes.
    pub chunk_bits: u8,
    /// The hash of each chunk.
    pub chunks: Vec<[u8; 32]>,
}

impl Manifest {
    /// As bytes, of which the file's id is the hash.
    pub fn encode(&self) -> Bytes {
        postcard::to_stdvec(self).expect("strings, numbers and hashes always serialize").into()
    }

    /// From bytes. Total: `None` if they are no manifest, or one that contradicts itself or is written otherwise than
    /// [`Manifest::encode`] writes it: it would be given on as other bytes than those with its id.
    pub fn decode(bytes: &[u8]) -> Option<Manifest> {
        if bytes.len() > MANIFEST_MAX {
            return None;
        }
        let manifest: Manifest = postcard::from_bytes(bytes).ok()?;
        let good = manifest.name.len() <= NAME_MAX
            && manifest.media_type.len() <= MEDIA_TYPE_MAX
            && (CHUNK_BITS_MIN..=CHUNK_BITS).contains(&manifest.chunk_bits)
            && manifest.chunks.len() <= CHUNKS_MAX
            && manifest.chunks.len() as u64 == manifest.length.div_ceil(1 << manifest.chunk_bits)
            && manifest.encode() == bytes;
        good.then_some(manifest)
    }

    /// The file's id.
    pub fn id(&self) -> FileId {
        id_of(&self.encode())
    }

    /// Bytes of a chunk; 0 if there is no such chunk.
    pub fn chunk_length(&self, chunk: u32) -> u32 {
        let size = 1u64 << self.chunk_bits;
        let from = u64::from(chunk) * size;
        u32::try_from(self.length.saturating_sub(from).min(size)).unwrap_or_default()
    }

    /// Whether these bytes are that chunk.
    pub fn verifies(&self, chunk: u32, bytes: &[u8]) -> bool {
        self.chunks.get(chunk as usize).is_some_and(|hash| blake3::hash(bytes) == *hash)
    }
}

/// The id of the file with this encoded manifest.
pub fn id_of(manifest: &[u8]) -> FileId {
    FileId(*blake3::hash(manifest).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let chunks = vec![[1; 32], [2; 32], [3; 32]];
        Manifest {
            name: "a.txt".into(),
            media_type: "text/plain".into(),
            length: 2500,
            chunk_bits: 10,
            chunks,
        }
    }

    #[test]
    fn a_manifest_reads_back_as_written_and_knows_its_chunks() {
        let manifest = manifest();
        assert_eq!(Manifest::decode(&manifest.encode()), Some(manifest.clone()));
        assert_eq!([0, 1, 2, 3, u32::MAX].map(|i| manifest.chunk_length(i)), [1024, 1024, 452, 0, 0]);
        assert_eq!(manifest.id(), id_of(&manifest.encode()));
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_none() {
        for bad in [
            Manifest { length: 4000, ..manifest() },
            Manifest { length: u64::MAX, ..manifest() },
            Manifest { chunk_bits: 9, ..manifest() },
            Manifest { chunk_bits: 64, ..manifest() },
            Manifest { name: "x".repeat(NAME_MAX + 1), ..manifest() },
            Manifest {
                chunks: vec![[0; 32]; CHUNKS_MAX + 1],
                length: 1024 * (CHUNKS_MAX as u64 + 1),
                ..manifest()
            },
        ] {
            assert_eq!(Manifest::decode(&bad.encode()), None);
        }
    }

    #[test]
    fn a_manifest_has_one_way_to_be_written() {
        let good = manifest().encode();
        assert_eq!(good[0], 5, "the length of the name");
        // The same number in two octets, as no writer writes it.
        let longer = [&[0x85, 0][..], &good[1..]].concat();
        assert_eq!(postcard::from_bytes(&longer), Ok(manifest()));
        assert_eq!(Manifest::decode(&longer), None);
        assert_eq!(Manifest::decode(&[&good[..], &[0]].concat()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(manifest) = Manifest::decode(&bytes) {
                manifest.chunk_length(u32::MAX);
            }
        }
    }
}
