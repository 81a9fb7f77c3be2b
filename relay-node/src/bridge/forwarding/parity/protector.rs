//! The sending side of parity: which datagrams are a group, when its parity is due, and how much of the link all parity
//! may take. The datagrams themselves are those that are kept for repairs. No clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use protocol::{
    mesh::{Alias, DatagramHeader, Fragment},
    parity::{Cover, Group, Parity, Protection},
};

use super::{
    super::{
        packet::{LANES, SOUND, VIDEO},
        sent::{Kept, Sent},
    },
    SPREAD,
};

/// How much more than [`SPREAD`] jitter may make of it: what is 80 ms apart at its source is not held to be more.
const JITTER: Duration = Duration::from_millis(20);
/// A parity leaves so long after the last of its group: QUIC puts into one packet what leaves at once, and what is lost
/// together brings nothing back.
const APART: Duration = Duration::from_millis(5);
/// Parities of a lane that wait for room. The oldest goes.
const WAITING_MAX: usize = 32;
/// The most of what a link is thought to carry, in per cent.
const SHARE: u64 = 30;
/// What a link is taken to carry of which nothing is known, in bits per second: as where tracks are spread over links.
const UNKNOWN: u64 = 8_000_000;
/// Parity of so long may leave at once after a quiet time, and two datagrams in any case.
const BURST: Duration = Duration::from_millis(200);
const BURST_LEAST: u64 = 2 * 1500;
/// What QUIC, UDP and IP put around a datagram, about.
const AROUND: u64 = 60;

/// The parity of one link.
#[derive(Debug, Default)]
pub(crate) struct Protector {
    asked: Protection,
    waiting: [VecDeque<Waiting>; LANES],
    budget: Budget,
    counts: Counts,
}

/// A parity that is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub alias: Alias,
    pub group: Group,
    since: Instant,
}

/// What became of parities.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Sent, of sound and of pictures.
    pub sent: [u64; 2],
    /// Octets of their datagrams.
    pub octets: [u64; 2],
    /// Not sent: there was no room.
    pub shed: u64,
}

/// How the datagrams of a track become groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    /// A parity is due after so many.
    every: u8,
    /// Of which ones it is: bit `i` stands for the one sent `i` before the last.
    back: u16,
    /// The group has all of them or is none. Else it has those that are not too old.
    is_whole: bool,
}

impl Pattern {
    const AUDIO_ONCE: Pattern = Pattern { every: 4, back: 0b1111, is_whole: false };
    /// Each is in two groups that share no other, so that what one cannot bring back mostly the other one can. Of five in
    /// a row with their parities between them, any three that follow each other on the wire come back.
    const AUDIO_TWICE: Pattern = Pattern { every: 2, back: 0b1_1011, is_whole: false };
    /// A picture that comes slower is mended by repairs.
    const VIDEO: Pattern = Pattern { every: 10, back: 0b11_1111_1111, is_whole: true };
}

/// What was sent of a track since its last parity.
#[derive(Debug, Default)]
pub(crate) struct Since {
    count: u8,
    /// When the first of them was sent.
    first: Option<Instant>,
    /// When the last one was sent.
    last: Option<Instant>,
}

impl Since {
    /// Another one is sent; the group that is closed by it.
    pub fn handle_sent(
        &mut self,
        pattern: Pattern,
        kept: &Kept,
        sequence: u16,
        now: Instant,
    ) -> Option<Group> {
        let apart = self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let age = now.saturating_duration_since(*self.first.get_or_insert(now));
        self.count = self.count.saturating_add(1);
        // The next one would come when the first is too old.
        let is_last = !pattern.is_whole && age + apart > SPREAD;
        if self.count < pattern.every && !is_last {
            return None;
        }
        let group = group(pattern, kept, sequence, now)?;
        (self.count, self.first) = (0, None);
        Some(group)
    }
}

/// The group of a pattern whose last is this one.
fn group(pattern: Pattern, kept: &Kept, last: u16, now: Instant) -> Option<Group> {
    let is_of_it = |back: u16| {
        let at = kept.sent_at(last.wrapping_sub(back));
        pattern.back >> back & 1 == 1
            && at.is_some_and(|at| now.saturating_duration_since(at) <= SPREAD + JITTER)
    };
    let furthest = (0..Group::SPAN).rev().find(|back| is_of_it(*back))?;
    let first = last.wrapping_sub(furthest);
    let bits =
        (0..=furthest).filter(|back| is_of_it(*back)).fold(0_u16, |bits, back| bits | 1 << (furthest - back));
    (!pattern.is_whole || bits.count_ones() == pattern.back.count_ones()).then_some(Group { first, bits })
}

