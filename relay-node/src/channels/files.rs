//! Files over a data channel (`files/1`): uploads into the store that HTTP has too, and files by range, as their chunks
//! come. `docs/channels.md` is the manual. How a file gets in and out is for `incoming` and `outgoing`.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
};

use bytes::Bytes;
use futures_util::FutureExt;
use mesh_routing::blob::Manifest;
use protocol::{
    FileId, UploadId,
    transfer::{CHUNK_MAX, Frame, Offer, TransferId},
};
use rooms::file::{check_giver, media_type, shown_name};

use super::{
    ChannelsState,
    way::{Gone, Message, Way},
};
use crate::{
    drop_reason::DropReason,
    incoming::{CHUNK, Incoming, IncomingError},
    node::sessions::Whose,
    outgoing::{Outgoing, OutgoingError, manifest_of},
    places::Held,
    storage::files::{
        FileError,
        upload::{About, UploadError},
    },
};

/// Uploads, and files on their way to the peer, of one channel at a time.
const UPLOADS_MAX: usize = 2;
const DOWNLOADS_MAX: usize = 4;
/// Bytes of an upload that may be on their way. It is renewed when half of it has come.
const CREDIT: u32 = 256 * 1024;
/// Times that parts of an upload may not fit their hashes.
const WRONG_MAX: u32 = 3;

/// Serves a channel until it is gone, or what comes on it is no frame.
pub(super) async fn serve(state: ChannelsState, whose: Whose, way: Way) {
    let transfers = Transfers { state, whose, uploads: BTreeMap::new(), downloads: VecDeque::new() };
    // Gone, or told to go: either way the channel is closed by the end of it.
    let _ = transfers.run(way).await;
}

/// What is under way on one channel.
struct Transfers {
    state: ChannelsState,
    whose: Whose,
    uploads: BTreeMap<TransferId, Upload>,
    /// The next whose turn it is first.
    downloads: VecDeque<Download>,
}

/// A file on its way in.
struct Upload {
    incoming: Incoming,
    length: Option<u64>,
    /// Up to this byte the peer may send.
    wanted: u64,
    /// A part did not fit: what was on its way behind it is not meant.
    again: bool,
    wrong: u32,
    place: Held,
}

impl Upload {
    /// Asks for what may be on its way beside what was asked for before; `None` if that is all there is.
    fn want(&mut self, id: TransferId) -> Option<Frame<'static>> {
        let offset = self.wanted;
        let end = self.incoming.offset() + u64::from(CREDIT);
        let end = self.length.map_or(end, |length| length.min(end));
        self.wanted = end.max(offset);
        let length = (self.wanted - offset) as u32;
        (length > 0).then_some(Frame::Want { id, offset, length })
    }
}

/// A file on its way out.
struct Download {
    id: TransferId,
    file: FileId,
    stage: Stage,
}

enum Stage {
    /// What the file is made of is not here yet.
    Asked {
        from: u64,
        to: u64,
        place: Option<Held>,
    },
    Going(Box<Outgoing>),
}

/// Why a transfer is over: for the peer.
struct Refusal(u16, String);

impl Transfers {
    async fn run(mut self, way: Way) -> Result<(), Gone> {
        let Way { mut inbox, out } = way;
        // What of a file waits for room on the channel.
        let mut frame: Option<Bytes> = None;
        loop {
            let length = frame.as_ref().map(Bytes::len);
            let room = async {
                match length {
                    Some(length) => out.room_behind(length).await,
                    None => pending().await,
                }
            };
            let more = async {
                match length {
                    Some(_) => pending().await,
                    None => next_of(&self.state, &mut self.downloads).await,
                }
            };
            tokio::select! {
                message = inbox.recv() => {
                    for answer in self.handle(message.ok_or(Gone)?).await? {
                        out.say(answer.write().into(), true).await?;
                    }
                }
                room = room => {
                    room?;
                    if let Some(frame) = frame.take() {
                        out.say(frame, true).await?;
                    }
                }
                bytes = more => frame = Some(bytes),
            }
        }
    }

