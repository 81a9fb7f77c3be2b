//! What a participant of a room says and is told, whichever way it came: over a WebSocket (`api/websocket.rs`) or a data
//! channel (`channels/room.rs`). Owns the participant's presence, its place, what it may say how fast, and when it has to
//! go. `docs/signaling.md` is the manual; what a room is and who is told what is decided elsewhere.

mod allowance;

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    RoomName, Topic,
    api::{NewMessage, Posted},
    signaling::{FromParticipant, FromRelay},
};
use rooms::{ParticipantId, RoomsError};
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    client::Client,
    clock,
    drop_reason::DropReason,
    node::{allowance::Speaker, posts::PostError},
    node_loop::{
        outbox::{Inbox, words},
        request::{NodeRequest, RequestError, Requests},
    },
    places::{
        Held, Places,
        shares::{Full, GivesWay, Policy, Standing},
    },
};
use allowance::{Allowance, PER_SECOND};

/// Participants at a time, over WebSockets and data channels.
const PARTICIPANTS_MAX: usize = 4000;
/// A participant that gave no sign of life for so long after it came gives way to others of its address.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of one message of a participant.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// Messages in a row that make no sense, or come too fast, until the participant has to go.
const SENSELESS_MAX: u32 = 5;
const TOO_FAST_MAX: u32 = 100;

/// Places of participants, shared between their addresses. Who has given a sign of life has proven itself.
pub fn places() -> Places {
    let policy = Policy { gives_way: GivesWay::Youngest, patience: PATIENCE };
    Places::new(PARTICIPANTS_MAX, policy, DropReason::WebsocketGaveWay, DropReason::WebsocketRefused)
}

/// Why somebody did not get into a room.
#[derive(Debug, Error)]
pub enum EnterError {
    /// No place at this relay.
    #[error("too many people are here: try again in a few seconds")]
    Full,
    /// No place in the room.
    #[error(transparent)]
    Room(#[from] RoomsError),
    /// No answer.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl From<Full> for EnterError {
    fn from(_: Full) -> EnterError {
        EnterError::Full
    }
}

/// Why a conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum End {
    /// It fell too far behind, or the relay stops.
    #[error("too slow, or the relay is stopping: connect again")]
    Behind,
    /// The place was given to somebody else.
    #[error("others need this place: connect again later")]
    GaveWay,
    /// It went on far beyond its limit.
    #[error("far too many messages")]
    TooFast,
    /// It is not understood.
    #[error("too many messages that are not understood")]
    Senseless,
}

/// What came of something that a participant sent.
#[derive(Debug, Default)]
pub struct Heard {
    /// To be told at once.
    pub tell: Option<FromRelay>,
    /// Then it has to go.
    pub end: Option<End>,
}

/// One participant in one room. It leaves when this is dropped.
pub struct Conversation {
    presence: Presence,
    events: Inbox,
    place: Arc<Held>,
    /// It has given a sign of life.
    proven: bool,
    allowance: Allowance,
    /// What the participant said and is not answered: bounded by what is allowed to be said while one
    /// answer may take.
    saying: JoinSet<FromRelay>,
    senseless: u32,
    too_fast: u32,
}

/// Leaves the room when it is dropped, however that comes about.
struct Presence {
    requests: Requests,
    room: RoomName,
    participant: ParticipantId,
    address: IpAddr,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let (requests, room, participant) = (self.requests.clone(), self.room.clone(), self.participant);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { requests.tell(NodeRequest::Leave { room, participant }).await });
        }
    }
}

impl Conversation {
    /// Enters a room. The welcome is the first thing to tell.
    ///
    /// # Errors
    ///
    /// [`EnterError`]: there is no place here or in the room, or the node loop is busy or stops.
    pub async fn enter(
        requests: Requests,
        places: &Places,
        room: RoomName,
        client: Client,
    ) -> Result<(Conversation, FromRelay), EnterError> {
        let place = places.take(client.holder())?;
        let entering = room.clone();
        let entered = requests.ask(|reply| NodeRequest::Enter { room: entering, reply }).await??;
        let participant = entered.participant;
        let conversation = Conversation {
            presence: Presence { requests, room, participant, address: client.address },
            events: entered.events,
            place: Arc::new(place),
            proven: false,
            allowance: Allowance::new(clock::now()),
            saying: JoinSet::new(),
            senseless: 0,
            too_fast: 0,
        };
        Ok((conversation, entered.welcome))
    }