impl Protector {
    /// What the neighbor asks for from now on.
    pub fn handle_asked(&mut self, asked: Protection) {
        if asked == self.asked {
            return;
        }
        self.asked = asked;
        for (lane, waiting) in self.waiting.iter_mut().enumerate() {
            let cover = if lane <= SOUND { asked.audio } else { asked.video };
            if cover == Cover::None {
                self.counts.shed += waiting.len() as u64;
                waiting.clear();
            }
        }
    }

    /// What the link is thought to carry, in bits per second.
    pub fn handle_believed(&mut self, bits: Option<u64>) {
        self.budget.bits = bits;
    }

    /// Whether anything is asked for.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.asked != Protection::NONE
    }

    /// How the datagrams of a track become groups, if they do.
    pub fn pattern(&self, lane: usize, precedence: u8) -> Option<Pattern> {
        match lane {
            ..=SOUND => match self.asked.audio {
                Cover::None => None,
                Cover::Once => Some(Pattern::AUDIO_ONCE),
                Cover::Twice => Some(Pattern::AUDIO_TWICE),
            },
            VIDEO if precedence == 0 && self.asked.video != Cover::None => Some(Pattern::VIDEO),
            _ => None,
        }
    }

    /// A parity is due: it waits behind what it is of.
    pub fn push(&mut self, lane: usize, alias: Alias, group: Group, now: Instant) {
        let waiting = &mut self.waiting[lane];
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
            self.counts.shed += 1;
        }
        waiting.push_back(Waiting { alias, group, since: now });
    }

    /// Whether a parity of this lane waits.
    #[inline]
    pub fn waits(&self, lane: usize) -> bool {
        !self.waiting[lane].is_empty()
    }

    /// The next parity of a lane that is neither too early nor too late.
    pub fn front(&mut self, lane: usize, now: Instant) -> Option<Waiting> {
        while let Some(front) = self.waiting[lane].front() {
            let waited = now.saturating_duration_since(front.since);
            if waited <= SPREAD {
                return (waited >= APART).then_some(*front);
            }
            self.shed(lane);
        }
        None
    }

    /// When the next parity may leave, if one is too early.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let fronts = self.waiting.iter().filter_map(VecDeque::front);
        fronts.map(|front| front.since + APART).filter(|at| *at > now).min()
    }

    /// The next parity of a lane does not leave.
    pub fn shed(&mut self, lane: usize) {
        self.waiting[lane].pop_front();
        self.counts.shed += 1;
    }

    /// Whether the next parity of a lane may leave, as a datagram of so many octets. It is gone either way.
    pub fn leaves(&mut self, lane: usize, octets: usize, now: Instant) -> bool {
        // Sound is never kept from leaving by what pictures took.
        let reserve = if lane <= SOUND { 0 } else { self.budget.most() / 2 };
        if !self.budget.spend(octets as u64 + AROUND, reserve, now) {
            self.shed(lane);
            return false;
        }
        self.waiting[lane].pop_front();
        let kind = usize::from(lane > SOUND);
        self.counts.sent[kind] += 1;
        self.counts.octets[kind] += octets as u64;
        true
    }

    /// Whether [`Protector::take_counts`] has something to say.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.counts != Counts::default()
    }

    /// What became of parities since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}

/// The octets that parity may take.
#[derive(Debug, Default)]
struct Budget {
    bits: Option<u64>,
    /// In millionths of an octet.
    left: u64,
    /// When that was so.
    at: Option<Instant>,
}

impl Budget {
    /// Octets in a second.
    fn rate(&self) -> u64 {
        self.bits.unwrap_or(UNKNOWN).saturating_mul(SHARE) / 800
    }

    /// Octets that may leave at once.
    fn most(&self) -> u64 {
        (self.rate().saturating_mul(BURST.as_millis() as u64) / 1000).max(BURST_LEAST)
    }

