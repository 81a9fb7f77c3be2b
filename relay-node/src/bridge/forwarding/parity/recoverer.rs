//! The receiving side of parity, for one alias of a link: what came lately is kept, and the one datagram of a group that
//! did not come is rebuilt, as it was sent. Whether it is news is for the alias' window to say. No clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    mesh::{Alias, DatagramHeader, DatagramKind},
    parity::{Group, Parity},
};

use super::protector::add;

/// Datagrams that are kept, by link sequence. A parity comes soon after what it is of.
const KEPT: usize = 32;
/// A longer one is not kept: no datagram of a link is.
const OCTETS_MAX: usize = 1500;
/// What came before that is not kept any more, and parities wait no longer for what may still come.
const KEPT_FOR: Duration = Duration::from_millis(250);
/// Parities of groups that lack more than one.
const WAITING_MAX: usize = 8;
/// Without a parity for so long none is waited for, and after the second time nothing is kept.
const HEARD_FOR: Duration = Duration::from_millis(250);
const OVER_AFTER: Duration = Duration::from_secs(2);

/// What a relay knows of the newest datagrams of an alias.
#[derive(Debug)]
pub(crate) struct Recoverer {
    kept: Vec<Slot>,
    newest: Option<u16>,
    waiting: VecDeque<Waiting>,
    /// When the last parity came.
    heard: Instant,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Slot {
    came: Option<Instant>,
    sequence: u16,
    flags: u8,
    payload: Vec<u8>,
}

/// A parity of a group that lacks more than one.
#[derive(Debug)]
struct Waiting {
    parity: Parity,
    body: Bytes,
    since: Instant,
}

/// Why a parity is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It says what cannot be.
    Malformed,
    /// It is of datagrams that never came near, or of such as are long gone.
    Absent,
}

/// What became of parities.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// They brought nothing back: nothing was missing, or too much.
    pub useless: u64,
    /// They would bring back what no relay sends.
    pub malformed: u64,
}

impl Recoverer {
    /// One that has just heard a first parity.
    pub fn new(now: Instant) -> Recoverer {
        let kept = std::iter::repeat_with(Slot::default).take(KEPT).collect();
        Recoverer { kept, newest: None, waiting: VecDeque::new(), heard: now, counts: Counts::default() }
    }

    /// A datagram came that had not come before.
    pub fn handle_datagram(&mut self, header: &DatagramHeader, payload: &[u8], now: Instant) {
        if payload.len() > OCTETS_MAX {
            return;
        }
        let sequence = header.sequence;
        let is_newer = |newest: u16| sequence.wrapping_sub(newest) < 0x8000;
        if self.newest.is_none_or(is_newer) {
            self.newest = Some(sequence);
        }
        let slot = &mut self.kept[usize::from(sequence) % KEPT];
        (slot.came, slot.sequence, slot.flags) = (Some(now), sequence, header.flags());
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
    }

    /// A parity came. [`Recoverer::poll_rebuilt`] says what it brings.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why it is dropped.
    pub fn handle_parity(&mut self, first: u16, payload: &[u8], now: Instant) -> Result<(), Refused> {
        let (parity, body) = Parity::split(first, payload).ok_or(Refused::Malformed)?;
        if body.len() > OCTETS_MAX {
            return Err(Refused::Malformed);
        }
        self.heard = now;
        // Nothing is kept yet.
        let Some(newest) = self.newest else {
            self.counts.useless += 1;
            return Ok(());
        };
        // The last of a group may be the one that is missing.
        if newest.wrapping_sub(first).wrapping_add(1) as usize >= KEPT {
            return Err(Refused::Absent);
        }
        match self.missing(parity.group, now).count() {
            0 => self.counts.useless += 1,
            _ => {
                if self.waiting.len() == WAITING_MAX {
                    self.waiting.pop_front();
                    self.counts.useless += 1;
                }
                self.waiting.push_back(Waiting { parity, body: Bytes::copy_from_slice(body), since: now });
            }
        }
        Ok(())
    }

    /// The next datagram that was missing; call it until there is none.
    pub fn poll_rebuilt(&mut self, alias: Alias, now: Instant) -> Option<(DatagramHeader, Bytes)> {
        while let Some(oldest) = self.waiting.front()
            && now.saturating_duration_since(oldest.since) > KEPT_FOR
        {
            self.waiting.pop_front();
            self.counts.useless += 1;
        }
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            let (one, more) = {
                let mut missing = self.missing(waiting.parity.group, now);
                (missing.next(), missing.next().is_some())
            };
            match (one, more) {
                (Some(_), true) => at += 1,
                (Some(sequence), false) => {
                    let rebuilt = self.rebuild(waiting, sequence);
                    self.waiting.remove(at);
                    let Some((flags, payload)) = rebuilt else {
                        self.counts.malformed += 1;
                        continue;
                    };
                    let header = DatagramHeader::of(flags, alias, sequence);
                    self.handle_datagram(&header, &payload, now);
                    return Some((header, payload));
                }
                (None, _) => {
                    self.waiting.remove(at);
                    self.counts.useless += 1;
                }
            }
        }
        None
    }

    /// Whether a parity may still come for what is missing now.
    pub fn expects(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) <= HEARD_FOR
    }

    /// No parity has come for long.
    pub fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) > OVER_AFTER
    }

    /// Whether [`Recoverer::take_counts`] has something to say.
    pub fn has_news(&self) -> bool {
        self.counts != Counts::default()
    }

    /// What became of parities since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Octets that are kept.
    pub fn held(&self) -> usize {
        let kept: usize = self.kept.iter().map(|slot| slot.payload.len()).sum();
        kept + self.waiting.iter().map(|waiting| waiting.body.len()).sum::<usize>()
    }

    fn missing(&self, group: Group, now: Instant) -> impl Iterator<Item = u16> {
        group.sequences().filter(move |sequence| self.kept(*sequence, now).is_none())
    }

    fn kept(&self, sequence: u16, now: Instant) -> Option<&Slot> {
        let slot = &self.kept[usize::from(sequence) % KEPT];
        let is_young = |came: Instant| now.saturating_duration_since(came) <= KEPT_FOR + KEPT_FOR;
        (slot.sequence == sequence && slot.came.is_some_and(is_young)).then_some(slot)
    }

    /// The first octet and what stands behind the header of a datagram of which all others of the group are here; `None`
    /// if no relay sends that.
    fn rebuild(&self, waiting: &Waiting, missing: u16) -> Option<(u8, Bytes)> {
        let Parity { group, mut flags, mut length } = waiting.parity;
        let mut body = waiting.body.to_vec();
        for sequence in group.sequences().filter(|sequence| *sequence != missing) {
            let slot = &self.kept[usize::from(sequence) % KEPT];
            if slot.payload.len() > body.len() {
                return None;
            }
            flags ^= slot.flags;
            length ^= slot.payload.len() as u16;
            add(&mut body, &slot.payload);
        }
        let length = usize::from(length);
        let is_sent = matches!(
            DatagramHeader::of(flags, Alias(0), missing).kind,
            DatagramKind::Rtp | DatagramKind::SenderClock | DatagramKind::Fragment | DatagramKind::Withheld
        );
        // What stands behind the shorter ones is nothing.
        if !is_sent || body.get(length..)?.iter().any(|octet| *octet != 0) {
            return None;
        }
        body.truncate(length);
        Some((flags, body.into()))
    }
}
