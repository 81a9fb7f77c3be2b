//! Sound that leaves once more before anybody asks: the same octets under the same numbers, 20 and 60 ms later, beside the
//! packet that is new then. Whether that is done is decided in `mending`.

use super::{Egress, MAX_SEALED_LEN, Sent, Way};
use crate::{
    mending::Times,
    rtp::packet::UDP_OVERHEAD,
    stats::Traffic,
    track::{Track, Tracks},
};

/// What of a sound has left again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Repeated {
    times: Times,
    /// The next index to leave for the second and for the third time.
    next: [u64; 2],
    /// So many leave once more right before the next new one.
    again: Option<usize>,
    /// They did, so many bits; and the transport-wide number of the new one.
    went: Option<(u64, u64)>,
}

/// After this much of the sound a packet leaves again: 20 and 60 ms at 48 kHz, less what a clock may be off.
const AFTER: [u32; 2] = [960 - 96, 2880 - 96];
/// With one new packet: four frames of 5 ms, or what waited while nothing came.
const MOST: usize = 4;

impl Egress {
    /// From now on each packet of the sound leaves so often.
    pub fn set_repeats(&mut self, times: Times) {
        let before = self.repeated.times.count();
        for next in self.repeated.next.iter_mut().skip(before) {
            *next = self.next;
        }
        self.repeated.times = times;
    }

    /// So many of the newest packets leave once more right before the next new one.
    pub fn go_again(&mut self, count: usize) {
        self.repeated.again = Some(count);
    }

    /// They did: the transport-wide number of the new one, and the bits that left before it.
    pub fn take_again(&mut self) -> Option<(u64, u64)> {
        self.repeated.went.take()
    }

    /// A new packet leaves next: sends what is to leave before it. Gives what that was.
    pub(super) fn repeat_before(&mut self, tracks: &Tracks, way: &mut Way<'_>) -> Traffic {
        let mut traffic = Traffic::default();
        let Some(count) = self.repeated.again.take() else { return traffic };
        for back in (0..count as u64).rev() {
            let missed = self.missed_at(back);
            let ring = missed.and_then(|missed| tracks.get(&missed.track)).map(Track::ring);
            let there =
                missed.zip(ring).and_then(|(missed, ring)| Some((missed, ring.get_sent(missed.number)?)));
            if let Some((missed, there)) = there
                && way.batch.has_room(2, MAX_SEALED_LEN)
                && let Sent::Octets(len) = self.once_more(missed, there, way)
            {
                traffic.handle_packet(len);
            }
        }
        if let Some(path) = &way.path {
            let octets = traffic.octets + traffic.packets * UDP_OVERHEAD as u64;
            self.repeated.went = Some((path.next_number(), octets * 8)).filter(|_| traffic.packets > 0);
        }
        traffic
    }

    /// Sends again what is due by now, a packet having just left. Gives what that was.
    pub(super) fn repeat(&mut self, tracks: &Tracks, way: &mut Way<'_>) -> Traffic {
        let mut traffic = Traffic::default();
        for (again, after) in AFTER.into_iter().enumerate().take(self.repeated.times.count()) {
            for _ in 0..MOST {
                let index = self.repeated.next[again];
                // The third time is not the second one.
                let newest = self.last.is_none_or(|last| index + again as u64 >= last.index);
                if newest || !way.batch.has_room(1, MAX_SEALED_LEN) {
                    break;
                }
                match self.repeat_one(index, after, tracks, way) {
                    Some(0) => {}
                    Some(len) => traffic.handle_packet(len),
                    None => break,
                }
                self.repeated.next[again] = index + 1;
            }
        }
        traffic
    }

    /// Sends the packet with this index again, if it is that much older than the newest: its octets; none if its publisher
    /// lost it, or nobody remembers it. `None` as long as it is younger.
    fn repeat_one(&mut self, index: u64, after: u32, tracks: &Tracks, way: &mut Way<'_>) -> Option<usize> {
        let Some(missed) = self.missed_under(index) else { return Some(0) };
        let ring = tracks.get(&missed.track).map(Track::ring);
        let Some(there) = ring.and_then(|ring| ring.get_sent(missed.number)) else { return Some(0) };
        let (last, run) = (self.last?, self.run_of(index)?);
        let age = last.timestamp.wrapping_sub(run.timeline.at(there.0.timestamp));
        if age < after {
            return None;
        }
        match self.once_more(missed, there, way) {
            Sent::Octets(len) => Some(len),
            _ => Some(0),
        }
    }
}
