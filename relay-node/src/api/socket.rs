//! The relay's end of a WebSocket (RFC 6455): the handshake over HTTP/1.1, and messages that leave in small frames,
//! so that a participant at rest holds no large buffer however long its welcome was.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

/// Octets of a message in one frame; a longer message is fragmented (RFC 6455 section 5.4).
const FRAME_MAX: usize = 4000;
/// Octets that are read at a time.
const READ_BUFFER: usize = 2048;

/// A request that asks for a WebSocket in due form.
pub struct Upgrade {
    accept: HeaderValue,
    on: OnUpgrade,
}

/// An open WebSocket.
pub struct Socket(WebSocketStream<TokioIo<Upgraded>>);

impl Upgrade {
    /// Checks the request (RFC 6455 section 4.2.1).
    ///
    /// # Errors
    ///
    /// What is missing, in words for whoever asks.
    pub fn of(request: &mut Request<Body>) -> Result<Upgrade, &'static str> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err("the method has to be GET");
        }
        if !has_token(headers, &header::CONNECTION, "upgrade") {
            return Err("the header `Connection: Upgrade` is missing");
        }
        if !has_token(headers, &header::UPGRADE, "websocket") {
            return Err("the header `Upgrade: websocket` is missing");
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err("the header `Sec-WebSocket-Version: 13` is missing");
        }
        let key =
            headers.get(header::SEC_WEBSOCKET_KEY).ok_or("the header `Sec-WebSocket-Key` is missing")?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|_| "the header `Sec-WebSocket-Key` makes no sense")?;
        let on = request.extensions_mut().remove::<OnUpgrade>();
        Ok(Upgrade { accept, on: on.ok_or("this connection cannot become a WebSocket")? })
    }

    /// The answer; the socket is given to `serve` once that has left. Messages have at most `message_max` octets.
    pub fn answer<F>(self, message_max: usize, serve: impl FnOnce(Socket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let on = self.on;
        tokio::spawn(async move {
            // The client may be gone before the answer has left.
            if let Ok(upgraded) = on.await {
                serve(Socket::new(upgraded, message_max).await).await;
            }
        });
        let headers: [(HeaderName, HeaderValue); 3] = [
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
}

/// Whether a list header has this element, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|element| element.trim().eq_ignore_ascii_case(token))
}

impl Socket {
    async fn new(upgraded: Upgraded, message_max: usize) -> Socket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(message_max))
            .max_frame_size(Some(message_max));
        let io = TokioIo::new(upgraded);
        Socket(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
    }

    /// The next message; pings are answered and come too. `None` once it is closed.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        self.0.next().await
    }

    /// Sends a message as text.
    ///
    /// # Errors
    ///
    /// When the connection is closed or breaks.
    pub async fn send_text(&mut self, text: Utf8Bytes) -> Result<(), Error> {
        for frame in frames(text.into()) {
            self.0.send(Message::Frame(frame)).await?;
        }
        Ok(())
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    ///
    /// When the connection is closed or breaks.
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.0.send(Message::Ping(Bytes::new())).await
    }

    /// Says that it ends, and why.
    ///
    /// # Errors
    ///
    /// When the connection is closed or breaks.
    pub async fn close(&mut self, code: u16, reason: String) -> Result<(), Error> {
        self.0.send(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))).await
    }
}

/// One text message as frames.
fn frames(text: Bytes) -> impl Iterator<Item = Frame> {
    let count = text.len().div_ceil(FRAME_MAX).max(1);
    (0..count).map(move |index| {
        let part = text.slice(index * FRAME_MAX..text.len().min((index + 1) * FRAME_MAX));
        let kind = if index == 0 { Data::Text } else { Data::Continue };
        Frame::message(part, OpCode::Data(kind), index + 1 == count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_into_frames_that_make_it_up() {
        for length in [0, 1, FRAME_MAX, FRAME_MAX + 1, 3 * FRAME_MAX, 400_000] {
            let text: Bytes = vec![b'x'; length].into();
            let frames: Vec<Frame> = frames(text.clone()).collect();
            let joined: Vec<u8> = frames.iter().flat_map(|frame| frame.payload().to_vec()).collect();
            assert_eq!(joined, text);
            assert!(frames.iter().all(|frame| frame.payload().len() <= FRAME_MAX));
            let last = frames.len() - 1;
            for (index, frame) in frames.iter().enumerate() {
                assert_eq!(frame.header().is_final, index == last, "{length}");
                let kind = if index == 0 { Data::Text } else { Data::Continue };
                assert_eq!(frame.header().opcode, OpCode::Data(kind), "{length}");
            }
        }
    }

    #[test]
    fn only_a_request_in_due_form_is_an_upgrade() {
        let whole = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let refusal = |without: &str| {
            let mut request = Request::get("/");
            for (name, value) in whole.iter().filter(|(name, _)| *name != without) {
                request = request.header(*name, *value);
            }
            let mut request = request.body(Body::empty()).expect("a request");
            Upgrade::of(&mut request).err().expect("nothing here can be upgraded")
        };
        for (name, _) in whole {
            assert!(refusal(name).to_ascii_lowercase().contains(name), "{}", refusal(name));
        }
        assert!(refusal("").contains("this connection"));
    }
}
