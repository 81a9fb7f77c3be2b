//! `chat`: a room of a relay over its WebSocket or a data channel; messages come out, lines go in.
//! The JSON is that of `protocol::signaling`.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use protocol::signaling::{FromParticipant, FromRelay};
use protocol::{RoomName, api};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::channel::{self, Channel, Channels};
use crate::endpoint::http_url;
use crate::error::{Error, innermost};

/// The longest message of a relay that is read: a history of a room is the longest there is.
const LONGEST_MESSAGE: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A room, joined.
pub struct Chat {
    way: Way,
    url: String,
    author: String,
    said: u64,
    /// Makes nonces of this participant different from every other's.
    own: u64,
}

/// How its messages come and go.
enum Way {
    Socket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Channel(Box<Channels>, Channel),
}

impl Chat {
    /// Joins a room over a data channel of a session of its own, without a WebSocket.
    ///
    /// # Errors
    /// As [`Chat::join`], and what [`Channels::open`] says.
    pub async fn join_by_channel(
        base: &str,
        room: &str,
        author: &str,
        token: Option<&str>,
    ) -> Result<Self, Error> {
        let room = checked(room, author)?;
        let label = format!("room/1/{room}");
        let (channels, channel) = Channels::open(base, &label, token.map(str::to_owned)).await?;
        Ok(Chat::new(Way::Channel(Box::new(channels), channel), format!("{base} {label}"), author))
    }

    fn new(way: Way, url: String, author: &str) -> Chat {
        Chat { way, url, author: author.to_owned(), said: 0, own: rand::random() }
    }