    /// What is answered to a message.
    ///
    /// # Errors
    ///
    /// [`Gone`] if it is no frame: the channel has to go.
    async fn handle(&mut self, message: Message) -> Result<Vec<Frame<'static>>, Gone> {
        let frame = Some(&message.data).filter(|_| message.binary).and_then(|data| Frame::read(data));
        let Some(frame) = frame else {
            DropReason::FileFrameMalformed.count();
            return Err(Gone);
        };
        Ok(match frame {
            Frame::Offer(offer) => {
                let id = offer.id;
                self.begin(offer).await.unwrap_or_else(|refusal| refused(id, refusal))
            }
            Frame::Chunk { id, offset, bytes } => self.take(id, offset, Bytes::copy_from_slice(bytes)).await,
            Frame::Done { id, .. } => self.end(id).await,
            Frame::Get { id, file, from, to } => {
                self.get(id, file, (from, to)).map_or_else(|refusal| refused(id, refusal), |()| Vec::new())
            }
            Frame::Refuse { id, .. } => {
                self.uploads.remove(&id);
                self.downloads.retain(|known| known.id != id);
                Vec::new()
            }
            // These are the relay's to say.
            Frame::Want { .. } | Frame::Have { .. } => {
                DropReason::FileFrameMalformed.count();
                return Err(Gone);
            }
        })
    }

    async fn begin(&mut self, offer: Offer) -> Result<Vec<Frame<'static>>, Refusal> {
        let Offer { id, length, room, name, media_type: given, from, hashes } = offer;
        if !self.whose.may_publish {
            let reason = "giving files needs the relay's publish token: offer the session with it";
            return Err(Refusal(401, reason.to_owned()));
        }
        let room = room.ok_or_else(|| Refusal(400, "name the room".to_owned()))?;
        let giver = if from.is_empty() { "somebody".to_owned() } else { from };
        check_giver(&giver).map_err(|error| Refusal(422, error.to_string()))?;
        let limit = self.state.files.limits().size;
        if length.is_some_and(|length| length > limit) {
            return Err(IncomingError::TooLarge(limit).into());
        }
        let chunks = length.map(|length| length.div_ceil(CHUNK as u64));
        if !hashes.is_empty() && chunks != Some(hashes.len() as u64) {
            return Err(Refusal(400, "as many hashes as the file has chunks, or none".to_owned()));
        }
        if self.uploads.len() >= UPLOADS_MAX && !self.uploads.contains_key(&id) {
            return Err(OutgoingError::Busy.into());
        }
        let client = self.whose.client;
        let place = self.state.uploads.take(client.holder()).map_err(|_| OutgoingError::Busy)?;
        let about = About {
            room,
            name: shown_name(&name),
            media_type: media_type(&given),
            from: giver,
            length,
            holder: client.address,
        };
        let reached = self.state.files.begin_upload(UploadId::from(id), about).await?;
        if let Some((file, length)) = reached.done {
            return Ok(vec![Frame::Have { id, offset: length }, Frame::Done { id, file: Some(file) }]);
        }
        let (files, requests) = (self.state.files.clone(), self.state.requests.clone());
        let mut incoming = Incoming::new(files, requests, id.into(), reached);
        if !hashes.is_empty() {
            incoming = incoming.expecting(hashes);
        }
        let wanted = incoming.offset();
        let upload = Upload { incoming, length, wanted, again: false, wrong: 0, place };
        self.uploads.insert(id, upload);
        let mut answers = vec![Frame::Have { id, offset: wanted }];
        answers.extend(self.go_on(id).await);
        Ok(answers)
    }

    /// Bytes of an upload.
    async fn take(&mut self, id: TransferId, offset: u64, bytes: Bytes) -> Vec<Frame<'static>> {
        let Some(upload) = self.uploads.get_mut(&id) else {
            // Of one that is over: it was on its way.
            DropReason::FileChunkUnasked.count();
            return Vec::new();
        };
        let at = upload.incoming.offset();
        if upload.again && offset != at {
            return Vec::new();
        }
        upload.again = false;
        let length = bytes.len() as u64;
        if offset != at || offset + length > upload.wanted || length == 0 {
            DropReason::FileChunkUnasked.count();
            self.uploads.remove(&id);
            let reason = "this part was not asked for: offer the file again".to_owned();
            return refused(id, Refusal(409, reason));
        }
        if upload.place.lost().now_or_never().is_some() {
            self.uploads.remove(&id);
            return refused(id, OutgoingError::Busy.into());
        }
        let kept = upload.incoming.kept();
        match upload.incoming.write(bytes).await {
            Ok(()) => {}
            Err(IncomingError::Hash) if upload.wrong < WRONG_MAX => {
                DropReason::FileChunkWrong.count();
                (upload.wrong, upload.again, upload.wanted) =
                    (upload.wrong + 1, true, upload.incoming.offset());
            }
            Err(error) => {
                self.uploads.remove(&id);
                return refused(id, error.into());
            }
        }
        let now_kept = upload.incoming.kept();
        let mut answers = Vec::new();
        if now_kept > kept {
            upload.place.progress();
            answers.push(Frame::Have { id, offset: now_kept });
        }
        answers.extend(self.go_on(id).await);
        answers
    }

    /// Asks for more, or finishes what is whole.
    async fn go_on(&mut self, id: TransferId) -> Vec<Frame<'static>> {
        let Some(upload) = self.uploads.get_mut(&id) else { return Vec::new() };
        let at = upload.incoming.offset();
        if upload.length == Some(at) {
            return self.end(id).await;
        }
        if upload.wanted.saturating_sub(at) > u64::from(CREDIT / 2) {
            return Vec::new();
        }
        upload.want(id).into_iter().collect()
    }

    /// The upload is whole.
    async fn end(&mut self, id: TransferId) -> Vec<Frame<'static>> {
        let Some(upload) = self.uploads.get_mut(&id) else { return Vec::new() };
        match upload.incoming.finish().await {
            Ok((file, length)) => {
                self.uploads.remove(&id);
                vec![Frame::Have { id, offset: length }, Frame::Done { id, file: Some(file) }]
            }
            Err(IncomingError::Hash) if upload.wrong < WRONG_MAX => {
                DropReason::FileChunkWrong.count();
                (upload.wrong, upload.again, upload.wanted) =
                    (upload.wrong + 1, true, upload.incoming.offset());
                upload.want(id).into_iter().collect()
            }
            Err(error) => {
                self.uploads.remove(&id);
                refused(id, error.into())
            }
        }
    }

    /// Whoever wants a file waits in line; what it is made of may be far away.
    fn get(&mut self, id: TransferId, file: FileId, (from, to): (u64, u64)) -> Result<(), Refusal> {
        if self.downloads.len() >= DOWNLOADS_MAX {
            return Err(OutgoingError::Busy.into());
        }
        let place = self.state.downloads.take(self.whose.client.holder()).map_err(|_| OutgoingError::Busy)?;
        self.downloads.push_back(Download { id, file, stage: Stage::Asked { from, to, place: Some(place) } });
        Ok(())
    }
}

