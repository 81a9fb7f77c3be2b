//! What is under way of files on one link, and which chunk is asked for over which: the best links toward a holder,
//! each with so many bytes on their way that it is used, and so few that what is more urgent never finds a queue of
//! more than [`QUEUE`] before it. What becomes of a chunk is in `pull`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use protocol::{FileId, NodeId};

use super::{Blobs, Event, Key, RoutingView};
use crate::wire::{
    file::{Chunk, FileMessage},
    metric::LinkId,
};

/// The queue that files may build on a link.
const QUEUE: Duration = Duration::from_millis(25);
/// The most that is asked of one link at a time, in bytes: half of what the driver's queue takes.
const WINDOW_MAX: u32 = 1024 * 1024;
/// The least, in bytes: also the smallest block.
const WINDOW_MIN: u32 = 4 * 1024;
const WINDOW_FIRST: u32 = 16 * 1024;
/// A block on a link that is not slow, in bytes.
const BLOCK: u32 = 16 * 1024;
/// The fastest answer is looked for anew so often: a way may have become longer.
const BASE_FOR: Duration = Duration::from_secs(10);
/// Chunks are looked after this often while there are any.
const TICK: Duration = Duration::from_millis(100);
/// Chunks asked of one link at a time: one that comes and some that its neighbor gets ready.
const PER_LINK: usize = 4;
/// Links that the chunks of one file are spread over.
const STRIPES: usize = 4;
/// Chunks being put together or on their way to the disk: 32 MiB.
const ACTIVE_MAX: usize = 32;

/// What is under way on one link.
#[derive(Debug)]
pub(super) struct Lane {
    window: Window,
    /// Bytes asked for and not there yet.
    in_flight: u32,
    flights: VecDeque<Flight>,
    /// More would have been asked for if the window had been larger.
    full: bool,
    /// Blocks the driver reads for this neighbor.
    pub reads: u32,
    /// Seeks heard from it in this second.
    pub seeks: (Option<Instant>, u32),
}

/// A block that was asked for.
#[derive(Debug)]
struct Flight {
    key: Key,
    offset: u32,
    length: u32,
    at: Instant,
}

impl Lane {
    fn new(now: Instant) -> Lane {
        Lane {
            window: Window::new(now),
            in_flight: 0,
            flights: VecDeque::new(),
            full: false,
            reads: 0,
            seeks: (None, 0),
        }
    }

    /// A block came: how long the one is that was asked for, `None` if none was.
    pub fn handle_block(&mut self, key: &Key, offset: u32, now: Instant) -> Option<u32> {
        let at = self.flights.iter().position(|flight| flight.key == *key && flight.offset == offset)?;
        let flight = self.flights.remove(at)?;
        self.in_flight -= flight.length;
        self.window.handle_block(flight.length, now.saturating_duration_since(flight.at), self.full, now);
        Some(flight.length)
    }

    /// Nothing more is expected of a chunk.
    pub fn forget(&mut self, key: &Key) {
        self.flights.retain(|flight| flight.key != *key);
        self.in_flight = self.flights.iter().map(|flight| flight.length).sum();
    }

    /// How long the next block of a chunk may be of which `left` bytes are not asked for; `None` if there is none, or
    /// it has to wait.
    fn room(&mut self, left: u32) -> Option<u32> {
        if left == 0 {
            return None;
        }
        let length = self.window.block().min(left);
        let waits = self.in_flight > 0 && self.in_flight + length > self.window.size();
        self.full |= waits;
        (!waits).then_some(length)
    }

    fn handle_asked(&mut self, key: Key, offset: u32, length: u32, now: Instant) {
        self.in_flight += length;
        self.flights.push_back(Flight { key, offset, length, at: now });
    }
}

/// How willingly a link is used: the next only if there is nothing before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The neighbor is nearer to the holder than this relay is.
    Downhill,
    /// So it is, and its bytes are paid for.
    Metered,
    /// It is not: what it has to get, it may have to get through here.
    Uphill,
}

/// A link a chunk may be asked over.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    link: LinkId,
    neighbor: NodeId,
    holder: NodeId,
    rank: Rank,
    cost: u32,
}

impl Blobs {
    /// Room for what is under way on a link, from its first message on.
    pub fn handle_link_up(&mut self, link: LinkId, now: Instant) {
        self.lanes.insert(link, Lane::new(now));
        self.handle_change();
    }

    /// The link is gone: what came over it is asked elsewhere, who waited at it waits no more.
    pub fn handle_link_down(&mut self, link: LinkId, now: Instant) {
        self.lanes.remove(&link);
        for pull in self.pulls.values_mut() {
            pull.waiters.remove(&link);
            if pull.link() == Some(link) {
                pull.fail(link, now);
                self.counters.elsewhere += 1;
            }
        }
        self.restless = true;
    }

