//! What others have and this relay lacks: who has it, whom it was asked of, whom to ask next. Announcements
//! are asked for first, and chat once they are here.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::Topic;

use crate::wire::log_entry::LogKey;
use crate::wire::metric::LinkId;

/// Logs of chat that are asked for on one link at a time: so many answers may fill its queue.
const AT_ONCE: usize = 8;
/// Logs that may be lacking; the next comparison finds the others again.
const LACKING_MAX: usize = 8192;
/// A pull that is not answered for so long is asked elsewhere,
const PATIENCE: Duration = Duration::from_secs(1);
/// or, where nobody else has it, given up until somebody says again that there is more.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Lack {
    /// Who says to have records up to which number.
    sources: BTreeMap<LinkId, u64>,
    /// Not asked for before: it may come by itself.
    due: Instant,
    asked: Option<(LinkId, Instant)>,
}

#[derive(Debug, Default)]
pub(super) struct Pulls {
    lacking: BTreeMap<LogKey, Lack>,
    /// When there is something to do; `None` if there is nothing.
    wake: Option<Instant>,
}

impl Pulls {
    /// Somebody has records up to `highest`, which is more than is here.
    pub fn offer(&mut self, key: &LogKey, link: LinkId, highest: u64, due: Instant) {
        if self.lacking.len() >= LACKING_MAX && !self.lacking.contains_key(key) {
            return;
        }
        let lack = self.lacking.entry(key.clone());
        let lack = lack.or_insert_with(|| Lack { sources: BTreeMap::new(), due, asked: None });
        let source = lack.sources.entry(link).or_default();
        *source = (*source).max(highest);
        lack.due = lack.due.min(due);
        self.wake = Some(self.wake.map_or(lack.due, |wake| wake.min(lack.due)));
    }

    /// The log goes so far now.
    pub fn handle_taken(&mut self, key: &LogKey, highest: u64, now: Instant) {
        if let Some(lack) = self.lacking.get_mut(key) {
            lack.sources.retain(|_, theirs| *theirs > highest);
            if lack.sources.is_empty() {
                self.lacking.remove(key);
            }
            self.wake = Some(now);
        }
    }

    /// An answer came; whether it was asked for on this link.
    pub fn handle_answer(&mut self, key: &LogKey, link: LinkId, now: Instant) -> bool {
        let Some(lack) = self.lacking.get_mut(key) else { return false };
        let asked = lack.asked.is_some_and(|(asked, _)| asked == link);
        if asked {
            lack.asked = None;
            self.wake = Some(now);
        }
        asked
    }

    /// That link has not what it said.
    pub fn handle_lie(&mut self, key: &LogKey, link: LinkId, now: Instant) {
        if let Some(lack) = self.lacking.get_mut(key) {
            lack.sources.remove(&link);
            if lack.sources.is_empty() {
                self.lacking.remove(key);
            }
            self.wake = Some(now);
        }
    }

    /// The link is gone, or dead.
    pub fn forget(&mut self, link: LinkId, now: Instant) {
        for lack in self.lacking.values_mut() {
            lack.sources.remove(&link);
            lack.asked = lack.asked.filter(|(asked, _)| *asked != link);
        }
        self.lacking.retain(|_, lack| !lack.sources.is_empty());
        self.wake = Some(now);
    }