    /// Whether so many octets may leave, and this reserve stays.
    fn spend(&mut self, octets: u64, reserve: u64, now: Instant) -> bool {
        let most = self.most().saturating_mul(1_000_000);
        let past = self.at.replace(now).map(|at| now.saturating_duration_since(at).as_micros() as u64);
        let earned = past.map_or(most, |past| past.saturating_mul(self.rate()));
        self.left = self.left.saturating_add(earned).min(most);
        let (octets, reserve) = (octets * 1_000_000, reserve.saturating_mul(1_000_000));
        let is_there = self.left >= octets + reserve;
        if is_there {
            self.left -= octets;
        }
        is_there
    }
}

/// Appends the head of a parity and the exclusive or of these datagrams, of which the longest has so many octets behind
/// its header.
pub(crate) fn write<'a>(
    group: Group,
    alias: Alias,
    longest: usize,
    sent: impl Iterator<Item = &'a Sent> + Clone,
    out: &mut BytesMut,
) {
    let (mut flags, mut length) = (0, 0);
    for sent in sent.clone() {
        let Sent { kind, epoch, sequence, .. } = *sent;
        flags ^= DatagramHeader { kind, epoch, alias, sequence }.flags();
        length ^= sent.len() as u16;
    }
    Parity { group, flags, length }.write(out);
    let begin = out.len();
    out.resize(begin + longest, 0);
    let body = &mut out[begin..];
    for sent in sent {
        let mut at = 0;
        if let Some(fragment) = &sent.fragment {
            let mut head = [0; Fragment::LEN];
            fragment.write(&mut &mut head[..]);
            add(body, &head);
            at = head.len();
        }
        add(&mut body[at..], &sent.payload);
    }
}

/// Exclusive or of the first octets of `sum` with others.
pub(crate) fn add(sum: &mut [u8], octets: &[u8]) {
    sum.iter_mut().zip(octets).for_each(|(sum, octet)| *sum ^= octet);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn all_parity_takes_at_most_its_share_of_the_link() {
        for (bits, expected) in [(Some(1_000_000), 37_500), (None, 300_000)] {
            let mut budget = Budget { bits, ..Budget::default() };
            let (mut now, mut sent) = (clock::now(), 0);
            while budget.spend(500, 0, now) {}
            for _ in 0..10_000 {
                now += MS;
                while budget.spend(500, 0, now) {
                    sent += 500;
                }
            }
            let per_second = sent / 10;
            assert!((expected * 99 / 100..=expected).contains(&per_second), "{per_second} of {bits:?}");
        }
    }

    #[test]
    fn pictures_leave_the_half_of_it_for_sound() {
        let (mut protector, now) = (Protector::default(), clock::now());
        protector.handle_asked(Protection { audio: Cover::Twice, video: Cover::Once });
        protector.handle_believed(Some(1_000_000));
        let group = Group { first: 0, bits: 1 };
        let mut leave = |lane| {
            protector.push(lane, Alias(1), group, now);
            protector.leaves(lane, 1200, now)
        };
        let pictures = (0..100).filter(|_| leave(VIDEO)).count();
        let sound = (0..100).filter(|_| leave(SOUND)).count();
        assert_eq!((pictures, sound), (2, 3), "of 7500 octets");
        assert_eq!(protector.take_counts(), Counts { sent: [3, 2], octets: [3600, 2400], shed: 195 });
    }

    #[test]
    fn what_waits_is_bounded_and_goes_when_it_is_late_or_not_asked_for() {
        let (mut protector, now) = (Protector::default(), clock::now());
        protector.handle_asked(Protection { audio: Cover::Once, video: Cover::Once });
        let group = Group { first: 0, bits: 1 };
        (0..100).for_each(|_| protector.push(SOUND, Alias(1), group, now));
        assert_eq!(protector.take_counts().shed, 100 - WAITING_MAX as u64);
        assert!(protector.front(SOUND, now).is_none(), "too early");
        assert_eq!(protector.poll_timeout(now), Some(now + APART));
        assert!(protector.front(SOUND, now + APART).is_some());
        assert!(protector.front(SOUND, now + SPREAD).is_some());
        assert!(protector.front(SOUND, now + SPREAD + MS).is_none() && !protector.waits(SOUND));
        assert_eq!(protector.take_counts().shed, WAITING_MAX as u64);
        (0..3).for_each(|_| protector.push(VIDEO, Alias(1), group, now));
        protector.handle_asked(Protection { audio: Cover::Once, video: Cover::None });
        assert!(!protector.waits(VIDEO) && protector.is_on());
        assert_eq!(protector.take_counts().shed, 3);
    }
}
