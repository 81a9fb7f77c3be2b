//! Bodies on their way: a request's has to keep coming, an answer's has to be read, and both say to the place of
//! their connection that something goes on there.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use hyper::body::{Frame, SizeHint};

use super::pace::Watch;
use crate::{
    clock,
    places::{Held, shares::Standing},
};

/// How long one body may take in all, whatever its length.
const TOTAL: Duration = Duration::from_secs(4 * 3600);
/// Progress is said each so many octets.
const STEP: usize = 16 * 1024;
/// What comes in smaller pieces is put together to so many octets. Each piece is a part of the buffer of 8 KiB that it
/// was read into and keeps all of it: whoever sends octet by octet would fill the memory with a few kilobytes.
const GATHER: usize = 4 * 1024;

/// Whether the client was too slow with its request.
#[derive(Debug, Clone, Default)]
pub struct TooSlow(Arc<AtomicBool>);

impl TooSlow {
    /// It was.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of a request.
pub struct Coming {
    body: Body,
    /// Came in small pieces and is not given on yet.
    gathered: BytesMut,
    watch: Watch,
    way: Way,
    slow: TooSlow,
}

/// The body of an answer. Once it is gone its connection is idle.
pub struct Going {
    body: Body,
    way: Way,
    /// What came and is not given out: a long answer leaves in pieces, so that it is seen how far it is.
    rest: Bytes,
    large: Option<Held>,
}

/// How far a body has come.
struct Way {
    held: Arc<Held>,
    /// Octets since progress was said.
    unsaid: usize,
    until: Instant,
}

impl Way {
    fn new(held: Arc<Held>) -> Way {
        Way { held, unsaid: 0, until: clock::now() + TOTAL }
    }

    fn pass(&mut self, octets: usize) {
        self.unsaid += octets;
        if self.unsaid >= STEP {
            self.unsaid = 0;
            self.held.progress();
        }
    }

    fn is_over(&self) -> bool {
        clock::now() >= self.until
    }
}

impl Coming {
    /// `body`, which comes over the connection that holds this place.
    pub fn new(body: Body, held: Arc<Held>, slow: TooSlow) -> Coming {
        Coming { body, gathered: BytesMut::new(), watch: Watch::default(), way: Way::new(held), slow }
    }

    fn end(&self) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.slow.0.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(axum::Error::new(io::Error::from(io::ErrorKind::TimedOut)))))
    }
}

impl hyper::body::Body for Coming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => match self.watch.poll_too_slow(cx) {
                    Poll::Ready(()) => return self.end(),
                    Poll::Pending => return Poll::Pending,
                },
                Poll::Ready(Some(Ok(frame))) => {
                    let octets = frame.data_ref().map_or(0, Bytes::len);
                    self.way.pass(octets);
                    if !self.watch.pass(octets) || self.way.is_over() {
                        return self.end();
                    }
                    // Trailers end a body; nothing here reads them.
                    let Ok(data) = frame.into_data() else { continue };
                    if self.gathered.is_empty() && data.len() >= GATHER {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    self.gathered.extend_from_slice(&data);
                    if self.gathered.len() < GATHER {
                        continue;
                    }
                }
                Poll::Ready(None) if self.gathered.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => {}
                error => return error,
            }
            let gathered = std::mem::take(&mut self.gathered).freeze();
            return Poll::Ready(Some(Ok(Frame::data(gathered))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.gathered.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        longer(&self.body.size_hint(), self.gathered.len())
    }
}

/// With so many octets more that are here already.
fn longer(body: &SizeHint, octets: usize) -> SizeHint {
    let octets = octets as u64;
    let mut hint = SizeHint::new();
    hint.set_lower(body.lower() + octets);
    if let Some(upper) = body.upper() {
        hint.set_upper(upper + octets);
    }
    hint
}

impl Going {
    /// `body`, which leaves over the connection that holds this place.
    /// A long one has a place of its own.
    pub fn new(body: Body, held: Arc<Held>, large: Option<Held>) -> Going {
        Going { body, way: Way::new(held), rest: Bytes::new(), large }
    }
}

impl hyper::body::Body for Going {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.way.is_over() {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        let length = self.rest.len().min(STEP);
        let piece = self.rest.split_to(length);
        self.way.pass(length);
        if let Some(large) = &self.large {
            large.progress();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        longer(&self.body.size_hint(), self.rest.len())
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.way.held.stand(Standing::Idle);
    }
}

#[cfg(test)]
mod tests {
    use axum::Error;
    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        drop_reason::DropReason,
        places::{
            Places,
            shares::{GivesWay, Policy},
        },
    };

    /// The pieces in which a body arrives that comes in these.
    async fn arrive(pieces: Vec<usize>) -> Vec<usize> {
        let policy = Policy { gives_way: GivesWay::Youngest, patience: Duration::ZERO };
        let places = Places::new(1, policy, DropReason::UploadGaveWay, DropReason::UploadRefused);
        let held = Arc::new(places.take(std::net::IpAddr::from([10, 0, 0, 1]).into()).expect("a place"));
        let sent: usize = pieces.iter().sum();
        // Each a part of a buffer of its own, as they come from a connection that is read piece by piece.
        let chunks = pieces.into_iter().map(|len| Ok::<_, Error>(Bytes::from(vec![7; 8192]).slice(..len)));
        let mut body = Coming::new(Body::from_stream(stream::iter(chunks)), held, TooSlow::default());
        let mut arrived = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.expect("a frame").into_data().expect("data");
            assert!(data.iter().all(|octet| *octet == 7));
            arrived.push(data.len());
        }
        assert_eq!(arrived.iter().sum::<usize>(), sent);
        arrived
    }

    #[tokio::test]
    async fn a_body_that_comes_octet_by_octet_takes_no_buffer_for_each() {
        assert_eq!(arrive(vec![1; 10_000]).await, [GATHER, GATHER, 10_000 - 2 * GATHER]);
        assert_eq!(arrive(vec![8000, 8000, 5]).await, [8000, 8000, 5]);
        assert_eq!(arrive(vec![5, 8000, 5]).await, [8005, 5]);
        assert_eq!(arrive(vec![]).await, [0; 0]);
    }
}
