//! Data channels of a session: one of channels alone (`POST /whep/-`), or one that plays a stream too. What is said over a
//! channel is for others.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use crate::endpoint::{Endpoint, Session, http_url};
use crate::error::Error;
use crate::participant::Participant;
use crate::whip::{CONNECTION_TIMEOUT, resolve};

/// The longest message that a relay takes.
pub const LONGEST_MESSAGE: usize = 256 * 1024;
/// How long a channel may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// What waits in the library before more is given to it.
const BUFFERED: usize = 256 * 1024;
/// How often it is looked whether there is room.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A session with data channels.
pub struct Channels {
    participant: Participant,
    session: Session,
}

/// One data channel, open.
pub struct Channel(Arc<dyn DataChannel>);

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Anything else.
    Binary(Bytes),
}

impl Channels {
    /// A session of channels alone at the relay at `base`, such as `http://127.0.0.1:8080`, with a first channel of this
    /// label, open.
    ///
    /// # Errors
    /// [`Error::Usage`] for a URL that is none, and whatever [`Channels::beside`] says.
    pub async fn open(base: &str, label: &str, token: Option<String>) -> Result<(Channels, Channel), Error> {
        let url =
            http_url(base)?.join("/whep/-").map_err(|error| Error::Usage(format!("{base}: {error}")))?;
        Channels::beside(&Endpoint::new(url.as_str(), token)?, false, label).await
    }

    /// A session at a WHEP endpoint that asks for the stream's sound if it `listens`, with a first channel of this label, open.
    ///
    /// # Errors
    /// Whatever [`Endpoint::offer`] and [`Participant`] say, [`Error::Channel`] when the channel does not open; nothing is
    /// left behind at the relay.
    pub async fn beside(
        endpoint: &Endpoint,
        listens: bool,
        label: &str,
    ) -> Result<(Channels, Channel), Error> {
        let mut participant = Participant::new(resolve(endpoint).await?).await?;
        if listens {
            participant.ask_for(RtpCodecKind::Audio).await?;
        }
        let channel = participant.channel(label).await?;
        let offer = participant.offer().await?;
        let (answer, session) = endpoint.offer(offer).await?;
        let channels = Channels { participant, session };
        match channels.connect(answer, channel).await {
            Ok((channels, channel)) => Ok((channels, channel)),
            Err((channels, error)) => {
                channels.close().await;
                Err(error)
            }
        }
    }

    /// One more channel.
    ///
    /// # Errors
    /// [`Error::Webrtc`], [`Error::Channel`] when it does not open.
    pub async fn channel(&self, label: &str) -> Result<Channel, Error> {
        opened(self.participant.channel(label).await?).await
    }

    /// Ends the session.
    pub async fn close(self) {
        self.session.delete().await;
        self.participant.close().await;
    }

    async fn connect(
        mut self,
        answer: String,
        channel: Arc<dyn DataChannel>,
    ) -> Result<(Channels, Channel), (Channels, Error)> {
        let ready = async {
            self.participant.accept(answer).await?;
            self.participant.connected(CONNECTION_TIMEOUT).await?;
            opened(channel).await
        };
        match ready.await {
            Ok(channel) => Ok((self, channel)),
            Err(error) => Err((self, error)),
        }
    }
}

impl Channel {
    /// Sends text, once there is room.
    ///
    /// # Errors
    /// [`Error::Channel`] once it is closed.
    pub async fn send_text(&self, text: &str) -> Result<(), Error> {
        self.room().await?;
        self.0.send_text(text).await.map_err(broken)
    }

    /// Sends anything else, once there is room.
    ///
    /// # Errors
    /// [`Error::Channel`] once it is closed.
    pub async fn send(&self, data: &[u8]) -> Result<(), Error> {
        self.room().await?;
        self.0.send(BytesMut::from(data)).await.map_err(broken)
    }

    /// The next message; `None` once the channel is closed. May be dropped while it waits.
    pub async fn next(&self) -> Option<Message> {
        loop {
            match self.0.poll().await? {
                DataChannelEvent::OnMessage(message) if message.is_string => {
                    return Some(Message::Text(String::from_utf8_lossy(&message.data).into_owned()));
                }
                DataChannelEvent::OnMessage(message) => return Some(Message::Binary(message.data.freeze())),
                DataChannelEvent::OnClose => return None,
                _ => {}
            }
        }
    }

    /// Closes it.
    pub async fn close(&self) {
        // The only failure is that it is closed already.
        let _ = self.0.close().await;
    }

    async fn room(&self) -> Result<(), Error> {
        while self.0.outstanding_bytes().await.map_err(broken)? > BUFFERED {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

async fn opened(channel: Arc<dyn DataChannel>) -> Result<Channel, Error> {
    let open = async {
        while let Some(event) = channel.poll().await {
            match event {
                DataChannelEvent::OnOpen => return true,
                DataChannelEvent::OnClose => return false,
                _ => {}
            }
        }
        false
    };
    match tokio::time::timeout(OPEN_TIMEOUT, open).await {
        Ok(true) => Ok(Channel(channel)),
        Ok(false) => Err(Error::Channel("the relay closed it".to_owned())),
        Err(_) => Err(Error::Channel("it did not open in time".to_owned())),
    }
}

fn broken(error: webrtc::error::Error) -> Error {
    Error::Channel(error.to_string())
}