    /// What to ask for now, and where; `opens` says until when a link may not be asked.
    pub fn next(
        &mut self,
        mut opens: impl FnMut(LinkId) -> Option<Instant>,
        now: Instant,
    ) -> Vec<(LinkId, LogKey)> {
        if self.wake.is_none_or(|wake| wake > now) {
            return Vec::new();
        }
        let (mut at_once, mut wake, mut asks) = (BTreeMap::<LinkId, usize>::new(), Vec::new(), Vec::new());
        let mut urgent_until: BTreeMap<LinkId, Instant> = BTreeMap::new();
        for (key, lack) in &mut self.lacking {
            let Some((link, since)) = lack.asked else { continue };
            if key.topic == Topic::Announcements && since + PATIENCE > now {
                urgent_until.insert(link, since + PATIENCE);
            }
            let until = since + if lack.sources.len() > 1 { PATIENCE } else { LAST_PATIENCE };
            if until <= now {
                lack.asked = None;
                lack.sources.remove(&link);
            } else {
                wake.push(until);
                *at_once.entry(link).or_default() += 1;
            }
        }
        self.lacking.retain(|_, lack| !lack.sources.is_empty());
        for (key, lack) in &mut self.lacking {
            if lack.asked.is_some() {
                continue;
            }
            if lack.due > now {
                wake.push(lack.due);
                continue;
            }
            let urgent = key.topic == Topic::Announcements;
            let best = lack.sources.iter().map(|(link, theirs)| (*theirs, *link));
            let mut best: Vec<_> = best.collect();
            best.sort_unstable_by_key(|(theirs, link)| (std::cmp::Reverse(*theirs), *link));
            for (_, link) in best {
                let busy = at_once.entry(link).or_default();
                // Its answers wake this again.
                if *busy >= AT_ONCE && !urgent {
                    continue;
                }
                let waits = urgent_until.get(&link).copied().filter(|_| !urgent);
                match waits.or_else(|| opens(link)) {
                    Some(at) => wake.push(at.max(now + Duration::from_millis(1))),
                    None => {
                        *busy += 1;
                        if urgent {
                            urgent_until.insert(link, now + PATIENCE);
                        }
                        lack.asked = Some((link, now));
                        wake.push(now + LAST_PATIENCE);
                        asks.push((link, key.clone()));
                        break;
                    }
                }
            }
        }
        self.wake = wake.into_iter().min();
        asks
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }
}

#[cfg(test)]
mod tests {
    use protocol::RoomName;

    use super::*;
    use crate::sim::{epoch, node};

    fn chat(writer: usize) -> LogKey {
        LogKey { topic: Topic::Room(RoomName::new("lobby").unwrap()), writer: node(writer), incarnation: 1 }
    }

    fn announcements() -> LogKey {
        LogKey { topic: Topic::Announcements, ..chat(0) }
    }

    #[test]
    fn announcements_are_asked_for_before_chat_and_past_its_limit() {
        let (mut pulls, now, link) = (Pulls::default(), epoch(), LinkId(1));
        for writer in 0..20 {
            pulls.offer(&chat(writer), link, 5, now);
        }
        assert_eq!(pulls.next(|_| None, now).len(), AT_ONCE);
        pulls.offer(&announcements(), link, 1, now);
        assert_eq!(pulls.next(|_| None, now), [(link, announcements())]);
        // Chat goes on when they are here.
        for writer in 0..4 {
            pulls.handle_answer(&chat(writer), link, now);
            pulls.handle_taken(&chat(writer), 5, now);
        }
        assert_eq!(pulls.next(|_| None, now), []);
        pulls.handle_taken(&announcements(), 1, now);
        assert_eq!(pulls.next(|_| None, now).len(), 4);
    }

    #[test]
    fn what_is_not_answered_is_asked_elsewhere() {
        let (mut pulls, now, key) = (Pulls::default(), epoch(), chat(1));
        pulls.offer(&key, LinkId(1), 9, now);
        pulls.offer(&key, LinkId(2), 5, now);
        assert_eq!(pulls.next(|_| None, now), [(LinkId(1), key.clone())]);
        let later = now + PATIENCE;
        assert_eq!(pulls.next(|_| None, now + PATIENCE / 2), []);
        pulls.offer(&key, LinkId(2), 5, later);
        assert_eq!(pulls.next(|_| None, later), [(LinkId(2), key.clone())]);
        pulls.forget(LinkId(2), later);
        assert_eq!((pulls.next(|_| None, later).len(), pulls.poll_timeout()), (0, None));
    }

    #[test]
    fn what_comes_by_itself_is_not_asked_for() {
        let (mut pulls, now, key) = (Pulls::default(), epoch(), chat(1));
        let due = now + Duration::from_millis(40);
        pulls.offer(&key, LinkId(1), 9, due);
        assert_eq!((pulls.next(|_| None, now).len(), pulls.poll_timeout()), (0, Some(due)));
        pulls.handle_taken(&key, 9, now);
        assert_eq!(pulls.next(|_| None, due), []);
    }
}
