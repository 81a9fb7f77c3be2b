//! Frames of the data channel `files/1`, in both directions; `docs/channels.md` is the manual. Reading is total on any
//! bytes. What is done about a frame belongs to others.

use crate::{
    RoomName,
    id::{FileId, UploadId},
};

/// Bytes of a file in one frame, at most.
pub const CHUNK_MAX: usize = 16 * 1024;
/// Bytes of a frame, at most.
pub const FRAME_MAX: usize = CHUNK_MAX + 64;
/// Hashes that fit into an offer with the longest names.
pub const HASHES_MAX: usize = 440;

/// Names one transfer on a channel. That of an upload is the id of the upload, on whichever way it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub [u8; 16]);

impl From<TransferId> for UploadId {
    fn from(id: TransferId) -> UploadId {
        UploadId(id.0)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// This file can be had.
    Offer(Offer),
    /// Send so many bytes from there on.
    Want {
        /// Of this transfer.
        id: TransferId,
        /// From this byte.
        offset: u64,
        /// So many at most.
        length: u32,
    },
    /// Some of the file.
    Chunk {
        /// Of this transfer.
        id: TransferId,
        /// From this byte.
        offset: u64,
        /// At most [`CHUNK_MAX`].
        bytes: &'a [u8],
    },
    /// So much is kept, whatever happens.
    Have {
        /// Of this transfer.
        id: TransferId,
        /// Up to this byte.
        offset: u64,
    },
    /// This file is wanted.
    Get {
        /// The transfer that it is to be.
        id: TransferId,
        /// The file.
        file: FileId,
        /// From this byte.
        from: u64,
        /// Up to this byte, which is not wanted any more; what is beyond the end is the end.
        to: u64,
    },
    /// That is all.
    Done {
        /// Of this transfer.
        id: TransferId,
        /// The file, from who knows it.
        file: Option<FileId>,
    },
    /// The transfer is over.
    Refuse {
        /// This one.
        id: TransferId,
        /// The HTTP status that fits.
        code: u16,
        /// Why, for people.
        reason: String,
    },
}

/// What can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The transfer that it is to be, or is.
    pub id: TransferId,
    /// Bytes, if that is known.
    pub length: Option<u64>,
    /// For this room; of an answer to [`Frame::Get`] none.
    pub room: Option<RoomName>,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub media_type: String,
    /// Who gives it.
    pub from: String,
    /// The blake3 hash of each MiB of it, if they are known yet; at most [`HASHES_MAX`].
    pub hashes: Vec<[u8; 32]>,
}

const OFFER: u8 = 1;
const WANT: u8 = 2;
const CHUNK: u8 = 3;
const HAVE: u8 = 4;
const GET: u8 = 5;
const DONE: u8 = 6;
const REFUSE: u8 = 7;
/// A length that is not known.
const UNKNOWN: u64 = u64::MAX;
/// Bytes of a reason.
const REASON_MAX: usize = 1024;

