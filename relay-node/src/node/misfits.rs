//! Relays that would be neighbors and speak no bridge version of this one, as the API shows them. What the log says of
//! them, and who is one, is the bridges' business.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::NodeId;

use crate::bridge::Misfit;

/// Relays that do not fit and are shown.
const MISFITS_MAX: usize = 64;
/// One that did not come again for so long is not shown any more: the mesh looks for a neighbor at least this often.
const MISFIT_FOR: Duration = Duration::from_secs(15 * 60);

/// Those that came lately.
#[derive(Debug, Default)]
pub(super) struct Misfits {
    /// With the time of the last try.
    known: BTreeMap<NodeId, (Misfit, Instant)>,
}

impl Misfits {
    /// One tried to be a neighbor.
    pub fn handle_misfit(&mut self, misfit: Misfit, now: Instant) {
        self.known.retain(|_, (_, at)| now.saturating_duration_since(*at) < MISFIT_FOR);
        if self.known.len() < MISFITS_MAX || self.known.contains_key(&misfit.neighbor) {
            self.known.insert(misfit.neighbor, (misfit, now));
        }
    }

    /// It fits now.
    pub fn forget(&mut self, neighbor: &NodeId) {
        self.known.remove(neighbor);
    }

    /// Those that are shown, in the order of their ids.
    pub fn shown(&self, now: Instant) -> impl Iterator<Item = &Misfit> {
        let lately = move |at: Instant| now.saturating_duration_since(at) < MISFIT_FOR;
        self.known.values().filter(move |(_, at)| lately(*at)).map(|(misfit, _)| misfit)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{BridgeVersion, BridgeVersions, ZoneName};

    use super::*;

    fn misfit(id: u8, theirs: u16) -> Misfit {
        let range = |version| BridgeVersions::new(BridgeVersion(version), BridgeVersion(version)).unwrap();
        let zone = ZoneName::new("gate").unwrap();
        Misfit { neighbor: NodeId([id; 32]), zone, theirs: range(theirs), ours: range(4) }
    }

    fn shown(misfits: &Misfits, now: Instant) -> Vec<u8> {
        misfits.shown(now).map(|misfit| misfit.neighbor.0[0]).collect()
    }

    #[test]
    fn a_misfit_is_shown_until_it_fits_or_stays_away() {
        let (mut misfits, now) = (Misfits::default(), crate::clock::now());
        for id in [3, 1, 2] {
            misfits.handle_misfit(misfit(id, 5), now);
        }
        misfits.forget(&NodeId([1; 32]));
        misfits.handle_misfit(misfit(2, 6), now + MISFIT_FOR / 2);
        assert_eq!(shown(&misfits, now), [2, 3]);
        assert_eq!(misfits.shown(now).next(), Some(&misfit(2, 6)));
        assert_eq!(shown(&misfits, now + MISFIT_FOR), [2]);
        assert!(shown(&misfits, now + MISFIT_FOR * 2).is_empty());
    }

    #[test]
    fn strangers_take_no_place_of_those_shown_and_none_for_ever() {
        let (mut misfits, now) = (Misfits::default(), crate::clock::now());
        let most = MISFITS_MAX as u8;
        for id in 0..=most {
            misfits.handle_misfit(misfit(id, 5), now);
        }
        assert_eq!(shown(&misfits, now), (0..most).collect::<Vec<_>>());
        // Who is shown stays so with every try.
        misfits.handle_misfit(misfit(0, 5), now + MISFIT_FOR / 2);
        misfits.handle_misfit(misfit(most, 5), now + MISFIT_FOR);
        assert_eq!(shown(&misfits, now + MISFIT_FOR), [0, most]);
    }
}
