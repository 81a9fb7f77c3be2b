//! A page of a room: a WebSocket to a relay, and what it was told over it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use protocol::signaling::FromRelay;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, Utf8Bytes},
};

const SOON: Duration = Duration::from_secs(10);

/// Somebody in a room.
#[derive(Debug)]
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Page {
    /// Enters a room at the relay with that HTTP address.
    pub async fn open(relay: SocketAddr, room: &str) -> Result<Page> {
        let url = format!("ws://{relay}/api/v1/rooms/{room}/ws");
        let (socket, _) = connect_async(&url).await.with_context(|| format!("opening {url}"))?;
        Ok(Page { socket })
    }

    /// Sends a text.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.socket.send(Message::Text(Utf8Bytes::from(text))).await?)
    }

    /// The next event, whenever it comes.
    pub async fn event(&mut self) -> Result<FromRelay> {
        while let Some(message) = self.socket.next().await {
            if let Message::Text(text) = message? {
                return serde_json::from_str(&text).with_context(|| format!("reading {text}"));
            }
        }
        bail!("the WebSocket ended")
    }

    /// The next event that `wanted` makes something of, if it comes soon; others pass by.
    pub async fn next<T>(&mut self, mut wanted: impl FnMut(FromRelay) -> Option<T>) -> Result<T> {
        let search = async {
            loop {
                if let Some(found) = wanted(self.event().await?) {
                    return anyhow::Ok(found);
                }
            }
        };
        timeout(SOON, search).await.context("the event did not come in time")?
    }
}