    /// Joins a room of the relay at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// [`Error::Usage`] for names that cannot be, [`Error::Unreachable`], [`Error::Refused`].
    pub async fn join(base: &str, room: &str, author: &str, token: Option<&str>) -> Result<Self, Error> {
        let room = checked(room, author)?;
        let url = websocket_url(base, &room)?;
        let mut request = url
            .as_str()
            .into_client_request()
            .map_err(|error| Error::Usage(format!("{url}: {}", innermost(&error))))?;
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Error::Usage("--token: not a token a header can carry".to_owned()))?;
            request.headers_mut().insert("authorization", value);
        }
        let config = WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE));
        let connecting = connect_async_with_config(request, Some(config), true);
        let (socket, _) = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| Error::Unreachable { url: url.clone(), reason: "no answer in time".to_owned() })?
            .map_err(|error| refusal(&url, error))?;
        Ok(Chat::new(Way::Socket(Box::new(socket)), url, author))
    }

    /// Says something; the answer comes as [`FromRelay::Said`] or [`FromRelay::Refused`] with the nonce
    /// returned here.
    ///
    /// # Errors
    /// [`Error::WebSocket`] or [`Error::Channel`] once the connection is gone.
    pub async fn say(&mut self, text: &str) -> Result<String, Error> {
        self.said += 1;
        let nonce = format!("{:016x}-{}", self.own, self.said);
        let say =
            FromParticipant::Say { author: self.author.clone(), text: text.to_owned(), nonce: nonce.clone() };
        let json = serde_json::to_string(&say).expect("strings always serialize");
        match &mut self.way {
            Way::Socket(socket) => socket.send(Message::text(json)).await.map_err(websocket)?,
            Way::Channel(_, channel) => channel.send_text(&json).await?,
        }
        Ok(nonce)
    }

    /// Says something and waits for the relay to accept it; returns its id.
    ///
    /// # Errors
    /// [`Error::Refused`] when the relay does not, [`Error::WebSocket`] when it goes first.
    pub async fn say_and_wait(&mut self, text: &str) -> Result<String, Error> {
        let own = self.say(text).await?;
        while let Some(message) = self.next().await? {
            match message {
                FromRelay::Said { nonce, id, .. } if nonce == own => return Ok(id),
                FromRelay::Refused { nonce, reason, .. } if nonce.as_ref().is_none_or(|n| *n == own) => {
                    return Err(Error::Refused {
                        url: self.url.clone(),
                        status: 422,
                        title: reason,
                        detail: None,
                        retry_after: None,
                    });
                }
                _ => {}
            }
        }
        Err(Error::WebSocket("the relay closed the room before it accepted the message".to_owned()))
    }

    /// The next thing the relay says; `None` once it closed the room. What this client does not know is
    /// passed over.
    ///
    /// # Errors
    /// [`Error::WebSocket`].
    pub async fn next(&mut self) -> Result<Option<FromRelay>, Error> {
        while let Some(text) = self.next_text().await? {
            match serde_json::from_str(&text) {
                Ok(message) => return Ok(Some(message)),
                Err(error) => tracing::warn!("passed over what the relay said: {error}"),
            }
        }
        Ok(None)
    }

    /// Leaves the room.
    pub async fn leave(self) {
        match self.way {
            // Leaving a room that is gone is leaving it.
            Way::Socket(mut socket) => drop(socket.as_mut().close(None).await),
            Way::Channel(channels, _) => channels.close().await,
        }
    }

    async fn next_text(&mut self) -> Result<Option<String>, Error> {
        match &mut self.way {
            Way::Socket(socket) => {
                while let Some(message) = socket.next().await {
                    match message.map_err(websocket)? {
                        Message::Text(text) => return Ok(Some(text.as_str().to_owned())),
                        Message::Close(_) => return Ok(None),
                        _ => {}
                    }
                }
            }
            Way::Channel(_, channel) => {
                while let Some(message) = channel.next().await {
                    if let channel::Message::Text(text) = message {
                        return Ok(Some(text));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// The chat messages in what a relay said, oldest first.
pub fn messages(said: FromRelay) -> Vec<api::Message> {
    match said {
        FromRelay::Welcome { history, .. } => history,
        FromRelay::Message { message } => vec![message],
        _ => Vec::new(),
    }
}

fn checked(room: &str, author: &str) -> Result<RoomName, Error> {
    if author.is_empty() || author.chars().count() > 64 {
        return Err(Error::Usage("--author: use 1 to 64 characters".to_owned()));
    }
    room.parse().map_err(|error| Error::Usage(format!("--room: {error}")))
}

fn websocket_url(base: &str, room: &RoomName) -> Result<String, Error> {
    let base = http_url(base)?;
    let joined = base
        .join(&format!("/api/v1/rooms/{room}/ws"))
        .map_err(|error| Error::Usage(format!("{base}: {error}")))?;
    Ok(joined.as_str().replacen("http", "ws", 1))
}

fn refusal(url: &str, error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Http(response) => Error::Refused {
            url: url.to_owned(),
            status: response.status().as_u16(),
            title: response
                .body()
                .as_ref()
                .and_then(|body| serde_json::from_slice::<api::Problem>(body).ok())
                .map(|problem| problem.title)
                .unwrap_or_else(|| "no WebSocket there".to_owned()),
            detail: None,
            retry_after: None,
        },
        error => Error::Unreachable { url: url.to_owned(), reason: innermost(&error) },
    }
}

fn websocket(error: tungstenite::Error) -> Error {
    Error::WebSocket(innermost(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_below_the_relay_s_address() {
        let room: RoomName = "main".parse().unwrap();
        let url = websocket_url("http://10.0.0.2:8080", &room).unwrap();
        assert_eq!(url, "ws://10.0.0.2:8080/api/v1/rooms/main/ws");
    }

    #[tokio::test]
    async fn names_that_cannot_be_are_a_matter_of_usage() {
        for (base, room, author) in
            [("http://a", "No Room", "ann"), ("http://a", "main", ""), ("a", "main", "ann")]
        {
            assert_eq!(Chat::join(base, room, author, None).await.err().unwrap().exit_code(), 64);
        }
    }
}