    /// Ways or links are others than before.
    pub fn handle_change(&mut self) {
        self.restless |= !self.pulls.is_empty();
    }

    /// Asks for what is wanted, wherever it can be had, and says what has to be done.
    pub fn settle(&mut self, around: &mut RoutingView<'_>, now: Instant) -> VecDeque<Event> {
        if self.tick.is_some_and(|tick| tick <= now) {
            self.tick = None;
            self.restless = true;
            self.look_after(now);
        }
        if std::mem::take(&mut self.restless) {
            self.want_manifests(now);
            self.assign(around, now);
            self.flowing = true;
        }
        if std::mem::take(&mut self.flowing) {
            self.request(now);
        }
        self.tick = match self.pulls.is_empty() {
            true => None,
            false => self.tick.or(Some(now + TICK)),
        };
        std::mem::take(&mut self.events)
    }

    /// Gives each chunk that waits a link, oldest first.
    fn assign(&mut self, around: &mut RoutingView<'_>, now: Instant) {
        let mut busy: BTreeMap<LinkId, usize> = BTreeMap::new();
        let mut active = 0;
        for pull in self.pulls.values() {
            if let Some(link) = pull.link() {
                *busy.entry(link).or_default() += 1;
            }
            active += usize::from(!pull.is_idle());
        }
        let mut idle: Vec<(u64, Key)> = self
            .pulls
            .iter()
            .filter(|(_, pull)| pull.is_idle())
            .map(|(key, pull)| (pull.order, *key))
            .collect();
        idle.sort_unstable();
        let mut known: BTreeMap<FileId, Vec<Candidate>> = BTreeMap::new();
        for (_, key) in idle {
            if active >= ACTIVE_MAX {
                break;
            }
            let waits = matches!(key.1, Chunk::Data(_)) && self.manifest(&key.0).is_none();
            if waits {
                continue;
            }
            let all = known.entry(key.0).or_insert_with(|| self.candidates(&key.0, around));
            let Some(pull) = self.pulls.get(&key) else { continue };
            let open: Vec<Candidate> =
                all.iter().filter(|c| pull.may_ask(&c.link, &c.neighbor)).copied().collect();
            if open.is_empty() {
                self.nowhere(key, around, now);
                continue;
            }
            let rank = open.iter().map(|c| c.rank).min();
            let stripes = open.iter().filter(|c| Some(c.rank) == rank).take(STRIPES);
            let load = |c: &&Candidate| busy.get(&c.link).copied().unwrap_or_default();
            let Some(chosen) =
                stripes.filter(|c| load(c) < PER_LINK).min_by_key(|c| (load(c), c.cost)).copied()
            else {
                continue;
            };
            *busy.entry(chosen.link).or_default() += 1;
            active += 1;
            self.ask(key, chosen, around.own, now);
        }
    }

    /// The links over which a file can be had, the best first.
    fn candidates(&self, file: &FileId, around: &mut RoutingView<'_>) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        let Some(known) = self.files.get(file) else { return found };
        for holder in known.holders.keys().filter(|holder| **holder != around.own) {
            let ways = (around.ways)(holder);
            let own = ways.iter().map(|way| way.cost).min().unwrap_or_default();
            for way in ways {
                for open in around.links.iter().filter(|open| open.neighbor == way.neighbor) {
                    let rank = match (way.beyond < own, open.metered) {
                        (true, false) => Rank::Downhill,
                        (true, true) => Rank::Metered,
                        (false, _) => Rank::Uphill,
                    };
                    let (link, neighbor, cost) = (open.link, way.neighbor, way.cost);
                    found.push(Candidate { link, neighbor, holder: *holder, rank, cost });
                }
            }
        }
        found.sort_by_key(|c| (c.rank, c.cost, c.link));
        let mut seen = BTreeSet::new();
        found.retain(|c| seen.insert(c.link));
        found
    }

    fn ask(&mut self, key: Key, chosen: Candidate, own: NodeId, now: Instant) {
        let Some(pull) = self.pulls.get_mut(&key) else { return };
        let path = pull.handle_asked(chosen.link, own, now);
        let (file, chunk) = key;
        self.lanes.entry(chosen.link).or_insert_with(|| Lane::new(now));
        self.send(chosen.link, FileMessage::Want { file, chunk, holder: chosen.holder, path });
    }

    /// Asks for as many blocks as the windows allow, the oldest chunk first.
    fn request(&mut self, now: Instant) {
        let coming = self.pulls.iter().filter(|(_, pull)| pull.left() > 0);
        let mut coming: Vec<(u64, Key, LinkId)> =
            coming.filter_map(|(key, pull)| Some((pull.order, *key, pull.link()?))).collect();
        coming.sort_unstable();
        for lane in self.lanes.values_mut() {
            lane.full = false;
        }
        for (_, key, link) in coming {
            let lane = self.lanes.entry(link).or_insert_with(|| Lane::new(now));
            let Some(pull) = self.pulls.get_mut(&key) else { continue };
            while let Some(length) = lane.room(pull.left()) {
                let (file, chunk) = key;
                let offset = pull.handle_pulled(length);
                lane.handle_asked(key, offset, length, now);
                self.events.push_back(Event::Send(link, FileMessage::Pull { file, chunk, offset, length }));
            }
        }
    }
}