/// The next frame of the file whose turn it is; for ever if there is none. Nothing is lost if this is dropped while it waits.
async fn next_of(state: &ChannelsState, downloads: &mut VecDeque<Download>) -> Bytes {
    let Some(download) = downloads.front_mut() else { return pending().await };
    let (id, file) = (download.id, download.file);
    match download.next(state).await {
        Ok(Some(frame)) => {
            downloads.rotate_left(1);
            frame
        }
        Ok(None) => {
            downloads.pop_front();
            Frame::Done { id, file: Some(file) }.write().into()
        }
        Err(Refusal(code, reason)) => {
            downloads.pop_front();
            Frame::Refuse { id, code, reason }.write().into()
        }
    }
}

impl Download {
    /// Its next frame; `None` once all of it has gone.
    async fn next(&mut self, state: &ChannelsState) -> Result<Option<Bytes>, Refusal> {
        let (id, file) = (self.id, self.file);
        match &mut self.stage {
            Stage::Asked { from, to, place } => {
                let manifest = manifest_of(&state.requests, file).await?;
                let (from, to) = (*from, (*to).min(manifest.length));
                if from > to {
                    let reason =
                        format!("this range is outside of the file: it has {} bytes", manifest.length);
                    return Err(Refusal(416, reason));
                }
                let Manifest { name, media_type, length, .. } = manifest.clone();
                let (from_whom, hashes) = (String::new(), Vec::new());
                let length = Some(length);
                let offer = Offer { id, length, room: None, name, media_type, from: from_whom, hashes };
                // It is taken here alone, and the stage is another then.
                let Some(place) = place.take() else { return Err(OutgoingError::Busy.into()) };
                let ends = (state.requests.clone(), state.files.clone());
                let outgoing = Outgoing::new(ends, (file, manifest), (from, to), place);
                self.stage = Stage::Going(Box::new(outgoing));
                Ok(Some(Frame::Offer(offer).write().into()))
            }
            Stage::Going(outgoing) if outgoing.is_over() => Ok(None),
            Stage::Going(outgoing) => {
                let offset = outgoing.at();
                let bytes = outgoing.block_or_lost(CHUNK_MAX as u32).await?;
                Ok(Some(Frame::Chunk { id, offset, bytes: &bytes }.write().into()))
            }
        }
    }
}

fn refused(id: TransferId, Refusal(code, reason): Refusal) -> Vec<Frame<'static>> {
    vec![Frame::Refuse { id, code, reason }]
}

impl From<OutgoingError> for Refusal {
    fn from(error: OutgoingError) -> Refusal {
        let code = if error == OutgoingError::Unknown { 404 } else { 503 };
        Refusal(code, error.to_string())
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Refusal {
        let code = match &error {
            UploadError::Unknown => 404,
            UploadError::Other | UploadError::Elsewhere | UploadError::Done => 409,
            UploadError::File(FileError::Full) => 507,
            UploadError::TooMany | UploadError::File(_) => 503,
        };
        Refusal(code, error.to_string())
    }
}

impl From<IncomingError> for Refusal {
    fn from(error: IncomingError) -> Refusal {
        let code = match error {
            IncomingError::TooLarge(_) => 413,
            IncomingError::Length => 400,
            IncomingError::Hash => 422,
            IncomingError::Upload(error) => return error.into(),
            IncomingError::Request(_) | IncomingError::Post(_) => 503,
        };
        Refusal(code, error.to_string())
    }
}
