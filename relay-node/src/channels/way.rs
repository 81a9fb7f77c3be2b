//! One data channel as its task has it: what comes, and what leaves as far as there is room. How much of what was said the
//! peer has not acknowledged is counted here, so that the worker never has to refuse it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use media::{ChannelId, ChannelWish, transport::MAX_MESSAGE};
use tokio::sync::{Notify, mpsc};

use crate::media::thread::Workers;

/// Bytes that wait for the peer of one channel, and of all channels of its session: what `media::transport` takes at most.
const CHANNEL_MAX: usize = 2 * MAX_MESSAGE;
const SESSION_MAX: usize = 4 * MAX_MESSAGE;
/// What files leave of that to rooms.
const YIELDING_MAX: usize = SESSION_MAX - MAX_MESSAGE;
/// Messages of a peer that wait for the task of their channel, and bytes of them.
const INBOX_MAX: usize = 256;
const INBOX_BYTES_MAX: usize = 1024 * 1024;
/// How long a worker that has no room is left alone.
const WORKER_PAUSE: Duration = Duration::from_millis(5);
/// How long what was said last may take to arrive before the channel is closed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A message of a peer.
pub(super) struct Message {
    pub data: Bytes,
    /// Text otherwise, which is not checked to be UTF-8.
    pub binary: bool,
}

/// The channel is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// The task's end.
pub(super) struct Way {
    /// What comes.
    pub inbox: Inbox,
    /// What leaves.
    pub out: Out,
}

/// What comes on a channel.
pub(super) struct Inbox {
    messages: mpsc::Receiver<Message>,
    counts: Arc<Counts>,
}

/// What leaves on a channel. When it is dropped the channel is closed.
pub(super) struct Out {
    pub channel: ChannelId,
    worker: usize,
    workers: Workers,
    counts: Arc<Counts>,
}

/// The end of who hears from the media threads. When it is dropped the task ends.
pub(super) struct Handle {
    inbox: mpsc::Sender<Message>,
    counts: Arc<Counts>,
}

struct Counts {
    /// Said on this channel and not acknowledged.
    unsent: AtomicUsize,
    /// The same of all channels of the session.
    of_session: Arc<AtomicUsize>,
    /// Bytes in the inbox.
    heard: AtomicUsize,
    /// The channel is closed already.
    gone: AtomicBool,
    /// There is more room, or the channel is gone.
    news: Notify,
}

/// Both ends of a channel. `of_session` counts for all channels of its session.
pub(super) fn pair(
    (worker, workers): (usize, Workers),
    channel: ChannelId,
    of_session: Arc<AtomicUsize>,
) -> (Way, Handle) {
    let (to, messages) = mpsc::channel(INBOX_MAX);
    let counts = Arc::new(Counts {
        unsent: AtomicUsize::new(0),
        of_session,
        heard: AtomicUsize::new(0),
        gone: AtomicBool::new(false),
        news: Notify::new(),
    });
    let inbox = Inbox { messages, counts: counts.clone() };
    let out = Out { channel, worker, workers, counts: counts.clone() };
    (Way { inbox, out }, Handle { inbox: to, counts })
}

impl Inbox {
    /// The next message; `None` once the channel is gone. May be dropped before it is ready.
    pub(super) async fn recv(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.counts.heard.fetch_sub(message.data.len(), Ordering::Relaxed);
        Some(message)
    }
}

impl Out {
    /// Waits until so much can be said that others of the session still have room: for what yields to them. May be dropped
    /// while it waits.
    ///
    /// # Errors
    ///
    /// [`Gone`] once the channel is.
    pub(super) async fn room_behind(&self, length: usize) -> Result<(), Gone> {
        loop {
            if self.counts.gone.load(Ordering::Acquire) {
                return Err(Gone);
            }
            let own = self.counts.unsent.load(Ordering::Acquire) + length;
            let all = self.counts.of_session.load(Ordering::Acquire) + length;
            if own <= CHANNEL_MAX && all <= YIELDING_MAX {
                return Ok(());
            }
            self.counts.news.notified().await;
        }
    }

    /// Says something, once there is room for it. What is longer than a message may be never leaves.
    ///
    /// # Errors
    ///
    /// [`Gone`] once the channel is.
    pub(super) async fn say(&self, data: Bytes, binary: bool) -> Result<(), Gone> {
        while !self.counts.reserve(data.len()) {
            if self.counts.gone.load(Ordering::Acquire) {
                return Err(Gone);
            }
            self.counts.news.notified().await;
        }
        ask(&self.workers, self.worker, self.channel, ChannelWish::Say { data, binary }).await;
        Ok(())
    }

    /// Waits until the peer has all that was said, but not for ever: a channel that is closed forgets what waits.
    pub(super) async fn settle(&self) {
        let settled = async {
            while self.counts.unsent.load(Ordering::Acquire) > 0 && !self.counts.gone.load(Ordering::Acquire)
            {
                self.counts.news.notified().await;
            }
        };
        // A peer that does not read loses the end.
        let _ = tokio::time::timeout(LAST_WORDS, settled).await;
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if self.counts.gone.load(Ordering::Acquire) {
            return;
        }
        close(&self.workers, self.worker, self.channel);
    }
}

/// Closes a channel: now, or once its worker has room for that.
pub(super) fn close(workers: &Workers, worker: usize, channel: ChannelId) {
    if !workers.ask(worker, channel, ChannelWish::Close)
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        let workers = workers.clone();
        runtime.spawn(async move { ask(&workers, worker, channel, ChannelWish::Close).await });
    }
}

async fn ask(workers: &Workers, worker: usize, channel: ChannelId, wish: ChannelWish) {
    while !workers.ask(worker, channel, wish.clone()) {
        tokio::time::sleep(WORKER_PAUSE).await;
    }
}

impl Handle {
    /// The peer says something. False if its task is that far behind, or has ended.
    pub(super) fn hear(&self, message: Message) -> bool {
        let length = message.data.len();
        if self.counts.heard.load(Ordering::Relaxed) + length > INBOX_BYTES_MAX {
            return false;
        }
        self.counts.heard.fetch_add(length, Ordering::Relaxed);
        self.inbox.try_send(message).is_ok()
    }

    /// The peer has so many bytes more.
    pub(super) fn acknowledge(&self, bytes: usize) {
        let bytes = self.counts.release(bytes);
        let _ = self
            .counts
            .of_session
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |all| Some(all.saturating_sub(bytes)));
    }

    /// There may be more room in the session.
    pub(super) fn look(&self) {
        self.counts.news.notify_one();
    }

    /// The channel is closed: its task has nothing to close any more.
    pub(super) fn gone(self) {
        self.counts.gone.store(true, Ordering::Release);
        self.acknowledge(usize::MAX);
        self.counts.news.notify_one();
    }
}

impl Counts {
    fn reserve(&self, length: usize) -> bool {
        if self.gone.load(Ordering::Acquire) || self.unsent.load(Ordering::Acquire) + length > CHANNEL_MAX {
            return false;
        }
        let fits = |all: usize| (all + length <= SESSION_MAX).then_some(all + length);
        let fits = self.of_session.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok();
        if fits {
            self.unsent.fetch_add(length, Ordering::AcqRel);
        }
        fits
    }

    /// Gives how many there were to release.
    fn release(&self, bytes: usize) -> usize {
        let less = |unsent: usize| Some(unsent.saturating_sub(bytes));
        match self.unsent.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) {
            Ok(before) | Err(before) => before.min(bytes),
        }
    }
}
