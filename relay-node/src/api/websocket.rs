//! The WebSocket of a room: one task for each participant, between the browser and the node loop.
//! `docs/signaling.md` is the manual; what a room is and who is told what is decided elsewhere.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, Path, Request, State},
    response::Response,
};
use protocol::{
    RoomName, Topic,
    api::{NewMessage, Posted},
    signaling::{FromParticipant, FromRelay},
};
use rooms::ParticipantId;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{
    ApiState,
    error::ApiError,
    socket::{Socket, Upgrade},
};
use crate::{
    client::Client,
    clock,
    drop_reason::DropReason,
    node::{allowance::Speaker, posts::PostError},
    node_loop::{
        outbox::words,
        request::{Entered, NodeRequest, Requests},
    },
    places::{
        Held, Places,
        shares::{GivesWay, Policy, Standing},
    },
};

/// WebSockets at a time.
const PARTICIPANTS_MAX: usize = 4000;
/// A participant that gave no sign of life for so long after it came gives way to others of its address.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of one message of a participant.
pub const MESSAGE_MAX: usize = 16 * 1024;
/// Between pings of the relay.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Without a sign of life for this long the connection is gone.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// How long the last message may take to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages a participant may send in a row, and then each second, whatever they say: chat has limits of its own.
const BURST: f64 = 30.0;
const PER_SECOND: f64 = 10.0;
/// Messages in a row that make no sense, or come too fast, until the connection is closed.
const SENSELESS_MAX: u32 = 5;
const TOO_FAST_MAX: u32 = 100;

/// Close codes (RFC 6455 section 7.4.1; 1013 is registered by IANA).
mod close_code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const AWAY: u16 = 1001;
    pub(super) const POLICY: u16 = 1008;
    pub(super) const AGAIN: u16 = 1013;
}

