//! Link-state on its way: when this relay says something new of itself, what it passes on, what it asks for.
//! What the database holds belongs to `link_state.rs`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::{
    error::MeshError,
    link::LinkId,
    link_state::{LinkState, Offered, plausible},
    mesh::Mesh,
    message::{ENTRIES_MAX, Message},
    route::Routes,
};

/// A relay says the same again after this time.
pub const REFRESH: Duration = Duration::from_secs(5 * 60);
/// The first wait after something was said.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(200);
/// The longest wait for news of costs.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// The longest wait for a lost or new edge or stream.
pub const BACK_OFF_URGENT: Duration = Duration::from_millis(400);

/// Bytes of link-state sent in answer to one message; what is left is asked for again.
const ANSWER_MAX: usize = 4 << 20;
/// A full database is searched for relays that cannot be reached at most this often.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// Paces the own record.
#[derive(Debug)]
pub struct Pace {
    counter: u64,
    last: Option<Instant>,
    wait: Duration,
    dirty: Option<bool>,
}

impl Pace {
    /// The first sequence is the first of this boot.
    pub fn new(boot: u64) -> Pace {
        Pace { counter: boot << 32, last: None, wait: Duration::ZERO, dirty: Some(true) }
    }

    /// There is news; `urgent` if routes are wrong without it.
    pub fn handle_news(&mut self, urgent: bool) {
        self.dirty = Some(urgent || self.dirty == Some(true));
    }

    /// A neighbor has a record of this relay from an earlier life: the next one jumps over it.
    pub fn handle_own(&mut self, sequence: u64) {
        self.counter = self.counter.max(sequence);
        self.handle_news(true);
    }

    /// The sequence to say something with, if it is time to.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<u64> {
        if self.poll_timeout().is_some_and(|at| at > now) {
            return None;
        }
        let quiet = self.last.is_none_or(|last| now.saturating_duration_since(last) > self.wait * 2);
        self.wait = if quiet { BACK_OFF_MIN } else { (self.wait * 2).clamp(BACK_OFF_MIN, BACK_OFF_MAX) };
        self.last = Some(now);
        self.dirty = None;
        Some(self.advance())
    }

    /// The sequence to say something with that has a pace of its own: what is due here is not delayed by it.
    pub fn advance(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// When it is time to say something: `None` if at once.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let last = self.last?;
        Some(match self.dirty {
            None => last + REFRESH,
            Some(false) => last + self.wait,
            Some(true) => last + self.wait.min(BACK_OFF_URGENT),
        })
    }
}