    /// The place it holds.
    pub fn place(&self) -> Arc<Held> {
        self.place.clone()
    }

    /// It gave a sign of life.
    pub fn prove(&mut self) {
        if !self.proven {
            self.proven = true;
            self.place.stand(Standing::Proven);
        }
    }

    /// It sent a text.
    pub fn handle_text(&mut self, text: &str) -> Heard {
        if !self.allowance.take(clock::now()) {
            self.too_fast += 1;
            if self.too_fast >= TOO_FAST_MAX {
                return Heard { tell: None, end: Some(End::TooFast) };
            }
            let nonce = nonce_of(text);
            let reason = format!("too fast: at most {PER_SECOND} messages per second");
            let retry_after_ms = Some((1000.0 / PER_SECOND) as u64);
            return Heard { tell: Some(FromRelay::Refused { nonce, reason, retry_after_ms }), end: None };
        }
        self.too_fast = 0;
        match serde_json::from_str(text) {
            Ok(FromParticipant::Say { author, text, nonce }) => {
                self.senseless = 0;
                self.say(author, text, nonce);
                Heard::default()
            }
            Err(error) => self.refuse_senseless(format!("this message is not understood: {error}")),
        }
    }

    /// It sent something that is no text.
    pub fn handle_binary(&mut self) -> Heard {
        self.refuse_senseless("send JSON as text, not as binary".into())
    }

    /// The next thing to tell. Nothing is lost if this is dropped while it waits.
    ///
    /// # Errors
    ///
    /// [`End::Behind`] once nothing is told any more.
    pub async fn next(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            tokio::select! {
                event = self.events.next() => return event.ok_or(End::Behind),
                // Never empty for long: the guard keeps an empty set from spinning.
                Some(said) = self.saying.join_next(), if !self.saying.is_empty() => {
                    if let Ok(event) = said {
                        return Ok(words(&event));
                    }
                }
            }
        }
    }

    /// Asks in order; the answers come when they come, and nothing else waits for them.
    fn say(&mut self, author: String, text: String, nonce: String) {
        let new = with_nonce(NewMessage { author, text, nonce: Some(nonce.clone()) });
        let topic = Topic::Room(self.presence.room.clone());
        let Presence { address, participant, .. } = self.presence;
        let speaker = Speaker { address, participant: Some(participant) };
        let asked = self.presence.requests.put(|reply| NodeRequest::Post { topic, new, speaker, reply });
        self.saying.spawn(async move {
            let (reason, wait) = match asked {
                Ok(answer) => match answer.wait().await {
                    Ok(Ok(Posted { id, saved })) => return FromRelay::Said { nonce, id, saved },
                    Ok(Err(error)) => {
                        let wait =
                            if let PostError::TooFast(error) = &error { Some(error.wait) } else { None };
                        (error.to_string(), wait)
                    }
                    Err(error) => (error.to_string(), None),
                },
                Err(error) => (error.to_string(), None),
            };
            // Up to the next millisecond: not a moment too early.
            let retry_after_ms = wait.map(|wait| wait.as_millis() as u64 + 1);
            FromRelay::Refused { nonce: Some(nonce), reason, retry_after_ms }
        });
    }

    fn refuse_senseless(&mut self, reason: String) -> Heard {
        self.senseless += 1;
        Heard {
            tell: Some(FromRelay::Refused { nonce: None, reason, retry_after_ms: None }),
            end: (self.senseless >= SENSELESS_MAX).then_some(End::Senseless),
        }
    }
}

/// A message without a nonce is meant to be said, even if it has been said before.
pub fn with_nonce(new: NewMessage) -> NewMessage {
    let nonce = new.nonce.filter(|nonce| !nonce.is_empty());
    let nonce = nonce.unwrap_or_else(|| hex::encode(rand::random::<[u8; 16]>()));
    NewMessage { nonce: Some(nonce), ..new }
}

/// The nonce of a message that is otherwise not looked at.
fn nonce_of(text: &str) -> Option<String> {
    match serde_json::from_str(text) {
        Ok(FromParticipant::Say { nonce, .. }) => Some(nonce),
        Err(_) => None,
    }
}