/// Places of participants, shared between their addresses. Who has given a sign of life has proven itself.
pub fn places() -> Places {
    let policy = Policy { gives_way: GivesWay::Youngest, patience: PATIENCE };
    Places::new(PARTICIPANTS_MAX, policy, DropReason::WebsocketGaveWay, DropReason::WebsocketRefused)
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
    let full = "too many people are here: try again in a few seconds";
    let place = state.participants.take(client.holder()).map_err(|_| ApiError::unavailable(full, 10))?;
    let entering = room.clone();
    let entered = state.requests.ask(|reply| NodeRequest::Enter { room: entering, reply }).await??;
    let presence = Presence {
        requests: state.requests,
        room,
        participant: entered.participant,
        address: client.address,
    };
    Ok(upgrade.answer(MESSAGE_MAX, move |socket| Conversation::new(socket, presence, place).run(entered)))
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

struct Conversation {
    socket: Socket,
    presence: Presence,
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

/// Why a conversation ends: code and reason of the close frame.
struct End(u16, &'static str);

const GONE: End = End(close_code::NORMAL, "");

impl Conversation {
    fn new(socket: Socket, presence: Presence, place: Held) -> Conversation {
        Conversation {
            socket,
            presence,
            place: Arc::new(place),
            proven: false,
            allowance: Allowance::new(clock::now()),
            saying: JoinSet::new(),
            senseless: 0,
            too_fast: 0,
        }
    }

    async fn run(mut self, entered: Entered) {
        let place = self.place.clone();
        let End(code, reason) = tokio::select! {
            Err(end) = self.talk(entered) => end,
            () = place.lost() => End(close_code::AGAIN, "others need this place: connect again later"),
        };
        // It may be gone already.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.close(code, reason)).await;
    }

    async fn talk(&mut self, mut entered: Entered) -> Result<std::convert::Infallible, End> {
        // The welcome is large, and told once.
        let welcome = words(&entered.welcome);
        drop(std::mem::replace(&mut entered.welcome, FromRelay::Presence { present: 0 }));
        self.send(welcome).await?;
        // Whoever answers has read it.
        self.socket.ping().await.map_err(|_| GONE)?;
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let mut heard = clock::now();
        loop {
            tokio::select! {
                event = entered.events.next() => match event {
                    Some(text) => self.send(text).await?,
                    None => return Err(End(close_code::AGAIN, "too slow, or the relay is stopping: connect again")),
                },
                message = self.socket.recv() => {
                    heard = clock::now();
                    match message {
                        Some(Ok(message)) => {
                            self.prove();
                            self.handle(message).await?;
                        }
                        Some(Err(_)) => return Err(End(close_code::POLICY, "not a valid message, or too long")),
                        None => return Err(GONE),
                    }
                }
                // Never empty for long: the guard keeps an empty set from spinning.
                Some(said) = self.saying.join_next(), if !self.saying.is_empty() => {
                    if let Ok(event) = said {
                        self.tell(&event).await?;
                    }
                }
                _ = ping.tick() => {
                    if clock::now().duration_since(heard) > SILENCE_MAX {
                        return Err(End(close_code::AWAY, "no sign of life"));
                    }
                    self.socket.ping().await.map_err(|_| GONE)?;
                }
            }
        }
    }

    async fn handle(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => {
                return self.refuse_senseless("send JSON as text, not as binary".into()).await;
            }
            Message::Close(_) => return Err(GONE),
            // Answered by the library; single frames are not given out.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
        };
        if !self.allowance.take(clock::now()) {
            self.too_fast += 1;
            if self.too_fast >= TOO_FAST_MAX {
                return Err(End(close_code::POLICY, "far too many messages"));
            }
            let nonce = nonce_of(&text);
            let reason = format!("too fast: at most {PER_SECOND} messages per second");
            let retry_after_ms = Some((1000.0 / PER_SECOND) as u64);
            return self.tell(&FromRelay::Refused { nonce, reason, retry_after_ms }).await;
        }
        self.too_fast = 0;
        match serde_json::from_str(&text) {
            Ok(FromParticipant::Say { author, text, nonce }) => {
                self.senseless = 0;
                self.say(author, text, nonce);
                Ok(())
            }
            Err(error) => self.refuse_senseless(format!("this message is not understood: {error}")).await,
        }
    }

    /// Asks in order; the answers come when they come, and nothing else waits for them.
    fn say(&mut self, author: String, text: String, nonce: String) {
        let new = crate::api::rooms::with_nonce(NewMessage { author, text, nonce: Some(nonce.clone()) });
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

    async fn refuse_senseless(&mut self, reason: String) -> Result<(), End> {
        self.senseless += 1;
        self.tell(&FromRelay::Refused { nonce: None, reason, retry_after_ms: None }).await?;
        if self.senseless >= SENSELESS_MAX {
            return Err(End(close_code::POLICY, "too many messages that are not understood"));
        }
        Ok(())
    }

    fn prove(&mut self) {
        if !self.proven {
            self.proven = true;
            self.place.stand(Standing::Proven);
        }
    }

    async fn tell(&mut self, event: &FromRelay) -> Result<(), End> {
        self.send(words(event)).await
    }

    /// A participant that does not read is cut by its connection (`api/pace.rs`), however much there is to send.
    async fn send(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.socket.send_text(text).await.map_err(|_| GONE)
    }
}

/// The nonce of a message that is otherwise not looked at.
fn nonce_of(text: &str) -> Option<String> {
    match serde_json::from_str(text) {
        Ok(FromParticipant::Say { nonce, .. }) => Some(nonce),
        Err(_) => None,
    }
}

/// How many messages a participant may send now: it grows with time, up to [`BURST`].
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Allowance {
        Allowance { left: BURST, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        self.left = (self.left + grown).min(BURST);
        self.at = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_participant_may_burst_and_then_speak_steadily() {
        let start = clock::now();
        let mut allowance = Allowance::new(start);
        assert_eq!((0..100).filter(|_| allowance.take(start)).count(), 30);
        let later = start + Duration::from_millis(501);
        assert_eq!((0..100).filter(|_| allowance.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| allowance.take(much_later)).count(), 30);
    }
}