impl Mesh {
    pub(crate) fn take_link_state(
        &mut self,
        link: LinkId,
        age_ms: u32,
        record: LinkState,
        now: Instant,
    ) -> Result<(), MeshError> {
        let origin = record.origin;
        let age = Duration::from_millis(age_ms.into());
        let own = origin == self.config.id;
        let last = self.database.get(&origin).map(|held| held.record.sequence);
        if !plausible(record.sequence, if own { Some(self.pace.counter) } else { last }) {
            // Whoever passed it on may have known a last one that is not known here: no fault of the link's.
            self.counters.implausible += 1;
            return Ok(());
        }
        if own {
            let own = self.database.get(&origin).map(|held| &held.record);
            match own.map(|own| own.sequence.cmp(&record.sequence)) {
                Some(std::cmp::Ordering::Greater) => self.send_records(link, &[origin]),
                Some(std::cmp::Ordering::Equal) if own == Some(&record) => {}
                _ => self.pace.handle_own(record.sequence),
            }
            return Ok(());
        }
        if self.database.room_for(&record).is_err() {
            self.make_room(now);
            self.database.room_for(&record)?;
        }
        match self.database.offer(record, age, now)? {
            Offered::Newer { changed, shape, heard } => {
                self.routes_changed |= changed;
                self.shown.stale |= heard;
                if shape {
                    self.trees.handle_change(true);
                }
                if let Some(message) = self.link_state(&origin) {
                    self.send_all(Some(link), &message);
                }
            }
            Offered::Same => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.counters.duplicates += 1;
                }
            }
            Offered::Older => self.send_records(link, &[origin]),
        }
        Ok(())
    }

    /// Asks for what is newer there; sends what is newer here.
    pub(crate) fn take_digest(&mut self, link: LinkId, entries: &[(NodeId, u64)]) {
        let sequence = |origin| self.database.get(origin).map(|held| held.record.sequence);
        let newer_there: Vec<_> = entries
            .iter()
            .filter(|(id, there)| sequence(id).is_none_or(|here| here < *there))
            .map(|(id, _)| *id)
            .collect();
        let newer_here: Vec<_> = entries
            .iter()
            .filter(|(id, there)| sequence(id).is_some_and(|here| here > *there))
            .map(|(id, _)| *id)
            .collect();
        if !newer_there.is_empty() {
            self.send(link, &Message::Request { origins: newer_there });
        }
        self.send_records(link, &newer_here);
    }

    pub(crate) fn send_records(&mut self, link: LinkId, origins: &[NodeId]) {
        let mut room = ANSWER_MAX;
        for origin in origins {
            let Some(message) = self.link_state(origin) else { continue };
            let bytes = message.encode();
            let Some(left) = room.checked_sub(bytes.len()) else { return };
            room = left;
            self.send_bytes(link, &message, bytes);
        }
    }

    /// Forgets the records of relays that cannot be reached, at most once a second.
    fn make_room(&mut self, now: Instant) {
        if self.room_made.is_some_and(|at| now < at + ROOM_EVERY) {
            return;
        }
        self.room_made = Some(now);
        let routes = Routes::new(&self.config.id, &self.database, &BTreeSet::new());
        let own = self.config.id;
        self.routes_changed |= self.database.keep(|id, _| *id == own || routes.reaches(id));
    }

    fn link_state(&self, origin: &NodeId) -> Option<Message> {
        // What has expired here has expired there.
        let held = self.database.get(origin).filter(|held| held.expires > self.now)?;
        Some(Message::LinkState { age_ms: held.age_ms(self.now), record: held.record.clone() })
    }

    pub(crate) fn send_digest(&mut self, link: LinkId) {
        let entries: Vec<_> = self.database.iter().map(|(id, held)| (*id, held.record.sequence)).collect();
        for part in entries.chunks(ENTRIES_MAX) {
            self.send(link, &Message::Digest { entries: part.to_vec() });
        }
    }

    pub(crate) fn originate(&mut self, sequence: u64, now: Instant) {
        let origin = self.config.id;
        let record = LinkState {
            origin,
            zone: self.config.zone.clone(),
            sequence,
            links: self.neighbors.values().map(|neighbor| neighbor.edge.clone()).collect(),
            streams: self.published.values().cloned().collect(),
            heard: self.audience.streams().cloned().collect(),
            addresses: self.addresses.clone(),
        };
        if let Ok(Offered::Newer { changed, .. }) = self.database.offer(record, Duration::ZERO, now) {
            self.audience.handle_told(now);
            self.routes_changed |= changed;
            self.counters.originated += 1;
            if let Some(message) = self.link_state(&origin) {
                self.send_all(None, &message);
            }
        }
    }
}

/// The first eight bytes of a hash, to compare large states by.
pub(crate) fn first_word(hasher: &blake3::Hasher) -> u64 {
    let hash = hasher.finalize();
    let (word, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(*word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_said_at_once_and_the_next_ones_wait() {
        let start = crate::sim::epoch();
        let mut pace = Pace::new(3);
        assert_eq!(pace.handle_timeout(start), Some((3 << 32) + 1));
        pace.handle_news(false);
        assert_eq!(pace.handle_timeout(start), None);
        assert_eq!(pace.poll_timeout(), Some(start + BACK_OFF_MIN));
        assert!(pace.handle_timeout(start + BACK_OFF_MIN).is_some());
        pace.handle_news(false);
        assert_eq!(pace.poll_timeout(), Some(start + BACK_OFF_MIN * 3));
    }

    #[test]
    fn a_lost_edge_does_not_wait_behind_round_trips() {
        let start = crate::sim::epoch();
        let (mut pace, mut now) = (Pace::new(0), start);
        for _ in 0..8 {
            pace.handle_news(false);
            now = pace.poll_timeout().unwrap_or(now);
            assert!(pace.handle_timeout(now).is_some());
        }
        pace.handle_news(true);
        assert_eq!(pace.poll_timeout(), Some(now + BACK_OFF_URGENT));
    }

    #[test]
    fn an_own_record_of_an_earlier_life_is_jumped_over() {
        let mut pace = Pace::new(0);
        pace.handle_own(77);
        assert_eq!(pace.handle_timeout(crate::sim::epoch()), Some(78));
    }
}
