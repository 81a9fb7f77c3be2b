//! The end of a connection whose client is still sending. To close a socket with bytes unread resets it, and a
//! reset can overtake the answer: a client whose body was too large would see a broken connection instead of
//! 413. So the server stops sending, reads on for a while (RFC 9112 section 9.6), and only then closes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::oneshot,
    time::timeout,
};

/// For how long a client may go on after its answer.
const GOING_ON: Duration = Duration::from_secs(5);
/// For how long it may pause meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// A stream on loan: whoever drops it gives it back.
#[derive(Debug)]
pub struct Lent<S> {
    /// There until it is dropped.
    stream: Option<S>,
    back: Option<oneshot::Sender<S>>,
}

/// Lends a stream.
pub fn lend<S>(stream: S) -> (Lent<S>, oneshot::Receiver<S>) {
    let (back, returned) = oneshot::channel();
    (Lent { stream: Some(stream), back: Some(back) }, returned)
}

/// Reads and forgets what a client still sends after the server's last word, then closes.
pub async fn hear_out(mut stream: impl AsyncRead + Unpin) {
    let mut ignored = vec![0; 16 * 1024];
    let reading = async { while let Ok(Ok(1..)) = timeout(PAUSE, stream.read(&mut ignored)).await {} };
    let _ = timeout(GOING_ON, reading).await;
}

impl<S: Unpin> Lent<S> {
    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.as_mut().expect("only taken when dropped"))
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Where nobody waits for it any more it is closed.
            let _ = back.send(stream);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
