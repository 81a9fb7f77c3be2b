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
use hyper::body::{Frame, SizeHint};

use super::pace::Watch;
use crate::{clock, places::Held, shares::Standing};

/// How long one body may take in all, whatever its length.
const TOTAL: Duration = Duration::from_secs(4 * 3600);
/// Progress is said each so many octets.
const STEP: usize = 16 * 1024;

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
        Coming { body, watch: Watch::default(), way: Way::new(held), slow }
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
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => match self.watch.poll_too_slow(cx) {
                Poll::Ready(()) => self.end(),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                let octets = frame.data_ref().map_or(0, Bytes::len);
                self.way.pass(octets);
                if !self.watch.pass(octets) || self.way.is_over() {
                    return self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            done => done,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.way.held.stand(Standing::Idle);
    }
}
