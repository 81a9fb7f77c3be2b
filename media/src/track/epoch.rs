//! The epochs of a stream's tracks: one counter for all who publish it at this relay, so that a new start is
//! newer than every one before. What a packet of another epoch does to a track is in `track`.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::id::{StreamTrack, StreamTracks, place};

/// The epochs of a stream's tracks, counted by all who publish it at this relay: whoever starts a track
/// anew takes the next one, so that it is newer than all before, however many there were.
#[derive(Debug, Clone)]
pub struct Epochs(Arc<[AtomicU32; StreamTracks::COUNT as usize]>);

/// An epoch that a session has taken, and how many were taken before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldEpoch(u32);

/// Whether an epoch came after another one, as both stand on packets.
pub fn is_newer(epoch: u8, than: u8) -> bool {
    (1..8).contains(&(epoch.wrapping_sub(than) & 0x0f))
}

impl Epochs {
    /// The first epoch will be the one after `before`.
    pub fn new(before: u8) -> Epochs {
        Epochs(Arc::new(std::array::from_fn(|_| AtomicU32::new(before.into()))))
    }

    /// A session begins to send: the next epoch of this track is its own.
    pub fn take(&self, track: StreamTrack) -> HeldEpoch {
        HeldEpoch(self.0[place(track)].fetch_add(1, Ordering::AcqRel).wrapping_add(1))
    }

    /// A session that holds an epoch starts anew; `None` if another session has taken the track since.
    pub fn advance(&self, track: StreamTrack, held: HeldEpoch) -> Option<HeldEpoch> {
        let next = held.0.wrapping_add(1);
        self.0[place(track)]
            .compare_exchange(held.0, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then_some(HeldEpoch(next))
    }
}

impl HeldEpoch {
    /// As it stands on packets: 0 to 15.
    pub fn epoch(self) -> u8 {
        self.0 as u8 & 0x0f
    }
}
