//! What a link lost on the way here, counted for whoever decides about parity. One thread writes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mesh_routing::Heard;

/// Of sound and of pictures, since the link is up.
#[derive(Debug, Default)]
pub(crate) struct Tally([OfKind; 2]);

#[derive(Debug, Default)]
struct OfKind {
    came: AtomicU64,
    lost: AtomicU64,
    in_row: AtomicU64,
    late: AtomicU64,
}

impl Tally {
    /// A datagram came that was not missed. One that was rebuilt before it was missed is lost all the same.
    #[inline]
    pub fn handle_came(&self, kind: usize, is_rebuilt: bool) {
        let count = if is_rebuilt { &self.0[kind].lost } else { &self.0[kind].came };
        add(count, 1);
    }

    /// So many in a row are missing.
    pub fn handle_lost(&self, kind: usize, missed: u16) {
        add(&self.0[kind].lost, missed.into());
        add(&self.0[kind].in_row, u64::from(missed).saturating_sub(1));
    }

    /// One of them came by itself: it was only late.
    pub fn handle_reordered(&self, kind: usize) {
        let OfKind { came, lost, .. } = &self.0[kind];
        add(came, 1);
        lost.store(lost.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// So many were given up.
    pub fn handle_late(&self, late: [u64; 2]) {
        self.0.iter().zip(late).for_each(|(of_kind, late)| add(&of_kind.late, late));
    }

    /// All of it so far.
    pub fn read(&self) -> [Heard; 2] {
        self.0.each_ref().map(|OfKind { came, lost, in_row, late }| Heard {
            came: came.load(Relaxed),
            lost: lost.load(Relaxed),
            in_row: in_row.load(Relaxed),
            late: late.load(Relaxed),
        })
    }
}

#[inline]
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
}
