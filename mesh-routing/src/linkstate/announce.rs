//! LSAs that neighbors are told of instead of being sent them, and LSAs that neighbors told this relay
//! of. Whoever still lacks one after a moment asks for it: a wrong tree costs that moment, never an LSA.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::wire::{message::ENTRIES_MAX, metric::LinkId, signed_lsa::Key};

/// How long news for a neighbor is gathered, and how long an LSA is waited for before it is asked for: it mostly comes by
/// itself, a few hops later.
pub const MOMENT: Duration = Duration::from_millis(40);
/// How long an answer is waited for before another neighbor is asked: longer than the round trip of any usual
/// link.
const ANSWER: Duration = Duration::from_millis(250);
/// Neighbors that are asked for one LSA. After that the hashes of the databases find it.
const SOURCES_MAX: usize = 4;
/// LSAs that are sent to a neighbor within [`BLIND_EVERY`] though nobody knows whether it gets them by another.
const BLIND_MAX: u32 = 16;
const BLIND_EVERY: Duration = Duration::from_secs(1);
/// LSAs that are waited for.
const WANTED_MAX: usize = 4 * ENTRIES_MAX;

/// What to tell and what to ask.
#[derive(Debug, Default)]
pub(crate) struct PendingAnnouncements {
    /// By link: when to tell, and what.
    tell: BTreeMap<LinkId, (Instant, BTreeMap<Key, u64>)>,
    wanted: BTreeMap<Key, Wanted>,
    /// By link: since when, and how many were sent blindly since.
    blind: BTreeMap<LinkId, (Instant, u32)>,
    /// Nothing is due before.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Wanted {
    sequence: u64,
    due: Instant,
    from: VecDeque<LinkId>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Tell(LinkId, Vec<(Key, u64)>),
    Ask(LinkId, Vec<Key>),
}

impl PendingAnnouncements {
    /// The neighbor on `link` is to be told of an LSA.
    pub fn tell(&mut self, link: LinkId, key: Key, sequence: u64, now: Instant) {
        let (at, entries) = self.tell.entry(link).or_insert_with(|| (now + MOMENT, BTreeMap::new()));
        entries.insert(key, sequence);
        let at = *at;
        self.sooner(at);
    }

    /// Whether one more LSA may be sent on `link` that may come to the neighbor by others too. One relay that
    /// joins is everywhere at once; where many meet, telling costs a moment and sending all of them on every link
    /// would cost each link several times what the neighbor needs.
    pub fn sends_blindly(&mut self, link: LinkId, now: Instant) -> bool {
        let (since, count) = self.blind.entry(link).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= BLIND_EVERY {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= BLIND_MAX
    }

    /// The neighbor on `link` has the LSA, or a newer one: it need not be told.
    pub fn handle_known(&mut self, link: LinkId, key: &Key, sequence: u64) {
        if let Some((_, entries)) = self.tell.get_mut(&link)
            && entries.get(key).is_some_and(|ours| *ours <= sequence)
        {
            entries.remove(key);
            if entries.is_empty() {
                self.tell.remove(&link);
            }
        }
    }

    /// The neighbor on `link` tells of an LSA that is newer than the one here.
    pub fn handle_told(&mut self, link: LinkId, key: Key, sequence: u64, now: Instant) {
        if self.wanted.len() >= WANTED_MAX && !self.wanted.contains_key(&key) {
            // The hashes of the databases tell that it is missing.
            return;
        }
        let new = || Wanted { sequence, due: now + MOMENT, from: VecDeque::new() };
        let wanted = self.wanted.entry(key).or_insert_with(new);
        if sequence > wanted.sequence {
            (wanted.sequence, wanted.from) = (sequence, VecDeque::new());
        }
        if sequence == wanted.sequence && wanted.from.len() < SOURCES_MAX && !wanted.from.contains(&link) {
            wanted.from.push_back(link);
        }
        let due = wanted.due;
        self.sooner(due);
    }

    /// An LSA is here now.
    pub fn handle_taken(&mut self, key: &Key, sequence: u64) {
        if self.wanted.get(key).is_some_and(|wanted| wanted.sequence <= sequence) {
            self.wanted.remove(key);
        }
    }

    /// The link is gone.
    pub fn forget(&mut self, link: LinkId) {
        self.tell.remove(&link);
        self.blind.remove(&link);
        for wanted in self.wanted.values_mut() {
            wanted.from.retain(|from| *from != link);
        }
    }

    /// When something is due; not later.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// What is due now.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Due> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (link, (_, entries)) in self.tell.extract_if(.., |_, (at, _)| *at <= now) {
            due.push(Due::Tell(link, entries.into_iter().collect()));
        }
        let mut asked: BTreeMap<LinkId, Vec<Key>> = BTreeMap::new();
        self.wanted.retain(|key, wanted| {
            if wanted.due > now {
                return true;
            }
            let Some(link) = wanted.from.pop_front() else { return false };
            asked.entry(link).or_default().push(*key);
            wanted.due = now + ANSWER;
            true
        });
        due.extend(asked.into_iter().map(|(link, keys)| Due::Ask(link, keys)));
        let told = self.tell.values().map(|(at, _)| *at);
        self.next = told.chain(self.wanted.values().map(|wanted| wanted.due)).min();
        due
    }

    fn sooner(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{epoch, node};

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);

    #[test]
    fn news_is_gathered_for_a_moment() {
        let (mut news, start) = (PendingAnnouncements::default(), epoch());
        news.tell(A, Key::Links(node(1)), 7, start);
        news.tell(A, Key::Links(node(2)), 3, start + MOMENT / 2);
        news.tell(B, Key::Links(node(1)), 7, start);
        // Whoever says that it has the LSA is not told of it.
        news.handle_known(B, &Key::Links(node(1)), 7);
        assert_eq!(news.handle_timeout(start + MOMENT / 2), []);
        let mut entries = vec![(Key::Links(node(1)), 7), (Key::Links(node(2)), 3)];
        entries.sort();
        assert_eq!(news.handle_timeout(start + MOMENT), [Due::Tell(A, entries)]);
        assert_eq!(news.poll_timeout(), None);
    }

    #[test]
    fn few_are_sent_blindly_and_many_are_told() {
        let (mut news, start) = (PendingAnnouncements::default(), epoch());
        let sent = |news: &mut PendingAnnouncements, link, now| {
            (0..100).filter(|_| news.sends_blindly(link, now)).count()
        };
        assert_eq!(sent(&mut news, A, start), BLIND_MAX as usize);
        assert_eq!(sent(&mut news, A, start + MOMENT / 2), 0);
        assert_eq!(sent(&mut news, B, start + MOMENT / 2), BLIND_MAX as usize, "each link for itself");
        assert_eq!(sent(&mut news, A, start + BLIND_EVERY), BLIND_MAX as usize);
    }

    #[test]
    fn what_does_not_come_is_asked_for_at_one_neighbor_after_the_other() {
        let (mut news, start, key) = (PendingAnnouncements::default(), epoch(), Key::Links(node(1)));
        news.handle_told(A, key, 7, start);
        news.handle_told(B, key, 7, start);
        news.handle_told(A, Key::Links(node(2)), 1, start);
        news.handle_taken(&Key::Links(node(2)), 1);
        assert_eq!(news.handle_timeout(start + MOMENT), [Due::Ask(A, vec![key])]);
        assert_eq!(news.handle_timeout(start + MOMENT + ANSWER), [Due::Ask(B, vec![key])]);
        assert_eq!(news.handle_timeout(start + MOMENT + 2 * ANSWER), []);
        assert_eq!(news.poll_timeout(), None);
    }
}