/// Grows by a block each round while answers come at once, shrinks by a fifth when they queue.
#[derive(Debug)]
struct Window {
    size: u32,
    /// Below this the window doubles each round; at first until a queue is seen.
    open_to: u32,
    /// The fastest answer of this time and of the one before.
    base: [Option<Duration>; 2],
    base_until: Instant,
    /// The window of before, while the queue is let run empty so that the fastest answer can be seen: else
    /// a queue that always stands would pass for the length of the way.
    emptying: Option<(u32, Instant)>,
    shrunk: Instant,
}

impl Window {
    fn new(now: Instant) -> Window {
        Window {
            size: WINDOW_FIRST,
            open_to: WINDOW_MAX,
            base: [None; 2],
            base_until: now + BASE_FOR,
            emptying: None,
            shrunk: now,
        }
    }

    /// Bytes that may be on their way.
    fn size(&self) -> u32 {
        self.size
    }

    /// Bytes to ask for at a time.
    fn block(&self) -> u32 {
        if self.size < 4 * BLOCK { WINDOW_MIN } else { BLOCK }
    }

    /// A block of `length` bytes came `took` after it was asked for. `full` says that the window was what
    /// kept more from being asked.
    fn handle_block(&mut self, length: u32, took: Duration, full: bool, now: Instant) {
        if now >= self.base_until {
            self.base = [None, self.base[0]];
            self.base_until = now + BASE_FOR;
            self.emptying = Some((self.size, now + took * 2));
            self.size = WINDOW_MIN;
        }
        self.base[0] = Some(self.base[0].map_or(took, |base| base.min(took)));
        if let Some((size, until)) = self.emptying {
            if now >= until {
                // Not at once: a whole window in one go is a queue.
                (self.open_to, self.emptying) = (size, None);
            }
            return;
        }
        let base = self.base.iter().flatten().min().copied().unwrap_or(took);
        let queue = took.saturating_sub(base);
        if queue > QUEUE / 2 {
            self.open_to = 0;
        }
        if queue > QUEUE {
            // Once each round: what was asked before the window shrank says nothing new.
            if now >= self.shrunk + took {
                self.size = (self.size / 5 * 4).max(WINDOW_MIN);
                self.shrunk = now;
            }
        } else if queue < QUEUE / 2 && full {
            let more = if self.size < self.open_to {
                u64::from(length)
            } else {
                u64::from(length) * u64::from(self.block()) / u64::from(self.size)
            };
            self.size = self.size.saturating_add(more as u32).min(WINDOW_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::epoch;

    /// A link of so many bytes per second and a delay: what queue does the window settle at?
    fn settle(rate: u64, delay: Duration) -> (Duration, u64) {
        let start = epoch();
        let (mut now, mut free_at) = (start, start);
        let mut window = Window::new(now);
        let mut flights: std::collections::VecDeque<(Instant, u32, Instant)> = Default::default();
        let (mut worst, mut bytes) = (Duration::ZERO, 0);
        while now < start + Duration::from_secs(60) {
            while flights.is_empty()
                || flights.iter().map(|f| f.1).sum::<u32>() + window.block() <= window.size()
            {
                let length = window.block();
                let queue = free_at.saturating_duration_since(now);
                if now > start + Duration::from_secs(30) {
                    worst = worst.max(queue);
                    bytes += u64::from(length);
                }
                free_at = free_at.max(now) + Duration::from_micros(u64::from(length) * 1_000_000 / rate);
                flights.push_back((now, length, free_at + delay));
            }
            let (asked, length, arrives) = flights.pop_front().expect("the window is never empty");
            now = now.max(arrives);
            window.handle_block(length, now - asked, true, now);
        }
        (worst, bytes / 30)
    }

    #[test]
    fn a_link_is_used_and_its_queue_stays_short() {
        for (mbit, delay_ms) in [(2, 30), (10, 5), (10, 60), (100, 5), (100, 30)] {
            let rate = mbit * 1_000_000 / 8;
            let (queue, used) = settle(rate, Duration::from_millis(delay_ms));
            println!("{mbit} Mbit/s, {delay_ms} ms: queue {queue:?}, used {} %", used * 100 / rate);
            let block = Duration::from_micros(u64::from(BLOCK) * 1_000_000 / rate);
            assert!(queue <= QUEUE * 2 + block, "{mbit} Mbit/s: {queue:?}");
            assert!(used * 10 >= rate * 7, "{mbit} Mbit/s: {used} of {rate}");
        }
    }
}
