//! What waits to be told to one participant. Events wait in order and are bounded; of what is state, how many are
//! here and what is live, only the newest waits, so a crowd that enters floods nobody.

use std::{
    cell::OnceCell,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::signaling::FromRelay;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::clock;

/// Events waiting for one participant; a participant that falls further behind is cut off.
pub const PARTICIPANT_EVENTS_MAX: usize = 256;
/// How many are here is told at most so often.
const PRESENCE_EVERY: Duration = Duration::from_millis(500);
/// Events for which room is kept when none waits.
const KEPT: usize = 8;

/// Something for many participants: it is put into words once.
pub struct Told<'a> {
    event: &'a FromRelay,
    text: OnceCell<Utf8Bytes>,
}

impl<'a> Told<'a> {
    /// This event.
    pub fn new(event: &'a FromRelay) -> Told<'a> {
        Told { event, text: OnceCell::new() }
    }

    fn text(&self) -> Utf8Bytes {
        self.text.get_or_init(|| words(self.event)).clone()
    }
}

/// An event as it is sent.
pub fn words(event: &FromRelay) -> Utf8Bytes {
    serde_json::to_string(event).expect("strings and numbers always serialize").into()
}

/// Why a participant is not told any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// It fell too far behind.
    Behind,
    /// It has left.
    Gone,
}

/// The end that tells. When it is dropped the other one ends.
#[derive(Debug)]
pub struct Outbox(Arc<Shared>);

/// The end that sends.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Utf8Bytes>,
    streams: Option<Utf8Bytes>,
    present: Option<u32>,
    present_told: Option<Instant>,
    ended: bool,
}

/// What comes next.
enum Next {
    Text(Utf8Bytes),
    Ended,
    /// Nothing, or nothing before then.
    Wait(Option<Instant>),
}

/// Both ends.
pub fn pair() -> (Outbox, Inbox) {
    let shared = Arc::new(Shared::default());
    (Outbox(shared.clone()), Inbox(shared))
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.waiting().ended = true;
        self.wake.notify_one();
    }
}

impl Outbox {
    /// Tells it.
    ///
    /// # Errors
    ///
    /// [`Missed::Gone`] if it has left, [`Missed::Behind`] if too many events wait for it.
    pub fn tell(&self, told: &Told<'_>) -> Result<(), Missed> {
        let mut waiting = self.0.waiting();
        if waiting.ended {
            return Err(Missed::Gone);
        }
        let news = match told.event {
            FromRelay::Presence { present } => waiting.present.replace(*present).is_none(),
            FromRelay::Streams { .. } => waiting.streams.replace(told.text()).is_none(),
            _ if waiting.events.len() >= PARTICIPANT_EVENTS_MAX => return Err(Missed::Behind),
            _ => {
                waiting.events.push_back(told.text());
                true
            }
        };
        if news {
            self.0.wake.notify_one();
        }
        Ok(())
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Inbox {
    /// The next thing to send; `None` once nobody tells any more. May be dropped before it is ready.
    pub async fn next(&mut self) -> Option<Utf8Bytes> {
        loop {
            let at = match self.0.waiting().take(clock::now()) {
                Next::Text(text) => return Some(text),
                Next::Ended => return None,
                Next::Wait(at) => at,
            };
            let news = self.0.wake.notified();
            match at {
                None => news.await,
                Some(at) => {
                    // Either way it is looked at again.
                    let _ = tokio::time::timeout_at(tokio::time::Instant::from_std(at), news).await;
                }
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Waiting {
    fn take(&mut self, now: Instant) -> Next {
        if self.ended {
            return Next::Ended;
        }
        // First what is live: a page needs it to show anything.
        if let Some(text) = self.streams.take() {
            return Next::Text(text);
        }
        if let Some(text) = self.events.pop_front() {
            if self.events.is_empty() {
                self.events.shrink_to(KEPT);
            }
            return Next::Text(text);
        }
        let Some(present) = self.present else { return Next::Wait(None) };
        match self.present_told.map(|told| told + PRESENCE_EVERY).filter(|due| *due > now) {
            Some(due) => Next::Wait(Some(due)),
            None => {
                (self.present, self.present_told) = (None, Some(now));
                Next::Text(words(&FromRelay::Presence { present }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(outbox: &Outbox, event: &FromRelay) -> Result<(), Missed> {
        outbox.tell(&Told::new(event))
    }

    fn presence(present: u32) -> FromRelay {
        FromRelay::Presence { present }
    }

    fn saved(id: &str) -> FromRelay {
        FromRelay::Saved { id: id.to_owned() }
    }

    /// All that can be sent now.
    fn take(inbox: &Inbox, now: Instant) -> Vec<FromRelay> {
        let mut taken = Vec::new();
        while let Next::Text(text) = inbox.0.waiting().take(now) {
            taken.push(serde_json::from_str(&text).expect("an event"));
        }
        taken
    }

    #[test]
    fn a_crowd_that_enters_is_one_number_and_takes_no_room_of_events() {
        let (outbox, inbox) = pair();
        let now = clock::now();
        for present in 0..1500 {
            assert_eq!(tell(&outbox, &presence(present)), Ok(()));
        }
        for id in 0..PARTICIPANT_EVENTS_MAX {
            assert_eq!(tell(&outbox, &saved(&id.to_string())), Ok(()));
        }
        assert_eq!(tell(&outbox, &saved("one too many")), Err(Missed::Behind));
        assert_eq!(tell(&outbox, &presence(1500)), Ok(()));
        let taken = take(&inbox, now);
        assert_eq!(taken.len(), PARTICIPANT_EVENTS_MAX + 1);
        assert_eq!(taken.first(), Some(&saved("0")));
        assert_eq!(taken.last(), Some(&presence(1500)));
    }

    #[test]
    fn presence_is_paced_and_its_last_number_is_always_told() {
        let (outbox, inbox) = pair();
        let start = clock::now();
        let mut told = Vec::new();
        // A thousand in ten seconds.
        for number in 0..1000u32 {
            tell(&outbox, &presence(number)).expect("is told");
            told.extend(take(&inbox, start + Duration::from_millis(10) * number));
        }
        told.extend(take(&inbox, start + Duration::from_secs(11)));
        assert_eq!(told.len(), 21);
        assert_eq!(told.last(), Some(&presence(999)));
    }

    #[test]
    fn of_streams_only_the_newest_waits() {
        let (outbox, inbox) = pair();
        for _ in 0..3 {
            tell(&outbox, &FromRelay::Streams { streams: Vec::new() }).expect("is told");
        }
        assert_eq!(take(&inbox, clock::now()), [FromRelay::Streams { streams: Vec::new() }]);
    }

    #[test]
    fn a_burst_leaves_no_room_behind() {
        let (outbox, inbox) = pair();
        for id in 0..PARTICIPANT_EVENTS_MAX {
            tell(&outbox, &saved(&id.to_string())).expect("is told");
        }
        take(&inbox, clock::now());
        assert!(inbox.0.waiting().events.capacity() <= 2 * KEPT);
    }

    #[tokio::test]
    async fn each_end_notices_that_the_other_is_gone() {
        let (outbox, mut inbox) = pair();
        tell(&outbox, &saved("a")).expect("is told");
        assert_eq!(inbox.next().await, Some(words(&saved("a"))));
        let waits = tokio::spawn(async move { inbox.next().await });
        drop(outbox);
        assert_eq!(waits.await.expect("ends"), None);
        let (outbox, inbox) = pair();
        drop(inbox);
        assert_eq!(tell(&outbox, &presence(1)), Err(Missed::Gone));
    }
}
