//! The reliable side of a link: one bidirectional stream per group of classes, so that control never
//! waits behind chat, nor chat behind files. A queue and a task before each, and a task behind it that gives what comes
//! to the node loop. Frames on them are a length and as many bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::mesh::Class;
use quinn::{ReadExactError, RecvStream, SendStream, WriteError};
use tokio::sync::mpsc;

use super::hello::{HELLO_MAX, Hello};
use crate::{
    bridge::{BridgeEvent, LinkId},
    drop_reason::DropReason,
};

/// The longest message.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Octets of the length before a frame.
const LENGTH: usize = 4;
const QUEUE_MESSAGES: usize = 1024;
const QUEUE_BYTES: usize = 2 * 1024 * 1024;

/// Classes that share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Control,
    Chat,
    Bulk,
}

impl Group {
    pub const ALL: [Group; 3] = [Group::Control, Group::Chat, Group::Bulk];

    pub fn of(class: Class) -> Group {
        match class {
            Class::Control | Class::Emergency | Class::Announcement => Group::Control,
            Class::Chat | Class::Audio | Class::Video => Group::Chat,
            Class::File | Class::Prefetch => Group::Bulk,
        }
    }

    /// The first byte on the stream.
    pub fn tag(self) -> u8 {
        self as u8
    }

    pub fn from_tag(tag: u8) -> Option<Group> {
        Group::ALL.get(usize::from(tag)).copied()
    }

    /// For [`SendStream::set_priority`]: higher goes first.
    pub fn priority(self) -> i32 {
        -(self as i32)
    }
}

/// Why a stream, and with it the link, ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the neighbor says that it speaks bridge versions {lowest} to {highest}, which are none")]
    NoVersions { lowest: u16, highest: u16 },
    #[error("the neighbor did not begin with a hello")]
    NotHello,
    #[error("the neighbor sent something else than updates of membership")]
    NotUpdates,
    #[error("the neighbor announced a message of {length} bytes, the limit is {limit}")]
    Oversized { length: usize, limit: usize },
    #[error("the neighbor ended a stream")]
    Ended,
    #[error("{0}")]
    Read(quinn::ReadError),
    #[error("{0}")]
    Write(#[from] WriteError),
}

impl From<ReadExactError> for StreamError {
    fn from(error: ReadExactError) -> StreamError {
        match error {
            ReadExactError::FinishedEarly(_) => StreamError::Ended,
            ReadExactError::ReadError(error) => StreamError::Read(error),
        }
    }
}

/// Sends our hello.
pub(crate) async fn send_hello(stream: &mut SendStream, hello: &Hello) -> Result<(), StreamError> {
    write_frame(stream, hello.to_frame()).await
}

/// Awaits the neighbor's.
pub(crate) async fn receive_hello(stream: &mut RecvStream) -> Result<Hello, StreamError> {
    let frame = read_frame(stream, &mut Frames::new(HELLO_MAX)).await?;
    let (hello, unknown) = Hello::from_frame(&frame)?;
    if unknown > 0 {
        DropReason::BridgeUnknownHelloField.count_all(unknown as u64);
    }
    Ok(hello)
}

/// Carries a group's queue onto its stream, until one of the two ends: the answer says why.
pub(crate) async fn write(mut stream: SendStream, mut outbox: OutboxReader) -> String {
    while let Some(message) = outbox.next().await {
        if let Err(error) = write_frame(&mut stream, message).await {
            return error.to_string();
        }
    }
    "no sender is left".to_owned()
}

/// Carries what comes on a stream into the queue of the node loop, until one of the two ends: the answer says why.
pub(crate) async fn read(mut stream: RecvStream, link: LinkId, events: mpsc::Sender<BridgeEvent>) -> String {
    let mut frames = Frames::new(MESSAGE_MAX);
    loop {
        match read_frame(&mut stream, &mut frames).await {
            // While the node loop is busy nothing more is read, and QUIC's windows stop the neighbor.
            Ok(message) => {
                if events.send(BridgeEvent::Message { link, message }).await.is_err() {
                    return "this relay is stopping".to_owned();
                }
            }
            Err(error) => return error.to_string(),
        }
    }
}

