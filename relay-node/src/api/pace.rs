//! How slow a client may be. Only time in which the relay waits for it counts: a phone on a thin line passes, one
//! that trickles to keep a place does not.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant as TokioInstant, Sleep, sleep_until},
};

use crate::{clock, drop_reason::DropReason};

/// How long a client may pause within a body, or leave an answer unread.
const PAUSE: Duration = Duration::from_secs(10);
/// So many octets have to pass while it was waited for so long in all: 1 kB/s.
const LEAST: u64 = 30_000;
const WINDOW: Duration = Duration::from_secs(30);

/// How fast octets pass: [`Pace::wait`] while none do, [`Pace::pass`] when some did.
#[derive(Debug, Default)]
pub struct Pace {
    /// Since when nothing passes.
    since: Option<Instant>,
    /// From when on the wait is not in `waited` yet.
    counted: Option<Instant>,
    /// Waited, and passed, in this window.
    waited: Duration,
    passed: u64,
}

impl Pace {
    /// Nothing passes now. Gives when to look again; `None` says that the client is too slow.
    pub fn wait(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.since.get_or_insert(now);
        let counted = *self.counted.get_or_insert(now);
        self.waited += now.saturating_duration_since(counted);
        self.counted = Some(now);
        if now.saturating_duration_since(since) >= PAUSE || !self.turn() {
            return None;
        }
        Some((since + PAUSE).min(now + (WINDOW - self.waited)))
    }

    /// So many octets passed. False says that the client is too slow all the same.
    pub fn pass(&mut self, octets: usize, now: Instant) -> bool {
        self.since = None;
        if let Some(counted) = self.counted.take() {
            self.waited += now.saturating_duration_since(counted);
        }
        self.passed += octets as u64;
        self.turn()
    }

    /// After each window the next one begins, if enough has passed.
    fn turn(&mut self) -> bool {
        if self.waited < WINDOW {
            return true;
        }
        let enough = self.passed >= LEAST;
        (self.waited, self.passed) = (Duration::ZERO, 0);
        enough
    }
}

/// A pace, and the alarm that says when to look at it again.
#[derive(Debug, Default)]
pub struct Watch {
    pace: Pace,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    /// Nothing passes now: ready when the client is too slow.
    pub fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(at) = self.pace.wait(clock::now()) else {
                DropReason::ClientTooSlow.count();
                return Poll::Ready(());
            };
            let at = TokioInstant::from_std(at);
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if alarm.deadline() != at {
                alarm.as_mut().reset(at);
            }
            ready!(alarm.as_mut().poll(cx));
            self.alarm = None;
        }
    }

    /// So many octets passed; false if the client is too slow all the same.
    pub fn pass(&mut self, octets: usize) -> bool {
        self.alarm = None;
        let fast = self.pace.pass(octets, clock::now());
        if !fast {
            DropReason::ClientTooSlow.count();
        }
        fast
    }
}

/// A stream whose client has to read what is written.
#[derive(Debug)]
pub struct MustRead<S> {
    stream: S,
    watch: Watch,
}

impl<S> MustRead<S> {
    /// Around `stream`.
    pub fn new(stream: S) -> MustRead<S> {
        MustRead { stream, watch: Watch::default() }
    }

    fn watched(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Pending => {
                ready!(self.watch.poll_too_slow(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Ok(octets)) if !self.watch.pass(octets) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            done => done,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MustRead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MustRead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watched(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a client lasts that sends `octets` every `interval`, at most an hour.
    fn lasts(octets: usize, interval: Duration) -> Duration {
        let start = clock::now();
        let mut pace = Pace::default();
        let (mut now, mut next) = (start, start + interval);
        while now < start + Duration::from_secs(3600) {
            match pace.wait(now) {
                None => return now - start,
                Some(again) if again < next => now = again,
                Some(_) => {
                    now = next;
                    next += interval;
                    if !pace.pass(octets, now) {
                        return now - start;
                    }
                }
            }
        }
        Duration::from_secs(3600)
    }

    #[test]
    fn who_trickles_is_cut_and_who_is_slow_is_not() {
        let seconds = Duration::from_secs;
        assert_eq!(lasts(1, seconds(3)), seconds(30), "an octet each three seconds");
        assert_eq!(lasts(1, Duration::from_millis(2)), seconds(30), "half of the least rate, steadily");
        assert_eq!(lasts(1, Duration::from_millis(1)), seconds(3600), "the least rate");
        assert_eq!(lasts(3100, seconds(3)), seconds(3600), "a packet now and then");
        assert_eq!(lasts(1 << 20, seconds(11)), seconds(10), "a pause");
        assert_eq!(lasts(30_000, Duration::from_millis(9_990)), seconds(3600), "bursts over a bad line");
    }

    #[test]
    fn time_in_which_the_relay_itself_pauses_does_not_count() {
        let start = clock::now();
        let mut pace = Pace::default();
        for round in 0..100u32 {
            let now = start + Duration::from_secs(60) * round;
            assert!(pace.wait(now).is_some(), "{round}");
            assert!(pace.pass(400, now + Duration::from_millis(200)), "{round}");
        }
    }
}
