//! Who reads what listeners see: a few streams of events for each session, and the newest state for each of them.

use std::collections::BTreeMap;

use protocol::SessionId;
use tokio::sync::watch;

use crate::node::viewers::Seen;

/// Streams of events of one session. One more ends the oldest.
pub const WATCHERS_MAX: usize = 2;

/// Those who read. A reader that is slow finds the newest state when it reads on: nothing waits for it but that.
#[derive(Debug, Default)]
pub(super) struct Watchers(BTreeMap<SessionId, Vec<watch::Sender<Seen>>>);

impl Watchers {
    /// One more reads what this session sees.
    pub fn add(&mut self, session: SessionId, seen: Seen) -> watch::Receiver<Seen> {
        let (sender, receiver) = watch::channel(seen);
        let readers = self.0.entry(session).or_default();
        readers.retain(|reader| !reader.is_closed());
        if readers.len() == WATCHERS_MAX {
            readers.remove(0);
        }
        readers.push(sender);
        receiver
    }

    /// What a session sees is another. False if nobody reads it any more.
    pub fn tell(&mut self, session: SessionId, seen: &Seen) -> bool {
        let Some(readers) = self.0.get_mut(&session) else { return true };
        readers.retain(|reader| !reader.is_closed());
        for reader in &*readers {
            // Even if nothing changed: the first word of a worker is waited for.
            reader.send_replace(seen.clone());
        }
        if readers.is_empty() {
            self.0.remove(&session);
            return false;
        }
        true
    }

    /// A session is over: its readers are told by the end.
    pub fn over(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    /// All sessions that somebody reads of.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.0.keys().copied().collect()
    }

    /// The relay stops.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::{Picture, PictureLayers, PictureReason};

    use super::*;

    fn seen(mid: &str) -> Seen {
        let quality = Picture { video: None, best: None, reason: PictureReason::None, audio: None };
        Seen { layers: Some((mid.into(), PictureLayers::default())), quality }
    }

    #[tokio::test]
    async fn a_third_reader_ends_the_oldest_and_only_the_newest_state_waits() {
        let (mut watchers, session) = (Watchers::default(), SessionId([1; 16]));
        let mut readers: Vec<_> = (0..3).map(|_| watchers.add(session, seen("first"))).collect();
        assert!(readers[0].changed().await.is_err(), "it has ended");
        for state in ["second", "third"] {
            assert!(watchers.tell(session, &seen(state)));
        }
        for reader in &mut readers[1..] {
            assert!(reader.changed().await.is_ok());
            assert_eq!(*reader.borrow_and_update(), seen("third"));
            assert!(!reader.has_changed().expect("it goes on"));
        }
        // One that has gone makes room for another.
        readers.remove(1);
        let mut other = watchers.add(session, seen("fourth"));
        assert!(readers[1].has_changed().is_ok(), "it goes on");
        watchers.over(session);
        assert!(other.changed().await.is_err() && readers[1].changed().await.is_err());
        drop(watchers.add(session, seen("fifth")));
        assert!(!watchers.tell(session, &seen("sixth")), "nobody is left");
        assert_eq!(watchers.sessions(), []);
    }
}
