//! What neighbors gave back that this relay wrote and its disk does not have, as people are told of it. That nothing is
//! lost by it is the logs' business.

use std::time::{Duration, Instant};

use protocol::{NodeId, ZoneName};

use super::relay_of;

/// What comes within this time after the last of it is of one event: people are told once.
const TOLD_ONCE: Duration = Duration::from_secs(10 * 60);

/// Since when, and by whom, if anybody gave something back.
#[derive(Debug, Default)]
pub(super) struct OlderDisk {
    first: Option<GaveBack>,
    last: Option<Instant>,
}

/// The first time.
#[derive(Debug)]
pub(super) struct GaveBack {
    /// Who gave it.
    pub from: NodeId,
    /// Its zone, if that is known.
    pub zone: Option<ZoneName>,
    /// When.
    pub since: Instant,
}

impl OlderDisk {
    /// A neighbor gave records back. Says what to write into the log.
    pub fn handle_returned(
        &mut self,
        (from, zone): (NodeId, Option<ZoneName>),
        now: Instant,
    ) -> Option<String> {
        let quiet = self.last.is_none_or(|last| now.saturating_duration_since(last) > TOLD_ONCE);
        self.last = Some(now);
        let gave_back = GaveBack { from, zone, since: now };
        let text = quiet.then(|| gave_back.warning(None));
        self.first.get_or_insert(gave_back);
        text
    }

    /// What is shown until the next start.
    pub fn shown(&self) -> Option<&GaveBack> {
        self.first.as_ref()
    }
}

impl GaveBack {
    /// A sentence for people, with how many there are so far.
    pub fn warning(&self, records: Option<u64>) -> String {
        let count = records.map(|count| format!("{count} ")).unwrap_or_default();
        format!(
            "{} gave back {count}records that this relay wrote and its disk does not have: an older copy of the \
             data directory was put back, a copy of it is in use elsewhere, or the disk had refused them. They are taken \
             back, and nothing is numbered twice. If another relay runs on a copy, stop it and give it a data directory of \
             its own",
            relay_of(&self.from, self.zone.as_ref())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_once_of_what_comes_together_and_see_the_first_of_it() {
        let (mut disk, now) = (OlderDisk::default(), crate::clock::now());
        assert!(disk.shown().is_none());
        let zone = ZoneName::new("gate").expect("a name");
        let mut give =
            |id: u8, at: Duration| disk.handle_returned((NodeId([id; 32]), Some(zone.clone())), now + at);
        let told = give(1, Duration::ZERO).expect("is told");
        assert!(told.starts_with("relay 01010101 of gate gave back records"), "{told}");
        assert_eq!((give(2, TOLD_ONCE), give(2, TOLD_ONCE * 2)), (None, None));
        assert!(give(2, TOLD_ONCE * 4).is_some_and(|told| told.starts_with("relay 02020202")));
        let shown = disk.shown().expect("is shown");
        assert_eq!((shown.from, shown.since), (NodeId([1; 32]), now));
        assert!(shown.warning(Some(7)).contains("gave back 7 records"));
    }
}