impl<'a> Frame<'a> {
    /// Reads one; `None` for anything else.
    pub fn read(bytes: &'a [u8]) -> Option<Frame<'a>> {
        if bytes.len() > FRAME_MAX {
            return None;
        }
        let mut rest = Rest(bytes);
        let kind = rest.u8()?;
        let id = TransferId(rest.array()?);
        let frame = match kind {
            OFFER => Frame::Offer(Offer::read(id, &mut rest)?),
            WANT => Frame::Want { id, offset: rest.u64()?, length: rest.u32()? },
            CHUNK => {
                let (offset, bytes) = (rest.u64()?, rest.all());
                if bytes.len() > CHUNK_MAX {
                    return None;
                }
                Frame::Chunk { id, offset, bytes }
            }
            HAVE => Frame::Have { id, offset: rest.u64()? },
            GET => Frame::Get { id, file: FileId(rest.array()?), from: rest.u64()?, to: rest.u64()? },
            DONE if rest.0.is_empty() => Frame::Done { id, file: None },
            DONE => Frame::Done { id, file: Some(FileId(rest.array()?)) },
            REFUSE => {
                let code = rest.u16()?;
                let reason = rest.all();
                if reason.len() > REASON_MAX {
                    return None;
                }
                Frame::Refuse { id, code, reason: text(reason)? }
            }
            _ => return None,
        };
        rest.0.is_empty().then_some(frame)
    }

    /// As bytes. Names that are too long are cut, and so are hashes.
    pub fn write(&self) -> Vec<u8> {
        let (kind, id) = match self {
            Frame::Offer(offer) => (OFFER, offer.id),
            Frame::Want { id, .. } => (WANT, *id),
            Frame::Chunk { id, .. } => (CHUNK, *id),
            Frame::Have { id, .. } => (HAVE, *id),
            Frame::Get { id, .. } => (GET, *id),
            Frame::Done { id, .. } => (DONE, *id),
            Frame::Refuse { id, .. } => (REFUSE, *id),
        };
        let mut out = vec![kind];
        out.extend(id.0);
        match self {
            Frame::Offer(offer) => offer.write(&mut out),
            Frame::Want { offset, length, .. } => {
                out.extend(offset.to_be_bytes());
                out.extend(length.to_be_bytes());
            }
            Frame::Chunk { offset, bytes, .. } => {
                out.extend(offset.to_be_bytes());
                out.extend(&bytes[..bytes.len().min(CHUNK_MAX)]);
            }
            Frame::Have { offset, .. } => out.extend(offset.to_be_bytes()),
            Frame::Get { file, from, to, .. } => {
                out.extend(file.0);
                out.extend(from.to_be_bytes());
                out.extend(to.to_be_bytes());
            }
            Frame::Done { file, .. } => out.extend(file.iter().flat_map(|file| file.0)),
            Frame::Refuse { code, reason, .. } => {
                out.extend(code.to_be_bytes());
                out.extend(cut(reason, REASON_MAX).as_bytes());
            }
        }
        out
    }
}

impl Offer {
    fn read(id: TransferId, rest: &mut Rest<'_>) -> Option<Offer> {
        let length = Some(rest.u64()?).filter(|length| *length != UNKNOWN);
        let room = Some(rest.string()?).filter(|room| !room.is_empty());
        let room = room.map(RoomName::new).transpose().ok()?;
        let (name, media_type, from) = (rest.string()?, rest.string()?, rest.string()?);
        let mut hashes = Vec::new();
        while !rest.0.is_empty() {
            if hashes.len() == HASHES_MAX {
                return None;
            }
            hashes.push(rest.array()?);
        }
        Some(Offer { id, length, room, name, media_type, from, hashes })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.length.unwrap_or(UNKNOWN).to_be_bytes());
        let room = self.room.as_ref().map_or("", RoomName::as_str);
        for text in [room, &self.name, &self.media_type, &self.from] {
            let text = cut(text, usize::from(u8::MAX) * 2);
            out.extend((text.len() as u16).to_be_bytes());
            out.extend(text.as_bytes());
        }
        out.extend(self.hashes.iter().take(HASHES_MAX).flatten());
    }
}

/// As much of it as fits into so many bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Two bytes of length, and a text of at most 510.
    fn string(&mut self) -> Option<String> {
        let length = usize::from(self.u16()?);
        if length > usize::from(u8::MAX) * 2 {
            return None;
        }
        text(self.take(length)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: TransferId = TransferId([7; 16]);

    fn offer(hashes: usize) -> Frame<'static> {
        Frame::Offer(Offer {
            id: ID,
            length: Some(5),
            room: RoomName::new("lobby").ok(),
            name: "jäm.txt".into(),
            media_type: "text/plain".into(),
            from: "Ada".into(),
            hashes: vec![[9; 32]; hashes],
        })
    }

    #[test]
    fn every_frame_is_read_as_it_was_written_and_not_when_it_is_cut_or_longer() {
        let file = FileId([3; 32]);
        for frame in [
            offer(0),
            offer(HASHES_MAX),
            Frame::Want { id: ID, offset: 1 << 40, length: 5 },
            Frame::Have { id: ID, offset: 9 },
            Frame::Get { id: ID, file, from: 1, to: u64::MAX },
            Frame::Done { id: ID, file: Some(file) },
            Frame::Done { id: ID, file: None },
            Frame::Refuse { id: ID, code: 507, reason: "the disk is full".into() },
            Frame::Chunk { id: ID, offset: 3, bytes: b"abc" },
        ] {
            let bytes = frame.write();
            assert!(bytes.len() <= FRAME_MAX, "{}", bytes.len());
            assert_eq!(Frame::read(&bytes), Some(frame.clone()));
            // These have an end of their own.
            let open = matches!(frame, Frame::Chunk { .. } | Frame::Refuse { .. });
            let longer = [&bytes[..], b"\0"].concat();
            assert!(open || Frame::read(&longer).is_none(), "{frame:?}");
            for length in 0..17.min(bytes.len()) {
                assert_eq!(Frame::read(&bytes[..length]), None, "{frame:?}");
            }
        }
    }

    #[test]
    fn what_is_too_much_is_no_frame() {
        let long = [&[CHUNK][..], &[7; 24], &[0; CHUNK_MAX + 1]].concat();
        assert_eq!(Frame::read(&long), None);
        assert!(Frame::read(&long[..long.len() - 1]).is_some());
        assert_eq!(Frame::read(&vec![CHUNK; 256 * 1024]), None);
        let mut many = offer(HASHES_MAX).write();
        many.extend([0; 32]);
        assert_eq!(Frame::read(&many), None);
    }

    proptest! {
        #[test]
        fn junk_never_panics_and_what_is_read_is_written_alike(
            kind in 0u8..10,
            rest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let bytes = [&[kind][..], &rest].concat();
            if let Some(frame) = Frame::read(&bytes) {
                prop_assert_eq!(frame.write(), bytes);
            }
        }
    }
}
