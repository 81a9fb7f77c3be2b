//! The WebSocket of a room: one task for each participant, between the browser and the conversation.
//! `docs/signaling.md` is the manual; what is said and told is `conversation`'s.

use std::time::Duration;

use axum::{
    extract::{ConnectInfo, Path, Request, State},
    response::Response,
};
use protocol::{RoomName, signaling::FromRelay};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{
    ApiState,
    error::ApiError,
    socket::{Socket, Upgrade},
};
use crate::{
    client::Client,
    clock,
    conversation::{Conversation, End, EnterError, Heard, MESSAGE_MAX},
    node_loop::outbox::words,
};

/// Between pings of the relay.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Without a sign of life for this long the connection is gone.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// How long the last message may take to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Close codes (RFC 6455 section 7.4.1; 1013 is registered by IANA).
mod close_code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const AWAY: u16 = 1001;
    pub(super) const POLICY: u16 = 1008;
    pub(super) const AGAIN: u16 = 1013;
}

/// `GET /api/v1/rooms/{room}/ws`.
///
/// # Errors
///
/// 400 if the name is none of a room or the request asks for no WebSocket, 503 if there is no place here or
/// in the room, or the node loop is busy or stops.
pub async fn upgrade(
    State(state): State<ApiState>,
    ConnectInfo(client): ConnectInfo<Client>,
    Path(room): Path<String>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let room = RoomName::new(room)?;
    let upgrade = Upgrade::of(&mut request).map_err(|missing| {
        ApiError::bad_request("open this path as a WebSocket; for plain HTTP there is ../messages")
            .with_detail(missing)
    })?;
    let (talk, welcome) = Conversation::enter(state.requests, &state.participants, room, client).await?;
    Ok(upgrade.answer(MESSAGE_MAX, move |socket| Visit { socket, talk }.run(welcome)))
}

impl From<EnterError> for ApiError {
    fn from(error: EnterError) -> ApiError {
        match error {
            EnterError::Full => ApiError::unavailable(error.to_string(), 10),
            EnterError::Room(error) => error.into(),
            EnterError::Request(error) => error.into(),
        }
    }
}

struct Visit {
    socket: Socket,
    talk: Conversation,
}

/// Code and reason of the close frame.
struct Close(u16, String);

impl From<End> for Close {
    fn from(end: End) -> Close {
        let code = match end {
            End::Behind | End::GaveWay => close_code::AGAIN,
            End::TooFast | End::Senseless => close_code::POLICY,
        };
        Close(code, end.to_string())
    }
}

impl Close {
    fn gone() -> Close {
        Close(close_code::NORMAL, String::new())
    }
}

impl Visit {
    async fn run(mut self, welcome: FromRelay) {
        let place = self.talk.place();
        let Close(code, reason) = tokio::select! {
            Err(end) = self.talk(welcome) => end,
            () = place.lost() => End::GaveWay.into(),
        };
        // It may be gone already.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.close(code, reason)).await;
    }

    async fn talk(&mut self, welcome: FromRelay) -> Result<std::convert::Infallible, Close> {
        // The welcome is large, and told once.
        let text = words(&welcome);
        drop(welcome);
        self.send(text).await?;
        // Whoever answers has read it.
        self.socket.ping().await.map_err(|_| Close::gone())?;
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let mut heard = clock::now();
        loop {
            tokio::select! {
                text = self.talk.next() => self.send(text?).await?,
                message = self.socket.recv() => {
                    heard = clock::now();
                    match message {
                        Some(Ok(message)) => {
                            self.talk.prove();
                            self.handle(message).await?;
                        }
                        Some(Err(_)) => {
                            return Err(Close(close_code::POLICY, "not a valid message, or too long".to_owned()));
                        }
                        None => return Err(Close::gone()),
                    }
                }
                _ = ping.tick() => {
                    if clock::now().duration_since(heard) > SILENCE_MAX {
                        return Err(Close(close_code::AWAY, "no sign of life".to_owned()));
                    }
                    self.socket.ping().await.map_err(|_| Close::gone())?;
                }
            }
        }
    }

    async fn handle(&mut self, message: Message) -> Result<(), Close> {
        let Heard { tell, end } = match message {
            Message::Text(text) => self.talk.handle_text(&text),
            Message::Binary(_) => self.talk.handle_binary(),
            Message::Close(_) => return Err(Close::gone()),
            // Answered by the library; single frames are not given out.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
        };
        if let Some(event) = tell {
            self.send(words(&event)).await?;
        }
        end.map_or(Ok(()), |end| Err(end.into()))
    }

    /// A participant that does not read is cut by its connection (`api/pace.rs`), however much there is to send.
    async fn send(&mut self, text: Utf8Bytes) -> Result<(), Close> {
        self.socket.send_text(text).await.map_err(|_| Close::gone())
    }
}
