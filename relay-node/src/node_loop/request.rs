//! What HTTP and WebSocket code asks the node loop: bounded queues in, one reply each.
//! The node loop owns all state; who asks never touches it.

use std::time::Duration;

use media::sdp::{Fragment, Offer};
use protocol::{
    RoomName, SessionId, StreamName, Topic,
    api::{self, NewMessage, Posted},
    signaling::FromRelay,
};
use rooms::{ParticipantId, RoomsError};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::{file_requests::FileAsk, outbox::Inbox};
use crate::{
    node::{
        allowance::Speaker,
        posts::PostError,
        sessions::{Direction, IfMatch, Opened, Patched, SessionError},
    },
    places::shares::Holder,
};

/// Questions waiting for the node loop. Who finds it full waits for a place, in turn.
pub const ASKS_MAX: usize = 240;
/// Announcements waiting for it; they go before everything else.
pub const ANNOUNCEMENTS_MAX: usize = 16;
/// How long for a place; then the answer is 503. A crowd that comes at once is through in a fraction of this.
const PLACE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of the node loop may take.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// One question to the node loop. A reply whose receiver is gone is dropped.
#[derive(Debug)]
pub enum Ask {
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
    /// WHIP or WHEP: an offer.
    Open {
        /// Which of the two.
        direction: Direction,
        /// The stream.
        stream: StreamName,
        /// Whose share of places it takes.
        holder: Holder,
        /// The offer, parsed.
        offer: Box<Offer>,
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
    /// A WebSocket opens in a room.
    Enter {
        /// The room.
        room: RoomName,
        /// What the participant gets.
        reply: oneshot::Sender<Result<Entered, RoomsError>>,
    },
    /// A WebSocket closed. It may come after the node loop noticed by itself that the receiver of
    /// [`Entered::events`] is gone.
    Leave {
        /// The room.
        room: RoomName,
        /// Who [`Entered`] says it is.
        participant: ParticipantId,
    },
    /// Something about files.
    File(FileAsk),
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

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// The queue is full, or the answer took too long.
    #[error("this relay is busy: try again in a second")]
    Busy,
    /// The node loop has ended.
    #[error("this relay is stopping: try again in a few seconds")]
    Stopped,
}

/// The asking end.
#[derive(Debug, Clone)]
pub struct Asks {
    announcements: mpsc::Sender<Ask>,
    others: mpsc::Sender<Ask>,
}

/// The node loop's end.
#[derive(Debug)]
pub struct Questions {
    announcements: mpsc::Receiver<Ask>,
    others: mpsc::Receiver<Ask>,
}

/// A reply that is on its way.
#[derive(Debug)]
pub struct Answer<T>(oneshot::Receiver<T>);

impl<T> Answer<T> {
    /// Waits for it.
    pub async fn wait(self) -> Result<T, AskError> {
        match tokio::time::timeout(REPLY_TIMEOUT, self.0).await {
            Ok(answer) => answer.map_err(|_| AskError::Stopped),
            Err(_) => Err(AskError::Busy),
        }
    }

    /// Waits for it, however long it takes: for what has to know.
    pub async fn wait_to_the_end(self) -> Result<T, AskError> {
        self.0.await.map_err(|_| AskError::Stopped)
    }
}

/// The queues between those who ask and the node loop.
pub fn queue() -> (Asks, Questions) {
    let (to_announcements, announcements) = mpsc::channel(ANNOUNCEMENTS_MAX);
    let (to_others, others) = mpsc::channel(ASKS_MAX);
    (Asks { announcements: to_announcements, others: to_others }, Questions { announcements, others })
}

impl Questions {
    /// The next one; `None` once nobody can ask any more. Nothing is lost if this is dropped while it waits.
    pub async fn recv(&mut self) -> Option<Ask> {
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

impl Asks {
    /// Asks and waits for the reply: `asks.ask(|reply| Ask::Streams { reply }).await`.
    pub async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        let ask = make(reply);
        let sent = self.way_of(&ask).send_timeout(ask, PLACE_TIMEOUT).await;
        counted(sent.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => AskError::Busy,
            mpsc::error::SendTimeoutError::Closed(_) => AskError::Stopped,
        }))?;
        Answer(answer).wait().await
    }

    /// Asks at once or not at all; the reply can be waited for elsewhere.
    pub fn put<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<Answer<T>, AskError> {
        let (reply, answer) = oneshot::channel();
        let ask = make(reply);
        counted(self.way_of(&ask).try_send(ask).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Stopped,
        }))?;
        Ok(Answer(answer))
    }

    /// Tells without an answer, waiting for a place in the queue: what must not get lost.
    pub async fn tell(&self, ask: Ask) {
        // The error says that the node loop has ended, and then there is nobody to tell.
        let _ = self.way_of(&ask).send(ask).await;
    }

    fn way_of(&self, ask: &Ask) -> &mpsc::Sender<Ask> {
        match ask {
            Ask::Post { topic: Topic::Announcements, .. } => &self.announcements,
            _ => &self.others,
        }
    }
}

fn counted(sent: Result<(), AskError>) -> Result<(), AskError> {
    if sent == Err(AskError::Busy) {
        metrics::counter!("relay_drop_total", "reason" => "ask_queue_full").increment(1);
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_busy_and_an_ended_loop_is_stopped() {
        let (asks, mut queue) = queue();
        let put = |asks: &Asks| asks.put(|reply| Ask::Streams { reply }).map(drop);
        for _ in 0..ASKS_MAX {
            assert_eq!(put(&asks), Ok(()));
        }
        assert_eq!(asks.ask(|reply| Ask::Mesh { reply }).await, Err(AskError::Busy));
        // What the organizer says finds room where nothing else does.
        let announce = || {
            let new = NewMessage { author: "Safety".into(), text: "Storm".into(), nonce: None };
            let speaker = Speaker { address: [10, 0, 0, 1].into(), participant: None };
            let post = |reply| Ask::Post { topic: Topic::Announcements, new, speaker, reply };
            asks.put(post).map(drop)
        };
        for _ in 0..ANNOUNCEMENTS_MAX {
            assert_eq!(announce(), Ok(()));
        }
        assert_eq!(announce(), Err(AskError::Busy));
        // A crowd waits, and gets in while the loop goes on; announcements were first.
        let waits = tokio::spawn(async move { asks.ask(|reply| Ask::Mesh { reply }).await.map(drop) });
        tokio::task::yield_now().await;
        for _ in 0..ANNOUNCEMENTS_MAX {
            assert!(matches!(queue.recv().await, Some(Ask::Post { .. })));
        }
        let mut mesh = 0;
        while let Some(ask) = queue.recv().await {
            match ask {
                Ask::Mesh { .. } => mesh += 1,
                _ => assert!(matches!(ask, Ask::Streams { .. })),
            }
        }
        assert_eq!(
            (mesh, waits.await.expect("it ends")),
            (1, Err(AskError::Stopped)),
            "its reply was dropped"
        );
        let (asks, mut queue) = super::queue();
        queue.close();
        assert_eq!(asks.ask(|reply| Ask::Mesh { reply }).await, Err(AskError::Stopped));
    }
}
