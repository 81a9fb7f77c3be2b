//! What HTTP and WebSocket code asks the node loop: bounded queues in, one reply each.
//! The node loop owns all state; who asks never touches it.

use std::time::Duration;

use media::sdp::{Fragment, Offer};
use mesh_routing::blob::{Chunk, Manifest};
use protocol::{
    FileId, RoomName, SessionId, StreamName, Topic,
    api::{self, LayerWish, NewMessage, Posted},
    signaling::FromRelay,
};
use rooms::{NewFile, ParticipantId, RoomsError};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::outbox::Inbox;
use crate::{
    drop_reason::DropReason,
    node::{
        allowance::Speaker,
        files::NoChunk,
        posts::PostError,
        sessions::{Direction, IfMatch, Opened, Patched, SessionError, Whose, WishError, merging::Frames},
        viewers::Seen,
    },
};

/// Requests waiting for the node loop. Who finds it full waits for a place, in turn.
pub const REQUESTS_MAX: usize = 240;
/// Announcements waiting for it; they go before everything else.
pub const ANNOUNCEMENTS_MAX: usize = 16;
/// How long for a place; then the answer is 503. A crowd that comes at once is through in a fraction of this.
const PLACE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of the node loop may take.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// One question to the node loop. A reply whose receiver is gone is dropped.
#[derive(Debug)]
pub enum NodeRequest {
    /// Every live stream of the mesh.
    Streams {
        /// In the order of their names.
        reply: oneshot::Sender<Vec<api::Stream>>,
    },
    /// Relays and links.
    Mesh {
        /// As this relay sees them.
        reply: oneshot::Sender<api::Mesh>,
    },
    /// Say something in a room, or announce it; answered once it is on disk.
    Post {
        /// The room, or announcements.
        topic: Topic,
        /// The message, with a nonce.
        new: NewMessage,
        /// Who says it. What the organizer announces is not counted.
        speaker: Speaker,
        /// Its id, and where it is on disk.
        reply: oneshot::Sender<Result<Posted, PostError>>,
    },
    /// The newest messages of a room, or announcements, or those after one.
    History {
        /// The room, or announcements.
        topic: Topic,
        /// The id of the last message that is known.
        after: Option<String>,
        /// How many at most.
        limit: usize,
        /// In display order.
        reply: oneshot::Sender<Result<Vec<api::Message>, RoomsError>>,
    },
    /// Streams whose rungs are closed, because the machine is short of CPU.
    ClosedRungs {
        /// Their names.
        reply: oneshot::Sender<Vec<StreamName>>,
    },
    /// WHIP or WHEP: an offer.
    Open {
        /// Which of the two.
        direction: Direction,
        /// The stream.
        stream: StreamName,
        /// Who offers: it takes of their share of places.
        whose: Whose,
        /// The offer, parsed.
        offer: Box<Offer>,
        /// How a listener asks for its sound, if it does.
        frames: Option<Frames>,
        /// The answer.
        reply: oneshot::Sender<Result<Opened, SessionError>>,
    },
    /// How a session is.
    Session {
        /// This one.
        session: SessionId,
        /// `None` if there is none.
        reply: oneshot::Sender<Option<api::Session>>,
    },
    /// Whose a session is, whose data channels have something to say.
    Whose {
        /// This one.
        session: SessionId,
        /// `None` if there is none.
        reply: oneshot::Sender<Option<Whose>>,
    },
    /// WHIP or WHEP: trickled candidates or an ICE restart.
    Patch {
        /// Which of the two.
        direction: Direction,
        /// The stream.
        stream: StreamName,
        /// The session.
        session: SessionId,
        /// The condition.
        if_match: IfMatch,
        /// The body, parsed.
        fragment: Fragment,
        /// What came of it.
        reply: oneshot::Sender<Result<Patched, SessionError>>,
    },
    /// WHEP: a listener wishes another picture.
    Wish {
        /// The stream.
        stream: StreamName,
        /// The session.
        session: SessionId,
        /// What it wishes.
        wish: LayerWish,
        /// Whether that is understood.
        reply: oneshot::Sender<Result<(), WishError>>,
    },
    /// WHEP: somebody reads what a listener sees.
    Watch {
        /// The stream.
        stream: StreamName,
        /// The session.
        session: SessionId,
        /// What it sees from now on.
        reply: oneshot::Sender<Result<Watching, SessionError>>,
    },
    /// WHIP or WHEP: the session is over.
    End {
        /// Which of the two.
        direction: Direction,
        /// The stream.
        stream: StreamName,
        /// The session.
        session: SessionId,
        /// Whether there was one.
        reply: oneshot::Sender<Result<(), SessionError>>,
    },
    /// A participant enters a room.
    Enter {
        /// The room.
        room: RoomName,
        /// What the participant gets.
        reply: oneshot::Sender<Result<Entered, RoomsError>>,
    },
    /// A participant leaves. It may come after the node loop noticed by itself that the receiver of
    /// [`Entered::events`] is gone.
    Leave {
        /// The room.
        room: RoomName,
        /// Who [`Entered`] says it is.
        participant: ParticipantId,
    },
    /// Something about files.
    File(FileRequest),
}

