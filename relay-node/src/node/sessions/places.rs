//! Places for sessions: few for those that connect, many in all, shared between the addresses that offer. Without
//! I/O; which session has to end is said, `sessions` ends it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::SessionId;

use crate::places::shares::{Full, GivesWay, Holder, PlaceId, Policy, Shares, Standing};

/// Sessions that have not connected yet, and all.
pub const OPENING_MAX: usize = 1000;
pub const SESSIONS_MAX: usize = 10_000;
/// Who has not connected for so long hardly will, and gives way to the next offer of its own address.
const PATIENCE: Duration = Duration::from_secs(5);
const POLICY: Policy = Policy { gives_way: GivesWay::Youngest, patience: PATIENCE };

/// Who has a place.
pub struct SessionPlaces {
    opening: Table,
    all: Table,
}

struct Table {
    shares: Shares,
    places: BTreeMap<SessionId, PlaceId>,
    sessions: BTreeMap<PlaceId, SessionId>,
}

impl Default for SessionPlaces {
    fn default() -> SessionPlaces {
        SessionPlaces { opening: Table::new(OPENING_MAX), all: Table::new(SESSIONS_MAX) }
    }
}

impl SessionPlaces {
    /// A session wants to open. Gives those that have to end for it.
    ///
    /// # Errors
    ///
    /// [`Full`] if all places are taken and nobody has more than a fair share.
    pub fn open(&mut self, session: SessionId, holder: Holder, now: Instant) -> Result<Vec<SessionId>, Full> {
        let first = self.opening.take(session, holder, now)?;
        if let Some(gone) = first {
            self.all.release(gone);
        }
        match self.all.take(session, holder, now) {
            Ok(second) => {
                Ok(first.into_iter().chain(second.inspect(|gone| self.opening.release(*gone))).collect())
            }
            Err(full) => {
                // Nobody gave way before: that would have made room.
                self.opening.release(session);
                Err(full)
            }
        }
    }

    /// It is connected: no greed any more.
    pub fn connected(&mut self, session: SessionId, now: Instant) {
        self.opening.release(session);
        if let Some(place) = self.all.places.get(&session) {
            self.all.shares.stand(*place, Standing::Proven, now);
        }
    }

    /// It is over.
    pub fn over(&mut self, session: SessionId) {
        self.opening.release(session);
        self.all.release(session);
    }
}

impl Table {
    fn new(total: usize) -> Table {
        Table { shares: Shares::new(total, POLICY), places: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    fn take(&mut self, session: SessionId, holder: Holder, now: Instant) -> Result<Option<SessionId>, Full> {
        let taken = self.shares.take(holder, now)?;
        let gone = taken.gave_way.and_then(|place| self.sessions.remove(&place));
        if let Some(gone) = gone {
            self.places.remove(&gone);
        }
        self.places.insert(session, taken.place);
        self.sessions.insert(taken.place, session);
        Ok(gone)
    }

    fn release(&mut self, session: SessionId) {
        if let Some(place) = self.places.remove(&session) {
            self.sessions.remove(&place);
            self.shares.release(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn session(number: usize) -> SessionId {
        SessionId((number as u128).to_be_bytes())
    }

    fn holder(number: u8) -> Holder {
        IpAddr::from([10, 0, 0, number]).into()
    }

    #[test]
    fn one_address_that_never_connects_keeps_nobody_else_out() {
        let now = crate::clock::now();
        let mut places = SessionPlaces::default();
        for number in 0..OPENING_MAX {
            assert_eq!(places.open(session(number), holder(1), now), Ok(vec![]));
        }
        assert_eq!(places.open(session(1000), holder(1), now), Err(Full));
        for number in 0..400 {
            let gone = places.open(session(2000 + number), holder(2), now).expect("the first is greedier");
            assert_eq!(gone, [session(999 - number)], "the youngest of the greediest");
        }
        // Whoever gave way may be told so late that it is over: nothing happens.
        places.over(session(999));
        assert_eq!(places.opening.places.len(), OPENING_MAX);
        assert_eq!(places.all.places.len(), OPENING_MAX);
    }

    #[test]
    fn who_is_connected_stays_and_leaves_its_connecting_place_to_others() {
        let now = crate::clock::now();
        let mut places = SessionPlaces::default();
        // A whole festival behind one address.
        for number in 0..SESSIONS_MAX {
            places.open(session(number), holder(1), now).expect("there is room");
            places.connected(session(number), now);
        }
        assert_eq!(places.open(session(10_000), holder(1), now), Err(Full));
        assert!(places.opening.places.is_empty(), "who was refused holds nothing");
        let gone = places.open(session(10_001), holder(2), now).expect("the first has more than half");
        assert_eq!(gone, [session(9_999)]);
    }

    #[test]
    fn what_is_over_is_over_in_every_table() {
        let now = crate::clock::now();
        let mut places = SessionPlaces::default();
        for number in 0..100 {
            places.open(session(number), holder(1), now).expect("there is room");
            if number % 2 == 0 {
                places.connected(session(number), now);
            }
        }
        for number in 0..100 {
            places.over(session(number));
        }
        for table in [&places.opening, &places.all] {
            assert!(table.shares.is_empty() && table.places.is_empty() && table.sessions.is_empty());
        }
    }
}
