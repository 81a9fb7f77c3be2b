//! Which packets of a peer have come (RFC 3711 section 3.3.2): a window for each of its newest sources, the
//! highest index of all before. Only what was authenticated may be admitted here; the caller sees to that.

use std::collections::BTreeMap;

use crate::rtp::sequence::extend;

/// A browser with audio, video, two retransmission streams and simulcast stays far below this.
pub(super) const MAX_SOURCES: usize = 32;

/// The replay windows of a peer's sources. The newest have a window each; of those before them the highest
/// index is remembered for as long as the keys live, so that nothing they sent is ever taken again.
pub(super) struct Windows {
    recent: BTreeMap<u32, ReplayWindow>,
    former: BTreeMap<u32, u64>,
    former_max: usize,
    uses: u64,
}

impl Windows {
    pub(super) fn new(former_max: usize) -> Windows {
        Windows { recent: BTreeMap::new(), former: BTreeMap::new(), former_max, uses: 0 }
    }

    pub(super) fn window(&self, ssrc: u32) -> ReplayWindow {
        if let Some(window) = self.recent.get(&ssrc) {
            return *window;
        }
        match self.former.get(&ssrc) {
            Some(highest) => ReplayWindow { highest: Some(*highest), seen: u128::MAX, used: 0 },
            None => ReplayWindow::default(),
        }
    }

    /// True if this source is known, or can be remembered as long as it has to be.
    pub(super) fn has_room(&self, ssrc: u32) -> bool {
        self.recent.len() < MAX_SOURCES
            || self.recent.contains_key(&ssrc)
            || self.former.len() < self.former_max
            || self.former.contains_key(&ssrc)
    }

    /// Remembers an authenticated packet: only such a one may make a source known.
    pub(super) fn admit(&mut self, ssrc: u32, index: u64) {
        self.uses += 1;
        if !self.recent.contains_key(&ssrc) {
            self.make_room();
            let window = match self.former.remove(&ssrc) {
                Some(highest) => ReplayWindow { highest: Some(highest), seen: u128::MAX, used: 0 },
                None => ReplayWindow::default(),
            };
            self.recent.insert(ssrc, window);
        }
        if let Some(window) = self.recent.get_mut(&ssrc) {
            window.admit(index);
            window.used = self.uses;
        }
    }

    /// The source that was silent for longest keeps only its highest index.
    fn make_room(&mut self) {
        if self.recent.len() < MAX_SOURCES {
            return;
        }
        let oldest = self.recent.iter().min_by_key(|(_, window)| window.used).map(|(ssrc, _)| *ssrc);
        if let Some((ssrc, window)) = oldest.and_then(|ssrc| self.recent.remove_entry(&ssrc)) {
            self.former.insert(ssrc, window.highest.unwrap_or_default());
        }
    }
}

/// What an index is to a replay window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Fresh,
    Seen,
    Old,
}

/// RFC 3711 section 3.3.2 with a window of 128 packets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReplayWindow {
    pub(super) highest: Option<u64>,
    seen: u128,
    /// Which use of the keys was its last.
    used: u64,
}

impl ReplayWindow {
    /// The most likely index of a packet with this sequence number (RFC 3711 appendix A).
    pub(super) fn guess(&self, sequence: u16) -> u64 {
        match self.highest {
            None => u64::from(sequence),
            Some(highest) => extend(highest, sequence),
        }
    }

    pub(super) fn standing(&self, index: u64) -> Standing {
        match self.highest.and_then(|highest| highest.checked_sub(index)) {
            None => Standing::Fresh,
            Some(age) if age >= 128 => Standing::Old,
            Some(age) if self.seen & (1 << age) == 0 => Standing::Fresh,
            Some(_) => Standing::Seen,
        }
    }

    fn admit(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => self.seen |= 1 << (highest - index),
            Some(highest) => {
                let step = index - highest;
                self.seen = if step < 128 { self.seen << step } else { 0 } | 1;
                self.highest = Some(index);
            }
            None => (self.highest, self.seen) = (Some(index), 1),
        }
    }
}
