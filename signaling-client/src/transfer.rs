//! Files over the data channel `files/1` (docs/channels.md): given to a room and taken from the relay, and gone on with
//! where they broke.

use protocol::{
    FileId, RoomName,
    transfer::{CHUNK_MAX, Frame, Offer, TransferId},
};

use crate::channel::{Channel, Message};
use crate::error::Error;

/// What is given.
pub struct Given<'a> {
    /// The upload: the same again goes on where it broke.
    pub id: TransferId,
    /// To this room.
    pub room: RoomName,
    /// What it is called.
    pub name: &'a str,
    /// What it is.
    pub media_type: &'a str,
    /// Who gives it.
    pub from: &'a str,
    /// All of it.
    pub bytes: &'a [u8],
    /// The hashes of its chunks, or none.
    pub hashes: Vec<[u8; 32]>,
}

/// Gives a file; `progress` hears how much of it has been sent. Gives its id.
///
/// # Errors
/// [`Error::Refused`] with what the relay said, [`Error::Channel`] once the channel is gone.
pub async fn give(
    channel: &Channel,
    given: Given<'_>,
    mut progress: impl FnMut(u64),
) -> Result<FileId, Error> {
    let Given { id, room, name, media_type, from, bytes, hashes } = given;
    let offer = Offer {
        id,
        length: Some(bytes.len() as u64),
        room: Some(room),
        name: name.to_owned(),
        media_type: media_type.to_owned(),
        from: from.to_owned(),
        hashes,
    };
    channel.send(&Frame::Offer(offer).write()).await?;
    loop {
        let data = next(channel).await?;
        match Frame::read(&data) {
            Some(Frame::Want { id: of, offset, length }) if of == id => {
                let end = (offset as usize).saturating_add(length as usize).min(bytes.len());
                let mut at = end.min(offset as usize);
                while at < end {
                    let part = &bytes[at..end.min(at + CHUNK_MAX)];
                    channel.send(&Frame::Chunk { id, offset: at as u64, bytes: part }.write()).await?;
                    at += part.len();
                    progress(at as u64);
                }
            }
            Some(Frame::Done { id: of, file: Some(file) }) if of == id => return Ok(file),
            Some(Frame::Refuse { id: of, code, reason }) if of == id => return Err(refusal(code, reason)),
            _ => {}
        }
    }
}

/// Takes a file, from a byte up to another; `progress` hears how much has come, and how long the file is.
///
/// # Errors
/// As [`give`]; [`Error::Protocol`] if what comes is not what was asked for.
pub async fn take(
    channel: &Channel,
    id: TransferId,
    file: FileId,
    (from, to): (u64, u64),
    mut progress: impl FnMut(u64, u64),
) -> Result<Vec<u8>, Error> {
    channel.send(&Frame::Get { id, file, from, to }.write()).await?;
    let (mut bytes, mut whole) = (Vec::new(), 0);
    loop {
        let data = next(channel).await?;
        match Frame::read(&data) {
            Some(Frame::Offer(offer)) if offer.id == id => whole = offer.length.unwrap_or_default(),
            Some(Frame::Chunk { id: of, offset, bytes: part }) if of == id => {
                if offset != from + bytes.len() as u64 {
                    let reason = format!("byte {offset} came where another was asked for");
                    return Err(Error::Protocol { url: file.to_string(), reason });
                }
                bytes.extend_from_slice(part);
                progress(from + bytes.len() as u64, whole);
            }
            Some(Frame::Done { id: of, .. }) if of == id => return Ok(bytes),
            Some(Frame::Refuse { id: of, code, reason }) if of == id => return Err(refusal(code, reason)),
            _ => {}
        }
    }
}

async fn next(channel: &Channel) -> Result<bytes::Bytes, Error> {
    loop {
        match channel.next().await {
            Some(Message::Binary(data)) => return Ok(data),
            Some(Message::Text(_)) => {}
            None => return Err(Error::Channel("the relay closed it".to_owned())),
        }
    }
}

fn refusal(status: u16, title: String) -> Error {
    Error::Refused { url: "files/1".to_owned(), status, title, detail: None, retry_after: None }
}