/// What HTTP asks the node loop about files.
#[derive(Debug)]
pub enum FileRequest {
    /// Announce a file that is on disk in a room; answered like a message.
    Share {
        /// The room.
        room: RoomName,
        /// The file.
        new: NewFile,
        /// What it is made of.
        manifest: Manifest,
        /// Its id.
        reply: oneshot::Sender<Result<Posted, PostError>>,
    },
    /// The files of a room.
    List {
        /// The room.
        room: RoomName,
        /// In display order.
        reply: oneshot::Sender<Vec<api::SharedFile>>,
    },
    /// What a file is made of, if that is known here.
    Manifest {
        /// The file.
        file: FileId,
        /// All of it.
        reply: oneshot::Sender<Option<Manifest>>,
    },
    /// A chunk is needed here: answered once it is, or cannot be.
    Want {
        /// The file.
        file: FileId,
        /// The chunk.
        chunk: Chunk,
        /// Whether it is here now.
        reply: oneshot::Sender<Result<(), NoChunk>>,
    },
}

/// A participant's place in a room.
#[derive(Debug)]
pub struct Entered {
    /// To leave with.
    pub participant: ParticipantId,
    /// [`FromRelay::Welcome`]: the first thing to send.
    pub welcome: FromRelay,
    /// What to send then, bounded by [`super::outbox::PARTICIPANT_EVENTS_MAX`]. It ends when the participant was too
    /// slow or the relay stops.
    pub events: Inbox,
}

/// What a listener sees, for somebody who reads it.
#[derive(Debug)]
pub struct Watching {
    /// The state that is there is of now: otherwise a newer one comes in a moment.
    pub fresh: bool,
    /// The newest state. It ends when the session does, when the relay stops, and when too many others read.
    pub events: watch::Receiver<Seen>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The queue is full, or the answer took too long.
    #[error("this relay is busy: try again in a second")]
    Busy,
    /// The node loop has ended.
    #[error("this relay is stopping: try again in a few seconds")]
    Stopped,
}

/// The asking end.
#[derive(Debug, Clone)]
pub struct Requests {
    announcements: mpsc::Sender<NodeRequest>,
    others: mpsc::Sender<NodeRequest>,
}

/// The node loop's end.
#[derive(Debug)]
pub struct RequestQueue {
    announcements: mpsc::Receiver<NodeRequest>,
    others: mpsc::Receiver<NodeRequest>,
}

/// A reply that is on its way.
#[derive(Debug)]
pub struct Answer<T>(oneshot::Receiver<T>);

impl<T> Answer<T> {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// [`RequestError::Busy`] if it takes too long, [`RequestError::Stopped`] if the node loop has ended.
    pub async fn wait(self) -> Result<T, RequestError> {
        match tokio::time::timeout(REPLY_TIMEOUT, self.0).await {
            Ok(answer) => answer.map_err(|_| RequestError::Stopped),
            Err(_) => Err(RequestError::Busy),
        }
    }

    /// Waits for it, however long it takes: for what has to know.
    ///
    /// # Errors
    ///
    /// [`RequestError::Stopped`] if the node loop has ended.
    pub async fn wait_to_the_end(self) -> Result<T, RequestError> {
        self.0.await.map_err(|_| RequestError::Stopped)
    }
}

/// The queues between those who ask and the node loop.
pub fn queue() -> (Requests, RequestQueue) {
    let (to_announcements, announcements) = mpsc::channel(ANNOUNCEMENTS_MAX);
    let (to_others, others) = mpsc::channel(REQUESTS_MAX);
    (Requests { announcements: to_announcements, others: to_others }, RequestQueue { announcements, others })
}