/// Writes one frame.
pub(crate) async fn write_frame(stream: &mut SendStream, message: Bytes) -> Result<(), StreamError> {
    let length = u32::try_from(message.len()).expect("the queue takes no message over MESSAGE_MAX");
    let mut chunks = [Bytes::copy_from_slice(&length.to_be_bytes()), message];
    stream.write_all_chunks(&mut chunks).await?;
    Ok(())
}

/// Reads the next frame.
pub(crate) async fn read_frame(stream: &mut RecvStream, frames: &mut Frames) -> Result<Bytes, StreamError> {
    loop {
        let chunk = stream.read_chunk(frames.wants(), true).await.map_err(StreamError::Read)?;
        if let Some(frame) = frames.handle(&chunk.ok_or(StreamError::Ended)?.bytes)? {
            return Ok(frame);
        }
    }
}

/// What came of the frames of a stream. A length that is announced but not sent costs nothing: the buffer grows
/// with what arrives.
#[derive(Debug)]
pub(crate) struct Frames {
    limit: usize,
    /// Of the frame that comes, once its four octets are here.
    length: Option<usize>,
    buffer: BytesMut,
}

impl Frames {
    /// Frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Frames {
        Frames { limit, length: None, buffer: BytesMut::new() }
    }

    /// How many bytes may come next.
    pub fn wants(&self) -> usize {
        self.length.unwrap_or(LENGTH) - self.buffer.len()
    }

    /// Takes as many bytes as it [wants](Frames::wants) or fewer; gives the frame when it is whole.
    ///
    /// # Errors
    ///
    /// [`StreamError::Oversized`] if a frame is announced that is longer than the limit.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<Option<Bytes>, StreamError> {
        self.buffer.put(bytes);
        if self.wants() > 0 {
            return Ok(None);
        }
        if self.length.is_none() {
            let length = self.buffer.get_u32() as usize;
            if length > self.limit {
                return Err(StreamError::Oversized { length, limit: self.limit });
            }
            self.length = Some(length);
            if length > 0 {
                return Ok(None);
            }
        }
        self.length = None;
        Ok(Some(self.buffer.split().freeze()))
    }

    /// Bytes that are kept.
    pub(crate) fn held(&self) -> usize {
        self.buffer.capacity()
    }
}

/// The sending half of a group's queue.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct OutboxReader {
    queue: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

/// A bounded queue of messages, by number and by bytes.
pub(crate) fn outbox() -> (Outbox, OutboxReader) {
    let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Outbox { queue: sender, bytes: bytes.clone() }, OutboxReader { queue: receiver, bytes })
}

impl Outbox {
    /// `false` if the message is too long or the queue is full.
    pub fn push(&self, message: Bytes) -> bool {
        let length = message.len();
        if length > MESSAGE_MAX {
            return false;
        }
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length > QUEUE_BYTES
            || self.queue.try_send(message).is_err()
        {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            return false;
        }
        true
    }
}

impl OutboxReader {
    /// The next message; `None` when no sender is left.
    pub async fn next(&mut self) -> Option<Bytes> {
        let message = self.queue.recv().await?;
        self.bytes.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_however_their_bytes_come() {
        let said = [&b"one"[..], b"", &[7; 300]];
        let bytes: Vec<u8> =
            said.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes(), *frame].concat()).collect();
        for most in [1, 3, 1000] {
            let (mut frames, mut rest, mut heard) = (Frames::new(300), &bytes[..], Vec::new());
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(frames.wants().min(most).min(rest.len()));
                heard.extend(frames.handle(chunk).unwrap());
                rest = behind;
            }
            assert_eq!(heard, said);
        }
        let error = Frames::new(299).handle(&300_u32.to_be_bytes()).unwrap_err();
        assert!(matches!(error, StreamError::Oversized { length: 300, limit: 299 }));
    }

    #[test]
    fn a_full_outbox_refuses_by_count_and_by_bytes() {
        let (outbox, _reader) = outbox();
        assert!(!outbox.push(vec![0; MESSAGE_MAX + 1].into()));
        for _ in 0..QUEUE_BYTES / MESSAGE_MAX {
            assert!(outbox.push(vec![0; MESSAGE_MAX].into()));
        }
        assert!(!outbox.push(Bytes::from_static(b"x")));

        let (outbox, _reader) = super::outbox();
        for _ in 0..QUEUE_MESSAGES {
            assert!(outbox.push(Bytes::new()));
        }
        assert!(!outbox.push(Bytes::new()));
    }
}