impl RequestQueue {
    /// The next one; `None` once nobody can ask any more. Nothing is lost if this is dropped while it waits.
    pub async fn recv(&mut self) -> Option<NodeRequest> {
        tokio::select! {
            biased;
            Some(ask) = self.announcements.recv() => Some(ask),
            Some(ask) = self.others.recv() => Some(ask),
            else => None,
        }
    }

    /// Nothing more is taken.
    #[cfg(test)]
    pub fn close(&mut self) {
        self.announcements.close();
        self.others.close();
    }
}

impl Requests {
    /// Asks and waits for the reply: `requests.ask(|reply| NodeRequest::Streams { reply }).await`.
    ///
    /// # Errors
    ///
    /// [`RequestError::Busy`] if no place comes free in time or the reply takes too long,
    /// [`RequestError::Stopped`] if the node loop has ended.
    pub async fn ask<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> NodeRequest,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        let ask = make(reply);
        let sent = self.way_of(&ask).send_timeout(ask, PLACE_TIMEOUT).await;
        counted(sent.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => RequestError::Busy,
            mpsc::error::SendTimeoutError::Closed(_) => RequestError::Stopped,
        }))?;
        Answer(answer).wait().await
    }

    /// Asks at once or not at all; the reply can be waited for elsewhere.
    ///
    /// # Errors
    ///
    /// [`RequestError::Busy`] if there is no place, [`RequestError::Stopped`] if the node loop has ended.
    pub fn put<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> NodeRequest,
    ) -> Result<Answer<T>, RequestError> {
        let (reply, answer) = oneshot::channel();
        let ask = make(reply);
        counted(self.way_of(&ask).try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RequestError::Busy,
            mpsc::error::TrySendError::Closed(_) => RequestError::Stopped,
        }))?;
        Ok(Answer(answer))
    }

    /// Tells without an answer, waiting for a place in the queue: what must not get lost.
    pub async fn tell(&self, ask: NodeRequest) {
        // The error says that the node loop has ended, and then there is nobody to tell.
        let _ = self.way_of(&ask).send(ask).await;
    }

    fn way_of(&self, ask: &NodeRequest) -> &mpsc::Sender<NodeRequest> {
        match ask {
            NodeRequest::Post { topic: Topic::Announcements, .. } => &self.announcements,
            _ => &self.others,
        }
    }
}

fn counted(sent: Result<(), RequestError>) -> Result<(), RequestError> {
    if sent == Err(RequestError::Busy) {
        DropReason::AskQueueFull.count();
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_busy_and_an_ended_loop_is_stopped() {
        let (requests, mut queue) = queue();
        let put = |requests: &Requests| requests.put(|reply| NodeRequest::Streams { reply }).map(drop);
        for _ in 0..REQUESTS_MAX {
            assert_eq!(put(&requests), Ok(()));
        }
        assert_eq!(requests.ask(|reply| NodeRequest::Mesh { reply }).await, Err(RequestError::Busy));
        // What the organizer says finds room where nothing else does.
        let announce = || {
            let new = NewMessage { author: "Safety".into(), text: "Storm".into(), nonce: None };
            let speaker = Speaker { address: [10, 0, 0, 1].into(), participant: None };
            let post = |reply| NodeRequest::Post { topic: Topic::Announcements, new, speaker, reply };
            requests.put(post).map(drop)
        };
        for _ in 0..ANNOUNCEMENTS_MAX {
            assert_eq!(announce(), Ok(()));
        }
        assert_eq!(announce(), Err(RequestError::Busy));
        // A crowd waits, and gets in while the loop goes on; announcements were first.
        let waits =
            tokio::spawn(async move { requests.ask(|reply| NodeRequest::Mesh { reply }).await.map(drop) });
        tokio::task::yield_now().await;
        for _ in 0..ANNOUNCEMENTS_MAX {
            assert!(matches!(queue.recv().await, Some(NodeRequest::Post { .. })));
        }
        let mut mesh = 0;
        while let Some(ask) = queue.recv().await {
            match ask {
                NodeRequest::Mesh { .. } => mesh += 1,
                _ => assert!(matches!(ask, NodeRequest::Streams { .. })),
            }
        }
        assert_eq!(
            (mesh, waits.await.expect("it ends")),
            (1, Err(RequestError::Stopped)),
            "its reply was dropped"
        );
        let (requests, mut queue) = super::queue();
        queue.close();
        assert_eq!(requests.ask(|reply| NodeRequest::Mesh { reply }).await, Err(RequestError::Stopped));
    }
}
